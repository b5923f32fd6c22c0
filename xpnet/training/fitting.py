"""What a `fit` looks at before its first step, and what a loss is told during it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpnet.backend import say_once
from xpnet.losses import Loss
from xpnet.training.advice import check_end
from xpnet.training.evaluation import check_metrics
from xpnet.training.training import Training


@contextmanager
def looked_at(loss: Loss, mean_weight: bool) -> Iterator[None]:
    """Tell a loss that all targets have been looked at, and what the weights of a batch mean."""
    before = loss.validate, loss.mean_weight
    loss.validate, loss.mean_weight = False, mean_weight
    try:
        yield
    finally:
        loss.validate, loss.mean_weight = before


def logged_names(training: Training, X: Any, validation: Sequence[Any] | None) -> tuple[str, ...]:
    """Return the names of the numbers of an epoch; each metric of xpnet is tried before.

    Parameters
    ----------
    training : Training
    X : array
        The inputs of the training.
    validation : sequence of array or None
        X, t and perhaps weights, or None.

    Raises
    ------
    DataError, ShapeError
        If a metric has no meaning for such targets.
    OptionError
        If a metric would ignore the weights.
    """
    metrics = training.metrics
    check_end(training.net, training.loss)
    if validation is None:
        if metrics:
            say_once(
                f"the metrics {', '.join(metrics)} are computed on validation_data, and there is "
                "none: the history will not have them. Call fit(..., validation_data=(X, t)), or "
                "trainer.evaluate(X, t) afterwards"
            )
        return ("loss",)
    X, t, *weights = validation
    check_metrics(metrics, weights[0] if weights else None)
    (width,) = training.net.output_shape(X.shape[1:]) or (1,)
    for metric in metrics.values():
        if metric.is_ours:
            metric(t, np.zeros((len(t), width)))
    return ("loss", "val_loss", *(f"val_{name}" for name in metrics))
