"""Trainings for `test_parallel.py`, the same on any number of processes, played or real.

``mpiexec -n 3 python -m mpi4py parallel_worker.py FOLDER`` runs the ones that are to be seen with
MPI itself, and rank 0 writes what all have found into the folder. With ``FOLDER K`` rank K fails.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet import golden
from xpnet.backend import find_backend
from xpnet.data.mnist import find_mnist
from xpnet.parallel import Communicator
from xpnet.support.errors import ParallelError

FEATURES, CLASSES = 20, 5
L = xpnet.Linear


def plain():
    return [L(FEATURES, 32), xpnet.ReLU(), L(32, CLASSES)]


def binary():
    return [L(FEATURES, 8), xpnet.Tanh(), L(8, 1)]


def with_batch_norm():
    layers = [L(FEATURES, 32), xpnet.BatchNorm1d(32), xpnet.ReLU(), xpnet.Dropout(0.3)]
    return [*layers, xpnet.Sequential(L(32, 16), xpnet.LayerNorm(16), xpnet.GELU()), L(16, CLASSES)]


class Scale(xpnet.Layer):
    """Y = a X        with da = Σᵢ dYᵢ Xᵢ written by no primitive of the backend"""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.parameter("a", (n,), "ones")

    def forward(self, X: Any) -> Any:
        self.X = X
        return self.xp.multiply(X, self.a, out=self.Y[: len(X)])

    def backward(self, dY: Any) -> Any:
        self.da[...] = (dY * self.X).sum(axis=0)
        if self.dX is None:
            return None
        return self.xp.multiply(dY, self.a, out=self.dX[: len(dY)])


class Gain(xpnet.Layer):
    """Y = a X        with one a for all, da = Σᵢⱼ dYᵢⱼ Xᵢⱼ"""

    def __init__(self) -> None:
        super().__init__()
        self.parameter("a", (1,), "ones")

    def forward(self, X: Any) -> Any:
        self.X = X
        return self.xp.multiply(X, self.a, out=self.Y[: len(X)])

    def backward(self, dY: Any) -> Any:
        dX = self.dX[: len(dY)]
        self.xp.sum(self.xp.multiply(dY, self.X, out=dX), out=self.da.reshape(()))
        return self.xp.multiply(dY, self.a, out=dX)


class Spy(xpnet.Layer):
    """Y = X, and keeps what it has seen while training."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def forward(self, X: Any) -> Any:
        if self.training:
            self.seen.append(np.array(X))
        return X

    def backward(self, dY: Any) -> Any:
        return dY


def with_own_layer():
    return [L(FEATURES, 32), Scale(32), xpnet.Tanh(), L(32, CLASSES)]


def with_gain():
    return [L(FEATURES, 32), Gain(), xpnet.Tanh(), L(32, CLASSES)]


def sgd(net, lr=0.05, **options):
    return xpnet.SGD(net, lr, **options)


def scheduled(net):
    return xpnet.Adam(net, xpnet.schedules.Cosine(0.01, 50))


