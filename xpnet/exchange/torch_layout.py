"""The values of each layer by PyTorch's names and in its shapes: ``net.state_dict("torch")``.

The values are views: what is written to them is written to the layer. A layer of a user goes out
with the names and shapes that it has, or defines ``torch_values(self)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnet.backend import Array
from xpnet.layers import BatchNorm1d, Dropout, Layer, LayerNorm, Linear
from xpnet.network.storing import LAYOUTS, MAY_LACK

COUNT = "num_batches_tracked"  # of PyTorch since 0.4.1; older files and other tools lack it


def _linear(layer: Any) -> dict[str, Array]:
    """``weight`` is Wᵀ, shape (n_out, n_in)."""
    return {"weight": layer.W.T} | ({"bias": layer.b} if layer.bias else {})


def _normalization(layer: Any) -> dict[str, Array]:
    """``weight`` is γ, ``bias`` is β."""
    names = {"gamma": "weight", "beta": "bias"}
    return {names[name]: getattr(layer, name) for name in layer.parameters}


def _batch_norm(layer: Any) -> dict[str, Array]:
    """Also the running averages, and a count of batches, which the plain average alone needs."""
    values, state = _normalization(layer), layer.state
    if not state:
        return values
    values |= {"running_mean": state["mean"][0], "running_var": state["variance"][0]}
    counted = state["batches"].reshape(()) if "batches" in state else layer.xp.zeros((), "int64")
    return values | {COUNT: counted}


VALUES: dict[type[Layer], Callable[[Any], dict[str, Array]]] = {
    BatchNorm1d: _batch_norm,
    Dropout: lambda layer: {},  # PyTorch's generator belongs to no layer
    LayerNorm: _normalization,
    Linear: _linear,
}


def torch_values(layer: Layer) -> dict[str, Array]:
    """Return the values that PyTorch's layer of this kind has, by the table."""
    kinds = [kind for kind in type(layer).__mro__ if kind in VALUES]
    return VALUES[kinds[0]](layer) if kinds else layer.xpnet_values()


LAYOUTS["torch"] = lambda layer: layer.torch_values()  # type: ignore[attr-defined]
MAY_LACK["torch"] = COUNT
# In release 1 this was a method of every layer, which layers of users override.
Layer.torch_values = torch_values  # type: ignore[attr-defined]
