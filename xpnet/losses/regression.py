"""Losses for numbers: mean squared error and Huber."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.losses.base import Loss
from xpnet.support.checks import positive


class MeanSquaredError(Loss):
    """ℓ = (y - t)²        ∂ℓ/∂y = 2 (y - t)"""

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

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = positive("Huber: delta", delta)

    def __repr__(self) -> str:
        return f"Huber({self.delta})"

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
