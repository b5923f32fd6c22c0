"""``xpnet info``: print the versions, the machine, and what is wrong if something is."""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, distributions, version
from typing import Any

import numpy as np

import xpnet
from xpnet.backend import describe, why_no_cupy, why_no_numba
from xpnet.backend.mode import suffix
from xpnet.data.mnist import find_mnist
from xpnet.support.errors import BackendError
from xpnet.support.messages import if_known, what_went_wrong

AVX512 = {"AVX512_SKX", "X86_V4"}  # what NumPy calls it, older and newer
NO_AVX512 = {"Haswell", "Zen", "Sandybridge", "Nehalem"}  # kernels of OpenBLAS


def info(options: argparse.Namespace) -> int:
    """Print the report."""
    print(report())
    return 0


def report() -> str:
    """Return the lines of ``xpnet info``."""
    rows, problems = rows_and_problems()
    width = max(map(len, rows))
    lines = [f"{name:<{width}}  {value}" for name, value in rows.items()]
    return "\n".join([*lines, *(f"problem: {text}" for text in problems)])


def environment(gpu: bool) -> dict[str, str]:
    """Return what a training ran on, by name; the GPU only if it was used."""
    return _software([]) | (_gpu([]) if gpu else {})


def rows_and_problems() -> tuple[dict[str, str], list[str]]:
    """Return what there is by name, and what is wrong."""
    problems: list[str] = []
    rows = {
        "xpnet": xpnet.__version__,
        **_software(problems),
        **_gpu(problems),
        "backend": if_known(partial(_backend, problems)),
        "MNIST": if_known(_mnist),
    }
    return rows, problems


def _software(problems: list[str]) -> dict[str, str]:
    questions: dict[str, Callable[[], str]] = {
        "Python": lambda: f"{platform.python_version()}, {platform.platform()}",
        "NumPy": lambda: np.__version__,
        "BLAS": partial(_blas, problems),
        "processors": lambda: str(_processors()),
        "Numba": partial(_numba, problems),
        "scikit-learn": partial(_installed, "scikit-learn"),
        "MPI": partial(_which, "mpi4py", "mpich", "openmpi", "impi-rt"),
    }
    return {name: if_known(question) for name, question in questions.items()}


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _which(*names: str) -> str:
    """Return which of some packages are installed, with their versions."""
    found = {name: _installed(name) for name in names}
    there = [f"{name} {known}" for name, known in found.items() if known != "not installed"]
    return ", ".join(there) or "not installed"


def _numba(problems: list[str]) -> str:
    """Return its version; why it cannot be used is a problem only if it is installed."""
    found, reason = _installed("numba"), why_no_numba()
    if reason and found != "not installed":
        problems.append(reason)
    return found


def _blas(problems: list[str]) -> str:
    """Return each BLAS that NumPy has loaded, with its threads.

    An OpenBLAS that does not know a processor, or that OPENBLAS_CORETYPE tells to, takes kernels
    for an older one, which compute half as much at a time where this one has AVX-512.
    """
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown: threadpoolctl is not installed; run pip install threadpoolctl"
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    old = [pool["architecture"] for pool in found if pool.get("architecture") in NO_AVX512]
    if old and AVX512 & _simd():
        problems.append(
            f"OpenBLAS uses its {old[0]} kernels, without the AVX-512 that this processor has; "
            "products may take half the time with OPENBLAS_CORETYPE=SkylakeX in the environment "
            f"(now {os.environ.get('OPENBLAS_CORETYPE', 'not set')}) when Python starts"
        )
    return (
        ", ".join(
            f"{pool['internal_api']} {pool['version']}, {pool['num_threads']} threads"
            f" ({pool.get('architecture', 'unknown architecture')})"
            for pool in found
        )
        or "none that threadpoolctl knows"
    )


def _simd() -> set[str]:
    """Return the names that NumPy has for what this processor can do."""
    config: Any = np.show_config(mode="dicts")
    return set(config.get("SIMD Extensions", {}).get("found", ()))


def _processors() -> int:
    """Return the processors that this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def _gpu(problems: list[str]) -> dict[str, str]:
    """Return what CuPy tells; why it cannot be used is a problem only if CuPy is installed."""
    reason = why_no_cupy()
    try:
        packages = _cupy_packages()
    except Exception as error:  # a package that is damaged need not be CuPy
        problems.append(f"the installed packages cannot be listed ({what_went_wrong(error)})")
        packages = []
    if len(packages) > 1:
        problems.append(f"{' and '.join(packages)} share one folder; uninstall all but one")
    if reason and not packages:
        return {"GPU": reason}
    if reason:
        problems.append(reason)
    try:
        found = describe({"cupy"})
    except (Exception, SystemExit):  # a CuPy that does not import; the reason says so
        return {"GPU": "unknown"}
    nccl = partial(_which, "nvidia-nccl-cu13", "nvidia-nccl-cu12")
    return found | {"NCCL": if_known(nccl)}


def _cupy_packages() -> list[str]:
    names = {d.name for d in distributions()}
    return sorted(name for name in names if (name or "").lower().startswith("cupy"))


def _backend(problems: list[str]) -> str:
    try:
        xp = xpnet.get_backend()
        return f"{xp.name}{suffix(xp)}"
    except BackendError as error:
        problems.append(str(error))
        return "none"


def _mnist() -> str:
    folder = find_mnist()
    return str(folder) if folder else "not here yet; xpnet train mnist downloads it"
