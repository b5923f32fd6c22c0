"""What the layers do: the first passes are watched, and errors say in which layer they arose."""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any

from xpnet.backend import Array
from xpnet.layers.base import Layer, Shape
from xpnet.layers.part import Part
from xpnet.support.errors import DataError, ShapeError, XpnetError

BEFORE = "backward needs the forward pass of the batch first: net.forward(X)"


class LastBatch:
    """What the buffers of the layers hold: the forward pass of a batch, or not any more.

    Attributes
    ----------
    shape : tuple of int or None
        That of the output; None where `backward` has nothing to go on.
    awaited : bool
        True from a forward pass to its backward pass.
    lost : str
        Why there is nothing to go on.
    seen : set of str
        The kinds of passes that have been watched since the buffers were made.
    """

    __slots__ = ("awaited", "lost", "seen", "shape")

    def __init__(self) -> None:
        self.shape: tuple[int, ...] | None = None
        self.awaited, self.lost, self.seen = False, "", set[str]()

    def refuse(self, dY: Array) -> None:
        """Raise the error for a gradient that does not belong to the last output."""
        if self.shape is None:
            raise XpnetError(BEFORE + self.lost)
        raise ShapeError(f"dY must have the shape of the last output, {self.shape}; got {dY.shape}")


class Watched:
    """One layer, or two that run as one, of which each result is checked."""

    def __init__(self, runs: Any, layers: list[Layer], number: int) -> None:
        self.runs, self.layers, self.number = runs, layers, number

    def forward(self, X: Array) -> Array:
        """Return Y, after a look at it."""
        Y, shape = self.runs.forward(X), tuple(X.shape[1:])
        for layer in self.layers:
            shape = layer.output_shape(shape) or ()
        self._check("forward", "Y", Y, (len(X), *shape), X.dtype)
        return Y

    def backward(self, dY: Array) -> Array | None:
        """Return dX, after a look at it."""
        dX, wanted = self.runs.backward(dY), self.layers[0].dX
        first_of_all = dX is None and self.number == 0  # such as one that looks up whole numbers
        if wanted is not None and not first_of_all:
            self._check("backward", "dX", dX, (len(dY), *wanted.shape[1:]), dY.dtype)
        return dX

    def _check(self, what: str, letter: str, A: Any, shape: Shape, dtype: Any) -> None:
        """Check what a layer returns: an array of numbers in the shape of Y or dX."""
        where = f"{what} of layer {self.number}, {self.layers[0]!r},"
        if A is None:
            raise XpnetError(f"{where} returned None; it must return {letter}")
        if not hasattr(A, "dtype") or not hasattr(A, "shape"):
            raise DataError(f"{where} must return an array; got a {type(A).__name__}")
        if A.dtype.kind not in "fc" and A.dtype != dtype:  # pixels may be passed on
            raise DataError(f"{where} must return floating numbers; got the dtype {A.dtype}")
        if A.shape != shape:
            hint = "; a layer that changes the shape defines output_shape" if letter == "Y" else ""
            raise ShapeError(f"{where} must return the shape {shape}; got {A.shape}{hint}")


def watched(net: Any, what: str) -> list[Watched]:
    """Return what a network runs, watched: for the first pass of a kind with new buffers."""
    net._last.seen.add(what)
    found, i = list[Watched](), 0
    for runs in net._arranged:
        k = 1 if runs is net.layers[i] else 2
        found.append(Watched(runs, net.layers[i : i + k], i))
        i += k
    return found


def name_layer(error: Exception, net: Any, runs: Any, what: str) -> None:
    """Say in which layer of a network an error arose: tracebacks show such notes."""
    runs = runs.runs if isinstance(runs, Watched) else runs
    for layer in watched(net, what):
        if layer.runs is runs and not isinstance(error, XpnetError):
            names = " and ".join(map(repr, layer.layers))
            error.add_note(f"in {what} of layer {layer.number} of the network, {names}")
    net._last.seen.discard(what)  # the next pass is watched again


@cache
def depends_on_training(kind: type) -> bool:
    """Return True if a method of a layer looks at ``self.training``."""
    bases = [base for base in kind.__mro__ if base not in Part.__mro__]
    functions = [f for base in bases for f in vars(base).values() if isinstance(f, FunctionType)]
    return any("training" in function.__code__.co_names for function in functions)
