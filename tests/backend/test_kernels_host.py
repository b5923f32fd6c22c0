"""The CUDA kernels and the Python that starts them, run on the host against the meaning.

``kernels.cu`` is compiled by g++ with a small stand-in for CUDA (``cuda_on_host.h``), and
`CuPyBackend` runs on NumPy arrays with a launcher that calls the result as CUDA's driver would:
with pointers to the values of the arguments, whose types only the kernel knows. So a wrong order of
arguments, a double where the kernel reads a float, a wrong size or a wrong formula shows here,
without a GPU.
"""

from __future__ import annotations

import ctypes
import inspect
import shutil
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import ClassVar

import mutations
import numpy as np
import primitive_cases
import pytest
from cublas_on_host import HostCublas, HostGemm
from kernels_on_host import compile_on_host, start
from primitive_cases import (
    ARRAY_METHODS,
    check,
    check_array_methods,
    compare,
    copies,
    on_cupy,
    primitives,
    public,
    run,
)

from xpnet import golden
from xpnet.backend import cuda, cupy_kernels, find_backend
from xpnet.backend.base import Backend
from xpnet.backend.options import CrossEntropyArrays, MomentumOptions
from xpnet.backend.registry import KINDS, _made
from xpnet.backend.reproducible import Reproducible
from xpnet.data.mnist import find_mnist
from xpnet.support.errors import MixedArraysError, ShapeError

CASES = primitive_cases.cases()
GUARD = 16384  # bytes before and after each array that no kernel may touch


