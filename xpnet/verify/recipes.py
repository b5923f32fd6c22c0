"""The recipes of the golden trainings: data sets and networks that are the same on every machine.

The data and the initial weights are whole numbers from a counter-based generator, and what
+ - · / √ make of them: no sin, cos or log of a library.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet import data
from xpnet.backend.random import Random
from xpnet.layers import (
    GELU,
    BatchNorm1d,
    Dropout,
    Layer,
    LayerNorm,
    LeakyReLU,
    Linear,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
)
from xpnet.network import Sequential
from xpnet.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xpnet.support.errors import DataError

SEED = 0
Data = tuple[NDArray[Any], NDArray[np.int64]]


# ---- the data ---------------------------------------------------------------------------------


def spiral_by_rotation(n: int = 400, noise: float = 0.02) -> Data:
    """Return two spiral arms, made with + - · / alone.

    The unit vector (x, y) is turned by 2 artan 1/32 at each point: cos = (1 - u²)/(1 + u²) and
    sin = 2u/(1 + u²) with u = 1/32. The radius grows evenly, and the noise is uniform.
    """
    u = 1 / 32
    cos, sin = (1 - u * u) / (1 + u * u), 2 * u / (1 + u * u)
    x, y, arm = 1.0, 0.0, []
    for k in range(n // 2):
        radius = (k + 10) / (n // 2 + 10)
        arm.append((radius * x, radius * y))
        x, y = cos * x - sin * y, sin * x + cos * y
    points = np.array(arm)
    X = np.concatenate([points, -points])
    return (
        X + Random(SEED, "golden spiral").uniform(X.shape, -noise, noise),
        np.repeat(np.arange(2), n // 2),
    )


@cache
def load(problem: str, data_dir: str | None = None) -> Data:
    """Return X and t of a problem, on the host.

    Raises
    ------
    DataError
        If MNIST is neither here nor to be had, or what is here has images of another size.
    """
    if problem == "xor":
        return data.xor_gate()
    if problem == "spiral":
        return spiral_by_rotation()
    if problem == "digits":
        return data.digits()[:2]
    X, t = data.load_mnist(data_dir)[:2]
    if X.shape[1] != 784:
        raise DataError(f"images of {X.shape[1]} pixels, but those of MNIST itself have 784")
    return X, t


# ---- the recipes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """A training with a golden hash; ``batch_size`` None means all samples at once."""

    problem: str
    network: str
    layers: Callable[[], list[Layer]]
    loss: str
    optimizer: Callable[[Sequential], Optimizer]
    batch_size: int | None = None

    @property
    def name(self) -> str:
        """The problem and the network, such as ``"xor: 2-8-1 tanh, bce_logits, momentum"``."""
        return f"{self.problem}: {self.network}"


def _mlp(*sizes: int, activation: Callable[[], Layer], init: str, end: list[Layer]) -> list[Layer]:
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Linear(n_in, n_out, init=init), activation()]
    return [*layers[:-1], *end]


def _xor_sigmoid() -> list[Layer]:
    return _mlp(2, 8, 1, activation=Sigmoid, init="glorot_uniform", end=[Sigmoid()])


def _xor_tanh() -> list[Layer]:
    return _mlp(2, 8, 1, activation=Tanh, init="glorot_uniform", end=[])


def _spiral_tanh() -> list[Layer]:
    return _mlp(2, 32, 32, 1, activation=Tanh, init="glorot_uniform", end=[Sigmoid()])


def _spiral_gelu() -> list[Layer]:
    return [Linear(2, 32), LayerNorm(32), GELU(), Linear(32, 32), GELU(), Linear(32, 1), Sigmoid()]


def _digits_relu() -> list[Layer]:
    return _mlp(64, 64, 32, 10, activation=ReLU, init="he_uniform", end=[])


def _digits_leaky() -> list[Layer]:
    end = [LeakyReLU(), Dropout(0.2), Linear(32, 10), Softmax()]
    return [Linear(64, 64), BatchNorm1d(64), LeakyReLU(), Dropout(0.2), Linear(64, 32), *end]


def _mnist_relu() -> list[Layer]:
    return _mlp(784, 64, 32, 10, activation=ReLU, init="he_uniform", end=[])


def _mnist_tanh() -> list[Layer]:
    return _mlp(784, 64, 10, activation=Tanh, init="glorot_uniform", end=[])


def _mnist_dropout() -> list[Layer]:
    end = [BatchNorm1d(32), ReLU(), Linear(32, 10)]
    return [Dropout(0.1), Linear(784, 64), BatchNorm1d(64), ReLU(), Linear(64, 32), *end]


RECIPES = (
    Recipe("xor", "2-8-1 sigmoid, mse, SGD", _xor_sigmoid, "mse", partial(SGD, lr=2.0)),
    Recipe(
        "xor",
        "2-8-1 tanh, bce_logits, momentum",
        _xor_tanh,
        "bce_logits",
        partial(SGD, lr=0.2, momentum=0.9),
    ),
    Recipe(
        "spiral",
        "2-32-32-1 tanh, bce, Adam",
        _spiral_tanh,
        "bce",
        partial(Adam, lr=0.01),
        batch_size=64,
    ),
    Recipe(
        "spiral",
        "2-32-32-1 GELU and LayerNorm, huber, RMSprop",
        _spiral_gelu,
        "huber",
        partial(RMSprop, lr=0.003),
    ),
    Recipe(
        "digits",
        "64-64-32-10 ReLU, softmax_cross_entropy, Adam",
        _digits_relu,
        "softmax_cross_entropy",
        partial(Adam, lr=0.003),
        batch_size=32,
    ),
    Recipe(
        "digits",
        "64-64-32-10 LeakyReLU, BatchNorm, Dropout, Softmax, cross_entropy, AdamW, clipping",
        _digits_leaky,
        "cross_entropy",
        partial(AdamW, lr=0.003, clip_norm=1.0),
        batch_size=32,
    ),
    Recipe(
        "mnist",
        "784-64-32-10 ReLU, softmax_cross_entropy, Adam",
        _mnist_relu,
        "softmax_cross_entropy",
        partial(Adam, lr=0.001),
        batch_size=128,
    ),
    Recipe(
        "mnist",
        "784-64-10 tanh, softmax_cross_entropy, SGD",
        _mnist_tanh,
        "softmax_cross_entropy",
        partial(SGD, lr=0.1),
        batch_size=128,
    ),
    Recipe(
        "mnist",
        "784-64-32-10 ReLU, BatchNorm, Dropout, Nesterov, weight decay",
        _mnist_dropout,
        "softmax_cross_entropy",
        partial(SGD, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-4),
        batch_size=100,
    ),
)
PROBLEM_NAMES = tuple(dict.fromkeys(recipe.problem for recipe in RECIPES))
