"""The two passes of a batch: on one process, or shared by several.

`WholeBatch` is the plain case: one process computes all samples. On several processes each computes
its share of the samples, `SharedBatch`, and the gradients are summed. The step of a training calls
the same methods in both cases, see `xpnet.training.step`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.parallel.base import Communicator, Share
from xpnet.parallel.shared_reproducible import SharedReproducible
from xpnet.parallel.sharing import shared


class WholeBatch:
    """One process computes the whole batch:  Y = f(X),  L = loss(Y, t),  dp = ∂L/∂p

    Parameters
    ----------
    net : Sequential
    loss : Loss
    """

    def __init__(self, net: Any, loss: Any) -> None:
        self.net, self.loss = net, loss

    def rows(self, size: int) -> tuple[int, int]:
        """Return which samples of a batch this process computes: the first, and how many."""
        return 0, size

    def loss_rows(self, size: int) -> tuple[int, int]:
        """Return the samples of which this process computes the loss."""
        return self.rows(size)

    def begin(self, size: int) -> None:
        """Begin a step on a batch of this size."""

    def forward(self, X: Array, t: Array, *weights: Array) -> None:
        """Y = f(X),  L = loss(Y, t)"""
        Y = self.net.forward(X)
        self.net.xp.join()
        self.loss.forward(Y, t, *weights)

    def backward(self) -> None:
        """dY = ∂L/∂Y,  dp = ∂L/∂p; after it ``loss.value`` is the loss of the whole batch."""
        self.net.backward(self.loss.backward())

    @property
    def rows_here(self) -> int:
        """The number of samples that the layers of this process computed last."""
        return len(self.loss.Y)


class SharedBatch(WholeBatch):
    """g = Σᵣ nᵣ gᵣ / Σᵣ nᵣ,  L = Σᵣ nᵣ Lᵣ / Σᵣ nᵣ        (process r has nᵣ samples, or weights Σ w)

    The sums Σ nᵣ gᵣ, Σ nᵣ Lᵣ and Σ nᵣ are one vector and one all-reduce. Because the sums are
    divided, not the means averaged, shares of different size do no harm.

    Parameters
    ----------
    net : Sequential
        On a backend that knows of the other processes, see `shared_backend`.
    loss : Loss
    comm : Communicator
    sizes : list of int
        Those of the batches of an epoch.
    sample : tuple of int
        The shape of one sample.
    """

    def __init__(
        self, net: Any, loss: Any, comm: Communicator, sizes: list[int], sample: tuple[int, ...]
    ) -> None:
        super().__init__(net, loss)
        self.comm, self.xp = comm, net.xp
        self.share = comm.share(sizes[0])
        self._make(sizes, sample)

    def _make(self, sizes: list[int], sample: tuple[int, ...]) -> None:
        """Put the gradients in front of a vector that has room for two more numbers."""
        net, xp = self.net, self.xp
        self.vector = xp.zeros(net.size + 2, net.dtype)
        net.bind(xp, net.params, self.vector[:-2])
        self._sum, self._count = self.vector[-2:-1].reshape(()), self.vector[-1:].reshape(())
        rows = {size: self.comm.share(size).rows for size in sizes}
        if self.loss.reduction == "sum":
            rows = {size: min(number, 1) for size, number in rows.items()}
        self._rows = {  # on the device: a captured step can copy them from there
            size: xp.asarray(np.array(number), net.dtype) for size, number in rows.items()
        }

    def rows(self, size: int) -> tuple[int, int]:
        """Return which samples of a batch this process computes: the first, and how many."""
        return self.comm.share(size).gathered

    def begin(self, size: int) -> None:
        """Begin a step on a batch of this size."""
        self.share = self.comm.share(size)

    def forward(self, X: Array, t: Array, *weights: Array) -> None:
        """Yᵣ = f(Xᵣ),  Lᵣ = loss(Yᵣ, tᵣ)"""
        with self.xp.over(self.share):
            Y = self.net.forward(X)
        self.xp.join()
        self.loss.forward(Y, t, *weights)
        self._weights = weights

    def backward(self) -> None:
        """Leave the loss of the whole batch in ``loss.value``, and its gradient in the network."""
        net, loss, xp, share, count = self.net, self.loss, self.xp, self.share, self._count
        self._write_count(share, *self._weights)
        dY = loss.backward()
        xp.multiply(dY, count, out=dY)
        with xp.over(share):
            net.backward(dY)
        if not share.rows:  # this process has computed one sample, which does not count
            xp.copyto(net.grads, 0.0)
        xp.multiply(loss.value, count, out=self._sum)
        xp.across.allreduce(self.vector)
        if loss.reduction == "sum":
            xp.copyto(loss.value, self._sum)
            return
        xp.divide(net.grads, count, out=net.grads)
        xp.divide(self._sum, count, out=loss.value)

    def _write_count(self, share: Share, weights: Array = None) -> None:
        """Write nᵣ: the number of samples of this process, or the sum of their weights."""
        loss = self.loss
        alike = weights is None or loss.mean_weight or loss.reduction == "sum"
        if alike or not share.rows:
            self.xp.copyto(self._count, self._rows[share.total])
        else:
            self.xp.sum(weights, out=self._count)

    @property
    def rows_here(self) -> int:
        """The number of samples that the layers of this process computed last."""
        return self.share.gathered[1]


class SharedBatchReproducible(SharedBatch):
    """In reproducible mode each process computes the loss of the whole batch from all outputs.

    So the loss and its gradient dY have the bits of a single process, and each process takes its
    rows of dY. The gradients of the parameters are summed as they arise, see `SharedReproducible`.
    """

    xp: SharedReproducible

    def loss_rows(self, size: int) -> tuple[int, int]:
        """Return the whole batch."""
        return 0, size

    def _make(self, sizes: list[int], sample: tuple[int, ...]) -> None:
        """Make room for the outputs of a batch."""
        (width,) = self.net.output_shape(sample)
        self._outputs = self.xp.empty((max(sizes), width), self.net.dtype)

    def forward(self, X: Array, t: Array, *weights: Array) -> None:
        """Yᵣ = f(Xᵣ),  L = loss(Y, t) from the rows Yᵣ of all processes"""
        xp, share = self.xp, self.share
        with xp.over(share):
            Y = self.net.forward(X)
        xp.join()
        outputs = self._outputs[: share.total]
        xp.across.put_together(Y[: share.rows], share.first, outputs, xp)
        self.loss.forward(outputs, t, *weights)

    def backward(self) -> None:
        """dYᵣ = the rows of dY here,  dp = Σᵣ of what each process computes from its rows"""
        net, share = self.net, self.share
        first, rows = share.gathered
        dY = self.loss.backward()[first : first + rows]
        with self.xp.backward_over(share, net):
            net.backward(dY)


def share_batches(
    net: Any, loss: Any, comm: Communicator, sizes: list[int], sample: tuple[int, ...]
) -> WholeBatch:
    """Return what computes the batches of an epoch on these processes; see `SharedBatch`."""
    if comm.size == 1:
        return WholeBatch(net, loss)
    kind = SharedBatchReproducible if net.xp.reproducible else SharedBatch
    return kind(net, loss, comm, sizes, sample)


def shared_backend(xp: Backend, comm: Communicator) -> Backend:
    """Return the backend of a network whose batches these processes share; one process: ``xp``."""
    return xp if comm.size == 1 else shared(xp, comm)


def shared_predict(net: Any, X: Array, comm: Communicator, rows_at_once: int) -> Array:
    """Return the outputs for some data, of which each process computes a share.

    The shares consist of the ``rows_at_once`` rows that a single process would take at a time, so
    the bits are the same.
    """
    if comm.size == 1:
        return net.predict(X)
    share = comm.share(-(-len(X) // rows_at_once))
    first, end = (rows_at_once * k for k in (share.first, share.first + share.rows))
    out = np.empty((len(X), *(net.output_shape(X.shape[1:]) or ())), net.dtype)
    own = net.xp.asnumpy(net.predict(X[first:end])) if share.rows else out[:0]
    return comm.put_together(own, first, out, np)
