"""Questions about the mode of a backend, ordinary or reproducible, for the rooms above."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.backend.base import Backend
from xpnet.backend.registry import find_backend
from xpnet.support.errors import OptionError


def keeps_layers_apart(xp: Backend) -> bool:
    """Return True where the values of each layer are compared, so that layers are not fused."""
    return xp.reproducible


def in_mode_of(xp: Backend, name: str | Backend) -> Backend:
    """Return the backend of this name in the mode of ``xp``; a `Backend` stays as it is."""
    return find_backend(name, None if isinstance(name, Backend) else xp.reproducible)


def suffix(xp: Backend) -> str:
    """Return what follows the name of the backend where its mode is said."""
    return ", reproducible" if xp.reproducible else ""


def settings(xp: Backend) -> dict[str, Any]:
    """Return backend and mode as a file holds them; see `FITS`."""
    return {"backend": xp.name, "reproducible": xp.reproducible}


def gives_the_same_bits(xp: Backend, then: Mapping[str, Any]) -> bool:
    """Return True if the bits on a backend are those on the backend of these settings."""
    return xp.reproducible and then.get("reproducible") is True


# What the settings in a file must be.
FITS = {
    "backend": lambda value: isinstance(value, str),
    "reproducible": lambda value: isinstance(value, bool),
}


def check_dtype(xp: Backend, dtype: str) -> None:
    """Check that a network on this backend can have the dtype.

    Raises
    ------
    OptionError
        With the dtypes that it can have, and the way out.
    """
    if dtype in xp.dtypes:
        return
    who, way_out = f"the backend {xp.name!r}", "use the backend 'numpy'"
    if xp.reproducible:
        who = "reproducible mode"
        way_out = "leave the mode with reproducible=False, or with net.to(net.xp.ordinary)"
    raise OptionError(f"{who} takes networks of {' or '.join(xp.dtypes)}; got {dtype}; {way_out}")
