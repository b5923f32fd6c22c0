"""L-BFGS, the way out of an estimator, and what a callback may watch."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning

import xpnet
from xpnet import DataError, DivergenceError, OptionError, ShapeError
from xpnet.estimators import MLPClassifier, MLPRegressor
from xpnet.estimators.lbfgs import Objective
from xpnet.estimators.solvers import CorrectedRate
from xpnet.losses import SoftmaxCrossEntropy

RNG = np.random.RandomState(3)
X = RNG.normal(size=(40, 4))
LABELS = RNG.randint(3, size=40)
NUMBERS = X @ RNG.normal(size=(4, 2)) + np.sin(X[:, :2])
WEIGHTS = RNG.uniform(0.1, 3, 40)
PAIRS = {
    "classes": ((MLPClassifier, neural_network.MLPClassifier), LABELS),
    "two": ((MLPClassifier, neural_network.MLPClassifier), LABELS > 0),
    "number": ((MLPRegressor, neural_network.MLPRegressor), NUMBERS[:, 0]),
    "counts": ((MLPRegressor, neural_network.MLPRegressor), np.arange(40) % 5),
}
LBFGS = {"solver": "lbfgs", "hidden_layer_sizes": (6,), "random_state": 0, "alpha": 0.1}


# ---- L-BFGS ----


@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("kind", PAIRS)
def test_lbfgs_takes_the_way_of_scikit_learn(kind, weighted):
    """The same first weights, loss and gradient: both reach the same place in as many steps."""
    models, y = PAIRS[kind]
    loss = {"loss": "poisson"} if kind == "counts" else {}
    both = [model(**LBFGS, **loss, max_iter=12, activation="tanh") for model in models]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in both:
            model.fit(X, y, sample_weight=WEIGHTS if weighted else None)
    ours, theirs = both
    assert ours.n_iter_ == theirs.n_iter_
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-8)
    for a, b in zip(ours.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-4)
    assert ours.out_activation_ == theirs.out_activation_


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_the_poisson_loss_of_several_outputs_is_that_of_scikit_learn(solver):
    """It is the sum over the outputs there, unlike the squared error."""
    counts = np.random.RandomState(2).poisson(2, (len(X), 3)).astype(float)
    options = {"loss": "poisson", "hidden_layer_sizes": (4,), "random_state": 3, "solver": solver}
    models = [
        model(**options, shuffle=False, max_iter=4, learning_rate_init=1e-3)
        for model in (MLPRegressor, neural_network.MLPRegressor)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        ours, theirs = (model.fit(X, counts) for model in models)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-5)


def test_counts_are_not_negative():
    with pytest.raises(DataError, match="y must be 0 or more for the loss 'poisson'; got -1"):
        MLPRegressor(loss="poisson").fit(X, np.arange(40) - 1)


def test_the_gradient_of_the_objective_is_that_of_its_value():
    net = xpnet.Sequential(xpnet.Linear(4, 3), xpnet.Tanh(), xpnet.Linear(3, 3), dtype="float64")
    is_weight = np.concatenate([np.ones(12), np.zeros(3), np.ones(9), np.zeros(3)])
    batches = [slice(0, 25), slice(25, 40)]
    data = [scipy.sparse.csr_array(X), LABELS, WEIGHTS]
    f = Objective(net, SoftmaxCrossEntropy(), data, 0.7, is_weight, batches)
    p = RNG.normal(size=27)
    gradient = f(p)[1]
    for k in range(27):
        h = np.zeros(27)
        h[k] = 1e-6
        assert gradient[k] == pytest.approx((f(p + h)[0] - f(p - h)[0]) / 2e-6, abs=1e-8)
    whole = Objective(net, SoftmaxCrossEntropy(), [X, LABELS, WEIGHTS], 0.7, is_weight, [slice(40)])
    assert whole(p)[0] == pytest.approx(f(p)[0], rel=1e-13)


def test_lbfgs_of_several_numbers_minimises_the_loss_that_it_reports():
    model = MLPRegressor(**LBFGS, max_iter=3000, tol=1e-6).fit(X, NUMBERS)
    at_the_end = model.loss_
    errors = ((model.predict(X) - NUMBERS) ** 2).sum(axis=1) / 2
    penalty = 0.1 * sum((W**2).sum() for W in model.coefs_) / (2 * 40)
    assert at_the_end == pytest.approx(errors.mean() / 2 + penalty)  # the mean of two outputs
    assert model.loss_curve_[0] > 3 * at_the_end
    assert len(model.loss_curve_) == model.n_iter_
    assert model.score(X, NUMBERS) > 0.9


def test_lbfgs_stops_at_max_fun_and_at_max_iter():
    for limit in ("max_fun", "max_iter"):
        with pytest.warns(ConvergenceWarning, match=rf"not converged.*; raise {limit} \(now 4\)$"):
            model = MLPRegressor(**LBFGS, tol=0.0, **{limit: 4}).fit(X, NUMBERS[:, 0])
        assert 0 < model.n_iter_ <= 4


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"early_stopping": True}, "no epochs that early_stopping=True could stop"),
        ({"callbacks": [xpnet.Recorder()]}, "no epochs that callbacks could see"),
        ({"dropout": 0.5}, "set dropout=0 or choose 'adam'; got dropout=0.5"),
    ],
)
def test_lbfgs_refuses_what_it_cannot_do(options, words):
    with pytest.raises(OptionError, match=words):
        MLPClassifier(**LBFGS, **options).fit(X, LABELS)
    with pytest.raises(AttributeError, match="partial_fit"):
        MLPClassifier(**LBFGS).partial_fit(X, LABELS)


# ---- Adam ----


def test_the_rate_of_adam_is_corrected_as_a_whole():
    rate = CorrectedRate(0.1, 0.9, 0.99)
    assert rate(0) == pytest.approx(0.1 * np.sqrt(0.01) / 0.1)
    assert rate(10_000) == pytest.approx(0.1)


# ---- what diverges ----


def test_validation_outputs_that_are_not_finite_name_the_layer():
    features, y = load_iris(return_X_y=True)
    model = MLPRegressor(
        hidden_layer_sizes=100,
        activation="identity",
        solver="sgd",
        learning_rate_init=1,
        max_iter=20,
        early_stopping=True,
        random_state=0,
    )
    words = r"layer 2, Linear\(100, 1\).*learning_rate_init \(now 1\)"
    with pytest.raises(DivergenceError, match=words):
        model.fit(features, y)


# ---- what fit is given ----


def test_going_on_needs_the_same_classes():
    model = MLPClassifier((4,), warm_start=True, max_iter=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, LABELS).fit(X, LABELS)
    words = r"`y` has the same classes.*Previously got \[0 1 2\], `y` has \[0 1\]"
    with pytest.raises(DataError, match=words):
        model.fit(X[LABELS < 2], LABELS[LABELS < 2])
    model.partial_fit(X[LABELS < 2], LABELS[LABELS < 2])  # what the message advises


def test_an_error_names_a_class_as_the_user_wrote_it():
    words = np.array(["cat", "dog"])[(np.arange(40) == 0).astype(int)]
    with pytest.raises(ValueError, match="dog"):
        MLPClassifier(early_stopping=True).fit(X, words)


@pytest.mark.parametrize("weight", [2.0, np.float32(2), np.array(2.0)])
def test_one_weight_is_for_all(weight):
    models = [MLPRegressor(hidden_layer_sizes=(4,), max_iter=2, random_state=0) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        models[0].fit(X, NUMBERS, sample_weight=weight)
        models[1].fit(X, NUMBERS, sample_weight=np.full(40, 2.0))
    np.testing.assert_array_equal(models[0].coefs_[0], models[1].coefs_[0])


def test_a_column_of_weights_is_refused():
    with pytest.raises(ShapeError, match=r"sample_weight must have the shape \(40,\).*\(40, 1\)"):
        MLPRegressor().fit(X, NUMBERS, sample_weight=np.ones((40, 1)))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"class_weight": [1]}, r"class_weight=\[1\] does not fit y"),
        ({"class_weight": 3}, "class_weight must be a dict, 'balanced' or None; got 3"),
        ({"callbacks": xpnet.Recorder()}, r"callbacks must be a list.*write callbacks=\[\.\.\.\]"),
        ({"callbacks": [3]}, "3"),
        ({"verbose": "yes"}, "verbose must be True, False or a whole number; got 'yes'"),
        ({"max_fun": 0}, "max_fun must be a whole number, 1 or more; got 0"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options, words):
    with pytest.raises(OptionError, match=words):
        MLPClassifier(**options).fit(X, LABELS)


def test_the_sizes_in_the_place_of_the_loss():
    with pytest.raises(OptionError, match=r"got \(5,\).*write hidden_layer_sizes="):
        MLPRegressor((5,)).fit(X, NUMBERS)


# ---- callbacks ----


def test_a_callback_may_watch_the_validation_loss():
    stop = xpnet.EarlyStopping("val_loss", patience=2, min_delta=100.0)
    model = MLPClassifier(
        (4,), early_stopping=True, validation_fraction=0.3, callbacks=[stop], random_state=0
    )
    model.fit(X, LABELS)
    assert model.n_iter_ == 3  # the first is the best, and two more are waited for
    assert stop.best > 0


def test_without_validation_data_nothing_can_watch_them():
    model = MLPClassifier(callbacks=[xpnet.EarlyStopping()])
    with pytest.raises(OptionError, match=r"watches 'val_loss'.*set early_stopping=True"):
        model.fit(X, LABELS)


# ---- a network ----


@pytest.mark.parametrize("kind", ["classes", "two", "number"])
def test_what_has_been_learnt_is_a_network(kind, tmp_path):
    (ours, _), y = PAIRS[kind]
    model = ours(hidden_layer_sizes=(6,), random_state=0, max_iter=500, tol=0.1).fit(X, y)
    net = model.to_sequential()
    expected = model.predict_proba(X) if kind != "number" else model.predict(X)[:, None]
    expected = expected[:, 1:] if kind == "two" else expected
    np.testing.assert_allclose(net.predict(X), expected, rtol=1e-12)
    net.params[:] = 0  # a copy: the estimator keeps its own
    assert np.abs(model.coefs_[0]).max() > 0
    onnx = pytest.importorskip("onnx.reference", reason="onnx is not installed")
    xpnet.exchange.to_onnx(model.to_sequential(), tmp_path / "net.onnx", sample_shape=(4,))
    session = onnx.ReferenceEvaluator(str(tmp_path / "net.onnx"))
    found = session.run(None, {session.input_names[0]: X})[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


# ---- weights that a user sets, and older pickles ----


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.coefs_.__setitem__(0, np.zeros((4, 7))), r"coefs_\[0\] must have the shape"),
        (lambda m: m.coefs_.pop(), "not weights of a network"),
        (lambda m: setattr(m, "coefs_", None), "not weights of a network"),
        (lambda m: m.coefs_[0].__setitem__((0, 0), np.nan), "must be finite numbers"),
        (lambda m: m.intercepts_.__setitem__(0, 3.0), "not weights of a network|intercepts_"),
        (lambda m: m.coefs_.__setitem__(0, [["a"] * 6] * 4), "not weights|must be finite numbers"),
    ],
)
def test_weights_that_make_no_network_are_refused(change, words):
    model = MLPClassifier((6,), solver="lbfgs", random_state=0).fit(X, LABELS)
    change(model)
    with pytest.raises(OptionError, match=words):
        model.predict(X)


def test_weights_that_a_user_sets_take_effect():
    model = MLPRegressor(hidden_layer_sizes=(6,), tol=1, random_state=0)
    model.fit(X, NUMBERS[:, 0])
    model.coefs_ = [np.zeros_like(W).tolist() for W in model.coefs_]
    model.intercepts_[1] = np.array([2.5])
    np.testing.assert_array_equal(model.predict(X), np.full(40, 2.5))


@pytest.mark.parametrize("kind", ["classes", "number"])
def test_a_pickle_of_version_0_1_lacks_what_is_new(kind):
    (ours, _), y = PAIRS[kind]
    model = ours(hidden_layer_sizes=(6,), random_state=0, tol=1, max_iter=30).fit(X, y)
    state = model.__getstate__()
    for name in ("max_fun", "_sparse_labels", "_optimizer"):
        state.pop(name, None)
    old = ours.__new__(ours)
    old.__setstate__(state)
    np.testing.assert_array_equal(old.predict(X), model.predict(X))
    assert "max_fun=15000" not in repr(old)
    assert old.get_params()["max_fun"] == 15000
    old.partial_fit(X, y)


def test_a_callback_sees_weighted_and_sparse_validation_data():
    for features, w in ((X, WEIGHTS), (scipy.sparse.csr_array(X), None)):
        stop = xpnet.EarlyStopping("val_loss", patience=1, min_delta=100.0)
        model = MLPClassifier((4,), early_stopping=True, callbacks=[stop], random_state=0)
        model.set_params(validation_fraction=0.3).fit(features, LABELS, sample_weight=w)
        assert model.n_iter_ == 2


def test_the_weights_that_a_callback_brings_back_count():
    stop = xpnet.EarlyStopping("val_loss", patience=3, min_delta=100.0)  # the first epoch is best
    model = MLPClassifier(
        (4,), early_stopping=True, validation_fraction=0.3, callbacks=[stop], random_state=0
    )
    model.fit(X, LABELS)
    first = MLPClassifier(
        (4,),
        early_stopping=True,
        validation_fraction=0.3,
        max_iter=1,
        random_state=0,
        callbacks=[xpnet.EarlyStopping("val_loss")],
    )
    with pytest.warns(ConvergenceWarning):
        first.fit(X, LABELS)
    np.testing.assert_array_equal(model.coefs_[0], first.coefs_[0])


def test_lbfgs_says_that_a_loss_is_not_finite():
    with (
        pytest.warns(ConvergenceWarning),
        pytest.raises(DivergenceError, match="lbfgs; scale the features"),
    ):
        MLPRegressor(**LBFGS).fit(X * 1e200, NUMBERS)


@pytest.mark.parametrize("seed", ["a", 1.5, np.random.default_rng(0)])
def test_a_seed_that_is_none_is_refused_by_name(seed):
    with pytest.raises(OptionError, match="random_state must be a whole number"):
        MLPClassifier(random_state=seed).fit(X, LABELS)
