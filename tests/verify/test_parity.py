"""Parity: right networks pass, and each mistake in a backend is found, measured and located."""

from __future__ import annotations

import inspect
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from conftest import STRICT
from strict_backend import ARRAYS
from test_gradients import LAYERS, LOSSES, make

import xpnet
from xpnet.backend import Backend, NumPyBackend
from xpnet.backend.registry import KINDS
from xpnet.backend.reproducible import Reproducible
from xpnet.runs import problems
from xpnet.support.errors import BackendError, DataError, OptionError, ShapeError
from xpnet.verify.parity import (
    Check,
    Difference,
    ParityReport,
    RoundingNoise,
    Row,
    gradients,
    locate,
    parity,
    wrapped,
)

# ---- backends that are wrong ---------------------------------------------------------------------


class Other(NumPyBackend):
    """NumPy under another name, so that it is held against NumPy."""

    name = "other"


class WrongSigmoid(Other):
    def sigmoid_grad(self, dY, Y, out):
        return np.multiply(dY, Y, out=out)


class WrongTanh(Other):
    def tanh(self, A, out):
        np.tanh(A, out=out)
        out[1, 2] *= 1 + 1e-9
        return out


class WrongProduct(Other):
    """One entry of Xᵀ dY is off; every other product is right."""

    def matmul(self, A, B, out):
        np.matmul(A, B, out=out)
        if A.strides[0] < A.strides[1]:
            out[1, 0] *= 1 + 1e-9
        return out


class WrongLoss(Other):
    def softmax_cross_entropy(self, Z, T, out, scale=1.0):
        losses = super().softmax_cross_entropy(Z, T, out, scale)
        losses[3] *= 1 + 1e-9
        return losses


class WrongSlope(Other):
    def softmax_cross_entropy(self, Z, T, out, scale=1.0):
        losses = super().softmax_cross_entropy(Z, T, out, scale)
        out.dZ[3, 1] *= 1 + 1e-9
        return losses


class NotANumber(Other):
    def tanh_grad(self, dY, Y, out):
        super().tanh_grad(dY, Y, out)
        out[4, 1] = np.nan
        return out


class Scaled(Other):
    """The gradients of W are a hundred-thousandth too large, in float32."""

    def matmul(self, A, B, out):
        np.matmul(A, B, out=out)
        if A.strides[0] < A.strides[1] and out.dtype == np.float32:
            out *= np.float32(1 + 1e-5)
        return out


class Half(Other):
    """The products are computed in the precision of float16, in float32."""

    def matmul(self, A, B, out):
        if out.dtype == np.float32:
            A, B = (M.astype(np.float16).astype(np.float32) for M in (A, B))
        return np.matmul(A, B, out=out)


class OneAfterTheOther(Other):
    """The worst order of a sum: left to right, with one rounding in each step."""

    def matmul(self, A, B, out):
        total = np.zeros(out.shape, out.dtype)
        for k in range(A.shape[1]):
            total += A[:, k, None] * B[None, k]
        return self.copyto(out, total)

    def sum(self, A, axis=None, *, out, keepdims=False):
        A, axis = (A.reshape(-1), 0) if axis is None else (A, axis)
        total = np.take(np.add.accumulate(A, axis=axis), -1, axis=axis)
        return self.copyto(out, total.reshape(out.shape))


class SameBits(NumPyBackend):
    """Stands for reproducible mode: the same bits, here and now."""

    name, reproducible = "left", True

    @property
    def ordinary(self):
        return Other()


class OneBit(SameBits):
    name = "right"

    def matmul(self, A, B, out):
        np.matmul(A, B, out=out)
        if A.strides[0] < A.strides[1] and out.shape == (6, 5):
            out[2, 3] = np.nextafter(out[2, 3], np.float32(np.inf))
        return out


# ---- a network and a batch -----------------------------------------------------------------------


