"""The consistency check behind ``xpnet check``: all backends compute the same gradients.

For each golden training (see `golden`) it holds the gradients of one batch against each other
in float64 and float32 (see `xpnet.parity`), then trains in reproducible mode on every backend and
compares each bit of every step: backend against backend, and all against the golden hashes, so that
a machine without a GPU can verify what a GPU gives, and the other way round.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend, describe, find_backend, parse_name
from xpnet.network import Sequential
from xpnet.support.checks import count
from xpnet.support.errors import BackendError, DataError, OptionError
from xpnet.support.messages import look_up
from xpnet.verify.golden import (
    PHASES,
    PROBLEMS,
    RECIPES,
    STEPS,
    Recipe,
    RecipeRun,
    Trace,
    golden,
    golden_trace,
    inputs_sha256,
    little_endian,
    load,
    trace,
)
from xpnet.verify.parity import ParityReport, locate, parity, wrapped
from xpnet.verify.parity.values import worst

SAMPLES = 64  # of a batch whose gradients are compared
TITLE = "reproducible mode, SHA-256 of all gradients of all steps, and of the last weights"


@dataclass
class Training:
    """A golden training on one backend, in reproducible mode.

    Attributes
    ----------
    gradients, weights : str
        SHA-256 of all gradients of all steps, and of the last parameters.
    golden : bool
        All outputs, losses, states, gradients and parameters of every step, as far as the golden
        hashes reach, have these.
    first : str
        Where they first differ from those, empty if nowhere.
    milliseconds : float
        The time of a step, with its hashes.
    steps : int
        That were taken.
    """

    gradients: str
    weights: str
    golden: bool
    first: str
    milliseconds: float
    steps: int

    @property
    def verdict(self) -> str:
        """``"golden"``, with the last step that was compared, if there are more, or not."""
        beyond = f" to {STEPS}" if self.steps > STEPS else ""
        return f"golden{beyond}" if self.golden else "NOT GOLDEN"


@dataclass
class RecipeReport:
    """All that was checked about one golden training.

    Attributes
    ----------
    name : str
        That of the recipe.
    inputs : bool
        The data are those of the golden hashes.
    gradients : ParityReport
        One batch in float64, float32 and reproducible mode.
    trainings : dict of str to Training
        By backend.
    differences : list of str
        Where two backends part, a sentence each: step, layer, parameter, entry, and both values.
    """

    name: str
    inputs: bool
    gradients: ParityReport
    trainings: dict[str, Training]
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everything that ran agreed."""
        golden = all(training.golden for training in self.trainings.values())
        return self.inputs and self.gradients.ok and golden and not self.differences

    def failures(self) -> list[str]:
        """Return a sentence for all that did not agree."""
        wrong = [] if self.inputs else ["the data are not those of the golden hashes"]
        wrong += self.gradients.failures()
        wrong += [
            f"{name} does not have the golden hashes: {training.first}"
            for name, training in self.trainings.items()
            if not training.golden
        ]
        return wrong + self.differences

    def __str__(self) -> str:
        lines = ["", f"-- {self.name} ".ljust(100, "-"), self.gradients.tables(), "", TITLE]
        width = max(map(len, self.trainings), default=0)
        for name, training in self.trainings.items():
            lines += [
                f"{name:<{width}}  gradients  {training.gradients}",
                f"{'':<{width}}  weights    {training.weights}  {training.verdict}",
            ]
        lines += [wrapped(f"WRONG: {text}") for text in self.failures()]
        return "\n".join([*lines, "all agrees" if self.ok else "NOT all agrees"])


