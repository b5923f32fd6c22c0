"""Trainer: the loop, the data it takes and refuses, callbacks, Ctrl-C, divergence, memory."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import signal
import sys
import threading
import tracemalloc

import numpy as np
import pytest
import strictxp

import xpnet
from xpnet import DataError, EarlyStopping, OptionError, ShapeError, Trainer
from xpnet.backend import say_once
from xpnet.backend.random import Random
from xpnet.training.callbacks import ProgressBar
from xpnet.training.metrics import Metric, accuracy, r2, rmse

pytestmark = pytest.mark.usefixtures("_ctrl_c")

N, FEATURES, CLASSES = 50, 4, 3
rng = np.random.default_rng(0)
X = rng.integers(0, 2, (N, FEATURES)).astype(float)  # 0 and 1: the same in every dtype
LABELS = rng.integers(0, CLASSES, N)
BINARY = rng.integers(0, 2, N)
NUMBERS = rng.standard_normal(N)
WEIGHTS = rng.uniform(0.5, 2, N)


def network(outputs=CLASSES, *, net_seed=1, rich=True, dtype="float64", **options):
    """A network in which everything random and everything with a state takes part."""
    inner = [xpnet.BatchNorm1d(8), xpnet.Tanh(), xpnet.Dropout(0.25)] if rich else [xpnet.Tanh()]
    first = xpnet.Linear(FEATURES, 8, bias=not rich)  # BatchNorm1d makes a bias useless
    layers = first, *inner, xpnet.Linear(8, outputs)
    return xpnet.Sequential(*layers, dtype=dtype, seed=net_seed, **options)


def trainer(loss="softmax_cross_entropy", outputs=CLASSES, *, metrics=(), seed=0, **options):
    net = network(outputs, **options)
    return Trainer(net, loss, xpnet.Adam(net, 0.01), metrics=metrics, seed=seed)


def values(net):
    """Every parameter and every running average, as one vector on the host."""
    return np.concatenate([np.ravel(a).astype(float) for a in net.state_dict().values()])


def fitted(t=LABELS, X=X, *, loss="softmax_cross_entropy", outputs=CLASSES, net=None, **options):
    """The trainer after 2 epochs in batches of 16."""
    made = trainer(loss, outputs, **(net or {}))
    made.fit(X, t, **{"epochs": 2, "batch_size": 16} | options)
    return made


def same(a, b):
    """Two trainers that did exactly the same."""
    np.testing.assert_array_equal(values(a.net), values(b.net))
    assert a.history == b.history


# --- The loop, against the one that is written by hand -----------------------------------------


def by_hand(made, X, t, epochs, batch_size, *, shuffle=True, weights=None, seed=0):
    """Train with four lines; return the mean loss of each epoch."""
    net, loss, xp, n, means = made.net, made.loss, made.net.xp, len(X), []
    if weights is not None:  # of the mean 1 over the data set, and a batch is divided by its size
        weights, loss.mean_weight = weights * (n / math.fsum(weights)), True
    for epoch in range(epochs):
        order = Random(seed, "shuffle", epoch).permutation(n) if shuffle else np.arange(n)
        means.append(0.0)
        for start in range(0, n, batch_size):
            rows = order[start : start + batch_size]
            w = [] if weights is None else [xp.asarray(weights[rows])]
            loss.forward(net.forward(xp.asarray(X[rows], net.dtype)), xp.asarray(t[rows]), *w)
            net.backward(loss.backward())
            made.optimizer.step()
            means[-1] += float(loss) * len(rows) / n
    return means


CASES = {
    "labels": ("softmax_cross_entropy", 3, LABELS),
    "one-hot": ("softmax_cross_entropy", 3, np.eye(3)[LABELS]),
    "binary": ("bce_logits", 1, BINARY),
    "regression": ("mse", 1, NUMBERS),
    "huber of two": ("huber", 2, np.stack([NUMBERS, BINARY], axis=1)),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fit_is_the_loop_that_is_written_by_hand(backend, case, weights, dtype):
    loss, outputs, t = CASES[case]
    made, hand = (trainer(loss, outputs, dtype=dtype, seed=7) for _ in range(2))
    history = made.fit(X, t, epochs=3, batch_size=16, sample_weight=weights)  # 16 16 16 2
    means = by_hand(hand, X, t, 3, 16, weights=weights, seed=7)
    np.testing.assert_array_equal(values(made.net), values(hand.net))
    assert history["loss"] == pytest.approx(means, rel=1e-14)
    assert made.optimizer.t == hand.optimizer.t == 12


@pytest.mark.parametrize("batch_size", [None, N, 1000])
def test_a_full_batch_is_one_step_of_everything_in_order(backend, batch_size):
    made, hand = fitted(batch_size=batch_size, epochs=3), trainer()
    means = by_hand(hand, X, LABELS, 3, N, shuffle=False)
    np.testing.assert_array_equal(values(made.net), values(hand.net))
    assert made.history["loss"] == pytest.approx(means, rel=1e-14)


def test_without_shuffle_the_order_stays(backend):
    made, hand = fitted(shuffle=False), trainer()
    by_hand(hand, X, LABELS, 2, 16, shuffle=False)
    np.testing.assert_array_equal(values(made.net), values(hand.net))
    assert (values(made.net) != values(fitted().net)).any()


class Sizes(xpnet.Callback):
    """Sees how many samples each step took from the data, also where a graph does the step."""

    def on_train_begin(self, logs):
        self.sizes = []

    def on_epoch_begin(self, epoch, logs):
        self.place = 0

    def on_train_batch_end(self, batch, logs):
        assert batch == len(self.sizes) % self.trainer.steps_per_epoch
        before, made = self.place, self.trainer
        self.place = int(made.net.xp.asnumpy(made.batches._position)[0])
        self.sizes.append(self.place - before)


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(16, [16, 16, 16, 2]), (25, [25, 25]), (1, [1] * N), (49, [49, 1])]
)
def test_a_short_last_batch_is_used(backend, batch_size, expected):
    seen = Sizes()
    made = fitted(batch_size=batch_size, callbacks=[seen], net={"rich": False})
    assert seen.sizes == 2 * expected
    assert made.steps_per_epoch == len(expected)


def test_the_default_is_10_epochs_in_batches_of_32(backend):
    seen, made = Sizes(), trainer()
    made.fit(X, LABELS, callbacks=[seen])
    assert seen.sizes == [32, 18] * 10


def test_one_sample_is_enough(backend):
    made, hand = trainer(rich=False), trainer(rich=False)
    made.fit(X[:1], LABELS[:1], epochs=2)
    by_hand(hand, X[:1], LABELS[:1], 2, 1)
    np.testing.assert_array_equal(values(made.net), values(hand.net))


def test_epochs_go_on_over_two_fits(backend):
    long, parts = fitted(epochs=5), fitted(epochs=2)
    parts.fit(X, LABELS, epochs=3, batch_size=16)
    same(parts, long)
    assert (parts.epoch, len(parts.history["loss"])) == (5, 5)


def test_the_seeds_of_net_and_trainer_decide_together(backend):
    same(fitted(), fitted())
    for other in ({"seed": 2}, {"net_seed": 2}):
        assert (values(fitted(net=other).net) != values(fitted().net)).any()


def test_the_backends_train_alike(strict):
    """Float64, 3 epochs; the roundings of the two differ."""
    made = fitted(epochs=3, validation_data=(X, LABELS))
    with xpnet.use_backend("numpy"):
        plain = fitted(epochs=3, validation_data=(X, LABELS))
    np.testing.assert_allclose(values(made.net), values(plain.net), rtol=0, atol=1e-12)
    for name, row in plain.history.items():
        np.testing.assert_allclose(made.history[name], row, rtol=1e-12)


def test_a_training_goes_on_after_the_network_has_moved(strict):
    made, plain = fitted(epochs=4), fitted(epochs=2)
    for place in ("numpy", strict):
        plain.net.to(place)
        plain.fit(X, LABELS, epochs=1, batch_size=16)
        plain.evaluate(X, LABELS)
    np.testing.assert_allclose(values(made.net), values(plain.net), rtol=0, atol=1e-12)


# --- The data ----------------------------------------------------------------------------------

TYPES = [np.float16, np.float32, np.int64, np.int8, np.uint16, np.bool_]


@pytest.mark.parametrize("dtype", [*TYPES, list], ids=lambda d: d.__name__)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_inputs_of_all_types(backend, dtype, precision):
    net = {"dtype": precision}
    inputs = X.tolist() if dtype is list else X.astype(dtype)
    same(fitted(X=inputs, net=net), fitted(net=net))


@pytest.mark.parametrize(
    ("case", "t"),
    [
        *(("labels", LABELS.astype(d)) for d in (np.int32, np.uint8, np.int8)),
        *(("one-hot", np.eye(3)[LABELS].astype(d)) for d in (np.uint8, np.bool_, np.float32)),
        *(("binary", BINARY.astype(d)) for d in (np.uint8, np.bool_, np.float64)),
        ("binary", BINARY[:, None]),
        ("binary", BINARY.astype(np.uint8)[:, None]),
        ("regression", NUMBERS[:, None]),
        ("regression", NUMBERS.tolist()),
        ("labels", LABELS.tolist()),
        ("labels", tuple(LABELS.tolist())),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_targets_of_all_types(backend, case, t):
    loss, outputs, plain = CASES[case]
    assert np.array_equal(np.ravel(t), np.ravel(plain))
    same(fitted(t, loss=loss, outputs=outputs), fitted(plain, loss=loss, outputs=outputs))


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_uint8_images_are_255ths_bit_for_bit(backend, precision):
    pixels = np.concatenate([np.arange(256), np.arange(144)]).reshape(100, 2, 2).astype(np.uint8)
    labels, results = np.arange(100) % 3, []
    for images in (pixels, pixels / 255):
        layers = xpnet.Flatten(), xpnet.Linear(4, 8), xpnet.ReLU(), xpnet.Linear(8, 3)
        net = xpnet.Sequential(*layers, dtype=precision)
        made = Trainer(net, "softmax_cross_entropy", "sgd")
        made.fit(images, labels, epochs=2, batch_size=32, validation_data=(images, labels))
        results.append(made)
    same(*results)


def test_arrays_of_the_device_are_taken(backend):
    placed = [backend.asarray(a) for a in (X, LABELS, WEIGHTS)]
    validation = placed[0], placed[1]
    options = {"epochs": 2, "batch_size": 16}
    made, plain = trainer(metrics="accuracy"), trainer(metrics="accuracy")
    made.fit(*placed[:2], sample_weight=placed[2], validation_data=validation, **options)
    plain.fit(X, LABELS, sample_weight=WEIGHTS, validation_data=(X, LABELS), **options)
    same(made, plain)
    assert made.evaluate(*validation) == plain.evaluate(X, LABELS)


def test_a_numpy_network_takes_arrays_of_a_device(strict):
    """CuPy refuses np.asarray, and has get() instead."""
    placed = [strict.asarray(a) for a in (X, LABELS, WEIGHTS)]
    net = {"backend": "numpy"}
    made = fitted(placed[1], placed[0], sample_weight=placed[2], net=net)
    same(made, fitted(sample_weight=WEIGHTS, net=net))
    assert isinstance(made.net.params, np.ndarray)


class Series:
    """What a pandas Series has: a dtype, and a get() that wants a key."""

    def __init__(self, a):
        self.a, self.dtype = a, a.dtype

    def get(self, key, default=None):
        raise KeyError(key)

    def __array__(self, dtype=None, copy=None):
        return self.a


def test_a_pandas_series_is_an_array():
    same(fitted(Series(LABELS), Series(X)), fitted())


def test_the_data_are_not_changed(backend):
    before = [a.copy() for a in (X, LABELS, WEIGHTS)]
    fitted(sample_weight=WEIGHTS, validation_data=(X, LABELS))
    for a, b in zip((X, LABELS, WEIGHTS), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [float, np.float32, bool, np.uint8, list])
def test_samples_of_weight_0_are_left_out(backend, dtype):
    """Were they kept, the first batch would have none but weights 0."""
    used = np.arange(N) >= 20
    weights = used.tolist() if dtype is list else used.astype(dtype)
    options = {"shuffle": False, "batch_size": 16}
    some = fitted(LABELS[used], X[used], sample_weight=np.ones(30), **options)
    same(fitted(sample_weight=weights, **options), some)
    same(fitted(sample_weight=used.astype(float)[:, None], **options), some)


# --- Bad data ----------------------------------------------------------------------------------


def changed(a, place, value):
    a = np.array(a)
    a[place] = value
    return a


LONG = np.zeros((5000, FEATURES))
IMAGES = np.zeros((N, 2, 2))
BAD = {
    "NaN": (changed(X, (3, 1), np.nan), LABELS, DataError, "X[3, 1] is nan"),
    "infinite": (changed(X, (0, 3), -np.inf), LABELS, DataError, "X[0, 3] is -inf"),
    "NaN far down": (changed(LONG, (4999, 0), np.nan), LABELS, DataError, "X[4999, 0] is nan"),
    "NaN in an image": (changed(IMAGES, (2, 1, 0), np.nan), LABELS, DataError, "X[2, 1, 0]"),
    "too large for float32": (changed(X, (3, 1), 1e300), LABELS, DataError, "X[3, 1]", "3.4e+38"),
    "no sample": (X[:0], LABELS[:0], DataError, "no values", "(0, 4)"),
    "no feature": (X[:, :0], LABELS, DataError, "no values", "(50, 0)"),
    "an empty list": ([], [], ShapeError, "(samples, features)", "(0,)"),
    "one axis": (X[:, 0], LABELS, ShapeError, "(50,)", "reshape(-1, 1)", "reshape(1, -1)"),
    "a number": (3.0, LABELS, ShapeError, "(samples, features)", "()"),
    "too many features": (np.ones((N, 5)), LABELS, ShapeError, "layer 0", "Linear(4, 8",
                          "4 features", "5 features"),
    "images": (IMAGES, LABELS, ShapeError, "layer 0", "Linear(4, 8", "(2, 2)", "Flatten()"),
    "text": (X.astype(str), LABELS, DataError, "X must hold numbers", "<U"),
    "objects": (changed(X.astype(object), (7, 2), "a"), LABELS, DataError, "X must hold numbers",
                "object", "first value 'a'"),
    "None": (changed(X.astype(object), (7, 2), None), LABELS, DataError, "no value at [7, 2]"),
    "complex": (X + 0j, LABELS, DataError, "X must hold numbers", "complex128"),
    "unequal lists": ([[1, 2], [3]], [0, 1], DataError, "unequal lengths"),
    "unequal targets": (X[:2], [[1], [2, 3]], DataError, "unequal lengths"),
    "too few targets": (X, LABELS[:-1], ShapeError, "50 samples", "(49,)"),
    "too many targets": (X[:-1], LABELS, ShapeError, "49 samples", "(50,)"),
    "label too large": (X, changed(LABELS, 7, 3), DataError, "0 ... 2", "row 7 is 3"),
    "label negative": (X, changed(LABELS, 7, -1), DataError, "0 ... 2", "row 7 is -1"),
    "labels float": (X, LABELS * 1.0, DataError, "whole numbers", "t.astype(int)"),
    "target NaN": (X, changed(np.eye(3)[LABELS], (5, 1), np.nan), DataError, "finite", "row 5"),
    "wrong width": (X, np.eye(4)[LABELS], ShapeError, "(50, 3)", "(50, 4)"),
}  # fmt: skip


def untouched(made):
    """Nothing has happened, and the loss looks at its targets again."""
    assert (made.optimizer.t, made.epoch, made.epochs, made.history) == (0, 0, 0, {})
    assert made.loss.validate


def refused(error, words, function, *arguments, **options):
    with pytest.raises(error) as raised:
        function(*arguments, **options)
    assert raised.type is error
    missing = [word for word in words if word not in str(raised.value)]
    assert not missing, f"{missing} not in: {raised.value}"


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_refused_before_the_first_step(backend, case):
    inputs, t, error, *words = BAD[case]
    made = trainer(dtype="float32")
    refused(error, words, made.fit, inputs, t)
    refused(error, words, made.evaluate, inputs, t)
    refused(error, words, made.fit, X, LABELS, validation_data=(inputs, t))
    untouched(made)


@pytest.mark.parametrize(
    ("weights", "error", "word"),
    [
        (-WEIGHTS, DataError, "not negative"),
        (changed(WEIGHTS, 3, np.nan), DataError, "finite"),
        (WEIGHTS * 0, DataError, "not zero everywhere"),
        (["a"] * N, DataError, "numbers"),
        (WEIGHTS[1:], ShapeError, "(49,)"),
        (1.0, ShapeError, "(50,)"),
    ],
)
def test_bad_weights_are_refused(backend, weights, error, word):
    made = trainer()
    refused(error, ["sample_weight", word], made.fit, X, LABELS, sample_weight=weights)
    untouched(made)


@pytest.mark.parametrize("bad", [0, -1, 2.5, 1.0, True, "3", None])
def test_bad_counts_are_refused(backend, bad):
    made, words = trainer(), ["must be a whole number, 1 or more", repr(bad)]
    refused(OptionError, ["epochs", *words], made.fit, X, LABELS, epochs=bad)
    if bad is not None:
        refused(OptionError, ["batch_size", *words], made.fit, X, LABELS, batch_size=bad)
    untouched(made)
    made.fit(X, LABELS, epochs=np.int64(1), batch_size=np.int32(25))
    assert made.optimizer.t == 2


def test_what_is_no_network_or_gives_no_vectors_is_refused(backend):
    for bad in (None, xpnet.Linear(2, 2), [xpnet.Linear(2, 2)]):
        refused(OptionError, ["Sequential", repr(bad)], Trainer, bad, "mse")
    made = Trainer(xpnet.Sequential(xpnet.ReLU()), "mse")
    words = ["(2, 2)", "MeanSquaredError()", "Flatten()"]
    refused(ShapeError, words, made.fit, IMAGES, NUMBERS)
    untouched(made)


def test_unknown_names_are_refused_when_the_trainer_is_made():
    net = network()
    refused(OptionError, ["'mes'", "'mse'"], Trainer, net, "mes")
    refused(OptionError, ["'adma'", "'adam'"], Trainer, net, "mse", "adma")
    refused(OptionError, ["'acuracy'", "'accuracy'"], Trainer, net, "mse", metrics=["acuracy"])


@pytest.mark.parametrize("seed", [-1, 1.5, "1", None, True])
def test_a_bad_seed_is_refused_when_the_trainer_is_made(seed):
    refused(OptionError, ["seed", repr(seed)], Trainer, network(), "mse", seed=seed)


# --- History, validation, metrics --------------------------------------------------------------


def test_the_history_has_a_row_for_each_epoch(backend):
    made = trainer(metrics=["accuracy", rmse_of_classes])
    history = made.fit(X, LABELS, epochs=3, validation_data=(X[:20], LABELS[:20]))
    assert history is made.history
    assert [*history] == ["loss", "val_loss", "val_accuracy", "val_rmse_of_classes"]
    assert {len(column) for column in history.values()} == {3}
    assert {type(v) for column in history.values() for v in column} == {float}
    last = {f"val_{name}": v for name, v in made.evaluate(X[:20], LABELS[:20]).items()}
    assert last == {name: column[-1] for name, column in history.items() if name != "loss"}
    assert set(fitted().history) == {"loss"}


def rmse_of_classes(t, Y):
    """A metric of one's own: (targets, outputs), both on the host."""
    assert type(t) is type(Y) is np.ndarray
    return np.sqrt(np.mean((Y.argmax(axis=1) - t) ** 2))


