"""GELU: the Gaussian error linear unit."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.backend.base import GELU_A, GELU_C
from xpnet.layers.base import Layer, Shape
from xpnet.layers.graph import Graph


class GELU(Layer):
    """Y = X (1 + T) / 2        with T = tanh(√(2/π) (X + a X³)), a = 0.044715

    dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2

    The tanh form, ``torch.nn.GELU(approximate="tanh")``.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make room for T and for scratch."""
        super().build(batch_size, input_shape, input_gradient)
        self.T = self.xp.empty(self.Y.shape, self.dtype)
        self.work = self.xp.empty(self.Y.shape, self.dtype)

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X."""
        self.X, n = X, len(X)
        return self.xp.gelu(X, out=self.Y[:n], T=self.T[:n])

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        n = len(dY)
        return self.xp.gelu_grad(dY, self.X, self.T[:n], out=self.dX[:n], work=self.work[:n])

    def to_onnx(self, graph: Graph, X: str) -> str:
        """Return X/2 + X/2 · T: the numbers in ONNX's Gelu are float32, whatever X is."""
        inner = graph("Add", graph("Mul", graph("Mul", X, X), GELU_C * GELU_A), GELU_C)
        half, T = graph("Mul", X, 0.5), graph("Tanh", graph("Mul", X, inner))
        return graph("Add", half, graph("Mul", half, T))