@dataclass
class CheckReport:
    """The outcome of `check`; ``print`` it, or test ``report.ok``.

    Attributes
    ----------
    steps : int
        Of each training.
    machine : dict of str to str
        What computed.
    recipes : list of RecipeReport
    not_run : dict of str to str
        Backends and problems that could not be checked, and why.
    required : tuple of str
        Backends that had to run.
    """

    steps: int
    machine: dict[str, str]
    recipes: list[RecipeReport] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Everything that ran agreed, something ran, and so did all that was required."""
        agreed = all(recipe.ok for recipe in self.recipes)
        return bool(self.recipes) and agreed and not self.missing

    @property
    def missing(self) -> list[str]:
        """The backends that were required and did not run."""
        return [name for name in self.required if name in self.not_run]

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        if not self.recipes:
            return "nothing was checked"
        agreed = all(recipe.ok for recipe in self.recipes)
        missing = [f"{name} was required and not run" for name in self.missing]
        return "; ".join(["all that ran agrees" if agreed else "NOT all agrees", *missing])

    @property
    def left_out(self) -> dict[str, str]:
        """All that was not run, also within a training, and why."""
        inner = [recipe.gradients.not_run for recipe in self.recipes]
        return {what: why for found in [self.not_run, *inner] for what, why in found.items()}

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        recipes = [
            asdict(r) | {"ok": r.ok, "failures": r.failures(), "gradients": r.gradients.to_dict()}
            for r in self.recipes
        ]
        return {"ok": self.ok, **asdict(self), "recipes": recipes, "verified": verified()}

    @property
    def legend(self) -> dict[str, str]:
        """What each column of the gradients' tables is, and why its limit is what it is."""
        checks = [check for recipe in self.recipes for check in recipe.gradients.checks]
        return {check.what.split(", ")[-1]: check.reason for check in checks}

    @property
    def last_verified(self) -> str:
        """The last GPU on which everything agreed."""
        entries = verified()
        return ", ".join(f"{k} {v}" for k, v in entries[-1].items()) if entries else "no GPU yet"

    def summary(self) -> str:
        """Return what the columns mean, one line for each training, and what was not run."""
        legend = [wrapped(f"{what}: {why}") for what, why in self.legend.items()]
        missing = [wrapped(f"{what}: not run: {why}") for what, why in self.left_out.items()]
        end = [wrapped(f"last verified on: {self.last_verified}"), self.verdict]
        table = [*self._table(), ""] if self.recipes else []
        return "\n".join(["", *legend, *([""] if legend else []), *table, *missing, *end])

    def _table(self) -> list[str]:
        """Return the verdicts of each training, its name last because it may be long."""
        names = self.recipes[0].trainings
        rows = [("gradients", *names, f"training, {self.steps} steps bit by bit")]
        for recipe in self.recipes:
            verdicts = [training.verdict for training in recipe.trainings.values()]
            rows.append(("agree" if recipe.gradients.ok else "DIFFER", *verdicts, recipe.name))
        widths = [max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[:-1]]
        heads = ["".join(map(str.ljust, row, widths)) for row in rows]
        return [wrapped(f"{h}{row[-1]}", sum(widths)) for h, row in zip(heads, rows, strict=True)]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.recipes), self.summary()])


# ---- the check --------------------------------------------------------------------------------


def check(
    problems: Iterable[str] = PROBLEMS,
    backends: Iterable[str | Backend] = ("numpy", "cupy"),
    steps: int = STEPS,
    *,
    data_dir: str | None = None,
    required: Iterable[str] = (),
    on_recipe: Callable[[RecipeReport], None] | None = None,
) -> CheckReport:
    """Check that all backends compute the same, on the golden trainings.

    Parameters
    ----------
    problems : iterable of str
        Of ``"xor"``, ``"spiral"``, ``"digits"`` and ``"mnist"``.
    backends : iterable of str or Backend
        One that cannot be used here is in ``report.not_run``, with the reason.
    steps : int
        Of each training; the golden hashes reach to 200.
    data_dir : str, optional
        Where the files of MNIST are.
    required : iterable of str
        Backends without which the check fails.
    on_recipe : function, optional
        Called with each `RecipeReport` as soon as it is there.

    Returns
    -------
    CheckReport

    Raises
    ------
    OptionError, BackendError
        If a name is unknown.
    """
    problems = list(problems)
    for problem in problems:
        look_up("problem", problem, dict.fromkeys(PROBLEMS))
    required = tuple(required)
    found, missing = _reproducible([*backends, *required])
    report = CheckReport(count("steps", steps), _machine(found), [], missing, required)
    if not found:
        return report
    for problem in problems:
        try:
            load(problem, data_dir)
        except DataError as error:
            report.not_run[problem] = str(error)
    for recipe in RECIPES:
        if recipe.problem in problems and recipe.problem not in report.not_run:
            report.recipes.append(_check_recipe(recipe, found, steps, data_dir))
            if on_recipe:
                on_recipe(report.recipes[-1])
    return report


def _reproducible(
    backends: Iterable[str | Backend],
) -> tuple[dict[str, Backend], dict[str, str]]:
    """Return the backends that work, in reproducible mode, and why others do not."""
    found: dict[str, Backend] = {}
    missing: dict[str, str] = {}
    for backend in dict.fromkeys(backends):
        name = backend.name if isinstance(backend, Backend) else backend
        if not isinstance(backend, Backend):
            parse_name(backend)  # a name that does not exist is a mistake, not a missing GPU
        try:
            xp = find_backend(backend, reproducible=True)
        except BackendError as error:
            missing[name] = str(error)
            continue
        if name in found and xp is not found[name]:
            raise OptionError(f"the backend {name!r} is there twice")
        if xp not in found.values():  # cpu is numpy
            found[name] = xp
    return found, missing


