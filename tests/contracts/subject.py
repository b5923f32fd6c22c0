"""A kind of object whose arguments and attributes are tried one by one, by the same rules."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from contracts.trial import Trial, once, quietly

NONSENSE = object()
UNSAID = object()
PLAIN: dict[Any, Callable[[], Any]] = {}  # the outcomes without a change
GIVEN = "given at first"
BEFORE = "assigned before use"
BETWEEN = "assigned after use"
WAYS = (GIVEN, BEFORE, BETWEEN, "other types", "nonsense")


@dataclass(frozen=True)
class New:
    """A value that is made anew for each trial."""

    make: Callable[[], Any]


def told(value: Any) -> Any:
    """Return the value that is meant."""
    return value.make() if isinstance(value, New) else value


@dataclass(frozen=True)
class Subject:
    """How to make an object, use it a first time, and see what comes out.

    Attributes
    ----------
    room, name : str
        The heading in the table, and the name of the object.
    make : callable
        Called with keyword arguments; returns the object.
    use : callable
        Called with the object: uses it as one does, so that all that it needs has been made.
    outcome : callable
        Called with the object: uses it once more and returns all that can be seen of it.
    arguments : type or function
        Whose signature has the arguments.
    given : dict
        What is given at first, such as ``{"n": 4}``.
    other : dict
        Another right value for an argument or an attribute.
    fixed : dict of str to str
        Names that are not tried, each with the reason.
    context : dict of str to dict
        What else is given where a name is tried: what it needs to have an effect.
    right : dict of str to tuple of str
        For a name, the labels of values that are right or mean something else: -1 is a slope.
    """

    room: str
    name: str
    make: Callable[..., Any]
    use: Callable[[Any], Any]
    outcome: Callable[[Any], Any]
    arguments: Callable[..., Any]
    given: Mapping[str, Any] = field(default_factory=dict)
    other: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    right: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    target: Callable[[Any], Any] = lambda made: made  # the object that has the attributes
    attributes: bool = True

    # ---- what there is to try --------------------------------------------------------------

    def argument_names(self) -> list[str]:
        """Return the names of the arguments."""
        parameters = inspect.signature(self.arguments).parameters.values()
        kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        return [p.name for p in parameters if p.kind not in kinds and p.name not in self.fixed]

    def attribute_names(self) -> list[str]:
        """Return the names of the public attributes, those of an object that has been used.

        An attribute is public if its docstring or a property says it, or if it is a parameter of a
        layer, its gradient, or an argument. The rest is the memory of a step.
        """
        if not self.attributes:
            return []
        used = self._new("")
        quietly(partial(self.use, used))
        thing = self.target(used)
        kind = type(thing)
        properties = [n for n in dir(kind) if isinstance(getattr(kind, n, None), property)]
        weights = [w for n in getattr(thing, "parameters", ()) for w in (n, f"d{n}")]
        arguments = [n for n in self.argument_names() if n in vars(thing)]
        names = [*arguments, *documented(kind), *properties, *weights]
        return [n for n in dict.fromkeys(names) if n[0] != "_" and n not in self.fixed]

    # ---- the trials ------------------------------------------------------------------------

    def trials(self) -> Iterator[Trial]:
        """Return all trials of this kind of object."""
        arguments, attributes = self.argument_names(), self.attribute_names()
        for name in arguments:
            yield from self._of_argument(name)
        for name in attributes:
            yield from self._of_attribute(name)
        yield self._trial("an unknown argument", GIVEN, xpnet_unknown=1)
        if self.attributes:
            yield from self._assigned("unknwon", 1)

    def _of_argument(self, name: str) -> Iterator[Trial]:
        value = self._other(name)
        yield self._trial(name, GIVEN, **{name: value})
        skipped = self.right.get(name, ())
        for label, same in ((w, v) for w, v in same_in_other_types(value) if w not in skipped):
            trial = self._trial(name, f"other types: {label}", **{name: same})
            yield replace(trial, meant=once(partial(self._made, name, **{name: value})))
        for label, wrong in self._nonsense(name, value):
            yield self._trial(name, f"nonsense: {label}", **{name: wrong})

    def _of_attribute(self, name: str) -> Iterator[Trial]:
        value = self._other(name)
        yield from self._assigned(name, value)
        for label, wrong in self._nonsense(name, value):
            yield self._trial(name, f"nonsense: {label}", assign=wrong, after=True)

    def _assigned(self, name: str, value: Any) -> Iterator[Trial]:
        yield self._trial(name, BEFORE, assign=value, after=False)
        yield self._trial(name, BETWEEN, assign=value, after=True)

    def _nonsense(self, name: str, value: Any) -> Iterator[tuple[str, Any]]:
        """Return values that cannot be meant; None can be, where the signature has it."""
        parameter = inspect.signature(self.arguments).parameters.get(name)
        optional = parameter is not None and (
            "None" in str(parameter.annotation) or parameter.default is None
        )
        skipped = {*self.right.get(name, ()), *(["None"] if optional else [])}
        return ((w, v) for w, v in nonsense_for(value) if w not in skipped)

    def _trial(
        self, name: str, way: str, *, assign: Any = UNSAID, after: bool = False, **given: Any
    ) -> Trial:
        if assign is UNSAID:
            changed = partial(self._made, name, **given)
            plain = partial(self._made, name)
        else:
            changed = partial(self._assign, name, assign, after)
            plain = partial(self._assign, name, UNSAID, after)
        key = (id(self), after and assign is not UNSAID, str(self.context.get(name)))
        if key not in PLAIN:
            PLAIN[key] = once(plain)
        where = self.room, f"{self.name}: {name}", way
        return Trial(*where, changed, PLAIN[key], nonsense=way.startswith("nonsense"))

    # ---- how it is done --------------------------------------------------------------------

    def _new(self, name: str, **arguments: Any) -> Any:
        given = {**self.given, **self.context.get(name, {}), **arguments}
        return self.make(**{name: told(value) for name, value in given.items()})

    def _made(self, name: str, **arguments: Any) -> Any:
        return self.outcome(self._new(name, **arguments))

    def _assign(self, name: str, value: Any, after: bool) -> Any:
        made = self._new(name)
        if after:
            self.use(made)
        if value is not UNSAID:
            setattr(self.target(made), name, told(value))
        return self.outcome(made)

    # ---- values ----------------------------------------------------------------------------

    def _first(self, name: str) -> Any:
        """Return what the argument is when nobody says anything."""
        parameter = inspect.signature(self.arguments).parameters.get(name)
        if name in self.given:
            return self.given[name]
        return (
            NONSENSE
            if parameter is None or parameter.default is parameter.empty
            else (parameter.default)
        )

    def _other(self, name: str) -> Any:
        """Return another right value."""
        if name in self.other:
            return self.other[name]
        value = self._first(name)
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            return value + 1
        if isinstance(value, float):
            return value * 1.5 if value else 0.25
        return 3.0


def documented(kind: type) -> list[str]:
    """Return the names in the sections "Attributes" of a class and its bases."""
    found = []
    for base in kind.__mro__:
        text = inspect.cleandoc(vars(base).get("__doc__") or "")
        section = re.search(r"^Attributes\n-+\n(.*?)(?=^\w.*\n-+$|\Z)", text, re.M | re.S)
        for line in (section[1] if section else "").splitlines():
            if names := re.match(r"(\w+(?:, \w+)*) : ", line):
                found += names[1].split(", ")
    return found


def same_in_other_types(value: Any) -> Iterator[tuple[str, Any]]:
    """Return the same value in other types, each with a label."""
    if isinstance(value, bool):
        yield "np.bool_", np.bool_(value)
        yield "int", int(value)
    elif isinstance(value, int):
        yield "np.int16", np.int16(value)
        yield "float", float(value)
        yield "str", str(value)
        yield "np.array(n)", np.array(value)
    elif isinstance(value, float):
        yield "np.float64", np.float64(value)
        yield "np.array(x)", np.array(value)
        yield "[x]", [value]
        yield "str", str(value)
    elif isinstance(value, str):
        yield "capitals", value.upper()
        yield "bytes", value.encode()


def nonsense_for(value: Any) -> Iterator[tuple[str, Any]]:
    """Return values that cannot be meant, each with a label."""
    yield "'nonsense'", "nonsense"
    yield "object()", NONSENSE
    yield "None", None
    if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)):
        yield "nan", float("nan")
        yield "-1", -1
        yield "{}", {}
