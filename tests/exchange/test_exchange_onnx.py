"""Networks as ONNX files give the same outputs in the reference evaluator and in onnxruntime."""

from __future__ import annotations

import errno
import os
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.exchange import to_onnx
from xpnet.exchange.onnx_nodes import NODES

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install '.[onnx]'")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, which runs them")
from onnx.reference import ReferenceEvaluator  # noqa: E402

N = 5
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}
MADE = {  # each layer for n features; with a small ε roundings grow by 1/σ
    "Linear": lambda n: xpnet.Linear(n, n, init="lecun_normal"),
    "Linear, no bias": lambda n: xpnet.Linear(n, n, bias=False, init="lecun_normal"),
    "ReLU": lambda n: xpnet.ReLU(),
    "LeakyReLU": lambda n: xpnet.LeakyReLU(0.013),
    "Sigmoid": lambda n: xpnet.Sigmoid(),
    "Tanh": lambda n: xpnet.Tanh(),
    "GELU": lambda n: xpnet.GELU(),
    "GELU, exact": lambda n: xpnet.GELU("none"),
    "BatchNorm1d, not affine": lambda n: xpnet.BatchNorm1d(n, eps=1.1, affine=False),
    "LayerNorm, no bias": lambda n: xpnet.LayerNorm(n, eps=1.1, bias=False),
    "LayerNorm, not affine": lambda n: xpnet.LayerNorm(n, eps=1.1, elementwise_affine=False),
    "Softmax": lambda n: xpnet.Softmax(),
    "Identity": lambda n: xpnet.Identity(),
    "Flatten": lambda n: xpnet.Flatten(),
    "Dropout": lambda n: xpnet.Dropout(0.3),
    "BatchNorm1d": lambda n: xpnet.BatchNorm1d(n, eps=1.1),
    "LayerNorm": lambda n: xpnet.LayerNorm(n, eps=1.1),
}


def outputs(path, X):
    """Return what the two evaluators make of X."""
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return {
        "reference": ReferenceEvaluator(str(path)).run(None, {"X": X})[0],
        "onnxruntime": session.run(["Y"], {"X": X})[0],
    }


def check(net, X, path, **options):
    """Compare the outputs with those of the network, in units of the largest one."""
    to_onnx(net, path, X.shape[1:], **options)
    Y = net.predict(X)
    for name, found in outputs(path, X).items():
        assert found.shape == Y.shape, name
        assert found.dtype == Y.dtype == net.dtype, name
        scale = max(1.0, float(np.abs(Y).max()))
        assert np.abs(found - Y).max() <= TOLERANCE[net.dtype.name] * scale, name


def learnt(net):
    """Give the network values that are not those it starts with."""
    random = np.random.default_rng(0)
    net.load_state_dict(
        {
            name: a if a.dtype.kind in "iu" else a + random.uniform(0, 0.5, a.shape)
            for name, a in net.state_dict().items()
        }
    )
    return net


def test_every_layer_is_meant():
    """... that says what it is in ONNX; another one is refused by its name."""
    made = {type(make(N)) for make in MADE.values()}
    assert made == NODES.keys() - {xpnet.Sequential}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", MADE)
def test_a_layer_gives_its_outputs(name, dtype, tmp_path):
    net = learnt(xpnet.Sequential(MADE[name](N), dtype=dtype))
    X = np.random.default_rng(1).normal(size=(7, N)).astype(dtype)
    check(net, X, tmp_path / "net.onnx")


@pytest.mark.parametrize("shape", [N, [N], (np.int64(N),), np.array([N])], ids=repr)
def test_the_shape_of_a_sample_may_be_a_number_or_a_list(shape, tmp_path):
    to_onnx(xpnet.Sequential(xpnet.Linear(N, 2)), tmp_path / "net.onnx", shape)
    assert outputs(tmp_path / "net.onnx", np.zeros((3, N), np.float32))["reference"].shape == (3, 2)


