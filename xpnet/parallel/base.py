"""The base of all communicators: a single process; and the share that a process has of a batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

from xpnet.backend import Array, Backend
from xpnet.support.errors import printable

T = TypeVar("T")


class Share(NamedTuple):
    """The samples of a batch that one process has.

    Attributes
    ----------
    first, rows : int
        The place of the first sample in the batch, and the number of samples, which may be 0.
    total : int
        The number of samples in the batch.
    """

    first: int
    rows: int
    total: int

    @property
    def end(self) -> int:
        """The place behind the last sample."""
        return self.first + self.rows

    @property
    def gathered(self) -> tuple[int, int]:
        """First row and number of rows to compute; a rank without rows computes one for nothing."""
        return min(self.first, self.total - 1), max(self.rows, 1)


class Communicator:
    """The processes that train together, here a single one; the words are those of MPI.

    All processes must call the same methods in the same order.

    Attributes
    ----------
    rank, size : int
        The number of this process, from 0, and how many there are.
    local_rank, local_size : int
        The same among those on this machine.
    captures : bool
        Whether a CUDA graph can hold an `allreduce` of arrays on a device.
    """

    rank, size = 0, 1
    local_rank, local_size = 0, 1
    captures = True

    def __repr__(self) -> str:
        return f"<rank {self.rank} of {self.size}>"

    @property
    def suffix(self) -> str:
        """What follows where a training is described; nothing for a single process."""
        return f", {self.size} processes" if self.size > 1 else ""

    @property
    def record(self) -> dict[str, int]:
        """What the results of a training say of the processes; nothing of a single one."""
        return {"processes": self.size} if self.size > 1 else {}

    def share(self, total: int) -> Share:
        """Return this process's share of ``total`` samples: the first ones may have one more."""
        each, more = divmod(total, self.size)
        first = self.rank * each + min(self.rank, more)
        return Share(first, each + (self.rank < more), total)

    # ---- arrays -------------------------------------------------------------------------------

    def on(self, xp: Backend) -> Communicator:
        """Return what does `allreduce` for arrays of a backend."""
        return self

    def allreduce(self, a: Array, op: str = "sum") -> Array:
        """a = Σ a over all processes, in place; with ``op="max"`` the greatest, entry by entry

        Parameters
        ----------
        a : array
            C-contiguous int32, int64, float32 or float64, of the same shape on all processes.
        op : str
            ``"sum"`` or ``"max"``.
        """
        return a

    def bcast_array(self, a: Array) -> Array:
        """Give all processes what rank 0 has in a C-contiguous NumPy array, in place."""
        return a

    # ---- objects ------------------------------------------------------------------------------

    def bcast(self, value: Any) -> Any:
        """Return what rank 0 gave; any object that can be pickled."""
        return value

    def allgather(self, value: Any) -> list[Any]:
        """Return what each process gave, by rank."""
        return [value]

    def greatest(self, number: int) -> int:
        """Return the greatest of the numbers that the processes gave."""
        return number

    def barrier(self) -> None:
        """Wait for all."""

    def finish(self) -> None:
        """Take leave of the others, as the last thing: then no exit code ends them."""

    # ---- what follows from these --------------------------------------------------------------

    def from_rank_0(self, function: Callable[[], T]) -> T:
        """Call a function on rank 0 alone, and return on all processes what it returned there."""
        value: T = self.bcast(function() if self.rank == 0 else None)
        return value

    def warn(self, message: str, *args: object) -> None:
        """Log a warning on rank 0 alone; words out of a file command no terminal."""
        if self.rank == 0:
            logging.getLogger("xpnet").warning(message, *(printable(str(a)) for a in args))

    def put_together(self, own: Array, first: int, out: Array, xp: Any) -> Array:
        """out = the rows of all processes, of which ``own`` come from place ``first`` on

        What a process has not is 0, and whole numbers with the same bits are added: that is exact.
        """
        xp.copyto(out, 0.0)
        xp.copyto(out[first : first + len(own)], own)
        self.allreduce(out.view(f"int{8 * out.dtype.itemsize}"))
        return out

    def watched(self) -> AbstractContextManager[None]:
        """End all processes, inside a ``with`` block that all enter, if one of them dies."""
        return nullcontext()


ALONE = Communicator()
