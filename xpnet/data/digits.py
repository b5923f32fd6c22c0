"""The 1797 handwritten digits of 8 x 8 pixels that come with scikit-learn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.random import Random
from xpnet.support.errors import DataError

TEST_SIZE = 360  # a fifth


def digits() -> tuple[
    NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]
]:
    """Return X_train, t_train, X_test, t_test; always the same 1437 and 360 images.

    Returns
    -------
    X_train, X_test : ndarray of float64, shape (n, 64)
        Pixels from 0 to 1, in sixteenths.
    t_train, t_test : ndarray of int64, shape (n,)
        The digits 0 to 9.

    Raises
    ------
    DataError
        If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DataError(
            f"scikit-learn, which brings the digits, cannot be imported ({error}); "
            "run pip install scikit-learn"
        ) from None
    X, t = load_digits(return_X_y=True)
    order = Random(0, "digits").permutation(len(X))
    train, test = order[:-TEST_SIZE], order[-TEST_SIZE:]
    return X[train] / 16, t[train].astype(np.int64), X[test] / 16, t[test].astype(np.int64)
