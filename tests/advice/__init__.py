"""The advice of each error message, followed: does it help?

Each function in this folder makes a mistake, reads the message, does what the message says, and
sees that it helps. `tests/project/test_advice.py` runs the functions, and finds advice without one.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

FOLLOWED: dict[str, Callable[..., None]] = {}

# Advice that another test follows: "tests/training/test_turns.py::test_name".
ELSEWHERE: dict[str, str] = {}

# Advice that this suite cannot follow, each with the reason.
NOT_FOLLOWED: dict[str, str] = {}


def advice(*pieces: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function under pieces of the messages, as they stand in the source."""

    def register(follow: Callable[..., None]) -> Callable[..., None]:
        for piece in pieces:
            assert piece not in FOLLOWED, piece
            FOLLOWED[piece] = follow
        return follow

    return register


def elsewhere(test: str, *pieces: str) -> None:
    """Note the test that follows some advice."""
    ELSEWHERE.update(dict.fromkeys(pieces, test))


def cannot(why: str, *pieces: str) -> None:
    """Note advice that cannot be followed here."""
    NOT_FOLLOWED.update(dict.fromkeys(pieces, why))


@contextlib.contextmanager
def refused(error: type[Exception], words: str) -> Iterator[Any]:
    """Check that the block raises the error, with these words."""
    with pytest.raises(error, match=re.escape(words)) as info:
        yield info


@contextlib.contextmanager
def without(*modules: str) -> Iterator[None]:
    """Hide modules, as if they were not installed."""
    with mock.patch.dict(sys.modules, dict.fromkeys(modules)):
        yield
