"""CuPy: each fused primitive as one kernel of ``kernels.cu``, the rest by CuPy itself.

There are kernels for float32 and float64. Where an array has another type, or shapes would have to
be broadcast, the text of ``base.py`` runs instead: the same values, several times slower. A kernel
takes C-contiguous arrays; one that is read is copied if it is not, one that is written must be.

Products are cuBLAS's, see `gemm`, and a whole step can become one CUDA graph, see `capture`.

Three things differ from NumPy: float32 numbers below 1.2e-38 count as zero in kernels (CuPy always
compiles with ``-ftz=true``), ``exp``, ``tanh`` and ``log`` round a few last bits differently, and
sums are taken in another order, the same in every run.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, wraps
from math import prod
from pathlib import Path
from typing import Any, TypeVar, cast

import cupy
import numpy as np

from xpnet.backend import CACHE_ELSEWHERE
from xpnet.backend.base import GELU_A, GELU_C, Array, Backend, is_image
from xpnet.backend.capture import Captured, Graph, Recording
from xpnet.backend.gemm import Gemm
from xpnet.support.errors import MixedArraysError, ShapeError
from xpnet.support.messages import cannot_write, if_known, what_went_wrong

Arrays = tuple[Array, ...]
Method = TypeVar("Method", bound=Callable[..., Any])

WARP, BLOCK, MAX_BLOCKS = 32, 256, 2048  # threads; kernels go on where the grid ends
COLUMN_BLOCK = 1024  # threads of a block that adds up columns
PARTIALS = 1024  # a longer sum is first split into up to so many
PART_OF_ROWS, BLOCKS_OF_COLUMNS = 1024, 512  # columns are split where that fills the GPU
# What needs no device, or goes there by itself.
ANYWHERE = {"owns", "require", "capture", "aside", "off_path", "join", "renew", "here", "scratch"}

# The types of the arrays of each kernel, in the order of its parameters: T is float or double,
# d double, q int64, Q uint64, B uint8.
KERNELS = {
    "sum_rows": "TT",
    "sum_columns": "TT",
    "relu": "TT",
    "relu_grad": "TTT",
    "sigmoid": "TT",
    "sigmoid_grad": "TTT",
    "tanh_grad": "TTT",
    "bias": "TT",
    "bias_relu": "TT",
    "bias_sigmoid": "TT",
    "bias_tanh": "TT",
    "relu_grad_sums": "TTTT",
    "sigmoid_grad_sums": "TTTT",
    "tanh_grad_sums": "TTTT",
    "gelu": "TTT",
    "gelu_grad": "TTTT",
    "softplus": "TT",
    "softmax": "TT",
    "softmax_grad": "TTT",
    "one_hot": "qT",
    "softmax_cross_entropy": "TTTT",
    "softmax_cross_entropy_labels": "TqTT",
    "gather": "qTqT",
    "gather_integers": "qqqq",
    "gather_bytes": "qBqB",
    "gather_pixels": "qBqT",
    "record": "TTq",
    "dropout_mask": "QQT",
    "sgd": "dTT",
    "momentum": "dTTT",
    "rmsprop": "dTTT",
    "adam": "ddTTTT",
}
REALS: dict[str, tuple[str, Any]] = {"d": ("double", np.float64), "f": ("float", np.float32)}

_CODES = {np.dtype(name): np.dtype(name).char for name in ("f", "d", "q", "Q", "B")}
_REAL_OF = {(k, types.replace("T", T)): T for T in REALS for k, types in KERNELS.items()}


class Kernels:
    """A file of kernels on the GPU: compiled when one is first used, and kept by CuPy on disk.

    Parameters
    ----------
    file : str
        Its name.
    options : function
        What the compiler is told for a type T.
    """

    def __init__(self, file: str, options: Callable[[str], tuple[str, ...]]) -> None:
        self.file, self.options = file, options
        self._compiled: dict[tuple[str, str], Any] = {}

    def __call__(
        self, name: str, T: str, threads: int, args: tuple[Any, ...], block: int = BLOCK
    ) -> None:
        """Queue a kernel of the type T ("f" or "d") on the current stream."""
        kernel = self._compiled.get((name, T))
        if kernel is None:
            module = _module(self.file, self.options(T))
            kernel = self._compiled[name, T] = module.get_function(name)
        kernel((min(-(-threads // block), MAX_BLOCKS),), (block,), args)


def source(file: str = "kernels.cu") -> str:
    """Return the text of a file of kernels, with the text of what it includes."""
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    before, include, after = text.partition('#include "common.cuh"\n')
    return f"{before}{source('common.cuh')}{after}" if include else text


def compile_options(T: str) -> tuple[str, ...]:
    """Return what the compiler is told; --fmad=false: round as the text of base.py says."""
    return ("-std=c++17", "--fmad=false", f"-DREAL={REALS[T][0]}")


@cache
def _module(file: str, options: tuple[str, ...]) -> Any:
    return cupy.RawModule(code=source(file), options=options)


class _NoKernelError(Exception):
    """No kernel takes arrays of these types and shapes."""


def fused(method: Method) -> Method:
    """Make the text of ``base.py`` run where no kernel takes the arrays."""
    meaning = getattr(Backend, method.__name__)

    @wraps(method)
    def call(self: CuPyBackend, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except _NoKernelError:
            return meaning(self, *args, **kwargs)

    return cast(Method, call)


class _Now(threading.local):
    """What a thread is doing at present."""

    recording: Recording | None = None


class CuPyBackend(Backend):
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

    def __reduce__(self) -> tuple[Any, ...]:
        find_backend, (name, reproducible) = super().__reduce__()
        return find_backend, (f"{name}:{self.device}", reproducible, self.tf32)

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

    # ---- how a kernel is started ----------------------------------------------------------------

    def _launch(
        self,
        name: str,
        threads: int,
        read: Arrays,
        written: Arrays,
        sizes: tuple[Any, ...],
        numbers: tuple[float, ...] = (),
        block: int = BLOCK,
    ) -> None:
        """Queue a kernel; ``numbers`` become numbers of its type T."""
        self._check_owner(name, read + written)
        T = _REAL_OF.get((name, "".join([_CODES.get(a.dtype, "?") for a in read + written])))
        if T is None:
            raise _NoKernelError
        for a in written:
            if not a.flags.c_contiguous:
                raise ShapeError(
                    f"xp.{name} writes C-contiguous arrays only, but an output of shape {a.shape} "
                    f"has the strides {a.strides}; write into an array of xp.empty"
                )
        if threads:
            real = REALS[T][1]
            read = tuple([a if a.flags.c_contiguous else a.copy() for a in read])
            args = (*read, *written, *sizes, *map(real, numbers))
            self._kernels(name, T, threads, args, block)

    def _check_owner(self, name: str, arrays: Arrays) -> None:
        for a in arrays:
            if not self.owns(a):
                raise MixedArraysError(
                    f"xp.{name} computes with CuPy arrays, but got a {type(a).__name__} of "
                    f"{type(a).__module__}; pass it through xp.asarray first"
                )

    def _elements(
        self,
        name: str,
        read: Arrays,
        written: Arrays,
        *numbers: float,
        device: Arrays = (),
        sizes: tuple[Any, ...] = (),
    ) -> Array:
        """Queue a kernel with a thread for each element of arrays of one shape.

        ``device`` are numbers that live on the device, the kernel's first parameters.
        """
        out = written[0]
        if any(a.shape != out.shape for a in read + written):
            raise _NoKernelError
        self._launch(name, out.size, device + read, written, (out.size, *sizes), numbers)
        return out

    def _rows(
        self,
        name: str,
        read: Arrays,
        out: Array,
        *numbers: float,
        labels: Arrays = (),
        of_each_row: Arrays = (),
    ) -> Array:
        """Queue a kernel with a warp for each row of matrices of one shape.

        There is a number for each row in ``labels``, which are read, and in ``of_each_row``.
        """
        shape = out.shape
        if len(shape) != 2 or shape[1] == 0 or any(a.shape != shape for a in read):
            raise _NoKernelError
        if any(a.shape != shape[:1] for a in labels + of_each_row):
            raise _NoKernelError
        self._launch(name, WARP * shape[0], read + labels, (out, *of_each_row), shape, numbers)
        return out

    def _columns(self, name: str, read: Arrays, written: Arrays, out: Array) -> None:
        """Queue a kernel that adds up columns; in parts, if that lets more blocks work at once."""
        shape = read[0].shape
        if len(shape) != 2 or any(a.shape != shape for a in read + written):
            raise _NoKernelError
        rows, columns = shape
        if out.size != columns or not columns:
            raise _NoKernelError
        groups = -(-columns // WARP)
        parts = max(1, min(rows // PART_OF_ROWS, BLOCKS_OF_COLUMNS // groups))
        share = max(1, -(-rows // parts))
        sums = out if parts == 1 else self._room(out.dtype, parts * columns)
        sizes, threads = (rows, columns, share), groups * parts * COLUMN_BLOCK
        self._launch(name, threads, read, (*written, sums), sizes, block=COLUMN_BLOCK)
        if parts > 1:
            self._columns("sum_columns", (sums.reshape(parts, columns),), (), out)

    def _room(self, dtype: Any, size: int) -> Array:
        """Return scratch for the sums of parts; what runs at the same time has another one."""
        return self.scratch(("sums of parts", self._lane), (max(size, PARTIALS),), dtype)[:size]

    def _part_of_sum(self, out: Array) -> Array:
        """Return scratch for a part of a sum; what runs at the same time has another one."""
        return self.scratch(("part of a sum", self._lane), out.shape, out.dtype)

    # ---- NumPy's vocabulary, where CuPy's own cannot be captured, or allocates -------------------

    @fused
    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B; transposed views cost nothing"""
        self._check_owner("matmul", (A, B, out))
        if A.ndim != 2 or B.ndim != 2 or not self._gemm(A, B, out, self._lane):
            raise _NoKernelError
        return out

    @fused
    def affine(self, X: Array, W: Array, b: Array, out: Array, f: str = "") -> Array:
        """out = f(X W + b): a product, and one kernel for the rest"""
        self.matmul(X, W, out=out)
        if b.shape != out.shape[1:]:
            raise _NoKernelError
        name = f"bias_{f}" if f else "bias"
        self._launch(name, BLOCK * len(out), (b,), (out,), out.shape)
        return out

    @fused
    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z),  db = Σ out"""
        self._columns(f"{f}_grad_sums", (dY, Y), (out,), db)
        return out

    @fused
    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A, for a vector, a whole array, the last axis or the columns of a matrix"""
        everything = axis is None or A.ndim == 1
        over_rows = A.ndim == 2 and axis in (0, -2)
        kept = () if everything else A.shape[1:] if over_rows else A.shape[:-1]
        summed = 0 if over_rows else len(kept)
        shape = (
            kept if not keepdims else (*kept[:summed], *[1] * (A.ndim - len(kept)), *kept[summed:])
        )
        if out.shape != shape or A.size == 0:
            raise _NoKernelError
        if over_rows:
            self._columns("sum_columns", (A,), (), out)
            return out
        if axis not in (None, -1, A.ndim - 1):
            raise _NoKernelError
        if out.size == 1 and A.size > PARTIALS:
            A = self._partial_sums(A)
        sizes = (out.size, A.size // out.size, A.size)
        self._launch("sum_rows", WARP * out.size, (A,), (out,), sizes)
        return out

    def _partial_sums(self, A: Array) -> Array:
        """Return the sums of up to PARTIALS equal parts of A, in scratch that is kept."""
        columns = max(PARTIALS, -(-A.size // PARTIALS))
        rows = -(-A.size // columns)
        out = self._room(A.dtype, rows)
        self._launch("sum_rows", WARP * rows, (A,), (out,), (rows, columns, A.size))
        return out

    # ---- activations --------------------------------------------------------------------------

    @fused
    def relu(self, X: Array, out: Array, slope: float = 0.0) -> Array:
        """Y = X where X > 0, else slope·X"""
        return self._elements("relu", (X,), (out,), slope)

    @fused
    def relu_grad(self, dY: Array, Y: Array, out: Array, slope: float = 0.0) -> Array:
        """dX = dY where Y > 0, else slope·dY"""
        return self._elements("relu_grad", (dY, Y), (out,), slope)

    @fused
    def sigmoid(self, X: Array, out: Array) -> Array:
        """Y = 1 / (1 + exp(-X))"""
        return self._elements("sigmoid", (X,), (out,))

    @fused
    def sigmoid_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · Y (1 - Y)"""
        return self._elements("sigmoid_grad", (dY, Y), (out,))

    @fused
    def tanh_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · (1 - Y²)"""
        return self._elements("tanh_grad", (dY, Y), (out,))

    @fused
    def gelu(self, X: Array, out: Array, T: Array) -> Array:
        """T = tanh(√(2/π) (X + a X³)),  Y = X (1 + T) / 2"""
        return self._elements("gelu", (X,), (out, T), GELU_C, GELU_A)

    @fused
    def gelu_grad(self, dY: Array, X: Array, T: Array, out: Array, work: Array) -> Array:
        """dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2"""
        return self._elements("gelu_grad", (dY, X, T), (out,), GELU_C, 3 * GELU_A)

    @fused
    def softmax(self, X: Array, out: Array, work: Array) -> Array:
        """Yᵢⱼ = exp(Xᵢⱼ - maxₖ Xᵢₖ) / Σₖ exp(Xᵢₖ - maxₖ Xᵢₖ)"""
        return self._rows("softmax", (X,), out)

    @fused
    def softmax_grad(self, dY: Array, Y: Array, out: Array, work: Array) -> Array:
        """dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ)"""
        return self._rows("softmax_grad", (dY, Y), out)

    @fused
    def softplus(self, X: Array, out: Array) -> Array:
        """Y = log(1 + exp X)"""
        return self._elements("softplus", (X,), (out,))

    # ---- losses -------------------------------------------------------------------------------

    @fused
    def one_hot(self, labels: Array, out: Array) -> Array:
        """outᵢⱼ = 1 where j = labelsᵢ, else 0"""
        if out.ndim != 2 or labels.shape != out.shape[:1]:
            raise _NoKernelError
        self._launch("one_hot", out.size, (labels,), (out,), (out.size, out.shape[1]))
        return out

    @fused
    def softmax_cross_entropy(
        self,
        Z: Array,
        T: Array,
        *,
        losses: Array,
        dZ: Array,
        work: Array,
        hot: Array | None = None,
        scale: float = 1.0,
    ) -> Array:
        """dZ = scale·(softmax(Z) - T),  lossesᵢ = -Σⱼ Tᵢⱼ log Pᵢⱼ"""
        name = "softmax_cross_entropy"
        if T.ndim == 1:
            self._rows(f"{name}_labels", (Z,), dZ, scale, labels=(T,), of_each_row=(losses,))
        else:
            self._rows(name, (Z, T), dZ, scale, of_each_row=(losses,))
        return losses

    # ---- batches and masks --------------------------------------------------------------------

    @fused
    def gather(
        self, data: Array, order: Array, position: Array, out: Array, work: Array | None = None
    ) -> Array:
        """outᵢ = data[order[position + i]], pixels as k/255; ``position`` is read on the device"""
        if data.shape[1:] != out.shape[1:]:
            raise _NoKernelError
        kind = {"i": "gather_integers", "u": "gather_bytes"}.get(out.dtype.kind, "gather")
        if is_image(data, out):
            kind = "gather_pixels"
        rows, columns = len(out), prod(out.shape[1:])
        self._launch(kind, rows * BLOCK, (position, data, order), (out,), (rows, columns))
        return out

    @fused
    def record(self, value: Array, out: Array, position: Array) -> Array:
        """out[position] = value,  position = position + 1"""
        self._launch("record", 1, (value,), (out, position), ())
        return out

    @fused
    def dropout_mask(
        self, key: Array, counter: Array, out: Array, keep: float, work: Array, first: int = 0
    ) -> Array:
        """outⱼ = 1/keep with probability keep, else 0: draw number ``counter`` of stream ``key``"""
        sizes = (np.uint64(keep * 2**53), np.uint64(first))
        return self._elements(
            "dropout_mask", (), (out,), 1 / keep, device=(key, counter), sizes=sizes
        )

    # ---- optimizers ---------------------------------------------------------------------------

    @fused
    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        self._elements("sgd", (g,), (p,), device=(rate,))

    @fused
    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, *, mu: float, nesterov: bool, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (g + μ v))"""
        self._elements("momentum", (g,), (p, v), mu, device=(rate,), sizes=(nesterov,))

    @fused
    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, *, rho: float, eps: float, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)"""
        self._elements("rmsprop", (g,), (p, s), rho, 1 - rho, eps, device=(rate,))

    @fused
    def adam(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        rate: Array,
        powers: Array,
        *,
        beta1: float,
        beta2: float,
        eps: float,
        decay: float,
        work: Array,
    ) -> None:
        """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = (1 - η λ) p - η m̂ / (√v̂ + ε)"""
        numbers = (beta1, 1 - beta1, beta2, 1 - beta2, eps, decay)
        self._elements("adam", (g,), (p, m, v), *numbers, device=(rate, powers))


def compute_there(xp: Backend, gpu: CuPyBackend) -> None:
    """Make every primitive of a backend compute on a GPU, whichever one is current in a thread."""
    if gpu.devices == 1:
        return  # there is no other one
    for name in vars(Backend):
        primitive = getattr(xp, name)
        if name[0] != "_" and callable(primitive) and name not in ANYWHERE:
            setattr(xp, name, _there(gpu, primitive))


def _there(gpu: CuPyBackend, primitive: Method) -> Method:
    @wraps(primitive)
    def call(*args: Any, **kwargs: Any) -> Any:
        with gpu.here():
            return primitive(*args, **kwargs)

    return cast(Method, call)


# ---- does it work here? --------------------------------------------------------------------------


def probe(device: int = 0) -> str:
    """Return "" if CuPy computes on that GPU, else one sentence with the reason and the way out."""
    try:
        reason = _no_gpu(device)
    except Exception as error:  # a CuPy that is damaged, or a driver that does not answer
        return (
            f"CuPy is installed but cannot look for a GPU ({what_went_wrong(error)}); "
            "run nvidia-smi, reinstall CuPy, or use backend='numpy'"
        )
    if reason:
        return reason
    try:
        with cupy.cuda.Device(device):
            _smoke_test(CuPyBackend(device))
    except Exception as error:  # whatever it is, the user needs a sentence
        return _why(error)
    return ""


def _no_gpu(device: int) -> str:
    """Return the sentence for a GPU that is not there, "" if it is there."""
    if not cupy.is_available():
        return (
            f"no usable NVIDIA GPU: {_driver()}, and CuPy {cupy.__version__} was built for CUDA "
            f"{_built_for()}; {_other_cupy() or 'run nvidia-smi'}, or use backend='numpy'"
        )
    count = cupy.cuda.runtime.getDeviceCount()
    if device < count:
        return ""
    return (
        f"there is no GPU number {device}: nvidia-smi lists {count}, and they are counted "
        "from 0; use backend='cuda:0'"
    )


def _smoke_test(xp: CuPyBackend) -> None:
    """Multiply two matrices and run a kernel: that needs the driver, cuBLAS and NVRTC."""
    A, Y = xp.asarray(np.array([[1, -2], [3, -4]], np.float32)), xp.empty((2, 2), np.float32)
    product = xp.asnumpy(xp.matmul(A, A, out=Y)).tolist()
    rectified = xp.asnumpy(xp.relu(A, out=Y)).tolist()
    if product != [[-5, 6], [-9, 10]] or rectified != [[1, 0], [3, 0]]:
        raise ArithmeticError(f"wrong values, {product} and {rectified}")


def _why(error: Exception) -> str:
    """Return the sentence for an error of the smoke test."""
    said, way_out = what_went_wrong(error), "run nvidia-smi"
    if cannot_write(error):
        way_out = CACHE_ELSEWHERE
    elif isinstance(error, ImportError | OSError) or " find" in said or "finding" in said:
        way_out = f"CUDA's libraries come with pip install '{_package()}'"
    return (
        f"CuPy finds the GPU but cannot compute on it ({said}); {way_out}, or use backend='numpy'"
    )


def _package() -> str:
    """Return the name of the package of CuPy that brings CUDA's libraries along."""
    try:
        major = _built_for().partition(".")[0]
    except Exception:  # one of the libraries that are missing
        major = "13"
    return f"cupy-cuda{major}x[ctk]"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _built_for() -> str:
    return _version(cupy.cuda.runtime.runtimeGetVersion())


def _driver() -> str:
    number = cupy.cuda.runtime.driverGetVersion()
    return f"the driver supports CUDA {_version(number)}" if number else "there is no NVIDIA driver"


def _other_cupy() -> str:
    """Return how to get the CuPy for an older driver, "" if the driver is not the reason."""
    driver, built = (
        number() // 1000
        for number in (cupy.cuda.runtime.driverGetVersion, cupy.cuda.runtime.runtimeGetVersion)
    )
    if not 0 < driver < built:
        return ""
    return (
        f"update the driver, or change CuPy with pip uninstall cupy-cuda{built}x and "
        f"pip install 'cupy-cuda{driver}x[ctk]'"
    )


def describe(device: int = 0) -> dict[str, str]:
    """Return what ``xpnet info`` prints about CuPy; "unknown" where something cannot be asked."""
    gib = 2**30

    def gpu() -> str:
        return str(cupy.cuda.runtime.getDeviceProperties(device)["name"].decode())

    def memory() -> str:
        with cupy.cuda.Device(device):
            free, total = cupy.cuda.runtime.memGetInfo()
        return f"{total / gib:.1f} GiB, {free / gib:.1f} GiB free"

    def pool() -> str:
        with cupy.cuda.Device(device):
            pool = cupy.get_default_memory_pool()
            limit = pool.get_limit()
        most = f"{limit / gib:.1f} GiB at most" if limit else "no limit"
        return f"{pool.total_bytes() / 2**20:.1f} MiB at the peak, {most}"

    questions: dict[str, Callable[[], str]] = {
        "CuPy": lambda: str(cupy.__version__),
        "CUDA runtime": _built_for,
        "driver": lambda: _driver().removeprefix("the driver "),
        "GPU": gpu,
        "GPU memory": memory,
        "CuPy's memory pool": pool,
    }
    return {name: if_known(question) for name, question in questions.items()}
