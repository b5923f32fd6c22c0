"""CuPy: each fused primitive as one kernel of ``kernels.cu``, the rest by CuPy itself.

There are kernels for float32 and float64. Where an array has another type, or shapes would have to
be broadcast, the text of ``base.py`` runs instead: the same values, several times slower. A kernel
takes C-contiguous arrays; one that is read is copied if it is not, one that is written must be.

Products are cuBLAS's, see `gemm`, and a whole step can become one CUDA graph, see `capture`.

Three things differ from NumPy: float32 numbers below 1.2e-38 count as zero in kernels (CuPy always
compiles with ``-ftz=true``), ``exp``, ``tanh`` and ``log`` round a few last bits differently, and
sums are taken in another order, the same in every run.
"""

from __future__ import annotations

from math import prod

import numpy as np

from xpnet.backend.base import GELU_A, GELU_C, Array, is_image
from xpnet.backend.cuda import BLOCK, WARP
from xpnet.backend.cupy_device import CuPyDevice
from xpnet.backend.cupy_kernels import PARTIALS, NoKernelError, fused
from xpnet.backend.fused import GELU_END
from xpnet.backend.options import (
    AdamOptions,
    AdamState,
    CrossEntropyArrays,
    MomentumOptions,
    RMSpropOptions,
)


