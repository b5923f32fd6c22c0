"""GELU: the Gaussian error linear unit."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.layers.base import Layer, Shape


class GELU(Layer):
    """Y = X (1 + T) / 2        with T = tanh(√(2/π) (X + a X³)), a = 0.044715

    dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2

    The form with tanh instead of the error function.

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
