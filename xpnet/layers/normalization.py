"""BatchNorm1d and LayerNorm: the same formula along the other axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.backend.random import Random
from xpnet.layers.base import Layer, Shape
from xpnet.layers.shapes import features
from xpnet.support.attributes import Checked, Fixed
from xpnet.support.checks import count, positive, yes_or_no
from xpnet.support.errors import OptionError, ShapeError

# Options that came after release 1: a description of a network names them only where they are set.
LATER = {"affine": True, "track_running_stats": True, "elementwise_affine": True, "bias": True}


class Normalization(Layer):
    """Y = γ X̂ + β        with X̂ = (X - μ) / σ and σ = √(mean (X - μ)² + ε) along ``axis``

    dβ = Σᵢ dYᵢ        dγ = Σᵢ dYᵢ X̂ᵢ        dX̂ = γ dY
    dX = (dX̂ - mean dX̂ - X̂ · mean(dX̂ · X̂)) / σ

    The means run along the axis of μ: both μ and σ depend on every X there. A layer may lack β, or
    both: then γ = 1 and β = 0.
    """

    axis: int
    gamma: Array
    dgamma: Array
    beta: Array
    dbeta: Array
    n: Any = Fixed()
    eps: Any = Checked(positive)

    def __init__(self, n: int, eps: float = 1e-5, scale: bool = True, shift: bool = True) -> None:
        super().__init__()
        self.n, self.eps = count(f"{type(self).__name__}: n", n), eps
        if scale:
            self.parameter("gamma", (self.n,), "ones")
        if shift:
            self.parameter("beta", (self.n,), "zeros")

    def config(self) -> dict[str, Any]:
        """Return the arguments, those of `LATER` only where they are set."""
        return {k: v for k, v in super().config().items() if k not in LATER or v != LATER[k]}

    def __repr__(self) -> str:
        more = [f", {k}={v}" for k, v in self.config().items() if k in LATER]
        return f"{type(self).__name__}({self.n}{''.join(more)})"

    def output_shape(self, shape: Shape | None) -> Shape:
        """Return (n,)."""
        return features(self, shape, self.n)

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make room for X̂, σ, one line of means and scratch."""
        super().build(batch_size, input_shape, input_gradient)
        empty, line = self.xp.empty, (1, self.n) if self.axis == 0 else (batch_size, 1)
        self.Xhat, self.work = empty(self.Y.shape, self.dtype), empty(self.Y.shape, self.dtype)
        self.mu, self.sigma = empty(line, self.dtype), empty(line, self.dtype)

    def _line(self, a: Array, n: int) -> Array:
        """Return the piece of μ or σ that belongs to n samples."""
        return a if self.axis == 0 else a[:n]

    def _mean(self, A: Array, out: Array) -> Array:
        """out = mean A along the axis"""
        return self.xp.mean(A, self.axis, out=out, keepdims=True)

    def forward(self, X: Array) -> Array:
        """Return γ X̂ + β, shape (n, features)."""
        xp, n, Y = self.xp, len(X), self.Y[: len(X)]
        Xhat, mu, sigma = self.Xhat[:n], self._line(self.mu, n), self._line(self.sigma, n)
        self._statistics(X, mu, sigma, self.work[:n])
        xp.add(sigma, self.eps, out=sigma)
        xp.sqrt(sigma, out=sigma)
        xp.subtract(X, mu, out=Xhat)
        xp.divide(Xhat, sigma, out=Xhat)
        if "gamma" not in self.parameters:
            return xp.copyto(Y, Xhat)
        xp.multiply(Xhat, self.gamma, out=Y)
        return xp.add(Y, self.beta, out=Y) if "beta" in self.parameters else Y

    def _statistics(self, X: Array, mu: Array, variance: Array, work: Array) -> None:
        """Write the mean of X and of (X - μ)²."""
        self._mean(X, out=mu)
        self.xp.subtract(X, mu, out=work)
        self.xp.multiply(work, work, out=work)
        self._mean(work, out=variance)

    def backward(self, dY: Array) -> Array | None:
        """Write dγ and dβ, and return dX, shape (n, features)."""
        xp, n = self.xp, len(dY)
        Xhat, work = self.Xhat[:n], self.work[:n]
        if "beta" in self.parameters:
            xp.sum(dY, axis=0, out=self.dbeta)
        scaled = "gamma" in self.parameters
        if scaled:
            xp.multiply(dY, Xhat, out=work)
            xp.sum(work, axis=0, out=self.dgamma)
        if self.dX is None:
            return None
        dXhat = xp.multiply(dY, self.gamma if scaled else 1.0, out=self.dX[:n])
        return self._backward(dXhat, Xhat, self._line(self.sigma, n), work)

    def _backward(self, dXhat: Array, Xhat: Array, sigma: Array, work: Array) -> Array:
        """dX = (dX̂ - mean dX̂ - X̂ · mean(dX̂ · X̂)) / σ, written over dX̂"""
        xp, mean = self.xp, self._line(self.mu, len(dXhat))
        xp.multiply(dXhat, Xhat, out=work)
        self._mean(work, out=mean)
        xp.multiply(Xhat, mean, out=work)
        self._mean(dXhat, out=mean)
        dX = xp.subtract(dXhat, mean, out=dXhat)
        xp.subtract(dX, work, out=dX)
        return xp.divide(dX, sigma, out=dX)


