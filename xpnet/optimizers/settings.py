"""Numbers of an optimizer that can be changed during a training, such as β₁ of Adam."""

from __future__ import annotations

from typing import Any


def number(name: str) -> Any:
    """Return an attribute that reads and sets one number of ``optimizer.options``.

    A primitive takes its numbers as one tuple, ``options``, which is made once and not in each
    step. Whoever changes a number makes a new tuple. The optimizer counts such ``changes``: that
    count is one of the settings for which `Trainer` records its steps anew.
    """

    def get(optimizer: Any) -> Any:
        return getattr(optimizer.options, name)

    def put(optimizer: Any, value: Any) -> None:
        optimizer.options = optimizer.options._replace(**{name: value})
        optimizer.changes += 1

    return property(get, put)
