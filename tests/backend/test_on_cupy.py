"""CuPy: what can be said where there is no GPU, and all primitives where there is one.

Tests that need a GPU have the marker ``gpu``; see conftest.py.
"""

from __future__ import annotations

import errno
import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import primitive_cases
import pytest
from primitive_cases import (
    Meaning,
    check,
    check_array_methods,
    copies,
    cupy_probe,
    on_cupy,
    public,
    run,
)

from xpnet.backend import find_backend
from xpnet.backend.options import CrossEntropyArrays
from xpnet.support.errors import MixedArraysError

CASES = primitive_cases.cases()

# ---- on any machine: the probe says in one sentence what is wrong --------------------------------


def fake_cupy(driver: int = 13020, gpus: int = 1) -> SimpleNamespace:
    def refuse(*args: object) -> None:
        raise RuntimeError("cudaErrorInsufficientDriver: not what is wrong")

    runtime = SimpleNamespace(
        driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 13020,
        getDeviceCount=lambda: gpus,
        getDeviceProperties=refuse,
        memGetInfo=refuse,
    )
    cuda = SimpleNamespace(runtime=runtime, Device=lambda number: nullcontext())
    return SimpleNamespace(is_available=lambda: gpus > 0, __version__="14.2.0", cuda=cuda)


@pytest.mark.parametrize(
    ("cupy", "device", "sentence"),
    [
        (
            fake_cupy(driver=0, gpus=0),
            0,
            "no usable NVIDIA GPU: there is no NVIDIA driver, and CuPy 14.2.0 was built for "
            "CUDA 13.2; run nvidia-smi, or use backend='numpy'",
        ),
        (
            fake_cupy(driver=12040, gpus=0),
            0,
            "no usable NVIDIA GPU: the driver supports CUDA 12.4, and CuPy 14.2.0 was built for "
            "CUDA 13.2; update the driver, or change CuPy with pip uninstall cupy-cuda13x and "
            "pip install 'cupy-cuda12x[ctk]', or use backend='numpy'",
        ),
        (
            fake_cupy(driver=13000, gpus=0),
            0,
            "no usable NVIDIA GPU: the driver supports CUDA 13.0, and CuPy 14.2.0 was built for "
            "CUDA 13.2; run nvidia-smi, or use backend='numpy'",
        ),
        (
            fake_cupy(gpus=2),
            2,
            "there is no GPU number 2: nvidia-smi lists 2, and they are counted from 0; "
            "use backend='cuda:0'",
        ),
    ],
)
def test_the_probe_says_why_there_is_no_gpu(monkeypatch, cupy, device, sentence):
    monkeypatch.setattr(cupy_probe, "cupy", cupy)
    assert cupy_probe.probe(device) == sentence


def changed(owner: str, name: str) -> SimpleNamespace:
    """Return a CuPy in which a function raises an error of several lines."""

    def fail(*args: object) -> None:
        raise RuntimeError("cudaErrorUnknown:\n  unknown error.\n")

    cupy = fake_cupy(gpus=int(name == "getDeviceCount"))
    setattr({"cupy": cupy, "runtime": cupy.cuda.runtime}[owner], name, fail)
    return cupy


@pytest.mark.parametrize(
    ("cupy", "reason"),
    [
        (changed("cupy", "is_available"), "RuntimeError: cudaErrorUnknown: unknown error"),
        (changed("runtime", "getDeviceCount"), "RuntimeError: cudaErrorUnknown: unknown error"),
        (changed("runtime", "driverGetVersion"), "RuntimeError: cudaErrorUnknown: unknown error"),
        (changed("runtime", "runtimeGetVersion"), "RuntimeError: cudaErrorUnknown: unknown error"),
        (SimpleNamespace(), "AttributeError: 'types.SimpleNamespace' object has no attribute 'is_"),
        (SimpleNamespace(is_available=lambda: True), "AttributeError: .*'cuda'"),
    ],
)
def test_the_probe_bears_a_cupy_that_does_not_answer(monkeypatch, cupy, reason):
    monkeypatch.setattr(cupy_probe, "cupy", cupy)
    sentence = cupy_probe.probe(0)
    assert re.match(rf"CuPy is installed but cannot look for a GPU \({reason}", sentence)
    assert sentence.endswith("; run nvidia-smi, reinstall CuPy, or use backend='numpy'")
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (ImportError("libcublas.so.13: cannot open shared object file"), "cupy-cuda13x[ctk]"),
        (RuntimeError('Failure finding "libnvrtc.so.13 or\nlibnvrtc.so.12".'), "cupy-cuda13x[ctk]"),
        (RuntimeError("Failed to find CUDA headers"), "cupy-cuda13x[ctk]"),
        (RuntimeError("cudaErrorLaunchFailure: unspecified launch failure"), "run nvidia-smi"),
        (ArithmeticError("wrong values"), "run nvidia-smi"),
        (PermissionError(errno.EACCES, "Permission denied", "/.cupy"), "with CUPY_CACHE_DIR"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory"), "with CUPY_CACHE_DIR"),
        (OSError("libnvrtc.so.13: cannot open shared object file"), "cupy-cuda13x[ctk]"),
    ],
)
def test_the_probe_makes_a_sentence_of_any_error(monkeypatch, error, way_out):
    def fail(xp: object) -> None:
        raise error

    monkeypatch.setattr(cupy_probe, "cupy", fake_cupy())
    monkeypatch.setattr(cupy_probe, "CuPyBackend", lambda device: None)
    monkeypatch.setattr(cupy_probe, "_smoke_test", fail)
    sentence = cupy_probe.probe(0)
    assert sentence.startswith(
        f"CuPy finds the GPU but cannot compute on it ({type(error).__name__}"
    )
    assert way_out in sentence
    assert sentence.endswith("or use backend='numpy'")
    assert "\n" not in sentence
    monkeypatch.setattr(cupy_probe, "_smoke_test", lambda xp: None)
    assert cupy_probe.probe(0) == ""


