"""Losses: how wrong the outputs are, and the gradient of exactly that number.

Every loss is a weighted mean over the samples, L = Σᵢ wᵢ ℓᵢ / Σᵢ wᵢ with wᵢ = 1 unless given, so
its gradient is dYᵢ = (wᵢ / Σ w) ∂ℓᵢ/∂Yᵢ. A loss defines only ℓ and its slope; the mean is formed
here, once, for the value and for the gradient alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, backend_of, get_backend
from xpnet.checks import on_host, positive
from xpnet.errors import DataError, OptionError, ShapeError, XpnetError
from xpnet.names import look_up

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
        with self.xp.aside():
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


# ---- regression -------------------------------------------------------------------------------


class MeanSquaredError(Loss):
    """ℓ = (y - t)²        ∂ℓ/∂y = 2 (y - t)"""

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ = (y - t)²"""
        self.xp.subtract(Y, T, out=out)
        self.xp.multiply(out, out, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """2 (y - t)"""
        self.xp.subtract(Y, T, out=out)
        self.xp.multiply(out, 2.0, out=out)


class Huber(Loss):
    """ℓ = e²/2 where |e| ≤ δ, else δ (|e| - δ/2),  with e = y - t        ∂ℓ/∂y = c

    with c = e held within [-δ, δ]; then ℓ = c (e - c/2) in both cases.

    Parameters
    ----------
    delta : float
        δ, where the parabola becomes a line.

    References
    ----------
    Huber, "Robust estimation of a location parameter", 1964.
    """

    def __init__(self, delta: float = 1.0) -> None:
        super().__init__()
        self.delta = positive("Huber: delta", delta)

    def __repr__(self) -> str:
        return f"Huber({self.delta})"

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ = c (e - c/2)"""
        xp, e = self.xp, self.work
        self.slope(Y, T, out=out)
        xp.subtract(Y, T, out=e)
        xp.multiply(e, 2.0, out=e)
        xp.subtract(e, out, out=e)
        xp.multiply(out, e, out=out)
        xp.multiply(out, 0.5, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """c = min(max(y - t, -δ), δ)"""
        self.xp.subtract(Y, T, out=out)
        self.xp.maximum(out, -self.delta, out=out)
        self.xp.minimum(out, self.delta, out=out)


# ---- classification ---------------------------------------------------------------------------


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
    """

    target_range = (0.0, 1.0)

    def __init__(self, from_logits: bool = False, eps: float = 1e-8) -> None:
        super().__init__()
        self.from_logits = from_logits
        self.eps = positive("BinaryCrossEntropy: eps", eps)
        self.threshold = 0.0 if from_logits else 0.5

    def __repr__(self) -> str:
        return f"BinaryCrossEntropy({'from_logits=True' if self.from_logits else ''})"

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ"""
        xp, work = self.xp, self.work
        other = self._dY[: len(Y)]  # not in use before `slope`
        if self.from_logits:
            xp.multiply(Y, -1.0, out=work)
            xp.softplus(work, out=other)
            xp.multiply(other, T, out=other)
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
            xp.subtract(out, T, out=out)
            return
        xp.subtract(1.0, Y, out=work)
        xp.add(work, self.eps, out=work)
        xp.subtract(1.0, T, out=out)
        xp.divide(out, work, out=out)
        xp.add(Y, self.eps, out=work)
        xp.divide(T, work, out=work)
        xp.subtract(out, work, out=out)


class CrossEntropy(Loss):
    """ℓ = -Σⱼ tⱼ log(yⱼ + ε)        ∂ℓ/∂yⱼ = -tⱼ / (yⱼ + ε)

    on probabilities, such as Softmax gives; t is a one-hot row or a class label.

    Parameters
    ----------
    eps : float
        ε, which keeps both finite at y = 0.
    """

    mean_over_outputs = False
    distribution = True

    def __init__(self, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = positive("CrossEntropy: eps", eps)

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """-t log(y + ε)"""
        self.xp.add(Y, self.eps, out=out)
        self.xp.log(out, out=out)
        self.xp.multiply(out, T, out=out)
        self.xp.multiply(out, -1.0, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """-t / (y + ε)"""
        self.xp.add(Y, self.eps, out=out)
        self.xp.divide(T, out, out=out)
        self.xp.multiply(out, -1.0, out=out)


class SoftmaxCrossEntropy(Loss):
    """ℓ = -Σⱼ tⱼ log pⱼ  with  p = softmax(z)        ∂ℓ/∂zⱼ = pⱼ - tⱼ      (Σⱼ tⱼ = 1)

    on scores z, with the two formulas merged: log pⱼ = zⱼ - max z - log Σₖ exp(zₖ - max z) is exact
    for any score, and the gradient has no division. t is a class label, a one-hot row, or any
    distribution over the classes.
    """

    mean_over_outputs = False
    one_element = True
    distribution = True

    def _make(self, n: int, width: int, dtype: Any) -> None:
        """Make room for p - t, too."""
        self._dZ = self.xp.empty((n, width), dtype)
        super()._make(n, width, dtype)

    def _targets(self, t: Array, n: int) -> Array:
        """Return labels as they are."""
        return t if t.ndim == 1 and t.dtype == np.int64 else super()._targets(t, n)

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """ℓ, and the gradient on the way: share · (p - t), where all samples have the same share"""
        self.dZ, hot, work = self._dZ[: len(Y)], self._T[: len(Y)], self.work
        scale = self._share if isinstance(self._share, float) else 1.0
        losses = out[:, 0]
        self.xp.softmax_cross_entropy(
            Y, T, losses=losses, dZ=self.dZ, work=work, hot=hot, scale=scale
        )

    def backward(self) -> Array:
        """Return dY, the gradient of the L that the last `forward` gave, shape (n, outputs)."""
        self._need_forward()
        if isinstance(self._share, float):
            return self.dZ
        return self.xp.multiply(self.dZ, self._share, out=self._dY[: len(self.Y)])


LOSSES: dict[str, Any] = {
    "mse": MeanSquaredError,
    "huber": Huber,
    "bce": BinaryCrossEntropy,
    "bce_logits": lambda: BinaryCrossEntropy(from_logits=True),
    "cross_entropy": CrossEntropy,
    "softmax_cross_entropy": SoftmaxCrossEntropy,
}


def find_loss(loss: str | Loss) -> Loss:
    """Return a new loss of this name, or ``loss`` itself."""
    if isinstance(loss, str):
        made: Loss = look_up("loss", loss, LOSSES)()
        return made
    if not isinstance(loss, Loss):
        raise OptionError(f"no loss: {loss!r}; write for example xpnet.SoftmaxCrossEntropy()")
    return loss


# ---- what targets and weights must be ------------------------------------------------------------


def check_targets(loss: Loss, t: np.ndarray[Any, Any], shape: tuple[int, int]) -> None:
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
        raise ShapeError(
            f"{loss!r}: the network gives outputs of shape {shape}, but the targets t have the "
            f"shape {t.shape}; they must have the same shape{labels}"
        )
    rows = t.reshape(n, -1)
    low, high = (0.0, 1.0) if loss.distribution else loss.target_range or (-np.inf, np.inf)
    _refuse(loss, rows, ~np.isfinite(rows).all(axis=1), "targets must be finite")
    outside = ((rows.real < low) | (rows.real > high)).any(axis=1)
    _refuse(loss, rows, outside, f"targets must be between {low:g} and {high:g}")
    if loss.distribution:
        off = np.abs(rows.sum(axis=1) - 1) > 1e-3
        _refuse(loss, rows, off, "a row of targets must sum to 1")


def _check_labels(loss: Loss, t: np.ndarray[Any, Any], classes: int) -> None:
    if t.dtype.kind not in "iu":
        raise DataError(
            f"{loss!r}: class labels must be whole numbers; got the dtype {t.dtype} "
            f"(first value {t[0]!r}), convert them with t.astype(int)"
        )
    outside = (t < 0) | (t >= classes)
    _refuse(
        loss, t, outside, f"class labels must be 0 ... {classes - 1}, one for each network output"
    )


def _refuse(loss: Loss, t: np.ndarray[Any, Any], bad: Any, rule: str) -> None:
    """Raise the rule with the first bad row, if there is one."""
    if bad.any():
        row = int(np.argmax(bad))
        raise DataError(f"{loss!r}: {rule}; row {row} is {t[row]}, and {bad.sum()} rows are wrong")


def check_weights(w: np.ndarray[Any, Any], n: int) -> None:
    """Check sample weights on the host.

    Raises
    ------
    ShapeError
        If there is not one for each sample.
    DataError
        If one is negative, NaN or infinite, or all are zero.
    """
    if w.shape not in ((n,), (n, 1)):
        raise ShapeError(f"sample_weight must have the shape ({n},); got {w.shape}")
    if not (np.isfinite(w).all() and (w >= 0).all() and w.any()):
        raise DataError("sample_weight must be finite, not negative, and not zero everywhere")
