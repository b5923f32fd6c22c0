"""Adam and AdamW: momentum and RMSprop, with their start corrected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.backend.options import AdamOptions, AdamState
from xpnet.network import Sequential
from xpnet.optimizers.base import Optimizer
from xpnet.optimizers.settings import Number
from xpnet.schedules import Schedule
from xpnet.support.checks import at_least_0, fraction, positive
from xpnet.support.errors import OptionError


class Adam(Optimizer):
    """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = p - η m̂ / (√v̂ + ε)

    with m̂ = m / (1 - β₁ᵗ), v̂ = v / (1 - β₂ᵗ). The powers are formed by repeated multiplication.

    Parameters
    ----------
    net, lr, weight_decay, clip_norm
        See `Optimizer`.
    beta1, beta2, eps : float
        β₁ and β₂, below 1, and ε.

    References
    ----------
    Kingma and Ba, "Adam: a method for stochastic optimization", 2014.
    """

    beta1: Any = Number("beta1", fraction)
    beta2: Any = Number("beta2", fraction)
    eps: Any = Number("eps", positive)

    def __init__(
        self,
        net: Sequential,
        lr: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ) -> None:
        beta1, beta2 = fraction("beta1", beta1), fraction("beta2", beta2)
        self.options = AdamOptions(beta1, beta2, positive("eps", eps))
        super().__init__(net, lr, weight_decay=weight_decay, clip_norm=clip_norm)

    @property
    def betas(self) -> tuple[float, float]:
        """β₁ and β₂."""
        return self.beta1, self.beta2

    @betas.setter
    def betas(self, values: tuple[float, float]) -> None:
        if not isinstance(values, Sequence) or len(values) != 2:
            raise OptionError(f"betas must be a pair of numbers; got {values!r:.60}")
        self.beta1, self.beta2 = (fraction("betas", value) for value in values)

    def make_state(self) -> None:
        """Make m, v and the powers of β₁ and β₂."""
        self.m, self.v = self.like(self.net.params), self.like(self.net.params)
        self._betas = self.xp.asarray(np.array([self.beta1, self.beta2]))
        self.powers = self.xp.asarray(np.ones(2))
        self.state = AdamState(self.m, self.v, self.rate, self.powers)

    def make_missing(self) -> None:
        """Put β₁ and β₂ on the device, too."""
        super().make_missing()
        if "_betas" in vars(self):
            self.xp.copyto(self._betas, self.xp.asarray(np.array([self.beta1, self.beta2])))

    def state_vectors(self) -> dict[str, Array]:
        """Return m, v and the powers."""
        return {"m": self.m, "v": self.v, "powers": self.powers}

    def advance(self) -> None:
        """Form the next powers, too."""
        super().advance()
        self.xp.multiply(self.powers, self._betas, out=self.powers)

    def update(self, p: Array, g: Array) -> None:
        """p = p - η m̂ / (√v̂ + ε)"""
        self.xp.adam(p, g, self.state, self.options, work=self.work)


class AdamW(Adam):
    """As `Adam`, and p is shrunk by (1 - η λ) beside it instead of adding λ p to the gradient.

    References
    ----------
    Loshchilov and Hutter, "Decoupled weight decay regularization", 2017.
    """

    decoupled_decay = True
    weight_decay: Any = Number("decay", at_least_0)

    def __init__(
        self,
        net: Sequential,
        lr: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        clip_norm: float | None = None,
    ) -> None:
        super().__init__(
            net,
            lr,
            beta1=beta1,
            beta2=beta2,
            eps=eps,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
        )
