"""Checks of the shape of a sample, for the layers that take vectors."""

from __future__ import annotations

from math import prod

from xpnet.layers.base import Layer, Shape
from xpnet.support.errors import ShapeError


def features(layer: Layer, shape: Shape | None, n: int) -> Shape:
    """Return (n,), after checking that samples of that shape have n features.

    Raises
    ------
    ShapeError
        Naming the layer and both shapes.
    """
    if shape is not None and shape != (n,):
        came = f"{shape[0]} features" if len(shape) == 1 else f"samples of shape {shape}"
        hint = "; put Flatten() before it" if len(shape) > 1 and prod(shape) == n else ""
        raise ShapeError(f"{layer!r} takes {n} features, but {came} come in{hint}")
    return (n,)
