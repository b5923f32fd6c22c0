"""log, cos and sin from + - · / alone: right, and the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import data
from xpnet.backend.host_functions import cos_sin, log
from xpnet.backend.random import Random

TURNS = np.concatenate(
    [
        np.arange(-16, 17) / 8,  # where one quarter ends and the next begins
        np.nextafter(np.arange(-16, 17) / 8, 9),
        np.random.default_rng(0).uniform(-2, 2, 20_000),
        [1e-300, -1e-300, 1e-9, 2.0**-53],
    ]
)


def test_cos_and_sin_are_right():
    cos, sin = cos_sin(TURNS)
    np.testing.assert_allclose(cos, np.cos(2 * np.pi * TURNS), rtol=0, atol=3e-15)
    np.testing.assert_allclose(sin, np.sin(2 * np.pi * TURNS), rtol=0, atol=3e-15)
    np.testing.assert_allclose(cos**2 + sin**2, 1, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("turns", "cos", "sin"), [(0, 1, 0), (0.25, 0, 1), (0.5, -1, 0), (0.75, 0, -1), (1, 1, 0)]
)
def test_quarters_are_exact(turns, cos, sin):
    assert [float(a) for a in cos_sin(turns)] == [cos, sin]


def test_a_small_sine_keeps_its_digits():
    small = np.array([1e-300, 1e-20, 1e-9])
    np.testing.assert_allclose(cos_sin(small)[1], 2 * np.pi * small, rtol=1e-15)


def test_log_is_right_and_leaves_its_argument_alone():
    x = np.array([1.0, 2.0**-53, 0.5, math.e, 1e300])
    before = x.copy()
    np.testing.assert_allclose(log(x), np.log(x), rtol=1e-15)
    assert x.tobytes() == before.tobytes()


def test_numbers_and_data_are_the_same_on_another_machine(monkeypatch):
    """One whose own sin, cos, log and exp round the last bits in another way."""

    def everything():
        arrays = [Random(1, "x").normal((1000,)), data.spiral(200)[0], data.curve(200)[1]]
        return [a.tobytes() for a in (*arrays, data.surface(200, noise=0.1)[1])]

    wanted = everything()
    for name in ("sin", "cos", "log", "log1p", "exp", "tan"):
        function = getattr(np, name)
        monkeypatch.setattr(np, name, lambda x, f=function, **out: np.nextafter(f(x, **out), 9))
    assert everything() == wanted
