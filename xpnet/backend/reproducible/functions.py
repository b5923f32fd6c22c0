"""Reproducible mode: functions, computed in float64 from + - · / alone, piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from math import ldexp

from xpnet.backend import elementary
from xpnet.backend.base import Array
from xpnet.backend.exact import snap, sum_bits
from xpnet.backend.options import CrossEntropyArrays
from xpnet.backend.reproducible.sums import ExactSums
from xpnet.support.errors import ShapeError

PIECE = 2**15  # elements at a time of functions, with their scratch, that stay in a CPU's cache

Arrays = tuple[Array, ...]


class ExactFunctions(ExactSums):
    """Activations and losses with the functions of `xpnet.backend.elementary`."""

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

    def normal(self, X: Array, out: Array, density: Array, work: Array) -> Array:
        """out = Φ(X),  density = φ(X)"""
        return self._map(elementary.normal, (X, X), out, density)

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
        self, Z: Array, T: Array, out: CrossEntropyArrays, scale: float = 1.0
    ) -> Array:
        """dZ = scale·(P - T),  lossesᵢ = Σⱼ Tᵢⱼ (log Σₖ exp Sᵢₖ - Sᵢⱼ)  with  S = Z - max Z"""
        m, (losses, dZ, _, hot) = self.module, out
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
