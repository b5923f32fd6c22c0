"""xpnet in the comparison with its peers: ``python bench/gpu_xpnet.py MODE [--device cpu]``.

``captured``, ``eager``, ``reproducible``: the setting of all contestants. ``whole``: all rows of
MNIST, with the short last batch. ``straight``: without a second branch in
the graph. ``launches``: how many steps one launch of the graph holds.
``reads``: how often an epoch reads the device. ``products``: a large net against the products of
its matrices alone. The clock is a callback for epochs; one for batches would cost a launch each.
"""

from __future__ import annotations

import time
import traceback
import warnings
from contextlib import nullcontext
from itertools import pairwise

import gpu_common as common
import numpy as np

import xpnet
from xpnet.backend import find_backend

MODES = ("captured", "straight", "eager", "reproducible", "whole", "launches", "reads", "products")
LAUNCHES = (1, 4, 16, 64)
REPETITIONS = 20  # of the products alone


class Clock(xpnet.Callback):
    """The seconds of each epoch; ``between`` runs before each, off the clock."""

    def __init__(self, wait, between=lambda epoch: None):
        self.wait, self.between, self.seconds, self.ends = wait, between, [], []

    def on_epoch_begin(self, epoch, logs):
        self.between(epoch)
        self.wait()
        self.start = time.perf_counter()

    def on_epoch_end(self, epoch, logs):
        self.wait()
        self.ends.append(time.perf_counter())
        self.seconds.append(self.ends[-1] - self.start)


def make(xp, sizes=common.SIZES, lr=common.LR, beta2=0.999, seed=0) -> xpnet.Trainer:
    net = common.network(sizes, xp, seed)
    adam = xpnet.Adam(net, lr=lr, beta2=beta2)
    return xpnet.Trainer(net, xpnet.SoftmaxCrossEntropy(), adam, seed=seed)


def race(trainer, X, t, quick: bool) -> dict:
    """Time the epochs; the cold figure also has what `fit` does before the first one."""
    xp = trainer.net.xp

    def spin(epoch: int) -> None:
        if epoch == 1:  # after the cold one
            common.spin_xp(xp)

    clock, start = Clock(common.waiter(xp), spin), time.perf_counter()
    history = trainer.fit(
        X, t, epochs=common.epochs(quick), batch_size=common.BATCH, callbacks=[clock]
    )
    found = common.figures(clock.seconds, trainer.steps_per_epoch, clock.ends[0] - start)
    return found | {"loss": history["loss"][-1]}


def contest(xp, quick: bool, whole: bool = False) -> dict:
    X, t, X_test, t_test = common.mnist(quick, batch=1 if whole and not quick else common.BATCH)
    seconds, (X, t) = common.timed(lambda: (xp.asarray(X), xp.asarray(t)), common.waiter(xp))
    trainer = make(xp)
    found = race(trainer, X, t, quick)
    right = common.accuracy(trainer.net.predict(X_test), t_test)
    return found | {"accuracy": right, "upload_s": seconds}


def launches(xp, quick: bool) -> dict:
    X, t, *_ = common.mnist(quick)
    X, t, found = xp.asarray(X), xp.asarray(t), {}
    for steps in LAUNCHES:
        trainer = make(xp)
        if not hasattr(trainer, "launch"):
            return {"launches": {}}
        trainer.launch = steps
        found[str(steps)] = race(trainer, X, t, quick)
    return {"launches": found}


# ---- how often the device is read ---------------------------------------------------------------


class Reads(xpnet.Callback):
    """Counts the calls of ``asnumpy`` in each epoch; optionally nothing else may wait for a GPU.

    ``cupyx.allow_synchronize`` sees what reads without that name: ``float(a)``, ``a.get()``.
    """

    def __init__(self, xp, strict: bool) -> None:
        self.owner = xp if xp.on_host else xp.module
        self.strict, self.epochs, self.guard = strict, [], nullcontext()
        self.real = self.owner.asnumpy

    def allow(self, allowed: bool):
        if not self.strict:
            return nullcontext()
        import cupyx

        return cupyx.allow_synchronize(allowed)

    def counted(self, *args, **kwargs):
        self.epochs[-1] += 1
        with self.allow(True):
            return self.real(*args, **kwargs)

    def on_epoch_begin(self, epoch, logs):
        self.epochs.append(0)
        self.owner.asnumpy = self.counted
        self.guard = self.allow(epoch == 0)  # the first one may compile and capture
        self.guard.__enter__()

    def on_epoch_end(self, epoch, logs):
        self.on_train_end(logs)

    def on_train_end(self, logs):
        self.owner.asnumpy = self.real
        self.guard.__exit__(None, None, None)
        self.guard = nullcontext()