@pytest.mark.parametrize("shape", [(None, N), ("n", N), (5.0,), "5", 5.0, (True,), (0,), (-1, N)])
def test_other_shapes_are_refused_by_name(shape, tmp_path):
    with pytest.raises(xpnet.OptionError) as caught:
        to_onnx(xpnet.Sequential(xpnet.Linear(N, 2)), tmp_path / "net.onnx", shape)
    assert str(caught.value).startswith(
        "to_onnx: sample_shape must be whole numbers, such as (784,)"
    )
    assert str(caught.value).endswith(f"got {shape!r}")
    assert not (tmp_path / "net.onnx").exists()


def test_what_is_no_network_or_no_yes_or_no_is_refused(tmp_path):
    with pytest.raises(
        xpnet.OptionError, match=r"^to_onnx writes a Sequential; got Linear\(5, 2\)$"
    ):
        to_onnx(xpnet.Linear(N, 2), tmp_path / "net.onnx", (N,))
    with pytest.raises(xpnet.OptionError, match="to_onnx: pixels must be True or False; got 'no'"):
        to_onnx(xpnet.Sequential(xpnet.Linear(N, 2)), tmp_path / "a.onnx", (N,), pixels="no")


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_without_running_averages_the_file_takes_those_of_the_batch(dtype, affine, tmp_path):
    layer = xpnet.BatchNorm1d(N, eps=1.1, affine=affine, track_running_stats=False)
    X = np.random.default_rng(1).normal(2, 3, size=(1030, N)).astype(dtype)  # two pieces elsewhere
    check(learnt(xpnet.Sequential(layer, dtype=dtype)), X, tmp_path / "net.onnx")


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_the_exact_gelu_is_right_far_out(dtype, tmp_path):
    X = np.array([[-50, -9, -5.5, -1e-30, 0, 1e-9, 6, 40, 1e30]], dtype)
    check(xpnet.Sequential(xpnet.GELU("none"), dtype=dtype), X, tmp_path / "net.onnx")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    names=st.lists(st.sampled_from(list(MADE)), min_size=1, max_size=6),
    n=st.integers(1, 9),
    batch=st.integers(1, 9),
    inner=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
)
def test_networks_of_any_layers_give_their_outputs(tmp_path_factory, names, n, batch, inner, dtype):
    made = [MADE[name](n) for name in names]
    net = xpnet.Sequential(
        *([xpnet.Sequential(*made), xpnet.Identity()] if inner else made), dtype=dtype
    )
    X = np.random.default_rng(batch).normal(size=(batch, n)).astype(dtype)
    check(learnt(net), X, tmp_path_factory.mktemp("net") / "net.onnx")


def test_a_trained_network_of_images_gives_its_outputs_for_any_batch(tmp_path, backend):
    path = tmp_path / "net.onnx"
    net = xpnet.Sequential(
        *(xpnet.Flatten(), xpnet.Linear(12, 8), xpnet.BatchNorm1d(8), xpnet.Dropout(0.2)),
        *(xpnet.Sequential(xpnet.LayerNorm(8), xpnet.GELU()), xpnet.Linear(8, 3)),
    )
    X = np.random.default_rng(0).normal(size=(30, 3, 4)).astype(np.float32)
    xpnet.Trainer(net, "softmax_cross_entropy").fit(X, np.arange(30) % 3, epochs=2, batch_size=10)
    to_onnx(net, path)  # it has seen the shape of a sample
    for n in (1, 2, 30):
        for found in outputs(path, X[:n]).values():
            assert found == pytest.approx(net.predict(X[:n]), abs=1e-6)
    assert [file.name for file in tmp_path.iterdir()] == ["net.onnx"]


@pytest.mark.parametrize("first", [xpnet.Linear, lambda *_: xpnet.Flatten()])
def test_pixels_come_as_bytes(first, tmp_path):
    net = xpnet.Sequential(first(9, 9), xpnet.Linear(9, 3))
    X = np.arange(36, dtype=np.uint8).reshape(4, 9) * 7
    check(net, X, tmp_path / "net.onnx", pixels=True)
    assert np.abs(net.predict(X)).max() < 9


