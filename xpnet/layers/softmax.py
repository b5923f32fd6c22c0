"""Softmax: scores become probabilities."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.layers.base import Layer, Shape
from xpnet.support.errors import ShapeError


class Softmax(Layer):
    """Yᵢⱼ = exp Xᵢⱼ / Σₖ exp Xᵢₖ

    ∂Yᵢⱼ/∂Xᵢₖ = Yᵢⱼ ([j = k] - Yᵢₖ), so
    dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ)

    The whole Jacobian, so that any loss may follow. For training, `SoftmaxCrossEntropy` on the
    scores is faster and does not lose the logarithm of small probabilities.
    """

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Return the same shape; samples must be vectors."""
        if shape is not None and len(shape) != 1:
            raise ShapeError(f"Softmax takes vectors, but samples of shape {shape} come in")
        return shape

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make room for one scratch column."""
        super().build(batch_size, input_shape, input_gradient)
        self.work = self.xp.empty((batch_size, 1), self.dtype)

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X; each row sums to 1."""
        n = len(X)
        return self.xp.softmax(X, out=self.Y[:n], work=self.work[:n])

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        n = len(dY)
        return self.xp.softmax_grad(dY, self.Y[:n], out=self.dX[:n], work=self.work[:n])
