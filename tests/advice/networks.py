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


@advice("give it to the layer that you make, as init=...; for other values assign to W")
def _():
    layer = xpnet.Linear(3, 2)
    with refused(xpnet.OptionError, "give it to the layer that you make, as init=...; for other"):
        layer.init = "zeros"
    assert not xpnet.Sequential(xpnet.Linear(3, 2, init="zeros")).params.any()
    layer.W = np.ones((3, 2))
    assert xpnet.Sequential(layer).layers[0].W.sum() == 6


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


@advice("momentum of {} cannot become {}; make a new layer")
def _():
    layer = xpnet.BatchNorm1d(3)
    with refused(xpnet.OptionError, "cannot become None; make a new layer"):
        layer.momentum = None
    xpnet.Sequential(xpnet.BatchNorm1d(3, momentum=None)).predict(X)


@advice(
    "{} takes mean and variance over the batch, and one sample has the variance 0; give it",
    ", or predict: net.predict(X)",
)
def _():
    net = xpnet.Sequential(xpnet.BatchNorm1d(3), dtype="float64", backend="numpy")
    words = "give it a batch of 2 samples or more, or predict: net.predict(X)"
    with refused(xpnet.ShapeError, words):
        net.forward(X[:1])
    assert np.isfinite(net.forward(X[:2])).all()
    assert np.isfinite(net.predict(X[:1])).all()


@advice("; write Sequential(*layers)")
def _():
    layers = [xpnet.Linear(3, 2), xpnet.Tanh()]
    with refused(xpnet.OptionError, "; write Sequential(*layers)"):
        xpnet.Sequential(layers)
    xpnet.Sequential(*layers)


@advice("; use its state_dict()")
def _():
    net, other = xpnet.Sequential(xpnet.Linear(3, 2)), xpnet.Sequential(xpnet.Linear(3, 2), seed=1)
    with refused(xpnet.DataError, "; use its state_dict()"):
        net.load_state_dict(other)
    net.load_state_dict(other.state_dict())
    assert net.sha256() == other.sha256()


@advice("use net.to(dtype='float64') before")
def _():
    net = xpnet.Sequential(xpnet.Linear(3, 2, bias=False))
    values = {"0.W": np.full((3, 2), 1e300)}
    with refused(xpnet.DataError, "use net.to(dtype='float64') before"):
        net.load_state_dict(values)
    net.to(dtype="float64")
    net.load_state_dict(values)


@advice("give whole numbers")
def _():
    net = xpnet.Sequential(xpnet.BatchNorm1d(3, momentum=None))
    values = net.state_dict()
    with refused(xpnet.DataError, "which cannot hold 1.5; give whole numbers"):
        net.load_state_dict(values | {"0.batches": np.array([1.5])})
    net.load_state_dict(values | {"0.batches": np.array([2])})


@advice("layer {}, {}, belongs to another network; take a copy of the layer, layer.copy()")
def _():
    layer = xpnet.Linear(3, 3)
    other = xpnet.Sequential(layer)
    expected = other.predict(X)
    with refused(xpnet.OptionError, "layer.copy(), or make a new one"):
        xpnet.Sequential(layer)
    assert np.array_equal(xpnet.Sequential(layer.copy()).predict(X), expected)
    xpnet.Sequential(xpnet.Linear(3, 3)).predict(X)


@advice("net.predict(X) gives the outputs; end with Softmax() or Sigmoid()")
def _():
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    words = "net.predict(X) gives the outputs; end with Softmax() or Sigmoid()"
    with refused(AttributeError, words):
        net.predict_proba(X)
    P = xpnet.Sequential(xpnet.Linear(3, 2), xpnet.Softmax()).predict(X)
    assert np.allclose(P.sum(axis=1), 1)
    P = xpnet.Sequential(xpnet.Linear(3, 1), xpnet.Sigmoid()).predict(X)
    assert ((P > 0) & (P < 1)).all()


@advice("cannot be changed: the first values have been made of it; make a new network with seed={}")
def _():
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    net.predict(X)
    with refused(xpnet.OptionError, "make a new network with seed=6"):
        net.seed = 6
    assert xpnet.Sequential(xpnet.Linear(3, 2), seed=6).sha256() != net.sha256()


@advice("are those of the layout {}, not {}; use load_state_dict(values, layout={})")
def _():
    net, other = xpnet.Sequential(xpnet.Linear(3, 2)), xpnet.Sequential(xpnet.Linear(3, 2), seed=1)
    values = other.state_dict("torch")
    with refused(xpnet.DataError, "use load_state_dict(values, layout='torch')"):
        net.load_state_dict(values)
    net.load_state_dict(values, layout="torch")
    assert net.sha256() == other.sha256()


@advice("; NumPy has no such type, use tensor.float()")
def _():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    tensor = torch.ones(3, dtype=torch.bfloat16)
    with refused(xpnet.DataError, "; NumPy has no such type, use tensor.float()"):
        xpnet.exchange.from_dlpack(tensor)
    assert xpnet.exchange.from_dlpack(tensor.float()).tolist() == [1, 1, 1]


