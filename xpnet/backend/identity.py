"""Each backend exists once in a process: copies of a network share it, and a pickle looks it up."""

from __future__ import annotations

from typing import Any, Self

from xpnet.support.errors import BackendError


class OnePerProcess:
    """The part of `xpnet.backend.base.Backend` that is about copies and pickles.

    Attributes
    ----------
    origin : tuple of a function and its arguments, or None
        What finds this backend again when a pickle of a network is read; the registry sets it.
    """

    origin: tuple[Any, ...] | None = None

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.origin is None:
            raise BackendError(
                f"{self!r} cannot be pickled: it was not made by its name; give its name, see "
                "xpnet.backend.register_backend, to whatever uses it"
            )
        return self.origin
