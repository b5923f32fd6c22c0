"""Metrics of classes: how many answers are right.

The outputs are one column, which means class 1 above a threshold; one column for each class, of
which the largest counts; or one column for each of several independent labels.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.support.errors import DataError, ShapeError
from xpnet.training.metrics.sums import NumPyArray, mean, total, weights_of


def accuracy(t: Any, Y: Any, threshold: float = 0.5, independent: bool | None = None,
             sample_weight: Any = None) -> float:  # fmt: skip
    """Return the share of answers that are right.

    Parameters
    ----------
    t : ndarray, shape (n,) or (n, outputs)
        Class numbers, one-hot rows, or 0 and 1 for each of several independent labels.
    Y : ndarray, shape (n, outputs)
        Scores or probabilities.
    threshold : float
        A single output, and each of independent labels, means yes above it.
    independent : bool, optional
        True: the columns are independent labels, and each label of each row counts. False: they are
        classes, and the largest counts. None: classes, if each row of t sums to 1; it must.
    sample_weight : ndarray, shape (n,), optional

    Raises
    ------
    DataError
        If ``independent`` is None and the rows of t do not sum to 1.
    """
    right, given = found(t, Y, threshold, independent)
    same = right == given
    return mean(same if _are_labels(t, Y, independent) else same.all(axis=1), sample_weight)


def exact_match(t: Any, Y: Any, threshold: float = 0.5, independent: bool | None = None,
                sample_weight: Any = None) -> float:  # fmt: skip
    """Return the share of rows of which every label is right: scikit-learn's `accuracy_score`.

    The arguments are those of `accuracy`, which is the same but for independent labels.
    """
    right, given = found(t, Y, threshold, independent)
    return mean((right == given).all(axis=1), sample_weight)


def precision(t: Any, Y: Any, threshold: float = 0.5, independent: bool | None = None,
              sample_weight: Any = None) -> float:  # fmt: skip
    """Return the share of what is found that is right; the arguments are those of `accuracy`.

    One output: that of class 1. Else the mean over the classes or labels, scikit-learn's
    ``average="macro"``. Where nothing is found it is 0.
    """
    hits, in_t, in_Y = _counts(found(t, Y, threshold, independent), sample_weight)
    return _macro(hits, in_Y, in_t + in_Y, _are_classes(t, Y, independent))


def recall(t: Any, Y: Any, threshold: float = 0.5, independent: bool | None = None,
           sample_weight: Any = None) -> float:  # fmt: skip
    """Return the share of what is there that is found; see `precision`."""
    hits, in_t, in_Y = _counts(found(t, Y, threshold, independent), sample_weight)
    return _macro(hits, in_t, in_t + in_Y, _are_classes(t, Y, independent))


def f1(t: Any, Y: Any, threshold: float = 0.5, independent: bool | None = None,
       sample_weight: Any = None) -> float:  # fmt: skip
    """Return the harmonic mean of precision and recall; see `precision`."""
    hits, in_t, in_Y = _counts(found(t, Y, threshold, independent), sample_weight)
    return _macro(2 * hits, in_t + in_Y, in_t + in_Y, _are_classes(t, Y, independent))


def found(
    t: Any, Y: Any, threshold: float = 0.5, independent: bool | None = None
) -> tuple[NumPyArray, NumPyArray]:
    """Return what is there and what is found: two bool arrays, a column for each class or label.

    One output has one column.
    """
    t, Y = np.asarray(t), np.asarray(Y)
    Y = Y.reshape(len(Y), -1)
    n, width = Y.shape
    if len(t) != n or t.size not in (n, n * width):
        raise ShapeError(f"targets of shape {t.shape} and outputs of shape {Y.shape} do not fit")
    if width == 1:
        return t.reshape(n, 1) > 0.5, np.greater(Y, threshold)
    if t.size == n:
        return one_hot(t.reshape(n), width), one_hot(Y.argmax(axis=1), width)
    if independent:
        return t > 0.5, np.greater(Y, threshold)
    if independent is None:
        _require_distributions(t)
    return one_hot(t.argmax(axis=1), width), one_hot(Y.argmax(axis=1), width)


def one_hot(labels: NumPyArray, width: int) -> NumPyArray:
    """Return a row for each label, True at its place."""
    return np.asarray(labels[:, None] == np.arange(width))


def _require_distributions(t: NumPyArray) -> None:
    """Refuse rows that are no classes: for these the largest output would not be the answer."""
    off = np.abs(t.sum(axis=1, dtype=np.float64) - 1) > 1e-2
    if off.any():
        row = int(np.argmax(off))
        raise DataError(
            f"each row of targets must sum to 1, one class; row {row} is {t[row]}. For independent "
            "labels use BinaryCrossEntropy, or a metric with independent=True"
        )


def _are_labels(t: Any, Y: Any, independent: bool | None) -> bool:
    """Return True if each number of a row is an answer of its own."""
    return bool(independent) and np.size(t) == np.size(Y)


def _are_classes(t: Any, Y: Any, independent: bool | None) -> bool:
    """Return True if a row is one of several classes."""
    return np.size(Y) > len(Y) and not _are_labels(t, Y, independent)


def _counts(
    both: tuple[NumPyArray, NumPyArray], sample_weight: Any
) -> tuple[NumPyArray, NumPyArray, NumPyArray]:
    """Return for each column the weights of what is there and found, there, and found."""
    right, given = both
    w = weights_of(sample_weight, len(right))
    columns = range(right.shape[1])
    sums = [[total(w[a[:, j]]) for j in columns] for a in (right & given, right, given)]
    return np.array(sums[0]), np.array(sums[1]), np.array(sums[2])


def _macro(part: NumPyArray, whole: NumPyArray, present: NumPyArray, classes: bool) -> float:
    """Return the mean of part / whole; classes that occur nowhere do not count."""
    shares = [p / w if w else 0.0 for p, w in zip(part.tolist(), whole.tolist(), strict=True)]
    counted = [s for s, there in zip(shares, present, strict=True) if there or not classes]
    return total(counted) / len(counted) if counted else 0.0
