"""Schedules of the learning rate: each is a function of the step; the first step is 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi
from typing import Any

from xpnet.backend.host_functions import taylor
from xpnet.support.checks import at_least_0, count, fraction, positive
from xpnet.support.errors import OptionError

Schedule = Callable[[int], float]


def _power(x: float, n: int) -> float:
    """Return xⁿ by repeated squaring: products are the same on every machine, pow is not."""
    result = 1.0
    while n:
        result, x, n = (result * x if n % 2 else result), x * x, n // 2
    return result


def _half_cosine(start: float, end: float, progress: float) -> float:
    """Return the value between start and end at a progress of 0 to 1; above 1 it is the end.

    The share of ``start`` is (1 + cos πp) / 2 = cos²(πp / 2), and cos 2θ = cos² θ - sin² θ.
    """
    cos, sin = taylor(pi * progress / 4)
    share = cos * cos - sin * sin if progress < 1 else 0.0
    return end + (start - end) * share * share


def _checked(schedule: object, **checks: Callable[[str, Any], Any]) -> None:
    """Check the numbers of a schedule, and keep each as a number of Python."""
    for name, check in checks.items():
        vars(schedule)[name] = check(name, getattr(schedule, name))


def _whole(step: Any) -> int:
    """Return a step, after checking that it is a whole number of 0 or more; 3.0 is one, too."""
    return count("step", int(step) if isinstance(step, float) and step.is_integer() else step, 0)


@dataclass(frozen=True)
class ConstantRate:
    """η"""

    lr: float

    def __post_init__(self) -> None:
        _checked(self, lr=positive)

    def __call__(self, step: int) -> float:
        return self.lr


# Users write schedules.Constant: that name is in its repr, in pickles, and in the documentation.
ConstantRate.__name__ = ConstantRate.__qualname__ = "Constant"
Constant = ConstantRate


@dataclass(frozen=True)
class Step:
    """η · factor^⌊step / every⌋"""

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _checked(self, lr=positive, every=count, factor=positive)

    def __call__(self, step: int) -> float:
        return float(self.lr * _power(self.factor, _whole(step) // self.every))


@dataclass(frozen=True)
class Exponential:
    """η · factor^step"""

    lr: float
    factor: float

    def __post_init__(self) -> None:
        _checked(self, lr=positive, factor=positive)

    def __call__(self, step: int) -> float:
        return float(self.lr * _power(self.factor, _whole(step)))


@dataclass(frozen=True)
class Cosine:
    """From η to ``final`` along half a cosine over ``steps`` steps, then constant.

    Loshchilov and Hutter, "SGDR", 2016.
    """

    lr: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _checked(self, lr=positive, steps=count, final=at_least_0)

    def __call__(self, step: int) -> float:
        return _half_cosine(self.lr, self.final, step / self.steps)


@dataclass(frozen=True)
class WarmUp:
    """Linear from η/steps to η = then(0) over ``steps`` steps, then as ``then``."""

    then: Schedule
    steps: int

    def __post_init__(self) -> None:
        if not callable(self.then):
            raise OptionError(f"WarmUp: then must be a schedule; got {self.then!r}")
        _checked(self, steps=count)

    def __call__(self, step: int) -> float:
        if step < self.steps:
            return self.then(0) * (step + 1) / self.steps
        return self.then(step - self.steps)


@dataclass(frozen=True)
class OneCycle:
    """Up from η/start to η over the first part of the steps, then down to η/end, both by cosine.

    Smith and Topin, "Super-convergence", 2017; the defaults are PyTorch's: 30 % of the steps up,
    start = 25, end = 250 000.
    """

    lr: float
    steps: int
    up: float = 0.3
    start: float = 25.0
    end: float = 250_000.0

    def __post_init__(self) -> None:
        _checked(self, lr=positive, steps=count, up=fraction, start=positive, end=positive)
        if not 1 < self.up * self.steps < self.steps - 1:
            raise OptionError(
                f"OneCycle needs a step on either side of its peak; got steps={self.steps!r}, "
                f"up={self.up!r}"
            )

    def __call__(self, step: int) -> float:
        first, peak, last = self.lr / self.start, self.up * self.steps - 1, self.steps - 1
        if step <= peak:
            return _half_cosine(first, self.lr, step / peak)
        return _half_cosine(self.lr, self.lr / self.end, (step - peak) / (last - peak))
