"""The data of a training: they are checked, and placed on the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np

from xpnet.backend import Array
from xpnet.losses import Loss, SoftmaxCrossEntropy, check_targets, check_weights
from xpnet.network import Sequential
from xpnet.network.checks import check_batch, check_values
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError, OptionError, OutOfMemoryError, ShapeError
from xpnet.training.metrics.sums import total, weights_of


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

    Attributes
    ----------
    mean_weight : bool
        True: the weights of a data set have the mean 1, and a batch is divided by its number of
        samples. False: a batch is divided by the sum of its weights, as in scikit-learn.
    """

    mean_weight = True

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
            check_values(X, self.net.dtype, xp=self.net.xp if on_device else None)
            shape = self.net.output_shape(X.shape[1:])
        if shape is None or len(shape) != 1:
            raise ShapeError(
                f"the network gives outputs of shape {shape}, but {self.loss!r} takes vectors; "
                "end the network with Flatten() or Linear(...)"
            )
        if self.loss.distribution and shape[0] == 1:
            scores = isinstance(self.loss, SoftmaxCrossEntropy)
            other = '"bce_logits"' if scores else '"bce" behind Sigmoid()'
            raise ShapeError(
                f"{self.loss!r} needs an output for each class, and the network has one: the "
                "probability of a single class is always 1. Give it 2 outputs, or use the loss "
                f"{other} with targets 0 and 1"
            )
        check_targets(self.loss, t, (len(X), shape[0]))
        check_values(t, self.net.dtype, f"{self.loss!r}: t")
        return X, t

    def check_all(self, X: Any, t: Any, weights: Any = None) -> list[Any]:
        """Return inputs, targets and perhaps weights, checked, of the samples that count."""
        return counted(self.loss, *self.check(X, t), weights)

    def check_validation(self, data: Any) -> list[Any] | None:
        """Return validation data (X, t) or (X, t, weights); errors say what they are."""
        if data is None:
            return None
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise OptionError(
                "validation_data must be a pair (X, t), or (X, t, sample_weight); "
                f"got {type(data).__name__}"
            )
        try:
            return self.check_all(*data)
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
        X, t, *w = columns = self.check_all(X, t, weights)
        stored = [X.dtype if X.dtype == np.uint8 else net.dtype]
        targets = np.dtype(np.int64) if t.dtype.kind in "iu" else net.dtype
        dtypes = [net.input_dtype(X.dtype), targets]
        if w:
            dtypes.append(net.dtype)
            if self.mean_weight:
                columns = [X, t, w[0] * (len(t) / total(w[0]))]
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


def counted(loss: Loss, X: Array, t: np.ndarray[Any, Any], weights: Any) -> list[Any]:
    """Return the samples that count, and perhaps their weights, of which the largest is at most 1.

    Samples of weight 0, and those that the loss ignores, are left out: no batch has only such.
    """
    columns, used = [X, t], ~loss.ignored(t)
    if not used.any():
        raise DataError(f"{loss!r}: all {len(t)} targets are ignored; there is nothing to learn")
    if weights is not None:
        w = on_host(weights, "sample_weight")
        check_weights(w, len(t), used)
        columns.append(weights_of(w, len(t)))  # by a power of 2: no sum overflows
        used &= columns[2] > 0
    if used.all():
        return columns
    return [on_host(X, "X")[used], *(column[used] for column in columns[1:])]
