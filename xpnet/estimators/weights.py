"""Weights: a matrix and a vector for each layer, or one flat vector; and those of samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np

from xpnet.support.errors import OptionError

NumPyArray = np.ndarray[Any, Any]
Weights = tuple[list[NumPyArray], list[NumPyArray]]  # coefs_ and intercepts_


def first_weights(
    seed: int, sizes: Sequence[int], activations: Sequence[str], dtype: np.dtype[Any]
) -> Weights:
    """Return the weights that scikit-learn's MLP begins with, for the same seed.

    They are uniform, as Glorot and Bengio (2010) advise, and drawn by NumPy's RandomState, which
    gives the same numbers on every machine.

    Parameters
    ----------
    seed : int
    sizes : sequence of int
        The number of inputs, then the width of each layer.
    activations : sequence of str
        The name of each layer's activation; the last layer, too, has one, for its range.
    dtype : dtype
    """
    random, found = np.random.RandomState(seed % 2**32), []
    for (n_in, n_out), name in zip(pairwise(sizes), activations, strict=True):
        limit = sqrt((2 if name == "logistic" else 6) / (n_in + n_out))
        W = random.uniform(-limit, limit, (n_in, n_out))
        found.append((W.astype(dtype), random.uniform(-limit, limit, n_out).astype(dtype)))
    return [W for W, _ in found], [b for _, b in found]


def flat_of(weights: Weights) -> NumPyArray:
    """Return all weights as the flat vector of a network's parameters."""
    pairs = zip(*weights, strict=True)
    return np.concatenate([np.ravel(a) for pair in pairs for a in pair])


def checked_weights(model: Any) -> tuple[list[int], NumPyArray]:
    """Return the width of each layer, and all weights as a flat vector.

    Raises
    ------
    OptionError
        If somebody has given ``coefs_`` and ``intercepts_`` values that make no network.
    """
    try:
        W, b = ([np.asarray(a) for a in arrays] for arrays in (model.coefs_, model.intercepts_))
        sizes = [W[0].shape[0], *(len(a) for a in b)]
        flat = flat_of((W, b))
    except (TypeError, ValueError, IndexError) as error:
        raise OptionError(f"coefs_ and intercepts_ are not weights of a network: {error}") from None
    for k, pair in enumerate(zip(W, pairwise(sizes), strict=True)):
        if pair[0].shape != pair[1] or b[k].ndim != 1:
            raise OptionError(
                f"coefs_[{k}] must have the shape {pair[1]}, by those of its neighbours; got "
                f"{pair[0].shape} with intercepts_[{k}] of shape {b[k].shape}"
            )
    if flat.dtype.kind != "f" or not np.isfinite(flat).all():
        raise OptionError(f"coefs_ and intercepts_ must be finite numbers; got {flat.dtype} values")
    return sizes, flat


def weights_of(flat: NumPyArray, shapes: Sequence[tuple[int, ...]]) -> Weights:
    """Return the weights that a flat vector holds, given the shape of each matrix."""
    start, found = 0, []
    for n_in, n_out in shapes:
        values = np.array(flat[start : start + (n_in + 1) * n_out]).reshape(n_in + 1, n_out)
        found.append(values)
        start += values.size
    return [values[:-1] for values in found], [values[-1] for values in found]


def scaled(w: NumPyArray | None, alpha: float) -> tuple[NumPyArray | None, float]:
    """Return the weights of the samples and α of the penalty, both times the same power of 2.

    The largest weight is then below 1, so no sum overflows.
    """
    if w is None:
        return w, alpha
    shift = -np.frexp(w.max())[1]
    return np.ldexp(w, shift), float(np.ldexp(alpha, shift))


def weight_of_labels(class_weight: Any, y: NumPyArray) -> NumPyArray:
    """Return the weight of each sample by its label, in float64.

    scikit-learn looks for the number 1 where a label is the word ``"1"``, so a dict of such labels
    is read here.
    """
    from sklearn.utils.class_weight import compute_sample_weight

    labels, codes = np.unique(y, return_inverse=True) if y.ndim == 1 else (y[:0, 0], y)
    if isinstance(class_weight, Mapping):
        named = [k for k in labels.tolist() if k in class_weight]
        if named and len(named) in (len(labels), len(class_weight)):
            return np.array([class_weight.get(k, 1) for k in labels.tolist()], np.float64)[codes]
    return np.asarray(compute_sample_weight(class_weight, y), dtype=np.float64)
