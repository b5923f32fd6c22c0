"""Foreign devices, simulated: what reproducible mode must not rely on is different, or random.

`PermutedBackend` is NumPy with sums in a random order. `HostileBackend` is worse: it keeps nothing
but what IEEE 754 and the text of ``base.py`` promise, which is what a GPU, another processor or the
next release of a library may do. `ScipyBackend` and `TorchBackend` multiply with other libraries.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import NumPyBackend
from xpnet.backend.base import Backend
from xpnet.backend.reproducible import arrays, functions, optimizers, sums

# What is rounded as IEEE 754 says, or not at all; every other function is off by a few last bits.
DEFINED = {
    "add", "subtract", "multiply", "divide", "sqrt", "negative", "positive", "absolute", "fabs",
    "maximum", "minimum", "fmax", "fmin", "copysign", "sign", "rint", "floor", "ceil", "trunc",
    "greater", "greater_equal", "less", "less_equal", "equal", "not_equal", "isfinite", "isnan",
    "isinf", "signbit", "invert", "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift",
    "right_shift", "logical_and", "logical_or", "logical_not", "floor_divide", "remainder",
}  # fmt: skip
UNSIGNED_ZERO = {"maximum", "minimum", "fmax", "fmin"}  # of +0 and -0 either may come out
LEAST_NORMAL = np.float32(2.0**-126)
ABOVE_LEAST_NORMAL = np.nextafter(LEAST_NORMAL, np.float32(1))
ULPS = 3  # how far a function may be off


# ---- sums in any order ---------------------------------------------------------------------------


def parts(n: int, rng: Any) -> list[np.ndarray]:
    """Return 0 ... n - 1 in random order, in up to four random pieces."""
    cuts = np.sort(rng.integers(0, n + 1, rng.integers(0, 4)))
    return [piece for piece in np.split(rng.permutation(n), cuts) if len(piece)]


def together(terms: list[np.ndarray], rng: Any) -> np.ndarray:
    """Add arrays, always two of those that are left."""
    while len(terms) > 1:
        i, j = sorted(rng.choice(len(terms), 2, replace=False))
        terms[i] = terms[i] + terms.pop(j)
    return terms[0]


def shuffled_matmul(A: np.ndarray, B: np.ndarray, rng: Any) -> np.ndarray:
    """A B, its products added in a random order."""
    pieces = [np.matmul(A[:, k], B[k]) for k in parts(A.shape[1], rng)]
    return together(pieces, rng) if pieces else np.matmul(A, B)


def shuffled_sum(A: np.ndarray, axis: int | None, keepdims: bool, rng: Any) -> np.ndarray:
    """Σ A, added in a random order."""
    shape = np.add.reduce(A, axis=axis, keepdims=keepdims).shape
    terms = A.reshape(-1) if axis is None else np.moveaxis(A, axis, 0)
    pieces = [np.add.reduce(terms[k]) for k in parts(len(terms), rng)]
    total = together(pieces, rng) if pieces else np.add.reduce(terms)
    return np.asarray(total, A.dtype).reshape(shape)


class PermutedBackend(NumPyBackend):
    """NumPy, with every sum and every product in a random order."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def matmul(self, A, B, out):
        return self.copyto(out, shuffled_matmul(A, B, self.rng))

    def sum(self, A, axis=None, *, out, keepdims=False):
        return self.copyto(out, shuffled_sum(A, axis, keepdims, self.rng))


# ---- everything that is not promised -------------------------------------------------------------


