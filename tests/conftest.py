"""Every test that takes ``backend`` runs on NumPy, with Numba and on a GPU where there are any, and
on the strict stand-in.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from types import SimpleNamespace

import pytest
from command import exit_code
from mpi_here import why_no_mpi
from strict_backend import StrictBackend
from thorough import Thorough, add_option

import xpnet
from xpnet.backend import find_backend, why_no_cupy, why_no_numba

os.environ["SCIPY_ARRAY_API"] = "1"  # before SciPy comes: one of scikit-learn's checks needs it
STRICT = StrictBackend()
GPU_REQUIRED = os.environ.get("XPNET_REQUIRE_GPU") == "1"
NOT_HERE = {  # why tests with the marker gpu or numba cannot run; empty if they can
    "GPU": "" if GPU_REQUIRED else why_no_cupy(),  # with XPNET_REQUIRE_GPU=1 they run, and fail
    "Numba": why_no_numba(),
}


def _make(name):
    return STRICT if name == "strict" else find_backend(name)


@pytest.fixture(
    params=[
        *("numpy", "strict"),
        pytest.param("numba", marks=pytest.mark.numba),
        pytest.param("cupy", marks=pytest.mark.gpu),
    ]
)
def backend(request):
    """A backend, which is also the default one for the test."""
    with xpnet.use_backend(_make(request.param)) as chosen:
        yield chosen


@pytest.fixture
def strict():
    """The strict stand-in, which is also the default backend for the test."""
    with xpnet.use_backend(STRICT) as chosen:
        yield chosen


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The CUDA kernels, compiled for the host."""
    from test_kernels_host import HostKernels

    if sys.platform != "linux" or not shutil.which("g++"):
        pytest.skip("no g++ on Linux here: no step is captured")
    return HostKernels(tmp_path_factory.mktemp("kernels"), blocks=1, size=32)


@pytest.fixture(scope="module")
def mode_kernels(kernels, tmp_path_factory):
    """Those of reproducible mode."""
    from test_reproducible_kernels import HostKernels as ModeKernels

    return ModeKernels(tmp_path_factory.mktemp("kernels of the mode"))


@pytest.fixture
def make(kernels, monkeypatch):
    """Return a function that makes a backend whose streams are in use until the end of the test."""
    from strict_cupy import StrictCuPy, played

    contexts = []

    def made(order="written", seed=0, devices=1):
        xp = StrictCuPy(kernels, order, seed, devices=devices)
        contexts.append(played(monkeypatch, xp))
        contexts[-1].__enter__()
        return xp

    yield made
    for context in reversed(contexts):
        context.__exit__(None, None, None)


@pytest.fixture
def often():
    """Threads take turns every few microseconds."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A test sees the default backend, whatever the shell says."""
    monkeypatch.delenv("XPNET_BACKEND", raising=False)
    monkeypatch.delenv("XPNET_REPRODUCIBLE", raising=False)
    monkeypatch.setattr("xpnet.backend.default._default", None)


@pytest.fixture
def _in_an_empty_folder(tmp_path, monkeypatch):
    """The test begins where nothing is, and computes with NumPy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_BACKEND", "numpy")
    monkeypatch.delenv("XPNET_DATA", raising=False)


@pytest.fixture
def _ctrl_c():
    """Ctrl-C does what it does in a terminal; a shell's background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def mpi():
    """The test starts processes of MPI, and is skipped where that cannot be done."""
    if why_no_mpi():
        pytest.skip(f"no processes of MPI: {why_no_mpi()}")


@pytest.fixture
def run(capsys):
    """Run the command; returns its exit code, standard output and standard error."""

    def run(*arguments):
        code = exit_code(*arguments)
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)

    return run


def pytest_addoption(parser):
    add_option(parser)


def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: takes long; pytest --thorough runs it, too")
    config.pluginmanager.register(Thorough(config), "thorough")
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU")
    config.addinivalue_line("markers", "numba: needs Numba")
    config.addinivalue_line("markers", "cupy_reductions: CuPy compiles its own, for seconds each")


def _has_cupy_reductions(item):
    """Return True if a test is for a GPU and computes sums and maxima by CuPy's own functions."""
    if not item.get_closest_marker("gpu"):
        return False
    case = item.callspec.params.get("case") if hasattr(item, "callspec") else None
    text_of_base = getattr(case, "primitive", "") == "max" or (
        getattr(case, "primitive", "") == "sum" and not case.kernel
    )
    own = item.path.name == "test_on_cupy.py" and text_of_base
    return own or item.path.name == "test_strictxp.py"


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config, items):
    """Leave out the tests of what is not here, and count them; see the last lines.

    bench/gpu.sh has a stage for the tests with the marker cupy_reductions.
    """
    for item in filter(_has_cupy_reductions, items):
        item.add_marker("cupy_reductions")
    config.xpnet_markers = {
        marker: {item.path for item in items if item.get_closest_marker(marker)}
        for marker in ("gpu", "cupy_reductions")
    }
    config.xpnet_left_out = {}
    for name in (name for name, reason in NOT_HERE.items() if reason):
        missing = [item for item in items if item.get_closest_marker(name.lower())]
        config.hook.pytest_deselected(items=missing)
        config.xpnet_left_out[name] = len(missing)
        items[:] = [item for item in items if not item.get_closest_marker(name.lower())]


def pytest_terminal_summary(terminalreporter, config):
    for name, n in getattr(config, "xpnet_left_out", {}).items():
        if n:
            terminalreporter.write_line(f"{n} {name} tests not run: {NOT_HERE[name]}", yellow=True)
