"""What every layer is: a function Y = f(X; parameters) that can also send a gradient back."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.random import Random
from xpnet.initializers import Initializer, find_initializer
from xpnet.layers.graph import Graph
from xpnet.support.errors import ShapeError

Shape = tuple[int, ...]


@dataclass
class Parameter:
    """The shape of one parameter and how it starts.

    The values are in the flat vector of the network; the layer ``layer.W`` and ``layer.dW`` are
    views of it.
    """

    shape: Shape
    init: Initializer

    @property
    def size(self) -> int:
        """The number of values."""
        return prod(self.shape)


class Layer:
    """One differentiable function. To write your own, define ``forward`` and ``backward``.

    ``forward(X)`` returns Y and keeps what ``backward`` will need. ``backward(dY)`` takes the
    gradient of the loss with respect to Y, writes the gradient of each parameter ``W`` into
    ``self.dW`` (the network has made it), and returns the gradient with respect to X, or None
    where ``self.dX`` is None: nobody upstream needs it.

    In ``__init__`` call ``super().__init__()`` and then ``self.parameter(name, shape, init)`` for
    each parameter. A layer that changes the shape defines ``output_shape``; one that wants scratch
    memory defines ``build``. ``self.xp`` is the backend, ``self.xp.module`` NumPy or CuPy itself.

    Attributes
    ----------
    xp : Backend
        The primitives; set by the network.
    pixels : str
        What the layer does with uint8, pixels k that stand for k/255: ``"takes"`` them where its
        backend does, ``"passes"`` them on, or, by default, gets floating ``"numbers"`` instead.
    training : bool
        False during prediction: Dropout passes everything and BatchNorm1d uses what it has learnt.
    Y : array, shape (batch size, *output shape)
        Where ``forward`` may write its result.
    dX : array, shape (batch size, *input shape), or None
        Where ``backward`` may write its result.
    state : dict of str to array
        Values that are kept but not trained, such as running means; moved with the network.
    """

    xp: Backend
    Y: Array
    dX: Array = None
    pixels = "numbers"
    training = True
    dtype: np.dtype[Any]
    owner: Callable[[], Any] = staticmethod(lambda: None)  # the network that it is part of

    def __init__(self) -> None:
        self.parameters: dict[str, Parameter] = {}
        self.state: dict[str, Array] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __getstate__(self) -> dict[str, Any]:
        """Return all but the owner, which a copy does not have."""
        return {name: value for name, value in vars(self).items() if name != "owner"}

    def config(self) -> dict[str, Any]:
        """Return the arguments that make such a layer again: numbers, words, True and False.

        By default those arguments of ``__init__`` that the layer keeps under their own names.
        """
        names = inspect.signature(type(self).__init__).parameters
        return {name: vars(self)[name] for name in names if name in vars(self)}

    # ---- what a layer defines -----------------------------------------------------------------

    def forward(self, X: Array) -> Array:
        """Return Y = f(X)."""
        raise NotImplementedError

    def backward(self, dY: Array) -> Array | None:
        """Write the gradient of each parameter and return dX."""
        raise NotImplementedError

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Return the shape of one sample of Y, given that of X; None means not known yet.

        Raises
        ------
        ShapeError
            If the layer cannot take that shape.
        """
        return shape

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make the arrays that a step will write, for batches of up to ``batch_size`` samples."""
        output_shape = self.output_shape(input_shape)
        assert output_shape is not None
        self.Y = self.xp.empty((batch_size, *output_shape), self.dtype)
        self.dX = self.xp.empty((batch_size, *input_shape), self.dtype) if input_gradient else None

    def followed_by(self, layer: Layer) -> Any:
        """Return one object that does forward and backward of both layers, None if there is none.

        Both have been built.
        """

    def to_onnx(self, graph: Graph, X: str) -> str:
        """Add the nodes that compute Y, as in prediction, and return the name of Y.

        See `Graph` in ``xpnet/layers/graph.py``; `xpnet.exchange.to_onnx` calls it.
        """
        raise NotImplementedError

    def torch_values(self) -> dict[str, Array]:
        """Return the values that PyTorch's layer of this kind has, by its names.

        They are views, in its shapes: what is written to them is written to the layer. By default
        those of this layer as they are.
        """
        return self.xpnet_values()

    # ---- what the network does ----------------------------------------------------------------

    def parameter(self, name: str, shape: Shape, init: str | Initializer) -> None:
        """Declare a parameter: ``self.name`` and its gradient ``self.dname`` will be views."""
        self.parameters[name] = Parameter(shape, find_initializer(init))

    @property
    def size(self) -> int:
        """The number of trainable values."""
        return sum(p.size for p in self.parameters.values())

    def walk(self, path: str) -> list[tuple[str, Layer]]:
        """Return the layer with its path; a network returns all that are in it."""
        return [(path, self)]

    def twin(self) -> Self:
        """Return a layer that shares parameters, state and settings, for another thread.

        Its `build` gives it buffers of its own. A layer that holds others makes twins of them, too.
        """
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def xpnet_values(self) -> dict[str, Array]:
        """Return parameters and state by name."""
        return {name: getattr(self, name) for name in self.parameters} | self.state

    def initial_values(self, random: Random) -> list[np.ndarray[Any, Any]]:
        """Return the starting value of each parameter, in order, on the host.

        A layer that has been part of a network before keeps its values.
        """
        if hasattr(self, "xp"):
            return [self.xp.asnumpy(getattr(self, name)) for name in self.parameters]
        values = {name: p.init(random, p.shape) for name, p in self.parameters.items()}
        for name, value in values.items():
            if np.shape(value) != self.parameters[name].shape:
                raise ShapeError(
                    f"{self!r}: the initialiser of {name} gave the shape {np.shape(value)}; "
                    f"{name} has {self.parameters[name].shape}"
                )
        return list(values.values())

    def initial_state(self, random: Random) -> dict[str, np.ndarray[Any, Any]]:
        """Return the starting value of each entry of ``state``, on the host."""
        return {}

    def bind(self, xp: Backend, params: Array, grads: Array) -> None:
        """Take the layer's piece of the flat vectors, and make the views ``W`` and ``dW``."""
        self.xp, self.dtype = xp, params.dtype
        start = 0
        for name, p in self.parameters.items():
            piece = slice(start, start + p.size)
            setattr(self, name, params[piece].reshape(p.shape))
            setattr(self, "d" + name, grads[piece].reshape(p.shape))
            start += p.size


def features(layer: Layer, shape: Shape | None, n: int) -> Shape:
    """Return (n,), after checking that samples of that shape have n features.

    Raises
    ------
    ShapeError
        Naming the layer and both shapes.
    """
    if shape is not None and shape != (n,):
        came = f"{shape[0]} features" if len(shape) == 1 else f"samples of shape {shape}"
        hint = "; put Flatten() before it" if len(shape) > 1 and prod(shape) == n else ""
        raise ShapeError(f"{layer!r} takes {n} features, but {came} come in{hint}")
    return (n,)
