"""What users of other libraries write first: it says what to write here."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Linear, OptionError, Sequential, ShapeError, Tanh

X = np.sin(np.arange(24.0)).reshape(6, 4)


def new():
    return Sequential(Linear(4, 3), Tanh(), Linear(3, 2))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fit", r"xpnet.Trainer\(net, loss\).fit\(X, t\) trains"),
        ("compile", "trains a network"),
        ("evaluate", r"evaluate\(X, t\)"),
        ("predict_proba", r"net.predict\(X\) gives the outputs"),
        ("add", r"net.layers.append\(layer\)"),
        ("eval", r"net.train\(False\)"),
        ("zero_grad", "every backward overwrites the gradients"),
        ("double", r'net.to\(dtype="float64"\)'),
        ("get_weights", "net.params is the vector"),
        ("learning_rate", r"an optimizer: xpnet.Adam\(net, lr=1e-3\)"),
    ],
)
def test_names_of_other_libraries_say_ours(name, words):
    net = new()
    with pytest.raises(AttributeError, match=f"Sequential has no attribute '{name}'; .*{words}"):
        getattr(net, name)
    with pytest.raises(OptionError, match=f"{name} of Sequential.* cannot be set; .*{words}"):
        setattr(net, name, 1)
    assert not hasattr(net, name)
    assert name not in vars(net)


def test_a_network_is_not_called():
    with pytest.raises(OptionError, match=r"net.predict\(X\) gives outputs, net.forward\(X\)"):
        new()(X)


def test_the_weights_of_linear_are_called_w():
    layer = new()[0]
    for name in ("weight", "kernel"):
        with pytest.raises(OptionError, match=rf"{name} of Linear\(4, 3\) cannot be set; .* are W"):
            setattr(layer, name, X)
        with pytest.raises(AttributeError, match=f"Linear has no attribute '{name}'; the weights"):
            getattr(layer, name)


def test_what_linear_was_made_with_stays():
    layer = new()[0]
    for name, value in (("n_in", 5), ("n_out", 4), ("bias", np.zeros(3)), ("bias", False)):
        with pytest.raises(OptionError, match=f"{name} of Linear.* cannot be changed to"):
            setattr(layer, name, value)
    assert (layer.n_in, layer.n_out, layer.bias) == (4, 3, True)


def test_a_class_of_a_users_may_use_the_names():
    class Mine(Linear):
        def __init__(self, n_in, n_out):
            super().__init__(n_in, n_out)
            self.weight = "mine"
            self.parameter("kernel", (3,), "ones")

        def backward(self, dY):
            self.dkernel = np.zeros(3)
            return super().backward(dY)

    net = Sequential(Mine(4, 3), dtype="float64")
    net[0].kernel = [1, 2, 3]
    assert net[0].weight == "mine"
    assert net.params[-3:].tolist() == [1, 2, 3]
    assert xpnet.gradcheck(net, "mse", X, np.ones((6, 3))).ok

    class Model(Sequential):
        def __init__(self):
            super().__init__(Linear(4, 3))
            self.loss = "mine"

        def fit(self, X):
            return self.loss

    assert Model().fit(X) == "mine"
    assert Model().copy().loss == "mine"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("4", 3), "n_in must be a whole number"),
        ((4.0, 3), "n_in must be a whole number"),
        ((True, 3), "n_in must be a whole number"),
        ((-4, 3), "n_in must be a whole number"),
        ((4, 0), "n_out must be a whole number"),
        ((4, None), "n_out must be a whole number"),
        ((4, 3, "relu"), "Linear: bias must be True or False; got 'relu'"),
        ((4, 3, 1), "Linear: bias must be True or False; got 1"),
    ],
)
def test_arguments_of_linear(arguments, words):
    with pytest.raises(OptionError, match=words):
        Linear(*arguments)


def test_numbers_of_numpy_are_numbers():
    layer = Linear(np.int64(4), np.uint8(3), np.True_)
    assert Sequential(layer).predict(X).shape == (6, 3)
    assert (type(layer.n_in), type(layer.bias)) == (int, bool)


# ---- layers with mistakes ------------------------------------------------------------------------


def of(forward=lambda self, X: X, backward=lambda self, dY: dY):
    kind = type("Mine", (xpnet.Layer,), {"forward": forward, "backward": backward})
    return Sequential(Linear(4, 3), kind(), Linear(3, 2), dtype="float64")


@pytest.mark.parametrize(
    ("forward", "error", "words"),
    [
        (lambda self, X: None, xpnet.XpnetError, "returned None; it must return Y"),
        (lambda self, X: [1, 2], xpnet.DataError, "must return an array; got a list"),
        (lambda self, X: X > 0, xpnet.DataError, "floating numbers; got the dtype bool"),
        (lambda self, X: X[:, :2], ShapeError, r"\(6, 3\); got \(6, 2\); .* output_shape"),
        (lambda self, X: X[:1], ShapeError, r"\(6, 3\); got \(1, 3\)"),
    ],
)
def test_what_a_layer_must_return(forward, error, words):
    net = of(forward)
    for use in (net.forward, net.predict):
        with pytest.raises(error, match=rf"forward of layer 1, Mine\(\), .*{words}"):
            use(X)


@pytest.mark.parametrize(
    ("backward", "words"),
    [
        (lambda self, dY: None, "returned None; it must return dX"),
        (lambda self, dY: dY[:, :1], r"\(6, 3\); got \(6, 1\)"),
        (lambda self, dY: dY.sum(), r"got \(\)"),
    ],
)
def test_what_a_layer_must_send_back(backward, words):
    net = of(backward=backward)
    net.forward(X)
    with pytest.raises(xpnet.XpnetError, match=rf"backward of layer 1, Mine\(\), .*{words}"):
        net.backward(np.ones((6, 2)))


def test_the_last_layer_too():
    kind = type("Mine", (xpnet.Layer,), {"forward": lambda self, X: None})
    with pytest.raises(xpnet.XpnetError, match=r"forward of layer 1, Mine\(\), returned None"):
        Sequential(Linear(4, 3), kind()).forward(X)


@pytest.mark.parametrize("passes", [1, 2])
def test_an_exception_says_in_which_layer_it_arose(passes):
    def fail(self, a):
        self.calls = vars(self).get("calls", 0) + 1
        return a if self.calls < passes else 1 / 0

    def repeated(f, a):
        for _ in range(passes):
            f(a)

    net = of(forward=fail)
    with pytest.raises(ZeroDivisionError) as caught:
        repeated(net.forward, X)
    assert caught.value.__notes__ == ["in forward of layer 1 of the network, Mine()"]
    net = Sequential(of(backward=fail), Tanh(), dtype="float64")
    net.forward(X)
    with pytest.raises(ZeroDivisionError) as caught:
        repeated(net.backward, np.ones((6, 2)))
    inner, outer = caught.value.__notes__
    assert inner == "in backward of layer 1 of the network, Mine()"
    assert outer.startswith("in backward of layer 0 of the network, Sequential(Linear(4, 3), Mine")


def test_a_first_layer_that_looks_things_up_has_no_gradient_of_its_input():
    class Lookup(xpnet.Layer):
        def __init__(self):
            super().__init__()
            self.parameter("E", (5, 3), "glorot_uniform")

        def output_shape(self, shape):
            return (3,)

        def forward(self, X):
            self.k = X[:, 0].astype(int)
            return self.E[self.k]

        def backward(self, dY):
            self.dE = np.eye(5)[self.k].T @ dY
            return None

    net = Sequential(Lookup(), Linear(3, 2), dtype="float64")
    report = xpnet.gradcheck(net, "mse", [[0], [3], [3]], np.ones((3, 2)))
    assert report.ok
    assert [entry.name for entry in report.entries] == ["0.E", "1.W", "1.b"]