def _net(**options):
    return xpnet.Sequential(
        xpnet.Linear(4, 6),
        xpnet.Tanh(),
        xpnet.Sequential(xpnet.Linear(6, 5), xpnet.Sigmoid()),
        xpnet.Dropout(0.2),
        xpnet.Linear(5, 3),
        seed=2,
        backend="numpy",
        **options,
    )


def _batch(n=20):
    rng = np.random.default_rng(5)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, n)


def _parity(*backends, net=None):
    return parity(net or _net(), "softmax_cross_entropy", *_batch(), backends=backends)


def _check(report, dtype, what):
    return next(check for check in report.checks if (check.dtype, check.what) == (dtype, what))


def _unfolded(report):
    return " ".join(str(report).split())


def _wrong(check):
    return {row.name for row in check.rows if not row.ok}


# ---- what is right passes ------------------------------------------------------------------------

CASES = [(layer, "softmax-labels") for layer in LAYERS] + [("gelu", loss) for loss in LOSSES]


@pytest.mark.parametrize("number", [13, 18])
@pytest.mark.parametrize(("layer", "loss"), CASES)
def test_every_layer_and_every_loss_has_parity(layer, loss, number):
    case = make(layer, loss, number)
    report = parity(
        case.net, case.loss, case.X, case.t, sample_weight=case.weight, backends=["numpy", STRICT]
    )
    assert report, str(report)
    names = {f"{path}.{p}" for path, part in case.net.walk("") for p in part.parameters}
    for check in report.checks:
        by_layer = check.what in ("numpy, slopes", "numpy, by layer", "strict, by layer")
        assert {row.name for row in check.rows} == (names if by_layer else names | {"loss"})
        for row in check.rows:
            assert row.error <= row.limit, f"{check.what}: {row}"
    assert report.same_bits
    assert set(report.not_run) <= {"PyTorch"}


def test_the_checks_are_all_there():
    report = _parity("numpy", STRICT)
    torch = [] if "PyTorch" in report.not_run else [("float64", "numpy, PyTorch")]
    assert [(check.dtype, check.what) for check in report.checks] == [
        ("float64", "numpy, slopes"),
        *torch,
        ("float64", "strict, norm"),
        ("float64", "strict, largest"),
        ("float32", "numpy, by layer"),
        ("float32", "numpy, whole"),
        ("float32", "strict, by layer"),
        ("float32", "strict, whole"),
        ("float32", "numpy, reproducible"),
        ("float32", "strict, reproducible"),
    ]
    assert list(report.bits) == ["numpy", "strict"]
    assert report.bits["numpy"] == report.bits["strict"]
    assert len({report.bits["numpy"].gradients, report.bits["numpy"].outputs}) == 2
    assert all(len(b.loss) == 64 for b in report.bits.values())


@pytest.mark.thorough(but=["and", "xor"])
@pytest.mark.parametrize("name", ["and", "xor", "spiral", "curve", "surface", "digits"])
def test_the_recipes_have_parity(name):
    problem = problems.PROBLEMS[name]
    split = problem.load(0, None)
    trainer = problems.build(problem, split, dtype="float32", seed=0, backend="numpy")
    X, t = split.train
    report = parity(trainer.net, trainer.loss, X[:128], t[:128], backends=["numpy", STRICT])
    assert report, str(report)