def test_evaluate_is_the_loss_and_the_metrics_of_the_network_at_rest(backend):
    made = fitted(net={"metrics": ["accuracy"]})
    many, t = np.tile(X, (30, 1)), np.tile(LABELS, 30)  # more than one piece of a prediction
    Y = made.net.predict(many)
    got = made.evaluate(many, t)
    loss = -np.mean((Y - np.log(np.exp(Y).sum(axis=1, keepdims=True)))[np.arange(1500), t])
    assert got == {
        "loss": pytest.approx(loss, rel=1e-12),
        "accuracy": np.mean(Y.argmax(axis=1) == t),
    }
    assert made.evaluate(many.tolist(), t.tolist()) == got


def test_evaluate_before_any_training(backend):
    assert trainer().evaluate(X, LABELS)["loss"] > 0
    assert 0 <= trainer(metrics="accuracy").evaluate(X, LABELS)["accuracy"] <= 1


class Evaluates(xpnet.Callback):
    """Looks at the network in the middle of an epoch."""

    def on_train_batch_end(self, batch, logs):
        self.trainer.evaluate(X[:7], LABELS[:7])
        self.trainer.net.predict(np.zeros((1500, FEATURES)))


def test_fit_trains_a_network_that_was_at_rest(backend):
    made = trainer()
    made.net.train(False)
    made.fit(X, LABELS, epochs=2, batch_size=16)
    same(made, fitted())


