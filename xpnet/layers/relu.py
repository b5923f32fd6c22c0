"""ReLU: the rectifier."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.layers.base import Layer


class ReLU(Layer):
    """Y = max(X, 0)

    dX = dY · [Y > 0]      (the slope at the kink X = 0 is taken as 0)
    """

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X."""
        return self.xp.relu(X, out=self.Y[: len(X)])

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        n = len(dY)
        return self.xp.relu_grad(dY, self.Y[:n], out=self.dX[:n])
