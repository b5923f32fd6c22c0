"""SGD: gradient descent, with momentum if you like."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.backend.options import MomentumOptions
from xpnet.network import Sequential
from xpnet.optimizers.base import Optimizer
from xpnet.optimizers.settings import Number
from xpnet.schedules import Schedule
from xpnet.support.checks import fraction, yes_or_no
from xpnet.support.errors import OptionError


class SGD(Optimizer):
    """p = p - η g, and with momentum v = μ v + g, p = p - η v      (Nesterov: p - η (g + μ v))

    Parameters
    ----------
    net, lr, weight_decay, clip_norm
        See `Optimizer`.
    momentum : float
        μ, 0 for none; below 1.
    nesterov : bool
        Take the gradient's step from where the momentum leads.
    """

    mu: Any = Number("mu", fraction)
    momentum: Any = Number("mu", fraction)  # its name in `__init__`
    nesterov: Any = Number("nesterov", yes_or_no)

    def __init__(
        self,
        net: Sequential,
        lr: float | Schedule = 0.1,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        nesterov = yes_or_no("nesterov", nesterov)
        self.options = MomentumOptions(fraction("momentum", momentum), nesterov)
        if nesterov and not momentum:
            raise OptionError("nesterov=True needs a momentum, such as momentum=0.9")
        super().__init__(net, lr, weight_decay=weight_decay, clip_norm=clip_norm)

    def make_state(self) -> None:
        """Make v, if there is momentum."""
        vars(self).pop("v", None)  # `make_missing` makes a new one

    def make_missing(self) -> None:
        """Make v, too, if momentum has been set."""
        super().make_missing()
        if "version" in vars(self) and self.mu and "v" not in vars(self):
            self.v = self.like(self.net.params)

    def state_vectors(self) -> dict[str, Array]:
        """Return v."""
        return {"v": self.v} if self.mu else {}

    def update(self, p: Array, g: Array) -> None:
        """p = p - η g, or with momentum"""
        if not self.options.mu:
            self.xp.sgd(p, g, self.rate, work=self.work)
            return
        self.xp.momentum(p, g, self.v, self.rate, self.options, work=self.work)
