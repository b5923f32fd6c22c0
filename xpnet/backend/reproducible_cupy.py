"""Reproducible mode on CuPy: kernels of ``reproducible.cu`` in the place of single operations.

A GPU needs a few microseconds for a kernel of any size, and the text of `reproducible` is some 450
single operations for a step of a small network. Here a primitive is one kernel, and a product four:
the parts of both operands, a product in float64, one in float32, and what puts them together. The
bits are the same. What a kernel does not take, other types, or shapes that would have to be
broadcast, goes to the text.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ldexp
from typing import Any

import numpy as np

from xpnet.backend.base import Array
from xpnet.backend.exact import sum_bits, tame
from xpnet.backend.options import (
    AdamOptions,
    AdamState,
    CrossEntropyArrays,
    MomentumOptions,
    RMSpropOptions,
)
from xpnet.backend.reproducible import checked_eps
from xpnet.backend.reproducible_kernels import (
    Arrays,
)
from xpnet.backend.reproducible_products import FusedProducts, bits_of_sum


class ReproducibleCuPy(FusedProducts):
    """The primitives with the same bits on every machine, fused for a GPU."""

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
        if self._rows("softmax_grad", (dY, Y, out), (2, 2, 2), bits_of_sum(Y.shape[-1])):
            return out
        return super().softmax_grad(dY, Y, out, work)

    def softmax_cross_entropy(
        self, Z: Array, T: Array, out: CrossEntropyArrays, scale: float = 1.0
    ) -> Array:
        """dZ = scale·(softmax(Z) - T),  lossesᵢ = Σⱼ Tᵢⱼ (log Σₖ exp Sᵢₖ - Sᵢⱼ)"""
        name, dims = "softmax_cross_entropy", (2, 2, 2, 1)
        if T.ndim == 1:
            name, dims = "softmax_cross_entropy_labels", (2, 1, 2, 1)
        numbers = (bits_of_sum(Z.shape[-1]), _grid_of_exp(Z), np.float32(tame(scale)))
        if _plain(scale) and self._rows(name, (Z, T, out.dZ, out.losses), dims, *numbers):
            return out.losses
        return super().softmax_cross_entropy(Z, T, out, scale)

    # ---- optimizers -----------------------------------------------------------------------------

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        if not self._elements("sgd", (rate,), (g, p)):
            super().sgd(p, g, rate, work=work)

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, options: MomentumOptions, *, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))"""
        mu, nesterov = options
        numbers = (bool(nesterov), np.float32(tame(mu)))
        if not (_plain(mu) and self._elements("momentum", (rate,), (g, p, v), *numbers)):
            super().momentum(p, g, v, rate, options, work=work)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, options: RMSpropOptions, *, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η (g / (√s + ε))"""
        rho, eps = options
        numbers = [np.float32(x) for x in (tame(rho), 1 - rho, checked_eps(eps))]
        if not (_plain(rho, eps) and self._elements("rmsprop", (rate,), (g, p, s), *numbers)):
            super().rmsprop(p, g, s, rate, options, work=work)

    def adam(
        self, p: Array, g: Array, state: AdamState, options: AdamOptions, *, work: Array
    ) -> None:
        """p = (1 - η λ) p - (η r / (1 - β₁ᵗ)) (m / (√v + ε r)) with r = √(1 - β₂ᵗ)"""
        (m, v, rate, powers), (beta1, beta2, eps, decay) = state, options
        betas = [np.float32(x) for x in (tame(beta1), 1 - beta1, tame(beta2), 1 - beta2)]
        numbers = (*betas, np.float64(checked_eps(eps)), np.float64(decay))
        device, arrays = (rate, powers), (g, p, m, v)
        if not (_plain(*options) and self._elements("adam", device, arrays, *numbers)):
            super().adam(p, g, state, options, work=work)


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
    steps = _steps(x, shape)
    return None if steps is None else (x, steps, np.float32(0))


def _steps(x: Array, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the distances in elements between the rows and the columns of an array.

    They are 0 where the array is broadcast. None if it cannot be broadcast to the shape.
    """
    if len(shape) > 2:
        steps = (0, 1) if x.shape == shape and x.flags.c_contiguous else (0, 0)
        return steps if steps[1] or x.size == 1 else None
    lead = 2 - x.ndim
    wanted, given = (1,) * (2 - len(shape)) + shape, (1,) * lead + x.shape
    if any(n not in (1, size) for n, size in zip(given, wanted, strict=True)):
        return None
    gaps = (0,) * lead + x.strides
    row, column = (0 if n == 1 else gap // x.itemsize for n, gap in zip(given, gaps, strict=True))
    return row, column


def _grid_of_exp(X: Array) -> Any:
    """Return the C of `snap` for the exponentials of a row, see `Reproducible._exponentials`."""
    return np.float64(ldexp(1.5, max(1, sum_bits(X.shape[-1]))))
