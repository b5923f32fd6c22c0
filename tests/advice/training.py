"""Advice of a training, its callbacks and its metrics."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import xpnet
from advice import advice, elsewhere, refused, without

X = np.sin(np.arange(120.0) ** 2).reshape(40, 3)
T = (X[:, 0] > 0).astype(int)
NUMBERS = X @ [[1.0], [-2.0], [0.5]]

DIVERGENCE = "tests/training/test_divergence.py::"
elsewhere(
    DIVERGENCE + "test_a_loss_on_probabilities_says_what_the_network_lacks",
    'end it with Sigmoid(), or use the loss "bce_logits"',
    'end it with Softmax(), or use the loss "softmax_cross_entropy"',
)
elsewhere(
    DIVERGENCE + "test_targets_that_are_too_large_are_scaled",
    "the {} are large, to {}: scale them, as {} / abs({}).max()",
)
elsewhere(
    "tests/training/test_early_stopping.py::"
    "test_an_unknown_direction_is_asked_for_before_the_first_step",
    "is a better value smaller or larger? Write EarlyStopping({}, mode=",
)
elsewhere(
    "tests/layers/test_normalization.py::"
    "test_fit_refuses_batches_of_one_before_the_first_step_and_its_way_out_is_right",
    "use batch_size={}",
)


def network(*ends, outputs=1, **options):
    """Return a network of one layer."""
    return xpnet.Sequential(xpnet.Linear(3, outputs), *ends, backend="numpy", **options)


def trainer(loss="mse", optimizer=xpnet.SGD, lr=0.1, net=None, metrics=(), **options):
    """Return a trainer."""
    net = network() if net is None else net
    return xpnet.Trainer(net, loss, optimizer(net, lr=lr, **options), metrics=metrics)


def learns(made, X=X, t=NUMBERS, epochs=20, **how):
    """Train, and check that the loss falls."""
    loss = made.fit(X, t, epochs=epochs, **how)["loss"]
    assert np.isfinite(loss).all()
    assert loss[-1] < 0.8 * loss[0]
    return made


@advice("lower the learning rate (now {}){}, and begin with a new network")
def _():
    words = "; lower the learning rate (now 100) or set clip_norm, and begin with a new network"
    with refused(xpnet.DivergenceError, words):
        learns(trainer(lr=100))
    for optimizer, how in ((xpnet.Adam, {"lr": 1e30}), (xpnet.SGD, {"lr": 1e30, "clip_norm": 1})):
        with refused(xpnet.DivergenceError, "(now 1e+30), and begin with a new network"):
            learns(trainer(optimizer=optimizer, **how))
    learns(trainer(lr=0.1))
    loss = trainer(lr=100, clip_norm=1e-3).fit(X, NUMBERS, epochs=20)["loss"]
    assert loss[-1] < 0.8 * loss[0]


@advice(
    "{} takes scores, but {} makes probabilities of them, and the training learns slowly: leave",
    ", or use the loss {}",
)
def _(caplog):
    from xpnet.backend import say_once

    say_once.cache_clear()
    for end in (xpnet.Softmax(), xpnet.Sigmoid()):
        learns(trainer("softmax_cross_entropy", xpnet.Adam, net=network(end, outputs=2)), t=T)
    said = [r.getMessage() for r in caplog.records]
    assert said[0].endswith("leave out Softmax(), or use the loss 'cross_entropy'")
    assert said[1].endswith("leave out Sigmoid()")
    caplog.clear()
    learns(trainer("softmax_cross_entropy", xpnet.Adam, net=network(outputs=2)), t=T)
    learns(trainer("cross_entropy", xpnet.Adam, net=network(xpnet.Softmax(), outputs=2)), t=T)
    assert not caplog.records


@advice("{} was spoilt before: make a new network, and an optimizer for it")
def _():
    for rate in (100, 1e30):
        made = trainer(lr=rate)
        with refused(xpnet.DivergenceError, "lower the learning rate"):
            learns(made)
        made.optimizer.lr = 0.1  # the network is what it was
        with refused(xpnet.DivergenceError, "make a new network, and an optimizer for it"):
            learns(made)
    net = network()
    learns(xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=0.1)))


@advice("the first values of {} are large, to {}: begin with smaller ones")
def _():
    made = trainer()
    made.net.params = np.full(4, 1e30)
    with refused(xpnet.DivergenceError, "of 0.W are large, to 9.4e+29: begin with smaller"):
        made.fit(X, NUMBERS, epochs=1)
    made = trainer()
    made.net.params = np.full(4, 0.3)
    learns(made)


@advice(
    "callbacks is a list; write callbacks=[{}(...)]", "{} is a class; write callbacks=[{}(...)]"
)
def _():
    for wrong in (xpnet.EarlyStopping("loss"), [xpnet.EarlyStopping]):
        with refused(xpnet.OptionError, "; write callbacks=[EarlyStopping(...)]"):
            trainer().fit(X, NUMBERS, epochs=1, callbacks=wrong)
    learns(trainer(), callbacks=[xpnet.EarlyStopping("loss")])


@advice("{} is twice among the callbacks; make a second one")
def _():
    stop = xpnet.EarlyStopping("loss")
    with refused(xpnet.OptionError, "is twice among the callbacks; make a second one"):
        trainer().fit(X, NUMBERS, epochs=1, callbacks=[stop, stop])
    second = xpnet.EarlyStopping("loss")
    learns(trainer(), callbacks=[stop, second])
    assert stop.best == second.best is not None


@advice("no callback: {}; write for example EarlyStopping()")
def _():
    with refused(xpnet.OptionError, "no callback: 3; write for example EarlyStopping()"):
        trainer().fit(X, NUMBERS, epochs=1, callbacks=[3])
    early = xpnet.EarlyStopping()
    learns(trainer(), callbacks=[early], validation_data=(X, NUMBERS))


@advice("tqdm, which draws the progress bar, is not installed; run pip install tqdm")
def _(caplog, monkeypatch):
    from xpnet.backend import say_once

    pytest.importorskip("tqdm", reason="tqdm is not installed")
    say_once.cache_clear()
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    for hidden in (["tqdm"], []):
        with without(*hidden):
            trainer().fit(X, NUMBERS, epochs=1, callbacks=[xpnet.ProgressBar()])
        assert len(caplog.records) == len(hidden)
        caplog.clear()


@advice("{} needs an output for each class, and the network has one: the probability of a single")
def _():
    words = "Give it 2 outputs, or use the loss {} with targets 0 and 1"
    with refused(xpnet.ShapeError, words.format('"bce_logits"')):
        trainer("softmax_cross_entropy").fit(X, T, epochs=1)
    learns(trainer("softmax_cross_entropy", net=network(outputs=2)), t=T)
    learns(trainer("bce_logits"), t=T)
    with refused(xpnet.ShapeError, words.format('"bce" behind Sigmoid()')):
        trainer("cross_entropy", net=network(xpnet.Softmax())).fit(X, T, epochs=1)
    learns(trainer("cross_entropy", net=network(xpnet.Softmax(), outputs=2)), t=T)
    learns(trainer("bce", net=network(xpnet.Sigmoid())), t=T)


def far(t, Y):
    """Return the largest error."""
    return np.abs(t - Y).max()


@advice("the metric {} has no argument sample_weight, so it would ignore the weights; give its")
def _():
    def weighted(t, Y, sample_weight=None):
        return np.average(np.abs(t - Y).ravel(), weights=sample_weight)

    words = "give its function the argument, or leave out the weights or the metric"
    w = np.linspace(1, 2, 40)
    with refused(xpnet.OptionError, words):
        trainer(metrics=[far]).evaluate(X, NUMBERS, sample_weight=w)
    trainer(metrics=[weighted]).evaluate(X, NUMBERS, sample_weight=w)
    trainer(metrics=[far]).evaluate(X, NUMBERS)
    trainer().evaluate(X, NUMBERS, sample_weight=w)


@advice('a metric of classes needs the targets 0 and 1; use "mae", "rmse" or "r2"')
def _():
    with refused(xpnet.DataError, 'needs the targets 0 and 1; use "mae", "rmse" or "r2"'):
        trainer(metrics=["accuracy"]).evaluate(X, NUMBERS)
    found = trainer(metrics=["mae", "rmse", "r2"]).evaluate(X, NUMBERS)
    assert {"mae", "rmse", "r2"} < found.keys()
    trainer(metrics=["accuracy"]).evaluate(X, T[:, None])


@advice("a metric cannot be named 'loss'", "each metric needs a name of its own; {} are named {}")
def _():
    def loss(t, Y):
        return far(t, Y)

    for metrics in ([loss], [far, far]):
        with refused(xpnet.OptionError, 'write xpnet.metrics.Metric(function, name="...")'):
            trainer(metrics=metrics)
    metrics = [xpnet.metrics.Metric(loss, name="mine"), xpnet.metrics.Metric(far, name="other")]
    found = trainer(metrics=[*metrics, far]).evaluate(X, NUMBERS)
    assert found["mine"] == found["other"] == found["far"]


@advice("give it more samples")
def _():
    net = xpnet.Sequential(xpnet.BatchNorm1d(3), xpnet.Linear(3, 1), backend="numpy")
    made = trainer(net=net)
    with refused(xpnet.ShapeError, "makes a batch of 1; give it more samples"):
        made.fit(X[:1], NUMBERS[:1], epochs=1)
    learns(made)


@advice("comm of a trainer stays; make a new Trainer; got {}")
def _():
    made, comm = trainer(), xpnet.parallel.Communicator()
    with refused(xpnet.OptionError, "comm of a trainer stays; make a new Trainer"):
        made.comm = comm
    xpnet.Trainer(made.net, made.loss, made.optimizer, comm=comm).fit(X, NUMBERS, epochs=1)


@advice("a shallow copy of a trainer would share its network, moments and history; take")
def _():
    made = trainer()
    with refused(xpnet.OptionError, "take copy.deepcopy(trainer), or make a new trainer"):
        copy.copy(made)
    learns(copy.deepcopy(made))
    assert made.epoch == 0


@advice("For independent labels use BinaryCrossEntropy, or a metric with independent=True")
def _():
    t = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 1] < 0.5], axis=1).astype(float)

    def accuracy(t, Y):
        return xpnet.metrics.accuracy(t, Y, independent=True)

    with refused(xpnet.DataError, "use BinaryCrossEntropy, or a metric with independent=True"):
        trainer(net=network(outputs=3), metrics=["accuracy"]).evaluate(X, t)
    for loss, metric in (("bce_logits", "accuracy"), ("mse", accuracy)):
        made = trainer(loss, net=network(outputs=3), metrics=[metric])
        assert learns(made, t=t, epochs=300).evaluate(X, t)["accuracy"] > 0.8


@advice("comm is xpnet.parallel.communicator(); got {}")
def _():
    with refused(xpnet.OptionError, "comm is xpnet.parallel.communicator(); got 2"):
        xpnet.Trainer(network(), "mse", comm=2)
    xpnet.Trainer(network(), "mse", comm=xpnet.parallel.communicator()).fit(X, NUMBERS)


@advice("step was broken off; net.save(path) saves the network")
def _(tmp_path):
    made, path = trainer(), tmp_path / "net.npz"
    with refused(xpnet.XpnetError, "not before the first fit"):
        made.save(path)
    made.net.save(path)
    assert xpnet.load(path).sha256() == made.net.sha256()
    made.fit(X, NUMBERS)
    made.save(path)
