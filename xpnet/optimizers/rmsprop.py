"""RMSprop: each entry of the gradient divided by its typical size."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.backend.options import RMSpropOptions
from xpnet.network import Sequential
from xpnet.optimizers.base import Optimizer
from xpnet.optimizers.settings import Number
from xpnet.schedules import Schedule
from xpnet.support.checks import fraction, positive


class RMSprop(Optimizer):
    """s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)

    Parameters
    ----------
    net, lr, weight_decay, clip_norm
        See `Optimizer`.
    rho, eps : float
        ρ, below 1, and ε.

    References
    ----------
    Hinton, "Neural networks for machine learning", lecture 6e, 2012.
    """

    rho: Any = Number("rho", fraction)
    eps: Any = Number("eps", positive)

    def __init__(
        self,
        net: Sequential,
        lr: float | Schedule = 1e-3,
        *,
        rho: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        self.options = RMSpropOptions(fraction("rho", rho), positive("eps", eps))
        super().__init__(net, lr, weight_decay=weight_decay, clip_norm=clip_norm)

    def make_state(self) -> None:
        """Make s."""
        self.s = self.like(self.net.params)

    def state_vectors(self) -> dict[str, Array]:
        """Return s."""
        return {"s": self.s}

    def update(self, p: Array, g: Array) -> None:
        """p = p - η g / (√s + ε)"""
        self.xp.rmsprop(p, g, self.s, self.rate, self.options, work=self.work)
