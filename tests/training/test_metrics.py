"""Metrics: scikit-learn's values, in float64, for each kind of target; their names and modes."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import xpnet
from xpnet import metrics
from xpnet.losses import find_loss
from xpnet.training.metrics.metric import find_metric
from xpnet.training.metrics.sums import mean, total

sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
rng = np.random.default_rng(3)
N = 40
T1, Y1 = rng.standard_normal((N, 1)), rng.standard_normal((N, 1))
T3 = rng.standard_normal((N, 3)) * [1, 10, 100]
Y3 = T3 + rng.standard_normal((N, 3)) * [1, 5, 200]
W = rng.uniform(0, 3, N)
LABELS, SCORES = rng.integers(0, 4, N), rng.standard_normal((N, 5))  # the last class never occurs
BITS, BIT_SCORES = rng.integers(0, 2, (N, 3)), rng.standard_normal((N, 3))


def of(name, loss):
    return find_metric(name, find_loss(loss))


def evaluated(loss, names, Y, t, *weights):
    net = xpnet.Sequential(xpnet.Identity(), dtype="float64")
    return xpnet.Trainer(net, loss, metrics=names).evaluate(Y, t, *weights)


# --- Values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [None, W], ids=["plain", "weighted"])
@pytest.mark.parametrize(("t", "Y"), [(T1, Y1), (T1[:, 0], Y1), (T3, Y3)], ids=["one", "flat", "3"])
def test_numbers_are_those_of_scikit_learn(t, Y, w):
    flat = t.reshape(Y.shape)
    right = {
        "mae": sk.mean_absolute_error(flat, Y, sample_weight=w),
        "mse": sk.mean_squared_error(flat, Y, sample_weight=w),
        "rmse": np.sqrt(sk.mean_squared_error(flat, Y, sample_weight=w)),
        "r2": sk.r2_score(flat, Y, sample_weight=w),
    }
    got = evaluated("mse", list(right), Y, t, *([] if w is None else [w]))
    assert got == pytest.approx({"loss": right["mse"], **right}, rel=1e-12)


@pytest.mark.parametrize("w", [None, W], ids=["plain", "weighted"])
@pytest.mark.parametrize("hot", [False, True])
def test_classes_are_those_of_scikit_learn(w, hot):
    t, P = LABELS, SCORES.argmax(axis=1)
    macro = {"average": "macro", "zero_division": 0, "sample_weight": w}
    right = {
        "accuracy": sk.accuracy_score(t, P, sample_weight=w),
        "exact_match": sk.accuracy_score(t, P, sample_weight=w),
        "precision": sk.precision_score(t, P, **macro),
        "recall": sk.recall_score(t, P, **macro),
        "f1": sk.f1_score(t, P, **macro),
    }
    given = np.eye(5)[t] if hot else t
    got = evaluated(
        "softmax_cross_entropy", list(right), SCORES, given, *([] if w is None else [w])
    )
    assert {k: got[k] for k in right} == pytest.approx(right, rel=1e-12)
    assert 0 < right["accuracy"] < 1


@pytest.mark.parametrize("w", [None, W], ids=["plain", "weighted"])
@pytest.mark.parametrize(("loss", "cut"), [("bce_logits", 0.0), ("bce", 0.5)])
def test_several_labels_count_one_by_one_and_exact_match_is_scikit_learns_accuracy(loss, cut, w):
    Y = BIT_SCORES if cut == 0 else 1 / (1 + np.exp(-BIT_SCORES))
    P = (BIT_SCORES > 0).astype(int)
    macro = {"average": "macro", "zero_division": 0, "sample_weight": w}
    right = {
        "accuracy": np.average((P == BITS).mean(axis=1), weights=w),
        "exact_match": sk.accuracy_score(BITS, P, sample_weight=w),
        "precision": sk.precision_score(BITS, P, **macro),
        "recall": sk.recall_score(BITS, P, **macro),
        "f1": sk.f1_score(BITS, P, **macro),
    }
    got = evaluated(loss, list(right), Y, BITS, *([] if w is None else [w]))
    assert {k: got[k] for k in right} == pytest.approx(right, rel=1e-12)
    assert right["accuracy"] > right["exact_match"] > 0


def test_right_labels_of_which_several_hold_are_all_right():
    t = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 1]])
    assert evaluated("bce_logits", ["accuracy"], t * 2.0 - 1, t)["accuracy"] == 1
    with pytest.raises(xpnet.DataError, match=r"sum to 1.*row 0 is \[1 1 0\].*independent=True"):
        metrics.accuracy(t, t * 2.0 - 1)
    assert metrics.accuracy(t, t * 2.0 - 1, independent=True, threshold=0) == 1
    with pytest.raises(xpnet.DataError, match="sum to 1"):
        evaluated("mse", ["accuracy"], t * 1.0, t)


@pytest.mark.parametrize(("loss", "cut"), [("bce_logits", 0.0), ("bce", 0.5), ("mse", 0.5)])
def test_one_output_means_class_1(loss, cut):
    Y, t = rng.uniform(0.01, 0.99, (N, 1)) - (0.5 - cut if loss == "bce_logits" else 0), BITS[:, 0]
    P = (Y[:, 0] > cut).astype(int)
    right = {
        "accuracy": sk.accuracy_score(t, P),
        "precision": sk.precision_score(t, P),
        "recall": sk.recall_score(t, P),
        "f1": sk.f1_score(t, P),
    }
    for given in (t, t[:, None], t.astype(bool), t.astype("u1"), t.astype("f2")):
        got = evaluated(loss, list(right), Y, given)
        assert {k: got[k] for k in right} == pytest.approx(right, rel=1e-12)
    own = xpnet.Trainer(xpnet.Sequential(xpnet.Identity()), loss, metrics=[metrics.accuracy])
    assert own.evaluate(Y, t)["accuracy"] == right["accuracy"]


def test_nothing_found_is_0_and_constant_targets_are_as_in_scikit_learn():
    assert metrics.precision([1, 1], np.zeros((2, 1))) == 0
    assert metrics.recall([0, 0], np.zeros((2, 1))) == metrics.f1([0, 0], np.zeros((2, 1))) == 0
    t = np.array([[2.0, 1], [2, 3]])
    for Y in (t, t + np.eye(2), t + np.array([[1, 0], [0, 0]])):
        assert metrics.r2(t, Y) == sk.r2_score(t, Y)


def test_classes_are_refused_for_numbers_before_the_first_step():
    X, t = rng.standard_normal((N, 2)), rng.standard_normal(N)
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    made, before = xpnet.Trainer(net, "mse", metrics=["accuracy"]), net.sha256()
    with pytest.raises(xpnet.DataError, match=r"compares numbers.*classes.*\"r2\""):
        made.fit(X, t, validation_data=(X, t))
    assert (net.sha256(), made.epoch) == (before, 0)
    for loss in ("softmax_cross_entropy", "cross_entropy"):
        with pytest.raises(xpnet.ShapeError, match="single class is always 1"):
            xpnet.Trainer(xpnet.Sequential(xpnet.Linear(2, 1)), loss).fit(X, np.zeros(N, int))


def test_metrics_of_poisson_compare_counts():
    y, t = rng.standard_normal((N, 1)), rng.poisson(2.0, N)
    got = evaluated("poisson", ["mae", "r2"], y, t)
    assert got["mae"] == pytest.approx(sk.mean_absolute_error(t, np.exp(y[:, 0])), rel=1e-12)
    assert got["r2"] == pytest.approx(sk.r2_score(t, np.exp(y[:, 0])), rel=1e-12)


# --- Precision ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["f2", "i1", "u1", "i2", "f4", "f8"])
def test_metrics_and_losses_are_in_float64_whatever_the_targets(backend, dtype):
    t, X = np.linspace(0, 120, 200).astype(dtype), rng.standard_normal((200, 3))
    made = xpnet.Trainer(xpnet.Sequential(xpnet.Linear(3, 1)), "mse", metrics=["r2", "mae", "rmse"])
    Y, exact = made.net.predict(X).astype(np.float64)[:, 0], t.astype(np.float64)
    right = {
        "loss": np.mean((Y - exact) ** 2),
        "r2": sk.r2_score(exact, Y),
        "mae": np.mean(abs(Y - exact)),
        "rmse": np.sqrt(np.mean((Y - exact) ** 2)),
    }
    assert made.evaluate(X, t) == pytest.approx(right, rel=1e-12)
    direct = {k: getattr(metrics, k)(t, Y.astype("f4")[:, None]) for k in ("r2", "mae", "rmse")}
    assert direct == pytest.approx({k: right[k] for k in direct}, rel=1e-12)


def test_a_function_of_a_users_own_gets_numbers_that_do_not_overflow():
    seen = []

    def spread(t, Y):
        seen.append((t.dtype, Y.dtype))
        return t.sum()

    t = np.full(300, 120, "i1")
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    got = xpnet.Trainer(net, "mse", metrics=[spread]).evaluate(np.ones((300, 2)), t)
    assert got["spread"] == 36000
    assert seen == [(np.int64, np.float64)]


def test_sums_are_rounded_once():
    a = np.array([1e16, 1.0, -1e16] * 1000 + [1e-3])
    assert total(a) == 1000.001
    assert total(a[::-1]) == total(rng.permutation(a)) == 1000.001
    assert total([np.inf, 1]) == np.inf
    assert np.isnan(total([np.nan]))
    assert total([1e308, 1e308]) == np.inf
    assert mean([[1.0, 3], [5, 7]], [1, 3]) == 5
    assert mean([1.0, 2, 4], [1e308, 1e308, 1e308]) == pytest.approx(7 / 3)


# --- Names and directions -----------------------------------------------------------------------


def test_each_metric_of_ours_knows_its_direction():
    up = {"accuracy", "exact_match", "precision", "recall", "f1", "r2"}
    assert {k for k, m in metrics.METRICS.items() if m.mode == "max"} == up
    assert {k for k, m in metrics.METRICS.items() if m.mode == "min"} == {"mae", "mse", "rmse"}


def test_scikit_learn_says_the_direction_by_the_end_of_the_name():
    modes = {
        sk.f1_score: "max",
        sk.roc_auc_score: "max",
        sk.brier_score_loss: "min",
        sk.mean_absolute_error: "min",
        sk.mean_poisson_deviance: "min",
        sk.matthews_corrcoef: None,
        partial(sk.f1_score, average="macro"): "max",
    }
    assert all(metrics.Metric(f).mode == mode for f, mode in modes.items())
    assert metrics.Metric(partial(sk.f1_score, average="macro")).name == "f1_score"

    def my_score(t, Y):
        return 0.0

    assert metrics.Metric(my_score).mode is None
    assert metrics.Metric(sk.f1_score, mode="min").mode == "min"


def one(t, Y):
    return 1.0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([metrics.Metric(one, name="a"), metrics.Metric(len, name="a")], "2 are named 'a'"),
        (["r2", "r2"], "2 are named 'r2'"),
        (["acuracy"], "did you mean 'accuracy'"),
        ([3], "a function of .t, Y. or a name; got 3"),
        (3, "metrics is a list"),
        ([None], "got None"),
    ],
)
def test_metrics_that_cannot_be_told_apart_are_refused(given, words):
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    with pytest.raises(xpnet.OptionError, match=words):
        xpnet.Trainer(net, "mse", metrics=given)


@pytest.mark.parametrize("name", ["loss", "", " ", "a\nb", 3])
def test_names_that_would_harm_the_history_are_refused(name):
    with pytest.raises(xpnet.OptionError, match="name"):
        metrics.Metric(one, name=name)


def test_a_function_named_loss_is_refused_and_the_way_out_works():
    def loss(t, Y):
        return 0.5

    net = xpnet.Sequential(xpnet.Linear(2, 1))
    with pytest.raises(xpnet.OptionError, match="cannot be named 'loss'"):
        xpnet.Trainer(net, "mse", metrics=[loss])
    made = xpnet.Trainer(net, "mse", metrics=[metrics.Metric(loss, name="my loss"), lambda t, Y: 2])
    got = made.evaluate(np.ones((3, 2)), np.ones(3))
    assert (got["my loss"], got["<lambda>"]) == (0.5, 2)
    with pytest.raises(xpnet.OptionError, match='"min" or "max"; got \'up\''):
        metrics.Metric(loss, mode="up", name="x")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "returned None"),
        ("0.5", "returned '0.5'"),
        (np.ones(3), r"array of shape \(3,\)"),
        (1j, "returned 1j"),
        ({}, "returned {}"),
    ],
)
def test_what_is_no_number_is_refused(value, words):
    made = metrics.Metric(lambda t, Y: value, name="odd")
    with pytest.raises(xpnet.DataError, match=f"'odd' must return one number; it {words}|{words}"):
        made(np.ones(2), np.ones((2, 1)))


def test_numbers_of_all_kinds_are_taken_and_errors_say_whose_they_are():
    for value in (1, 1.0, np.float32(1), np.array([1.0]), np.array(1), True, np.bool_(True)):
        assert metrics.Metric(lambda t, Y, v=value: v)(np.ones(2), np.ones((2, 1))) == 1.0
    assert np.isnan(metrics.Metric(lambda t, Y: np.nan)(np.ones(2), np.ones((2, 1))))
    with pytest.raises(ZeroDivisionError) as raised:
        metrics.Metric(lambda t, Y: 1 / 0, name="broken")(np.ones(2), np.ones((2, 1)))
    assert "'broken' raised this" in raised.value.__notes__[0]
    assert "(2, 1)" in raised.value.__notes__[0]


# --- Weights and validation ---------------------------------------------------------------------


def test_weights_that_a_metric_would_ignore_are_refused_before_the_first_step():
    X, t, w = rng.standard_normal((N, 2)), T1[:, 0], W
    made = xpnet.Trainer(xpnet.Sequential(xpnet.Linear(2, 1)), "mse", metrics=[one])
    for call in (
        lambda: made.evaluate(X, t, w),
        lambda: made.fit(X, t, validation_data=(X, t, w)),
    ):
        with pytest.raises(xpnet.OptionError, match="'one' has no argument sample_weight"):
            call()
    assert made.epoch == 0


def test_validation_with_weights_is_evaluation_with_weights():
    X, t = rng.standard_normal((N, 2)), T1[:, 0]
    net = xpnet.Sequential(xpnet.Linear(2, 1), dtype="float64")
    made = xpnet.Trainer(net, "mse", metrics=["r2", sk.max_error][:1])
    history = made.fit(X, t, epochs=1, validation_data=(X, t, W))
    Y = net.predict(X)[:, 0]
    assert history["val_loss"] == [pytest.approx(np.average((Y - t) ** 2, weights=W), rel=1e-12)]
    assert history["val_r2"] == [pytest.approx(sk.r2_score(t, Y, sample_weight=W), rel=1e-12)]
    assert made.evaluate(X, t, W)["loss"] == history["val_loss"][0]
    with pytest.raises(xpnet.DataError, match=r"validation_data: sample_weight .*\[1\] is nan"):
        made.fit(X, t, validation_data=(X, t, np.where(np.arange(N) == 1, np.nan, 1)))


def test_metrics_without_validation_data_are_spoken_of(caplog):
    X, t = rng.standard_normal((N, 2)), T1[:, 0]
    named = metrics.Metric(one, name="spoken of once")
    made = xpnet.Trainer(xpnet.Sequential(xpnet.Linear(2, 1)), "mse", metrics=[named])
    for _ in range(2):
        made.fit(X, t, epochs=1)
    said = [r.getMessage() for r in caplog.records if "spoken of once" in r.getMessage()]
    assert len(said) == 1
    assert "validation_data" in said[0]
    assert made.logged == ("loss",)


def test_a_loss_that_is_assigned_is_the_one_that_metrics_ask():
    Y, t = np.array([[0.2], [0.4], [0.9]]), np.array([0, 1, 1])
    made = xpnet.Trainer(xpnet.Sequential(xpnet.Identity()), "bce", metrics=["accuracy"])
    assert made.evaluate(Y, t)["accuracy"] == 2 / 3
    made.loss = "bce_logits"
    assert made.evaluate(Y - 0.3, t)["accuracy"] == 1


def test_a_metric_that_writes_into_its_arguments_changes_nothing():
    def spoils(t, Y):
        t[:] = Y[:] = 0
        return 0.0

    t, Y = BITS[:, 0].astype(np.int64), np.eye(2)[BITS[:, 1]]
    found = evaluated("softmax_cross_entropy", [spoils, "accuracy"], Y, t)
    assert found["accuracy"] == sk.accuracy_score(BITS[:, 0], BITS[:, 1])
    assert (t == BITS[:, 0]).all()


def test_a_metric_may_return_a_number_of_pytorch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    number = metrics.Metric(lambda t, Y: torch.tensor(1.5), mode="min", name="number")
    assert number(LABELS, SCORES) == 1.5
    for wrong in (torch.ones(2), torch.tensor(1.0, requires_grad=True), 1j, "1", [], None):
        metric = metrics.Metric(lambda t, Y, wrong=wrong: wrong, mode="min", name="wrong")
        with pytest.raises(xpnet.DataError, match="'wrong' must return one number"):
            metric(LABELS, SCORES)
