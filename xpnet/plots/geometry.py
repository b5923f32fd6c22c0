"""Where the pictures draw: axes, grids of points, and the shapes of images."""

from __future__ import annotations

from collections.abc import Callable
from math import isqrt, prod
from typing import Any

import numpy as np

from xpnet.plots.numbers import Floats
from xpnet.support.checks import on_host
from xpnet.support.errors import OptionError, ShapeError


def axis_range(x: Floats, margin: float = 0.1) -> tuple[float, float]:
    """Return the ends of an axis for all values, with ``margin`` times their range around them."""
    low, high = float(x.min()), float(x.max())
    more = margin * (high - low) or 0.5
    return low - more, high + more


def grid_points(x1: Floats, x2: Floats) -> Floats:
    """Return the points (x1[j], x2[i]) of a grid, row by row, shape (len(x2) * len(x1), 2)."""
    a, b = np.meshgrid(x1, x2)
    return np.stack([a.ravel(), b.ravel()], axis=1)


def plane_axes(X: Any, resolution: int, margin: float) -> tuple[Floats, Floats]:
    """Return the two axes of a grid around points of two features.

    Raises
    ------
    ShapeError
        If the points do not have two features.
    """
    X = on_host(X, "X")
    if X.ndim != 2 or X.shape[1] != 2:
        raise ShapeError(f"a plane needs samples of 2 features; X has the shape {X.shape}")
    x1, x2 = (np.linspace(*axis_range(column, margin), resolution) for column in X.T)
    return x1, x2


def interpolated(x: Any, y: Any) -> Callable[[Any], Floats]:
    """Return the function that is linear between the points (x, y), and NaN outside of them."""
    order, y = np.argsort(x.ravel()), np.ravel(y)
    return lambda at: np.interp(at, x.ravel()[order], y[order], left=np.nan, right=np.nan)


def image_shape(features: int) -> tuple[int, int]:
    """Return (height, width) of a square image with one pixel for each feature.

    Raises
    ------
    OptionError
        If the number of features is not a square.
    """
    side = isqrt(features)
    if not is_square(features):
        raise OptionError(f"{features} pixels make no square image; give the shape=(height, width)")
    return side, side


def shape_of_images(sample_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (height, width) of samples that are images: in rows of pixels they are squares.

    Raises
    ------
    OptionError
        If the shape is not that of an image of one channel, or not that of a square.
    """
    return find_shape_of_images(sample_shape) or image_shape(prod(sample_shape))


def find_shape_of_images(sample_shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return (height, width) of samples that are images of one channel; None if they are not."""
    sides = [n for n in sample_shape if n > 1]
    if len(sample_shape) > 1 and len(sides) == 2:
        return sides[0], sides[1]
    pixels = prod(sample_shape)
    return image_shape(pixels) if len(sides) < 2 and is_square(pixels) else None


def is_square(features: int) -> bool:
    """Return True if the number of features is that of the pixels of a square image."""
    return isqrt(features) ** 2 == features
