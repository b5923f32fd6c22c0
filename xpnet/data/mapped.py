"""Mapped: rows of a file that is mapped into memory, read without the file coming into memory."""

from __future__ import annotations

import os
from collections import deque
from itertools import repeat
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np

from xpnet.support.errors import DataError

Array = Any
LARGE = 2**28  # bytes; smaller arrays may come into memory, as reading that is faster
NOWAIT = getattr(os, "RWF_NOWAIT", None)  # of Linux: only what is in the kernel's memory


class Mapped:
    """Reads rows of a `numpy.memmap` by system calls instead of through the mapping.

    Every page that is read through a mapping counts as memory of this process, and a page fault
    loads the neighbouring pages too: rows in random order soon load the whole file. A system call
    copies only the row, and costs less than a page fault. If a row is on disk only, the kernel is
    first told all rows of the batch, so that the disk has many requests at once.

    Parameters
    ----------
    file : int
        The descriptor of the open file, which is closed together with this object.
    start : int
        The offset of the first row in the file, in bytes.
    like : array
        The mapped array; it gives the shape and the dtype.
    size : int
        The largest number of rows that are read at once.

    Raises
    ------
    DataError
        By `read`, if the file has become shorter since it was mapped.
    """

    def __init__(self, file: int, start: int, like: Array, size: int) -> None:
        self.file, self.start = file, start
        finalize(self, os.close, file)
        self._out = np.empty((size, *like.shape[1:]), like.dtype)
        self._buffers: list[Any] = [[row] for row in self._out.reshape(size, -1)]
        self._bytes: int = self._out[0].nbytes

    def read(self, rows: Array) -> Array:
        """Return these rows, in an array that the next call overwrites."""
        places = (rows * self._bytes + self.start).tolist()
        if not self._read(places, NOWAIT):
            self._announce(places)
            if not self._read(places, 0):
                raise DataError("the file of a memmap has become shorter since it was mapped")
        return self._out[: len(rows)]

    def _read(self, places: list[int], flags: Any) -> bool:
        """Fill the buffers; return True if all rows could be read."""
        read = map(os.preadv, repeat(self.file), self._buffers, places, repeat(flags))
        try:
            return sum(read) == len(places) * self._bytes
        except OSError:  # it would have to wait, or cannot tell on this file system
            if flags:
                return False
            raise

    def _announce(self, places: list[int]) -> None:
        """Ask the kernel to start reading all these rows from the disk."""
        size, soon = repeat(self._bytes), repeat(os.POSIX_FADV_WILLNEED)
        deque(map(os.posix_fadvise, repeat(self.file), places, size, soon), maxlen=0)


def is_large_file(a: Array) -> bool:
    """Return True if an array is a large part of a mapped file."""
    return _memmap_of(a) is not None and a.nbytes >= LARGE


def _memmap_of(a: Array) -> Any:
    """Return the mapped file whose values an array shows, or None."""
    base = a
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
    return base


def find_mapped(a: Array, size: int) -> Mapped | None:
    """Return a reader of ``size`` rows at once if ``a`` is a large part of a mapped file.

    The kernel's list of mappings gives the place of ``a`` in the file. Otherwise, and if the file
    has been renamed, the result is None. Without a reader, ``a`` is used like any other array.
    """
    base = _memmap_of(a)
    if NOWAIT is None or base is None or base.filename is None or a.nbytes < LARGE:
        return None
    try:
        start, number = _find_mapping(a.ctypes.data, a.nbytes)
        file = os.open(base.filename, os.O_RDONLY)
    except OSError:
        return None
    if os.fstat(file).st_ino != number:
        os.close(file)
        return None
    os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
    return Mapped(file, start, a, size)


def _find_mapping(address: int, size: int) -> tuple[int, int | None]:
    """Return the offset of an address in its file, and the inode number of the file.

    The number is None if no file is mapped there, and for a private mapping (mode "c"), which may
    hold changes that are not in the file.
    """
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            span, access, offset, _, number, *_ = line.split()
            first, last = (int(edge, 16) for edge in span.split("-"))
            if first <= address and address + size <= last and access.endswith("s"):
                return int(offset, 16) + address - first, int(number)
    return 0, None
