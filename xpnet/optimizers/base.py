"""Optimizers: each update is one primitive over the flat vector of all parameters.

What changes from step to step (the learning rate, the powers of Adam's β) is in arrays on the
device, never in a Python number: a GPU repeats a step without asking Python again.
"""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.network import Sequential
from xpnet.optimizers.gradient import effective_gradient
from xpnet.optimizers.memory import OptimizerMemory
from xpnet.schedules import Schedule
from xpnet.support.attributes import require_known
from xpnet.support.errors import OptionError


class Optimizer(OptimizerMemory):
    """Moves the parameters of a network against their gradients.

    Parameters
    ----------
    net : Sequential
        Its ``params`` are updated in place from its ``grads``.
    lr : float or schedule
        The learning rate η, or a function of the step such as `xpnet.schedules.Cosine`; it is
        asked up to 1023 steps ahead.
    weight_decay : float
        λ of the L2 penalty: λ p is added to the gradient of every parameter (decoupled in AdamW).
    clip_norm : float, optional
        If the gradient of all parameters together is longer than this, it is shortened to it.

    Attributes
    ----------
    t : int
        Steps taken.
    scheduled : bool
        True if the learning rate changes from step to step.
    rate : array, shape (1,)
        The learning rate of the present step, on the device.

    Raises
    ------
    OptionError
        If a number is out of range.
    """

    decoupled_decay = False

    def __init__(
        self,
        net: Any,
        lr: float | Schedule = 0.01,
        *,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        if not isinstance(net, Sequential):
            name = type(self).__name__
            raise OptionError(f"the network comes first, {name}(net, lr=...); got {net!r}")
        self.schedule, self.clip_norm, self.weight_decay = lr, clip_norm, weight_decay
        self.net = net
        self.t = 0
        self._make_arrays()
        net.optimizers.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(lr={self.lr:g})"

    def step(self) -> None:
        """Update the parameters once, from the gradients of the last ``net.backward``."""
        require_known(self)
        self.prepare(1)
        self.advance()
        self.descend()

    def prepare(self, steps: int) -> None:
        """Do the host's part of the next steps: put a learning rate for each into the table."""
        if self.scheduled and self.t + steps > self.table.end:
            self._fill_table(steps)
        self.t += steps

    def advance(self) -> None:
        """Go to the next step, on the device."""
        if self.scheduled:
            self.table.advance()

    def descend(self) -> None:
        """Update the parameters: on the device, too."""
        self.update(self.net.params, effective_gradient(self))

    def update(self, p: Array, g: Array) -> None:
        """Change p by its gradient g; each optimizer's own formula."""
        raise NotImplementedError

    @property
    def lr(self) -> float:
        """The learning rate of the next step; setting it replaces the schedule."""
        return float(self.schedule(self.t))

    @lr.setter
    def lr(self, value: float | Schedule) -> None:
        self.schedule = value
