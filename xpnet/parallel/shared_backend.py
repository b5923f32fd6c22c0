"""The backend of a network whose batches are shared by several processes.

A layer computes as ever, with the samples that this process has. What a layer sums over its samples
is either a gradient, which the step sums over all processes once, or a mean over the batch, as
BatchNorm needs it: `SharedBackend` forms the mean over all processes at once. A dropout mask is a
slice of the mask of the whole batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnet.backend import Array, Backend
from xpnet.parallel.base import Communicator, Share


class SharedBackend(Backend):
    """A backend that computes with a share of each batch.

    Parameters
    ----------
    whole : Backend
        The backend that computes.
    comm : Communicator
        The processes.

    Attributes
    ----------
    share : Share or None
        The share of the present step; None outside a step, when this backend acts like `whole`.
    across : Communicator
        All-reduces arrays of this backend.
    """

    def __init__(self, whole: Backend, comm: Communicator) -> None:
        self.whole, self.comm, self.across = whole, comm, comm.on(whole)
        self.share: Share | None = None
        for name in ("name", "module", "on_host", "reproducible", "takes_pixels", "dtypes"):
            setattr(self, name, getattr(whole, name))
        kinds = [kind for kind in type(self).__mro__ if not issubclass(Backend, kind)]
        own = {name for kind in kinds for name in vars(kind)}
        for name in dir(Backend):
            if not name.startswith("_") and name not in own and callable(getattr(whole, name)):
                setattr(self, name, getattr(whole, name))

    def __repr__(self) -> str:
        return f"{self.whole!r}"

    def __reduce__(self) -> Any:
        return self.whole.__reduce__()

    @property
    def ordinary(self) -> Backend:
        """The backend that computes without reproducible mode."""
        return self.whole.ordinary

    @property
    def captures(self) -> bool:  # type: ignore[override]
        """True where `whole` captures, and a graph can hold the all-reduces."""
        return self.whole.captures and self.across.captures

    @property
    def forks(self) -> bool:  # type: ignore[override]
        """What `whole` says."""
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
    def over(self, share: Share) -> Iterator[None]:
        """Compute with a share of a batch inside a ``with`` block."""
        self.share = share
        try:
            yield
        finally:
            self.share = None

    def batch_total(self, n: int) -> int:
        """Return the number of samples that all processes have together."""
        return n if self.share is None else self.share.total

    def mean(self, A: Array, axis: int, *, out: Array, keepdims: bool = False) -> Array:
        """out = Σ A / n, where axis 0 has the samples of all processes"""
        if self.share is None or axis not in (0, -A.ndim):
            return self.whole.mean(A, axis, out=out, keepdims=keepdims)
        self._sum_of_batch(A, out, keepdims)
        return self.multiply(out, 1.0 / self.share.total, out=out)

    def _sum_of_batch(self, A: Array, out: Array, keepdims: bool) -> None:
        """out = Σ A over the samples of all processes"""
        assert self.share is not None
        if self.share.rows:
            self.whole.sum(A, 0, out=out, keepdims=keepdims)
        else:
            self.whole.copyto(out, 0.0)
        self.across.allreduce(out)

    def dropout_mask(
        self, key: Array, counter: Array, out: Array, keep: float, work: Array, first: int = 0
    ) -> Array:
        """outⱼ = 1/keep with probability keep, else 0: the piece of the samples here"""
        if self.share is not None:
            place, rows = self.share.gathered
            first += place * (out.size // rows)
        return self.whole.dropout_mask(key, counter, out, keep, work, first)
