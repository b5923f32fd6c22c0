"""A training on several processes, played by threads of one: quick, and without MPI."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.parallel import Communicator


class Left(Exception):
    """Another one has ended, and does not come to where this one waits for it."""


class Table:
    """What the members put down, and where they wait for each other."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.values: list[tuple[str, Any]] = [("", None)] * size
        self.calls: list[str] = []  # what all have taken part in
        self._changed = threading.Condition()
        self._come, self._left = [0] * size, [False] * size

    def wait(self, rank: int) -> None:
        """Wait until all have come as often as this one; who has come may leave."""
        with self._changed:
            self._come[rank] += 1
            self._changed.notify_all()
            while missing := self._missing(rank):
                if any(self._left[other] for other in missing):
                    raise Left(f"rank {rank} waits for {missing}")
                assert self._changed.wait(60), f"rank {rank} waits for {missing}"

    def _missing(self, rank: int) -> list[int]:
        return [other for other in range(self.size) if self._come[other] < self._come[rank]]

    def leave(self, rank: int) -> None:
        """Tell the others not to wait."""
        with self._changed:
            self._left[rank] = True
            self._changed.notify_all()


class Member(Communicator):
    """One of the processes.

    The sum is taken in the order of the ranks, or in another one: that must make no difference
    where sums are exact.
    """

    def __init__(self, rank: int, table: Table, order: Callable[[list], list] = list) -> None:
        self.rank, self.size, self.table, self.order = rank, table.size, table, order
        self.local_rank, self.local_size = rank, table.size

    def allgather(self, value: Any, kind: str = "allgather") -> list[Any]:
        self.table.values[self.rank] = kind, value
        self.table.wait(self.rank)
        kinds, found = zip(*self.table.values, strict=True)
        assert set(kinds) == {kind}, f"not all do the same: {kinds}"
        if self.rank == 0:
            self.table.calls.append(kind)
        self.table.wait(self.rank)
        return list(found)

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


def outcomes(size: int, work: Callable[[Communicator], Any], order: Any = list) -> list[Any]:
    """Return what ``work(comm)`` gives on each of so many members, or the error that it raises."""
    table = Table(size)
    found: list[Any] = [None] * size

    def run(rank: int) -> None:
        try:
            found[rank] = work(Member(rank, table, order))
        except BaseException as error:
            found[rank] = error
        table.leave(rank)

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def team(size: int, work: Callable[[Communicator], Any], order: Any = list) -> list[Any]:
    """Return what ``work(comm)`` gives on each of so many members; the first error is raised."""
    found = outcomes(size, work, order)
    errors = [result for result in found if isinstance(result, BaseException)]
    real = [error for error in errors if not isinstance(error, Left)]
    for error in [*real, *errors][:1]:
        raise error
    return found
