"""Matrix products by cuBLAS itself: CuPy refuses its own calls of cuBLAS during a capture.

The library is the one that CuPy has loaded, called with ctypes. Each thread has a handle for each
stream of a capture, with a workspace of its own: so cuBLAS allocates nothing, and the same product
has the same bits whether it runs at once or in a graph (cuBLAS's manual, "Results reproducibility"
and "CUDA graphs support").
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections.abc import Callable
from typing import Any

from xpnet.backend.base import Array
from xpnet.support.errors import BackendError

WORKSPACE = 32 * 2**20  # bytes, what NVIDIA advises for Hopper
HEURISTIC = -1  # CUBLAS_GEMM_DEFAULT: cuBLAS chooses the algorithm
FLOAT32, FAST_TF32 = 68, 77  # CUBLAS_COMPUTE_32F and CUBLAS_COMPUTE_32F_FAST_TF32
TYPES = {  # of the elements: CUDA's number of the type, how cuBLAS computes, the type of a scalar
    "f": (0, FLOAT32, ctypes.c_float),
    "d": (1, 70, ctypes.c_double),
}
# CUDA refuses to wait for a device while one of its streams is being recorded. So one thread
# records at a time, and whatever waits for the device takes this lock first.
recording_lock = threading.RLock()

_INT, _SIZE, _POINTER = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
SIGNATURES: dict[str, list[Any]] = {
    "cublasCreate_v2": [_POINTER],
    "cublasDestroy_v2": [_POINTER],
    "cublasSetStream_v2": [_POINTER, _POINTER],
    "cublasSetWorkspace_v2": [_POINTER, _POINTER, _SIZE],
    "cublasGemmEx": [
        _POINTER, _INT, _INT, _INT, _INT, _INT,  # handle, two transpositions, three sizes
        _POINTER, _POINTER, _INT, _INT, _POINTER, _INT, _INT,  # alpha; two operands, their types
        _POINTER, _POINTER, _INT, _INT, _INT, _INT,  # beta; result; how to compute, algorithm
    ],
}  # fmt: skip


def load() -> Any:
    """Return the cuBLAS that CuPy uses."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    library = ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    for name, arguments in SIGNATURES.items():
        getattr(library, name).argtypes = arguments
    return library


