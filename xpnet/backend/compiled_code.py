"""Numba's cache of compiled loops: damaged or full, it is no reason for a training to end."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import cache
from typing import Any

from xpnet.support.messages import what_went_wrong


class CodeCache:
    """The cache of one function, whose errors mean that the function is compiled.

    Parameters
    ----------
    cache : numba.core.caching.Cache
        What Numba has made for the function.
    """

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, *arguments: Any) -> Any:
        """Return the compiled function for some types; None if it must be compiled."""
        try:
            return self._cache.load_overload(*arguments)
        except Exception as error:  # of unpickling, which has many
            _say_once(self._cache.cache_path, what_went_wrong(error))
            with suppress(Exception):
                self._cache.flush()  # so that good code can take the place of what is damaged
            return None

    def save_overload(self, *arguments: Any) -> None:
        """Keep a compiled function for the next process, if that is possible."""
        try:
            self._cache.save_overload(*arguments)
        except Exception as error:
            _say_once(self._cache.cache_path, what_went_wrong(error))


@cache
def _say_once(folder: str, why: str) -> None:
    logging.getLogger("xpnet").warning(
        "Numba's cache in %s cannot be used (%s); its functions are compiled anew", folder, why
    )