@dataclass(frozen=True)
class Case:
    """A training. ``targets`` are labels, numbers, one-hot, probabilities or zeros and ones."""

    layers: Callable[[], list[xpnet.Layer]] = plain
    loss: Any = "softmax_cross_entropy"
    optimizer: Callable[..., Any] = xpnet.Adam
    dtype: str = "float64"
    reproducible: bool = False
    n: int = 1000
    batch_size: int | None = 96
    epochs: int = 5
    targets: str = "labels"
    weighted: bool = False
    kind: str = "numbers"  # of the inputs: or pixels, images, or a file that is mapped
    shuffle: bool = True

    def data(self, folder: Path | None = None) -> tuple[Any, Any]:
        """Return X and t."""
        draw = np.random.default_rng(1)
        X = draw.normal(size=(self.n, FEATURES))
        if self.kind in ("pixels", "mapped"):
            X = draw.integers(0, 256, (self.n, FEATURES)).astype(np.uint8)
        if self.kind == "images":
            X = X.reshape(self.n, 4, 5)
        if self.kind == "mapped":
            (folder / "X").write_bytes(X.tobytes())
            X = np.memmap(folder / "X", np.uint8, "r", shape=X.shape)
        return X, self._targets(draw)

    def _targets(self, draw: Any) -> Any:
        labels = draw.integers(0, CLASSES, self.n)
        if self.targets == "labels":
            return labels
        if self.targets == "numbers":
            return 2 * draw.normal(size=(self.n, CLASSES))
        if self.targets == "one-hot":
            return np.eye(CLASSES)[labels]
        if self.targets == "probabilities":
            return draw.random((self.n, CLASSES))
        return labels % 2

    def trainer(self, comm: Communicator, seed: int = 0) -> xpnet.Trainer:
        """Return what is to be trained; two of them share nothing."""
        backend = find_backend("numpy", self.reproducible)
        net = xpnet.Sequential(*self.layers(), dtype=self.dtype, seed=seed, backend=backend)
        return xpnet.Trainer(net, self.loss, self.optimizer(net), comm=comm)

    def fit(self, trainer: xpnet.Trainer, *callbacks: Any, folder: Any = None, **options: Any):
        """Train, and validate on some of the rows."""
        X, t = self.data(folder)
        weights = None
        if self.weighted:
            weights = np.random.default_rng(2).random(self.n)
            weights[::7] = 0  # these samples are not there
        rows = slice(min(self.n, 700))
        options = {
            "epochs": self.epochs, "batch_size": self.batch_size, "sample_weight": weights,
            "shuffle": self.shuffle, "validation_data": (X[rows], t[rows]), **options,
        }  # fmt: skip
        return trainer.fit(X, t, callbacks=callbacks, **options)


class Hashes(xpnet.Callback):
    """Keeps the hash of all bits after each epoch."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        self.found.append(self.trainer.net.sha256())


def result(trainer: xpnet.Trainer, hashes: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a training ends with."""
    vectors = {k: trainer.net.xp.asnumpy(v) for k, v in trainer.optimizer.state_vectors().items()}
    arrays = trainer.net.state_dict() | vectors
    numbers = {k: np.array(v) for k, v in arrays.items() if v.dtype.kind == "f"}
    return {"values": numbers, "history": dict(trainer.history), "hashes": list(hashes)}


def train(comm: Communicator, case: Case, folder: Path | None = None) -> dict[str, Any]:
    """Train by a case; the hash of all values after each epoch belongs to what is returned."""
    trainer, hashes = case.trainer(comm), Hashes()
    case.fit(trainer, hashes, folder=folder)
    return result(trainer, hashes.found)


