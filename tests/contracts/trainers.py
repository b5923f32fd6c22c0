"""Trials of trainers and callbacks, and of the functions that take data."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np

import xpnet
from contracts.subject import New, Subject
from contracts.trial import plain_data

X = np.linspace(-1, 1, 48).reshape(12, 4) ** 3
T = (np.arange(12) * 7 // 3) % 3


def network():
    layers = xpnet.Linear(4, 4), xpnet.Tanh(), xpnet.Linear(4, 3)
    return xpnet.Sequential(*layers, dtype="float64", seed=1, backend="numpy")


class Fitted:
    """A trainer, and how it fits."""

    def __init__(self, trainer, **how):
        self.trainer, self.how = trainer, {"epochs": 2, "batch_size": 4} | how

    def fit(self):
        self.trainer.fit(X, T, **self.how)


def make(**arguments):
    net = network()
    given = {"optimizer": "adam", "loss": "softmax_cross_entropy"} | arguments
    given = {k: v(net) if k == "optimizer" and callable(v) else v for k, v in given.items()}
    return Fitted(xpnet.Trainer(net, **given), validation_data=(X, T))


def outcome(fitted):
    fitted.fit()
    trainer = fitted.trainer
    return plain_data(
        [trainer.net.params, dict(trainer.history), trainer.evaluate(X, T), trainer.epoch]
    )


def fit(**how):
    return Fitted(xpnet.Trainer(network(), "softmax_cross_entropy", metrics=["accuracy"]), **how)


OF_CALLBACKS = {
    "trainer": "`fit` sets it",
    **dict.fromkeys(("every_step", "after_others", "once"), "who writes a callback class says it"),
}


def callback(kind, seen, given=None, other=None, epochs=6, context=None):
    """Return the trials of a kind of callback."""

    def made(**arguments):
        thing = kind(**arguments)
        net = network()
        trainer = xpnet.Trainer(
            net, "softmax_cross_entropy", xpnet.Adam(net, lr=0.05), metrics=["accuracy"]
        )
        how = {"callbacks": [thing], "validation_data": (X, T), "epochs": epochs}
        fitted = Fitted(trainer, **how)
        fitted.thing = thing
        return fitted

    def result(fitted):
        return [outcome(fitted), plain_data(seen(fitted.thing))]

    return Subject(
        "Callbacks",
        kind.__name__,
        made,
        Fitted.fit,
        result,
        kind,
        given=given or {},
        other=other or {},
        target=lambda fitted: fitted.thing,
        fixed=OF_CALLBACKS,
        right={"folder": ("'nonsense'",)},
        context=context or {},
    )


def folder(name):
    return New(lambda: Path(tempfile.mkdtemp()) / name)


def in_folder(checkpoint):
    place = Path(checkpoint.folder)
    return [place.name, *sorted(path.name for path in place.glob("*"))]


def printed(bar):
    return bar.file.getvalue() if isinstance(bar.file, io.StringIO) else ""


def subjects():
    """Return the trainer, its `fit`, and the callbacks."""
    other = {
        "loss": "mse",
        "optimizer": "sgd",
        "metrics": ["accuracy"],
        "seed": 5,
        "net": New(network),
        "stop": True,
        "launch": 2,
        "history": New(dict),
        "callbacks": New(list),
    }
    yield Subject(
        "Trainers",
        "Trainer",
        make,
        Fitted.fit,
        outcome,
        xpnet.Trainer,
        given={"loss": "softmax_cross_entropy", "optimizer": "adam"},
        other=other,
        fixed={"net": "a trainer belongs to its network"},
        target=lambda fitted: fitted.trainer,
    )
    more = {
        "sample_weight": np.arange(1.0, 13),
        "validation_data": (X, T),
        "shuffle": False,
        "callbacks": New(lambda: [xpnet.EarlyStopping("loss", patience=1, min_delta=9.0)]),
        "resume": "no-such-folder/step.npz",
    }
    data = dict.fromkeys(("X", "t"), "see [What data mean](data.md)")
    yield Subject(
        "Trainers",
        "Trainer.fit",
        fit,
        Fitted.fit,
        outcome,
        xpnet.Trainer.fit,
        given={"epochs": 2, "batch_size": 4},
        other=more,
        attributes=False,
        fixed={"self": "", **data},
        context={"callbacks": {"epochs": 5}},
        right={"resume": ("capitals", "'nonsense'"), "override": ("{}",)},
    )
    stops = {"monitor": "val_accuracy", "patience": 1, "min_delta": 0.5, "mode": "max"}
    yield callback(
        xpnet.EarlyStopping,
        lambda c: [c.best, c.best_epoch],
        {"patience": 2, "min_delta": 0.01},
        {**stops, "restore_best_weights": False},
        epochs=12,
        context={"restore_best_weights": {"min_delta": 0.3}},
    )
    yield callback(
        xpnet.Checkpoint,
        in_folder,
        {"folder": folder("saved"), "keep": 100},
        {"folder": folder("other"), "every_steps": 2, "every_minutes": 1e-9, "keep": 1},
    )
    yield callback(xpnet.Recorder, lambda c: [c.epochs, c.values], {"frames": 4}, {"frames": 6})
    yield callback(xpnet.ProgressBar, printed, {"file": New(io.StringIO)}, {"file": None})