@pytest.mark.thorough(but=["all the same", "four points, often"])
@pytest.mark.parametrize("kind", ["images", "all the same", "four points, often", "deep"])
def test_float32_in_any_order_of_the_sums_is_within_the_limits(kind):
    """The limits are no looser than they must be, either: a gradient off by 1e-4 is beyond."""
    rng = np.random.default_rng(1)
    linear, tanh = xpnet.Linear, xpnet.Tanh
    X, t, layers = {
        "images": (
            rng.integers(0, 256, (64, 784)).astype(np.uint8),
            rng.integers(0, 10, 64),
            [linear(784, 32), xpnet.BatchNorm1d(32), xpnet.ReLU(), linear(32, 10)],
        ),
        "all the same": (
            np.full((500, 8), 0.1),
            np.full(500, 1),
            [linear(8, 9), tanh(), linear(9, 2)],
        ),
        "four points, often": (
            np.tile([[0, 0], [0, 1], [1, 0], [1, 1]], (100, 1)),
            np.tile([0, 1, 1, 0], 100),
            [linear(2, 8), xpnet.ReLU(), linear(8, 2)],
        ),
        "deep": (
            rng.normal(size=(100, 12)),
            rng.integers(0, 12, 100),
            [part for _ in range(8) for part in (linear(12, 12), xpnet.GELU())],
        ),
    }[kind]
    net = xpnet.Sequential(*layers, backend="numpy")
    report = parity(net, "softmax_cross_entropy", X, t, backends=["numpy", OneAfterTheOther()])
    assert report, str(report)
    for row in _check(report, "float32", "numpy, whole").rows:
        nothing = (kind, row.name) == ("images", "0.b")  # BatchNorm1d takes the bias out again
        assert row.limit == 1.0 if nothing else 0 < row.limit < 1e-4


def test_the_network_and_the_loss_are_not_touched():
    net, loss = _net(), xpnet.SoftmaxCrossEntropy()
    loss.validate = False
    loss.forward(net.forward(_batch()[0].astype(np.float32)), _batch()[1])
    net.backward(loss.backward())
    before, grads, value = net.state_dict(), net.grads.copy(), float(loss)
    made = net.xp, net.dtype, net.capacity, vars(net[0]).keys()
    parity(net, loss, *_batch(), backends=["numpy", STRICT])
    locate(net, net.copy(), loss, *_batch(), same=lambda a, b: False)
    for name, a in net.state_dict().items():
        assert np.array_equal(a, before[name]), name
    assert np.array_equal(net.grads, grads)
    assert float(loss) == value
    assert not loss.validate
    assert (net.xp, net.dtype, net.capacity, vars(net[0]).keys()) == made


def test_float64_networks_and_networks_without_parameters_have_parity():
    assert _parity("numpy", STRICT, net=_net(dtype="float64"))
    net = xpnet.Sequential(xpnet.Tanh(), backend="numpy")
    X = np.random.default_rng(1).normal(size=(5, 3))
    report = parity(net, "mse", X, X, backends=["numpy", STRICT])
    assert report
    assert {row.name for check in report.checks for row in check.rows} == {"loss"}


# ---- what is wrong is found and located ----------------------------------------------------------

FLOAT64 = [
    (WrongSigmoid, "backward", "2.1", "Sigmoid()", "", None, {"0.W", "0.b", "2.0.W", "2.0.b"}),
    (WrongTanh, "forward", "1", "Tanh()", "", (1, 2), {"2.0.W"}),
    (WrongProduct, "backward", "4", "Linear(5, 3)", "W", (1, 0), {"0.W", "2.0.W", "4.W"}),
    (WrongLoss, "loss", "", "SoftmaxCrossEntropy()", "", (), {"loss"}),
    (WrongSlope, "loss", "", "SoftmaxCrossEntropy()", "dY", (3, 1), {"4.W"}),
    (NotANumber, "backward", "1", "Tanh()", "", (4, 1), {"0.W", "0.b"}),
]


@pytest.mark.parametrize(("kind", "phase", "path", "layer", "parameter", "entry", "off"), FLOAT64)
def test_a_wrong_primitive_is_found_and_located(kind, phase, path, layer, parameter, entry, off):
    report = _parity("numpy", kind())
    assert not report
    for what in ("other, norm", "other, largest"):
        check = _check(report, "float64", what)
        assert off <= _wrong(check)
        found = check.difference
        assert (found.phase, found.path, found.layer) == (phase, path, layer)
        assert found.parameter == parameter
        assert entry in (None, found.entry)
        assert found.a != found.b
        assert f"float64, {what}" in str(report)
        assert str(found) in _unfolded(report)
    assert all(check.ok for check in report.checks if check.what.startswith("numpy"))
    assert "NOT the same" in str(report)


