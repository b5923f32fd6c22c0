"""The optimizers, one to a file; each docstring is the formula of its update."""

from __future__ import annotations

from inspect import Parameter, signature
from typing import Any

from xpnet.network import Sequential
from xpnet.optimizers.adam import Adam, AdamW
from xpnet.optimizers.base import Optimizer
from xpnet.optimizers.rmsprop import RMSprop
from xpnet.optimizers.sgd import SGD
from xpnet.schedules import Schedule
from xpnet.support.errors import OptionError
from xpnet.support.messages import look_up

__all__ = [
    "OPTIMIZERS",
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "default_learning_rate",
    "find_optimizer",
]


def _momentum(net: Sequential, lr: float | Schedule = 0.1, **options: Any) -> SGD:
    return SGD(net, lr, momentum=0.9, **options)


def _nesterov(net: Sequential, lr: float | Schedule = 0.1, **options: Any) -> SGD:
    return SGD(net, lr, momentum=0.9, nesterov=True, **options)


# What makes an optimizer, by the name that a user gives; `xpnet.register` adds a user's own.
OPTIMIZERS: dict[str, Any] = {
    "sgd": SGD,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}


def default_learning_rate(name: str) -> float | Schedule:
    """Return the learning rate of an optimizer if none is given: the default of its ``lr``.

    Raises
    ------
    OptionError
        If the name is unknown, or ``lr`` has no default.
    """
    made = look_up("optimizer", name, OPTIMIZERS)
    lr = signature(made).parameters.get("lr")
    if lr is None or lr.default in (None, Parameter.empty):
        raise OptionError(
            f"the optimizer {name!r} has no default learning rate; give one: lr=0.01 in Python, "
            "--lr 0.01 on the command line"
        )
    default: float | Schedule = lr.default
    return default


def find_optimizer(optimizer: str | Optimizer, net: Sequential, **options: Any) -> Optimizer:
    """Return the optimizer of this name for the network, or ``optimizer`` itself.

    Raises
    ------
    OptionError
        If the name is unknown, if no learning rate is given and the optimizer has no default, or
        if the optimizer belongs to another network.
    """
    if isinstance(optimizer, str):
        make = look_up("optimizer", optimizer, OPTIMIZERS)
        if "lr" not in options:
            default_learning_rate(optimizer)  # raises if there is none
        made: Optimizer = make(net, **options)
        return made
    if not isinstance(optimizer, Optimizer):
        raise OptionError(
            f"no optimizer: {optimizer!r}; write for example xpnet.Adam(net, lr=1e-3)"
        )
    if optimizer.net is not net:
        raise OptionError(f"{optimizer!r} was made for another network")
    return optimizer
