"""The cross entropy of one class, or of several independent labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.losses.base import Loss
from xpnet.support.attributes import Checked, Fixed
from xpnet.support.checks import on_host, positive, yes_or_no
from xpnet.support.errors import OptionError, ShapeError


class BinaryCrossEntropy(Loss):
    """ℓ = -t log(y + ε) - (1 - t) log(1 - y + ε)        ∂ℓ/∂y = (1 - t)/(1 - y + ε) - t/(y + ε)

    on probabilities y; the small ε keeps both finite at y = 0 and y = 1. With
    ``from_logits=True`` y are scores before the sigmoid, and no ε is needed:

    ℓ = (1 - t) log(1 + exp y) + t log(1 + exp(-y))        ∂ℓ/∂y = σ(y) - t

    Parameters
    ----------
    from_logits : bool
        True: the network has no Sigmoid at its end. Stable for any score.
    eps : float
        ε.
    pos_weight : float or sequence of float, optional
        c, for each output or for all: with ``from_logits=True`` the terms of class 1 count c times,
        so that c > 1 finds more of a rare class 1. Then ∂ℓ/∂y = σ(y) (1 + (c - 1) t) - c t.
    reduction : {"mean", "sum"}
        See `Loss`.
    """

    target_range = (0.0, 1.0)
    from_logits: Any = Checked(yes_or_no)
    eps: Any = Checked(positive)
    pos_weight: Any = Fixed()

    def __init__(self, from_logits: bool = False, eps: float = 1e-8, *, pos_weight: Any = None,
                 reduction: str = "mean") -> None:  # fmt: skip
        super().__init__()
        self.from_logits, self.eps, self.reduction = from_logits, eps, reduction
        self.pos_weight = None if pos_weight is None else _weights_of_1(pos_weight)
        if pos_weight is not None and not from_logits:
            raise OptionError("BinaryCrossEntropy: pos_weight needs from_logits=True")

    @property
    def threshold(self) -> float:  # type: ignore[override]
        """A single output above this means class 1."""
        return 0.0 if self.from_logits else 0.5

    def _make(self, n: int, width: int, dtype: Any) -> None:
        """Make room for c, too."""
        super()._make(n, width, dtype)
        if self.pos_weight is None:
            return
        if len(self.pos_weight) not in (1, width):
            self.forget()
            raise ShapeError(
                f"{self!r}: pos_weight has {len(self.pos_weight)} numbers, but the network has "
                f"{width} outputs"
            )
        self._c = self.xp.empty((1, width), dtype)
        self.xp.copyto(self._c, self.xp.asarray(np.array([self.pos_weight]), dtype))
        self._slope_of_c = self.xp.empty((1, width), dtype)
        self.xp.subtract(self._c, 1.0, out=self._slope_of_c)

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ"""
        xp, work = self.xp, self.work
        other = self._dY[: len(Y)]  # not in use before `slope`
        if self.from_logits:
            xp.multiply(Y, -1.0, out=work)
            xp.softplus(work, out=other)
            xp.multiply(other, T, out=other)
            if self.pos_weight is not None:
                xp.multiply(other, self._c, out=other)
            xp.softplus(Y, out=out)
            xp.subtract(1.0, T, out=work)
            xp.multiply(out, work, out=out)
            xp.add(out, other, out=out)
            return
        xp.add(Y, self.eps, out=work)
        xp.log(work, out=work)
        xp.multiply(T, work, out=out)
        xp.subtract(1.0, Y, out=work)
        xp.add(work, self.eps, out=work)
        xp.log(work, out=work)
        xp.subtract(1.0, T, out=other)
        xp.multiply(other, work, out=other)
        xp.add(out, other, out=out)
        xp.multiply(out, -1.0, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """∂ℓ/∂y"""
        xp, work = self.xp, self.work
        if self.from_logits:
            xp.sigmoid(Y, out=out)
            if self.pos_weight is not None:
                self._weigh_slope(T, out)
                return
            xp.subtract(out, T, out=out)
            return
        xp.subtract(1.0, Y, out=work)
        xp.add(work, self.eps, out=work)
        xp.subtract(1.0, T, out=out)
        xp.divide(out, work, out=out)
        xp.add(Y, self.eps, out=work)
        xp.divide(T, work, out=work)
        xp.subtract(out, work, out=out)

    def _weigh_slope(self, T: Array, out: Array) -> None:
        """out = σ (1 + (c - 1) t) - c t, where out is σ"""
        xp, work = self.xp, self.work
        xp.multiply(T, self._slope_of_c, out=work)
        xp.add(work, 1.0, out=work)
        xp.multiply(out, work, out=out)
        xp.multiply(T, self._c, out=work)
        xp.subtract(out, work, out=out)


def _weights_of_1(value: Any) -> tuple[float, ...]:
    """Return pos_weight as a tuple: one number, or one for each output."""
    c = np.atleast_1d(on_host(value, "BinaryCrossEntropy: pos_weight"))
    if c.ndim != 1 or not c.size:
        raise OptionError("BinaryCrossEntropy: pos_weight is a number, or one for each output")
    return tuple(positive("BinaryCrossEntropy: pos_weight", float(x)) for x in c)
