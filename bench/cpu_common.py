"""What the contestants of ``bench/compare.py`` share: settings, data, starts, orders, the rounds.

Each contestant is a process of its own that prepares everything (data in the form it likes,
compilation, one round to warm up) and then does one round for each line on its standard input. A
round is a training from the same initial weights over the same batches in the same order, or one
prediction; the clock runs around this alone, and the accuracy is found after it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import gpu_common
import numpy as np
from gpu_common import network, say

import xpnet
from xpnet.backend.random import Random
from xpnet.data import load_mnist, spiral

SEED = 0
TRAINED_STEPS = 100  # the weights that predict: with random ones no accuracy says anything


@dataclass(frozen=True)
class Setting:
    """What is timed: so many epochs of so many steps; 0 epochs means prediction."""

    name: str
    sizes: tuple[int, ...]
    batch: int
    optimizer: str
    lr: float
    epochs: int
    steps: int  # of an epoch
    quick: tuple[int, int]  # epochs and steps with --quick
    title: str

    @property
    def predicts(self) -> bool:
        return self.epochs == 0

    @property
    def binary(self) -> bool:
        """Whether the last layer is one score."""
        return self.sizes[-1] == 1


SMALL, MEDIUM, LARGE = (784, 64, 32, 10), (784, 256, 128, 10), (784, 1024, 1024, 10)
# fmt: off
SETTINGS = {
    s.name: s
    for s in (
        Setting("small-sgd", SMALL, 128, "sgd", 0.1, 2, 468, (2, 117), "784-64-32-10, B=128, SGD"),
        Setting("small-adam", SMALL, 128, "adam", 1e-3, 2, 468, (2, 117),
                "784-64-32-10, B=128, Adam"),
        Setting("medium-adam", MEDIUM, 128, "adam", 1e-3, 1, 468, (1, 117),
                "784-256-128-10, B=128, Adam"),
        Setting("large-adam", LARGE, 256, "adam", 1e-3, 1, 117, (1, 16),
                "784-1024-1024-10, B=256, Adam"),
        Setting("spiral", (2, 64, 64, 1), 400, "adam", 0.01, 1000, 1, (300, 1),
                "2-64-64-1, 400 points, Adam"),
        Setting("predict", SMALL, 10_000, "", 0, 0, 1, (0, 1), "predict 10 000, 784-64-32-10"),
    )
}
# fmt: on


@dataclass
class Task:
    """A setting with its data: X float32 and scaled, t int64, and the batches of each epoch."""

    setting: Setting
    X: np.ndarray
    t: np.ndarray
    X_test: np.ndarray
    t_test: np.ndarray
    orders: list[np.ndarray]
    start: list[tuple[np.ndarray, np.ndarray]]  # W of shape (n_in, n_out), and b, of each layer
    pixels: np.ndarray | None  # X as bytes, where it is made of images

    def batches(self) -> Iterator[np.ndarray]:
        """Give the rows of each step."""
        size = self.setting.batch
        for order in self.orders:
            for i in range(0, len(order), size):
                yield order[i : i + size]

    @property
    def steps(self) -> int:
        """Return the steps of a round; none where it is a prediction."""
        return sum(len(order) // self.setting.batch for order in self.orders)


def task(name: str, quick: bool) -> Task:
    """Return the task of a setting."""
    setting, pixels = SETTINGS[name], None
    if quick:
        setting = replace(setting, epochs=setting.quick[0], steps=setting.quick[1])
    if setting.binary:
        X, t = spiral(setting.batch, seed=SEED)
        X, t = X.astype(np.float32), t.reshape(-1).astype(np.int64)
        X_test, t_test = X, t
    else:
        pixels, t, X_test, t_test = load_mnist(os.environ.get("XPNET_DATA"))
        n = min(len(t), setting.steps * setting.batch)
        pixels, t, t_test = pixels[:n], t[:n].astype(np.int64), t_test.astype(np.int64)
        X, X_test = pixels.astype(np.float32) / 255, X_test.astype(np.float32) / 255
    return Task(setting, X, t, X_test, t_test, orders(setting, len(X)), start(setting), pixels)


def orders(setting: Setting, n: int) -> list[np.ndarray]:
    """Return the order of n rows in each epoch: that of `Trainer.fit`."""
    if n <= setting.batch:
        return [np.arange(n)] * setting.epochs
    return [Random(SEED, "shuffle", e).permutation(n) for e in range(setting.epochs)]


def start(setting: Setting) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return where every contestant starts; for prediction, a net that has learnt a little."""
    net = network(setting.sizes, "numpy", SEED)
    if setting.predicts:
        X, t, *_ = load_mnist(os.environ.get("XPNET_DATA"))
        n = TRAINED_STEPS * 128
        xpnet.Trainer(net, "softmax_cross_entropy").fit(X[:n], t[:n], epochs=1, batch_size=128)
    return gpu_common.weights_of(net)


def arguments(doc: str, modes: Sequence[str]) -> tuple[str, Task]:
    """Read what every contestant's script takes: MODE SETTING [--quick]."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("mode", choices=modes)
    parser.add_argument("setting", choices=SETTINGS)
    parser.add_argument("--quick", action="store_true", help="fewer steps to a round")
    options = parser.parse_args()
    return options.mode, task(options.setting, options.quick)


def threads() -> int:
    """Return the number of threads that each contestant has."""
    return int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))


def accuracy(Y: np.ndarray, t: np.ndarray) -> float:
    """Return the share of rows that are right; one column is a score, positive for class 1."""
    Y = np.asarray(Y)
    if Y.size == len(t):
        return float(np.mean((Y.reshape(-1) > 0) == t))
    return gpu_common.accuracy(Y, t)


def compete(contestant, version: str) -> None:
    """Warm up, say so, and then do a round for each line that comes.

    ``contestant`` has ``restart()``, ``train()`` (or ``predict()``, where that is the task), and
    ``outputs(X)``; ``restart`` is off the clock.
    """
    one_round(contestant)
    say({"version": version, "steps": contestant.task.steps})
    for _ in sys.stdin:
        say(one_round(contestant))


def one_round(contestant) -> dict:
    """Do one round; return its seconds and how good the result is."""
    task = contestant.task
    contestant.restart()
    run: Callable[[], object] = contestant.predict if task.setting.predicts else contestant.train
    begin = time.perf_counter()
    run()
    seconds = time.perf_counter() - begin
    return {
        "seconds": seconds,
        "accuracy": accuracy(contestant.outputs(task.X_test), task.t_test),
    }
