"""Small captured steps under compute-sanitizer: ``python bench/gpu_small_steps.py [--plain]``.

20 steps of a small net with every optimizer, ordinary and in reproducible mode; memcheck sees each
access to memory, racecheck each conflict in shared memory. ``--plain`` takes the steps and nothing
more. Without compute-sanitizer the exit code is 77.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

import gpu_common as common
import numpy as np
from gpu_found import SKIPPED

import xpnet
from xpnet.backend import find_backend

TOOLS = ("memcheck", "racecheck")
STEPS, ROWS, BATCH, SIZES = 20, 100, 20, (20, 33, 7, 5)
WRONG = 9  # the exit code of compute-sanitizer if it found an error
TELLING, MOST_LINES = ("SUMMARY", "Error:", "Invalid ", "hazard"), 12
PLACES = ("/usr/local/cuda/bin", "/usr/local/cuda/compute-sanitizer")


def plain() -> dict:
    """Take the steps; return the last losses."""
    find_backend("cupy").module.cuda.set_allocator(None)  # memcheck sees where each array ends
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (ROWS, SIZES[0])).astype(np.uint8)
    t = rng.integers(0, SIZES[-1], ROWS)
    losses = {}
    for reproducible in (False, True):
        for name in ("momentum", "rmsprop", "adam"):
            net = common.network(SIZES, find_backend("cupy", reproducible))
            trainer = xpnet.Trainer(net, "softmax_cross_entropy", name)
            epochs = 1 if common.REHEARSAL else STEPS * BATCH // ROWS
            history = trainer.fit(X, t, epochs=epochs, batch_size=BATCH)
            losses[f"{name}{', reproducible' * reproducible}"] = history["loss"][-1]
    return losses


def sanitized(sanitizer: str, tool: str) -> dict:
    """Take the steps under a tool; return whether it found nothing, and the lines that say so."""
    command = [
        *(sanitizer, "--tool", tool, "--error-exitcode", str(WRONG), "--target-processes", "all"),
        *(sys.executable, __file__, "--plain"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    text = done.stdout + done.stderr
    said = [line for line in text.splitlines() if any(word in line for word in TELLING)]
    print("\n".join(said[-MOST_LINES:]) or common.reason(text), file=sys.stderr)
    return {"ok": done.returncode == 0, "said": said[:MOST_LINES] or [common.reason(text)]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--plain", action="store_true", help="without compute-sanitizer")
    if parser.parse_args().plain:
        common.say(plain())
        return 0
    path = os.pathsep.join([os.environ.get("PATH", ""), *PLACES])
    sanitizer = shutil.which("compute-sanitizer", path=path)
    if sanitizer is None:
        print("compute-sanitizer is not installed; it comes with the CUDA toolkit", file=sys.stderr)
        return SKIPPED
    found: dict[str, dict] = {}
    for tool in TOOLS:
        found[tool] = sanitized(sanitizer, tool)
        common.say(found)  # now, in case that there is no time for the other one
    return 0 if all(one["ok"] for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
