"""The estimators keep scikit-learn's rules, and train as its own MLP does, to the last digit."""

from __future__ import annotations

import json
import logging
import pickle
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from threading import Barrier

import joblib
import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import xpnet
from xpnet.backend import find_backend, why_no_numba
from xpnet.backend.registry import KINDS
from xpnet.estimators import MLPClassifier, MLPRegressor
from xpnet.support.errors import BackendError, DataError, DivergenceError, OptionError, ShapeError

UNFINISHED = "ignore::sklearn.exceptions.ConvergenceWarning"  # few epochs are what is asked for
pytestmark = pytest.mark.filterwarnings(UNFINISHED)

RNG = np.random.RandomState(0)
X = RNG.normal(size=(23, 4))
WEIGHTS = RNG.uniform(0.1, 3, 23)
TARGETS = {
    "binary": np.where(X[:, 0] + X[:, 1] > 0, "yes", "no"),
    "multiclass": np.array([3, 7, 8])[RNG.randint(3, size=23)],
    "multilabel": RNG.randint(2, size=(23, 3)),
    "one number": X[:, 0] ** 2 + X[:, 1],
    "numbers": X[:, :2] * X[:, 2:],
}
MODELS = {
    name: (MLPClassifier, neural_network.MLPClassifier)
    if y.dtype.kind in "iU"
    else (MLPRegressor, neural_network.MLPRegressor)
    for name, y in TARGETS.items()
}


def pair(kind, seed=1, **options):
    """Return our estimator and scikit-learn's, with the same weights, ready to go on."""
    options = {"hidden_layer_sizes": (6, 5), "random_state": seed, "max_iter": 1} | options
    both = [model(**options, warm_start=True) for model in MODELS[kind]]
    random = np.random.RandomState(seed)
    for model in both:
        early = model.early_stopping  # a first epoch for everything that fit sets
        model.set_params(early_stopping=False).fit(X, TARGETS[kind])
        model.set_params(early_stopping=early)
    start = [random.normal(size=W.shape) / 2 for W in both[1].coefs_]
    for model in both:
        model.coefs_ = [W.copy() for W in start]
        model.intercepts_ = [np.linspace(-0.2, 0.3, W.shape[1]) for W in start]
        model.loss_curve_, model.t_, model._no_improvement_count = [], 0, 0
        model.best_loss_ = None if model.early_stopping else np.inf
        model.validation_scores_ = [] if model.early_stopping else None
        model.best_validation_score_ = -np.inf if model.early_stopping else None
        model._best_coefs, model._best_intercepts = model.coefs_, model.intercepts_
    return both


def assert_same_weights(ours, theirs, tolerance=1e-12):
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


# ---- the rules of scikit-learn -------------------------------------------------------------------


def variants():
    small = {"hidden_layer_sizes": (5, 5), "learning_rate_init": 0.01, "random_state": 0}
    for model in (MLPClassifier, MLPRegressor):
        yield model()
        yield model(**small, activation=["tanh", "logistic"], alpha=0.01)
        yield model(hidden_layer_sizes=20, solver="sgd", random_state=0)
        yield model(
            hidden_layer_sizes=20, solver="rmsprop", learning_rate_init=0.01, random_state=0
        )
        if not why_no_numba():
            yield model(backend="numba", random_state=0)


@pytest.mark.thorough(but=["MLPClassifier()-*"])
@parametrize_with_checks(list(variants()), expected_failed_checks=lambda estimator: {})
def test_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


# ---- one step, to the last digit -----------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("kind", TARGETS)
def test_a_step_and_its_loss_are_those_of_scikit_learn(kind, activation, weighted):
    options = {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False}
    ours, theirs = pair(kind, activation=activation, alpha=0.7, learning_rate_init=0.3, **options)
    before = [W.copy() for W in ours.coefs_]
    w = WEIGHTS if weighted else None
    for model in (ours, theirs):
        model.fit(X, TARGETS[kind], sample_weight=w)
    assert_same_weights(ours, theirs)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-12)
    assert all(np.abs(a - b).max() > 1e-3 for a, b in zip(ours.coefs_, before, strict=True))


SGD = {"solver": "sgd", "learning_rate_init": 0.05}


@pytest.mark.parametrize(
    "options",
    [
        {**SGD, "momentum": 0.8, "nesterovs_momentum": False},
        {**SGD, "momentum": 0.8},
        {**SGD, "momentum": 0.0, "learning_rate": "invscaling", "power_t": 0.3},
        {**SGD, "momentum": 0.9, "learning_rate": "invscaling", "power_t": 0.5},
        {**SGD, "momentum": 0.9, "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
        {"solver": "adam"},
        {"solver": "adam", "beta_1": 0.8, "beta_2": 0.9, "epsilon": 0.01},
    ],
    ids=["momentum", "Nesterov", "invscaling", "velocity", "adaptive", "Adam", "large epsilon"],
)
@pytest.mark.parametrize("kind", ["multiclass", "numbers"])
def test_epochs_of_batches_are_those_of_scikit_learn(kind, options):
    """The last batch is smaller: the penalty is divided by its own weights."""
    ours, theirs = pair(kind, max_iter=4, batch_size=7, shuffle=False, alpha=0.5, **options)
    for model in (ours, theirs):
        model.fit(X, TARGETS[kind], sample_weight=WEIGHTS)
    assert_same_weights(ours, theirs)
    assert (ours.n_iter_, ours.t_) == (theirs.n_iter_, theirs.t_) == (4, 4 * 23)
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=0.03)


