"""xpnet beside PyTorch and JAX, in one run: ``python bench/peers.py [--device cpu] [--quick]``.

784-64-32-10, batches of 128, Adam, float32 without TF32, the same start; whole epochs of 468 steps
by the clock on the wall, the device idle at both ends. Cold is the first epoch of a fresh process
with empty caches, compilation included, import and upload apart; warm is the median of seven after
two more. Each contestant is a process with a time limit; the final loss and the test accuracy
stand beside its time, so that a fast wrong answer does not count. ``--out FILE`` keeps everything
as JSON. The contestants are those of `gpu_table`; ``--stage`` takes those of one stage of
``bench/gpu.sh``.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import gpu_common as common
from gpu_table import CONTESTANTS

CACHES = ("CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def contest(name: str, device: str, quick: bool) -> dict:
    """Run a contestant with caches of its own, which are empty."""
    one = CONTESTANTS[name]
    if importlib.util.find_spec(one.module) is None:
        return {"not_installed": one.module}
    if common.REHEARSAL and one.module != "numpy":
        device = "cpu"  # only CuPy has a stand-in
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        caches = {variable: f"{folder}/{variable.lower()}" for variable in CACHES}
        path = str(Path(__file__).with_name(one.script))
        command = [path, one.mode, "--device", device, *["--quick"] * quick]
        return common.apart(command, one.limit, **caches)


def line(name: str, found: dict) -> str:
    """Return what is said about a contestant."""
    if "not_installed" in found:
        return f"{name:<28} {found['not_installed']} is not installed"
    if "failed" in found:
        return f"{name:<28} failed: {found['failed']}"
    if "warm_s" not in found:
        return f"{name:<28} {json.dumps(found)}"
    warm = found["warm_s"]
    spread = f"({warm['min'] * 1e3:.2f} to {warm['max'] * 1e3:.2f})"
    return (
        f"{name:<28} {found['step_us']:>8.1f} us/step  epoch {warm['median'] * 1e3:>7.2f} ms "
        f"{spread:<18} cold {found['cold_s']:>6.2f} s  loss {found['loss']:.4f}  "
        f"test {found['accuracy']:.2%}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="part of a contestant's name")
    stages = sorted({one.stage for one in CONTESTANTS.values()})
    parser.add_argument("--stage", choices=stages, help="the contestants of this stage")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results: dict[str, dict] = {}
    for name, one in CONTESTANTS.items():
        if options.only in name and options.stage in (None, one.stage):
            results[name] = contest(name, options.device, options.quick)
            print(line(name, results[name]), flush=True)
            if options.out:
                common.keep(options.out, results)
    failures = [name for name, found in results.items() if "failed" in found]
    if failures:
        print(f"failed: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
