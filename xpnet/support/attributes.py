"""Attributes that a user assigns: each takes effect, or is refused by name.

`require_known` finds names that nothing reads. `Checked` and `Fixed` are descriptors that define
``__set__`` and not ``__get__``: an assignment goes through them, and reading takes the value from
the object at the usual speed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType
from typing import Any

from xpnet.support.errors import OptionError
from xpnet.support.messages import unknown


def require_known(thing: Any) -> None:
    """Raise OptionError if somebody has given an object a public name that nothing reads.

    Such as ``net.learning_rate = 1``. An object of a class that is not xpnet's may have any names.
    It is called where an object is used, and not in ``__setattr__``, which would slow each step.
    """
    kind: type = type(thing)
    if kind.__module__.partition(".")[0] != "xpnet":
        return
    known = names_of(kind)
    for name in list(vars(thing)):  # another thread may add some
        if name not in known and not name.startswith("_"):
            settings = [n for n in vars(thing) if n in known and not n.startswith("_")]
            who = kind.__name__ if repr(thing).startswith("<") else repr(thing)
            raise OptionError(f"{who}: {unknown('attribute', name, settings)}")


def require_known_in(net: Any) -> None:
    """Check the names of a network and of its layers, where their number has changed since."""
    things = [net, *(layer for _, layer in net.walk(""))]
    number = sum([len(vars(thing)) for thing in things])
    if number != net._number_of_names:
        for thing in things:
            require_known(thing)
        net._number_of_names = number


@cache
def names_of(kind: type) -> frozenset[str]:
    """Return the names that a class has, and those that its methods and its bases' read or set."""
    functions = [f for base in kind.__mro__ for v in vars(base).values() for f in _functions(v)]
    used = {name for f in functions for code in _codes(f.__code__) for name in code.co_names}
    annotated = {name for base in kind.__mro__ for name in vars(base).get("__annotations__", ())}
    foreign = {n for base in kind.__mro__ for n, v in vars(base).items() if isinstance(v, Foreign)}
    return frozenset({*dir(kind), *used, *annotated} - foreign)


def _functions(value: Any) -> list[FunctionType]:
    """Return the functions in an entry of a class: a method, or the parts of a property."""
    parts = (value, *(getattr(value, name, None) for name in ("fget", "fset", "__func__")))
    return [part for part in parts if isinstance(part, FunctionType)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield a code and those of the functions in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


class _SetOnly:
    """A descriptor that looks at what is assigned."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name


class Checked(_SetOnly):
    """An attribute whose values are checked: each assignment keeps ``check(name, value)``.

    The name is that of the class and the attribute, such as ``"Dropout: p"``.
    """

    def __init__(self, check: Callable[[str, Any], Any]) -> None:
        self.check = check

    def __set__(self, thing: Any, value: Any) -> None:
        vars(thing)[self.name] = self.check(f"{type(thing).__name__}: {self.name}", value)


class Fixed(_SetOnly):
    """An attribute that is set once: what has been made after it depends on it."""

    def __set__(self, thing: Any, value: Any) -> None:
        own = vars(thing)
        kept = own.get(self.name, value)
        if type(value) is not type(kept) or kept != value:  # an array is never equal
            raise OptionError(
                f"{self.name} of {thing!r} cannot be changed to {value!r:.60}; "
                f"make a new {type(thing).__name__}"
            )
        own[self.name] = value


class Managed(_SetOnly):
    """An attribute that only methods change: the way out says which."""

    def __init__(self, way_out: str) -> None:
        self.way_out = way_out

    def __set__(self, thing: Any, value: Any) -> None:
        raise OptionError(f"{self.name} of {thing!r:.60} cannot be assigned; {self.way_out}")


class Foreign(_SetOnly):
    """The name that another library gives to something: reading or setting it says ours.

    A class that somebody derives may use the name for something else.
    """

    def __init__(self, ours: str) -> None:
        self.ours = ours

    def __get__(self, thing: Any, kind: type) -> Any:
        if thing is not None and self.name in vars(thing):
            return vars(thing)[self.name]
        raise AttributeError(f"{kind.__name__} has no attribute {self.name!r}; {self.ours}")

    def __set__(self, thing: Any, value: Any) -> None:
        kind: type = type(thing)
        if kind.__module__.partition(".")[0] == "xpnet":
            raise OptionError(f"{self.name} of {thing!r:.60} cannot be set; {self.ours}")
        vars(thing)[self.name] = value


def completed(kind: type, state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a pickle; an option that is newer than the pickle has its default."""
    new = {
        p.name: p.default
        for p in inspect.signature(kind).parameters.values()
        if p.default is not p.empty and isinstance(getattr(kind, p.name, None), Checked | Fixed)
    }
    return new | state
