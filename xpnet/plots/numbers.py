"""What the pictures show of the outputs of a network, as numbers.

`xpnet.plots` draws them, and the report of a run holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.layers import Layer, Sigmoid, Softmax
from xpnet.network import Sequential
from xpnet.network.checks import read_batch
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError, ShapeError
from xpnet.training.recording import Recorder

Floats = NDArray[np.float64]
HUGE = 1e30  # beyond all axes
MOST_CLASSES = 4000  # of a confusion matrix, which then has 128 MB


def finite(values: Any) -> Floats:
    """Return the values as finite numbers: NaN is 0, and larger ones end at ±1e30.

    The values of a training that diverges can be shown, too.
    """
    return np.clip(np.nan_to_num(np.asarray(values, np.float64)), -HUGE, HUGE)


def samples_and_targets(X: Any, t: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return samples and targets on the host.

    Raises
    ------
    ShapeError
        If there are not as many targets as samples.
    """
    X, t = on_host(X, "X"), on_host(t, "t")
    if X.shape[:1] != t.shape[:1]:
        raise ShapeError(f"each sample needs a target; X has the shape {X.shape}, t {t.shape}")
    return X, t


def as_seen(X: Any) -> NDArray[Any]:
    """Return samples on the host as a network sees them: pixels k as k/255."""
    X = read_batch(X, np.dtype(np.float64))
    return np.asarray(X / 255 if X.dtype == np.uint8 else X)


def evenly_spaced(n: int, most: int) -> list[int]:
    """Return at most ``most`` of the numbers 0 ... n - 1, evenly spaced, with both ends."""
    return sorted({round(k) for k in np.linspace(0, n - 1, min(n, most)).tolist()})


def outputs(net: Sequential, X: Any) -> Floats:
    """Return the outputs of a network as finite numbers."""
    with np.errstate(all="ignore"):
        return finite(net.predict(on_host(X, "X")))


def probabilities(net: Sequential, X: Any) -> Floats:
    """Return the probability of each class, shape (n, classes).

    Outputs of a network that ends with Sigmoid or Softmax are probabilities; others are scores,
    and Sigmoid or Softmax is applied to them. One output is the probability of class 1.
    """
    Y, last = outputs(net, X), _last_layer(net)
    if Y.shape[1] == 1:
        P = Y if isinstance(last, Sigmoid) else 1 / (1 + np.exp(-np.clip(Y, -700, 700)))
        return np.hstack([1 - P, P])
    if isinstance(last, Sigmoid | Softmax):
        return Y
    E = np.exp(Y - Y.max(axis=1, keepdims=True))
    return np.asarray(E / E.sum(axis=1, keepdims=True))


def _last_layer(net: Sequential) -> Layer:
    return net.walk("")[-1][1]


def labels_of(t: Any) -> NDArray[np.int64]:
    """Return the class of each target: a label is the class, a one-hot row has its 1 there."""
    labels = on_host(t, "t")
    if labels.ndim == 2 and labels.shape[1] > 1:
        labels = labels.argmax(axis=1)
    return labels.reshape(len(labels)).astype(np.int64)


@dataclass
class Mistake:
    """A sample whose class is not the one with the largest probability."""

    sample: int
    true: int
    predicted: int
    confidence: float


def mistakes(net: Sequential, X: Any, t: Any) -> list[Mistake]:
    """Return all mistakes, with the most confident first."""
    X, t = samples_and_targets(X, t)
    P, labels = probabilities(net, X), labels_of(t)
    predicted = P.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-P[wrong, predicted[wrong]], kind="stable")]
    return [
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(P[i, predicted[i]])) for i in order
    ]


def confusion_matrix(net: Sequential, X: Any, t: Any, classes: int) -> NDArray[np.int64]:
    """Return how many samples of each class (rows) were taken for each class (columns).

    Raises
    ------
    DataError
        If the matrix would not fit into a picture, nor perhaps into the memory.
    """
    if classes > MOST_CLASSES:
        raise DataError(
            f"a confusion matrix has at most {MOST_CLASSES} classes; the labels and outputs have "
            f"{classes}; count the pairs that occur, numpy.unique([t, "
            "net.predict(X).argmax(axis=1)], axis=1, return_counts=True)"
        )
    X, t = samples_and_targets(X, t)
    labels, predicted = labels_of(t), probabilities(net, X).argmax(axis=1)
    known = (labels >= 0) & (np.maximum(labels, predicted) < classes)
    places = labels[known] * classes + predicted[known]
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def metrics_at(
    recorder: Recorder, moments: Sequence[int], X: Any, t: Any
) -> dict[str, list[float]]:
    """Return the trainer's metrics on some data at some moments of the training."""
    X, t, found = on_host(X, "X"), on_host(t, "t"), recorder.trainer.metrics
    with np.errstate(all="ignore"):
        given = (
            outputs(recorder.network(k), X) for k in moments
        )  # not all at once: of many classes
        rows = [[f(t, Y) for f in found.values()] for Y in given]
    columns = finite(rows).reshape(len(rows), len(found)).T
    return dict(zip(found, columns.tolist(), strict=True))
