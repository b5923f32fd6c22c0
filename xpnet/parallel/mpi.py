"""MPI: the processes that mpiexec has started, through mpi4py."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import AbstractContextManager
from functools import cache
from types import TracebackType
from typing import Any

import numpy as np
from mpi4py import MPI

from xpnet.backend import Array, Backend, say_once
from xpnet.parallel.base import Communicator
from xpnet.parallel.launch import THREADS, cores
from xpnet.parallel.watch import watched


class MPICommunicator(Communicator):
    """All processes of an MPI communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        A copy is used, so that messages of others do not get in between.
    """

    def __init__(self, comm: Any) -> None:
        self._comm = comm.Dup()
        self.rank, self.size = comm.Get_rank(), comm.Get_size()
        here = comm.Split_type(MPI.COMM_TYPE_SHARED, key=self.rank)
        self.local_rank, self.local_size = here.Get_rank(), here.Get_size()
        self._cores: list[frozenset[int]] = here.allgather(cores())
        here.Free()
        self._op = {"sum": MPI.SUM, "max": MPI.MAX}
        self._number = np.zeros(1, np.int64)

    def on(self, xp: Backend) -> Communicator:
        """Return this itself for arrays of the host; between GPUs NCCL, or by way of the host."""
        if xp.on_host:
            return self
        from xpnet.parallel.devices import between_devices

        return between_devices(self)

    def allreduce(self, a: Array, op: str = "sum") -> Array:
        """a = Σ a over all processes, or the greatest"""
        self._comm.Allreduce(MPI.IN_PLACE, a, self._op[op])
        return a

    def bcast_array(self, a: Array) -> Array:
        """Give all processes what rank 0 has."""
        self._comm.Bcast(a)
        return a

    def bcast(self, value: Any) -> Any:
        """Return what rank 0 gave."""
        return self._comm.bcast(value)

    def allgather(self, value: Any) -> list[Any]:
        """Return what each process gave, in their order."""
        gathered: list[Any] = self._comm.allgather(value)
        return gathered

    def greatest(self, number: int) -> int:
        """Return the greatest of the numbers that the processes gave."""
        self._number[0] = number
        return int(self.allreduce(self._number, "max")[0])

    def barrier(self) -> None:
        """Wait for all."""
        self._comm.Barrier()

    def watched(self) -> AbstractContextManager[None]:
        """End all processes, inside a ``with`` block that all enter, if one of them dies."""
        return watched(self, MPI.Exception)

    def finish(self) -> None:
        """Take leave of the others."""
        MPI.Finalize()

    def share_cores(self) -> None:
        """Let BLAS have as many threads as there are cores for this process, unless it was told.

        Otherwise each of the processes on a machine would start a thread for every core, and all of
        them wait for one another.
        """
        if any(name in os.environ for name in THREADS):
            return
        own = self._cores[self.local_rank]
        threads = max(1, len(own) // self._cores.count(own))
        try:
            from threadpoolctl import threadpool_limits
        except ImportError:
            if self.rank == 0:
                say_once(
                    "threadpoolctl is not installed, and the BLAS of each process has a thread for "
                    "every core; run pip install threadpoolctl, or set OPENBLAS_NUM_THREADS="
                    f"{threads} before the start"
                )
        else:
            threadpool_limits(threads, user_api="blas")

    def abort(self) -> None:
        """End all processes at once."""
        MPI.COMM_WORLD.Abort(1)


@cache
def world() -> MPICommunicator:
    """Return all processes; from now on an exception in one of them ends the others, too."""
    found = MPICommunicator(MPI.COMM_WORLD)
    if found.size > 1:
        end_together(found)
        found.share_cores()
    return found


def end_together(comm: MPICommunicator) -> None:
    """Let an uncaught exception be printed with the process it is of, and end all."""

    def ended(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        lines = traceback.format_exception(kind, error, trace)
        print(f"rank {comm.rank} of {comm.size}:", *lines, sep="\n", end="", file=sys.stderr)
        sys.stderr.flush()
        comm.abort()

    sys.excepthook = ended
