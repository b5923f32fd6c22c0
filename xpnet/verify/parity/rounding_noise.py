"""Float64 with the errors of float32: NumPy in float64, each result moved at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.options import CrossEntropyArrays
from xpnet.backend.random import Random
from xpnet.layers.base import Layer
from xpnet.verify.parity.pytorch import LAYER_TWINS
from xpnet.verify.parity.values import Host

U = 2.0**-24  # one rounding in float32
TINY = float(np.finfo(np.float32).tiny)  # below it float32 loses digits, or flushes to zero
OF_A_FUNCTION = 8.0  # roundings in one exp or tanh: 4 units in the last place


class RoundingNoise(Backend):
    """NumPy in float64 that moves each result up or down at random, as far as float32 may be off.

    The results of + - · / √ move by one rounding u, those of functions by 8 u, and a sum of m
    terms t by

    u √m (√Σ t² + |Σ t|)

    This is the random walk of the roundings of a sum for terms of either sign (Higham and Mary
    2019). If each term occurs k times, each rounding occurs k times too, and these roundings do not
    average out: √(m k). Primitives that select or copy are exact.
    """

    name = "numpy"
    module = np
    on_host = True

    def __init__(self, draw: int, samples: int, repeats: float) -> None:
        self.random = Random(draw, "parity")
        self.samples, self.repeats = samples, repeats

    def asnumpy(self, a: Array) -> Host:
        """Return the array itself."""
        return np.asarray(a)

    def move(self, a: Array, size: Any) -> Array:
        """Move each number in place by ± u · size; whole numbers stay exact."""
        if a.dtype.kind != "f":
            return a
        up = self.random.raw(a.size).reshape(a.shape) >> np.uint64(63)
        a += U * size * (2.0 * up - 1.0)
        return a

    def of_a_layer(self, layer: Layer, a: Array | None) -> Array | None:
        """Move the result of a user's layer, which may compute with ``xp.module`` instead of xp."""
        if a is None or type(layer) in LAYER_TWINS:
            return a
        return self.move(a, (OF_A_FUNCTION + np.sqrt(self.samples * self.repeats)) * abs(a))

    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B, off by a random walk"""
        walk = np.sqrt(A.shape[1] * self.repeats)
        size = walk * (np.sqrt((A * A) @ (B * B)) + abs(super().matmul(A, B, out)))
        return self.move(out, size)

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A, off by a random walk"""
        squares = np.sum(A * A, axis=axis, keepdims=keepdims)
        super().sum(A, axis, out=out, keepdims=keepdims)
        walk = np.sqrt(self.repeats * A.size / max(1, out.size))
        return self.move(out, walk * (np.sqrt(squares) + abs(out)))

    def sigmoid(self, X: Array, out: Array) -> Array:
        """Y, off by exp, but no probability comes out above 1"""
        super().sigmoid(X, out)
        return np.minimum(self.move(out, OF_A_FUNCTION * out), 1.0, out=out)

    def normal(self, X: Array, out: Array, density: Array, work: Array) -> Array:
        """Φ and φ, off by exp and by the rounding of X²/2; and Φ where X > 0 as a difference is"""
        super().normal(X, out, density, work)
        size = OF_A_FUNCTION + X * X
        self.move(density, size * density)
        return self.move(out, out + size * np.minimum(out, 1 - out))

    def softmax(self, X: Array, out: Array, work: Array) -> Array:
        """Y, off by exp, by a sum of k, and by the rounding of X - max X"""
        super().softmax(X, out, work)
        return np.minimum(self.move(out, out * self._of_softmax(X)), 1.0, out=out)

    def softmax_cross_entropy(
        self, Z: Array, T: Array, out: CrossEntropyArrays, scale: float = 1.0
    ) -> Array:
        """P - T and the losses, off as in `softmax`; -log of a P near 1 is off as 1 is"""
        losses, dZ, _, hot = out
        T = self.one_hot(T, out=hot) if T.ndim == 1 else T
        super().softmax_cross_entropy(Z, T, out)
        size = self._of_softmax(Z)
        self.move(dZ, (dZ + T) * size + abs(dZ))
        self.multiply(dZ, scale, out=dZ)
        return self.move(losses, np.max(size, axis=1))

    def _of_softmax(self, X: Array) -> Array:
        return OF_A_FUNCTION + np.sqrt(X.shape[1]) + np.max(X, axis=1, keepdims=True) - X

    def softmax_grad(self, dY: Array, Y: Array, out: Array, work: Array) -> Array:
        """dX, off by a sum of k and by the difference from it"""
        super().softmax_grad(dY, Y, out, work)
        dots = np.sum(abs(dY) * Y, axis=1, keepdims=True)
        return self.move(out, (2 + np.sqrt(Y.shape[1])) * Y * (abs(dY) + dots))


def _noisy(name: str, roundings: float) -> Callable[..., Array]:
    """Return a primitive that moves its result by a number of roundings."""
    exact = getattr(Backend, name)

    def primitive(self: RoundingNoise, *operands: Any, out: Array, **options: Any) -> Array:
        exact(self, *operands, out=out, **options)
        return self.move(out, roundings * abs(out))

    return primitive


for _primitive in ("add", "subtract", "multiply", "divide", "sqrt"):
    setattr(RoundingNoise, _primitive, _noisy(_primitive, 1.0))
for _primitive in ("log", "tanh", "softplus"):
    setattr(RoundingNoise, _primitive, _noisy(_primitive, OF_A_FUNCTION))
for _primitive in ("sigmoid_grad", "tanh_grad", "gelu", "gelu_grad"):  # the operations after exp
    setattr(RoundingNoise, _primitive, _noisy(_primitive, 4.0))
