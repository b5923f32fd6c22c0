"""Values go to PyTorch and come back: its names, its layout, and the same outputs."""

from __future__ import annotations

import re

import numpy as np
import pytest

import xpnet

torch = pytest.importorskip("torch", reason="PyTorch is not installed, which values go to")

N = 5  # features in and out of every layer
T = torch.nn
TWINS = {  # each layer, and what PyTorch has for it
    "Linear": (lambda: xpnet.Linear(N, N), lambda: T.Linear(N, N)),
    "Linear, no bias": (
        lambda: xpnet.Linear(N, N, bias=False),
        lambda: T.Linear(N, N, bias=False),
    ),
    "LayerNorm": (lambda: xpnet.LayerNorm(N, eps=1e-3), lambda: T.LayerNorm(N, eps=1e-3)),
    "BatchNorm1d": (lambda: xpnet.BatchNorm1d(N, eps=1e-3), lambda: T.BatchNorm1d(N, eps=1e-3)),
    "ReLU": (xpnet.ReLU, T.ReLU),
    "LeakyReLU": (lambda: xpnet.LeakyReLU(0.2), lambda: T.LeakyReLU(0.2)),
    "Sigmoid": (xpnet.Sigmoid, T.Sigmoid),
    "Tanh": (xpnet.Tanh, T.Tanh),
    "GELU": (xpnet.GELU, lambda: T.GELU(approximate="tanh")),
    "GELU, exact": (lambda: xpnet.GELU("none"), T.GELU),
    "LayerNorm, no bias": (
        lambda: xpnet.LayerNorm(N, bias=False),
        lambda: T.LayerNorm(N, bias=False),
    ),
    "LayerNorm, not affine": (
        lambda: xpnet.LayerNorm(N, elementwise_affine=False),
        lambda: T.LayerNorm(N, elementwise_affine=False),
    ),
    "BatchNorm1d, not affine": (
        lambda: xpnet.BatchNorm1d(N, affine=False),
        lambda: T.BatchNorm1d(N, affine=False),
    ),
    "BatchNorm1d, not tracked": (
        lambda: xpnet.BatchNorm1d(N, track_running_stats=False),
        lambda: T.BatchNorm1d(N, track_running_stats=False),
    ),
    "BatchNorm1d, plain average": (
        lambda: xpnet.BatchNorm1d(N, momentum=None),
        lambda: T.BatchNorm1d(N, momentum=None),
    ),
    "Softmax": (xpnet.Softmax, lambda: T.Softmax(dim=1)),
    "Dropout": (lambda: xpnet.Dropout(0.3), lambda: T.Dropout(0.3)),
    "Flatten": (xpnet.Flatten, T.Flatten),
    "Identity": (xpnet.Identity, T.Identity),
}


def twins(*names, dtype="float64"):
    """Return a network and PyTorch's, of such layers and of all in a network within the network."""
    ours, theirs = zip(*(TWINS[name] for name in names), strict=True)
    net = xpnet.Sequential(
        xpnet.Linear(3, N), *(f() for f in ours), xpnet.Sequential(*(f() for f in ours)),
        dtype=dtype,
    )  # fmt: skip
    twin = T.Sequential(
        T.Linear(3, N), *(f() for f in theirs), T.Sequential(*(f() for f in theirs))
    )
    return net, twin.to(getattr(torch, dtype)).eval()


def scramble(net, seed=0):
    """Give every value but those of Dropout another one, in a range that all layers can take."""
    random = np.random.default_rng(seed)
    net.load_state_dict(
        {
            name: a if a.dtype.kind in "iu" else random.uniform(0.5, 1.5, a.shape)
            for name, a in net.state_dict().items()
        }
    )


def outputs(net, twin):
    X = np.random.default_rng(1).normal(size=(7, 3))
    with torch.no_grad():
        Y = twin(torch.tensor(X, dtype=next(twin.parameters()).dtype)).numpy()
    return net.predict(X), Y


