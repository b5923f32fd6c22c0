"""The gradient of a batch that several processes share: what `Trainer.backpropagate` then does."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.parallel.communicator import Communicator, Share
from xpnet.parallel.shared_reproducible import SharedReproducible


class Together:
    """g = Σᵣ nᵣ gᵣ / Σᵣ nᵣ,  L = Σᵣ nᵣ Lᵣ / Σᵣ nᵣ        (process r has nᵣ samples, or weights Σ w)

    The sums Σ nᵣ gᵣ, Σ nᵣ Lᵣ and Σ nᵣ are one vector and one all-reduce. Because the sums are
    divided, not the means averaged, shares of different size do no harm.

    Parameters
    ----------
    net : Sequential
        It is moved to a backend that knows of the other processes.
    loss : Loss
    comm : Communicator
    sizes : list of int
        Those of the batches of an epoch.
    sample : tuple of int
        The shape of one.
    """

    def __init__(
        self, net: Any, loss: Any, comm: Communicator, sizes: list[int], sample: tuple[int, ...]
    ) -> None:
        self.net, self.loss, self.comm, self.xp = net, loss, comm, net.xp
        self.part = comm.share(sizes[0])
        self._make(sizes, sample)

    def _make(self, sizes: list[int], sample: tuple[int, ...]) -> None:
        """Put the gradients in front of a vector that has room for two numbers more."""
        net, xp = self.net, self.xp
        self.vector = xp.zeros(net.size + 2, net.dtype)
        net.bind(xp, net.params, self.vector[:-2])
        self._sum, self._count = self.vector[-2:-1].reshape(()), self.vector[-1:].reshape(())
        self._rows = {  # on the device: a captured step can copy them from there
            size: xp.asarray(np.array(self.comm.share(size).rows), net.dtype) for size in sizes
        }

    def piece(self, size: int) -> tuple[int, int]:
        """Return which samples of a batch are computed here: the first, and how many."""
        return self.comm.share(size).gathered

    def targets(self, size: int) -> tuple[int, int]:
        """Return the samples of which the loss is computed here."""
        return self.piece(size)

    def begin(self, size: int) -> None:
        """Begin a step on a batch of so many samples."""
        self.part = self.comm.share(size)

    def backpropagate(self, X: Array, t: Array, *weights: Array) -> None:
        """Leave the loss of the whole batch in ``loss.value``, and its gradient in the network."""
        net, loss, xp, part, count = self.net, self.loss, self.xp, self.part, self._count
        with xp.over(part):
            Y = net.forward(X)
        xp.join()
        loss.forward(Y, t, *weights)
        self._write_count(part, *weights)
        dY = loss.backward()
        xp.multiply(dY, count, out=dY)
        with xp.over(part):
            net.backward(dY)
        if not part.rows:  # a sample that is computed for nothing counts for nothing
            xp.copyto(net.grads, 0.0)
        xp.multiply(loss.value, count, out=self._sum)
        xp.across.allreduce(self.vector)
        xp.divide(net.grads, count, out=net.grads)
        xp.divide(self._sum, count, out=loss.value)

    def _write_count(self, part: Share, weights: Array = None) -> None:
        """Write nᵣ: the number of samples here, or their weights."""
        if weights is None or not part.rows:
            self.xp.copyto(self._count, self._rows[part.total])
        else:
            self.xp.sum(weights, out=self._count)


class TogetherReproducible(Together):
    """In reproducible mode each process computes the loss of the whole batch from all outputs.

    So its value and its gradient dY have the bits of a single process, and each takes its rows of
    dY. The gradients of the parameters are summed as they arise, see `SharedReproducible`.
    """

    xp: SharedReproducible

    def targets(self, size: int) -> tuple[int, int]:
        """Return the whole batch."""
        return 0, size

    def _make(self, sizes: list[int], sample: tuple[int, ...]) -> None:
        """Make room for the outputs of a batch."""
        (width,) = self.net.output_shape(sample)
        self._outputs = self.xp.empty((max(sizes), width), self.net.dtype)

    def backpropagate(self, X: Array, t: Array, *weights: Array) -> None:
        """Leave the loss of the whole batch in ``loss.value``, and its gradient in the network."""
        net, loss, xp, part = self.net, self.loss, self.xp, self.part
        with xp.over(part):
            Y = net.forward(X)
        xp.join()
        outputs = self._outputs[: part.total]
        xp.across.put_together(Y[: part.rows], part.first, outputs, xp)
        loss.forward(outputs, t, *weights)
        first, rows = part.gathered
        dY = loss.backward()[first : first + rows]
        with xp.backward_over(part, net):
            net.backward(dY)


def together(
    net: Any, loss: Any, comm: Communicator, sizes: list[int], sample: tuple[int, ...]
) -> Together:
    """Return how the processes make a step together."""
    kind = TogetherReproducible if net.xp.reproducible else Together
    return kind(net, loss, comm, sizes, sample)
