"""What a callback remembers, as a file can hold it: arrays, numbers, words, lists of them."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from xpnet.support.archive import DTYPES, NAME
from xpnet.support.errors import CheckpointError

NOT_FINITE = "not finite"  # JSON has no word for them: {"not finite": "nan"}


def split_state(owner: str, state: Any) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Return the arrays of a callback's state, and the rest as JSON can hold it.

    Raises
    ------
    CheckpointError
        If a value cannot be stored; it names the owner and the value, and what can be.
    """
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{owner}.state_dict() must return a dict; got {state!r:.60}")
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    rest: dict[str, Any] = {}
    for name, value in state.items():
        what = f"{owner} cannot be saved: {name!r:.60} of its state_dict()"
        if type(value) is np.ndarray and value.ndim:
            arrays[name] = _array(what, name, value)
        else:
            rest[_word(what, name)] = _plain(what, value)
    return arrays, rest


def joined_state(rest: Any) -> Any:
    """Return what `split_state` has made plain, with the numbers that are not finite."""
    if isinstance(rest, dict):
        if list(rest) == [NOT_FINITE]:
            return float(rest[NOT_FINITE])
        return {name: joined_state(value) for name, value in rest.items()}
    return [joined_state(value) for value in rest] if isinstance(rest, list) else rest


def _array(what: str, name: Any, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise CheckpointError(f"{what}: the name of an array is letters, digits, _ and dots")
    if value.dtype.newbyteorder("<").str.encode() not in DTYPES:
        raise CheckpointError(
            f"{what} is an array of the dtype {value.dtype}; a file holds real numbers: "
            "use astype(float), or a list of words"
        )
    return value


def _word(what: str, name: Any) -> str:
    if not isinstance(name, str) or name == NOT_FINITE:
        raise CheckpointError(f"{what}: {name!r:.60} cannot be a name there; use another word")
    return str(name)


def _plain(what: str, value: Any) -> Any:
    """Return a value as JSON can hold it; numbers of NumPy become Python's, tuples lists."""
    if isinstance(value, list | tuple):
        return [_plain(what, item) for item in value]
    if isinstance(value, Mapping):
        return {_word(what, name): _plain(what, item) for name, item in value.items()}
    if isinstance(value, np.generic | np.ndarray) and value.ndim == 0:
        value = value.item()
    found = _scalar(value)
    if found is None and value is not None:
        raise CheckpointError(
            f"{what} holds {reprlib.repr(value)}, a {type(value).__name__}; a file holds numbers, "
            "words, None, lists and dicts of them, and arrays that are values of the dict itself"
        )
    return found


def _scalar(value: Any) -> Any:
    """Return a number or a word as Python's own, or None."""
    if isinstance(value, float):
        return float(value) if isfinite(value) else {NOT_FINITE: repr(float(value))}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and abs(value) < 2**64:
        return bool(value) if isinstance(value, bool) else int(value)
    return None
