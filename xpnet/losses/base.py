"""Losses: how wrong the outputs are, and the gradient of exactly that number.

Every loss is a weighted mean over the samples, L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ with wᵢ = 1 unless given, so
its gradient is dYᵢ = (wᵢ / Σ w) ∂ℓᵢ/∂Yᵢ. A loss defines only ℓ and its slope; the mean is formed
here, once, for the value and for the gradient alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, backend_of, get_backend
from xpnet.losses.targets import check_targets, check_weights
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError, ShapeError, XpnetError

OUTPUTS = {np.dtype(name) for name in ("float32", "float64", "complex128")}  # what networks give


class Loss:
    """L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ,  dYᵢ = (wᵢ / Σ w) ∂ℓᵢ/∂Yᵢ

    A loss of your own defines `elements` and `slope`.

    Attributes
    ----------
    value : array, shape ()
        L of the last `forward`, on the device; the next call overwrites it.
    validate : bool
        True: each `forward` looks at the targets first. The `Trainer`, which has looked at the
        whole data set, turns it off.
    """

    mean_over_outputs = True  # ℓᵢ is the mean over the outputs of a sample, else their sum
    one_element = False  # `elements` writes one value for each sample, not one for each output
    distribution = False  # a row of targets is a distribution over classes; labels are accepted too
    target_range: tuple[float, float] | None = None
    threshold = 0.5  # a single output above this means class 1
    value: Array
    xp: Backend  # of the outputs that came last
    Y: Array = None
    _elements: Array
    _dY: Array
    _T: Array
    _scratch: Array
    _weights: Array
    _dtype: Any = None

    def __init__(self) -> None:
        self.validate, self.xp = True, get_backend()
        self._shape = (0, 0)  # the shape of the outputs that the buffers are made for

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

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
        if sample_weight is None:
            self._share: Any = 1.0 / (n * self._outputs)
        else:
            self._share = self._shares(sample_weight)
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

    @property
    def _outputs(self) -> int:
        """Over how many numbers of a sample ℓ is a mean."""
        return self._shape[1] if self.mean_over_outputs else 1

    def _shares(self, sample_weight: Any) -> Array:
        """Return wᵢ / Σ w, over the number of outputs if ℓ is their mean."""
        xp, n = self.xp, len(self.Y)
        w = self._received(sample_weight, "sample_weight")
        if self.validate:
            check_weights(on_host(w, "sample_weight"), n)
        share = xp.copyto(self._weights[:n], w.reshape(n, 1))
        xp.sum(share, out=self.value)
        xp.multiply(self.value, self._outputs, out=self.value)
        return xp.divide(share, self.value, out=share)

    def _mean(self, elements: Array) -> Array:
        """L = Σ share · ℓ"""
        xp, share = self.xp, self._share
        if isinstance(share, float):
            xp.sum(elements, out=self.value)
            return xp.multiply(self.value, share, out=self.value)
        xp.multiply(elements, share, out=elements)
        return xp.sum(elements, out=self.value)

    # ---- targets and memory -------------------------------------------------------------------

    @property
    def work(self) -> Array:
        """Scratch of the shape of the present outputs."""
        return self._scratch[: len(self.Y)]

    def _prepare(self, Y: Array) -> None:
        """Make the buffers for outputs of this shape on their backend, if they are not there."""
        if getattr(Y, "ndim", 0) != 2 or Y.dtype not in OUTPUTS:
            came = (
                f"{Y.dtype} of shape {Y.shape}" if hasattr(Y, "dtype") else repr(type(Y).__name__)
            )
            raise ShapeError(f"{self!r} takes floating outputs of shape (n, outputs); got {came}")
        n, width = Y.shape
        if n == 0:
            raise DataError(f"{self!r} needs at least one sample; got none")
        if not self.xp.owns(Y):
            self.use(backend_of(Y))
        self.reserve(n, width, Y.dtype)

    def reserve(self, n: int, width: int, dtype: Any) -> None:
        """Make the buffers for up to n outputs of this width, if they are not there."""
        if n > self._shape[0] or width != self._shape[1] or self._dtype != dtype:
            self._make(n, width, dtype)

    def use(self, xp: Backend) -> None:
        """Compute on a backend from now on."""
        if xp is not self.xp:
            self.xp, self._shape = xp, (0, 0)

    def _make(self, n: int, width: int, dtype: Any) -> None:
        """Make the buffers for up to n outputs of this width."""
        self.version = self.xp.renew()  # its arrays are new
        empty, self._shape, self._dtype = self.xp.empty, (0, 0), dtype
        self._elements = empty((n, 1 if self.one_element else width), dtype)
        self._dY, self._T, self._scratch = (empty((n, width), dtype) for _ in range(3))
        self._weights, self.value = empty((n, 1), dtype), self.xp.zeros((), dtype)
        self._shape = n, width

    def _received(self, a: Any, argument: str) -> Array:
        """Return targets or weights as an array of the backend; lists are copied there."""
        if isinstance(a, list | tuple | int | float):
            return self.xp.asarray(on_host(a, f"{self!r}: {argument}"))
        self.xp.require(a, repr(self), argument)
        return a

    def _targets(self, t: Array, n: int) -> Array:
        """Return the targets in the shape and type of the outputs."""
        T = self._T[:n]
        if self.distribution and t.ndim == 1:
            return self.xp.one_hot(t, out=T)
        t = t.reshape(n, -1)
        return t if t.dtype == T.dtype else self.xp.copyto(T, t)
