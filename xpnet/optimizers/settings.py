"""Numbers of an optimizer that can be changed during a training, such as β₁ of Adam."""

from __future__ import annotations

from typing import Any


class Setting:
    """An attribute of an optimizer; when it is set, ``options`` is made anew at its next use.

    A primitive takes its numbers as one tuple, ``options``, which is made once and not in each
    step. There is no ``__get__``: the value is in the optimizer itself, where reading it is fast.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, optimizer: Any, value: Any) -> None:
        vars(optimizer)[self.name] = value
        vars(optimizer).pop("options", None)  # a cached property


def setting() -> Any:
    """Return a `Setting`; type checkers see the type that the attribute is declared with."""
    return Setting()
