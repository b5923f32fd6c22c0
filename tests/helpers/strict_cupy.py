"""The CuPy backend itself on a machine without a GPU.

`StrictCuPy` is `CuPyBackend` on the arrays of the strict stand-in, with the kernels compiled for
the host, cuBLAS played by NumPy, and the devices, streams, graphs and memory of `strict_cuda`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import strictxp
from cublas_on_host import HostCublas, HostGemm
from primitive_cases import cupy_device, on_cupy
from strict_cuda import Cuda, launcher


class StrictCuPy(on_cupy.CuPyBackend):
    """`CuPyBackend` on the strict stand-in, with a `Cuda` of its own or that of another backend."""

    name = "cupy"
    module = strictxp

    def __init__(
        self, kernels: Any, order: str = "written", seed: int = 0, devices: int = 1
    ) -> None:
        self._make(kernels, 0, Cuda(order, seed, devices))

    def _make(self, kernels: Any, device: int, cuda: Cuda) -> None:
        self.device, self.tf32, self.played = device, False, cuda
        self.reads = 0
        gemm = StrictGemm(library=HostCublas([]))
        gemm._library.run = self.played.queue
        gemm.stream = lambda: self.played.get_current_stream().ptr
        self._use(self.launcher(kernels), gemm, cuda.runtime.getDeviceCount())

    def other(self, kernels: Any, device: int) -> StrictCuPy:
        """Return the backend of another device of the same machine."""
        backend = object.__new__(StrictCuPy)
        backend._make(kernels, device, self.played)
        return backend

    def launcher(self, kernels: Any) -> Callable[..., None]:
        return launcher(self.played, kernels)

    def asnumpy(self, a: Any) -> np.ndarray:
        self.reads += 1
        return strictxp.asnumpy(a)


class StrictGemm(HostGemm):
    pointer = staticmethod(lambda a: strictxp.on_host(a).ctypes.data)


@contextmanager
def played(monkeypatch: Any, xp: StrictCuPy) -> Iterator[StrictCuPy]:
    """In this block CuPy's devices, streams and memory are those of ``xp``."""
    from xpnet.backend import capture

    cupy, before = SimpleNamespace(cuda=xp.played), strictxp.get_allocator()
    strictxp.set_allocator(xp.played.pool.malloc)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(capture, "cupy", cupy)
            patch.setattr(cupy_device, "cupy", cupy)
            yield xp
    finally:
        strictxp.set_allocator(before)
