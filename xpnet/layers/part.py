"""What makes a layer a part of a network: its values, its copies, its place."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Self

from xpnet.backend import Array
from xpnet.layers.memory import LayerMemory
from xpnet.layers.memory import Parameter as Parameter
from xpnet.layers.memory import Shape as Shape
from xpnet.support.assigned import declare
from xpnet.support.attributes import Foreign, completed


class Part(LayerMemory):
    """A part of a network: what the network asks of a layer besides its mathematics."""

    Y: Array
    dX: Array = None
    init = Foreign("give it to the layer that you make, as init=...; for other values assign to W")
    pixels = "numbers"
    training = True
    splits = True  # False: in prediction, too, an output depends on all samples of the batch
    least_batch = 1  # the fewest samples of a batch with which the layer can be trained
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

    def xpnet_values(self) -> dict[str, Array]:
        """Return parameters and state by name."""
        return {name: getattr(self, name) for name in self.parameters} | self.state

    def network(self) -> Any:
        """Return the outermost network that the layer is part of, None if there is none."""
        owner = self.owner()
        return None if owner is None else owner.network() or owner

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
        older = {"parameters": "_parameters", "state": "_state"}  # in release 1
        state = {older.get(name, name): value for name, value in state.items()}
        vars(self).update(completed(type(self), state))
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
