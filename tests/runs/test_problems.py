"""Every problem is solved by its own recipe; `bench/goals.py` does the same over many seeds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import xpnet
from xpnet import data
from xpnet.runs.problems import PROBLEMS, build
from xpnet.support.errors import OptionError

XOR_START = {
    "0.W": [
        [0.16834518313407898, 0.06440470367670059, 0.11723118275403976],
        [0.11516651511192322, -0.5614281892776489, -0.09316414594650269],
    ],
    "0.b": np.zeros(3),
    "2.W": [[1.1041007041931152], [-0.3189985156059265], [0.23082861304283142]],
    "2.b": np.zeros(1),
}


def solve(name, seed=0):
    """Train a problem by its recipe; return the numbers on the test data."""
    problem = PROBLEMS[name]
    split = problem.load(seed, None)
    trainer = build(problem, split, dtype="float32", seed=seed)
    trainer.fit(*split.train, epochs=problem.epochs, batch_size=problem.batch_size)
    return trainer.evaluate(*split.test)


@pytest.mark.thorough(but=["0-*"])
@pytest.mark.parametrize("name", ["and", "xor"])
@pytest.mark.parametrize("seed", [0, 7, 19])
def test_the_gates_are_learnt(name, seed):
    assert solve(name, seed)["accuracy"] == 1.0


def test_the_spiral_is_learnt_and_not_only_its_points():
    assert solve("spiral", 3)["accuracy"] >= 0.98  # on points it has not seen


def test_the_curve_is_found_under_its_noise():
    assert solve("curve", 5)["r2"] >= 0.98


def test_the_surface_is_fitted_between_its_samples():
    assert solve("surface", 3)["rmse"] <= 0.02


def test_the_digits_are_read():
    assert solve("digits", 1)["accuracy"] >= 0.97


def xor_net(dtype):
    net = xpnet.Sequential(
        xpnet.Linear(2, 3), xpnet.Sigmoid(), xpnet.Linear(3, 1), xpnet.Sigmoid(), dtype=dtype
    )
    net.load_state_dict(XOR_START)
    return net


def test_the_xor_notebook_comes_out_to_the_last_digit(backend):
    """Loss before the first, and in the 500th, 2000th, 3000th and 5000th epoch, as published."""
    net = xor_net("float64")
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=1.0))
    epochs = 5000 if backend.name == "numpy" else 500
    losses = trainer.fit(*data.xor_gate(), epochs=epochs, batch_size=None)["loss"]
    published = {1: 0.269086, 500: 0.250002, 2000: 0.055940, 3000: 0.003510, 5000: 0.001017}
    found = {epoch: round(losses[epoch - 1], 6) for epoch in published if epoch <= epochs}
    # One in the last digit: the notebook's 0.055940 is 0.0559408 cut off, not rounded.
    assert found == pytest.approx({k: published[k] for k in found}, abs=1.01e-6)


def test_the_xor_notebook_in_float32():
    net = xor_net("float32")
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=1.0))
    losses = trainer.fit(*data.xor_gate(), epochs=4999, batch_size=None)["loss"]
    assert losses[1999] == pytest.approx(0.055940, abs=1e-5)
    loss = trainer.evaluate(*data.xor_gate())["loss"]  # that of the 5000th forward pass
    assert loss == pytest.approx(0.001017, abs=1e-5)
    predictions = net.predict(data.xor_gate()[0]).ravel()
    assert predictions == pytest.approx([0.027957, 0.969492, 0.969760, 0.037943], abs=2e-5)


@pytest.mark.parametrize(
    ("problem", "loss", "last"),
    [
        ("xor", "bce_logits", "Linear(3, 1)"),
        ("xor", "bce", "Sigmoid()"),
        ("xor", "mse", "Sigmoid()"),
        ("curve", "huber", "Linear(3, 1)"),
        ("digits", "cross_entropy", "Softmax()"),
        ("digits", "softmax_cross_entropy", "Linear(3, 10)"),
    ],
)
def test_a_network_ends_as_its_loss_wants_it(problem, loss, last):
    net = small(problem, loss).net
    assert repr(net[-1]) == last
    assert net.dtype == np.float64


def small(problem, loss):
    problem = replace(PROBLEMS[problem], loss=loss, hidden=(3,))
    return build(problem, problem.load(0, None), dtype="float64", seed=0)


@pytest.mark.parametrize(
    ("problem", "loss"), [("xor", "cross_entropy"), ("curve", "bce"), ("digits", "mse")]
)
def test_a_loss_that_does_not_fit_is_refused_with_those_that_do(problem, loss):
    with pytest.raises(OptionError, match=rf"{loss}.*does not fit.*choose from"):
        small(problem, loss)
