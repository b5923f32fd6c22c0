"""Advice of the estimators."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import xpnet
from advice import advice, refused

X = np.sin(np.arange(120.0) ** 2).reshape(40, 3)
T = (X[:, 0] > 0).astype(int)
NUMBERS = X @ [1.0, -2.0, 0.5]


def made(name, **options):
    """Make a small estimator, or skip where there is no scikit-learn."""
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    import xpnet.estimators as estimators

    return getattr(estimators, f"MLP{name}")(**{"hidden_layer_sizes": (4,), **options})


def fits(model, X=X, y=T):
    """Fit a model without any warning, then look at what it has learnt."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y)
    assert model.score(X, y) > 0.7
    return model


CLASSIFIER = {"learning_rate_init": 0.05, "max_iter": 400, "random_state": 0}


@advice("partial_fit does not support early_stopping=True: it has no validation data")
def _():
    model = made("Classifier", early_stopping=True)
    with refused(xpnet.OptionError, "set early_stopping=False"):
        model.partial_fit(X, T, classes=[0, 1])
    model.set_params(early_stopping=False).partial_fit(X, T, classes=[0, 1])


@advice("the training cannot go on: hidden_layer_sizes={}, but coefs_ has hidden layers of")
def _():
    model = fits(made("Classifier", **CLASSIFIER, warm_start=True))
    model.hidden_layer_sizes = (5,)
    with refused(xpnet.OptionError, "use warm_start=False, or a clone of the estimator"):
        model.fit(X, T)
    from sklearn.base import clone

    assert fits(clone(model)).coefs_[0].shape == (3, 5)
    assert fits(model.set_params(warm_start=False)).coefs_[0].shape == (3, 5)


@advice("The validation set is too small: validation_fraction={} of {} samples is less than 2")
def _():
    options = {**CLASSIFIER, "early_stopping": True, "n_iter_no_change": 50}
    model = made("Regressor", **options, validation_fraction=0.02)
    with refused(xpnet.OptionError, "raise it, or give more data"):
        model.fit(X, NUMBERS)
    fits(model, np.vstack([X] * 4), np.hstack([NUMBERS] * 4))
    fits(model.set_params(validation_fraction=0.2), X, NUMBERS)


@advice("the loss is {} after {} iterations of lbfgs; scale the features and the targets")
def _():
    from sklearn.exceptions import ConvergenceWarning

    model, large, y = made("Regressor", solver="lbfgs", random_state=0), X * 1e200, NUMBERS * 1e200
    words = "of lbfgs; scale the features and the targets"
    with pytest.warns(ConvergenceWarning), refused(xpnet.DivergenceError, words):
        model.fit(large, y)
    fits(model, large / abs(large).max(), y / abs(y).max())


def diverges(words, X, y, **options):
    """Fit a model that diverges, and check the advice; return a model with the same options."""
    options = {"solver": "sgd", "activation": "identity", **CLASSIFIER} | options
    with refused(xpnet.DivergenceError, words):
        made("Regressor", **options).fit(X, y)
    return made("Regressor", **options)


@advice("lower learning_rate_init (now {})")
def _():
    model = diverges(
        "; lower learning_rate_init (now 1000000.0)", X, NUMBERS, learning_rate_init=1e6
    )
    fits(model.set_params(learning_rate_init=0.05), X, NUMBERS)


@advice(
    "the outputs for the validation data are not finite after epoch {}: {}; lower learning_rate"
)
def _():
    options = {"solver": "adam", "learning_rate_init": 1e38, "early_stopping": True}
    X32 = X.astype(np.float32)
    model = diverges("; lower learning_rate_init (now 1e+38)", X32, NUMBERS, **options)
    fits(model.set_params(learning_rate_init=0.05, n_iter_no_change=50), X32, NUMBERS)


@advice("class_weight={} cannot be known from a part of the data; give partial_fit a dict")
def _():
    model = made("Classifier", class_weight="balanced")
    with refused(xpnet.OptionError, "give partial_fit a dict of the weights, or sample_weight"):
        model.partial_fit(X, T, classes=[0, 1])
    made("Classifier", class_weight={0: 1.0, 1: 2.0}).partial_fit(X, T, classes=[0, 1])
    made("Classifier").partial_fit(X, T, classes=[0, 1], sample_weight=1.0 + T)