def test_without_a_penalty_the_losses_of_the_epochs_agree_to_the_last_digit():
    ours, theirs = pair("numbers", max_iter=5, batch_size=7, shuffle=False, alpha=0, **SGD)
    for model in (ours, theirs):
        model.fit(X, TARGETS["numbers"])
    np.testing.assert_allclose(ours.loss_curve_, theirs.loss_curve_, rtol=1e-12)
    assert ours.best_loss_ == pytest.approx(theirs.best_loss_, rel=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "logistic"])
@pytest.mark.parametrize("kind", ["one number", "multiclass", "binary"])
def test_the_first_weights_are_those_of_scikit_learn(kind, activation):
    options = {"solver": "sgd", "learning_rate_init": 1e-300, "max_iter": 1, "random_state": 5}
    both = [
        model(hidden_layer_sizes=(6, 5), activation=activation, **options) for model in MODELS[kind]
    ]
    for model in both:
        model.fit(X, TARGETS[kind])
    assert_same_weights(*both, 0)
    assert np.abs(both[0].coefs_[-1]).max() > 0.1


# ---- when it stops -------------------------------------------------------------------------------


RECORD = ["n_iter_", "t_", "best_loss_", "loss_curve_"]
RECORD += ["validation_scores_", "best_validation_score_"]


@pytest.mark.parametrize("rate", ["constant", "adaptive"])
@pytest.mark.parametrize("early", [False, True], ids=["loss", "early stopping"])
@pytest.mark.parametrize("kind", ["binary", "one number"])
def test_it_stops_when_scikit_learn_stops(kind, early, rate, capsys):
    options = {**SGD, "momentum": 0.0, "learning_rate": rate, "alpha": 0}
    options["learning_rate_init"] = 0.3 if kind == "binary" else 0.05
    rules = {"tol": 0.01, "n_iter_no_change": 3, "max_iter": 300, "validation_fraction": 0.3}
    models = pair(kind, early_stopping=early, shuffle=False, verbose=True, **options, **rules)
    printed = []
    for model in models:
        capsys.readouterr()
        model.fit(X, TARGETS[kind])
        printed.append(capsys.readouterr().out)
    ours, theirs = models
    assert 5 < ours.n_iter_ < 300
    for name in RECORD:
        a, b = (np.array(getattr(model, name), float) for model in models)  # None becomes NaN
        np.testing.assert_allclose(a, b, rtol=1e-9, err_msg=name)
    assert_same_weights(ours, theirs, 1e-9)
    lines = [line.replace("Learning rate too small. ", "") for line in printed[1].splitlines()]
    assert printed[0].splitlines() == lines


def test_it_warns_if_the_epochs_do_not_suffice_and_only_then():
    y = TARGETS["one number"]
    with pytest.warns(ConvergenceWarning, match="max_iter=2 epochs are over"):
        MLPRegressor(max_iter=2).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = MLPRegressor(max_iter=50, tol=100, n_iter_no_change=1).fit(X, y)
        assert model.n_iter_ == 3
        assert model.set_params(max_iter=3).fit(X, y).n_iter_ == 3  # it counts anew
        MLPRegressor(max_iter=1).partial_fit(X, y)


def test_early_stopping_keeps_the_weights_of_the_best_epoch():
    model = MLPRegressor(
        early_stopping=True,
        max_iter=60,
        learning_rate_init=0.1,
        n_iter_no_change=60,
        random_state=3,
    )
    model.fit(X, TARGETS["one number"])
    best = int(np.argmax(model.validation_scores_))
    assert 0 < best < 59
    assert model.best_validation_score_ == model.validation_scores_[best]
    shorter = clone(model).set_params(max_iter=best + 1).fit(X, TARGETS["one number"])
    assert_same_weights(model, shorter, 0)


def test_early_stopping_keeps_the_weights_of_the_fit_before_if_they_are_better():
    model = MLPRegressor(
        hidden_layer_sizes=(5,), early_stopping=True, max_iter=3, warm_start=True, random_state=0
    )
    model.fit(X, TARGETS["one number"])
    before, model.best_validation_score_ = [W.copy() for W in model.coefs_], 1.0
    model.fit(X, TARGETS["one number"])
    for a, b in zip(model.coefs_, before, strict=True):
        np.testing.assert_array_equal(a, b)


def test_early_stopping_keeps_the_shares_of_the_classes():
    seen = []

    class Spy(MLPClassifier):
        def _score_of(self, t, Y, sample_weight):
            seen.append((np.bincount(t), sample_weight))
            return super()._score_of(t, Y, sample_weight)

    y = np.repeat([0, 1, 2], [60, 30, 10])
    w = np.where(y == 2, 5.0, 1.0)
    features = np.random.RandomState(0).normal(size=(100, 2))
    model = Spy(early_stopping=True, validation_fraction=0.2, max_iter=2, random_state=0)
    model.fit(features, y, sample_weight=w)
    counts, weights = seen[0]
    assert counts.tolist() == [12, 6, 2]
    assert sorted(weights) == [1] * 18 + [5] * 2


def test_the_score_on_validation_data_is_weighted():
    model = MLPClassifier(max_iter=1).fit(X, TARGETS["multilabel"])
    t, Z = np.array([[0, 1], [1, 1], [0, 0]]), np.array([[-1, 1], [1, -1], [-1, -2]])
    assert model._score_of(t, Z, np.array([1, 2, 5])) == 0.75


