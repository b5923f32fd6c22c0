"""The gradients of the layers while several processes compute them to the last bit.

In reproducible mode the sum over the samples is formed where it arises, over all processes at once:
the grid on which a sum is exact must be that of all its terms, see `xpnet.backend.exact`. So the
backend must know what is a sum over the samples. During a backward pass each layer finds a
`SharedGradient` in place of the array ``layer.dW``. It stands for the array, knows its layer, and
holds the layer to the contract of a gradient, see `xpnet.Layer`: whatever could make the gradient
wrong is an error that names the layer and the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import numpy as np

from xpnet.backend import Array
from xpnet.support.errors import ParallelError

WRITE = (
    "compute the terms of each sample into an array of the layer, and write their sum by "
    "xp.sum(terms, axis=0, out=...) or xp.matmul(X.T, dY, out=...), further parts by xp.add_sum or "
    "xp.add_matmul. A layer that xpnet.gradcheck finds right can also train on one process, or "
    "without reproducible mode"
)
NOT_LINEAR = (
    "is written by {} with operands after which it is not linear in dY; clip_norm and weight_decay "
    "belong to the optimizer"
)
# What a gradient may go through after its sum, by whether the operands are gradients: the result
# must still be linear in dY.
LINEAR: dict[str, Callable[..., bool]] = {
    "copyto": lambda a: a,
    "add": lambda a, b: a and b,
    "subtract": lambda a, b: a and b,
    "multiply": lambda a, b: a != b,
    "divide": lambda a, b: a and not b,
}


class SharedGradient(np.lib.mixins.NDArrayOperatorsMixin):
    """The gradient of a parameter, or a slice of it, to which only sums over samples are written.

    Parameters
    ----------
    name : str
        Such as ``"dW of layer 0, Linear(2, 3)"``.
    array : array
        Where the values are.
    written : ndarray of bool
        Which of them this backward pass has written.
    """

    def __init__(self, name: str, array: Array, written: np.ndarray[Any, Any]) -> None:
        self.name, self.array, self.written = name, array, written
        self.shape, self.ndim, self.size = array.shape, array.ndim, array.size
        self.dtype = array.dtype

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def __len__(self) -> int:
        return len(self.array)

    # ---- views ----------------------------------------------------------------------------------

    @property
    def T(self) -> SharedGradient:
        """The transposed view."""
        return SharedGradient(self.name, self.array.T, self.written.T)

    def reshape(self, *shape: Any) -> SharedGradient:
        """Return a view of another shape."""
        return self._view(self.array.reshape(*shape), self.written.reshape(*shape))

    def ravel(self) -> SharedGradient:
        """Return a view with one axis."""
        return self.reshape(-1)

    def __getitem__(self, key: Any) -> SharedGradient:
        return self._view(self.array[key], self.written[key])

    def _view(self, array: Array, written: Any) -> SharedGradient:
        if written.size and not np.may_share_memory(written, self.written):
            self.refuse("is written through a copy; take a slice, such as [k : k + 1]")
        return SharedGradient(self.name, array, written)

    # ---- what may be done with it ---------------------------------------------------------------

    def mark(self) -> SharedGradient:
        """Note that all values have been written."""
        self.written[...] = True
        return self

    def __iadd__(self, other: Any) -> NoReturn:
        self.complete("is added to")
        self.refuse("is changed by +=, past the primitives of xp")

    def complete(self, doing: str) -> Array:
        """Return the array, after checking that all of it has been written in this pass."""
        if not self.written.all():
            place = np.argwhere(~self.written)[0].tolist()
            self.refuse(f"{doing} before this backward pass has written all of it, such as {place}")
        return self.array

    def refuse(self, why: str) -> NoReturn:
        """Raise the error for what would make the gradient wrong."""
        raise ParallelError(
            f"{self.name}: the gradient {why}. In reproducible mode on several processes a "
            f"gradient is a sum over the samples of all of them: {WRITE}"
        )

    def _is_used_as_an_array(self, *args: Any, **kwargs: Any) -> NoReturn:
        self.refuse("is written or read past the primitives of xp")

    __setitem__ = __array__ = __array_ufunc__ = __array_function__ = _is_used_as_an_array
    __cupy_get_ndarray__ = _is_used_as_an_array

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # a question, such as: has it __cuda_array_interface__?
            raise AttributeError(name)
        self._is_used_as_an_array()


def plain(a: Any) -> Any:
    """Return an operand as an array: a gradient must have been written before it is read."""
    return a.complete("is read") if isinstance(a, SharedGradient) else a


def is_linear(name: str, operands: list[Any]) -> bool:
    """Return True if a result is linear in dY, as the gradients among the operands are, or is 0."""
    if name == "copyto" and isinstance(operands[0], int | float):
        return operands[0] == 0
    return LINEAR[name](*[isinstance(a, SharedGradient) for a in operands])


def owner(a: Array) -> Any:
    """Return the array whose memory a view shows."""
    return a if getattr(a, "base", None) is None else a.base


class SharedGradients:
    """The shared gradients of all layers of a network, during one backward pass."""

    def __init__(self, net: Any) -> None:
        layers = net.walk("")
        _check_walk(net, [layer for _, layer in layers])
        self.memory = owner(net.grads)
        self.found = [(layer, *pair) for path, layer in layers for pair in _of(path, layer)]

    def hand_out(self) -> None:
        """Put each in the place of the array ``layer.dW``."""
        for layer, name, gradient in self.found:
            vars(layer)[name] = gradient

    def check(self) -> None:
        """Check that all are complete, and stand where they were put."""
        for layer, name, gradient in self.found:
            if getattr(layer, name) is not gradient:
                gradient.refuse(f"is in an array of its own; write into self.{name}")
            gradient.complete("is needed")

    def take_back(self) -> None:
        """Give the layers their arrays again."""
        for layer, name, gradient in self.found:
            vars(layer)[name] = gradient.array

    def refuse_kept_view(self, out: Array, module: Any) -> None:
        """Raise an error if an array is a view of a gradient that a layer has kept from before."""
        if owner(out) is self.memory:
            for _, _, gradient in self.found:
                if module.shares_memory(out, gradient.array):
                    gradient.refuse("is written through a view that was kept from before the pass")


@contextmanager
def shared_gradients(net: Any) -> Iterator[SharedGradients]:
    """Give each layer shared gradients inside a ``with`` block; at its end all must be complete.

    Raises
    ------
    ParallelError
        Naming the layer and the parameter, if a gradient breaks the contract.
    """
    gradients = SharedGradients(net)
    gradients.hand_out()
    try:
        yield gradients
        gradients.check()
    finally:
        gradients.take_back()


def _check_walk(net: Any, layers: list[Any]) -> None:
    """Check that the layers have all parameters of the network."""
    size = sum(p.size for layer in layers for p in layer.parameters.values())
    if size != net.size:
        raise ParallelError(
            f"{net!r} has {net.size} parameters, but the layers that net.walk gives have {size}; "
            "a layer that holds others defines walk"
        )


def _of(path: str, layer: Any) -> Iterator[tuple[str, SharedGradient]]:
    """Give the name and the shared gradient of each parameter of a layer."""
    for name in (f"d{name}" for name in layer.parameters):
        array = getattr(layer, name)
        written = np.zeros(array.shape, bool)
        yield name, SharedGradient(f"{name} of layer {path}, {layer!r}", array, written)
