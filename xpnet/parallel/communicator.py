"""Communicator: who else takes part in a training, and what all of them do together."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

from xpnet.backend import Array, Backend
from xpnet.support.errors import OptionError, ParallelError
from xpnet.support.messages import unknown

T = TypeVar("T")
KINDS = ("auto", "mpi", "single")
# What those that start processes tell each of them: of MPICH and Intel, Open MPI, MVAPICH.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")


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
        """Log a warning on rank 0 alone."""
        if self.rank == 0:
            logging.getLogger("xpnet").warning(message, *args)

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


def communicator(kind: str = "auto") -> Communicator:
    """Return the processes that train together, for ``Trainer(..., comm=...)``.

    They are started by MPI: ``mpiexec -n 4 python -m mpi4py script.py``.

    Parameters
    ----------
    kind : str
        ``"mpi"``: all that MPI has started; ``"single"``: this one alone; ``"auto"``: MPI's if MPI
        has started this process together with others, else this one alone.

    Returns
    -------
    Communicator
        Its ``rank`` and ``size`` say which of how many processes this is.

    Raises
    ------
    OptionError
        If there is no such kind.
    ParallelError
        If MPI is needed and mpi4py is not installed, or does not belong to the MPI that has
        started this process.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.parallel.communicator()
    <rank 0 of 1>
    """
    if kind not in KINDS:
        raise OptionError(unknown("communicator", kind, KINDS))
    started = processes_started()
    if kind == "single" or (kind == "auto" and started == 1):
        return ALONE
    try:
        from xpnet.parallel.mpi import world
    except ImportError as error:
        why = "is not installed" if error.name == "mpi4py" else f"cannot be imported ({error})"
        raise ParallelError(
            f"training on several processes needs mpi4py, which {why}; run pip install mpi4py "
            "mpich, or where there is an MPI already, pip install mpi4py"
        ) from None
    found = world()
    if found.size < started:
        raise ParallelError(
            f"{started} processes have been started, but mpi4py sees {found.size}: they are of "
            "different MPIs; start with the mpiexec of the one that mpi4py uses, which "
            "`python -m mpi4py --mpi-lib-version` names"
        )
    return found


def processes_started() -> int:
    """Return how many processes an mpiexec has started along with this one."""
    names = [*SIZES, "SLURM_STEP_NUM_TASKS"] if "PMIX_RANK" in os.environ else SIZES
    return max(1, _number_in_environment(names))


def rank_started() -> int:
    """Return the rank that mpiexec has given this process."""
    return _number_in_environment(RANKS)


def _number_in_environment(names: Sequence[str]) -> int:
    numbers = [os.environ.get(name, "") for name in names]
    return max((int(number) for number in numbers if number.isdigit()), default=0)