def test_ctrl_c_keeps_what_has_been_learnt():
    class CtrlC(xpnet.Callback):
        def on_epoch_end(self, epoch, logs):
            if epoch == 2:
                raise KeyboardInterrupt

    model = MLPRegressor(max_iter=10, callbacks=[CtrlC()], random_state=0)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(X, TARGETS["one number"])
    assert model.n_iter_ == 3
    assert_same_weights(
        model, MLPRegressor(max_iter=3, random_state=0).fit(X, TARGETS["one number"])
    )


# ---- one call after another ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"solver": "rmsprop"}, {**SGD, "learning_rate": "invscaling"}], ids=str
)
def test_so_many_calls_of_partial_fit_are_so_many_epochs(options):
    model = MLPClassifier((5,), batch_size=7, random_state=0, max_iter=4, **options)
    whole = clone(model).fit(X, TARGETS["multiclass"])
    for _ in range(4):
        model.partial_fit(X, TARGETS["multiclass"], classes=[3, 7, 8])
    assert_same_weights(model, whole)
    assert model.loss_curve_ == pytest.approx(whole.loss_curve_, rel=1e-12)
    assert (model.n_iter_, model.t_) == (1, 4 * 23)


def test_partial_fit_takes_the_settings_of_now():
    y = TARGETS["one number"]
    model = MLPRegressor(hidden_layer_sizes=(5,), random_state=0, alpha=0).partial_fit(X, y)
    for settings in ({"solver": "sgd", "momentum": 0.0}, {"momentum": 0.9}, {"solver": "rmsprop"}):
        model.set_params(**settings)  # the optimizer's memory is no use to another one
        fresh = pickle.loads(pickle.dumps(model))
        fresh._optimizer_state = None
        assert_same_weights(model.partial_fit(X, y), fresh.partial_fit(X, y), 0)
    model.set_params(solver="sgd", momentum=0.0).partial_fit(X, y)
    before = model.coefs_[0]
    model.set_params(learning_rate_init=1e-30).partial_fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], before)


def test_partial_fit_with_classes_that_come_later():
    model = MLPClassifier((5,), random_state=0)
    with pytest.raises(DataError, match="partial_fit needs classes"):
        model.partial_fit(X, TARGETS["multiclass"])
    one = TARGETS["multiclass"] == 7
    model.partial_fit(X[one], TARGETS["multiclass"][one], classes=[8, 3, 7])
    assert model.classes_.tolist() == [3, 7, 8]
    model.partial_fit(X, TARGETS["multiclass"])
    with pytest.raises(DataError, match="other than those of the first call"):
        model.partial_fit(X, TARGETS["multiclass"] + 1)
    with pytest.raises(DataError, match="other than those of the first call"):
        model.partial_fit(X, TARGETS["multiclass"], classes=[3, 7])
    with pytest.raises(DataError, match="other than those of the first call"):
        model.partial_fit(X, TARGETS["multilabel"])
    labels = MLPClassifier((5,)).partial_fit(X, TARGETS["multilabel"])
    with pytest.raises(DataError, match="other than those of the first call"):
        labels.partial_fit(X, TARGETS["multilabel"][:, :2])


def test_warm_start_goes_on_and_a_plain_fit_begins_anew():
    y = TARGETS["one number"]
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=0).fit(X, y)
    first = [W.copy() for W in model.coefs_]
    model.fit(X, y)
    np.testing.assert_array_equal(model.coefs_[0], first[0])
    model.set_params(warm_start=True).fit(X, y)
    assert len(model.loss_curve_) == 6
    assert model.loss_curve_[3] < model.loss_curve_[2]
    with pytest.raises(
        OptionError, match=r"hidden_layer_sizes=\[6\], but coefs_ .* of \[5\] units"
    ):
        model.set_params(hidden_layer_sizes=6).fit(X, y)
    with pytest.raises(ShapeError, match=r"y has 2 outputs; the first call .* had 1"):
        model.set_params(hidden_layer_sizes=5).fit(X, TARGETS["numbers"])


def test_warm_start_may_begin_to_watch_validation_data():
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, warm_start=True).fit(
        X, TARGETS["one number"]
    )
    model.set_params(early_stopping=True).fit(X, TARGETS["one number"])
    assert (len(model.validation_scores_), model.best_loss_) == (3, None)
    model.set_params(early_stopping=False).fit(X, TARGETS["one number"])
    assert (model.validation_scores_, model.best_validation_score_) == (None, None)
    assert model.best_loss_ == min(model.loss_curve_[-3:])


def test_the_order_of_the_samples_is_another_one_in_each_epoch_or_always_the_same():
    orders, y = [], TARGETS["one number"]

    class Orders(xpnet.Callback):
        def on_epoch_end(self, epoch, logs):
            orders.append(self.trainer.batches._order.tolist())

    model = MLPRegressor(
        hidden_layer_sizes=(5,), batch_size=7, max_iter=3, callbacks=[Orders()]
    ).fit(X, y)
    assert len({tuple(order) for order in orders}) == 3
    model.set_params(shuffle=False).fit(X, y)
    assert orders[3:] == [list(range(23))] * 3