SGD, MODE = sgd, {"dtype": "float32", "reproducible": True}
Small = partial(Case, n=110, batch_size=35, epochs=3)
ORDINARY = {
    "float64": Case(),
    "float32": Case(dtype="float32"),
    "weights": Case(weighted=True),
    "batch norm and dropout": Case(with_batch_norm, optimizer=SGD),
    "batch norm, weights": Case(with_batch_norm, optimizer=SGD, weighted=True),
}
MORE = {
    "clipping": Small(optimizer=partial(sgd, clip_norm=0.05)),
    "momentum, decay": Small(optimizer=partial(sgd, momentum=0.9, weight_decay=0.01)),
    "nesterov": Small(optimizer=partial(sgd, momentum=0.9, nesterov=True)),
    "rmsprop": Small(optimizer=xpnet.RMSprop),
    "adamw, clipping": Small(optimizer=partial(xpnet.AdamW, weight_decay=0.1, clip_norm=0.1)),
    "a schedule": Small(optimizer=scheduled),
    "mse": Small(loss="mse", targets="numbers"),
    "huber, weights": Small(loss="huber", targets="numbers", weighted=True),
    "bce": Small(lambda: [*plain(), xpnet.Sigmoid()], "bce", targets="probabilities"),
    "bce_logits": Small(binary, "bce_logits", targets="zeros and ones"),
    "cross_entropy": Small(lambda: [*plain(), xpnet.Softmax()], "cross_entropy", targets="one-hot"),
    "one-hot, weights": Small(targets="one-hot", weighted=True),
    "pixels": Small(kind="pixels"),
    "images": Small(lambda: [xpnet.Flatten(), *plain()], kind="images"),
    "a mapped file": Small(kind="mapped"),
    "in order": Small(shuffle=False),
    "the whole batch": Small(batch_size=None),
    "a last batch of one": Small(n=97),
    "a last batch of three, batch norm": Small(with_batch_norm, optimizer=SGD, n=99),
    "two samples": Small(n=2, epochs=10),
    "batches of one": Small(n=13, batch_size=1),
    "batches of two": Small(n=21, batch_size=2, weighted=True),
    "batches of three, batch norm": Small(with_batch_norm, optimizer=SGD, n=12, batch_size=3),
    "a layer of one's own": Small(with_own_layer),
}
REPRODUCIBLE = {
    "weights": Case(weighted=True, **MODE),
    "batch norm and dropout": Case(with_batch_norm, **MODE),
    "blocks": Case(with_batch_norm, n=3000, batch_size=None, epochs=2, **MODE),
}
MORE_REPRODUCIBLE = {
    "blocks, uneven": Small(n=3100, batch_size=2500, epochs=2, weighted=True, **MODE),
    "a block and one": Small(with_batch_norm, n=1025, batch_size=None, epochs=2, **MODE),
    "clipping, decay": Small(
        optimizer=partial(sgd, momentum=0.9, weight_decay=0.01, clip_norm=0.05), **MODE
    ),
    "a schedule": Small(optimizer=scheduled, **MODE),
    "pixels": Small(kind="pixels", **MODE),
    "images": Small(lambda: [xpnet.Flatten(), *plain()], kind="images", **MODE),
    "a mapped file": Small(kind="mapped", **MODE),
    "huber": Small(loss="huber", targets="numbers", **MODE),
    "bce_logits": Small(binary, "bce_logits", targets="zeros and ones", **MODE),
    "in order": Small(shuffle=False, **MODE),
    "one number for all": Small(with_gain, **MODE),
    "one number for all, blocks": Small(with_gain, n=1100, batch_size=None, **MODE),
    "a last batch of one": Small(n=97, **MODE),
    "two samples": Small(n=2, epochs=10, **MODE),
    "batches of one": Small(n=13, batch_size=1, **MODE),
    "batches of two": Small(with_batch_norm, n=22, batch_size=2, **MODE),
    "one batch norm": Small(
        lambda: [xpnet.BatchNorm1d(FEATURES), *plain()], n=40, batch_size=7, **MODE
    ),
}
NAMES = (  # one for each problem is trained for 200 steps
    "xor: 2-8-1 tanh, bce_logits, momentum",
    "spiral: 2-32-32-1 tanh, bce, Adam",
    "digits: 64-64-32-10 ReLU, softmax_cross_entropy, Adam",
    "mnist: 784-64-32-10 ReLU, softmax_cross_entropy, Adam",
)
RECIPES = {recipe.name: recipe for recipe in golden.RECIPES if recipe.name in NAMES}


def golden_hash(recipe: golden.Recipe, comm: Communicator, folder: Path) -> str:
    """Return the hash of the parameters after all steps."""
    if recipe.problem == "digits":  # from a file: scikit-learn takes a second to come
        X, t = np.load(folder / "digits.npz").values()
    else:
        X, t = golden.load(recipe.problem)
    run = golden.RecipeRun(recipe, find_backend("numpy", True), X, t, comm)
    for _ in range(golden.STEPS):
        run.step()
    return run.net.sha256()


# ---- what is broken off, and goes on -------------------------------------------------------------

TO_RESUME = {
    "float64": Case(plain, epochs=3),
    "reproducible": Case(with_batch_norm, epochs=3, **MODE),
}
BREAKS = {"in an epoch": 15, "after an epoch": 22}  # steps, of 11 in an epoch


class Break(xpnet.Callback):
    """Saves after so many steps and breaks the training off."""

    def __init__(self, steps: int, path: Path) -> None:
        self.steps, self.path = steps, path

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        trainer = self.trainer
        if trainer.optimizer.t == self.steps and trainer.batch < trainer.steps_per_epoch:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        if self.trainer.optimizer.t == self.steps:
            self.save()

    def save(self) -> None:
        self.trainer.save(self.path)
        raise InterruptedError


