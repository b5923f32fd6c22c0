"""Our own calls of cuBLAS, against an emulation that reads memory column by column."""

from __future__ import annotations

import ctypes
import gc
import importlib.util
import itertools
import sys
import threading

import numpy as np
import pytest
from cublas_on_host import HostCublas, HostGemm

from xpnet.backend import find_backend, gemm
from xpnet.support.errors import BackendError

SIZES = (1, 2, 3, 7)


@pytest.fixture
def multiply():
    return HostGemm(library=HostCublas([]))


def views(shape, dtype, seed):
    """The same kind of values in every layout that cuBLAS can read without a copy."""
    rows, columns = shape
    rng = np.random.default_rng([seed, rows, columns])
    wide = rng.normal(size=(rows + 2, columns + 3)).astype(dtype)
    tall = rng.normal(size=(columns + 3, rows + 2)).astype(dtype)
    yield "rows", np.ascontiguousarray(wide[:rows, :columns])
    yield "transposed", np.ascontiguousarray(tall[:columns, :rows]).T
    yield "part of rows", wide[1 : rows + 1, 2 : columns + 2]
    yield "part, transposed", tall[2 : columns + 2, 1 : rows + 1].T


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "k", "n"), list(itertools.product(SIZES, repeat=3)))
def test_every_layout_of_both_operands_gives_the_product(multiply, dtype, m, k, n):
    for (_, A), (_, B) in itertools.product(views((m, k), dtype, 1), views((k, n), dtype, 2)):
        memory = np.full((m + 2, n + 2), -77, dtype)
        for out in (memory[1:-1, 1:-1], np.empty((m, n), dtype)):
            assert multiply(A, B, out)
            np.testing.assert_allclose(out, A.astype(np.float64) @ B, rtol=1e-5, atol=1e-5)
        edge = np.ones_like(memory, bool)
        edge[1:-1, 1:-1] = False
        assert (memory[edge] == -77).all()


@pytest.mark.parametrize(
    "A",
    [
        np.ones((4, 6))[:, ::2],  # neither rows nor columns are contiguous
        np.ones((4, 3))[::-1],
        np.broadcast_to(np.ones((1, 3)), (4, 3)),
        np.ones((4, 3), complex),
        np.ones((4, 3), np.float32),  # another type than B
        np.ones((4, 3), int),
        np.ones((0, 3)),
    ],
    ids=["steps", "backwards", "repeated", "complex", "float32", "integers", "empty"],
)
def test_what_cublas_cannot_read_is_left_to_cupy(multiply, A):
    out = np.full((len(A), 2), -77.0)
    assert not multiply(A, np.ones((3, 2)), out)
    assert (out == -77).all()


def test_a_transposed_output_is_written(multiply):
    A, B, out = np.ones((4, 3)), np.ones((3, 2)), np.ones((2, 4)).T
    assert multiply(A, B, out)
    assert (out == 3).all()


def test_shapes_that_do_not_fit_are_left_to_cupy(multiply):
    A, B = np.ones((4, 3)), np.ones((3, 2))
    assert not multiply(A, B, np.ones((4, 3)))
    assert not multiply(A, B.T, np.ones((4, 3)))


def test_each_matrix_has_the_leading_dimension_that_cublas_allows():
    """At least the length of a contiguous line; a side of 1 leaves a stride without a meaning."""
    for shape in itertools.product(SIZES, repeat=2):
        for _, A in views(shape, np.float64, 0):
            transposed, ld = gemm.layout(A.shape, A.strides, A.itemsize)
            assert ld >= (shape[0] if transposed else shape[1])
    assert gemm.layout((1, 5), (8000, 8), 8) == (False, 5)
    assert gemm.layout((5, 1), (8, 8000), 8) == (False, 1)
    assert gemm.layout((5, 1), (16, 8000), 8) == (False, 2)
    assert gemm.layout((1, 5), (8, 16), 8) == (True, 2)


