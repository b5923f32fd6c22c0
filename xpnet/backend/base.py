"""The meaning of every primitive: what ``xp`` is inside a layer.

``xp`` is a `Backend`, a closed list of functions with NumPy's names and argument order and a
mandatory ``out=``, plus a few fused ones (``work`` is scratch whose contents are lost). It is not
the module: because everything a layer computes goes through this list, one place can make it fast
on a GPU, capture it, or make it reproducible to the last bit, and no layer knows. ``xp.module`` is
numpy or cupy itself, for people who write their own layers and want more of it, and
`xpnet.get_array_module` finds it for given arrays.

This file states the meaning of each primitive in plain array code. A subclass may be faster, never
different: the tests hold every override against this text. No ``out`` may overlap an operand,
except where it is the same array in one of the element-by-element functions of NumPy's vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from xpnet.backend.scratch import Scratch
from xpnet.support.errors import MixedArraysError

Array = Any  # a numpy.ndarray or a cupy.ndarray; CuPy ships no types


class Backend:
    """The primitives on one array module; see the head of this file.

    Attributes
    ----------
    name : str
        ``"numpy"``, ``"numba"`` or ``"cupy"``.
    module : module
        The array module itself.
    on_host : bool
        True where a value can be read without waiting for a device.
    reproducible : bool
        True where the same bits come out on every machine; see `xpnet.backend.reproducible`.
    takes_pixels : bool
        True where uint8 may be multiplied with a matrix: pixels k that stand for k/255.
    dtypes : tuple of str
        What a network may be made of.
    captures : bool
        True where a captured step becomes one CUDA graph; set it to False to run each operation on
        its own.
    forks : bool
        True where work `off_path` becomes a branch of that graph; set it to False for a graph that
        is a chain.
    """

    name: str
    module: ModuleType
    on_host = False
    reproducible = False
    takes_pixels = False
    captures = False
    forks = False
    dtypes: tuple[str, ...] = ("float32", "float64", "complex128")

    @property
    def ordinary(self) -> Backend:
        """The backend that computes without reproducible mode."""
        return self

    def __repr__(self) -> str:
        return f"<xpnet backend {self.name!r}>"

    # A backend is one per process: copies of a network use the same one, pickles look it up.
    def __copy__(self) -> Backend:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Backend:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from xpnet.backend import find_backend

        return find_backend, (self.name, False)

    # ---- arrays -------------------------------------------------------------------------------

    def empty(self, shape: Any, dtype: Any) -> Array:
        """Return a new C-contiguous array; its contents are arbitrary."""
        return self.module.empty(shape, dtype=dtype)

    def zeros(self, shape: Any, dtype: Any) -> Array:
        """Return a new C-contiguous array of zeros."""
        return self.module.zeros(shape, dtype=dtype)

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """Return ``a`` as a C-contiguous array of this backend, copied to the device if need be."""
        return self.module.asarray(a, dtype=dtype, order="C")

    def asnumpy(self, a: Array) -> np.ndarray[Any, Any]:
        """Return the values as a NumPy array, after waiting for the device."""
        raise NotImplementedError

    def owns(self, a: Any) -> bool:
        """Tell whether ``a`` is an array of this backend."""
        return isinstance(a, self.module.ndarray)

    def require(self, a: Any, who: str, argument: str) -> None:
        """Raise unless ``a`` is an array of this backend.

        Raises
        ------
        MixedArraysError
            Naming who was called, the argument, both types and the fix.
        """
        if not self.owns(a):
            kind = f"{type(a).__module__.partition('.')[0]}.{type(a).__name__}"
            raise MixedArraysError(
                f"{who} lives on the backend {self.name!r}, but {argument} is a {kind}; "
                f"pass net.xp.asarray({argument}), or move the network with net.to(...)"
            )

    # ---- whole steps --------------------------------------------------------------------------

    def capture(
        self, step: Callable[..., None], version: Callable[[], Any] | None = None
    ) -> Callable[..., None]:
        """Return a function that does ``step``: on CuPy as one CUDA graph, else ``step`` itself.

        On CuPy the first call with some arguments runs ``step``, which compiles kernels; the second
        records it as a graph, and starts the graph, as do all later ones. Each call is one real
        step. So ``step`` must write into arrays that exist already, must not read from the device,
        and what changes between steps must be in arrays: Python numbers stay what they were. A
        layer that breaks this makes the step run as before, with one warning.

        Parameters
        ----------
        step : function
            Its arguments must be hashable, such as the size of a batch; each combination has its
            own graph.
        version : function, optional
            Its value names the arrays and the settings that ``step`` uses. When the value changes,
            the step is recorded anew. By default that happens whenever a network, loss or optimizer
            on this backend makes new arrays; see `renew`.
        """
        return step

    def off_path(self) -> AbstractContextManager[None]:
        """Mark work whose results nobody needs before the next `join`; see `capture`.

        Between here and there, nothing else may write what it reads, or read what it writes.
        """
        return _NOTHING

    def join(self) -> None:
        """From here on the results of all work `off_path` may be needed."""

    def aside(self) -> AbstractContextManager[None]:
        """Return `off_path`: its name in release 1."""
        return self.off_path()

    def renew(self) -> int:
        """Note that arrays have been replaced by new ones; return the number of such changes.

        A layer that replaces an array keeps the number, ``self.version = self.xp.renew()``:
        `Trainer` records its steps anew when a number changes that is an attribute of a layer.
        """
        return 0

    def here(self) -> AbstractContextManager[None]:
        """Return a ``with`` block in which this backend's device is this thread's current one.

        Primitives do not need the block. Operations of `module` itself do, where there are several
        GPUs.
        """
        return _NOTHING

    def peak_memory(self) -> int:
        """Return the most memory in bytes that arrays on the device have had so far, 0 for none."""
        return 0

    @cached_property
    def scratch(self) -> Scratch:
        """Memory for intermediate results."""
        return Scratch(self)

    # ---- NumPy's vocabulary -------------------------------------------------------------------

    def add(self, A: Array, B: Any, out: Array) -> Array:
        """out = A + B"""
        return self.module.add(A, B, out=out)

    def subtract(self, A: Any, B: Any, out: Array) -> Array:
        """out = A - B"""
        return self.module.subtract(A, B, out=out)

    def multiply(self, A: Array, B: Any, out: Array) -> Array:
        """out = A · B, element by element"""
        return self.module.multiply(A, B, out=out)

    def divide(self, A: Any, B: Any, out: Array) -> Array:
        """out = A / B"""
        return self.module.divide(A, B, out=out)

    def maximum(self, A: Array, B: Any, out: Array) -> Array:
        """out = max(A, B), NaN where either is NaN"""
        return self.module.maximum(A, B, out=out)

    def minimum(self, A: Array, B: Any, out: Array) -> Array:
        """out = min(A, B), NaN where either is NaN"""
        return self.module.minimum(A, B, out=out)

    def sqrt(self, A: Array, out: Array) -> Array:
        """out = √A"""
        return self.module.sqrt(A, out=out)

    def log(self, A: Array, out: Array) -> Array:
        """out = ln A"""
        return self.module.log(A, out=out)

    def tanh(self, A: Array, out: Array) -> Array:
        """out = tanh A"""
        return self.module.tanh(A, out=out)

    def copyto(self, out: Array, A: Any) -> Array:
        """out = A, cast to the type of ``out``; argument order as in ``numpy.copyto``"""
        out[...] = A
        return out

    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B for two matrices; transposed views cost nothing"""
        return self.module.matmul(A, B, out=out)

    def affine(self, X: Array, W: Array, b: Array, out: Array, f: str = "") -> Array:
        """out = f(X W + b), where f is "relu", "sigmoid" or "tanh", or "" for none"""
        self.matmul(X, W, out=out)
        self.add(out, b, out=out)
        return getattr(self, f)(out, out=out) if f else out

    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z) in terms of Y = f(Z), as in `relu_grad`,  dbⱼ = Σᵢ outᵢⱼ"""
        getattr(self, f"{f}_grad")(dY, Y, out=out)
        self.sum(out, axis=0, out=db)
        return out

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A over one axis, or over all of them"""
        return self.module.sum(A, axis=axis, out=out, keepdims=keepdims)

    def add_matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = out + A B: a further part of a gradient, see `xpnet.Layer`"""
        return self.add(out, self.matmul(A, B, out=self._part_of_sum(out)), out=out)

    def add_sum(self, A: Array, axis: int | None = None, *, out: Array) -> Array:
        """out = out + Σ A over one axis, or over all of them"""
        return self.add(out, self.sum(A, axis, out=self._part_of_sum(out)), out=out)

    def _part_of_sum(self, out: Array) -> Array:
        return self.scratch("part of a sum", tuple(out.shape), out.dtype)

    def mean(self, A: Array, axis: int, *, out: Array, keepdims: bool = False) -> Array:
        """out = Σ A / n over one axis of length n, where axis 0 is that of the samples

        Where a batch is shared by several processes, see `xpnet.parallel`, that is the mean over
        all of its samples, on each of them.
        """
        self.sum(A, axis, out=out, keepdims=keepdims)
        return self.multiply(out, 1.0 / A.shape[axis], out=out)

    def max(self, A: Array, axis: int, *, out: Array) -> Array:
        """out = max A over one axis, which is kept with the length 1"""
        return self.module.max(A, axis=axis, out=out, keepdims=True)

    def take(self, A: Array, indices: Array, out: Array) -> Array:
        """out = A[indices] along the first axis; the indices must be in range"""
        return self.module.take(A, indices, axis=0, out=out)

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
        self.tanh(GELU_C * (X + GELU_A * X * X * X), out=T)
        return self.copyto(out, 0.5 * X * (1 + T))

    def gelu_grad(self, dY: Array, X: Array, T: Array, out: Array, work: Array) -> Array:
        """dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2      (work: of X's shape)"""
        slope = (1 + T) + X * (1 - T * T) * GELU_C * (1 + 3 * GELU_A * X * X)
        return self.copyto(out, 0.5 * dY * slope)

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
        """dZ = scale·(P - T) with P = softmax(Z),  lossesᵢ = -Σⱼ Tᵢⱼ log Pᵢⱼ

        T has Z's shape, or is one int64 label for each row; those need ``hot``, which, like
        ``work``, is scratch of Z's shape.
        """
        m = self.module
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

    # ---- optimizers: p is updated by its gradient g; rate is a float64 array of one element ------

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        p -= rate.astype(p.dtype) * g

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, *, mu: float, nesterov: bool, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (g + μ v))

        Sutskever et al., "On the importance of initialization and momentum", 2013, with the rate
        outside v, as in PyTorch.
        """
        self.copyto(v, mu * v + g)
        p -= rate.astype(p.dtype) * (g + mu * v if nesterov else v)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, *, rho: float, eps: float, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)      (Hinton, lecture 6e, 2012)"""
        self.copyto(s, rho * s + (1 - rho) * g * g)
        p -= rate.astype(p.dtype) * g / (self.module.sqrt(s) + eps)

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
        """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = (1 - η λ) p - η m̂ / (√v̂ + ε)

        with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). ``powers`` holds β₁ᵗ and β₂ᵗ in float64, and
        λ is ``decay``: Kingma and Ba, "Adam", 2014; Loshchilov and Hutter, "Decoupled weight decay
        regularization", 2017.
        """
        eta = rate.astype(p.dtype)
        c1, c2 = (1 - powers[0]).astype(p.dtype), (1 - powers[1]).astype(p.dtype)
        self.copyto(m, beta1 * m + (1 - beta1) * g)
        self.copyto(v, beta2 * v + (1 - beta2) * g * g)
        p -= eta * decay * p + eta * (m / c1) / (self.module.sqrt(v / c2) + eps)


_NOTHING = nullcontext()  # entered again and again
GELU_C = 0.7978845608028654  # √(2/π)
GELU_A = 0.044715
GOLDEN = 0x9E3779B97F4A7C15  # 2⁶⁴ divided by the golden ratio: the step of splitmix64


def is_image(data: Array, out: Array) -> bool:
    """Tell whether ``data`` are pixels k that stand for k/255."""
    return bool(data.dtype == np.uint8 and out.dtype.kind in "fc")


def mix64(z: Array) -> Array:
    """Return the finaliser of splitmix64 on uint64, which wraps around."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    return z ^ (z >> 31)
