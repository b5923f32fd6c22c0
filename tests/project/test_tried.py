"""What others have reported about their libraries, tried here; docs/tried.md is the list.

The name of each test is a source of that page. Right values come from formulas, scikit-learn,
PyTorch and SciPy.
"""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import schedules

PAGE = Path(__file__).parents[2] / "docs" / "tried.md"
TRIED = {}


def source(name):
    """Put a test in the list under the report that it tries."""

    def listed(test):
        assert name not in TRIED
        TRIED[name] = test
        return test

    return listed


def data(n=24, features=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, features)), rng.integers(0, 2, n)


def network(*layers, dtype="float64", seed=0):
    return xpnet.Sequential(*layers, dtype=dtype, seed=seed)


def line(features=3, outputs=1, **options):
    return network(xpnet.Linear(features, outputs), **options)


def gradient_step(net, g, optimizer):
    """Make a step with the gradient g; return by how much the parameters changed."""
    before = net.params.copy()
    net.grads[...] = g
    optimizer.step()
    return net.params - before


class Seen(xpnet.Callback):
    """Keeps what a function of the trainer returns after each epoch."""

    def __init__(self, look):
        self.look, self.seen = look, []

    def on_epoch_end(self, epoch, logs):
        self.seen.append(self.look(self.trainer))


# Losses


@source("pytorch/pytorch#2221")
def logits_of_minus_100(tmp_path):
    Y, t = np.array([[-100.0], [-1000.0], [1000.0]]), np.array([[0.0], [0.0], [1.0]])
    loss = xpnet.BinaryCrossEntropy(from_logits=True)
    assert float(loss.forward(Y, t)) == pytest.approx(0.0, abs=1e-40)
    assert float(loss.forward(Y, 1 - t)) == pytest.approx(2100 / 3)


@source("pytorch/pytorch#13773")
def weight_of_positives_for_large_scores(tmp_path):
    Y, t = np.array([[0.0], [-120.0]], "float32"), np.array([[0.0], [1.0]], "float32")
    for weight in (1.0, 3.0):
        loss = xpnet.BinaryCrossEntropy(from_logits=True, pos_weight=weight)
        assert float(loss.forward(Y, t)) == pytest.approx((math.log(2) + weight * 120) / 2)
        np.testing.assert_allclose(loss.backward(), [[0.25], [-weight / 2]], rtol=1e-6)


@source("pytorch/pytorch#73205")
def smoothing_leaves_ignored_samples_out(tmp_path):
    Y = np.random.default_rng(0).normal(size=(5, 4))
    t = np.array([1, -100, 3, -100, 0])
    some, kept = xpnet.SoftmaxCrossEntropy(label_smoothing=0.2, ignore_index=-100), t != -100
    alone = xpnet.SoftmaxCrossEntropy(label_smoothing=0.2)
    assert float(some.forward(Y, t)) == pytest.approx(float(alone.forward(Y[kept], t[kept])))
    logs = Y - np.log(np.exp(Y).sum(1, keepdims=True))
    right = [-0.8 * logs[i, t[i]] - 0.2 * logs[i].mean() for i in (0, 2, 4)]
    assert float(some.forward(Y, t)) == pytest.approx(np.mean(right))
    dY = some.backward()
    assert not dY[~kept].any()


@source("pytorch/pytorch#17447")
def huber_has_no_jump(tmp_path):
    for delta in (0.3, 1.0, 4.0):
        t = np.zeros((1, 1))
        below, above = (
            float(xpnet.Huber(delta).forward(np.array([[delta * k]]), t))
            for k in (1 - 1e-9, 1 + 1e-9)
        )
        assert below == pytest.approx(delta**2 / 2) == above
        far = xpnet.Huber(delta)
        far.forward(np.array([[delta + 5.0]]), t)
        assert float(far.backward()[0, 0]) == pytest.approx(delta)


