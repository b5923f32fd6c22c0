"""The numbers and arrays that belong together in a primitive's call, each group stated once."""

from __future__ import annotations

from typing import Any, NamedTuple

Array = Any


class MomentumOptions(NamedTuple):
    """Of `momentum`: μ, and whether the step is Nesterov's."""

    mu: float
    nesterov: bool = False


class RMSpropOptions(NamedTuple):
    """Of `rmsprop`: ρ and ε."""

    rho: float
    eps: float


class AdamOptions(NamedTuple):
    """Of `adam`: β₁, β₂, ε and λ, which shrinks the parameters beside the gradient's step."""

    beta1: float
    beta2: float
    eps: float
    decay: float = 0.0


class AdamState(NamedTuple):
    """What `adam` remembers: m and v, and in float64 the learning rate, and β₁ᵗ and β₂ᵗ."""

    m: Array
    v: Array
    rate: Array
    powers: Array


class CrossEntropyArrays(NamedTuple):
    """What `softmax_cross_entropy` writes: losses and dZ; ``work`` and ``hot`` are scratch.

    All have the shape of the scores Z, but ``losses`` has one number for each row. ``hot`` is
    needed where the targets are labels.
    """

    losses: Array
    dZ: Array
    work: Array
    hot: Array = None
