"""Trials of the estimators: fitted on a few rows."""

from __future__ import annotations

import numpy as np

import xpnet
from contracts.subject import New, Subject
from contracts.trial import plain_data
from xpnet.estimators import MLPClassifier, MLPRegressor

X = np.linspace(-1, 1, 60).reshape(20, 3) ** 3
Y = np.arange(20) % 3
GIVEN = {"hidden_layer_sizes": (4,), "max_iter": 3, "random_state": 1}


def fit(estimator):
    estimator.fit(X, Y)


def outcome(estimator):
    estimator.fit(X, Y)
    estimator.fit(X, Y)  # once more, for warm_start
    more = [estimator.predict_proba(X)] if hasattr(estimator, "predict_proba") else []
    scores = getattr(estimator, "validation_scores_", None)
    return plain_data(
        [estimator.predict(X), estimator.coefs_, estimator.loss_curve_, scores, *more]
    )


SGD = {"solver": "sgd", "learning_rate_init": 0.05}
EARLY = {"early_stopping": True, "max_iter": 60, "n_iter_no_change": 2, "validation_fraction": 0.4}
CONTEXT = {
    "power_t": {**SGD, "learning_rate": "invscaling"},
    "learning_rate": SGD,
    "momentum": SGD,
    "nesterovs_momentum": SGD,
    "shuffle": {"batch_size": 5},
    "tol": {"max_iter": 60, "n_iter_no_change": 2, "tol": 1e-9},
    "n_iter_no_change": {**EARLY, "tol": 0.5},
    "early_stopping": {"validation_fraction": 0.4},
    "validation_fraction": EARLY,
    "max_fun": {"solver": "lbfgs", "max_iter": 60, "max_fun": 3},
}


def subjects():
    """Return the two estimators."""
    other = {
        "hidden_layer_sizes": (5,),
        "activation": "tanh",
        "solver": "sgd",
        "batch_size": 7,
        "n_iter_no_change": 4,
        "learning_rate": "invscaling",
        "random_state": 2,
        "dropout": 0.5,
        "tol": 0.5,
        "loss": "poisson",
        "class_weight": {0: 2.0, 1: 1.0, 2: 1.0},
        "validation_fraction": 0.3,
        "callbacks": New(lambda: [xpnet.EarlyStopping("loss", patience=1, min_delta=9.0)]),
        "nesterovs_momentum": False,
        "max_fun": 5,
    }
    same = "another backend computes the same, to the last digits: see the tests of parity"
    shown = "prints rows, see its tests"
    for kind in (MLPClassifier, MLPRegressor):
        yield Subject(
            "Estimators",
            kind.__name__,
            kind,
            fit,
            outcome,
            kind,
            given=GIVEN,
            other=other,
            context=CONTEXT,
            fixed={"backend": same, "verbose": shown},
        )