def test_to_look_changes_nothing(backend):
    plain = fitted()
    seen = fitted(validation_data=(X[:20], LABELS[:20]), callbacks=[Evaluates()])
    np.testing.assert_array_equal(values(seen.net), values(plain.net))
    assert seen.history["loss"] == plain.history["loss"]
    assert seen.net.training


@pytest.mark.parametrize(
    ("loss", "threshold"), [("bce_logits", 0.0), ("bce", 0.5), ("mse", 0.5), ("huber", 0.5)]
)
def test_accuracy_of_one_output_knows_where_class_1_begins(backend, loss, threshold):
    net = xpnet.Sequential(xpnet.Identity())
    scores = np.array([-0.1, 0.1, 0.4, 0.6] if loss != "bce" else [0.2, 0.1, 0.4, 0.6])[:, None]
    t = (scores[:, 0] > threshold).astype(int)
    got = Trainer(net, loss, metrics=["accuracy"]).evaluate(scores, t)
    assert got["accuracy"] == 1
    t[0] = 1 - t[0]
    assert Trainer(net, loss, metrics=["accuracy"]).evaluate(scores, t)["accuracy"] == 0.75


def test_metrics_are_those_of_scikit_learn(backend):
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    t, Y = rng.standard_normal((30, 2)), rng.standard_normal((30, 2))
    assert rmse(t, Y) == pytest.approx(np.sqrt(metrics.mean_squared_error(t, Y)))
    assert r2(t, Y) == pytest.approx(metrics.r2_score(t, Y))
    assert r2(t[:, 0], Y[:, :1]) == pytest.approx(metrics.r2_score(t[:, 0], Y[:, 0]))
    assert rmse(t[:, 0], Y[:, :1]) == pytest.approx(np.sqrt(np.mean((t - Y)[:, 0] ** 2)))
    P, labels = rng.standard_normal((30, 4)), rng.integers(0, 4, 30)
    expected = metrics.accuracy_score(labels, P.argmax(axis=1))
    assert 0 < expected < 1
    assert accuracy(labels, P) == accuracy(np.eye(4)[labels], P) == expected
    hits, p = rng.integers(0, 2, 30), rng.uniform(size=(30, 1))
    expected = metrics.accuracy_score(hits, p[:, 0] > 0.3)
    assert accuracy(hits, p, 0.3) == accuracy(hits[:, None], p, 0.3) == expected
    assert accuracy(hits, p) == metrics.accuracy_score(hits, p[:, 0] > 0.5)
    made = trainer("mse", 1, metrics=[metrics.r2_score, "r2", "rmse", metrics.mean_squared_error])
    got = made.evaluate(X, NUMBERS)
    assert got["r2_score"] == pytest.approx(got["r2"])
    assert got["mean_squared_error"] == pytest.approx(got["rmse"] ** 2)
    assert got["mean_squared_error"] == pytest.approx(got["loss"])