@pytest.mark.parametrize(("kind", "path"), [(Scaled, "4"), (Half, "0")])
def test_a_float32_gradient_that_is_not_float32_is_found(kind, path):
    report = _parity("numpy", kind())
    assert all(check.ok for check in report.checks if check.dtype == "float64")
    assert all(check.ok for check in report.checks if check.what.startswith("numpy"))
    whole = _check(report, "float32", "other, whole")
    assert {"0.W", "2.0.W", "4.W"} <= _wrong(whole)
    assert "4.W" in _wrong(_check(report, "float32", "other, by layer"))
    assert whole.difference.path == path
    assert not report


def test_one_bit_is_found_and_located():
    report = _parity(SameBits(), OneBit())
    assert all(check.ok for check in report.checks)
    assert not report.same_bits
    assert not report
    left, right = report.bits["left"], report.bits["right"]
    assert (left.loss, left.outputs) == (right.loss, right.outputs)
    assert left.gradients != right.gradients
    found = right.difference
    assert (found.phase, found.path, found.parameter, found.entry) == (
        "backward",
        "2.0",
        "W",
        (2, 3),
    )
    assert found.a == np.nextafter(np.float32(found.b), np.float32(np.inf))
    assert f"WRONG: reproducible, right: {found}" in _unfolded(report)
    assert _parity(SameBits()).same_bits


def test_locate_is_exact_about_zeros_and_numbers():
    class Minus(Other):
        def tanh_grad(self, dY, Y, out):
            super().tanh_grad(dY, Y, out)
            out[1, 1] = -out[1, 1]
            return out

    def same(a, b):
        return a.tobytes() == b.tobytes()

    X, t = np.zeros((3, 2)), np.zeros((3, 1))
    net = xpnet.Sequential(
        xpnet.Linear(2, 2), xpnet.Tanh(), xpnet.Linear(2, 1), dtype="float64", backend="numpy"
    )
    other = net.copy().to(Minus())
    found = locate(net, other, "mse", X, t, same=same)
    assert (found.path, found.parameter, found.entry, found.a) == ("1", "", (1, 1), 0.0)
    assert np.signbit(found.a) != np.signbit(found.b)
    assert locate(net, net.copy().to(Other()), "mse", X, t, same=same) is None
    assert locate(net, other, "mse", X, t, np.ones(3), same=np.array_equal) is None


def test_other_bits_are_told_where_nothing_can_be_located(monkeypatch):
    monkeypatch.setattr(gradients, "located", lambda a, b, same: None)
    report = _parity(SameBits(), OneBit())
    assert not report
    assert report.failures() == ["reproducible, right: other bits than left"]


def test_a_difference_is_one_sentence():
    assert str(Difference("backward", "2.0", "Linear(6, 5)", "W", (2, 3), 1.5, 2.5)) == (
        "layer 2.0, Linear(6, 5) gives something else for the same input in the backward pass: "
        "the gradient of W; at [2][3] they are 1.5 and 2.5"
    )
    assert str(Difference("loss", "", "Huber(1.0)", "", (), 1.5, 2.5)) == (
        "Huber(1.0) gives something else for the same input in the loss pass: its value: "
        "1.5 and 2.5"
    )


@pytest.mark.parametrize("layer", [xpnet.Sigmoid, xpnet.Linear])
def test_a_wrong_formula_is_seen_by_slopes_and_by_pytorch(monkeypatch, layer):
    """It is the same on all backends, so these two alone can see it."""
    right = layer.backward
    monkeypatch.setattr(layer, "backward", lambda self, dY: right(self, dY * (1 + 1e-5)))
    report = _parity("numpy", Other())
    wrong = {check.what for check in report.checks if not check.ok}
    torch = set() if "PyTorch" in report.not_run else {"numpy, PyTorch"}
    assert wrong == {"numpy, slopes"} | torch
    assert not report


class LongSum(Other):
    """A sum over the samples is off by more than its roundings, in float32."""

    def sum(self, A, axis=None, *, out, keepdims=False):
        super().sum(A, axis, out=out, keepdims=keepdims)
        if out.dtype == np.float32 and out.ndim == 1:
            out *= np.float32(1 + 1e-4)
        return out


