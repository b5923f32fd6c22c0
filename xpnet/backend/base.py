"""The meaning of every primitive: what ``xp`` is inside a layer.

``xp`` is a `Backend`: a closed list of functions with NumPy's names and argument order and a
mandatory ``out=``, plus a few fused ones, see `fused`. It is not the array module itself. Because
everything that a layer computes goes through this list, one place can make it fast on a GPU,
capture it, or make it reproducible to the last bit, and no layer has to know. ``xp.module`` is the
array module, for people who write their own layers and need more functions.

The texts here and in `fused` are plain array code. A subclass may be faster, but must not differ:
the tests hold every override against the text. No ``out`` may overlap an operand, except where it
is the same array in a function that works element by element. ``work`` is scratch memory; what it
contained is lost.

What an array library must have to become a backend:

- Arrays that can be changed. Every result is written into an array that exists already (``out=``,
  ``out[...] = A``), so that a training step needs no new memory and can be recorded once.
- Strided views that share memory: a slice, a transpose and a reshape of a contiguous array are
  views. All parameters of a network are views of one vector, which an optimizer changes as a whole.
- Copies by ``copy.deepcopy`` and by pickle: so networks are copied.
- float32 and float64 to compute with, int64 for indices, uint8 for images, uint64 for dropout.

NumPy, CuPy and PyTorch's tensors have all that; see `tests/backend/torch_backend.py` for the last.
The arrays of JAX and MLX cannot be changed and have no views, so they cannot be a backend.
"""

from __future__ import annotations

from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from xpnet.backend.fused import GELU_A as GELU_A
from xpnet.backend.fused import GELU_C as GELU_C
from xpnet.backend.fused import GOLDEN as GOLDEN
from xpnet.backend.fused import Fused
from xpnet.backend.fused import is_image as is_image
from xpnet.backend.fused import mix64 as mix64
from xpnet.backend.identity import OnePerProcess
from xpnet.backend.options import AdamOptions, AdamState, MomentumOptions, RMSpropOptions
from xpnet.backend.scratch import Scratch
from xpnet.backend.steps import WholeSteps
from xpnet.support.errors import MixedArraysError
from xpnet.support.values import unmasked

Array = Any  # a numpy.ndarray or a cupy.ndarray; CuPy ships no types


class Backend(Fused, WholeSteps, OnePerProcess):
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

    # ---- arrays -------------------------------------------------------------------------------

    def empty(self, shape: Any, dtype: Any) -> Array:
        """Return a new C-contiguous array; its contents are arbitrary."""
        return self.module.empty(shape, dtype=dtype)

    def zeros(self, shape: Any, dtype: Any) -> Array:
        """Return a new C-contiguous array of zeros."""
        return self.module.zeros(shape, dtype=dtype)

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """Return ``a`` as a C-contiguous array of this backend, copied to the device if need be."""
        return self.module.asarray(unmasked(a), dtype=dtype, order="C")

    def asnumpy(self, a: Array) -> np.ndarray[Any, Any]:
        """Return the values as a NumPy array, after waiting for the device."""
        raise NotImplementedError

    def owns(self, a: Any) -> bool:
        """Return True if ``a`` is an array of this backend."""
        return isinstance(a, self.module.ndarray)

    def require(self, a: Any, who: object, argument: str) -> None:
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

    # ---- optimizers: p is updated by its gradient g; rate is a float64 array of one element ------

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        p -= rate.astype(p.dtype) * g

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, options: MomentumOptions, *, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (g + μ v))

        Sutskever et al., "On the importance of initialization and momentum", 2013, with the rate
        outside v, as in PyTorch.
        """
        mu, nesterov = options
        self.copyto(v, mu * v + g)
        p -= rate.astype(p.dtype) * (g + mu * v if nesterov else v)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, options: RMSpropOptions, *, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η g / (√s + ε)      (Hinton, lecture 6e, 2012)"""
        rho, eps = options
        self.copyto(s, rho * s + (1 - rho) * g * g)
        p -= rate.astype(p.dtype) * g / (self.module.sqrt(s) + eps)

    def adam(
        self, p: Array, g: Array, state: AdamState, options: AdamOptions, *, work: Array
    ) -> None:
        """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = (1 - η λ) p - η m̂ / (√v̂ + ε)

        with m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ). ``powers`` holds β₁ᵗ and β₂ᵗ in float64, and
        λ is ``decay``: Kingma and Ba, "Adam", 2014; Loshchilov and Hutter, "Decoupled weight decay
        regularization", 2017.
        """
        (m, v, rate, powers), (beta1, beta2, eps, decay) = state, options
        eta = rate.astype(p.dtype)
        c1, c2 = (1 - powers[0]).astype(p.dtype), (1 - powers[1]).astype(p.dtype)
        self.copyto(m, beta1 * m + (1 - beta1) * g)
        self.copyto(v, beta2 * v + (1 - beta2) * g * g)
        p -= eta * decay * p + eta * (m / c1) / (self.module.sqrt(v / c2) + eps)
