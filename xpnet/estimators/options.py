"""Options of the estimators: what each must be, and the layers and optimizer they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, TypeVar

import numpy as np

from xpnet.layers import GELU, Dropout, Identity, Layer, LeakyReLU, Linear, ReLU, Sigmoid, Tanh
from xpnet.network import Sequential
from xpnet.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xpnet.support.checks import at_least_0, count, fraction, positive
from xpnet.support.errors import OptionError
from xpnet.support.messages import look_up

T = TypeVar("T")
AUTO_BATCH = 200  # scikit-learn's batch_size="auto"
ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "relu": ReLU,
    "tanh": Tanh,
    "logistic": Sigmoid,
    "identity": Identity,
    "gelu": GELU,
    "leaky_relu": LeakyReLU,
}
LEARNING_RATES = {name: name for name in ("constant", "invscaling", "adaptive")}
SWITCHES = ("shuffle", "warm_start", "early_stopping", "nesterovs_momentum")


def check_options(model: Any) -> None:
    """Check all of them, before anything is done.

    Raises
    ------
    OptionError
        Naming the parameter, its value and what it must be.
    """
    for name in SWITCHES:
        if not isinstance(getattr(model, name), bool | np.bool_):
            raise OptionError(f"{name} must be True or False; got {getattr(model, name)!r}")
    chosen("solver", model.solver, SOLVERS)
    chosen("learning_rate", model.learning_rate, LEARNING_RATES)
    for name in ("learning_rate_init", "epsilon"):
        positive(name, getattr(model, name))
    for name in ("alpha", "tol", "power_t"):
        at_least_0(name, getattr(model, name))
    for name in ("momentum", "beta_1", "beta_2", "validation_fraction"):
        fraction(name, getattr(model, name))
    count("max_iter", model.max_iter)
    if model.n_iter_no_change != inf:
        count("n_iter_no_change", model.n_iter_no_change)
    batch_size(model.batch_size)
    make_layers([1, *hidden_sizes(model.hidden_layer_sizes), 1], model.activation, model.dropout)


def chosen(what: str, name: Any, table: Mapping[str, T]) -> T:
    """Return ``table[name]``, also refusing what is no word."""
    return look_up(what, name if isinstance(name, str) else repr(name), table)


def batch_size(value: Any) -> int:
    """Return the most samples in a batch."""
    if isinstance(value, str) and value != "auto":
        raise OptionError(f"batch_size must be 'auto' or a whole number; got {value!r}")
    return AUTO_BATCH if isinstance(value, str) else count("batch_size", value)


def hidden_sizes(value: Any) -> list[int]:
    """Return the width of each hidden layer; a number means one layer."""
    sizes = [value] if np.ndim(value) == 0 else list(value)
    return [count("each of hidden_layer_sizes", size) for size in sizes]


def for_each_layer(name: str, value: Any, layers: int) -> list[Any]:
    """Return one value for each hidden layer, from a list of them or a value for all."""
    if isinstance(value, str) or np.ndim(value) == 0:
        return [value] * layers
    if len(value) != layers:
        raise OptionError(
            f"{name} has {len(value)} values for {layers} hidden layers; got {value!r}"
        )
    return list(value)


def make_layers(sizes: list[int], activation: Any, dropout: Any) -> list[Layer]:
    """Return the layers between so many units each: the last of them gives scores.

    The weights begin as zeros, to be set.
    """
    hidden = len(sizes) - 2
    kinds = [
        chosen("activation", name, ACTIVATIONS)
        for name in for_each_layer("activation", activation, hidden)
    ]
    layers: list[Layer] = []
    for k, p in enumerate(for_each_layer("dropout", dropout, hidden)):
        layers += [Linear(sizes[k], sizes[k + 1], init="zeros"), kinds[k]()]
        layers += [Dropout(p)] if fraction("dropout", p) else []
    return [*layers, Linear(sizes[-2], sizes[-1], init="zeros")]


# ---- the optimizers -----------------------------------------------------------------------------


def _sgd(net: Sequential, lr: float, model: Any) -> Optimizer:
    nesterov = bool(model.nesterovs_momentum) and model.momentum > 0
    return SGD(net, lr, momentum=model.momentum, nesterov=nesterov)


def _rmsprop(net: Sequential, lr: float, model: Any) -> Optimizer:
    return RMSprop(net, lr, eps=model.epsilon)


def _adam(net: Sequential, lr: float, model: Any) -> Optimizer:
    return Adam(net, lr, beta1=model.beta_1, beta2=model.beta_2, eps=model.epsilon)


def _adamw(net: Sequential, lr: float, model: Any) -> Optimizer:
    betas = {"beta1": model.beta_1, "beta2": model.beta_2}
    return AdamW(net, lr, **betas, eps=model.epsilon, weight_decay=model.alpha)


SOLVERS: dict[str, Callable[[Sequential, float, Any], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}


def make_optimizer(net: Sequential, model: Any) -> Optimizer:
    """Return the optimizer that a model asks for."""
    return SOLVERS[model.solver](net, model.learning_rate_init, model)