@source("pytorch/pytorch#16045")
def a_column_and_a_row_of_targets(tmp_path):
    Y = np.arange(4.0).reshape(-1, 1)
    loss = xpnet.MeanSquaredError()
    assert float(loss.forward(Y, np.arange(4.0) + 2)) == 4.0
    assert loss.backward().shape == (4, 1)
    net, X = line(), data()[0]
    t = X[:, 0] * 3
    one = xpnet.Trainer(net, "mse").evaluate(X, t.reshape(-1, 1))
    assert one["loss"] == pytest.approx(np.mean((net.predict(X)[:, 0] - t) ** 2))
    assert xpnet.Trainer(net, "mse").evaluate(X, t) == one


@source("jorgenkg/python-neural-network#6")
def the_whole_jacobian_of_softmax(tmp_path):
    X, _ = data(6)
    net = network(xpnet.Linear(3, 4), xpnet.Softmax())
    T = np.random.default_rng(1).normal(size=(6, 4))
    report = xpnet.gradcheck(net, "mse", X, T)
    assert report.ok, report
    layer = network(xpnet.Softmax())
    Y = layer.forward(np.array([[0.3, -1.0, 2.0]]))
    layer.input_gradient = True
    Y = layer.forward(np.array([[0.3, -1.0, 2.0]])).copy()[0]
    jacobian = np.diag(Y) - np.outer(Y, Y)
    for k in range(3):
        layer.forward(np.array([[0.3, -1.0, 2.0]]))
        np.testing.assert_allclose(layer.backward(np.eye(3)[k : k + 1])[0], jacobian[k], atol=1e-15)


# Optimizers


@source("pytorch/pytorch#46849")
def clipping_of_huge_gradients(tmp_path):
    for dtype, size in (("float32", 1e20), ("float32", 1e27), ("float64", 1e160)):
        net = line(dtype=dtype)
        step = gradient_step(net, size, xpnet.SGD(net, 1.0, clip_norm=1.0))
        np.testing.assert_allclose(step, -0.5, rtol=1e-5)


@source("pytorch/pytorch#31367")
def clipping_below_zero(tmp_path):
    for wrong in (-1.0, 0.0, math.nan):
        with pytest.raises(xpnet.OptionError, match="clip_norm"):
            xpnet.SGD(line(), clip_norm=wrong)


@source("tensorflow/tensorflow#9047")
def epsilon_of_adam_is_not_corrected(tmp_path):
    net, eps, g = line(), 0.1, 0.5
    optimizer = xpnet.Adam(net, 0.01, eps=eps)
    m = v = 0.0
    for n in range(1, 4):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        right = -0.01 * (m / (1 - 0.9**n)) / (math.sqrt(v / (1 - 0.999**n)) + eps)
        np.testing.assert_allclose(gradient_step(net, g, optimizer), right, rtol=1e-9)


@source("chainer/chainer#261")
def weight_decay_makes_weights_smaller(tmp_path):
    for kind in (xpnet.SGD, xpnet.Adam, xpnet.AdamW, xpnet.RMSprop):
        net = line()
        net[0].W = np.full((3, 1), 2.0)
        gradient_step(net, 0.0, kind(net, 0.01, weight_decay=0.5))
        assert np.all(net[0].W < 2.0), kind


@source("chainer/chainer#7335")
def clipping_comes_before_decay(tmp_path):
    torch = pytest.importorskip("torch")
    net = line()
    p = torch.tensor(net.params.copy(), requires_grad=True)
    theirs = torch.optim.SGD([p], 0.1, momentum=0.9, weight_decay=0.3)
    optimizer = xpnet.SGD(net, 0.1, momentum=0.9, weight_decay=0.3, clip_norm=1.5)
    for g in (10.0, 0.1, -3.0):
        gradient_step(net, g, optimizer)
        p.grad = torch.full_like(p, g)
        torch.nn.utils.clip_grad_norm_([p], 1.5)
        theirs.step()
        np.testing.assert_allclose(net.params, p.detach().numpy(), rtol=1e-6)


@source("clab/dynet#641")
def clipping_does_not_depend_on_the_rate(tmp_path):
    for lr in (0.01, 1.0, 50.0):
        net = line()
        step = gradient_step(net, 10.0, xpnet.SGD(net, lr, clip_norm=1.0))
        np.testing.assert_allclose(step, -lr / 2)


