"""NumPy: the primitives without a single new array, so that a warm training step allocates none."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np

from xpnet.backend.base import GELU_A, GELU_C, GOLDEN, Array, Backend, is_image, mix64
from xpnet.backend.fused import GELU_END
from xpnet.backend.normal import CENTRE, END, MILLS, PEAK
from xpnet.backend.options import (
    AdamOptions,
    AdamState,
    CrossEntropyArrays,
    MomentumOptions,
    RMSpropOptions,
)


class NumPyBackend(Backend):
    """The CPU. Every override works in ``out`` and in the scratch it is given."""

    name = "numpy"
    module = np
    on_host = True

    def asnumpy(self, a: Array) -> np.ndarray[Any, Any]:
        """Return the array itself."""
        return np.asarray(a)

    def copyto(self, out: Array, A: Any) -> Array:
        """out = A, cast to the type of ``out``"""
        np.copyto(out, A, casting="unsafe")
        return out

    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B; ``numpy.dot`` calls BLAS sooner, for one column times one row as well"""
        try:
            return np.dot(A, B, out=out)
        except ValueError:  # it writes C-contiguous arrays only; other errors come again
            return np.matmul(A, B, out=out)

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A; sums of columns are the product 1ᵀ A, which BLAS does in a third of the time

        Else the ufunc's own method, which spares the microsecond that ``numpy.sum`` adds.
        """
        if axis == 0 and A.ndim == 2 and A.dtype == out.dtype and not keepdims and len(A):
            try:
                return np.dot(_ones(len(A), A.dtype), A, out=out)
            except ValueError:  # it writes C-contiguous arrays only; other errors come again
                pass
        return np.add.reduce(A, axis=axis, out=out, keepdims=keepdims)

    def max(self, A: Array, axis: int, *, out: Array) -> Array:
        """out = max A, without the microseconds of ``numpy.max``"""
        return np.maximum.reduce(A, axis=axis, out=out, keepdims=True)

    def take(self, A: Array, indices: Array, out: Array) -> Array:
        """out = A[indices]; without mode="clip" NumPy copies through a buffer"""
        return np.take(A, indices, axis=0, out=out, mode="clip")

    def relu(self, X: Array, out: Array, slope: float = 0.0) -> Array:
        """Y = max(X, slope·X), which is X where X > 0, since 0 ≤ slope < 1"""
        if slope == 0.0:
            return X.clip(0, np.inf, out=out)  # half the time of numpy.maximum with a number
        np.multiply(X, slope, out=out)
        return np.maximum(X, out, out=out)

    def relu_grad(self, dY: Array, Y: Array, out: Array, slope: float = 0.0) -> Array:
        """dX = dY · max([Y > 0], slope)"""
        np.greater(Y, 0, out=out)
        if slope != 0.0:
            np.maximum(out, slope, out=out)
        return np.multiply(out, dY, out=out)

    def sigmoid(self, X: Array, out: Array) -> Array:
        """Y = 1 / (1 + exp(-X))"""
        np.negative(X, out=out)
        with np.errstate(over="ignore"):
            np.exp(out, out=out)
        np.add(out, 1, out=out)
        return np.divide(1, out, out=out)

    def sigmoid_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = (1 - Y) · Y · dY"""
        np.subtract(1, Y, out=out)
        np.multiply(out, Y, out=out)
        return np.multiply(out, dY, out=out)

    def tanh_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = (1 - Y²) · dY"""
        np.multiply(Y, Y, out=out)
        np.subtract(1, out, out=out)
        return np.multiply(out, dY, out=out)

    def gelu(self, X: Array, out: Array, T: Array) -> Array:
        """T = tanh(√(2/π) (1 + a X²) X),  Y = (1 + T) / 2 · X, which does not overflow"""
        _polynomial(X.clip(-GELU_END, GELU_END, out=out), GELU_A, out=T)
        np.tanh(T, out=T)
        np.add(T, 1, out=out)
        np.multiply(out, 0.5, out=out)
        return np.multiply(out, X, out=out)

    def gelu_grad(self, dY: Array, X: Array, T: Array, out: Array, work: Array) -> Array:
        """dX = ((1 - T²) √(2/π) (1 + 3a X²) X + (1 + T)) / 2 · dY"""
        _polynomial(X.clip(-GELU_END, GELU_END, out=out), 3 * GELU_A, out=work)
        np.multiply(T, T, out=out)
        np.subtract(1, out, out=out)
        np.multiply(out, work, out=out)
        np.add(out, 1, out=out)
        np.add(out, T, out=out)
        np.multiply(out, 0.5, out=out)
        return np.multiply(out, dY, out=out)

    def normal(self, X: Array, out: Array, density: Array, work: Array) -> Array:
        """Φ(X) = |[X > 0] - φ(a) m(a)|  with  a = |X|"""
        np.absolute(X, out=out)
        np.minimum(out, END, out=out)
        np.subtract(out, CENTRE, out=work)
        np.add(out, CENTRE, out=density)
        np.divide(work, density, out=density)
        np.multiply(density, MILLS[0], out=work)
        for c in MILLS[1:-1]:
            np.add(work, c, out=work)
            np.multiply(work, density, out=work)
        np.add(work, MILLS[-1], out=work)
        np.add(out, 1, out=density)
        np.divide(work, density, out=work)
        np.multiply(out, -0.5, out=density)
        np.multiply(density, out, out=density)
        with np.errstate(under="ignore"):
            np.exp(density, out=density)
        np.multiply(density, PEAK, out=density)
        np.multiply(work, density, out=work)
        np.greater(X, 0, out=out)
        np.subtract(out, work, out=out)
        return np.absolute(out, out=out)

    def softmax(self, X: Array, out: Array, work: Array) -> Array:
        """Y = E / Σ E with E = exp(X - max X)"""
        np.maximum.reduce(X, axis=1, keepdims=True, out=work)
        np.subtract(X, work, out=out)
        np.exp(out, out=out)
        np.add.reduce(out, axis=1, keepdims=True, out=work)
        return np.divide(out, work, out=out)

    def softmax_grad(self, dY: Array, Y: Array, out: Array, work: Array) -> Array:
        """dX = (dY - Σ dY Y) · Y"""
        np.multiply(dY, Y, out=out)
        np.add.reduce(out, axis=1, keepdims=True, out=work)
        np.subtract(dY, work, out=out)
        return np.multiply(out, Y, out=out)

    def softplus(self, X: Array, out: Array) -> Array:
        """Y = log(exp X + exp 0)"""
        return np.logaddexp(X, 0, out=out)

    def one_hot(self, labels: Array, out: Array) -> Array:
        """outᵢⱼ = [labelsᵢ = j]"""
        return np.equal(labels[:, None], np.arange(out.shape[1]), out=out)

    def softmax_cross_entropy(
        self, Z: Array, T: Array, out: CrossEntropyArrays, scale: float = 1.0
    ) -> Array:
        """S = Z - max Z;  dZ = scale·(exp S / Σ exp S - T);  losses = Σ T (log Σ exp S - S)"""
        losses, dZ, work, hot = out
        column, columns, ones = losses[:, None], dZ.reshape(Z.T.shape), _ones(Z.shape[1], Z.dtype)
        if T.ndim == 1:
            T = self.one_hot(T, out=hot)
        np.copyto(columns, Z.T)  # rows are short: to reduce them takes twice as long as this
        np.maximum.reduce(columns, axis=0, out=losses)
        np.subtract(Z, column, out=work)
        np.exp(work, out=dZ)
        np.dot(dZ, ones, out=losses)
        np.divide(dZ, column, out=dZ)
        np.subtract(dZ, T, out=dZ)
        if scale != 1.0:
            np.multiply(dZ, scale, out=dZ)
        np.log(column, out=column)
        np.subtract(column, work, out=work)
        np.multiply(work, T, out=work)
        return np.dot(work, ones, out=losses)

    def gather(
        self, data: Array, order: Array, position: Array, out: Array, work: Array | None = None
    ) -> Array:
        """outᵢ = data[order[position + i]], pixels by way of ``work``"""
        start = int(position[0])
        rows = order[start : start + len(out)]
        if not is_image(data, out):
            return np.take(data, rows, axis=0, out=out, mode="clip")
        pixels = np.take(data, rows, axis=0, out=work, mode="clip")
        np.copyto(out, pixels)
        return np.divide(out, 255, out=out)

    def record(self, value: Array, out: Array, position: Array) -> Array:
        """out[position] = value,  position = position + 1"""
        i = int(position[0])
        out[i], position[0] = value, i + 1
        return out

    def dropout_mask(
        self, key: Array, counter: Array, out: Array, keep: float, work: Array, first: int = 0
    ) -> Array:
        """outⱼ = [mix(start + (first + j) γ) >> 11 < keep·2⁵³] / keep, in blocks for the cache"""
        flat, threshold = out.reshape(-1), np.uint64(keep * 2**53)
        start, steps = mix64(key + mix64(counter)), _golden_steps(work.shape[1])
        for a in range(0, flat.size, work.shape[1]):
            block = flat[a : a + work.shape[1]]
            z, shifted = work[0, : block.size], work[1, : block.size]
            offset = np.uint64((first + a) * GOLDEN % 2**64)
            np.add(steps[: block.size], start + offset, out=z)
            _mix64_in_place(z, shifted)
            np.right_shift(z, 11, out=z)
            np.less(z, threshold, out=block)
            np.multiply(block, 1 / keep, out=block)
        return out

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        np.multiply(g, float(rate[0]), out=work)
        np.subtract(p, work, out=p)

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, options: MomentumOptions, *, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))"""
        mu, nesterov = options
        np.multiply(v, mu, out=v)
        np.add(v, g, out=v)
        if nesterov:
            np.multiply(v, mu, out=work)
            np.add(work, g, out=work)
            np.multiply(work, float(rate[0]), out=work)
        else:
            np.multiply(v, float(rate[0]), out=work)
        np.subtract(p, work, out=p)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, options: RMSpropOptions, *, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η (g / (√s + ε))"""
        rho, eps = options
        np.multiply(g, g, out=work)
        _average(s, work, rho, work)
        np.sqrt(s, out=work)
        np.add(work, eps, out=work)
        np.divide(g, work, out=work)
        np.multiply(work, float(rate[0]), out=work)
        np.subtract(p, work, out=p)

    def adam(
        self, p: Array, g: Array, state: AdamState, options: AdamOptions, *, work: Array
    ) -> None:
        """p = (1 - η λ) p - (η / (1 - β₁ᵗ)) c m / (√v + c ε)  with  c = √(1 - β₂ᵗ)"""
        (m, v, rate, powers), (beta1, beta2, eps, decay) = state, options
        eta, c = float(rate[0]), (1 - float(powers[1])) ** 0.5
        _average(m, g, beta1, work)
        np.multiply(g, g, out=work)
        _average(v, work, beta2, work)
        np.sqrt(v, out=work)
        np.add(work, c * eps, out=work)
        np.divide(m, work, out=work)
        np.multiply(work, eta * c / (1 - float(powers[0])), out=work)
        if decay != 0.0:
            np.multiply(p, 1 - eta * decay, out=p)
        np.subtract(p, work, out=p)


def _polynomial(X: Array, a: float, out: Array) -> None:
    """out = √(2/π) (1 + a X²) X"""
    np.multiply(X, X, out=out)
    np.multiply(out, a * GELU_C, out=out)
    np.add(out, GELU_C, out=out)
    np.multiply(out, X, out=out)


def _average(mean: Array, value: Array, beta: float, work: Array) -> None:
    """mean = β mean + (1 - β) value"""
    np.multiply(value, 1 - beta, out=work)
    np.multiply(mean, beta, out=mean)
    np.add(mean, work, out=mean)


@lru_cache(32)  # batches may have any number of rows
def _ones(n: int, dtype: np.dtype[Any]) -> Array:
    return np.ones(n, dtype)


@cache
def _golden_steps(n: int) -> Array:
    """Return j γ for j = 0 ... n - 1, which every block of every mask begins with."""
    return np.arange(n, dtype=np.uint64) * np.uint64(GOLDEN)


def _mix64_in_place(z: Array, shifted: Array) -> None:
    """z = mix64(z), with ``shifted`` as scratch"""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        np.right_shift(z, shift, out=shifted)
        np.bitwise_xor(z, shifted, out=z)
        np.multiply(z, np.uint64(factor), out=z)
    np.right_shift(z, 31, out=shifted)
    np.bitwise_xor(z, shifted, out=z)
