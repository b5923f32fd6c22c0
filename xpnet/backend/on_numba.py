"""NumPy with its passes merged: each primitive that takes several is one loop that Numba compiles.

A step of a small network on NumPy is products of matrices, which BLAS does well, and some fifty
passes over small arrays, each with the price of a call. Here a batch is gathered and scaled in one
pass, bias and ReLU are one, so are the gradient of an activation and its sums, and an optimizer is
one whatever its formula. What NumPy does as well or better (products, exponentials) stays as it is.

The loops are compiled when they are first used, for each dtype, and kept on disk for the next
process. They add no thread, and let others run meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log, prod, sqrt
from typing import Any

import numba
import numpy as np

from xpnet.backend.base import GOLDEN, Array, is_image, mix64
from xpnet.backend.compiled_code import CodeCache
from xpnet.backend.on_numpy import NumPyBackend
from xpnet.backend.options import (
    AdamOptions,
    AdamState,
    CrossEntropyArrays,
    MomentumOptions,
    RMSpropOptions,
)


class NumbaBackend(NumPyBackend):
    """The CPU, on NumPy's arrays."""

    name = "numba"
    dtypes = ("float32", "float64")

    def affine(self, X: Array, W: Array, b: Array, out: Array, f: str = "") -> Array:
        """out = f(X W + b): the product, then one pass; the exponentials are NumPy's"""
        self.matmul(X, W, out=out)
        _add_bias(out, b, f == "relu")
        return out if f in ("", "relu") else getattr(self, f)(out, out=out)

    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z),  dbⱼ = Σᵢ outᵢⱼ"""
        _slope_times(dY, Y, FUNCTIONS.index(f), out, db)
        return out

    def softmax_cross_entropy(
        self, Z: Array, T: Array, out: CrossEntropyArrays, scale: float = 1.0
    ) -> Array:
        """S = Z - max Z;  dZ = scale·(exp S / Σ exp S - T);  losses = Σ T (log Σ exp S - S)"""
        losses, dZ, work, _ = out
        _subtract_maximum(Z, work)
        np.exp(work, out=dZ)
        _finish_cross_entropy(work, T, dZ, losses, scale)
        return losses

    def gather(
        self, data: Array, order: Array, position: Array, out: Array, work: Array | None = None
    ) -> Array:
        """outᵢ = data[order[position + i]], pixels divided by 255 as they come"""
        if not is_image(data, out):
            return super().gather(data, order, position, out, work)
        n = prod(out.shape[1:])
        images, batch = data.reshape(len(data), n), out.reshape(len(out), n)
        _gather_pixels(images, order, position, batch)
        return out

    def dropout_mask(
        self, key: Array, counter: Array, out: Array, keep: float, work: Array, first: int = 0
    ) -> Array:
        """outⱼ = [mix(start + (first + j) γ) >> 11 < keep·2⁵³] / keep"""
        _draw_mask(out.reshape(-1), key, counter, keep, first)
        return out

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        _sgd(p, g, rate)

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, options: MomentumOptions, *, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))"""
        mu, nesterov = options
        _momentum(p, g, v, rate, mu, nesterov)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, options: RMSpropOptions, *, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)"""
        rho, eps = options
        _rmsprop(p, g, s, rate, rho, eps)

    def adam(
        self, p: Array, g: Array, state: AdamState, options: AdamOptions, *, work: Array
    ) -> None:
        """p = (1 - η λ) p - (η / (1 - β₁ᵗ)) m / (√v / √(1 - β₂ᵗ) + ε)"""
        (m, v, rate, powers), (beta1, beta2, eps, decay) = state, options
        _adam(p, g, m, v, rate, powers, beta1, beta2, eps, decay)


def compiled(function: Callable[..., None], **options: Any) -> Callable[..., None]:
    """Compile when called, with IEEE 754's division by zero, and keep it where that is possible."""
    options |= {"nogil": True, "error_model": "numpy"}
    try:
        kept: Any = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(**options)(function)  # type: ignore[no-any-return]
    if hasattr(kept, "_cache"):
        kept._cache = CodeCache(kept._cache)
    return kept  # type: ignore[no-any-return]


def compiled_with_sums(function: Callable[..., None]) -> Callable[..., None]:
    """Compile likewise, where sums may be made of parts: NaN and infinities stay what they are."""
    return compiled(function, fastmath={"reassoc"})


# Numbers are float64 for Numba; `number` makes them what the arrays hold. Conditions on arguments
# alone cost nothing: they are decided before the loops.


@compiled
def _add_bias(Y: Array, b: Array, rectified: bool) -> None:
    """Y = Y + b, or max(Y + b, 0), where NaN stays"""
    zero = Y.dtype.type(0)
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            y = Y[i, j] + b[j]
            Y[i, j] = zero if rectified and y < zero else y


