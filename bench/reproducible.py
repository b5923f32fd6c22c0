"""What reproducible mode costs and how accurate it is: ``python bench/reproducible.py [--quick]``.

On one thread and in turn with ordinary float32: the time of a step in three settings; the error of
the gradients against float64 after 1000 steps on MNIST; the test accuracy after five epochs. Each
row says what is asked for; the exit code is 1 if a row misses. ``--quick`` leaves out the full
batch and the training.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from itertools import pairwise

import numpy as np
from threadpoolctl import threadpool_limits

import xpnet
from xpnet import data
from xpnet.backend import find_backend
from xpnet.runs.problems import PROBLEMS, build

Row = tuple[str, str, str, bool]  # what, asked for, measured, reached
ORDINARY, REPRODUCIBLE = (find_backend("numpy", reproducible=mode) for mode in (False, True))


class Clock(xpnet.Callback):
    """The time of each epoch."""

    def on_train_begin(self, logs):
        self.seconds = []

    def on_epoch_begin(self, epoch, logs):
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        self.seconds.append(time.perf_counter() - self.start)


def network(sizes: tuple[int, ...], backend, dtype: str = "float32") -> xpnet.Sequential:
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [xpnet.Linear(n_in, n_out, init="he_uniform"), xpnet.ReLU()]
    return xpnet.Sequential(*layers[:-1], backend=backend, dtype=dtype)


def cost(sizes: tuple[int, ...], batch_size: int, n: int, rounds: int, limit: float) -> Row:
    """The time of an Adam step in both modes, an epoch of each in turn."""
    X, t, *_ = data.load_mnist()
    trainers = []
    for backend in (ORDINARY, REPRODUCIBLE):
        net = network(sizes, backend)
        trainers.append(xpnet.Trainer(net, "softmax_cross_entropy", "adam"))
    times, clock = [], Clock()
    for _ in range(rounds + 1):
        times.append([])
        for trainer in trainers:
            trainer.fit(X[:n], t[:n], epochs=1, batch_size=batch_size, callbacks=[clock])
            times[-1].append(clock.seconds[0] / trainer.steps_per_epoch * 1000)
    both = np.array(times[1:])  # the first round is to warm up
    ratio, (plain, exact) = np.median(both[:, 1] / both[:, 0]), np.median(both, axis=0)
    what = f"{'-'.join(map(str, sizes))}, B={batch_size}, Adam: time of a step"
    measured = f"{ratio:.2f}x ({exact:.2f} ms, ordinary {plain:.2f} ms)"
    return what, f"at most {limit:g}x ordinary", measured, ratio <= limit


class Stop(Exception):
    """Enough steps."""


class StopAfter(xpnet.Callback):
    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, batch, logs):
        self.steps -= 1
        if not self.steps:
            raise Stop


def accuracy() -> Row:
    """The error of the gradients in 24 batches, each relative to the gradient's norm."""
    X, t, *_ = data.load_mnist()
    sizes = (784, 64, 32, 10)
    net = network(sizes, REPRODUCIBLE)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam")
    with suppress(Stop):
        trainer.fit(X, t, epochs=3, batch_size=128, callbacks=[StopAfter(1000)])
    errors = {ORDINARY: [], REPRODUCIBLE: []}
    for seed in range(24):
        rows = np.random.default_rng(seed).permutation(len(X))[:128]
        exact = gradients(net, ORDINARY, "float64", X[rows], t[rows])
        for backend, found in errors.items():
            g = gradients(net, backend, "float32", X[rows], t[rows])
            found += [
                np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(g, exact, strict=True)
            ]
    plain, ours = errors[ORDINARY], errors[REPRODUCIBLE]
    measured = (
        f"{np.median(ours):.1e}, worst {max(ours):.1e} "
        f"(ordinary {np.median(plain):.1e}, worst {max(plain):.1e})"
    )
    what = "784-64-32-10 after 1000 steps: gradients against float64, median of 24 batches"
    return what, "at most 2e-7", measured, np.median(ours) <= 2e-7


def gradients(net, backend, dtype, X, t) -> list[np.ndarray]:
    other = network((784, 64, 32, 10), backend, dtype)
    other.load_state_dict(net.state_dict())
    loss = xpnet.SoftmaxCrossEntropy()
    loss.use(backend)
    loss.forward(other.forward(backend.asarray(X)), backend.asarray(t))
    other.backward(loss.backward())
    return [
        getattr(layer, f"d{name}").astype(np.float64)
        for layer in other
        for name in layer.parameters
    ]


def training() -> Row:
    problem = PROBLEMS["mnist"]
    split, found = problem.load(0, None), []
    for backend in (ORDINARY, REPRODUCIBLE):
        trainer = build(problem, split, dtype="float32", seed=0, backend=backend)
        trainer.fit(*split.train, epochs=problem.epochs, batch_size=problem.batch_size)
        found.append(trainer.evaluate(*split.test)["accuracy"])
    measured = f"{found[1]:.2%} (ordinary {found[0]:.2%})"
    what = "`xpnet train mnist`, 5 epochs: test accuracy"
    return what, "within 0.2 points of ordinary", measured, abs(found[1] - found[0]) <= 0.002


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    print("| what | asked for | measured |\n|---|---|---|")
    measures = [
        lambda: cost((784, 64, 32, 10), 128, 12_800, 15, 4.0),
        lambda: cost((784, 512, 512, 10), 128, 2_560, 15, 3.0),
        accuracy,
    ]
    if not quick:
        measures += [lambda: cost((784, 64, 32, 10), 60_000, 60_000, 7, 2.5), training]
    reached = []
    with threadpool_limits(1):
        for measure in measures:
            what, asked, measured, good = measure()
            reached.append(good)
            print(f"| {what} | {asked} | {measured}{'' if good else ' **missed**'} |", flush=True)
    return 0 if all(reached) else 1


if __name__ == "__main__":
    sys.exit(main())