def test_the_file_says_what_goes_in_and_out(tmp_path):
    to_onnx(xpnet.Sequential(xpnet.Linear(4, 3), dtype="float64"), tmp_path / "a.onnx", (4,))
    model = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert (model.ir_version, model.opset_import[0].version) == (10, 21)
    found = {}
    for value in [*model.graph.input, *model.graph.output]:
        sides = [side.dim_param or side.dim_value for side in value.type.tensor_type.shape.dim]
        found[value.name] = (value.type.tensor_type.elem_type, sides)
    assert found == {
        "X": (onnx.TensorProto.DOUBLE, ["n", 4]),
        "Y": (onnx.TensorProto.DOUBLE, ["n", 3]),
    }


def test_what_is_random_in_training_is_at_rest_in_the_file(tmp_path):
    """And the network goes on as it was."""
    net = xpnet.Sequential(xpnet.Dropout(0.9), xpnet.BatchNorm1d(4))
    X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) + 3
    before = net.forward(X).copy()
    check(net, X, tmp_path / "net.onnx")
    assert net.training
    assert not np.array_equal(net.forward(X), before)  # a new mask


# ---- layers of a user ---------------------------------------------------------------------------


class Square(xpnet.Layer):
    def forward(self, X):
        return self.xp.multiply(X, X, out=self.Y[: len(X)])


class DescribedSquare(Square):
    def forward(self, X):
        return super().forward(X)

    def to_onnx(self, graph, X):
        return graph("Mul", X, X)


class Residual(xpnet.Sequential):
    def forward(self, X):
        return X + super().forward(X)


class DescribedResidual(Residual):
    def to_onnx(self, graph, X):
        return graph("Add", X, super().to_onnx(graph, X))


class Louder(xpnet.Tanh):
    def forward(self, X):
        return 2 * super().forward(X)


class Renamed(xpnet.Tanh):
    """Nothing new."""


def _changed():
    layer = xpnet.Tanh()
    layer.forward = lambda X: X
    return layer


@pytest.mark.parametrize(
    ("layer", "name"),
    [
        (Square, "layer 1.0, Square(), does not say what it is in ONNX; define Square.to_onnx"),
        (Louder, "layer 1.0, Louder()"),
        (lambda: Residual(xpnet.Linear(3, 3)), "layer 1.0, Sequential(Linear(3, 3)),"),
        (_changed, "layer 1.0, Tanh()"),
    ],
    ids=["no description", "another forward", "another network", "changed"],
)
def test_a_layer_that_does_not_say_what_it_is_is_named(layer, name, tmp_path):
    net = xpnet.Sequential(xpnet.Linear(3, 3), xpnet.Sequential(layer()))
    with pytest.raises(xpnet.OptionError) as error:
        to_onnx(net, tmp_path / "net.onnx", (3,))
    assert name in str(error.value)
    assert not list(tmp_path.iterdir())


def test_a_layer_that_says_what_it_is_is_written(tmp_path):
    X = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    inner = DescribedResidual(xpnet.Linear(3, 3), DescribedSquare())
    net = xpnet.Sequential(inner, Renamed(), xpnet.Linear(3, 2))
    check(net, X, tmp_path / "net.onnx")


# ---- what is not right --------------------------------------------------------------------------


def test_the_shape_of_a_sample_must_be_known_and_fit(tmp_path):
    net = xpnet.Sequential(xpnet.Linear(3, 2))
    with pytest.raises(xpnet.OptionError, match="sample_shape"):
        to_onnx(net, tmp_path / "net.onnx")
    with pytest.raises(xpnet.ShapeError, match="takes 3 features"):
        to_onnx(net, tmp_path / "net.onnx", (4,))
    with pytest.raises(xpnet.XpnetError, match="cannot write to the folder"):
        to_onnx(net, tmp_path / "none" / "net.onnx", (3,))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(xpnet.XpnetError, match="No space left on device"):
        to_onnx(xpnet.Sequential(xpnet.Linear(3, 2)), path, (3,))
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx.checker", None)
    with pytest.raises(xpnet.XpnetError, match=r"pip install 'onnx>=1\.21'"):
        to_onnx(xpnet.Sequential(xpnet.Linear(3, 2)), tmp_path / "net.onnx", (3,))
