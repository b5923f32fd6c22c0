"""Alike: the processes of a training begin with the same numbers, and keep them."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.parallel.communicator import Communicator
from xpnet.support.errors import ParallelError


def require_same(comm: Communicator, settings: Mapping[str, Any]) -> None:
    """Check that all processes have the same settings.

    Raises
    ------
    ParallelError
        On all of them; it names what differs, and where.
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
    """Check that all processes have the same bits.

    Raises
    ------
    ParallelError
        On all of them.
    """
    found = comm.allgather(fingerprint(a))
    others = [rank for rank, other in enumerate(found) if other != found[0]]
    if others:
        raise ParallelError(
            f"{what} of rank {others[0]} are not those of rank 0 any more; something has changed "
            "parameters, learning rate or data on some processes only, such as a callback"
        )


def fingerprint(a: np.ndarray[Any, Any]) -> int:
    """Return a number that other bits would most likely change."""
    return zlib.crc32(np.ascontiguousarray(a).data.cast("B") if a.size else b"")


def spread(comm: Communicator, xp: Backend, arrays: Iterable[Array]) -> None:
    """Give all processes the values that rank 0 has."""
    for a in arrays:
        host = np.ascontiguousarray(xp.asnumpy(a))
        xp.copyto(a, xp.asarray(comm.bcast_array(host)))