FUNCTIONS = ("relu", "sigmoid", "tanh")


@compiled
def _slope_times(dY: Array, Y: Array, f: int, dZ: Array, db: Array) -> None:
    """dZ = f'(Z) · dY,  db = Σᵢ dZᵢ, where f is a place in FUNCTIONS"""
    zero, one = Y.dtype.type(0), Y.dtype.type(1)
    db[:] = zero
    for i in range(Y.shape[0]):
        for j in range(Y.shape[1]):
            y = Y[i, j]
            if f == 0:
                slope = one if y > zero else zero
            elif f == 1:
                slope = (one - y) * y
            else:
                slope = one - y * y
            dz = slope * dY[i, j]
            dZ[i, j] = dz
            db[j] += dz


@compiled
def _subtract_maximum(Z: Array, S: Array) -> None:
    """S = Z - max Z in each row"""
    for i in range(Z.shape[0]):
        largest = Z.dtype.type(-np.inf)
        for j in range(Z.shape[1]):
            largest = max(largest, Z[i, j])
        for j in range(Z.shape[1]):
            S[i, j] = Z[i, j] - largest


@compiled_with_sums
def _finish_cross_entropy(S: Array, T: Array, E: Array, losses: Array, scale: float) -> None:
    """E = scale·(E / Σ E - T),  losses = Σ T (log Σ E - S), where labels stand for [Tᵢ = j]"""
    number = E.dtype.type
    for i in range(E.shape[0]):
        total, loss = number(0), number(0)
        for j in range(E.shape[1]):
            total += E[i, j]
        log_total = log(total)
        for j in range(E.shape[1]):
            t = number(T[i] == j) if T.ndim == 1 else T[i, j]
            E[i, j] = (E[i, j] / total - t) * number(scale)
            loss += t * (log_total - S[i, j])
        losses[i] = loss


@compiled
def _gather_pixels(data: Array, order: Array, position: Array, out: Array) -> None:
    """outᵢ = data[order[position + i]] / 255"""
    number = out.dtype.type
    for i in range(out.shape[0]):
        row = order[position[0] + i]
        for j in range(out.shape[1]):
            out[i, j] = number(data[row, j]) / number(255)


_mix64: Any = numba.njit(mix64)  # kept with the loops that call it: it must not change


@compiled
def _draw_mask(out: Array, key: Array, counter: Array, keep: float, first: int) -> None:
    """outⱼ = 1/keep where mix(start + (first + j) γ) >> 11 is below the threshold, else 0"""
    number = out.dtype.type
    start, threshold = _mix64(key[0] + _mix64(counter[0])), np.uint64(keep * 2**53)
    for j in range(out.size):
        z = _mix64(start + np.uint64(first + j) * np.uint64(GOLDEN)) >> np.uint64(11)
        out[j] = number(1 / keep) if z < threshold else number(0)


@compiled
def _sgd(p: Array, g: Array, rate: Array) -> None:
    """p = p - η g"""
    eta = p.dtype.type(rate[0])
    for i in range(p.size):
        p[i] -= eta * g[i]


@compiled
def _momentum(p: Array, g: Array, v: Array, rate: Array, mu: float, nesterov: bool) -> None:
    """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))"""
    number = p.dtype.type
    eta, m = number(rate[0]), number(mu)
    for i in range(p.size):
        v[i] = m * v[i] + g[i]
        p[i] -= eta * (m * v[i] + g[i] if nesterov else v[i])


@compiled
def _rmsprop(p: Array, g: Array, s: Array, rate: Array, rho: float, eps: float) -> None:
    """s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)"""
    number = p.dtype.type
    eta, r, rest, e = number(rate[0]), number(rho), number(1 - rho), number(eps)
    for i in range(p.size):
        s[i] = r * s[i] + rest * g[i] * g[i]
        p[i] -= eta * (g[i] / (sqrt(s[i]) + e))


@compiled
def _adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    rate: Array,
    powers: Array,
    beta1: float,
    beta2: float,
    eps: float,
    decay: float,
) -> None:
    """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  and p as in `NumbaBackend.adam`"""
    number, eta = p.dtype.type, rate[0]
    b1, rest1, b2, rest2 = number(beta1), number(1 - beta1), number(beta2), number(1 - beta2)
    step, root, e = number(eta / (1 - powers[0])), number((1 - powers[1]) ** -0.5), number(eps)
    shrink = number(1 - eta * decay)
    for i in range(p.size):
        m[i] = b1 * m[i] + rest1 * g[i]
        v[i] = b2 * v[i] + rest2 * (g[i] * g[i])
        p[i] = shrink * p[i] - step * (m[i] / (sqrt(v[i]) * root + e))
