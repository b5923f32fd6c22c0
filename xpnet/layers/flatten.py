"""Flatten: images become vectors."""

from __future__ import annotations

from math import prod

from xpnet.backend import Array
from xpnet.layers.base import Layer, Shape


class Flatten(Layer):
    """Y is X with each sample as one row        dX is dY in the shape of X"""

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Return (product of the shape,)."""
        return None if shape is None else (prod(shape),)

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Remember the shape of a sample; both directions are views."""
        self.shape, self.n = input_shape, prod(input_shape)

    def forward(self, X: Array) -> Array:
        """Return X as a matrix, shape (n, features)."""
        return X.reshape(len(X), self.n)

    def backward(self, dY: Array) -> Array:
        """Return dY in the shape of X."""
        return dY.reshape(len(dY), *self.shape)
