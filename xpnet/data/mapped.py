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
    """Reads rows of an `numpy.memmap` by system calls, not by way of the mapping.

    Every page that is read through a mapping counts as memory of this process, and a page fault
    brings its neighbours along: in random order, all of the file soon is there. A system call
    copies the one row, and costs less than the page fault. Where a row is on disk only, the kernel
    hears of the whole batch first, so that the disk has many requests at once.

    Parameters
    ----------
    file : int
        The descriptor of the open file, which is closed together with this object.
    start : int
        The place of the first row in the file.
    like : array
        The mapped array, for its shape and dtype.
    size : int
        How many rows are read at once, at most.

    Raises
    ------
    DataError
        By `read`, if the file is shorter than when it was mapped.
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
        """Fill the buffers, and tell whether all was there."""
        read = map(os.preadv, repeat(self.file), self._buffers, places, repeat(flags))
        try:
            return sum(read) == len(places) * self._bytes
        except OSError:  # it would have to wait, or cannot tell on this file system
            if flags:
                return False
            raise

    def _announce(self, places: list[int]) -> None:
        """Let the kernel begin to fetch all of them from the disk."""
        size, soon = repeat(self._bytes), repeat(os.POSIX_FADV_WILLNEED)
        deque(map(os.posix_fadvise, repeat(self.file), places, size, soon), maxlen=0)


def find_mapped(a: Array, size: int) -> Mapped | None:
    """Return a reader of ``a`` for so many rows at once, if ``a`` is a large part of a file.

    The kernel's list of mappings says where in which file ``a`` lies. Otherwise, and where that
    file has another name by now, it is None, and ``a`` is used as any other array.
    """
    base = a
    while base is not None and not isinstance(base, np.memmap):
        base = getattr(base, "base", None)
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
    """Return where in its file some memory lies, and the file's inode number, None if unknown.

    A private mapping (mode "c") may hold changes that are not in the file: it has no number.
    """
    with Path("/proc/self/maps").open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            span, access, offset, _, number, *_ = line.split()
            first, last = (int(edge, 16) for edge in span.split("-"))
            if first <= address and address + size <= last and access.endswith("s"):
                return int(offset, 16) + address - first, int(number)
    return 0, None
