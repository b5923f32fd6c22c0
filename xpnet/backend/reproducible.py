"""Reproducible mode: the same bits on NumPy and on CuPy, on any BLAS, any CPU and any GPU.

`Reproducible` is a backend on top of another one. It replaces the primitives whose last bits depend
on the machine, beneath the layers, none of which knows of it:

- Sums and matrix products are made exact, see `exact`, so that their order does not matter.
- exp, log, tanh and their kin are polynomials, see `elementary`.
- All else is a sequence of single operations + - · / √ max on float32 or float64, each of which
  IEEE 754 defines to the last bit, never two in one kernel, where a compiler could merge them.
- Every float32 that is stored passes through `exact.flush`.

What it promises: for float32 networks and finite numbers, the output of every layer, the loss,
every gradient and every update are the same bits everywhere. Data must come in by ``xp.asarray``,
as it does in `Trainer`, ``predict`` and `xpnet.parity`. Images stay uint8 up to the first product.
Numbers must be below 1e33, learning rates below 2²⁴. Orthogonal initial weights are LAPACK's, and
differ between machines.

What it costs, besides time: numbers are rounded relative to the largest of their row or column, to
26 bits or so, and below 1e-30 they are 0. Features of very different sizes should be scaled, as
they should anyway; `xpnet.parity` holds the gradients of this mode to those of float64.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from math import ldexp, prod
from typing import Any

import numpy as np

from xpnet.backend import elementary
from xpnet.backend.base import Array, Backend
from xpnet.backend.exact import (
    MANTISSA,
    MANTISSA32,
    MOST_BITS,
    Widths,
    flush,
    grid,
    snap,
    sum_bits,
    tame,
    widths,
)
from xpnet.support.errors import BackendError, OptionError, ShapeError

K_BLOCK = 1024  # longer sums in a product are made of blocks of so many, added left to right
PIECE = 2**15  # elements at a time of functions, with their scratch, that stay in a CPU's cache
OPTIMIZER_PIECE = 2**17  # ... of the five vectors of an optimizer
PASS = 2**18  # ... of an operand that is rounded
TILE = 2**18  # ... of the left operand of a product
DEVICE_TILE = 2**24  # a GPU takes more at once
AS_THEY_ARE = (
    "empty", "zeros", "asnumpy", "owns", "take", "one_hot", "gather", "record", "dropout_mask",
    "capture", "renew", "here", "peak_memory",
)  # fmt: skip
MAGNITUDE = {  # the bits of a type, and all of them but the sign
    np.dtype("float32"): ("int32", 2**31 - 1),
    np.dtype("float64"): ("int64", 2**63 - 1),
}
LEAST_EPS = 1e-13  # for a smaller ε the squares of gradients would vanish before it


Arrays = tuple[Array, ...]
Blocks = list[tuple[slice, int]]


class Here:
    """Where the terms of a sum are: all of them here. `xpnet.parallel` has what else there is."""

    def blocks(self, n: int, size: int) -> Blocks:
        """Return the blocks of up to ``size`` terms that n terms here are part of, in order.

        Of each block the slice of the terms that are here, and the number of terms it has.
        """
        return [(slice(k, k + size), min(size, n - k)) for k in range(0, n, size)]

    def greatest(self, top: Array) -> Array:
        """Return the greatest of the values that all have here, element by element."""
        return top

    def total(self, S: Array) -> Array:
        """Return the sum of what all have here, element by element."""
        return S


HERE = Here()


class Reproducible(Backend):
    """The primitives with the same bits on every machine.

    Parameters
    ----------
    ordinary : Backend
        The backend that does the single operations.

    Raises
    ------
    BackendError
        If this machine does not round as IEEE 754 says, or cuBLAS is told to emulate float64.
    """

    reproducible = True
    takes_pixels = True
    dtypes = ("float32",)

    def __init__(self, ordinary: Backend) -> None:
        _check_arithmetic()
        self._ordinary = ordinary
        self.name, self.module, self.on_host = ordinary.name, ordinary.module, ordinary.on_host
        self._scratch = ordinary.scratch
        for name in AS_THEY_ARE:
            setattr(self, name, getattr(ordinary, name))

    def __repr__(self) -> str:
        return f"<xpnet backend {self.name!r}, reproducible>"

    @property
    def ordinary(self) -> Backend:
        """The backend beneath."""
        return self._ordinary

    @property
    def captures(self) -> bool:  # type: ignore[override]
        """What the backend beneath does."""
        return self._ordinary.captures

    @property
    def forks(self) -> bool:  # type: ignore[override]
        """False: what is done at the same time would share scratch."""
        return False

    def __reduce__(self) -> tuple[Any, ...]:
        from xpnet.backend import find_backend

        return find_backend, (self._ordinary, True)

    # ---- arrays -------------------------------------------------------------------------------

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """Return ``a`` as an array of this backend, floating numbers flushed in a copy of it."""
        placed = self._ordinary.asarray(a, dtype)
        return placed if placed.dtype != np.float32 else flush(self.module, placed.copy())

    def copyto(self, out: Array, A: Any) -> Array:
        """out = A, flushed where that makes float32 of another type"""
        self._ordinary.copyto(out, A)
        same = getattr(A, "dtype", None) == out.dtype
        return out if same else self._flushed(out)

    def _flushed(self, out: Array) -> Array:
        return flush(self.module, out) if out.dtype == np.float32 else out

    def _load(self, name: str, A: Array) -> Array:
        """Return a copy of A in float64, in scratch."""
        return self._ordinary.copyto(self._scratch(name, A.shape), A)

    def _store(self, S: Array, out: Array) -> Array:
        """out = S, rounded to float32 and flushed"""
        return flush(self.module, self._ordinary.copyto(out, S))

    # ---- single operations --------------------------------------------------------------------

    def add(self, A: Array, B: Any, out: Array) -> Array:
        """out = A + B"""
        return self._flushed(self.module.add(tame(A), tame(B), out=out))

    def subtract(self, A: Any, B: Any, out: Array) -> Array:
        """out = A - B"""
        return self._flushed(self.module.subtract(tame(A), tame(B), out=out))

    def multiply(self, A: Array, B: Any, out: Array) -> Array:
        """out = A · B"""
        return self._flushed(self.module.multiply(tame(A), tame(B), out=out))

    def divide(self, A: Any, B: Any, out: Array) -> Array:
        """out = A / B"""
        return self._flushed(self.module.divide(tame(A), tame(B), out=out))

    def maximum(self, A: Array, B: Any, out: Array) -> Array:
        """out = max(A, B); the sign of max(+0, -0) is nowhere defined, so it is flushed, too"""
        return self._flushed(self.module.maximum(tame(A), tame(B), out=out))

    def minimum(self, A: Array, B: Any, out: Array) -> Array:
        """out = min(A, B)"""
        return self._flushed(self.module.minimum(tame(A), tame(B), out=out))

    def relu(self, X: Array, out: Array, slope: float = 0.0) -> Array:
        """Y = max(X, slope·X), which is X where X > 0, since 0 ≤ slope < 1"""
        scaled = self.module.multiply(X, tame(slope), out=out) if slope else 0.0
        return self.maximum(X, scaled, out=out)

    def relu_grad(self, dY: Array, Y: Array, out: Array, slope: float = 0.0) -> Array:
        """dX = dY · max([Y > 0], slope)"""
        self.module.greater(Y, 0.0, out=out)
        if slope:
            self.module.maximum(out, tame(slope), out=out)
        return self.multiply(out, dY, out=out)

    # ---- sums and products --------------------------------------------------------------------

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

    def sum_over(self, A: Array, axis: int, out: Array, terms: Here = HERE) -> Array:
        """out = Σ A over one axis, some of whose terms may be elsewhere"""
        S = self._scratch("sum", A.shape[:axis] + A.shape[axis + 1 :])
        self._exact_sum(A, axis, S, terms)
        self._store(S, out.reshape(S.shape))
        return out

    def max(self, A: Array, axis: int, *, out: Array) -> Array:
        """out = max A over one axis"""
        return self._flushed(self._ordinary.max(A, axis, out=out))

    def _exact_sum(self, A: Array, axis: int, out: Array, terms: Here = HERE) -> Array:
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

    def _grid(self, A: Array, axis: int, bits: int, terms: Here = HERE) -> Array:
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

    def _tiles(self, shape: tuple[int, ...], size: int) -> list[slice]:
        """Return slices of the first axis, even ones, on a CPU of up to ``size`` elements each."""
        size = size if self.on_host else DEVICE_TILE
        step = max(1, -(-shape[0] // max(1, -(-prod(shape) // size))))
        return [slice(i, i + step) for i in range(0, shape[0], step)]

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
        self, X: Array, W: Array, b: Array | None, out: Array, terms: Here = HERE
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
        self, name: str, A: Array, axis: int, plan: Widths, split: bool, terms: Here = HERE
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

    def _product(self, left: list[Array], right: list[Array], terms: Here) -> Array:
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

    # ---- functions: computed in float64, piece by piece ----------------------------------------

    def _map(self, formula: Callable[..., None], operands: Arrays, *out: Array) -> Array:
        """Apply a formula of `elementary` to copies of the operands; the first become ``out``."""
        for a in out:
            if not a.flags.c_contiguous:  # its reshape would be a copy
                raise ShapeError(
                    f"xp.{formula.__name__} writes C-contiguous arrays only, but an output of "
                    f"shape {a.shape} has the strides {a.strides}; write into one of xp.empty"
                )
        flat = [A.reshape(-1) for A in operands]
        results = [a.reshape(-1) for a in out]
        for piece in self._pieces(results[0], PIECE):
            copies = [self._load(f"operand {k}", A[piece]) for k, A in enumerate(flat)]
            formula(self.module, *copies, self._work(copies[0].shape))
            for copy, result in zip(copies, results, strict=False):
                self._store(copy, result[piece])
        return out[0]

    def _pieces(self, flat: Array, size: int) -> list[slice]:
        """Return slices of a vector: on a CPU so many elements at a time, which fit its cache."""
        step = size if self.on_host else max(1, flat.size)
        return [slice(i, i + step) for i in range(0, flat.size, step)]

    def _work(self, shape: tuple[int, ...]) -> list[Array]:
        return [self._scratch(f"work {k}", shape) for k in range(6)]

    def log(self, A: Array, out: Array) -> Array:
        """out = ln A, for positive numbers"""
        return self._map(elementary.log, (A,), out)

    def tanh(self, A: Array, out: Array) -> Array:
        """out = tanh A"""
        return self._map(elementary.tanh, (A,), out)

    def tanh_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · (1 - Y²)"""
        return self._map(elementary.tanh_grad, (dY, Y), out)

    def sigmoid(self, X: Array, out: Array) -> Array:
        """Y = 1 / (1 + exp(-X))"""
        return self._map(elementary.sigmoid, (X,), out)

    def sigmoid_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · Y (1 - Y)"""
        return self._map(elementary.sigmoid_grad, (dY, Y), out)

    def gelu(self, X: Array, out: Array, T: Array) -> Array:
        """T = tanh(√(2/π) (X + a X³)),  Y = X (1 + T) / 2"""
        return self._map(elementary.gelu, (X, X), out, T)

    def gelu_grad(self, dY: Array, X: Array, T: Array, out: Array, work: Array) -> Array:
        """dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2"""
        return self._map(elementary.gelu_grad, (dY, X, T), out)

    def softplus(self, X: Array, out: Array) -> Array:
        """Y = log(1 + exp X)"""
        return self._map(elementary.softplus, (X,), out)

    # ---- softmax: in float64, some rows at a time ----------------------------------------------

    def softmax(self, X: Array, out: Array, work: Array) -> Array:
        """Yᵢⱼ = exp(Xᵢⱼ - maxₖ Xᵢₖ) / Σₖ exp(Xᵢₖ - maxₖ Xᵢₖ)"""
        for rows in self._tiles(X.shape, PIECE):
            _, E, sums = self._exponentials(X[rows])
            self._store(self.module.divide(E, sums, out=E), out[rows])
        return out

    def softmax_grad(self, dY: Array, Y: Array, out: Array, work: Array) -> Array:
        """dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ)"""
        m = self.module
        for rows in self._tiles(Y.shape, PIECE):
            dX, y = self._load("gradients", dY[rows]), self._load("outputs", Y[rows])
            terms = m.multiply(dX, y, out=self._scratch("products", y.shape))
            dots = self._exact_sum(terms, 1, out=self._scratch("dots", (len(y),)))
            m.subtract(dX, dots[:, None], out=dX)
            self._store(m.multiply(dX, y, out=dX), out[rows])
        return out

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
        """dZ = scale·(P - T),  lossesᵢ = Σⱼ Tᵢⱼ (log Σₖ exp Sᵢₖ - Sᵢⱼ)  with  S = Z - max Z"""
        m = self.module
        if T.ndim == 1:
            T = self.one_hot(T, out=hot)
        for rows in self._tiles(Z.shape, PIECE):
            S, E, sums = self._exponentials(Z[rows])
            t = self._load("targets", T[rows])
            m.divide(E, sums, out=E)
            self._store(m.subtract(E, t, out=E), dZ[rows])
            elementary.log(m, sums, self._work(sums.shape))
            m.subtract(sums, S, out=S)
            m.multiply(S, t, out=S)
            loss = self._exact_sum(S, 1, out=self._scratch("losses", (len(S),)))
            self._store(loss, losses[rows])
        if scale != 1.0:
            self.multiply(dZ, scale, out=dZ)
        return losses

    def _exponentials(self, X: Array) -> Arrays:
        """Return S = X - max X, exp S, and its sum along each row.

        exp S ≤ 1, so a grid with steps of 2 to the power of ⌈log₂ columns⌉ - 52 makes them exact.
        """
        m, S = self.module, self._load("scores", X)
        sums = self._scratch("sums", (len(S), 1))
        m.subtract(S, self._ordinary.max(S, 1, out=sums), out=S)
        E = self._ordinary.copyto(self._scratch("exponentials", S.shape), S)
        elementary.exp(m, E, self._work(S.shape))
        D = snap(m, E, ldexp(1.5, max(1, sum_bits(S.shape[1]))), self._scratch("terms", S.shape))
        return S, E, self._ordinary.sum(D, 1, out=sums, keepdims=True)

    # ---- optimizers: in float32, sums of products and the step are flushed ----------------------

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        eta = self._number("rate", rate)
        for i in self._pieces(p, OPTIMIZER_PIECE):
            self._descend(p[i], g[i], eta, work[i])

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, *, mu: float, nesterov: bool, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))"""
        m, eta = self.module, self._number("rate", rate)
        for i in self._pieces(p, OPTIMIZER_PIECE):
            vi, gi, step = v[i], g[i], work[i]
            m.multiply(vi, tame(mu), out=vi)
            flush(m, m.add(vi, gi, out=vi))
            if nesterov:
                m.multiply(vi, tame(mu), out=step)
                m.add(step, gi, out=step)
            self._descend(p[i], step if nesterov else vi, eta, step)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, *, rho: float, eps: float, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η (g / (√s + ε))"""
        m, eta = self.module, self._number("rate", rate)
        for i in self._pieces(p, OPTIMIZER_PIECE):
            si, gi, step = s[i], g[i], work[i]
            m.multiply(gi, gi, out=step)
            self._average(si, step, rho, step)
            m.sqrt(si, out=step)
            m.add(step, checked_eps(eps), out=step)
            self._descend(p[i], m.divide(gi, step, out=step), eta, step)

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
        numbers = self._adam_numbers(rate, powers, checked_eps(eps), decay)
        xp, (eta, epsilon, kept) = self.module, numbers
        for i in self._pieces(p, OPTIMIZER_PIECE):
            pi, gi, mi, vi, step = p[i], g[i], m[i], v[i], work[i]
            self._average(mi, gi, beta1, step)
            xp.multiply(gi, gi, out=step)
            self._average(vi, step, beta2, step)
            xp.sqrt(vi, out=step)
            xp.add(step, epsilon, out=step)
            if decay:
                self.multiply(pi, kept, out=pi)
            self._descend(pi, xp.divide(mi, step, out=step), eta, step)

    def _average(self, mean: Array, value: Array, beta: float, work: Array) -> None:
        """mean = β mean + (1 - β) value"""
        m = self.module
        m.multiply(value, 1 - beta, out=work)
        m.multiply(mean, tame(beta), out=mean)
        flush(m, m.add(mean, work, out=mean))

    def _descend(self, p: Array, direction: Array, eta: Array, work: Array) -> None:
        """p = p - η direction, where η < 2²⁴ may be multiplied with a tiny quotient"""
        self.module.subtract(p, self.multiply(direction, eta, out=work), out=p)

    def _adam_numbers(self, rate: Array, powers: Array, eps: float, decay: float) -> Arrays:
        """Return η r / (1 - β₁ᵗ), ε r and 1 - η λ with r = √(1 - β₂ᵗ), in float32."""
        m, c = self.module, self._scratch("corrections", (2,))
        m.subtract(1.0, powers, out=c)
        eta, r, kept = c[:1], c[1:], self._scratch("kept", (1,))
        m.divide(rate, eta, out=eta)
        m.sqrt(r, out=r)
        m.multiply(eta, r, out=eta)
        m.multiply(r, eps, out=r)
        m.multiply(rate, decay, out=kept)
        m.subtract(1.0, kept, out=kept)
        return self._number("eta", eta), self._number("epsilon", r), self._number("keep", kept)

    def _number(self, name: str, value: Array) -> Array:
        """Return a number of float64 on the device in float32, as an array of one element."""
        return self._store(value, self._scratch(name, (1,), np.float32))


def checked_eps(eps: float) -> float:
    """Return an ε beside which the squares that are 0 here, of gradients below 2e-14, are small."""
    if eps < LEAST_EPS:
        raise OptionError(f"reproducible mode needs eps of at least {LEAST_EPS:g}; got {eps!r}")
    return eps


def _check_arithmetic() -> None:
    """Raise unless float64 rounds to nearest, ties to even, and cuBLAS does its own arithmetic."""
    one, u = np.array([1.0, 1.0]), np.array([2.0**-53, 3 * 2.0**-53])
    if (one + u).tolist() != [1.0, 1 + 2.0**-51]:
        raise BackendError(
            "reproducible mode needs float64 that rounds to nearest; a library in this process has "
            "changed the rounding of the processor"
        )
    for name in ("CUBLAS_EMULATE_DOUBLE_PRECISION", "CUBLAS_EMULATE_SINGLE_PRECISION"):
        if os.environ.get(name, "0") not in ("", "0"):
            raise BackendError(
                f"reproducible mode needs products of the GPU itself; unset {name}, which lets "
                "cuBLAS emulate them"
            )
