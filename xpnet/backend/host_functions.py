"""log, cos and sin on the host, from + - · / alone: the same bits on every machine.

For random numbers and data sets, which every machine should make alike; see
`xpnet.backend.elementary`, where the same is done for the functions of the layers.
"""

from __future__ import annotations

from math import pi
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import elementary

Array = NDArray[np.float64]


def log(x: Any) -> Array:
    """Return log x, for positive numbers that are not subnormal."""
    y = np.array(x, np.float64)
    elementary.log(np, y, [np.empty_like(y) for _ in range(6)])
    return y


def taylor(theta: Any) -> tuple[Any, Any]:
    """Return cos θ and sin θ for |θ| ≤ π/4, a number or an array.

    The series 1 - θ²/2! + ... + θ¹⁶/16! and θ - θ³/3! + ... + θ¹⁷/17! leave out less than 1e-16.
    """
    square, cos, sin = theta * theta, 1.0, 1.0
    for k in range(16, 0, -2):
        cos = 1 - square / (k * (k - 1)) * cos
        sin = 1 - square / ((k + 1) * k) * sin
    return cos, sin * theta


def cos_sin(turns: Any) -> tuple[Array, Array]:
    """Return cos 2πv and sin 2πv for v turns.

    v is a whole number of quarters and an exact rest; 2π times that is at most π/4.
    """
    v = np.asarray(turns, np.float64)
    quarters = np.rint(4 * v)
    cos, sin = taylor(2 * pi * (v - quarters / 4))
    place = quarters.astype(np.int64) % 4
    return np.choose(place, [cos, -sin, -cos, sin]), np.choose(place, [sin, cos, -sin, -cos])
