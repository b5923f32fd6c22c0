"""Reproducible mode: the optimizers, in float32; sums of products and the step are flushed."""

from __future__ import annotations

import numpy as np

from xpnet.backend.base import Array
from xpnet.backend.exact import flush, tame
from xpnet.backend.options import AdamOptions, AdamState, MomentumOptions, RMSpropOptions
from xpnet.backend.reproducible.functions import ExactFunctions
from xpnet.support.errors import OptionError

OPTIMIZER_PIECE = 2**17  # elements at a time of the five vectors of an optimizer
LEAST_EPS = 1e-13  # for a smaller ε the squares of gradients would vanish before it

Arrays = tuple[Array, ...]


class Reproducible(ExactFunctions):
    """The primitives with the same bits on every machine.

    Parameters
    ----------
    ordinary : Backend
        The backend that does the single operations.

    Raises
    ------
    BackendError
        If this machine does not round as IEEE 754 says, or cuBLAS is told to emulate float64.
    """

    def sgd(self, p: Array, g: Array, rate: Array, *, work: Array) -> None:
        """p = p - η g"""
        eta = self._number("rate", rate)
        for i in self._pieces(p, OPTIMIZER_PIECE):
            self._descend(p[i], g[i], eta, work[i])

    def momentum(
        self, p: Array, g: Array, v: Array, rate: Array, options: MomentumOptions, *, work: Array
    ) -> None:
        """v = μ v + g,  p = p - η v      (Nesterov: p = p - η (μ v + g))"""
        m, eta, (mu, nesterov) = self.module, self._number("rate", rate), options
        for i in self._pieces(p, OPTIMIZER_PIECE):
            vi, gi, step = v[i], g[i], work[i]
            m.multiply(vi, tame(mu), out=vi)
            flush(m, m.add(vi, gi, out=vi))
            if nesterov:
                m.multiply(vi, tame(mu), out=step)
                m.add(step, gi, out=step)
            self._descend(p[i], step if nesterov else vi, eta, step)

    def rmsprop(
        self, p: Array, g: Array, s: Array, rate: Array, options: RMSpropOptions, *, work: Array
    ) -> None:
        """s = ρ s + (1 - ρ) g²,  p = p - η (g / (√s + ε))"""
        m, eta, (rho, eps) = self.module, self._number("rate", rate), options
        for i in self._pieces(p, OPTIMIZER_PIECE):
            si, gi, step = s[i], g[i], work[i]
            m.multiply(gi, gi, out=step)
            self._average(si, step, rho, step)
            m.sqrt(si, out=step)
            m.add(step, checked_eps(eps), out=step)
            self._descend(p[i], m.divide(gi, step, out=step), eta, step)

    def adam(
        self, p: Array, g: Array, state: AdamState, options: AdamOptions, *, work: Array
    ) -> None:
        """p = (1 - η λ) p - (η r / (1 - β₁ᵗ)) (m / (√v + ε r)) with r = √(1 - β₂ᵗ)"""
        (m, v, rate, powers), (beta1, beta2, eps, decay) = state, options
        numbers = self._adam_numbers(rate, powers, checked_eps(eps), decay)
        xp, (eta, epsilon, kept) = self.module, numbers
        for i in self._pieces(p, OPTIMIZER_PIECE):
            pi, gi, mi, vi, step = p[i], g[i], m[i], v[i], work[i]
            self._average(mi, gi, beta1, step)
            xp.multiply(gi, gi, out=step)
            self._average(vi, step, beta2, step)
            xp.sqrt(vi, out=step)
            xp.add(step, epsilon, out=step)
            if decay:
                self.multiply(pi, kept, out=pi)
            self._descend(pi, xp.divide(mi, step, out=step), eta, step)

    def _average(self, mean: Array, value: Array, beta: float, work: Array) -> None:
        """mean = β mean + (1 - β) value"""
        m = self.module
        m.multiply(value, 1 - beta, out=work)
        m.multiply(mean, tame(beta), out=mean)
        flush(m, m.add(mean, work, out=mean))

    def _descend(self, p: Array, direction: Array, eta: Array, work: Array) -> None:
        """p = p - η direction, where η < 2²⁴ may be multiplied with a tiny quotient"""
        self.module.subtract(p, self.multiply(direction, eta, out=work), out=p)

    def _adam_numbers(self, rate: Array, powers: Array, eps: float, decay: float) -> Arrays:
        """Return η r / (1 - β₁ᵗ), ε r and 1 - η λ with r = √(1 - β₂ᵗ), in float32."""
        m, c = self.module, self._scratch("corrections", (2,))
        m.subtract(1.0, powers, out=c)
        eta, r, kept = c[:1], c[1:], self._scratch("kept", (1,))
        m.divide(rate, eta, out=eta)
        m.sqrt(r, out=r)
        m.multiply(eta, r, out=eta)
        m.multiply(r, eps, out=r)
        m.multiply(rate, decay, out=kept)
        m.subtract(1.0, kept, out=kept)
        return self._number("eta", eta), self._number("epsilon", r), self._number("keep", kept)

    def _number(self, name: str, value: Array) -> Array:
        """Return a number of float64 on the device in float32, as an array of one element."""
        return self._store(value, self._scratch(name, (1,), np.float32))


def checked_eps(eps: float) -> float:
    """Return an ε beside which the squares that are 0 here, of gradients below 2e-14, are small."""
    if eps < LEAST_EPS:
        raise OptionError(f"reproducible mode needs eps of at least {LEAST_EPS:g}; got {eps!r}")
    return eps
