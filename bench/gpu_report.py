"""Put what ``bench/gpu.sh`` printed into one JSON file, with the device and the versions."""

import json
import platform
import re
import sys
from pathlib import Path

import numpy as np

import xpnet
from xpnet.backend.on_cupy import describe


def main() -> None:
    folder, tests, goals = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    described = describe()
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", (folder / "goals.txt").read_text(), re.M)
    summary = re.findall(
        r"^\d+ (?:passed|failed).* in .*$", (folder / "tests.txt").read_text(), re.M
    )
    report = {
        **described,
        "xpnet": xpnet.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "tests_passed": tests == 0,
        "tests": summary,
        "goals_reached": goals == 0,
        "goals": [{"what": w, "at_least": a, "measured": m} for w, a, m in rows[1:]],
    }
    device = re.sub(r"[^a-z0-9]+", "-", described["GPU"].lower()).strip("-")
    (folder / f"gpu-{device}.json").write_text(json.dumps(report, indent=2) + "\n")
    for name in ("tests.txt", "goals.txt"):
        (folder / name).unlink()


if __name__ == "__main__":
    main()