def layout(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int
) -> tuple[bool, int] | None:
    """Return how a matrix lies in memory: transposed or not, and its leading dimension.

    That is the distance of two rows, or of two columns where each column is contiguous. None if
    neither rows nor columns are contiguous, so that cuBLAS needs a copy.
    """
    (rows, columns), (down, across) = shape, (stride // itemsize for stride in strides)
    if (columns == 1 or across == 1) and (rows == 1 or down >= columns):
        return False, columns if rows == 1 else down
    if (rows == 1 or down == 1) and (columns == 1 or across >= rows):
        return True, rows if columns == 1 else across
    return None


def fits(A: Array, B: Array, out: Array) -> bool:
    """Return True if cuBLAS takes the types, and the shapes are those of a product."""
    code, (m, k), n = A.dtype.char, A.shape, B.shape[1]
    if code not in TYPES or B.dtype.char != code or out.dtype.char != code:
        return False
    return bool(B.shape[0] == k and out.shape == (m, n) and m * n * k)


class Gemm:
    """out = A B for matrices of float32 or float64.

    Parameters
    ----------
    tf32 : bool
        True: float32 operands are rounded to 11 bits before they are multiplied.
    library : optional
        What has the functions of cuBLAS; by default `load`, when it is first needed.
    """

    def __init__(self, tf32: bool = False, library: Any = None) -> None:
        self.tf32, self._library = tf32, library
        self._handles = _Handles()

    def __call__(self, A: Array, B: Array, out: Array, lane: int = 0) -> bool:
        """Queue out = A B on the current stream; ``lane`` tells the two streams of a capture apart.

        Returns False, and does nothing, where the types or the layout need CuPy's own product.

        Cᵀ = Bᵀ Aᵀ: what lies in memory row by row is, to cuBLAS, its transpose column by column. So
        B comes first, and a transposed view is a flag, not a copy.
        """
        if not fits(A, B, out):
            return False
        (m, k), n, itemsize = A.shape, B.shape[1], A.dtype.itemsize
        of_A, of_B, of_out = (layout(x.shape, x.strides, itemsize) for x in (A, B, out))
        if of_A is None or of_B is None or of_out is None:
            return False
        if of_out[0]:  # outᵀ = Bᵀ Aᵀ lies row by row
            return self(B.T, A.T, out.T, lane)
        number, compute, scalar = TYPES[A.dtype.char]
        if self.tf32 and compute == FLOAT32:
            compute = FAST_TF32
        one, zero = scalar(1), scalar(0)
        self._handle(lane).multiply(
            of_B[0], of_A[0], n, m, k,
            ctypes.byref(one), self.pointer(B), number, of_B[1], self.pointer(A), number, of_A[1],
            ctypes.byref(zero), self.pointer(out), number, of_out[1], compute, HEURISTIC,
        )  # fmt: skip
        return True

    def prepare(self) -> list[Any]:
        """Return the handles of both lanes, on the current stream, after a first product of each.

        A handle is made, and loads what it needs at its first product: neither belongs in a
        capture. Afterwards the streams of a capture, which end with it, are left.
        """
        handles = [self._handle(lane) for lane in (0, 1)]
        for handle in handles:
            if not handle.used:
                self._multiply_once(handle)
        return handles

    def _multiply_once(self, handle: _Handle) -> None:
        """Multiply two matrices of one number, of whatever is in the memory."""
        number, compute, scalar = TYPES["f"]
        one, zero, memory = scalar(1), scalar(0), self.allocate(3 * 4)
        a, b, c = (memory.ptr + 4 * i for i in range(3))
        handle.multiply(
            False, False, 1, 1, 1, ctypes.byref(one), a, number, 1, b, number, 1,
            ctypes.byref(zero), c, number, 1, compute, HEURISTIC,
        )  # fmt: skip

    # ---- handles ------------------------------------------------------------------------------

    def _handle(self, lane: int) -> _Handle:
        """Return the handle of this thread, on the current stream."""
        if self._library is None:
            self._library = load()
        made = self._handles.by_lane.get(lane)
        if made is None:
            made = self._handles.by_lane[lane] = _Handle(self._library, self.allocate)
        made.use(self.stream())
        return made

    # What differs where something else stands in for CuPy.

    @staticmethod
    def pointer(a: Array) -> int:
        """Return the address of the first element."""
        return int(a.data.ptr)

    @staticmethod
    def stream() -> int:
        """Return the address of CuPy's current stream."""
        import cupy

        return int(cupy.cuda.get_current_stream().ptr)

    @staticmethod
    def allocate(size: int) -> Any:
        """Return memory on the device, with its address as ``ptr``."""
        import cupy

        return cupy.cuda.alloc(size)


class _Handles(threading.local):
    """The handles of a thread, by lane: two threads must not share one."""

    def __init__(self) -> None:
        self.by_lane: dict[int, _Handle] = {}


class _Handle:
    """A handle of cuBLAS with its workspace, on one stream after another.

    It does not know the `Gemm`, so that it ends with that at once: its end waits for the device.
    """

    def __init__(self, library: Any, allocate: Callable[[int], Any]) -> None:
        self._library = library
        self._stream: int | None = None
        self.used = False
        self.value = ctypes.c_void_p()
        self.call("cublasCreate_v2", ctypes.byref(self.value))
        self._workspace = allocate(WORKSPACE)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of cuBLAS."""
        status = getattr(self._library, name)(*arguments)
        if status:
            raise BackendError(f"cuBLAS cannot go on: {name} gave the status {status}")

    def multiply(self, *arguments: Any) -> None:
        """Queue a product."""
        self.call("cublasGemmEx", self.value, *arguments)
        self.used = True

    def use(self, stream: int) -> None:
        """Go to a stream; that resets the workspace, so it is set after."""
        if stream != self._stream:
            self.call("cublasSetStream_v2", self.value, stream)
            self.call("cublasSetWorkspace_v2", self.value, self._workspace.ptr, WORKSPACE)
            self._stream = stream

    def __del__(self) -> None:
        if self.value and not sys.is_finalizing():
            with recording_lock:
                self.call("cublasDestroy_v2", self.value)
