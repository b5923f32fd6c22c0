"""Recorder: the parameters of a network at some moments of its training, for pictures of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array
from xpnet.network import Sequential
from xpnet.support.attributes import Checked
from xpnet.support.checks import count
from xpnet.support.errors import DataError
from xpnet.support.files import append, read_bytes, write_atomically
from xpnet.training.callbacks import Callback
from xpnet.training.training import Training

LIMIT = 64_000_000  # bytes that all frames together may need
DENSITY = 1.5  # of the first frames: the k-th of n is taken after (k/n)^1.5 of the training


class Recorder(Callback):
    """Keeps the parameters at some moments of a training, which are closer at its beginning.

    All that a picture shows is computed from them later, so that the training hardly waits. The
    moment before the first step and the one after the last are always among them.

    Parameters
    ----------
    frames : int
        How many moments; fewer where they would need more than 64 MB, and where there are fewer
        steps.

    Attributes
    ----------
    epochs : list of float
        How far the training was, in epochs; 0 is before the first step.
    values : list of ndarray, shape (n,)
        All parameters at that moment, and behind them what layers keep beside them.

    Raises
    ------
    OptionError
        If ``frames`` is not a whole number of at least 2.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.data import xor_gate
    >>> net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    >>> recorder, trainer = xpnet.Recorder(frames=5), xpnet.Trainer(net, "bce_logits")
    >>> _ = trainer.fit(*xor_gate(), epochs=64, callbacks=[recorder])
    >>> recorder.epochs
    [0.0, 8.0, 23.0, 42.0, 64.0]
    """

    frames: Any = Checked(partial(count, least=2))
    every_step = False
    once = True

    def __init__(self, frames: int = 100) -> None:
        self.frames = frames
        self.epochs: list[float] = []
        self.values: list[NDArray[Any]] = []
        self._copy: Sequential | None = None
        self._of: Training | None = None

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Choose the moments, and record the first; what another trainer did is forgotten."""
        self._copy = None
        if self._of is not self.trainer:
            self._of, self.epochs, self.values = self.trainer, [], []
        trainer, size = self.trainer, _values(self.trainer.net).nbytes
        most = max(2, min(self.frames, LIMIT // max(1, size)))
        part, first = np.linspace(0, 1, most) ** DENSITY, trainer.first_epoch
        moments = first + part * (trainer.epochs - first)
        self._now = trainer.epoch + trainer.batch / trainer.steps_per_epoch
        self._due = iter(moments[moments > self._now].tolist())
        self._next = next(self._due, float("inf"))
        if trainer.resumed:
            self.cut(moments[moments <= self._now][-1])
        if not (trainer.resumed and self.epochs):
            self._record()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Record if the next moment has come."""
        self._now = self.trainer.epoch + (batch + 1) / self.trainer.steps_per_epoch
        if self._now >= self._next:
            self._record()

    def on_train_end(self, logs: Mapping[str, float]) -> None:
        """Record the end, wherever it is."""
        self._record()

    def keep(self, epoch: float, values: NDArray[Any]) -> None:
        """Keep what one moment was like; a subclass may put it elsewhere."""
        self.values.append(values)

    def cut(self, moment: float) -> None:
        """Drop later records: a premature last one, and steps that will be repeated."""
        first = bisect_left(self.epochs, moment)  # the record of the moment, by the step after it
        keep = min(first + 1, bisect_right(self.epochs, self._now))
        del self.epochs[keep:], self.values[keep:]

    def network(self, k: int) -> Sequential:
        """Return the network as it was at moment k: a copy, which the next call overwrites."""
        if self._copy is None:
            self._copy = self.trainer.net.copy()
        _restore(self._copy, self.values[k])
        return self._copy

    def networks(self) -> Iterator[Sequential]:
        """Give the network as it was at each moment: always the same object."""
        return map(self.network, range(len(self.values)))

    def add(self, epoch: float) -> None:
        """Record the network as it is now, if its numbers are finite."""
        values = _values(self.trainer.net)
        if np.isfinite(values).all():
            self.epochs.append(epoch)
            self.keep(epoch, values)

    def _record(self) -> None:
        while self._next <= self._now:
            self._next = next(self._due, float("inf"))
        if not self.epochs or self._now > self.epochs[-1]:  # after Ctrl-C an epoch begins again
            self.add(self._now)


class FrameFile(Recorder):
    """A recorder that writes each moment to a file at once, so that a crash loses none."""

    def __init__(self, path: Path, frames: int = 100) -> None:
        super().__init__(frames)
        self.path = path

    def keep(self, epoch: float, values: NDArray[Any]) -> None:
        """Append the moment and the values, one behind the other."""
        append(self.path, np.array((epoch, values), _layout(values)).tobytes())

    def cut(self, moment: float) -> None:
        """Write the file anew, without what is dropped; a training before has begun it."""
        if self.path.exists():
            layout = _layout(_values(self.trainer.net))
            data, frames = _frames_in(self.path, layout)
            self.epochs = frames["epoch"].tolist()
            super().cut(moment)
            write_atomically(self.path, data[: len(self.epochs) * layout.itemsize])


def read_frames(path: Path, trainer: Training) -> Recorder:
    """Return what `FrameFile` has written in a training of the same network.

    A last frame that is cut off is left out.

    Raises
    ------
    DataError
        If the numbers are none of such a file.
    OSError
        If the file cannot be read, or is a link, or is several times as large as `LIMIT` allows.
    """
    recorder = Recorder()
    recorder.trainer = trainer
    layout = _layout(_values(trainer.net))
    _, frames = _frames_in(path, layout)
    times, values = frames["epoch"], frames["values"]
    if not (np.isfinite(times).all() and (np.diff(times) > 0).all() and np.isfinite(values).all()):
        raise DataError(f"{path} is damaged, or belongs to another network")
    recorder.epochs, recorder.values = times.tolist(), list(values)
    return recorder


def _frames_in(path: Path, layout: np.dtype[Any]) -> tuple[bytes, NDArray[Any]]:
    """Return the bytes of a file, and the whole frames in them."""
    # Each time that a training is made longer, moments are added.
    data = read_bytes(path, max(8 * layout.itemsize, 8 * LIMIT), follow=False)
    return data, np.frombuffer(data, layout, count=len(data) // layout.itemsize)


def _layout(values: NDArray[Any]) -> np.dtype[Any]:
    """Return the type of a frame: always little-endian, so that files travel."""
    return np.dtype([("epoch", "<f8"), ("values", values.dtype.newbyteorder("<"), values.shape)])


def _values(net: Sequential) -> NDArray[Any]:
    """Return all parameters, and the means that layers keep, as one flat vector on the host."""
    xp = net.xp
    return np.concatenate([xp.asnumpy(a).ravel() for a in (net.params, *_means(net))])


def _restore(net: Sequential, values: NDArray[Any]) -> None:
    """Give a network the values back."""
    start = 0
    for a in (net.params, *_means(net)):
        net.xp.copyto(a, net.xp.asarray(values[start : start + a.size].reshape(a.shape), a.dtype))
        start += a.size


def _means(net: Sequential) -> list[Array]:
    """Return the state of all layers that a prediction needs: that of floating type."""
    states = [state for _, layer in net.walk("") for state in layer.state.values()]
    return [state for state in states if state.dtype.kind == "f"]