class CuPyBackend(CuPyDevice):
    """One GPU. A primitive queues its kernel on CuPy's current stream and returns at once."""

    def _part_of_sum(self, out: Array) -> Array:
        """Return scratch for a part of a sum; what runs at the same time has another one."""
        return self.scratch(("part of a sum", self._lane), out.shape, out.dtype)

    # ---- NumPy's vocabulary, where CuPy's own cannot be captured, or allocates -------------------

    @fused
    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B; transposed views cost nothing"""
        self._check_owner("matmul", (A, B, out))
        if A.ndim != 2 or B.ndim != 2 or not self._gemm(A, B, out, self._lane):
            raise NoKernelError
        return out

    @fused
    def affine(self, X: Array, W: Array, b: Array, out: Array, f: str = "") -> Array:
        """out = f(X W + b): a product, and one kernel for the rest"""
        self.matmul(X, W, out=out)
        if b.shape != out.shape[1:]:
            raise NoKernelError
        name = f"bias_{f}" if f else "bias"
        self._launch(name, BLOCK * len(out), (b,), (out,), out.shape)
        return out

    @fused
    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z),  db = Σ out"""
        self._columns(f"{f}_grad_sums", (dY, Y), (out,), db)
        return out

    @fused
    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A, for a vector, a whole array, the last axis or the columns of a matrix"""
        over_rows = A.ndim == 2 and axis in (0, -2)
        if out.shape != _shape_of_sum(A.shape, axis, over_rows, keepdims) or A.size == 0:
            raise NoKernelError
        if over_rows:
            self._columns("sum_columns", (A,), (), out)
            return out
        if axis not in (None, -1, A.ndim - 1):
            raise NoKernelError
        if out.size == 1 and A.size > PARTIALS:
            A = self._partial_sums(A)
        sizes = (out.size, A.size // out.size, A.size)
        self._launch("sum_rows", WARP * out.size, (A,), (out,), sizes)
        return out

    def _partial_sums(self, A: Array) -> Array:
        """Return the sums of up to PARTIALS equal parts of A, in scratch that is kept."""
        columns = max(PARTIALS, -(-A.size // PARTIALS))
        rows = -(-A.size // columns)
        out = self._room(A.dtype, rows)
        self._launch("sum_rows", WARP * rows, (A,), (out,), (rows, columns, A.size))
        return out

    # ---- activations --------------------------------------------------------------------------

    @fused
    def relu(self, X: Array, out: Array, slope: float = 0.0) -> Array:
        """Y = X where X > 0, else slope·X"""
        return self._elements("relu", (X,), (out,), slope)

    @fused
    def relu_grad(self, dY: Array, Y: Array, out: Array, slope: float = 0.0) -> Array:
        """dX = dY where Y > 0, else slope·dY"""
        return self._elements("relu_grad", (dY, Y), (out,), slope)

    @fused
    def sigmoid(self, X: Array, out: Array) -> Array:
        """Y = 1 / (1 + exp(-X))"""
        return self._elements("sigmoid", (X,), (out,))

    @fused
    def sigmoid_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · Y (1 - Y)"""
        return self._elements("sigmoid_grad", (dY, Y), (out,))

    @fused
    def tanh_grad(self, dY: Array, Y: Array, out: Array) -> Array:
        """dX = dY · (1 - Y²)"""
        return self._elements("tanh_grad", (dY, Y), (out,))

    @fused
    def gelu(self, X: Array, out: Array, T: Array) -> Array:
        """T = tanh(√(2/π) (X + a X³)),  Y = X (1 + T) / 2"""
        return self._elements("gelu", (X,), (out, T), GELU_C, GELU_A)

    @fused
    def gelu_grad(self, dY: Array, X: Array, T: Array, out: Array, work: Array) -> Array:
        """dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2"""
        return self._elements("gelu_grad", (dY, X, T), (out,), GELU_C, 3 * GELU_A, GELU_END)

    @fused
    def normal(self, X: Array, out: Array, density: Array, work: Array) -> Array:
        """out = Φ(X),  density = φ(X)"""
        return self._elements("normal", (X,), (out, density))

    @fused
    def softmax(self, X: Array, out: Array, work: Array) -> Array:
        """Yᵢⱼ = exp(Xᵢⱼ - maxₖ Xᵢₖ) / Σₖ exp(Xᵢₖ - maxₖ Xᵢₖ)"""
        return self._rows("softmax", (X,), out)

    @fused
    def softmax_grad(self, dY: Array, Y: Array, out: Array, work: Array) -> Array:
        """dXᵢⱼ = Yᵢⱼ (dYᵢⱼ - Σₖ dYᵢₖ Yᵢₖ)"""
        return self._rows("softmax_grad", (dY, Y), out)

    @fused
    def softplus(self, X: Array, out: Array) -> Array:
        """Y = log(1 + exp X)"""
        return self._elements("softplus", (X,), (out,))

    # ---- losses -------------------------------------------------------------------------------

    @fused
    def one_hot(self, labels: Array, out: Array) -> Array:
        """outᵢⱼ = 1 where j = labelsᵢ, else 0"""
        if out.ndim != 2 or labels.shape != out.shape[:1]:
            raise NoKernelError
        self._launch("one_hot", out.size, (labels,), (out,), (out.size, out.shape[1]))
        return out

    @fused
    def softmax_cross_entropy(
        self, Z: Array, T: Array, out: CrossEntropyArrays, scale: float = 1.0
    ) -> Array:
        """dZ = scale·(softmax(Z) - T),  lossesᵢ = -Σⱼ Tᵢⱼ log Pᵢⱼ"""
        name, losses = "softmax_cross_entropy", (out.losses,)
        if T.ndim == 1:
            self._rows(f"{name}_labels", (Z,), out.dZ, scale, labels=(T,), of_each_row=losses)
        else:
            self._rows(name, (Z, T), out.dZ, scale, of_each_row=losses)
        return out.losses

    # ---- batches and masks --------------------------------------------------------------------

    @fused
    def gather(
        self, data: Array, order: Array, position: Array, out: Array, work: Array | None = None
    ) -> Array:
        """outᵢ = data[order[position + i]], pixels as k/255; ``position`` is read on the device"""
        if data.shape[1:] != out.shape[1:]:
            raise NoKernelError
        kind = {"i": "gather_integers", "u": "gather_bytes"}.get(out.dtype.kind, "gather")
        if is_image(data, out):
            kind = "gather_pixels"
        rows, columns = len(out), prod(out.shape[1:])
        self._launch(kind, rows * BLOCK, (position, data, order), (out,), (rows, columns))
        return out

    @fused
    def record(self, value: Array, out: Array, position: Array) -> Array:
        """out[position] = value,  position = position + 1"""
        self._launch("record", 1, (value,), (out, position), ())
        return out

    @fused
    def dropout_mask(
        self, key: Array, counter: Array, out: Array, keep: float, work: Array, first: int = 0
    ) -> Array:
        """outⱼ = 1/keep with probability keep, else 0: draw number ``counter`` of stream ``key``"""
        sizes = (np.uint64(keep * 2**53), np.uint64(first))
        return self._elements(
            "dropout_mask", (), (out,), 1 / keep, device=(key, counter), sizes=sizes
        )

    # ---- optimizers ---------------------------------------------------------------------------

    @fused
    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        self._elements("sgd", (g,), (p,), device=(rate,))

    @fused
    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, options: MomentumOptions, *, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (g + μ v))"""
        mu, nesterov = options
        self._elements("momentum", (g,), (p, v), mu, device=(rate,), sizes=(nesterov,))

    @fused
    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, options: RMSpropOptions, *, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)"""
        rho, eps = options
        self._elements("rmsprop", (g,), (p, s), rho, 1 - rho, eps, device=(rate,))

    @fused
    def adam(
        self, p: Array, g: Array, state: AdamState, options: AdamOptions, *, work: Array
    ) -> None:
        """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = (1 - η λ) p - η m̂ / (√v̂ + ε)"""
        (m, v, rate, powers), (beta1, beta2, eps, decay) = state, options
        numbers = (beta1, 1 - beta1, beta2, 1 - beta2, eps, decay)
        self._elements("adam", (g,), (p, m, v), *numbers, device=(rate, powers))


def _shape_of_sum(
    shape: tuple[int, ...], axis: int | None, over_rows: bool, keepdims: bool
) -> tuple[int, ...]:
    """Return the shape of a sum over the rows of a matrix, the last axis, or everything."""
    everything = axis is None or len(shape) == 1
    kept = () if everything else shape[1:] if over_rows else shape[:-1]
    ones = (1,) * (len(shape) - len(kept)) if keepdims else ()
    return (*ones, *kept) if over_rows else (*kept, *ones)
