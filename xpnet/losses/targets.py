"""What targets and sample weights must be: checks on the host, before the first step."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.support.errors import DataError, ShapeError


def check_targets(loss: Any, t: np.ndarray[Any, Any], shape: tuple[int, int]) -> None:
    """Check targets on the host against the loss and the shape of the outputs.

    Raises
    ------
    ShapeError
        If there are not as many targets as outputs.
    DataError
        If labels are not whole numbers of 0 ... classes - 1, rows of a distribution do not sum to
        1, or a value is NaN, infinite or out of the loss's range; the first such row is named.
    """
    n, width = shape
    if t.ndim == 0 or len(t) != n:
        raise ShapeError(f"{loss!r}: {n} samples but targets t of shape {t.shape}")
    if loss.distribution and t.ndim == 1:
        _check_labels(loss, t, width)
        return
    if t.size != n * width or t.ndim > 2:
        labels = " or (n,) for class labels" if loss.distribution else ""
        if labels and t.shape == (n, 1):
            labels += ", t.ravel()"
        raise ShapeError(
            f"{loss!r}: the network gives outputs of shape {shape}, but the targets t have the "
            f"shape {t.shape}; they must have the same shape{labels}"
        )
    _check_rows(loss, t.reshape(n, -1))


def _check_rows(loss: Any, rows: np.ndarray[Any, Any]) -> None:
    low, high = (0.0, 1.0) if loss.distribution else loss.target_range or (-np.inf, np.inf)
    _refuse(loss, rows, ~np.isfinite(rows).all(axis=1), "targets must be finite")
    outside = ((rows.real < low) | (rows.real > high)).any(axis=1)
    _refuse(loss, rows, outside, f"targets must be between {low:g} and {high:g}")
    if loss.distribution:
        off = np.abs(rows.sum(axis=1) - 1) > 1e-3
        _refuse(loss, rows, off, "a row of targets must sum to 1")


def _check_labels(loss: Any, t: np.ndarray[Any, Any], classes: int) -> None:
    if t.dtype.kind not in "iu":
        raise DataError(
            f"{loss!r}: class labels must be whole numbers; got the dtype {t.dtype} "
            f"(first value {t[0]!r}), convert them with t.astype(int)"
        )
    outside = ((t < 0) | (t >= classes)) & ~loss.ignored(t)
    _refuse(
        loss, t, outside, f"class labels must be 0 ... {classes - 1}, one for each network output"
    )


def _refuse(loss: Any, t: np.ndarray[Any, Any], bad: Any, rule: str) -> None:
    """Raise the rule with the first bad row, if there is one."""
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{loss!r}: {rule}; row {row} is {t[row]}, and {bad.sum()} rows are wrong")


def check_weights(w: np.ndarray[Any, Any], n: int, used: Any = True) -> None:
    """Check sample weights on the host; ``used`` are the samples of which one must count.

    Raises
    ------
    ShapeError
        If there is not one for each sample.
    DataError
        If one is negative, NaN or infinite, or all are zero.
    """
    if w.shape not in ((n,), (n, 1)):
        raise ShapeError(
            f"sample_weight must have the shape ({n},); got {w.shape}: give one for each sample"
        )
    w, rule = w.reshape(n), "sample_weight must be finite, not negative, and not zero everywhere"
    wrong = ~np.isfinite(w) | (w < 0)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise DataError(f"{rule}; sample_weight[{i}] is {w[i]}, and {wrong.sum()} are wrong")
    if not (w * used).any():
        raise DataError(f"{rule}; all {n} are 0: no sample counts")