# ---- both ways ----------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [*((name,) for name in TWINS), tuple(TWINS)], ids=" ".join)
def test_values_go_to_pytorch_under_its_names_and_give_its_outputs(names, backend):
    net, twin = twins(*names)
    scramble(net)
    values = net.state_dict(layout="torch")
    theirs = twin.state_dict()
    assert list(values) == list(theirs)
    assert all(values[name].shape == tuple(a.shape) for name, a in theirs.items())
    assert all(a.flags.c_contiguous and a.flags.owndata for a in values.values())
    twin.load_state_dict({name: torch.from_numpy(a) for name, a in values.items()}, strict=True)
    Y, expected = outputs(net, twin)
    assert pytest.approx(expected, abs=1e-12) == Y


@pytest.mark.parametrize("names", [*((name,) for name in TWINS), tuple(TWINS)], ids=" ".join)
def test_values_come_from_pytorch_and_give_its_outputs(names, backend):
    net, twin = twins(*names)
    for a in [*twin.parameters(), *twin.buffers()]:
        a.data = (torch.rand(a.shape, dtype=torch.float64) + 0.5).to(a.dtype)
    net.load_state_dict(twin.state_dict(), layout="torch")
    Y, expected = outputs(net, twin)
    assert pytest.approx(expected, abs=1e-12) == Y


def test_what_comes_back_is_what_went_out_in_each_layout():
    net, _ = twins(*TWINS)
    scramble(net)
    before = net.state_dict()
    for layout in ("xpnet", "torch"):
        values = net.state_dict(layout)
        scramble(net, seed=1)
        net.load_state_dict(values, layout)
        after = net.state_dict()
        assert all(np.array_equal(after[name], a) for name, a in before.items())


def test_trained_in_pytorch_it_goes_on_here_with_the_same_gradients():
    """The weights are those of the same places: a transposed square matrix would be found."""
    net, twin = twins("Linear", "Tanh", "LayerNorm")
    net.load_state_dict(twin.state_dict(), layout="torch")
    X, t = np.random.default_rng(2).normal(size=(6, 3)), np.arange(6) % N
    loss = xpnet.SoftmaxCrossEntropy()
    loss.forward(net.forward(X), t)
    net.backward(loss.backward())
    T.CrossEntropyLoss()(twin(torch.tensor(X)), torch.tensor(t)).backward()
    ours = net.layers[1].dW
    assert ours == pytest.approx(twin[1].weight.grad.numpy().T, abs=1e-12)


# ---- what is not in the other network -----------------------------------------------------------


def test_the_masks_of_dropout_stay_as_they_were():
    net = xpnet.Sequential(xpnet.Linear(3, 4), xpnet.Dropout(0.5))
    net.forward(np.ones((2, 3), np.float32))
    before = net.state_dict()
    assert before["1.drawn"] == [1]
    net.load_state_dict(xpnet.Sequential(xpnet.Linear(3, 4), seed=1).state_dict("torch"), "torch")
    after = net.state_dict()
    assert after["1.drawn"] == [1]
    assert after["1.key"] == before["1.key"]
    assert not np.array_equal(after["0.W"], before["0.W"])


def test_the_count_of_batches_is_zero_and_is_not_taken():
    net, _ = twins("BatchNorm1d")
    values = net.state_dict(layout="torch")
    count = values["1.num_batches_tracked"]
    assert (count.dtype, count.shape, count) == (np.int64, (), 0)
    values["1.num_batches_tracked"] = np.array(17)
    net.load_state_dict(values, layout="torch")
    assert net.state_dict(layout="torch")["1.num_batches_tracked"] == 0


class Scale(xpnet.Layer):
    """A layer of a user, who says nothing of PyTorch."""

    def __init__(self):
        super().__init__()
        self.parameter("a", (2, 3), "ones")

    def initial_state(self, random):
        return {"seen": np.zeros(4)}

    def output_shape(self, shape):
        return shape


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm1d, plain average"])
def test_the_count_of_batches_may_be_absent(name):
    """Files of PyTorch before 0.4.1 and those of other tools lack it; all else must be there."""
    net, twin = twins(name)
    values = {k: v for k, v in twin.state_dict().items() if not k.endswith("num_batches_tracked")}
    net.load_state_dict(values, layout="torch")
    Y, expected = outputs(net, twin)
    assert pytest.approx(expected, abs=1e-12) == Y
    del values["1.running_var"]
    with pytest.raises(xpnet.DataError, match=r"no value for the parameter '1\.running_var'"):
        net.load_state_dict(values, layout="torch")


