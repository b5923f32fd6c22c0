"""Reproducible mode on CuPy: kernels of ``reproducible.cu`` in the place of single operations.

A GPU needs a few microseconds for a kernel of any size, and the text of `reproducible` is some 450
single operations for a step of a small network. Here a primitive is one kernel, and a product four:
the parts of both operands, a product in float64, one in float32, and what puts them together. The
bits are the same. What a kernel does not take, other types, or shapes that would have to be
broadcast, goes to the text.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import ldexp
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import base, elementary, exact
from xpnet.backend.base import Array, Backend
from xpnet.backend.exact import MANTISSA, MANTISSA32, MOST_BITS, Widths, sum_bits, tame, widths
from xpnet.backend.on_cupy import BLOCK, WARP, Kernels, compile_options
from xpnet.backend.reproducible import K_BLOCK, TILE, Arrays, Reproducible, checked_eps

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
    constants = {k: _literal(vars(m)[k]) for m, names in _CONSTANTS.items() for k in names}
    named = {**constants, "LINE_BLOCK": str(LINE_BLOCK)}
    return (*compile_options(T), *[f"-D{name}={text}" for name, text in named.items()])


def _literal(value: Any) -> str:
    """Return a number, or several with commas, as C++ writes it."""
    if isinstance(value, tuple):
        return ",".join([_literal(float(v)) for v in value])
    return value.hex() if isinstance(value, float) else f"{value}LL"


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


class ReproducibleCuPy(Reproducible):
    """The primitives with the same bits on every machine, fused for a GPU.

    Parameters
    ----------
    ordinary : Backend
        That of CuPy, which multiplies matrices.
    kernels : function, optional
        What starts a kernel, see `on_cupy.Kernels`.
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
        if not self._takes(name, (*device, *arrays)) or not _packed(shape, arrays):
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
        if not all(_packed(shape[:dim], (a,)) for a, dim in zip(arrays, dims, strict=True)):
            return False
        self._launch(name, WARP * shape[0], arrays, *shape, *rest)
        return True

    # ---- products -------------------------------------------------------------------------------

    def affine(self, X: Array, W: Array, b: Array | None, out: Array, f: str = "") -> Array:
        """out = f(X W + b) as `Reproducible.affine` says, in four kernels for each block"""
        n, pixels, finish = X.shape[1], X.dtype == np.uint8, f"finish_{f}" if f else "finish"
        fits = n and X.shape[1:] == W.shape[:1] and _packed((len(X), *W.shape[1:]), (out,))
        fits = fits and (b is None or _packed(out.shape[1:], (b,)))
        fits = fits and self._takes("parts_pixels" if pixels else "parts", (X, W, *[None] * 4))
        if not fits or not self._takes(finish, (None, None, None, b, None, out)):
            return super().affine(X, W, b, out, f)
        if not out.size:
            return out
        total: Any = self._scratch("total", out.shape) if n > K_BLOCK else None
        for k in range(0, n, K_BLOCK):
            A, B = X[:, k : k + K_BLOCK], W[k : k + K_BLOCK]
            plan = widths(A.shape[1], pixels)
            split_right = pixels or B.shape[1] < A.shape[1]
            right, last = None, k + K_BLOCK >= n
            for rows in self._tiles((len(A), max(A.shape[1], out.shape[1])), TILE):
                left, right = self._both_parts(A[rows], B, right, plan, split_right)
                S, T = self._products(left, right)
                ends = (b, None, out[rows]) if last else (None, total[rows], None)
                arrays = (S, T, total[rows] if k else None, *ends)
                name = finish if last else "finish"
                self._launch(name, S.size, arrays, S.size, S.shape[1], pixels)
        return out

    def _both_parts(
        self, A: Array, B: Array, right: list[Array] | None, plan: Widths, split_right: bool
    ) -> tuple[list[Array], list[Array]]:
        """Return the parts of both operands, see `_parts`; those of B may be there already."""
        a, b = self._lines("left", A, 1), self._lines("right", B, 0)
        left, made = self._room("left", a, plan), self._room("right", b, plan)
        lines = (a.number, 0 if right else b.number)
        threads = self._threads(a, lines[0]) + self._threads(b, lines[1])
        sizes = (
            a.length,
            *(lines[0], *self._shared(a), *_precision(plan, not split_right)),
            *(lines[1], *self._shared(b), *_precision(plan, split_right)),
        )
        name = "parts_pixels" if A.dtype == np.uint8 else "parts"
        self._launch(name, threads, (a.A, b.A, *left, *made), *sizes, block=self.line_block)
        return _turned(left, a), right or _turned(made, b)

    def _lines(self, name: str, A: Array, axis: int) -> Lines:
        """Return a matrix as lines along an axis, in a copy if its rows or columns have gaps."""
        transposed = A.strides[0] < A.strides[1]
        M = A.T if transposed else A
        if M.shape[1] > 1 and M.strides[1] != M.itemsize:
            packed = self._scratch(f"{name} packed {A.dtype}", M.shape, A.dtype)
            M = self._ordinary.copyto(packed, M)
        return Lines(M, transposed, transposed == bool(axis), A.shape[1 - axis], A.shape[axis])

    def _room(self, name: str, m: Lines, plan: Widths) -> list[Array]:
        """Return scratch for the parts of an operand; there may be no second one."""
        first, none = self._scratch(f"{name} first", m.A.shape), not plan.rest
        second = None if none else self._scratch(f"{name} second", m.A.shape, np.float32)
        return [first, second]

    def _shared(self, m: Lines) -> tuple[int, int, bool]:
        """Return how far rows are apart, and how many lines a block takes: as many as it can.

        Of rows those are so many that each thread has at most one element, but at least one row.
        """
        rows = 1 << max(0, (self.line_block // m.length).bit_length() - 1)
        return m.row, ACROSS if m.across else rows, m.across

    def _threads(self, m: Lines, lines: int) -> int:
        """Return how many threads share so many lines."""
        return -(-lines // self._shared(m)[1]) * self.line_block

    def _products(self, left: list[Array], right: list[Array]) -> tuple[Array, Array | None]:
        """Return the product of the first parts and, if there are some, of the second ones."""
        xp, shape = self._ordinary, (left[0].shape[0], right[0].shape[1])
        S = xp.matmul(left[0], right[0], out=self._scratch("product", shape))
        if right[1] is None:
            return S, None
        T = self._scratch("product 2", shape, np.float32)
        return S, xp.matmul(left[1], right[1], out=T)

    # ---- sums -----------------------------------------------------------------------------------

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A, over the first axis, the last, or all"""
        fits = self._takes("sum_lines", (A, out)) and out.flags.c_contiguous and A.size
        m = self._lines_to_sum(A, axis) if fits else None
        if m is None or m.number != out.size or m.length > LONGEST:
            return super().sum(A, axis, out=out, keepdims=keepdims)
        sizes = (m.number, m.length, *self._shared(m), _bits_of_sum(m.length))
        threads = self._threads(m, m.number)
        self._launch("sum_lines", threads, (m.A, out), *sizes, block=self.line_block)
        return out

    def _lines_to_sum(self, A: Array, axis: int | None) -> Lines | None:
        """Return what is summed over the first axis, the last, or all."""
        if axis is None or A.ndim == 1:
            return self._lines("sum", A.reshape(1, -1), 1) if A.flags.c_contiguous else None
        if axis in (0, -A.ndim) and (A.ndim == 2 or A.flags.c_contiguous):
            return self._lines("sum", A.reshape(len(A), -1), 0)
        if axis in (-1, A.ndim - 1) and (A.ndim == 2 or A.flags.c_contiguous):
            return self._lines("sum", A.reshape(-1, A.shape[-1]), 1)
        return None

    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z),  db = Σ out over the rows"""
        name, arrays = f"{f}_grad_sums", (dY, Y, out, db)
        rows, columns = out.shape
        fits = name in KERNELS and out.size and self._takes(name, arrays) and rows <= LONGEST
        if not fits or not _packed(out.shape, arrays[:3]) or not _packed((columns,), (db,)):
            return super().affine_grad(dY, Y, f, out=out, db=db)
        threads = -(-columns // ACROSS) * self.line_block
        sizes = (rows, columns, ACROSS, _bits_of_sum(rows))
        self._launch(name, threads, arrays, *sizes, block=self.line_block)
        return out

    # ---- single operations ----------------------------------------------------------------------

    def add(self, A: Array, B: Any, out: Array) -> Array:
        """out = A + B"""
        return out if self._combine("add", A, B, out) else super().add(A, B, out)

    def subtract(self, A: Any, B: Any, out: Array) -> Array:
        """out = A - B"""
        return out if self._combine("subtract", A, B, out) else super().subtract(A, B, out)

    def multiply(self, A: Array, B: Any, out: Array) -> Array:
        """out = A · B"""
        return out if self._combine("multiply", A, B, out) else super().multiply(A, B, out)

    def divide(self, A: Any, B: Any, out: Array) -> Array:
        """out = A / B"""
        return out if self._combine("divide", A, B, out) else super().divide(A, B, out)

    def maximum(self, A: Array, B: Any, out: Array) -> Array:
        """out = max(A, B)"""
        return out if self._combine("maximum", A, B, out) else super().maximum(A, B, out)

    def minimum(self, A: Array, B: Any, out: Array) -> Array:
        """out = min(A, B)"""
        return out if self._combine("minimum", A, B, out) else super().minimum(A, B, out)

    def _combine(self, name: str, A: Any, B: Any, out: Array) -> bool:
        """Queue a single operation, if both are float32 that fit, or Python's numbers."""
        operands = [_operand(x, out.shape) for x in (A, B)]
        if None in operands or not out.flags.c_contiguous:
            return False
        (a, a_steps, x), (b, b_steps, y) = operands  # type: ignore[misc]
        if not self._takes(name, (a, b, out)):
            return False
        columns = out.shape[-1] if out.ndim == 2 else out.size
        self._launch(name, out.size, (a, b, out), out.size, columns, *a_steps, *b_steps, x, y)
        return True

    def relu(self, X: Array, out: Array, slope: float = 0.0) -> Array:
        """Y = max(X, slope·X)"""
        numbers = (bool(slope), np.float32(tame(slope)))
        if _plain(slope) and self._elements("relu", (), (X, out), *numbers):
            return out
        return super().relu(X, out, slope)

    def relu_grad(self, dY: Array, Y: Array, out: Array, slope: float = 0.0) -> Array:
        """dX = dY · max([Y > 0], slope)"""
        number = np.float32(tame(slope))
        if _plain(slope) and self._elements("relu_grad", (), (dY, Y, out), number):
            return out
        return super().relu_grad(dY, Y, out, slope)

    # ---- functions ------------------------------------------------------------------------------

    def _map(self, formula: Callable[..., None], operands: Arrays, *out: Array) -> Array:
        """Apply a formula of `elementary`."""
        if self._elements(f"map_{formula.__name__}", (), (*operands, *out)):
            return out[0]
        return super()._map(formula, operands, *out)

    def softmax(self, X: Array, out: Array, work: Array) -> Array:
        """Yᵢⱼ = exp(Xᵢⱼ - maxₖ Xᵢₖ) / Σₖ exp(Xᵢₖ - maxₖ Xᵢₖ)"""
        if self._rows("softmax", (X, out), (2, 2), _grid_of_exp(X)):
            return out
        return super().softmax(X, out, work)

    def softmax_grad(self, dY: Array, Y: Array, out: Array, work: Array) -> Array:
        """dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ)"""
        if self._rows("softmax_grad", (dY, Y, out), (2, 2, 2), _bits_of_sum(Y.shape[-1])):
            return out
        return super().softmax_grad(dY, Y, out, work)

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
        """dZ = scale·(softmax(Z) - T),  lossesᵢ = Σⱼ Tᵢⱼ (log Σₖ exp Sᵢₖ - Sᵢⱼ)"""
        name, dims = "softmax_cross_entropy", (2, 2, 2, 1)
        if T.ndim == 1:
            name, dims = "softmax_cross_entropy_labels", (2, 1, 2, 1)
        numbers = (_bits_of_sum(Z.shape[-1]), _grid_of_exp(Z), np.float32(tame(scale)))
        if _plain(scale) and self._rows(name, (Z, T, dZ, losses), dims, *numbers):
            return losses
        return super().softmax_cross_entropy(
            Z, T, losses=losses, dZ=dZ, work=work, hot=hot, scale=scale
        )

    # ---- optimizers -----------------------------------------------------------------------------

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        if not self._elements("sgd", (rate,), (g, p)):
            super().sgd(p, g, rate, work=work)

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, *, mu: float, nesterov: bool, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))"""
        numbers = (bool(nesterov), np.float32(tame(mu)))
        if not (_plain(mu) and self._elements("momentum", (rate,), (g, p, v), *numbers)):
            super().momentum(p, g, v, rate, mu=mu, nesterov=nesterov, work=work)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, *, rho: float, eps: float, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η (g / (√s + ε))"""
        numbers = [np.float32(x) for x in (tame(rho), 1 - rho, checked_eps(eps))]
        if not (_plain(rho, eps) and self._elements("rmsprop", (rate,), (g, p, s), *numbers)):
            super().rmsprop(p, g, s, rate, rho=rho, eps=eps, work=work)

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
        """p = (1 - η λ) p - (η r / (1 - β₁ᵗ)) (m / (√v + ε r)) with r = √(1 - β₂ᵗ)"""
        betas = [np.float32(x) for x in (tame(beta1), 1 - beta1, tame(beta2), 1 - beta2)]
        numbers = (*betas, np.float64(checked_eps(eps)), np.float64(decay))
        fits = _plain(beta1, beta2, eps, decay)
        if not (fits and self._elements("adam", (rate, powers), (g, p, m, v), *numbers)):
            super().adam(
                *(p, g, m, v, rate, powers),
                beta1=beta1,
                beta2=beta2,
                eps=eps,
                decay=decay,
                work=work,
            )


def _packed(shape: tuple[int, ...], arrays: Arrays) -> bool:
    """Tell whether all arrays are C-contiguous and of a shape."""
    return all(a.shape == shape and a.flags.c_contiguous for a in arrays)


def _plain(*numbers: Any) -> bool:
    """Tell whether these are Python's numbers, which take the type of the arrays."""
    return all(type(x) in (int, float) for x in numbers)


def _operand(x: Any, shape: tuple[int, ...]) -> tuple[Array, tuple[int, int], Any] | None:
    """Return an array, the distances between its rows and columns, and a number in its stead.

    None if it is neither a number nor an array that can be broadcast to the shape.
    """
    if _plain(x):
        return None, (0, 0), np.float32(tame(x))
    if not isinstance(getattr(x, "shape", None), tuple) or x.ndim > len(shape):
        return None
    if len(shape) > 2:
        steps = (0, 1) if x.shape == shape and x.flags.c_contiguous else (0, 0)
        return (x, steps, np.float32(0)) if steps[1] or x.size == 1 else None
    lead = 2 - x.ndim
    wanted, given = (1,) * (2 - len(shape)) + shape, (1,) * lead + x.shape
    if any(n not in (1, size) for n, size in zip(given, wanted, strict=True)):
        return None
    gaps = (0,) * lead + x.strides
    row, column = (0 if n == 1 else gap // x.itemsize for n, gap in zip(given, gaps, strict=True))
    return x, (row, column), np.float32(0)


def _precision(plan: Widths, split: bool) -> tuple[int, bool, Any]:
    """Return the bits of an operand, whether it is split, and the second grid over the first."""
    bits = plan.head if split else plan.whole
    finer = -plan.rest - 1 if split else bits - plan.short - MANTISSA + MANTISSA32
    return bits, split, np.float64(ldexp(1.0, finer))


def _turned(parts: list[Array], m: Lines) -> list[Array]:
    """Return parts in the order of the operand that was given."""
    return [part.T if m.transposed and part is not None else part for part in parts]


def _bits_of_sum(n: int) -> int:
    """Return how many bits the terms of a sum of n numbers keep."""
    return min(MANTISSA - sum_bits(n), MOST_BITS)


def _grid_of_exp(X: Array) -> Any:
    """Return the C of `snap` for the exponentials of a row, see `Reproducible._exponentials`."""
    return np.float64(ldexp(1.5, max(1, sum_bits(X.shape[-1]))))
