"""Turns: what is being trained is trained by one `fit` at a time."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnet.support.errors import XpnetError

# The holders of each thing, by its id: process and thread. A fork copies them, so the child knows
# that its thread is not the one that will let go; a lock would never be released there.
Holder = tuple[int, int]
_HELD: dict[int, list[Holder]] = {}
_CHANGING = threading.Lock()
if hasattr(os, "register_at_fork"):  # where processes can fork
    os.register_at_fork(after_in_child=lambda: globals().update(_CHANGING=threading.Lock()))


@contextmanager
def one_at_a_time(trainer: Any, network: Any) -> Iterator[None]:
    """Hold a trainer and its network until the end of the context.

    A network that another thread of this process trains with another trainer may be held, too:
    the two wait for each other by the lock of the network.

    Raises
    ------
    XpnetError
        If the trainer is held, or if the network is held by this thread, or by the process that
        has forked this one.
    """
    me = os.getpid(), threading.get_ident()
    with _CHANGING:
        if _HELD.get(id(trainer)):
            raise XpnetError(refusal("trainer"))
        if any(pid != me[0] or thread == me[1] for pid, thread in _HELD.get(id(network), ())):
            raise XpnetError(refusal("network"))
        for thing in (trainer, network):
            _HELD.setdefault(id(thing), []).append(me)
    try:
        yield
    finally:
        with _CHANGING:
            for thing in (trainer, network):
                _HELD[id(thing)].remove(me)
                if not _HELD[id(thing)]:
                    del _HELD[id(thing)]


def require_free(thing: Any, what: str) -> None:
    """Raise XpnetError if a thing is being trained, and something is not possible then."""
    if id(thing) in _HELD:
        raise XpnetError(f"{what} is not possible while fit trains the network; do it after fit")


def refusal(name: str) -> str:
    """Return the words that refuse a second `fit`."""
    return (
        f"this {name} is in the middle of a fit, which was begun in a callback, in another thread, "
        "or before this process was forked; wait for its end, or train net.copy() with a Trainer "
        "of its own"
    )
