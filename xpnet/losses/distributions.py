"""Losses whose target is a distribution over classes: a label, a one-hot row, or any other."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.losses.base import Loss
from xpnet.support.attributes import Checked
from xpnet.support.checks import fraction, is_whole
from xpnet.support.errors import OptionError


def _label(name: str, value: Any) -> int | None:
    if value is not None and (not is_whole(value, -(2**62)) or isinstance(value, bool)):
        raise OptionError(f"{name} must be a whole number or None; got {value!r}")
    return None if value is None else int(value)


class Distributions(Loss):
    """The options that the cross entropies of several classes share."""

    mean_over_outputs = False
    distribution = True
    label_smoothing: Any = Checked(fraction)
    ignore_index: Any = Checked(_label)

    def __init__(self, label_smoothing: float, ignore_index: int | None, reduction: str) -> None:
        super().__init__()
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        self.reduction = reduction

    def _targets(self, t: Array, n: int) -> Array:
        """Return distributions: (1 - α) t + α / classes"""
        xp, alpha, T = self.xp, self.label_smoothing, self._T[:n]
        if not alpha:
            return super()._targets(t, n)
        T = xp.one_hot(t, out=T) if t.ndim == 1 else xp.copyto(T, t.reshape(n, -1))
        xp.multiply(T, 1.0 - alpha, out=T)
        return xp.add(T, alpha / self._shape[1], out=T)

    def ignored(self, t: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return which labels are ``ignore_index``."""
        if self.ignore_index is None or t.ndim != 1:
            return super().ignored(t)
        return np.asarray(t == self.ignore_index)

    def leaves_out(self, t: Array) -> bool:
        """Return True if labels may be ``ignore_index``."""
        return self.ignore_index is not None and bool(t.ndim == 1)

    def leave_out(self, t: Array, share: Array) -> None:
        """share = share · Σⱼ [t = j], over all classes j but the ignored one"""
        xp, n, k = self.xp, len(self.Y), self.ignore_index
        hot = xp.one_hot(t, out=self._dY[:n])  # not in use before the gradient
        if k is not None and 0 <= k < self._shape[1]:
            xp.copyto(hot[:, k], 0.0)
        xp.sum(hot, axis=1, out=self._column[:n], keepdims=True)
        xp.multiply(share, self._column[:n], out=share)