class HostKernels:
    """The kernels as compiled by g++, on a grid that is smaller than most of the arrays."""

    loaded: ClassVar = dict[tuple[str, str], ctypes.CDLL]()  # by all tests of a run

    def __init__(
        self, folder: Path, blocks: int = 3, size: int = 64, text: str | None = None
    ) -> None:
        self.folder, self.blocks, self.size = folder, blocks, size
        self.text = cuda.source() if text is None else text
        self.launched: list[tuple[str, str]] = []

    def __call__(self, name: str, T: str, threads: int, args: tuple, block: int = 256) -> None:
        blocks = min(-(-threads // self.size), self.blocks)
        start(self.library(T), name, blocks, self.size, args)
        self.launched.append((name, T))

    def library(self, T: str) -> ctypes.CDLL:
        """Compile the kernels for a type, once."""
        if (self.text, T) not in self.loaded:
            (self.folder / T).mkdir()
            options = cuda.compile_options(T)
            path = compile_on_host(self.folder / T, self.text, cupy_kernels.KERNELS, options)
            self.loaded[self.text, T] = ctypes.CDLL(str(path))
        return self.loaded[self.text, T]


class HostCuPy(on_cupy.CuPyBackend):
    """The CuPy backend with NumPy in the place of CuPy."""

    module = np
    asnumpy = staticmethod(np.asarray)

    def __init__(self, kernels: Callable[..., None]) -> None:
        self.device, self.tf32 = 0, False
        launched = getattr(kernels, "launched", [])
        self._use(kernels, HostGemm(library=HostCublas(launched)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    if sys.platform != "linux" or not shutil.which("g++"):
        pytest.skip("no g++ on Linux here: the CUDA kernels are not run on the host")
    return tmp_path_factory.mktemp("kernels")


@pytest.fixture(scope="module")
def xp(folder) -> HostCuPy:
    return HostCuPy(HostKernels(folder))


class Guarded:
    """Places arrays between guards: what a kernel reads there is NaN, what it writes is seen.

    They are signaling NaN, since a quiet one stays what it is whatever is computed with it. None is
    left in memory that others get next: a BLAS that reads beyond an end would report it.
    """

    guards: ClassVar = {
        char: np.full(GUARD // number.itemsize, number).view(np.uint8)
        for char, number in (
            ("f", np.uint32(0xFFBFFFFF)),
            ("d", np.uint64(0xFFF7FFFFFFFFFFFF)),
            ("", np.uint8(0xFF)),
        )
    }

    def __init__(self) -> None:
        self.memory: list[tuple[np.ndarray, np.ndarray]] = []

    def place(self, a: np.ndarray) -> np.ndarray:
        guard = self.guards.get(a.dtype.char, self.guards[""])
        memory = np.zeros(2 * GUARD + a.nbytes, np.uint8)
        memory[:GUARD] = memory[-GUARD:] = guard
        self.memory.append((memory, guard))
        inside = memory[GUARD : GUARD + a.nbytes].view(a.dtype).reshape(a.shape)
        inside[...] = a
        return inside

    def check(self) -> None:
        for memory, guard in self.memory:
            assert np.array_equal(memory[:GUARD], guard)
            assert np.array_equal(memory[-GUARD:], guard)

    def __del__(self) -> None:
        for memory, _ in self.memory:
            memory[:GUARD] = memory[-GUARD:] = 0


@pytest.mark.thorough(but=["a*", "m*", "r*", "softmax-*"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_cupy_backend_does_what_base_says(xp, case):
    xp._kernels.launched.clear()
    guarded = Guarded()
    check(xp, case, same_order=True, place=guarded.place)
    guarded.check()
    by_way_of_others = {"add_matmul", "add_sum", "mean"}
    with_kernels = {*public(on_cupy.CuPyBackend), *by_way_of_others} - ARRAY_METHODS
    fused = case.primitive in with_kernels
    empty = not any(case.arrays[name].size for name in case.results)
    assert bool(xp._kernels.launched) == (fused and case.kernel and not empty)


def check_updates(xp: Backend, sizes: Iterable[int] = (*range(10), 31, 32, 33)) -> None:
    """Hold the optimizers against the meaning, wherever one of their vectors or all may begin."""
    begins = [dict.fromkeys("pgmvs", k) for k in range(4)]
    begins += [{name: k} for name in "pgmvs" for k in (1, 2, 3)]
    for n, dtype, before in product(sizes, primitive_cases.FLOATS, begins):
        p, g, m = np.random.default_rng(n).normal(size=(3, n)).astype(dtype)
        for case in primitive_cases.updates(f"{dtype.__name__}-{n}-{before}", p, g, m, m * m):
            if before.keys() <= {"p", "g", *case.results} or len(before) > 1:
                guarded = Guarded()
                moved = replace(case, before=before)
                check(xp, moved, same_order=True, place=guarded.place)
                guarded.check()


def test_updates_do_not_depend_on_where_vectors_begin(folder):
    """With one thread, so that every pack, and what is left after the last, is its own."""
    check_updates(HostCuPy(HostKernels(folder, blocks=1, size=1)))


def test_an_access_that_is_not_aligned_is_reported(folder):
    xp = HostCuPy(HostKernels(folder, blocks=1, size=1))
    bytes_, rate = np.zeros(33, np.uint8), np.ones(1)
    p = bytes_[1:].view(np.float64)
    with pytest.raises(AssertionError, match="sgd: an access that is not aligned"):
        xp.sgd(p, p.copy(), rate, work=None)
    xp.sgd(p.copy(), p.copy(), rate, work=None)


@pytest.mark.thorough
@pytest.mark.parametrize("mutation", mutations.KERNELS, ids=str)
def test_a_mistake_in_an_update_is_found(folder, tmp_path, mutation):
    text = mutation.apply(cuda.source())
    with pytest.raises(AssertionError):
        check_updates(HostCuPy(HostKernels(tmp_path, blocks=1, size=1, text=text)), (9, 32, 3))


@pytest.mark.thorough
def test_the_cases_start_every_kernel_in_both_types(xp):
    xp._kernels.launched.clear()
    for case in CASES:
        run(xp, case, copies(case))
    real = {name for name, types in cupy_kernels.KERNELS.items() if "T" in types}
    assert {(name, T) for name in real for T in "fd"} <= set(xp._kernels.launched)
    assert {name for name, _ in xp._kernels.launched} == {*cupy_kernels.KERNELS, "gemm"}


def test_the_same_call_gives_the_same_bits(xp):
    A, out = np.random.default_rng(0).normal(size=(3, 70_000)).astype(np.float32), np.empty(())
    sums = {xp.sum(A, out=out.astype(np.float32)).tobytes() for _ in range(3)}
    assert len(sums) == 1


@pytest.mark.thorough(but=["xor*", "digits*"])
@pytest.mark.parametrize("recipe", golden.RECIPES, ids=lambda recipe: recipe.name)
def test_reproducible_mode_gives_the_golden_hashes_on_the_kernels(xp, recipe):
    """As on a GPU: sums, batches, one-hot rows and masks by the kernels, all else by the module."""
    if recipe.problem == "mnist" and not find_mnist():
        pytest.skip("MNIST is not here: set XPNET_DATA")
    xp._kernels.launched.clear()
    found = golden.trace(recipe, Reproducible(xp), steps=20)
    assert found.first_difference(golden.golden_trace(recipe)) is None
    assert len(found.phases["update"]) == 20
    assert ("sum_rows", "d") in xp._kernels.launched


# ---- the Python around the kernels ---------------------------------------------------------------


def test_overrides_have_the_signatures_of_base():
    assert public(on_cupy.CuPyBackend) <= primitives()
    for name in public(on_cupy.CuPyBackend):
        ours, theirs = (inspect.signature(getattr(c, name)) for c in (on_cupy.CuPyBackend, Backend))
        assert ours.parameters == theirs.parameters, name


def test_a_pickle_finds_the_same_gpu():
    kind = replace(KINDS["cupy"], make=lambda device, tf32: object.__new__(on_cupy.CuPyBackend))
    assert _made(kind, 1, True).__reduce__() == (find_backend, ("cupy:1", False, True))


def test_arrays_are_made_and_recognised(xp):
    check_array_methods(xp)


@pytest.mark.parametrize("number", [0, np.float64(0.5), np.float32(0.5), True])
def test_numbers_of_any_kind_reach_the_kernel_in_its_type(xp, number):
    X = np.array([[-4, 2]], np.float32)
    assert xp.relu(X, out=np.empty_like(X), slope=number).tolist() == [[-4 * number, 2]]


def test_what_is_read_may_have_any_strides(xp):
    wide = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    out, wanted = np.empty((6, 4), np.float32), np.empty((6, 4), np.float32)
    for X in (wide[:, ::2], wide[::-1, 4:], wide[:4, :6].T):
        xp.softmax(X, out=out, work=None)
        Backend.softmax(primitive_cases.Meaning(), X, out=wanted, work=None)
        compare("", out, wanted, 16, 0.0)


def test_what_is_written_must_be_contiguous(xp):
    X, out = np.ones((6, 4), np.float32), np.zeros((6, 8), np.float32)
    with pytest.raises(ShapeError, match=r"xp.relu writes C-contiguous.*\(6, 4\).*\(32, 8\)"):
        xp.relu(X, out=out[:, ::2])
    p, g, v, rate = np.ones(4), np.ones(4), np.ones(8)[::2], np.ones(1)
    with pytest.raises(ShapeError, match=r"xp.momentum writes"):
        xp.momentum(p, g, v, rate, MomentumOptions(0.5), work=None)
    assert not out.any()
    assert p.tolist() == [1, 1, 1, 1]


def test_arrays_of_another_module_are_refused(xp):
    class Foreign:
        shape, dtype, size = (2, 2), np.dtype(np.float32), 4

    Foreign.__module__ = "cupy"
    with pytest.raises(MixedArraysError, match=r"xp.relu.*Foreign of cupy.*xp.asarray"):
        xp.relu(Foreign(), out=np.empty((2, 2), np.float32))


def test_shapes_that_do_not_fit_run_the_text_of_base(xp):
    """Which broadcasts them, or refuses them in NumPy's own words; no kernel reads past an end."""
    xp._kernels.launched.clear()
    row, out = np.array([[-1.0, 2.0]]), np.empty((3, 2))
    assert xp.relu(row, out=out).tolist() == [[0, 2]] * 3
    assert xp.softmax_grad(row, np.ones((3, 2)), out=out, work=None).tolist() == [[-2, 1]] * 3
    with pytest.raises(ValueError, match="broadcast"):
        xp.sigmoid(np.ones((2, 3)), out=out)
    with pytest.raises(ValueError, match="zero-size"):
        xp.softmax(np.ones((3, 0)), out=np.ones((3, 0)), work=None)
    written = CrossEntropyArrays(np.empty(2), np.empty((3, 2)), np.empty((3, 2)))
    with pytest.raises(ValueError, match="broadcast"):
        xp.softmax_cross_entropy(out, out, written)
    with pytest.raises(ValueError, match="broadcast"):
        xp.gather(np.ones((9, 3)), np.arange(9), np.zeros(1, np.int64), out=out)
    with pytest.raises(ValueError, match="broadcast"):
        xp.one_hot(np.arange(4), out=out)
    with pytest.raises(ValueError, match=r"match|dimension|shape"):
        xp.sum(out, axis=1, out=np.empty(2))
    assert not xp._kernels.launched


def test_elements_have_a_thread_each_and_rows_a_warp():
    started = []
    xp = HostCuPy(lambda name, T, threads, args, block: started.append((name, threads)))
    X, out = np.ones((70, 50)), np.empty((70, 50))
    xp.relu(X, out=out)
    xp.softmax(X, out=out, work=None)
    xp.sum(X, axis=1, out=np.empty(70))
    xp.sum(X, out=np.empty(()))  # 3500 numbers: four parts of at least 1024, then their sum
    assert started == [
        ("relu", 3500),
        ("softmax", 70 * 32),
        ("sum_rows", 70 * 32),
        ("sum_rows", 4 * 32),
        ("sum_rows", 32),
    ]


def test_the_grid_covers_small_and_large_arrays(monkeypatch):
    grids = []

    class Module:
        def get_function(self, name):
            return lambda grid, block, args: grids.append((name, grid, block, args))

    monkeypatch.setattr(cuda, "_module", lambda file, options: Module())
    kernels = cuda.Kernels("kernels.cu", cuda.compile_options)
    for threads in (1, 256, 257, 10**9):
        kernels("relu", "f", threads, (threads,))
    assert grids == [
        ("relu", (blocks,), (256,), (threads,))
        for blocks, threads in ((1, 1), (1, 256), (2, 257), (2048, 10**9))
    ]
    assert cuda.BLOCK % cuda.WARP == 0
