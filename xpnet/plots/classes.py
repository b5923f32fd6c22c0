"""Which classes a confusion matrix shows, where there are more than fit into a picture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ALL = 100  # so many classes are all shown; of more, those with the most mistakes
DIGITS = 40  # along an axis, of all labels together


def classes_to_show(matrix: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the classes of which a confusion matrix is shown, in ascending order.

    Where they are more than `ALL`, they are those of whose samples, or for which, most were
    mistaken.
    """
    if len(matrix) <= ALL:
        return np.arange(len(matrix))
    mistakes = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    return np.sort(np.argsort(-mistakes, kind="stable")[:ALL])


def which_are_shown(shown: NDArray[np.int64], classes: int) -> str:
    """Return the words that say which classes are left out, empty if none are."""
    if len(shown) == classes:
        return ""
    return f"the {len(shown)} classes with the most mistakes, of {classes:,}"


def ticks(shown: NDArray[np.int64]) -> tuple[list[int], list[str]]:
    """Return the places of the labels along an axis, and the labels."""
    most = DIGITS // len(str(shown[-1]))
    places = list(range(0, len(shown), -(-len(shown) // most)))
    return places, [str(shown[k]) for k in places]
