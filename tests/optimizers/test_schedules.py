"""The learning-rate schedules: against PyTorch's, closed forms, and their ends."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest

import xpnet
from xpnet.schedules import Constant, Cosine, Exponential, OneCycle, Step, WarmUp


def of_pytorch(kind, lr, steps, **options):
    """PyTorch's rates for the steps 0 ... steps - 1."""
    torch = pytest.importorskip("torch", reason="PyTorch, the reference, is not installed")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler, rates = getattr(torch.optim.lr_scheduler, kind)(optimizer, **options), []
    for t in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if t < steps - 1:
            scheduler.step()
    return rates


PAIRS = [
    (Step(0.3, every=7, factor=0.5), ("StepLR", 0.3, 50), {"step_size": 7, "gamma": 0.5}),
    (Step(0.3, every=10), ("StepLR", 0.3, 50), {"step_size": 10}),
    (Exponential(0.3, 0.95), ("ExponentialLR", 0.3, 50), {"gamma": 0.95}),
    (Cosine(0.3, 49, final=0.01), ("CosineAnnealingLR", 0.3, 50), {"T_max": 49, "eta_min": 0.01}),
    (Cosine(0.3, 60), ("CosineAnnealingLR", 0.3, 50), {"T_max": 60}),
    *(
        (OneCycle(0.3, n), ("OneCycleLR", 1, n), {"max_lr": 0.3, "total_steps": n})
        for n in (10, 33, 100)
    ),
    (
        OneCycle(0.3, 50, up=0.25, start=10.0, end=1000.0),
        ("OneCycleLR", 1, 50),
        {
            **{"max_lr": 0.3, "total_steps": 50, "pct_start": 0.25},
            **{"div_factor": 10, "final_div_factor": 100},
        },
    ),
]


@pytest.mark.parametrize(("ours", "theirs", "options"), PAIRS, ids=lambda x: str(x)[:40])
def test_pytorch_has_the_same_rates(ours, theirs, options):
    expected = of_pytorch(*theirs, **options)
    actual = [ours(t) for t in range(len(expected))]
    np.testing.assert_allclose(actual, expected, rtol=1e-11, atol=1e-17)
    assert {type(rate) for rate in actual} == {float}


def test_closed_forms():
    assert [Constant(0.3)(t) for t in (0, 1, 10**6)] == [0.3] * 3
    assert [Step(1.0, 10)(t) for t in (0, 9, 10, 19, 20)] == [1, 1, 0.1, 0.1, 0.1**2]
    assert [Exponential(8.0, 0.5)(t) for t in (0, 1, 3)] == [8, 4, 1]
    assert Exponential(1.0, 1.5)(2) == 2.25  # for finding a rate: it may grow
    assert [Cosine(2.0, 8, final=1.0)(t) for t in (0, 4, 8)] == [2, 1.5, 1]
    assert Cosine(2.0, 6)(2) == pytest.approx(1 + math.cos(math.pi / 3), rel=1e-15)


def test_the_ends():
    cosine = Cosine(0.3, 100, final=0.01)
    assert cosine(0) == 0.3
    assert cosine(99) > 0.01
    assert {cosine(t) for t in (100, 101, 10**6)} == {0.01}
    cycle = OneCycle(0.25, 101, up=51 / 101, start=5.0, end=500.0)
    rates = [cycle(t) for t in range(101)]
    assert rates[0] == pytest.approx(0.05, rel=1e-15)
    assert rates[50] == max(rates) == 0.25
    assert rates[100] == min(rates) == 0.25 / 500
    assert {cycle(t) for t in (101, 10**6)} == {rates[100]}
    assert np.all(np.diff(rates[:51]) > 0)
    assert np.all(np.diff(rates[50:]) < 0)
    assert rates[25] == pytest.approx((0.05 + 0.25) / 2)
    assert rates[75] == pytest.approx((0.25 + 0.25 / 500) / 2)


def test_warm_up_is_a_straight_line_to_the_first_rate_of_what_follows():
    warm = WarmUp(Cosine(0.4, 10), 4)
    np.testing.assert_allclose([warm(t) for t in range(4)], [0.1, 0.2, 0.3, 0.4], rtol=1e-15)
    assert [warm(t) for t in range(4, 20)] == [Cosine(0.4, 10)(t) for t in range(16)]
    assert warm(3) == warm(4) == 0.4
    assert [WarmUp(Constant(0.5), 1)(t) for t in range(3)] == [0.5] * 3
    assert WarmUp(lambda t: 1 / (t + 1), 2)(3) == 0.5


GOOD = {
    Constant: {"lr": 0.1},
    Step: {"lr": 0.1, "every": 5, "factor": 0.5},
    Exponential: {"lr": 0.1, "factor": 0.9},
    Cosine: {"lr": 0.1, "steps": 10, "final": 0.0},
    WarmUp: {"then": Constant(0.1), "steps": 5},
    OneCycle: {"lr": 0.1, "steps": 20, "up": 0.3, "start": 25.0, "end": 1e4},
}
BAD = [
    *((kind, name, value) for kind, good in GOOD.items() for name in good
      if name not in ("then", "final", "up") for value in (0, -1, float("nan"))),
    *((OneCycle, "up", up) for up in (0.0, 0.05, 0.95, 1.0, -0.1, float("nan"))),
    *((OneCycle, "steps", steps) for steps in (1, 3)),
    (WarmUp, "then", 0.1),
    *((kind, name, "5") for kind, name in [(Step, "every"), (Cosine, "steps"), (WarmUp, "steps")]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "value"), BAD)
def test_bad_values_are_refused_by_name(kind, name, value):
    with pytest.raises(xpnet.OptionError) as raised:
        kind(**GOOD[kind] | {name: value})
    assert name in str(raised.value)
    assert repr(value) in str(raised.value)


@pytest.mark.parametrize("kind", GOOD)
def test_a_schedule_is_a_value(kind):
    made = kind(**GOOD[kind])
    assert made == kind(**GOOD[kind])
    assert pickle.loads(pickle.dumps(made)) == made
    with pytest.raises(AttributeError):
        made.lr = 1.0
