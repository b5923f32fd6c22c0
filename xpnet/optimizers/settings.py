"""What a user may set on an optimizer: each value is checked, and takes effect in the next step."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isclass, signature
from typing import Any

from xpnet.optimizers.rates import rate_of
from xpnet.schedules import Constant
from xpnet.support.attributes import Checked
from xpnet.support.checks import positive
from xpnet.support.errors import OptionError


class Number:
    """An attribute that reads and sets one number of ``optimizer.options``.

    A primitive takes its numbers as one tuple, ``options``, which is made once and not in each
    step. Whoever changes a number makes a new tuple. The optimizer counts such ``changes``: that
    count is one of the settings for which `Trainer` records its steps anew.
    """

    def __init__(self, name: str, check: Callable[[str, Any], Any]) -> None:
        self.name, self.check = name, check

    def __set_name__(self, owner: type, name: str) -> None:
        self.attribute = name

    def __get__(self, optimizer: Any, kind: type) -> Any:
        return self if optimizer is None else getattr(optimizer.options, self.name)

    def __set__(self, optimizer: Any, value: Any) -> None:
        value = self.check(self.attribute, value)
        optimizer.options = optimizer.options._replace(**{self.name: value})
        optimizer.changes += 1
        optimizer.make_missing()


class Setting(Checked):
    """A number that `effective_gradient` reads, and may need an array for."""

    def __set__(self, thing: Any, value: Any) -> None:
        vars(thing)[self.name] = self.check(self.name, value)
        thing.make_missing()


class LearningRate:
    """The learning rate as a function of the step; a number becomes `schedules.Constant`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, optimizer: Any, value: Any) -> None:
        if isclass(value):
            raise OptionError(
                f"lr is the class {value.__name__}; give a number or an object of it, such as "
                "xpnet.schedules.Cosine(0.1, steps=1000)"
            )
        value = value if callable(value) else Constant(value)
        rate_of(value, vars(optimizer).get("t", 0))
        vars(optimizer)[self.name] = value
        if "version" in vars(optimizer):
            optimizer._fill_table()


def positive_or_none(name: str, value: Any) -> float | None:
    """Return None or a finite number above 0, else raise OptionError."""
    return None if value is None else positive(name, value)


def numbers_of(optimizer: Any) -> dict[str, Any]:
    """Return the numbers that decide about each update, but for the learning rate, by name.

    The names are those of the arguments that make the optimizer, and further public attributes.
    """
    made_of = list(signature(type(optimizer).__init__).parameters)[1:]
    own = [name for name in vars(optimizer) if not name.startswith("_")]
    found = {
        name: getattr(optimizer, name)
        for name in dict.fromkeys([*made_of, "weight_decay", "clip_norm", *own])
        if name not in STATE and hasattr(optimizer, name)
    }
    return {k: v for k, v in found.items() if v is None or isinstance(v, bool | int | float)}


STATE = {"net", "lr", "t", "version", "scheduled", "changes"}  # no settings, though public
