"""The arrays of a layer: views of its network's flat vectors, and what it keeps beside them."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.random import Random
from xpnet.initializers import Initializer
from xpnet.support.assigned import Sealed, State, declare, first_value, write
from xpnet.support.errors import OptionError, ShapeError, XpnetError

Shape = tuple[int, ...]


@dataclass(frozen=True)
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


class LayerMemory:
    """The part of `xpnet.Layer` that holds its values, and takes those that somebody assigns."""

    xp: Backend
    dtype: np.dtype[Any]
    _parameters: dict[str, Parameter]
    _state: dict[str, Array]

    def network(self) -> Any:
        """Return the outermost network that the layer is part of, None if there is none."""
        return None

    def declare(self, name: str, parameter: Parameter) -> None:
        """Note a parameter; from now on ``layer.name = A`` copies A."""
        self._parameters[name] = parameter
        declare(type(self), name)

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The parameters that `Layer.parameter` has declared, by name."""
        return self._parameters

    @property
    def state(self) -> dict[str, Array]:
        """Values that the layer keeps but does not train, by name."""
        return self._state

    @state.setter
    def state(self, values: Any) -> None:
        """Keep the values; in a network each is copied into the array that is there."""
        if values is self._state:
            return
        if not isinstance(values, dict):
            raise OptionError(f"state of {self!r} must be a dict of arrays; got {values!r:.60}")
        if isinstance(self._state, State):
            self._state.replace(values)
        else:
            self._state = values

    @property
    def size(self) -> int:
        """The number of trainable values."""
        return sum(p.size for p in self.parameters.values())

    def assign(self, name: str, value: Any) -> None:
        """Copy a value into the array of a parameter ``W``, or of a gradient ``dW``."""
        what, own = f"{name} of {self!r}", vars(self)
        if name not in own and (network := self.network()) is not None:
            _ = network.params  # makes the first values
        if name in own and hasattr(self, "xp"):
            write(self.xp, what, own[name], value)
        elif name in self.parameters:
            own[name] = first_value(what, value, self.parameters[name].shape)
        else:
            raise XpnetError(f"{what} has no place yet: the layer belongs to no network")

    def initial_values(self, random: Random) -> list[np.ndarray[Any, Any]]:
        """Return the first value of each parameter, in order, on the host.

        A layer that has been part of a network before keeps its values, and those that somebody has
        assigned come before those of the initialiser.
        """
        own = vars(self)
        if "xp" in own:
            return [self.xp.asnumpy(own[name]) for name in self.parameters]
        values = {name: p.init(random, p.shape) for name, p in self.parameters.items()}
        for name, value in values.items():
            if np.shape(value) != self.parameters[name].shape:
                raise ShapeError(
                    f"{self!r}: the initialiser of {name} gave the shape {np.shape(value)}; "
                    f"{name} has {self.parameters[name].shape}"
                )
        return [own.get(name, value) for name, value in values.items()]

    def bind(self, xp: Backend, params: Array, grads: Array) -> None:
        """Take the layer's slices of the flat vectors, and make the views ``W`` and ``dW``."""
        self.xp, self.dtype = xp, params.dtype
        start = 0
        for name, p in self.parameters.items():
            piece, own = slice(start, start + p.size), vars(self)
            own[name] = params[piece].reshape(p.shape)
            own[f"d{name}"] = grads[piece].reshape(p.shape)
            start += p.size
        self._parameters = Sealed(self, self.parameters)
        self._state = State(self, self.state)
