"""The arrays of a loss: made when outputs of a new size, type or backend come, and used again."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any, Self

import numpy as np

from xpnet.backend import Array, Backend, backend_of, get_backend
from xpnet.support.attributes import Checked, completed
from xpnet.support.checks import must_be_read, on_host, yes_or_no
from xpnet.support.errors import DataError, ShapeError

OUTPUTS = {np.dtype(name) for name in ("float32", "float64", "complex128")}  # what networks give


class LossMemory:
    """The part of `xpnet.losses.base.Loss` that makes and receives arrays."""

    one_element = False  # `elements` writes one value for each sample, not one for each output
    distribution = False  # a row of targets is a distribution over classes; labels are accepted too
    numbers = False  # the targets are numbers that are measured, not classes
    link: Any = None  # what turns an output into what it means, if that is not the output itself
    validate: Any = Checked(yes_or_no)
    value: Array
    xp: Backend  # of the outputs that came last
    Y: Array = None
    _elements: Array
    _dY: Array
    _T: Array
    _scratch: Array
    _weights: Array
    _column: Array
    _dtype: Any = None

    def __init__(self) -> None:
        self.xp = get_backend()
        self._shape = (0, 0)  # the shape of the outputs that the buffers are made for

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._options())})"

    def _options(self) -> list[str]:
        """Return the plain arguments that make such a loss, those that are not the default."""
        parameters = inspect.signature(type(self).__init__).parameters.values()
        given = {p.name: getattr(self, p.name, p.default) for p in parameters}
        return [
            f"{p.name}={given[p.name]!r}"
            for p in parameters
            if p.default is not p.empty
            and isinstance(given[p.name], bool | int | float | str | tuple | None)
            and given[p.name] != p.default
        ]

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(completed(type(self), state))

    def __copy__(self) -> Self:
        return deepcopy(self)  # two losses with the same arrays would disturb each other

    @property
    def work(self) -> Array:
        """Scratch of the shape of the present outputs."""
        return self._scratch[: len(self.Y)]

    def _prepare(self, Y: Array) -> None:
        """Make the buffers for outputs of this shape on their backend, if they are not there."""
        if getattr(Y, "ndim", 0) != 2 or Y.dtype not in OUTPUTS:
            came = (
                f"{Y.dtype} of shape {Y.shape}" if hasattr(Y, "dtype") else repr(type(Y).__name__)
            )
            raise ShapeError(f"{self!r} takes floating outputs of shape (n, outputs); got {came}")
        n, width = Y.shape
        if n == 0:
            raise DataError(f"{self!r} needs at least one sample; got none")
        if not self.xp.owns(Y):
            self.use(backend_of(Y))
        self.reserve(n, width, Y.dtype)

    def reserve(self, n: int, width: int, dtype: Any) -> None:
        """Make the buffers for up to n outputs of this width, if they are not there."""
        if n > self._shape[0] or width != self._shape[1] or self._dtype != dtype:
            self._make(n, width, dtype)

    def forget(self) -> None:
        """Let go of the buffers: the next outputs get new ones."""
        self._shape, self.Y = (0, 0), None

    def use(self, xp: Backend) -> None:
        """Compute on a backend from now on."""
        if xp is not self.xp:
            self.xp, self._shape = xp, (0, 0)

    def _make(self, n: int, width: int, dtype: Any) -> None:
        """Make the buffers for up to n outputs of this width."""
        self.version = self.xp.renew()  # its arrays are new
        empty, self._shape, self._dtype = self.xp.empty, (0, 0), dtype
        self._elements = empty((n, 1 if self.one_element else width), dtype)
        self._dY, self._T, self._scratch = (empty((n, width), dtype) for _ in range(3))
        self._weights, self._column = empty((n, 1), dtype), empty((n, 1), dtype)
        self.value = self.xp.zeros((), dtype)
        self._shape = n, width

    def _received(self, a: Any, argument: str) -> Array:
        """Return targets or weights as an array of the backend; lists are copied there."""
        if must_be_read(a) or isinstance(a, int | float):
            return self.xp.asarray(on_host(a, f"{self!r}: {argument}"))
        self.xp.require(a, self, argument)
        return a

    def _targets(self, t: Array, n: int) -> Array:
        """Return the targets in the shape and type of the outputs."""
        T = self._T[:n]
        if self.distribution and t.ndim == 1:
            return self.xp.one_hot(t, out=T)
        t = t.reshape(n, -1)
        return t if t.dtype == T.dtype else self.xp.copyto(T, t)
