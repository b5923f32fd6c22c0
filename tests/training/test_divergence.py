"""The advice of an error is true: it is followed here, and it helps."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet

rng = np.random.default_rng(1)
X = rng.standard_normal((64, 3))
T = (X[:, 0] > 0).astype(int)
NUMBERS = X[:, 0] - X[:, 1]


def made(loss, *layers, rate=0.05, **options):
    net = xpnet.Sequential(*layers, **options)
    return xpnet.Trainer(net, loss, xpnet.SGD(net, rate))


def words_of(trainer, X, t, **options):
    with pytest.raises(xpnet.DivergenceError) as raised, np.errstate(all="ignore"):
        trainer.fit(X, t, epochs=20, **options)
    return str(raised.value)


def linear(outputs=1, **options):
    return xpnet.Linear(3, outputs, **options)


def trains(trainer, X, t):
    loss = trainer.fit(X, t, epochs=10)["loss"]
    assert loss[-1] < loss[0]


def test_inputs_that_are_too_large_are_scaled(backend):
    large = X.astype("f4") * np.float32(1e37)
    text = words_of(made("mse", linear(), xpnet.ReLU(), xpnet.Linear(1, 1)), large, NUMBERS)
    assert "the inputs are large, to" in text
    assert "scale them, as X / abs(X).max()" in text
    assert "learning rate" not in text
    trains(made("mse", linear()), large / abs(large).max(), NUMBERS)


def test_targets_that_are_too_large_are_scaled(backend):
    large = NUMBERS * 1e30
    text = words_of(made("mse", linear()), X, large)
    assert "the targets are large, to" in text
    assert "scale them, as t / abs(t).max()" in text
    trains(made("mse", linear()), X, large / abs(large).max())


def test_a_rate_that_is_too_large_is_lowered(backend):
    text = words_of(made("mse", linear(), rate=1e6), X, NUMBERS)
    assert "lower the learning rate (now 1e+06)" in text
    trains(made("mse", linear(), rate=0.05), X, NUMBERS)


def test_first_weights_that_are_too_large_are_named(backend):
    trainer = made("mse", linear())
    xp = trainer.net.xp
    xp.copyto(trainer.net.params, 1e30)
    text = words_of(trainer, X, NUMBERS)
    assert "the first values of 0.W are large, to " in text
    xp.copyto(trainer.net.params, 0.1)
    trains(made("mse", linear()), X, NUMBERS)


@pytest.mark.parametrize(
    ("loss", "outputs", "end", "other"),
    [
        ("bce", 1, xpnet.Sigmoid, "bce_logits"),
        ("cross_entropy", 2, xpnet.Softmax, "softmax_cross_entropy"),
    ],
)
def test_a_loss_on_probabilities_says_what_the_network_lacks(
    backend, caplog, loss, outputs, end, other
):
    trainer = made(loss, linear(outputs))
    text = words_of(trainer, X, T)
    assert "takes probabilities, but an output is" in text
    assert f"end it with {end.__name__}(), or use the loss" in text
    assert f'"{other}"' in text
    assert "learning rate" not in text
    trains(made(loss, linear(outputs), end()), X, T)
    trains(made(other, linear(outputs)), X, T)


def said(caplog, words):
    return [r.getMessage() for r in caplog.records if words in r.getMessage()]


def test_what_the_end_of_a_network_lacks_or_has_twice_is_said_before_the_first_step(caplog):
    from xpnet.backend import say_once

    say_once.cache_clear()
    for _ in range(2):
        made("softmax_cross_entropy", linear(2), xpnet.Softmax()).fit(X, T, epochs=1)
        made("bce_logits", linear(), xpnet.Sigmoid(), xpnet.Identity()).fit(X, T, epochs=1)
    assert len(said(caplog, "SoftmaxCrossEntropy() takes scores, but Softmax() makes")) == 1
    assert len(said(caplog, "leave out Sigmoid(), or use the loss 'bce'")) == 1
    caplog.clear()
    for loss, layers in {
        "softmax_cross_entropy": [linear(2)],
        "cross_entropy": [linear(2), xpnet.Softmax()],
        "bce": [linear(), xpnet.Sigmoid()],
        "bce_logits": [linear()],
        "mse": [linear(), xpnet.Sigmoid()],
    }.items():
        made(loss, *layers).fit(X, T, epochs=1)
    assert not said(caplog, "loss")
