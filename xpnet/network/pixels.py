"""Which layers take uint8: pixels k that stand for k/255."""

from __future__ import annotations

from collections.abc import Iterable

from xpnet.layers.base import Layer
from xpnet.layers.flatten import Flatten
from xpnet.layers.linear import Linear

PIXELS: dict[type[Layer], str] = {Flatten: "passes", Linear: "takes"}


def pixels_of(layers: Iterable[Layer]) -> str:
    """Return what layers in a row do with pixels: the first that does not pass them on decides."""
    found = map(_pixels, layers)
    return next((pixels for pixels in found if pixels != "passes"), "passes")


def _pixels(layer: Layer) -> str:
    """Return what a layer says of itself, or what the table says of its class."""
    if layer.pixels != Layer.pixels:
        return layer.pixels
    kinds = [kind for kind in type(layer).__mro__ if kind in PIXELS]
    return PIXELS[kinds[0]] if kinds else Layer.pixels
