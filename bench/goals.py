"""The numbers that the README quotes: ``python bench/goals.py [--quick] [--backend B]``.

Each row says what is measured, what is asked for and what came out; the exit code is 1 if a row
misses. ``--quick`` leaves out the two long rows: the notebook's MNIST recipe, 800 full-batch
iterations in float64, and the larger MNIST net.
"""

from __future__ import annotations

import argparse
import logging
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import numpy as np

import xpnet
from xpnet import data
from xpnet.runs.problems import PROBLEMS, build

Row = tuple[str, str, str, bool]  # what, at least, measured, reached

XOR_START = {
    "0.W": [
        [0.16834518313407898, 0.06440470367670059, 0.11723118275403976],
        [0.11516651511192322, -0.5614281892776489, -0.09316414594650269],
    ],
    "0.b": np.zeros(3),
    "2.W": [[1.1041007041931152], [-0.3189985156059265], [0.23082861304283142]],
    "2.b": np.zeros(1),
}
MNIST_LOSSES = [3.1170, 0.5375, 0.3796, 0.3337, 0.3090, 0.2916, 0.2773, 0.2645]


def train(name: str, seed: int, **changes) -> tuple[dict, dict, float]:
    """Train a problem by its recipe; return train and test numbers, and the seconds."""
    problem = replace(PROBLEMS[name], **changes)
    split = problem.load(seed, None)
    trainer = build(problem, split, dtype="float32", seed=seed)
    logging.getLogger("xpnet").setLevel(logging.ERROR)  # the metrics are computed at the end
    start = time.perf_counter()
    trainer.fit(*split.train, epochs=problem.epochs, batch_size=problem.batch_size)
    seconds = time.perf_counter() - start
    return trainer.evaluate(*split.train), trainer.evaluate(*split.test), seconds


def logic() -> Row:
    right = sum(
        train(name, seed)[0]["accuracy"] == 1 for name in ("and", "xor") for seed in range(20)
    )
    return "`and`, `xor`, seeds 0-19", "100 %, 20 of 20 each", f"{right} of 40", right == 40


def xor_notebook() -> Row:
    net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Sigmoid(), xpnet.Linear(3, 1), xpnet.Sigmoid())
    net.load_state_dict(XOR_START)
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=1.0))
    last = trainer.fit(*data.xor_gate(), epochs=5000, batch_size=None)["loss"][-1]
    what = "`xor`, the notebook's net and start, 5000 epochs"
    return what, "loss 0.001017", f"{last:.6f}", abs(last - 0.001017) < 1e-5


def spiral() -> Row:
    runs = [train("spiral", seed) for seed in range(10)]
    worst = min(on_train["accuracy"] for on_train, *_ in runs)
    slowest = max(seconds for *_, seconds in runs)
    measured = f"at least {worst:.2%}, at most {slowest:.1f} s"
    return (
        "`spiral`, 400 points, noise 0.25, seeds 0-9",
        "99 % train, under 20 s",
        measured,
        worst >= 0.99 and slowest < 20,
    )


def curve() -> Row:
    worst = min(train("curve", seed)[1]["r2"] for seed in range(10))
    return "`curve`, R² on the noise-free curve, seeds 0-9", "0.98", f"{worst:.4f}", worst >= 0.98


def surface() -> Row:
    worst = max(train("surface", seed)[1]["rmse"] for seed in range(10))
    what = "`surface`, RMSE on a 50 x 50 grid, seeds 0-9"
    return what, "at most 0.02", f"at most {worst:.4f}", worst <= 0.02


def digits() -> Row:
    worst = min(train("digits", seed)[1]["accuracy"] for seed in range(10))
    return "`digits`, test accuracy, seeds 0-9", "97 %", f"at least {worst:.2%}", worst >= 0.97


def mnist_small() -> Row:
    runs = [train("mnist", seed) for seed in range(3)]
    found = [on_test["accuracy"] for _, on_test, _ in runs]
    seconds = float(np.median([s for *_, s in runs]))
    measured = ", ".join(f"{a:.2%}" for a in found) + f" ({seconds:.1f} s)"
    what = "`mnist` 784-64-32-10, B=128, Adam, 5 epochs, seeds 0-2, test"
    return what, "97.0 %, each", measured, min(found) >= 0.97


