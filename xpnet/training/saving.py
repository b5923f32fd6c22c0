"""The part of `Trainer` that saves a training, brings it back, and says what it is like."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Self

from xpnet.data.batches import Batches
from xpnet.storage.training_file import write_training
from xpnet.storage.training_state import TrainingState
from xpnet.support.checks import file_of
from xpnet.support.errors import OptionError, XpnetError
from xpnet.training.failures import require_finite
from xpnet.training.state import all_or_nothing, describe, other_bits, restore_values
from xpnet.training.step import Launcher


class Saving:
    """The methods of `Trainer` that take and give a `TrainingState`, or describe a `fit`."""

    _steps: Launcher | None = None  # made by `fit`

    def __copy__(self) -> Self:
        raise OptionError(
            "a shallow copy of a trainer would share its network, moments and history; take "
            "copy.deepcopy(trainer), or make a new trainer"
        )

    def save(self: Any, path: str | os.PathLike[str]) -> None:
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
        path, state = file_of("path", path), self.state()
        require_finite(self, state.network)
        write_training(path, state)

    def state(self: Any) -> TrainingState:
        """Return all that decides how the training goes on, as arrays and a description.

        Raises
        ------
        XpnetError
            Before the first `fit`, and if an exception has broken off a step.
        """
        if self._steps is None or self._stepping:
            raise XpnetError(
                "a training can be saved between two steps, not before the first fit or where a "
                "step was broken off; net.save(path) saves the network"
            )
        return describe(self, self._steps.step, self.callbacks, self._settings)

    def restore(
        self: Any,
        state: TrainingState,
        override: str | Iterable[str] = (),
        epochs: int | None = None,
    ) -> None:
        """Bring network, optimizer and trainer to a `state`; nothing changes if this raises.

        ``fit(..., resume=path)`` calls it when the data are ready. Callbacks are not restored.

        Parameters
        ----------
        state : TrainingState
        override : str or iterable of str
            Settings that may differ, see `Trainer.fit`.
        epochs : int, optional
            How many the present `fit` is to have.

        Raises
        ------
        CheckpointError
            If it is the state of another training, or is damaged.
        XpnetError
            Before the first `fit`.
        """
        with all_or_nothing(self):
            restore_values(state, self, self._ready.step, self._settings, override, epochs)
        different = other_bits(state, self.net.xp, self.comm.size)
        if different:
            text = "%s: the last bits may be others than without a stop: %s"
            self.comm.warn(text, state.source, different)

    @property
    def batches(self) -> Batches | None:
        """The data set of the last `fit` in batches, None before the first one."""
        return None if self._steps is None else self._steps.step.batches

    @property
    def capture_seconds(self) -> float:
        """What compiling kernels and capturing steps took in the last `fit`, 0 on NumPy."""
        return float(getattr(self._steps and self._steps.captured, "seconds", 0.0))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch of the present `fit`."""
        return len(self._ready.sizes)

    @property
    def _ready(self) -> Launcher:
        """The steps of the present `fit`."""
        if self._steps is None:
            raise XpnetError("the trainer has no data yet: call fit(X, t) first")
        return self._steps
