"""The point where all runs stand, what NumPy gives there in float64, and how far others may be."""

from __future__ import annotations

from copy import deepcopy
from math import inf
from typing import Any

import numpy as np

from xpnet.backend import Backend, find_backend
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError
from xpnet.verify.parity.displaced import TINY, Displaced, U
from xpnet.verify.parity.passes import Pass
from xpnet.verify.parity.values import LOSS, LOSS_GRADIENT, Host, Key, norm

U64 = 2.0**-53  # one rounding in float64
LIMIT = 1e-12  # of float64
DRAWS = 8  # displaced runs; a kink within reach is crossed by some of them
SAFETY = 2.0  # displacements are random, the largest of a few draws is not the largest there is


class Point:
    """Network, loss and batch, rounded to float32 and kept in float64: where every run stands."""

    def __init__(self, net: Sequential, loss: Loss, X: Any, t: Any, weight: Any) -> None:
        self.numpy = find_backend("numpy", reproducible=False)
        self.net = net.copy().to(self.numpy, "float32").to(dtype="float64")
        self.loss = deepcopy(loss)
        self.loss.validate = True
        given = on_host(X, "X")
        pixels = given.dtype == np.uint8
        self.X = _rounded(given / 255 if pixels else given.astype(np.float64))
        self.given = given if pixels else self.X  # what a backend gets that takes pixels
        t = on_host(t, f"{loss!r}: t")
        self.t = _distribution(t) if loss.distribution and t.ndim == 2 else _rounded(t)
        self.weight = None if weight is None else _rounded(on_host(weight, "sample_weight"))
        self.reference = self.run(self.numpy, "float64")
        value = float(self.reference.values[LOSS])
        if not np.isfinite(value):
            raise DataError(f"the loss is {value} for this batch: there is no gradient to compare")
        self.moves = self._moves()
        known = {key: move if np.isfinite(move) else TINY for key, move in self.moves.items()}
        values = self.reference.values
        self.scales = {key: max(norm(values[key]), known[key]) for key in values}
        self.limits = {key: LIMIT * self.scales[key] + known[key] * U64 / U for key in values}

    def run(self, xp: Backend, dtype: str) -> Pass:
        """Return a pass of the batch through a copy of the network."""
        X = self.given if xp.takes_pixels else self.X
        return Pass(self.net.copy().to(xp, dtype), self.loss, X, self.t, self.weight)

    def _moves(self) -> dict[Key, float]:
        """Return how far each value moves when every result is off as in float32."""
        dY = self.reference.values[LOSS_GRADIENT].astype(np.float32)
        n, different = len(dY), len(np.unique(dY, axis=0))
        moves = {key: TINY * a.size for key, a in self.reference.values.items()}
        for draw in range(DRAWS):
            with np.errstate(all="ignore"):  # where float32 overflows, so may a displaced run
                values = self.run(Displaced(draw, n, n / different), "float64").values
            for key, a in self.reference.values.items():
                off = SAFETY * norm(values[key] - a)
                moves[key] = max(moves[key], off if np.isfinite(off) else inf)
        return moves


def _rounded(a: Host) -> Host:
    """Return floating values that float32 can hold; whole numbers, which may be labels, as is."""
    return a.astype(np.float32).astype(np.float64) if a.dtype.kind == "f" else a


def _distribution(t: Host) -> Host:
    """Return rows that sum to 1 to the last digit of float64: for these, p - t is the gradient."""
    sums = t.sum(axis=1, keepdims=True)
    right: Host = t / np.where(abs(sums - 1) <= 1e-3, sums, 1.0)  # else the loss will refuse them
    return right
