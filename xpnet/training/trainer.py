"""Trainer: epochs of steps, with everything that a step needs made before the first one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from math import isfinite
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data.batches import Batches, Piece, batch_sizes, whole
from xpnet.losses import Loss, check_targets, check_weights, find_loss
from xpnet.network import PREDICTION_BATCH, Sequential
from xpnet.optimizers import Optimizer, find_optimizer
from xpnet.parallel.alike import fingerprint, require_equal, require_same, spread
from xpnet.parallel.communicator import ALONE, Communicator
from xpnet.parallel.sharing import shared_backend
from xpnet.parallel.step import Together, together
from xpnet.storage.checkpoint import find_training, save_training, settings_of
from xpnet.support.checks import count, on_host
from xpnet.support.errors import (
    DataError,
    DivergenceError,
    OptionError,
    OutOfMemoryError,
    ShapeError,
    XpnetError,
)
from xpnet.training.callbacks import Callback
from xpnet.training.metrics import Metric, find_metric

CHECK_ROWS = 4096  # rows per piece when data are checked
LAUNCH = 16  # steps in one CUDA graph, where no callback comes between two steps
NO_LOGS: Mapping[str, float] = MappingProxyType({})


class History(dict[str, list[float]]):
    """One list for each number, one entry for each epoch: ``history["loss"][-1]``."""

    def add(self, row: dict[str, float]) -> None:
        """Append the row of one epoch."""
        for name, value in row.items():
            self.setdefault(name, []).append(value)


class Trainer:
    """Trains a network.

    Parameters
    ----------
    net : Sequential
    loss : Loss or str
        Such as `xpnet.SoftmaxCrossEntropy`, or its name ``"softmax_cross_entropy"``.
    optimizer : Optimizer or str
        Such as ``xpnet.Adam(net, lr=1e-3)``, or its name ``"adam"``.
    metrics : sequence of str or function
        ``"accuracy"``, ``"rmse"``, ``"r2"``, or functions of (targets, outputs) such as those of
        scikit-learn; computed on the validation data.
    seed : int
        Of the shuffles: the order of an epoch depends on this and the number of the epoch.
    comm : Communicator, optional
        The processes that train together, see `xpnet.parallel.communicator`: each computes with a
        share of every batch. All of them call the same methods with the same data.

    Attributes
    ----------
    history : History
        ``loss``, the mean over the epoch's steps, and ``val_loss`` and ``val_...`` for each metric.
    epoch, epochs : int
        Epochs done, and how many will be after the present `fit`; a second one goes on from there.
    batch, first_epoch : int
        Steps done in the present epoch, and the epoch in which the present `fit` began.
    resumed : bool
        Whether the present `fit` goes on from a checkpoint.
    stop : bool
        Callbacks set it to end the training after the present epoch.
    launch : int
        On a GPU: how many steps are started at once, if no callback has something to do between
        them.

    Raises
    ------
    OptionError
        If a name is unknown or the optimizer belongs to another network.
    """

    def __init__(
        self,
        net: Sequential,
        loss: Loss | str,
        optimizer: Optimizer | str = "adam",
        *,
        metrics: Sequence[str | Metric] = (),
        seed: int = 0,
        comm: Communicator | None = None,
    ) -> None:
        if not isinstance(net, Sequential):
            raise OptionError(f"Trainer needs a Sequential first; got {net!r}")
        self.net, self.loss = net, find_loss(loss)
        self.optimizer = find_optimizer(optimizer, net)
        names = [metrics] if isinstance(metrics, str) else metrics
        self.metrics = dict(find_metric(metric, self.loss) for metric in names)
        if len(self.metrics) < len(names):
            raise OptionError(f"each metric needs a name of its own; got {names!r}")
        self.seed, self.callbacks = count("seed", seed, least=0), list[Callback]()
        self.history, self.epoch, self.epochs, self.stop = History(), 0, 0, False
        self.batch, self.first_epoch, self.resumed = 0, 0, False
        self.launch, self._at_once = LAUNCH, 1
        self.comm = ALONE if comm is None else comm
        if not isinstance(self.comm, Communicator):
            raise OptionError(f"comm is xpnet.parallel.communicator(); got {comm!r}")
        self._together: Together | None = None  # how processes make a step
        self._stepping = False  # True in the middle of a step
        self._data: Any = None  # the data set on the device, not in a frame of an error
        self.batches: Any = None
        self._run: Any = None  # the captured steps
        self._judge = deepcopy(self.loss)  # has buffers of its own, for evaluation
        self._judge.validate = False

    # ---- the step -----------------------------------------------------------------------------

    def step(self, size: int) -> None:
        """Gather the next ``size`` samples and take one step: everything stays on the device.

        The host's part of it, ``optimizer.prepare(1)``, comes before.
        """
        X, t, *weights = self.batches.gather(size)
        if self._together is not None:
            self._together.begin(size)
        with self.net.xp.off_path():
            self.optimizer.advance()
        self.backpropagate(X, t, *weights)
        self.optimizer.descend()

    def backpropagate(self, X: Array, t: Array, *weights: Array) -> None:
        """Record the loss of a batch, and write its gradient."""
        net, loss, xp = self.net, self.loss, self.net.xp
        if self._together is not None:
            self._together.backpropagate(X, t, *weights)
        else:
            Y = net.forward(X)
            xp.join()
            loss.forward(Y, t, *weights)
            net.backward(loss.backward())
        with xp.off_path():
            xp.record(loss.value, self.losses, self._place_of_loss)

    def _steps(self, size: int, number: int) -> None:
        """Take some steps: what is captured."""
        for _ in range(number):
            self.step(size)

    # ---- the loops ----------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        t: Any,
        *,
        epochs: int = 10,
        batch_size: int | None = 32,
        sample_weight: Any = None,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
    ) -> History:
        """Train for some epochs.

        Parameters
        ----------
        X : array or list, shape (n, *sample shape)
            NumPy or CuPy. uint8 means pixels k that stand for k/255, and stays uint8 in memory.
        t : array or list, shape (n,) or (n, outputs)
            The targets; see the loss.
        epochs : int
            How often each sample is used.
        batch_size : int or None
            Samples per step; None means all of them. A shorter last batch is used, not dropped.
        sample_weight : array or list, shape (n,), optional
            The weight of each sample in the loss.
        validation_data : (X, t), optional
            The loss and the metrics are computed on it after each epoch.
        shuffle : bool
            False: the samples keep their order.
        callbacks : sequence of Callback
            Such as `xpnet.EarlyStopping`.
        resume : str or os.PathLike, optional
            A checkpoint, or a folder of them, of which the latest counts: the `fit` that wrote it
            goes on, to the same end as if it had never stopped. The trainer and the data must be
            made as they were then. A folder without any lets the training begin.

        Returns
        -------
        History
            That of all calls of `fit`, ``self.history``.

        Raises
        ------
        DataError, ShapeError
            If the data do not fit the network or the loss, or contain NaN or infinity.
        OutOfMemoryError
            If the data set or a batch does not fit in memory; it names a batch size that does.
        DivergenceError
            If the loss is no longer finite; it names the step and the layer.
        CheckpointError
            If no checkpoint of the folder can be used, or it is of another training.
        KeyboardInterrupt, SystemExit
            After Ctrl-C and after SIGTERM (with 143), at the end of the present step; the history
            so far is kept. A second signal ends it at once.
        """
        count("epochs", epochs)
        net, comm, saved = self.net, self.comm, None
        if resume is not None:
            saved = comm.bcast(find_training(Path(resume)) if comm.rank == 0 else None)
        if comm.size > 1:
            self._share_with_others()
        self._load(X, t, sample_weight, batch_size, shuffle)
        validation = None if validation_data is None else self._checked(*_pair(validation_data))
        self.callbacks, self.stop, self.batch, self._stepping = [], False, 0, False
        self.resumed, self.first_epoch = saved is not None, self.epoch
        if saved is not None:
            saved.restore(self)
            self.stop &= self.epochs == self.first_epoch + epochs  # else there is more to do
        self.epochs = self.first_epoch + epochs
        if comm.size > 1:
            self._begin_alike(X, t, sample_weight, validation)
        validate, self.loss.validate = self.loss.validate, False  # all have been looked at
        try:
            for callback in _in_order(callbacks):
                if callback.once and comm.rank:
                    continue
                callback.trainer = self
                callback.on_train_begin(NO_LOGS)
                self.callbacks.append(callback)  # only what has begun is called, and ended
            if saved is not None:
                saved.restore_callbacks(self)
            with net.in_use, net.xp.here(), interruptible() as interrupted, comm.watched():
                while self.epoch < self.epochs and not self.stop:
                    self._run_epoch(validation, interrupted)
                    self._leave_if(interrupted)
        finally:
            self.loss.validate = validate
            self._call("on_train_end", logs={k: v[-1] for k, v in self.history.items()})
        return self.history

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint: everything that ``fit(..., resume=path)`` needs to go on from here.

        `xpnet.load` reads the network alone from it. `xpnet.Checkpoint` calls this regularly. Of
        several processes rank 0 writes it, and any number of them can go on from it.

        Parameters
        ----------
        path : str or os.PathLike
            An ``.npz``; it appears whole or not at all.

        Raises
        ------
        DivergenceError
            If a parameter is not finite: a good checkpoint must not be overwritten by it.
        XpnetError
            Before the first `fit`, and if an exception has broken off a step.
        OSError
            If the file cannot be written; an old one stays as it was.
        """
        if self.comm.rank:
            return
        if self.batches is None or self._stepping:
            raise XpnetError(
                "a training can be saved between two steps, not before the first fit or where a "
                "step was broken off; net.save(path) saves the network"
            )
        values = self.net.state_dict()
        self._require_finite(values)
        save_training(Path(path), self, values)

    def evaluate(self, X: Any, t: Any) -> dict[str, float]:
        """Return the loss and the metrics on some data, with the network at rest.

        Raises
        ------
        DataError, ShapeError
            As `fit`.
        """
        return self._evaluate(*self._checked(X, t))

    @property
    def capture_seconds(self) -> float:
        """What compiling kernels and capturing steps took in the last `fit`, 0 on NumPy."""
        return float(getattr(self._run, "seconds", 0.0))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch of the present `fit`."""
        return len(self._sizes)

    def _run_epoch(self, validation: tuple[Any, Any] | None, interrupted: list[int]) -> None:
        """Run the steps of one epoch, then the validation, then write the row of the history."""
        self._call("on_epoch_begin", self.epoch)
        self.net.train()
        self.batches.start(self.epoch, self.batch)
        self.net.xp.copyto(self._place_of_loss, self.batch)
        self._at_once = self._steps_at_once()
        with np.errstate(all="ignore"):  # a loss that is not finite is reported below, by name
            while self.batch < len(self._sizes):
                self._launch()
                self._leave_if(interrupted)
            self._sum_squares()
        if self.epoch + 1 < self.epochs:
            self.batches.prepare(self.epoch + 1)
        row = {"loss": self._mean_loss()}
        if validation is not None:
            row |= {f"val_{name}": v for name, v in self._evaluate(*validation).items()}
            if not isfinite(row["val_loss"]):
                raise self._diverged("validation loss", row["val_loss"], len(self._sizes) - 1)
        self.history.add(row)
        self.epoch, self.batch = self.epoch + 1, 0
        self._call("on_epoch_end", self.epoch - 1, logs=row)
        self.stop = bool(self.comm.greatest(self.stop))

    def _leave_if(self, interrupted: list[int]) -> None:
        """End the training if a signal has come: what ends it knows the number of the signal."""
        number = self.comm.greatest(interrupted[0] if interrupted else 0)
        if number:
            for callback in self.callbacks:
                callback.on_interrupt()
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(128 + number)

    def _steps_at_once(self) -> int:
        """Return how many steps are started at once: on all processes so many."""
        one_by_one = self._between_steps or not self.net.xp.captures
        return -self.comm.greatest(-1 if one_by_one else -self.launch)

    def _launch(self) -> None:
        """Take the next step, or some steps at once."""
        xp, i, size = self.net.xp, self.batch, self._sizes[self.batch]
        full = len(self._sizes) - (self._sizes[-1] != self._sizes[0])  # steps with a whole batch
        number = self._at_once if i + self._at_once <= full else 1
        self._call("on_train_batch_begin", i)
        if self._run is None:
            self._run = xp.capture(self._steps, self._settings)
        self._stepping = True
        self.optimizer.prepare(number)
        self._run(size, number)
        self.batch, self._stepping = i + number, False
        if xp.on_host and not isfinite(self.loss.value):
            raise self._diverged("loss", float(self.loss.value), i)
        self._call("on_train_batch_end", i + number - 1)

    def _settings(self) -> tuple[Any, ...]:
        """Return every Python number, word and switch that a step looks at, and of which arrays."""
        parts = [self.net, self.optimizer, self.loss, *(layer for _, layer in self.net.walk(""))]
        return tuple(
            (name, value)
            for part in parts
            for name, value in vars(part).items()
            if isinstance(value, bool | int | float | str) and name[0] != "_" and name != "t"
        )

    @property
    def _between_steps(self) -> bool:
        """Whether a callback has something to do before or after each step."""
        hooks = ("on_train_batch_begin", "on_train_batch_end")
        return any(
            getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)
            for callback in self.callbacks
            if callback.every_step
            for hook in hooks
        )

    def _mean_loss(self) -> float:
        """Return the mean loss of the epoch's samples: the one time that the device is read."""
        read = self.net.xp.asnumpy(self.losses)
        if self.comm.size > 1:
            require_equal(self.comm, "the losses or parameters", read)
        losses, squares = read[:-1], read[-1]
        mean = float(losses.astype(np.float64) @ self._shares)
        if not isfinite(mean):
            i = int(np.argmin(np.isfinite(losses)))
            raise self._diverged("loss", float(losses[i]), i)
        if not isfinite(squares):
            self._require_finite(self.net.state_dict())
        return mean

    def _sum_squares(self) -> None:
        """Write Σ p² of all parameters behind the losses: no loss shows a NaN that a ReLU hides."""
        xp, p, work = self.net.xp, self.net.params, self.optimizer.work
        xp.multiply(p, p, out=work)
        xp.sum(work, out=self.losses[-1:].reshape(()))

    def _require_finite(self, values: Mapping[str, np.ndarray[Any, Any]]) -> None:
        """Raise DivergenceError if a parameter, or what a layer keeps beside it, is not finite."""
        for name, a in values.items():
            if a.dtype.kind == "f" and not np.isfinite(a).all():
                place = np.unravel_index(int(np.argmin(np.isfinite(a))), a.shape)
                layer = dict(self.net.walk(""))[name.rpartition(".")[0]]
                where = f"{name}[{', '.join(map(str, place))}] of layer {layer!r}"
                raise DivergenceError(
                    f"{where} is {a[place]} after step {self.batch or len(self._sizes)} of epoch "
                    f"{self.epoch + (self.batch > 0)}; lower the learning rate "
                    f"(now {self.optimizer.lr:g}) or set clip_norm"
                )

    def _diverged(self, what: str, value: float, i: int) -> DivergenceError:
        """Return the error for a loss that is not finite: step, layer and what may help."""
        xp, found = self.net.xp, ""
        together = self._together
        n = len(self.loss.Y) if together is None else together.part.gathered[1]  # rows of the batch
        for path, layer in self.net.walk(""):
            Y = getattr(layer, "Y", None)
            if Y is not None and not np.isfinite(xp.asnumpy(Y[:n])).all():
                found = f"the first output that is not finite is that of layer {path}, {layer!r}"
                break
        finite = "every layer's output is still finite, the loss itself overflows"
        where = next(filter(None, self.comm.allgather(found)), finite)
        return DivergenceError(
            f"the {what} became {value} in step {i + 1} of epoch {self.epoch + 1}: {where}; "
            f"lower the learning rate (now {self.optimizer.lr:g}) or set clip_norm"
        )

    def _evaluate(self, X: Array, t: np.ndarray[Any, Any]) -> dict[str, float]:
        """Return the loss and the metrics of checked data."""
        xp = self.net.xp
        self._judge.use(xp)
        with np.errstate(all="ignore"):
            Y = self._outputs(X)
            loss = float(self._judge.forward(xp.asarray(Y), xp.asarray(t)))
            Y = Y if isinstance(Y, np.ndarray) else xp.asnumpy(Y)
            return {"loss": loss} | {name: float(f(t, Y)) for name, f in self.metrics.items()}

    def _outputs(self, X: Array) -> Array:
        """Return the outputs for some data, of which each process computes a share.

        The shares consist of the pieces that a single process would take, so the bits are the same.
        """
        net, comm = self.net, self.comm
        if comm.size == 1:
            return net.predict(X)
        share = comm.share(-(-len(X) // PREDICTION_BATCH))
        first, end = (PREDICTION_BATCH * k for k in (share.first, share.first + share.rows))
        out = np.empty((len(X), *(net.output_shape(X.shape[1:]) or ())), net.dtype)
        own = net.xp.asnumpy(net.predict(X[first:end])) if share.rows else out[:0]
        return comm.put_together(own, first, out, np)

    def _share_with_others(self) -> None:
        """Move the network to a backend that knows of the other processes."""
        xp = shared_backend(self.net.xp, self.comm)
        if xp is not self.net.xp:
            self.net.to(xp)

    def _begin_alike(self, X: Any, t: Any, weights: Any, validation: Any) -> None:
        """Check that all processes are to do the same, and give them the values of rank 0."""
        net, optimizer = self.net, self.optimizer
        settings = {
            "the network": [repr(net), net.dtype.name, net.xp.reproducible],
            **{f"the {name}": value for name, value in settings_of(self).items()},
            "the learning rate": optimizer.lr,
            "the number of steps done": [optimizer.t, self.epoch, self.batch, self.epochs],
            "the first sample": fingerprint(on_host(X[:1], "X")),
            "the fingerprint of the targets": fingerprint(on_host(t, "t")),
            "the fingerprint of sample_weight": (
                None if weights is None else fingerprint(on_host(weights, "sample_weight"))
            ),
            "the fingerprint of the validation targets": (
                None if validation is None else fingerprint(validation[1])
            ),
        }
        require_same(self.comm, settings)
        states = [a for _, layer in net.walk("") for a in layer.state.values()]
        spread(self.comm, net.xp, [net.params, *states, *optimizer.state_vectors().values()])

    def _call(self, name: str, *args: int, logs: Mapping[str, float] = NO_LOGS) -> None:
        for callback in self.callbacks:
            getattr(callback, name)(*args, logs)

    # ---- the data -----------------------------------------------------------------------------

    def _load(self, X: Any, t: Any, weights: Any, batch_size: int | None, shuffle: bool) -> None:
        """Check the data set, put it on the device, and make everything that a step writes."""
        net, xp = self.net, self.net.xp
        self.loss.use(xp)
        X, t = self._checked(X, t)
        targets = np.dtype(np.int64) if t.dtype.kind in "iu" else net.dtype
        columns, dtypes = [X, t], [net.input_dtype(X.dtype), targets]
        if weights is not None:
            w = on_host(weights, "sample_weight")
            check_weights(w, len(X))
            w = w.reshape(-1).astype(np.float64)
            used = w > 0  # a batch must not consist of weights 0
            w = np.ldexp(w, -np.frexp(w.max())[1])  # by a power of 2 to at most 1: no overflow
            columns = [X, t, w]
            if not used.all():
                columns = [on_host(X, "X")[used], t[used], w[used]]
            dtypes.append(net.dtype)
        n = len(columns[0])
        size = n if batch_size is None else min(count("batch_size", batch_size), n)
        stored = [X.dtype if X.dtype == np.uint8 else net.dtype, *dtypes[1:]]
        self._run = self.batches = self._data = None  # two data sets may be too many
        self._data = self._place(columns, stored)

        def make(size: int) -> None:
            self.batches = self._together = None
            if self.comm.size > 1:
                sizes = batch_sizes(n, size)
                self._together = together(net, self.loss, self.comm, sizes, X.shape[1:])
            pieces = [self._piece, *[self._targets] * (len(dtypes) - 1)]
            self.batches = Batches(xp, self._data, dtypes, size, shuffle, self.seed, pieces)
            self._reserve(size, X.shape[1:])

        self._make_or_say_what_fits(size, make)
        self._sizes = self.batches.sizes()
        self._shares = np.array(self._sizes) / n
        self.losses = xp.zeros(len(self._sizes) + 1, net.dtype)
        self._place_of_loss = xp.zeros(1, np.int64)

    def _place(self, columns: list[Any], dtypes: list[Any]) -> list[Array]:
        """Return the data set on the device."""
        xp = self.net.xp
        # A target too large for the dtype shows in the loss.
        with suppress(MemoryError), np.errstate(over="ignore"):
            return [self._put(c, d) for c, d in zip(columns, dtypes, strict=True)]
        needed = sum(c.size * np.dtype(d).itemsize for c, d in zip(columns, dtypes, strict=True))
        raise OutOfMemoryError(
            f"the data set needs {needed / 1e6:,.0f} MB, more than the {xp.name} backend has "
            "left; train with fewer samples" + ("" if xp.on_host else ", or with backend='numpy'")
        )

    def _put(self, column: Any, dtype: Any) -> Array:
        """Return a column of the data set on the device."""
        return self.net.xp.asarray(column, dtype)

    def _reserve(self, size: int, sample_shape: tuple[int, ...]) -> None:
        """Make the buffers of the network and of the loss for batches of this size."""
        net, rows = self.net, self._piece(size)[1]
        if net.capacity < rows or net.sample_shape != sample_shape:
            with net.in_use:
                net.build(rows, sample_shape, net.input_gradient)
        (width,) = net.output_shape(sample_shape) or ()
        self.loss.reserve(self._targets(size)[1], width, net.dtype)

    @property
    def _piece(self) -> Piece:
        """Which samples of a batch this process computes."""
        return whole if self._together is None else self._together.piece

    @property
    def _targets(self) -> Piece:
        """... and of which it computes the loss."""
        return whole if self._together is None else self._together.targets

    def _make_or_say_what_fits(self, size: int, make: Callable[[int], None]) -> None:
        """Make everything for a batch size; if memory does not suffice, find one that fits.

        The error is raised where no other one is being handled: its frames would keep the memory.
        """
        with suppress(MemoryError):
            return make(size)
        fits = 0
        with suppress(MemoryError):
            for k in range((size - 1).bit_length()):
                make(2**k)
                fits = 2**k
        if fits:
            make(1)  # lets go of what was made for more
            make(fits)
        way_out = f"batch_size={fits} does" if fits else "not even one sample does"
        raise OutOfMemoryError(
            f"a batch of {size} samples does not fit in memory beside the network and the data "
            f"set; {way_out}"
        )

    def _checked(self, X: Any, t: Any) -> tuple[Array, np.ndarray[Any, Any]]:
        """Return inputs and targets, after checking them against network and loss.

        Inputs that are on the device already stay there.
        """
        on_device = not isinstance(X, np.ndarray) and self.net.xp.owns(X)
        X = X if on_device and X.dtype.kind in "fiub" else on_host(X, "X")
        t = on_host(t, f"{self.loss!r}: t")
        with self.net.xp.here():
            check_inputs(X, self.net.dtype)
        shape = self.net.output_shape(X.shape[1:])
        if shape is None or len(shape) != 1:
            raise ShapeError(
                f"the network gives outputs of shape {shape}, but {self.loss!r} takes vectors; "
                "end the network with Flatten() or Linear(...)"
            )
        check_targets(self.loss, t, (len(X), shape[0]))
        return X, t


def check_inputs(X: Array, dtype: np.dtype[Any]) -> None:
    """Check the inputs of a training in a network of this dtype.

    Raises
    ------
    DataError
        If there is no sample, or a value is NaN, infinite or too large; the first such is named.
    ShapeError
        If X has no axis of features.
    """
    if X.ndim < 2:
        raise ShapeError(
            f"X must have the shape (samples, features); got {X.shape}; "
            "for one feature use X.reshape(-1, 1), for one sample X.reshape(1, -1)"
        )
    if X.size == 0:
        raise DataError(f"X has no values: its shape is {X.shape}")
    if X.dtype.kind == "f":
        largest = min(float(np.finfo(X.dtype).max), float(np.finfo(dtype).max))
        for start in range(0, len(X), CHECK_ROWS):
            finite = np.abs(X[start : start + CHECK_ROWS]) <= largest  # False for NaN
            if not finite.all():
                place = np.unravel_index(int(np.argmin(finite)), finite.shape)
                value = X[start : start + CHECK_ROWS][place]
                row, *rest = (int(k) for k in place)
                where = [start + row, *rest]
                raise DataError(f"X must be finite (to {largest:.2g}); X{where} is {value}")


def _in_order(callbacks: Sequence[Callback]) -> list[Callback]:
    """Return the callbacks in the order in which they are called."""
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise OptionError(f"no callback: {callback!r}; write for example EarlyStopping()")
    return sorted(callbacks, key=lambda callback: callback.after_others)


def _pair(data: Any) -> tuple[Any, Any]:
    """Return (X, t), after checking that it is a pair."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise OptionError(f"validation_data must be a pair (X, t); got {type(data).__name__}")
    return data[0], data[1]


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Give a list that is empty until Ctrl-C or SIGTERM; a second one acts at once, as usual.

    A handler of SIGTERM that somebody has set stays in charge.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handled = []
    if threading.current_thread() is threading.main_thread():
        if before[signal.SIGINT] not in (signal.SIG_IGN, None):
            handled.append(signal.SIGINT)
        if before[signal.SIGTERM] == signal.SIG_DFL:
            handled.append(signal.SIGTERM)

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number in handled:
            signal.signal(number, before[number])

    for number in handled:
        signal.signal(number, remember)
    try:
        yield received
    finally:
        restore()
