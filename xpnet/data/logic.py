"""Logic gates: four points each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Gate = tuple[NDArray[np.float64], NDArray[np.int64]]


def and_gate() -> Gate:
    """Return X, shape (4, 2), and t = x₁ AND x₂, shape (4,)."""
    return _gate([0, 0, 0, 1])


def or_gate() -> Gate:
    """Return X, shape (4, 2), and t = x₁ OR x₂, shape (4,)."""
    return _gate([0, 1, 1, 1])


def xor_gate() -> Gate:
    """Return X, shape (4, 2), and t = x₁ XOR x₂, shape (4,): no straight line separates it."""
    return _gate([0, 1, 1, 0])


def _gate(t: list[int]) -> Gate:
    return np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]]), np.array(t, np.int64)
