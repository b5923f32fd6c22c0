"""Starting values of the weights: functions of a `Random` and a shape, in float64 on the host.

A weight matrix has the shape (n_in, n_out). The variance is chosen so that signals neither grow nor
fade from layer to layer: 1/n_in keeps it forward (LeCun), 2/(n_in + n_out) forward and backward
(Glorot), 2/n_in where ReLU zeroes half of it (He).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.random import Random
from xpnet.support.checks import at_least_0, finite
from xpnet.support.messages import look_up

Shape = tuple[int, ...]
Initializer = Callable[[Random, Shape], NDArray[np.float64]]


@dataclass(frozen=True)
class ConstantValue:
    """The same value everywhere."""

    value: float = 0.0

    def __post_init__(self) -> None:
        finite("Constant: value", self.value)

    def __call__(self, random: Random, shape: Shape) -> NDArray[np.float64]:
        return np.full(shape, self.value)


# Users write initializers.Constant: that name is in its repr, in pickles, and in the documentation.
ConstantValue.__name__ = ConstantValue.__qualname__ = "Constant"
Constant = ConstantValue


@dataclass(frozen=True)
class Normal:
    """Normal numbers of a given standard deviation; 0.5 in the XOR notebook."""

    std: float = 0.5

    def __post_init__(self) -> None:
        at_least_0("Normal: std", self.std)

    def __call__(self, random: Random, shape: Shape) -> NDArray[np.float64]:
        return self.std * random.normal(shape)


@dataclass(frozen=True)
class Uniform:
    """Uniform numbers on [-limit, limit)."""

    limit: float = 0.5

    def __post_init__(self) -> None:
        at_least_0("Uniform: limit", self.limit)

    def __call__(self, random: Random, shape: Shape) -> NDArray[np.float64]:
        return random.uniform(shape, -self.limit, self.limit)


@dataclass(frozen=True)
class Scaled:
    """Normal or uniform numbers of variance gain / fan, where fan is n_in or the mean of both ends.

    Sources: LeCun et al., "Efficient backprop", 1998 (gain 1, fan n_in); Glorot and Bengio, 2010
    (gain 1, mean fan); He et al., "Delving deep into rectifiers", 2015 (gain 2, fan n_in).
    """

    gain: float
    mean_fan: bool
    uniform: bool

    def __call__(self, random: Random, shape: Shape) -> NDArray[np.float64]:
        n_in, n_out = shape[0], shape[-1]
        variance = self.gain / ((n_in + n_out) / 2 if self.mean_fan else n_in)
        distribution = Uniform(sqrt(3 * variance)) if self.uniform else Normal(sqrt(variance))
        return distribution(random, shape)


@dataclass(frozen=True)
class Orthogonal:
    """A matrix with orthonormal rows or columns (Saxe et al., 2013): the Q of a normal matrix."""

    gain: float = 1.0

    def __post_init__(self) -> None:
        finite("Orthogonal: gain", self.gain)

    def __call__(self, random: Random, shape: Shape) -> NDArray[np.float64]:
        rows, columns = max(shape), min(shape)
        Q, R = np.linalg.qr(random.normal((rows, columns)))
        Q *= np.sign(np.diag(R))  # makes the decomposition unique, and Q uniformly distributed
        return self.gain * (Q if shape == (rows, columns) else Q.T)


INITIALIZERS: dict[str, Initializer] = {
    "zeros": Constant(0.0),
    "ones": Constant(1.0),
    "normal": Normal(0.5),
    "lecun_normal": Scaled(1, mean_fan=False, uniform=False),  # the notebooks' normal/√n_in
    "lecun_uniform": Scaled(1, mean_fan=False, uniform=True),
    "glorot_normal": Scaled(1, mean_fan=True, uniform=False),
    "glorot_uniform": Scaled(1, mean_fan=True, uniform=True),
    "he_normal": Scaled(2, mean_fan=False, uniform=False),
    "he_uniform": Scaled(2, mean_fan=False, uniform=True),
    "orthogonal": Orthogonal(),
}


def find_initializer(init: str | Initializer) -> Initializer:
    """Return the initialiser of this name, or ``init`` itself if it is a function."""
    return init if callable(init) else look_up("initializer", init, INITIALIZERS)
