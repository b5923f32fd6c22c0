"""Fingerprints of data: equal values, as a training uses them, have equal ones."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data.mapped import is_large_file
from xpnet.network import Sequential
from xpnet.training.data import Columns

PART = 2**24  # bytes that are read at once
SOME = 4096  # rows of a file that is mapped into memory, which are read instead of all


def prints_of_columns(net: Sequential, columns: Columns) -> tuple[dict[str, int], int | None]:
    """Return the fingerprints of X and t on the device, and that of the weights, if any."""
    X, t, *weights = [fingerprint_of(net, column) for column in columns.arrays]
    return {"samples": columns.samples, "X": X, "t": t}, weights[0] if weights else None


def prints_of_validation(net: Sequential, data: Sequence[Any] | None) -> dict[str, int] | None:
    """Return the fingerprints of checked validation data: X, t and perhaps weights."""
    if data is None:
        return None
    kept = [None, *(np.int64 if a.dtype.kind in "iu" else net.dtype for a in data[1:])]
    kept[0] = data[0].dtype if data[0].dtype == np.uint8 else net.dtype
    named = zip(("X", "t", "weights"), data, kept, strict=False)
    return {"samples": len(data[0]), **{k: fingerprint_of(net, a, d) for k, a, d in named}}


def fingerprint_of(net: Sequential, a: Array, dtype: Any = None) -> int:
    """Return a CRC-32 of the values of an array, row after row, in a type.

    Of a file that is mapped into memory some rows are read, as it may be larger than the memory.
    """
    dtype = np.dtype(a.dtype if dtype is None else dtype)
    found = zlib.crc32(f"{dtype.str[1:]} {a.size}".encode())
    for part in _parts(net, a):
        found = zlib.crc32(np.ascontiguousarray(part, dtype).data.cast("B"), found)
    return found


def _parts(net: Sequential, a: Any) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the rows on the host, a part at a time."""
    if len(a) > SOME and is_large_file(a):
        yield a[np.linspace(0, len(a) - 1, SOME).astype(np.int64)]
        return
    rows = max(1, PART * len(a) // max(1, a.size * a.dtype.itemsize))
    for first in range(0, len(a), rows):
        some = slice(first, first + rows)
        yield a.read(some) if hasattr(a, "read") else net.xp.asnumpy(a[some])
