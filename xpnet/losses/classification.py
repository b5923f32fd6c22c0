"""Losses for classes: cross-entropies on probabilities and on scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.backend.options import CrossEntropyArrays
from xpnet.losses.base import Loss
from xpnet.support.checks import positive


class BinaryCrossEntropy(Loss):
    """ℓ = -t log(y + ε) - (1 - t) log(1 - y + ε)        ∂ℓ/∂y = (1 - t)/(1 - y + ε) - t/(y + ε)

    on probabilities y; the small ε keeps both finite at y = 0 and y = 1. With
    ``from_logits=True`` y are scores before the sigmoid, and no ε is needed:

    ℓ = (1 - t) log(1 + exp y) + t log(1 + exp(-y))        ∂ℓ/∂y = σ(y) - t

    Parameters
    ----------
    from_logits : bool
        True: the network has no Sigmoid at its end. Stable for any score.
    eps : float
        ε.
    """

    target_range = (0.0, 1.0)

    def __init__(self, from_logits: bool = False, eps: float = 1e-8) -> None:
        super().__init__()
        self.from_logits = from_logits
        self.eps = positive("BinaryCrossEntropy: eps", eps)
        self.threshold = 0.0 if from_logits else 0.5

    def __repr__(self) -> str:
        return f"BinaryCrossEntropy({'from_logits=True' if self.from_logits else ''})"

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ"""
        xp, work = self.xp, self.work
        other = self._dY[: len(Y)]  # not in use before `slope`
        if self.from_logits:
            xp.multiply(Y, -1.0, out=work)
            xp.softplus(work, out=other)
            xp.multiply(other, T, out=other)
            xp.softplus(Y, out=out)
            xp.subtract(1.0, T, out=work)
            xp.multiply(out, work, out=out)
            xp.add(out, other, out=out)
            return
        xp.add(Y, self.eps, out=work)
        xp.log(work, out=work)
        xp.multiply(T, work, out=out)
        xp.subtract(1.0, Y, out=work)
        xp.add(work, self.eps, out=work)
        xp.log(work, out=work)
        xp.subtract(1.0, T, out=other)
        xp.multiply(other, work, out=other)
        xp.add(out, other, out=out)
        xp.multiply(out, -1.0, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """∂ℓ/∂y"""
        xp, work = self.xp, self.work
        if self.from_logits:
            xp.sigmoid(Y, out=out)
            xp.subtract(out, T, out=out)
            return
        xp.subtract(1.0, Y, out=work)
        xp.add(work, self.eps, out=work)
        xp.subtract(1.0, T, out=out)
        xp.divide(out, work, out=out)
        xp.add(Y, self.eps, out=work)
        xp.divide(T, work, out=work)
        xp.subtract(out, work, out=out)


class CrossEntropy(Loss):
    """ℓ = -Σⱼ tⱼ log(yⱼ + ε)        ∂ℓ/∂yⱼ = -tⱼ / (yⱼ + ε)

    on probabilities, such as Softmax gives; t is a one-hot row or a class label.

    Parameters
    ----------
    eps : float
        ε, which keeps both finite at y = 0.
    """

    mean_over_outputs = False
    distribution = True

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = positive("CrossEntropy: eps", eps)

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


class SoftmaxCrossEntropy(Loss):
    """ℓ = -Σⱼ tⱼ log pⱼ  with  p = softmax(z)        ∂ℓ/∂zⱼ = pⱼ - tⱼ      (Σⱼ tⱼ = 1)

    on scores z, with the two formulas merged: log pⱼ = zⱼ - max z - log Σₖ exp(zₖ - max z) is exact
    for any score, and the gradient has no division. t is a class label, a one-hot row, or any
    distribution over the classes.
    """

    mean_over_outputs = False
    one_element = True
    distribution = True

    def _make(self, n: int, width: int, dtype: Any) -> None:
        """Make room for p - t, too."""
        self._dZ = self.xp.empty((n, width), dtype)
        super()._make(n, width, dtype)

    def _targets(self, t: Array, n: int) -> Array:
        """Return labels as they are."""
        return t if t.ndim == 1 and t.dtype == np.int64 else super()._targets(t, n)

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ, and the gradient on the way: share · (p - t), where all samples have the same share"""
        n, scale = len(Y), self._share if isinstance(self._share, float) else 1.0
        self.dZ = self._dZ[:n]
        written = CrossEntropyArrays(out[:, 0], self.dZ, self._scratch[:n], self._T[:n])
        self.xp.softmax_cross_entropy(Y, T, written, scale)

    def backward(self) -> Array:
        """Return dY, the gradient of the L that the last `forward` gave, shape (n, outputs)."""
        self._need_forward()
        if isinstance(self._share, float):
            return self.dZ
        return self.xp.multiply(self.dZ, self._share, out=self._dY[: len(self.Y)])