def test_the_way_out_needs_no_answer_of_cupy(monkeypatch):
    """The library that tells the version may be the one that is missing."""
    cupy = fake_cupy()
    cupy.cuda.runtime.runtimeGetVersion = changed("cupy", "is_available").is_available
    monkeypatch.setattr(cupy_probe, "cupy", cupy)
    assert "pip install 'cupy-cuda13x[ctk]'" in cupy_probe._why(ImportError("libcublas.so.13"))


def test_the_smoke_test_looks_at_the_values():
    class Right(Meaning):
        pass

    class Wrong(Meaning):
        def relu(self, X, out, slope=0.0):
            return self.copyto(out, X)

    cupy_probe._smoke_test(Right())
    with pytest.raises(ArithmeticError, match="wrong values"):
        cupy_probe._smoke_test(Wrong())


def test_describe_never_raises(monkeypatch):
    monkeypatch.setattr(cupy_probe, "cupy", fake_cupy(driver=0, gpus=0))
    refused = "unknown (RuntimeError: cudaErrorInsufficientDriver: not what is wrong)"
    found = cupy_probe.describe()
    pool = found.pop("CuPy's memory pool")
    assert found == {
        "CuPy": "14.2.0",
        "CUDA runtime": "13.2",
        "driver": "there is no NVIDIA driver",
        "GPU": refused,
        "GPU memory": refused,
    }
    assert pool.startswith("unknown (AttributeError: ")
    monkeypatch.setattr(cupy_probe, "cupy", SimpleNamespace())
    assert all(answer.startswith("unknown (Attr") for answer in cupy_probe.describe().values())


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def xp():
    return find_backend("cupy")  # without a GPU an error that says why


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_cupy_backend_does_what_base_says(xp, case):
    check(xp, case, same_order=True)


@pytest.mark.gpu
def test_arrays_are_made_and_recognised(xp):
    check_array_methods(xp)
    with pytest.raises(MixedArraysError, match=r"ReLU\(\) lives on the backend 'cupy'"):
        xp.require(np.zeros(1), "ReLU()", "X")


@pytest.mark.gpu
def test_numpy_arrays_are_refused(xp):
    X, out = np.ones((2, 2), np.float32), xp.zeros((2, 2), np.float32)
    with pytest.raises(MixedArraysError, match=r"xp.relu .* ndarray of numpy"):
        xp.relu(X, out=out)
    for primitive in (xp.add, xp.multiply, xp.maximum):
        with pytest.raises(TypeError):
            primitive(X, out, out=out)
    with pytest.raises((TypeError, ValueError)):
        xp.copyto(out, X)
    assert not xp.asnumpy(out).any()


FUSED = [
    case
    for case in CASES
    if case.primitive in public(on_cupy.CuPyBackend) - {"asnumpy"}
    and case.kernel
    and any(case.arrays[name].size for name in case.results)
]


@pytest.mark.gpu
@pytest.mark.parametrize("case", FUSED, ids=str)
def test_a_warm_call_can_be_captured_and_makes_no_array(xp, case):
    """Capture refuses whatever waits for the device; the hook sees each new array."""
    import cupy

    class Allocations(cupy.cuda.MemoryHook):
        name, count = "Allocations", 0

        def malloc_preprocess(self, **kwargs: object) -> None:
            self.count += 1

    stream, wanted = cupy.cuda.Stream(non_blocking=True), copies(case)
    run(Meaning(), case, wanted)
    with stream:
        run(xp, case, copies(case, xp.asarray))  # compiles, and makes scratch
        arrays = copies(case, xp.asarray)
        with Allocations() as allocations:
            stream.begin_capture()
            try:
                run(xp, case, arrays)
            finally:
                graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
        assert allocations.count == 0
        for name in case.results:
            ulps = 0 if case.elementary else case.ulps
            host = xp.asnumpy(arrays[name])
            scale = case.scale[name] if isinstance(case.scale, dict) else case.scale
            primitive_cases.compare(f"{case}: {name}", host, wanted[name], ulps, scale)


@pytest.mark.gpu
def test_the_same_call_gives_the_same_bits(xp):
    rng = np.random.default_rng(0)
    A, T = (xp.asarray(rng.normal(size=(300, 700)), np.float32) for _ in range(2))
    results = set()
    for _ in range(20):
        P, work, losses = (xp.empty(shape, np.float32) for shape in (A.shape, A.shape, 300))
        xp.softmax_cross_entropy(A, T, CrossEntropyArrays(losses, P, work))
        total = xp.sum(A, out=xp.empty((), np.float32))
        results.add(b"".join(xp.asnumpy(a).tobytes() for a in (P, losses, total)))
    assert len(results) == 1
