"""Tanh: the hyperbolic tangent."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.layers.base import Layer
from xpnet.layers.graph import Graph


class Tanh(Layer):
    """Y = tanh X

    dX = dY · (1 - Y²)
    """

    activation = "tanh"

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X."""
        return self.xp.tanh(X, out=self.Y[: len(X)])

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        n = len(dY)
        return self.xp.tanh_grad(dY, self.Y[:n], out=self.dX[:n])

    def to_onnx(self, graph: Graph, X: str) -> str:
        """Return Tanh(X)."""
        return graph("Tanh", X)
