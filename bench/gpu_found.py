"""What a stage of ``bench/gpu.sh`` has found, and whether that is a success."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import gpu_junit
from gpu_running import Ended
from gpu_table import Stage

SKIPPED = 77  # the exit code of a script that cannot do its work on this machine
TRAINING = ("golden", "first", "gradients", "weights", "milliseconds")


def found(stage: Stage, ended: Ended) -> dict:
    """Return what a stage has left, under the name of its kind; nothing if it has left nothing."""
    with suppress(
        LookupError, TypeError, ValueError, AttributeError
    ):  # it is not what it should be
        return left_by(stage, ended)
    return {}


def left_by(stage: Stage, ended: Ended) -> dict:
    if stage.leaves in ("tests", "parallel"):
        tests = gpu_junit.summary(ended.file("tests.xml"))
        return {"tests": tests | {"totals": gpu_junit.totals(tests["kinds"])}}
    if stage.leaves in ("contestants", "accuracy"):
        left = load(ended.out / f"{stage.leaves}.json")
    else:
        left = last_json(ended.text("stdout"))
        if stage.leaves == "check" and left is not None:
            left = outcome(left)
    kind = "found" if stage.leaves == "json" else stage.leaves
    return {} if left is None else {kind: left}


def load(path: Path) -> Any:
    with suppress(OSError, ValueError):
        return json.loads(path.read_text("utf-8"))
    return None


def last_json(text: str) -> Any:
    """Return the last line as JSON; None if it is not JSON."""
    with suppress(ValueError):
        return json.loads(text.strip().rpartition("\n")[2])
    return None


def outcome(check: dict) -> dict:
    """Return the verdicts, hashes and times of a check, without its tables."""
    recipes = {
        recipe["name"]: {
            "gradients_agree": recipe["gradients"]["ok"],
            "differences": recipe["differences"],
            "trainings": {
                backend: {key: training[key] for key in TRAINING}
                for backend, training in recipe["trainings"].items()
            },
        }
        for recipe in check["recipes"]
    }
    kept = {key: check[key] for key in ("ok", "steps", "not_run")}
    return kept | {"recipes": recipes}


def judged(stage: Stage, ended: Ended, data: dict, rehearsal: bool) -> dict:
    """Return the status of a stage, and the reason if it has not passed."""
    if ended.code == SKIPPED and not ended.late:
        why = ended.last_lines.rpartition("\n")[2]
        return {"status": "skipped", "reason": why, "only_a_gpu": rehearsal}
    if ended.code or ended.late is not None:
        status = "broken off" if ended.broken_off else "failed"
        return {"status": status, "reason": ended.reason, "last_lines": ended.last_lines}
    if not data:
        return {"status": "failed", "reason": "it left no results", "last_lines": ended.last_lines}
    missing = not_installed(data)
    if rehearsal and missing:
        return {"status": "failed", "reason": f"{', '.join(missing)}: not installed"}
    totals = data.get("tests", {}).get("totals")
    if totals and not totals["passed"]:
        return {"status": "skipped", "reason": f"all {totals['skipped']} tests were skipped"}
    return {"status": "passed"}


def not_installed(data: dict) -> list[str]:
    """Return the modules without which contestants could not take part."""
    contestants = (data.get("contestants") or data.get("accuracy") or {}).values()
    return sorted({one["not_installed"] for one in contestants if "not_installed" in one})
