"""The data of a training: they are checked, and placed on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import Array
from xpnet.losses import Loss, check_targets, check_weights
from xpnet.network import Sequential
from xpnet.network.checks import check_batch, check_values
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError, OptionError, OutOfMemoryError, ShapeError


class Columns(NamedTuple):
    """The inputs, targets and perhaps weights of a data set.

    Attributes
    ----------
    arrays : list of array
        The columns, of equal length.
    stored : list of dtype
        The type of each column in memory: pixels stay uint8.
    dtypes : list of dtype
        The type of each column in a batch.
    """

    arrays: list[Array]
    stored: list[np.dtype[Any]]
    dtypes: list[np.dtype[Any]]

    @property
    def samples(self) -> int:
        """The number of samples."""
        return len(self.arrays[0])

    @property
    def sample_shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.arrays[0].shape[1:])


class DataReader:
    """Checks the data for a network and a loss, and places them on the device.

    Parameters
    ----------
    net : Sequential
    loss : Loss
    """

    def __init__(self, net: Sequential, loss: Loss) -> None:
        self.net, self.loss = net, loss

    def check(self, X: Any, t: Any) -> tuple[Array, np.ndarray[Any, Any]]:
        """Return inputs and targets, after checking them against network and loss.

        Inputs that are on the device already stay there.
        """
        on_device = not isinstance(X, np.ndarray) and self.net.xp.owns(X)
        X = X if on_device and X.dtype.kind in "fiub" else on_host(X, "X")
        t = on_host(t, f"{self.loss!r}: t")
        with self.net.xp.here(), self._swapped(t):
            check_batch(X)
            check_values(X, self.net.dtype)
            shape = self.net.output_shape(X.shape[1:])
        if shape is None or len(shape) != 1:
            raise ShapeError(
                f"the network gives outputs of shape {shape}, but {self.loss!r} takes vectors; "
                "end the network with Flatten() or Linear(...)"
            )
        check_targets(self.loss, t, (len(X), shape[0]))
        check_values(t, self.net.dtype, f"{self.loss!r}: t")
        return X, t

    def check_pair(self, data: Any) -> tuple[Array, np.ndarray[Any, Any]]:
        """Return validation data (X, t), checked; the errors say that they are validation data."""
        try:
            return self.check(*pair_of(data))
        except (DataError, ShapeError) as error:
            raise type(error)(f"validation_data: {error}") from None

    @contextmanager
    def _swapped(self, t: np.ndarray[Any, Any]) -> Iterator[None]:
        """Ask whether X and t are swapped, where X has a wrong shape and t would fit."""
        try:
            yield
        except ShapeError as error:
            question = ""
            with suppress(ShapeError):
                if t.ndim > 1 and self.net.output_shape(t.shape[1:]):
                    question = f"; X comes first, then t, of shape {t.shape}: are they swapped?"
            raise ShapeError(f"{error}{question}") from None

    def columns(self, X: Any, t: Any, weights: Any) -> Columns:
        """Return the checked columns; samples of weight 0 are left out."""
        net = self.net
        X, t = self.check(X, t)
        stored = [X.dtype if X.dtype == np.uint8 else net.dtype]
        targets = np.dtype(np.int64) if t.dtype.kind in "iu" else net.dtype
        dtypes = [net.input_dtype(X.dtype), targets]
        columns = [X, t]
        if weights is not None:
            columns = _weighted(X, t, weights)
            dtypes.append(net.dtype)
        return Columns(columns, [*stored, *dtypes[1:]], dtypes)

    def place(self, columns: Columns) -> Columns:
        """Return the data set on the device.

        Raises
        ------
        OutOfMemoryError
            If it does not fit in memory.
        """
        pairs = list(zip(columns.arrays, columns.stored, strict=True))
        with suppress(MemoryError):
            return columns._replace(arrays=[self.put(column, dtype) for column, dtype in pairs])
        needed = sum(column.size * dtype.itemsize for column, dtype in pairs)
        xp = self.net.xp
        raise OutOfMemoryError(
            f"the data set needs {needed / 1e6:,.0f} MB, more than the {xp.name} backend has "
            "left; train with fewer samples" + ("" if xp.on_host else ", or with backend='numpy'")
        )

    def put(self, column: Any, dtype: np.dtype[Any]) -> Array:
        """Return a column of the data set on the device."""
        return self.net.xp.asarray(column, dtype)


def _weighted(X: Array, t: np.ndarray[Any, Any], weights: Any) -> list[Array]:
    """Return the samples whose weight is not 0, and their weights: the largest is at most 1."""
    w = on_host(weights, "sample_weight")
    check_weights(w, len(X))
    w = w.reshape(-1).astype(np.float64)
    used = w > 0  # a batch must not consist of weights 0
    w = np.ldexp(w, -np.frexp(w.max())[1])  # by a power of 2: no sum overflows
    return [X, t, w] if used.all() else [on_host(X, "X")[used], t[used], w[used]]


def pair_of(data: Any) -> tuple[Any, Any]:
    """Return (X, t), after checking that ``validation_data`` is a pair."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise OptionError(f"validation_data must be a pair (X, t); got {type(data).__name__}")
    return data[0], data[1]
