"""A training on several processes, played by threads of one: quick, and without MPI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.parallel import Communicator


class Table:
    """What the members put down, and where they wait for each other."""

    def __init__(self, size: int) -> None:
        self.size, self.values = size, [None] * size
        self.barrier = threading.Barrier(size, timeout=60)
        self.calls: list[str] = []  # what rank 0 has taken part in


class Member(Communicator):
    """One of the processes.

    The sum is taken in the order of the ranks, or in another one: that must make no difference
    where sums are exact.
    """

    def __init__(self, rank: int, table: Table, order: Callable[[list], list] = list) -> None:
        self.rank, self.size, self.table, self.order = rank, table.size, table, order
        self.local_rank, self.local_size = rank, table.size

    def allgather(self, value: Any, kind: str = "allgather") -> list[Any]:
        if self.rank == 0:
            self.table.calls.append(kind)
        self.table.values[self.rank] = value
        self.table.barrier.wait()
        found = list(self.table.values)
        self.table.barrier.wait()
        return found

    def allreduce(self, a: Any, op: str = "sum") -> Any:
        assert a.flags.c_contiguous
        found = self.order(self.allgather(np.array(a), f"{op} {a.dtype} {a.size}"))
        total = found[0].copy()
        for other in found[1:]:
            total = total + other if op == "sum" else np.maximum(total, other)
        np.copyto(a, total)
        return a

    def bcast_array(self, a: Any) -> Any:
        np.copyto(a, self.allgather(np.array(a), "bcast")[0])
        return a

    def bcast(self, value: Any) -> Any:
        return self.allgather(value, "bcast")[0]

    def greatest(self, number: int) -> int:
        return max(self.allgather(int(number), "greatest"))

    def barrier(self) -> None:
        self.allgather(None, "barrier")


def team(size: int, work: Callable[[Communicator], Any], order: Any = list) -> list[Any]:
    """Return what ``work(comm)`` gives on each of so many members; the first error is raised."""
    table = Table(size)
    results: list[Any] = [None] * size
    errors: list[BaseException] = []

    def run(rank: int) -> None:
        try:
            results[rank] = work(Member(rank, table, order))
        except BaseException as error:
            errors.append(error)
            table.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    real = [e for e in errors if not isinstance(e, threading.BrokenBarrierError)]
    for error in [*real, *errors][:1]:
        raise error
    return results
