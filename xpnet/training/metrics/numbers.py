"""Metrics of numbers: how far the outputs are from the targets.

Several outputs count alike: each number is the mean over the outputs, scikit-learn's
``multioutput="uniform_average"``; `rmse` is the root of that mean.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from xpnet.support.errors import ShapeError
from xpnet.training.metrics.sums import NumPyArray, mean, precise, total, weights_of


def mae(t: Any, Y: Any, sample_weight: Any = None) -> float:
    """Return mean abs(y - t), in the unit of the targets."""
    return mean(np.abs(_errors(t, Y)), sample_weight)


def mse(t: Any, Y: Any, sample_weight: Any = None) -> float:
    """Return mean (y - t)²"""
    return mean(np.abs(_errors(t, Y)) ** 2, sample_weight)


def rmse(t: Any, Y: Any, sample_weight: Any = None) -> float:
    """Return √ mean (y - t)², in the unit of the targets."""
    return sqrt(mse(t, Y, sample_weight))


def r2(t: Any, Y: Any, sample_weight: Any = None) -> float:
    """Return R² = 1 - Σ w (y - t)² / Σ w (t - t̄)²: the share of the variance that is explained.

    t̄ is the weighted mean. Of several outputs it is the mean of their R². Where all targets of an
    output are equal, its R² is 1 for a perfect fit, else 0, as in scikit-learn.
    """
    errors = np.abs(_errors(t, Y)) ** 2
    t, w = precise(np.asarray(t)).reshape(errors.shape), weights_of(sample_weight, len(errors))
    found = [_r2(t[:, j], errors[:, j], w) for j in range(errors.shape[1])]
    return total(found) / len(found)


def _r2(t: NumPyArray, errors: NumPyArray, w: NumPyArray) -> float:
    """Return R² of one output."""
    spread = total(w * (t - total(w * t) / total(w)) ** 2) if np.ptp(t) else 0.0
    rest = total(w * errors)
    return 1 - rest / spread if spread else float(rest == 0)


def _errors(t: Any, Y: Any) -> NumPyArray:
    """Return y - t in float64, shape (n, outputs)."""
    t, Y = precise(np.asarray(t)), precise(np.asarray(Y))
    if t.size != Y.size or len(t) != len(Y):
        raise ShapeError(f"targets of shape {t.shape} and outputs of shape {Y.shape} do not fit")
    return np.asarray(Y - t.reshape(Y.shape)).reshape(len(Y), -1)