class LayerNorm(Normalization):
    """Each sample is normalised over its features: the formulas of `Normalization` along axis 1.

    Parameters
    ----------
    n : int
        Features.
    eps : float
        ε, which is added to the variance, within the root.
    elementwise_affine : bool
        False leaves out γ and β.
    bias : bool
        False leaves out β.

    Raises
    ------
    OptionError
        If n is not a positive whole number, or another option has no right value.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", 2016.
    """

    axis = 1
    elementwise_affine: Any = Fixed()
    bias: Any = Fixed()

    def __init__(
        self, n: int, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True
    ) -> None:
        self.elementwise_affine = yes_or_no("LayerNorm: elementwise_affine", elementwise_affine)
        self.bias = yes_or_no("LayerNorm: bias", bias)
        super().__init__(n, eps, self.elementwise_affine, self.elementwise_affine and self.bias)


def _checked_momentum(name: str, value: Any) -> float | None:
    if value is not None and positive(name, value) > 1:
        raise OptionError(f"{name} must be in (0, 1], or None for the plain average; got {value!r}")
    return None if value is None else float(value)


class Momentum(Checked):
    """A number, or None, to which it cannot change: the plain average counts from the beginning."""

    def __init__(self) -> None:
        super().__init__(_checked_momentum)

    def __set__(self, thing: Any, value: Any) -> None:
        if (vars(thing).get(self.name, value) is None) != (value is None):
            raise OptionError(f"momentum of {thing!r} cannot become {value}; make a new layer")
        super().__set__(thing, value)


class BatchNorm1d(Normalization):
    """Each feature is normalised over the batch: the formulas of `Normalization` along axis 0.

    During prediction μ and σ² are running averages, a = (1 - momentum) a + momentum · new, and
    dX = dX̂ / σ. With ``momentum=None`` a is the plain average over all k batches so far,
    a = a + (new - a) / k. Both averages are of the batch's own mean of squares (no n/(n-1)).

    Parameters
    ----------
    n : int
        Features.
    momentum : float or None
        The weight of the newest batch in the running averages, above 0 and at most 1.
    eps : float
        ε, which is added to the variance, within the root.
    affine : bool
        False leaves out γ and β.
    track_running_stats : bool
        False keeps no averages. The layer then takes the mean and the variance of the batch during
        prediction, too: `predict` takes all its samples as one batch.

    Raises
    ------
    OptionError
        If n is not a positive whole number, or another option has no right value.
    ShapeError
        By `forward`, where the statistics are those of a batch of one sample: its variance is 0.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", 2015.
    """

    axis = 0
    least_batch = 2
    affine: Any = Fixed()
    track_running_stats: Any = Fixed()
    momentum: Any = Momentum()

    def __init__(self, n: int, momentum: float | None = 0.1, eps: float = 1e-5,
                 affine: bool = True, track_running_stats: bool = True) -> None:  # fmt: skip
        self.affine = yes_or_no("BatchNorm1d: affine", affine)
        self.splits = yes_or_no("BatchNorm1d: track_running_stats", track_running_stats)
        super().__init__(n, eps, self.affine, self.affine)
        self.track_running_stats = self.splits
        self.momentum = momentum

    def initial_state(self, random: Random) -> dict[str, np.ndarray[Any, Any]]:
        """Return mean 0 and variance 1, and for the plain average the number of batches."""
        if not self.track_running_stats:
            return {}
        state = {"mean": np.zeros((1, self.n)), "variance": np.ones((1, self.n))}
        return state | ({"batches": np.zeros(1, np.int64)} if self.momentum is None else {})

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """As for LayerNorm, and room for 1/k."""
        super().build(batch_size, input_shape, input_gradient)
        self.weight = self.xp.empty((1,), self.dtype)

    @property
    def _of_batch(self) -> bool:
        """Whether μ and σ are those of the batch."""
        return self.training or not self.track_running_stats

    def _statistics(self, X: Array, mu: Array, variance: Array, work: Array) -> None:
        """Take the batch's own and keep a running average; during prediction take that average."""
        if not self._of_batch:
            self.xp.copyto(mu, self.state["mean"])
            self.xp.copyto(variance, self.state["variance"])
            return
        if self.xp.batch_total(len(X)) < self.least_batch:
            way_out = ", or predict: net.predict(X)" if self.track_running_stats else ""
            raise ShapeError(
                f"{self!r} takes mean and variance over the batch, and one sample has the variance "
                f"0; give it a batch of 2 samples or more{way_out}"
            )
        super()._statistics(X, mu, variance, work)
        if self.training and self.track_running_stats:
            self._keep(mu, variance, work[:1])

    def _keep(self, mu: Array, variance: Array, work: Array) -> None:
        """Put the statistics of a batch into the running averages."""
        xp, a = self.xp, self.momentum
        if a is None:
            batches = xp.add(self.state["batches"], 1, out=self.state["batches"])
            xp.divide(1.0, xp.copyto(self.weight, batches), out=self.weight)
        for average, new in ((self.state["mean"], mu), (self.state["variance"], variance)):
            if a is None:
                xp.subtract(new, average, out=work)
                xp.multiply(work, self.weight, out=work)
            else:
                xp.multiply(new, a, out=work)
                xp.multiply(average, 1 - a, out=average)
            xp.add(average, work, out=average)

    def _backward(self, dXhat: Array, Xhat: Array, sigma: Array, work: Array) -> Array:
        """As for LayerNorm; where μ and σ are running averages, constants, dX = dX̂ / σ."""
        if not self._of_batch:
            return self.xp.divide(dXhat, sigma, out=dXhat)
        return super()._backward(dXhat, Xhat, sigma, work)