class HostileModule:
    """NumPy as a foreign device: sums, zeros, subnormal numbers and functions as it likes.

    - A sum has a random order, also in a product of matrices.
    - A zero has a random sign where it comes out of a sum, a product of matrices or a maximum.
    - A float32 below 2⁻¹²⁶ is a zero of random sign, on the way in and on the way out.
    - exp, log, power and all other functions that IEEE 754 leaves open are off by a few last bits.
    """

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng([seed, 77])
        self._ufuncs: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        function = getattr(np, name)
        if not isinstance(function, np.ufunc) or name == "matmul":
            return function
        if name not in self._ufuncs:
            call = self._a_ufunc(function)
            call.reduce = {"add": self.sum, "maximum": self.max}.get(name)
            self._ufuncs[name] = call
        return self._ufuncs[name]

    def _a_ufunc(self, function: np.ufunc) -> Any:
        name = function.__name__

        def call(*operands: Any, out: Any = None) -> Any:
            operands = self._converted(operands)
            result = np.asarray(function(*operands))
            if result.dtype.kind == "f":
                result = result if name in DEFINED else self._off(result)
                result = self._any_zero(result) if name in UNSIGNED_ZERO else result
            return self._written(self._stored(result), out)

        return call

    def _converted(self, operands: tuple[Any, ...]) -> list[Any]:
        """Return the operands as the device sees them; a number has the type of the arrays."""
        single = any(getattr(a, "dtype", None) == np.float32 for a in operands)
        return [
            self._flushed(np.asarray(a, np.float32) if single and isinstance(a, float) else a)
            for a in operands
        ]

    def _flushed(self, a: Any, least: np.float32 = LEAST_NORMAL) -> Any:
        """Return ``a``, or a copy in which subnormal float32 numbers are zeros of random sign."""
        if getattr(a, "dtype", None) != np.float32:
            return a
        small = np.abs(a) < least
        if not small.any() or not (small & (a != 0)).any():
            return a
        return np.where(small, self._any_zero(np.zeros_like(a)), a)

    def _stored(self, a: Any) -> Any:
        """Return a result as it is stored: of 2⁻¹²⁶ a device may say it was below that before."""
        return self._flushed(a, LEAST_NORMAL if self.rng.integers(2) else ABOVE_LEAST_NORMAL)

    def _any_zero(self, a: np.ndarray) -> np.ndarray:
        """Return ``a`` with random signs at its zeros."""
        zero = a == 0
        if not zero.any():
            return a
        signed = np.where(self.rng.integers(0, 2, a.shape), a.dtype.type(0), -a.dtype.type(0))
        return np.where(zero, signed, a)

    def _off(self, a: np.ndarray) -> np.ndarray:
        """Return ``a`` with errors of up to ULPS last bits."""
        off = self.rng.integers(-ULPS, ULPS + 1, a.shape) * np.finfo(a.dtype).eps
        return np.asarray(a * (1 + off), a.dtype)

    def _written(self, result: np.ndarray, out: Any) -> np.ndarray:
        if out is None:
            return result
        np.copyto(out, result, casting="same_kind")
        return out

    # ---- functions that are no ufuncs, or are sums ---------------------------------------------

    def copyto(self, out: Any, A: Any, casting: str = "unsafe") -> Any:
        with np.errstate(over="ignore"):
            cast = np.asarray(self._flushed(np.asarray(A))).astype(out.dtype, casting=casting)
        same = getattr(A, "dtype", None) == out.dtype  # a copy reads and writes bits
        np.copyto(out, A if same else self._stored(cast))
        return out

    def matmul(self, A: Any, B: Any, out: Any = None) -> Any:
        product = shuffled_matmul(self._flushed(A), self._flushed(B), self.rng)
        return self._written(self._any_zero(self._stored(product)), out)

    def sum(self, A: Any, axis: Any = None, *, out: Any = None, keepdims: bool = False) -> Any:
        total = shuffled_sum(self._flushed(A), axis, keepdims, self.rng)
        floating = total.dtype.kind == "f"
        return self._written(self._any_zero(self._stored(total)) if floating else total, out)

    def max(self, A: Any, axis: Any = None, *, out: Any = None, keepdims: bool = False) -> Any:
        top = np.asarray(np.max(self._flushed(A), axis=axis, keepdims=keepdims))
        return self._written(self._any_zero(top) if top.dtype.kind == "f" else top, out)


class HostileBackend(Backend):
    """The text of ``base.py`` on a `HostileModule`, not `NumPyBackend`, which would go past it.

    With an even seed it counts as a GPU, for which the mode cuts its work into larger pieces.
    """

    name = "hostile"

    def __init__(self, seed: int = 0) -> None:
        self.module, self.on_host = HostileModule(seed), bool(seed % 2)

    def asnumpy(self, a):
        return np.asarray(a)

    def copyto(self, out, A):
        return self.module.copyto(out, A)


# ---- other libraries -----------------------------------------------------------------------------


class ScipyBackend(NumPyBackend):
    """NumPy, with the products of the BLAS that comes with SciPy."""

    def __init__(self) -> None:
        from scipy.linalg import blas

        self.gemm = {np.dtype("float64"): blas.dgemm, np.dtype("float32"): blas.sgemm}

    def matmul(self, A, B, out):
        if not (out.size and A.shape[1]):
            return super().matmul(A, B, out=out)
        return self.copyto(out, self.gemm[out.dtype](1.0, A, B))


class TorchBackend(NumPyBackend):
    """NumPy, with the products and sums of PyTorch."""

    def __init__(self) -> None:
        import torch

        self.torch = torch

    def matmul(self, A, B, out):
        self.torch.matmul(*map(self.torch.from_numpy, (A, B)), out=self.torch.from_numpy(out))
        return out

    def sum(self, A, axis=None, *, out, keepdims=False):
        terms = self.torch.from_numpy(A)
        axes = {} if axis is None else {"dim": axis, "keepdim": keepdims}
        return self.copyto(out, self.torch.sum(terms, **axes).numpy().reshape(out.shape))


def change_mode(monkeypatch: Any, name: str, value: Any) -> None:
    """Put something else in the place of a name in every file of reproducible mode."""
    for module in (arrays, sums, functions, optimizers):
        if name in vars(module):
            monkeypatch.setattr(module, name, value)