def test_the_seed_decides_and_nothing_else():
    def trained(seed):
        model = MLPRegressor(
            hidden_layer_sizes=(5,), dropout=0.2, batch_size=5, max_iter=2, random_state=seed
        )
        return model.fit(X, TARGETS["one number"]).coefs_[0].tobytes()

    np.random.seed(0)
    assert trained(7) == trained(7)
    assert trained(7) != trained(8)
    stream = np.random.RandomState(7)
    assert trained(stream) != trained(stream)
    assert trained(np.random.RandomState(7)) == trained(np.random.RandomState(7))
    assert trained(None) != trained(None)
    np.random.seed(0)
    first = trained(None)
    np.random.seed(0)
    assert trained(None) == first


# ---- what is added -------------------------------------------------------------------------------


def test_each_layer_may_have_an_activation_and_a_dropout_of_its_own():
    model = MLPRegressor(
        "squared_error", (4, 3, 2), ["gelu", "leaky_relu", "identity"], dropout=[0.5, 0, 0.25]
    )
    model.set_params(max_iter=1).fit(X, TARGETS["one number"])
    layers = model._network(find_backend("numpy"), 0)
    assert [repr(layer).partition("(")[0] for layer in layers] == [
        *("Linear", "GELU", "Dropout", "Linear", "LeakyReLU", "Linear", "Identity", "Dropout"),
        "Linear",
    ]
    assert [layer.p for layer in layers if isinstance(layer, xpnet.Dropout)] == [0.5, 0.25]


def test_dropout_is_for_training_only_and_goes_on_differently():
    y = TARGETS["one number"]
    model = MLPRegressor(
        hidden_layer_sizes=(50,),
        dropout=0.5,
        random_state=0,
        learning_rate_init=1e-30,
        shuffle=False,
    )
    losses = [model.partial_fit(X, y).loss_ for _ in range(3)]
    assert len(set(losses)) == 3  # the same weights, but other masks
    np.testing.assert_array_equal(model.predict(X), model.predict(X))
    plain = MLPRegressor(
        hidden_layer_sizes=(50,), random_state=0, learning_rate_init=1e-30
    ).partial_fit(X, y)
    np.testing.assert_allclose(model.predict(X), plain.predict(X), rtol=1e-9)


def test_class_weights_are_sample_weights():
    y = TARGETS["multiclass"]
    model = MLPClassifier((5,), max_iter=3, random_state=0, batch_size=7)
    weighted = clone(model).set_params(class_weight={3: 2.0, 7: 1.0, 8: 0.5}).fit(X, y, WEIGHTS)
    by_hand = clone(model).fit(X, y, WEIGHTS * np.array([0, 0, 0, 2, 0, 0, 0, 1, 0.5])[y])
    assert_same_weights(weighted, by_hand)
    balanced = clone(model).set_params(class_weight="balanced").fit(X, y)
    by_hand = clone(model).fit(X, y, 23 / (3 * np.bincount(y)[y]))
    assert_same_weights(balanced, by_hand)
    without_7 = clone(model).set_params(class_weight={3: 1, 7: 0, 8: 1}).fit(X, y)
    assert_same_weights(without_7, clone(model).fit(X[y != 7], y[y != 7]), 0)
    with pytest.raises(OptionError, match="class_weight='balanced' cannot be known"):
        model.set_params(class_weight="balanced").partial_fit(X, y, classes=[3, 7, 8])


def test_samples_of_weight_0_are_as_if_they_were_not_there():
    y = TARGETS["multiclass"]
    w = np.where(np.arange(23) % 3, WEIGHTS, 0)
    model = MLPClassifier((5,), max_iter=3, random_state=0, batch_size=5, class_weight="balanced")
    with_0 = clone(model).fit(X, y, w)
    without = clone(model).fit(X[w > 0], y[w > 0], w[w > 0])
    assert_same_weights(with_0, without, 0)
    for bad in (np.zeros(23), -w, np.full(23, np.nan)):
        with pytest.raises(DataError, match="sample_weight must be finite, not negative, and not"):
            model.fit(X, y, bad)
    with pytest.raises(ShapeError, match=r"sample_weight must have the shape \(23,\); got \(22,\)"):
        model.fit(X, y, w[:22])


def test_weights_of_any_size_give_the_same_training():
    y = TARGETS["one number"]
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=0, alpha=0)
    for factor in (2.0**-1000, 2.0**1000):
        huge = clone(model).fit(X, y, WEIGHTS * factor)
        assert_same_weights(huge, clone(model).fit(X, y, WEIGHTS), 0)


def test_callbacks_see_the_training(tmp_path):
    recorder, stopping = xpnet.Recorder(), xpnet.EarlyStopping("loss", patience=1, min_delta=1e9)
    model = MLPRegressor(hidden_layer_sizes=(5,), callbacks=[stopping, recorder], random_state=0)
    model.fit(X, TARGETS["one number"])
    assert model.n_iter_ == 2
    assert (recorder.epochs[0], recorder.epochs[-1]) == (0, 2)
    net = recorder.trainer.net
    np.testing.assert_allclose(net.predict(X)[:, 0], model.predict(X), rtol=1e-12)
    assert recorder.trainer._data is None  # the data set is free
    copied = pickle.loads(pickle.dumps(model))
    assert (copied.callbacks[1].trainer, copied.callbacks[1]._of) == (None, None)
    assert copied.callbacks[0].best == stopping.best
    assert recorder.trainer is not None  # the original still has it
    assert clone(model).fit(X, TARGETS["one number"]).n_iter_ == 2
    with pytest.raises(OptionError, match="no callback: 3"):
        model.set_params(callbacks=[3]).fit(X, TARGETS["one number"])