# --- Callbacks ---------------------------------------------------------------------------------


class Diary(xpnet.Callback):
    """Writes down what is called, and with what."""

    def __init__(self, name=""):
        self.name, self.calls, self.logs = name, [], []


def _writes(name):
    def method(self, *args):
        *numbers, logs = args
        self.calls.append((self.name + name, *numbers))
        self.logs.append(dict(logs))

    return method


STEP = ["train_batch_begin", "train_batch_end"]
EVENTS = ["train_begin", "epoch_begin", *STEP, "epoch_end", "train_end"]
for _event in EVENTS:
    setattr(Diary, f"on_{_event}", _writes(_event))


def test_callbacks_are_called_in_keras_order(backend):
    diary = Diary()
    made = fitted(batch_size=25, validation_data=(X, LABELS), callbacks=[diary])
    epoch = [(event, batch) for batch in (0, 1) for event in STEP]
    first, second = ([("epoch_begin", e), *epoch, ("epoch_end", e)] for e in (0, 1))
    assert diary.calls == [("train_begin",), *first, *second, ("train_end",)]
    assert diary.trainer is made
    rows = [{k: v[e] for k, v in made.history.items()} for e in (0, 1)]
    expected = [{}, *[{}] * 5, rows[0], *[{}] * 5, rows[1], rows[1]]
    assert diary.logs == expected
    assert [*rows[0]] == ["loss", "val_loss"]


