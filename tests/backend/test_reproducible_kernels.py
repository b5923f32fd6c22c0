"""The kernels of reproducible mode give the bits of its text; run on the host, compiled for GPUs.

``reproducible.cu`` is compiled by g++ with ``cuda_on_host.h``, and `ReproducibleCuPy` on NumPy
arrays is held against `Reproducible` on NumPy, bit by bit: NaN may have any bits, all else has one
answer. Where no GPU is, the machine code is looked at instead: which instructions compute.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np
import primitive_cases
import pytest
from kernels_on_host import compile_on_host, start
from primitive_cases import copies, grouped, public, run
from test_kernels_host import Guarded

import xpnet
from xpnet import golden
from xpnet.backend import NumPyBackend, cuda, elementary, exact
from xpnet.backend.options import RMSpropOptions
from xpnet.backend.reproducible import Reproducible
from xpnet.backend.reproducible_cupy import ReproducibleCuPy
from xpnet.backend.reproducible_kernels import FILE, KERNELS, LINE_BLOCK, LONGEST
from xpnet.backend.reproducible_kernels import options as kernel_options
from xpnet.data.mnist import find_mnist
from xpnet.support.errors import OptionError, ShapeError

F = np.float32


# ---- the kernels on the host ---------------------------------------------------------------------


class HostKernels:
    """The kernels as compiled by g++, on a grid that is smaller than most of the arrays."""

    loaded: ClassVar = dict[bool, ctypes.CDLL]()  # by all tests of a run

    def __init__(self, folder: Path, backwards: bool = False) -> None:
        if backwards not in self.loaded:
            path = build(folder, cuda.source(FILE), backwards)
            self.loaded[backwards] = ctypes.CDLL(str(path))
        self.library = self.loaded[backwards]
        self.launched: list[str] = []

    def __call__(self, name, T, threads, args, block=64):
        assert T == "f"
        start(self.library, name, min(-(-threads // block), 3), block, args)
        self.launched.append(name)


# Functions of one thread, as they compute before anything is rounded to float32.
PROBES = """
#define PROBE(name, results, values)                                                    \\
    extern "C" void probe_##name(const double (*x)[results], double (*out)[results], i64 n) \\
    {                                                                                   \\
        for (i64 i = 0; i < n; i++) {                                                   \\
            double a = x[i][0], b = x[i][1], c = x[i][2], more = c;                     \\
            double found[] = {values, more, b};                                         \\
            for (int k = 0; k < results; k++) out[i][k] = found[k];                     \\
        }                                                                               \\
    }