def test_labels_may_be_sparse_too():
    model = MLPClassifier((5,), max_iter=2, random_state=0).fit(X, TARGETS["multilabel"])
    sparse = clone(model).fit(X, scipy.sparse.csr_array(TARGETS["multilabel"]))
    assert_same_weights(model, sparse, 0)
    predicted = sparse.predict(X)
    assert scipy.sparse.issparse(predicted)  # as in scikit-learn
    np.testing.assert_array_equal(predicted.toarray(), model.predict(X))
    assert sparse.score(X, scipy.sparse.csr_array(TARGETS["multilabel"])) == model.score(
        X, TARGETS["multilabel"]
    )


def test_huber_is_half_the_squared_error_of_small_errors():
    model = MLPRegressor(hidden_layer_sizes=(5,), **SGD, max_iter=2, random_state=1, loss="huber")
    model.fit(X / 10, TARGETS["numbers"] / 100)
    squared = clone(model).set_params(loss="squared_error").fit(X / 10, TARGETS["numbers"] / 100)
    assert_same_weights(model, squared)
    assert model.loss_ == pytest.approx(squared.loss_)


def test_huber_is_there():
    y = TARGETS["one number"].copy()
    y[0] = 1e6
    model = MLPRegressor(
        hidden_layer_sizes=(5,), max_iter=300, learning_rate_init=0.01, random_state=0, loss="huber"
    )
    right = np.abs(model.fit(X, y).predict(X) - y)
    assert right[0] > 9e5
    assert np.median(right) < 1
    with pytest.raises(OptionError, match=r"unknown loss 'poison'; did you mean 'poisson'"):
        MLPRegressor(loss="poison").fit(X, y)


def test_the_penalty_of_adamw_is_its_own():
    options = {"hidden_layer_sizes": (5,), "random_state": 0, "max_iter": 1, "alpha": 0.5}
    options["epsilon"] = 1e-30  # the place of ε differs: that of "adam" is scikit-learn's
    model = MLPRegressor(solver="adamw", learning_rate_init=0.1, **options)
    plain = clone(model).set_params(solver="adam", alpha=0)
    for m in (model, plain):
        m.fit(X, TARGETS["one number"])
    start = MLPRegressor(**options | {"learning_rate_init": 1e-30}).fit(X, TARGETS["one number"])
    shrunk = [p - 0.1 * 0.5 * W for p, W in zip(plain.coefs_, start.coefs_, strict=True)]
    for a, b in zip(model.coefs_, shrunk, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)
    assert model.loss_ == plain.loss_


# ---- predictions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["binary", "multiclass", "multilabel"])
def test_predictions_are_those_of_scikit_learn(kind):
    ours, theirs = pair(kind, activation="tanh")
    P = ours.predict_proba(X)
    np.testing.assert_allclose(P, theirs.predict_proba(X), rtol=1e-10)
    np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
    np.testing.assert_allclose(ours.predict_log_proba(X), np.log(P), rtol=1e-9)
    assert ours.score(X, TARGETS[kind]) == theirs.score(X, TARGETS[kind])
    Z = ours.decision_function(X)
    if kind == "binary":
        np.testing.assert_allclose(P[:, 1], 1 / (1 + np.exp(-Z)), rtol=1e-10)
        np.testing.assert_array_equal(ours.predict(X) == "yes", Z > 0)
    names = ("n_layers_", "n_outputs_", "out_activation_", "n_features_in_")
    for name in names:
        assert getattr(ours, name) == getattr(theirs, name)
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)


def test_regressions_are_those_of_scikit_learn():
    for kind in ("one number", "numbers"):
        ours, theirs = pair(kind)
        np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-10)
        assert ours.out_activation_ == theirs.out_activation_


def test_log_probabilities_are_finite_where_probabilities_are_not():
    for kind in ("binary", "multiclass", "multilabel"):
        model = MLPClassifier((5,), max_iter=1).fit(X, TARGETS[kind])
        model.intercepts_[-1][:] = np.resize([-1e4, 1e4], model.n_outputs_)
        log_P = model.predict_log_proba(X)
        assert np.isfinite(log_P).all()
        assert log_P.min() < -9000


def test_one_class_is_all_there_is():
    model = MLPClassifier((5,), max_iter=1).fit(X, ["a"] * 23)
    assert set(model.predict(X)) == {"a"}
    np.testing.assert_array_equal(model.predict_proba(X), np.ones((23, 1)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_type_of_the_data_is_that_of_the_results(dtype):
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2).fit(
        X.astype(dtype), TARGETS["numbers"]
    )
    assert {a.dtype for a in (*model.coefs_, *model.intercepts_)} == {np.dtype(dtype)}
    assert model.predict(X.astype(dtype)).dtype == dtype
    assert model.predict(X).dtype == dtype
    twin = pickle.loads(pickle.dumps(model)).partial_fit(X, TARGETS["numbers"])
    model.partial_fit(scipy.sparse.csr_array(X), TARGETS["numbers"])
    assert model.coefs_[0].dtype == dtype
    assert_same_weights(model, twin, 0)
    whole_numbers = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2).fit(
        X.astype(np.uint8), TARGETS["numbers"]
    )
    assert whole_numbers.coefs_[0].dtype == np.float64
    Y = whole_numbers.predict(X.astype(np.uint8))
    np.testing.assert_array_equal(Y, whole_numbers.predict(X.astype(np.uint8) / 255))  # pixels


