"""Losses for numbers: mean squared error, Huber and Poisson."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.losses.base import Loss
from xpnet.support.attributes import Checked
from xpnet.support.checks import positive

SMALLEST = 2.0**-99  # t log t is 0 below


class MeanSquaredError(Loss):
    """ℓ = (y - t)²        ∂ℓ/∂y = 2 (y - t)

    Parameters
    ----------
    reduction : {"mean", "sum"}
        See `Loss`.
    """

    numbers = True

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ = (y - t)²"""
        self.xp.subtract(Y, T, out=out)
        self.xp.multiply(out, out, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """2 (y - t)"""
        self.xp.subtract(Y, T, out=out)
        self.xp.multiply(out, 2.0, out=out)


class Huber(Loss):
    """ℓ = e²/2 where |e| ≤ δ, else δ (|e| - δ/2),  with e = y - t        ∂ℓ/∂y = c

    with c = e held within [-δ, δ]; then ℓ = c (e - c/2) in both cases.

    Parameters
    ----------
    delta : float
        δ, where the parabola becomes a line.
    reduction : {"mean", "sum"}
        See `Loss`.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.
    """

    numbers = True
    delta: Any = Checked(positive)

    def __init__(self, delta: float = 1.0, *, reduction: str = "mean") -> None:
        super().__init__()
        self.delta, self.reduction = delta, reduction

    def __repr__(self) -> str:
        others = [option for option in self._options() if not option.startswith("delta")]
        return f"Huber({', '.join([str(self.delta), *others])})"

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ = c (e - c/2)"""
        xp, e = self.xp, self.work
        self.slope(Y, T, out=out)
        xp.subtract(Y, T, out=e)
        xp.multiply(e, 2.0, out=e)
        xp.subtract(e, out, out=e)
        xp.multiply(out, e, out=out)
        xp.multiply(out, 0.5, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """c = min(max(y - t, -δ), δ)"""
        self.xp.subtract(Y, T, out=out)
        self.xp.maximum(out, -self.delta, out=out)
        self.xp.minimum(out, self.delta, out=out)


class Poisson(Loss):
    """ℓ = exp y - t y + t log t - t        ∂ℓ/∂y = exp y - t

    for counts t ≥ 0 with the mean μ = exp y: the network gives y = log μ, any number. That is half
    of the Poisson deviance: -log of the probability exp(-μ) μᵗ / t! of t, minus what it is for
    μ = t. So it is 0 for a perfect fit. The terms without y are constants, which PyTorch's
    ``poisson_nll_loss`` leaves out; 0 log 0 is 0. The metrics of numbers compare exp y with t.

    Parameters
    ----------
    reduction : {"mean", "sum"}
        See `Loss`.

    References
    ----------
    McCullagh and Nelder, "Generalized linear models", 1989, section 2.3.
    """

    numbers = True
    target_range = (0.0, np.inf)
    link = staticmethod(np.exp)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """exp y + t (log t - y) - t"""
        xp, work = self.xp, self.work
        xp.maximum(T, SMALLEST, out=out)
        xp.log(out, out=out)
        xp.subtract(out, Y, out=out)
        xp.multiply(out, T, out=out)
        xp.subtract(out, T, out=out)
        self._exp(Y, out=self._dY[: len(Y)], work=work)  # not in use before `slope`
        xp.add(out, self._dY[: len(Y)], out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """exp y - t"""
        self._exp(Y, out=out, work=self.work)
        self.xp.subtract(out, T, out=out)

    def _exp(self, Y: Array, out: Array, work: Array) -> Array:
        """out = exp y = σ(y) / σ(-y), as precise as σ is at both ends"""
        xp = self.xp
        xp.multiply(Y, -1.0, out=work)
        xp.sigmoid(work, out=work)
        xp.sigmoid(Y, out=out)
        return xp.divide(out, work, out=out)