@pytest.mark.parametrize("kind", [xpnet.BatchNorm1d, xpnet.LayerNorm])
def test_each_layer_has_its_own_bound(kind):
    net = xpnet.Sequential(xpnet.Linear(4, 6), kind(6), xpnet.Linear(6, 3), backend="numpy")
    check = _check(_parity("numpy", LongSum(), net=net), "float32", "other, by layer")
    limits = {row.name: row.limit for row in check.rows}
    assert limits == {
        **dict.fromkeys(("0.W", "0.b", "1.beta", "2.W", "2.b"), 22.0),
        "1.gamma": 24.0,
    }
    assert {"1.beta", "2.b"} <= _wrong(check)
    assert "2.W" not in _wrong(check)
    assert {"1.gamma", "1.beta", "2.b"} <= _wrong(
        _check(_parity("numpy", LongSum(), net=net), "float32", "other, whole")
    )


def test_where_float32_may_overflow_float64_is_compared_all_the_same():
    """At y = 1 the logarithm of 1 - y + ε has no value a rounding further on."""
    net = xpnet.Sequential(xpnet.Linear(1, 1), backend="numpy")
    net.params[...] = 0.0, 1.0
    X, t = np.arange(4.0)[:, None], np.ones(4)
    report = parity(net, "bce", X, t, backends=["numpy", Other()])
    for row in _check(report, "float64", "other, norm").rows:
        assert 1e-12 <= row.limit < 1e-11
    assert _check(report, "float32", "numpy, whole").rows[0].limit == np.inf
    assert {check.what for check in report.checks if not check.ok} == {"numpy, slopes"}
    json.dumps(report.to_dict(), allow_nan=False)


def test_a_gradient_that_is_not_written_is_found_even_where_the_old_one_is_right():
    class Forgetful(Other):
        def sum(self, A, axis=None, *, out, keepdims=False):
            if out.shape == (5,):
                return out
            return super().sum(A, axis, out=out, keepdims=keepdims)

    net, loss = _net().to(dtype="float64"), xpnet.SoftmaxCrossEntropy()
    X, t = _batch()
    copy = net.copy()
    loss.forward(copy.forward(X.astype(np.float32)), t)
    copy.backward(loss.backward())
    net.grads[...] = copy.grads
    check = _check(_parity("numpy", Forgetful(), net=net), "float64", "other, norm")
    assert _wrong(check) == {"2.0.b"}
    assert (check.difference.path, check.difference.parameter) == ("2.0", "b")
    whole = _check(_parity("numpy", Forgetful(), net=net), "float32", "other, whole")
    assert _wrong(whole) == {"2.0.b"}


def test_one_bit_is_located_in_reproducible_mode_itself_on_pixels():
    class Flipped(Reproducible):
        def matmul(self, A, B, out):
            super().matmul(A, B, out)
            if out.shape == (6, 5):
                out[2, 3] = np.nextafter(out[2, 3], np.float32(np.inf))
            return out

    flipped = Flipped(Other())
    X = np.random.default_rng(3).integers(0, 256, (20, 4)).astype(np.uint8)
    report = parity(_net(), "softmax_cross_entropy", X, _batch()[1], backends=["numpy", flipped])
    found = report.bits["other"].difference
    assert (found.phase, found.path, found.parameter, found.entry) == (
        "backward",
        "2.0",
        "W",
        (2, 3),
    )


def test_the_batch_is_rounded_to_float32_and_pixels_are_scaled_before():
    X, t = _batch()
    pixels = np.random.default_rng(3).integers(0, 256, (20, 4)).astype(np.uint8)
    for given, meant in ((X, X.astype(np.float32)), (pixels, pixels / 255)):
        reports = [
            parity(_net(), "softmax_cross_entropy", batch, t, backends=["numpy"])
            for batch in (given, meant)
        ]
        numbers = [[c for c in report.checks if "reproducible" not in c.what] for report in reports]
        assert numbers[0] == numbers[1]  # that mode takes pixels as they are
        assert all(report.ok for report in reports)


