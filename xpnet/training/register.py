"""Layers, losses and optimizers of a user's own, under a name as those of the library have.

A registered class is found by its name in ``Trainer(net, "focal", "lion")``, by `xpnet.load`, and
on the command line, where ``--extend FILE`` runs the user's file that registers it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import Parameter, isclass, signature
from typing import Any, TypeVar, overload

from xpnet.layers import ACTIVATIONS, LAYERS, Layer
from xpnet.losses import LOSSES, Loss
from xpnet.network import Sequential
from xpnet.optimizers import OPTIMIZERS, Optimizer
from xpnet.support.errors import OptionError

Class = TypeVar("Class", bound=type[Any])
# What a class must define; behind it the methods of the base that call it, any of which will do.
NEEDED: dict[type[Any], list[tuple[str, ...]]] = {
    Layer: [("forward",), ("backward",)],
    Loss: [("elements", "forward"), ("slope", "backward")],
    Optimizer: [("update", "descend", "step")],
}


@overload
def register(thing: Class, name: str | None = None) -> Class: ...


@overload
def register(thing: None = None, name: str | None = None) -> Callable[[Class], Class]: ...


def register(thing: Any = None, name: str | None = None) -> Any:
    """Give a layer, a loss or an optimizer of your own a name.

    A layer is then known to `xpnet.load` and, if it can be made without arguments, is an activation
    of the command line. A loss and an optimizer can be named where those of the library can.
    A class that is defined again, as in a notebook, takes the place of its former self.

    Parameters
    ----------
    thing : type
        A subclass of `Layer`, `Loss` or `Optimizer`. Without it the result is a decorator.
    name : str, optional
        The name; by default that of the class in small letters. In a file a layer always has the
        name of its class.

    Returns
    -------
    type
        The class itself.

    Raises
    ------
    OptionError
        If it is not such a class, if it lacks a method, if it cannot be made with the arguments
        that it would get, or if another class has the name.

    Examples
    --------
    ::

        @xpnet.register
        class Swish(xpnet.Layer): ...

        @xpnet.register(name="log_cosh")
        class LogCosh(xpnet.Loss): ...

        trainer = xpnet.Trainer(net, "log_cosh", "adam")
    """
    return partial(_register, name=name) if thing is None else _register(thing, name)


def _register(thing: Any, name: str | None) -> Any:
    """Check a class and its name, and put the class into the tables."""
    _check_class(thing)
    chosen = thing.__name__.lower() if name is None else name
    if not isinstance(chosen, str) or not chosen.isidentifier():
        raise OptionError(f"a registered name is letters, digits and _, as swish2; got {chosen!r}")
    if name is not None and issubclass(thing, Layer) and not _needs_no_arguments(thing):
        raise OptionError(
            f"{thing.__name__} needs arguments, so it cannot be the activation {name!r}; leave out "
            "the name, or give each argument of its __init__ a default"
        )
    _check_complete(thing)
    for what, table, key in _entries(thing, chosen):
        _check_free(what, table.get(key), key, thing)
    for _, table, key in _entries(thing, chosen):
        table[key] = thing
    return thing


def _check_class(thing: Any) -> None:
    """Raise OptionError unless it is a class of a user's that can have a name."""
    if not isclass(thing) or not issubclass(thing, Layer | Loss | Optimizer):
        raise OptionError(
            "register takes a subclass of xpnet.Layer, xpnet.Loss or xpnet.Optimizer; "
            f"got {thing!r:.80}" + ("" if isclass(thing) else ", which is not a class")
        )
    if thing in (Layer, Loss, Optimizer) or issubclass(thing, Sequential):
        raise OptionError(f"register takes a layer, a loss or an optimizer; got {thing.__name__}")
    if issubclass(thing, Loss) and not _needs_no_arguments(thing):
        raise OptionError(
            f"a loss that has a name is made without arguments: give each argument of "
            f"{thing.__name__}.__init__ a default"
        )
    if issubclass(thing, Optimizer) and not _takes_learning_rate(thing):
        raise OptionError(
            f"an optimizer that has a name is made as {thing.__name__}(net, lr=0.01): its __init__ "
            "needs an argument lr"
        )


def _check_complete(thing: type[Any]) -> None:
    """Raise OptionError if the class does not define what it must."""
    missing = [
        names[0]
        for base, needed in NEEDED.items()
        if issubclass(thing, base)
        for names in needed
        if all(getattr(thing, name) is getattr(base, name) for name in names)
    ]
    if missing:
        raise OptionError(f"{thing.__name__} does not define {' and '.join(missing)}")


def _needs_no_arguments(kind: type[Any]) -> bool:
    """Return True if ``kind()`` makes an object."""
    optional = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    return all(
        p.default is not Parameter.empty or p.kind in optional
        for p in signature(kind).parameters.values()
    )


def _takes_learning_rate(kind: type[Any]) -> bool:
    """Return True if ``kind(net, lr=0.01)`` makes an object."""
    try:
        signature(kind).bind(None, lr=0.01)
    except TypeError:
        return False
    return True


def _entries(thing: type[Any], name: str) -> list[tuple[str, dict[str, Any], str]]:
    """Return what the class is, the tables that it goes into, and its name in each."""
    if issubclass(thing, Optimizer):
        return [("optimizer", OPTIMIZERS, name)]
    if issubclass(thing, Loss):
        return [("loss", LOSSES, name)]
    entries: list[tuple[str, dict[str, Any], str]] = [("layer", LAYERS, thing.__name__)]
    if _needs_no_arguments(thing):
        entries.append(("activation", ACTIVATIONS, name))
    return entries


def _check_free(what: str, holder: Any, name: str, thing: type[Any]) -> None:
    """Raise OptionError if another class has the name already."""
    if holder is None or _full_name(holder) == _full_name(thing):
        return
    owner = "xpnet" if holder.__module__.partition(".")[0] == "xpnet" else _full_name(holder)
    a = "an" if what[0] in "ao" else "a"
    raise OptionError(
        f"the name {name!r} of {_full_name(thing)} is taken: {owner} has {a} {what} of that name; "
        + ("rename the class" if what == "layer" else 'choose another: register(..., name="...")')
    )


def _full_name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
