"""The consistency check behind ``xpnet check``: all backends compute the same gradients.

For each golden training (see `golden`) it holds the gradients of one batch against each other
in float64 and float32 (see `xpnet.parity`), then trains in reproducible mode on every backend and
compares each bit of every step: backend against backend, and all against the golden hashes, so that
a machine without a GPU can verify what a GPU gives, and the other way round.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend, describe, find_backend, parse_name
from xpnet.support.checks import count
from xpnet.support.errors import BackendError, DataError, OptionError
from xpnet.support.messages import look_up
from xpnet.support.version import __version__
from xpnet.verify.consistency_difference import first_difference
from xpnet.verify.consistency_report import CheckReport as CheckReport
from xpnet.verify.consistency_report import GoldenTraining, RecipeReport
from xpnet.verify.golden import (
    PHASES,
    PROBLEM_NAMES,
    RECIPES,
    STEPS,
    Recipe,
    RecipeRun,
    Trace,
    golden,
    golden_trace,
    inputs_sha256,
    load,
    trace,
)
from xpnet.verify.parity import ParityReport, parity

SAMPLES = 64  # of a batch whose gradients are compared


def check(
    problems: Iterable[str] = PROBLEM_NAMES,
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
        look_up("problem", problem, dict.fromkeys(PROBLEM_NAMES))
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
            report.differences.append(f"{a} and {b} part {first_difference(left, right, steps)}")
    return report


def _gradients(
    recipe: Recipe, backends: dict[str, Backend], X: NDArray[Any], t: NDArray[Any]
) -> ParityReport:
    """Hold the gradients of one batch, taken evenly from all samples, against each other."""
    start = RecipeRun(recipe, find_backend("numpy", reproducible=False), X, t)
    ordinary = [xp.ordinary if xp.name == name else name for name, xp in backends.items()]
    batch = slice(None, None, -(-len(X) // SAMPLES))
    return parity(start.net, recipe.loss, X[batch], t[batch], backends=ordinary)


def _training(found: Trace, wanted: Trace, milliseconds: float) -> GoldenTraining:
    """Return how a training compares with the golden one."""
    where, first = found.first_difference(wanted), ""
    if where:
        first = f"first in step {where[0] + 1}, in the {where[1]} phase"
    elif len(found.phases[PHASES[0]]) == STEPS and found.sha256 != wanted.sha256:
        first = "the hashes of the whole training differ"
    hashes = found.sha256["backward"], found.sha256["update"]
    return GoldenTraining(*hashes, not first, first, milliseconds, len(found.phases[PHASES[0]]))


def _machine(backends: dict[str, Backend]) -> dict[str, str]:
    """Return what computes, for the record."""
    found = {
        "xpnet": __version__,
        "Python": f"{platform.python_version()}, {platform.machine()}",
        "NumPy": np.__version__,
    }
    return found | describe({xp.name for xp in backends.values()})
