"""The golden hashes: the same bits with other sums, another BLAS, other SIMD, other threads.

Every backend and every simulated machine trains by every recipe for 200 steps, in a process of its
own, two at a time (see `reproducible_variants`). Ordinary float32 trains beside it: it has to give
other bits, else the machines are no test.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from reproducible_variants import absent, simd

from xpnet import golden
from xpnet.backend import find_backend
from xpnet.data.mnist import find_mnist

HELPERS = Path(__file__).parents[1] / "helpers"
X86 = platform.machine() in ("x86_64", "AMD64")
CORES = ("Sandybridge", "Haswell", "Nehalem")  # the first one is what others are compared with
NO_MNIST = "" if find_mnist() else "no MNIST: XPNET_DATA names no folder with it"
NUMPY = ("reproducible:numpy", "ordinary:numpy")
THREADS = "2 threads"


def variants() -> dict[str, tuple[dict[str, str], tuple[str, ...]]]:
    """Return the settings of each process and what it computes with, the slowest first."""
    kinds = {f"hostile-{seed}": ("reproducible:hostile-" + str(seed),) for seed in (2, 3)}
    for name in ("permuted", "torch", "scipy"):
        kinds[name] = (f"reproducible:{name}", f"ordinary:{name}")
    kinds["strict"] = ("reproducible:strict",)
    found = {name: ({}, jobs) for name, jobs in kinds.items()}
    for core in CORES:
        found[core] = ({"OPENBLAS_CORETYPE": core}, NUMPY)
    found[THREADS] = ({"OPENBLAS_CORETYPE": CORES[0], "OPENBLAS_NUM_THREADS": "2"}, NUMPY)
    found["plain"] = ({"NPY_DISABLE_CPU_FEATURES": " ".join(simd())}, NUMPY)
    return found


VARIANTS = variants()


def why_not(variant: str) -> str:
    """Return the reason why a variant cannot run here, one sentence; empty if it can."""
    if variant == "torch" and not find_spec("torch"):
        return "PyTorch is not installed"
    if variant in (*CORES, THREADS) and not X86:
        return f"OpenBLAS has the kernels for {CORES} on x86-64 only, this is {platform.machine()}"
    core = VARIANTS[variant][0].get("OPENBLAS_CORETYPE")
    if core and crashes(core):
        return f"a product of NumPy alone crashes with OpenBLAS's kernels for {core}: {blas()}"
    if variant == "plain" and not simd():
        return "NumPy uses nothing of this processor that could be turned off"
    return ""


# float64, as small a product as crashes with OpenBLAS 0.3.34 where a processor with AVX-512 is told
# to use the kernels for Haswell: https://github.com/OpenMathLib/OpenBLAS/issues/6026
PRODUCT = "import numpy as np; np.ones((128, 784)) @ np.ones((784, 64))"


@cache
def crashes(core: str) -> bool:
    """Return True if NumPy, without xpnet, dies of a signal in a product with these kernels."""
    settings = {"OPENBLAS_CORETYPE": core, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PRODUCT], env=os.environ | settings, check=False)
    return done.returncode < 0


def blas() -> str:
    """Return the name and the version of NumPy's BLAS."""
    found = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{found['name']} {found['version']}, NumPy {np.__version__}"


@cache
def outcome(variant: str) -> dict:
    """Run a variant and return what it printed."""
    settings, jobs = VARIANTS[variant]
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-W", "error", HELPERS / "reproducible_variants.py", *jobs],
        env=os.environ | one | settings | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=600,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def outcomes():
    """What each variant printed, by name."""
    names = [name for name in VARIANTS if not why_not(name)]
    with ThreadPoolExecutor(2) as two:
        return dict(zip(names, two.map(outcome, names), strict=True))


def found(outcomes, variant, mode, recipe):
    """The trace that a variant has printed, or None."""
    (job,) = [job for job in VARIANTS[variant][1] if job.startswith(mode)]
    entry = outcomes[variant]["traces"][job].get(recipe.name)
    return entry and golden.Trace(entry["phases"], entry["sha256"])


def needs_mnist(recipe):
    if recipe.problem == "mnist" and NO_MNIST:
        pytest.skip(NO_MNIST)


# ---- the same bits -----------------------------------------------------------------------------


