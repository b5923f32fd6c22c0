"""exp, log, tanh and their kin against 50 decimal digits, where their pieces meet and beyond."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import pytest
from hostile import HostileModule

from xpnet.backend import elementary
from xpnet.backend.base import GELU_A, GELU_C

ONE = Decimal(1)
LN2 = 0.6931471805599453
ACCURACY = Decimal("5e-14")  # of the value; float32 has 6e-8


def apply(name: str, x: np.ndarray, m: object = np) -> np.ndarray:
    """Return a function of float64 numbers; nothing may warn, and scratch may hold anything."""
    x, work = x.copy(), [np.full(x.shape, np.nan) for _ in range(6)]
    extra = [np.full(x.shape, np.nan)] if name == "gelu" else []
    with np.errstate(all="raise"):
        getattr(elementary, name)(m, x, *extra, work)
    return x


# ---- what is right -------------------------------------------------------------------------------


def true_tanh(x: Decimal) -> Decimal:
    if abs(x) < Decimal("1e-15"):  # x - x³/3
        return x - x**3 / 3
    return 1 - 2 / ((2 * min(max(x, Decimal(-99)), Decimal(99))).exp() + 1)


def true_log1p(e: Decimal) -> Decimal:
    return e - e * e / 2 if e < Decimal("1e-20") else (1 + e).ln()


def true_expm1(x: Decimal) -> Decimal:
    return x + x * x / 2 if abs(x) < Decimal("1e-15") else x.exp() - 1


def true_gelu(x: Decimal) -> Decimal:
    return x * (1 + true_tanh(Decimal(GELU_C) * (x + Decimal(GELU_A) * x**3))) / 2


TRUTH: dict[str, Callable[[Decimal], Decimal]] = {
    "exp": lambda x: x.exp(),
    "expm1": true_expm1,
    "log": lambda x: x.ln(),
    "sigmoid": lambda x: 1 / (1 + (-x).exp()),
    "tanh": true_tanh,
    "softplus": lambda x: true_log1p(x.exp()),
    "gelu": true_gelu,
}
every_function = pytest.mark.parametrize("name", TRUTH)


def truth(name: str, x: np.ndarray) -> list[Decimal]:
    with localcontext() as context:
        context.prec = 50
        return [TRUTH[name](Decimal(float(a))) for a in x]


@cache
def points(name: str) -> np.ndarray:
    """Dense and random points, and all those where a piece ends or something could cancel."""
    rng = np.random.default_rng(5)
    joints = (np.arange(-60, 61) + 0.5) * LN2  # where k changes in x = k ln 2 + r
    joints = np.concatenate([joints, joints / 2, [0.5 * LN2, 1, 8, 16, 19, 20, 21, 36, 37, 40]])
    x = np.concatenate(
        [
            np.linspace(-25, 25, 1001),
            rng.uniform(-90, 90, 500),
            rng.uniform(-690, 690, 500),
            [700.0, -700.0, 0.0, 1e-300, -1e-300, 1e-8, -1e-8, 1e-16, -1e-16],
            rng.normal(size=300) * 2.0 ** rng.integers(-101, 3, 300),
            *(np.nextafter(joints, end) for end in (-np.inf, 0, np.inf)),
        ]
    )
    if name == "log":
        wide = rng.uniform(1, 2, 500) * 2.0 ** rng.integers(-1021, 1023, 500)
        roots = np.sqrt(0.5) * 2.0 ** np.arange(-30, 31)  # where k changes in x = 2^k (1 + f)
        near_1 = 1 + np.concatenate([2.0 ** -np.arange(1, 53), -(2.0 ** -np.arange(2, 53))])
        steps = (np.nextafter(roots, end) for end in (0, np.inf))
        edges = [1.0, np.finfo(float).tiny, np.finfo(float).max]
        x = np.concatenate([wide, roots, *steps, near_1, edges, rng.uniform(0.3, 3, 1000)])
    if name == "gelu":
        x = x[(np.abs(x) > 1e-150) | (x == 0)]  # else x² is no number of float64
    return x


@every_function
def test_the_functions_are_right_to_13_digits(name):
    """Of the value itself, also near 0; of gelu, which cancels for negative x, of x."""
    x = points(name)
    if name in ("softplus", "sigmoid"):
        x = x[np.abs(x) < 690]
    got = apply(name, x)
    for a, y, want in zip(x, got, truth(name, x), strict=True):
        scale = abs(Decimal(float(a))) if name == "gelu" else abs(want)
        assert abs(Decimal(float(y)) - want) <= ACCURACY * scale, (a, y, float(want))


@pytest.mark.thorough(but=["log"])
@every_function
def test_rounded_to_float32_they_are_the_nearest_numbers(name):
    """The rounding of a right number, in all but one of ten thousand."""
    rng = np.random.default_rng(6)
    x = (rng.normal(size=10_000) * 2.0 ** rng.integers(-12, 5, 10_000)).astype(np.float32)
    x = np.abs(x) if name == "log" else np.clip(x, -80, 80)
    got = apply(name, x.astype(float)).astype(np.float32)
    want = np.array([float(y) for y in truth(name, x)]).astype(np.float32)
    differ = got != want
    if name == "gelu":  # far to the left 1 + t has few digits
        differ &= np.abs(got.astype(float) - want) > 1e-14 * np.abs(x)
    assert differ.sum() <= 1


@pytest.mark.parametrize("name", ["exp", "expm1", "sigmoid", "tanh", "softplus"])
def test_neighbours_in_float32_are_in_order_where_two_pieces_meet(name):
    joints = (np.arange(-60, 61) + 0.5) * LN2 / (2 if name == "tanh" else 1)
    for start in (*joints, 0.0, 20.0, -20.0):
        x = around(np.float32(start))
        assert np.all(np.diff(apply(name, x)) >= -(2.0**-52)), start


def test_the_logarithms_of_neighbours_are_in_order_where_two_pieces_meet():
    for start in (1.0, *(np.sqrt(0.5) * 2.0 ** np.arange(-60, 61))):
        assert np.all(np.diff(apply("log", around(np.float32(start)))) > 0), start


def around(x: np.float32) -> np.ndarray:
    """Return the float32 numbers next to x, 20 on each side, in order."""
    steps = x.view(np.int32) + np.arange(-20, 21, dtype=np.int32)
    found = steps.view(np.float32) if x != 0 else np.float32(1e-30) * np.arange(-20, 21)
    return np.sort(found.astype(float))


def test_symmetries():
    x = np.concatenate([np.linspace(0, 40, 4001), np.random.default_rng(0).uniform(0, 30, 4000)])
    plus, minus = apply("tanh", x), apply("tanh", -x)
    assert np.all(np.abs(plus + minus) <= float(ACCURACY) * plus)
    assert np.abs(apply("sigmoid", x) + apply("sigmoid", -x) - 1).max() <= float(ACCURACY)
    difference = apply("softplus", x) - apply("softplus", -x)
    assert np.all(np.abs(difference - x) <= float(ACCURACY) * np.maximum(x, 1))


def test_values_that_are_known():
    assert apply("exp", np.array([0.0, -0.0])).tolist() == [1, 1]
    assert apply("expm1", np.zeros(2)).tolist() == [0, 0]
    assert apply("log", np.array([1.0, 2.0, 0.5])).tolist() == [0, np.log(2), -np.log(2)]
    assert apply("sigmoid", np.zeros(1)).tolist() == [0.5]
    assert apply("tanh", np.zeros(1)).tolist() == [0]
    assert apply("softplus", np.zeros(1)).tolist() == [np.log(2)]
    assert apply("gelu", np.zeros(1)).tolist() == [0]


FAR = np.array([710.0, 1e5, 3e38, np.inf])


@pytest.mark.parametrize(
    ("name", "right", "left"),
    [("exp", 1.0142320547350045e304, 9.859676543759770e-305), ("sigmoid", 1, 0), ("tanh", 1, -1)],
)
def test_beyond_their_limits_the_functions_stand_still(name, right, left):
    np.testing.assert_allclose(apply(name, FAR), right, rtol=1e-14)
    np.testing.assert_allclose(apply(name, -FAR), left, rtol=1e-14, atol=1e-300)


def test_beyond_its_limits_softplus_is_a_line_and_zero():
    np.testing.assert_array_equal(apply("softplus", FAR), FAR)
    np.testing.assert_allclose(apply("softplus", -FAR), 0, atol=1e-300)


def test_beyond_its_limits_gelu_is_a_line_and_zero():
    np.testing.assert_array_equal(apply("gelu", FAR[:2]), FAR[:2])
    np.testing.assert_array_equal(apply("gelu", -FAR[:2]), [0, 0])


@every_function
def test_a_number_that_is_none_does_not_become_one(name):
    x, work = np.array([np.nan]), [np.empty(1) for _ in range(7)]
    extra = [np.empty(1)] if name == "gelu" else []
    getattr(elementary, name)(np, x, *extra, work)
    assert np.isnan(x[0])


@every_function
def test_the_bits_are_those_of_any_other_device(name):
    x = points(name)
    for seed in (0, 1):
        assert apply(name, x, HostileModule(seed)).tobytes() == apply(name, x).tobytes()


# ---- the slopes ----------------------------------------------------------------------------------


def slopes(name: str, dy: np.ndarray, *operands: np.ndarray) -> np.ndarray:
    dy, work = dy.copy(), [np.full(dy.shape, np.nan) for _ in range(6)]
    getattr(elementary, name)(np, dy, *(a.copy() for a in operands), work)
    return dy


def test_the_slopes():
    """On rounded outputs, as the layers keep them: the formulas of ``base.py``, in Decimal."""
    rng = np.random.default_rng(7)
    dy, x = rng.normal(size=300), rng.normal(size=300) * 3
    s, t = 1 / (1 + np.exp(-x)), np.tanh(GELU_C * (x + GELU_A * x**3))
    c, a = Decimal(GELU_C), Decimal(GELU_A)
    for g, want in (
        (slopes("sigmoid_grad", dy, s), lambda d, x, s, t: (d * s * (1 - s), 1)),
        (slopes("tanh_grad", dy, t), lambda d, x, s, t: (d * (1 - t * t), d)),
        (
            slopes("gelu_grad", dy, x, t),
            lambda d, x, s, t: (
                d * ((1 + t) + x * (1 - t * t) * c * (1 + 3 * a * x * x)) / 2,
                d * (2 + abs(x) * (1 + x * x / 5)),
            ),
        ),
    ):
        for got, *row in zip(g, dy, x, s, t, strict=True):
            right, scale = want(*(Decimal(float(v)) for v in row))
            assert abs(Decimal(float(got)) - right) <= Decimal("1e-15") * abs(scale)


# ---- the constants -------------------------------------------------------------------------------


def test_the_constants():
    with localcontext() as context:
        context.prec = 50
        ln2 = Decimal(2).ln()
        high, low = Decimal(elementary.LN2_HIGH), Decimal(elementary.LN2_LOW)
        assert abs(high + low - ln2) < Decimal(2) ** -97
        assert elementary.LN2_HIGH * 2**42 % 1 == 0  # few bits: k of it is exact for |k| < 2¹¹
        assert abs(Decimal(elementary.LOG2_E) * ln2 - 1) < Decimal(2) ** -52
    root = np.array([elementary.ROOT_HALF_BITS]).view(np.float64)[0]
    assert abs(root - 0.5**0.5) <= np.spacing(0.5**0.5)
    assert np.array([elementary.WHOLE_BITS]).view(np.float64)[0] == elementary.WHOLE
    factorial = 1
    for k, given in enumerate(reversed(elementary.FACTORIALS), 1):
        factorial *= k
        assert given == factorial
