"""Sums that have one possible answer: rounded once, whatever the order of the terms."""

from __future__ import annotations

from math import fsum
from typing import Any

import numpy as np

NumPyArray = np.ndarray[Any, Any]
BLOCK = 2**16  # numbers that are Python's at a time


def total(a: Any) -> float:
    """Return Σ a in float64, rounded once (Shewchuk 1997): the same on every machine."""
    a = np.asarray(a, np.float64).reshape(-1)
    if np.isfinite(a).all():
        try:
            return fsum(x for k in range(0, len(a), BLOCK) for x in a[k : k + BLOCK].tolist())
        except OverflowError:
            pass
    with np.errstate(all="ignore"):
        return float(np.sum(a))


def mean(a: Any, sample_weight: Any = None) -> float:
    """Return Σ wᵢ aᵢ / Σ wᵢ over the rows of a, wᵢ = 1 unless given, and over its columns."""
    a = np.asarray(a, np.float64)
    if sample_weight is None:
        return total(a) / float(a.size) if a.size else float("nan")
    w = weights_of(sample_weight, len(a))
    columns = float(a.size // len(a))
    return total(a.reshape(len(a), -1) * w[:, None]) / (total(w) * columns)


def weights_of(sample_weight: Any, n: int) -> NumPyArray:
    """Return n weights in float64, the largest within [1/2, 1]: only their ratios count."""
    if sample_weight is None:
        return np.ones(n)
    w = np.asarray(sample_weight, np.float64).reshape(n)
    return np.asarray(np.ldexp(w, -np.frexp(w.max())[1]))


def precise(a: NumPyArray) -> NumPyArray:
    """Return floating numbers in float64 and whole numbers in int64: no sum of them overflows."""
    wide = {"f": np.float64, "i": np.int64, "u": np.int64}.get(a.dtype.kind)
    return a if wide is None or a.dtype == np.uint64 else a.astype(wide, copy=False)
