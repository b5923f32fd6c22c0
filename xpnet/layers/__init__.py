"""The layers, one to a file; each docstring is the derivation that its code follows.

A file that is put into this folder is a part of the library: its layers are in `LAYERS`, and so
known to ``xpnet.load`` and as ``xpnet.NAME``. The names below are for type checkers, too.
"""

from pkgutil import iter_modules, resolve_name

from xpnet.layers.base import Layer as Layer
from xpnet.layers.base import Parameter as Parameter
from xpnet.layers.dropout import Dropout as Dropout
from xpnet.layers.flatten import Flatten as Flatten
from xpnet.layers.gelu import GELU as GELU
from xpnet.layers.identity import Identity as Identity
from xpnet.layers.leaky_relu import LeakyReLU as LeakyReLU
from xpnet.layers.linear import Linear as Linear
from xpnet.layers.normalization import BatchNorm1d as BatchNorm1d
from xpnet.layers.normalization import LayerNorm as LayerNorm
from xpnet.layers.relu import ReLU as ReLU
from xpnet.layers.sigmoid import Sigmoid as Sigmoid
from xpnet.layers.softmax import Softmax as Softmax
from xpnet.layers.tanh import Tanh as Tanh


def _found() -> dict[str, type[Layer]]:
    """Return the layers of all files in this folder, but those that others in their file extend."""
    modules = [resolve_name(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    names = {name: kind for module in modules for name, kind in vars(module).items()}
    kinds = [kind for kind in names.values() if isinstance(kind, type) and issubclass(kind, Layer)]
    pairs = [(kind, base) for kind in kinds for base in kind.__bases__]
    extended = {base for kind, base in pairs if base.__module__ == kind.__module__}
    return {kind.__name__: kind for kind in kinds if kind not in extended | {Layer}}


# Every layer of the library, by the name that stands in a file.
LAYERS: dict[str, type[Layer]] = dict(sorted(_found().items()))

# The activations by the names of the command line; a new one says ``activation = "hard_swish"``.
ACTIVATIONS: dict[str, type[Layer]] = {
    "relu": ReLU,
    "leaky_relu": LeakyReLU,
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "gelu": GELU,
    "identity": Identity,
} | {kind.activation: kind for kind in LAYERS.values() if hasattr(kind, "activation")}
globals().update(LAYERS)
__all__ = ["ACTIVATIONS", "LAYERS", "Layer", "Parameter", *LAYERS]