@advice("warm_start can only be used where `y` has the same classes as in the previous call")
def _():
    model = fits(made("Classifier", **CLASSIFIER, warm_start=True))
    with refused(xpnet.DataError, "use partial_fit for a part of the classes, or warm_start=False"):
        model.fit(X, 0 * T)
    model.partial_fit(X, 0 * T)
    fits(model.set_params(warm_start=False), X, T + 5)


@advice("y or classes has classes other than those of the first call, {}; name all of them there")
def _():
    model = made("Classifier", **CLASSIFIER).partial_fit(X, T, classes=[0, 1])
    with refused(xpnet.DataError, "partial_fit has the argument classes), or begin anew"):
        model.partial_fit(X, T + 1)
    fits(model, X, T + 1)  # anew
    made("Classifier").partial_fit(X, T, classes=[0, 1, 2]).partial_fit(X, T + 1)


@advice("raise {} (now {})")
def _():
    from sklearn.exceptions import ConvergenceWarning

    for limit in ("max_iter", "max_fun"):
        model = made("Regressor", solver="lbfgs", random_state=0, **{limit: 4})
        with pytest.warns(ConvergenceWarning, match=rf"\); raise {limit} \(now 4\)$"):
            model.fit(X, NUMBERS)
        fits(model.set_params(**{limit: 2000}), X, NUMBERS)


@advice("scale the features and the targets")
def _():
    from sklearn.exceptions import ConvergenceWarning

    model, large = made("Regressor", solver="lbfgs", random_state=0), X * 1e20
    with pytest.warns(ConvergenceWarning, match=r"\); scale the features and the targets$"):
        model.fit(large, NUMBERS)
    fits(model, large / abs(large).max(), NUMBERS / abs(NUMBERS).max())


@advice("callbacks must be a list of callbacks or None; got {}; write callbacks=[...]")
def _():
    stop = xpnet.EarlyStopping("loss", patience=500)
    model = made("Classifier", **CLASSIFIER, callbacks=stop)
    with refused(xpnet.OptionError, "; write callbacks=[...]"):
        model.fit(X, T)
    fits(model.set_params(callbacks=[stop]))
    assert stop.best is not None


@advice(
    "solver='lbfgs' has no epochs that early_stopping=True could stop",
    "solver='lbfgs' has no epochs that callbacks could see; leave them out",
    "set dropout=0 or choose 'adam'; got dropout={}",
)
def _():
    wrong = {"early_stopping": True, "callbacks": [xpnet.Recorder()], "dropout": 0.1}
    right = {"early_stopping": False, "callbacks": None, "dropout": 0}
    for name, value in wrong.items():
        model = made("Classifier", solver="lbfgs", **{name: value})
        with refused(xpnet.OptionError, "solver='lbfgs' "):
            model.fit(X, T)
        fits(model.set_params(**{name: right[name]}))
        if name == "callbacks":
            continue
        for solver in ("adam", "sgd") if name == "early_stopping" else ("adam",):
            fits(model.set_params(**CLASSIFIER, solver=solver, **{name: value}))


@advice("callbacks: {} watches {}, but there are no validation data; set early_stopping=True")
def _():
    stop = xpnet.EarlyStopping("val_loss", patience=30)
    model = made("Classifier", **CLASSIFIER, callbacks=[stop])
    with refused(xpnet.OptionError, "set early_stopping=True, which puts validation_fraction of"):
        model.fit(X, T)
    fits(model.set_params(early_stopping=True, n_iter_no_change=50))
    assert stop.best is not None


@advice("loss must be a name, {}; got {}. It comes first, as in scikit-learn")
def _():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from xpnet.estimators import MLPRegressor

    with refused(xpnet.OptionError, "; write hidden_layer_sizes=... for the sizes"):
        MLPRegressor((4, 4)).fit(X, NUMBERS)
    fits(MLPRegressor(hidden_layer_sizes=(4, 4), **CLASSIFIER), X, NUMBERS)


@advice("y has columns with more than two classes; fit one model to each")
def _():
    y = np.stack([T + (X[:, 1] > 0.5), T + (X[:, 2] > 0.5)], axis=1)
    with refused(xpnet.DataError, "; fit one model to each"):
        made("Classifier").fit(X, y)
    for column in y.T:
        fits(made("Classifier", solver="lbfgs", max_iter=1000, random_state=0), X, column)
