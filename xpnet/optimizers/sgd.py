"""SGD: gradient descent, with momentum if you like."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.backend.options import MomentumOptions
from xpnet.network import Sequential
from xpnet.optimizers.base import Optimizer
from xpnet.optimizers.settings import number
from xpnet.schedules import Schedule
from xpnet.support.checks import fraction
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

    mu: float = number("mu")
    nesterov: bool = number("nesterov")

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
        self.options = MomentumOptions(fraction("momentum", momentum), nesterov)
        if nesterov and not momentum:
            raise OptionError("nesterov=True needs a momentum, such as momentum=0.9")
        super().__init__(net, lr, weight_decay=weight_decay, clip_norm=clip_norm)

    def make_state(self) -> None:
        """Make v, if there is momentum."""
        if self.mu:
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
