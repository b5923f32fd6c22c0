"""How a primitive becomes a kernel of ``kernels.cu``; without a fitting one, base.py runs."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from xpnet.backend.base import Array, Backend
from xpnet.backend.cuda import BLOCK, REALS, WARP
from xpnet.support.errors import MixedArraysError, ShapeError

Arrays = tuple[Array, ...]
Method = TypeVar("Method", bound=Callable[..., Any])

COLUMN_BLOCK = 1024  # threads of a block that adds up columns
PARTIALS = 1024  # a longer sum is first split into up to this many parts
PART_OF_ROWS, BLOCKS_OF_COLUMNS = 1024, 512  # columns are split where that fills the GPU

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
    "normal": "TTT",
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

_CODES = {np.dtype(name): np.dtype(name).char for name in ("f", "d", "q", "Q", "B")}
_REAL_OF = {(k, types.replace("T", T)): T for T in REALS for k, types in KERNELS.items()}


class NoKernelError(Exception):
    """No kernel takes arrays of these types and shapes."""


def fused(method: Method) -> Method:
    """Make the text of ``base.py`` run where no kernel takes the arrays."""
    meaning = getattr(Backend, method.__name__)

    @wraps(method)
    def call(self: WithKernels, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except NoKernelError:
            return meaning(self, *args, **kwargs)

    return cast(Method, call)


class WithKernels(Backend):
    """A backend whose primitives are kernels.

    Attributes
    ----------
    _kernels : function
        What starts a kernel, see `xpnet.backend.cuda.Kernels`.
    """

    _kernels: Callable[..., None]

    @property
    def _lane(self) -> int:
        """0, or 1 on the branch of a graph: what the two write must not be the same."""
        return 0

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
            raise NoKernelError
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
            raise NoKernelError
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
            raise NoKernelError
        if any(a.shape != shape[:1] for a in labels + of_each_row):
            raise NoKernelError
        self._launch(name, WARP * shape[0], read + labels, (out, *of_each_row), shape, numbers)
        return out

    def _columns(self, name: str, read: Arrays, written: Arrays, out: Array) -> None:
        """Queue a kernel that adds up columns; in parts, if that lets more blocks work at once."""
        shape = read[0].shape
        if len(shape) != 2 or any(a.shape != shape for a in read + written):
            raise NoKernelError
        rows, columns = shape
        if out.size != columns or not columns:
            raise NoKernelError
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
