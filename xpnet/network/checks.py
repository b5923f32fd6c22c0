"""Checks of what a user gives a network: layers, a dtype, values by name, batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.mode import check_dtype
from xpnet.layers.base import Layer, Shape
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError, OptionError, ShapeError
from xpnet.support.messages import unknown

DTYPES = ("float32", "float64")
CHECK_ROWS = 4096  # rows that are checked at a time


def checked_layers(layers: Sequence[Any], net: Any = None) -> list[Layer]:
    """Return the layers as a list, after checking that each is a layer and stands there once.

    Layers may belong to the network that takes them, and to no other one.
    """
    if not layers:
        raise OptionError("Sequential needs at least one layer")
    for i, layer in enumerate(layers):
        _check_layer(i, layer)
    _check_once([leaf for i, layer in enumerate(layers) for _, leaf in layer.walk(str(i))])
    for i, layer in enumerate(layers):
        owner = layer.owner()
        if owner is not None and owner is not net and any(layer is own for own in owner.layers):
            raise OptionError(
                f"layer {i}, {layer!r}, belongs to another network; take a copy of the layer, "
                "layer.copy(), or make a new one"
            )
    return list(layers)


def _check_layer(i: int, layer: Any) -> None:
    if not isinstance(layer, Layer):
        hint = f"; write {layer.__name__}()" if isinstance(layer, type) else ""
        hint = "; write Sequential(*layers)" if isinstance(layer, list | tuple) else hint
        raise OptionError(f"layer {i} of Sequential is not a Layer: {layer!r}{hint}")
    if not hasattr(layer, "_parameters"):
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
    """Check that an array has samples of at least one value.

    Raises
    ------
    ShapeError
        If X has no axis of features.
    DataError
        If there is no sample, or no feature.
    """
    if X.ndim < 2:
        raise ShapeError(
            f"X must have the shape (samples, features); got {X.shape}. Reshape your data: "
            "for one feature X.reshape(-1, 1), for one sample X.reshape(1, -1)"
        )
    if X.size == 0:
        n, width = len(X), prod(X.shape[1:])
        raise DataError(
            f"X has no values: {n} sample(s), {width} feature(s) (shape={X.shape}) while a minimum "
            "of 1 is required."
        )


def names_of(values: Any) -> Mapping[str, Any]:
    """Return values by name, after checking that they are a mapping."""
    if not isinstance(values, Mapping):
        hint = "; use its state_dict()" if hasattr(values, "state_dict") else ""
        raise DataError(
            f"values must be a dict of arrays by name, such as state_dict() gives; got a "
            f"{type(values).__name__}{hint}"
        )
    return values


def check_fits(a: np.ndarray[Any, Any], dtype: np.dtype[Any], name: str) -> None:
    """Check that values stay what they are in this dtype, but for rounding.

    Raises
    ------
    DataError
        If a finite value becomes infinite, a fraction a whole number, or -1 a large number.
    """
    if a.dtype == dtype or (a.dtype.kind != "f" and dtype.kind not in "iu"):
        return
    with np.errstate(all="ignore"):
        cast = a.astype(dtype)
        lost = cast != a if dtype.kind in "iu" else np.isinf(cast) & np.isfinite(a)
    if lost.any():
        value, whole = a[lost].flat[0], dtype.kind in "iu"
        way_out = "give whole numbers" if whole else "use net.to(dtype='float64') before"
        raise DataError(f"{name} is {dtype}, which cannot hold {value}; {way_out}")


def check_values(
    X: Array, dtype: np.dtype[Any], name: str = "X", first: int = 0, xp: Backend | None = None
) -> None:
    """Check that all values are finite in this dtype.

    ``first`` is the number of the first row, ``xp`` the backend of an array on a device.

    Raises
    ------
    DataError
        If a value is NaN, infinite or too large; the first such value is named.
    """
    if X.dtype.kind != "f":
        return
    own, largest = (float(np.finfo(kind).max) for kind in (X.dtype, dtype))
    module = np if xp is None else xp.module
    if xp is not None and not hasattr(module, "isfinite"):
        X, module = xp.asnumpy(X), np
    for start in range(0, len(X), CHECK_ROWS):
        rows = X[start : start + CHECK_ROWS]
        finite = module.isfinite(rows) if own <= largest else module.abs(rows) <= largest
        if not finite.all():
            place = np.unravel_index(int(np.argmin(finite)), finite.shape)
            value, largest = rows[place], min(own, largest)
            row, *rest = (int(k) for k in place)
            where = [first + start + row, *rest]
            raise DataError(
                f"{name} must be finite (not NaN or inf, to {largest:.2g}); {name}{where} is "
                f"{value}; {_way_out_of(value, dtype)}"
            )


def read_batch(X: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return X of any kind as an array on the host, checked by all rules of docs/data.md.

    Raises
    ------
    DataError, ShapeError
        See `on_host`, `check_batch` and `check_values`.
    """
    host = on_host(X, "X")
    check_batch(host)
    check_values(host, dtype)
    return host


def _way_out_of(value: Any, dtype: np.dtype[Any]) -> str:
    """Return what to do about a value that a network of this dtype cannot take."""
    if np.isfinite(value):
        return f"scale the values, as the network computes with {dtype}"
    return "fill it in, or drop the row"


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


def check_state(layer: Layer, first: Mapping[str, Array]) -> None:
    """Check that what somebody has set in the state of a free layer has a place in it.

    Raises
    ------
    OptionError, ShapeError
        If the layer declares its state, and a name is unknown or a shape is another.
    """
    for name, value in layer.state.items() if first else ():
        if name not in first:
            raise OptionError(f"state of {layer!r}: {unknown('entry', name, first)}")
        if np.shape(value) != first[name].shape:
            raise ShapeError(
                f"state[{name!r}] of {layer!r} has the shape {first[name].shape}; "
                f"got {np.shape(value)}"
            )


def check_values_of(net: Any, values: Mapping[str, Any]) -> None:
    """Check that a network can take these values, and that they are finite.

    Raises
    ------
    DataError, ShapeError
        It names the value.
    """
    check_shapes({name: a.shape for name, a in values.items()}, net.state_dict())
    for name, a in values.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            raise DataError(f"{name} has numbers that are not finite")


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
