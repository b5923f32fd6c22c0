"""Batches: the data set on the device, and fixed arrays that each step fills with a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import Any

import numpy as np

from xpnet.backend.random import Random
from xpnet.data.mapped import find_mapped
from xpnet.data.sparse import SparseRows

Array = Any
Piece = Callable[[int], tuple[int, int]]  # of the size of a batch: where a piece begins, how long


def whole(size: int) -> tuple[int, int]:
    """Return the piece that is all of a batch."""
    return 0, size


class Batches:
    """Gathers shuffled batches into fixed arrays.

    The data stays as it came, images as uint8; pixels become floating where they are gathered. The
    order of an epoch depends on the seed and the number of the epoch and on nothing else, and the
    place in the epoch is kept on the device, so that a step can be captured.

    A column that is a file mapped into memory, a `numpy.memmap`, may be larger than the memory: see
    `xpnet.data.mapped`. Of `SparseRows` only those of the batch are ever dense.

    Parameters
    ----------
    xp : Backend
        Where the batches are needed.
    columns : list of array
        The data set: inputs, targets and perhaps weights, of equal length, on the backend.
    dtypes : list of dtype
        What each column is to be in a batch.
    batch_size : int
        The last batch of an epoch has what is left.
    shuffle : bool
        False keeps the order; a batch of everything is never shuffled, as its order is no matter.
    seed : int
        Of the order.
    pieces : sequence of function, optional
        For each column, which piece of a batch is gathered; by default the whole.
    """

    def __init__(
        self,
        xp: Any,
        columns: list[Array],
        dtypes: list[Any],
        batch_size: int,
        shuffle: bool,
        seed: int,
        pieces: Sequence[Piece] | None = None,
    ) -> None:
        self.xp, self.columns, self.seed = xp, columns, seed
        self.n = len(columns[0])
        self.batch_size = min(batch_size, self.n)
        self.shuffle = shuffle and self.batch_size < self.n
        self._pieces = [whole] * len(columns) if pieces is None else pieces
        lengths = [piece(self.batch_size)[1] for piece in self._pieces]
        shapes = [(n, *c.shape[1:]) for n, c in zip(lengths, columns, strict=True)]
        self._out = [xp.empty(s, d) for s, d in zip(shapes, dtypes, strict=True)]
        self._work = [  # only pixels take a detour
            xp.empty(s, c.dtype) if c.dtype == np.uint8 else None
            for s, c in zip(shapes, columns, strict=True)
        ]
        in_pieces = xp.on_host and self.batch_size < self.n
        self._readers = [_find_reader(c, self.batch_size, in_pieces) for c in columns]
        self._as_read = np.arange(self.batch_size), np.zeros(1, np.int64)  # an order, a position
        self._order = xp.asarray(np.arange(self.n))
        self._position = xp.zeros(1, np.int64)
        self._prepared: tuple[int, Any] = (-1, None)  # an epoch and its order
        self._whole_is_there = False

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return ceil(self.n / self.batch_size)

    def sizes(self) -> list[int]:
        """Return the number of samples in each batch of an epoch."""
        return batch_sizes(self.n, self.batch_size)

    def start(self, epoch: int, batch: int = 0) -> None:
        """Go to a batch of an epoch, and shuffle for the epoch."""
        self.xp.copyto(self._position, batch * self.batch_size)
        if self.shuffle:
            self.prepare(epoch)
            self.xp.copyto(self._order, self.xp.asarray(self._prepared[1]))

    def prepare(self, epoch: int) -> None:
        """Shuffle for an epoch on the host, which has time while the device is busy."""
        if self.shuffle and self._prepared[0] != epoch:
            order = Random(self.seed, "shuffle", epoch).permutation(self.n)
            self._prepared = epoch, order

    def gather(self, size: int) -> list[Array]:
        """Return the next ``size`` samples of each column, in arrays that the next call overwrites.

        Of each column only its piece is gathered.
        A batch of everything in the same order is gathered once and for all.
        """
        pieces = [piece(size) for piece in self._pieces]
        out = [a[:n] for a, (_, n) in zip(self._out, pieces, strict=True)]
        if self._whole_is_there:
            return out
        self._gather(0, pieces[0][0], out[0])
        with self.xp.off_path():  # what follows the inputs is needed later
            for k in range(1, len(out)):
                self._gather(k, pieces[k][0], out[k])
            self.xp.add(self._position, size, out=self._position)
        self._whole_is_there = self.batch_size == self.n
        return out

    def _gather(self, k: int, first: int, out: Array) -> None:
        work, reader = self._work[k], self._readers[k]
        work = work if work is None else work[: len(out)]
        if reader is None:
            order = self._order[first:] if first else self._order
            self.xp.gather(self.columns[k], order, self._position, out=out, work=work)
        else:
            start = int(self._position[0]) + first
            rows = reader.read(self._order[start : start + len(out)])
            self.xp.gather(rows, *self._as_read, out=out, work=work)


def batch_sizes(n: int, size: int) -> list[int]:
    """Return the number of samples in each batch of n samples."""
    full, rest = divmod(n, size)
    return [size] * full + [rest] * (rest > 0)


def _find_reader(column: Array, size: int, in_pieces: bool) -> Any:
    """Return the reader that fetches the rows of a batch, None for rows that are in memory."""
    if isinstance(column, SparseRows):
        return column
    return find_mapped(column, size) if in_pieces else None