def test_callbacks_of_a_second_fit_see_the_number_of_the_epoch(backend):
    made, diary = fitted(), Diary()
    made.fit(X, LABELS, epochs=1, batch_size=50, callbacks=[diary])
    assert ("epoch_begin", 2) in diary.calls
    assert ("epoch_end", 2) in diary.calls
    assert [name for name, *_ in diary.calls] == EVENTS


def test_several_callbacks_are_called_in_order_and_the_base_class_does_nothing(backend):
    a = Diary("a")
    b, b.calls = Diary("b"), a.calls
    made = fitted(callbacks=[a, xpnet.Callback(), b])
    assert a.calls[:4] == [("atrain_begin",), ("btrain_begin",), ("aepoch_begin", 0),
                           ("bepoch_begin", 0)]  # fmt: skip
    same(made, fitted())


class At(xpnet.Callback):
    """Does something to the trainer the nth time that an event comes."""

    def __init__(self, event, do, nth=1):
        self.do, self.left = do, nth
        setattr(self, f"on_{event}", self.count)

    def count(self, *args):
        self.left -= 1
        if self.left == 0:
            self.do(self.trainer)


def stop(made):
    made.stop = True


@pytest.mark.parametrize("event", ["train_batch_end", "epoch_begin", "epoch_end"])
def test_stop_ends_the_training_after_the_present_epoch(backend, event):
    made = fitted(epochs=5, callbacks=[At(event, stop)])
    same(made, fitted(epochs=1))
    assert made.stop
    made.fit(X, LABELS, epochs=1, batch_size=16)  # a new fit begins anew
    same(made, fitted(epochs=2))


def fail(made):
    raise RuntimeError("my own")


@pytest.mark.parametrize("event", ["train_begin", "train_batch_end", "epoch_end"])
def test_after_an_error_in_a_callback_the_trainer_can_go_on(backend, event):
    made, diary = trainer(), Diary()
    with pytest.raises(RuntimeError, match="my own"):
        made.fit(X, LABELS, epochs=3, batch_size=16, callbacks=[diary, At(event, fail)])
    assert event == "train_begin" or diary.calls[-1] == ("train_end",)
    assert made.loss.validate
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    made.fit(X, LABELS, epochs=1)


def test_an_error_in_one_callback_is_not_hidden_by_those_that_never_began(backend):
    callbacks = [At("train_begin", fail), EarlyStopping("loss"), ProgressBar()]
    with pytest.raises(RuntimeError, match="my own"):
        trainer().fit(X, LABELS, callbacks=callbacks)


def test_fit_gives_the_loss_back_as_it_was(backend):
    made = trainer()
    made.loss.validate = False
    made.fit(X, LABELS, epochs=1)
    assert not made.loss.validate


# --- EarlyStopping -----------------------------------------------------------------------------


class Weights(xpnet.Callback):
    """Keeps the weights of every epoch."""

    def on_train_begin(self, logs):
        self.of = []

    def on_epoch_end(self, epoch, logs):
        self.of.append(values(self.trainer.net))


def stopped(numbers, *, name="cost", monitor=None, mode="min", **options):
    """A training whose validation gives these numbers; the callback, and what came of it."""
    script = iter(numbers)

    def metric(t, Y):
        return next(script)

    metric.__name__ = name
    early, kept = EarlyStopping(monitor or f"val_{name}", **options), Weights()
    made = trainer(metrics=[Metric(metric, mode)])
    made.fit(
        *(X, LABELS),
        epochs=len(numbers),
        batch_size=25,
        validation_data=(X, LABELS),
        callbacks=[kept, early],
    )
    return early, kept, made


@pytest.mark.parametrize(
    ("numbers", "patience", "best", "epochs"),
    [
        ([5, 4, 4.5, 4.2, 3, 2], 2, 1, 4),
        ([5, 4, 4.5, 3, 3.5, 3.2, 1], 2, 3, 6),  # an improvement starts the wait anew
        ([5, 4, 4, 4, 4, 1], 3, 1, 5),  # the same again is no improvement
        ([5, 6, 1], 1, 0, 2),
        ([5, 4, 3, 2, 1], 1, 4, 5),
        ([5, 4, 6, 6], 3, 1, 4),  # it would have stopped one epoch later
    ],
)
def test_early_stopping_waits_exactly_and_brings_back_the_best(
    backend, numbers, patience, best, epochs
):
    early, kept, made = stopped(numbers, patience=patience)
    assert (early.best, early.best_epoch) == (numbers[best], best)
    assert made.epoch == len(made.history["loss"]) == epochs
    np.testing.assert_array_equal(values(made.net), kept.of[best])
    assert epochs == best + 1 or (kept.of[best] != kept.of[-1]).any()


def test_the_last_weights_stay_if_asked_for(backend):
    _, kept, made = stopped([5, 4, 6, 6, 6], patience=2, restore_best_weights=False)
    assert made.epoch == 4
    np.testing.assert_array_equal(values(made.net), kept.of[-1])


def test_an_improvement_must_be_more_than_min_delta(backend):
    early, _, made = stopped([5, 4.5, 4.1, 3.9, 3.8], patience=2, min_delta=1.0)
    assert (early.best_epoch, made.epoch) == (0, 3)
    early, _, made = stopped([5, 3.5, 2.4, 1.3], patience=2, min_delta=1.0)
    assert (early.best_epoch, made.epoch) == (3, 4)


@pytest.mark.parametrize("name", ["f1", "auc", "accuracy", "loss_of_time"])
def test_the_metric_says_whether_it_is_to_grow_whatever_its_name(name):
    early, _, made = stopped([0.1, 0.5, 0.4, 0.3, 0.9], name=name, mode="max", patience=2)
    assert (early.best, early.best_epoch, made.epoch) == (0.5, 1, 4)
    early, _, made = stopped([0.9, 0.1, 0.5, 0.6, 0.0], name=name, mode="min", patience=2)
    assert (early.best, early.best_epoch, made.epoch) == (0.1, 1, 4)


