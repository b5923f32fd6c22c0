"""The CuPy backend itself, and the capture of CUDA graphs, on a machine without a GPU.

`StrictCuPy` is `CuPyBackend` on the arrays of the strict stand-in, with the kernels compiled for
the host and cuBLAS played by NumPy. `Device` plays the streams: during a capture nothing runs, and
what is queued becomes a graph whose nodes know what they have to wait for, and nothing else. When
the graph is launched they run in any order that this allows, on purpose not in the one in which
they were written.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import strictxp
from cublas_on_host import HostCublas, HostGemm
from primitive_cases import on_cupy

Work = Callable[[], Any]


class Node:
    """Something that the device has to do, after some others."""

    def __init__(self, work: Work, after: set[Node]) -> None:
        self.work, self.after = work, after
        self.depth = 1 + max((node.depth for node in after), default=0)


class Device:
    """Streams, events and graphs, under the names of ``cupy.cuda``.

    Attributes
    ----------
    order : str
        Which of the nodes that may run is next: ``"written"``, ``"aside last"``, ``"aside first"``
        or ``"random"``.
    """

    def __init__(self, order: str = "written", seed: int = 0) -> None:
        self.order, self.rng = order, np.random.default_rng(seed)
        self.stack: list[Stream] = []
        self.graphs: list[Graph] = []
        self.pools_freed = 0
        self.MemoryPool = lambda: SimpleNamespace(malloc=None, free_all_blocks=self._free)
        self.using_allocator = lambda malloc: nullcontext()
        self.Stream = lambda non_blocking: Stream(self)
        self.Event = lambda disable_timing: Event()

    def _free(self) -> None:
        self.pools_freed += 1

    def queue(self, work: Work) -> None:
        """Do it at once, or put it into the graph."""
        if not self.stack:
            work()
            return
        self.stack[-1].add(work)


class Event:
    def record(self, stream: Stream) -> None:
        self.of = stream.tail.copy(), stream.capture


class Stream:
    ptr = 1

    def __init__(self, device: Device) -> None:
        self.device, self.tail, self.capture = device, set[Node](), None

    def __enter__(self) -> Stream:
        self.device.stack.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        assert self.device.stack.pop() is self

    def begin_capture(self) -> None:
        self.capture = Capture(self)
        self.capture.recording = strictxp.queue(self.device.queue)
        self.capture.recording.__enter__()

    def end_capture(self) -> Graph:
        capture, self.capture = self.capture, None
        capture.recording.__exit__(None, None, None)
        if not set(capture.nodes) <= ancestors(self.tail):
            raise RuntimeError("cudaErrorStreamCaptureUnjoined")
        graph = Graph(self.device, capture)
        self.device.graphs.append(graph)
        return graph

    def add(self, work: Work) -> None:
        assert self.capture, "work on a stream that is not part of the capture would run at once"
        node = Node(work, self.tail)
        node.aside = self is not self.capture.main
        self.tail = {node}
        self.capture.nodes.append(node)

    def wait_event(self, event: Event) -> None:
        nodes, capture = event.of
        self.tail, self.capture = self.tail | nodes, capture


class Capture:
    recording: Any

    def __init__(self, main: Stream) -> None:
        self.main, self.nodes = main, list[Node]()


def ancestors(nodes: set[Node]) -> set[Node]:
    found, waiting = set(nodes), list(nodes)
    while waiting:
        new = waiting.pop().after - found
        found |= new
        waiting += new
    return found


class Graph:
    def __init__(self, device: Device, capture: Capture) -> None:
        self.device, self.nodes = device, capture.nodes

    @property
    def depth(self) -> int:
        """How many nodes run one after the other, if there is no end of processors."""
        return max(node.depth for node in self.nodes)

    def launch(self) -> None:
        assert not self.device.stack
        done, left = set[Node](), list(self.nodes)
        while left:
            ready = [node for node in left if node.after <= done]
            node = self._choose(ready)
            node.work()
            done.add(node)
            left.remove(node)

    def _choose(self, ready: list[Node]) -> Node:
        if self.device.order == "random":
            return ready[self.device.rng.integers(len(ready))]
        if self.device.order != "written":
            ready.sort(key=lambda node: node.aside == (self.device.order == "aside last"))
        return ready[0]


class StrictCuPy(on_cupy.CuPyBackend):
    """`CuPyBackend` on the strict stand-in, with a `Device` of its own."""

    name = "cupy"
    module = strictxp

    def __init__(self, kernels: Any, order: str = "written", seed: int = 0) -> None:
        self.device, self.tf32 = 0, False
        self.played = Device(order, seed)
        self.reads, self.others = 0, list[np.ndarray]()
        cublas = HostCublas([])
        cublas.run = self.played.queue

        self._use(self.launcher(kernels), StrictGemm(library=cublas))

    def launcher(self, kernels: Any) -> Callable[..., None]:
        """Return what queues kernels that take NumPy arrays."""

        def launch(name: str, T: str, threads: int, args: tuple, block: int = 256) -> None:
            args = tuple(a._host if isinstance(a, strictxp.ndarray) else a for a in args)
            self.played.queue(lambda: kernels(name, T, threads, args, block))

        return launch

    def asnumpy(self, a: Any) -> np.ndarray:
        self.reads += 1
        return strictxp.asnumpy(a)

    # Memory that is given back belongs to somebody else, who writes what he likes there.

    def empty(self, shape: Any, dtype: Any) -> Any:
        return self._lent(super().empty(shape, dtype))

    def zeros(self, shape: Any, dtype: Any) -> Any:
        return self._lent(super().zeros(shape, dtype))

    def asarray(self, a: Any, dtype: Any = None) -> Any:
        placed = super().asarray(a, dtype)
        return placed if placed is a or placed.base is not None else self._lent(placed)

    def _lent(self, a: Any) -> Any:
        weakref.finalize(a, self._given_back, a._host)
        return a

    def _given_back(self, memory: np.ndarray) -> None:
        memory.reshape(-1).view(np.uint8)[...] = 0xFF
        self.others.append(memory)  # so that a graph that still writes there does no harm


class StrictGemm(HostGemm):
    pointer = staticmethod(lambda a: a._host.ctypes.data)


@contextmanager
def played(monkeypatch: Any, xp: StrictCuPy) -> Iterator[StrictCuPy]:
    """In this block CuPy's streams are those of the device of ``xp``."""
    from xpnet.backend import capture

    with monkeypatch.context() as patch:
        patch.setattr(capture, "cupy", SimpleNamespace(cuda=xp.played))
        yield xp
