"""Exact sums and products against whole-number arithmetic, and what happens one bit further on."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hostile import HostileBackend, HostileModule, PermutedBackend, change_mode

from xpnet.backend import find_backend
from xpnet.backend.exact import (
    MANTISSA,
    MANTISSA32,
    MOST_BITS,
    Widths,
    flush,
    grid,
    snap,
    sum_bits,
    widths,
)
from xpnet.backend.reproducible import K_BLOCK, Reproducible

XP = find_backend("numpy", reproducible=True)
SEEDS = range(5)
LEAST = np.float32(2.0**-100)  # that `flush` leaves


# ---- flush -------------------------------------------------------------------------------------


def critical(per_exponent: int = 400) -> np.ndarray:
    """Float32 numbers of all exponents up to 2⁻⁴⁶, with both signs and mantissas at edges."""
    rng = np.random.default_rng(1)
    half, full = 1 << 22, 1 << 23
    edges = [0, 1, 2, 3, half - 1, half, half + 1, full - 2, full - 1, *(1 << np.arange(23))]
    mantissas = np.concatenate([edges, rng.integers(0, full, per_exponent)]).astype(np.uint32)
    exponents = np.arange(0, 127 - 45, dtype=np.uint32)
    positive = (exponents[:, None] << 23 | mantissas).ravel().view(np.float32)
    return np.concatenate([positive, -positive])


def ftz(x: np.ndarray) -> np.ndarray:
    """Float32 numbers as a GPU sees them: zeros, with their signs, instead of subnormal ones."""
    return np.where(np.abs(x) < 2.0**-126, np.copysign(np.float32(0), x), x)


def ftz_too_early(x: np.ndarray) -> np.ndarray:
    """... on a device that looks before it rounds: a result of 2⁻¹²⁶ may have been below it."""
    return np.where(np.abs(x) <= 2.0**-126, np.copysign(np.float32(0), x), x)


def flushed(x: np.ndarray) -> np.ndarray:
    return flush(np, np.array(x, np.float32))


def bits(x: np.ndarray) -> bytes:
    return np.ascontiguousarray(x).tobytes()


def test_flush_leaves_zero_or_what_is_normal_everywhere():
    x = critical()
    y = flushed(x)
    assert np.all((y == 0) | (np.abs(y) >= LEAST))
    assert not np.signbit(y[y == 0]).any()
    assert (y == 0).any()
    assert (np.abs(y) == LEAST).any()  # the bound is reached
    assert np.all(np.abs(y.astype(float) - x) <= LEAST / 2 + np.abs(x) * 2.0**-23)
    assert np.all((y == 0) | (np.sign(y) == np.sign(x)))


def test_flush_keeps_what_is_not_tiny():
    rng = np.random.default_rng(2)
    patterns = rng.integers(0, 1 << 32, 400_000, dtype=np.uint32).view(np.float32)
    x = np.concatenate([critical(), patterns[np.isfinite(patterns)]])
    x = x[np.abs(x) > 2.0**-52]
    assert len(x) > 200_000
    assert np.abs(x).min() < 2.0**-51.9
    assert bits(flushed(x)) == bits(x)
    assert flushed([np.inf, -np.inf, np.nan])[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(flushed([np.nan])).all()


def test_flush_does_not_see_subnormal_numbers():
    x = critical()
    for other in (ftz(x), ftz_too_early(x), np.where(x == 0, -x, x)):
        assert bits(flushed(other)) == bits(flushed(x))
    for seed in SEEDS:
        assert bits(flush(HostileModule(seed), x.copy())) == bits(flushed(x))


def test_flush_works_in_place():
    x = np.float32([1e-40, 1.0])
    assert flush(np, x) is x
    assert x.tolist() == [0.0, 1.0]


def pairs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Terms around 2⁻¹⁰¹ and around 2⁻¹²⁶, with few bits so that there are ties."""
    rng = np.random.default_rng(3)
    exponents = np.concatenate([np.arange(-132, -118), np.arange(-106, -96), [-80, -60]])

    def terms() -> np.ndarray:
        mantissa = 1 + rng.integers(0, 1 << 23, n) * 2.0**-23
        few = 1 + rng.integers(0, 4, n) / 4 + rng.integers(-1, 2, n) * 2.0**-23
        chosen = np.where(rng.integers(0, 2, n), mantissa, few) * rng.choice([-1, 1], n)
        return (chosen * 2.0 ** rng.choice(exponents, n)).astype(np.float32)

    return terms(), terms()


