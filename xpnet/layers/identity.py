"""Identity: nothing, where a layer is expected."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.layers.base import Layer, Shape


class Identity(Layer):
    """Y = X        dX = dY"""

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make nothing: what comes in goes out."""

    def forward(self, X: Array) -> Array:
        """Return X itself."""
        return X

    def backward(self, dY: Array) -> Array:
        """Return dY itself."""
        return dY
