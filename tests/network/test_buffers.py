"""What comes between a forward pass and its backward pass: the right gradient, or an error."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm1d, Dropout, Linear, Sequential, ShapeError, Tanh, XpnetError


def numbers(*shape):
    return np.sin(np.arange(1.0, 1 + np.prod(shape, dtype=int)) ** 2).reshape(shape)


X, T = numbers(60, 4), numbers(60, 1)


def new(backend=None):
    return Sequential(
        Linear(4, 8), Tanh(), Sequential(Linear(8, 8), BatchNorm1d(8)), Linear(8, 1),
        dtype="float64", backend=backend,
    )  # fmt: skip


def host(net, a):
    return np.array(net.xp.asnumpy(a))


def gradient(net, between=lambda net: None):
    """Return the gradient of the loss on X, where something comes between the two passes."""
    loss = xpnet.MeanSquaredError()
    loss.forward(net.forward(net.xp.asarray(X)), net.xp.asarray(T))
    between(net)
    net.backward(loss.backward())
    return host(net, net.grads)


def evaluated(net):
    xpnet.Trainer(net, "mse").evaluate(X[:30], T[:30])


def refused(net):
    with pytest.raises(ShapeError):
        net.predict(numbers(3, 5))


BETWEEN = {
    "predict": lambda net: net.predict(X[::-1]),
    "predict fewer": lambda net: net.predict(X[:1]),
    "predict more": lambda net: net.predict(numbers(3000, 4)),
    "predict twice": lambda net: (net.predict(X[::-1]), net.predict(X[:5])),
    "evaluate": evaluated,
    "a twin": lambda net: net.twin().predict(X[::-1]),
    "the inner network": lambda net: net[2].predict(numbers(7, 8)),
    "save and copy": lambda net: (net.copy().predict(X[::-1]), net.state_dict()),
    "a refused batch": refused,
    "modes and back": lambda net: net.train(),
}


@pytest.mark.parametrize("name", BETWEEN)
def test_the_gradient_is_that_of_the_last_forward_pass(backend, name):
    assert np.array_equal(gradient(new(backend), BETWEEN[name]), gradient(new(backend)))


def test_predictions_in_between_are_right(backend):
    net, Y = new(backend), new(backend).predict(X[::-1])
    seen = []
    gradient(net, lambda net: seen.append(net.predict(X[::-1])))
    net.train(False)  # the running means have moved on, by one batch
    assert seen[0].shape == Y.shape
    assert np.array_equal(seen[0], net.predict(X[::-1]))


def test_prediction_from_a_callback_of_a_users_own_step():
    class Peeking(xpnet.Trainer):
        def backpropagate(self, X, t, *weights):
            self.loss.forward(self.net.forward(X), t)
            self.net.predict(np.zeros((50, 4)))
            self.net.backward(self.loss.backward())
            step = self._ready.step
            step.losses[:1] = self.loss.value

    nets = new(), new()
    for kind, net in zip((Peeking, xpnet.Trainer), nets, strict=True):
        kind(net, "mse", xpnet.SGD(net, 0.1)).fit(X, T, epochs=2, batch_size=20)
    assert np.array_equal(nets[0].params, nets[1].params)


def test_two_gradients_of_one_forward_pass():
    """As for a Jacobian: row by row, each from the same forward pass."""
    net = Sequential(Linear(4, 8), Tanh(), Linear(8, 2), dtype="float64")
    net.input_gradient = True
    net.forward(X)
    rows = [net.backward(np.eye(2)[[k] * len(X)]).copy() for k in range(2)]
    W, V = net[0].W, net[2].W
    slope = 1 - np.tanh(X @ W + net[0].b) ** 2
    for k in range(2):
        assert np.allclose(rows[k], (slope * V[:, k]) @ W.T)


def test_the_second_forward_pass_counts():
    net = new()
    gradient(net)
    net.forward(X[:10])
    with pytest.raises(ShapeError, match=r"last output, \(10, 1\); got \(60, 1\)"):
        net.backward(np.ones((60, 1)))


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (lambda net: None, r"net.forward\(X\)$"),
        (lambda net: net.predict(X), "predict has used the buffers since"),
        (lambda net: (gradient(net), net.predict(X)), "predict has used the buffers since"),
        (lambda net: (net.forward(X), net.to(dtype="float32")), "moved or changed since"),
        (
            lambda net: (net.forward(X), setattr(net, "input_gradient", True)),
            "input_gradient was set since",
        ),
        (lambda net: (net.forward(X), net.layers.append(Tanh())), "moved or changed since"),
        (lambda net: (net.forward(X), net.train(False)), "was set to training=False since"),
        (lambda net: (net.forward(X), net.build(60, (4,), False)), r"net.forward\(X\)$"),
    ],
)
def test_backward_without_its_forward_pass_is_refused(use, words):
    net = new()
    use(net)
    with pytest.raises(XpnetError, match=f"backward needs the forward pass .*{words}"):
        net.backward(np.ones((60, 1)))
    gradient(net)  # the way out


def at_rest(net):
    with net.evaluating():
        net.forward(X)


def test_leaving_the_mode_of_the_forward_pass_is_refused_where_it_matters():
    net = new()
    at_rest(net)
    with pytest.raises(XpnetError, match=r"BatchNorm1d\(8\) was set to training=True since"):
        net.backward(np.ones((60, 1)))
    plain = Sequential(Linear(4, 8), Tanh(), Linear(8, 1), dtype="float64")
    at_rest(plain)
    plain.backward(T)
    found = plain.grads.copy()
    plain.forward(X)
    plain.backward(T)
    assert np.array_equal(found, plain.grads)


def test_the_gradient_at_rest_is_that_of_the_function_at_rest():
    net = Sequential(Linear(4, 3), Dropout(0.5), BatchNorm1d(3), dtype="float64")
    net.train(False)
    assert xpnet.gradcheck(net, "mse", X, numbers(60, 3)).ok


def test_a_layer_that_is_set_by_itself():
    """A layer at rest in a network that trains, as when its averages are to stay."""
    net = Sequential(Linear(4, 3), BatchNorm1d(3), dtype="float64")
    net[1].training = False
    assert xpnet.gradcheck(net, "mse", X, numbers(60, 3)).ok
    net.predict(X)
    assert net[1].training is False
