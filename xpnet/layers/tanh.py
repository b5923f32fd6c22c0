"""Tanh: the hyperbolic tangent."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.layers.base import Layer


class Tanh(Layer):
    """Y = tanh X

    dX = dY · (1 - Y²)
    """

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X."""
        return self.xp.tanh(X, out=self.Y[: len(X)])

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        n = len(dY)
        return self.xp.tanh_grad(dY, self.Y[:n], out=self.dX[:n])
