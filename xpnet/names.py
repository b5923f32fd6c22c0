"""Names that a user may give as text, and what to say when a name is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from xpnet.errors import OptionError

T = TypeVar("T")


def unknown(what: str, name: object, names: Iterable[str]) -> str:
    """Return the sentence for an unknown name, with the nearest valid one."""
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
