"""``--extend FILE``: run a Python file of the user's, which registers classes of the user's own.

Only a file that the user names on the command line is run, never one that a saved file names.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from runpy import run_path

from xpnet.support.errors import OptionError
from xpnet.support.messages import what_went_wrong

OPTION = "--extend"


def run_extensions(arguments: Sequence[str]) -> None:
    """Run the files that ``--extend`` names, before the other arguments are read.

    So ``--optimizer lion`` is known wherever it stands, and ``--help`` lists it.

    Raises
    ------
    OptionError
        If a file cannot be read, has a syntax error, or raises an error.
    """
    for path in files_to_run(arguments):
        _run(path)


def files_to_run(arguments: Sequence[str]) -> list[str]:
    """Return what stands behind each ``--extend``, also where the option is shortened."""
    found, given = list[str](), iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if argument == "--":
            break
        if name.startswith("--ex") and OPTION.startswith(name):
            found += [value] if equals else [*islice(given, 1)]  # the parser reports that none is
    return found


def _run(path: str) -> None:
    """Run one file, which may import what lies beside it.

    Its module has a name that no other module can have.
    """
    try:
        if not Path(path).is_file():
            raise OptionError("there is no such file; give the path of a Python file of yours")
        sys.path.insert(0, str(Path(path).resolve().parent))
        run_path(path, run_name=f"<{path}>")
    except (Exception, SystemExit) as error:
        own = isinstance(error, OptionError)  # of `register`, or the one above
        words = str(error) if own else what_went_wrong(error)
        raise OptionError(f"{OPTION} {path or repr(path)}{_line(path, error)}: {words}") from None


def _line(path: str, error: BaseException) -> str:
    """Return the last line of the file that was running, empty if none was."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f", line {lines[-1]}" if lines else ""
