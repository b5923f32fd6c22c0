"""Metrics: how good the outputs are, in a number people know; computed on the host in float64."""

from xpnet.training.metrics.classes import accuracy, exact_match, f1, precision, recall
from xpnet.training.metrics.metric import METRICS, Metric, find_metric, find_metrics
from xpnet.training.metrics.numbers import mae, mse, r2, rmse

__all__ = [
    "METRICS",
    "Metric",
    "accuracy",
    "exact_match",
    "f1",
    "find_metric",
    "find_metrics",
    "mae",
    "mse",
    "precision",
    "r2",
    "recall",
    "rmse",
]
