"""Inputs of the estimators: the rule of docs/data.md, and the names that scikit-learn keeps."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from xpnet.network.checks import check_batch, check_values
from xpnet.support.checks import on_host

FLOATS = (np.float64, np.float32)


def features_of(model: Any, X: Any, first: bool) -> Any:
    """Return X as a dense array or CSR matrix of FLOATS; note or check the names of its columns.

    uint8 means the same as for a network: pixels k that stand for k/255 in an array, numbers in a
    data frame. A sparse matrix is a table.

    Parameters
    ----------
    model : estimator
        It gets ``n_features_in_`` and ``feature_names_in_``.
    X : array, sparse matrix or data frame, shape (n, features)
    first : bool
        True: note the columns; False: refuse other columns than those of the first call.

    Raises
    ------
    DataError, ShapeError, ValueError
        If X does not hold finite numbers, or has other columns.
    """
    if hasattr(X, "tocsr"):
        return validate_data(model, X, accept_sparse="csr", dtype=FLOATS, reset=first)
    host = on_host(X, "X")
    check_batch(host)
    host = host / 255 if host.dtype == np.uint8 else host
    check_values(host, host.dtype)
    host = check_array(host, dtype=FLOATS, estimator=model, input_name="X")
    validate_data(model, X if hasattr(X, "columns") else host, skip_check_array=True, reset=first)
    return host