def test_a_flushed_sum_of_two_terms_is_the_same_on_every_device():
    """Each of the terms, and the sum, subnormal here and zero there: the lemma of `flush`."""
    a, b = pairs(1_000_000)
    wanted, changed = flushed(a + b), 0
    for first in (a, ftz(a), ftz_too_early(a)):
        for second in (b, ftz(b), ftz_too_early(b)):
            for total in (first + second, ftz(first + second)):
                assert bits(flushed(total)) == bits(wanted)
                changed += (total != a + b).sum()
    assert changed > 1_000_000, "the devices never differed"


def test_weaker_kinds_of_flush_do_not_make_the_devices_equal():
    """Zero below 2⁻¹²⁶ is not enough: neither for a sum, nor for the sign of the zero."""
    a, b = pairs(100_000)
    for weaker in (np.copy, ftz, lambda x: ftz(x) + np.float32(0)):
        assert bits(weaker(ftz(a) + ftz(b))) != bits(weaker(a + b))
    assert bits(ftz(-np.zeros(1, np.float32))) != bits(ftz(np.zeros(1, np.float32)))


# ---- the grid ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [1, 16, 17, 26, 42, MOST_BITS])
def test_the_step_of_the_grid(kept):
    rng = np.random.default_rng(kept)
    tops = np.concatenate([2.0 ** np.arange(-101, 128), rng.uniform(0.5, 2, 100)])
    for top in (tops, np.nextafter(tops, 0), np.nextafter(tops, np.inf)):
        _, e = np.frexp(top)  # 2^(e - 1) ≤ top < 2^e
        np.testing.assert_array_equal(grid(np, top.copy(), kept), np.ldexp(1.5, 52 + e - kept))


@pytest.mark.parametrize("kept", [16, 26, MOST_BITS])
def test_zeros_stay_zeros_and_infinities_infinite(kept):
    C = grid(np, np.array([0.0, np.inf, np.nan]), kept)
    assert np.isfinite(C).all()
    x = np.array([0.0, np.inf, np.nan])
    np.testing.assert_array_equal(snap(np, x, C, out=np.empty(3)), x)
    assert not np.signbit(snap(np, -np.zeros(1), C[:1], out=np.empty(1))).any()
    np.testing.assert_array_equal(snap(np, -x[1:2], C[1:2], out=np.empty(1)), [-np.inf])


@pytest.mark.parametrize("kept", [3, 16, 26, MOST_BITS])
@pytest.mark.parametrize("top", [1.0, np.nextafter(1.0, 0), 0.75, 1e-30, 3e38])
def test_snap_rounds_half_to_even(kept, top):
    rng = np.random.default_rng(kept)
    C = grid(np, np.array([top]), kept)
    q = Fraction(float(C[0])) / Fraction(3, 2) / 2**52
    steps = int(Fraction(top) / q)
    assert 2 ** (kept - 1) <= steps < 2**kept
    halves = rng.integers(-2 * steps, 2 * steps + 1, 200)  # every second one is a tie
    x = np.array([float(k * q / 2) for k in map(int, halves)])
    x = np.concatenate([x, np.nextafter(x, 0), rng.uniform(-top, top, 200), [top, -top]])
    got = snap(np, x, C, out=np.empty_like(x))
    assert [Fraction(y) for y in got] == [round(Fraction(a) / q) * q for a in x]


# ---- the bounds --------------------------------------------------------------------------------


