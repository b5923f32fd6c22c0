"""Which array module computes: ``set_backend``, ``use_backend`` and their friends.

The default backend is a plain global of the process. A network keeps the backend it was made with,
so changing the default never moves a network; ``net.to`` does.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from xpnet.backend.base import Array, Backend
from xpnet.backend.on_numpy import NumPyBackend
from xpnet.backend.reproducible import Reproducible
from xpnet.support.errors import BackendError, MixedArraysError
from xpnet.support.messages import cannot_write, unknown, what_went_wrong

__all__ = [
    "Array",
    "Backend",
    "available_backends",
    "backend_of",
    "find_backend",
    "get_array_module",
    "get_backend",
    "set_backend",
    "use_backend",
]

CACHE_ELSEWHERE = "name a folder that can be written with CUPY_CACHE_DIR"
NAMES = ("numpy", "numba", "cupy", "auto", "cpu", "gpu", "cuda")  # and cuda:1, cupy:1 ...

_default: Backend | None = None  # made from XPNET_BACKEND when it is first asked for


def set_backend(
    name: str | Backend, reproducible: bool | None = None, tf32: bool = False
) -> Backend:
    """Choose the backend of all networks that are made from now on.

    Parameters
    ----------
    name : str or Backend
        ``"numpy"`` (also ``"cpu"``); ``"numba"``: NumPy's arrays, with loops that Numba compiles;
        ``"cupy"`` (also ``"gpu"``, ``"cuda"``, ``"cuda:1"``); or ``"auto"``: CuPy if it works here,
        else NumPy, which is said once.
    reproducible : bool, optional
        True: the same bits on every backend and every machine, for networks of float32; see
        `xpnet.backend.reproducible`. By default what ``$XPNET_REPRODUCIBLE`` says, else False.
    tf32 : bool
        True: on CuPy, the operands of float32 products are rounded to 11 bits (TensorFloat-32),
        which large networks gain speed from, and gradients lose three digits by. Never otherwise.

    Returns
    -------
    Backend
        The backend, the ``xp`` of its layers.

    Raises
    ------
    BackendError
        If the name is unknown, or CuPy or Numba was asked for and cannot be used, or this machine
        cannot compute reproducibly; the message gives the reason and the way out.
    """
    global _default
    _default = find_backend(name, reproducible, tf32)
    return _default


def get_backend() -> Backend:
    """Return the default backend: what `set_backend` chose, else ``$XPNET_BACKEND``, else NumPy."""
    return set_backend(from_environment("numpy")) if _default is None else _default


def from_environment(otherwise: str, reproducible: bool | None = None) -> Backend:
    """Return the backend that ``$XPNET_BACKEND`` names, or the other one if it names none."""
    if reproducible is None:
        reproducible = _reproducible_by_environment()
    name = os.environ.get("XPNET_BACKEND", "").strip()
    if not name:
        return find_backend(otherwise, reproducible)
    try:
        return find_backend(name, reproducible)
    except BackendError as error:
        raise BackendError(f"the environment variable XPNET_BACKEND: {error}") from None


def _reproducible_by_environment() -> bool:
    text = os.environ.get("XPNET_REPRODUCIBLE", "").strip()
    if text not in ("", "0", "1"):
        raise BackendError(f"the environment variable XPNET_REPRODUCIBLE is 0 or 1; got {text!r}")
    return text == "1"


@contextmanager
def use_backend(
    name: str | Backend, reproducible: bool | None = None, tf32: bool = False
) -> Iterator[Backend]:
    """Choose the backend inside a ``with`` block, and restore the one before; see `set_backend`.

    All threads have the same default; where several make networks, each should name its backend.
    """
    global _default
    before = _default
    try:
        yield set_backend(name, reproducible, tf32)
    finally:
        _default = before


def available_backends() -> list[str]:
    """Return the names of the backends that work on this machine."""
    reasons = {"numpy": "", "numba": why_no_numba(), "cupy": why_no_cupy()}
    return [name for name, reason in reasons.items() if not reason]


def find_backend(
    name: str | Backend, reproducible: bool | None = None, tf32: bool = False
) -> Backend:
    """Return the backend of this name without making it the default; see `set_backend`."""
    for option, value in (("reproducible", reproducible), ("tf32", tf32)):
        if not (value is None or isinstance(value, bool)):
            raise BackendError(f"{option} is True or False; got {value!r}")
    if reproducible is None and not isinstance(name, Backend):
        reproducible = _reproducible_by_environment()
    if tf32 and reproducible:
        raise BackendError("tf32 rounds as each GPU does; reproducible mode cannot be had with it")
    found = name if isinstance(name, Backend) else _find(name, tf32)
    if reproducible is None or reproducible == found.reproducible:
        return found
    return _reproducible(found) if reproducible else found.ordinary


def _find(name: str, tf32: bool) -> Backend:
    """Return the ordinary backend of this name."""
    kind, device = parse_name(name)
    if kind in ("numpy", "cpu", "numba") and tf32:
        raise BackendError("NumPy has no tf32; leave it out, or use the backend 'cupy'")
    if kind in ("numpy", "cpu"):
        return _numpy()
    reason = why_no_numba() if kind == "numba" else why_no_cupy(device)
    if not reason:
        return _numba() if kind == "numba" else _cupy(device, tf32)
    if kind != "auto":
        raise BackendError(f"the backend {name!r} cannot be used: {reason}")
    say_once(f"no GPU in use, computing with NumPy: {reason}")
    return _numpy()


def backend_of(a: Array) -> Backend:
    """Return the backend that an array belongs to: the default one if it can be, else by its type.

    Raises
    ------
    MixedArraysError
        If ``a`` is no array of any backend.
    """
    if get_backend().owns(a):
        return get_backend()
    kind = type(a).__module__.partition(".")[0]
    if kind not in ("numpy", "cupy"):
        raise MixedArraysError(f"neither a NumPy nor a CuPy array: {type(a).__name__}")
    return find_backend(kind)


def parse_name(name: str) -> tuple[str, int]:
    """Return the kind of backend and the number of the device that a name means.

    Raises
    ------
    BackendError
        With the nearest valid name, if there is no such backend.
    """
    kind, colon, device = str(name).strip().lower().partition(":")
    numbered = device.isascii() and device.isdigit() and kind in ("cupy", "gpu", "cuda")
    if kind not in NAMES or (colon and not numbered):
        raise BackendError(unknown("backend", name, NAMES))
    return kind, int(device or 0)


def get_array_module(*arrays: Any) -> Any:
    """Return numpy or cupy, whichever the arrays belong to (numpy for lists and numbers).

    Raises
    ------
    MixedArraysError
        If some arrays are NumPy's and some CuPy's.
    """
    if not any(type(a).__module__.partition(".")[0] == "cupy" for a in arrays):
        return np
    if any(isinstance(a, np.ndarray) for a in arrays):
        raise MixedArraysError(
            "NumPy and CuPy arrays in one call; move them to one side first, "
            "with cupy.asarray(a) or a.get()"
        )
    import cupy

    return cupy


@cache
def why_no_cupy(device: int = 0) -> str:
    """Return the reason why CuPy cannot be used here, one sentence; empty if it can."""
    try:
        from xpnet.backend.on_cupy import probe
    except Exception as error:  # whatever a CuPy that does not fit this machine leads to
        if not isinstance(error, ModuleNotFoundError) or error.name != "cupy":
            return _why_no_import(error)
        return (
            "CuPy is not installed; on a machine with an NVIDIA GPU run "
            "pip install 'cupy-cuda13x[ctk]' (driver 580 or newer) or 'cupy-cuda12x[ctk]'"
        )
    return probe(device)


def _why_no_import(error: Exception) -> str:
    """Return the sentence for a CuPy that is installed and does not import."""
    way_out = "reinstall CuPy"
    if cannot_write(error):  # as CuPy makes the folder for its compiled kernels
        way_out = CACHE_ELSEWHERE
    return (
        f"CuPy is installed but does not import ({what_went_wrong(error)}); {way_out}, "
        "or use backend='numpy'"
    )


@cache
def why_no_numba() -> str:
    """Return the reason why Numba cannot be used here, one sentence; empty if it can."""
    try:
        import numba  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "numba":
            return (
                "Numba is not installed; run pip install numba, or pip install '.[fast]' in the "
                "folder of xpnet"
            )
        reason: Exception = error
    except Exception as error:  # whatever a NumPy that is too new for it leads to
        reason = error
    else:
        return ""
    return f"Numba is installed but does not import ({reason}); run pip install --upgrade numba"


@cache
def _numpy() -> Backend:
    return NumPyBackend()


@cache
def _numba() -> Backend:
    from xpnet.backend.on_numba import NumbaBackend

    return NumbaBackend()


@cache
def _cupy(device: int, tf32: bool) -> Backend:
    from xpnet.backend.on_cupy import CuPyBackend

    return CuPyBackend(device, tf32)


@cache
def _reproducible(ordinary: Backend) -> Backend:
    if getattr(ordinary, "tf32", False):
        raise BackendError("reproducible mode is not possible on a backend with tf32")
    if ordinary.name != "cupy":
        return Reproducible(ordinary)
    from xpnet.backend.on_cupy import CuPyBackend, compute_there
    from xpnet.backend.reproducible_cupy import ReproducibleCuPy

    assert isinstance(ordinary, CuPyBackend)
    mode = ReproducibleCuPy(ordinary)
    compute_there(mode, ordinary)
    return mode


@cache
def say_once(message: str) -> None:
    """Log a warning, the first time that there is reason for it."""
    logging.getLogger("xpnet").warning(message)