def test_sixteen_threads_predict_at_once():
    features = np.random.RandomState(0).normal(size=(1500, 4))
    model = MLPClassifier((20,), max_iter=1).fit(X, TARGETS["multiclass"])
    expected, gate = model.predict_proba(features), Barrier(16)

    def predict(_):
        gate.wait()
        return all((model.predict_proba(features) == expected).all() for _ in range(5))

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(predict, range(16)))


# ---- sparse rows ---------------------------------------------------------------------------------

SPARSE = np.where(RNG.uniform(size=(2100, 30)) < 0.1, 1.0, 0.0)
LABELS = SPARSE[:, :3].argmax(axis=1)


@pytest.mark.parametrize("early", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("make", [scipy.sparse.csr_matrix, scipy.sparse.csc_array])
def test_sparse_rows_give_the_training_of_dense_ones(make, early):
    model = MLPClassifier((5,), max_iter=2, random_state=0, early_stopping=early)
    weights = np.arange(2100) % 4
    dense = clone(model).fit(SPARSE, LABELS, weights)
    sparse = clone(model).fit(make(SPARSE), LABELS, weights)
    assert_same_weights(dense, sparse, 0)
    np.testing.assert_array_equal(dense.predict_proba(SPARSE), sparse.predict_proba(make(SPARSE)))


def test_sparse_rows_are_never_dense_all_at_once(monkeypatch):
    sizes, to_dense = [], scipy.sparse.csr_array.toarray

    def toarray(matrix, *args, **kwargs):
        sizes.append(matrix.shape[0])
        return to_dense(matrix, *args, **kwargs)

    monkeypatch.setattr(scipy.sparse.csr_array, "toarray", toarray)
    rows = scipy.sparse.csr_array(SPARSE.astype(np.float32))
    MLPClassifier((5,), max_iter=2).fit(rows, LABELS).predict(rows)
    assert sizes == [200] * 10 + [100] + [200] * 10 + [100] + [1024, 1024, 52]


def test_sparse_rows_on_a_device(strict):
    model = MLPClassifier((5,), max_iter=2, random_state=0)
    sparse = clone(model).fit(scipy.sparse.csr_array(SPARSE.astype(np.float32)), LABELS)
    assert_same_weights(sparse, clone(model).fit(SPARSE.astype(np.float32), LABELS), 0)


# ---- backends ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TARGETS)
def test_every_backend_gives_the_same_training(kind, backend):
    options = {"hidden_layer_sizes": (6,), "activation": "tanh", "max_iter": 3, "batch_size": 7}
    model = MODELS[kind][0](**options, alpha=0.1, random_state=0, solver="sgd", dropout=0.2)
    here = clone(model).fit(X, TARGETS[kind], WEIGHTS)
    numpy = clone(model).set_params(backend="numpy").fit(X, TARGETS[kind], WEIGHTS)
    assert_same_weights(here, numpy, 1e-10)
    assert all(type(a) is np.ndarray for a in (*here.coefs_, *here.intercepts_))
    assert here.loss_curve_ == pytest.approx(numpy.loss_curve_, rel=1e-10)
    if backend.name != "numba":
        expected = numpy.predict(X)
        got = pickle.loads(pickle.dumps(here)).predict(X)
        if kind in ("one number", "numbers"):
            np.testing.assert_allclose(got, expected, rtol=1e-9)
        else:
            np.testing.assert_array_equal(got, expected)


def test_the_backend_may_be_an_object_or_a_name():
    used = []

    class Spy(type(find_backend("numpy"))):
        def affine(self, *args, **kwargs):
            used.append(self)
            return super().affine(*args, **kwargs)

    spy = Spy()
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=1, backend=spy).fit(
        X, TARGETS["one number"]
    )
    assert used
    assert clone(model).backend is spy
    used.clear()
    model.set_params(backend="numpy").predict(X)
    assert not used
    model.set_params(backend=spy).predict(X)
    assert used
    copied = pickle.loads(pickle.dumps(model))
    assert (copied.backend, copied.reproducible) == ("numpy", False)


def test_it_predicts_with_numpy_where_its_backend_is_not(monkeypatch, caplog):
    no_gpu = replace(KINDS["cupy"], why_not=lambda device: "there is no GPU")
    monkeypatch.setitem(KINDS, "cupy", no_gpu)
    y = TARGETS["one number"]
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=1).fit(X, y)
    expected = model.predict(X)
    model.set_params(backend="cuda:1")
    with caplog.at_level(logging.WARNING, "xpnet"):
        np.testing.assert_array_equal(model.predict(X), expected)
    assert [r.getMessage() for r in caplog.records] == [
        "predicting with NumPy: the backend 'cuda:1' cannot be used: there is no GPU"
    ]
    assert model.set_params(reproducible=True).predict(X).dtype == np.float32
    with pytest.raises(BackendError, match="'cuda:1' cannot be used"):
        model.fit(X, y)
    with pytest.raises(BackendError, match="unknown backend 'kupy'; did you mean 'cupy'"):
        model.set_params(backend="kupy").predict(X)


def test_it_is_said_once(monkeypatch, caplog):
    no_gpu = replace(KINDS["cupy"], why_not=lambda device: "none at all")
    monkeypatch.setitem(KINDS, "cupy", no_gpu)
    model = (
        MLPRegressor(hidden_layer_sizes=(5,), max_iter=1)
        .fit(X, TARGETS["one number"])
        .set_params(backend="cupy")
    )
    with caplog.at_level(logging.WARNING, "xpnet"):
        model.predict(X)
        model.predict(X)
    assert len(caplog.records) == 1


