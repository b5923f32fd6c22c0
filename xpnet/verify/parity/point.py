"""The numbers that all runs start from, NumPy's results in float64, and all limits."""

from __future__ import annotations

from copy import deepcopy
from math import inf
from typing import Any

import numpy as np

from xpnet.backend import Backend, find_backend
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.network.checks import read_batch
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError
from xpnet.verify.parity.passes import Pass
from xpnet.verify.parity.rounding_noise import TINY, RoundingNoise, U
from xpnet.verify.parity.values import LOSS, LOSS_GRADIENT, Host, Key, norm

U64 = 2.0**-53  # one rounding in float64
LIMIT = 1e-12  # of float64
DRAWS = 8  # noisy runs; some of them cross a kink that is near enough
SAFETY = 2.0  # the largest of a few random draws is not the largest possible move


class Point:
    """Network, loss and batch, rounded to float32 and kept in float64: every run starts from these.

    Attributes
    ----------
    reference : Pass
        What NumPy computes in float64.
    moves : dict of Key to float
        How far each value moves if every result is off as in float32.
    scales, limits : dict of Key to float
        The norm of each value, and how far a backend may be off in float64.
    """

    def __init__(self, net: Sequential, loss: Loss, X: Any, t: Any, weight: Any) -> None:
        self.numpy = find_backend("numpy", reproducible=False)
        self.net = net.copy().to(self.numpy, "float32").to(dtype="float64")
        self.loss = deepcopy(loss)
        self.loss.validate = True
        self.X, self.given = _inputs(read_batch(X, np.dtype(np.float32)))
        t = on_host(t, f"{loss!r}: t")
        self.t = _distribution(t) if loss.distribution and t.ndim == 2 else _rounded(t)
        self.weight = None if weight is None else _rounded(on_host(weight, "sample_weight"))
        self.reference = self.run(self.numpy, "float64")
        value = float(self.reference.values[LOSS])
        if not np.isfinite(value):
            raise DataError(f"the loss is {value} for this batch: there is no gradient to compare")
        self.moves = self._moves()
        self.scales, self.limits = self._limits()

    def run(self, xp: Backend, dtype: str) -> Pass:
        """Return a pass of the batch through a copy of the network."""
        X = self.given if xp.takes_pixels else self.X
        return Pass(self.net.copy().to(xp, dtype), self.loss, X, self.t, self.weight)

    def _limits(self) -> tuple[dict[Key, float], dict[Key, float]]:
        """Return the norm of each value, and how far a backend may be off in float64."""
        known = {key: move if np.isfinite(move) else TINY for key, move in self.moves.items()}
        values = self.reference.values
        scales = {key: max(norm(values[key]), known[key]) for key in values}
        return scales, {key: LIMIT * scales[key] + known[key] * U64 / U for key in values}

    def _moves(self) -> dict[Key, float]:
        """Return how far each value moves if every result is off as in float32."""
        dY = self.reference.values[LOSS_GRADIENT].astype(np.float32)
        n, different = len(dY), len(np.unique(dY, axis=0))
        moves = {key: TINY * a.size for key, a in self.reference.values.items()}
        for draw in range(DRAWS):
            with np.errstate(all="ignore"):  # where float32 overflows, so may a noisy run
                values = self.run(RoundingNoise(draw, n, n / different), "float64").values
            for key, a in self.reference.values.items():
                off = SAFETY * norm(values[key] - a)
                moves[key] = max(moves[key], off if np.isfinite(off) else inf)
        return moves


def _inputs(given: Host) -> tuple[Host, Host]:
    """Return X in float64, and X for a backend that takes pixels, which are uint8."""
    if given.dtype == np.uint8:
        return _rounded(given / 255), given
    X = _rounded(given.astype(np.float64))
    return X, X


def _rounded(a: Host) -> Host:
    """Round floating values to float32; return whole numbers, which may be labels, unchanged."""
    return a.astype(np.float32).astype(np.float64) if a.dtype.kind == "f" else a


def _distribution(t: Host) -> Host:
    """Return rows that sum to 1 to the last digit of float64: for these, p - t is the gradient."""
    sums = t.sum(axis=1, keepdims=True)
    right: Host = t / np.where(abs(sums - 1) <= 1e-3, sums, 1.0)  # else the loss will refuse them
    return right
