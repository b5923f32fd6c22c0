"""Fusions: two layers that run as one, where that saves a pass over the memory.

A network puts such layers together by itself, where the backend does not keep layers apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xpnet.backend import Array
from xpnet.backend.mode import keeps_layers_apart
from xpnet.layers.base import Layer
from xpnet.layers.linear import Linear
from xpnet.layers.relu import ReLU
from xpnet.layers.sigmoid import Sigmoid
from xpnet.layers.tanh import Tanh

# The activations that `Backend.affine` knows, by the name that it gives them.
ACTIVATIONS: dict[type[Layer], str] = {ReLU: "relu", Sigmoid: "sigmoid", Tanh: "tanh"}


def arranged(layers: Sequence[Layer]) -> list[tuple[Any, int]]:
    """Return what a network runs, each with the number of its trainable values.

    These are its layers, two of them in one object where that is possible.
    """
    found, left = list[tuple[Any, int]](), list(layers)
    while left:
        layer = left.pop(0)
        both = _fused(layer, left[0]) if left else None
        found.append((layer, layer.size) if both is None else (both, layer.size + left.pop(0).size))
    return found


def _fused(layer: Layer, following: Layer) -> Any:
    """Return one object that does forward and backward of both layers, None if there is none."""
    both = layer.followed_by(following)  # a layer of the user's own may bring a fusion along
    if both is not None:
        return both
    f = ACTIVATIONS.get(type(following), "")
    if type(layer) is not Linear or not layer.bias or not f or keeps_layers_apart(layer.xp):
        return None
    if not (_is_unchanged(layer) and _is_unchanged(following)):
        return None
    return LinearActivation(layer, following, f)


def _is_unchanged(layer: Layer) -> bool:
    """Return True unless somebody has put another forward or backward into object or class."""
    pairs = [(getattr(layer, name), getattr(type(layer), name)) for name in ("forward", "backward")]
    return all(
        getattr(own, "__func__", None) is written and written.__module__ == type(layer).__module__
        for own, written in pairs
    )


class LinearActivation:
    """Y = f(X W + b): a `Linear` and the activation behind it, with one pass over Y each way.

    dZ = dY · f'(Z) in terms of Y        db = Σᵢ dZᵢ        dW = Xᵀ dZ        dX = dZ Wᵀ

    Both layers share one Y, that of the activation: Z = X W + b is nowhere stored.
    """

    def __init__(self, linear: Linear, activation: Layer, f: str) -> None:
        self.linear, self.xp, self.f = linear, linear.xp, f
        self.W, self.dW, self.b, self.db = linear.W, linear.dW, linear.b, linear.db
        self.Y, self.dZ, self.dX = activation.Y, activation.dX, linear.dX
        linear.Y = activation.Y

    def forward(self, X: Array) -> Array:
        """Return Y, shape (n, n_out)."""
        self.X = self.linear.X = X
        return self.xp.affine(X, self.W, self.b, out=self.Y[: len(X)], f=self.f)

    def backward(self, dY: Array) -> Array | None:
        """Write dW and db, and return dX, shape (n, n_in)."""
        xp, n = self.xp, len(dY)
        dZ = self.dZ[:n]
        xp.affine_grad(dY, self.Y[:n], self.f, out=dZ, db=self.db)
        if self.dX is None:  # the first layer: there is no other work beside dW
            xp.matmul(self.X.T, dZ, out=self.dW)
            return None
        with xp.off_path():
            xp.matmul(self.X.T, dZ, out=self.dW)
        return xp.matmul(dZ, self.W.T, out=self.dX[:n])