PROBE(exp, 3, elementary::exp(a))
PROBE(grid, 3, exact::grid(a, i64(b)))
PROBE(expm1, 3, elementary::expm1(a))
PROBE(log, 3, elementary::log(a))
PROBE(tanh, 3, elementary::tanh(a))
PROBE(sigmoid, 3, elementary::sigmoid(a))
PROBE(softplus, 3, elementary::softplus(a))
PROBE(tanh_grad, 3, elementary::tanh_grad(a, b))
PROBE(sigmoid_grad, 3, elementary::sigmoid_grad(a, b))
PROBE(normal, 3, elementary::normal(a, more))
PROBE(gelu, 3, elementary::gelu(a, more))
PROBE(gelu_grad, 3, elementary::gelu_grad(a, b, c))
extern "C" void probe_corrections(const double* x, double* out)
{
    Corrections found = corrections(x, x + 1, x[3], x[4]);
    std::memcpy(out, &found, sizeof found);
}
"""


def build(folder: Path, source: str, backwards: bool) -> Path:
    """Compile the kernels; the last thread of a block takes its turn first if ``backwards``."""
    told = [*kernel_options(), *["-DBACKWARDS"] * backwards]
    return compile_on_host(folder, source, KERNELS, told, PROBES)


class Counted:
    """NumPy, and how often one of its functions was called: on a GPU each is a launch."""

    def __init__(self) -> None:
        self.called: list[str] = []

    def __getattr__(self, name):
        found = getattr(np, name)
        if isinstance(found, type) or not callable(found):
            return found

        def call(*args, **kwargs):
            self.called.append(name)
            return found(*args, **kwargs)

        return call


class Device(NumPyBackend):
    """NumPy in the place of CuPy: it counts, and puts guards around what it makes."""

    name, on_host = "cupy", False

    def __init__(self) -> None:
        self.module, self.guards, self.made = Counted(), Guarded(), 0

    def empty(self, shape, dtype):
        self.made += 1
        return self.guards.place(np.full(shape, 0xA5, np.uint8).astype(dtype))

    def zeros(self, shape, dtype):
        self.made += 1
        return self.guards.place(np.zeros(shape, dtype))

    def asarray(self, a, dtype=None):
        self.made += 1
        return self.guards.place(np.asarray(a, dtype, order="C"))


def _as_one_launch(name):
    """Count a primitive of CuPy as one, whatever NumPy needs for it."""

    def call(self, *args, **kwargs):
        before = len(self.module.called)
        result = getattr(NumPyBackend, name)(self, *args, **kwargs)
        self.module.called[before:] = [name]
        return result

    return call


for name in (
    *("copyto", "matmul", "sum", "max"),
    *("take", "gather", "record", "one_hot", "dropout_mask"),
):
    setattr(Device, name, _as_one_launch(name))


class Fused(ReproducibleCuPy):
    """With blocks that are small enough for the host."""

    line_block = 64

    @property
    def launched(self) -> list[str]:
        return self._kernels.launched

    @property
    def single(self) -> list[str]:
        """What was not done by a kernel, but for the products of matrices."""
        return [name for name in self._ordinary.module.called if name != "matmul"]

    def forget(self) -> None:
        self._kernels.launched.clear()
        self._ordinary.module.called.clear()


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> HostKernels:
    if sys.platform != "linux" or not shutil.which("g++"):
        pytest.skip("no g++ on Linux here: the CUDA kernels are not run on the host")
    return HostKernels(tmp_path_factory.mktemp("reproducible"))


@pytest.fixture
def xp(kernels):
    """The mode on the kernels; afterwards no kernel may have written beside an array."""
    kernels.launched.clear()
    xp = Fused(Device(), kernels)
    yield xp
    xp._ordinary.guards.check()


class Text(Reproducible):
    """What the kernels are held against: the text, as it runs on a GPU, which takes all at once."""

    def __init__(self) -> None:
        super().__init__(NumPyBackend())


TEXT = Text()


def same_bits(got, want) -> bool:
    nan = np.isnan(want)
    whole = {4: np.int32, 8: np.int64}[want.itemsize]
    same = np.ascontiguousarray(got).view(whole) == np.ascontiguousarray(want).view(whole)
    return (
        got.dtype == want.dtype and got.shape == want.shape and (same | nan & np.isnan(got)).all()
    )


def hold(xp, name, *args, results, only=None, **kwargs):
    """Call a primitive on both, with arrays of their own, and compare what is written.

    ``args`` that are one array are one array there, too. ``only`` names the kernels that must have
    done it, all by themselves.
    """
    place, by_id = xp._ordinary.guards.place, {}

    def placed(a):
        """Return a copy, a view of a copy of the same memory where it is a view."""
        if not isinstance(a, np.ndarray):
            return a
        if id(a) not in by_id:
            base = a if a.base is None else a.base
            copy = place(base) if base.flags.c_contiguous else place(base.T).T
            by_id.setdefault(id(base), copy)
            start, whole = a.__array_interface__["data"][0], base.__array_interface__["data"][0]
            memory = by_id[id(base)].T if base.flags.f_contiguous else by_id[id(base)]
            view = np.ndarray(a.shape, a.dtype, memory.data, start - whole, a.strides)
            by_id.setdefault(id(a), view)
        return by_id[id(a)]

    there = [placed(a) for a in args], {k: placed(a) for k, a in kwargs.items()}
    xp.forget()
    with np.errstate(all="ignore"):
        getattr(xp, name)(*there[0], **grouped(name, there[1]))
        getattr(TEXT, name)(*args, **grouped(name, kwargs))
    everything = {**dict(enumerate(args)), **kwargs}
    copies = {**dict(enumerate(there[0])), **there[1]}
    for k in results:
        assert same_bits(copies[k], everything[k]), (name, k)
    if only is not None:
        assert set(xp.launched) == set(only)
        assert not xp.single


# ---- numbers -------------------------------------------------------------------------------------

SPECIAL = np.array(
    [0.0, -0.0, np.inf, -np.inf, np.nan, 2.0**-149, -(2.0**-149), 2.0**-126, 2.0**-100, -1e-30,
     -(2.0**-101), 2.0**-77, 1.5 * 2.0**-77, 2.0**-52, 1.0, -1.0, 3e38, -1e33, 88.7, -104.0, 255.0],
    F,
)  # fmt: skip
NUMBERS = ("normal", "wide", "ties", "special", "zeros", "cancelling", "nearly ties")


def numbers(kind: str, shape, seed: int = 0) -> np.ndarray:
    """Return float32 of a kind: plain, of all sizes, ties of the grids, or with all that is odd."""
    rng = np.random.default_rng([seed, *np.atleast_1d(np.array(shape, int))])
    A = rng.normal(size=shape)
    if kind == "wide":
        A = A * 10.0 ** rng.integers(-32, 16, shape)
    if kind == "ties":
        A = np.ldexp(rng.integers(-(2**24), 2**24, shape) | 1, rng.integers(-60, -20, shape))
    if kind == "cancelling" and A.ndim:  # but for some small ones
        A = (A - A[::-1]).astype(F) if A.ndim == 1 else A - A[::-1] - A[:, ::-1] + A[::-1, ::-1]
        A = np.where(rng.random(shape) < 0.2, 1e-13 * rng.normal(size=shape), A)
    if kind == "nearly ties" and A.ndim:  # of the short form, by less than the other one keeps
        A = (2 * rng.integers(0, 8, shape) + 1) * 2.0 ** -rng.integers(7, 10, shape)
        A = np.where(rng.random(shape) < 0.1, 1.0, A + rng.choice([-1, 1], shape) * 2.0**-27)
    if kind == "zeros":
        A = np.where(A > 0, 0.0, -0.0)
    if kind == "special":
        A = np.where(rng.random(shape) < 0.15, rng.choice(SPECIAL, shape), A)
    return np.asarray(A, F)


def junk(*shape) -> np.ndarray:
    return np.full(shape, -1234.5, F)


def layouts(A: np.ndarray) -> dict[str, np.ndarray]:
    """Return the same matrix in several orders and with gaps."""
    m, n = A.shape
    rows, columns, both = (np.full(s, 7, A.dtype) for s in ((m, n + 3), (n, m + 2), (2 * m, 2 * n)))
    rows[:, 2 : n + 2], columns[:, :m], both[::2, ::2] = A, A.T, A
    return {
        "C": A.copy(),
        "F": np.ascontiguousarray(A.T).T,
        "rows apart": rows[:, 2 : n + 2],
        "columns apart": columns[:, :m].T,
        "gaps": both[::2, ::2],
        "backwards": A[::-1].copy()[::-1],
    }


every_kind = pytest.mark.parametrize("kind", NUMBERS)


# ---- every primitive, on the table of cases ------------------------------------------------------


def in_float32(case) -> bool:
    double = {"rate", "powers"} | ({"A"} if case.primitive == "copyto" else set())
    floats = {k: a.dtype for k, a in case.arrays.items() if a.dtype.kind == "f"}
    return {dtype for k, dtype in floats.items() if k not in double} <= {np.dtype(F)}


CASES = [case for case in primitive_cases.cases() if in_float32(case)]


@pytest.mark.thorough(but=["a*", "m*", "softmax-*", "gelu*"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_case_has_the_bits_of_the_text(xp, case):
    found = []
    for backend, place in ((xp, xp._ordinary.guards.place), (TEXT, np.asarray)):
        arrays = copies(case, place)
        with np.errstate(all="ignore"):
            run(backend, case, arrays)
        found.append([arrays[name] for name in case.results])
    for got, want in zip(*found, strict=True):
        assert same_bits(got, want) if want.dtype.kind == "f" else got.tobytes() == want.tobytes()


# ---- products ------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (3, 5, 2), (2, 7, 33), (9, 64, 10), (33, 17, 1), (1, 130, 5), (70, 9, 40)]
SHAPES += [(4, 1024, 3), (3, 1025, 4), (5, 2100, 2), (0, 4, 3), (3, 4, 0), (3, 0, 2)]


@every_kind
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_have_the_bits_of_the_text(xp, kind, shape):
    m, n, k = shape
    X, W, b = numbers(kind, (m, n), 1), numbers(kind, (n, k), 2), numbers(kind, k, 3)
    known = {"parts", "finish"} if m and n and k else set()
    hold(xp, "matmul", X, W, junk(m, k), results=[2], only=known if n else None)
    hold(xp, "affine", X, W, b, junk(m, k), results=[3], only=known if n else None)


@pytest.mark.parametrize("shape", [(6, 5, 4), (20, 33, 9), (3, 1030, 2)], ids=str)
@pytest.mark.parametrize("right", layouts(np.zeros((1, 1))))
@pytest.mark.parametrize("left", layouts(np.zeros((1, 1))))
def test_operands_may_have_any_layout(xp, left, right, shape):
    m, n, k = shape
    X, W = layouts(numbers("wide", (m, n), 1))[left], layouts(numbers("wide", (n, k), 2))[right]
    hold(xp, "matmul", X, W, junk(m, k), results=[2])
    assert "parts" in xp.launched
    assert set(xp.single) <= {"copyto"}
    pixels = layouts(np.random.default_rng(0).integers(0, 256, (m, n), np.uint8))[left]
    hold(xp, "matmul", pixels, W, junk(m, k), results=[2])
    assert "parts_pixels" in xp.launched


@pytest.mark.parametrize("n", [1, 8, 9, 40, 128, 1000])
@every_kind
def test_the_parts_of_operands_have_the_bits_of_the_text(xp, kind, n):
    """The first in float64, where a wrong last bit would hardly show in a product."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, n), np.uint8)
    for size in (1, 1e-18, 1e-22, 1e-26):
        A, B = numbers(kind, (5, n), 1) * F(size), numbers(kind, (n, 6), 2) * F(size)
        for left, split_right in ((A, True), (A, False), (pixels, True)):
            plan = exact.widths(n, left is pixels)
            with np.errstate(all="ignore"):
                parts = xp._both_parts(left, B, None, plan, split_right)
                wanted = (
                    TEXT._parts("left", left, 1, plan, not split_right),
                    TEXT._parts("right", B, 0, plan, split_right),
                )
            for got, want in zip(parts, wanted, strict=True):
                assert same_bits(got[0], want[0])
                assert (got[1] is None) == (len(want) == 1)
                assert got[1] is None or same_bits(got[1], want[1])


