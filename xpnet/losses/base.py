"""Losses: how wrong the outputs are, and the gradient of exactly that number.

Every loss is a weighted mean over the samples, L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ with wᵢ = 1 unless given, so
its gradient is dYᵢ = (wᵢ / Σ w) ∂ℓᵢ/∂Yᵢ. A loss defines only ℓ and its slope; the mean is formed
here, once, for the value and for the gradient alike.
"""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.losses.shares import Shares
from xpnet.losses.targets import check_targets
from xpnet.support.checks import on_host
from xpnet.support.errors import XpnetError


class Loss(Shares):
    """L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ,  dYᵢ = (wᵢ / Σ w) ∂ℓᵢ/∂Yᵢ

    A loss of your own defines `elements` and `slope`.

    Attributes
    ----------
    reduction : {"mean", "sum"}
        "sum": L = Σᵢ wᵢ ℓᵢ, and ℓᵢ is the sum over the outputs.
    value : array, shape ()
        L of the last `forward`, on the device; the next call overwrites it.
    validate : bool
        True: each `forward` looks at the targets first. The `Trainer`, which has looked at the
        whole data set, turns it off.
    """

    target_range: tuple[float, float] | None = None
    threshold = 0.5  # a single output above this means class 1

    def __init__(self) -> None:
        super().__init__()
        self.validate = True

    def __float__(self) -> float:
        if self.Y is None:
            raise XpnetError(f"{self!r} has no value before its first forward pass")
        return float(self.value)

    # ---- what a loss defines ------------------------------------------------------------------

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """Write ℓ, one value for each output; ``self.work`` is scratch of the same shape."""
        raise NotImplementedError

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """Write ∂ℓ/∂Y; ``self.work`` is scratch of the same shape."""
        raise NotImplementedError

    # ---- value and gradient -------------------------------------------------------------------

    def forward(self, Y: Array, t: Any, sample_weight: Any = None) -> Array:
        """Return L.

        Parameters
        ----------
        Y : array, shape (n, outputs)
            What the network gave.
        t : array or list
            The targets, shape (n, outputs), or (n,) where there is one output; for the losses that
            take them, whole-number labels of shape (n,).
        sample_weight : array or list, shape (n,), optional
            wᵢ, not negative and not all zero.

        Returns
        -------
        array, shape ()
            L on the device, overwritten by the next call; ``float(loss)`` reads it.

        Raises
        ------
        ShapeError, DataError, MixedArraysError
            If the targets do not fit the outputs; see `check_targets`.
        """
        self._prepare(Y)
        t = self._received(t, "t")
        if self.validate:
            check_targets(self, on_host(t, f"{self!r}: t"), Y.shape)
        n = len(Y)
        self.Y, self.T = Y, self._targets(t, n)
        alike = sample_weight is None and not self.leaves_out(t)
        self._share: Any = self._equal(n) if alike else self._shares(t, sample_weight)
        self.elements(Y, self.T, out=self._elements[:n])
        with self.xp.off_path():
            return self._mean(self._elements[:n])

    def backward(self) -> Array:
        """Return dY, the gradient of the L that the last `forward` gave, shape (n, outputs)."""
        self._need_forward()
        dY = self._dY[: len(self.Y)]
        self.slope(self.Y, self.T, out=dY)
        return self.xp.multiply(dY, self._share, out=dY)

    def _need_forward(self) -> None:
        if self.Y is None:
            raise XpnetError(f"{self!r}: backward needs the forward pass of the batch first")

    def _mean(self, elements: Array) -> Array:
        """L = Σ share · ℓ"""
        xp, share = self.xp, self._share
        if isinstance(share, float):
            xp.sum(elements, out=self.value)
            return xp.multiply(self.value, share, out=self.value)
        xp.multiply(elements, share, out=elements)
        return xp.sum(elements, out=self.value)
