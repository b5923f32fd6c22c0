"""Evaluation: the loss and the metrics on some data, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.losses import Loss
from xpnet.parallel.batch import shared_predict
from xpnet.support.errors import OptionError
from xpnet.training.metrics import Metric
from xpnet.training.metrics.sums import mean, precise
from xpnet.training.training import Training

BLOCK = 2**16  # numbers of which the loss is computed at a time
NumPyArray = np.ndarray[Any, Any]


def evaluate(training: Training, X: Array, t: NumPyArray, w: Any = None) -> dict[str, float]:
    """Return the loss and the metrics of checked data, weighted means if there are weights."""
    net, metrics = training.net, training.metrics
    check_metrics(metrics, w)
    with np.errstate(all="ignore"):
        Y = shared_predict(net, X, training.comm, net.prediction_batch(len(X)))
        Y = Y if isinstance(Y, np.ndarray) else net.xp.asnumpy(Y)
        loss = mean_loss(training.loss, net.xp, Y, t, w)
        return {"loss": loss} | {name: f(t, Y, w) for name, f in metrics.items()}


def mean_loss(loss: Loss, xp: Any, Y: NumPyArray, t: NumPyArray, w: Any = None) -> float:
    """Return Σ wᵢ ℓᵢ / Σ wᵢ, summed exactly: each ℓᵢ is computed in float64.

    A backend that promises the same bits everywhere computes ℓᵢ in its own way, from the outputs
    as they are.
    """
    judge = copy(loss)  # the settings of the loss, but buffers of its own
    judge.validate = False
    judge.use(xp)
    judge.forget()
    Y = precise(Y) if xp.ordinary is xp else Y
    if type(loss).forward is not Loss.forward:  # a loss that forms its mean itself
        weights = [] if w is None else [xp.asarray(w)]
        return float(judge.forward(xp.asarray(Y), xp.asarray(t), *weights))
    t, rows = precise(t), max(1, BLOCK // Y.shape[1])
    parts = [
        judge.each(xp.asarray(Y[k : k + rows]), xp.asarray(t[k : k + rows]))
        for k in range(0, len(Y), rows)
    ]
    return mean(np.concatenate(parts), w) * float(parts[0].shape[1] / judge.outputs)


def check_metrics(metrics: Mapping[str, Metric], w: Any) -> None:
    """Refuse weights that a metric would not see."""
    for name, metric in metrics.items():
        if w is not None and not metric.takes_weights:
            raise OptionError(
                f"the metric {name!r} has no argument sample_weight, so it would ignore the "
                "weights; give its function the argument, or leave out the weights or the metric"
            )
