"""Metrics: how good the outputs are, in a number people know; computed on the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xpnet.losses import Loss
from xpnet.support.messages import look_up

Metric = Callable[[Any, Any], float]  # (targets, outputs), the argument order of scikit-learn


def classes_of(a: np.ndarray[Any, Any], threshold: float = 0.5) -> np.ndarray[Any, Any]:
    """Return the class of each row: the largest of several columns, or one column > threshold."""
    if a.ndim == 2 and a.shape[1] > 1:
        return np.asarray(a.argmax(axis=1))
    return (a.reshape(len(a)) > threshold).astype(np.int64)


def accuracy(t: np.ndarray[Any, Any], Y: np.ndarray[Any, Any], threshold: float = 0.5) -> float:
    """Return the share of rows whose class is right.

    Parameters
    ----------
    t : ndarray, shape (n,) or (n, outputs)
        Labels or one-hot rows.
    Y : ndarray, shape (n, outputs)
        Scores or probabilities; the largest counts. A single output counts as class 1 above
        ``threshold``.
    """
    labels = t if t.ndim == 1 and Y.shape[1] > 1 else classes_of(t)
    return float(np.mean(classes_of(Y, threshold) == labels))


def rmse(t: np.ndarray[Any, Any], Y: np.ndarray[Any, Any]) -> float:
    """Return √ mean (y - t)², in the unit of the targets."""
    return float(np.sqrt(np.mean((Y - t.reshape(Y.shape)) ** 2)))


def r2(t: np.ndarray[Any, Any], Y: np.ndarray[Any, Any]) -> float:
    """Return R² = 1 - Σ (y - t)² / Σ (t - mean t)², the share of the variance that is explained.

    Where all targets are equal it is 1 for a perfect fit, else 0, as in scikit-learn.
    """
    t = t.reshape(Y.shape)
    rest, total = float(np.sum((Y - t) ** 2)), float(np.sum((t - t.mean(axis=0)) ** 2))
    return 1 - rest / total if total else float(rest == 0)


METRICS: dict[str, Metric] = {"accuracy": accuracy, "rmse": rmse, "r2": r2}


def find_metric(metric: str | Metric, loss: Loss) -> tuple[str, Metric]:
    """Return the name and the function of a metric; accuracy takes its threshold from the loss."""
    if callable(metric):
        return getattr(metric, "__name__", type(metric).__name__), metric
    found = look_up("metric", metric, METRICS)
    if found is accuracy:
        return metric, partial(accuracy, threshold=loss.threshold)
    return metric, found
