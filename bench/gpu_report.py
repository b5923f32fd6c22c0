"""Put what ``bench/gpu.sh`` found into one JSON file, with the device and the versions.

If the whole check agreed, the device joins ``xpnet/verified.json``, whose last entry
``xpnet check`` shows.
"""

import json
import platform
import re
import sys
from datetime import date
from pathlib import Path

import numpy as np

import xpnet
from xpnet.backend.on_cupy import describe
from xpnet.golden import PROBLEMS, STEPS

VERIFIED = Path(xpnet.__file__).with_name("verified.json")


def main() -> None:
    folder, tests, goals = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    described = {k: v for k, v in describe().items() if k != "GPU memory"}
    checks = {name: load(folder / f"{name}.json") for name in ("check", "check-plain")}
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", (folder / "goals.txt").read_text(), re.M)
    summary = re.findall(
        r"^\d+ (?:passed|failed).* in .*$", (folder / "tests.txt").read_text(), re.M
    )
    report = {
        **described,
        "xpnet": xpnet.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "date": date.today().isoformat(),
        "checks": {name: outcome(check) for name, check in checks.items()},
        "tests_passed": tests == 0,
        "tests": summary,
        "goals_reached": goals == 0,
        "goals": [{"what": w, "at_least": a, "measured": m} for w, a, m in rows[1:]],
    }
    device = re.sub(r"[^a-z0-9]+", "-", described["GPU"].lower()).strip("-")
    (folder / f"gpu-{device}.json").write_text(json.dumps(report, indent=2) + "\n")
    for name in ("tests.txt", "goals.txt", "check.json", "check-plain.json"):
        (folder / name).unlink()
    (folder / "check.html").rename(folder / f"gpu-{device}.html")
    if all(whole(check) for check in checks.values()):
        entries = [*json.loads(VERIFIED.read_text()), {**described, "date": report["date"]}]
        VERIFIED.write_text(json.dumps(entries, indent=1) + "\n")


def load(path: Path) -> dict:
    """What the check printed; nothing if it did not come to its end."""
    text = path.read_text()
    return json.loads(text) if text else {"ok": False, "recipes": [], "not_run": {}}


def whole(check: dict) -> bool:
    """Everything ran, to the last step, and agreed."""
    on_cupy = [recipe for recipe in check["recipes"] if "cupy" in recipe["trainings"]]
    problems = {recipe["name"].partition(":")[0] for recipe in on_cupy}
    return check["ok"] and problems == set(PROBLEMS) and check["steps"] == STEPS


def outcome(check: dict) -> dict:
    """The verdicts, hashes and times of a check, without its tables."""
    keys = ("golden", "first", "gradients", "weights", "milliseconds")
    recipes = {
        recipe["name"]: {
            "gradients_agree": recipe["gradients"]["ok"],
            "differences": recipe["differences"],
            **{
                backend: {key: training[key] for key in keys}
                for backend, training in recipe["trainings"].items()
            },
        }
        for recipe in check["recipes"]
    }
    return {"ok": check["ok"], "not_run": check["not_run"], "recipes": recipes}


if __name__ == "__main__":
    main()
