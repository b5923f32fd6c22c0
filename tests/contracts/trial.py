"""One trial: change one thing, and see whether the outcome changes, or the change is refused."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from xpnet import XpnetError
from xpnet.backend import say_once

# What Python itself says of an unknown argument, and of an attribute that cannot be set: it names
# the thing as the user wrote it.
PYTHON_SAYS = re.compile(
    r"unexpected keyword argument|positional arguments? but|has no setter|cannot assign to field"
    r"|multiple values for argument|missing \d+ required|can't set attribute|is read-only"
)


SECONDS = 5


@dataclass(frozen=True)
class Trial:
    """A change, what comes out with it, and what comes out without it.

    Attributes
    ----------
    room, name, way : str
        Where it is in the table: the heading, the row, and the column.
    changed, plain : callable
        Return the outcome with the change and without it: bytes, numbers, words, dicts of them.
    meant : callable, optional
        Returns the outcome of the plain way to say the same, where the change says it in another
        type: 0.5 for np.float32(0.5).
    nonsense : bool
        True: the change cannot be meant, so it must be refused.
    """

    room: str
    name: str
    way: str
    changed: Callable[[], Any]
    plain: Callable[[], Any]
    meant: Callable[[], Any] | None = None
    nonsense: bool = False

    def verdict(self) -> Verdict:
        """Run it, and return what has happened."""
        try:
            with at_most(SECONDS):
                outcome = quietly(self.changed)
        except Exception as error:
            return refusal(error)
        if self.meant is not None and outcome == _or_none(self.meant):
            return Verdict("the same")
        if outcome == self.plain():
            return Verdict("ignored")
        return Verdict("accepted" if self.nonsense else "takes effect")


@dataclass(frozen=True)
class Verdict:
    """What has happened: ``takes effect``, ``the same``, ``refused``, or what may not be.

    What may not be: ``ignored``; ``raw``, an error that does not come from xpnet; ``accepted``, a
    value that cannot be meant and changes the outcome.
    """

    kind: str
    words: str = ""

    @property
    def right(self) -> bool:
        """Whether a user can live with it."""
        return self.kind not in ("ignored", "raw", "accepted")


def _or_none(run: Callable[[], Any]) -> Any:
    """Return what ``run`` returns, None if it is refused."""
    try:
        return run()
    except Exception:
        return None


def refusal(error: Exception) -> Verdict:
    """Return the verdict of an exception."""
    words = " ".join(str(error).split())
    python = isinstance(error, TypeError | AttributeError) and PYTHON_SAYS.search(words)
    sklearn = "random_state" in words or type(error).__module__.startswith("sklearn")
    known = isinstance(error, XpnetError) or python or sklearn
    return Verdict("refused" if known else "raw", f"{type(error).__name__}: {words}")


def quietly(run: Callable[[], Any]) -> Any:
    """Return what ``run`` returns, and what it said: a warning is part of the outcome."""
    out, log = io.StringIO(), io.StringIO()
    handler = logging.StreamHandler(log)
    logger = logging.getLogger("xpnet")
    logger.addHandler(handler)
    say_once.cache_clear()
    with (
        contextlib.closing(_Removed(logger, handler)),
        warnings.catch_warnings(record=True) as said,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(out),
        np.errstate(all="ignore"),
    ):
        warnings.simplefilter("always")
        outcome = run()
    return outcome, [str(w.message) for w in said], log.getvalue()


class _Removed:
    """Takes a handler from a logger when it is closed."""

    def __init__(self, logger: logging.Logger, handler: logging.Handler) -> None:
        self.logger, self.handler = logger, handler

    def close(self) -> None:
        """Take it away."""
        self.logger.removeHandler(self.handler)


@contextlib.contextmanager
def at_most(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in what takes longer."""

    def end(number: int, frame: Any) -> None:
        raise TimeoutError(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def once(run: Callable[[], Any]) -> Callable[[], Any]:
    """Return a function that runs ``run`` the first time, and returns its outcome ever after."""
    return cache(lambda: quietly(run))


def plain_data(value: Any) -> Any:
    """Return a value of any kind so that ``==`` compares it: arrays become bytes."""
    if isinstance(value, dict):
        return {str(k): plain_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return str(value.dtype), value.shape, value.tobytes()
    return value