# Learning rates


@source("pytorch/pytorch#91765")
def one_cycle_stays_at_its_end(tmp_path):
    rate = schedules.OneCycle(0.01, 50)
    values = [rate(k) for k in range(50)]
    assert values[-1] == pytest.approx(0.01 / 250_000)
    assert np.all(np.diff(values[values.index(max(values)) :]) < 0)
    assert rate(50) == rate(1000) == values[-1]


@source("pytorch/pytorch#20405")
def cosine_of_many_steps(tmp_path):
    rate = schedules.Cosine(0.1, 10**9)
    for k in (0, 1, 10**8, 5 * 10**8, 10**9 - 1, 10**9, 10**12):
        right = 0.05 * (1 + math.cos(math.pi * min(k / 10**9, 1)))
        assert rate(k) == pytest.approx(right, abs=1e-15)


@source("Lightning-AI/pytorch-lightning#4655")
def a_resumed_training_has_the_rates_of_one_without_a_break(tmp_path):
    X, t = data()

    def rates(epochs, **options):
        net = network(xpnet.Linear(3, 2))
        optimizer = xpnet.SGD(net, schedules.Step(1e-2, 8, 0.1))
        seen = Seen(lambda trainer: float(trainer.optimizer.lr))
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", optimizer)
        save = [xpnet.Checkpoint(tmp_path, every_steps=1)] if "resume" not in options else []
        trainer.fit(X, t, epochs=epochs, batch_size=12, callbacks=[seen, *save], **options)
        return seen.seen, net.params.copy()

    whole, weights = rates(8)
    for path in tmp_path.glob("*"):
        path.unlink()
    first, _ = rates(3)
    rest, resumed = rates(8, resume=tmp_path)
    assert first + rest == whole
    assert np.array_equal(weights, resumed)
    rate = schedules.Step(1e-2, 8, 0.1)
    assert whole == [rate(2 * epoch) for epoch in range(1, 9)]  # that of the next step


@source("skorch-dev/skorch#418")
def validation_is_no_step_of_the_schedule(tmp_path):
    X, t = data()

    def weights(**options):
        net = network(xpnet.Linear(3, 2))
        optimizer = xpnet.SGD(net, lambda step: 0.1 * 2.0**-step)
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", optimizer)
        trainer.fit(X, t, epochs=3, batch_size=10, **options)
        return net.params.tobytes()

    assert weights() == weights(validation_data=(X, t))


# Batches, and the numbers of an epoch


