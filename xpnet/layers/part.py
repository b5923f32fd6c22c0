"""What makes a layer a part of a network: its values, its copies, its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any, Self

import numpy as np

from xpnet.backend import Array, Backend, find_backend
from xpnet.backend.random import Random
from xpnet.initializers import Initializer
from xpnet.layers.values import Sealed, State, declare, write
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


class Part:
    """A part of a network: what the network asks of a layer besides its mathematics."""

    xp: Backend
    Y: Array
    dX: Array = None
    pixels = "numbers"
    training = True
    splits = True  # False: in prediction, too, an output depends on all samples of the batch
    least_batch = 1  # the fewest samples of a batch with which the layer can be trained
    dtype: np.dtype[Any]
    _parameters: dict[str, Parameter]
    _state: dict[str, Array]
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

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        for name in state.get("_parameters", ()):  # in another process nobody has declared them
            declare(type(self), name)

    def copy(self) -> Self:
        """Return an independent copy: same values, and free to stand in another network."""
        return deepcopy(self)

    def __copy__(self) -> Self:
        return self.copy()  # two layers with the same arrays would disturb each other

    def twin(self) -> Self:
        """Return a layer that shares parameters, state and settings, for another thread.

        `build` gives the twin buffers of its own. A layer that holds others makes twins of them.
        """
        twin = object.__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    # ---- values -------------------------------------------------------------------------------

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

    def xpnet_values(self) -> dict[str, Array]:
        """Return parameters and state by name."""
        return {name: getattr(self, name) for name in self.parameters} | self.state

    def assign(self, name: str, value: Any) -> None:
        """Copy a value into the array of a parameter ``W``, or of a gradient ``dW``."""
        what, own = f"{name} of {self!r}", vars(self)
        if name not in own and (network := self.network()) is not None:
            _ = network.params  # makes the first values
        if name not in own and name not in self.parameters:
            raise XpnetError(f"{what} has no place yet: the layer belongs to no network")
        if name not in own:  # a first value; the network's dtype is not known yet
            own[name] = np.empty(self.parameters[name].shape)
            xp = find_backend("numpy")
        else:
            xp = self.xp if "xp" in own else find_backend("numpy")
        write(xp, what, own[name], value)

    def network(self) -> Any:
        """Return the outermost network that the layer is part of, None if there is none."""
        owner = self.owner()
        return None if owner is None else owner.network() or owner

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
