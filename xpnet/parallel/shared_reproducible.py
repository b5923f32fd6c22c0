"""Reproducible mode on several processes: the bits are those of a single process.

The grid on which a sum is exact must be that of all its terms, see `xpnet.backend.exact`. So sums
over the samples take the greatest magnitudes over all processes, and then add what is exact in any
order. What is such a sum, `xpnet.parallel.gradients` knows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from xpnet.backend import Array, Backend
from xpnet.backend.reproducible import Blocks, LocalTerms, Reproducible
from xpnet.parallel.base import Communicator, Share
from xpnet.parallel.gradients import SharedGradient, owner, plain, shared_gradients
from xpnet.parallel.shared_backend import SharedBackend

# What a gradient may go through after its sum, with operands that are the same on all processes.
ELEMENT_BY_ELEMENT = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "sqrt", "log", "tanh", "copyto",
}  # fmt: skip


class SharedTerms(LocalTerms):
    """The terms of a sum over the samples of a batch, some of which are on other processes."""

    def __init__(self, xp: SharedReproducible) -> None:
        self.xp = xp

    def blocks(self, n: int, size: int) -> Blocks:
        """Return the blocks of the whole batch; this process has no term of some of them."""
        share = self.xp.share
        assert share is not None
        each = n // share.gathered[1]  # terms that a sample has: one, or one for each feature
        first, end, total = (each * k for k in (share.first, share.end, share.total))
        starts = range(0, total, min(size, total))
        within = [(max(first, k), min(end, k + size)) for k in starts]
        slices = [slice(a - first, max(a, b) - first) for a, b in within]
        lengths = [min(size, total - k) for k in starts]
        return list(zip(slices, lengths, strict=True))

    def greatest(self, top: Array) -> Array:
        """Return the greatest values over all processes."""
        return self.xp.across.allreduce(top, "max")

    def total(self, S: Array) -> Array:
        """Return the sum over all processes."""
        return self.xp.across.allreduce(S)


class SharedReproducible(SharedBackend):
    """Reproducible mode on a share of each batch."""

    whole: Reproducible

    def __init__(self, whole: Reproducible, comm: Communicator) -> None:
        super().__init__(whole, comm)
        self._terms = SharedTerms(self)
        self._params: Array = None
        for name in ELEMENT_BY_ELEMENT:
            setattr(self, name, self._element_by_element(getattr(self, name)))

    @contextmanager
    def backward_over(self, share: Share, net: Any) -> Iterator[None]:
        """Sum the gradients of a network over all processes, inside a ``with`` block."""
        self._params = owner(net.params)
        try:
            with self.over(share), shared_gradients(net):
                yield
        finally:
            self._params = None

    # ---- sums over the samples ------------------------------------------------------------------

    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B; a gradient is summed over the samples of all processes"""
        if not isinstance(out, SharedGradient):
            return self.whole.matmul(plain(A), plain(B), out)
        self._product(A, B, out, out.array)
        return out.mark()

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A; a gradient is summed over the samples of all processes"""
        if not isinstance(out, SharedGradient):
            return self.whole.sum(plain(A), axis, out=out, keepdims=keepdims)
        self._sum(A, axis, out, out.array)
        return out.mark()

    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z),  db = Σ out over the samples of all processes"""
        return Backend.affine_grad(self, dY, Y, f, out=out, db=db)

    def add_matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = out + A B"""
        if not isinstance(out, SharedGradient):
            return self.whole.add_matmul(plain(A), plain(B), out)
        array = out.complete("is added to")
        part = self._part_of_sum(array)
        self._product(A, B, out, part)
        self.whole.add(array, part, out=array)
        return out

    def add_sum(self, A: Array, axis: int | None = None, *, out: Array) -> Array:
        """out = out + Σ A"""
        if not isinstance(out, SharedGradient):
            return self.whole.add_sum(plain(A), axis, out=out)
        array = out.complete("is added to")
        part = self._part_of_sum(array)
        self._sum(A, axis, out, part)
        self.whole.add(array, part, out=array)
        return out

    def _product(self, A: Array, B: Array, gradient: SharedGradient, array: Array) -> None:
        """array = A B, where the sum is over the samples unless both operands are known to all"""
        known = [self._is_known(A), self._is_known(B)]
        if all(known):
            self.whole.matmul(plain(A), plain(B), out=array)
            return
        if any(known) or A.strides[0] > A.strides[1] or A.shape[1] % self._rows:
            gradient.refuse(
                f"is a product of the shapes {A.shape} and {B.shape} that is not Xᵀ dY, with the "
                f"{self._rows} samples of this process as the rows of X and dY"
            )
        self.whole.affine_over(A, B, None, array, self._terms)

    def _sum(self, A: Array, axis: int | None, gradient: SharedGradient, array: Array) -> None:
        """array = Σ A, where the sum is over the samples unless A is known to all processes"""
        if self._is_known(A):
            self.whole.sum(plain(A), axis, out=array)
            return
        if axis not in (None, 0, -A.ndim) or len(A) % self._rows:
            gradient.refuse(
                f"is a sum over axis {axis} of an array of shape {A.shape}, not over axis 0 with "
                f"the {self._rows} samples of this process"
            )
        A = A.reshape(-1) if axis is None else A
        self.whole.sum_over(A, 0, array, self._terms)

    @property
    def _rows(self) -> int:
        assert self.share is not None
        return self.share.gathered[1]

    def _sum_of_batch(self, A: Array, out: Array, keepdims: bool) -> None:
        """out = Σ A over the samples of all processes"""
        self.whole.sum_over(A, 0, out, self._terms)

    # ---- after the sum --------------------------------------------------------------------------

    def _is_known(self, a: Any) -> bool:
        """Return True for what all processes have alike: gradients, parameters and numbers."""
        if isinstance(a, SharedGradient) or not hasattr(a, "shape"):
            return True
        return self._params is not None and owner(a) is self._params

    def _element_by_element(self, primitive: Callable[..., Array]) -> Callable[..., Array]:
        """Return a primitive that also takes gradients whose sums are complete."""
        signature = inspect.signature(primitive)

        @wraps(primitive)
        def call(*args: Any, **kwargs: Any) -> Array:
            if not any(isinstance(a, SharedGradient) for a in (*args, *kwargs.values())):
                return primitive(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            out = given.pop("out")
            if not isinstance(out, SharedGradient):
                return primitive(**{name: plain(a) for name, a in given.items()}, out=out)
            if not all(map(self._is_known, given.values())):
                out.refuse(
                    f"is written by xp.{primitive.__name__} with an array that may be another one "
                    "on each process"
                )
            primitive(**{name: plain(a) for name, a in given.items()}, out=out.array)
            return out.mark()

        return call
