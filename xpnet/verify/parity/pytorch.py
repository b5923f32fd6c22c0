"""The layers and losses written in PyTorch, whose autograd shares no line of code with xpnet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.layers import (
    GELU,
    BatchNorm1d,
    Dropout,
    Flatten,
    Identity,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from xpnet.layers.base import Layer
from xpnet.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Huber,
    Loss,
    MeanSquaredError,
    Poisson,
    SoftmaxCrossEntropy,
)
from xpnet.network import Sequential
from xpnet.verify.parity.values import LOSS, Host, Key, Values


def without_twin(layer: Layer, loss: Loss) -> list[str]:
    """Return the layers, and the loss, that `LAYER_TWINS` and `LOSS_TWINS` do not have."""
    ours = [] if type(loss) in LOSS_TWINS and not _has_options(loss) else [repr(loss)]
    return list(dict.fromkeys([repr(part) for part in _strangers(layer)] + ours))


def _strangers(layer: Layer) -> list[Layer]:
    if type(layer) is Sequential:
        return [stranger for part in layer for stranger in _strangers(part)]
    return [] if type(layer) in LAYER_TWINS else [layer]


def _has_options(loss: Loss) -> bool:
    """Return True if the loss has options that its twin does not know."""
    plain = {"label_smoothing": 0.0, "ignore_index": None, "pos_weight": None, "reduction": "mean"}
    return any(repr(getattr(loss, name, value)) != repr(value) for name, value in plain.items())


def autograd(layers: dict[str, Layer], loss: Loss, X: Host, t: Host, weight: Any) -> Values:
    """Return the loss and all gradients from autograd, with the dropout masks of the pass.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    """
    import torch

    leaves: dict[Key, Any] = {}
    Y = torch.tensor(X, requires_grad=True)  # a leaf even without parameters
    for path, layer in layers.items():
        values = {p: torch.tensor(getattr(layer, p), requires_grad=True) for p in layer.parameters}
        leaves |= {("backward", path, p): value for p, value in values.items()}
        Y = LAYER_TWINS[type(layer)](torch, layer, Y, values)
    losses = LOSS_TWINS[type(loss)](torch, loss, Y, _targets(torch, loss, t, Y))
    losses = losses.mean(dim=1) if loss.mean_over_outputs else losses.sum(dim=1)
    w = torch.tensor(np.ones(len(Y)) if weight is None else np.ravel(weight))
    value = (w * losses).sum() / w.sum()
    value.backward()
    return {LOSS: value.detach().numpy()} | {key: a.grad.numpy() for key, a in leaves.items()}


def _targets(torch: Any, loss: Loss, t: Host, Y: Any) -> Any:
    """Return the targets in the shape of the outputs, labels as one-hot rows."""
    if loss.distribution and t.ndim == 1:
        return torch.tensor(np.eye(Y.shape[1])[t])
    return torch.tensor(t.reshape(Y.shape).astype(np.float64))


def _linear(torch: Any, layer: Any, X: Any, p: Any) -> Any:
    return X @ p["W"] + p["b"] if layer.bias else X @ p["W"]


def _normalization(torch: Any, layer: Any, X: Any, p: Any) -> Any:
    if layer.axis == 0 and layer.state and not layer.training:
        mu, variance = (torch.tensor(np.array(layer.state[s])) for s in ("mean", "variance"))
    else:
        mu = X.mean(dim=layer.axis, keepdim=True)
        variance = ((X - mu) ** 2).mean(dim=layer.axis, keepdim=True)
    return p.get("gamma", 1.0) * (X - mu) / torch.sqrt(variance + layer.eps) + p.get("beta", 0.0)


def _dropout(torch: Any, layer: Any, X: Any, p: Any) -> Any:
    return X * torch.tensor(np.array(layer.M[: len(X)])) if layer.training else X


def _bce(torch: Any, loss: Any, Y: Any, T: Any) -> Any:
    if loss.from_logits:
        with_logits = torch.nn.functional.binary_cross_entropy_with_logits
        return with_logits(Y, T, reduction="none")
    return -T * torch.log(Y + loss.eps) - (1 - T) * torch.log(1 - Y + loss.eps)


LAYER_TWINS: dict[type[Layer], Callable[[Any, Any, Any, Any], Any]] = {
    Linear: _linear,
    BatchNorm1d: _normalization,
    LayerNorm: _normalization,
    Dropout: _dropout,
    ReLU: lambda torch, layer, X, p: torch.relu(X),
    LeakyReLU: lambda torch, layer, X, p: torch.where(X > 0, X, layer.slope * X),
    Sigmoid: lambda torch, layer, X, p: torch.sigmoid(X),
    Tanh: lambda torch, layer, X, p: torch.tanh(X),
    GELU: lambda torch, layer, X, p: torch.nn.functional.gelu(X, approximate=layer.approximate),
    Softmax: lambda torch, layer, X, p: torch.softmax(X, dim=1),
    Identity: lambda torch, layer, X, p: X,
    Flatten: lambda torch, layer, X, p: torch.flatten(X, 1),
}
LOSS_TWINS: dict[type[Loss], Callable[[Any, Any, Any, Any], Any]] = {
    MeanSquaredError: lambda torch, loss, Y, T: (Y - T) ** 2,
    Huber: lambda torch, loss, Y, T: torch.nn.functional.huber_loss(
        Y, T, delta=loss.delta, reduction="none"
    ),
    Poisson: lambda torch, loss, Y, T: torch.exp(Y) - T * Y + torch.special.xlogy(T, T) - T,
    BinaryCrossEntropy: _bce,
    CrossEntropy: lambda torch, loss, Y, T: -T * torch.log(Y + loss.eps),
    SoftmaxCrossEntropy: lambda torch, loss, Y, T: -T * torch.log_softmax(Y, dim=1),
}
