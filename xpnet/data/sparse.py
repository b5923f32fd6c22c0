"""Sparse rows: a matrix of mostly zeros; only the rows of a batch become dense."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any


class SparseRows:
    """The rows of a sparse matrix, as a column of `Batches`.

    Parameters
    ----------
    matrix : scipy.sparse matrix or array in CSR format, shape (n, features)
    """

    def __init__(self, matrix: Any) -> None:
        self.matrix, self.dtype = matrix, matrix.dtype
        self.shape: tuple[int, int] = matrix.shape
        self.size = matrix.shape[0] * matrix.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def astype(self, dtype: Any) -> SparseRows:
        """Return the same rows in another type."""
        return SparseRows(self.matrix.astype(dtype))

    def read(self, rows: slice | Array) -> np.ndarray[Any, Any]:
        """Return some rows as a dense array."""
        return np.asarray(self.matrix[rows].toarray())