class Batches(xpnet.Layer):
    """Keeps what goes through it in training."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, X):
        self.seen.append(np.array(X))
        return X

    def backward(self, dY):
        return dY

    def output_shape(self, shape):
        return shape


def batches(X, epochs, size, seed=0):
    """Return the batches of each epoch."""
    layer = Batches()
    net = network(layer, xpnet.Linear(X.shape[1], 1))
    net.predict(X[:1])
    layer.seen.clear()
    xpnet.Trainer(net, "mse", "sgd", seed=seed).fit(X, X[:, :1], epochs=epochs, batch_size=size)
    n = len(layer.seen) // epochs
    return [layer.seen[k * n : (k + 1) * n] for k in range(epochs)]


@source("keras-team/keras#13591")
def the_validation_loss_is_that_of_all_samples(tmp_path):
    X, t = data(2500)
    X[-100:] *= 30
    net = network(xpnet.Linear(3, 2))
    history = xpnet.Trainer(net, "softmax_cross_entropy", "sgd").fit(
        X[:10], t[:10], epochs=1, batch_size=3, validation_data=(X, t)
    )
    Y = net.predict(X)
    right = np.mean(np.log(np.exp(Y).sum(1)) - Y[np.arange(2500), t])
    assert history["val_loss"][0] == pytest.approx(right, rel=1e-12)


@source("https-deeplearning-ai/tensorflow-3#3")
def a_short_last_batch_counts_by_its_samples(tmp_path):
    X, t = data(7)
    T = t.reshape(-1, 1) * 100.0
    net = line()
    optimizer = xpnet.SGD(net, 1e-300)
    history = xpnet.Trainer(net, "mse", optimizer).fit(X, T, epochs=1, batch_size=3)
    assert history["loss"][0] == pytest.approx(np.mean((net.predict(X) - T) ** 2), rel=1e-12)


@source("skorch-dev/skorch#55")
def a_metric_is_of_the_whole_set(tmp_path):
    from sklearn.metrics import roc_auc_score

    X, t = data(1500)
    net = network(xpnet.Linear(3, 1), xpnet.Sigmoid())
    metric = xpnet.metrics.Metric(roc_auc_score, mode="max", name="auc")
    trainer = xpnet.Trainer(net, "bce", "sgd", metrics=["f1", metric])
    values = trainer.evaluate(X, t.reshape(-1, 1))
    from sklearn.metrics import f1_score

    Y = net.predict(X)[:, 0]
    assert values["auc"] == pytest.approx(roc_auc_score(t, Y), rel=1e-12)
    assert values["f1"] == pytest.approx(f1_score(t, Y > 0.5), rel=1e-12)


@source("aigamedev/scikit-neuralnetwork#158")
def each_sample_is_in_one_batch_of_an_epoch(tmp_path):
    X = np.arange(7.0).reshape(-1, 1)
    for size, sizes in ((3, [3, 3, 1]), (7, [7]), (100, [7]), (1, [1] * 7)):
        epochs = batches(X, 2, size)
        for epoch in epochs:
            assert [len(x) for x in epoch] == sizes
            assert sorted(np.concatenate(epoch)[:, 0]) == list(range(7))


@source("facebookresearch/ClassyVision#118")
def each_epoch_has_an_order_of_its_own(tmp_path):
    X = np.arange(32.0).reshape(-1, 1)

    def orders(seed):
        return [tuple(np.concatenate(epoch)[:, 0]) for epoch in batches(X, 3, 8, seed)]

    first = orders(0)
    assert len({*first, *orders(1), tuple(range(32))}) == 7
    assert orders(0) == first


# Early stopping


def stopped(patience, epochs, callback=None, monitor="val_loss"):
    """Train where the validation loss goes down and up again; return network, callback, losses."""
    X, t = np.ones((4, 1)), np.ones((4, 1))
    net = network(xpnet.Linear(1, 1, bias=False))
    net[0].W = np.zeros((1, 1))
    early = callback or xpnet.EarlyStopping(monitor, patience=patience)
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, 0.05))
    weights = Seen(lambda trainer: float(net[0].W[0, 0]))
    history = trainer.fit(
        X, t, epochs=epochs, batch_size=4, validation_data=(X, t * 0.5), callbacks=[weights, early]
    )
    return net, early, history, weights.seen


@source("keras-team/keras#12511")
def the_best_weights_come_back_without_a_stop(tmp_path):
    net, _, history, weights = stopped(patience=50, epochs=12)
    best = int(np.argmin(history["val_loss"]))
    assert 0 < best < 11
    assert len(history["val_loss"]) == 12
    assert float(net[0].W[0, 0]) == weights[best]


@source("keras-team/keras#20521")
def early_stopping_is_used_again(tmp_path):
    early = xpnet.EarlyStopping(patience=3)
    first = stopped(3, 40, early)
    second = stopped(3, 40, early)
    assert first[2]["val_loss"] == second[2]["val_loss"]
    assert len(first[2]["val_loss"]) < 40
    assert float(first[0][0].W[0, 0]) == float(second[0][0].W[0, 0])


@source("keras-team/keras#23559")
def patience_below_one(tmp_path):
    for wrong in (-1, 0, 2.5, True):
        with pytest.raises(xpnet.OptionError, match="patience"):
            xpnet.EarlyStopping(patience=wrong)


@source("pytorch/tutorials#188")
def values_that_were_taken_out_do_not_change(tmp_path):
    X, t = data()
    net = network(xpnet.Linear(3, 2))
    taken, kept = net.state_dict(), net.copy()
    before = {name: value.copy() for name, value in taken.items()}
    xpnet.Trainer(net, "softmax_cross_entropy").fit(X, t, epochs=1)
    assert not np.array_equal(net[0].W, before["0.W"])
    for values in (taken, kept.state_dict()):
        assert all(np.array_equal(values[name], before[name]) for name in before)


# Random numbers


@source("PaddlePaddle/Paddle#7796")
def each_step_drops_other_values(tmp_path):
    net = network(xpnet.Dropout(0.5), xpnet.Dropout(0.5))
    net.train()
    X = np.ones((8, 64))
    masks = [net.forward(X).copy() for _ in range(4)]
    assert len({m.tobytes() for m in masks}) == 4
    kept = np.mean([m != 0 for m in masks])
    assert 0.2 < kept < 0.3
    assert np.mean(masks) == pytest.approx(1.0, abs=0.15)


@source("harvard-edge/cs249r_book#1869")
def numpys_seed_is_not_used(tmp_path):
    X, t = data()

    def weights():
        net = network(xpnet.Linear(3, 8), xpnet.ReLU(), xpnet.Dropout(0.5), xpnet.Linear(8, 2))
        xpnet.Trainer(net, "softmax_cross_entropy").fit(X, t, epochs=2, batch_size=5)
        return net.params.tobytes()

    state = np.random.get_state()
    np.random.seed(1)
    first = weights()
    after = np.random.get_state()[1].tobytes()
    np.random.seed(1)
    assert np.random.get_state()[1].tobytes() == after
    np.random.seed(2)
    assert weights() == first
    np.random.set_state(state)


# Data


@source("dnouri/nolearn#7")
def a_series_whose_index_has_gaps(tmp_path):
    pd = pytest.importorskip("pandas")
    X, t = data(40)
    index = np.random.default_rng(3).permutation(40) * 7 + 5
    for early in (False, True):
        plain, framed = (estimator(max_iter=3, early_stopping=early) for _ in range(2))
        fitted(plain, X, t)
        fitted(framed, pd.DataFrame(X, index=index), pd.Series(t, index=index[::-1]))
        assert np.array_equal(plain.coefs_[0], framed.coefs_[0])
    nets = [network(xpnet.Linear(3, 2)) for _ in range(2)]
    xpnet.Trainer(nets[0], "softmax_cross_entropy").fit(X, t, epochs=1)
    xpnet.Trainer(nets[1], "softmax_cross_entropy").fit(
        pd.DataFrame(X, index=index), pd.Series(t, index=index), epochs=1
    )
    assert np.array_equal(nets[0].params, nets[1].params)


# Estimators


def estimator(**options):
    from xpnet.estimators import MLPClassifier

    return MLPClassifier((5,), random_state=0, **options)


def fitted(e, *arguments):
    """Fit an estimator, however few its epochs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return e.fit(*arguments)


