"""``cupy.cuda`` as xpnet uses it, for the arrays of `strictxp`: devices, streams, graphs, memory.

During a capture nothing runs, and what is queued becomes a graph whose nodes know what they have to
wait for, and nothing else. When the graph is launched they run in any order that this allows, on
purpose not in the one in which they were written. Memory is given out as CuPy's pool does: a freed
block goes to the next request of that size on the same stream, at once.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import strictxp

Work = Callable[[], Any]
UNIT = 512  # bytes: the size of a block is a multiple of it, and so is its address


# ---- memory -------------------------------------------------------------------------------------


class Block:
    """Memory of a device, which goes back to its pool when nobody has it any more."""

    def __init__(self, memory: np.ndarray, size: int, give_back: Callable[[], None]) -> None:
        self.memory, self.size, self.ptr = memory, size, memory.ctypes.data
        weakref.finalize(self, give_back).atexit = False


class MemoryPool:
    """CuPy's: free blocks by device, stream and size; the last one that came back is the first.

    Nobody may rely on what is in a block that comes back, so the pool overwrites the block.
    """

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        self.free = defaultdict[Any, list[np.ndarray]](list)
        self.given_out = 0  # blocks, those of a second use included

    def malloc(self, size: int) -> Block:
        rounded = -(-size // UNIT) * UNIT
        blocks = self.free[strictxp.get_device(), self.cuda.get_current_stream().ptr, rounded]
        memory = blocks.pop() if blocks else _aligned(rounded)
        self.given_out += 1

        def give_back() -> None:
            memory.fill(0xFF)
            blocks.append(memory)

        return Block(memory, rounded, give_back)

    def free_all_blocks(self) -> None:
        self.cuda.pools_freed += 1


def _aligned(size: int) -> np.ndarray:
    memory = np.empty(size + UNIT, np.uint8)
    start = -memory.ctypes.data % UNIT
    return memory[start : start + size]


# ---- streams and graphs -------------------------------------------------------------------------


class Node:
    """Something that a device has to do, after some others."""

    def __init__(self, work: Work, after: set[Node]) -> None:
        self.work, self.after = work, after
        self.depth = 1 + max((node.depth for node in after), default=0)


class Cuda:
    """What xpnet uses of ``cupy.cuda``.

    Parameters
    ----------
    order : str
        Which of the nodes that may run is next: ``"written"``, ``"aside last"``, ``"aside first"``
        or ``"random"``.
    seed : int
        Of the random order.
    devices : int
        How many there are.
    """

    def __init__(self, order: str = "written", seed: int = 0, devices: int = 1) -> None:
        self.order, self.rng = order, np.random.default_rng(seed)
        self.graphs, self.pools_freed = list[Graph](), 0
        self.stacks, self.streams = _Stacks(), count(1)
        self.pool = MemoryPool(self)
        self.null = Stream(self, null=True)
        self.Device = Device
        self.runtime = SimpleNamespace(
            getDevice=strictxp.get_device,
            setDevice=strictxp.set_device,
            getDeviceCount=lambda: devices,
        )
        self.MemoryPool = lambda: MemoryPool(self)
        self.Stream = lambda null=False, non_blocking=False: Stream(self, null)
        self.Event = Event
        self.using_allocator = strictxp.using_allocator

    @property
    def stack(self) -> list[Stream]:
        """The streams that this thread has entered."""
        return self.stacks.entered

    def get_current_stream(self) -> Stream:
        return self.stack[-1] if self.stack else self.null

    def alloc(self, size: int) -> Block:
        malloc = strictxp.get_allocator() or self.pool.malloc
        return malloc(size)

    def queue(self, work: Work) -> None:
        """Do it at once, or put it into the graph."""
        stream = self.get_current_stream()
        if stream.capture is None:
            work()
        else:
            stream.add(work)


class _Stacks(threading.local):
    def __init__(self) -> None:
        self.entered = list[Stream]()


class Device:
    def __init__(self, device: int | None = None) -> None:
        self.id = strictxp.get_device() if device is None else device
        self.before = list[int]()

    def use(self) -> Device:
        strictxp.set_device(self.id)
        return self

    def __enter__(self) -> Device:
        self.before.append(strictxp.get_device())
        return self.use()

    def __exit__(self, *error: object) -> None:
        strictxp.set_device(self.before.pop())

    def synchronize(self) -> None:
        pass


class Event:
    def __init__(self, disable_timing: bool = False) -> None:
        pass

    def record(self, stream: Stream) -> None:
        self.of = stream.tail.copy(), stream.capture


class Stream:
    def __init__(self, cuda: Cuda, null: bool = False) -> None:
        self.cuda, self.tail = cuda, set[Node]()
        self.capture: Capture | None = None
        self.ptr, self.device_id = 0 if null else next(cuda.streams), strictxp.get_device()

    def __enter__(self) -> Stream:
        if self.device_id != strictxp.get_device():
            raise RuntimeError("The device that the stream is created on does not match")
        self.cuda.stack.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        assert self.cuda.stack.pop() is self

    def begin_capture(self) -> None:
        self.capture = Capture(self)
        self.capture.recording = strictxp.queue(self.cuda.queue)
        self.capture.recording.__enter__()

    def end_capture(self) -> Graph:
        capture, self.capture = self.capture, None
        capture.recording.__exit__(None, None, None)
        if not set(capture.nodes) <= ancestors(self.tail):
            raise RuntimeError("cudaErrorStreamCaptureUnjoined")
        graph = Graph(self.cuda, capture)
        self.cuda.graphs.append(graph)
        return graph

    def add(self, work: Work) -> None:
        node = Node(work, self.tail)
        node.aside = self is not self.capture.main
        self.tail = {node}
        self.capture.nodes.append(node)

    def wait_event(self, event: Event) -> None:
        nodes, capture = event.of
        self.tail, self.capture = self.tail | nodes, capture

    def synchronize(self) -> None:
        pass


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
    def __init__(self, cuda: Cuda, capture: Capture) -> None:
        self.cuda, self.nodes = cuda, capture.nodes
        self.device_id = strictxp.get_device()

    @property
    def depth(self) -> int:
        """How many nodes run one after the other, if there is no end of processors."""
        return max(node.depth for node in self.nodes)

    def launch(self, stream: Stream | None = None) -> None:
        assert (stream or self.cuda.get_current_stream()).capture is None
        assert self.device_id == strictxp.get_device(), "a graph of another device"
        done, left = set[Node](), list(self.nodes)
        while left:
            ready = [node for node in left if node.after <= done]
            node = self._choose(ready)
            node.work()
            done.add(node)
            left.remove(node)

    def _choose(self, ready: list[Node]) -> Node:
        if self.cuda.order == "random":
            return ready[self.cuda.rng.integers(len(ready))]
        if self.cuda.order != "written":
            ready.sort(key=lambda node: node.aside == (self.cuda.order == "aside last"))
        return ready[0]


# ---- kernels ------------------------------------------------------------------------------------

_one_kernel = threading.Lock()  # those that are compiled for the host keep their place in variables


def launcher(cuda: Cuda, kernels: Any) -> Callable[..., None]:
    """Return a function that queues kernels, which take NumPy arrays."""

    def launch(name: str, T: str, threads: int, args: tuple, block: int = 256) -> None:
        args = tuple(strictxp.on_host(a) for a in args)

        def work() -> None:
            with _one_kernel:
                kernels(name, T, threads, args, block)

        cuda.queue(work)

    return launch
