"""The normal distribution: right on both sides of 0, far out, and in every kind of backend."""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

import numpy as np
import pytest
from hostile import HostileModule

import xpnet
from xpnet.backend import elementary
from xpnet.backend.normal import CENTRE, END, MILLS, PEAK

U = Decimal(2) ** -53
PI = Decimal("3.14159265358979323846264338327950288419716939937511")
POINTS = np.concatenate(
    [
        np.linspace(-12, 12, 241),
        np.random.default_rng(0).uniform(-37, 37, 200),
        [0.0, -0.0, 5, -5, 1e-300, -1e-300, 5e-324, 2.0**-27, -(2.0**-27), 1e-9, -1e-9, 37, -37],
    ]
)


@cache
def truth(x: float) -> tuple[Decimal, Decimal]:
    """Return Φ and φ to 40 digits: a series of positive terms near 0, a continued fraction far out.

    Φ(a) = 1/2 + φ(a) Σ a^(2k+1) / (1·3 ··· (2k+1)),  Φ(-a) = φ(a) / (a + 1/(a + 2/(a + 3/...)))
    """
    with localcontext() as context:
        context.prec = 60
        a = abs(Decimal(x))
        density = (-a * a / 2).exp() / (2 * PI).sqrt()
        if a < 3:
            term = total = a
            for k in range(1, 200):
                term = term * a * a / (2 * k + 1)
                total += term
            tail = Decimal("0.5") - density * total
        else:
            fraction = a
            for k in range(400, 0, -1):
                fraction = a + k / fraction
            tail = density / fraction
        return (1 - tail if x > 0 else tail), density


def test_the_truth_is_that_of_scipy():
    ndtr = pytest.importorskip("scipy.special", reason="SciPy is not installed").ndtr
    ours = [float(truth(float(x))[0]) for x in POINTS]
    np.testing.assert_allclose(ours, ndtr(POINTS), rtol=1e-12)  # SciPy's is the less exact one


def of_elementary(x, m=np):
    P, p, work = x.copy(), np.full(x.shape, np.nan), [np.full(x.shape, np.nan) for _ in range(6)]
    elementary.normal(m, P, p, work)
    return P, p


def of_backend(name, X):
    xp = xpnet.backend.find_backend(name)
    out, density, work = (np.full(X.shape, np.nan, X.dtype) for _ in range(3))
    assert xp.normal(X, out=out, density=density, work=work) is out
    return out, density


WAYS = {"reproducible": of_elementary, "numpy": lambda x: of_backend("numpy", x)}


@pytest.mark.parametrize("way", WAYS)
def test_both_are_right_to_their_last_digits(way):
    """To (4 + a²) roundings of themselves, far to the left as well; those of exp are 150 more."""
    slack = 150 if way == "reproducible" else 4
    for x, *found in zip(POINTS, *WAYS[way](POINTS), strict=True):
        for got, right in zip(found, truth(float(x)), strict=True):
            bound = (slack + Decimal(float(x)) ** 2) * U * right
            assert abs(Decimal(float(got)) - right) <= bound, (x, got, float(right))


@pytest.mark.parametrize("way", WAYS)
def test_the_sides_are_each_others_rest(way):
    (right, up), (left, down) = (WAYS[way](s * np.abs(POINTS)) for s in (1, -1))
    assert up.tobytes() == down.tobytes()
    np.testing.assert_array_equal(right[POINTS != 0], (1 - left)[POINTS != 0])
    assert (np.diff(WAYS[way](np.linspace(-30, 30, 5001))[0]) >= 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_out_it_is_1_and_0(dtype):
    top = np.finfo(dtype).max
    X = np.array([40, 1e9, top, np.inf], dtype)
    with np.errstate(all="raise", under="ignore"):
        for sign, want in ((1, 1), (-1, 0)):
            out, density = of_backend("numpy", sign * X)
            assert out.tolist() == [want] * 4
            assert density.tolist() == [0] * 4
    assert all(np.isnan(a).all() for a in of_backend("numpy", np.array([np.nan], dtype)))
    assert of_backend("numpy", np.zeros(2, dtype))[0].tolist() == [0.5, 0.5]


def test_the_bits_are_those_of_any_other_device():
    wanted = of_elementary(POINTS)
    for seed in (0, 1):
        found = of_elementary(POINTS, HostileModule(seed))
        assert all(a.tobytes() == b.tobytes() for a, b in zip(found, wanted, strict=True))


def test_the_constants():
    assert float((2 * PI).sqrt() ** -1) == PEAK
    assert [float(a) for a in truth(-END)] == [0, 0]
    with localcontext() as context:  # the polynomial against Mills's ratio, where it is exact
        context.prec = 50
        for x in (0.0, 0.5, 2.9, 3.1, CENTRE, 12.0, 37.0):
            tail, density = truth(-x)
            a = Decimal(x)
            q, ratio = (a - Decimal(CENTRE)) / (a + Decimal(CENTRE)), Decimal(0)
            for c in MILLS:
                ratio = ratio * q + Decimal(c)
            assert abs(ratio - (1 + a) * tail / density) < 2 * U