PAIRS = [
    pytest.param(variant, recipe, id=f"{variant}-{recipe.name}")
    for variant in VARIANTS
    for recipe in golden.RECIPES
    if recipe.problem not in absent(variant)
]


@pytest.mark.thorough
@pytest.mark.parametrize(("variant", "recipe"), PAIRS)
def test_the_golden_hashes_hold(outcomes, variant, recipe):
    if why_not(variant):
        pytest.skip(why_not(variant))
    needs_mnist(recipe)
    trace = found(outcomes, variant, "reproducible", recipe)
    wanted = golden.golden_trace(recipe)
    assert wanted.first_difference(trace) is None, "the first step and phase that differ"
    assert trace.phases == wanted.phases
    assert trace.sha256 == wanted.sha256


@pytest.mark.thorough
def test_the_file_is_what_the_command_writes(capsys):
    """In this process, whatever has been imported into it and however many threads it has."""
    if NO_MNIST:
        pytest.skip(NO_MNIST)
    golden.write()
    text = (Path(golden.__file__).parent / "golden.json").read_text(encoding="utf-8")
    assert capsys.readouterr().out == text


# ---- ... which ordinary float32 does not give ----------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("problem", golden.PROBLEM_NAMES)
def test_ordinary_float32_has_more_than_one_result(outcomes, problem):
    """On each problem, in its very first steps, and every machine has a result of its own."""
    if problem == "mnist" and NO_MNIST:
        pytest.skip(NO_MNIST)
    of_variant, early = {}, set()
    for variant, (_, jobs) in VARIANTS.items():
        if variant in outcomes and any(job.startswith("ordinary") for job in jobs):
            recipes = [recipe for recipe in golden.RECIPES if recipe.problem == problem]
            traces = [found(outcomes, variant, "ordinary", recipe) for recipe in recipes]
            of_variant[variant] = [trace.sha256["update"] for trace in traces]
            early.add(str([trace.phases["update"][:5] for trace in traces]))
    assert len(early) > 1, f"no difference after 5 steps: {of_variant}"
    assert len({str(hashes) for hashes in of_variant.values()}) > 1


@pytest.mark.thorough
@pytest.mark.parametrize("variant", [*CORES[1:], THREADS, "plain"])
def test_each_machine_is_another_one(outcomes, variant):
    """Its settings took effect: the libraries say so, and ordinary float32 shows it."""
    if why_not(variant):
        pytest.skip(why_not(variant))
    settings, machine = VARIANTS[variant][0], outcomes[variant]["machine"]
    if variant == "plain":
        assert machine["simd"] == []
    elif machine["architectures"] == ["?"]:
        pytest.skip("NumPy's BLAS is not OpenBLAS: the names of kernels mean nothing to it")
    else:
        assert machine["architectures"] == [settings["OPENBLAS_CORETYPE"]]
    if variant == THREADS:
        assert machine["threads"] == [2]
        needs_mnist(golden.RECIPES[-1])  # smaller products are not shared among threads
    before, here = (
        [found(outcomes, name, "ordinary", recipe) for recipe in golden.RECIPES]
        for name in (CORES[0], variant)
    )
    assert before != here, "ordinary float32 has the same bits: this is no other machine"


# ---- the file ----------------------------------------------------------------------------------


def test_every_recipe_is_in_the_file_and_nothing_else():
    entries = golden.golden()
    assert list(entries) == ["steps", "inputs", "recipes"]
    assert entries["steps"] == golden.STEPS == 200
    assert list(entries["recipes"]) == [recipe.name for recipe in golden.RECIPES]
    assert list(entries["inputs"]) == list(golden.PROBLEM_NAMES)
    for entry in entries["recipes"].values():
        assert list(entry) == [*golden.PHASES, "steps"]
        for phase in golden.PHASES:
            assert re.fullmatch("[0-9a-f]{64}", entry[phase])
            assert re.fullmatch(f"[0-9a-f]{{{200 * golden.DIGITS}}}", entry["steps"][phase])


def test_no_two_golden_hashes_are_equal():
    """A phase that changes nothing, or a recipe that stands there twice, would be no test."""
    traces = [golden.golden_trace(recipe) for recipe in golden.RECIPES]
    whole = [trace.sha256[phase] for trace in traces for phase in golden.PHASES]
    assert len(set(whole)) == len(golden.RECIPES) * len(golden.PHASES)
    for recipe, trace in zip(golden.RECIPES, traces, strict=True):
        for phase in golden.PHASES:
            assert len(set(trace.phases[phase])) > 190, (recipe.name, phase)


