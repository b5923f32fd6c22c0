"""What a pass gives: arrays on the host by phase, layer and parameter, and how big they are."""

from __future__ import annotations

from typing import Any

import numpy as np

Host = np.ndarray[Any, Any]
Key = tuple[str, str, str]  # phase, layer, parameter; "" is what goes on to the next layer
Values = dict[Key, Host]

LOSS: Key = ("loss", "", "")
LOSS_GRADIENT: Key = ("loss", "", "dY")


def norm(a: Host) -> float:
    """Return the root of the sum of all squares."""
    return float(np.linalg.norm(np.ravel(a)))


def largest(a: Host) -> float:
    """Return the largest |a|, 0 where there is none."""
    return float(np.max(np.abs(a), initial=0.0))


def worst(a: Host, b: Host) -> tuple[int, ...]:
    """Return where two arrays differ most; argmax finds NaN first, and -0 differs from 0."""
    off = np.asarray(np.abs(a.astype(np.float64) - b))
    off[(a == b) & (np.signbit(a) == np.signbit(b))] = -1.0
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(off)), off.shape))
