"""A package named ``cupy`` for a rehearsal without a GPU.

``PYTHONPATH=tests/helpers/standin:tests/helpers`` puts it in the place of CuPy.

The arrays are those of `strictxp`, devices, streams, graphs and memory those of `strict_cuda`, the
kernels are compiled by g++, and cuBLAS is played by NumPy. So everything that is to run on a GPU
can be run on any machine with Linux and g++, on small sizes, thousands of times slower.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import strictxp
from cublas_on_host import HostCublas
from kernels_on_host import HostModule
from strict_cuda import Block, Cuda, Device, MemoryPool, launcher

from xpnet.backend import gemm

__version__ = "14.2.0"
CUDA = 13000  # the version of the driver and of the runtime
MEMORY = 8 * 2**30  # bytes
LINE_BLOCK = 64  # threads of a block that shares lines: fewer, as here they take turns
NAME = "a stand-in for a GPU, on the CPU"

ndarray, asnumpy = strictxp.ndarray, strictxp.asnumpy
ndarray.__module__ = "cupy"


def __getattr__(name: str) -> Any:
    return getattr(strictxp, name)


def is_available() -> bool:
    return True


# ---- memory -------------------------------------------------------------------------------------


class MemoryHook:
    """CuPy's: sees each request for memory in a ``with`` block."""

    name = "MemoryHook"

    def __enter__(self) -> MemoryHook:
        hooks.append(self)
        return self

    def __exit__(self, *error: object) -> None:
        hooks.remove(self)

    def malloc_preprocess(self, **about: Any) -> None:
        pass


hooks: list[MemoryHook] = []


class Pool(MemoryPool):
    """The default pool, with what CuPy can tell about it."""

    held = limit = 0

    def malloc(self, size: int) -> Block:
        for hook in hooks:
            hook.malloc_preprocess(device_id=strictxp.get_device(), size=size, mem_size=size)
        if 0 < self.limit < size:
            raise cuda.memory.OutOfMemoryError(f"Out of memory allocating {size:,} bytes")
        block = super().malloc(size)
        self.held = max(self.held, block.size)
        return block

    def total_bytes(self) -> int:
        return self.held

    def used_bytes(self) -> int:
        return self.held

    def get_limit(self) -> int:
        return self.limit

    def set_limit(self, size: int = 0, fraction: float | None = None) -> None:
        self.limit = size


# ---- kernels ------------------------------------------------------------------------------------


class RawModule:
    """Kernels, compiled for the host when the first one is asked for."""

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        self.module = HostModule(code, options)
        if reproducible := sys.modules.get("xpnet.backend.reproducible_cupy"):
            reproducible.ReproducibleCuPy.line_block = LINE_BLOCK

    def get_function(self, name: str) -> Any:
        launch = launcher(cuda, self.module)

        def kernel(grid: tuple[int], block: tuple[int], args: tuple) -> None:
            launch(name, "", grid[0] * block[0], args, block[0])

        return kernel


# ---- cupy.cuda ----------------------------------------------------------------------------------


class _Device(Device):
    compute_capability, pci_bus_id, attributes = "90", "0000:00:00.0", {"MultiProcessorCount": 1}


class _Memory(SimpleNamespace):
    class OutOfMemoryError(MemoryError):
        pass


cuda = Cuda("random")
pool = cuda.pool = Pool(cuda)
strictxp.set_allocator(pool.malloc)
cuda.memory, cuda.MemoryHook, cuda.Device = _Memory(), MemoryHook, _Device
cuda.nccl, cuda.set_allocator = SimpleNamespace(available=False), lambda allocator=None: None
cuda.__name__ = "cupy.cuda"
vars(cuda.runtime).update(
    driverGetVersion=lambda: CUDA,
    runtimeGetVersion=lambda: CUDA,
    getDeviceProperties=lambda device: {"name": NAME.encode()},
    memGetInfo=lambda: (MEMORY, MEMORY),
    deviceSynchronize=lambda: None,
)
sys.modules["cupy.cuda"] = cuda  # type: ignore[assignment]


def get_default_memory_pool() -> Pool:
    return pool


@contextmanager
def allow_synchronize(allowed: bool) -> Any:
    """``cupyx.allow_synchronize``"""
    with strictxp.allow_sync() if allowed else strictxp.no_reading():
        yield


# ---- cuBLAS -------------------------------------------------------------------------------------


def _cublas() -> HostCublas:
    library = HostCublas([])
    library.run = cuda.queue
    return library


gemm.load = _cublas
