"""Scratch: memory for intermediate results, made once and used again."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

Array = Any


class Scratch(threading.local):
    """Arrays that are made once and used again, by name.

    Each thread has its own arrays, and so has each recorded step: what one of them leaves there
    between two operations, no other one overwrites.

    Parameters
    ----------
    xp : Backend
        Makes the arrays.
    """

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self._flat: dict[Hashable, Array] = {}

    def __call__(self, name: Hashable, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        """Return an array of this shape with arbitrary contents."""
        size, key = prod(shape), (name, np.dtype(dtype))
        flat = self._flat.get(key)
        if flat is None or flat.size < size:
            flat = self._flat[key] = self.xp.empty(size, dtype)
        return flat[:size].reshape(shape)

    @contextmanager
    def apart(self) -> Iterator[dict[Hashable, Array]]:
        """Use other arrays inside a ``with`` block, and yield what will hold them."""
        before, self._flat = self._flat, {}
        try:
            yield self._flat
        finally:
            self._flat = before
