"""The variables of the environment that xpnet reads; the last two are those of its tests."""

from __future__ import annotations

import os
from difflib import get_close_matches

VARIABLES = (
    "XPNET_BACKEND", "XPNET_REPRODUCIBLE", "XPNET_DATA", "XPNET_TRACEBACK", "XPNET_REQUIRE_GPU",
    "XPNET_REHEARSAL",
)  # fmt: skip


def unknown_variables() -> list[str]:
    """Return a sentence for each variable that looks like one of xpnet, and has no effect."""
    found = []
    for name in sorted(os.environ):
        if name.upper().startswith("XPNET_") and name not in VARIABLES:
            near = get_close_matches(name.upper(), VARIABLES, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            found.append(f"the environment variable {name} has no effect{hint}")
    return found
