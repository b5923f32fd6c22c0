"""``xpnet report``: make the report and the pictures of a run folder again."""

from __future__ import annotations

import argparse
from pathlib import Path

from xpnet.cli.effects import check_data_dir
from xpnet.runs.report import write_pictures, write_report
from xpnet.runs.saved import read_run
from xpnet.support.files import writing


def report(options: argparse.Namespace) -> int:
    """Write report.html and the pictures of a run folder, and print their paths."""
    folder, data_dir = Path(options.folder), options.data_dir
    if data_dir is not None:
        check_data_dir(data_dir, [read_run(folder).config["problem"]])
    with writing(folder, "make room for it, or make the report of a copy elsewhere"):
        paths = [write_report(folder, data_dir), *write_pictures(folder, data_dir)]
    print(*paths, sep="\n")
    return 0
