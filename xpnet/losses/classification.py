"""Losses for classes: cross-entropies on probabilities and on scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.backend.options import CrossEntropyArrays
from xpnet.losses.distributions import Distributions
from xpnet.support.attributes import Checked
from xpnet.support.checks import positive


class CrossEntropy(Distributions):
    """ℓ = -Σⱼ tⱼ log(yⱼ + ε)        ∂ℓ/∂yⱼ = -tⱼ / (yⱼ + ε)

    on probabilities, such as Softmax gives; t is a one-hot row or a class label.

    Parameters
    ----------
    eps : float
        ε, which keeps both finite at y = 0.
    label_smoothing, ignore_index, reduction
        See `SoftmaxCrossEntropy`.
    """

    eps: Any = Checked(positive)

    def __init__(self, eps: float = 1e-8, *, label_smoothing: float = 0.0,
                 ignore_index: int | None = None, reduction: str = "mean") -> None:  # fmt: skip
        super().__init__(label_smoothing, ignore_index, reduction)
        self.eps = eps

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """-t log(y + ε)"""
        self.xp.add(Y, self.eps, out=out)
        self.xp.log(out, out=out)
        self.xp.multiply(out, T, out=out)
        self.xp.multiply(out, -1.0, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """-t / (y + ε)"""
        self.xp.add(Y, self.eps, out=out)
        self.xp.divide(T, out, out=out)
        self.xp.multiply(out, -1.0, out=out)


class SoftmaxCrossEntropy(Distributions):
    """ℓ = -Σⱼ tⱼ log pⱼ  with  p = softmax(z)        ∂ℓ/∂zⱼ = pⱼ Σₖ tₖ - tⱼ

    on scores z, with the two formulas merged: log pⱼ = zⱼ - max z - log Σₖ exp(zₖ - max z) is exact
    for any score, and the gradient has no division. t is a class label, a one-hot row, or any
    distribution over the classes. Its sum is 1 up to rounding; the gradient has the sum that it is.

    Parameters
    ----------
    label_smoothing : float
        α, at least 0 and below 1: the loss takes (1 - α) t + α / classes for t, as PyTorch's does
        (Szegedy et al., "Rethinking the Inception architecture for computer vision", 2016).
    ignore_index : int, optional
        Samples of this label do not count: neither in the sum nor in what it is divided by. It need
        not be a class. A `Trainer` leaves them out of the data set.
    reduction : {"mean", "sum"}
        See `Loss`.
    """

    one_element = True

    def __init__(self, *, label_smoothing: float = 0.0, ignore_index: int | None = None,
                 reduction: str = "mean") -> None:  # fmt: skip
        super().__init__(label_smoothing, ignore_index, reduction)

    def _make(self, n: int, width: int, dtype: Any) -> None:
        """Make room for p - t, too."""
        self._dZ = self.xp.empty((n, width), dtype)
        super()._make(n, width, dtype)

    def _targets(self, t: Array, n: int) -> Array:
        """Return labels as they are, if nothing is to be done with them."""
        plain = not self.label_smoothing and self.ignore_index is None
        return t if plain and t.ndim == 1 and t.dtype == np.int64 else super()._targets(t, n)

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ, and the gradient on the way: share · (p - t), where all samples have the same share"""
        n, scale = len(Y), self._share if isinstance(self._share, float) else 1.0
        self.dZ = self._dZ[:n]
        written = CrossEntropyArrays(out[:, 0], self.dZ, self._scratch[:n], self._T[:n])
        self.xp.softmax_cross_entropy(Y, T, written, scale)
        if T.ndim == 2:
            self._add_rest(T, scale)

    def _add_rest(self, T: Array, scale: float) -> None:
        """dZ = dZ + (dZ + scale T) (Σₖ tₖ - 1), which is 0 where a row sums to 1"""
        xp, rest, work = self.xp, self._column[: len(T)], self.work
        xp.sum(T, axis=1, out=rest, keepdims=True)
        xp.subtract(rest, 1.0, out=rest)
        xp.multiply(T, scale, out=work)
        xp.add(work, self.dZ, out=work)
        xp.multiply(work, rest, out=work)
        xp.add(self.dZ, work, out=self.dZ)

    def backward(self) -> Array:
        """Return dY, the gradient of the L that the last `forward` gave, shape (n, outputs)."""
        self._need_forward()
        if isinstance(self._share, float):
            return self.dZ
        return self.xp.multiply(self.dZ, self._share, out=self._dY[: len(self.Y)])