@source("keras-team/keras#8346")
def sorted_classes_are_all_in_the_validation_data(tmp_path):
    t = np.repeat(np.arange(5), 20)
    e = estimator(early_stopping=True, learning_rate_init=0.05, validation_fraction=0.2)
    fitted(e, np.eye(5)[t], t)
    assert max(e.validation_scores_) == 1.0


@source("scikit-learn/scikit-learn#25693")
def partial_fit_with_early_stopping(tmp_path):
    X, t = data()
    with pytest.raises(ValueError, match="early_stopping"):
        estimator(early_stopping=True).partial_fit(X, t, classes=[0, 1])


@source("scikit-learn/scikit-learn#6994")
def a_part_with_one_of_the_classes(tmp_path):
    e = estimator()
    e.partial_fit([[1.0], [2.0], [3.0]], ["a", "b", "c"], classes=["a", "b", "c", "d"])
    e.partial_fit([[4.0]], ["d"])
    assert list(e.classes_) == ["a", "b", "c", "d"]
    assert e.predict_proba([[4.0]]).shape == (1, 4)
    with pytest.raises(ValueError, match="e"):
        e.partial_fit([[4.0]], ["e"])


@source("scikit-learn/scikit-learn#12505")
def partial_fit_of_several_labels(tmp_path):
    from sklearn.neural_network import MLPClassifier

    X, _ = data(20)
    Y = (X > 0).astype(int)
    options = {"solver": "sgd", "shuffle": False, "batch_size": 20, "random_state": 0}
    ours, theirs = estimator(**{k: v for k, v in options.items() if k != "random_state"}), None
    theirs = MLPClassifier((5,), **options)
    for _ in range(5):
        ours.partial_fit(X, Y, classes=[0, 1, 2])
        theirs.partial_fit(X, Y, classes=[0, 1, 2])
    np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-10)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-10)