def mnist_large() -> Row:
    changes = {"hidden": (256, 128), "epochs": 10, "lr": 2e-3}
    found = [train("mnist", s, **changes)[1]["accuracy"] for s in range(3)]
    measured = ", ".join(f"{a:.2%}" for a in found)
    what = "`mnist` 784-256-128-10, 10 epochs, seeds 0-2, test"
    return what, "98.0 %, each", measured, min(found) >= 0.98


def mnist_notebook() -> Row:
    """The notebook's start and recipe, with W used before it is updated, as is right."""
    state, random = {}, np.random.RandomState(42)
    for i, (n_in, n_out) in zip((0, 2, 4), ((784, 64), (64, 32), (32, 10)), strict=True):
        state[f"{i}.W"] = (random.randn(n_out, n_in) * sqrt(1 / n_in)).T
        state[f"{i}.b"] = random.randn(n_out, 1).ravel()
    net = xpnet.Sequential(
        xpnet.Linear(784, 64),
        xpnet.ReLU(),
        xpnet.Linear(64, 32),
        xpnet.ReLU(),
        xpnet.Linear(32, 10),
        xpnet.Softmax(),
        dtype="float64",
    )
    net.load_state_dict(state)
    X, t, X_test, t_test = data.load_mnist()
    sgd = xpnet.SGD(net, lr=0.1)
    trainer = xpnet.Trainer(net, xpnet.CrossEntropy(eps=1e-8), sgd, metrics=["accuracy"])
    losses = trainer.fit(X, t, epochs=800, batch_size=None)["loss"][::100]
    test = trainer.evaluate(X_test, t_test)["accuracy"]
    right = np.allclose(losses, MNIST_LOSSES, atol=5e-5, rtol=0) and round(test, 4) == 0.9296
    return (
        "`mnist`, the notebook's start and recipe, losses at 0, 100 ... 700; test",
        ", ".join(f"{x:.4f}" for x in MNIST_LOSSES) + "; 92.96 %",
        ", ".join(f"{x:.4f}" for x in losses) + f"; {test:.2%}",
        bool(right),
    )


def import_time() -> Row:
    code = "import time; s = time.perf_counter(); import xpnet; print(time.perf_counter() - s)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
        for _ in range(7)
    ]
    median = float(np.median(times))
    return "`import xpnet`, median of 7", "under 0.35 s", f"{median:.2f} s", median < 0.35


def warm_step() -> Row:
    """The memory that a warm step asks for, views and Python objects included."""
    rng = np.random.default_rng(0)
    X, t = rng.integers(0, 256, (1280, 784)).astype(np.uint8), rng.integers(0, 10, 1280)
    net = xpnet.Sequential(
        xpnet.Linear(784, 64),
        xpnet.ReLU(),
        xpnet.Linear(64, 32),
        xpnet.ReLU(),
        xpnet.Linear(32, 10),
    )
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam")
    peaks = []

    class Watch(xpnet.Callback):
        def on_train_batch_begin(self, batch, logs):
            tracemalloc.start()

        def on_train_batch_end(self, batch, logs):
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()

    trainer.fit(X, t, epochs=2, batch_size=128, callbacks=[Watch()])
    peak = max(peaks[1:]) / 1024
    return "a warm step, peak of new memory", "under 64 KB", f"{peak:.0f} KB", peak < 64


QUICK: list[Callable[[], Row]] = [
    logic, xor_notebook, spiral, curve, surface, digits, mnist_small, import_time, warm_step,
]  # fmt: skip
LONG: list[Callable[[], Row]] = [mnist_large, mnist_notebook]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--backend", default="numpy")
    options = parser.parse_args()
    backend = xpnet.set_backend(options.backend).name
    rows = []
    print(f"backend {backend}, NumPy {np.__version__}\n")
    print("| what | at least | measured |\n|---|---|---|")
    for measure in QUICK if options.quick else QUICK + LONG:
        what, least, measured, reached = measure()
        rows.append(reached)
        print(f"| {what} | {least} | {measured}{'' if reached else ' **missed**'} |", flush=True)
    return 0 if all(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
