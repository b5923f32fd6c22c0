"""Texts of messages: unknown names, errors of other libraries, facts about the machine."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from xpnet.support.errors import OptionError

T = TypeVar("T")
CANNOT_WRITE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOSPC)


def unknown(what: str, name: object, names: Iterable[str]) -> str:
    """Return the message about an unknown name, with the nearest valid name."""
    names = sorted(names)
    folded = {known.lower(): known for known in names}
    near = get_close_matches(str(name).lower(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return f"unknown {what} {name!r}; {hint}choose from {', '.join(names)}"


def look_up(what: str, name: str, table: Mapping[str, T]) -> T:
    """Return ``table[name]``.

    Raises
    ------
    OptionError
        With the nearest valid name, if the name is not in the table.
    """
    if name not in table:
        raise OptionError(unknown(what, name, table))
    return table[name]


def what_went_wrong(error: BaseException) -> str:
    """Return the type and the message of an error of another library, in one line."""
    said = " ".join(str(error).split()).rstrip(".")[:300]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def cannot_write(error: BaseException) -> bool:
    """Return True if the error says that a file or a folder cannot be written."""
    return isinstance(error, OSError) and error.errno in CANNOT_WRITE


def if_known(question: Callable[[], str]) -> str:
    """Return the answer to a question about the machine, or "unknown" with the reason."""
    try:
        return question()
    except (Exception, SystemExit) as error:  # information must not end the program
        return f"unknown ({what_went_wrong(error)})"