def test_the_plain_average_goes_on_where_pytorch_was():
    """The count comes along, and the mean is PyTorch's after further batches."""
    net, twin = twins("BatchNorm1d, plain average")
    batches = np.random.default_rng(3).normal(size=(6, 4, 3))
    twin.train()
    for X in batches[:3]:
        twin(torch.tensor(X))
    net.load_state_dict(twin.state_dict(), layout="torch")
    assert net.state_dict()["1.batches"] == [3]
    for X in batches[3:]:
        net.forward(X)
        twin(torch.tensor(X))
    ours, theirs = net.state_dict("torch"), twin.state_dict()
    assert ours["1.num_batches_tracked"] == theirs["1.num_batches_tracked"] == 6
    mean = theirs["1.running_mean"].numpy()
    assert ours["1.running_mean"] == pytest.approx(mean, abs=1e-12)


def test_a_layer_of_ones_own_keeps_its_names_and_shapes():
    net = xpnet.Sequential(Scale(), dtype="float64")
    values = net.state_dict(layout="torch")
    assert {name: a.shape for name, a in values.items()} == {"0.a": (2, 3), "0.seen": (4,)}
    new = {"0.a": np.arange(6.0).reshape(2, 3), "0.seen": np.arange(4.0)}
    net.load_state_dict(new, layout="torch")
    assert all(np.array_equal(a, new[name]) for name, a in net.state_dict().items())


# ---- what is taken, and what is not -------------------------------------------------------------


def _kinds(a):
    """Return the forms in which a value may come."""
    yield a
    yield a.astype(np.float64).tolist()
    yield np.asfortranarray(a)
    yield a.astype(">f4")
    yield torch.tensor(a)
    yield torch.tensor(a, requires_grad=True)
    yield torch.nn.Parameter(torch.tensor(a))
    yield torch.tensor(a.T.copy()).T
    yield torch.tensor(a).to(torch.float16).to(torch.float64)


def test_values_may_be_arrays_lists_and_tensors_also_with_a_gradient():
    net = xpnet.Sequential(xpnet.Linear(3, 2, bias=False))
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    for value in _kinds(weight):
        net.load_state_dict({"0.weight": value}, "torch")
        assert np.array_equal(net.layers[0].W, weight.T)
        net.layers[0].W[...] = -1


def test_names_of_another_layout_are_told_apart():
    net, twin = twins("LayerNorm", "Dropout")
    with pytest.raises(
        xpnet.DataError, match=r"such as '0.weight', are those of the layout 'torch'"
    ):
        net.load_state_dict(twin.state_dict())
    net.load_state_dict(twin.state_dict(), layout="torch")  # as the message says
    with pytest.raises(xpnet.DataError, match=r"layout 'xpnet', not 'torch'; use load_state_dict"):
        net.load_state_dict(net.state_dict(), layout="torch")
    with pytest.raises(xpnet.DataError, match=r"unknown parameter 'module.0.weight'; did you mean"):
        net.load_state_dict({"module.0.weight": np.zeros((N, 3))}, layout="torch")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([("0.W", [[1.0]])], "got a list$"),
        (T.Linear(1, 1), r"got a Linear; use its state_dict\(\)$"),
        (None, "got a NoneType$"),
    ],
    ids=["pairs", "module", "nothing"],
)
def test_values_are_a_mapping(values, said):
    with pytest.raises(
        xpnet.DataError, match=f"^values must be a dict of arrays by name, .*{said}"
    ):
        xpnet.Sequential(xpnet.Linear(1, 1)).load_state_dict(values)


