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

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.fused import Fused
from xpnet.backend.reproducible import Blocks, LocalTerms, Reproducible
from xpnet.parallel.base import Communicator, Share
from xpnet.parallel.gradients import (
    LINEAR,
    NOT_LINEAR,
    SharedGradient,
    SharedGradients,
    is_linear,
    owner,
    plain,
    shared_gradients,
)
from xpnet.parallel.shared_backend import SharedBackend


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
        self._known: dict[int, Array] = {}  # memory that is the same on all processes
        self._sums: dict[int, Array] = {}  # memory with sums over the samples of this process
        self._gradients: SharedGradients | None = None  # during a backward pass
        self._each: list[tuple[SharedGradient, int]] = []  # the rows per sample of each sum
        self._agreed: set[int] = set()  # the sizes of the batches for which they are compared
        names = {name for kind in (Backend, Fused) for name in vars(kind) if name[0] != "_"}
        for name in names - {*vars(SharedReproducible)}:
            primitive = getattr(self, name)
            if callable(primitive) and "out" in inspect.signature(primitive).parameters:
                setattr(self, name, self._noted(name, primitive))

    @contextmanager
    def backward_over(self, share: Share, net: Any) -> Iterator[None]:
        """Sum the gradients of a network over all processes, inside a ``with`` block."""
        states = [a for _, layer in net.walk("") for a in layer.state.values()]
        self._known = {id(array): array for array in map(owner, [net.params, *states])}
        try:
            with self.over(share), shared_gradients(net) as self._gradients:
                yield
                self._compare_rows(share.total)
        finally:
            self._known, self._sums, self._each, self._gradients = {}, {}, [], None

    # ---- sums over the samples ------------------------------------------------------------------

    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B; a gradient is summed over the samples of all processes"""
        if not isinstance(out, SharedGradient):
            known = [self._is_known(A), self._is_known(B)]
            over_samples = A.shape[1] % self._rows == 0 and is_transposed(A)
            self._note(out, over_samples and not any(known), all(known))
            return self.whole.matmul(plain(A), plain(B), out)
        self._product(A, B, out, out.array)
        return out.mark()

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A; a gradient is summed over the samples of all processes"""
        if not isinstance(out, SharedGradient):
            over_samples = axis in (None, 0, -A.ndim) and len(A) % self._rows == 0
            known = self._is_known(A)
            self._note(out, over_samples and not known, known)
            return self.whole.sum(plain(A), axis, out=out, keepdims=keepdims)
        self._sum(A, axis, out, out.array)
        return out.mark()

    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z),  db = Σ out over the samples of all processes"""
        return Backend.affine_grad(self, dY, Y, f, out=out, db=db)

    def add_matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = out + A B"""
        if not isinstance(out, SharedGradient):
            return Backend.add_matmul(self, A, B, out)
        array = out.complete("is added to")
        part = self._part_of_sum(array)
        self._product(A, B, out, part)
        self.whole.add(array, part, out=array)
        return out

    def add_sum(self, A: Array, axis: int | None = None, *, out: Array) -> Array:
        """out = out + Σ A"""
        if not isinstance(out, SharedGradient):
            return Backend.add_sum(self, A, axis, out=out)
        array = out.complete("is added to")
        part = self._part_of_sum(array)
        self._sum(A, axis, out, part)
        self.whole.add(array, part, out=array)
        return out

    def _product(self, A: Array, B: Array, gradient: SharedGradient, array: Array) -> None:
        """array = A B, where the sum is over the samples unless both operands are known to all"""
        known = [self._is_known(A), self._is_known(B)]
        if all(known):
            if isinstance(A, SharedGradient) == isinstance(B, SharedGradient):
                gradient.refuse(NOT_LINEAR.format("xp.matmul"))
            self.whole.matmul(plain(A), plain(B), out=array)
            return
        if any(known) or self._is_sum(A) or self._is_sum(B) or A.shape[1] % self._rows:
            gradient.refuse(
                f"is a product of the shapes {A.shape} and {B.shape} that is not Xᵀ dY, with the "
                f"{self._rows} samples of this process as the rows of X and dY"
            )
        self._each.append((gradient, A.shape[1] // self._rows))
        self.whole.affine_over(A, B, None, array, self._terms)

    def _sum(self, A: Array, axis: int | None, gradient: SharedGradient, array: Array) -> None:
        """array = Σ A, where the sum is over the samples unless A is known to all processes"""
        if self._is_known(A):
            if not isinstance(A, SharedGradient):
                gradient.refuse(NOT_LINEAR.format("xp.sum"))
            self.whole.sum(plain(A), axis, out=array)
            return
        if axis not in (None, 0, -A.ndim) or self._is_sum(A) or len(A) % self._rows:
            gradient.refuse(
                f"is a sum over axis {axis} of an array of shape {A.shape}, not over axis 0 with "
                f"the {self._rows} samples of this process"
            )
        self._each.append((gradient, len(A) // self._rows))
        A = A.reshape(-1) if axis is None else A
        self.whole.sum_over(A, 0, array, self._terms)

    def _compare_rows(self, size: int) -> None:
        """Check once, for each size of a batch, that a sample has as many rows on all processes."""
        if size in self._agreed:
            return
        self._agreed.add(size)
        of_all = self.comm.allgather([rows for _, rows in self._each])
        for (gradient, _), *rows in zip(self._each, *of_all, strict=False):
            if len(set(rows)) > 1:
                gradient.refuse(f"is a sum over {rows} rows per sample, which differ by process")

    @property
    def _rows(self) -> int:
        return 1 if self.share is None else self.share.gathered[1]

    def _sum_of_batch(self, A: Array, out: Array, keepdims: bool) -> None:
        """out = Σ A over the samples of all processes"""
        self.whole.sum_over(A, 0, out, self._terms)

    # ---- what is known of arrays ----------------------------------------------------------------

    def _is_known(self, a: Any) -> bool:
        """Return True for what all processes have alike: gradients, parameters, state, numbers."""
        number = isinstance(a, np.generic) or not hasattr(a, "shape")
        return number or isinstance(a, SharedGradient) or id(owner(a)) in self._known

    def _is_sum(self, a: Any) -> bool:
        """Return True for an array with a sum over the samples of this process alone."""
        return hasattr(a, "shape") and id(owner(a)) in self._sums

    def _note(self, out: Array, is_sum: bool, known: bool) -> None:
        """Note whether a result is such a sum, or known; refuse to write a gradient past its place.

        Parameters and state that have got a result of this process are not known any more.
        """
        if self._gradients is None:
            return
        self._gradients.refuse_kept_view(out, self.module)
        memory = owner(out)
        if not known:
            self._known.pop(id(memory), None)
        if is_sum:
            self._sums[id(memory)] = memory
        elif out.size == memory.size:
            self._sums.pop(id(memory), None)

    # ---- all other primitives -------------------------------------------------------------------

    def _noted(self, name: str, primitive: Callable[..., Array]) -> Callable[..., Array]:
        """Return a primitive that notes what it writes, and takes gradients where that is right."""
        signature = inspect.signature(primitive)

        @wraps(primitive)
        def call(*args: Any, **kwargs: Any) -> Array:
            if self._gradients is None:
                return primitive(*args, **kwargs)
            given = signature.bind(*args, **kwargs).arguments
            out = given.pop("out")
            operands = {key: plain(a) for key, a in given.items()}
            if not isinstance(out, SharedGradient):
                if hasattr(out, "shape"):
                    known = all(map(self._is_known, given.values()))
                    self._note(out, any(map(self._is_sum, operands.values())), known)
                return primitive(**operands, out=out)
            self._check_goes_on(name, list(given.values()), out)
            primitive(**operands, out=out.array)
            return out.mark()

        return call

    def _check_goes_on(self, name: str, operands: list[Any], out: SharedGradient) -> None:
        """Refuse what a gradient cannot go through after its sum."""
        if name not in LINEAR:
            out.refuse(f"is written by xp.{name}, which is no sum over the samples")
        if not all(map(self._is_known, operands)):
            out.refuse(
                f"is written by xp.{name} with an array that may be another one on each process"
            )
        if not is_linear(name, operands):
            out.refuse(NOT_LINEAR.format(f"xp.{name}"))


def is_transposed(A: Array) -> bool:
    """Return True for a matrix such as Xᵀ, whose columns lie one after the other in memory."""
    return bool(A.strides[0] < A.strides[1])