def saved(folder: Path, name: str, where: str) -> Path:
    """Return where a training that was broken off is kept."""
    return folder / f"{name} {where}.npz"


def break_off(comm: Communicator, folder: Path) -> None:
    """Train for some steps, and leave a checkpoint."""
    for name, case in TO_RESUME.items():
        for where, steps in BREAKS.items():
            try:
                case.fit(case.trainer(comm), Break(steps, saved(folder, name, where)))
            except InterruptedError:
                comm.barrier()
            else:
                raise AssertionError("the training has not been broken off")


def go_on(comm: Communicator, name: str, path: Path) -> dict[str, Any]:
    """Train to the end from a checkpoint."""
    case = TO_RESUME[name]
    trainer = case.trainer(comm, seed=0)
    case.fit(trainer, resume=path)
    return result(trainer, [trainer.net.sha256()])


# ---- what is done with MPI itself ----------------------------------------------------------------


def everything(comm: Communicator, folder: Path) -> dict[str, Any]:
    """Run all that is to be seen on real processes, and return what this one has found."""
    found: dict[str, Any] = {"about": [comm.rank, comm.size, comm.local_rank, comm.local_size]}
    found["ordinary"] = {name: train(comm, case) for name, case in ORDINARY.items()}
    found["reproducible"] = {name: train(comm, case) for name, case in REPRODUCIBLE.items()}
    found["golden"] = {
        name: golden_hash(recipe, comm, folder)
        for name, recipe in RECIPES.items()
        if recipe.problem != "mnist" or find_mnist()
        if recipe.problem != "digits" or comm.size in (1, 4)
    }
    if comm.size == 4:
        break_off(comm, folder)
    found["resumed"] = {
        f"{name} {where}": go_on(comm, name, saved(folder, name, where))
        for name in TO_RESUME
        for where in BREAKS
    }
    found["disagreement"] = disagree(comm)
    found["primitives"] = primitives(comm)
    return found


def disagree(comm: Communicator) -> str:
    """Return the error of processes that are not given the same."""
    case = Case(batch_size=50 + comm.rank // 2)
    try:
        case.fit(case.trainer(comm), epochs=1)
    except ParallelError as error:
        return str(error)
    return ""


def primitives(comm: Communicator) -> dict[str, Any]:
    """Return what the methods of a communicator give."""
    own = np.array([comm.rank, -comm.rank, 1.5])
    return {
        "sum": comm.allreduce(own.copy()).tolist(),
        "max": comm.allreduce(own.copy(), "max").tolist(),
        "bcast_array": comm.bcast_array(own.copy()).tolist(),
        "bcast": comm.bcast([comm.rank]),
        "allgather": comm.allgather([comm.rank]),
        "greatest": comm.greatest(10 + comm.rank),
        "least": comm.greatest(-comm.rank - 5),
        "large": comm.greatest(2**40 * (comm.rank + 1)),
    }


def write(folder: Path, found: list[dict[str, Any]]) -> None:
    """Write what all processes have found: numbers of rank 0 as arrays, and all else as JSON."""
    arrays = {
        f"{group}/{name}/{key}": value
        for group in ("ordinary", "reproducible", "resumed")
        for name, outcome in found[0][group].items()
        for key, value in outcome["values"].items()
    }
    np.savez(folder / f"{len(found)}.npz", **arrays)
    text = json.dumps(found, default=lambda array: "in the other file")
    (folder / f"{len(found)}.json").write_text(text, encoding="utf-8")


class Fail(xpnet.Callback):
    """A mistake that shows on one rank only."""

    def on_train_batch_end(self, batch: int, logs: Any) -> None:
        if batch == 5:
            print("failed at", time.time(), flush=True)
            raise ZeroDivisionError(f"a mistake on rank {self.trainer.comm.rank}")


def main(folder: str, failing: str = "") -> None:
    comm = xpnet.parallel.communicator("mpi")
    if failing:
        case = Case(epochs=100_000)
        case.fit(case.trainer(comm), *[Fail()] * (comm.rank == int(failing)))
    gathered = comm.allgather(everything(comm, Path(folder)))
    if comm.rank == 0:
        write(Path(folder), gathered)


if __name__ == "__main__":
    main(*sys.argv[1:])
