"""Two spirals, one inside the other (Lang and Witbrock, "Learning to tell two spirals apart")."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.host_functions import cos_sin
from xpnet.backend.random import Random
from xpnet.support.checks import at_least_0, count, positive
from xpnet.support.errors import OptionError


def spiral(
    n: int = 400, noise: float = 0.25, turns: float = 2.0, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return points of two arms and the arm that each is on.

    A point at the angle φ is ±φ (cos φ, sin φ) plus noise, so that neighbouring arms are π apart;
    φ² is uniform, so that the density is even. All is divided by the largest radius, 2π turns.

    Parameters
    ----------
    n : int
        Points in all; every second one is on the second arm.
    noise : float
        Standard deviation, where the distance between the arms is π.
    turns : float
        How often each arm goes round; it begins a quarter turn from the centre.
    seed : int
        Of the points and the noise.

    Returns
    -------
    X : ndarray of float64, shape (n, 2)
    t : ndarray of int64, shape (n,)
        0 or 1.

    Raises
    ------
    OptionError
        If n is below 2 or the noise is negative.
    """
    n, noise, turns = count("n", n, least=2), at_least_0("noise", noise), positive("turns", turns)
    if turns <= 0.25:
        raise OptionError(f"turns must be above a quarter, where the arms begin; got {turns!r}")
    random, end = Random(seed, "spiral"), 2 * pi * turns
    angle = np.sqrt(random.uniform((n,), pi * pi / 4, end * end))
    t = np.arange(n) % 2
    arm = np.where(t == 0, angle, -angle)
    cos, sin = cos_sin(angle / (2 * pi))
    X = np.stack([arm * cos, arm * sin], axis=1)
    return (X + noise * random.normal((n, 2))) / end, t
