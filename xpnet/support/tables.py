"""Tables: frames, series and columns of pandas, polars and pyarrow, each column checked by name."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.support.errors import DataError
from xpnet.support.values import NumPyArray, as_numbers, not_numbers

WORDS = ("isna", "iter_columns", "is_null", "column_names")  # of pandas, polars (two), pyarrow


def is_table(a: Any) -> bool:
    """Return True for frames, series and columns: their values are numbers, never pixels."""
    return any(hasattr(a, word) for word in WORDS)


def read_table(a: Any, name: str) -> NumPyArray:
    """Return a frame or a series as an array; uint8 becomes int16, as a table has no pixels.

    Raises
    ------
    DataError
        If a column does not hold numbers, or lacks a value; the column and the row are named.
    """
    columns = _columns(a, name)
    arrays = [_read_column(column, where) for where, column in columns]
    if columns and columns[0][1] is a:
        host = arrays[0]
    else:
        for (where, _), array in zip(columns, arrays, strict=True):
            if array.ndim != 1:
                raise DataError(
                    f"{where} must hold one number in each row; got arrays of shape "
                    f"{array.shape[1:]}: make a column of each number"
                )
        host = _together(a, arrays)
    return host.astype(np.int16) if host.dtype == np.uint8 else host


def _columns(a: Any, name: str) -> list[tuple[str, Any]]:
    """Return the columns of a frame with their names; a series is its only column."""
    if hasattr(a, "iter_columns") and not hasattr(a, "column_names"):  # a frame of polars
        pairs = [(column.name, column) for column in a.iter_columns()]
    elif hasattr(a, "column_names"):  # of pyarrow
        pairs = list(zip(a.column_names, a.columns, strict=True))
    elif hasattr(a, "columns"):  # of pandas
        pairs = list(a.items())
    else:
        return [(name, a)]
    return [(f"{name}: the column {label!r}", column) for label, column in pairs]


def _together(a: Any, arrays: list[NumPyArray]) -> NumPyArray:
    """Return the columns side by side, without a copy where the frame has one type."""
    if not arrays:
        return np.zeros((len(a), 0))
    host = np.asarray(a.to_numpy()) if hasattr(a, "to_numpy") else None
    if host is None or host.dtype.kind not in "fiub":  # NumPy has no type for all together
        return np.stack(arrays, axis=1)
    return host


def _read_column(column: Any, name: str) -> NumPyArray:
    """Return a series as an array, after checking that it holds numbers and lacks none."""
    dtype = getattr(column, "dtype", None)
    kind = getattr(dtype, "kind", "f")  # the types of polars and pyarrow have none
    if not isinstance(dtype, np.dtype) and kind not in "fiub":
        raise DataError(not_numbers(name, dtype, kind=kind.replace("O", "U")))
    missing = np.asarray(column.is_null() if hasattr(column, "is_null") else column.isna())
    _refuse_row(name, missing, "has no value in row {row}; fill it in, or drop the row")
    host = as_numbers(np.asarray(column), name)
    if host.dtype.kind == "f":
        words = "must be finite; row {row} is {value}; replace it, or drop the row"
        _refuse_row(name, ~np.isfinite(host), words, host)
    return host


def _refuse_row(name: str, bad: Any, words: str, values: Any = None) -> None:
    if bad.any():
        row = int(bad.reshape(len(bad), -1).any(axis=1).argmax())
        value = None if values is None else values[row]
        raise DataError(f"{name} {words.format(row=row, value=value)}")
