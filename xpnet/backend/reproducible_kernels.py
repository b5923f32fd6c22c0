"""How a primitive of reproducible mode becomes a kernel of ``reproducible.cu``."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import base, elementary, exact
from xpnet.backend.base import Array, Backend
from xpnet.backend.cuda import BLOCK, WARP, Kernels, compile_options, literal
from xpnet.backend.reproducible import Reproducible

Arrays = tuple[Array, ...]

FILE = "reproducible.cu"
LINE_BLOCK = 512  # threads of a block that shares lines, see `Lines`
ACROSS = 8  # columns that a block takes: 32 bytes of float32, what a GPU reads at once
LONGEST = 2**16  # numbers in a sum that one block adds up
NULL = np.uint64(0)  # the address of an array that is not there

# The types of the arrays of each kernel, in the order of its parameters: f float32, d float64,
# q int64, B uint8.
KERNELS = {
    "parts": "ffdfdf",
    "parts_pixels": "Bfdfdf",
    "finish": "dfdfdf",
    "finish_relu": "dfdfdf",
    "finish_sigmoid": "dfdfdf",
    "finish_tanh": "dfdfdf",
    "sum_lines": "ff",
    "relu_grad_sums": "ffff",
    "sigmoid_grad_sums": "ffff",
    "tanh_grad_sums": "ffff",
    "add": "fff",
    "subtract": "fff",
    "multiply": "fff",
    "divide": "fff",
    "maximum": "fff",
    "minimum": "fff",
    "relu": "ff",
    "relu_grad": "fff",
    "map_log": "ff",
    "map_tanh": "ff",
    "map_sigmoid": "ff",
    "map_softplus": "ff",
    "map_tanh_grad": "fff",
    "map_sigmoid_grad": "fff",
    "map_normal": "ffff",
    "map_gelu": "ffff",
    "map_gelu_grad": "ffff",
    "softmax": "ff",
    "softmax_grad": "fff",
    "softmax_cross_entropy": "ffff",
    "softmax_cross_entropy_labels": "fqff",
    "sgd": "dff",
    "momentum": "dfff",
    "rmsprop": "dfff",
    "adam": "ddffff",
}

_CODES = {np.dtype(name): name for name in ("f", "d", "q", "B")}
_CONSTANTS = {
    base: ("GELU_A", "GELU_C"),
    exact: ("MANTISSA", "EXPONENT", "FLUSH"),
    elementary: (
        *("LOG2_E", "LN2_HIGH", "LN2_LOW", "WHOLE", "WHOLE_BITS", "BIAS", "ROOT_HALF_BITS"),
        *("FACTORIALS", "EXP_LIMIT", "TANH_LIMIT"),
    ),
}


@cache
def options(T: str = "f") -> tuple[str, ...]:
    """Return what the compiler is told: the constants of `exact` and `elementary`, bit by bit."""
    constants = {k: literal(vars(m)[k]) for m, names in _CONSTANTS.items() for k in names}
    named = {**constants, "LINE_BLOCK": str(LINE_BLOCK)}
    return (*compile_options(T), *[f"-D{name}={text}" for name, text in named.items()])


class Lines(NamedTuple):
    """A matrix in the order of its memory, and which lines of it are summed: see the kernels.

    Attributes
    ----------
    A : array
        Its rows have no gaps within.
    transposed : bool
        Whether it is the transpose of what was given.
    across : bool
        Whether the lines are its columns, so that threads side by side work on different lines.
    number, length : int
        How many lines there are, and of how many elements.
    """

    A: Array
    transposed: bool
    across: bool
    number: int
    length: int

    @property
    def row(self) -> int:
        """The distance between rows, in elements."""
        return int(self.A.strides[0]) // int(self.A.itemsize)


class ReproducibleKernels(Reproducible):
    """Reproducible mode whose primitives are kernels.

    Parameters
    ----------
    ordinary : Backend
        That of CuPy, which multiplies matrices.
    kernels : function, optional
        What starts a kernel, see `xpnet.backend.cuda.Kernels`.
    """

    line_block = LINE_BLOCK

    def __init__(self, ordinary: Backend, kernels: Callable[..., None] | None = None) -> None:
        super().__init__(ordinary)
        self._kernels = Kernels(FILE, options) if kernels is None else kernels

    # ---- how a kernel is started ----------------------------------------------------------------

    def _takes(self, name: str, arrays: Arrays) -> bool:
        """Tell whether a kernel takes arrays of these types; None is an array that is not there."""
        return all(
            a is None or (self.owns(a) and _CODES.get(a.dtype) == code)
            for a, code in zip(arrays, KERNELS[name], strict=True)
        )

    def _launch(
        self, name: str, threads: int, arrays: Arrays, *rest: Any, block: int = BLOCK
    ) -> None:
        """Queue a kernel; ``rest`` are sizes and numbers, by their types."""
        if threads:
            placed = [NULL if a is None else a for a in arrays]
            self._kernels(name, "f", threads, (*placed, *rest), block)

    def _elements(self, name: str, device: Arrays, arrays: Arrays, *rest: Any) -> bool:
        """Queue a kernel with a thread for each element, if it takes the arrays.

        Those after ``device``, which are numbers on the device, must have one shape.
        """
        n, shape = arrays[0].size, arrays[0].shape
        if not self._takes(name, (*device, *arrays)) or not packed(shape, arrays):
            return False
        self._launch(name, n, (*device, *arrays), n, *rest)
        return True

    def _rows(self, name: str, arrays: Arrays, dims: tuple[int, ...], *rest: Any) -> bool:
        """Queue a kernel with a warp for each row, if it takes the arrays.

        They are matrices of one shape where ``dims`` has a 2, and have a number for each row where
        it has a 1.
        """
        shape = arrays[0].shape
        if len(shape) != 2 or not shape[1] or not self._takes(name, arrays):
            return False
        if not all(packed(shape[:dim], (a,)) for a, dim in zip(arrays, dims, strict=True)):
            return False
        self._launch(name, WARP * shape[0], arrays, *shape, *rest)
        return True


def packed(shape: tuple[int, ...], arrays: Arrays) -> bool:
    """Tell whether all arrays are C-contiguous and of a shape."""
    return all(a.shape == shape and a.flags.c_contiguous for a in arrays)
