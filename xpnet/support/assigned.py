"""Values of a layer that a user assigns: they are copied to where the network keeps them.

``layer.W = A`` copies A into the network's flat vector of parameters, ``layer.dW = A`` into that of
the gradients, ``layer.state["mean"] = A`` into the array that `forward` reads. So what is assigned
is trained, moved, copied and saved like every other value.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from xpnet.support.attributes import Foreign
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError, OptionError, ShapeError, XpnetError


def write(xp: Any, what: str, target: Any, value: Any) -> None:
    """Copy a value of the same shape into an array.

    Raises
    ------
    ShapeError
        If it has another shape.
    DataError
        If it is no array of numbers, or one of them does not fit the array's type.
    """
    if value is target:  # as after ``layer.W += 1``
        return
    if not hasattr(target, "dtype") or not xp.owns(target):  # a shared gradient refuses it
        target[...] = value
        return
    if isinstance(value, np.ndarray | list | tuple | float | int) or not xp.owns(value):
        value = _cast(value, what, target.dtype)
    _check_shape(what, value.shape, target.shape)
    placed = xp.asarray(value, target.dtype)
    if xp.module.may_share_memory(placed, target):  # such as ``layer.W = layer.W.T``
        placed = placed.copy()
    xp.copyto(target, placed)


def first_value(what: str, value: Any, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Return a copy on the host of what becomes the first value of a parameter, in float64."""
    cast = _cast(value, what, np.dtype("float64"))
    _check_shape(what, cast.shape, shape)
    return cast.copy()


def _check_shape(what: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    if found != wanted:
        hint = "" if found else "; for one value everywhere assign to [...]"
        raise ShapeError(f"{what} has the shape {wanted}; got {found}{hint}")


def _cast(value: Any, what: str, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Return a value as an array on the host, of this type."""
    if getattr(getattr(value, "dtype", None), "kind", "") == dtype.kind == "c":
        return np.asarray(value)  # within the gradient check
    given = on_host(value, what)
    with np.errstate(over="ignore"):
        cast = given.astype(dtype)
    if dtype.kind == "f" and np.isinf(cast).sum() > np.isinf(given).sum():
        raise DataError(
            f"{what}: a value does not fit {dtype}; the largest is {np.abs(given).max():g}"
        )
    return cast


class NoValues(XpnetError, AttributeError):
    """A parameter is used before it has values."""


class ParameterValue:
    """``layer.W``, or ``layer.dW``: what is assigned is copied.

    There is no ``__get__``: reading takes the array from the layer at the usual speed. Where the
    layer has no array yet, reading gives this object, which refuses to be used.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def __set__(self, layer: Any, value: Any) -> None:
        if self.name in layer.parameters or self.name.removeprefix("d") in layer.parameters:
            layer.assign(self.name, value)
        else:  # another layer of this class has such a parameter
            vars(layer)[self.name] = value

    def __delete__(self, layer: Any) -> None:
        raise OptionError(f"{self.name} of {layer!r} cannot be deleted: it is a part of the layer")

    def __repr__(self) -> str:
        return f"<{self.name} before the first values>"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # a question, such as: has it __cuda_array_interface__?
            raise AttributeError(name)
        self._refuse()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NoValues(
            f"{self.name} has no values yet: a network gives its layers their first values when "
            "it is first used, or by net.params"
        )

    __array__ = __array_ufunc__ = __getitem__ = __setitem__ = __len__ = __iter__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __neg__ = __float__ = _refuse
    __truediv__ = __rtruediv__ = __matmul__ = __rmatmul__ = __pow__ = __abs__ = _refuse


def declare(kind: type, name: str) -> None:
    """Let the layers of a class take values for a parameter and for its gradient."""
    for each in (name, f"d{name}"):
        there = next((vars(base)[each] for base in kind.__mro__ if each in vars(base)), None)
        if there is None or isinstance(there, Foreign):
            setattr(kind, each, ParameterValue(each))


class Sealed(dict[str, Any]):
    """A dict of a layer in a network: no entry comes or goes. Copies are plain dicts."""

    def __init__(self, layer: Any, entries: dict[str, Any]) -> None:
        super().__init__(entries)
        self.what, self.xp = f"of {layer!r}", layer.xp

    def __setitem__(self, name: str, value: Any) -> None:
        self._refuse()

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise OptionError(
            f"a parameter {self.what} cannot be declared, changed or removed any more; declare it "
            "in __init__ by self.parameter(name, shape, init)"
        )

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set some entries."""
        for name, value in dict(*args, **kwargs).items():
            self[name] = value

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc]
        self.update(other)
        return self

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Return an entry that exists."""
        return self[name] if name in self else self._refuse()

    def __delitem__(self, name: str) -> None:
        self._refuse()

    def pop(self, *args: Any) -> NoReturn:
        """Refuse."""
        self._refuse()

    def popitem(self) -> NoReturn:
        """Refuse."""
        self._refuse()

    def clear(self) -> None:
        """Refuse."""
        self._refuse()

    def __reduce__(self) -> Any:
        return dict, (dict(self),)


class State(Sealed):
    """``layer.state`` of a layer in a network: what is assigned to an entry is copied."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name not in self:
            self._refuse(name)
        write(self.xp, f"state[{name!r}] {self.what}", self[name], value)

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in self.items())
        raise OptionError(
            f"state {self.what} has the entries {shapes or 'none'}: each can be set to values of "
            "its shape; initial_state of a layer says which there are"
        )

    def replace(self, values: dict[str, Any]) -> None:
        """Set all entries; nothing changes where a name or a shape does not fit."""
        for name in values.keys() | self.keys():
            if name not in self or np.shape(values.get(name, 0)) != self[name].shape:
                self._refuse()
        self.update(values)
