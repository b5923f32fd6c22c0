"""The optimizers, one to a file; each docstring is the formula of its update."""

from __future__ import annotations

from typing import Any

from xpnet.network import Sequential
from xpnet.optimizers.adam import Adam, AdamW
from xpnet.optimizers.base import Optimizer
from xpnet.optimizers.rmsprop import RMSprop
from xpnet.optimizers.sgd import SGD
from xpnet.schedules import Schedule
from xpnet.support.errors import OptionError
from xpnet.support.messages import look_up

__all__ = ["OPTIMIZERS", "SGD", "Adam", "AdamW", "Optimizer", "RMSprop", "find_optimizer"]


def _momentum(net: Sequential, lr: float | Schedule = 0.1, **options: Any) -> SGD:
    return SGD(net, lr, momentum=0.9, **options)


def _nesterov(net: Sequential, lr: float | Schedule = 0.1, **options: Any) -> SGD:
    return SGD(net, lr, momentum=0.9, nesterov=True, **options)


OPTIMIZERS: dict[str, Any] = {
    "sgd": SGD,
    "momentum": _momentum,
    "nesterov": _nesterov,
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}


def find_optimizer(optimizer: str | Optimizer, net: Sequential, **options: Any) -> Optimizer:
    """Return the optimizer of this name for the network, or ``optimizer`` itself.

    Raises
    ------
    OptionError
        If the name is unknown, or the optimizer belongs to another network.
    """
    if isinstance(optimizer, str):
        made: Optimizer = look_up("optimizer", optimizer, OPTIMIZERS)(net, **options)
        return made
    if not isinstance(optimizer, Optimizer):
        raise OptionError(
            f"no optimizer: {optimizer!r}; write for example xpnet.Adam(net, lr=1e-3)"
        )
    if optimizer.net is not net:
        raise OptionError(f"{optimizer!r} was made for another network")
    return optimizer