def test_what_is_left_of_a_product_has_the_bits_of_the_text(xp):
    """b is the product itself, but for its sign: what remains is what float32 does not show."""
    X, W = numbers("normal", (1, 20), 1), numbers("normal", (20, 3000), 2)
    pixels, once = np.random.default_rng(1).integers(0, 256, (1, 20), np.uint8), junk(1, 3000)
    for A in (X, pixels):
        TEXT.matmul(A, W, out=once)
        hold(xp, "affine", A, W, -once[0], junk(1, 3000), results=[3])
    A, W = numbers("normal", (64, 64), 2), np.eye(64, dtype=F) * F(2.0**-20 + 2.0**-40)
    for size in range(-80, -20, 4):  # what comes of the rests is flushed
        small = A * F(2.0**size)
        hold(xp, "affine", small, W, small[0] * F(2.0**-20), junk(64, 64), results=[3])


@pytest.mark.parametrize("shape", [(7, 784, 64), (1, 3, 2), (5, 1100, 3), (0, 3, 2)], ids=str)
@every_kind
def test_products_with_pixels_have_the_bits_of_the_text(xp, kind, shape):
    m, n, k = shape
    X, W, b = (
        np.random.default_rng(1).integers(0, 256, (m, n), np.uint8),
        numbers(kind, (n, k), 2),
        numbers(kind, k, 3),
    )
    X[: m // 2] %= 3
    only = {"parts_pixels", "finish"} if m else set()
    hold(xp, "affine", X, W, b, junk(m, k), results=[3], only=only)
    dY = numbers(kind, (m, k), 4)
    if m:
        hold(xp, "matmul", X.T, dY, junk(n, k), results=[2], only=only)


@pytest.mark.parametrize("f", ["relu", "sigmoid", "tanh"])
@every_kind
def test_an_activation_after_a_product_is_part_of_it(xp, kind, f):
    X, W, b = numbers(kind, (9, 12), 1), numbers(kind, (12, 7), 2), numbers(kind, 7, 3)
    hold(xp, "affine", X, W, b, junk(9, 7), f, results=[3], only={"parts", f"finish_{f}"})
    X, W = numbers(kind, (3, 2050), 1), numbers(kind, (2050, 7), 2)
    hold(xp, "affine", X, W, b, junk(3, 7), f, results=[3], only={"parts", "finish", f"finish_{f}"})


@pytest.mark.thorough
def test_products_do_not_depend_on_tiles_or_blocks(xp, monkeypatch):
    X, W, b = numbers("wide", (50, 1500), 1), numbers("wide", (1500, 9), 2), numbers("normal", 9, 3)
    for tile in (2**24, 5000, 1):
        monkeypatch.setattr("xpnet.backend.reproducible.arrays.DEVICE_TILE", tile)
        hold(xp, "affine", X, W, b, junk(50, 9), results=[3], only={"parts", "finish"})
    assert len(xp.launched) > 100
    for block in (16, 32, LINE_BLOCK):
        xp.line_block = block
        hold(xp, "affine", X, W, b, junk(50, 9), results=[3], only={"parts", "finish"})


# ---- sums ----------------------------------------------------------------------------------------


@every_kind
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 5), (1, 700), (700, 1), (33, 64), (9, 130), (2, 0)], ids=str
)
def test_sums_have_the_bits_of_the_text(xp, kind, shape):
    A = numbers(kind, shape)
    only = {"sum_lines"} if A.size else None
    for axis, out in (
        (0, junk(shape[1])),
        (1, junk(shape[0])),
        (None, junk()),
        (-1, junk(shape[0])),
    ):
        hold(xp, "sum", A, axis, out=out, results=["out"], only=only)
    hold(xp, "sum", A, 0, out=junk(1, shape[1]), keepdims=True, results=["out"], only=only)
    hold(xp, "sum", A.T, 0, out=junk(shape[0]), results=["out"], only=only)
    hold(xp, "sum", A.reshape(-1), 0, out=junk(), results=["out"], only=only)


