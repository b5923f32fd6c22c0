"""The layers, one to a file; each docstring is the derivation that its code follows."""

from xpnet.layers.base import Layer, Parameter
from xpnet.layers.dropout import Dropout
from xpnet.layers.flatten import Flatten
from xpnet.layers.gelu import GELU
from xpnet.layers.identity import Identity
from xpnet.layers.leaky_relu import LeakyReLU
from xpnet.layers.linear import Linear
from xpnet.layers.normalization import BatchNorm1d, LayerNorm
from xpnet.layers.relu import ReLU
from xpnet.layers.sigmoid import Sigmoid
from xpnet.layers.softmax import Softmax
from xpnet.layers.tanh import Tanh

ACTIVATIONS: dict[str, type[Layer]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "gelu": GELU,
    "identity": Identity,
}

# Every layer of the library, by the name that stands in a file.
LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        *(BatchNorm1d, Dropout, Flatten, GELU, Identity, LayerNorm),
        *(LeakyReLU, Linear, ReLU, Sigmoid, Softmax, Tanh),
    )
}

__all__ = [
    "ACTIVATIONS",
    "GELU",
    "LAYERS",
    "BatchNorm1d",
    "Dropout",
    "Flatten",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Parameter",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "Tanh",
]
