"""Sigmoid: the logistic function."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.layers.base import Layer


class Sigmoid(Layer):
    """Y = 1 / (1 + exp(-X))

    dX = dY · Y (1 - Y)
    """

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X."""
        return self.xp.sigmoid(X, out=self.Y[: len(X)])

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        n = len(dY)
        return self.xp.sigmoid_grad(dY, self.Y[:n], out=self.dX[:n])