def test_reproducible_mode_computes_in_float32(backend):
    model = MLPClassifier((5,), max_iter=2, random_state=0, reproducible=True)
    here = clone(model).fit(X, TARGETS["multiclass"], WEIGHTS)
    numpy = clone(model).set_params(backend="numpy").fit(X, TARGETS["multiclass"], WEIGHTS)
    assert_same_weights(here, numpy, 0)
    np.testing.assert_array_equal(here.predict_proba(X), numpy.predict_proba(X))
    assert here.coefs_[0].dtype == here.predict_proba(X).dtype == np.float32
    trained_in_64 = clone(model).set_params(reproducible=None).fit(X, TARGETS["multiclass"])
    assert trained_in_64.set_params(reproducible=True).predict_proba(X).dtype == np.float32
    with pytest.raises(BackendError, match="reproducible is True or False; got 1"):
        model.set_params(reproducible=1).fit(X, TARGETS["multiclass"])


# ---- what is wrong -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"solver": "lbfg"},
            "unknown solver 'lbfg'; did you mean 'lbfgs'.*adam, adamw, lbfgs, rmsprop",
        ),
        ({"solver": ["adam"]}, "unknown solver"),
        ({"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'"),
        ({"activation": ["relu"] * 2}, "activation has 2 values for 1 hidden layers"),
        ({"activation": [0]}, "unknown activation '0'"),
        ({"dropout": [0.1, 0.2]}, "dropout has 2 values for 1 hidden layers"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1; got 1.0"),
        ({"hidden_layer_sizes": (4, 0)}, "each of hidden_layer_sizes must be a whole number"),
        ({"hidden_layer_sizes": 2.5}, "each of hidden_layer_sizes .* got 2.5"),
        ({"alpha": -1}, "alpha must be 0 or more"),
        ({"alpha": None}, "alpha must be a number; got None"),
        ({"batch_size": "all"}, "batch_size must be 'auto' or a whole number; got 'all'"),
        ({"batch_size": 0}, "batch_size must be a whole number, 1 or more; got 0"),
        ({"learning_rate": "cosine"}, "unknown learning_rate 'cosine'"),
        ({"learning_rate_init": 0}, "learning_rate_init must be positive"),
        ({"power_t": -1}, "power_t must be 0 or more"),
        ({"max_iter": 0}, "max_iter must be a whole number, 1 or more"),
        ({"shuffle": "no"}, "shuffle must be True or False; got 'no'"),
        ({"warm_start": 1}, "warm_start must be True or False; got 1"),
        ({"early_stopping": None}, "early_stopping must be True or False"),
        ({"nesterovs_momentum": 0}, "nesterovs_momentum must be True or False"),
        ({"random_state": -1}, "random_state must be a whole number, 0 or more"),
        ({"tol": -1}, "tol must be 0 or more"),
        ({"n_iter_no_change": 0}, "n_iter_no_change must be a whole number, 1 or more"),
        ({"momentum": 1.0, "solver": "sgd"}, "momentum must be at least 0 and below 1"),
        ({"beta_1": 1.0}, "beta_1 must be at least 0 and below 1"),
        ({"beta_2": -0.1, "solver": "adamw"}, "beta_2 must be at least 0 and below 1"),
        ({"epsilon": 0}, "epsilon must be positive"),
        ({"epsilon": 0, "solver": "rmsprop"}, "epsilon must be positive"),
        ({"validation_fraction": 1.0}, "validation_fraction must be at least 0 and below 1"),
        (
            {"validation_fraction": 0.01, "early_stopping": True},
            "0.01 of 23 samples is less than 2",
        ),
    ],
    ids=str,
)
def test_a_wrong_parameter_is_refused_by_fit(options, message):
    model = MLPRegressor(**{"hidden_layer_sizes": (4,), "max_iter": 1} | options)
    with pytest.raises(OptionError, match=message) as error:
        model.fit(X, TARGETS["one number"])
    assert isinstance(error.value, ValueError)
    assert not hasattr(model, "coefs_")


def test_numbers_of_numpy_are_parameters_too():
    model = MLPRegressor(
        hidden_layer_sizes=np.array([4, 3]),
        max_iter=np.int64(2),
        shuffle=np.bool_(False),
        alpha=np.float32(0.1),
        n_iter_no_change=np.inf,
        random_state=np.int32(3),
    )
    model.fit(X, TARGETS["one number"])
    assert [W.shape for W in model.coefs_] == [(4, 4), (4, 3), (3, 1)]
    assert MLPRegressor(hidden_layer_sizes=4, max_iter=1).fit(X, TARGETS["one number"]).coefs_[
        0
    ].shape == (4, 4)
    assert (
        len(MLPRegressor(hidden_layer_sizes=(), max_iter=1).fit(X, TARGETS["one number"]).coefs_)
        == 1
    )


def test_partial_fit_has_no_validation_data():
    with pytest.raises(
        OptionError,
        match=r"partial_fit does not support early_stopping=True.*set early_stopping=False",
    ):
        MLPRegressor(early_stopping=True).partial_fit(X, TARGETS["one number"])