@advice("is damaged: its checksum is wrong; use another copy of it")
def _(tmp_path):
    pytest.importorskip("safetensors", reason="safetensors is not installed")
    net, path = xpnet.Sequential(xpnet.Linear(3, 2)), tmp_path / "net.safetensors"
    xpnet.exchange.save_safetensors(net, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 64]))
    with refused(xpnet.CheckpointError, "its checksum is wrong; use another copy of it"):
        xpnet.exchange.load_safetensors(net, path)
    path.write_bytes(whole)
    xpnet.exchange.load_safetensors(net, path)


@advice("has the dtype {}, which is not read; write the file again with {}")
def _():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    library = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    net = xpnet.Sequential(xpnet.Linear(2, 3, bias=False))
    nothing = torch.zeros(2, 3)
    for dtype, way_out, right in (
        (torch.complex64, "tensor.real.contiguous()", lambda tensor: tensor.real.contiguous()),
        (torch.float8_e5m2, "tensor.float()", lambda tensor: tensor.float()),
    ):
        tensor = nothing.to(dtype)
        library.save_file({"0.W": tensor}, "net.safetensors")
        with refused(xpnet.CheckpointError, f"write the file again with {way_out}"):
            xpnet.exchange.load_safetensors(net, "net.safetensors")
        library.save_file({"0.W": right(tensor)}, "net.safetensors")
        xpnet.exchange.load_safetensors(net, "net.safetensors")
        assert not net[0].W.any()


@advice("{} must be above 0; for 0 use ReLU()")
def _():
    with refused(xpnet.OptionError, "must be above 0; for 0 use ReLU()"):
        xpnet.LeakyReLU(0)
    assert np.array_equal(xpnet.Sequential(xpnet.ReLU()).predict([[-1.0, 2.0]]), [[0.0, 2.0]])


@advice("so make one object for each place")
def _():
    layer = xpnet.Tanh()
    with refused(xpnet.OptionError, "so make one object for each place"):
        xpnet.Sequential(layer, layer)
    xpnet.Sequential(xpnet.Tanh(), xpnet.Tanh()).predict(X)


@advice(
    "net.params is the vector of all parameters, net.state_dict() has them by name",
    "net.train(False), or: with net.evaluating()",
    "net.to(backend) moves a network",
    "net.to(dtype=...) changes the type",
    "a network is not called: net.predict(X) gives outputs, net.forward(X) is the first half",
)
def _(strict):
    net = xpnet.Sequential(xpnet.Linear(3, 2), xpnet.Dropout(0.5), backend="numpy")
    for name in ("weights", "eval", "float", "double", "cuda", "cpu", "append"):
        with refused(AttributeError, f"Sequential has no attribute {name!r}; net."):
            getattr(net, name)
    for wrong in (lambda: net(X), lambda: setattr(net, "xp", 1), lambda: setattr(net, "dtype", 1)):
        with refused(xpnet.OptionError, "net."):
            wrong()
    assert net.params.size == sum(net.state_dict()[name].size for name in ("0.W", "0.b"))
    half = X.astype(np.float32)
    net.train(False)
    assert np.array_equal(net.forward(half), net.predict(X))
    net.train(True)
    with net.evaluating():
        assert np.array_equal(net.forward(half), net.predict(X))
    net.layers.append(xpnet.Linear(2, 2))
    assert net.to(dtype="float64").to(strict).xp is strict
    assert net.to("numpy").predict(X).dtype == np.float64
    assert net.to(dtype="float32").predict(X).dtype == np.float32


@advice(
    "xpnet.Trainer(net, loss).fit(X, t) trains a network",
    "it belongs to an optimizer: xpnet.Adam(net, lr=1e-3)",
    "xpnet.Trainer(net, loss, metrics=[...]).evaluate(X, t) does it",
    "xpnet.Trainer(net, loss) has one",
)
def _():
    net, loss = xpnet.Sequential(xpnet.Linear(3, 2)), "softmax_cross_entropy"
    for name in ("fit", "evaluate", "score", "learning_rate", "lr", "optimizer", "loss"):
        with refused(AttributeError, "xpnet."):
            getattr(net, name)
    xpnet.Trainer(net, loss).fit(X, T)
    assert "accuracy" in xpnet.Trainer(net, loss, metrics=["accuracy"]).evaluate(X, T)
    xpnet.Trainer(net, loss, xpnet.Adam(net, lr=1e-3)).fit(X, T)
    assert isinstance(xpnet.Trainer(net, loss).loss, xpnet.Loss)


@advice("another thread uses the network; its layers can be changed afterwards, or those of a copy")
def _():
    from concurrent.futures import ThreadPoolExecutor

    net = xpnet.Sequential(xpnet.Linear(3, 2))
    with ThreadPoolExecutor(1) as other:
        other.submit(net.in_use.acquire).result()
        with refused(xpnet.XpnetError, "changed afterwards, or those of a copy, net.copy()"):
            net.layers.append(xpnet.Tanh())
        net2 = net.copy()
        net2.layers.append(xpnet.Tanh())
        other.submit(net.in_use.release).result()
    net.layers.append(xpnet.Tanh())
    assert np.array_equal(net.predict(X), net2.predict(X))