def test_what_is_not_a_number_is_never_the_best():
    early, _, made = stopped([math.nan, 5, 4, math.nan, 6, 1], patience=2)
    assert (early.best, early.best_epoch, made.epoch) == (4, 2, 5)


def test_patience_begins_with_the_fit_whatever_came_before():
    script = iter([math.nan, math.nan, 1.0, 2.0, 2.0, 2.0])

    def cost(t, Y):
        return next(script)

    made, early = trainer(metrics=[cost]), EarlyStopping("val_cost", patience=3, mode="min")
    made.fit(X, LABELS, epochs=10)
    made.fit(X, LABELS, epochs=6, validation_data=(X, LABELS), callbacks=[early])
    assert (early.best, early.best_epoch, made.epoch) == (1.0, 12, 16)


def test_the_losses_can_be_watched(backend):
    for monitor in ("loss", "val_loss"):
        early, _, made = stopped([0] * 4, monitor=monitor, patience=4)
        assert early.best == min(made.history[monitor])
    assert EarlyStopping().monitor == "val_loss"
    assert EarlyStopping().patience == 5


def test_a_second_fit_forgets_the_first(backend):
    early, made = EarlyStopping("loss", patience=3), trainer()
    made.fit(X, LABELS, epochs=2, callbacks=[early])
    early.best, before = -1.0, made.epoch
    made.fit(X, LABELS, epochs=2, callbacks=[early])
    assert early.best > 0
    assert early.best_epoch >= before


def test_a_number_that_does_not_exist_cannot_be_watched(backend):
    made = trainer(metrics="accuracy")
    words = ["'val_loss'", "the history has loss", "validation_data"]
    refused(OptionError, words, made.fit, X, LABELS, callbacks=[EarlyStopping()])
    for name, value in [("patience", 0), ("patience", 1.5), ("min_delta", -0.1)]:
        refused(OptionError, [f"{name} must be", repr(value)], EarlyStopping, **{name: value})


# --- ProgressBar -------------------------------------------------------------------------------


class Bar:
    """What ProgressBar wants of tqdm."""

    def __init__(self, total, **options):
        self.total, self.n, self.closed = total, 0, False

    def update(self, steps):
        self.n += steps

    def write(self, row, file):
        print(row, file=file)

    def close(self):
        self.closed = True


def rows_of(monkeypatch, epochs, *callbacks, made=None):
    """The rows that are printed, and the trainer."""
    tqdm = pytest.importorskip("tqdm", reason="tqdm, which draws the bar, is not installed")
    monkeypatch.setattr(tqdm, "tqdm", Bar)
    file, made = io.StringIO(), made or trainer(rich=False)
    bar, data, before = ProgressBar(file), (X, LABELS), made.epoch
    made.fit(*data, epochs=epochs, batch_size=25, validation_data=data, callbacks=[bar, *callbacks])
    assert bar._bar.total == 2 * epochs
    assert bar._bar.n == 2 * (made.epoch - before)
    assert bar._bar.closed
    return file.getvalue().splitlines(), made


def test_the_progress_bar_prints_a_row_for_each_epoch(monkeypatch):
    rows, made = rows_of(monkeypatch, 8)
    more, _ = rows_of(monkeypatch, 2, made=made)
    assert [row[:12] for row in rows] == [f"epoch {e + 1}/8  l" for e in range(8)]
    assert len(more) == 2
    for e, row in zip((8, 9), more, strict=True):
        loss, val_loss = (made.history[name][e] for name in ("loss", "val_loss"))
        assert row == f"epoch {e + 1:2}/10  loss {loss:.4f}  val_loss {val_loss:.4f}"


@pytest.mark.parametrize(
    ("epochs", "printed"),
    [(50, range(1, 51)), (51, [*range(2, 51, 2), 51]), (105, range(5, 106, 5))],
)
def test_of_many_epochs_about_20_have_a_row_and_always_the_last(monkeypatch, epochs, printed):
    rows, _ = rows_of(monkeypatch, epochs)
    assert [int(row.split("/")[0].removeprefix("epoch")) for row in rows] == [*printed]


def test_the_last_row_is_printed_wherever_the_training_ends(monkeypatch, capsys):
    rows, made = rows_of(monkeypatch, 100, At("epoch_end", stop, 7))
    assert [row.split("/")[0] for row in rows] == ["epoch   5", "epoch   7"]
    made.fit(X, LABELS, epochs=1, callbacks=[ProgressBar()])
    assert capsys.readouterr().out.startswith("epoch 8/8  loss ")


@pytest.mark.parametrize("terminal", [True, False])
def test_without_tqdm_there_are_the_rows(monkeypatch, caplog, terminal):
    """A terminal, where the bar would have been, is told so once."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    say_once.cache_clear()
    file, made = io.StringIO(), trainer(rich=False)
    for _ in range(2):
        made.fit(X, LABELS, epochs=2, callbacks=[ProgressBar(file)])
    rows = file.getvalue().splitlines()
    assert [row[:11] for row in rows] == [f"epoch {e}/{2 if e < 3 else 4}  " for e in (1, 2, 3, 4)]
    sentence = "tqdm, which draws the progress bar, is not installed; run pip install tqdm"
    assert [record.message for record in caplog.records] == [sentence] * terminal


# --- Ctrl-C and threads ------------------------------------------------------------------------


def interrupt(made):
    signal.raise_signal(signal.SIGINT)


def interrupt_twice(made):
    interrupt(made)
    interrupt(made)


def interrupted(callback, epochs=3):
    """A trainer after Ctrl-C; the training is 2 steps an epoch."""
    made, diary = trainer(), Diary()
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, LABELS, epochs=epochs, batch_size=25, callbacks=[callback, diary])
    assert diary.calls[-1] == ("train_end",)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert made.loss.validate
    return made


@pytest.mark.parametrize("step", [3, 4])  # the first and the last one of the second epoch
def test_ctrl_c_ends_the_training_after_the_present_step(backend, step):
    made = interrupted(At("train_batch_begin", interrupt, step))
    assert made.optimizer.t == step
    assert (made.epoch, len(made.history["loss"])) == (1, 1)
    assert made.history["loss"] == fitted(epochs=1, batch_size=25).history["loss"]
    made.fit(X, LABELS, epochs=2, batch_size=25)
    assert (made.optimizer.t, made.epoch, len(made.history["loss"])) == (step + 4, 3, 3)


def test_a_second_ctrl_c_ends_it_at_once(backend):
    made = interrupted(At("train_batch_begin", interrupt_twice, 4))
    assert made.optimizer.t == 3


def test_ctrl_c_after_the_last_step_is_not_lost(backend):
    made = interrupted(At("epoch_end", interrupt, 2), epochs=2)
    assert (made.optimizer.t, made.epoch, len(made.history["loss"])) == (4, 2, 2)


def test_ctrl_c_that_is_ignored_stays_ignored(backend):
    """As for ``python train.py &`` in a script, when Ctrl-C ends the script."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        made = fitted(callbacks=[At("train_batch_begin", interrupt)])
    except KeyboardInterrupt:
        pytest.fail("the training was interrupted")
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    same(made, fitted())


