"""xpnet beside PyTorch and JAX, in one run: ``python bench/peers.py [--device cpu] [--quick]``.

784-64-32-10, batches of 128, Adam, float32 without TF32, the same start; whole epochs of 468 steps
by the clock on the wall, the device idle at both ends. Cold is the first epoch of a fresh process
with empty caches, compilation included, import and upload apart; warm is the median of seven after
two more. Each contestant is a process with a time limit; the final loss and the test accuracy
stand beside its time, so that a fast wrong answer does not count. ``--out FILE`` keeps everything
as JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import gpu_common as common

# Name: the module that it needs, its script and mode, its limit in seconds. The rows that have a
# goal come first, in case that there is no time for all.
CONTESTANTS: dict[str, tuple[str, str, str, float]] = {
    "xpnet": ("numpy", "gpu_xpnet.py", "captured", 60),
    "xpnet whole": ("numpy", "gpu_xpnet.py", "whole", 60),
    "PyTorch eager": ("torch", "gpu_torch.py", "eager", 60),
    "PyTorch compile": ("torch", "gpu_torch.py", "compile", 90),
    "JAX scan": ("jax", "gpu_jax.py", "scan", 75),
    "xpnet products": ("numpy", "gpu_xpnet.py", "products", 60),
    "xpnet reproducible": ("numpy", "gpu_xpnet.py", "reproducible", 60),
    "xpnet reads": ("numpy", "gpu_xpnet.py", "reads", 60),
    "PyTorch graph by hand": ("torch", "gpu_torch.py", "graph", 60),
    "PyTorch compile, Adam eager": ("torch", "gpu_torch.py", "compile-forward", 90),
    "PyTorch eager, foreach": ("torch", "gpu_torch.py", "eager-foreach", 60),
    "JAX scan, unrolled": ("jax", "gpu_jax.py", "scan-unrolled", 75),
    "xpnet eager": ("numpy", "gpu_xpnet.py", "eager", 60),
    "xpnet launches": ("numpy", "gpu_xpnet.py", "launches", 60),
}
CACHES = ("CUPY_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def contest(name: str, options: list[str]) -> dict:
    """Run a contestant with caches of its own, which are empty."""
    module, script, mode, limit = CONTESTANTS[name]
    if importlib.util.find_spec(module) is None:
        return {"not_installed": module}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        caches = {variable: f"{folder}/{variable.lower()}" for variable in CACHES}
        path = str(Path(__file__).with_name(script))
        return common.apart([path, mode, *options], limit, **caches)


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
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    passed_on = ["--device", options.device, *["--quick"] * options.quick]
    results: dict[str, dict] = {}
    for name in [name for name in CONTESTANTS if options.only in name]:
        results[name] = contest(name, passed_on)
        print(line(name, results[name]), flush=True)
        if options.out:  # now, in case that there is no time for the others
            options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    failures = [name for name, found in results.items() if "failed" in found]
    if failures:
        print(f"failed: {', '.join(failures)}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