def test_an_error_names_what_can_be_done_about_it():
    model = MLPRegressor(solver="sgd", learning_rate_init=1e6)
    y = TARGETS["one number"]
    for inputs, targets, words in (
        (1e6 * X, y, r"the inputs are large, .*: scale them, as X / abs\(X\).max\(\)$"),
        (scipy.sparse.csr_matrix(1e6 * X), y, r"the inputs are large, .*: scale them, as X / "),
        (X, 1e20 * y, r"the targets are large, .*: scale them, as y / abs\(y\).max\(\)$"),
        (X, y, r"; lower learning_rate_init \(now 1000000.0\)$"),
    ):
        with pytest.raises(DivergenceError, match=words):
            model.fit(inputs, targets)
    with pytest.raises(DataError, match="columns with more than two classes"):
        MLPClassifier().fit(X, RNG.randint(3, size=(23, 2)))
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(MLPClassifier(), method)(X)


# ---- beside the rest of scikit-learn -------------------------------------------------------------


@pytest.mark.thorough
def test_pipeline_search_and_cross_validation():
    features, y = load_breast_cancer(return_X_y=True)
    features, y = features[::4], y[::4]
    pipeline = make_pipeline(
        StandardScaler(), MLPClassifier((8,), learning_rate_init=0.01, max_iter=30, random_state=0)
    )
    search = GridSearchCV(
        pipeline, {"mlpclassifier__alpha": [1e-4, 1.0]}, cv=2, n_jobs=2, error_score="raise"
    )
    search.fit(features, y)
    assert search.best_score_ > 0.9
    regression = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.05)
    )
    features, y = load_diabetes(return_X_y=True)
    assert cross_val_score(regression, features, y, cv=3).mean() > 0.3


@pytest.mark.parametrize("where", ["pickle", "joblib"])
def test_it_comes_back_from_a_file_and_goes_on(where, tmp_path):
    model = MLPClassifier((5,), max_iter=3, batch_size=7, random_state=0)
    model.fit(X, TARGETS["binary"])
    if where == "pickle":
        again = pickle.loads(pickle.dumps(model))
    else:
        joblib.dump(model, tmp_path / "model.joblib")
        again = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    for m in (model, again):
        m.partial_fit(X, TARGETS["binary"])
    assert_same_weights(model, again, 0)
    assert vars(clone(model)).keys() == model.get_params().keys()


def test_a_data_frame_gives_names_to_the_features():
    pandas = pytest.importorskip("pandas", reason="needs pandas")
    frame = pandas.DataFrame(X, columns=list("abcd"))
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=1).fit(frame, TARGETS["one number"])
    assert model.feature_names_in_.tolist() == list("abcd")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame.rename(columns={"a": "z"}))


def test_digits_are_learnt():
    features, y = load_digits(return_X_y=True)
    model = MLPClassifier(learning_rate_init=0.01, max_iter=15, random_state=0)
    model.fit(features[:1300] / 16, y[:1300])
    assert model.score(features[1300:] / 16, y[1300:]) > 0.9


# ---- bench/estimators.py -------------------------------------------------------------------------


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "bench")
    module = import_module("estimators")
    monkeypatch.delitem(sys.modules, "estimators")
    monkeypatch.setattr(xpnet, "available_backends", lambda: ["numpy", "cupy"])
    return module


@pytest.mark.thorough
def test_the_comparison_runs(bench, monkeypatch, tmp_path, capsys):
    out = tmp_path / "estimators.json"
    monkeypatch.setattr(sys, "argv", ["estimators.py", "--quick", "--out", str(out)])
    bench.main()
    found = json.loads(out.read_text(encoding="utf-8"))["data"]["wine"]
    assert found.keys() == {"scikit-learn", "numpy"}
    assert found["numpy"]["score"] > 0.9
    assert (found["scikit-learn"]["ratio"], found["scikit-learn"]["difference"]) == (1, 0)
    printed = capsys.readouterr().out.splitlines()
    assert [line.count("|") for line in printed] == [9] * 4


def test_the_documentation_has_the_present_numbers(bench, monkeypatch, tmp_path):
    before = bench.PAGE.read_text(encoding="utf-8")
    monkeypatch.setattr(bench, "PAGE", tmp_path / "page.md")
    changed = before.replace("| digits | numpy |", "| digits | other |")
    bench.PAGE.write_text(changed, encoding="utf-8")
    bench.into_the_page(json.loads(bench.OUT.read_text(encoding="utf-8")))
    assert bench.PAGE.read_text(encoding="utf-8") == before
    assert before.count("\n| digits | ") == 3


def test_the_comparison_tells_noise_from_difference(bench):
    def rows(scores, seconds):
        seeds = range(len(scores))
        return [
            {"seed": s, "seconds": t, "epochs": 10 * t, "score": x}
            for s, x, t in zip(seeds, scores, seconds, strict=True)
        ]

    theirs = rows([0.9, 0.8, 0.7], [4, 6, 20])
    better = bench.summary(rows([0.95, 0.86, 0.75], [2, 1, 4]), theirs)
    assert not better["within_noise"]
    assert better["difference"] == pytest.approx(0.16 / 3)
    assert better["error"] == pytest.approx(np.std([0.05, 0.06, 0.05], ddof=1) / np.sqrt(3))
    assert (better["seconds"], better["ratio"], better["ratio_of_an_epoch"]) == (2, 5, 1)
    assert "!" in bench.row("wine", "numpy", better)
    other = bench.summary(rows([0.95, 0.75, 0.7], [1, 1, 1]), theirs)
    assert other["within_noise"]
    assert "!" not in bench.row("wine", "numpy", other)
