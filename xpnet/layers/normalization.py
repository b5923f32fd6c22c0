"""BatchNorm1d and LayerNorm: the same formula along the other axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.backend.random import Random
from xpnet.layers.base import Layer, Shape
from xpnet.layers.shapes import features
from xpnet.support.checks import count, positive
from xpnet.support.errors import OptionError


class Normalization(Layer):
    """Y = γ X̂ + β        with X̂ = (X - μ) / σ and σ = √(mean (X - μ)² + ε) along ``axis``

    dβ = Σᵢ dYᵢ        dγ = Σᵢ dYᵢ X̂ᵢ        dX̂ = γ dY
    dX = (dX̂ - mean dX̂ - X̂ · mean(dX̂ · X̂)) / σ

    The means run along the axis of μ: both μ and σ depend on every X there.
    """

    axis: int
    gamma: Array
    dgamma: Array
    beta: Array
    dbeta: Array

    def __init__(self, n: int, eps: float = 1e-5) -> None:
        super().__init__()
        name = type(self).__name__
        self.n, self.eps = count(f"{name}: n", n), positive(f"{name}: eps", eps)
        self.parameter("gamma", (n,), "ones")
        self.parameter("beta", (n,), "zeros")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n})"

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
        xp, n = self.xp, len(X)
        Xhat, mu, sigma = self.Xhat[:n], self._line(self.mu, n), self._line(self.sigma, n)
        self._statistics(X, mu, sigma, self.work[:n])
        xp.add(sigma, self.eps, out=sigma)
        xp.sqrt(sigma, out=sigma)
        xp.subtract(X, mu, out=Xhat)
        xp.divide(Xhat, sigma, out=Xhat)
        Y = xp.multiply(Xhat, self.gamma, out=self.Y[:n])
        return xp.add(Y, self.beta, out=Y)

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
        xp.sum(dY, axis=0, out=self.dbeta)
        xp.multiply(dY, Xhat, out=work)
        xp.sum(work, axis=0, out=self.dgamma)
        if self.dX is None:
            return None
        dXhat = xp.multiply(dY, self.gamma, out=self.dX[:n])
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
        ε.

    References
    ----------
    Ba, Kiros and Hinton, "Layer normalization", 2016.
    """

    axis = 1


class BatchNorm1d(Normalization):
    """Each feature is normalised over the batch: the formulas of `Normalization` along axis 0.

    During prediction μ and σ² are running averages, a = (1 - momentum) a + momentum · new, and
    dX = dX̂ / σ. Both averages are of the batch's own mean of squares (no n/(n-1)).

    Parameters
    ----------
    n : int
        Features.
    momentum : float
        The weight of the newest batch in the running averages.
    eps : float
        ε.

    References
    ----------
    Ioffe and Szegedy, "Batch normalization", 2015.
    """

    axis = 0

    def __init__(self, n: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__(n, eps)
        if not 0 < momentum <= 1:
            raise OptionError(f"BatchNorm1d: momentum must be in (0, 1]; got {momentum!r}")
        self.momentum = float(momentum)

    def initial_state(self, random: Random) -> dict[str, np.ndarray[Any, Any]]:
        """Return mean 0 and variance 1."""
        return {"mean": np.zeros((1, self.n)), "variance": np.ones((1, self.n))}

    def _statistics(self, X: Array, mu: Array, variance: Array, work: Array) -> None:
        """Take the batch's own and keep a running average; during prediction take that average."""
        xp, running = self.xp, (self.state["mean"], self.state["variance"])
        if not self.training:
            xp.copyto(mu, running[0])
            xp.copyto(variance, running[1])
            return
        super()._statistics(X, mu, variance, work)
        for average, new in zip(running, (mu, variance), strict=True):
            scratch = xp.multiply(new, self.momentum, out=work[:1])
            xp.multiply(average, 1 - self.momentum, out=average)
            xp.add(average, scratch, out=average)

    def _backward(self, dXhat: Array, Xhat: Array, sigma: Array, work: Array) -> Array:
        """As for LayerNorm; during prediction μ and σ are constants, so dX = dX̂ / σ."""
        if not self.training:
            return self.xp.divide(dXhat, sigma, out=dXhat)
        return super()._backward(dXhat, Xhat, sigma, work)
