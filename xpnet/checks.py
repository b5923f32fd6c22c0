"""Checks of what a user gives: numbers in a range, and data as arrays of numbers."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np

from xpnet.errors import DataError, OptionError


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


def _number(name: str, value: Any) -> float:
    if isinstance(value, str):
        raise OptionError(f"{name} must be a number; got {value!r}")
    try:
        return float(value)
    except (TypeError, ValueError):
        raise OptionError(f"{name} must be a number; got {value!r}") from None


def _checked(name: str, value: Any, right: bool, rule: str) -> float:
    if not right:
        raise OptionError(f"{name} must be {rule}; got {value!r}")
    return float(value)


def on_host(a: Any, name: str) -> np.ndarray[Any, Any]:
    """Return a list, a NumPy array, a series or a device array as a NumPy array of real numbers.

    Raises
    ------
    DataError
        If it holds something else, or is a list of unequal lengths.
    """
    host = a.get() if _on_device(a) else a
    try:
        host = np.asarray(host)
    except ValueError:
        raise DataError(f"{name} has rows of unequal lengths; each needs as many numbers") from None
    if host.dtype.kind not in "fiub":
        first = f", first value {host.flat[0]!r}" if host.size else ""
        raise DataError(f"{name} must hold numbers; got the dtype {host.dtype}{first}")
    return host


def _on_device(a: Any) -> bool:
    """Tell whether ``a`` is an array that np.asarray refuses and ``get`` fetches, as CuPy's do."""
    return not isinstance(a, np.ndarray) and hasattr(a, "get") and hasattr(a, "strides")
