"""Masked arrays: what lies under a mask is never used, at no door."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import plots
from xpnet.support.checks import on_host

RANDOM = np.random.default_rng(0)
X, T = RANDOM.normal(size=(20, 3)), np.arange(20) % 3
MASKED_X = np.ma.masked_array(X.copy(), X > 1.2)
MASKED_X.data[MASKED_X.mask] = -9999
MASKED_T = np.ma.masked_array(T.copy(), np.arange(20) == 7)
MASKED_T.data[7] = 999
WEIGHTS = np.ma.masked_array(np.ones(20), np.arange(20) == 4)
FIRST = [int(k) for k in np.argwhere(MASKED_X.mask)[0]]


def net():
    return xpnet.Sequential(xpnet.Linear(3, 3), dtype="float64")


def trainer():
    return xpnet.Trainer(net(), "softmax_cross_entropy")


def classifier():
    from xpnet.estimators import MLPClassifier

    return MLPClassifier((4,), max_iter=2)


def regressor():
    from xpnet.estimators import MLPRegressor

    return MLPRegressor(hidden_layer_sizes=(4,), max_iter=2)


LOSS = xpnet.SoftmaxCrossEntropy()
DOORS = {
    "fit, X": lambda: trainer().fit(MASKED_X, T),
    "fit, t": lambda: trainer().fit(X, MASKED_T),
    "fit, weights": lambda: trainer().fit(X, T, sample_weight=WEIGHTS),
    "fit, validation X": lambda: trainer().fit(X, T, validation_data=(MASKED_X, T)),
    "fit, validation t": lambda: trainer().fit(X, T, validation_data=(X, MASKED_T)),
    "evaluate, X": lambda: trainer().evaluate(MASKED_X, T),
    "evaluate, t": lambda: trainer().evaluate(X, MASKED_T),
    "predict": lambda: net().predict(MASKED_X),
    "forward": lambda: net().forward(MASKED_X),
    "asarray": lambda: net().xp.asarray(MASKED_X),
    "loss, t": lambda: LOSS.forward(net().forward(net().xp.asarray(X)), MASKED_T),
    "loss, weights": lambda: LOSS.forward(net().forward(net().xp.asarray(X)), T.tolist(), WEIGHTS),
    "gradcheck, X": lambda: xpnet.gradcheck(net(), LOSS, MASKED_X, T),
    "gradcheck, t": lambda: xpnet.gradcheck(net(), LOSS, X, MASKED_T),
    "gradcheck, weights": lambda: xpnet.gradcheck(net(), LOSS, X, T, sample_weight=WEIGHTS),
    "load_state_dict": lambda: net().load_state_dict(
        net().state_dict() | {"0.W": np.ma.masked_array(np.ones((3, 3)), np.eye(3))}
    ),
    "confusion, X": lambda: plots.confusion(net(), MASKED_X, T),
    "confusion, t": lambda: plots.confusion(net(), X, MASKED_T),
    "mistakes": lambda: plots.mistakes(net(), MASKED_X, T, shape=(1, 3)),
    "decision_boundary": lambda: plots.decision_boundary(
        xpnet.Sequential(xpnet.Linear(2, 1)), np.ma.masked_array(X[:, :2], X[:, :2] > 1)
    ),
    "classifier, fit X": lambda: classifier().fit(MASKED_X, T),
    "classifier, fit y": lambda: classifier().fit(X, MASKED_T),
    "classifier, fit weights": lambda: classifier().fit(X, T, WEIGHTS),
    "classifier, predict": lambda: classifier().fit(X, T).predict(MASKED_X),
    "classifier, score": lambda: classifier().fit(X, T).predict_proba(MASKED_X),
    "regressor, fit X": lambda: regressor().fit(MASKED_X, T),
    "regressor, fit y": lambda: regressor().fit(X, MASKED_T),
    "regressor, predict": lambda: regressor().fit(X, T).predict(MASKED_X),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_masked_values_are_refused_at_every_door(door, backend):
    with pytest.raises(xpnet.DataError, match=r"masked array without a value( at \[|;)") as caught:
        DOORS[door]()
    assert ".filled(value)" in str(caught.value)
    assert "[~mask]" in str(caught.value)


def test_the_first_masked_value_and_their_number_are_named():
    with pytest.raises(xpnet.DataError) as caught:
        net().predict(MASKED_X)
    n = int(MASKED_X.mask.sum())
    assert str(caught.value).startswith(
        f"X is a masked array without a value at {FIRST} and at {n - 1} more places; "
    )


def test_the_ways_out_are_taken(backend):
    mask = MASKED_X.mask.any(axis=1)
    for inputs, t in ((MASKED_X.filled(0.0), T), (MASKED_X[~mask], T[~mask])):
        assert np.isfinite(trainer().fit(inputs, t, epochs=1)["loss"]).all()
    rows = ~MASKED_T.mask
    assert trainer().evaluate(X[rows], MASKED_T[rows]) == trainer().evaluate(X[rows], T[rows])


@pytest.mark.parametrize("mask", [False, np.zeros((20, 3), bool), np.ma.nomask])
def test_without_a_masked_value_it_is_an_array(mask, backend):
    whole = np.ma.masked_array(X, mask)
    assert type(on_host(whole, "X")) is np.ndarray
    assert np.array_equal(net().predict(whole), net().predict(X))
    assert trainer().evaluate(whole, T) == trainer().evaluate(X, T)


def in_a_file(folder):
    stored = np.memmap(folder / "X", np.float64, "w+", shape=(20, 3))
    stored[:] = X
    return np.ma.masked_array(stored, MASKED_X.mask)


def test_a_mask_over_a_file(tmp_path):
    with pytest.raises(xpnet.DataError, match="masked array without a value"):
        trainer().fit(in_a_file(tmp_path), T)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([1.0, np.ma.masked], r"X\[1\] is a masked array without a value;"),
        ([[1, 2], [np.ma.masked, 3]], r"X\[1\]\[0\] is a masked"),
        (
            [np.ma.masked_array([1, 2], [0, 1])],
            r"X\[0\] is a masked array without a value at \[1\]",
        ),
        (([1, 2], np.ma.masked_array([1, 2], [1, 1])), r"X\[1\] is a masked .* 1 more"),
        (np.array([[1, np.ma.masked]], object), r"X has no value at \[0, 1\] \(masked\)"),
        (np.ma.masked_array(np.array([1, "a"], object), [0, 1]), r"without a value at \[1\]"),
        (np.ma.masked, r"X is a masked array without a value;"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("error")
def test_a_mask_inside_of_something_else(data, words):
    with pytest.raises(xpnet.DataError, match=words):
        on_host(data, "X")
