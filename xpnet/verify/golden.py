"""Golden hashes: trainings whose every bit is known, so that any machine can show that it agrees.

Each `Recipe` is a data set, a network, a loss and an optimizer. In reproducible mode 200 steps of
it give the same bits on every backend; ``golden.json`` holds their SHA-256. The data and the
initial weights are the same everywhere, too: whole numbers from a counter-based generator and
+ - · / √, no sin, cos or log of a library. The file is made, on any machine, with

    python -c "from xpnet import golden; golden.write()" > xpnet/verify/golden.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet import data
from xpnet.backend import Backend, find_backend
from xpnet.backend.random import Random
from xpnet.data.batches import Batches
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
from xpnet.losses import Loss, find_loss
from xpnet.network import Sequential
from xpnet.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from xpnet.parallel.communicator import ALONE, Communicator
from xpnet.parallel.sharing import shared_backend
from xpnet.parallel.step import together
from xpnet.support.errors import DataError

STEPS = 200
PHASES = ("forward", "backward", "update")
DIGITS = 8  # hexadecimal digits that are kept of the hash of each phase of each step
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
PROBLEMS = tuple(dict.fromkeys(recipe.problem for recipe in RECIPES))


# ---- a training and its hashes -----------------------------------------------------------------


class Run:
    """A training by a recipe, whose steps can be taken phase by phase.

    Parameters
    ----------
    recipe : Recipe
    xp : Backend
        What computes; the initial weights and the batches do not depend on it.
    X, t : ndarray
        The data of the recipe's problem, see `load`.
    comm : Communicator
        The processes that share each batch; of several, the first phase has done the second, too.

    Attributes
    ----------
    net, loss, optimizer
        What the recipe says.
    batch : (array, array)
        The samples and targets of the present step, on the backend.
    """

    def __init__(
        self,
        recipe: Recipe,
        xp: Backend,
        X: NDArray[Any],
        t: NDArray[Any],
        comm: Communicator = ALONE,
    ) -> None:
        xp = xp if comm.size == 1 else shared_backend(xp, comm)
        self.net = net = Sequential(*recipe.layers(), seed=SEED, backend=xp)
        self.loss: Loss = find_loss(recipe.loss)
        self.loss.use(xp)
        self.loss.validate = False
        self.optimizer = recipe.optimizer(net)
        stored = X.dtype if X.dtype == np.uint8 else net.dtype
        columns = [xp.asarray(X, stored), xp.asarray(t)]
        dtypes = [net.input_dtype(X.dtype), np.int64]
        self._size = min(recipe.batch_size or len(X), len(X))
        self._together, pieces = None, None
        if comm.size > 1:
            self._together = together(net, self.loss, comm, [self._size], X.shape[1:])
            pieces = [self._together.piece, self._together.targets]
        self._batches = Batches(xp, columns, dtypes, self._size, True, SEED, pieces)
        self._steps = len(X) // self._size  # in an epoch; what is left over is not used
        self.t, self.batch = 0, (None, None)

    def forward(self) -> None:
        """Take the next batch through the network and the loss."""
        epoch, step = divmod(self.t, self._steps)
        if step == 0:
            self._batches.start(epoch)
        self.t += 1
        X, t = self.batch = tuple(self._batches.gather(self._size))
        if self._together is None:
            self.loss.forward(self.net.forward(X), t)
        else:
            self._together.begin(self._size)
            self._together.backpropagate(X, t)

    def backward(self) -> None:
        """Compute all gradients."""
        if self._together is None:
            self.net.backward(self.loss.backward())

    def update(self) -> None:
        """Change the parameters."""
        self.optimizer.step()

    def step(self) -> None:
        """Take all phases of one step."""
        for phase in PHASES:
            getattr(self, phase)()

    def results(self, phase: str) -> Iterable[Any]:
        """Return what a phase has made: outputs, loss and states, the gradients, or parameters."""
        if phase == "backward":
            return [self.net.grads]
        if phase == "update":
            return [self.net.params]
        n, layers = len(self.loss.Y), [layer for _, layer in self.net.walk("")]
        outputs = [layer.Y[:n] for layer in layers if hasattr(layer, "Y")]
        return [*outputs, self.loss.value, *(a for layer in layers for a in layer.state.values())]


@dataclass
class Trace:
    """The hashes of a training.

    Attributes
    ----------
    phases : dict of str to list of str
        For each of "forward", "backward" and "update" the beginning of the SHA-256 of each step.
    sha256 : dict of str to str
        For each phase that of all steps together; "update" is that of the final parameters alone.
    """

    phases: dict[str, list[str]] = field(default_factory=lambda: {phase: [] for phase in PHASES})
    sha256: dict[str, str] = field(default_factory=dict)

    def first_difference(
        self, other: Trace, phases: Sequence[str] = PHASES
    ) -> tuple[int, str] | None:
        """Return the first step, from 0, and the phase in it that differ, or None."""
        steps = min(len(self.phases[PHASES[0]]), len(other.phases[PHASES[0]]))
        for step in range(steps):
            for phase in phases:
                if self.phases[phase][step] != other.phases[phase][step]:
                    return step, phase
        return None


def little_endian(a: NDArray[Any]) -> bytes:
    """Return the values of an array, in order, as little-endian bytes."""
    return np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes()


def trace(
    recipe: Recipe,
    xp: Backend,
    steps: int = STEPS,
    data_dir: str | None = None,
    comm: Communicator = ALONE,
) -> Trace:
    """Train by a recipe on a backend, and return the hashes of all that comes out.

    Of several processes each has the outputs of its own samples, and the gradients and parameters
    of all: the hashes of the phases "backward" and "update" are those of a single process.
    """
    run, found = Run(recipe, xp, *load(recipe.problem, data_dir), comm), Trace()
    whole = {phase: hashlib.sha256() for phase in PHASES}
    for _ in range(steps):
        for phase in PHASES:
            getattr(run, phase)()
            content = b"".join(little_endian(xp.asnumpy(a)) for a in run.results(phase))
            found.phases[phase].append(hashlib.sha256(content).hexdigest()[:DIGITS])
            whole[phase].update(content)
    found.sha256 = {phase: whole[phase].hexdigest() for phase in PHASES}
    found.sha256["update"] = run.net.sha256()
    return found


def inputs_sha256(problem: str, data_dir: str | None = None) -> str:
    """Return the SHA-256 of the data of a problem: X, then t."""
    X, t = load(problem, data_dir)
    return hashlib.sha256(little_endian(X) + little_endian(t)).hexdigest()


# ---- the file ---------------------------------------------------------------------------------


@cache
def golden() -> dict[str, Any]:
    """Return what ``golden.json`` holds."""
    text = Path(__file__).with_name("golden.json").read_text(encoding="utf-8")
    parsed: dict[str, Any] = json.loads(text)
    return parsed


def golden_trace(recipe: Recipe) -> Trace:
    """Return the golden hashes of a recipe."""
    entry = golden()["recipes"][recipe.name]
    digits = {phase: entry["steps"][phase] for phase in PHASES}
    phases = {
        phase: [text[i : i + DIGITS] for i in range(0, len(text), DIGITS)]
        for phase, text in digits.items()
    }
    return Trace(phases, {phase: entry[phase] for phase in PHASES})


def make() -> dict[str, Any]:
    """Compute all that belongs into ``golden.json``, with NumPy."""
    xp = find_backend("numpy", reproducible=True)
    recipes = {}
    for recipe in RECIPES:
        found = trace(recipe, xp)
        steps = {phase: "".join(found.phases[phase]) for phase in PHASES}
        recipes[recipe.name] = {**found.sha256, "steps": steps}
    inputs = {problem: inputs_sha256(problem) for problem in PROBLEMS}
    return {"steps": STEPS, "inputs": inputs, "recipes": recipes}


def write() -> None:
    """Print what belongs into ``golden.json``."""
    json.dump(make(), sys.stdout, indent=1)
    print()