@source("scikit-learn/scikit-learn#33436")
def samples_that_all_weigh_nothing(tmp_path):
    X, t = data()
    e = estimator().partial_fit(X, t, classes=[0, 1])
    before = [W.copy() for W in e.coefs_], e.t_
    with pytest.raises(ValueError, match="weight"):
        e.partial_fit(X, t, sample_weight=np.zeros(len(t)))
    assert all(np.array_equal(a, b) for a, b in zip(before[0], e.coefs_, strict=True))
    assert e.t_ == before[1]


@source("scikit-learn/scikit-learn#7976")
def warm_start_with_other_classes(tmp_path):
    X, t = data(30)
    e = fitted(estimator(warm_start=True, max_iter=2), X, t)
    for other in (t + 1, np.arange(30) % 3, t.astype(str)):
        with pytest.raises(ValueError, match="class"):
            e.fit(X, other)


def check_class_weights(words, class_weight):
    X, t = data(30)
    y = np.array(words)[t]
    weights = np.array([class_weight[words[k]] for k in t])
    e = estimator(class_weight=class_weight).partial_fit(X, y, classes=words)
    other = estimator().partial_fit(X, y, classes=words, sample_weight=weights)
    assert np.array_equal(e.coefs_[0], other.coefs_[0])
    plain = estimator().partial_fit(X, y, classes=words)
    assert not np.array_equal(e.coefs_[0], plain.coefs_[0])


@source("lightgbm-org/LightGBM#2198")
def class_weights_of_words(tmp_path):
    check_class_weights(["yes", "no"], {"yes": 1.0, "no": 4.0})


@source("scikit-learn/scikit-learn#34883")
def class_weights_of_words_that_are_digits(tmp_path):
    check_class_weights(["1", "2"], {"1": 1.0, "2": 4.0})
    check_class_weights(["01", "1"], {"1": 3.0, "01": 4.0})
    X, t = data(30)
    y = t.astype(str)
    e = estimator(class_weight={"1": 3.0}).partial_fit(X, y, classes=["0", "1"])
    other = estimator().partial_fit(X, y, classes=["0", "1"], sample_weight=1.0 + 2 * t)
    assert np.array_equal(e.coefs_[0], other.coefs_[0])
    with pytest.raises(ValueError, match="class_weight"):
        estimator(class_weight={"1": 3.0, "2": 1.0}).partial_fit(X, y, classes=["0", "1"])


@source("scikit-learn/scikit-learn#11305")
def columns_in_another_order(tmp_path):
    pd = pytest.importorskip("pandas")
    X, t = data()
    e = estimator().partial_fit(pd.DataFrame(X, columns=list("abc")), t, classes=[0, 1])
    with pytest.raises(ValueError, match="order"):
        e.predict(pd.DataFrame(X, columns=list("abc"))[list("cba")])


# Activations


@source("jeshraghian/snntorch#433")
def gradients_of_activations_at_large_numbers(tmp_path):
    x = np.array([[-1e4, -800.0, -90.0, 90.0, 800.0, 1e4]])
    for kind, right in ((xpnet.Sigmoid, 0.0), (xpnet.Tanh, 0.0), (xpnet.GELU, x > 0)):
        for dtype in ("float32", "float64"):
            net = network(kind(), dtype=dtype)
            net.input_gradient = True
            net.forward(x.astype(dtype))
            dX = net.backward(np.ones_like(x, dtype))
            np.testing.assert_allclose(dX, np.broadcast_to(right, x.shape), atol=1e-30)