def test_fit_works_in_a_thread(backend):
    results = []
    thread = threading.Thread(target=lambda: results.append(fitted(net={"backend": backend})))
    thread.start()
    thread.join()
    same(results[0], fitted())


# --- Divergence (warnings are errors here) -----------------------------------------------------


def relu_network(dtype="float32"):
    layers = xpnet.Linear(FEATURES, 8), xpnet.ReLU(), xpnet.Linear(8, 1)
    return xpnet.Sequential(*layers, dtype=dtype, seed=1)


def diverged(made, *words, way_out="clip_norm", **options):
    diary = Diary()
    refused(xpnet.DivergenceError, [*words, way_out], made.fit, callbacks=[diary], **options)
    assert diary.calls[-1] == ("train_end",)
    assert made.loss.validate
    return diary


def test_a_rate_that_is_too_large_is_named_with_step_and_layer(backend):
    net = relu_network()
    made = Trainer(net, "mse", xpnet.SGD(net, 1e30))
    words = ["step 2 of epoch 1", "layer", "Linear(", "lower the learning rate (now 1e+30)"]
    diary = diverged(made, *words, X=X, t=NUMBERS, batch_size=10, shuffle=False)
    if backend.on_host:  # a device is looked at only at the end of the epoch
        assert ("train_batch_end", 1) not in diary.calls
    assert made.history == {}


def test_the_rows_before_the_divergence_are_kept(backend):
    made = Trainer(net := relu_network(), "mse", xpnet.SGD(net, 0.01))
    made.fit(X, NUMBERS, epochs=1, batch_size=10)
    made.optimizer.lr = 1e30
    diverged(made, "of epoch 2", X=X, t=NUMBERS, batch_size=10)
    assert len(made.history["loss"]) == made.epoch == 1


def test_an_overflow_in_the_loss_itself_is_told_from_one_in_a_layer(backend):
    made = Trainer(net := relu_network(), "mse", xpnet.SGD(net, 0.01))
    words = ["the loss became inf in step 1 of epoch 1", "every layer's output is still finite"]
    way_out = "the targets are large, to 1e+30: scale them, as t / abs(t).max()"
    diverged(made, *words, way_out=way_out, X=X, t=np.full(N, 1e30), batch_size=None)


class Eighth(xpnet.Layer):
    """Y = X⁸: infinite where X is large."""

    def forward(self, X):
        Y = self.Y[: len(X)]
        for A in (X, Y, Y):
            self.xp.multiply(A, A, out=Y)
        return Y


def test_the_layer_is_found_in_every_row_of_the_batch(backend):
    """The bad row is in the batch of 4 on the CPU, and in the short last one on a device."""
    net = xpnet.Sequential(xpnet.Identity(), Eighth(), xpnet.Identity())
    rows = np.ones((5, 1))
    rows[2 if backend.on_host else 4] = 1e10
    made, step = Trainer(net, "mse", "sgd"), 1 if backend.on_host else 2
    words = [f"the loss became inf in step {step} of epoch 1", "layer 1, Eighth()"]
    way_out, data = "the inputs are large, to 1e+10: scale them", {"X": rows, "t": np.ones(5)}
    diverged(made, *words, way_out=way_out, **data, batch_size=4, shuffle=False)


def test_a_divergence_that_shows_in_the_validation_first(backend):
    """One step makes the weights huge; the loss of that step is still fine."""
    made = Trainer(net := relu_network(), "mse", xpnet.SGD(net, 1e30))
    data = {"X": X, "t": NUMBERS, "batch_size": None, "validation_data": (X, NUMBERS)}
    diverged(made, **data, epochs=1)


def test_early_stopping_brings_back_the_best_weights_after_a_divergence(backend):
    made = Trainer(net := relu_network(), "mse", xpnet.SGD(net, 0.01))
    kept = Weights()
    hot = At("epoch_end", lambda made: setattr(made.optimizer, "lr", 1e30))
    with pytest.raises(xpnet.DivergenceError):
        made.fit(X, NUMBERS, callbacks=[kept, EarlyStopping("loss"), hot])
    np.testing.assert_array_equal(values(made.net), kept.of[0])


def test_targets_too_large_for_the_network_are_reported_and_not_warned_of(backend):
    made = Trainer(relu_network(), "mse", "sgd")
    with pytest.raises(xpnet.XpnetError):
        made.fit(X, np.full(N, 1e300))


# --- A warm step makes nothing new and waits for nothing ----------------------------------------


class Traced(xpnet.Callback):
    """The most memory that any step takes for itself, after the first epoch."""

    most = -1

    def on_train_batch_begin(self, batch, logs):
        tracemalloc.reset_peak()
        self.before = tracemalloc.get_traced_memory()[0]

    def on_train_batch_end(self, batch, logs):
        if self.trainer.epoch:
            self.most = max(self.most, tracemalloc.get_traced_memory()[1] - self.before)


def wide(rich):
    """784-64-32-10."""
    layers = []
    for n_in, n_out in [(784, 64), (64, 32)]:
        layers += [xpnet.Linear(n_in, n_out)]
        layers += [xpnet.BatchNorm1d(n_out)] * rich + [xpnet.ReLU()] + [xpnet.Dropout(0.2)] * rich
    return xpnet.Sequential(*layers, xpnet.Linear(32, 10))


PIXELS = rng.integers(0, 256, (300, 784)).astype(np.uint8)
DIGITS = rng.integers(0, 10, 300)


