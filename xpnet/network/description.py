"""The description of a network that a file holds: the type and the arguments of each layer."""

from __future__ import annotations

import inspect
import json
from inspect import Parameter
from typing import Any

from xpnet.layers.base import Layer
from xpnet.support.errors import CheckpointError


def arguments(layer: Layer) -> dict[str, Any]:
    """Return what makes the layer again, after checking that a file can hold it."""
    given, wanted = layer.config(), inspect.signature(type(layer).__init__).parameters
    kinds = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [p.name for p in list(wanted.values())[1:] if p.default is p.empty]
    needed = [name for name in needed if wanted[name].kind not in kinds]
    missing = [f"{name} is not kept" for name in needed if name not in given]
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        missing.append(str(error))
    if missing:
        raise CheckpointError(
            f"{layer!r} cannot be saved: {missing[0]}; keep each argument of its __init__ under "
            "its own name, or define config()"
        )
    return given
