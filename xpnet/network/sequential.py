"""Sequential: layers in a row, with all their parameters in one flat vector.

One vector of parameters and one of gradients, of which the layers hold views: an optimizer step is
one operation over one vector, and so is a copy, a hash or a sum over many machines.
"""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakSet, ref

import numpy as np

from xpnet.backend import Array, Backend, find_backend, get_backend
from xpnet.backend.random import Random
from xpnet.layers.base import Layer, Shape
from xpnet.network.checks import checked_dtype, checked_layers
from xpnet.network.layer_list import LayerList
from xpnet.network.pixels import pixels_of
from xpnet.network.receiving import Receiving
from xpnet.network.watching import LastBatch, name_layer, watched
from xpnet.support.errors import ShapeError


class Sequential(Receiving):
    """Layers in a row: Y = fₖ(... f₂(f₁(X))), and dX = f₁'(... fₖ'(dY)).

    Parameters
    ----------
    *layers : Layer
        At least one; another `Sequential` counts as a layer.
    dtype : str or dtype
        ``"float32"`` or ``"float64"``, of parameters, activations and gradients.
    seed : int
        Of the initial weights and the dropout masks; the same numbers on every backend.
    backend : str or Backend, optional
        See `xpnet.set_backend`; the default backend if left out.

    Attributes
    ----------
    params, grads : array, shape (n,)
        All parameters and all gradients; each layer's ``W`` and ``dW`` are views.
    xp : Backend
        The backend that computes.
    layers : list of Layer
        Changes of the list change the network: layers that stay keep their values.

    Raises
    ------
    ShapeError
        If a layer cannot take what the one before gives.

    Examples
    --------
    >>> import numpy as np, xpnet
    >>> net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    >>> net.forward(np.zeros((4, 2), np.float32)).shape
    (4, 1)
    """

    def __init__(
        self,
        *layers: Layer,
        dtype: Any = "float32",
        seed: int = 0,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        self._layers, self._params = LayerList(self, checked_layers(layers)), None
        self.seed = seed
        xp = get_backend() if backend is None else find_backend(backend)
        vars(self).update(xp=xp, dtype=checked_dtype(dtype, xp))
        self.version = 0  # another number whenever there are new arrays; see `Backend.renew`
        self.capacity = 0  # the batch size that the buffers were built for
        self.sample_shape: Shape | None = None  # ... and the shape of one sample
        self._input_gradient = False
        self._arranged: list[Any] = []  # the layers, two in one where that saves a pass
        self._first_with_gradient, self._last = 0, LastBatch()
        self.optimizers = WeakSet()  # they move along in `to`
        self._grads = None
        self.in_use = threading.RLock()  # by the thread that predicts with it, or trains it
        self.pixels = pixels_of(self.layers)
        self.output_shape(None)
        for layer in self.layers:
            layer.owner = ref(self)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    # ---- the two loops ------------------------------------------------------------------------

    def forward(self, X: Array) -> Array:
        """Return the output of the last layer, an array that the next call overwrites.

        Parameters
        ----------
        X : array, shape (n, *sample shape)
            On the network's backend. uint8 means pixels k that stand for k/255.

        Raises
        ------
        MixedArraysError
            If X is an array of another backend.
        ShapeError
            If a sample has another shape than the first layer takes.
        """
        X, last = self._received(X), self._last
        try:
            for layer in self._arranged if "forward" in last.seen else watched(self, "forward"):
                X = layer.forward(X)
        except Exception as error:
            name_layer(error, self, layer, "forward")
            raise
        last.shape, last.awaited = X.shape, True
        return X

    def backward(self, dY: Array) -> Array | None:
        """Write the gradient of every parameter, given that of the output of the last `forward`.

        Returns the gradient of the input, or None where it is not needed (see `input_gradient`).
        """
        last = self._last
        if last.shape is None or dY.shape != last.shape:
            last.refuse(dY)
        self.xp.require(dY, "the network", "dY")
        dY = dY if dY.dtype == self.dtype else self._cast(dY, "dY")
        layers = self._arranged if "backward" in last.seen else watched(self, "backward")
        try:
            for layer in reversed(layers[self._first_with_gradient :]):
                dY = layer.backward(dY)
        except Exception as error:
            name_layer(error, self, layer, "backward")
            raise
        self.xp.join()
        last.awaited = False
        return dY if self._input_gradient else None

    # ---- shapes and memory --------------------------------------------------------------------

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Return the shape of one output; raises ShapeError naming the layer that does not fit."""
        for i, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except ShapeError as error:
                before = f", after {self.layers[i - 1]!r}," if i else ""
                raise ShapeError(f"layer {i}{before} does not fit: {error}") from None
        return shape

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make every layer's buffers for batches of up to ``batch_size`` samples."""
        self.version = self.xp.renew()
        self.capacity, self._input_gradient = 0, input_gradient  # until all have been made
        self._forget("")
        shape: Shape | None = input_shape
        for layer in self.layers:
            assert shape is not None
            layer.build(batch_size, shape, input_gradient)
            shape = layer.output_shape(shape)
            input_gradient = input_gradient or layer.size > 0
        self._arrange()
        self.capacity, self.sample_shape = batch_size, input_shape

    # ---- parameters ---------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The number of trainable values."""
        return sum(layer.size for layer in self.layers)

    def walk(self, path: str) -> list[tuple[str, Layer]]:
        """Return all layers, those of nested networks too, with their paths such as ``"2.0"``."""
        prefix = f"{path}." if path else ""
        return [pair for i, layer in enumerate(self.layers) for pair in layer.walk(f"{prefix}{i}")]

    def initial_values(self, random: Random) -> list[np.ndarray[Any, Any]]:
        """Return the starting values of all layers; those that already have some keep them."""
        return [value for layer in self.layers for value in layer.initial_values(random)]

    def bind(self, xp: Backend, params: Array, grads: Array) -> None:
        """Take the pieces of the flat vectors and hand them on to the layers."""
        self.version = xp.renew()
        vars(self).update(xp=xp, dtype=params.dtype, capacity=0, sample_shape=None, _arranged=[])
        self._forget(" again; the network was moved or changed since")
        start = 0
        for layer in self.layers:
            piece = slice(start, start + layer.size)
            layer.bind(xp, params[piece], grads[piece])
            start += layer.size
        self._params, self._grads = params, grads  # last: other threads see that all is there
