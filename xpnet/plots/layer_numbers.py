"""What the pictures show of the layers of a network, as numbers: sizes, weights and norms."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from xpnet.layers import Layer, Linear
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.plots.numbers import Floats, as_seen, finite, samples_and_targets
from xpnet.support.errors import OptionError
from xpnet.training.recording import Recorder

PROBE = 512  # samples on which the norms are computed


@dataclass
class Column:
    """The units of one layer in a picture of the network, and the lines of text below them."""

    units: int
    lines: list[str]


def columns(net: Sequential) -> list[Column]:
    """Return a column for the input, and one for each layer with parameters.

    Raises
    ------
    OptionError
        If the shape of a sample is not known: the network has seen none, and has no Linear layer.
    """
    shape = _shape_of_a_sample(net)
    found = [Column(prod(shape), ["input", _times(shape)])]
    for block in _blocks(net):
        for _, layer in block:
            shape = layer.output_shape(shape) or ()
        size = sum(layer.size for _, layer in block)
        kinds = [type(layer).__name__ for _, layer in block]
        found.append(Column(prod(shape), [*kinds, _times(shape), f"{size:,} parameters"]))
    return found


def _shape_of_a_sample(net: Sequential) -> tuple[int, ...]:
    """Return the shape of what the network has seen, or of what its first Linear layer takes."""
    linear = [layer for _, layer in net.walk("") if isinstance(layer, Linear)]
    if net.sample_shape is None and not linear:
        raise OptionError(
            f"the shape of a sample is not known: {net!r} has seen none yet; call net.predict(X) "
            "first"
        )
    return net.sample_shape or (linear[0].n_in,)


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


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
    """The norms of gradients and activations over a training.

    Each row is a moment. Each column is a layer with parameters, together with the layers without
    parameters that follow it; ``names`` has their names. ``gradients`` is √ Σ g² over the
    parameters, ``activations`` is √ mean y² over the outputs.
    """

    epochs: list[float]
    names: list[str]
    gradients: Floats
    activations: Floats


def norms_of_layers(recorder: Recorder, X: Any, t: Any) -> Norms:
    """Return the norms at each moment of a training, on the first 512 samples."""
    X, t = (a[:PROBE] for a in samples_and_targets(X, t))
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
    """Return the layers in groups. Each group begins with a layer that has parameters."""
    blocks: list[list[tuple[str, Layer]]] = []
    for path, layer in net.walk(""):
        if not blocks or (layer.size and any(other.size for _, other in blocks[-1])):
            blocks.append([])
        blocks[-1].append((path, layer))
    return blocks


def _activation_norms(net: Sequential, X: Any) -> list[float]:
    Y = net.xp.asarray(as_seen(X), net.dtype)
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