@source("andrewschreiber/numpy-saliency#2")
def softmax_of_large_scores_row_by_row(tmp_path):
    from scipy.special import softmax

    x = np.array([[1e4, 0.0, -1e4], [1.0, 2.0, 3.0], [-900.0, -900.0, -901.0]])
    np.testing.assert_allclose(
        network(xpnet.Softmax()).predict(x), softmax(x, axis=1), rtol=1e-12, atol=1e-300
    )


# Normalisation and activations


def norm(layer, X, dtype="float32"):
    return network(layer, dtype=dtype).predict(np.asarray(X, dtype))


@source("FluxML/Flux.jl#1992")
def batch_norm_of_one_sample(tmp_path):
    net = network(xpnet.Linear(3, 3), xpnet.BatchNorm1d(3))
    X, _ = data(7)
    for size in (1, 2, 3, 6):
        with pytest.raises(xpnet.XpnetError, match="batch_size"):
            xpnet.Trainer(net, "mse").fit(X, X, epochs=1, batch_size=size)
    assert np.array_equal(net[1].state["variance"], np.ones((1, 3)))
    xpnet.Trainer(net, "mse").fit(X, X, epochs=1, batch_size=4)


@source("keras-team/keras#3078")
def a_prediction_does_not_depend_on_its_batch(tmp_path):
    net = network(xpnet.Linear(3, 4), xpnet.BatchNorm1d(4), xpnet.Dropout(0.5))
    X, _ = data(2100)
    net.train()
    net.forward(X[:50])
    Y = net.predict(X)
    np.testing.assert_allclose(np.concatenate([net.predict(X[:1]), net.predict(X[1:])]), Y, 1e-12)


@source("pytorch/pytorch#20967")
def an_option_of_batch_norm_that_is_set_later(tmp_path):
    layer = xpnet.BatchNorm1d(3)
    with pytest.raises(xpnet.XpnetError, match="track_running_stats"):
        layer.track_running_stats = False


@source("pytorch/pytorch#5766")
def a_plain_average_of_the_batches(tmp_path):
    net = network(xpnet.BatchNorm1d(3, momentum=None))
    net.train()
    X, _ = data(40)
    for k in range(0, 40, 10):
        net.forward(X[k : k + 10])
    np.testing.assert_allclose(net[0].state["mean"][0], X.mean(0), rtol=1e-12)


