"""Threads that begin at one moment; the fixture `often` makes them take turns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier


def at_once(*works):
    """Return the results of functions, each called in a thread of its own, all from one moment."""
    barrier = Barrier(len(works))

    def begin(work):
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(begin, work) for work in works]]
