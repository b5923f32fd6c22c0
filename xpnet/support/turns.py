"""Turns: what is being trained is trained by one `fit` at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnet.support.errors import XpnetError

# The holder of each thing, by its id. `setdefault` is one step for all threads; a lock would be
# copied by a fork while another thread holds it, and never be released in the child.
_TAKEN: dict[int, Any] = {}


@contextmanager
def one_at_a_time(**things: Any) -> Iterator[None]:
    """Take some things until the end of the context.

    Raises
    ------
    XpnetError
        If somebody has one of them, in this thread, in another one, or in the process that has
        forked this one.
    """
    mine, taken = object(), list[int]()
    try:
        for name, thing in things.items():
            if _TAKEN.setdefault(id(thing), mine) is not mine:
                raise XpnetError(refusal(name))
            taken.append(id(thing))
        yield
    finally:
        for number in taken:
            _TAKEN.pop(number, None)


def require_free(thing: Any, what: str) -> None:
    """Raise XpnetError if a thing is being trained, and something is not possible then."""
    if id(thing) in _TAKEN:
        raise XpnetError(f"{what} is not possible while fit trains the network; do it after fit")


def refusal(name: str) -> str:
    """Return the words that refuse a second `fit`."""
    return (
        f"this {name} is in the middle of a fit, which was begun in a callback, in another thread, "
        "or before this process was forked; wait for its end, or train net.copy() with a Trainer "
        "of its own"
    )
