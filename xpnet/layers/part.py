"""What makes a layer a part of a network: its values, its copies, its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.random import Random
from xpnet.initializers import Initializer
from xpnet.support.errors import ShapeError

Shape = tuple[int, ...]


@dataclass
class Parameter:
    """The shape of one parameter and how it starts.

    The values are in the flat vector of the network; ``layer.W`` and ``layer.dW`` are views of it.
    """

    shape: Shape
    init: Initializer

    @property
    def size(self) -> int:
        """The number of values."""
        return prod(self.shape)


class Part:
    """A part of a network: what the network asks of a layer besides its mathematics."""

    xp: Backend
    Y: Array
    dX: Array = None
    pixels = "numbers"
    training = True
    dtype: np.dtype[Any]
    parameters: dict[str, Parameter]
    state: dict[str, Array]
    owner: Callable[[], Any] = staticmethod(lambda: None)  # the network that it is part of

    def config(self) -> dict[str, Any]:
        """Return the arguments that make such a layer again: numbers, words, True and False.

        By default those arguments of ``__init__`` that the layer keeps under their own names.
        """
        names = inspect.signature(type(self).__init__).parameters
        return {name: vars(self)[name] for name in names if name in vars(self)}

    def walk(self, path: str) -> list[tuple[str, Any]]:
        """Return the layer with its path; a network returns all layers that are in it."""
        return [(path, self)]

    def followed_by(self, layer: Any) -> Any:
        """Return one object that does forward and backward of both layers, None if there is none.

        Both have been built. The pairs that xpnet puts together are in `xpnet.network.fusions`.
        """
        return None

    # ---- copies -------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return all attributes but the owner: a copy belongs to no network yet."""
        return {name: value for name, value in vars(self).items() if name != "owner"}

    def twin(self) -> Self:
        """Return a layer that shares parameters, state and settings, for another thread.

        `build` gives the twin buffers of its own. A layer that holds others makes twins of them.
        """
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    # ---- values -------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The number of trainable values."""
        return sum(p.size for p in self.parameters.values())

    def xpnet_values(self) -> dict[str, Array]:
        """Return parameters and state by name."""
        return {name: getattr(self, name) for name in self.parameters} | self.state

    def initial_values(self, random: Random) -> list[np.ndarray[Any, Any]]:
        """Return the first value of each parameter, in order, on the host.

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

    def bind(self, xp: Backend, params: Array, grads: Array) -> None:
        """Take the layer's slices of the flat vectors, and make the views ``W`` and ``dW``."""
        self.xp, self.dtype = xp, params.dtype
        start = 0
        for name, p in self.parameters.items():
            own = slice(start, start + p.size)
            setattr(self, name, params[own].reshape(p.shape))
            setattr(self, "d" + name, grads[own].reshape(p.shape))
            start += p.size
