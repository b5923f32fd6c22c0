"""Reproducible mode: arrays, and the single operations that IEEE 754 defines to the last bit."""

from __future__ import annotations

import os
from math import prod
from typing import Any

import numpy as np

from xpnet.backend.base import Array, Backend
from xpnet.backend.exact import flush, tame
from xpnet.support.errors import BackendError

DEVICE_TILE = 2**24  # elements that a GPU takes at once
AS_THEY_ARE = (
    "empty", "zeros", "asnumpy", "owns", "take", "one_hot", "gather", "record", "dropout_mask",
    "capture", "renew", "here", "peak_memory",
)  # fmt: skip


class SingleOperations(Backend):
    """The primitives with the same bits on every machine.

    Parameters
    ----------
    ordinary : Backend
        The backend that does the single operations.

    Raises
    ------
    BackendError
        If this machine does not round as IEEE 754 says, or cuBLAS is told to emulate float64.
    """

    reproducible = True
    takes_pixels = True
    dtypes = ("float32",)

    def __init__(self, ordinary: Backend) -> None:
        _check_arithmetic()
        self._ordinary = ordinary
        self.name, self.module, self.on_host = ordinary.name, ordinary.module, ordinary.on_host
        self._scratch = ordinary.scratch
        for name in AS_THEY_ARE:
            setattr(self, name, getattr(ordinary, name))

    def __repr__(self) -> str:
        return f"<xpnet backend {self.name!r}, reproducible>"

    @property
    def ordinary(self) -> Backend:
        """The backend beneath."""
        return self._ordinary

    @property
    def captures(self) -> bool:  # type: ignore[override]
        """What the backend beneath does."""
        return self._ordinary.captures

    @property
    def forks(self) -> bool:  # type: ignore[override]
        """False: what is done at the same time would share scratch."""
        return False

    # ---- arrays -------------------------------------------------------------------------------

    def asarray(self, a: Any, dtype: Any = None) -> Array:
        """Return ``a`` as an array of this backend, floating numbers flushed in a copy of it."""
        placed = self._ordinary.asarray(a, dtype)
        return placed if placed.dtype != np.float32 else flush(self.module, placed.copy())

    def copyto(self, out: Array, A: Any) -> Array:
        """out = A, flushed where that makes float32 of another type"""
        self._ordinary.copyto(out, A)
        same = getattr(A, "dtype", None) == out.dtype
        return out if same else self._flushed(out)

    def _flushed(self, out: Array) -> Array:
        return flush(self.module, out) if out.dtype == np.float32 else out

    def _load(self, name: str, A: Array) -> Array:
        """Return a copy of A in float64, in scratch."""
        return self._ordinary.copyto(self._scratch(name, A.shape), A)

    def _store(self, S: Array, out: Array) -> Array:
        """out = S, rounded to float32 and flushed"""
        return flush(self.module, self._ordinary.copyto(out, S))

    # ---- single operations --------------------------------------------------------------------

    def add(self, A: Array, B: Any, out: Array) -> Array:
        """out = A + B"""
        return self._flushed(self.module.add(tame(A), tame(B), out=out))

    def subtract(self, A: Any, B: Any, out: Array) -> Array:
        """out = A - B"""
        return self._flushed(self.module.subtract(tame(A), tame(B), out=out))

    def multiply(self, A: Array, B: Any, out: Array) -> Array:
        """out = A · B"""
        return self._flushed(self.module.multiply(tame(A), tame(B), out=out))

    def divide(self, A: Any, B: Any, out: Array) -> Array:
        """out = A / B"""
        return self._flushed(self.module.divide(tame(A), tame(B), out=out))

    def maximum(self, A: Array, B: Any, out: Array) -> Array:
        """out = max(A, B); the sign of max(+0, -0) is nowhere defined, so it is flushed, too"""
        return self._flushed(self.module.maximum(tame(A), tame(B), out=out))

    def minimum(self, A: Array, B: Any, out: Array) -> Array:
        """out = min(A, B)"""
        return self._flushed(self.module.minimum(tame(A), tame(B), out=out))

    def relu(self, X: Array, out: Array, slope: float = 0.0) -> Array:
        """Y = max(X, slope·X), which is X where X > 0, since 0 ≤ slope < 1"""
        scaled = self.module.multiply(X, tame(slope), out=out) if slope else 0.0
        return self.maximum(X, scaled, out=out)

    def relu_grad(self, dY: Array, Y: Array, out: Array, slope: float = 0.0) -> Array:
        """dX = dY · max([Y > 0], slope)"""
        self.module.greater(Y, 0.0, out=out)
        if slope:
            self.module.maximum(out, tame(slope), out=out)
        return self.multiply(out, dY, out=out)

    # ---- parts of arrays ----------------------------------------------------------------------

    def _tiles(self, shape: tuple[int, ...], size: int) -> list[slice]:
        """Return slices of the first axis, even ones, on a CPU of up to ``size`` elements each."""
        size = size if self.on_host else DEVICE_TILE
        step = max(1, -(-shape[0] // max(1, -(-prod(shape) // size))))
        return [slice(i, i + step) for i in range(0, shape[0], step)]

    def _pieces(self, flat: Array, size: int) -> list[slice]:
        """Return slices of a vector: on a CPU so many elements at a time, which fit its cache."""
        step = size if self.on_host else max(1, flat.size)
        return [slice(i, i + step) for i in range(0, flat.size, step)]

    def _work(self, shape: tuple[int, ...]) -> list[Array]:
        return [self._scratch(f"work {k}", shape) for k in range(6)]


def _check_arithmetic() -> None:
    """Raise unless float64 rounds to nearest, ties to even, and cuBLAS does its own arithmetic."""
    one, u = np.array([1.0, 1.0]), np.array([2.0**-53, 3 * 2.0**-53])
    if (one + u).tolist() != [1.0, 1 + 2.0**-51]:
        raise BackendError(
            "reproducible mode needs float64 that rounds to nearest; a library in this process has "
            "changed the rounding of the processor"
        )
    for name in ("CUBLAS_EMULATE_DOUBLE_PRECISION", "CUBLAS_EMULATE_SINGLE_PRECISION"):
        if os.environ.get(name, "0") not in ("", "0"):
            raise BackendError(
                f"reproducible mode needs products of the GPU itself; unset {name}, which lets "
                "cuBLAS emulate them"
            )
