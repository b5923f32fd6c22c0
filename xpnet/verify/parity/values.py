"""The results of a pass, arrays on the host by phase, layer and parameter, and their norms."""

from __future__ import annotations

from typing import Any

import numpy as np

Host = np.ndarray[Any, Any]
Key = tuple[str, str, str]  # phase, layer, parameter; "" is the output or dX
Values = dict[Key, Host]

LOSS: Key = ("loss", "", "")
LOSS_GRADIENT: Key = ("loss", "", "dY")


def norm(a: Host) -> float:
    """Return the root of the sum of all squares."""
    return float(np.linalg.norm(np.ravel(a)))


def largest(a: Host) -> float:
    """Return the largest |a|, 0 for an empty array."""
    return float(np.max(np.abs(a), initial=0.0))


def worst(a: Host, b: Host) -> tuple[int, ...]:
    """Return the index of the largest difference; NaN counts as largest, -0 differs from 0."""
    off = np.asarray(np.abs(a.astype(np.float64) - b))
    off[(a == b) & (np.signbit(a) == np.signbit(b))] = -1.0
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