@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_used_where_it_is_asked_for_and_only_for_float32(tf32):
    library = HostCublas([])
    multiply = HostGemm(tf32, library)
    for dtype in (np.float32, np.float64):
        A = np.ones((2, 2), dtype)
        assert multiply(A, A, np.empty_like(A))
    assert library.computed == [77 if tf32 else 68, 70]


def test_each_lane_and_each_thread_has_a_handle_that_goes_with_the_stream():
    library, A = HostCublas([]), np.ones((2, 2))
    multiply = HostGemm(library=library)
    multiply.prepare()
    assert len(library.ready) == 2
    multiply.stream = lambda: 5
    for _ in range(3):
        assert multiply(A, A, np.empty_like(A), 1)
    assert list(library.streams.values()) == [0, 5]
    threads = [threading.Thread(target=multiply, args=(A, A, np.empty_like(A))) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    del threads, thread
    gc.collect()
    assert len(library.ready) == 2, "the handles of threads that have ended are given back"


def test_the_handles_end_at_once_with_their_owner():
    """To end one waits for the device, so the garbage collector must not choose the moment."""
    library, A = HostCublas([]), np.ones((2, 2))
    multiply = HostGemm(library=library)
    assert multiply(A, A, np.empty_like(A))
    gc.disable()
    try:
        del multiply
        assert not library.ready
    finally:
        gc.enable()


def test_an_error_of_cublas_is_named():
    library = HostCublas([])
    library.cublasGemmEx = lambda *arguments: 13
    with pytest.raises(
        BackendError, match=r"^cuBLAS cannot go on: cublasGemmEx gave the status 13"
    ):
        HostGemm(library=library)(np.ones((2, 2)), np.ones((2, 2)), np.ones((2, 2)))


@pytest.mark.skipif(sys.platform != "linux", reason="cuBLAS is looked for on Linux only")
def test_the_library_has_the_functions_that_are_called():
    if not importlib.util.find_spec(
        "cuda.pathfinder" if importlib.util.find_spec("cuda") else "cuda"
    ):
        pytest.skip("no CuPy: cuBLAS is not loaded")
    try:
        library = gemm.load()
    except Exception as error:
        pytest.skip(f"no cuBLAS here: {type(error).__name__}")
    handle = ctypes.c_void_p()
    status = library.cublasCreate_v2(ctypes.byref(handle))
    assert status in (0, 1, 3), "created, or no driver"
    assert all(getattr(library, name).argtypes for name in gemm.SIGNATURES)


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_product_is_that_of_numpy(dtype):
    xp = find_backend("cupy")
    for m, k, n in itertools.product((1, 3, 64, 129), repeat=3):
        for (_, A), (_, B) in itertools.product(views((m, k), dtype, 1), views((k, n), dtype, 2)):
            a = xp.asarray(A.T).T if A.strides[0] < A.strides[1] else xp.asarray(A)
            b = xp.asarray(B.T).T if B.strides[0] < B.strides[1] else xp.asarray(B)
            out = xp.matmul(a, b, out=xp.empty((m, n), dtype))
            exact = A.astype(np.float64) @ B
            limit = k * np.finfo(dtype).eps * (np.abs(A).astype(np.float64) @ np.abs(B))
            assert (np.abs(xp.asnumpy(out) - exact) <= limit).all()


@pytest.mark.gpu
def test_tf32_has_eleven_bits_and_float32_has_24():
    A = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    exact, off = A.astype(np.float64) @ A, {}
    for tf32 in (False, True):
        xp = find_backend("cupy", tf32=tf32)
        a = xp.asarray(A)
        found = xp.asnumpy(xp.matmul(a, a, out=xp.empty(A.shape, A.dtype)))
        off[tf32] = np.abs(found - exact).max() / np.abs(exact).max()
    assert off[False] < 1e-6
    assert off[False] * 10 < off[True] < 1e-2
