"""Which layers take uint8: pixels k that stand for k/255."""

from __future__ import annotations

from collections.abc import Iterable

from xpnet.layers.base import Layer
from xpnet.layers.flatten import Flatten
from xpnet.layers.linear import Linear

Linear.pixels, Flatten.pixels = "takes", "passes"


def pixels_of(layers: Iterable[Layer]) -> str:
    """Return what layers in a row do with pixels: the first that does not pass them on decides."""
    return next((layer.pixels for layer in layers if layer.pixels != "passes"), "passes")