def test_the_ways_out_are_right():
    """Of tensors that NumPy cannot read, as messages say; a view that waits to be made is read."""
    values = {"0.W": np.zeros((1, 2)), "0.b": torch.tensor([1.5, -2.0], dtype=torch.bfloat16)}
    net = xpnet.Sequential(xpnet.Linear(1, 2))
    with pytest.raises(xpnet.DataError) as caught:
        net.load_state_dict(values)
    values["0.b"] = eval(str(caught.value).rpartition("; use ")[2])
    net.load_state_dict(values)
    assert net[0].b.tolist() == [1.5, -2]
    waiting = torch.tensor([1 + 3j, 2 - 4j], dtype=torch.complex64).conj().imag
    net.load_state_dict(values | {"0.b": waiting})
    assert net[0].b.tolist() == [-3, 4]


def test_a_count_takes_whole_numbers_alone():
    net, _ = twins("BatchNorm1d, plain average")
    values = net.state_dict()
    net.load_state_dict(values | {"1.batches": [3.0]})
    with pytest.raises(xpnet.DataError, match=r"'1.batches' is int64, which cannot hold 2.5; give"):
        net.load_state_dict(values | {"1.batches": [2.5]})
    assert net.state_dict()["1.batches"] == [3]


def test_infinities_and_nan_go_in_as_they_are():
    """A network that has diverged can be looked at."""
    net = xpnet.Sequential(xpnet.Linear(1, 2))
    net.load_state_dict({"0.W": np.zeros((1, 2)), "0.b": np.array([np.inf, np.nan])})
    assert np.isinf(net[0].b[0])
    assert np.isnan(net[0].b[1])


def test_values_may_be_on_the_networks_device(strict):
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    values = {name: strict.asarray(a) for name, a in net.state_dict("torch").items()}
    before = net.sha256()
    net.load_state_dict(values, layout="torch")
    assert net.sha256() == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"0.weight": np.zeros((3, 2))}, xpnet.ShapeError, r"'0.weight' has the shape \(2, 3\)"),
        ({"0.W": np.zeros((3, 2))}, xpnet.DataError, "unknown parameter '0.W'"),
        ({"0.bias": None}, xpnet.DataError, "no value for the parameter '0.bias'"),
        ({"0.bias": np.array(["a", "b"])}, xpnet.DataError, "'0.bias' must hold numbers"),
        (
            {"0.bias": torch.zeros(2, dtype=torch.bfloat16)},
            xpnet.DataError,
            r"'0.bias' is a torch.Tensor that NumPy cannot read: .*BFloat16; use values\['0.bias'\]"
            r"\.float\(\)$",
        ),
        (
            {"0.bias": torch.zeros(2).to(torch.float8_e4m3fn)},
            xpnet.DataError,
            r"use values\['0.bias'\]\.float\(\)$",
        ),
        (
            {"0.bias": torch.zeros(2, dtype=torch.complex64)},
            xpnet.DataError,
            r"dtype complex64.*use values\['0.bias'\]\.real,",
        ),
        (
            {"0.bias": np.array([1, 1e300])},
            xpnet.DataError,
            r"^the parameter '0.bias' is float32, which cannot hold 1e\+300; use net.to\(",
        ),
        ({"0.bias": torch.zeros(2, device="meta")}, xpnet.DataError, "meta"),
    ],
    ids=[
        *("shape", "unknown", "missing", "words", "bfloat16", "float8", "complex", "too large"),
        "elsewhere",
    ],
)
def test_what_does_not_fit_changes_nothing(change, error, message):
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    values = {name: a + 1 for name, a in net.state_dict("torch").items()} | change
    values = {name: a for name, a in values.items() if a is not None}
    before = net.sha256()
    with pytest.raises(error, match=message):
        net.load_state_dict(values, layout="torch")
    assert net.sha256() == before


def test_another_layout_is_an_error_that_names_those_there_are():
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    expected = re.escape("unknown layout 'pytorch'; did you mean 'torch'? choose from torch, xpnet")
    with pytest.raises(xpnet.OptionError, match=expected):
        net.state_dict(layout="pytorch")
    with pytest.raises(xpnet.OptionError, match=expected):
        net.load_state_dict({}, layout="pytorch")
