"""Trials of the fields of files: a network, a checkpoint, the description of a run."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

import xpnet
from contracts import networks, trainers
from contracts.trial import Trial, once, plain_data


def paths_of(value, path=()):
    """Yield the path of each field in a description: names of dicts, places in lists."""
    pairs = (
        value.items()
        if isinstance(value, dict)
        else (enumerate(value) if isinstance(value, list) else ())
    )
    for key, inner in pairs:
        yield (*path, key)
        yield from paths_of(inner, (*path, key))


def changed(value, path, new):
    """Return a copy in which one field is another; ``new`` of None: it is missing."""
    copy = json.loads(json.dumps(value))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    if new is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return copy


MISSING = object()


def other(value):
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [] if value else ["unknwon"]
    if isinstance(value, dict):
        return {} if value else {"unknwon": 1}
    return f"{value}x" if isinstance(value, str) else {}


class Description:
    """The JSON text in a file: how it is written, and what reads it.

    Fields that are informative, by their paths, are not compared, for the reasons given.
    """

    room = "Files"

    def __init__(self, name, write, read, informative):
        self.name, self.write, self.read, self.informative = name, write, read, informative

    def trials(self):
        with tempfile.TemporaryDirectory() as folder:
            about, _ = self.write(Path(folder))
        plain = once(lambda: self._read_with(about))
        for path in paths_of(about):
            dotted = ".".join(map(str, path))
            if path[0] in self.informative or dotted in self.informative:
                continue
            value = about
            for key in path:
                value = value[key]
            where = "Files", f"{self.name}: {dotted}"
            for way, new in (
                ("another value", other(value)),
                ("missing", MISSING),
                ("another type", 3.5 if not isinstance(value, float) else "x"),
            ):
                text = changed(about, path, new)
                yield Trial(*where, way, lambda text=text: self._read_with(text), plain)
        yield Trial(
            "Files",
            f"{self.name}: an unknown field",
            "added",
            lambda: self._read_with(about | {"unknwon": 1}),
            plain,
        )

    @property
    def fixed(self):
        """The fields that are not tried, with the reasons."""
        return {f"{self.name}: {path}": why for path, why in self.informative.items()}

    def _read_with(self, about):
        with tempfile.TemporaryDirectory() as folder:
            _, put = self.write(Path(folder))
            return self.read(put(about))


def archive(write):
    """Return what writes an archive and returns its description, and how to replace that."""

    def written(folder):
        path = write(folder)
        with np.load(path) as f:
            arrays = dict(f)
        about = json.loads(arrays["about"].tobytes())

        def put(new):
            arrays["about"] = np.frombuffer(json.dumps(new).encode(), np.uint8)
            with open(path, "wb") as f:
                np.savez(f, **arrays)
            return path

        return about, put

    return written


def network_file(folder):
    net = networks.make()
    net.save(folder / "net.npz")
    return folder / "net.npz"


def load(path):
    net = xpnet.load(path)
    return plain_data([net.state_dict(), net.config(), repr(net)])


def fitted():
    net = trainers.network()
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.Adam(net, lr=0.01), seed=3)
    stop = xpnet.EarlyStopping("val_loss", patience=3)
    return trainer, {
        "callbacks": [stop],
        "validation_data": (trainers.X, trainers.T),
        "batch_size": 4,
    }


def checkpoint(folder):
    trainer, how = fitted()
    how["callbacks"].append(xpnet.Checkpoint(folder / "saved", keep=1))
    trainer.fit(trainers.X, trainers.T, epochs=3, **how)
    return next((folder / "saved").glob("*.npz"))


class Looks(xpnet.Callback):
    """Notes what early stopping begins with."""

    def __init__(self, stop):
        self.stop, self.seen = stop, []

    def on_epoch_begin(self, epoch, logs):
        self.seen.append((self.stop.best, self.stop.best_epoch))


def resume(path):
    trainer, how = fitted()
    looks = Looks(how["callbacks"][0])
    how["callbacks"].append(looks)
    trainer.fit(trainers.X, trainers.T, epochs=5, resume=path, **how)
    stop = how["callbacks"][0]
    return plain_data(
        [
            trainer.net.params,
            dict(trainer.history),
            trainer.epoch,
            stop.best,
            stop.best_epoch,
            trainer.optimizer.t,
            looks.seen,
        ]
    )


WROTE = "Says which version wrote the file; the format decides who can read it."
OF_A_NETWORK = {"xpnet": WROTE}
OF_A_CHECKPOINT = {
    "xpnet": WROTE,
    "machine": "Says on what the bits depend; a warning names what differs on the present machine.",
    "progress.epochs": "The fit that goes on says how many epochs there are to be; a training that "
    "early stopping has ended is over only if they are as many.",
    "progress.stop": "Counts only if the fit that goes on has no more epochs than the first.",
    "settings.lr": "The constant rate that the script began with. The script may also give the "
    "rate that a callback has set since: that of the next step is in `lr`.",
}


def subjects():
    """Return the descriptions of the files."""
    yield Description("network", archive(network_file), load, OF_A_NETWORK)
    yield Description("checkpoint", archive(checkpoint), resume, OF_A_CHECKPOINT)
