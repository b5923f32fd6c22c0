"""Advice about backends and about packages that are missing."""

from __future__ import annotations

import pickle
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import xpnet
from advice import advice, cannot, refused, without
from xpnet.backend import find_backend

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]


def extra(name, package):
    """Check that an extra of xpnet brings a package."""
    brought = PROJECT["optional-dependencies"][name]
    assert any(line.startswith(package) for line in brought), brought


@advice("there is a backend {} already; choose another name")
def _():
    from xpnet.backend.kinds import NUMPY
    from xpnet.backend.registry import KINDS, register_backend

    kind = replace(NUMPY)
    with refused(xpnet.BackendError, "there is a backend 'numpy' already; choose another name"):
        register_backend(kind)
    register_backend(replace(kind, name="mine", aliases=()))
    try:
        assert find_backend("mine").on_host
    finally:
        del KINDS["mine"]


@advice("{} is no name of a backend; take lower-case letters, digits, _ and -")
def _():
    from xpnet.backend.kinds import NUMPY
    from xpnet.backend.registry import KINDS, register_backend

    with refused(xpnet.BackendError, "take lower-case letters, digits, _ and -"):
        register_backend(replace(NUMPY, name="My Backend", aliases=()))
    register_backend(replace(NUMPY, name="my_backend-2", aliases=()))
    del KINDS["my_backend-2"]


@advice("{} has no tf32; leave it out, or use the backend {}")
def _():
    with refused(xpnet.BackendError, "leave it out, or use the backend 'cupy'"):
        find_backend("numpy", tf32=True)
    find_backend("numpy")


@advice("the backend {} has no reproducible mode; leave it out")
def _():
    from xpnet.backend.kinds import NUMPY
    from xpnet.backend.on_numpy import NumPyBackend
    from xpnet.backend.registry import KINDS, register_backend

    class Mine(NumPyBackend):
        name = "mine"

    register_backend(
        replace(NUMPY, name="mine", aliases=(), reproducible=None, make=lambda device, tf32: Mine())
    )
    try:
        with refused(xpnet.BackendError, "has no reproducible mode; leave it out"):
            find_backend("mine", reproducible=True)
        find_backend("mine")
    finally:
        del KINDS["mine"]


@advice("use the backend 'numpy'")
def _():
    if xpnet.backend.why_no_numba():
        pytest.skip("Numba is not installed: the other backends take all dtypes")
    with refused(xpnet.OptionError, "got complex128; use the backend 'numpy'"):
        xpnet.Sequential(xpnet.Linear(2, 1), backend="numba", dtype="complex128")
    xpnet.Sequential(xpnet.Linear(2, 1), backend="numpy", dtype="complex128")


@advice("leave the mode with reproducible=False, or with net.to(net.xp.ordinary)")
def _():
    words = "leave the mode with reproducible=False, or with net.to(net.xp.ordinary)"
    with xpnet.use_backend("numpy", reproducible=True):
        net = xpnet.Sequential(xpnet.Linear(2, 1))
        with refused(xpnet.OptionError, words):
            xpnet.Sequential(xpnet.Linear(2, 1), dtype="complex128")
        net.to(net.xp.ordinary)
        net.to(dtype="complex128")
    with xpnet.use_backend("numpy", reproducible=False):
        xpnet.Sequential(xpnet.Linear(2, 1), dtype="complex128")


@advice("{} cannot be pickled: it was not made by its name; give its name, see")
def _():
    from xpnet.backend.on_numpy import NumPyBackend

    with refused(xpnet.BackendError, "give its name, see xpnet.backend.register_backend"):
        pickle.dumps(xpnet.Sequential(xpnet.Linear(2, 1), backend=NumPyBackend()))
    pickle.dumps(xpnet.Sequential(xpnet.Linear(2, 1), backend="numpy"))


@advice("arrays only, but an output of shape {} has the strides {}; write into one of xp.empty")
def _():
    xp = find_backend("numpy", reproducible=True)
    A = xp.asarray(np.ones((3, 3), np.float32))
    with refused(xpnet.ShapeError, "write into one of xp.empty"):
        xp.tanh(A, out=np.empty((3, 3), np.float32).T)
    xp.tanh(A, out=xp.empty((3, 3), "float32"))


@advice("Numba is not installed; run pip install numba, or pip install '.[fast]' in the folder of")
def _():
    extra("fast", "numba")


@advice("run pip install 'onnx>=1.21', or '.[onnx]' in the folder of xpnet")
def _():
    extra("onnx", "onnx")
    pytest.importorskip("onnx", reason="onnx is not installed")
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    net.predict(np.zeros((1, 2)))
    with without("onnx"), refused(xpnet.XpnetError, "run pip install 'onnx>=1.21', or '.[onnx]'"):
        xpnet.exchange.to_onnx(net, "net.onnx")
    xpnet.exchange.to_onnx(net, "net.onnx")


@advice("run pip install 'safetensors>=0.4.5', or '.[io]' in the folder of xpnet")
def _():
    extra("io", "safetensors")
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    with without("safetensors", "safetensors.numpy"), refused(xpnet.XpnetError, "or '.[io]'"):
        xpnet.exchange.save_safetensors(net, "net.safetensors")
    xpnet.exchange.save_safetensors(net, "net.safetensors")


@advice("scikit-learn, which brings the digits, cannot be imported ({}); run pip install scikit")
def _():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    with without("sklearn.datasets"), refused(xpnet.XpnetError, "run pip install scikit-learn"):
        xpnet.data.digits()
    xpnet.data.digits()


cannot(
    "needs a machine with an NVIDIA GPU; tests/backend/test_backend.py plays the cases",
    "arrays only, but an output of shape {} has the strides {}; write into an array of xp.empty",
    "xp.{} computes with CuPy arrays, but got a",
    "there is no GPU number {}: nvidia-smi lists {}",
    "CuPy finds the GPU but cannot compute on it",
    "no usable NVIDIA GPU: {}, and CuPy {} was built for CUDA",
    "CuPy is installed but cannot look for a GPU",
    "CuPy is installed but does not import",
    "name a folder that can be written with CUPY_CACHE_DIR",
    "run nvidia-smi",
    "unset {}, which lets cuBLAS emulate them",
    "update the driver, or change CuPy with pip uninstall",
    "reinstall CuPy",
    "{} and {} arrays in one call; move them to one side first",
)
cannot(
    "needs a package of another version, or a package from a network",
    "Numba is installed but does not import",
    "run pip install mpi4py mpich",
    "which {}; run pip install mpi4py mpich",
    "are of different MPIs; start with the mpiexec",
    "start them with srun --mpi=pmix",
)
