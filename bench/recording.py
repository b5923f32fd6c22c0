"""What a report costs a training: the time of `fit` with and without the frames written.

    python bench/recording.py [--rounds 7]

Prints a table of medians of the ratio; both kinds run in turn, in one process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from xpnet.data.mnist import find_mnist
from xpnet.runs.layout import FRAMES
from xpnet.runs.problems import PROBLEMS, build
from xpnet.training.recording import FrameFile

AIM = 1.10


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print("| problem | fit | with frames | at most |\n|---|---|---|---|")
    for name in PROBLEMS:
        if name == "mnist" and find_mnist() is None:
            continue
        split = PROBLEMS[name].load(0, None)
        rounds = [both(name, split) for _ in range(options.rounds)]
        ratio = np.median([recorded / plain for plain, recorded in rounds])
        plain = np.median([plain for plain, _ in rounds])
        missed = "" if ratio <= AIM else " **missed**"
        print(f"| {name} | {plain:.2f} s | {ratio:.3f}x{missed} | {AIM}x |", flush=True)


def both(name, split):
    """Return the seconds of a whole training without and with frames."""
    with tempfile.TemporaryDirectory() as folder:
        return fit(name, split, []), fit(name, split, [FrameFile(Path(folder) / FRAMES)])


def fit(name, split, callbacks):
    problem = PROBLEMS[name]
    trainer = build(problem, split, dtype="float32", seed=0, backend="numpy")
    start = time.perf_counter()
    trainer.fit(
        *split.train,
        epochs=problem.epochs,
        batch_size=problem.batch_size,
        validation_data=split.test,
        callbacks=callbacks,
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
