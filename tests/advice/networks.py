"""Advice about layers, losses, optimizers, and what is made of them."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from advice import advice, elsewhere, refused

X = np.linspace(-1, 1, 24).reshape(8, 3)
T = np.arange(8) % 2


@advice("; write {}()")
def _():
    with refused(xpnet.OptionError, "; write ReLU()"):
        xpnet.Sequential(xpnet.Linear(3, 2), xpnet.ReLU)
    xpnet.Sequential(xpnet.Linear(3, 2), xpnet.ReLU())


@advice("layer {}: call super().__init__() in {}.__init__ first")
def _():
    class Careless(xpnet.Identity):
        def __init__(self):
            pass

    class Careful(xpnet.Identity):
        def __init__(self):
            super().__init__()

    with refused(xpnet.OptionError, "call super().__init__() in Careless.__init__ first"):
        xpnet.Sequential(Careless())
    xpnet.Sequential(Careful())


@advice("; put Flatten() before it")
def _():
    images = np.zeros((4, 2, 3))
    with refused(xpnet.ShapeError, "; put Flatten() before it"):
        xpnet.Sequential(xpnet.Linear(6, 2)).predict(images)
    xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(6, 2)).predict(images)


@advice("Reshape your data: for one feature X.reshape(-1, 1), for one sample X.reshape(1, -1)")
def _():
    one, three = (xpnet.Sequential(xpnet.Linear(n, 2), backend="numpy") for n in (1, 3))
    with refused(xpnet.ShapeError, "for one feature X.reshape(-1, 1), for one sample X.reshape("):
        three.predict(X[0])
    assert three.predict(X[0].reshape(1, -1)).shape == (1, 2)
    assert one.predict(X[0].reshape(-1, 1)).shape == (3, 2)


@advice("change those of a copy, net = net.copy(), and make a new optimizer")
def _():
    net = xpnet.Sequential(xpnet.Linear(3, 2), backend="numpy")
    optimizer = xpnet.Adam(net)
    with refused(xpnet.OptionError, "net = net.copy(), and make a new optimizer"):
        net.layers.append(xpnet.Linear(2, 2))
    net = net.copy()
    net.layers.append(xpnet.Linear(2, 2))
    xpnet.Trainer(net, "softmax_cross_entropy", xpnet.Adam(net)).fit(X, T, epochs=1)
    assert optimizer.t == 0


@advice("a parameter {} cannot be declared, changed or removed any more; declare it in __init__")
def _():
    class Late(xpnet.Identity):
        def build(self, batch_size, input_shape, input_gradient):
            super().build(batch_size, input_shape, input_gradient)
            self.parameter("a", (2,), "zeros")

    class Early(xpnet.Identity):
        def __init__(self):
            super().__init__()
            self.parameter("a", (2,), "zeros")

    with refused(xpnet.OptionError, "declare it in __init__ by self.parameter(name, shape, init)"):
        xpnet.Sequential(Late()).predict(X)
    xpnet.Sequential(Early()).predict(X)


@advice("{} of {} cannot be changed to {}; make a new {}")
def _():
    from xpnet.support.attributes import Fixed

    class Row(xpnet.Identity):
        n = Fixed()

        def __init__(self, n):
            super().__init__()
            self.n = n

    row = Row(3)
    with refused(xpnet.OptionError, "cannot be changed to 4; make a new Row"):
        row.n = 4
    assert Row(4).n == 4


@advice("{} cannot be saved: {}; keep each argument of its __init__ under its own name, or define")
def _():
    class Scale(xpnet.Identity):
        def __init__(self, factor):
            super().__init__()
            self.f = factor

    class Kept(xpnet.Identity):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

    class Defined(Scale):
        def config(self):
            return {"factor": self.f}

    words = "keep each argument of its __init__ under its own name, or define config()"
    with refused(xpnet.CheckpointError, words):
        xpnet.Sequential(Scale(2.0)).save("net.npz")
    for kind in (Kept, Defined):
        xpnet.Sequential(kind(2.0)).save("net.npz")
        xpnet.load("net.npz", layers=[kind])


@advice(
    "{} holds no network that can be made ({}); use another copy of it, and give layers of your"
)
def _():
    class Mine(xpnet.Identity):
        pass

    xpnet.Sequential(Mine()).save("net.npz")
    with refused(xpnet.CheckpointError, "give layers of your own as load(path, layers=[...])"):
        xpnet.load("net.npz")
    assert isinstance(xpnet.load("net.npz", layers=[Mine])[0], Mine)
    xpnet.register(Mine)
    try:
        assert isinstance(xpnet.load("net.npz")[0], Mine)
    finally:
        del xpnet.layers.LAYERS["Mine"], xpnet.layers.ACTIVATIONS["mine"]


@advice("no loss: {}; write for example xpnet.SoftmaxCrossEntropy()")
def _():
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    with refused(xpnet.OptionError, "write for example xpnet.SoftmaxCrossEntropy()"):
        xpnet.Trainer(net, 3)
    xpnet.Trainer(net, xpnet.SoftmaxCrossEntropy())


@advice("no optimizer: {}; write for example xpnet.Adam(net, lr=1e-3)")
def _():
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    with refused(xpnet.OptionError, "write for example xpnet.Adam(net, lr=1e-3)"):
        xpnet.Trainer(net, "mse", 3)
    xpnet.Trainer(net, "mse", xpnet.Adam(net, lr=1e-3))


class Plain(xpnet.Optimizer):
    """An optimizer whose learning rate has no default."""

    def __init__(self, net, lr):
        super().__init__(net, lr)

    def update(self, p, g):
        """p = p - η g"""
        p -= self.xp.multiply(g, self.rate, out=g)


@advice("the optimizer {} has no default learning rate; give one: lr=0.01 in Python, --lr 0.01")
def _(run):
    from xpnet.optimizers import OPTIMIZERS

    net = xpnet.Sequential(xpnet.Linear(3, 2))
    xpnet.register(Plain)
    try:
        with refused(xpnet.OptionError, "give one: lr=0.01 in Python, --lr 0.01 on the command"):
            xpnet.Trainer(net, "mse", "plain")
        xpnet.Trainer(net, "mse", Plain(net, lr=0.01))
        words = ("train", "xor", "--optimizer", "plain", "--epochs", 2, "--plots", "none")
        assert "--lr 0.01" in run(*words, "--out", "a").err
        assert run(*words, "--out", "b", "--lr", "0.01").code == 0
    finally:
        del OPTIMIZERS["plain"]


@advice("{} needs arguments, so it cannot be the activation {}; leave out the name, or give each")
def _():
    class Power(xpnet.Identity):
        def __init__(self, p):
            super().__init__()
            self.p = p

    class Square(xpnet.Identity):
        def __init__(self, p=2.0):
            super().__init__()
            self.p = p

    words = "leave out the name, or give each argument of its __init__ a default"
    with refused(xpnet.OptionError, words):
        xpnet.register(Power, name="power")
    xpnet.register(Power)
    xpnet.register(Square, name="square")
    for table, name in (("LAYERS", "Power"), ("LAYERS", "Square"), ("ACTIVATIONS", "square")):
        del getattr(xpnet.layers, table)[name]


@advice("a loss that has a name is made without arguments: give each argument of {}.__init__")
def _():
    from xpnet.losses import LOSSES

    class Bent(xpnet.MeanSquaredError):
        def __init__(self, p):
            super().__init__()

    class Straight(xpnet.MeanSquaredError):
        def __init__(self, p=2.0):
            super().__init__()

    with refused(xpnet.OptionError, "give each argument of Bent.__init__ a default"):
        xpnet.register(Bent)
    xpnet.register(Straight)
    del LOSSES["straight"]


@advice('choose another: register(..., name="...")', "rename the class")
def _():
    from xpnet.losses import LOSSES

    class Huber(xpnet.MeanSquaredError):
        pass

    class Linear(xpnet.Identity):
        pass

    class Line(xpnet.Identity):
        pass

    with refused(xpnet.OptionError, 'choose another: register(..., name="...")'):
        xpnet.register(Huber)
    xpnet.register(Huber, name="huber2")
    with refused(xpnet.OptionError, "rename the class"):
        xpnet.register(Linear)
    xpnet.register(Line)
    del LOSSES["huber2"], xpnet.layers.LAYERS["Line"], xpnet.layers.ACTIVATIONS["line"]


@advice(
    "register takes a subclass of xpnet.Layer", "register takes a layer, a loss or an optimizer"
)
def _():
    class Own(xpnet.Identity):
        pass

    with refused(xpnet.OptionError, "register takes a subclass of xpnet.Layer"):
        xpnet.register(3)
    with refused(xpnet.OptionError, "register takes a layer, a loss or an optimizer; got Layer"):
        xpnet.register(xpnet.Layer)
    xpnet.register(Own)
    del xpnet.layers.LAYERS["Own"], xpnet.layers.ACTIVATIONS["own"]


@advice("to_onnx needs the shape of a sample, and the network has not seen any; write for example")
def _():
    pytest.importorskip("onnx", reason="onnx is not installed")
    net = xpnet.Sequential(xpnet.Tanh())
    with refused(xpnet.OptionError, "to_onnx(net, path, sample_shape=(784,))"):
        xpnet.exchange.to_onnx(net, "net.onnx")
    xpnet.exchange.to_onnx(net, "net.onnx", sample_shape=(784,))


@advice("layer {}, {}, does not say what it is in ONNX; define {}.to_onnx beside {}.forward")
def _():
    pytest.importorskip("onnx", reason="onnx is not installed")

    class Silent(xpnet.Layer):
        def forward(self, X):
            return self.xp.copyto(self.Y[: len(X)], X)

        def backward(self, dY):
            return None if self.dX is None else self.xp.copyto(self.dX[: len(dY)], dY)

    class Spoken(Silent):
        def to_onnx(self, graph, X):
            return graph("Identity", X)

    with refused(xpnet.OptionError, "define Silent.to_onnx beside Silent.forward"):
        xpnet.exchange.to_onnx(xpnet.Sequential(Silent()), "net.onnx", sample_shape=(2,))
    xpnet.exchange.to_onnx(xpnet.Sequential(Spoken()), "net.onnx", sample_shape=(2,))


@advice("{} lives on the backend {}, but {} is a {}; pass net.xp.asarray({}), or move the network")
def _(strict):
    net = xpnet.Sequential(xpnet.Linear(3, 2), backend=strict)
    with refused(xpnet.MixedArraysError, "; pass net.xp.asarray(X), or move the network with"):
        net.forward(X)
    net.forward(net.xp.asarray(X))
    net.to("numpy").forward(X)


@advice("{} pixels make no square image; give the shape=(height, width)")
def _():
    plots = pytest.importorskip("xpnet.plots", reason="matplotlib is not installed")
    net = xpnet.Sequential(xpnet.Linear(6, 2))
    with refused(
        xpnet.OptionError, "6 pixels make no square image; give the shape=(height, width)"
    ):
        plots.weights(net)
    plots.weights(net, shape=(2, 3))


elsewhere(
    "tests/project/test_examples.py::test_the_gradient_check_names_both_mistakes",
    "backward changed {}: update a parameter only after all gradients have been passed down",
)