def test_what_is_left_of_a_sum_has_the_bits_of_the_text(xp):
    """Of x - x and something small: all that is lost on the grid shows."""
    x = numbers("normal", 300)
    for n, size in ((3, 2.0**-50), (4, 2.0**-50), (9, 2.0**-48), (200, 2.0**-44)):
        A = numbers("normal", (n, 300), 1) * F(size)
        A[0], A[n - 1] = x, -x
        hold(xp, "sum", A, 0, out=junk(300), results=["out"], only={"sum_lines"})
        hold(xp, "sum", A.T.copy(), 1, out=junk(300), results=["out"], only={"sum_lines"})


def test_sums_of_other_shapes_have_the_bits_of_the_text(xp):
    A = numbers("wide", (4, 3, 5))
    for axis, shape, known in ((0, (3, 5), True), (1, (4, 5), False), (2, (4, 3), True)):
        hold(xp, "sum", A, axis, out=junk(*shape), results=["out"])
        assert bool(xp.launched) == known
    for name, M in layouts(A[0]).items():
        hold(xp, "sum", M, 0, out=junk(5), results=["out"])
        hold(xp, "sum", M, None, out=junk(), results=["out"])
        assert name
    long = numbers("wide", LONGEST + 1)
    hold(xp, "sum", long, 0, out=junk(), results=["out"])
    assert not xp.launched
    hold(xp, "sum", long[1:], 0, out=junk(), results=["out"], only={"sum_lines"})


