"""What is assigned to an optimizer takes effect in the next step, or is refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest

import xpnet
from xpnet import schedules
from xpnet.support.errors import OptionError

G = np.random.default_rng(0).normal(size=(6, 8))


def make(kind, lr=0.1, **options):
    return kind(
        xpnet.Sequential(xpnet.Linear(3, 2), dtype="float64", backend="numpy"), lr, **options
    )


def walk(optimizer, gradients):
    for g in gradients:
        np.copyto(optimizer.net.grads, g)
        optimizer.step()
    return optimizer.net.params.copy()


ASSIGNED = [
    (xpnet.SGD, "weight_decay", 0.1),
    (xpnet.SGD, "clip_norm", 0.5),
    (xpnet.SGD, "lr", 0.03),
    (xpnet.SGD, "lr", schedules.Cosine(0.1, 9)),
    (xpnet.SGD, "momentum", 0.9),
    (xpnet.Adam, "weight_decay", 0.1),
    (xpnet.Adam, "beta1", 0.5),
    (xpnet.Adam, "beta2", 0.9),
    (xpnet.Adam, "eps", 0.1),
    (xpnet.AdamW, "weight_decay", 0.2),
    (xpnet.RMSprop, "rho", 0.5),
    (xpnet.RMSprop, "clip_norm", 0.5),
]


@pytest.mark.parametrize(("kind", "name", "value"), ASSIGNED)
@pytest.mark.parametrize("form", [lambda v: v, np.float64, lambda v: np.array(v)])
def test_assigned_before_the_first_step_it_is_as_if_given(kind, name, value, form):
    given, assigned = make(kind, **{name: value}), make(kind)
    setattr(assigned, name, value if callable(value) else form(value))
    np.testing.assert_array_equal(walk(assigned, G), walk(given, G))
    assert getattr(assigned, name) == getattr(given, name)


def test_assigned_on_the_way_it_holds_from_the_next_step_on():
    """The formula of SGD with momentum and decay, by hand."""
    optimizer = make(xpnet.SGD)
    p, v = optimizer.net.params.copy(), np.zeros(8)
    walk(optimizer, G[:2])
    optimizer.momentum, optimizer.weight_decay = 0.9, 0.01
    found = walk(optimizer, G[2:])
    for g in G[:2]:
        p = p - 0.1 * g
    for g in G[2:]:
        v = 0.9 * v + g + 0.01 * p
        p = p - 0.1 * v
    np.testing.assert_allclose(found, p, rtol=1e-13)


def test_the_betas_of_adam_as_a_pair():
    one, two = make(xpnet.Adam), make(xpnet.Adam, beta1=0.5, beta2=0.75)
    one.betas = 0.5, 0.75
    assert one.betas == (0.5, 0.75)
    np.testing.assert_array_equal(walk(one, G), walk(two, G))
    with pytest.raises(OptionError, match="betas must be a pair"):
        one.betas = 0.9


@pytest.mark.parametrize("value", ["0.1", None, math.nan, math.inf, -1.0, [0.1, 0.2]])
@pytest.mark.parametrize("name", ["lr", "weight_decay", "momentum"])
def test_what_is_no_such_number_is_refused_and_the_old_one_stays(name, value):
    optimizer = make(xpnet.SGD, momentum=0.5, weight_decay=0.1)
    before = getattr(optimizer, name)
    with pytest.raises(OptionError, match=f"{name} must be"):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) == before


def test_classes_and_words_are_refused():
    with pytest.raises(OptionError, match="lr is the class Cosine"):
        make(xpnet.SGD, schedules.Cosine)
    with pytest.raises(OptionError, match="nesterov must be True or False; got 'no'"):
        make(xpnet.SGD, momentum=0.9, nesterov="no")
    with pytest.raises(OptionError, match=r"net of SGD.* cannot be changed"):
        make(xpnet.SGD).net = make(xpnet.SGD).net


BAD_RATES = {
    "nan": (lambda t: math.nan if t == 3 else 0.1, "gives nan for step 3"),
    "negative": (lambda t: 0.1 - 0.04 * t, r"gives -0\.\d+ for step 3"),
    "none": (lambda t: None if t == 3 else 0.1, "gives None for step 3"),
    "word": (lambda t: "0.1" if t == 3 else 0.1, "gives '0.1' for step 3"),
    "fails": ([0.1, 0.1, 0.1].__getitem__, "fails for step 3: IndexError"),
}


@pytest.mark.parametrize("case", BAD_RATES)
def test_a_schedule_that_ends_is_an_error_of_the_step_that_needs_it(case):
    schedule, words = BAD_RATES[case]
    optimizer = make(xpnet.SGD, schedule)
    before = walk(optimizer, G[:3])
    with pytest.raises(OptionError, match=words):
        optimizer.step()
    np.testing.assert_array_equal(optimizer.net.params, before)
    optimizer.lr = 0.1
    walk(optimizer, G[3:])


def test_a_schedule_that_begins_badly_is_refused_at_once():
    with pytest.raises(OptionError, match="gives nan for step 0"):
        make(xpnet.SGD, lambda t: math.nan)


@pytest.mark.parametrize("schedule", [schedules.Step(0.1, 2), schedules.Exponential(0.1, 0.5)])
def test_steps_of_schedules_are_whole_numbers(schedule):
    assert schedule(np.int64(4)) == schedule(4.0) == schedule(4)
    for step in (-1, 2.5, math.nan, "1"):
        with pytest.raises(OptionError, match="step must be a whole number"):
            schedule(step)
