"""Put what the parts of ``bench/gpu.sh`` found into one JSON file, with device and versions.

``--device FILE`` comes first and notes the device; ``PARTS OUT`` gathers what the parts left in a
folder. A part that failed is there with its reason. If both checks agreed on everything, the device
joins ``xpnet/verified.json``, whose last entry ``xpnet check`` shows.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gpu_common import reason

import xpnet
from xpnet.golden import PROBLEMS, STEPS

VERIFIED = Path(xpnet.__file__).with_name("verified.json")
TESTS = r"^.*\d+ (?:passed|failed|error).* in .*$"  # the last line of pytest
VERSIONS = ("numpy", "torch", "jax", "jaxlib", "mpi4py", "nvidia-nccl-cu13", "nvidia-nccl-cu12")
TESTED = ("tests", "parallel")
PARTS = ("check", "check-plain", "peers", "accuracy", "tests", "parallel", "goals")


def describe() -> dict:
    """Return the device, the driver and the versions."""
    try:
        xpnet.set_backend("cupy")
    except xpnet.BackendError as error:
        raise SystemExit(f"gpu.sh: {error}") from None
    from xpnet.backend import on_cupy

    return {
        **{k: v for k, v in on_cupy.describe().items() if k != "GPU memory"},
        "xpnet": xpnet.__version__,
        "python": platform.python_version(),
        **{name: installed(name) for name in VERSIONS},
        "processors": os.cpu_count(),
        "nvidia-smi": clocks(),
        "date": date.today().isoformat(),
    }


def clocks() -> str:
    """Return what else may explain a time, if it can be asked."""
    fields = "clocks.sm,clocks.max.sm,clocks.mem,power.limit,mig.mode.current,utilization.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def gather(folder: Path, out: Path, verified: Path = VERIFIED) -> Path:
    """Write the JSON file of a device and the page of its check; note it where all agreed."""
    device = load(folder / "device.json", {})
    checks = {name: load(folder / f"{name}.out", NO_CHECK) for name in ("check", "check-plain")}
    rows = re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|$", read(folder / "goals.out"), re.M)
    report = {
        **device,
        "parts": {name: end(folder, name) for name in PARTS},
        "checks": {name: outcome(check) for name, check in checks.items()},
        **{name: re.findall(TESTS, read(folder / f"{name}.out"), re.M) for name in TESTED},
        "peers": load(folder / "peers.json", {}),
        "accuracy": load(folder / "accuracy.json", {}),
        "goals": [{"what": w, "at_least": a, "measured": m} for w, a, m in rows[1:]],
    }
    slug = re.sub(r"[^a-z0-9]+", "-", device.get("GPU", "unknown").lower()).strip("-")
    path = out / f"gpu-{slug}.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if (folder / "check.html").exists():
        shutil.copyfile(folder / "check.html", path.with_suffix(".html"))
    if all(whole(check) for check in checks.values()):
        keys = ("CuPy", "CUDA runtime", "driver", "GPU", "date")
        entries = [*load(verified, []), {key: device[key] for key in keys if key in device}]
        verified.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return path


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def load(path: Path, otherwise):
    """Return what a part wrote as JSON; something else if it did not come to that."""
    try:
        return json.loads(read(path))
    except ValueError:
        return otherwise


def end(folder: Path, name: str) -> dict:
    """Return how a part ended: its seconds, and the reason if it failed."""
    numbers = read(folder / f"{name}.end").split()
    if not numbers:
        return {"ok": False, "reason": "not run"}
    code, seconds, limit = map(int, numbers)
    found = {"ok": code == 0, "seconds": seconds}
    if code == 0:
        return found
    why = f"not done after {limit} s" if code in (124, 137) else f"exit code {code}"
    # pytest says what failed on the standard output
    last = reason(read(folder / f"{name}.err")) or reason(read(folder / f"{name}.out"))
    return found | {"reason": why, "last_lines": last[-2000:]}


NO_CHECK = {"ok": False, "recipes": [], "not_run": {}, "steps": 0}


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


def main() -> None:
    first, second = sys.argv[1:3]
    if first == "--device":
        found = describe()
        Path(second).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print("\n".join(f"{name:<14}{value}" for name, value in found.items()))
    else:
        print(gather(Path(first), Path(second)))


if __name__ == "__main__":
    main()
