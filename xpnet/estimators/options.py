"""Options of the estimators: what each must be, and the layers that they ask for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import inf
from numbers import Integral
from typing import Any, TypeVar

import numpy as np

from xpnet.estimators.solvers import SOLVERS
from xpnet.layers import GELU, Dropout, Identity, Layer, LeakyReLU, Linear, ReLU, Sigmoid, Tanh
from xpnet.support.checks import at_least_0, count, fraction, positive
from xpnet.support.errors import OptionError
from xpnet.support.messages import look_up, unknown
from xpnet.training.callbacks import in_order

T = TypeVar("T")
LBFGS = "lbfgs"
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
    if not isinstance(model.verbose, bool | np.bool_ | Integral) or model.verbose < 0:
        raise OptionError(f"verbose must be True, False or a whole number; got {model.verbose!r}")
    chosen("solver", model.solver, {**SOLVERS, LBFGS: None})
    chosen("learning_rate", model.learning_rate, LEARNING_RATES)
    for name in ("learning_rate_init", "epsilon"):
        positive(name, getattr(model, name))
    for name in ("alpha", "tol", "power_t"):
        at_least_0(name, getattr(model, name))
    for name in ("momentum", "beta_1", "beta_2", "validation_fraction"):
        fraction(name, getattr(model, name))
    positive("validation_fraction", model.validation_fraction)
    count("max_iter", model.max_iter)
    count("max_fun", model.max_fun)
    if model.n_iter_no_change != inf:
        count("n_iter_no_change", model.n_iter_no_change)
    batch_size(model.batch_size)
    make_layers([1, *hidden_sizes(model.hidden_layer_sizes), 1], model.activation, model.dropout)
    _check_callbacks(model)
    if model.solver == LBFGS:
        _check_lbfgs(model)


def require_known_parameters(model: Any) -> None:
    """Refuse public attributes that are neither parameters nor what `fit` learns.

    Those of a user's subclass may have any names, and so may those that end in "_".
    """
    if type(model).__module__.partition(".")[0] != "xpnet":
        return
    known = model.get_params(deep=False)
    for name in vars(model):
        if name not in known and name[0] != "_" and name[-1] != "_":
            raise OptionError(f"{type(model).__name__}: {unknown('parameter', name, known)}")


def _check_callbacks(model: Any) -> None:
    """Check that the callbacks are some, and that there is what they watch."""
    callbacks = model.callbacks
    if callbacks is None:
        return
    if not isinstance(callbacks, Sequence):  # a generator would be used up here
        raise OptionError(
            f"callbacks must be a list of callbacks or None; got {callbacks!r:.80}; write "
            "callbacks=[...]"
        )
    for callback in in_order(callbacks):
        monitor = getattr(callback, "monitor", "")
        if isinstance(monitor, str) and monitor.startswith("val_") and not model.early_stopping:
            raise OptionError(
                f"callbacks: {type(callback).__name__} watches {monitor!r}, but there are no "
                "validation data; set early_stopping=True, which puts validation_fraction of the "
                "data aside"
            )


def _check_lbfgs(model: Any) -> None:
    """Refuse what L-BFGS, which takes all samples in each step, cannot do."""
    if model.early_stopping:
        raise OptionError(
            "solver='lbfgs' has no epochs that early_stopping=True could stop; choose 'adam' or "
            "'sgd', or leave out early_stopping"
        )
    if model.callbacks:
        raise OptionError("solver='lbfgs' has no epochs that callbacks could see; leave them out")
    if np.any(np.asarray(model.dropout) > 0):
        raise OptionError(
            "solver='lbfgs' needs a loss that is the same each time, and dropout changes the loss; "
            f"set dropout=0 or choose 'adam'; got dropout={model.dropout!r}"
        )


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
