"""What a training is to others: to callbacks, and to what adds a penalty to the loss."""

from __future__ import annotations

import os
from math import nan
from typing import Any, Protocol

from xpnet.backend import Array
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.optimizers import Optimizer
from xpnet.parallel.communicator import Communicator
from xpnet.storage.training_state import TrainingState
from xpnet.training.metrics import Metric


class History(dict[str, list[float]]):
    """One list for each number, one entry for each epoch: ``history["loss"][-1]``.

    A number that some epochs do not have, such as ``val_loss`` in a `fit` without validation data,
    is NaN there. So all lists have the same length, as ``pandas.DataFrame(history)`` needs.
    """

    def add(self, row: dict[str, float]) -> None:
        """Append the row of one epoch."""
        epochs = max(map(len, self.values()), default=0)
        for name in [*self, *(name for name in row if name not in self)]:
            column = self.setdefault(name, [])
            column += [nan] * (epochs - len(column)) + [row.get(name, nan)]


class Training(Protocol):
    """The type of ``callback.trainer``; see `xpnet.Trainer` for what the attributes mean."""

    net: Sequential
    loss: Loss
    optimizer: Optimizer
    metrics: dict[str, Metric]
    logged: tuple[str, ...]
    seed: int
    comm: Communicator
    history: History
    epoch: int
    epochs: int
    batch: int
    first_epoch: int
    resumed: bool
    stop: bool
    launch: int

    @property
    def steps_per_epoch(self) -> int:
        """Steps in an epoch of the present `fit`."""

    def evaluate(self, X: Any, t: Any, sample_weight: Any = None) -> dict[str, float]:
        """Return the loss and the metrics on some data."""

    def state(self) -> TrainingState:
        """Return all that decides how the training goes on."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a checkpoint."""


class Penalty(Protocol):
    """A term of the loss that depends on the parameters alone, such as α ‖W‖²/2."""

    def add_gradient(self, X: Array, t: Array, *weights: Array) -> None:
        """dp = dp + ∂penalty/∂p, for this batch"""
