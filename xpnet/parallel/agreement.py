"""Agreement: all processes of a training begin with the same settings and numbers, and stay so."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.parallel.base import Communicator
from xpnet.support.errors import ParallelError


def begin_equal(
    comm: Communicator,
    xp: Backend,
    settings: Callable[[], Mapping[str, Any]],
    arrays: Callable[[], Iterable[Array]],
) -> None:
    """Check that all processes have the same settings, then give all the arrays of rank 0.

    A single process has nothing to do: the two functions are not called.

    Raises
    ------
    ParallelError
        On all processes, if a setting differs.
    """
    if comm.size > 1:
        require_same(comm, settings())
        broadcast(comm, xp, arrays())


def require_same(comm: Communicator, settings: Mapping[str, Any]) -> None:
    """Check that all processes have the same settings.

    Raises
    ------
    ParallelError
        On all processes; the error names the setting, and the rank that has another value.
    """
    given = comm.allgather(dict(settings))
    for name, value in given[0].items():
        for rank, other in enumerate(given):
            if other[name] != value:
                raise ParallelError(
                    "all processes train with the same settings and the whole data set, of which "
                    f"each takes its share; {name} is {other[name]!r:.150} on rank {rank} and "
                    f"{value!r:.150} on rank 0"
                )


def require_equal(comm: Communicator, what: str, a: np.ndarray[Any, Any]) -> None:
    """Check that an array has the same bits on all processes.

    Raises
    ------
    ParallelError
        On all processes.
    """
    if comm.size == 1:
        return
    found = comm.allgather(fingerprint(a))
    others = [rank for rank, other in enumerate(found) if other != found[0]]
    if others:
        raise ParallelError(
            f"{what} of rank {others[0]} are not those of rank 0 any more; something has changed "
            "parameters, learning rate or data on some processes only, such as a callback"
        )


def fingerprint(a: np.ndarray[Any, Any]) -> int:
    """Return the CRC-32 of an array: other values most likely have another number."""
    return zlib.crc32(np.ascontiguousarray(a).data.cast("B") if a.size else b"")


def broadcast(comm: Communicator, xp: Backend, arrays: Iterable[Array]) -> None:
    """Give each array on all processes the values that it has on rank 0."""
    for a in arrays:
        host = np.ascontiguousarray(xp.asnumpy(a))
        xp.copyto(a, xp.asarray(comm.bcast_array(host)))
