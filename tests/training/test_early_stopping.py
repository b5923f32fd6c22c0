"""EarlyStopping: what it watches, in which direction, and what it refuses before the first step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from xpnet.metrics import Metric

import xpnet
from xpnet import EarlyStopping, OptionError

sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
rng = np.random.default_rng(0)
X = rng.normal(size=(60, 2))
T = (X[:, 0] > 0).astype(int)


def f1(t, Y):
    return sk.f1_score(t, Y.argmax(axis=1))


def made(metrics=()):
    net = xpnet.Sequential(xpnet.Linear(2, 2), dtype="float64")
    return xpnet.Trainer(net, "softmax_cross_entropy", xpnet.Adam(net, 0.01), metrics=metrics)


def fit(trainer, early, **options):
    options = {"epochs": 3, "validation_data": (X, T)} | options
    return trainer.fit(X, T, callbacks=[early], **options)


@pytest.mark.parametrize("monitor", ["val_f1", "val_auc", "val_acc", "val_precise", "val_my_score"])
def test_an_unknown_direction_is_asked_for_before_the_first_step(monitor):
    metric = Metric(f1, name=monitor.removeprefix("val_"))
    trainer = made([metric])
    with pytest.raises(OptionError, match=f"'{monitor}'.*smaller or larger.*mode=.max.") as raised:
        fit(trainer, EarlyStopping(monitor))
    assert trainer.epoch == trainer.optimizer.t == 0
    assert f"EarlyStopping({monitor!r}, mode=" in str(raised.value)
    early = EarlyStopping(monitor, mode="max")  # the two ways out
    history = fit(trainer, early)
    assert early.best == max(history[monitor])
    early = EarlyStopping(monitor)
    history = fit(made([Metric(f1, "max", metric.name)]), early)
    assert early.best == max(history[monitor])


@pytest.mark.parametrize(
    ("metric", "name", "sign"),
    [
        ("accuracy", "accuracy", -1),
        ("f1", "f1", -1),
        ("rmse", "rmse", 1),
        (Metric(f1, "min"), "f1", 1),
        (Metric(lambda t, Y: np.abs(Y).max(), "min", "accuracy"), "accuracy", 1),
    ],
)
def test_the_metric_gives_the_direction(metric, name, sign):
    early, trainer = EarlyStopping(f"val_{name}"), made([metric] if name != "rmse" else ())
    trainer.metrics |= {} if name != "rmse" else {"rmse": Metric(lambda t, Y: 1.0, "min", "rmse")}
    assert early.sign is None
    fit(trainer, early)
    assert early.sign == sign
    assert EarlyStopping("loss").sign == EarlyStopping().sign == 1
    assert EarlyStopping("val_loss", mode="max").sign == -1


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy", "accuracy", "val_f1", "acc"])
@pytest.mark.parametrize("mode", ["auto", "max"])
def test_what_the_history_will_not_have_is_refused_before_the_first_step(monitor, mode):
    trainer, early = made(["accuracy"]), EarlyStopping(monitor, mode=mode)
    with pytest.raises(OptionError, match=f"watches '{monitor}', but the history has loss.*valid"):
        fit(trainer, early, validation_data=None)
    assert trainer.optimizer.t == 0
    if not monitor.startswith(("val_loss", "val_accuracy")):
        with pytest.raises(OptionError, match="the history has loss, val_loss, val_accuracy"):
            fit(trainer, early)
    assert trainer.optimizer.t == 0


def scripted(numbers, mode, **options):
    script = iter(numbers)
    early = EarlyStopping("val_x", mode=mode, **options)
    trainer = made([Metric(lambda t, Y: next(script), name="x")])
    fit(trainer, early, epochs=len(numbers))
    return early.best, early.best_epoch, trainer.epoch


def test_what_is_not_finite_is_never_the_best():
    nan, inf = math.nan, math.inf
    assert scripted([nan, 1, nan, 2], "max", patience=3) == (2, 3, 4)
    assert scripted([nan, nan, 5, 4], "max", patience=2) == (None, -1, 2)
    assert scripted([5, -inf, 4, 3], "min", patience=3) == (3, 3, 4)
    assert scripted([inf, 5, inf], "max", patience=3) == (5, 1, 3)


def test_min_delta_works_in_both_directions():
    assert scripted([1, 1.4, 1.6, 1.7], "max", min_delta=0.5, patience=9) == (1.6, 2, 4)
    assert scripted([2, 1.6, 1.4, 1.3], "min", min_delta=0.5, patience=9) == (1.4, 2, 4)
    assert scripted([1, 1, 1], "max", patience=1) == (1, 0, 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("monitor", 3),
        ("monitor", ""),
        ("mode", "up"),
        ("mode", None),
        ("patience", 0),
        ("patience", 1.5),
        ("min_delta", -1),
        ("min_delta", math.nan),
    ],
)
def test_what_cannot_be_meant_is_refused_also_later(name, value):
    words = f"EarlyStopping: {name} must be"
    with pytest.raises(OptionError, match=words):
        EarlyStopping(**{name: value})
    early = EarlyStopping()
    with pytest.raises(OptionError, match=words):
        setattr(early, name, value)


def test_a_change_takes_effect():
    early = EarlyStopping("val_loss", patience=1, mode="max")
    early.mode, early.patience = "min", 4
    trainer = made()
    fit(trainer, early, epochs=4)
    assert (early.best, trainer.epoch) == (min(trainer.history["val_loss"]), 4)


def test_it_is_found_where_it_was():
    from xpnet.callbacks import EarlyStopping as there

    assert there is EarlyStopping