def test_reproducible_mode_is_held_against_float64():
    """Beside a feature of 1e5 that has a tiny weight, a grid for the row leaves 1/3 few digits."""
    X = np.full((4, 1024), 1 / 3)
    X[:, 0] = 1e5 * np.array([1, 1.1, 1.2, 1.3])
    net = xpnet.Sequential(xpnet.Linear(1024, 1, init="ones"))
    net.params[0] = 1e-7
    report = parity(net, "mse", X, np.full(4, 300.0), backends=["numpy"])
    wrong = {check.what for check in report.checks if not check.ok}
    assert wrong == {"numpy, reproducible"}
    assert any("reproducible" in text and "layer 0" in text for text in report.failures())


EXACT = {
    "max", "maximum", "minimum", "copyto", "take", "relu", "relu_grad", "one_hot", "gather",
    "record", "dropout_mask", "mean", "affine", "affine_grad", "add_matmul", "add_sum",
}  # fmt: skip
OPTIMIZERS = {"sgd", "momentum", "rmsprop", "adam"}


def test_every_primitive_is_noisy_or_exact():
    """`mean`, `affine`, `add_sum` ... are made of others; optimizers come after the gradients."""
    primitives = {
        name
        for name, f in inspect.getmembers(Backend, inspect.isfunction)
        if not name.startswith("_") and name not in ARRAYS
    }
    noisy = {name for name in primitives if name in vars(RoundingNoise)}
    assert noisy | EXACT | OPTIMIZERS == primitives
    assert not noisy & (EXACT | OPTIMIZERS)


def test_the_same_call_gives_the_same_report():
    assert _parity("numpy", STRICT).to_dict() == _parity("numpy", STRICT).to_dict()


def test_a_probability_at_its_end_leaves_the_other_checks_alone():
    """In float32 such a loss says little, but float64 is still compared to the last digits."""
    net = xpnet.Sequential(xpnet.Linear(1, 1), xpnet.Sigmoid(), backend="numpy")
    net.params[...] = 0.5, 18.0
    X, t = np.linspace(-1, 1, 6)[:, None], np.array([0, 1, 0, 1, 1, 1])
    report = parity(net, "bce", X, t, backends=["numpy", STRICT])
    for check in report.checks:
        if check.what in ("numpy, PyTorch", "strict, norm", "strict, largest"):
            assert check.ok, str(report)
            assert all(1e-12 <= row.limit < 1e-8 for row in check.rows)
    assert all(check.ok for check in report.checks if check.dtype == "float32"), str(report)


# ---- layers of the user's own --------------------------------------------------------------------


class Scale(xpnet.Layer):
    """Y = s X, computed with the module itself."""

    def __init__(self, n):
        super().__init__()
        self.parameter("s", (n,), "ones")

    def forward(self, X):
        self.X = X
        return X * self.s

    def backward(self, dY):
        self.ds[...] = (dY * self.X).sum(axis=0)
        return dY * self.s


class Residual(xpnet.Sequential):
    def forward(self, X):
        return self.xp.module.add(X, super().forward(X))

    def backward(self, dY):
        self.input_gradient_of_residual = super().backward(dY)
        return self.xp.module.add(dY, self.input_gradient_of_residual)


def test_layers_of_the_users_own_are_checked_as_far_as_they_are_known():
    net = xpnet.Sequential(xpnet.Linear(4, 6), Scale(6), xpnet.Linear(6, 3), backend="numpy")
    report = _parity("numpy", Other(), net=net)
    assert report, str(report)
    assert "1.s" in {row.name for row in _check(report, "float32", "other, whole").rows}
    assert report.not_run["PyTorch"] == "no twin there of Scale()"
    assert report.not_run["float32, by layer, 1"] == "no bound is known for Scale()"


