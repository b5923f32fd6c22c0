"""The meaning of the fused primitives: activations, losses, batches and masks.

Each one is a single kernel on a GPU and a few passes on a CPU. The text here says what it computes,
in the vocabulary of `xpnet.backend.base.Backend`, of which it is a part.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend.normal import CENTRE, END, MILLS, PEAK
from xpnet.backend.options import CrossEntropyArrays

Array = Any  # see `xpnet.backend.base`
GELU_C = 0.7978845608028654  # √(2/π)
GELU_A = 0.044715
GELU_END = 32.0  # beyond it, on either side, T is ±1 to the last bit
GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ divided by the golden ratio: the step of splitmix64


class Fused:
    """The part of `xpnet.backend.base.Backend` that merges several operations into one."""

    module: Any
    copyto: Callable[..., Array]
    add: Callable[..., Array]
    multiply: Callable[..., Array]
    tanh: Callable[..., Array]

    # ---- activations --------------------------------------------------------------------------

    def relu(self, X: Array, out: Array, slope: float = 0.0) -> Array:
        """Y = max(X, slope·X), which is X where X > 0; for slope = 0 it is max(X, 0)

        0 ≤ slope < 1. With slope 0 the infinities become ∞ and 0, not 0·∞.
        """
        return self.copyto(out, self.module.maximum(X, slope * X if slope else 0))

    def relu_grad(self, dY: Array, Y: Array, out: Array, slope: float = 0.0) -> Array:
        """dX = dY where Y > 0, else slope·dY"""
        return self.copyto(out, self.module.where(Y > 0, dY, slope * dY))

    def sigmoid(self, X: Array, out: Array) -> Array:
        """Y = 1 / (1 + exp(-X)); where exp(-X) overflows, 1/inf = 0 is the right value"""
        with np.errstate(over="ignore"):
            return self.copyto(out, 1 / (1 + self.module.exp(-X)))

    def sigmoid_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · Y (1 - Y)"""
        return self.copyto(out, dY * Y * (1 - Y))

    def tanh_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · (1 - Y²)"""
        return self.copyto(out, dY * (1 - Y * Y))

    def gelu(self, X: Array, out: Array, T: Array) -> Array:
        """T = tanh(√(2/π) (X + a X³)),  Y = X (1 + T) / 2      (a = 0.044715; T is kept)

        The tanh form of Hendrycks and Gimpel, "Gaussian error linear units", 2016.
        """
        x = self._within(X, GELU_END)
        self.tanh(GELU_C * (x + GELU_A * x * x * x), out=T)
        return self.copyto(out, 0.5 * X * (1 + T))

    def gelu_grad(self, dY: Array, X: Array, T: Array, out: Array, work: Array) -> Array:
        """dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2      (work: of X's shape)"""
        x = self._within(X, GELU_END)  # else ∞ · 0
        slope = (1 + T) + x * (1 - T * T) * GELU_C * (1 + 3 * GELU_A * x * x)
        return self.copyto(out, 0.5 * dY * slope)

    def _within(self, X: Array, limit: float) -> Array:
        """Return X held within ±limit."""
        return self.module.minimum(self.module.maximum(X, -limit), limit)

    def normal(self, X: Array, out: Array, density: Array, work: Array) -> Array:
        """out = Φ(X) = (1 + erf(X/√2)) / 2,  density = φ(X) = exp(-X²/2) / √(2π)

        By Mills's ratio of a = abs(X), see `xpnet.backend.normal`; ``work`` is scratch.
        """
        m = self.module
        a = m.minimum(m.maximum(X, -X), END)
        q, ratio = (a - CENTRE) / (a + CENTRE), 0.0
        for c in MILLS:
            ratio = ratio * q + c
        self.copyto(density, m.exp(-0.5 * a * a) * PEAK)
        tail = ratio / (1 + a) * density
        return self.copyto(out, m.where(X > 0, 1 - tail, tail))

    def softmax(self, X: Array, out: Array, work: Array) -> Array:
        """Yᵢⱼ = exp(Xᵢⱼ - maxₖ Xᵢₖ) / Σₖ exp(Xᵢₖ - maxₖ Xᵢₖ)      (work: scratch, one column)"""
        E = self.module.exp(X - self.module.max(X, axis=1, keepdims=True))
        return self.copyto(out, E / self.module.sum(E, axis=1, keepdims=True))

    def softmax_grad(self, dY: Array, Y: Array, out: Array, work: Array) -> Array:
        """dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ): the full Jacobian diag(y) - y yᵀ of each row"""
        return self.copyto(out, Y * (dY - self.module.sum(dY * Y, axis=1, keepdims=True)))

    def softplus(self, X: Array, out: Array) -> Array:
        """Y = log(1 + exp X) = log(exp 0 + exp X), without overflow"""
        return self.copyto(out, self.module.logaddexp(X, 0))

    # ---- losses -------------------------------------------------------------------------------

    def one_hot(self, labels: Array, out: Array) -> Array:
        """outᵢⱼ = 1 where j = labelsᵢ, else 0; a row of zeros for a label that is out of range"""
        return self.copyto(out, labels[:, None] == self.module.arange(out.shape[1]))

    def softmax_cross_entropy(
        self, Z: Array, T: Array, out: CrossEntropyArrays, scale: float = 1.0
    ) -> Array:
        """dZ = scale·(P - T) with P = softmax(Z),  lossesᵢ = -Σⱼ Tᵢⱼ log Pᵢⱼ

        T has Z's shape, or is one int64 label for each row.
        """
        m, (losses, dZ, _, hot) = self.module, out
        if T.ndim == 1:
            T = self.one_hot(T, out=hot)
        S = Z - m.max(Z, axis=1, keepdims=True)
        E = m.exp(S)
        sums = m.sum(E, axis=1, keepdims=True)
        self.copyto(dZ, E / sums - T)
        if scale != 1.0:
            self.multiply(dZ, scale, out=dZ)
        return self.copyto(losses, m.sum(T * (m.log(sums) - S), axis=1))

    # ---- batches and masks --------------------------------------------------------------------

    def gather(
        self, data: Array, order: Array, position: Array, out: Array, work: Array | None = None
    ) -> Array:
        """outᵢ = data[order[position + i]], where uint8 means k/255 if ``out`` is floating

        Otherwise ``data`` and ``out`` have the same type.
        ``position`` is an array of one integer, so that it can change without a host read. ``work``
        is scratch of out's shape in the type of ``data``, needed only for uint8.
        """
        rows = data[order[position[0] + self.module.arange(len(out))]]
        return self.copyto(out, rows / 255 if is_image(data, out) else rows)

    def record(self, value: Array, out: Array, position: Array) -> Array:
        """out[position] = value,  position = position + 1      (``position`` as in `gather`)"""
        here = position[0] == self.module.arange(len(out))
        self.copyto(out, self.module.where(here, value, out))
        self.add(position, 1, out=position)
        return out

    def dropout_mask(
        self, key: Array, counter: Array, out: Array, keep: float, work: Array, first: int = 0
    ) -> Array:
        """outⱼ = 1/keep with probability keep, else 0: draw number ``counter`` of stream ``key``

        Element j is kept if the upper 53 bits of mix(mix(key + mix(counter)) + (first + j) γ) are
        below keep·2⁵³: the generator splitmix64 (Steele, Lea and Flood 2014) started anew for each
        draw; ``first`` is 0 unless ``out`` is a later piece of it. ``key`` and ``counter`` are
        uint64 arrays of one element, ``work`` is uint64 scratch (2, m).
        """
        m = self.module
        start = mix64(key + mix64(counter)) + np.uint64(first * GOLDEN % 2**64)
        z = mix64(start + m.arange(out.size, dtype=np.uint64) * GOLDEN)
        kept = (z >> 11) < int(keep * 2**53)
        return self.copyto(out, kept.reshape(out.shape) * (1.0 / keep))


def is_image(data: Array, out: Array) -> bool:
    """Tell whether ``data`` are pixels k that stand for k/255."""
    return bool(data.dtype == np.uint8 and out.dtype.kind in "fc")


def mix64(z: Array) -> Array:
    """Return the finaliser of splitmix64 on uint64, which wraps around."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)
