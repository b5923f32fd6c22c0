"""What the pictures show, as numbers: the same for `xpnet.plots` and for the report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isqrt, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.layers import Layer, Linear, Sigmoid, Softmax
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.support.checks import on_host
from xpnet.support.errors import OptionError, ShapeError
from xpnet.training.recording import Recorder

Floats = NDArray[np.float64]
HUGE = 1e30  # beyond all axes
PROBE = 512  # samples on which the norms are computed


def finite(values: Any) -> Floats:
    """Return numbers that a picture can show: a training may have run away."""
    return np.clip(np.nan_to_num(np.asarray(values, np.float64)), -HUGE, HUGE)


def pair(X: Any, t: Any) -> tuple[NDArray[Any], NDArray[Any]]:
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


# ---- outputs ----------------------------------------------------------------------------------


def outputs(net: Sequential, X: Any) -> Floats:
    """Return what a network gives, as numbers that a picture can show."""
    with np.errstate(all="ignore"):
        return finite(net.predict(on_host(X, "X")))


def probabilities(net: Sequential, X: Any) -> Floats:
    """Return the probability of each class, shape (n, classes).

    Outputs of a network that ends with Sigmoid or Softmax are probabilities; others are scores,
    and go through the one or the other. One output is the probability of class 1.
    """
    Y, last = outputs(net, X), _last(net)
    if Y.shape[1] == 1:
        P = Y if isinstance(last, Sigmoid) else 1 / (1 + np.exp(-np.clip(Y, -700, 700)))
        return np.hstack([1 - P, P])
    if isinstance(last, Sigmoid | Softmax):
        return Y
    E = np.exp(Y - Y.max(axis=1, keepdims=True))
    return np.asarray(E / E.sum(axis=1, keepdims=True))


def _last(net: Sequential) -> Layer:
    return net.walk("")[-1][1]


def labels_of(t: Any) -> NDArray[np.int64]:
    """Return the class of each target: labels as they are, one-hot rows as their place."""
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
    """Return all mistakes, the most confident first."""
    X, t = pair(X, t)
    P, labels = probabilities(net, X), labels_of(t)
    predicted = P.argmax(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    order = wrong[np.argsort(-P[wrong, predicted[wrong]], kind="stable")]
    return [
        Mistake(int(i), int(labels[i]), int(predicted[i]), float(P[i, predicted[i]])) for i in order
    ]


def confusion_matrix(net: Sequential, X: Any, t: Any, classes: int) -> NDArray[np.int64]:
    """Return how many samples of each class (rows) were taken for each class (columns)."""
    X, t = pair(X, t)
    labels, predicted = labels_of(t), probabilities(net, X).argmax(axis=1)
    known = (labels >= 0) & (np.maximum(labels, predicted) < classes)
    places = labels[known] * classes + predicted[known]
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def some(n: int, most: int) -> list[int]:
    """Return at most so many of the first n whole numbers, the first and the last among them."""
    return sorted({round(k) for k in np.linspace(0, n - 1, min(n, most)).tolist()})


def metrics(recorder: Recorder, moments: Sequence[int], X: Any, t: Any) -> dict[str, list[float]]:
    """Return the trainer's metrics on some data at some moments of the training."""
    X, t, found = on_host(X, "X"), on_host(t, "t"), recorder.trainer.metrics
    with np.errstate(all="ignore"):
        given = [outputs(recorder.network(k), X) for k in moments]
        return {name: finite([f(t, Y) for Y in given]).tolist() for name, f in found.items()}


# ---- the plane --------------------------------------------------------------------------------


def around(x: Floats, margin: float = 0.1) -> tuple[float, float]:
    """Return the ends of an axis that holds all values and a margin, a part of their range."""
    low, high = float(x.min()), float(x.max())
    more = margin * (high - low) or 0.5
    return low - more, high + more


def grid(x1: Floats, x2: Floats) -> Floats:
    """Return the points (x1[j], x2[i]) of a grid, row by row, shape (len(x2) * len(x1), 2)."""
    a, b = np.meshgrid(x1, x2)
    return np.stack([a.ravel(), b.ravel()], axis=1)


def plane(X: Any, resolution: int, margin: float) -> tuple[Floats, Floats]:
    """Return the two axes of a grid around points of two features.

    Raises
    ------
    ShapeError
        If the points do not have two features.
    """
    X = on_host(X, "X")
    if X.ndim != 2 or X.shape[1] != 2:
        raise ShapeError(f"a plane needs samples of 2 features; X has the shape {X.shape}")
    x1, x2 = (np.linspace(*around(column, margin), resolution) for column in X.T)
    return x1, x2


