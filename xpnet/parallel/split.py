"""The backends of a network whose batches are shared by several processes.

A layer computes as ever, on the samples that are here. What a layer sums over its samples is either
a gradient, which the step sums over all processes once, or a mean over the batch, as BatchNorm has
it: `Split` forms that over all processes at once. A dropout mask is the piece of the whole batch's.

In reproducible mode the gradients, too, are summed over the processes where they arise: the grid on
which a sum is exact must be that of all its terms, see `xpnet.backend.exact`. `SplitReproducible`
takes the greatest magnitudes over all processes, and then adds what is exact in any order.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnet.backend import Array, Backend
from xpnet.backend.reproducible import Blocks, Here, Reproducible
from xpnet.parallel.agreement import require_same
from xpnet.parallel.base import Communicator, Share


class Split(Backend):
    """Another backend, on a share of each batch.

    Parameters
    ----------
    whole : Backend
        What computes.
    comm : Communicator
        The processes.

    Attributes
    ----------
    part : Share or None
        That of the step that runs at present; where none does, the backend is the other one.
    """

    def __init__(self, whole: Backend, comm: Communicator) -> None:
        self.whole, self.comm, self.between = whole, comm, comm.on(whole)
        self.part: Share | None = None
        for name in ("name", "module", "on_host", "reproducible", "takes_pixels", "dtypes"):
            setattr(self, name, getattr(whole, name))
        own = {name for cls in type(self).__mro__ if cls is not Backend for name in vars(cls)}
        for name in vars(Backend):
            if not name.startswith("_") and name not in own and callable(getattr(whole, name)):
                setattr(self, name, getattr(whole, name))

    def __repr__(self) -> str:
        return f"{self.whole!r}"

    def __reduce__(self) -> Any:
        return self.whole.__reduce__()

    @property
    def ordinary(self) -> Backend:
        """What the other one calls so."""
        return self.whole.ordinary

    @property
    def captures(self) -> bool:  # type: ignore[override]
        """Whether the other one does, and can hold what goes between the processes."""
        return self.whole.captures and self.between.captures

    @property
    def forks(self) -> bool:  # type: ignore[override]
        """What the other one says."""
        return self.whole.forks

    def capture(self, step: Any, version: Any = None) -> Any:
        """Return a function that does ``step``, as a graph if it can be one.

        Where an all-reduce goes by way of the host there is none: the host takes part in the middle
        of a step, but not in the middle of a graph. NCCL wants a step to be a graph on all
        processes or on none, so they agree on when it is recorded.
        """
        if not self.captures:
            return step
        captured: Any = self.whole.capture(step, version)
        captured.agree = lambda yes: bool(self.comm.greatest(yes))
        return captured

    @contextmanager
    def over(self, part: Share) -> Iterator[None]:
        """Let the samples be a share of a batch, inside a ``with`` block."""
        self.part = part
        try:
            yield
        finally:
            self.part = None

    def mean(self, A: Array, axis: int, *, out: Array, keepdims: bool = False) -> Array:
        """out = Σ A / n, where axis 0 has the samples of all processes"""
        if self.part is None or axis not in (0, -A.ndim):
            return self.whole.mean(A, axis, out=out, keepdims=keepdims)
        self._sum_of_batch(A, out, keepdims)
        return self.multiply(out, 1.0 / self.part.total, out=out)

    def _sum_of_batch(self, A: Array, out: Array, keepdims: bool) -> None:
        """out = Σ A over the samples of all processes"""
        assert self.part is not None
        if self.part.rows:
            self.whole.sum(A, 0, out=out, keepdims=keepdims)
        else:
            self.whole.copyto(out, 0.0)
        self.between.allreduce(out)

    def dropout_mask(
        self, key: Array, counter: Array, out: Array, keep: float, work: Array, first: int = 0
    ) -> Array:
        """outⱼ = 1/keep with probability keep, else 0: the piece of the samples here"""
        if self.part is not None:
            place, rows = self.part.gathered
            first += place * (out.size // rows)
        return self.whole.dropout_mask(key, counter, out, keep, work, first)


class Elsewhere(Here):
    """The samples of a batch, some of which are on other processes."""

    def __init__(self, xp: SplitReproducible) -> None:
        self.xp = xp

    def blocks(self, n: int, size: int) -> Blocks:
        """Return the blocks of the whole batch; of some of them nothing is here."""
        part = self.xp.part
        assert part is not None
        each = n // part.gathered[1]  # terms that a sample has: one, or one for each feature
        first, end, total = (each * k for k in (part.first, part.first + part.rows, part.total))
        starts = range(0, total, min(size, total))
        within = [(max(first, k), min(end, k + size)) for k in starts]
        slices = [slice(a - first, max(a, b) - first) for a, b in within]
        lengths = [min(size, total - k) for k in starts]
        return list(zip(slices, lengths, strict=True))

    def greatest(self, top: Array) -> Array:
        """Return the greatest of the values that all have here."""
        return self.xp.between.allreduce(top, "max")

    def total(self, S: Array) -> Array:
        """Return the sum of what all have here."""
        return self.xp.between.allreduce(S)


class SplitReproducible(Split):
    """Reproducible mode on a share of each batch: the bits are those of a single process.

    What is written into a gradient is a sum over the batch.
    """

    whole: Reproducible

    def __init__(self, whole: Reproducible, comm: Communicator) -> None:
        super().__init__(whole, comm)
        self.grads: Array = None
        self._elsewhere = Elsewhere(self)
        self._summed: list[tuple[int, int]] = []  # the places in grads that have been

    @contextmanager
    def backward_over(self, part: Share, grads: Array) -> Iterator[None]:
        """Sum what is written into these gradients over all processes, inside a ``with`` block."""
        self.grads, self._summed = grads, []
        try:
            with self.over(part):
                yield
            for start, end in self._left():
                if not part.rows:
                    self.whole.copyto(grads[start:end], 0.0)
                self.between.allreduce(grads[start:end])
        finally:
            self.grads = None

    def _left(self) -> list[tuple[int, int]]:
        """Return the places of gradients that were not made by a sum or a product."""
        found, reached = [], 0
        for start, end in [*sorted(self._summed), (self.grads.size, self.grads.size)]:
            if reached < start:
                found.append((reached, start))
            reached = max(reached, end)
        return found

    def _is_gradient(self, out: Array) -> bool:
        """Tell whether an array is a piece of the gradients, and note that it has been summed."""
        if self.part is None or self.grads is None:
            return False
        start = (_address(out) - _address(self.grads)) // out.itemsize
        if not 0 <= start < self.grads.size:
            return False
        self._summed.append((start, start + out.size))
        return True

    def matmul(self, A: Array, B: Array, out: Array) -> Array:
        """out = A B, where that is a gradient with the samples of all processes"""
        if self._is_gradient(out):
            return self.whole.affine_over(A, B, None, out, self._elsewhere)
        return self.whole.matmul(A, B, out)

    def sum(
        self, A: Array, axis: int | None = None, *, out: Array, keepdims: bool = False
    ) -> Array:
        """out = Σ A, where that is a gradient over the samples of all processes"""
        if axis in (None, 0, -A.ndim) and self._is_gradient(out):
            A = A.reshape(-1) if axis is None else A
            return self.whole.sum_over(A, 0, out, self._elsewhere)
        return self.whole.sum(A, axis, out=out, keepdims=keepdims)

    def affine_grad(self, dY: Array, Y: Array, f: str, *, out: Array, db: Array) -> Array:
        """out = dY · f'(Z),  db = Σ out over the samples of all processes"""
        return Backend.affine_grad(self, dY, Y, f, out=out, db=db)

    def _sum_of_batch(self, A: Array, out: Array, keepdims: bool) -> None:
        """out = Σ A over the samples of all processes"""
        self.whole.sum_over(A, 0, out, self._elsewhere)


def _address(a: Array) -> int:
    """Return where the memory of an array begins."""
    pointer = getattr(a.data, "ptr", None)
    return int(a.__array_interface__["data"][0] if pointer is None else pointer)


def split(xp: Backend, comm: Communicator) -> Split:
    """Return the backend of a network that shares its batches with other processes."""
    if isinstance(xp, Split):
        if xp.comm is comm:
            return xp
        xp = xp.whole
    require_same(comm, {"the backend": xp.name})
    if isinstance(xp, Reproducible):
        return SplitReproducible(xp, comm)
    return Split(xp, comm)
