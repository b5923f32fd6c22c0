"""Regression problems: a noisy curve of two pieces, and the bowl x₁² + x₂²."""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.host_functions import cos_sin
from xpnet.backend.random import Random
from xpnet.support.checks import at_least_0, count

Floats = NDArray[np.float64]


def curve_truth(x: Floats) -> Floats:
    """Return the curve without noise: a wave on the left of 0, a parabola on its right."""
    return np.where(x < 0, cos_sin(x / pi)[1], x * (2 - x))


def curve(n: int = 200, noise: float = 0.1, seed: int = 0) -> tuple[Floats, Floats]:
    """Return n noisy points of the curve.

    Parameters
    ----------
    n : int
        Points, uniform on [-3, 3).
    noise : float
        Standard deviation of the targets.
    seed : int
        Of the points and the noise.

    Returns
    -------
    X, t : ndarray of float64, shape (n, 1)

    Raises
    ------
    OptionError
        If n is below 1 or the noise is negative.
    """
    n, noise = count("n", n), at_least_0("noise", noise)
    random = Random(seed, "curve")
    X = random.uniform((n, 1), -3.0, 3.0)
    return X, curve_truth(X) + noise * random.normal((n, 1))


def surface(n: int = 200, noise: float = 0.0, seed: int = 0) -> tuple[Floats, Floats]:
    """Return n points of the bowl t = x₁² + x₂².

    Parameters
    ----------
    n : int
        Points, uniform on [-1, 1)².
    noise : float
        Standard deviation of the targets.
    seed : int
        Of the points and the noise.

    Returns
    -------
    X : ndarray of float64, shape (n, 2)
    t : ndarray of float64, shape (n, 1)

    Raises
    ------
    OptionError
        If n is below 1 or the noise is negative.
    """
    n, noise = count("n", n), at_least_0("noise", noise)
    random = Random(seed, "surface")
    X = random.uniform((n, 2), -1.0, 1.0)
    return X, _bowl(X) + noise * random.normal((n, 1))


def surface_grid(side: int = 50) -> tuple[Floats, Floats]:
    """Return a grid of side x side points on [-1, 1]² and the bowl on it, as `surface` does."""
    x1, x2 = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    X = np.stack([x1.ravel(), x2.ravel()], axis=1)
    return X, _bowl(X)


def _bowl(X: Floats) -> Floats:
    return np.asarray(np.sum(X * X, axis=1, keepdims=True))
