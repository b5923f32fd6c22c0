"""Checks of what a user gives, and of what a file holds: numbers in a range, data as arrays."""

from __future__ import annotations

import sys
from math import inf
from typing import Any

import numpy as np

from xpnet.support.errors import DataError, OptionError


def positive(name: str, value: Any) -> float:
    """Return a finite number above 0, else raise OptionError with the name and the value."""
    return _checked(name, value, 0 < _number(name, value) < inf, "positive and finite")


def at_least_0(name: str, value: Any) -> float:
    """Return a finite number of 0 or more, else raise OptionError."""
    return _checked(name, value, 0 <= _number(name, value) < inf, "0 or more and finite")


def fraction(name: str, value: Any) -> float:
    """Return a number of at least 0 and below 1, else raise OptionError."""
    return _checked(name, value, 0 <= _number(name, value) < 1, "at least 0 and below 1")


def count(name: str, n: Any, least: int = 1) -> int:
    """Return a whole number of ``least`` or more, else raise OptionError."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < least:
        raise OptionError(f"{name} must be a whole number, {least} or more; got {n!r}")
    return int(n)


def is_whole(value: Any, least: int = 0, below: float = inf) -> bool:
    """Return True if a value of a file is a whole number of at least ``least``."""
    return type(value) is int and least <= value < below  # by its type: True is not a number


def is_finite(value: Any) -> bool:
    """Return True if a value of a file is a finite number."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _number(name: str, value: Any) -> float:
    if isinstance(value, str):
        raise OptionError(f"{name} must be a number; got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):  # the last: a whole number of 310 digits
        raise OptionError(f"{name} must be a number; got {value!r:.60}") from None


def _checked(name: str, value: Any, right: bool, rule: str) -> float:
    if not right:
        raise OptionError(f"{name} must be {rule}; got {value!r}")
    return float(value)


def on_host(a: Any, name: str) -> np.ndarray[Any, Any]:
    """Return data of any kind as a NumPy array of real numbers, without a copy where possible.

    Data are lists, arrays of NumPy and CuPy, frames and series of pandas and polars, tensors of
    PyTorch, and all else that NumPy can read or that has ``__dlpack__``.

    Raises
    ------
    DataError
        If the data are not numbers, are rows of unequal lengths, or lack a value.
    """
    host = a if isinstance(a, np.ndarray) else _as_array(a, name)
    if host.dtype.kind not in "fiub":
        first = f", first value {host.flat[0]!r}" if host.size else ""
        raise DataError(f"{name} must hold numbers; got the dtype {host.dtype}{first}")
    return host


def _as_array(a: Any, name: str) -> np.ndarray[Any, Any]:
    """Return data as a NumPy array of any dtype."""
    try:
        return _read(a, name)
    except DataError:
        raise
    except ValueError:
        raise DataError(f"{name} has rows of unequal lengths; each needs as many numbers") from None
    except Exception as error:  # of whatever library it is
        kind = f"{type(a).__module__.partition('.')[0]}.{type(a).__name__}"
        raise DataError(f"{name} is a {kind} that NumPy cannot read: {error}") from None


def _read(a: Any, name: str) -> np.ndarray[Any, Any]:
    """Return data of any library as a NumPy array."""
    if hasattr(a, "get") and hasattr(a, "strides"):  # CuPy's, which np.asarray refuses
        return np.asarray(a.get())
    if any(hasattr(a, word) for word in ("iloc", "iter_columns", "is_null")):
        return _columns_as_array(a, name)
    host = np.asarray(a.detach() if hasattr(a, "detach") else a)  # a tensor with a gradient
    return np.from_dlpack(a) if host.dtype == object and hasattr(a, "__dlpack__") else host


def _columns_as_array(a: Any, name: str) -> np.ndarray[Any, Any]:
    """Return a frame or a series of pandas or polars as an array; each column is checked."""
    if hasattr(a, "iter_columns"):  # a frame of polars
        columns = [(f"{name}: the column {column.name!r}", column) for column in a.iter_columns()]
    elif hasattr(a, "columns"):  # of pandas
        columns = [(f"{name}: the column {label!r}", column) for label, column in a.items()]
    else:
        columns = [(name, a)]
    for where, column in columns:
        _check_column(column, where)
    host = np.asarray(a.to_numpy())
    if host.dtype != object:
        return host
    # NumPy has no type for all columns together, or one of them holds no numbers.
    return np.stack([on_host(column.to_numpy(), where) for where, column in columns], axis=1)


def _check_column(column: Any, name: str) -> None:
    """Check that a series has a type of numbers, and that no value is missing."""
    if getattr(column.dtype, "kind", "f") not in "fiub":  # polars' types have none
        raise DataError(f"{name} must hold numbers; got the dtype {column.dtype}")
    if not isinstance(column.dtype, np.dtype):  # there, what is missing is NaN, as in arrays
        missing = np.asarray(column.is_null() if hasattr(column, "is_null") else column.isna())
        if missing.any():
            row = int(missing.argmax())
            raise DataError(f"{name} has no value in row {row}; fill it in, or drop the row")
