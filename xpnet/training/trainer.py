"""Trainer: epochs of steps, with everything that a step needs made before the first one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from math import isfinite
from types import MappingProxyType
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.optimizers import Optimizer
from xpnet.optimizers.settings import numbers_of
from xpnet.parallel.batch import shared_backend
from xpnet.parallel.communicator import Communicator
from xpnet.storage.training_file import find_training
from xpnet.storage.training_state import TrainingState
from xpnet.support.attributes import Checked, Fixed
from xpnet.support.checks import count, path_of, yes_or_no
from xpnet.support.errors import OptionError
from xpnet.support.signals import interruptible, leave
from xpnet.support.turns import one_at_a_time
from xpnet.training.arguments import checked_callbacks, checked_epochs
from xpnet.training.callbacks import Callback, acts_between_steps
from xpnet.training.data import Columns, DataReader
from xpnet.training.differences import checked_override
from xpnet.training.epoch_loss import mean_loss, sum_squares
from xpnet.training.evaluation import evaluate
from xpnet.training.failures import divergence
from xpnet.training.fitting import logged_names, looked_at
from xpnet.training.metrics import Metric
from xpnet.training.metrics.metric import Function
from xpnet.training.preparation import check_sizes, make_step, make_what_fits
from xpnet.training.processes import begin_fit
from xpnet.training.reassigned import (
    LossOf,
    MetricsOf,
    OptimizerOf,
    ProcessesOf,
    require_known_names,
    seed_of,
    stop_of,
)
from xpnet.training.saving import Saving
from xpnet.training.settings import Settings
from xpnet.training.state import all_or_nothing, restore_callbacks
from xpnet.training.step import Launcher
from xpnet.training.training import History, Penalty

LAUNCH = 16  # steps in one CUDA graph, where no callback comes between two steps
NO_LOGS: Mapping[str, float] = MappingProxyType({})


class Trainer(Saving):
    """Trains a network.

    Parameters
    ----------
    net : Sequential
    loss : Loss or str
        Such as `xpnet.SoftmaxCrossEntropy`, or its name ``"softmax_cross_entropy"``.
    optimizer : Optimizer or str
        Such as ``xpnet.Adam(net, lr=1e-3)``, or its name ``"adam"``.
    metrics : sequence of str, function or Metric
        ``"accuracy"``, ``"rmse"``, ``"r2"`` ..., see `xpnet.metrics`, or functions of (targets,
        outputs) such as those of scikit-learn; computed on the validation data and by `evaluate`.
    seed : int
        Of the shuffles: the order of an epoch depends on this and the number of the epoch.
    comm : Communicator, optional
        The processes that train together, see `xpnet.parallel.communicator`: each computes with a
        share of every batch. All of them call the same methods with the same data.

    Attributes
    ----------
    history : History
        ``loss``, the mean over the epoch's steps, and ``val_loss`` and ``val_...`` for each metric.
    logged : tuple of str
        The names of the numbers that each epoch of the present `fit` writes into the history.
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

    net: Any = Fixed()
    loss: Any = LossOf()
    optimizer: Any = OptimizerOf()
    metrics: Any = MetricsOf()
    comm: Any = ProcessesOf()
    seed: Any = Checked(seed_of)
    stop: Any = Checked(stop_of)
    launch: Any = Checked(count)

    def __init__(
        self,
        net: Sequential,
        loss: Loss | str,
        optimizer: Optimizer | str = "adam",
        *,
        metrics: Sequence[str | Metric | Function] = (),
        seed: int = 0,
        comm: Communicator | None = None,
    ) -> None:
        if not isinstance(net, Sequential):
            raise OptionError(f"Trainer needs a Sequential first; got {net!r}")
        self.net, self.loss, self.optimizer = net, loss, optimizer
        self.metrics, self.logged = metrics, tuple[str, ...]()
        self.seed, self.callbacks = count("seed", seed, least=0), list[Callback]()
        self.history, self.epoch, self.epochs, self.stop = History(), 0, 0, False
        self.batch, self.first_epoch, self.resumed = 0, 0, False
        self.launch, self._at_once = LAUNCH, 1
        self.comm = comm
        self._reader = DataReader(net, self.loss)
        self._penalty: Penalty | None = None  # a subclass may add one
        self._data: Columns | None = None  # on the device; not in the frame of an error
        self._steps = None  # made by `fit`
        self._stepping = False  # True in the middle of a step

    # ---- the step -----------------------------------------------------------------------------

    def step(self, size: int) -> None:
        """Gather the next ``size`` samples and take one step: everything stays on the device.

        The host's part of it, ``optimizer.prepare(1)``, comes before. `fit` calls this method where
        it or `backpropagate` has been replaced, such as in a subclass; otherwise `fit` takes the
        steps of `xpnet.training.step`, which compute the same.
        """
        step = self._ready.step
        step.gather(size)
        self.backpropagate(*step.samples)
        self.optimizer.descend()

    def backpropagate(self, X: Array, t: Array, *weights: Array) -> None:
        """Record the loss of a batch, and write its gradient."""
        step = self._ready.step
        step.samples = [X, t, *weights]
        step.forward()
        step.backward()

    # ---- fit ----------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        t: Any,
        *,
        epochs: int = 10,
        batch_size: int | None = 32,
        sample_weight: Any = None,
        validation_data: tuple[Any, ...] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        resume: str | os.PathLike[str] | None = None,
        override: str | Sequence[str] = (),
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
            The weight of each sample: the loss of a batch is Σ wᵢ ℓᵢ / (n w̄), where w̄ is the mean
            weight of the data set, and that of an epoch is Σ wᵢ ℓᵢ / Σ wᵢ.
        validation_data : (X, t) or (X, t, sample_weight), optional
            The loss and the metrics are computed on it after each epoch.
        shuffle : bool
            False: the samples keep their order.
        callbacks : sequence of Callback
            Such as `xpnet.EarlyStopping`.
        resume : str or os.PathLike, optional
            A checkpoint, or a folder of them, of which the latest counts: the `fit` that wrote it
            goes on, to the same end as if it had never stopped. The trainer and the data must be
            made as they were then; ``epochs`` may be more. A folder without any lets the training
            begin.
        override : str or sequence of str
            Settings that may differ from those of the checkpoint, such as ``("lr", "data")``: those
            of this script hold. The error about what differs names them.

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
            If no checkpoint of the folder can be used, or if settings or data differ: the error has
            a line for each.
        KeyboardInterrupt, SystemExit
            After Ctrl-C and after SIGTERM (with 143), at the end of the present step; the history
            so far is kept. A second signal ends it at once.
        """
        epochs, may_differ = (
            checked_epochs(epochs),
            checked_override(override, numbers_of(self.optimizer)),
        )
        callbacks, shuffle = checked_callbacks(callbacks), yes_or_no("shuffle", shuffle)
        require_known_names(self, callbacks)
        net, comm, saved = self.net, self.comm, None
        if resume is not None:
            place = path_of("resume", resume)
            saved = comm.from_rank_0(lambda: find_training(place))
        xp = shared_backend(net.xp, comm)
        if xp is not net.xp:
            net.to(xp)
        with one_at_a_time(trainer=self, network=net):
            self._load(X, t, sample_weight, batch_size, shuffle)
            validation = self._reader.check_validation(validation_data)
            self.logged = logged_names(self, X, validation)
            batches = self._ready.step.batches
            self._settings = Settings(self, batches, self._data, validation, callbacks)
            self._begin(callbacks, epochs, saved, may_differ)
            try:
                told, watched = looked_at(self.loss, self._reader.mean_weight), comm.watched()
                with net.in_use, net.xp.here(), interruptible() as interrupted, watched, told:
                    while self.epoch < self.epochs and not self.stop:
                        self._run_epoch(validation, interrupted)
                        self._leave_if(interrupted)
            finally:
                self._end()
        return self.history

    def _load(self, X: Any, t: Any, weights: Any, batch_size: int | None, shuffle: bool) -> None:
        """Check the data set, put it on the device, and make everything that a step writes."""
        self.loss.use(self.net.xp)
        columns = self._reader.columns(X, t, weights)
        n = columns.samples
        size = n if batch_size is None else min(count("batch_size", batch_size), n)
        check_sizes(self.net, n, size)
        self._steps = self._data = None  # two data sets may be too many
        self._data = self._reader.place(columns)
        make_what_fits(size, lambda size: self._make_steps(size, shuffle))

    def _make_steps(self, size: int, shuffle: bool) -> None:
        """Make everything that steps with batches of this size write."""
        assert self._data is not None
        self._steps = None
        what = self.net, self.loss, self.optimizer, self._data, size
        options: dict[str, Any] = {"shuffle": shuffle, "seed": self.seed, "comm": self.comm}
        step = make_step(*what, **options, penalty=self._penalty)
        if _has_own_step(self):
            step.take = self._take  # type: ignore[method-assign]
        self._steps = Launcher(step)

    def _take(self, size: int, number: int = 1) -> None:
        """Take some steps by `step` and `backpropagate`, as somebody has changed them."""
        for _ in range(number):
            self.step(size)

    def _begin(
        self,
        callbacks: Sequence[Callback],
        epochs: int,
        saved: TrainingState | None,
        override: Iterable[str],
    ) -> None:
        """Go to where this `fit` begins; if that fails, everything is as it was."""
        self.callbacks = []
        with nullcontext() if saved is None else all_or_nothing(self):
            try:
                self._set_progress(epochs, saved, override)
                begin_fit(self, self._settings)
                self._begin_callbacks(callbacks, saved)
            except BaseException:
                self._end()
                raise

    def _set_progress(
        self, epochs: int, saved: TrainingState | None, override: Iterable[str]
    ) -> None:
        """Set how far the training is, and how far this `fit` is to come."""
        self.stop, self.batch, self._stepping = False, 0, False
        self.resumed, self.first_epoch = saved is not None, self.epoch
        if saved is not None:
            self.restore(saved, override, epochs)
            self.stop &= self.epochs == self.first_epoch + epochs  # else there is more to do
        self.epochs = self.first_epoch + epochs

    def _begin_callbacks(self, callbacks: Sequence[Callback], saved: TrainingState | None) -> None:
        """Begin the callbacks; those of a checkpoint remember what they did."""
        for callback in callbacks:
            if callback.once and self.comm.rank:
                continue
            callback.trainer = self
            callback.on_train_begin(NO_LOGS)
            self.callbacks.append(callback)  # only what has begun is called, and ended
        if saved is not None:
            for words in restore_callbacks(saved, self.callbacks):
                self.comm.warn("%s: %s", saved.source, words)

    # ---- the epochs ---------------------------------------------------------------------------

    def _run_epoch(self, validation: Sequence[Any] | None, interrupted: list[int]) -> None:
        """Run the steps of one epoch, then the validation, then write the row of the history."""
        self._call("on_epoch_begin", self.epoch)
        steps = self._ready
        self.net.train()
        steps.step.start(self.epoch, self.batch)
        self._at_once = self._steps_at_once()
        with np.errstate(all="ignore"):  # a loss that is not finite is reported below, by name
            while self.batch < len(steps.sizes):
                self._launch()
                self._leave_if(interrupted)
            sum_squares(self, steps.step)
        if self.epoch + 1 < self.epochs:
            steps.step.batches.prepare(self.epoch + 1)
        row = {"loss": mean_loss(self, steps.step)}
        if validation is not None:
            row |= {f"val_{name}": v for name, v in evaluate(self, *validation).items()}
            if not isfinite(row["val_loss"]):
                last = len(steps.sizes) - 1
                raise divergence(self, steps.step, "validation loss", row["val_loss"], last)
        self.history.add(row)
        self.epoch, self.batch = self.epoch + 1, 0
        self._call("on_epoch_end", self.epoch - 1, logs=row)
        self.stop = bool(self.comm.greatest(self.stop))

    def _launch(self) -> None:
        """Take the next step, or some steps at once."""
        steps, i = self._steps, self.batch
        assert steps is not None
        for callback in self.callbacks:
            callback.on_train_batch_begin(i, NO_LOGS)
        self._stepping = True
        number = steps.launch(i, self._at_once)
        self.batch, self._stepping = i + number, False
        if self.net.xp.on_host and not isfinite(self.loss.value):
            raise divergence(self, steps.step, "loss", float(self.loss.value), i)
        for callback in self.callbacks:
            callback.on_train_batch_end(self.batch - 1, NO_LOGS)

    def _leave_if(self, interrupted: list[int]) -> None:
        """End the training if a signal has come: what ends it knows the number of the signal."""
        number = self.comm.greatest(interrupted[0] if interrupted else 0)
        if number:
            for callback in self.callbacks:
                callback.on_interrupt()
            leave(number)

    def _end(self) -> None:
        """End all callbacks, also if one of them fails."""
        logs = {k: v[-1] for k, v in self.history.items() if v and v[-1] == v[-1]}
        with ExitStack() as stack:
            for callback in reversed(self.callbacks):
                stack.callback(callback.on_train_end, logs)

    def _steps_at_once(self) -> int:
        """Return the number of steps per launch: the smallest that any process allows."""
        one_by_one = self._between_steps or not self.net.xp.captures
        return int(-self.comm.greatest(-1 if one_by_one else -self.launch))

    @property
    def _between_steps(self) -> bool:
        """Whether a callback has something to do before or after each step."""
        return any(acts_between_steps(callback) for callback in self.callbacks)

    def _call(self, name: str, *args: int, logs: Mapping[str, float] = NO_LOGS) -> None:
        for callback in self.callbacks:
            getattr(callback, name)(*args, logs)

    # ---- evaluation ---------------------------------------------------------------------------

    def evaluate(self, X: Any, t: Any, sample_weight: Any = None) -> dict[str, float]:
        """Return the loss and the metrics on some data, with the network at rest.

        They are computed in float64; with weights they are weighted means, Σ wᵢ ℓᵢ / Σ wᵢ.

        Raises
        ------
        DataError, ShapeError
            As `fit`.
        OptionError
            If there are weights, and a metric's function has no argument ``sample_weight``.
        """
        require_known_names(self, ())
        return evaluate(self, *self._reader.check_all(X, t, sample_weight))


ITS_STEP = Trainer.step, Trainer.backpropagate


def _has_own_step(trainer: Trainer) -> bool:
    """Return True if somebody has put another step or another gradient into object or class."""
    methods = trainer.step, trainer.backpropagate
    return tuple(getattr(method, "__func__", method) for method in methods) != ITS_STEP