@source("pytorch/pytorch#51102")
def layer_norm_far_from_zero(tmp_path):
    X = 2000 + np.random.default_rng(0).normal(size=(5, 64))
    X = X.astype("float32").astype("float64")
    right = (X - X.mean(1, keepdims=True)) / np.sqrt(X.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(norm(xpnet.LayerNorm(64), X), right, atol=5e-4)


@source("ml-explore/mlx#2238")
def layer_norm_of_almost_equal_numbers(tmp_path):
    X = 1449 + np.arange(16.0).reshape(1, -1) / 256
    right = (X - X.mean()) / np.sqrt(X.var() + 1e-5)
    np.testing.assert_allclose(norm(xpnet.LayerNorm(16), X), right, atol=5e-3)
    assert not norm(xpnet.LayerNorm(16), np.full((1, 16), 40001.0)).any()


@source("chainer/chainer#5922")
def leaky_relu_that_leaks_nothing(tmp_path):
    layer = xpnet.LeakyReLU(0.1)
    for wrong in (0.0, -0.1):
        with pytest.raises(xpnet.OptionError, match="slope"):
            xpnet.LeakyReLU(wrong)
        with pytest.raises(xpnet.OptionError, match="slope"):
            layer.slope = wrong


@source("facebookresearch/fairseq#2235")
def the_gradient_of_gelu_far_out(tmp_path):
    for kind in ("tanh", "none"):
        for dtype, x in (("float32", 1e14), ("float64", 1e160)):
            net = network(xpnet.GELU(kind), dtype=dtype)
            net.input_gradient = True
            net.forward(np.array([[x, -x]], dtype))
            assert net.backward(np.ones((1, 2), dtype)).tolist() == [[1.0, 0.0]]


# Pictures


@source("Lightning-AI/torchmetrics#1971")
def rows_of_a_confusion_matrix_are_the_truth(tmp_path):
    pytest.importorskip("matplotlib")
    import xpnet.plots

    net = network(xpnet.Linear(4, 4, bias=False))
    net[0].W = np.eye(4)
    shown = xpnet.plots.confusion(net, np.eye(4)[[0, 3, 2]], np.array([1, 3, 2]))
    assert shown.confusion_matrix[0].sum() == 0
    assert shown.confusion_matrix[1, 0] == 1
    assert shown.ax_.get_xlabel() == "predicted"
    assert shown.ax_.get_ylabel() == "true"


# Files


@source("hqucms/weaver-core#29")
def an_exported_network_takes_batches_of_any_size(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, _ = data(9)
    net = network(xpnet.Linear(3, 4), xpnet.ReLU(), xpnet.Linear(4, 2), dtype="float32")
    net.predict(X[:1])
    xpnet.exchange.to_onnx(net, tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    for n in (1, 2, 9):
        Y = session.run(None, {session.get_inputs()[0].name: X[:n].astype("float32")})[0]
        np.testing.assert_allclose(Y, net.predict(X[:n]), atol=1e-6)


@source("pytorch/pytorch#49229")
def an_export_in_training_mode_is_that_of_evaluation(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    X, _ = data(9)
    net = network(
        xpnet.Linear(3, 4), xpnet.BatchNorm1d(4), xpnet.Dropout(0.5), xpnet.Linear(4, 2),
        dtype="float32",
    )  # fmt: skip
    net.train()
    net.forward(X.astype("float32"))
    xpnet.exchange.to_onnx(net, tmp_path / "net.onnx")
    assert net.training
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    Y = session.run(None, {session.get_inputs()[0].name: X.astype("float32")})[0]
    np.testing.assert_allclose(Y, net.predict(X), atol=1e-6)


@source("ml-explore/mlx-examples#224")
def arrays_of_any_memory_layout_are_saved(tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    net, W = line(4, 6), np.arange(48.0).reshape(12, 4)[::2]
    net[0].W = W.T
    xpnet.exchange.save_safetensors(net, tmp_path / "net.safetensors", layout="torch")
    assert np.array_equal(safetensors.load_file(tmp_path / "net.safetensors")["0.weight"], W)
    other = line(4, 6, seed=1)
    xpnet.exchange.load_safetensors(other, tmp_path / "net.safetensors", layout="torch")
    assert np.array_equal(other[0].W, W.T)
    third = line(4, 6, seed=2)
    values = {"0.weight": np.asfortranarray(W), "0.bias": np.zeros(12)[::2]}
    third.load_state_dict(values, layout="torch")
    assert np.array_equal(third[0].W, W.T)


@source("keras-team/keras#13027")
def the_step_of_an_optimizer_is_saved(tmp_path):
    X, t = data()

    def made():
        net = network(xpnet.Linear(3, 2))
        return xpnet.Trainer(net, "softmax_cross_entropy", xpnet.Adam(net, 0.1))

    whole, first, rest = made(), made(), made()
    whole.fit(X, t, epochs=4, batch_size=24, shuffle=False)
    first.fit(X, t, epochs=2, batch_size=24, shuffle=False)
    first.save(tmp_path / "first")
    rest.fit(X, t, epochs=4, batch_size=24, shuffle=False, resume=tmp_path / "first")
    assert np.array_equal(rest.net.params, whole.net.params)


@pytest.mark.parametrize("name", TRIED)
def test_reports(name, tmp_path):
    TRIED[name](tmp_path)


def test_each_row_of_the_page_has_its_test():
    rows = re.findall(r"^\| (\S+#\d+) \|.*\| `(\w+)` \|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert rows == [(name, dict(rows)[name]) for name in dict(rows)]  # each source once
    assert dict(rows) == {name: test.__name__ for name, test in TRIED.items()}
