"""What a step costs on several processes: an alpha-beta model of the all-reduce, and of the rest.

A message of m bytes takes α + m β: α is what any message takes, β the time of a byte. The sums are
those of R. Thakur, R. Rabenseifner and W. Gropp, "Optimization of collective communication
operations in MPICH", 2005, and for the ring of P. Patarasuk and X. Yuan, "Bandwidth optimal
all-reduce algorithms for clusters of workstations", 2009. That numbers are added, too, which they
count as γ, is here a part of β: it is measured with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, log2
from typing import NamedTuple

import numpy as np

SLICE = 0.7e-3  # seconds, times 1 + log₂ cores: how long Linux lets a process run among others


class Link(NamedTuple):
    """α in seconds, β in seconds for a byte."""

    alpha: float
    beta: float


class Compute(NamedTuple):
    """What a step on n samples takes without other processes: seconds a + b n."""

    a: float
    b: float


AllReduce = Callable[[int, float, Link], float]


def ring(P: int, m: float, link: Link) -> float:
    """2 (P - 1) α + 2 (P - 1)/P m β

    P - 1 times each process sends a P-th of the vector to the next one, which adds its own, and
    P - 1 times it passes on a P-th that is ready.
    """
    return 2 * (P - 1) * link.alpha + 2 * (P - 1) / P * m * link.beta


def tree(P: int, m: float, link: Link) -> float:
    """⌈log₂ P⌉ (α + m β)

    Recursive doubling: each time the whole vector is exchanged with a process twice as far away.
    """
    return ceil(log2(P)) * (link.alpha + m * link.beta)


def halving(P: int, m: float, link: Link) -> float:
    """2 ⌈log₂ P⌉ α + 2 (P - 1)/P m β

    Rabenseifner's: recursive halving sums a P-th of the vector on each process, recursive doubling
    gathers them. What an MPI takes for a long vector.
    """
    return 2 * ceil(log2(P)) * link.alpha + 2 * (P - 1) / P * m * link.beta


def compute(P: int, batch: int, cost: Compute, cores: int | None = None) -> float:
    """C = a + b B/P, and with more processes than cores  C ⌈P / cores⌉ + min(C, slice)

    The samples are shared; a is not, above all what the optimizer does for each parameter. The
    slowest process is on a core with ⌈P / cores⌉ of them. One that is ready waits by asking again
    and again, so that it shares the core with the last one for a time slice. None for cores: each
    process has its own.
    """
    alone = cost.a + cost.b * batch / P
    if cores is None or cores >= P:
        return alone
    return alone * ceil(P / cores) + min(alone, SLICE * (1 + log2(cores)))


def step(
    P: int,
    batch: int,
    m: float,
    cost: Compute,
    link: Link,
    how: AllReduce,
    cores: int | None = None,
) -> float:
    """C(P, B) + A(P, m) + A(P, 8)

    A is an all-reduce: that of the gradients, and one of a single number, by which the processes
    tell each other of signals.
    """
    between = how(P, m, link) + how(P, 8, link)
    return compute(P, batch, cost, cores) + between


def efficiency(P: int, batch: int, m: float, cost: Compute, link: Link, how: AllReduce) -> float:
    """T(1, B) / T(P, P B): each process has a batch as large as that of one alone

    1 would be P times as many samples in the same time.
    """
    alone = step(1, batch, m, cost, link, how)
    return alone / step(P, P * batch, m, cost, link, how)


def speedup(P: int, batch: int, m: float, cost: Compute, link: Link, how: AllReduce) -> float:
    """T(1, B) / T(P, B): the batch stays, and each process has a P-th of it"""
    return step(1, batch, m, cost, link, how) / step(P, batch, m, cost, link, how)


# ---- from what was measured ---------------------------------------------------------------------


def fit_link(P: int, times: Sequence[tuple[float, float]], how: AllReduce) -> Link:
    """Return α and β from pairs of bytes and seconds: the least squares of the relative errors."""
    rows = [(how(P, m, Link(1, 0)) / t, how(P, m, Link(0, 1)) / t) for m, t in times]
    return Link(*_least_squares(rows))


def fit_compute(times: Sequence[tuple[float, float]]) -> Compute:
    """Return a and b from pairs of samples and seconds, in the same way."""
    return Compute(*_least_squares([(1 / t, n / t) for n, t in times]))


def _least_squares(rows: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Return the numbers, neither below 0, whose sum in each row comes nearest to 1."""
    A, one = np.array(rows), np.ones(len(rows))
    x, y = np.linalg.lstsq(A, one, rcond=None)[0]
    if min(x, y) >= 0:
        return float(x), float(y)
    alone = [float(column @ one / (column @ column)) for column in A.T]
    return (alone[0], 0.0) if x > y else (0.0, alone[1])
