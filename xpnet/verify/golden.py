"""Golden hashes: trainings whose every bit is known, so that any machine can show that it agrees.

Each `Recipe` is a data set, a network, a loss and an optimizer, see `xpnet.verify.recipes`. In
reproducible mode 200 steps of it give the same bits on every backend; ``golden.json`` holds their
SHA-256. The file is made, on any machine, with

    python -c "from xpnet import golden; golden.write()" > xpnet/verify/golden.json
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend, find_backend
from xpnet.losses import Loss, find_loss
from xpnet.network import Sequential
from xpnet.parallel.batch import shared_backend
from xpnet.parallel.communicator import ALONE, Communicator
from xpnet.training.data import DataReader
from xpnet.training.preparation import make_step
from xpnet.verify.recipes import PROBLEM_NAMES as PROBLEM_NAMES
from xpnet.verify.recipes import RECIPES as RECIPES
from xpnet.verify.recipes import SEED, Data
from xpnet.verify.recipes import Recipe as Recipe
from xpnet.verify.recipes import load as load
from xpnet.verify.recipes import spiral_by_rotation as spiral_by_rotation

STEPS = 200
PHASES = ("forward", "backward", "update")
DIGITS = 8  # hexadecimal digits that are kept of the hash of each phase of each step


# ---- a training and its hashes -----------------------------------------------------------------


class RecipeRun:
    """A training by a recipe, whose steps can be taken phase by phase.

    Parameters
    ----------
    recipe : Recipe
    xp : Backend
        What computes; the initial weights and the batches do not depend on it.
    X, t : ndarray
        The data of the recipe's problem, see `load`.
    comm : Communicator
        The processes that share each batch.

    Attributes
    ----------
    net, loss, optimizer
        What the recipe says.
    t : int
        The number of steps that have begun.
    """

    def __init__(
        self,
        recipe: Recipe,
        xp: Backend,
        X: NDArray[Any],
        t: NDArray[Any],
        comm: Communicator = ALONE,
    ) -> None:
        xp = shared_backend(xp, comm)
        self.net = net = Sequential(*recipe.layers(), seed=SEED, backend=xp)
        self.loss: Loss = find_loss(recipe.loss)
        self.loss.use(xp)
        self.loss.validate = False
        self.optimizer = recipe.optimizer(net)
        size = min(recipe.batch_size or len(X), len(X))
        reader = DataReader(net, self.loss)
        data = reader.place(reader.columns(X, t, None))
        what = net, self.loss, self.optimizer, data, size
        self._step = make_step(*what, shuffle=True, seed=SEED, comm=comm)
        self._size, self._per_epoch = size, len(X) // size  # what is left over is not used
        self.t = 0

    @property
    def batch(self) -> Data:
        """The samples and targets of the present step, on the backend."""
        X, t = self._step.samples
        return X, t

    def forward(self) -> None:
        """Take the next batch through the network and the loss."""
        epoch, step = divmod(self.t, self._per_epoch)
        if step == 0:
            self._step.start(epoch)
        self.t += 1
        self.optimizer.prepare(1)
        self._step.gather(self._size)
        self._step.forward()

    def backward(self) -> None:
        """Compute all gradients."""
        self._step.backward()

    def update(self) -> None:
        """Change the parameters."""
        self.optimizer.descend()

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
    run, found = RecipeRun(recipe, xp, *load(recipe.problem, data_dir), comm), Trace()
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
    inputs = {problem: inputs_sha256(problem) for problem in PROBLEM_NAMES}
    return {"steps": STEPS, "inputs": inputs, "recipes": recipes}


def write() -> None:
    """Print what belongs into ``golden.json``."""
    json.dump(make(), sys.stdout, indent=1)
    print()
