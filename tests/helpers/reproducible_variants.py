"""Train by the golden recipes on the backends that are named, and print all hashes as JSON.

``python reproducible_variants.py reproducible:numpy ordinary:numpy`` is run by `test_golden`, each
time on another simulated machine: a library reads its settings when it is loaded, so that there has
to be a process for each. Recipes whose data is not there are left out; nothing is downloaded.
"""

from __future__ import annotations

import json
import platform
import sys
from typing import Any

import numpy as np
from hostile import HostileBackend, PermutedBackend, ScipyBackend, TorchBackend
from strict_backend import StrictBackend
from threadpoolctl import threadpool_info

from xpnet import golden
from xpnet.backend import NumPyBackend
from xpnet.backend.reproducible import Reproducible
from xpnet.data.mnist import find_mnist

BACKENDS = {
    "numpy": NumPyBackend,
    "permuted": lambda: PermutedBackend(1),
    "hostile-2": lambda: HostileBackend(2),
    "hostile-3": lambda: HostileBackend(3),
    "strict": StrictBackend,
    "scipy": ScipyBackend,
    "torch": TorchBackend,
}


def absent(backend: str) -> set[str]:
    """Return the problems that a backend leaves out: those that are slow train the small ones."""
    return {"mnist"} if backend in ("strict", "hostile-3") else set()


def recipes(backend: str) -> list[golden.Recipe]:
    """Return the recipes for a backend whose data is there."""
    missing = absent(backend) | (set() if find_mnist() else {"mnist"})
    return [recipe for recipe in golden.RECIPES if recipe.problem not in missing]


def traces(mode: str, name: str) -> dict[str, Any]:
    """Return the hashes of every recipe."""
    xp = BACKENDS[name]()
    xp = Reproducible(xp) if mode == "reproducible" else xp
    found = {recipe.name: golden.trace(recipe, xp) for recipe in recipes(name)}
    return {name: {"sha256": t.sha256, "phases": t.phases} for name, t in found.items()}


def machine() -> dict[str, Any]:
    """Return what this process computes with."""
    libraries = [entry for entry in threadpool_info() if entry["user_api"] == "blas"]
    return {
        "cpu": platform.machine(),
        "architectures": sorted({entry.get("architecture", "?") for entry in libraries}),
        "threads": sorted({entry["num_threads"] for entry in libraries}),
        "simd": simd(),
    }


def simd() -> list[str]:
    """Return what NumPy's functions use of this processor, beyond what it was built for."""
    umath = np._core._multiarray_umath
    return [name for name in umath.__cpu_dispatch__ if umath.__cpu_features__[name]]


if __name__ == "__main__":
    found = {job: traces(*job.split(":")) for job in sys.argv[1:]}
    json.dump({"machine": machine(), "traces": found}, sys.stdout)
