"""Every test that takes ``backend`` runs on NumPy, on the strict stand-in, and on a GPU if any."""

from __future__ import annotations

import os

import pytest
from strict_backend import StrictBackend

import xpnet
from xpnet.backend import find_backend, why_no_cupy

STRICT = StrictBackend()
NO_GPU = why_no_cupy()
GPU_REQUIRED = os.environ.get("XPNET_REQUIRE_GPU") == "1"


def _make(name):
    return STRICT if name == "strict" else find_backend(name)


@pytest.fixture(params=["numpy", "strict", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    """A backend, which is also the default one for the test."""
    with xpnet.use_backend(_make(request.param)) as chosen:
        yield chosen


@pytest.fixture
def strict():
    """The strict stand-in, which is also the default backend for the test."""
    with xpnet.use_backend(STRICT) as chosen:
        yield chosen


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A test sees the default backend, whatever the shell says."""
    monkeypatch.delenv("XPNET_BACKEND", raising=False)
    monkeypatch.delenv("XPNET_REPRODUCIBLE", raising=False)
    monkeypatch.setattr(xpnet.backend, "_default", None)


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs an NVIDIA GPU")


def pytest_collection_modifyitems(config, items):
    """Leave out the GPU tests where there is no GPU, and count them; see the last line."""
    if not NO_GPU or GPU_REQUIRED:  # with XPNET_REQUIRE_GPU=1 they run, and fail
        return
    missing = [item for item in items if item.get_closest_marker("gpu")]
    config.hook.pytest_deselected(items=missing)
    config.xpnet_gpu_tests_left_out = len(missing)
    items[:] = [item for item in items if not item.get_closest_marker("gpu")]


def pytest_terminal_summary(terminalreporter, config):
    n = getattr(config, "xpnet_gpu_tests_left_out", 0)
    if n:
        terminalreporter.write_line(f"{n} GPU tests not run: {NO_GPU}", yellow=True)
