"""A GPU as a backend sees it: its arrays, its number, and the graphs that steps become."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, TypeVar, cast

import cupy
import numpy as np

from xpnet.backend.base import Array, Backend
from xpnet.backend.capture import Captured, Graph, Recording
from xpnet.backend.cuda import Kernels, compile_options
from xpnet.backend.cupy_kernels import WithKernels
from xpnet.backend.gemm import Gemm

Method = TypeVar("Method", bound=Callable[..., Any])

# What needs no device, or goes there by itself.
ANYWHERE = {"owns", "require", "capture", "aside", "off_path", "join", "renew", "here", "scratch"}


class _Now(threading.local):
    """What a thread is doing at present."""

    recording: Recording | None = None


class CuPyDevice(WithKernels):
    """One GPU. A primitive queues its kernel on CuPy's current stream and returns at once.

    Parameters
    ----------
    device : int
        The number of the GPU, which becomes CuPy's current device in this thread. In any other
        thread each primitive goes to it, and back to the device that was current.
    tf32 : bool
        True: float32 operands of products are rounded to 11 bits, which is faster and less exact.

    Attributes
    ----------
    devices : int
        How many GPUs there are.
    generation : int
        Grows whenever a network, a loss or an optimizer makes new arrays.
    """

    name = "cupy"
    module = cupy
    captures = True
    forks = True

    def __init__(self, device: int = 0, tf32: bool = False) -> None:
        cupy.cuda.Device(device).use()
        self.device, self.tf32 = device, tf32
        devices = cupy.cuda.runtime.getDeviceCount()
        self._use(Kernels("kernels.cu", compile_options), Gemm(tf32), devices)

    def _use(self, kernels: Callable[..., None], gemm: Gemm, devices: int = 1) -> None:
        """Compute with these from now on."""
        self._kernels, self._gemm, self.devices = kernels, gemm, devices
        self._now = _Now()
        compute_there(self, self)
        self.generation, self.first_capture = 0, True

    def __repr__(self) -> str:
        return f"<xpnet backend {self.name!r}{', tf32' if self.tf32 else ''}>"

    def asnumpy(self, a: Array) -> np.ndarray[Any, Any]:
        """Return a copy on the host, after waiting for the device."""
        return cast("np.ndarray[Any, Any]", cupy.asnumpy(a))

    # ---- whole steps --------------------------------------------------------------------------

    def capture(
        self, step: Callable[..., None], version: Callable[[], Any] | None = None
    ) -> Callable[..., None]:
        """Return a function that does ``step`` as one CUDA graph"""
        return Captured(self, step, self._record_graph, version or (lambda: self.generation))

    def _record_graph(self, step: Callable[[], None]) -> Graph:
        """Return a graph of what ``step`` queues, which does not run now."""
        handles = self._gemm.prepare()
        with self.scratch.apart() as scratch:
            self._now.recording = Recording((handles, scratch), self.forks)
            try:
                return self._now.recording.run(step)
            finally:
                self._gemm.prepare()  # leaves the streams, which end here
                self._now.recording = None

    def off_path(self) -> AbstractContextManager[None]:
        """Put the work on a branch of the graph that is being recorded, if one is."""
        recording = self._now.recording
        return nullcontext() if recording is None else recording.off_path()

    def join(self) -> None:
        """End the branch."""
        if self._now.recording is not None:
            self._now.recording.join()

    def renew(self) -> int:
        """Note that arrays have been replaced by new ones."""
        self.generation += 1
        return self.generation

    def here(self) -> AbstractContextManager[None]:
        """Return a block in which the GPU is CuPy's current device in this thread."""
        if self.devices == 1 or cupy.cuda.runtime.getDevice() == self.device:
            return nullcontext()
        there: AbstractContextManager[None] = cupy.cuda.Device(self.device)
        return there

    def peak_memory(self) -> int:
        """Return what CuPy's pool holds: it keeps what has been in use at the same time."""
        return int(cupy.get_default_memory_pool().total_bytes())

    @property
    def _lane(self) -> int:
        """0, or 1 on the branch of a graph: what the two write must not be the same."""
        recording = self._now.recording
        return 0 if recording is None else recording.lane


def compute_there(xp: Backend, gpu: CuPyDevice) -> None:
    """Make every primitive of a backend compute on a GPU, whichever one is current in a thread."""
    if gpu.devices == 1:
        return  # there is no other one
    for name in dir(Backend):
        primitive = getattr(xp, name)
        if name[0] != "_" and callable(primitive) and name not in ANYWHERE:
            setattr(xp, name, _there(gpu, primitive))


def _there(gpu: CuPyDevice, primitive: Method) -> Method:
    @wraps(primitive)
    def call(*args: Any, **kwargs: Any) -> Any:
        with gpu.here():
            return primitive(*args, **kwargs)

    return cast(Method, call)
