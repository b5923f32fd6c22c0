"""CUDA graphs: a whole step, recorded once, and from then on started as one.

A step of a small network is some twenty kernels of two microseconds each; to start one takes the
host longer than that. A graph is started as a whole, and the device goes from one kernel to the
next by itself.

While a step is recorded, nothing runs: what it queues becomes the graph. So a replay does the same
with the same arrays, and what changes from step to step must be in arrays. Arrays that a recorded
step makes come from a pool of memory that lives as long as the graph. Work that nobody waits for
before the optimizer is put on a second stream, `Recording.off_path`, which becomes a branch of the
graph.

CuPy's pool gives a freed block to the next request on the stream that made the block. That is right
for one stream: the device does its work in order. The second stream may still read the block, so a
recording keeps every block until the two streams have joined.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import cupy

from xpnet.backend.gemm import recording_lock

Step = Callable[..., None]


class Captured:
    """A step that becomes a graph; see `xpnet.backend.base.Backend.capture`.

    Parameters
    ----------
    xp : CuPyBackend
        Whose ``captures`` and ``forks`` may change at any time.
    step : function
    record : function
        Returns the graph of what a function queues.
    version : function
        When its value changes, the graphs are recorded anew.

    Attributes
    ----------
    graphs : dict
        A recorded step for each tuple of arguments.
    failed : bool
        True where the step cannot be recorded, so that it runs as it is written.
    seconds : float
        What the first steps took that compiled kernels, and the recording.
    agree : function
        Tells whether any process says yes: those that share a step record it at the same time.
    """

    def __init__(
        self,
        xp: Any,
        step: Step,
        record: Callable[[Callable[[], None]], Graph],
        version: Callable[[], Any],
    ) -> None:
        self.xp, self.step, self.record, self.seconds = xp, step, record, 0.0
        self.agree: Callable[[bool], bool] = bool
        self.graphs: dict[tuple[Hashable, ...], Graph | None] = {}
        self.failed = False
        self._ran: set[tuple[Hashable, ...]] = set()
        self._version = version
        self._recorded_for: Any = None

    def __call__(self, *args: Hashable) -> None:
        """Do the step: as it is written the first time, then as a graph."""
        with self.xp.here():
            if self.failed or not self.xp.captures:
                self.step(*args)
            else:
                self._run(*args)

    def _run(self, *args: Hashable) -> None:
        now = self._version(), self.xp.forks
        if self.agree(now != self._recorded_for):  # the graphs are out of date
            self.graphs.clear()
            self._ran.clear()
            self._recorded_for = now
        if args not in self._ran:  # compiles kernels, and lets every library make its memory
            self._ran.add(args)
            with self._timed():
                self.step(*args)
            return
        if args not in self.graphs:
            with self._timed():
                self.graphs[args] = self._recorded(*args)
        graph = self.graphs[args]
        if graph is None:
            self.step(*args)
        else:
            graph.launch()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - start

    def _recorded(self, *args: Hashable) -> Graph | None:
        """Return the graph; if there can be none, say why once, and go on without."""
        graph, why = None, "another process could not"
        try:
            graph = self.record(lambda: self.step(*args))
        except Exception as error:  # of CuPy, of CUDA, or of a layer that reads from the device
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        if self.agree(graph is None):
            self.failed = True
            warnings.warn(
                "the step could not be captured as a CUDA graph, so each of its operations is "
                f"started on its own, which is slower ({why})",
                RuntimeWarning,
                stacklevel=5,
            )
            return None
        if self.xp.first_capture:
            self.xp.first_capture = False
            logging.getLogger("xpnet").info(
                "compiled the kernels and captured the step in %.1f s", self.seconds
            )
        return graph


class Memory:
    """A pool of memory, whose blocks go back to the device with its last user.

    CuPy's pool alone would keep them: a free block and the list of free blocks hold each other.
    """

    def __init__(self) -> None:
        self._pool = cupy.cuda.MemoryPool()
        self.malloc = self._pool.malloc

    def __del__(self) -> None:
        if not sys.is_finalizing():
            with recording_lock:
                self._pool.free_all_blocks()  # waits for the device


class Graph:
    """A recorded step, with its memory and whatever else must live as long.

    They end in this order. What is needed has arrays of that memory, and a block that was split
    is lost to the device where one of its parts outlives the pool.
    """

    def __init__(self, graph: Any, memory: Memory, needed: Any) -> None:
        self._graph, self._needed, self._memory = graph, needed, memory

    def launch(self) -> None:
        """Queue the whole step on the current stream."""
        self._graph.launch()


class Recording:
    """A step that is being recorded, on a stream of its own and one beside it.

    Parameters
    ----------
    needed : object
        What must live as long as the graph, such as the handles of cuBLAS.
    forks : bool
        False: nothing is put on the second stream, and the graph is a chain.

    Attributes
    ----------
    lane : int
        1 while work goes to the second stream, else 0.
    """

    def __init__(self, needed: Any, forks: bool = True) -> None:
        self.needed, self.forks = needed, forks
        self.main = cupy.cuda.Stream(non_blocking=True)
        self.side = cupy.cuda.Stream(non_blocking=True)
        self.memory = Memory()
        self.lane = 0
        self._unjoined = False
        self._events: list[Any] = []  # they must live until the end
        self._blocks: list[Any] = []  # ... and these until the streams join

    def run(self, step: Callable[[], None]) -> Graph:
        """Record a step."""
        with recording_lock, without_collector(), self._allocating(), self.main:
            self.main.begin_capture()
            try:
                step()
                self.join()
            except BaseException:
                self._give_up()
                raise
            return Graph(self.main.end_capture(), self.memory, self.needed)

    def _allocating(self) -> AbstractContextManager[None]:
        """Take all memory from the pool of the graph, and keep it until the streams join."""

        def malloc(size: int) -> Any:
            self._blocks.append(self.memory.malloc(size))
            return self._blocks[-1]

        using: AbstractContextManager[None] = cupy.cuda.using_allocator(malloc)
        return using

    def _give_up(self) -> None:
        """Leave the recording, whatever state it is in."""
        with suppress(Exception):  # it was broken already, or the side was not joined
            self.main.end_capture()

    @contextmanager
    def off_path(self) -> Iterator[None]:
        """Put work on the side, after all that has been recorded so far."""
        if self.lane or not self.forks:
            yield
            return
        self._wait(self.side, self.main)
        self.lane, self._unjoined = 1, True
        try:
            with self.side:
                yield
        finally:
            self.lane = 0

    def join(self) -> None:
        """Make all later work wait for the side; blocks that were freed can be used again."""
        if self._unjoined:
            self._wait(self.main, self.side)
            self._unjoined = False
        self._blocks.clear()

    def _wait(self, waiting: Any, other: Any) -> None:
        event = cupy.cuda.Event(disable_timing=True)
        event.record(other)
        waiting.wait_event(event)
        self._events.append(event)


@contextmanager
def without_collector() -> Iterator[None]:
    """Let Python's garbage collector rest: to end a handle of cuBLAS waits for the device.

    That is an error during a recording, and breaks it.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