@pytest.mark.parametrize("problem", golden.PROBLEM_NAMES)
def test_the_data_is_the_data_of_the_golden_hashes(problem):
    if problem == "mnist" and NO_MNIST:
        pytest.skip(NO_MNIST)
    assert golden.inputs_sha256(problem) == golden.golden()["inputs"][problem]


def test_the_recipes_cover_the_layers_losses_and_optimizers():
    """What no recipe contains is compared in `test_reproducible` alone."""
    layers = {type(layer).__name__ for recipe in golden.RECIPES for layer in recipe.layers()}
    every = {"Linear", "ReLU", "LeakyReLU", "Sigmoid", "Tanh", "GELU", "Softmax", "Dropout"}
    assert layers == every | {"BatchNorm1d", "LayerNorm"}
    losses = {recipe.loss for recipe in golden.RECIPES}
    assert losses == {
        *("mse", "bce", "bce_logits", "huber", "cross_entropy", "softmax_cross_entropy")
    }
    optimizers = {recipe.optimizer.func.__name__ for recipe in golden.RECIPES}
    assert optimizers == {"SGD", "Adam", "AdamW", "RMSprop"}
    options = {name for recipe in golden.RECIPES for name in recipe.optimizer.keywords}
    assert options >= {"momentum", "nesterov", "weight_decay", "clip_norm"}


# ---- the trace and the data ----------------------------------------------------------------------

SMALL = golden.RECIPES[0]


def test_a_trace_sees_a_single_bit_in_each_phase():
    """Of an output, of a gradient, of a parameter: the place is found, and not before."""
    xp = find_backend("numpy", reproducible=True)
    wanted = golden.golden_trace(SMALL)
    for phase, array in (
        ("forward", lambda run: run.loss.value),
        ("forward", lambda run: run.net[0].Y),
        ("forward", lambda run: run.net[-1].Y),
        ("backward", lambda run: run.net.grads),
        ("update", lambda run: run.net.params),
    ):
        trace = traced_with_a_flip(xp, phase, array, step=3)
        assert wanted.first_difference(trace) == (3, phase)


def traced_with_a_flip(xp, phase, array, step):
    """Trace five steps of the small recipe; after one phase a last bit is turned."""
    with pytest.MonkeyPatch.context() as patch:
        original = getattr(golden.RecipeRun, phase)
        patch.setattr(golden.RecipeRun, phase, lambda run: flipping(original, array, step + 1, run))
        return golden.trace(SMALL, xp, steps=5)


def flipping(original, array, at, run):
    original(run)
    if run.t == at:
        bits = array(run).reshape(-1).view(np.int32)
        bits[-1:] ^= 1


def test_shorter_traces_are_the_beginning_of_longer_ones():
    xp = find_backend("numpy", reproducible=True)
    short, wanted = golden.trace(SMALL, xp, steps=7), golden.golden_trace(SMALL)
    for phase in golden.PHASES:
        assert short.phases[phase] == wanted.phases[phase][:7]
    assert short.first_difference(wanted) is None


def test_bytes_are_little_endian_on_any_machine():
    a = np.array([[1.0, -2.5], [3.0, 0.0]])
    for source in (a, a.astype(">f8"), a.astype("<f8"), a.T.copy().T):
        assert golden.little_endian(source) == a.astype("<f8").tobytes()
    assert golden.little_endian(np.array([1, 256], ">i2")) == b"\x01\x00\x00\x01"


def test_the_spiral_is_two_arms_that_wind():
    X, t = golden.spiral_by_rotation()
    assert X.shape == (400, 2)
    assert np.bincount(t).tolist() == [200, 200]
    radius, angle = np.hypot(*X[:200].T), np.unwrap(np.arctan2(*X[:200].T[::-1]))
    even = (np.arange(200) + 10) / 210
    assert np.abs(radius - even).max() < 0.03
    assert np.abs(angle - np.arange(200) * 2 * np.arctan(1 / 32))[50:].max() < 0.12
    assert np.abs(X[:200] + X[200:]).max() <= 0.04  # the noise of both
    assert len(np.unique(X, axis=0)) == 400
