"""LeakyReLU: a rectifier that never goes quite silent."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.layers.base import Layer
from xpnet.support.attributes import Checked
from xpnet.support.checks import fraction
from xpnet.support.errors import OptionError


def _checked_slope(name: str, value: Any) -> float:
    slope = fraction(name, value)
    if not slope:
        raise OptionError(f"{name} must be above 0; for 0 use ReLU()")
    return slope


class LeakyReLU(Layer):
    """Y = X where X > 0, else α X

    dX = dY where Y > 0, else α dY      (Y and X have the same sign)

    Parameters
    ----------
    slope : float
        α, above 0 and below 1.

    Raises
    ------
    OptionError
        If the slope is outside that range.

    References
    ----------
    Maas, Hannun and Ng, "Rectifier nonlinearities improve neural network acoustic models", 2013.
    """

    slope: Any = Checked(_checked_slope)

    def __init__(self, slope: float = 0.01) -> None:
        super().__init__()
        self.slope = slope

    def __repr__(self) -> str:
        return f"LeakyReLU({self.slope})"

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X."""
        return self.xp.relu(X, out=self.Y[: len(X)], slope=self.slope)

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        n = len(dY)
        return self.xp.relu_grad(dY, self.Y[:n], out=self.dX[:n], slope=self.slope)