def test_a_layer_of_the_users_own_may_sum_as_it_likes():
    """Left to right over many equal samples, the roundings of its own sum are the largest."""

    class Slow(Scale):
        def backward(self, dY):
            self.ds[...] = np.add.accumulate(dY * self.X, axis=0)[-1]
            return dY * self.s

    net = xpnet.Sequential(Slow(3), backend="numpy")
    X, t = np.full((3000, 3), 0.1), np.full((3000, 3), 0.7)
    report = parity(net, "mse", X, t, backends=["numpy"])
    assert report, str(report)
    assert _check(report, "float32", "numpy, whole").rows[1].error > 1e-5


def test_a_container_of_the_users_own_runs_as_it_does():
    inner = Residual(xpnet.Linear(6, 6), xpnet.Tanh())
    net = xpnet.Sequential(xpnet.Linear(4, 6), inner, xpnet.Linear(6, 3), backend="numpy")
    report = _parity("numpy", Other(), net=net)
    assert report, str(report)
    assert report.not_run["PyTorch"].startswith("no twin there of Sequential(")
    wrong = _check(_parity("numpy", WrongTanh(), net=net), "float64", "other, norm")
    assert wrong.difference.path == "1.1"


# ---- what cannot run is said ---------------------------------------------------------------------


def test_without_pytorch_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    report = _parity("numpy")
    assert report
    assert report.not_run == {"PyTorch": "not installed"}
    assert "not run: PyTorch: not installed" in str(report)


def test_without_a_gpu_that_is_said(monkeypatch):
    no_gpu = replace(KINDS["cupy"], why_not=lambda device: "there is no GPU")
    monkeypatch.setitem(KINDS, "cupy", no_gpu)
    report = _parity("numpy", "cupy", "cuda:1")
    assert report
    assert report.not_run["cupy"] == "the backend 'cupy' cannot be used: there is no GPU"
    assert report.not_run["cuda:1"] == "the backend 'cuda:1' cannot be used: there is no GPU"
    assert "not run: cupy: the backend 'cupy' cannot be used: there is no GPU" in str(report)


def test_what_has_no_reproducible_mode_says_why():
    class Refusing(SameBits):
        name, dtypes = "refusing", ("float64",)

    report = _parity("numpy", Other(), Refusing())
    assert report
    assert list(report.bits) == ["numpy", "other"]
    assert "float32" in report.not_run["reproducible mode, refusing"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"backends": ["nunpy"]}, BackendError, "did you mean 'numpy'"),
        ({"backends": ["numpy", "numpy"]}, OptionError, "'numpy' is there twice"),
        ({"loss": "mes"}, OptionError, "did you mean 'mse'"),
        ({"X": np.ones((20, 5))}, ShapeError, "Linear"),
        ({"X": np.full((20, 4), np.nan)}, DataError, "X must be finite"),
        ({"X": [["a"]]}, DataError, "X must hold numbers"),
        ({"t": np.full(20, 3)}, DataError, "class labels must be 0 ... 2"),
        ({"t": np.zeros(19, int)}, ShapeError, "20 samples"),
        ({"sample_weight": np.ones(3)}, ShapeError, "sample_weight"),
    ],
)
def test_what_does_not_fit_is_refused(change, error, message):
    X, t = _batch()
    given = {"loss": "softmax_cross_entropy", "X": X, "t": t, "backends": ["numpy"]} | change
    with pytest.raises(error, match=message), np.errstate(all="ignore"):
        parity(_net(), given.pop("loss"), given.pop("X"), given.pop("t"), **given)


def test_a_loss_that_was_told_not_to_look_looks():
    loss = xpnet.SoftmaxCrossEntropy()
    loss.validate = False
    with pytest.raises(DataError, match="class labels"):
        parity(_net(), loss, _batch()[0], np.full(20, 3), backends=["numpy"])


# ---- the report ----------------------------------------------------------------------------------