def _check_recipe(
    recipe: Recipe, backends: dict[str, Backend], steps: int, data_dir: str | None
) -> RecipeReport:
    X, t = load(recipe.problem, data_dir)
    inputs = inputs_sha256(recipe.problem, data_dir) == golden()["inputs"][recipe.problem]
    traces, trainings = {}, {}
    for name, xp in backends.items():
        began = time.perf_counter()
        traces[name] = trace(recipe, xp, steps, data_dir)
        milliseconds = (time.perf_counter() - began) / steps * 1000
        trainings[name] = _training(traces[name], golden_trace(recipe), milliseconds)
    report = RecipeReport(recipe.name, inputs, _gradients(recipe, backends, X, t), trainings)
    for a, b in combinations(backends, 2):
        if traces[a] != traces[b]:
            left, right = (RecipeRun(recipe, backends[name], X, t) for name in (a, b))
            report.differences.append(f"{a} and {b} part {_difference(left, right, steps)}")
    return report


def _gradients(
    recipe: Recipe, backends: dict[str, Backend], X: NDArray[Any], t: NDArray[Any]
) -> ParityReport:
    """Hold the gradients of one batch, taken evenly from all samples, against each other."""
    start = RecipeRun(recipe, find_backend("numpy", reproducible=False), X, t)
    ordinary = [xp.ordinary if xp.name == name else name for name, xp in backends.items()]
    batch = slice(None, None, -(-len(X) // SAMPLES))
    return parity(start.net, recipe.loss, X[batch], t[batch], backends=ordinary)


def _training(found: Trace, wanted: Trace, milliseconds: float) -> Training:
    """Return how a training compares with the golden one."""
    where, first = found.first_difference(wanted), ""
    if where:
        first = f"first in step {where[0] + 1}, in the {where[1]} phase"
    elif len(found.phases[PHASES[0]]) == STEPS and found.sha256 != wanted.sha256:
        first = "the hashes of the whole training differ"
    hashes = found.sha256["backward"], found.sha256["update"]
    return Training(*hashes, not first, first, milliseconds, len(found.phases[PHASES[0]]))


# ---- where two backends part -------------------------------------------------------------------


def _difference(a: RecipeRun, b: RecipeRun, steps: int) -> str:
    """Return where two trainings part, from a fresh start of both."""
    for step in range(steps):
        before = a.net.copy(), b.net.copy()
        for phase in PHASES:
            getattr(a, phase)()
            getattr(b, phase)()
            if not _same(a, b, phase):
                found = _changed(a, b) if phase == "update" else _located(*before, a, b)
                return f"in step {step + 1}, in the {phase} phase: {found}"
    return "and agree when they are run again: one of them does not repeat itself"


def _same(a: RecipeRun, b: RecipeRun, phase: str) -> bool:
    """Return True if all that a phase has made is the same, bit by bit."""
    pairs = zip(a.results(phase), b.results(phase), strict=True)
    return all(
        little_endian(a.net.xp.asnumpy(x)) == little_endian(b.net.xp.asnumpy(y)) for x, y in pairs
    )


def _located(before_a: Sequential, before_b: Sequential, a: RecipeRun, b: RecipeRun) -> str:
    """Return the first layer whose output or stored state differs for equal input."""
    X, t = (a.net.xp.asnumpy(array) for array in a.batch)
    found = locate(
        before_a, before_b, a.loss, X, t, same=lambda x, y: little_endian(x) == little_endian(y)
    )
    return str(found) if found else _changed(a, b)


def _changed(a: RecipeRun, b: RecipeRun) -> str:
    """Return which state or parameter is not the same, and after what."""
    ours, theirs = a.net.state_dict(), b.net.state_dict()
    for name, x in ours.items():
        y = theirs[name]
        if little_endian(x) != little_endian(y):
            entry = worst(x, y)
            place = "".join(f"[{i}]" for i in entry)
            path, _, last = name.rpartition(".")
            layer = dict(a.net.walk(""))[path]
            who = f"{a.optimizer!r}" if last in layer.parameters else f"layer {path}, {layer!r}"
            return f"{who} makes {name}{place} {float(x[entry])!r} and {float(y[entry])!r}"
    return "but not when the layers are run again, one by one"


# ---- the machine, and those before -------------------------------------------------------------


def _machine(backends: dict[str, Backend]) -> dict[str, str]:
    """Return what computes, for the record."""
    from xpnet.support.version import __version__

    found = {
        "xpnet": __version__,
        "Python": f"{platform.python_version()}, {platform.machine()}",
        "NumPy": np.__version__,
    }
    return found | describe({xp.name for xp in backends.values()})


def verified() -> list[dict[str, str]]:
    """Return the GPUs on which the whole check has passed, the last one last."""
    text = Path(__file__).with_name("verified.json").read_text(encoding="utf-8")
    entries: list[dict[str, str]] = json.loads(text)
    return entries
