"""One step of a training: gather, forward, backward, update.

There is no other implementation of a step: the golden trainings and the estimators use this one,
and `Trainer.step`, which a subclass may change, is made of its parts.
One process and several differ in what `xpnet.parallel.batch` does with a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data.batches import Batches
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.optimizers import Optimizer
from xpnet.parallel.batch import WholeBatch
from xpnet.training.training import Penalty


class TrainingStep:
    """Gather X and t;  Y = f(X),  L = loss(Y, t);  dp = ∂L/∂p;  p = update(p, dp)

    Everything stays on the device, in arrays that are made before the first step.

    Parameters
    ----------
    net, loss, optimizer
        What is trained.
    batches : Batches
        The shuffled data.
    processes : WholeBatch
        Computes the two passes of a batch, on one process or on several.
    penalty : Penalty, optional
        Adds its gradient to that of the loss.

    Attributes
    ----------
    samples : list of array
        X, t and perhaps the weights of the present batch; the next `gather` overwrites them.
    losses : array, shape (batches + 1,)
        The loss of each step of the present epoch, and a last place for Σ p².
    """

    def __init__(self, net: Sequential, loss: Loss, optimizer: Optimizer, batches: Batches,
                 processes: WholeBatch, penalty: Penalty | None = None) -> None:  # fmt: skip
        self.net, self.loss, self.optimizer, self.batches = net, loss, optimizer, batches
        self.processes, self.penalty, self.samples = processes, penalty, list[Array]()
        self.xp = xp = net.xp
        self.losses = xp.zeros(len(batches) + 1, net.dtype)
        self._place_of_loss = xp.zeros(1, np.int64)

    def start(self, epoch: int, batch: int = 0) -> None:
        """Go to a batch of an epoch."""
        self.batches.start(epoch, batch)
        self.xp.copyto(self._place_of_loss, batch)

    def take(self, size: int, number: int = 1) -> None:
        """Take some steps; the host's part, ``optimizer.prepare(number)``, comes before."""
        for _ in range(number):
            self.gather(size)
            self.forward()
            self.backward()
            self.optimizer.descend()

    def gather(self, size: int) -> None:
        """Get the next samples, and the learning rate of this step."""
        self.samples = self.batches.gather(size)
        self.processes.begin(size)
        with self.xp.off_path():
            self.optimizer.advance()

    def forward(self) -> None:
        """Y = f(X),  L = loss(Y, t)"""
        self.processes.forward(*self.samples)

    def backward(self) -> None:
        """dp = ∂L/∂p, and L is recorded."""
        self.processes.backward()
        with self.xp.off_path():
            self.xp.record(self.loss.value, self.losses, self._place_of_loss)
        if self.penalty is not None:
            self.penalty.add_gradient(*self.samples)

    def settings(self) -> tuple[Any, ...]:
        """Return all Python values that a step depends on: a captured step holds them fixed."""
        parts = [self.net, self.optimizer, self.loss, *(layer for _, layer in self.net.walk(""))]
        return tuple(
            (name, value)
            for part in parts
            for name, value in vars(part).items()
            if isinstance(value, bool | int | float | str) and name[0] != "_" and name != "t"
        )


class Launcher:
    """Starts the steps of an epoch; a GPU captures them as CUDA graphs, some steps in one graph."""

    def __init__(self, step: TrainingStep) -> None:
        self.step, self.sizes = step, step.batches.sizes()  # those of the batches of an epoch
        self._whole = len(self.sizes) - (self.sizes[-1] != self.sizes[0])  # batches of full size
        self.captured: Any = step.xp.capture(step.take, step.settings)

    def launch(self, batch: int, at_once: int = 1) -> int:
        """Take the step of a batch, or ``at_once`` steps of full size; return the number taken."""
        number = at_once if batch + at_once <= self._whole else 1
        self.step.optimizer.prepare(number)
        self.captured(self.sizes[batch], number)
        return number
