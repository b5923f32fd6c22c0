"""What each layer is in ONNX: one function per layer, which adds the nodes that compute Y.

The functions take the layer, a `Nodes` to which they add, and the name of X. They return the name
of Y. Where an operator of ONNX has its numbers in float32 whatever X is, the formula is written
out. A layer of a user may define ``to_onnx(self, graph, X)`` instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from xpnet.backend.base import GELU_A, GELU_C
from xpnet.backend.normal import CENTRE, END, MILLS, PEAK
from xpnet.layers import (
    GELU,
    BatchNorm1d,
    Dropout,
    Flatten,
    Identity,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from xpnet.network import Sequential


class Nodes(Protocol):
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


def _linear(layer: Any, graph: Nodes, X: str) -> str:
    """Gemm(X, W, b)"""
    return graph("Gemm", X, *layer.xpnet_values().values())


def _leaky_relu(layer: Any, graph: Nodes, X: str) -> str:
    """max(X, α X)"""
    return graph("Max", X, graph("Mul", X, layer.slope))


def _gelu(layer: Any, graph: Nodes, X: str) -> str:
    """X/2 + X/2 · T with T = tanh(X · (X·X · c a + c)); or X Φ"""
    if layer.approximate == "none":
        return graph("Mul", X, _normal(layer, graph, X))
    inner = graph("Add", graph("Mul", graph("Mul", X, X), GELU_C * GELU_A), GELU_C)
    half, T = graph("Mul", X, 0.5), graph("Tanh", graph("Mul", X, inner))
    return graph("Add", half, graph("Mul", half, T))


def _normal(layer: Any, graph: Nodes, X: str) -> str:
    """Φ = (1 + erf(X/√2)) / 2; in float64, where onnxruntime has no Erf, as `Fused.normal`"""
    if layer.dtype == "float32":
        return graph("Mul", graph("Add", graph("Erf", graph("Mul", X, 0.5**0.5)), 1.0), 0.5)
    a = graph("Min", graph("Abs", X), END)
    q = graph("Div", graph("Sub", a, CENTRE), graph("Add", a, CENTRE))
    ratio = graph("Mul", q, MILLS[0])
    for c in MILLS[1:-1]:
        ratio = graph("Mul", graph("Add", ratio, c), q)
    ratio = graph("Div", graph("Add", ratio, MILLS[-1]), graph("Add", a, 1.0))
    density = graph("Mul", graph("Exp", graph("Mul", graph("Mul", a, a), -0.5)), PEAK)
    tail = graph("Mul", ratio, density)
    return graph("Where", graph("Greater", X, 0.0), graph("Sub", 1.0, tail), tail)


def _layer_norm(layer: Any, graph: Nodes, X: str) -> str:
    """γ X̂ + β, with the means along the layer's axis"""
    centred = graph("Sub", X, graph("ReduceMean", X, [layer.axis]))
    variance = graph("ReduceMean", graph("Mul", centred, centred), [layer.axis])
    sigma = graph("Sqrt", graph("Add", variance, layer.eps))
    Y = graph("Div", centred, sigma)
    for kind, name in (("Mul", "gamma"), ("Add", "beta")):
        Y = graph(kind, Y, getattr(layer, name)) if name in layer.parameters else Y
    return Y


def _batch_norm(layer: Any, graph: Nodes, X: str) -> str:
    """BatchNormalization(X), with ε added to the variance; the formula for a batch's own means"""
    if not layer.track_running_stats:
        return _layer_norm(layer, graph, X)
    mean, variance = layer.state["mean"][0], layer.state["variance"][0] + layer.eps
    gamma, beta = (layer.gamma, layer.beta) if layer.affine else (1 + 0 * mean, 0 * mean)
    return graph("BatchNormalization", X, gamma, beta, mean, variance, epsilon=0.0)


def _in_a_row(net: Any, graph: Nodes, X: str) -> str:
    """The nodes of all layers"""
    for i, layer in enumerate(net.layers):
        X = graph.layer(str(i), layer, X)
    return X


def _operator(kind: str, **attributes: Any) -> Callable[[Any, Nodes, str], str]:
    """Return the function of a layer that is one operator of ONNX."""
    return lambda layer, graph, X: graph(kind, X, **attributes)


NODES: dict[type[Layer], Callable[[Any, Nodes, str], str]] = {
    BatchNorm1d: _batch_norm,
    Dropout: _operator("Identity"),  # what it does in prediction
    Flatten: _operator("Flatten"),
    GELU: _gelu,
    Identity: _operator("Identity"),
    LayerNorm: _layer_norm,
    LeakyReLU: _leaky_relu,
    Linear: _linear,
    ReLU: _operator("Relu"),
    Sequential: _in_a_row,
    Sigmoid: _operator("Sigmoid"),
    Softmax: _operator("Softmax", axis=-1),
    Tanh: _operator("Tanh"),
}


def nodes_of(layer: Layer, graph: Nodes, X: str) -> str:
    """Add the nodes that compute Y as in prediction, by the table, and return the name of Y."""
    kind = next(kind for kind in type(layer).__mro__ if kind in NODES)
    return NODES[kind](layer, graph, X)


def is_described(layer: Layer) -> bool:
    """Return True if the nodes are those of this ``forward``, not of that of a class above."""
    kinds = type(layer).__mro__
    forward = next(kind for kind in kinds if "forward" in vars(kind))
    described = next((kind for kind in kinds if "to_onnx" in vars(kind) or kind in NODES), Layer)
    return issubclass(described, forward) and "forward" not in vars(layer)


# In release 1 this was a method of every layer, which layers of users call as super().to_onnx.
Layer.to_onnx = nodes_of  # type: ignore[attr-defined]
