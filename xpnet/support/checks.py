"""Checks of what a user gives, and of what a file holds: numbers in a range, data as arrays."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from xpnet.support.arrays import read
from xpnet.support.errors import OptionError

T = TypeVar("T")


def positive(name: str, value: Any) -> float:
    """Return a finite number above 0, else raise OptionError with the name and the value."""
    return _checked(name, value, 0 < _number(name, value) < inf, "positive and finite")


def at_least_0(name: str, value: Any) -> float:
    """Return a finite number of 0 or more, else raise OptionError."""
    return _checked(name, value, 0 <= _number(name, value) < inf, "0 or more and finite")


def fraction(name: str, value: Any) -> float:
    """Return a number of at least 0 and below 1, else raise OptionError."""
    return _checked(name, value, 0 <= _number(name, value) < 1, "at least 0 and below 1")


def finite(name: str, value: Any) -> float:
    """Return a finite number, else raise OptionError."""
    return _checked(name, value, -inf < _number(name, value) < inf, "finite")


def path_of(name: str, value: Any) -> Path:
    """Return a path that is given as words or as a path, else raise OptionError."""
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text:
        raise OptionError(f"{name} must be a path, of words or a pathlib.Path; got {value!r:.60}")
    return Path(text)


def file_of(name: str, value: Any) -> Path:
    """Return the path of a file to be written, else raise OptionError; ~ is no home here."""
    path = path_of(name, value)
    if "\0" in str(path):
        raise OptionError(f"{name} must have no zero byte; got {value!r:.60}")
    if os.fspath(value).endswith(("/", os.sep)):
        raise OptionError(f"{name} must be a file, and {value!r:.200} is a folder; add its name")
    return path


def or_none(check: Callable[[str, Any], T]) -> Callable[[str, Any], T | None]:
    """Return a check that lets None pass."""
    return lambda name, value: None if value is None else check(name, value)


def count(name: str, n: Any, least: int = 1) -> int:
    """Return a whole number of ``least`` or more, else raise OptionError."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < least:
        raise OptionError(f"{name} must be a whole number, {least} or more; got {n!r}")
    return int(n)


def yes_or_no(name: str, value: Any) -> bool:
    """Return True or False, else raise OptionError; the word ``"False"`` would count as True."""
    if not isinstance(value, bool | np.bool_):
        raise OptionError(f"{name} must be True or False; got {value!r:.60}")
    return bool(value)


def is_whole(value: Any, least: int = 0, below: float = inf) -> bool:
    """Return True if a value of a file is a whole number of at least ``least``."""
    return type(value) is int and least <= value < below  # by its type: True is not a number


def is_finite(value: Any) -> bool:
    """Return True if a value of a file is a finite number."""
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def _number(name: str, value: Any) -> float:
    if isinstance(value, str | bool | np.bool_):
        raise OptionError(f"{name} must be a number; got {value!r:.60}")
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

    Data are lists, arrays of NumPy and CuPy, frames and series of pandas, polars and pyarrow,
    tensors of PyTorch, and all else that NumPy can read or that has ``__dlpack__``. uint8 stays
    uint8 in arrays, where it means pixels; in frames and series it becomes int16. Longer floating
    types than float64 become float64.

    Raises
    ------
    DataError
        If the data are not numbers, are rows of unequal lengths, or lack a value.
    """
    if type(a) is np.ndarray and a.dtype.kind in "fiub" and a.dtype.itemsize <= 8:
        return a
    return read(a, name)


def must_be_read(a: Any) -> bool:
    """Return True for what `on_host` is to read before it is an array of the NumPy backend.

    These are lists, and arrays of a subclass, which may have a mask.
    """
    kind = type(a)
    return kind is not np.ndarray and issubclass(kind, list | tuple | np.ndarray)
