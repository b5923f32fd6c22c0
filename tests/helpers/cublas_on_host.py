"""Enough of cuBLAS to run `Gemm` on the host: column by column, as its manual says."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import gemm

INVALID = 7  # CUBLAS_STATUS_INVALID_VALUE
ELEMENTS = {0: np.float32, 1: np.float64}
COMPUTE = {0: {68, 77}, 1: {70}}


class HostCublas:
    """The functions that `Gemm` calls, with memory of the host.

    A handle must have a stream, and after that a workspace, before it multiplies.
    """

    def __init__(self, launched: list[tuple[str, str]]) -> None:
        self.launched, self.ready, self.streams = launched, dict[int, bool](), dict[int, int]()
        self.computed: list[int] = []
        self.run: Callable[[Callable[[], None]], None] = lambda work: work()

    def cublasCreate_v2(self, handle: Any) -> int:
        handle._obj.value = len(self.ready) + 1
        self.ready[len(self.ready) + 1] = False
        return 0

    def cublasDestroy_v2(self, handle: Any) -> int:
        return 0 if self.ready.pop(handle.value, None) is not None else INVALID

    def cublasSetStream_v2(self, handle: Any, stream: int) -> int:
        self.ready[handle.value], self.streams[handle.value] = False, stream
        return 0

    def cublasSetWorkspace_v2(self, handle: Any, address: int, size: int) -> int:
        self.ready[handle.value] = address != 0 and size == gemm.WORKSPACE
        return 0

    def cublasGemmEx(
        self, handle, transposed_a, transposed_b, m, n, k,
        alpha, a, type_a, lda, b, type_b, ldb, beta, c, type_c, ldc, compute, algorithm,
    ) -> int:  # fmt: skip
        assert self.ready[handle.value], "a product without a workspace of its own"
        if not type_a == type_b == type_c or compute not in COMPUTE[type_a] or algorithm != -1:
            return INVALID
        shape_a, shape_b = (k, m) if transposed_a else (m, k), (n, k) if transposed_b else (k, n)
        if lda < max(1, shape_a[0]) or ldb < max(1, shape_b[0]) or ldc < max(1, m):
            return INVALID
        if alpha._obj.value != 1 or beta._obj.value != 0:
            return INVALID
        kind = ELEMENTS[type_a]
        A, B = columns(a, shape_a, lda, kind), columns(b, shape_b, ldb, kind)
        C = columns(c, (m, n), ldc, kind)
        A, B = A.T if transposed_a else A, B.T if transposed_b else B

        def multiply() -> None:
            C[...] = A @ B

        self.computed.append(compute)
        self.launched.append(("gemm", np.dtype(kind).char))
        self.run(multiply)
        return 0


def columns(address: int, shape: tuple[int, int], ld: int, kind: Any) -> np.ndarray:
    """The matrix at an address whose columns are ``ld`` elements apart."""
    rows, n = shape
    itemsize = np.dtype(kind).itemsize
    memory = (ctypes.c_char * (((n - 1) * ld + rows) * itemsize)).from_address(address)
    return np.ndarray(shape, kind, memory, strides=(itemsize, ld * itemsize))


class HostGemm(gemm.Gemm):
    """`Gemm` on NumPy arrays."""

    pointer = staticmethod(lambda a: a.ctypes.data)
    stream = staticmethod(lambda: 0)
    allocate = staticmethod(lambda size: Memory(size))


class Memory:
    """Memory with its address."""

    def __init__(self, size: int) -> None:
        self.memory = np.zeros(size, np.uint8)
        self.ptr = self.memory.ctypes.data