def test_the_tables_and_the_failures_can_be_had_alone():
    report = _parity("numpy", NotANumber())
    text, tables = str(report), report.tables()
    assert tables in text
    assert tables.startswith("float64, error / limit")
    assert not tables.endswith("\n")
    rows = [line.split()[0] for line in tables.splitlines() if line]
    names = ["0.W", "0.b", "2.0.W", "2.0.b", "4.W", "4.b", "loss"]
    assert [row for row in rows if row not in ("float64,", "float32,")] == names * (len(rows) // 8)
    assert len(report.failures()) == 3
    for failure, check in zip(
        report.failures(), [c for c in report.checks if not c.ok], strict=True
    ):
        assert failure == check.failure()
        assert f"WRONG: {failure}" in _unfolded(report)
    assert _parity("numpy").failures() == []


def test_texts_are_folded_at_100_columns_and_tables_at_their_columns():
    text = "what: " + "word " * 60 + "x" * 120 + " non-breaking"
    first, *others = wrapped(text).splitlines()
    assert first.startswith("what: word")
    assert len(first) <= 100
    assert all(line.startswith("  ") and line[2] != " " for line in others)
    assert " ".join(wrapped(text).split()) == text
    assert wrapped(text, 7).splitlines()[1].startswith(" " * 7 + "word")
    rows = [Row("0.W", 1e-16, 1e-12, (), 1.0, 1.0)]
    report = ParityReport("net", "loss", 3)
    report.checks = [Check("float64", f"backend-{k}, norm", "", rows) for k in range(9)]
    table, _ = report.tables().rsplit("\n\n", 1)
    blocks = [block.splitlines() for block in table.split("\n\n")]
    assert len(blocks) == 3
    assert all(head.startswith("float64, error / limit  backend-") for head, _ in blocks)
    assert all(row.startswith("0.W    ") for _, row in blocks)
    assert sum(head.count("norm") for head, _ in blocks) == 9
    assert max(len(line) for block in blocks for line in block) <= 100


def test_the_report_is_a_table_and_goes_into_json():
    report = _parity("numpy", NotANumber())
    text = str(report)
    head = next(line for line in text.splitlines() if line.startswith("float64, error / limit"))
    row = next(line for line in text.splitlines() if line.startswith("2.0.W"))
    assert row.index("e-") < head.index("other, norm") < row.rindex("e-")
    assert "nan / 1.0e-12 WRONG" in text
    assert max(map(len, text.splitlines())) <= 100
    for check in report.checks:
        what = check.what.split(", ")[-1]
        assert _unfolded(report).count(f"{what}: {check.reason}") == 1
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["ok"] is False
    assert plain["samples"] == 20
    assert plain["bits"]["numpy"]["loss"] == report.bits["numpy"].loss
    first = plain["checks"][0]
    assert first["what"] == "numpy, slopes"
    assert {"name", "error", "limit", "entry", "value", "reference"} == first["rows"][0].keys()


@pytest.mark.parametrize(
    "loss",
    [
        xpnet.SoftmaxCrossEntropy(label_smoothing=0.1),
        xpnet.SoftmaxCrossEntropy(ignore_index=1),
        xpnet.MeanSquaredError(reduction="sum"),
        xpnet.BinaryCrossEntropy(from_logits=True, pos_weight=2.0),
    ],
    ids=repr,
)
def test_a_loss_with_options_has_no_twin(loss):
    """Its twin would compute another loss; tests/losses/test_options.py has PyTorch's own."""
    pytest.importorskip("torch", reason="PyTorch is not installed")
    net = xpnet.Sequential(xpnet.Linear(4, 3))
    labels = np.arange(20) % 3
    t = labels if isinstance(loss, xpnet.SoftmaxCrossEntropy) else np.eye(3)[labels]
    report = xpnet.parity(net, loss, np.linspace(-1, 1, 80).reshape(20, 4), t, backends=["numpy"])
    assert report.ok
    assert "no twin" in report.not_run["PyTorch"]
    options = {"from_logits": True} if isinstance(loss, xpnet.BinaryCrossEntropy) else {}
    plain = xpnet.parity(net, type(loss)(**options), np.ones((20, 4)), t, backends=["numpy"])
    assert "PyTorch" not in plain.not_run
