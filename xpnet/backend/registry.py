"""The table of all backends, and every question that is asked of it by name.

A further array library is one file with its subclass of `Backend`, and one entry in the table: a
line at the end of this file, or a call of `register_backend` from outside of xpnet.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from xpnet.backend.base import Backend
from xpnet.backend.kind import Kind
from xpnet.backend.kinds import CUPY, NUMBA, NUMPY
from xpnet.support.errors import BackendError, MixedArraysError
from xpnet.support.messages import unknown

AUTO = "auto"  # the name for the first backend with devices that works, else NumPy
KINDS: dict[str, Kind] = {}  # by their names


def register_backend(kind: Kind) -> None:
    """Add a backend to those that can be asked for by name.

    Raises
    ------
    BackendError
        If it is no `Kind`, or one of its names is taken by another backend or cannot be asked for.
    """
    if not isinstance(kind, Kind) or not isinstance(kind.aliases, tuple):
        raise BackendError(
            f"register_backend takes a Kind, with a tuple of names as aliases; got {kind!r:.100}"
        )
    for name in (kind.name, *kind.aliases):
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
            raise BackendError(
                f"{name!r} is no name of a backend; take lower-case letters, digits, _ and -"
            )
        if name in _words() and KINDS.get(name) is not kind:
            raise BackendError(f"there is a backend {name!r} already; choose another name")
    KINDS[kind.name] = kind


def available_backends() -> list[str]:
    """Return the names of the backends that work on this machine."""
    return [kind.name for kind in KINDS.values() if not kind.why_not(0)]


# ---- names --------------------------------------------------------------------------------------


def _words() -> dict[str, str]:
    """Return the name of the kind for each word that names a backend."""
    words = {word: kind.name for kind in KINDS.values() for word in (kind.name, *kind.aliases)}
    return words | {AUTO: AUTO}


def _with_devices() -> Iterator[Kind]:
    return (kind for kind in KINDS.values() if kind.devices is not None)


def parse_name(name: str) -> tuple[str, int]:
    """Return the name of the kind of backend, or "auto", and the number of the device.

    Raises
    ------
    BackendError
        With the nearest valid name, if there is no such backend.
    """
    words = _words()
    word, colon, device = str(name).strip().lower().partition(":")
    kind = KINDS.get(words.get(word, ""))
    numbered = device.isascii() and device.isdigit() and kind is not None and kind.devices
    if word not in words or (colon and not numbered):
        raise BackendError(unknown("backend", name, words))
    return words[word], int(device or 0)


def kind_with_devices(name: str) -> Kind | None:
    """Return the kind of this name if it has devices, and for "auto" the first one that has."""
    word, _ = parse_name(name)
    return next((kind for kind in _with_devices() if word in (kind.name, AUTO)), None)


def describe(names: set[str]) -> dict[str, str]:
    """Return what ``xpnet info`` prints about some kinds of backends."""
    found: dict[str, str] = {}
    for kind in KINDS.values():
        if kind.name in names:
            found |= kind.describe()
    return found


# ---- backends -----------------------------------------------------------------------------------


def find_backend(
    name: str | Backend, reproducible: bool | None = None, tf32: bool = False
) -> Backend:
    """Return the backend of this name without making it the default; see `set_backend`."""
    _check_switch("reproducible", reproducible)
    _check_switch("tf32", tf32)
    if reproducible is None and not isinstance(name, Backend):
        reproducible = reproducible_by_environment()
    if tf32 and reproducible:
        raise BackendError("tf32 rounds as each GPU does; reproducible mode cannot be had with it")
    found = name if isinstance(name, Backend) else _find(name, tf32)
    if reproducible is None or reproducible == found.reproducible:
        return found
    return _reproducible(found) if reproducible else found.ordinary


def _check_switch(option: str, value: bool | None) -> None:
    if not (value is None or isinstance(value, bool)):
        raise BackendError(f"{option} is True or False; got {value!r}")


def reproducible_by_environment() -> bool:
    """Return what ``$XPNET_REPRODUCIBLE`` says; False if it says nothing."""
    text = os.environ.get("XPNET_REPRODUCIBLE", "").strip()
    if text not in ("", "0", "1"):
        raise BackendError(f"the environment variable XPNET_REPRODUCIBLE is 0 or 1; got {text!r}")
    return text == "1"


def _find(name: str, tf32: bool) -> Backend:
    """Return the ordinary backend of this name."""
    word, device = parse_name(name)
    if word == AUTO:
        return _automatic(tf32)
    kind = KINDS[word]
    if tf32 and not kind.has_tf32:
        able = " or ".join([repr(other.name) for other in KINDS.values() if other.has_tf32])
        raise BackendError(f"{kind.library} has no tf32; leave it out, or use the backend {able}")
    if reason := kind.why_not(device):
        raise BackendError(f"the backend {name!r} cannot be used: {reason}")
    return _made(kind, device, tf32)


def _automatic(tf32: bool) -> Backend:
    """Return the first backend with devices that works, else NumPy, which is said once."""
    for kind in _with_devices():
        if not kind.why_not(0):
            return _made(kind, 0, tf32 and kind.has_tf32)
    say_once("no GPU in use, computing with NumPy; xpnet info says why")
    return _made(KINDS["numpy"], 0, False)


@cache
def _made(kind: Kind, device: int, tf32: bool) -> Backend:
    """Return the one backend of a kind on a device, which knows how it is found again."""
    xp = kind.make(device, tf32)
    if not isinstance(xp, Backend):
        raise BackendError(
            f"make of the backend {kind.name!r} must return a Backend; got {xp!r:.80}"
        )
    xp.origin = find_backend, (kind.label(device), False, tf32)
    return xp


@cache
def _reproducible(ordinary: Backend) -> Backend:
    """Return the one backend of reproducible mode on another backend."""
    if getattr(ordinary, "tf32", False):
        raise BackendError("reproducible mode is not possible on a backend with tf32")
    make = KINDS.get(ordinary.name, KINDS["numpy"]).reproducible
    if make is None:
        raise BackendError(f"the backend {ordinary.name!r} has no reproducible mode; leave it out")
    mode = make(ordinary)
    mode.origin = find_backend, (ordinary, True)
    return mode


@cache
def say_once(message: str) -> None:
    """Log a warning, the first time that there is reason for it."""
    logging.getLogger("xpnet").warning(message)


# ---- arrays -------------------------------------------------------------------------------------


def kind_of_array(a: Any) -> Kind | None:
    """Return the first kind of backend with arrays of this type, or None."""
    top = type(a).__module__.partition(".")[0]
    return next((kind for kind in KINDS.values() if kind.arrays == top), None)


def not_an_array(a: Any) -> MixedArraysError:
    """Return the error for something that is not an array of any backend."""
    libraries = " or ".join(dict.fromkeys([kind.library for kind in KINDS.values()]))
    return MixedArraysError(f"not an array of {libraries}: {type(a).__name__}")


def get_array_module(*arrays: Any) -> Any:
    """Return numpy or cupy, whichever the arrays belong to (numpy for lists and numbers).

    Raises
    ------
    MixedArraysError
        If some arrays are NumPy's and some CuPy's.
    """
    kinds = {kind.arrays: kind for a in arrays if (kind := kind_of_array(a)) is not None}
    others = [kind for kind in kinds.values() if kind.arrays != "numpy"]
    if not others:
        return np
    if len(others) > 1 or any(isinstance(a, np.ndarray) for a in arrays):
        names = "NumPy" if len(others) == 1 else others[1].library
        raise MixedArraysError(
            f"{names} and {others[0].library} arrays in one call; move them to one side first, "
            f"with {others[0].moving}"
        )
    return sys.modules[others[0].arrays]  # there is such an array, so its module is imported


# ---- the table ----------------------------------------------------------------------------------

for _kind in (NUMPY, NUMBA, CUPY):
    register_backend(_kind)