@pytest.mark.parametrize("f", ["relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 9), (130, 10), (7, 65)], ids=str)
@every_kind
def test_gradients_and_their_sums_have_the_bits_of_the_text(xp, kind, shape, f):
    dY, Y, only = numbers(kind, shape, 1), numbers(kind, shape, 2), {f"{f}_grad_sums"}
    kwargs = {"out": junk(*shape), "db": junk(shape[1])}
    hold(xp, "affine_grad", dY, Y, f, **kwargs, results=["out", "db"], only=only)


# ---- single operations and functions -------------------------------------------------------------

OPERATIONS = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


@every_kind
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_have_the_bits_of_the_text(xp, kind, name):
    A, B, only = numbers(kind, (9, 23), 1), numbers(kind, (9, 23), 2), {name}
    for b in (B, B[0], B[:1], B[:, :1], np.array(B[3, 4]), B[3, 4:5], B[::-1], A):
        hold(xp, name, A, b, junk(9, 23), results=[2], only=only)
    hold(xp, name, B[0], A, junk(9, 23), results=[2], only=only)
    hold(xp, name, A.T, B.T, junk(23, 9), results=[2], only=only)
    hold(xp, name, A[0], B[0], junk(23), results=[2], only=only)
    hold(xp, name, A[:, 1], B[:, 2], junk(9), results=[2], only=only)
    hold(xp, name, np.array(A[0, 0]), np.array(B[1, 1]), junk(), results=[2], only=only)
    C = A[:8].reshape(2, 4, 23)
    hold(xp, name, C, B[:8].reshape(2, 4, 23), junk(2, 4, 23), results=[2], only=only)
    hold(xp, name, C, B[0, :1], junk(2, 4, 23), results=[2], only=only)
    hold(xp, name, C, B[0], junk(2, 4, 23), results=[2])
    hold(xp, name, A.copy(), B[0].copy(), A, results=[2], only=only)
    hold(xp, name, A, A, A, results=[2], only=only)
    for number in (0.1, -3, 1e-40, -(2.0**-101), 2.0**-100, 7e30):
        hold(xp, name, A, number, junk(9, 23), results=[2], only=only)
        hold(xp, name, number, A, junk(9, 23), results=[2], only=only)


@pytest.mark.parametrize("slope", [0, 0.0, 0.01, 0.3, 1e-9, 1e-40])
@every_kind
def test_rectifiers_have_the_bits_of_the_text(xp, kind, slope):
    X, dY = numbers(kind, (7, 31), 1), numbers(kind, (7, 31), 2)
    hold(xp, "relu", X, junk(7, 31), slope, results=[1], only={"relu"})
    if not slope:  # else the text would lose X
        hold(xp, "relu", X, X, slope, results=[1], only={"relu"})
    hold(xp, "relu_grad", dY, X, junk(7, 31), slope, results=[2], only={"relu_grad"})


def sweep(kind: str, seed: int) -> np.ndarray:
    """Numbers of all sizes of both signs, the edges of the formulas, or around 1."""
    rng = np.random.default_rng(seed)
    if kind == "all sizes":
        return rng.integers(0, 2**32, 20_000, dtype=np.uint32).view(F)
    if kind == "edges":
        edges = np.array(
            [1, 20, 40, 700, 88.72, 0.34657359, 0.70710678, 1.41421356, 1e-8, 2e-16], F
        )
        steps = np.array([edges.view(np.int32) + k for k in range(-5, 6)]).astype(np.int32)
        return np.resize(
            np.concatenate([steps.view(F).ravel(), -steps.view(F).ravel(), SPECIAL]), 1000
        )
    return rng.normal(0, {"small": 1e-3, "medium": 3, "large": 60}[kind], 4000).astype(F)


FUNCTIONS = {
    **dict.fromkeys(("log", "tanh", "sigmoid", "softplus"), ("in", "out")),
    **dict.fromkeys(("tanh_grad", "sigmoid_grad"), ("in", "in", "out")),
    "gelu": ("in", "out", "out"),
    "normal": ("in", "out", "out", "work"),
    "gelu_grad": ("in", "in", "in", "out", "work"),
}


TWO = ("gelu", "normal")  # functions with two results


@pytest.mark.parametrize("kind", ["all sizes", "edges", "small", "medium", "large"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_bits_of_the_text(xp, name, kind):
    ways = FUNCTIONS[name]
    args = [sweep(kind, k) if way == "in" else None for k, way in enumerate(ways)]
    args = [junk(args[0].size) if a is None else a for a in args]
    results = [k for k, way in enumerate(ways) if way == "out"]
    hold(xp, name, *args, results=results, only={f"map_{name}"})
    if name not in TWO:
        args[results[0]] = args[0]
        hold(xp, name, *args, results=results, only={f"map_{name}"})


@pytest.mark.parametrize("name", ["exp", "expm1", *FUNCTIONS])
def test_functions_have_the_bits_of_the_text_before_they_are_rounded(kernels, name):
    """In float64: what differs by a last bit there differs in float32 once in a billion times."""
    used = {"tanh_grad": 2, "sigmoid_grad": 2, "gelu_grad": 3}.get(name, 1)
    x = np.concatenate(
        [np.resize(sweep(k, 1), 6000) for k in ("edges", "small", "medium", "large")]
    )
    x = x.astype(float)[: x.size // 3 * 3].reshape(-1, 3).copy()
    with np.errstate(all="ignore"):
        x = x + np.random.default_rng(0).normal(size=x.shape) * 1e-9 * np.abs(x)
    x[::7] = np.random.default_rng(1).integers(0, 2**63, x[::7].shape).view(np.float64)
    if name == "expm1":  # which is called within the limits of tanh only
        x = np.clip(x, -40, 40)
    got, wanted = np.empty_like(x), [column.copy() for column in x.T]
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, got)]
    getattr(kernels.library, f"probe_{name}")(*pointers, ctypes.c_int64(len(x)))
    with np.errstate(all="ignore"):
        work = [np.empty(len(x)) for _ in range(6)]
        if name in TWO:
            wanted[1] = wanted[0].copy()
            getattr(elementary, name)(np, wanted[0], wanted[1], work)
        else:
            getattr(elementary, name)(np, *wanted[:used], work)
    assert same_bits(got[:, 0], wanted[0])
    if name in TWO:
        assert same_bits(got[:, 1], wanted[1])


def test_the_grid_has_the_bits_of_the_text(kernels):
    bits = np.arange(2, 52).repeat(50)
    top = np.resize(np.abs(np.concatenate([SPECIAL, numbers("wide", 400)])), bits.size)
    x, got = np.array([top, bits, bits], float).T.copy(), np.empty((bits.size, 3))
    pointers = [ctypes.c_void_p(a.ctypes.data) for a in (x, got)]
    kernels.library.probe_grid(*pointers, ctypes.c_int64(len(x)))
    for row, size, kept in zip(got, top.astype(float), bits, strict=True):
        assert row[0] == exact.grid(np, np.array(size), int(kept))


def test_corrections_of_adam_have_the_bits_of_the_text_before_they_are_rounded(kernels):
    rng = np.random.default_rng(0)
    for t in range(1, 200):
        rate, powers = rng.uniform(0, 1, 1), np.array([0.9**t, 0.999**t])
        eps, decay = float(rng.uniform(1e-9, 1e-6)), float(rng.uniform(0, 0.1))
        x, got = np.array([*rate, *powers, eps, decay]), np.empty(3)
        kernels.library.probe_corrections(*[ctypes.c_void_p(a.ctypes.data) for a in (x, got)])
        TEXT._adam_numbers(rate, powers, eps, decay)
        wanted = [*TEXT._scratch("corrections", (2,)), *TEXT._scratch("kept", (1,))]
        assert same_bits(got, np.array(wanted))


# ---- softmax -------------------------------------------------------------------------------------


def scores(kind: str, shape) -> np.ndarray:
    return {
        "large": lambda: 60 * numbers("normal", shape),
        "equal": lambda: np.full(shape, 1.5, F),
    }.get(kind, lambda: numbers(kind, shape))()


@pytest.mark.parametrize("shape", [(1, 1), (5, 10), (3, 33), (40, 3), (2, 300), (0, 4)], ids=str)
@pytest.mark.parametrize("kind", [*NUMBERS, "large", "equal"])
def test_softmax_has_the_bits_of_the_text(xp, kind, shape):
    Z, dY, n = scores(kind, shape), numbers(kind, shape, 1), shape[0]
    work = junk(n, 1)
    only = {"softmax"} if n else set()
    hold(xp, "softmax", Z, junk(*shape), work, results=[1], only=only)
    hold(xp, "softmax", Z.copy(), Z, work, results=[1], only=only)
    only = {"softmax_grad"} if n else set()
    hold(xp, "softmax_grad", dY, Z, junk(*shape), work, results=[2], only=only)
    T = np.abs(numbers("normal", shape, 2))
    labels = np.arange(n) * 7 % (shape[1] + 1) - (np.arange(n) % 5 == 4)  # some out of range
    for target, ending in ((T, ""), (labels, "_labels")):
        for scale in (1.0, 1 / 128, 3, 1e-40):
            kwargs = {"losses": junk(n), "dZ": junk(*shape), "work": junk(*shape)}
            kwargs |= {"hot": junk(*shape), "scale": scale, "results": ["losses", "dZ"]}
            only = {f"softmax_cross_entropy{ending}"} if n else set()
            hold(xp, "softmax_cross_entropy", Z, target, **kwargs, only=only)


def test_what_is_left_of_softmax_has_the_bits_of_the_text(xp):
    """The targets are the probabilities, and the losses cancel: what remains is beyond float32."""
    Z = np.repeat(numbers("normal", (60, 10)), 2, axis=1)
    P, work = junk(*Z.shape), junk(*Z.shape)
    TEXT.softmax(Z, out=P, work=work)
    signs = np.where(np.arange(20) % 2, -1, 1).astype(F)
    signs = signs + numbers("normal", Z.shape, 1) * F(1e-6)
    for T in (P, signs):
        kwargs = {"losses": junk(60), "dZ": junk(*Z.shape), "work": work}
        hold(xp, "softmax_cross_entropy", Z, T, **kwargs, results=["losses", "dZ"])
    hold(xp, "softmax_grad", signs, P, junk(*Z.shape), work, results=[2])


# ---- optimizers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("lr", [1e-3, 1.0, 2.0**23, 1e-40])
@every_kind
def test_optimizers_have_the_bits_of_the_text(xp, kind, lr):
    rate, work = np.array([lr]), junk(500)
    p, g, m, v = (numbers(kind, 500, seed) for seed in range(4))
    v = np.abs(v)
    hold(xp, "sgd", p, g, rate, work=work, results=[0], only={"sgd"})
    for nesterov in (False, True):
        for mu in (0.9, 1e-40):
            kwargs = {"mu": mu, "nesterov": nesterov, "work": work}
            hold(xp, "momentum", p, g, m, rate, **kwargs, results=[0, 2], only={"momentum"})
    kwargs = {"rho": 0.99, "eps": 1e-8, "work": work}
    hold(xp, "rmsprop", p, g, v, rate, **kwargs, results=[0, 2], only={"rmsprop"})
    for t in (1, 2, 1000):
        for decay in (0.0, 0.03):
            powers = np.array([0.9**t, 0.999**t])
            kwargs = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "decay": decay, "work": work}
            kwargs |= {"m": m, "v": v, "rate": rate, "powers": powers}
            hold(xp, "adam", p, g, **kwargs, results=[0, "m", "v"], only={"adam"})


def test_optimizers_of_nothing_do_nothing_and_refuse_what_the_text_refuses(xp):
    none, rate = np.zeros(0, F), np.ones(1)
    hold(xp, "sgd", none, none, rate, work=none, results=[0], only=set())
    with pytest.raises(OptionError, match="eps of at least"):
        xp.rmsprop(junk(3), junk(3), junk(3), rate, RMSpropOptions(0.9, 1e-20), work=junk(3))


# ---- what goes to the text -----------------------------------------------------------------------


def test_what_no_kernel_takes_goes_to_the_text(xp):
    A, B, d = numbers("normal", (4, 6)), numbers("normal", (4, 6), 1), np.linspace(1, 2, 6)
    holes = np.zeros((4, 12), F)
    hold(xp, "add", A, B, holes[:, ::2], results=[2])
    hold(xp, "multiply", A, np.float64(0.1), junk(4, 6), results=[2])
    hold(xp, "multiply", d, d[::-1].copy(), np.zeros(6), results=[2])
    hold(xp, "relu", A, junk(4, 6), np.float64(0.1), results=[1])
    hold(xp, "relu", A[0], junk(4, 6), results=[1])
    hold(xp, "sigmoid", A.T, junk(6, 4), results=[1])
    hold(xp, "softmax", A.T, junk(6, 4), junk(6, 1), results=[1])
    hold(xp, "matmul", A, B.T.copy(), holes[:, :4], results=[2])
    hold(xp, "matmul", A.astype(np.float64), B.T.astype(np.float64), junk(4, 4), results=[2])
    hold(xp, "affine", A, B.T, numbers("normal", (4, 4)), junk(4, 4), results=[3])
    hold(xp, "sum", A, 1, out=np.zeros(4), results=["out"])
    assert not xp.launched
    hold(xp, "sgd", A[:, 0], A[:, 1], np.ones(1), work=junk(4), results=[0])
    assert xp.launched == ["multiply"]


def test_what_does_not_fit_is_refused_by_the_text(xp):
    A = numbers("normal", (4, 6))
    for wrong in (
        lambda: xp.add(A, A[:, :4], out=junk(4, 6)),
        lambda: xp.add(A, A, out=junk(4, 5)),
        lambda: xp.matmul(A, A, out=junk(4, 6)),
        lambda: xp.matmul(A, A.T, out=junk(4, 6)),
        lambda: xp.affine(A, A.T, junk(5), out=junk(4, 4)),
        lambda: xp.sum(A, axis=0, out=junk(4)),
        lambda: xp.softmax(A, out=junk(4), work=junk(4, 1)),
    ):
        with pytest.raises(ValueError, match=r"shape|broadcast|dimension|mismatch|match"):
            wrong()
    with pytest.raises(ShapeError, match=r"xp.tanh writes C-contiguous"):
        xp.tanh(A, out=np.zeros((4, 12), F)[:, ::2])
    assert not xp.launched


def test_the_cases_above_start_every_kernel(kernels):
    """The names in the table are those of the methods that start them."""
    methods = public(ReproducibleCuPy, Reproducible)
    rest = {name for name in KERNELS if name.removeprefix("map_") not in methods | set(FUNCTIONS)}
    assert rest == {
        *("parts", "parts_pixels", "finish", "finish_relu", "finish_sigmoid", "finish_tanh"),
        *("sum_lines", "relu_grad_sums", "sigmoid_grad_sums", "tanh_grad_sums"),
        "softmax_cross_entropy_labels",
    }


@pytest.mark.thorough
def test_the_order_in_which_threads_run_does_not_matter(kernels, tmp_path):
    """A missing barrier shows where those run first that should have waited."""
    xp = Fused(Device(), HostKernels(tmp_path, backwards=True))
    X, W, b = numbers("normal", (20, 70), 1), numbers("normal", (70, 9), 2), numbers("normal", 9, 3)
    hold(xp, "affine", X, W, b, junk(20, 9), results=[3])
    hold(xp, "matmul", W.T, X.T, junk(9, 20), results=[2])
    for axis, size in ((0, 70), (1, 20)):
        hold(xp, "sum", X, axis, out=junk(size), results=["out"])
    kwargs = {"out": junk(20, 70), "db": junk(70), "results": ["out", "db"]}
    hold(xp, "affine_grad", X, X[::-1].copy(), "relu", **kwargs)
    kwargs = {"losses": junk(20), "dZ": junk(20, 70), "work": junk(20, 70)}
    results = ["losses", "dZ"]
    hold(xp, "softmax_cross_entropy", X, np.abs(X), **kwargs, results=results)
    xp._ordinary.guards.check()


# ---- trainings -----------------------------------------------------------------------------------


@pytest.mark.thorough(but=["xor*"])
@pytest.mark.parametrize("recipe", golden.RECIPES, ids=lambda recipe: recipe.name)
def test_trainings_have_the_golden_hashes(xp, recipe):
    if recipe.problem == "mnist" and not find_mnist():
        pytest.skip("MNIST is not here: set XPNET_DATA")
    found = golden.trace(recipe, xp, steps=20)
    assert found.first_difference(golden.golden_trace(recipe)) is None
    assert len(found.phases["update"]) == 20
    assert {"sum_lines", "parts"} <= set(xp.launched)


LAUNCHES = 46  # of a step, products of matrices included; the text needs 450


def trainer_on(xp, *layers):
    """Return a trainer and a function that trains for one epoch of so many steps of 128 images."""
    net = xpnet.Sequential(*layers, backend=xp)
    trainer, rng = xpnet.Trainer(net, "softmax_cross_entropy", "adam"), np.random.default_rng(0)
    X, t = rng.integers(0, 256, (1280, 784), np.uint8), rng.integers(0, 10, 1280)

    def train(steps):
        n = 128 * steps
        trainer.fit(X[:n], t[:n], epochs=1, batch_size=128)

    return train


def mnist_layers():
    Linear, ReLU = xpnet.Linear, xpnet.ReLU
    return Linear(784, 64), ReLU(), Linear(64, 32), ReLU(), Linear(32, 10)


def test_a_step_is_a_few_launches(xp):
    train, called = trainer_on(xp, *mnist_layers()), []
    for steps in (2, 5):
        xp.forget()
        train(steps)
        called.append(len(xp.launched) + len(xp._ordinary.module.called))
    assert 20 < (called[1] - called[0]) / 3 <= LAUNCHES


def test_a_warm_step_makes_no_array(xp):
    """Beyond those of an epoch, which do not depend on the number of its steps."""
    train, made = trainer_on(xp, *mnist_layers()), []
    for steps in (1, 2, 5):
        before = xp._ordinary.made
        train(steps)
        made.append(xp._ordinary.made - before)
    assert made[0] > made[1] == made[2]


# ---- the compiler for GPUs -----------------------------------------------------------------------

NUMBER = r"^\s*(?:@!?%p\d+ )?([a-z][\w.]*\bf(?:16|32|64)\b[\w.]*)\s"  # an instruction on such
OTHERS = r"^\s*(?:@!?%p\d+ )?((?:fma|mad|atom|red|ex2|lg2|tanh|rsqrt)\b[\w.]*)\s"
MOVES = {f"{how}.{T}" for T in ("f32", "f64") for how in (
    "ld.global", "ld.global.nc", "ld.global.v4", "ld.global.nc.v4", "st.global", "st.global.v4",
    "ld.shared", "st.shared", "ld.param", "mov", "selp",
)}  # fmt: skip
COMPARISONS = {
    f"setp.{how}.{T}"
    for T in ("f64", "ftz.f32")
    for how in (
        "lt",
        "le",
        "gt",
        "ge",
        "eq",
        "ne",
        "equ",
        "neu",
        "nan",
        "num",
        "leu",
        "ltu",
        "geu",
        "gtu",
    )
}
ROUNDED = {
    f"{how}.rn.{T}" for T in ("f64", "ftz.f32") for how in ("add", "sub", "mul", "div", "sqrt")
}
ROUNDED |= {"rcp.rn.f64", "rcp.rn.ftz.f32"}  # 1 / x, rounded as division is
CASTS = {"cvt.ftz.f64.f32", "cvt.rn.ftz.f32.f64", "cvt.rn.f64.u16", "cvt.rn.f32.u16"}
SIGNS = {"neg.f64", "abs.f64", "neg.ftz.f32", "abs.ftz.f32"}
ALLOWED = MOVES | COMPARISONS | ROUNDED | CASTS | SIGNS


@pytest.fixture(scope="module")
def nvrtc():
    """A function that compiles as a RawModule does, or nothing where CuPy or NVRTC is missing."""
    pytest.importorskip("cupy", reason="no CuPy: the CUDA kernels are not compiled")
    from cupy._core import core
    from cupy.cuda import compiler

    def compiled(method, arch, options=None, source=None):
        options = kernel_options() if options is None else options
        options = core.assemble_cupy_compiler_options(options)
        options += ("-ftz=true", "--device-as-default-execution-space", f"-arch={arch}")
        source = cuda.source(FILE) if source is None else source
        return compiler._NVRTCProgram(source, FILE, method=method).compile(options)[0]

    try:
        core.assemble_cupy_compiler_options(())
        compiler._NVRTCProgram("", "empty.cu", method="ptx").compile(())
    except Exception as error:  # each release of CuPy has another one for a missing library
        pytest.skip(f"no NVRTC or no CUDA headers, the CUDA kernels are not compiled: {error}")
    return cache(compiled)


def ptx(nvrtc, *rest) -> dict[str, str]:
    """Return the PTX of each kernel, by name."""
    code = nvrtc("ptx", "compute_90", *rest)
    text = code if isinstance(code, str) else code.decode()
    parts = re.split(r"^\.visible \.entry (\w+)", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def found(pattern: str, text: str) -> set[str]:
    return set(re.findall(pattern, text, flags=re.MULTILINE))


@pytest.mark.thorough
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_120"])
def test_the_kernels_compile_and_their_blocks_fit_the_registers(nvrtc, arch):
    """A multiprocessor has 65536 registers; how many a thread needs stands in the machine code."""
    cubin = nvrtc("cubin", arch)
    counts = [m.end() for m in re.finditer(re.escape(b"\x04\x2f\x08\x00"), cubin)]
    registers = [int.from_bytes(cubin[end + 4 : end + 8], "little") for end in counts]
    assert len(registers) >= len(KERNELS)
    assert 8 < max(registers) <= 65536 // LINE_BLOCK


def test_the_file_and_the_table_name_the_same_kernels(nvrtc):
    assert set(ptx(nvrtc)) == set(KERNELS)


@pytest.mark.parametrize("name", KERNELS)
def test_each_operation_is_rounded_by_itself(nvrtc, name):
    """Nothing is merged or approximated, there is no other rounding, and no order from outside."""
    text = ptx(nvrtc)[name]
    assert found(NUMBER, text) <= ALLOWED
    assert not found(OTHERS, text)


@pytest.mark.parametrize("name", [*OPERATIONS, "relu", "relu_grad"])
def test_what_the_text_does_in_float32_is_done_in_float32(nvrtc, name):
    assert not {
        instruction for instruction in found(NUMBER, ptx(nvrtc)[name]) if "f64" in instruction
    }


@pytest.mark.parametrize("name", ["sgd", "momentum", "rmsprop"])
def test_only_the_rate_of_an_optimizer_is_float64(nvrtc, name):
    double = {
        instruction for instruction in found(NUMBER, ptx(nvrtc)[name]) if "f64" in instruction
    }
    assert double == {"ld.global.nc.f64", "cvt.rn.ftz.f32.f64"}


@pytest.mark.thorough
def test_the_look_at_the_instructions_sees_what_is_wrong(nvrtc):
    merging = tuple(option for option in kernel_options() if option != "--fmad=false")
    text = ptx(nvrtc, merging)
    assert "fma.rn.f64" in found(OTHERS, text["map_tanh"])
    assert not found(NUMBER, text["sgd"]) <= ALLOWED
    fast = ptx(nvrtc, (*kernel_options(), "--prec-div=false", "--prec-sqrt=false"))
    assert not found(NUMBER, fast["rmsprop"]) <= ALLOWED
    source = cuda.source(FILE)
    library = source.replace("store(elementary::tanh(y))", "store(::tanh(y))")
    assert library != source
    assert not found(NUMBER, ptx(nvrtc, kernel_options(), library)["finish_tanh"]) <= ALLOWED


# ---- constants -----------------------------------------------------------------------------------


def test_the_constants_are_those_of_python_to_the_last_bit():
    given = dict(o[2:].split("=") for o in kernel_options() if o.startswith("-D") and "=" in o)
    for module in (exact, elementary):
        for name, value in vars(module).items():
            if name in given and isinstance(value, float):
                assert float.fromhex(given[name]) == value
    assert given["FACTORIALS"].split(",") == [float(k).hex() for k in elementary.FACTORIALS]
    assert given["WHOLE_BITS"] == f"{elementary.WHOLE_BITS}LL"
    source = cuda.source(FILE)
    for name in set(given) - {"REAL"}:
        assert len(re.findall(rf"\b{name}\b", source)), f"{name} is not used"


def test_a_kernel_is_started_with_the_options_and_the_block(monkeypatch):
    grids = []

    class Module:
        def get_function(self, name):
            return lambda grid, block, args: grids.append((name, grid, block, args))

    told = []
    monkeypatch.setattr(cuda, "_module", lambda *arguments: told.append(arguments) or Module())
    kernels = ReproducibleCuPy(Device())._kernels
    kernels("relu", "f", 1000, (1,))
    kernels("parts", "f", 1024, (2,), 512)
    assert grids == [("relu", (4,), (256,), (1,)), ("parts", (2,), (512,), (2,))]
    assert told == [("reproducible.cu", kernel_options("f"))] * 2