def reads(xp, quick: bool) -> dict:
    X, t, *_ = common.mnist(quick)
    counts = Reads(xp, strict=False)
    make(xp).fit(X, t, epochs=4, batch_size=common.BATCH, callbacks=[counts])
    found = {"reads": max(counts.epochs[1:]), "others": "not looked for"}
    if xp.on_host:
        return found
    try:
        strict = Reads(xp, strict=True)
        make(xp).fit(X, t, epochs=4, batch_size=common.BATCH, callbacks=[strict])
        found["others"] = "none"
    except Exception:  # what waited, and where
        found["others"] = common.reason(traceback.format_exc())
    return found


# ---- a large net --------------------------------------------------------------------------------


def products(xp, sizes: tuple[int, ...], rows: int):
    """Return a function that computes every product of a step, and no more, so many times."""
    rng = np.random.default_rng(0)

    def normal(*shape: int):
        return xp.asarray(rng.standard_normal(shape, np.float32))

    layers = []
    for n_in, n_out in pairwise(sizes):
        X, W, dY = normal(rows, n_in), normal(n_in, n_out), normal(rows, n_out)
        layers.append((X, W, dY, *(xp.empty(a.shape, np.float32) for a in (dY, W, X))))

    def compute(matmul, times: int) -> None:
        for i, (X, W, dY, Y, dW, dX) in list(enumerate(layers)) * times:
            matmul(X, W, out=Y)
            matmul(X.T, dY, out=dW)
            if i:  # the first layer needs no dX
                matmul(dY, W.T, out=dX)

    return compute


def large(xp, quick: bool) -> dict:
    """Time the step of a large net and its products alone in turn, on a clock that stays warm.

    The products go through xpnet's primitive and through the array module; the faster one counts.
    """
    sizes, rows, steps = common.LARGE, common.LARGE_BATCH, common.LARGE_STEPS
    if quick:
        sizes, rows, steps = (784, 64, 64, 10), 128, 2
    common.spin_xp(xp)
    rng, wait, compute = np.random.default_rng(0), common.waiter(xp), products(xp, sizes, rows)
    X = rng.integers(0, 256, (steps * rows, sizes[0])).astype(np.uint8)
    t = rng.integers(0, sizes[-1], len(X))
    times: dict[str, list[float]] = {"xp": [], "module": []}

    def alone(epoch: int) -> None:
        for name, matmul in (("xp", xp.matmul), ("module", xp.module.matmul)):
            seconds, _ = common.timed(lambda m=matmul: compute(m, REPETITIONS), wait)
            times[name].append(seconds / REPETITIONS)

    clock = Clock(wait, alone)
    make(xp, sizes).fit(
        X, t, epochs=common.epochs(quick), batch_size=rows, shuffle=False, callbacks=[clock]
    )
    step = np.array(common.counted(clock.seconds)) / steps
    both = {name: np.array(common.counted(seconds)) for name, seconds in times.items()}
    best = min(both.values(), key=np.median)
    return {
        "share": common.summary(best / step),
        "step_s": common.summary(step),
        "products_s": {name: common.summary(seconds) for name, seconds in both.items()},
    }


def main() -> None:
    options = common.arguments(__doc__, MODES)
    mode, quick = options.mode, options.quick
    name = "cupy" if options.device == "cuda" else "numpy"
    imported = common.since_begin()
    xp = find_backend(name, reproducible=mode == "reproducible")
    if mode == "eager":
        xp.captures = False
    if mode == "straight":
        xp.forks = False
    start = {
        "import_s": imported,
        "backend_s": common.since_begin() - imported,
        "captures": bool(getattr(xp, "captures", False)),
    }
    with warnings.catch_warnings(record=True) as said:  # such as: could not be captured
        warnings.simplefilter("always")
        found = measure(xp, mode, quick)
    common.say(found | start | {"warnings": sorted({str(w.message) for w in said})})


def measure(xp, mode: str, quick: bool) -> dict:
    others = {"launches": launches, "reads": reads, "products": large}
    if mode in others:
        return others[mode](xp, quick)
    return contest(xp, quick, whole=mode == "whole")


if __name__ == "__main__":
    main()
