"""Bring what ``bench/gpu.sh`` left on a machine with a GPU into the repository.

``python bench/gpu_report.py FOLDER [FOLDER ...]``, with the folders of one call or of both, writes
``bench/results/gpu-<device>.json`` and ``.html``; adds the device to
``xpnet/verify/verified.json`` if the golden hashes and the whole check agreed there; and brings the
README's sentence and table about the GPU up to date. Nothing else writes these.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path

import report
from report import RefusedError

import xpnet
from xpnet.support.files import write_atomically
from xpnet.verify.golden import PROBLEM_NAMES, STEPS

RESULTS = report.ROOT / "bench/results"
VERIFIED = Path(xpnet.__file__).with_name("verify") / "verified.json"
NOTED = ("CuPy", "CUDA runtime", "driver", "GPU")


def load(folder: Path) -> dict:
    """Return the results in a folder."""
    path = folder / "results.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        right = isinstance(found["device"]["GPU"], str)
        right &= all(isinstance(stage["status"], str) for stage in found["stages"].values())
    except OSError as error:
        raise RefusedError(
            f"cannot read {path} ({error.strerror}); name a folder that bench/gpu.sh wrote"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        right = False
    if not right:
        raise RefusedError(
            f"{path} is damaged or not from bench/gpu.sh; name a folder that it wrote"
        )
    if found.get("rehearsal"):
        raise RefusedError(
            f"{folder} has the results of a rehearsal; name a folder with those of a GPU"
        )
    return found


def merged(results: list[dict]) -> dict:
    """Return the results of several calls as one; what is in two of them counts as in the later."""
    devices = sorted({one["device"]["GPU"] for one in results})
    if len(devices) > 1:
        raise RefusedError(
            f"the folders are of several devices ({', '.join(devices)}); name those of one device"
        )
    stages = {
        name: record | {"commit": one.get("commit", "unknown")}
        for one in results
        for name, record in one["stages"].items()
    }
    kept = {key: value for key, value in results[-1].items() if key != "running"}
    return kept | {"stages": stages}


def whole(check: dict | None) -> bool:
    """Return True if everything ran on CuPy, to the last step, and agreed."""
    if not check:
        return False
    on_cupy = [name for name, one in check["recipes"].items() if "cupy" in one["trainings"]]
    problems = {name.partition(":")[0] for name in on_cupy}
    return check["ok"] and problems == set(PROBLEM_NAMES) and check["steps"] == STEPS


def verified(results: dict) -> bool:
    """Return True if the golden hashes and the whole check agreed, on the same commit.

    No other check may have disagreed.
    """
    stages = results["stages"]
    checks = {name: stage.get("check") for name, stage in stages.items()}
    plain = checks.get("check-plain")
    needed = whole(checks.get("golden")) and whole(checks.get("check"))
    agreed = needed and (plain is None or plain["ok"])
    return agreed and stages["golden"]["commit"] == stages["check"]["commit"]


def note(results: dict, path: Path) -> None:
    """Add the device to the verified ones, once."""
    entry = {key: results["device"][key] for key in NOTED if key in results["device"]}
    entry["date"] = results.get("date", "")
    entries = json.loads(path.read_text("utf-8"))
    if entry not in entries:
        write_json(path, [*entries, entry], indent=1)


def write_json(path: Path, value: object, indent: int = 2) -> None:
    write_atomically(path, (json.dumps(value, indent=indent) + "\n").encode())


def gather(folders: list[Path], out: Path, noted: Path) -> Path:
    """Write the file of a device and the page of its check, and note it where all agreed."""
    results = merged([load(folder) for folder in folders])
    verdict = verified(results)
    slug = re.sub(r"[^a-z0-9]+", "-", results["device"]["GPU"].lower()).strip("-")
    path = out / f"gpu-{slug}.json"
    out.mkdir(parents=True, exist_ok=True)
    write_json(path, results)
    for page in (folder / "check.html" for folder in folders):
        if page.exists():
            write_atomically(path.with_suffix(".html"), page.read_bytes())
    if verdict:
        note(results, noted)
    return path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--verified", type=Path, default=VERIFIED)
    parser.add_argument("--readme", type=Path, default=report.ROOT / "README.md")
    options = parser.parse_args(arguments)
    where = ["--results", str(options.results), "--readme", str(options.readme)]
    where += ["--verified", str(options.verified)]
    try:
        report.old_and_new(options)  # it can be written, or nothing is
        print(gather(options.folders, options.results, options.verified))
    except RefusedError as error:
        print(f"gpu_report.py: {error}", file=sys.stderr)
        return 2
    return report.main(where)


if __name__ == "__main__":
    sys.exit(main())
