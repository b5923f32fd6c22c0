"""Dropout: random silence while training."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.backend.random import Random
from xpnet.layers.base import Layer, Shape
from xpnet.support.attributes import Checked
from xpnet.support.checks import fraction


class Dropout(Layer):
    """Y = X · M        with Mᵢⱼ = 1/(1-p) with probability 1-p, else 0      (training only)

    dX = dY · M

    The mask depends on the network's seed and on how often the layer has drawn one, and is the same
    on every backend. The number of masks drawn is an array of ``state``: it grows on the device.

    Parameters
    ----------
    p : float
        The fraction that is silenced, 0 ≤ p < 1.

    Raises
    ------
    OptionError
        If p is outside that range.

    References
    ----------
    Srivastava et al., "Dropout", 2014.
    """

    p: Any = Checked(fraction)

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = p

    def __repr__(self) -> str:
        return f"Dropout({self.p})"

    def initial_state(self, random: Random) -> dict[str, np.ndarray[Any, Any]]:
        """Return the key of the stream and the number of masks drawn, one uint64 each."""
        return {"key": random.raw(1), "drawn": np.zeros(1, np.uint64)}

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make room for the mask and for the generator's scratch."""
        super().build(batch_size, input_shape, input_gradient)
        self.M = self.xp.empty(self.Y.shape, self.dtype)
        self.work = self.xp.empty((2, 4096), np.uint64)

    def forward(self, X: Array) -> Array:
        """Return X · M while training, else X."""
        if not self.training:
            return X
        xp, M, drawn = self.xp, self.M[: len(X)], self.state["drawn"]
        xp.dropout_mask(self.state["key"], drawn, out=M, keep=1 - self.p, work=self.work)
        xp.add(drawn, 1, out=drawn)
        return xp.multiply(X, M, out=self.Y[: len(X)])

    def backward(self, dY: Array) -> Array:
        """Return dY · M while training, else dY."""
        if not self.training:
            return dY
        n = len(dY)
        return self.xp.multiply(dY, self.M[:n], out=self.dX[:n])
