"""The loss of an epoch, in one reading from the device."""

from __future__ import annotations

from math import isfinite

import numpy as np

from xpnet.parallel.agreement import require_equal
from xpnet.training.failures import divergence, require_finite
from xpnet.training.metrics.sums import total
from xpnet.training.step import TrainingStep
from xpnet.training.training import Training


def sum_squares(training: Training, step: TrainingStep) -> None:
    """Write Σ p² of all parameters behind the losses: no loss shows a NaN that a ReLU hides."""
    xp, p, work = step.xp, training.net.params, training.optimizer.work
    xp.multiply(p, p, out=work)
    xp.sum(work, out=step.losses[-1:].reshape(()))


def mean_loss(training: Training, step: TrainingStep) -> float:
    """Return the mean loss of the epoch's samples, Σ nᵢ Lᵢ / Σ nᵢ over the batches.

    It is the one time that the device is read. The sum is exact, so its bits depend on no library.

    Raises
    ------
    DivergenceError
        If a loss or a parameter is not finite.
    ParallelError
        If the processes have different losses or parameters.
    """
    read = step.xp.asnumpy(step.losses)
    require_equal(training.comm, "the losses or parameters", read)
    losses, squares, sizes = read[:-1], read[-1], np.array(step.batches.sizes())
    mean = total(losses.astype(np.float64) * step.loss.counts(sizes)) / step.batches.n
    if not isfinite(mean):
        first = int(np.argmin(np.isfinite(losses)))
        raise divergence(training, step, "loss", float(losses[first]), first)
    if not isfinite(squares):
        require_finite(training, training.net.state_dict(), step)
    return mean
