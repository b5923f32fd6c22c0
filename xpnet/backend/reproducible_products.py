"""Reproducible mode on CuPy: products and sums, each of a few kernels."""

from __future__ import annotations

from math import ldexp
from typing import Any

import numpy as np

from xpnet.backend.base import Array
from xpnet.backend.exact import MANTISSA, MANTISSA32, MOST_BITS, Widths, sum_bits, widths
from xpnet.backend.reproducible import K_BLOCK, TILE
from xpnet.backend.reproducible_kernels import (
    ACROSS,
    KERNELS,
    LONGEST,
    Lines,
    ReproducibleKernels,
    packed,
)


class FusedProducts(ReproducibleKernels):
    """Products, sums and single operations as kernels."""

    # ---- products -------------------------------------------------------------------------------

    def affine(self, X: Array, W: Array, b: Array | None, out: Array, f: str = "") -> Array:
        """out = f(X W + b) as `Reproducible.affine` says, in four kernels for each block"""
        n, pixels, finish = X.shape[1], X.dtype == np.uint8, f"finish_{f}" if f else "finish"
        if not self._fits(X, W, b, out, finish):
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

    def _fits(self, X: Array, W: Array, b: Array | None, out: Array, finish: str) -> bool:
        """Return True if the kernels take the operands of a product and its result."""
        shapes = X.shape[1] and X.shape[1:] == W.shape[:1]
        if not shapes or not packed((len(X), *W.shape[1:]), (out,)):
            return False
        if b is not None and not packed(out.shape[1:], (b,)):
            return False
        parts = "parts_pixels" if X.dtype == np.uint8 else "parts"
        takes_operands = self._takes(parts, (X, W, *[None] * 4))
        return takes_operands and self._takes(finish, (None, None, None, b, None, out))

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
        sizes = (m.number, m.length, *self._shared(m), bits_of_sum(m.length))
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
        if not fits or not packed(out.shape, arrays[:3]) or not packed((columns,), (db,)):
            return super().affine_grad(dY, Y, f, out=out, db=db)
        threads = -(-columns // ACROSS) * self.line_block
        sizes = (rows, columns, ACROSS, bits_of_sum(rows))
        self._launch(name, threads, arrays, *sizes, block=self.line_block)
        return out


def _precision(plan: Widths, split: bool) -> tuple[int, bool, Any]:
    """Return the bits of an operand, whether it is split, and the second grid over the first."""
    bits = plan.head if split else plan.whole
    finer = -plan.rest - 1 if split else bits - plan.short - MANTISSA + MANTISSA32
    return bits, split, np.float64(ldexp(1.0, finer))


def _turned(parts: list[Array], m: Lines) -> list[Array]:
    """Return parts in the order of the operand that was given."""
    return [part.T if m.transposed and part is not None else part for part in parts]


def bits_of_sum(n: int) -> int:
    """Return how many bits the terms of a sum of n numbers keep."""
    return min(MANTISSA - sum_bits(n), MOST_BITS)
