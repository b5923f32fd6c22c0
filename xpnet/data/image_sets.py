"""Image sets: images with a label for each, from the arrays of four IDX files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xpnet.support.errors import DataError

Array = NDArray[Any]
QMNIST = 8  # columns of its labels: the class, then who wrote the digit, and where


class ImageSet(NamedTuple):
    """Images of shape (n, *image shape), and an int64 label of each, for training and test."""

    X_train: Array
    t_train: NDArray[np.int64]
    X_test: Array
    t_test: NDArray[np.int64]


def image_set(arrays: list[Array], paths: list[Path]) -> ImageSet:
    """Return the arrays of four files as images and labels.

    Raises
    ------
    DataError
        If they do not fit together; it names the file.
    """
    X_train, t_train, X_test, t_test = arrays
    _check_images(X_train, paths[0])
    _check_images(X_test, paths[2])
    labels = [_labels(t_train, paths[1]), _labels(t_test, paths[3])]
    for X, t, k in zip((X_train, X_test), labels, (0, 2), strict=True):
        if len(X) != len(t):
            raise DataError(
                f"{paths[k]} holds {len(X)} images but {paths[k + 1]} {len(t)} labels: each image"
                " needs one"
            )
    if (X_train.shape[1:], X_train.dtype) != (X_test.shape[1:], X_test.dtype):
        raise DataError(
            f"{paths[0]} holds images of {X_train.dtype} of shape {X_train.shape[1:]} but "
            f"{paths[2]} of {X_test.dtype} of shape {X_test.shape[1:]}: training and test images "
            "must have one type and one size"
        )
    return ImageSet(X_train, labels[0], X_test, labels[1])


def _check_images(X: Array, path: Path) -> None:
    if X.ndim < 2 or X.size == 0:
        raise DataError(
            f"{path} holds {X.dtype} of shape {X.shape}: images must have the shape"
            " (n, rows, columns), (n, pixels) or (n, rows, columns, channels), and not be empty"
        )


def _labels(t: Array, path: Path) -> NDArray[np.int64]:
    """Return one whole number for each image."""
    t = _column(t, path)
    if t.ndim != 1:
        raise DataError(
            f"{path} holds {t.dtype} of shape {t.shape}: labels must have the shape (n,) or"
            " (n, 1), or be one-hot rows"
        )
    wrong = t[~((t == np.round(t)) & (np.abs(t) < 2**53))]
    if wrong.size:
        raise DataError(f"{path} holds {t.dtype} such as {wrong[0]}: labels must be whole numbers")
    if t.size and t.min() < 0:
        raise DataError(f"{path} holds the label {t.min():g}: labels count from 0")
    return t.astype(np.int64)


def _column(t: Array, path: Path) -> Array:
    """Return the only column, or that of the classes; of one-hot rows the place of the 1."""
    if t.ndim != 2:
        return t
    if t.shape[1] == 1 or (t.shape[1] == QMNIST and "qmnist" in path.name.lower()):
        return t[:, 0]
    is_one_hot = np.isin(t, (0, 1)).all() and (t.sum(axis=1) == 1).all()
    return t.argmax(axis=1) if is_one_hot and t.size else t
