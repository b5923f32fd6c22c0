"""The stages of ``bench/gpu.sh``, and who takes part in the comparisons; no more than a table.

A command is what Python is given. ``{out}`` in it is a folder for what the stage leaves, and the
words in ``WORDS`` of `gpu_running` stand for what is known only when the stage begins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUDGETS = {1: 410, 2: 235}  # seconds of a call, of the 420 and 240 after which it may be killed

CAPTURED = tuple(f"tests/backend/test_{name}.py" for name in ("capture", "capture_memory", "gemm"))
# In these a process may wait for another one for ever.
PARALLEL = ("tests/parallel/test_parallel_devices.py",)
# The files with tests that have the marker cupy_reductions.
REDUCTIONS = ("tests/backend/test_on_cupy.py", "tests/backend/test_strictxp.py")
ON_A_GPU = re.compile(r"pytest\.mark\.gpu|def \w+\([^)]*?\bbackend\b")


@dataclass(frozen=True)
class Stage:
    """A stage.

    Attributes
    ----------
    call : int
        The call that it belongs to.
    estimate, limit : int
        Seconds: what it takes, and after which it is ended.
    leaves : str
        What it leaves: "json", "check", "contestants", "accuracy", "tests" or "parallel".
    command : tuple of str
    quick : tuple of str
        What is added to the command in a rehearsal.
    only_a_gpu : str
        What a rehearsal cannot show.
    environment : tuple of (str, str)
    """

    name: str
    call: int
    estimate: int
    limit: int
    leaves: str
    command: tuple[str, ...]
    quick: tuple[str, ...]
    only_a_gpu: str
    environment: tuple[tuple[str, str], ...] = ()


def tests(marker: str, *files: str) -> tuple[str, ...]:
    """Return the command that runs the tests with a marker, the thorough ones too."""
    return (
        *("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-o", "junit_family=xunit1"),
        *(
            "--thorough",
            "--junitxml={out}/tests.xml",
            "--continue-on-collection-errors",
            "{timeout}",
        ),
        *("-m", marker, *files),
    )


def check(*options: str) -> tuple[str, ...]:
    return ("-m", "xpnet", "check", "--json", *options)


def race(stage: str) -> tuple[str, ...]:
    return ("bench/peers.py", "--stage", stage, "--out", "{out}/contestants.json")


ON_CUPY = ("--backends", "cupy", "--require", "cupy")
FEW_STEPS = ("--steps", "5")
SAMPLE = ("-p", "gpu_sample")
QUICK = ("--quick",)

STAGES = (
    Stage(
        "device", 1, 15, 40, "json", ("bench/gpu_first.py",), QUICK,
        "the time of a node of a graph, and which cuBLAS is used",
    ),
    Stage(
        "golden", 1, 28, 75, "check", check(*ON_CUPY), FEW_STEPS,
        "the golden hashes, on the real device",
    ),
    Stage(
        "captured", 1, 25, 75, "tests", tests("gpu", *CAPTURED), SAMPLE,
        "200 captured steps have the bits of 200 eager steps, in the real order of the device",
    ),
    Stage("speed", 1, 55, 120, "contestants", race("speed"), QUICK, "the times of xpnet"),
    Stage(
        "tests", 1, 65, 130, "tests",
        tests("gpu and not cupy_reductions", "{parallel}", "{the other files}"), SAMPLE,
        "the tests on real kernels",
    ),
    Stage(
        "peers", 1, 95, 170, "contestants", race("peers"), QUICK,
        "the times of PyTorch and JAX, and PyTorch's CUDA graph",
    ),
    Stage(
        "accuracy", 1, 25, 75, "accuracy",
        (
            "bench/time_to_accuracy.py", "--names", "xpnet,PyTorch graph",
            "--out", "{out}/accuracy.json",
        ),
        ("--quick", "--seeds", "1"), "the time to 98 %",
    ),
    Stage(
        "reductions", 1, 25, 75, "tests",
        tests("gpu and cupy_reductions", "{parallel}", *REDUCTIONS), SAMPLE,
        "CuPy's own reductions, each of which takes seconds to compile",
    ),
    Stage(
        "modes", 2, 25, 60, "contestants", race("modes"), QUICK,
        "the times of reproducible mode and without capture; who reads the device",
    ),
    Stage(
        "parallel", 2, 35, 75, "parallel", tests("gpu", *PARALLEL), SAMPLE,
        "NCCL, in a captured step",
    ),
    Stage(
        "check", 2, 65, 100, "check", check("--require", "cupy", "--html", "{out}/check.html"),
        FEW_STEPS, "NumPy and CuPy compute the same on the real device",
    ),
    Stage(
        "check-plain", 2, 25, 50, "check", check(*ON_CUPY), FEW_STEPS,
        "the golden hashes without the reductions of CUB", (("CUPY_ACCELERATORS", ""),),
    ),
    Stage(
        "sanitizer", 2, 45, 75, "json", ("bench/gpu_small_steps.py",), ("--plain",),
        "compute-sanitizer: memory errors and races of the kernels",
    ),
    Stage(
        "peers-rest", 2, 30, 90, "contestants", race("peers-rest"), QUICK,
        "the times of other ways to train with PyTorch and JAX",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Contestant:
    """Who takes part in `peers`: the stage, the module that is needed, script, mode, seconds."""

    stage: str
    module: str
    script: str
    mode: str
    limit: float


CONTESTANTS = {
    "xpnet": Contestant("speed", "numpy", "gpu_xpnet.py", "captured", 60),
    "xpnet whole": Contestant("speed", "numpy", "gpu_xpnet.py", "whole", 60),
    "xpnet products": Contestant("speed", "numpy", "gpu_xpnet.py", "products", 60),
    "xpnet launches": Contestant("speed", "numpy", "gpu_xpnet.py", "launches", 60),
    "xpnet straight": Contestant("speed", "numpy", "gpu_xpnet.py", "straight", 60),
    "PyTorch eager": Contestant("peers", "torch", "gpu_torch.py", "eager", 60),
    "PyTorch graph by hand": Contestant("peers", "torch", "gpu_torch.py", "graph", 60),
    "JAX scan": Contestant("peers", "jax", "gpu_jax.py", "scan", 75),
    "PyTorch compile": Contestant("peers", "torch", "gpu_torch.py", "compile", 90),
    "xpnet reproducible": Contestant("modes", "numpy", "gpu_xpnet.py", "reproducible", 60),
    "xpnet reads": Contestant("modes", "numpy", "gpu_xpnet.py", "reads", 60),
    "xpnet eager": Contestant("modes", "numpy", "gpu_xpnet.py", "eager", 60),
    "PyTorch eager, foreach": Contestant(
        "peers-rest", "torch", "gpu_torch.py", "eager-foreach", 60
    ),
    "JAX scan, unrolled": Contestant("peers-rest", "jax", "gpu_jax.py", "scan-unrolled", 75),
    "PyTorch compile, Adam eager": Contestant(
        "peers-rest", "torch", "gpu_torch.py", "compile-forward", 90
    ),
}  # fmt: skip


def gpu_files() -> list[str]:
    """Return the test files that may have tests for a GPU, without collecting them."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    found = [path for path in paths if ON_A_GPU.search(path.read_text("utf-8"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def other_files() -> list[str]:
    """Return those of them that have no stage of their own."""
    return [name for name in gpu_files() if name not in CAPTURED + PARALLEL]