@pytest.mark.parametrize("rich", [False, True], ids=["plain", "dropout and batchnorm"])
@pytest.mark.parametrize("weights", [None, np.ones(300)], ids=["unweighted", "weighted"])
def test_a_warm_step_on_numpy_makes_no_array(rich, weights):
    assert 0 <= most_of_a_warm_step(rich, weights) < 64 * 1024


def most_of_a_warm_step(rich, weights):
    """Return its bytes: an activation of the first layer has 128·64·4 = 32 KB, its input 400."""
    made, traced = Trainer(wide(rich), "softmax_cross_entropy"), Traced()
    tracemalloc.start()
    try:
        made.fit(PIXELS, DIGITS, epochs=2, batch_size=128, sample_weight=weights,
                 callbacks=[traced])  # fmt: skip
    finally:
        tracemalloc.stop()
    return traced.most


class Fenced(xpnet.Callback):
    """Lets no step after the first epoch wait for the device or make an array there."""

    steps = 0

    def on_train_batch_begin(self, batch, logs):
        self.fence = contextlib.ExitStack()
        if self.trainer.epoch:
            self.fence.enter_context(strictxp.no_sync())
            self.fence.enter_context(strictxp.no_alloc())
            self.steps += 1

    def on_train_batch_end(self, batch, logs):
        self.fence.close()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_a_warm_step_on_a_device_makes_no_array_and_does_not_wait(strict, case, weights):
    loss, outputs, t = CASES[case]
    fence, made = Fenced(), trainer(loss, outputs)
    made.optimizer.lr = xpnet.schedules.Cosine(0.01, 100)
    try:
        made.fit(X, t, epochs=2, batch_size=16, sample_weight=weights, callbacks=[fence])
    finally:
        fence.fence.close()
    assert fence.steps == 4


def test_a_warm_step_of_pixels_on_a_device(strict):
    fence = Fenced()
    made = Trainer(wide(rich=True), "softmax_cross_entropy")
    try:
        made.fit(PIXELS, DIGITS, epochs=2, batch_size=128, callbacks=[fence])
    finally:
        fence.fence.close()
    assert fence.steps == 3


def test_an_epoch_on_a_device_reads_it_once(strict, monkeypatch):
    reads = []
    plain = strictxp.ndarray.get
    monkeypatch.setattr(
        strictxp.ndarray, "get", lambda self, *a, **k: reads.append(1) or plain(self, *a, **k)
    )
    made = trainer()
    made.fit(X, LABELS, epochs=1, batch_size=16)
    reads.clear()
    made.fit(X, LABELS, epochs=3, batch_size=16)
    assert len(reads) == 3


# --- It learns ---------------------------------------------------------------------------------


def test_it_learns(backend):
    t = X[:, 0] * X[:, 1] - X[:, 2]
    made = trainer("mse", 1, rich=False, metrics=["r2"])
    made.fit(X, t, epochs=200, batch_size=16)
    assert made.history["loss"][-1] < 1e-3 < made.history["loss"][0]
    assert made.evaluate(X, t)["r2"] > 0.99


# --- A subclass, and the state as plain data ----------------------------------------------------


class Counting(Trainer):
    """Has a gradient of its own: here that of `Trainer`, counted."""

    calls = 0

    def backpropagate(self, X, t, *weights):
        self.calls += 1
        super().backpropagate(X, t, *weights)


class Halving(Trainer):
    """Has a step of its own."""

    def step(self, size):
        super().step(size)
        self.net.xp.multiply(self.net.params, 0.5, out=self.net.params)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_a_subclass_may_have_a_gradient_of_its_own(weights):
    net = network()
    made = Counting(net, "softmax_cross_entropy", xpnet.Adam(net, 0.01))
    made.fit(X, LABELS, epochs=2, batch_size=16, sample_weight=weights)
    assert made.calls == 2 * made.steps_per_epoch
    same(made, fitted(sample_weight=weights))


def test_a_subclass_may_have_a_step_of_its_own():
    net = network(rich=False)
    made = Halving(net, "softmax_cross_entropy", xpnet.SGD(net, 1e-9))
    before = values(net)
    made.fit(X, LABELS, epochs=1, batch_size=25)
    np.testing.assert_allclose(values(net), before / 4, atol=1e-6)


@pytest.mark.parametrize("name", ["step", "backpropagate"])
@pytest.mark.parametrize("where", ["object", "class"])
def test_a_step_may_be_put_into_object_or_class(monkeypatch, name, where):
    net, calls, wanted = network(), [], fitted()
    made = Trainer(net, "softmax_cross_entropy", xpnet.Adam(net, 0.01))
    own = getattr(made, name)

    def counted(*args):
        calls.append(1)
        return own(*args[where == "class" :])

    monkeypatch.setattr(made if where == "object" else Trainer, name, counted)
    made.fit(X, LABELS, epochs=2, batch_size=16)
    assert len(calls) == 2 * made.steps_per_epoch
    same(made, wanted)


def test_a_state_is_plain_data_and_brings_everything_back():
    made, other = fitted(), fitted(epochs=4)
    state = made.state()
    assert json.loads(json.dumps(state.about)) == state.about
    assert {type(a) for a in state.arrays.values()} == {np.ndarray}
    other.restore(state)
    assert (other.epoch, other.batch, other.optimizer.t) == (2, 0, made.optimizer.t)
    same(other, made)
    for each in (made, other):
        each.fit(X, LABELS, epochs=1, batch_size=16)
    same(other, made)


def test_what_cannot_be_restored_changes_nothing():
    made = fitted()
    good = made.state()
    before, history = values(made.net), dict(made.history)
    for wrong in (
        fitted(net={"seed": 1}, epochs=1).state(),
        dataclasses.replace(good, arrays={**good.arrays, "0.W": good.arrays["0.W"][1:]}),
        dataclasses.replace(good, arrays={**good.arrays, "losses": np.zeros(3)}),
        dataclasses.replace(good, arrays={k: a for k, a in good.arrays.items() if k != "4.b"}),
    ):
        with pytest.raises(xpnet.CheckpointError, match=r"another training|damaged"):
            made.restore(wrong)
        np.testing.assert_array_equal(values(made.net), before)
        assert (made.history, made.epoch) == (history, 2)


def test_before_the_first_fit_there_is_no_state():
    with pytest.raises(xpnet.XpnetError, match="before the first fit"):
        trainer().state()
    with pytest.raises(xpnet.XpnetError, match="call fit"):
        trainer().restore(fitted().state())
