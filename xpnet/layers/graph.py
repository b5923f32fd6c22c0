"""What a layer describes itself to, so that it can go into an ONNX file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from xpnet.layers.base import Layer


class Graph(Protocol):
    """Takes nodes: ``Y = graph("Relu", X)``; see `xpnet.exchange.to_onnx`."""

    def __call__(self, kind: str, *inputs: Any, **attributes: Any) -> str:
        """Add a node, an operator of ONNX, and return the name of its result.

        Inputs are names, arrays of the layer's backend, numbers, which get the network's dtype, or
        lists of whole numbers.
        """
        ...

    def layer(self, name: str, layer: Layer, X: str) -> str:
        """Add the nodes of another layer and return the name of its result."""
        ...
