"""Checks of what a user gives a network: layers, a dtype, values by name, batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.mode import check_dtype
from xpnet.layers.base import Layer, Shape
from xpnet.support.errors import DataError, OptionError, ShapeError
from xpnet.support.messages import unknown

DTYPES = ("float32", "float64")


def checked_layers(layers: tuple[Any, ...]) -> list[Layer]:
    """Return the layers as a list, after checking that each is a layer and stands there once."""
    if not layers:
        raise OptionError("Sequential needs at least one layer")
    for i, layer in enumerate(layers):
        _check_layer(i, layer)
    _check_once([leaf for i, layer in enumerate(layers) for _, leaf in layer.walk(str(i))])
    for i, layer in enumerate(layers):
        owner = layer.owner()
        if owner is not None and any(layer is own for own in owner.layers):
            raise OptionError(
                f"layer {i}, {layer!r}, belongs to another network; make a new layer, or a copy of "
                "the network with net.copy()"
            )
    return list(layers)


def _check_layer(i: int, layer: Any) -> None:
    if not isinstance(layer, Layer):
        hint = f"; write {layer.__name__}()" if isinstance(layer, type) else ""
        raise OptionError(f"layer {i} of Sequential is not a Layer: {layer!r}{hint}")
    if not hasattr(layer, "parameters"):
        name = type(layer).__name__
        raise OptionError(f"layer {i}: call super().__init__() in {name}.__init__ first")


def _check_once(layers: list[Layer]) -> None:
    seen: set[int] = set()
    for layer in layers:
        if id(layer) in seen:
            raise OptionError(
                f"{layer!r} stands in the network twice; its second gradient would overwrite the "
                "first, so make one object for each place"
            )
        seen.add(id(layer))


def check_batch(X: Array) -> None:
    """Check that an array has samples of at least one value."""
    if X.ndim < 2:
        raise ShapeError(
            f"a batch has the shape (samples, features); got {X.shape}"
            + (", a single sample? use X[None, :]" if X.ndim == 1 else "")
        )
    if 0 in X.shape[1:]:
        raise ShapeError(f"a sample needs at least one value; got a batch of shape {X.shape}")


def check_shapes(found: Mapping[str, Shape], wanted: Mapping[str, Array]) -> None:
    """Check that values have the names and the shapes of some others.

    Raises
    ------
    DataError
        If a name is missing or unknown.
    ShapeError
        If a shape is another.
    """
    for name in found:
        if name not in wanted:
            raise DataError(unknown("parameter", str(name)[:80], wanted))
    for name, a in wanted.items():
        if name not in found:
            raise DataError(f"no value for the parameter {name!r}, shape {a.shape}")
        if found[name] != a.shape:
            raise ShapeError(f"the parameter {name!r} has the shape {a.shape}; got {found[name]}")


def checked_dtype(dtype: Any, xp: Backend) -> np.dtype[Any]:
    """Return the dtype, if a network on that backend can have it."""
    try:
        checked: np.dtype[Any] = np.dtype("none" if dtype is None else dtype).newbyteorder("=")
    except TypeError:
        raise OptionError(unknown("dtype", dtype, DTYPES)) from None
    if checked.name not in (*DTYPES, "complex128"):  # complex: for the gradient check
        raise OptionError(unknown("dtype", checked.name, DTYPES))
    check_dtype(xp, checked.name)
    return checked
