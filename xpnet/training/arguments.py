"""The arguments of `Trainer.fit` that are neither data nor settings of an object."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from inspect import isclass
from typing import Any

from xpnet.support.checks import count
from xpnet.support.errors import OptionError
from xpnet.training.callbacks import Callback, in_order


def checked_epochs(epochs: Any) -> int:
    """Return the number of epochs; ``sys.maxsize`` is the largest, for a training without end."""
    n = count("epochs", epochs)
    if n > sys.maxsize:
        raise OptionError(f"epochs must be at most sys.maxsize, {sys.maxsize}; got {n:.3g}")
    return n


def checked_callbacks(callbacks: Any) -> list[Callback]:
    """Return the callbacks in the order in which they are called.

    Raises
    ------
    OptionError
        If they are not a list of callbacks, or if one is given twice.
    """
    if isinstance(callbacks, Callback):
        raise OptionError(f"callbacks is a list; write callbacks=[{type(callbacks).__name__}(...)]")
    if not isinstance(callbacks, Iterable) or isinstance(callbacks, str):
        raise OptionError(f"callbacks is a list of callbacks; got {callbacks!r:.60}")
    given = list(callbacks)
    for callback in given:
        if isclass(callback) and issubclass(callback, Callback):
            name = callback.__name__
            raise OptionError(f"{name} is a class; write callbacks=[{name}(...)]")
        if sum(other is callback for other in given) > 1:
            raise OptionError(f"{callback!r} is twice among the callbacks; make a second one")
    return in_order(given)
