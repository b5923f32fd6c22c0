"""What each sample of a batch counts in its loss, and the loss of each sample alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.losses.memory import LossMemory
from xpnet.losses.targets import check_weights
from xpnet.support.attributes import Checked
from xpnet.support.checks import on_host
from xpnet.support.errors import OptionError

LEAST = {4: 2.0**-100}  # Σ w by the bytes of its type: smaller is 0 in some backends


def _reduction(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in ("mean", "sum"):
        raise OptionError(f'{name} must be "mean" or "sum"; got {value!r}')
    return value


class Shares(LossMemory):
    """The part of `xpnet.losses.base.Loss` that says what a sample counts.

    With weights the share of sample i is

    - wᵢ / Σ w for ``reduction="mean"``: only the ratios of the weights of a batch count;
    - wᵢ / n, if ``mean_weight`` is True, as in a `Trainer`, whose weights have the mean 1 over the
      data set: so a sample counts the same in whatever batch it is, and alone in a batch;
    - wᵢ for ``reduction="sum"``.
    """

    mean_over_outputs = True  # ℓᵢ is the mean over the outputs of a sample, else their sum
    mean_weight = False
    elements: Any
    reduction: Any = Checked(_reduction)

    def __init__(self) -> None:
        super().__init__()
        self.reduction: Any = "mean"

    @property
    def outputs(self) -> int:
        """Over how many numbers of a sample ℓ is a mean."""
        return self._shape[1] if self.mean_over_outputs and self.reduction == "mean" else 1

    def each(self, Y: Array, t: Array) -> np.ndarray[Any, Any]:
        """Return what `elements` writes, in float64 on the host."""
        self._prepare(Y)
        self.Y, self.T, self._share = Y, self._targets(self._received(t, "t"), len(Y)), 1.0
        self.elements(Y, self.T, out=self._elements[: len(Y)])
        return np.array(self.xp.asnumpy(self._elements[: len(Y)]), np.float64)

    def counts(self, sizes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return what the losses of batches of these sizes count in their sum."""
        return sizes if self.reduction == "mean" else np.ones_like(sizes)

    def ignored(self, t: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Return which targets do not count."""
        return np.zeros(len(t), bool)

    def leaves_out(self, t: Array) -> bool:
        """Return True if some of the targets may not count."""
        return False

    def leave_out(self, t: Array, share: Array) -> None:
        """Make the share 0 of the samples whose targets do not count."""

    def _equal(self, n: int) -> float:
        """Return the share of all samples, if all count alike."""
        return 1.0 / (n * self.outputs) if self.reduction == "mean" else 1.0

    def _checked(self, w: Array, n: int) -> Array:
        """Return checked weights; the largest is about 1, where it was far from it."""
        host = on_host(w, "sample_weight")
        check_weights(host, n)
        exponent = int(np.frexp(float(host.max()))[1])
        if self.reduction == "sum" or abs(exponent) < 50:  # only the ratios count
            return w
        return self.xp.asarray(np.ldexp(host.astype(np.float64), -exponent))

    def _shares(self, t: Array, sample_weight: Any) -> Array:
        """Return what each sample counts, over the number of outputs if ℓ is their mean."""
        xp, n, value = self.xp, len(self.Y), self.value
        share = xp.copyto(self._weights[:n], 1.0)
        if sample_weight is not None:
            w = self._received(sample_weight, "sample_weight")
            if self.validate:
                w = self._checked(w, n)
            xp.copyto(share, w.reshape(n, 1))
        if self.leaves_out(t):
            self.leave_out(t, share)
        if self.reduction == "sum":
            return share
        if self.mean_weight:
            return xp.multiply(share, self._equal(n), out=share)
        xp.sum(share, out=value)
        xp.maximum(value, LEAST.get(share.dtype.itemsize, 1e-300), out=value)  # 0/0 is 0
        xp.multiply(value, self.outputs, out=value)
        return xp.divide(share, value, out=share)