def test_sum_bits():
    for n in [*range(1, 3000), 10**6, 2**30 - 1, 2**30, 2**30 + 1]:
        L = sum_bits(n)
        assert n <= 2**L
        assert L == 0 or n > 2 ** (L - 1)


@pytest.mark.parametrize("pixels", [False, True])
def test_the_widths_keep_the_bound_and_use_all_of_it(pixels):
    for n in range(1, K_BLOCK + 1):
        plan, L = widths(n, pixels), sum_bits(n)
        used = plan.whole + plan.head + L
        assert used == MANTISSA or (pixels and used < MANTISSA and plan.head >= MOST_BITS - 8)
        assert plan.whole == (8 if pixels else 26)
        assert plan.head <= MOST_BITS
        if plan.rest:
            assert plan.short + plan.rest + L == MANTISSA32
            assert min(plan.short, plan.rest) >= 7
            assert plan.head + 1 + plan.rest >= 24
        else:
            assert (plan.head >= 24, plan.short) == (True, 0)


# ---- products against whole numbers ------------------------------------------------------------


def snapped(A: np.ndarray, axis: int, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Return A in whole numbers of steps, of so many bits, and the steps."""
    _, e = np.frexp(np.abs(A.astype(float)).max(axis=axis, keepdims=True))
    q = np.ldexp(1.0, e - kept)
    return np.rint(A.astype(float) / q), q  # a power of two: the quotient is exact


def second(A: np.ndarray, axis: int, plan: Widths, split: bool) -> np.ndarray:
    """Return the part of an operand that is multiplied in float32."""
    if split:
        head, q = snapped(A, axis, plan.head)
        step = q * 2.0 ** -(plan.rest + 1)
        part = np.rint((A - head * q) / step) * step
    else:
        short, q = snapped(A, axis, plan.short)
        part = short * q
    return flushed(part.astype(np.float32))


def exact_product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    """A B of whole numbers in Python's arithmetic; it has to be one of float64."""
    product = A.astype(np.int64).astype(object) @ B.astype(np.int64).astype(object)
    largest = np.abs(A).astype(np.int64).astype(object) @ np.abs(B).astype(np.int64).astype(object)
    assert max(largest.ravel()) <= 2**53
    return product.astype(float)


def reference(X: np.ndarray, W: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """X W + b as the docstrings say it, the products in whole numbers."""
    total = np.zeros((len(X), W.shape[1]))
    for k in range(0, X.shape[1], K_BLOCK):
        block = slice(k, k + K_BLOCK)
        total = block_product(X[:, block], W[block]) + total
    total = total / 255 if X.dtype == np.uint8 else total
    total = total if b is None else total + b.astype(float)
    return flushed(total.astype(np.float32))


def block_product(A: np.ndarray, B: np.ndarray) -> np.ndarray:
    plan = widths(A.shape[1], A.dtype == np.uint8)
    if A.dtype == np.uint8:
        right, r = snapped(B, 0, plan.head)
        return exact_product(A, right) * r
    split_right = B.shape[1] < A.shape[1]
    left, q = snapped(A, 1, plan.whole if split_right else plan.head)
    right, r = snapped(B, 0, plan.head if split_right else plan.whole)
    S = exact_product(left, right) * (q * r)
    if plan.rest:
        a, b = second(A, 1, plan, not split_right), second(B, 0, plan, split_right)
        T = a.astype(float) @ b  # products of 14 ... 24 bits: float64 has room to spare
        assert np.array_equal(T, T.astype(np.float32)), "float32 holds it to the last bit"
        S = S + flushed(T.astype(np.float32))
    return S


def matrix(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Numbers of many sizes; some rows and columns are much larger than others, or zero."""
    rng = np.random.default_rng([seed, *shape])
    A = rng.normal(size=shape) * 2.0 ** rng.integers(-20, 4, shape)
    A *= 2.0 ** rng.integers(-30, 30, (shape[0], 1))
    A[rng.random(shape) < 0.1] = 0
    return A.astype(np.float32)


SIZES = (1, 2, 3, 4, 5, 127, 128, 129, 784, 1023, 1024, 1025, 3000)


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (4, 3), (3, 4), (1, 5), (6, 1)])
def test_products_are_those_of_whole_numbers(n, rows, columns):
    A, B, b = matrix((rows, n), 1), matrix((n, columns), 2), matrix((1, columns), 3)[0]
    for bias in (None, b):
        for X, W in ((A, B), (np.asfortranarray(A), np.asfortranarray(B)), (A[::-1], B[:, ::-1])):
            out = np.empty((rows, columns), np.float32)
            assert XP.affine(X, W, bias, out=out) is out
            assert bits(out) == bits(reference(X, W, bias))
    out = np.empty((rows, columns), np.float32)
    assert bits(XP.matmul(A, B, out=out)) == bits(reference(A, B, None))


@pytest.mark.parametrize("n", SIZES)
def test_products_with_pixels_are_those_of_whole_numbers(n):
    rng = np.random.default_rng(n)
    K, W = rng.integers(0, 256, (4, n), dtype=np.uint8), matrix((n, 3), 2)
    out = np.empty((4, 3), np.float32)
    for bias in (None, matrix((1, 3), 3)[0]):
        assert bits(XP.affine(K, W, bias, out=out)) == bits(reference(K, W, bias))
    Kt = np.ascontiguousarray(K.T)
    assert bits(XP.matmul(Kt.T, W, out=out)) == bits(reference(K, W, None))


def test_the_tiles_do_not_show(monkeypatch):
    """Neither the rows that are taken at a time, nor the order of the tiles, can change a bit."""
    A, B, dY = matrix((50, 70), 1), matrix((70, 20), 2), matrix((50, 20), 3)
    wanted = [product(A, B), product(A.T, dY), product(dY, B.T), total(A, 0), total(A, 1)]
    for name in ("PASS", "TILE"):
        change_mode(monkeypatch, name, 150)
    got = [product(A, B), product(A.T, dY), product(dY, B.T), total(A, 0), total(A, 1)]
    assert list(map(bits, got)) == list(map(bits, wanted))


def product(A, B, xp=XP):
    return xp.matmul(A, B, out=np.empty((len(A), B.shape[1]), np.float32))


def total(A, axis, xp=XP, dtype=np.float32):
    shape = np.sum(A, axis=axis).shape
    return xp.sum(A, axis=axis, out=np.empty(shape, dtype))


@pytest.mark.parametrize("n", [1, 2, 5, 127, 784, 1024, 3000])
def test_the_error_of_a_product(n):
    """Half a step of each grid, times what it is multiplied with, and one rounding to float32."""
    plan = widths(min(n, K_BLOCK), pixels=False)
    grids = (
        2.0**-plan.whole + 2.0 ** -(plan.head + plan.short) + 2.0 ** -(plan.head + plan.rest + 1)
    )
    for rows, columns in ((5, 3), (3, 5)):
        A, B = matrix((rows, n), 5), matrix((n, columns), 6)
        exact = A.astype(float) @ B
        tops = np.abs(A.astype(float)).max(1, keepdims=True) * np.abs(B).max(0)
        bound = 1.01 * n * grids * tops + np.abs(exact) * 2.0**-24 + 2.0**-100
        assert np.all(np.abs(product(A, B) - exact) <= bound)


@pytest.mark.parametrize("n", [64, 784, 3000])
def test_products_are_no_worse_than_those_of_ordinary_float32(n):
    """On numbers of one size; the rounding to a grid hits what is much smaller than its row."""
    rng = np.random.default_rng(n)
    A, B = (rng.normal(size=shape).astype(np.float32) for shape in ((64, n), (n, 32)))
    exact = A.astype(float) @ B
    ours, theirs = np.abs(product(A, B) - exact), np.abs(A @ B - exact)
    assert ours.max() < theirs.max()
    assert ours.mean() < theirs.mean()


# ---- sums --------------------------------------------------------------------------------------


def exact_total(A: np.ndarray, axis: int | None) -> np.ndarray:
    """Σ A of numbers that are rounded to the grid of each sum, exactly, then to float32."""
    A = A.reshape(-1) if axis is None else np.moveaxis(A, axis, 0)
    columns = A.reshape(len(A), -1).astype(float)
    kept = min(MANTISSA - sum_bits(len(A)), MOST_BITS)
    _, e = np.frexp(np.abs(columns).max(axis=0))
    q = np.ldexp(1.0, e - kept)
    sums = [math.fsum(column) for column in (np.rint(columns / q) * q).T]
    return flushed(np.array(sums).astype(np.float32)).reshape(A.shape[1:])


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((1,), 0),
        ((7,), None),
        ((1024,), 0),
        ((1025,), -1),
        ((200_000,), 0),
        ((200_000,), None),
        ((1, 1), 0),
        ((5, 9), 0),
        ((5, 9), 1),
        ((5, 9), -1),
        ((5, 9), None),
        ((3, 20_000), 1),
        ((20_000, 3), 0),
        ((300, 400), None),
        ((4, 3, 5), 0),
        ((4, 3, 5), 1),
        ((4, 3, 5), 2),
        ((), None),
    ],
)
def test_sums_are_those_of_whole_numbers(shape, axis):
    rng = np.random.default_rng(len(shape))
    A = (rng.normal(size=shape) * 2.0 ** rng.integers(-30, 2, shape)).astype(np.float32)
    wanted = exact_total(A, axis)
    for keepdims in (False, True):
        out = np.empty(np.sum(A, axis=axis, keepdims=keepdims).shape, np.float32)
        assert XP.sum(A, axis, out=out, keepdims=keepdims) is out
        assert bits(out) == bits(wanted)
    assert bits(total(np.asfortranarray(A), axis)) == bits(wanted)


@pytest.mark.parametrize("n", [1, 10, 1000, 200_000])
def test_the_error_of_a_sum(n):
    """n numbers, each off by half a step of 2^-(53 - L) of the largest, then one rounding."""
    A = matrix((1, n), 7)[0]
    exact = math.fsum(A.tolist())
    bound = n * 2.0 ** -(53 - sum_bits(n)) * np.abs(A).max() + abs(exact) * 2.0**-24
    assert abs(float(total(A, 0)) - exact) <= bound


def test_sums_of_whole_numbers_stay_as_they_are():
    counts = np.arange(12).reshape(3, 4)
    assert XP.sum(counts, axis=0, out=np.empty(4, np.int64)).tolist() == [12, 15, 18, 21]


# ---- one bit further, and the order shows --------------------------------------------------------


def near_the_bound(shape: tuple[int, int], seed: int, tiny: int) -> np.ndarray:
    """Most numbers just below 1, for large sums; a few small ones, whose last bits are on the grid.

    With all of one size the last bits of the grid would be zeros, as float32 has only 24.
    """
    rng = np.random.default_rng([seed, *shape])
    A = rng.uniform(0.95, 1, shape)
    small = rng.random(shape) < 0.1
    small[..., 0] = True
    return np.where(small, A * 2.0**-tiny, A).astype(np.float32)


def last_bits(A: np.ndarray, B: np.ndarray, xp: Reproducible) -> bytes:
    """Return what A B is beyond float32, where a wrong last bit of float64 would be.

    The bias takes away the product as float32 has it: what is left over shows all bits.
    """
    coarse = np.float32(A.astype(float) @ B / (255 if A.dtype == np.uint8 else 1))
    out = np.empty((1, B.shape[1]), np.float32)
    return bits(xp.affine(A, B, -coarse[0], out=out))


def results(kind: str, n: int) -> set[bytes]:
    """Return the different results of a product on all backends that add in other orders."""
    B = near_the_bound((60 if kind == "one by one" else 200, n), 2, tiny=18).T.copy()
    A = near_the_bound((1, n), 1, tiny=6)
    if kind == "pixels":
        A = np.random.default_rng(n).integers(250, 256, (1, n), dtype=np.uint8)
    pieces = np.split(B, B.shape[1], axis=1) if kind == "one by one" else [B]
    return {b"".join([last_bits(A, piece, xp) for piece in pieces]) for xp in backends()}


def backends() -> list[Reproducible]:
    foreign = [Reproducible(make(k)) for k in SEEDS for make in (HostileBackend, PermutedBackend)]
    return [XP, *foreign]


# Many columns: the left operand has a rest; a column by itself: the right one.
LIMITS = [(kind, n) for kind in ("many", "one by one") for n in (64, 128, 512, 1024, 2048)]
LIMITS += [("pixels", n) for n in (64, 128, 1024, 2048)]


def one_bit_more(monkeypatch, part: str) -> None:
    def more(n: int, pixels: bool) -> Widths:
        plan = widths(n, pixels)
        return plan._replace(**{part: getattr(plan, part) + 1})

    change_mode(monkeypatch, "widths", more)


@pytest.mark.thorough(but=["many-64-*", "pixels-64-*"])
@pytest.mark.parametrize("part", ["whole", "head"])
@pytest.mark.parametrize(("kind", "n"), LIMITS)
def test_the_bound_of_the_widths_holds_and_is_needed(monkeypatch, kind, n, part):
    (wanted,) = results(kind, n)
    assert np.frombuffer(wanted, np.float32).any()
    if kind == "pixels" and part != "head":
        return  # they are whole numbers of 8 bits, whatever is asked for
    one_bit_more(monkeypatch, part)
    assert len(results(kind, n)) > 1, "one bit more, and no order matters: the bound is too low"


@pytest.mark.thorough(but=["32-*", "64-*"])
@pytest.mark.parametrize("part", ["short", "rest"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("n", [32, 64, 128, 512, 1024])
def test_the_bound_of_the_float32_part_holds_and_is_needed(monkeypatch, n, side, part):
    """One operand near its largest, of the other nearly half a step of the head left everywhere."""
    rng, rows, columns = np.random.default_rng(n), *((1, n) if side == "left" else (20, 1))
    whole = rng.uniform(0.9, 1, (columns, n)).astype(np.float32)
    step = 2.0 ** -widths(n, pixels=False).head
    left_over = (rng.integers(0, 15, (rows, n)) + rng.uniform(0.45, 0.5, (rows, n))) * step
    left_over[:, 0] = 0.99  # the largest, which the grid is made for
    split = left_over.astype(np.float32)
    A, B = (split, whole.T.copy()) if side == "left" else (whole, split.T.copy())

    def found() -> set[bytes]:
        return {last_bits(A, B, xp) for xp in backends()}

    assert len(found()) == 1
    one_bit_more(monkeypatch, part)
    assert len(found()) > 1, "one bit more, and no order matters: the bound is too low"


@pytest.mark.parametrize(("shape", "axis"), [((1024, 4), 0), ((4, 1024), 1), ((65536,), None)])
def test_the_bound_of_the_sums_holds_and_is_needed(monkeypatch, shape, axis):
    A = near_the_bound(shape, 1, tiny=20)
    wanted = bits(total(A, axis, dtype=np.float64))
    assert {bits(total(A, axis, xp, np.float64)) for xp in backends()} == {wanted}
    change_mode(monkeypatch, "sum_bits", lambda n: sum_bits(n) - 1)
    assert len({bits(total(A, axis, xp, np.float64)) for xp in backends()}) > 1


@pytest.mark.parametrize("kind", ["many", "one by one", "pixels"])
def test_float64_alone_is_not_enough(monkeypatch, kind):
    """A product in float64, rounded once: the order of the additions shows in its last bits."""
    change_mode(monkeypatch, "snap", not_snapped)
    assert len(results(kind, 784)) > 1


def not_snapped(m, X, C, out):
    np.copyto(out, X)
    return out
