"""Sample weights: what they mean in a batch, in an epoch, and over many magnitudes."""

from __future__ import annotations

from math import fsum

import numpy as np
import pytest

import xpnet

rng = np.random.default_rng(2)
N = 66
X = rng.normal(size=(N, 4))
T = (X[:, 0] > 0).astype(int)
W = np.where(np.arange(N) < N // 2, 1.0, 100.0)


def made(rate=1e-13, dtype="float64", **options):
    net = xpnet.Sequential(xpnet.Linear(4, 2), dtype=dtype)
    return xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, rate), **options)


def each(net):
    """ℓ of each sample, by the formula."""
    Z = net.predict(X).astype(np.float64)
    return np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(N), T]


@pytest.mark.parametrize("batch_size", [1, 8, 64, None])
@pytest.mark.parametrize("scale", [1, 1e-3, 1e300, 1e-300])
def test_the_loss_of_an_epoch_is_the_weighted_mean(backend, batch_size, scale):
    trainer = made()
    right = np.average(each(trainer.net), weights=W)
    history = trainer.fit(X, T, epochs=1, batch_size=batch_size, sample_weight=W * scale)
    assert history["loss"] == [pytest.approx(right, rel=1e-11)]
    assert trainer.evaluate(X, T, W * scale)["loss"] == pytest.approx(right, rel=1e-11)


def test_the_loss_of_an_epoch_without_weights_is_the_mean(backend):
    trainer = made()
    right = np.mean(each(trainer.net))
    assert trainer.fit(X, T, epochs=1, batch_size=8)["loss"] == [pytest.approx(right, rel=1e-12)]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_the_step_of_a_batch_is_divided_by_its_size_and_the_mean_weight(backend, batch_size):
    trainer, w = made(0.5), rng.uniform(0.1, 3, N)
    p = np.array(backend.asnumpy(trainer.net.params))
    W0, b0 = p[:8].reshape(4, 2), p[8:]
    trainer.fit(X, T, epochs=1, batch_size=batch_size, sample_weight=w, shuffle=False)
    for k in range(0, N, batch_size):
        rows = slice(k, k + batch_size)
        E = np.exp(X[rows] @ W0 + b0)
        dZ = (E / E.sum(axis=1, keepdims=True) - np.eye(2)[T[rows]]) * w[rows, None]
        dZ /= len(dZ) * np.mean(w)
        W0, b0 = W0 - 0.5 * X[rows].T @ dZ, b0 - 0.5 * dZ.sum(axis=0)
    np.testing.assert_allclose(backend.asnumpy(trainer.net.params), [*W0.ravel(), *b0], rtol=1e-10)


def test_weights_count_in_batches_of_one_and_equal_weights_change_nothing(backend):
    def trained(w):
        trainer = made(0.1)
        trainer.fit(X, T, batch_size=1, epochs=1, sample_weight=w)
        return np.array(backend.asnumpy(trainer.net.params))

    plain = trained(None)
    assert abs(trained(W) - plain).max() > 1e-3
    np.testing.assert_array_equal(trained(np.full(N, 8.0)), plain)
    np.testing.assert_allclose(trained(np.full(N, 7.0)), plain, rtol=1e-12)
    np.testing.assert_allclose(trained(3 * W), trained(W), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "w",
    [
        0.9 ** np.arange(2000)[::-1],
        10.0 ** rng.uniform(-300, 300, 2000),
        np.r_[np.full(1999, 1e-46), 1.0],
        np.r_[np.zeros(1000), np.ones(1000)],
        np.full(2000, 1e38),
        np.full(2000, 5e-324),
        np.arange(2000),
        np.arange(2000, dtype="f2"),
        np.arange(2000, dtype="u1"),
        np.arange(2000) % 2 == 0,
        (np.arange(2000) + 1.0)[:, None],
        [1e308] * 2000,
    ],
    ids=[
        "0.9^k",
        "10^k",
        "1e-46",
        "0",
        "1e38",
        "5e-324",
        "int",
        "f2",
        "u1",
        "bool",
        "column",
        "1e308",
    ],
)
def test_weights_of_any_magnitude_give_the_weighted_mean(w, dtype):
    inputs = np.random.default_rng(0).normal(size=(2000, 3))
    net = xpnet.Sequential(xpnet.Linear(3, 1), dtype=dtype)
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, 1e-30))
    before = (np.ravel(net.predict(inputs)).astype(float) - inputs[:, 0]) ** 2
    history = trainer.fit(inputs, inputs[:, 0], epochs=1, batch_size=8, sample_weight=w)
    with np.errstate(over="ignore"):
        scaled = np.ravel(w).astype(float) / np.max(np.asarray(w, float))
    right = fsum(scaled * before) / fsum(scaled)
    assert history["loss"] == [pytest.approx(right, rel=1e-5 if dtype == "float32" else 1e-11)]


BAD = {
    "negative": (np.where(np.arange(N) == 3, -1.0, 1.0), r"sample_weight\[3\] is -1.0, and 1 are"),
    "NaN": (np.where(np.arange(N) == 3, np.nan, 1.0), r"must be finite.*sample_weight\[3\] is nan"),
    "infinite": (np.where(np.arange(N) > 3, np.inf, 1.0), r"sample_weight\[4\] is inf, and 62 are"),
    "zero": (np.zeros(N), "not zero everywhere; all 66 are 0"),
    "scalar": (2.0, r"must have the shape \(66,\); got \(\)"),
    "short": (np.ones(3), r"shape \(66,\).*got \(3,\)"),
    "columns": (np.ones((N, 2)), r"got \(66, 2\)"),
    "text": (["a"] * N, "sample_weight"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_weights_are_refused_before_the_first_step(case):
    w, words = BAD[case]
    trainer = made()
    for call in (lambda: trainer.fit(X, T, sample_weight=w), lambda: trainer.evaluate(X, T, w)):
        with pytest.raises((xpnet.DataError, xpnet.ShapeError), match=words):
            call()
    assert trainer.optimizer.t == 0


def test_a_batch_without_weight_is_0_also_by_hand(backend):
    loss, Y = xpnet.MeanSquaredError(), backend.asarray(np.ones((2, 1), "f4"))
    loss.validate = False
    tiny = backend.asarray(np.array([1e-46, 0.0]))
    assert float(loss.forward(Y, backend.asarray(np.zeros(2)), tiny)) == 0
    assert not backend.asnumpy(loss.backward()).any()


def test_a_loss_is_as_it_was_after_a_training(backend):
    trainer = made()
    trainer.fit(X, T, epochs=1, sample_weight=W)
    assert (trainer.loss.validate, trainer.loss.mean_weight) == (True, False)
    Y = backend.asarray(trainer.net.predict(X[:2]))
    one = float(trainer.loss.forward(Y[:1], backend.asarray(T[:1]), [50.0]))
    assert one == float(trainer.loss.forward(Y[:1], backend.asarray(T[:1])))


# --- The loss of an epoch has the same bits everywhere --------------------------------------------


def test_the_history_is_summed_exactly(backend):
    """The sum of the float32 losses of the batches, rounded once: no order of adding matters."""
    losses = []

    class Keep(xpnet.Callback):
        def on_train_batch_end(self, batch, logs):
            losses.append(float(self.trainer.loss))

    trainer = made(0.1, "float32")
    history = trainer.fit(X, T, epochs=1, batch_size=8, callbacks=[Keep()])
    sizes = [8] * 8 + [2]
    assert history["loss"] == [fsum(n * v for n, v in zip(sizes, losses, strict=True)) / N]
