"""Reproducible mode: sums and matrix products, which are exact, so that no order matters."""

from __future__ import annotations

import sys
from math import ldexp
from typing import Any

import numpy as np

from xpnet.backend.base import Array
from xpnet.backend.exact import (
    MANTISSA,
    MANTISSA32,
    MOST_BITS,
    Widths,
    flush,
    grid,
    snap,
    sum_bits,
    widths,
)
from xpnet.backend.reproducible.arrays import SingleOperations
from xpnet.backend.reproducible.terms import LOCAL_TERMS, LocalTerms

K_BLOCK = 1024  # longer sums in a product are made of blocks of this length, added left to right
PASS = 2**18  # elements at a time of an operand that is rounded
TILE = 2**18  # ... of the left operand of a product
MAGNITUDE = {  # the bits of a type, and all of them but the sign
    np.dtype("float32"): ("int32", 2**31 - 1),
    np.dtype("float64"): ("int64", 2**63 - 1),
}


class ExactSums(SingleOperations):
    """Sums and products with one possible answer, see `xpnet.backend.exact`."""

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A, where A is rounded to a grid that all terms of a sum share"""
        if A.dtype != np.float32:
            return self._ordinary.sum(A, axis, out=out, keepdims=keepdims)
        if not A.size:
            return self._ordinary.copyto(out, 0.0)
        A, axis = (A.reshape(-1), 0) if axis is None else (A, axis % A.ndim)
        return self.sum_over(A, axis, out)

    def sum_over(self, A: Array, axis: int, out: Array, terms: LocalTerms = LOCAL_TERMS) -> Array:
        """out = Σ A over one axis, some of whose terms may be elsewhere"""
        S = self._scratch("sum", A.shape[:axis] + A.shape[axis + 1 :])
        self._exact_sum(A, axis, S, terms)
        self._store(S, out.reshape(S.shape))
        return out

    def max(self, A: Array, axis: int, *, out: Array) -> Array:
        """out = max A over one axis"""
        return self._flushed(self._ordinary.max(A, axis, out=out))

    def _exact_sum(self, A: Array, axis: int, out: Array, terms: LocalTerms = LOCAL_TERMS) -> Array:
        """out = Σ A in float64; n numbers of 53 - ⌈log₂ n⌉ bits have an exact sum"""
        ((own, n),) = terms.blocks(A.shape[axis], sys.maxsize)
        A, m = A[own] if axis == 0 else A[:, own], self.module
        C = self._grid(A, axis, min(MANTISSA - sum_bits(n), MOST_BITS), terms)
        if not A.shape[axis]:
            self._ordinary.copyto(out, 0.0)
        for rows in self._tiles(A.shape, PASS):
            D = self._load("terms", A[rows])
            snap(m, D, C[rows] if axis else C, out=D)
            if axis:
                self._ordinary.sum(D, axis, out=out[rows])
            elif not rows.start:
                self._ordinary.sum(D, 0, out=out)
            else:
                m.add(out, self._ordinary.sum(D, 0, out=self._scratch("part", out.shape)), out=out)
        return terms.total(out)

    def _grid(self, A: Array, axis: int, bits: int, terms: LocalTerms = LOCAL_TERMS) -> Array:
        """Return the C of `snap` for A, from its largest magnitudes along an axis.

        Without the sign, the bits of floating numbers are whole numbers in the same order.
        """
        m, xp, (integer, unsigned) = self.module, self._ordinary, MAGNITUDE[A.dtype]
        shape = (*A.shape[:axis], 1, *A.shape[axis + 1 :])
        pattern, top = A.view(integer), self._scratch(f"top {integer}", shape, integer)
        tiles = self._tiles(A.shape, PASS) if A.shape[axis] else []
        if not tiles:
            xp.copyto(top, 0)
        for rows in tiles:
            tile = pattern[rows]
            magnitude = self._scratch(f"magnitude {integer}", tile.shape, integer)
            m.bitwise_and(tile, unsigned, out=magnitude)
            if axis:
                xp.max(magnitude, axis, out=top[rows])
            elif not rows.start:
                xp.max(magnitude, 0, out=top)
            else:
                other = xp.max(magnitude, 0, out=self._scratch(f"other {integer}", shape, integer))
                m.maximum(top, other, out=top)
        top = terms.greatest(top).view(A.dtype)
        return grid(m, xp.copyto(self._scratch("grid", shape), top), bits)

    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B; see `affine`"""
        return self.affine(A, B, None, out)

    def affine(self, X: Array, W: Array, b: Array | None, out: Array, f: str = "") -> Array:
        """out = f(X W + b), each block of up to 1024 products summed exactly, see `exact.widths`

        X is rounded along its rows and W along its columns, so that no row or column loses bits to
        a larger one beside it. Within a row it does: next to 1e5, a third has 7 bits less than it
        has alone. Blocks, parts and b are added in float64, in a fixed order. Nothing here depends
        on the number of rows: a sample has the same bits in any batch.
        """
        self.affine_over(X, W, b, out)
        return getattr(self, f)(out, out=out) if f else out

    def affine_over(
        self, X: Array, W: Array, b: Array | None, out: Array, terms: LocalTerms = LOCAL_TERMS
    ) -> Array:
        """out = X W + b, where some of the products that are summed may be elsewhere"""
        pixels, blocks = X.dtype == np.uint8, terms.blocks(X.shape[1], K_BLOCK)
        total: Any = self._scratch("total", out.shape) if len(blocks) > 1 else None
        if not blocks:
            self._ordinary.copyto(out, 0.0 if b is None else b)
        for k, (block, n) in enumerate(blocks):
            A, B = X[:, block], W[block]
            plan = widths(n, pixels)
            split_right = pixels or B.shape[1] < n  # then it is likely to be the smaller
            right = self._parts("right", B, 0, plan, split_right, terms)
            for rows in self._tiles((len(A), max(n, out.shape[1])), TILE):
                left = self._parts("left", A[rows], 1, plan, not split_right, terms)
                S = self._product(left, right, terms)
                if k:
                    self.module.add(S, total[rows], out=S)
                if k + 1 == len(blocks):
                    self._finish(S, b, out[rows], pixels)
                else:
                    self._ordinary.copyto(total[rows], S)
        return out

    def _parts(
        self,
        name: str,
        A: Array,
        axis: int,
        plan: Widths,
        split: bool,
        terms: LocalTerms = LOCAL_TERMS,
    ) -> list[Array]:
        """Return an operand, snapped to grids along the axis: in float64, and the part in float32.

        That is its rest if it is split, else a short form of itself to multiply the other's with.
        """
        if A.strides[0] < A.strides[1]:  # a transposed view: work in the order of the memory
            return [part.T for part in self._parts(name, A.T, 1 - axis, plan, split, terms)]
        m, X = self.module, self._load(name, A)
        if A.dtype == np.uint8:
            return [X]
        bits = plan.head if split else plan.whole
        C = self._grid(A, axis, bits, terms)
        if not plan.rest:
            return [snap(m, X, C, out=X)]
        first = snap(m, X, C, out=self._scratch(f"{name} first", A.shape))
        second = self._scratch(f"{name} second", A.shape, np.float32)
        if split:
            m.subtract(X, first, out=X)  # exact, and at most half a step
            m.multiply(C, ldexp(1.0, -plan.rest - 1), out=C)
            return [first, self._store(snap(m, X, C, out=X), second)]
        m.multiply(C, ldexp(1.0, bits - plan.short - MANTISSA + MANTISSA32), out=C)
        c = self._ordinary.copyto(self._scratch("grid 32", C.shape, np.float32), C)
        return [first, snap(m, A, c, out=second)]

    def _product(self, left: list[Array], right: list[Array], terms: LocalTerms) -> Array:
        """Return the sum of the products of the first parts and of the second ones."""
        shape = (left[0].shape[0], right[0].shape[1])
        S = self._ordinary.matmul(left[0], right[0], out=self._scratch("product", shape))
        S = terms.total(S)
        if len(right) > 1:
            T = self._scratch("product 2", shape, np.float32)
            T = terms.total(self._ordinary.matmul(left[1], right[1], out=T))
            flush(self.module, T)
            self.module.add(S, self._load("rest", T), out=S)
        return S

    def _finish(self, S: Array, b: Array | None, out: Array, pixels: bool) -> None:
        """out = S + b, where the products with pixels k are still to be divided by 255"""
        if pixels:
            self.module.divide(S, 255.0, out=S)
        if b is not None:
            self.module.add(S, self._load("bias", b), out=S)
        self._store(S, out)