def interpolated(x: Any, y: Any) -> Callable[[Any], Floats]:
    """Return the function that goes straight from each point to the next, NaN beyond them."""
    order, y = np.argsort(x.ravel()), np.ravel(y)
    return lambda at: np.interp(at, x.ravel()[order], y[order], left=np.nan, right=np.nan)


# ---- weights as images ------------------------------------------------------------------------


def image_shape(features: int) -> tuple[int, int]:
    """Return (height, width) of a square image of so many pixels.

    Raises
    ------
    OptionError
        If there is no such square.
    """
    side = isqrt(features)
    if not is_square(features):
        raise OptionError(f"{features} pixels make no square image; give the shape=(height, width)")
    return side, side


def is_square(features: int) -> bool:
    """Tell whether so many pixels make a square image."""
    return isqrt(features) ** 2 == features


def first_weights(net: Sequential) -> Floats:
    """Return the weights of each unit of the first Linear layer, shape (units, features).

    Raises
    ------
    OptionError
        If the network has no Linear layer.
    """
    for path, layer in net.walk(""):
        if isinstance(layer, Linear):
            return net.state_dict()[f"{path}.W"].T.astype(np.float64)
    raise OptionError(f"there are no weights to show: {net!r} has no Linear layer")


# ---- norms, layer by layer --------------------------------------------------------------------


@dataclass
class Norms:
    """How large gradients and activations are over a training.

    A row is a moment, a column a layer with parameters, together with the layers without that
    follow: ``names``. ``gradients`` is √ Σ g² over the parameters of the layer, ``activations``
    √ mean y² over its outputs.
    """

    epochs: list[float]
    names: list[str]
    gradients: Floats
    activations: Floats


def norms(recorder: Recorder, X: Any, t: Any) -> Norms:
    """Return the norms at each moment of a training, always on the first 512 of the samples."""
    X, t = (a[:PROBE] for a in pair(X, t))
    loss = deepcopy(recorder.trainer.loss)
    blocks = _blocks(recorder.trainer.net)
    names = [", ".join(repr(layer) for _, layer in block) for block in blocks]
    found = Norms([*recorder.epochs], names, *np.zeros((2, len(recorder.epochs), len(blocks))))
    for k, net in enumerate(recorder.networks()):
        with net.evaluating(), np.errstate(all="ignore"):
            found.activations[k] = finite(_activation_norms(net, X))
            found.gradients[k] = finite(_gradient_norms(net, loss, X, t))
    return found


def _blocks(net: Sequential) -> list[list[tuple[str, Layer]]]:
    """Return the layers in groups: each begins with one that has parameters."""
    blocks: list[list[tuple[str, Layer]]] = []
    for path, layer in net.walk(""):
        if not blocks or (layer.size and any(other.size for _, other in blocks[-1])):
            blocks.append([])
        blocks[-1].append((path, layer))
    return blocks


def _activation_norms(net: Sequential, X: Any) -> list[float]:
    Y = net.xp.asarray(X / 255 if X.dtype == np.uint8 else X, net.dtype)
    net.forward(Y)  # makes the buffers
    found = []
    for block in _blocks(net):
        for _, layer in block:
            Y = layer.forward(Y)
        found.append(float(np.sqrt(np.mean(np.square(net.xp.asnumpy(Y), dtype=np.float64)))))
    return found


def _gradient_norms(net: Sequential, loss: Loss, X: Any, t: Any) -> list[float]:
    xp = net.xp
    loss.forward(net.forward(xp.asarray(X)), xp.asarray(t))
    net.backward(loss.backward())
    grads, start, found = np.asarray(xp.asnumpy(net.grads), np.float64), 0, []
    for block in _blocks(net):
        size = sum(layer.size for _, layer in block)
        found.append(float(np.linalg.norm(grads[start : start + size])))
        start += size
    return found


# ---- the network itself -----------------------------------------------------------------------


@dataclass
class Column:
    """The units of one layer, with what is written below them: ``units`` values of ``shape``."""

    units: int
    lines: list[str]


def columns(net: Sequential) -> list[Column]:
    """Return the input and then each layer with parameters, with those without that follow.

    Raises
    ------
    OptionError
        If the shape of a sample is not known: the network has seen none, and has no Linear layer.
    """
    layers = [layer for _, layer in net.walk("")]
    shape = net.sample_shape or next(
        ((layer.n_in,) for layer in layers if isinstance(layer, Linear)), None
    )
    if shape is None:
        raise OptionError(f"the shape of a sample is not known: {net!r} has seen none yet")
    found = [Column(prod(shape), ["input", _times(shape)])]
    for block in _blocks(net):
        for _, layer in block:
            shape = layer.output_shape(shape)
        assert shape is not None
        size = sum(layer.size for _, layer in block)
        kinds = [type(layer).__name__ for _, layer in block]
        found.append(Column(prod(shape), [*kinds, _times(shape), f"{size:,} parameters"]))
    return found


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))
