"""Signals that end a training: it is saved after the present step, and only then ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C; the word of a scheduler; a terminal that closes, which Windows does not have.
ENDING = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Give a list that gets the number of the first signal; a second one acts at once.

    The signals are SIGINT, SIGTERM and SIGHUP. A handler of the last two that somebody has set
    stays in charge, and what is ignored stays ignored, as SIGHUP is after ``nohup``.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in ENDING}
    handled = [number for number in ENDING if _is_ours(number, before[number])]

    def remember(number: int, frame: FrameType | None) -> None:
        received.append(number)
        restore()

    def restore() -> None:
        for number in handled:
            signal.signal(number, before[number])

    for number in handled:
        signal.signal(number, remember)
    try:
        yield received
    finally:
        restore()


def _is_ours(number: int, handler: object) -> bool:
    """Return True if a training may handle the signal: only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        return False
    if number == signal.SIGINT:
        return handler not in (signal.SIG_IGN, None)
    return handler == signal.SIG_DFL


def leave(number: int) -> None:
    """End the training because of a signal.

    Raises
    ------
    KeyboardInterrupt
        If it is SIGINT, that is Ctrl-C.
    SystemExit
        If it is another signal, with the exit code that shells give.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)
