"""Advice about files and folders of a training."""

from __future__ import annotations

import copy
import errno
import os
from pathlib import Path

import numpy as np

import xpnet
from advice import advice, cannot, elsewhere, refused
from xpnet.backend import say_once
from xpnet.support.locks import FolderLock

X = np.linspace(-1, 1, 24).reshape(8, 3)
T = np.arange(8) % 2


def trainer(seed=0):
    """Return a trainer of one layer."""
    net = xpnet.Sequential(xpnet.Linear(3, 2), seed=seed, backend="numpy")
    return xpnet.Trainer(net, "softmax_cross_entropy")


def fit(made, folder, epochs=1, **how):
    """Train with checkpoints."""
    made.fit(X, T, epochs=epochs, callbacks=[xpnet.Checkpoint(folder)], **how)
    return made


elsewhere(
    "tests/storage/test_override.py::test_what_differs_is_named_and_the_advice_of_the_error_helps",
    "or let it change by fit(..., resume=..., override={})",
)
elsewhere(
    "tests/training/test_turns.py::test_a_copy_may_be_trained_meanwhile_as_the_error_says",
    "wait for its end, or train net.copy() with a Trainer of its own",
)
elsewhere(
    "tests/storage/test_moved_folder.py::test_the_training_ends_and_can_be_saved_elsewhere",
    "rename it back and resume from it, or save the present state elsewhere by trainer.save(path)",
)
cannot(
    "needs a release that is newer than this one",
    "{} was saved by a newer xpnet, {}; update this one",
)


@advice("{} is not possible while fit trains the network; do it after fit")
def _():
    class Moves(xpnet.Callback):
        def on_epoch_end(self, epoch, logs):
            self.trainer.net.to(dtype="float64")

    made = trainer()
    with refused(xpnet.XpnetError, "is not possible while fit trains the network; do it after"):
        made.fit(X, T, epochs=1, callbacks=[Moves()])
    made.fit(X, T, epochs=1)
    made.net.to(dtype="float64")


@advice("make each as it was")
def _():
    fit(trainer(), "here")
    wide = xpnet.Trainer(xpnet.Sequential(xpnet.Linear(3, 4), backend="numpy"), trainer().loss)
    with refused(xpnet.CheckpointError, "make each as it was") as info:
        fit(wide, "here", epochs=2, resume="here")
    assert "override" not in str(info.value)
    fit(trainer(), "here", epochs=2, resume="here")


@advice("has checkpoints of a training; go on with it by fit(..., resume={}), or choose another")
def _():
    fit(trainer(), "here")
    with refused(xpnet.OptionError, "by fit(..., resume='here'), or choose another folder"):
        fit(trainer(), "here", epochs=2)
    assert fit(trainer(), "here", epochs=2, resume="here").epoch == 2
    fit(trainer(), "another")


@advice("choose another folder", "let it end, or choose another folder")
def _():
    Path("file").write_text("")
    with refused(xpnet.XpnetError, "; choose another folder"):
        fit(trainer(), "file")
    Path("another").mkdir()
    with FolderLock(Path("another")):
        with refused(xpnet.OptionError, "let it end, or choose another folder"):
            fit(trainer(), "another")
        fit(trainer(), "third")
    fit(trainer(), "another")


@advice("wait for its end")
def _(run):
    options = "--epochs", 2, "--plots", "none", "--quiet"
    assert run("train", "and", "--epochs", 1, *options[2:], "--out", "here").code == 0
    with FolderLock(Path("here")):
        done = run("train", "--resume", "here", *options)
        assert done.code == 2
        assert "is writing into the folder here; wait for its end" in done.err
    assert run("train", "--resume", "here", *options).code == 0


@advice("make room for it; the checkpoints before it are intact")
def _(monkeypatch):
    made, keeper = trainer(), xpnet.Checkpoint("here")
    made.fit(X, T, epochs=1, callbacks=[keeper])

    def full(path, state):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("xpnet.training.saving.write_training", full)
        with refused(xpnet.XpnetError, "make room for it; the checkpoints before it are intact"):
            fit(trainer(), "here", epochs=2, resume="here")
    xpnet.load(keeper.paths[-1])
    assert fit(trainer(), "here", epochs=2, resume="here").epoch == 2


@advice("the disk of %s has no locks (%s); begin no second training in this folder")
def _(monkeypatch, caplog):
    def fails(file):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("xpnet.support.locks._lock_at_once", fails)
    fit(trainer(), "here")
    assert "begin no second training in this folder" in caplog.text
    fit(trainer(), "another")


@advice("{} is damaged, or was not saved by xpnet ({}); use another copy of it")
def _():
    net = trainer().net
    net.save("net.npz")
    whole = Path("net.npz").read_bytes()
    Path("net.npz").write_bytes(whole[:-9])
    Path("copy.npz").write_bytes(whole)
    with refused(xpnet.CheckpointError, "use another copy of it"):
        xpnet.load("net.npz")
    assert xpnet.load("copy.npz").sha256() == net.sha256()


@advice("a file holds real numbers: use astype(float), or a list of words")
def _():
    class Remembers(xpnet.Callback):
        def state_dict(self):
            return {"seen": self.seen}

        def load_state_dict(self, state):
            self.seen = state["seen"]

    def saved(seen):
        keeper, callback = xpnet.Checkpoint("here"), Remembers()
        callback.seen = seen
        trainer().fit(X, T, epochs=1, callbacks=[keeper, callback])

    with refused(xpnet.CheckpointError, "use astype(float), or a list of words"):
        saved(np.array(["1", "2"]))
    saved(np.array(["1", "2"]).astype(float))


@advice("{}: {} cannot be a name there; use another word")
def _():
    class Remembers(xpnet.Callback):
        def __init__(self, name):
            self.name = name

        def state_dict(self):
            return {self.name: 3}

        def load_state_dict(self, state):
            pass

    def save(name):
        trainer().fit(X, T, epochs=1, callbacks=[xpnet.Checkpoint("here"), Remembers(name)])

    with refused(xpnet.CheckpointError, "'not finite' cannot be a name there; use another word"):
        save("not finite")
    save("infinite")


@advice("take copy.deepcopy(trainer), or make a new trainer")
def _():
    made = trainer()
    with refused(xpnet.OptionError, "take copy.deepcopy(trainer), or make a new trainer"):
        copy.copy(made)
    copy.deepcopy(made).fit(X, T, epochs=1)
    xpnet.Trainer(made.net.copy(), made.loss).fit(X, T, epochs=1)


@advice("the trainer has no data yet: call fit(X, t) first")
def _():
    made = trainer()
    with refused(xpnet.XpnetError, "call fit(X, t) first"):
        made.steps_per_epoch  # noqa: B018
    made.fit(X, T)
    assert made.steps_per_epoch > 0


@advice("and there is none: the history will not have them. Call fit(..., validation_data=(X, t))")
def _(caplog):
    say_once.cache_clear()
    made = trainer()
    made = xpnet.Trainer(made.net, made.loss, metrics=["accuracy"])
    made.fit(X, T, epochs=1)
    assert "or trainer.evaluate(X, t) afterwards" in caplog.text
    assert "accuracy" in made.evaluate(X, T)
    assert "val_accuracy" in made.fit(X, T, epochs=1, validation_data=(X, T))
