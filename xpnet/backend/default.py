"""The backend of whatever does not name one: ``set_backend``, ``use_backend`` and their friends.

The default backend is a global variable of the process. A network keeps the backend with which it
was made, so changing the default never moves a network; ``net.to`` does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from xpnet.backend.base import Array, Backend
from xpnet.backend.registry import (
    find_backend,
    kind_of_array,
    not_an_array,
    reproducible_by_environment,
)
from xpnet.support.errors import BackendError

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
        reproducible = reproducible_by_environment()
    name = os.environ.get("XPNET_BACKEND", "").strip()
    if not name:
        return find_backend(otherwise, reproducible)
    try:
        return find_backend(name, reproducible)
    except BackendError as error:
        raise BackendError(f"the environment variable XPNET_BACKEND: {error}") from None


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


def backend_of(a: Array) -> Backend:
    """Return the backend that an array belongs to: the default one if it can be, else by its type.

    Raises
    ------
    MixedArraysError
        If ``a`` is not an array of any backend.
    """
    if get_backend().owns(a):
        return get_backend()
    kind = kind_of_array(a)
    if kind is None:
        raise not_an_array(a)
    return find_backend(kind.name)
