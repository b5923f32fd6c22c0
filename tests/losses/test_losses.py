"""The losses: value and gradient against plain formulas and PyTorch, and what they refuse."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from strictxp import no_alloc, no_sync

import xpnet
from xpnet.losses import LOSSES, Loss, find_loss

# --- The formulas, one sample per row: what ℓ and its slope must be ----------------------------


def mse(Y, T):
    return np.mean((Y - T) ** 2, axis=1), 2 * (Y - T) / Y.shape[1]


def huber(Y, T, delta):
    e = Y - T
    each = np.where(abs(e) <= delta, e * e / 2, delta * (abs(e) - delta / 2))
    return each.mean(axis=1), np.where(abs(e) <= delta, e, delta * np.sign(e)) / Y.shape[1]


def bce(Y, T, eps=1e-8):
    each = -T * np.log(Y + eps) - (1 - T) * np.log(1 - Y + eps)
    return each.mean(axis=1), ((1 - T) / (1 - Y + eps) - T / (Y + eps)) / Y.shape[1]


def bce_logits(Y, T):
    each = np.maximum(Y, 0) - T * Y + np.log1p(np.exp(-abs(Y)))
    return each.mean(axis=1), (1 / (1 + np.exp(-Y)) - T) / Y.shape[1]


def cross_entropy(Y, T, eps=1e-8):
    return -np.sum(T * np.log(Y + eps), axis=1), -T / (Y + eps)


def softmax(Z):
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def softmax_cross_entropy(Y, T):
    return -np.sum(T * np.log(softmax(Y)), axis=1), softmax(Y) - T


CASES = {  # name: (the loss, its formula, what the outputs and the targets are)
    "mse": (xpnet.MeanSquaredError, mse, "numbers"),
    "huber": (xpnet.Huber, lambda Y, T: huber(Y, T, 1.0), "numbers"),
    "huber-0.3": (lambda: xpnet.Huber(0.3), lambda Y, T: huber(Y, T, 0.3), "numbers"),
    "bce": (xpnet.BinaryCrossEntropy, bce, "probabilities"),
    "bce-eps": (
        lambda: xpnet.BinaryCrossEntropy(eps=0.1),
        lambda Y, T: bce(Y, T, 0.1),
        "probabilities",
    ),
    "bce_logits": (
        lambda: xpnet.BinaryCrossEntropy(from_logits=True),
        bce_logits,
        "scores of probabilities",
    ),
    "cross_entropy": (xpnet.CrossEntropy, cross_entropy, "distributions"),
    "cross_entropy-eps": (
        lambda: xpnet.CrossEntropy(eps=0.1),
        lambda Y, T: cross_entropy(Y, T, 0.1),
        "distributions",
    ),
    "softmax_cross_entropy": (
        xpnet.SoftmaxCrossEntropy,
        softmax_cross_entropy,
        "scores of distributions",
    ),
}
every_loss = pytest.mark.parametrize("name", CASES)
DISTRIBUTIONS = [name for name, case in CASES.items() if "distributions" in case[2]]
ONE_OUTPUT = [name for name in CASES if name not in DISTRIBUTIONS]


def data(name, n=5, width=3, seed=0):
    """Outputs and targets of the kind that the loss takes."""
    rng, kind = np.random.default_rng(seed), CASES[name][2]
    T = rng.standard_normal((n, width))
    if kind.endswith("probabilities"):
        T = rng.uniform(size=(n, width))
    if kind.endswith("distributions"):
        T = rng.dirichlet(np.ones(width), n)
    if kind == "probabilities":
        return rng.uniform(0.05, 0.95, (n, width)), T
    if kind == "distributions":
        return rng.dirichlet(np.ones(width), n) * 0.9 + 0.05, T
    return 2 * rng.standard_normal((n, width)), T


def call(loss, xp, Y, t, *weights):
    """The value and the gradient on the host; NumPy arrays go to the backend first."""
    Y, t, *weights = (xp.asarray(a) if isinstance(a, np.ndarray) else a for a in (Y, t, *weights))
    value = float(loss.forward(Y, t, *weights))
    return value, np.array(xp.asnumpy(loss.backward()))


def close(actual, expected, rtol=1e-12, atol=0.0):
    np.testing.assert_allclose(actual[0], expected[0], rtol=rtol, atol=atol)
    np.testing.assert_allclose(actual[1], expected[1], rtol=rtol, atol=atol, strict=True)


def identical(actual, expected):
    assert actual[0] == expected[0]
    np.testing.assert_array_equal(actual[1], expected[1], strict=True)


# --- Values and gradients ----------------------------------------------------------------------


@every_loss
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_value_and_the_gradient_are_those_of_the_formula(backend, name, width, weighted):
    make, formula, _ = CASES[name]
    Y, T = data(name, width=width)
    w = np.array([0.5, 0.0, 2.0, 1.0, 0.25]) if weighted else np.ones(5)
    each, slope = formula(Y, T)
    expected = w @ each / w.sum(), w[:, None] * slope / w.sum()
    close(call(make(), backend, Y, T, *[w] * weighted), expected, 1e-12, atol=1e-15)
    Y, T = Y.astype(np.float32), T.astype(np.float32)
    single = call(make(), backend, Y, T, *[w] * weighted)
    assert single[1].dtype == np.float32
    each, slope = formula(Y.astype(float), T.astype(float))
    close(single, (w @ each / w.sum(), (w[:, None] * slope / w.sum()).astype("f4")), 2e-6, 1e-7)


@every_loss
def test_the_gradient_is_that_of_the_value(backend, name):
    Y, T = data(name, n=3, width=2)
    loss, w, h = CASES[name][0](), np.array([1.0, 3.0, 0.5]), 1e-6
    slopes = np.zeros_like(Y)
    for i, j in itertools.product(range(3), range(2)):
        step = np.zeros_like(Y)
        step[i, j] = h
        above, below = (call(loss, backend, Y + s, T, w)[0] for s in (step, -step))
        slopes[i, j] = (above - below) / (2 * h)
    np.testing.assert_allclose(call(loss, backend, Y, T, w)[1], slopes, atol=1e-8)


TORCH = {
    "mse": (xpnet.MeanSquaredError, lambda F, Y, T: F.mse_loss(Y, T)),
    "huber": (xpnet.Huber, lambda F, Y, T: F.huber_loss(Y, T)),
    "huber-0.3": (lambda: xpnet.Huber(0.3), lambda F, Y, T: F.huber_loss(Y, T, delta=0.3)),
    "bce": (  # PyTorch has no ε
        lambda: xpnet.BinaryCrossEntropy(eps=1e-300),
        lambda F, Y, T: F.binary_cross_entropy(Y, T),
    ),
    "bce_logits": (
        lambda: xpnet.BinaryCrossEntropy(from_logits=True),
        lambda F, Y, T: F.binary_cross_entropy_with_logits(Y, T),
    ),
    "cross_entropy": (
        lambda: xpnet.CrossEntropy(eps=1e-300),
        lambda F, Y, T: F.nll_loss(Y.log(), T.argmax(dim=1)),
    ),
    "softmax_cross_entropy": (
        xpnet.SoftmaxCrossEntropy,
        lambda F, Y, T: F.cross_entropy(Y, T),
    ),
}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize(("dtype", "rtol", "atol"), [("f8", 1e-12, 1e-15), ("f4", 2e-6, 1e-7)])
def test_pytorch_gives_the_same(backend, name, dtype, rtol, atol):
    torch = pytest.importorskip("torch", reason="PyTorch, the reference, is not installed")
    make, theirs = TORCH[name]
    Y, T = (a.astype(dtype) for a in data(name, n=7, width=4))
    if name == "cross_entropy":  # in PyTorch only for labels
        T = np.eye(4, dtype=dtype)[[0, 1, 2, 3, 3, 2, 0]]
    outputs = torch.from_numpy(Y.copy()).requires_grad_()
    value = theirs(torch.nn.functional, outputs, torch.from_numpy(T))
    value.backward()
    close(call(make(), backend, Y, T), (value.item(), outputs.grad.numpy()), rtol, atol)


def test_softmax_cross_entropy_is_cross_entropy_after_softmax(backend):
    Z, T = data("softmax_cross_entropy")
    merged = call(xpnet.SoftmaxCrossEntropy(), backend, Z, T)
    assert merged[0] == pytest.approx(call(xpnet.CrossEntropy(1e-300), backend, softmax(Z), T)[0])


# --- Large scores, and probabilities of exactly 0 and 1 (warnings are errors here) -------------


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("z", [1e4, 1e30])
def test_binary_cross_entropy_of_very_large_scores(backend, dtype, z):
    loss, big = xpnet.BinaryCrossEntropy(from_logits=True), float(np.array(z, dtype))
    for score, t, value, slope in [(z, 1, 0, 0), (z, 0, big, 1), (-z, 1, big, -1), (-z, 0, 0, 0)]:
        identical(
            call(loss, backend, np.array([[score]], dtype), [t]),
            (value, np.array([[slope]], dtype)),
        )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("z", [1e4, 1e30])
def test_softmax_cross_entropy_of_very_large_scores(backend, dtype, z):
    loss, big = xpnet.SoftmaxCrossEntropy(), float(np.array(z, dtype))
    Z, P = np.array([[z, 0, -z]], dtype), np.array([[1, 0, 0]], dtype)
    for label, value in enumerate([0.0, big, 2 * big]):
        identical(
            call(loss, backend, Z, [label]),
            (value, P - np.eye(3, dtype=dtype)[[label]]),
        )
    value, slope = call(loss, backend, np.full((1, 2), -z, dtype), [1])
    assert value == pytest.approx(np.log(2), rel=1e-6)
    np.testing.assert_array_equal(slope, [[0.5, -0.5]])


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_probabilities_of_exactly_0_and_1(backend, dtype):
    Y, T = np.array([[0.0], [1.0], [0.0], [1.0]], dtype), np.array([0, 1, 1, 0])
    loss, worst = xpnet.BinaryCrossEntropy(), -np.log(1e-8)
    each = [call(loss, backend, Y[i : i + 1], T[i : i + 1]) for i in range(4)]
    np.testing.assert_allclose([v for v, _ in each], [0, 0, worst, worst], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.ravel([g for _, g in each]), [1, -1, -1e8, 1e8], rtol=1e-6)
    Y = np.array([[1.0, 0.0], [0.0, 1.0]], dtype)
    value, slope = call(xpnet.CrossEntropy(), backend, Y, [0, 0])
    assert value == pytest.approx(worst / 2, rel=1e-6)
    np.testing.assert_allclose(slope, [[-0.5, 0], [-0.5e8, 0]], rtol=1e-6)


# --- Sample weights ----------------------------------------------------------------------------


@every_loss
def test_weight_2_is_the_sample_twice_and_weight_0_leaves_it_out(backend, name):
    loss, (Y, T) = CASES[name][0](), data(name, n=3)
    value, slope = call(loss, backend, Y, T, np.array([1.0, 2, 1]))
    twice = call(loss, backend, Y[[0, 1, 1, 2]], T[[0, 1, 1, 2]])
    close((value, slope / [[1], [2], [1]]), (twice[0], twice[1][[0, 1, 3]]), atol=1e-16)
    value, slope = call(loss, backend, Y, T, np.array([1.0, 0, 1]))
    assert not slope[1].any()
    close((value, slope[[0, 2]]), call(loss, backend, Y[[0, 2]], T[[0, 2]]), atol=1e-16)


@every_loss
def test_only_the_ratios_of_the_weights_count(backend, name):
    loss, (Y, T), w = CASES[name][0](), data(name), np.array([1.0, 0.5, 3, 0, 2])
    expected = call(loss, backend, Y, T, w)
    identical(call(loss, backend, Y, T, 8 * w), expected)  # a power of 2 changes no digit
    close(call(loss, backend, Y, T, w / 3), expected, 1e-14)
    close(call(loss, backend, Y, T, np.full(5, 7.0)), call(loss, backend, Y, T), 1e-14, 1e-16)


@pytest.mark.parametrize(
    "weights", [[1, 0, 2], (1.0, 0.0, 2.0), np.array([1, 0, 2]), np.array([[1], [0], [2.0]], "f4")]
)
def test_weights_come_as_lists_and_arrays_of_any_type(backend, weights):
    Y, T = data("mse", n=3)
    expected = call(xpnet.MeanSquaredError(), backend, Y, T, np.array([1.0, 0, 2]))
    identical(call(xpnet.MeanSquaredError(), backend, Y, T, weights), expected)


# --- Targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_OUTPUT)
def test_one_output_takes_targets_of_both_shapes(backend, name):
    Y, T = data(name, width=1)
    expected = call(CASES[name][0](), backend, Y, T)
    for t in (T[:, 0], T.tolist(), T[:, 0].tolist(), tuple(T[:, 0])):
        identical(call(CASES[name][0](), backend, Y, t), expected)


@every_loss
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.bool_, np.float32])
def test_targets_of_other_types_are_converted(backend, name, dtype):
    Y, T = data(name)[0], np.eye(3)[[0, 2, 1, 1, 0]]
    identical(
        call(CASES[name][0](), backend, Y, T.astype(dtype)),
        call(CASES[name][0](), backend, Y, T),
    )


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, list])
def test_labels_are_one_hot_rows(backend, name, dtype):
    Y, labels = data(name)[0], [0, 2, 1, 1, 0]
    t = labels if dtype is list else np.array(labels, dtype)
    identical(
        call(CASES[name][0](), backend, Y, t),
        call(CASES[name][0](), backend, Y, np.eye(3)[labels]),
    )


def test_the_outputs_and_the_targets_are_not_changed(backend):
    for make, _, _ in CASES.values():
        Y, T, w = np.full((2, 2), 0.25), np.full((2, 2), 0.5), np.array([1.0, 3])
        placed = [backend.asarray(a.copy()) for a in (Y, T, w)]
        loss = make()
        loss.forward(*placed)
        loss.backward()
        for a, before in zip(placed, (Y, T, w), strict=True):
            np.testing.assert_array_equal(backend.asnumpy(a), before)


# --- One object for many batches ---------------------------------------------------------------


@every_loss
def test_one_object_takes_batches_of_all_sizes_widths_and_types(backend, name):
    make, loss = CASES[name][0], CASES[name][0]()
    for n, width, dtype in [
        *((n, 3, "f8") for n in (4, 2, 9, 3, 9)),
        *((4, 5, "f8"), (4, 2, "f8"), (4, 2, "f4"), (6, 2, "f8"), (2, 2, "f8")),
    ]:
        Y, T = (a.astype(dtype) for a in data(name, n, width, seed=n))
        actual = call(loss, backend, Y, T)
        assert actual[1].shape == (n, width)
        identical(actual, call(make(), backend, Y, T))
        w = np.arange(n) + 1.0
        identical(call(loss, backend, Y, T, w), call(make(), backend, Y, T, w))


@every_loss
def test_one_object_follows_the_outputs_to_another_backend(strict, name):
    numpy, loss, (Y, T) = xpnet.backend.find_backend("numpy"), CASES[name][0](), data(name)
    for xp in (strict, numpy, strict):
        identical(call(loss, xp, Y, T), call(CASES[name][0](), xp, Y, T))
        assert xp.owns(loss.value)


def test_the_value_stays_on_the_device_and_float_reads_it(backend):
    loss = xpnet.MeanSquaredError()
    value = loss.forward(backend.asarray(np.array([[1.0], [3.0]])), [0.0, 0.0])
    assert value is loss.value
    assert backend.owns(value)
    assert value.shape == ()
    assert type(float(loss)) is float
    assert float(loss) == 5.0
    loss.forward(backend.asarray(np.array([[2.0]])), [0.0])
    assert float(loss) == 4.0
    assert backend.owns(loss.backward())


@every_loss
def test_backward_may_be_asked_twice(backend, name):
    loss, (Y, T) = CASES[name][0](), data(name)
    _, slope = call(loss, backend, Y, T)
    np.testing.assert_array_equal(backend.asnumpy(loss.backward()), slope)


@every_loss
def test_a_warm_call_makes_no_array_and_does_not_wait(strict, name):
    loss, placed = CASES[name][0](), [strict.asarray(a) for a in (*data(name), np.ones(5))]
    loss.validate = False
    loss.forward(*placed)
    for arguments in (placed, placed[:2], [a[:3] for a in placed]):
        with no_sync(), no_alloc():
            loss.forward(*arguments)
            loss.backward()


# --- What is refused, and how ------------------------------------------------------------------

Y3, P3, Y1 = np.zeros((3, 3)), np.full((3, 3), 1 / 3), np.full((3, 1), 0.5)
HOT, SHORT = np.eye(3), [[1], [1], [0.99]]
ROW_OF_2, BELOW_0 = HOT.copy(), HOT.copy()
ROW_OF_2[1], BELOW_0[0] = [0, 1, 1], [-0.5, 1.5, 0]
SOFTMAX, CE, MSE = "SoftmaxCrossEntropy()", "CrossEntropy()", "MeanSquaredError()"
BCE, LOGITS = "BinaryCrossEntropy()", "BinaryCrossEntropy(from_logits=True)"
BAD = {
    "label too large": (SOFTMAX, Y3, [0, 1, 3], "data", "0 ... 2", "row 2 is 3", "1 rows"),
    "labels too large": (CE, P3, [7, 1, 3], "data", "0 ... 2", "row 0 is 7", "2 rows"),
    "label negative": (SOFTMAX, Y3, [0, -1, 2], "data", "0 ... 2", "row 1 is -1"),
    "labels float": (SOFTMAX, Y3, [0.0, 1.0, 2.0], "data", "float64", "t.astype(int)"),
    "labels NaN": (CE, P3, [np.nan, 1.0, 2.0], "data", "whole numbers", "float64", "nan"),
    "labels bool": (SOFTMAX, Y3, [True, False, True], "data", "bool", "True", "t.astype(int)"),
    "labels text": (SOFTMAX, Y3, ["a", "b", "c"], "data", "numbers", "<U1"),
    "labels None": (CE, P3, [0, None, 1], "data", "t has no value at [1]"),
    "labels as a column": (SOFTMAX, Y3, [[0], [1], [2]], "shape", "(3, 3)", "(3, 1)", "(n,)"),
    "row that sums to 2": (SOFTMAX, Y3, ROW_OF_2, "data", "sum to 1", "row 1 is [0. 1. 1.]"),
    "row that sums to 0.99": (CE, P3, HOT * SHORT, "data", "sum to 1", "row 2 is", "0.99"),
    "row below 0": (CE, P3, BELOW_0, "data", "between 0 and 1", "row 0 is [-0.5  1.5  0. ]"),
    "row with NaN": (SOFTMAX, Y3, HOT * [[1], [np.nan], [1]], "data", "finite", "row 1", "nan"),
    "target above 1": (BCE, Y1, [0.0, 1.5, 1.0], "data", "between 0 and 1", "row 1 is [1.5]"),
    "target below 0": (LOGITS, Y1, [0.0, 1.0, -0.1], "data", "between 0 and 1", "row 2 is [-0.1]"),
    "target NaN": (MSE, Y1, [0.0, 1.0, np.nan], "data", "finite", "row 2 is [nan]"),
    "target infinite": ("Huber(1.0)", Y1, [0.0, -np.inf, 2.0], "data", "finite", "row 1 is [-inf]"),
    "target text": (MSE, Y1, ["1", "2", "3"], "data", "numbers", "<U1"),
    "targets of unequal lengths": (MSE, Y3, [[1], [1, 2], [3]], "data", "unequal"),
    "too few targets": (MSE, Y1, [0.0, 1.0], "shape", "3 samples", "(2,)"),
    "too many labels": (SOFTMAX, Y3, [0, 1, 2, 0], "shape", "3 samples", "(4,)"),
    "a single target": (MSE, Y1, 1.0, "shape", "3 samples", "()"),
    "too few columns": (MSE, Y3, np.zeros((3, 2)), "shape", "(3, 3)", "(3, 2)", "same shape"),
    "one column for three": (BCE, Y3, np.zeros(3), "shape", "(3, 3)", "(3,)", "same shape"),
    "too many columns": (SOFTMAX, Y3, np.eye(3, 4), "shape", "(3, 3)", "(3, 4)", "class labels"),
    "targets with three axes": (MSE, Y3, np.zeros((3, 3, 1)), "shape", "(3, 3)", "(3, 3, 1)"),
    "outputs with one axis": (MSE, np.zeros(3), np.zeros(3), "shape", "(n, outputs)", "(3,)"),
    "outputs with three axes": (MSE, np.zeros((3, 2, 2)), np.zeros(3), "shape", "(3, 2, 2)"),
    "no sample": (MSE, np.zeros((0, 1)), np.zeros(0), "data", "at least one sample"),
}  # fmt: skip
ERRORS = {"data": xpnet.DataError, "shape": xpnet.ShapeError}


def refused(error, words, function, *arguments):
    with pytest.raises(error) as raised:
        function(*arguments)
    assert raised.type is error
    missing = [word for word in words if word not in str(raised.value)]
    assert not missing, f"{missing} not in: {raised.value}"
    return str(raised.value)


@pytest.mark.parametrize("case", BAD)
def test_bad_targets_are_refused_by_name_value_and_way_out(backend, case):
    name, Y, t, error, *words = BAD[case]
    loss = next(made for made in (make() for make, _, _ in CASES.values()) if repr(made) == name)
    message = refused(ERRORS[error], [name, *words], call, loss, backend, Y, t)
    assert loss.distribution or "class labels" not in message


BAD_WEIGHTS = {
    "negative": ([1.0, -1.0, 1.0], "data", "not negative"),
    "NaN": ([1.0, np.nan, 1.0], "data", "finite"),
    "infinite": ([1.0, np.inf, 1.0], "data", "finite"),
    "all zero": ([0, 0, 0], "data", "not zero everywhere"),
    "text": (["a", "b", "c"], "data", "numbers"),
    "too few": ([1.0, 1.0], "shape", "(3,)", "(2,)"),
    "too many columns": ([[1.0, 1], [1, 1], [1, 1]], "shape", "(3,)", "(3, 2)"),
    "a single one": (2.0, "shape", "(3,)", "()"),
}


@pytest.mark.parametrize("case", BAD_WEIGHTS)
def test_bad_weights_are_refused(backend, case):
    weights, error, *words = BAD_WEIGHTS[case]
    loss = xpnet.MeanSquaredError()
    refused(ERRORS[error], ["sample_weight", *words], call, loss, backend, Y1, Y1, weights)
    if isinstance(weights, list) and case != "text":
        refused(ERRORS[error], words, call, loss, backend, Y1, Y1, np.array(weights))


def test_a_loss_goes_on_after_it_refused_something(backend):
    loss, (Y, T) = xpnet.SoftmaxCrossEntropy(), data("softmax_cross_entropy")
    expected = call(loss, backend, Y, T)
    with pytest.raises(xpnet.DataError):
        call(loss, backend, Y, [0, 1, 2, 3, 4])
    identical(call(loss, backend, Y, T), expected)


def test_whole_rows_may_miss_1_by_their_rounding(backend):
    T = np.full((1, 3), 1 / 3).astype(np.float16)
    assert T.sum(dtype=float) != 1
    call(xpnet.SoftmaxCrossEntropy(), backend, Y3[:1], T)


def test_targets_are_looked_at_only_while_validate_is_true(backend):
    loss = xpnet.BinaryCrossEntropy(from_logits=True)
    assert loss.validate
    loss.validate = False
    assert call(loss, backend, Y1, [2.0, 2.0, 2.0])[0] == pytest.approx(np.log1p(np.exp(0.5)) - 1)


def test_arrays_of_two_backends_are_refused_naming_both(strict):
    numpy, Y, t = xpnet.backend.find_backend("numpy"), np.zeros((3, 1)), np.zeros(3)
    loss, mixed = xpnet.MeanSquaredError(), xpnet.MixedArraysError
    names = [MSE, "'strict'", "numpy.ndarray", "net.xp.asarray"]
    refused(mixed, [*names, "t is a"], loss.forward, strict.asarray(Y), t)
    refused(mixed, [*names, "sample_weight"], loss.forward, strict.asarray(Y), [0, 0, 0], t)
    names = [MSE, "'numpy'", "strictxp.ndarray"]
    refused(mixed, [*names, "t is a"], loss.forward, numpy.asarray(Y), strict.asarray(t))


@pytest.mark.parametrize("delta", [0, -1.0, float("nan")])
def test_huber_needs_a_positive_delta(delta):
    refused(xpnet.OptionError, ["Huber", "delta", "positive", repr(delta)], xpnet.Huber, delta)


# --- Names -------------------------------------------------------------------------------------


def test_losses_have_names():
    made = {name: find_loss(name) for name in LOSSES}
    assert {name: repr(loss) for name, loss in made.items()} == {
        "mse": MSE,
        "huber": "Huber(1.0)",
        "poisson": "Poisson()",
        "bce": BCE,
        "bce_logits": LOGITS,
        "cross_entropy": CE,
        "softmax_cross_entropy": SOFTMAX,
    }
    assert find_loss("mse") is not find_loss("mse")
    assert find_loss(made["mse"]) is made["mse"]
    assert {name: loss.threshold for name, loss in made.items() if loss.threshold != 0.5} == {
        "bce_logits": 0.0
    }


def test_an_unknown_loss_is_refused_with_a_suggestion():
    with pytest.raises(xpnet.OptionError, match=r"unknown loss 'mes'; did you mean 'mse'\? .*bce"):
        find_loss("mes")
    with pytest.raises(xpnet.OptionError, match=re.escape("xpnet.SoftmaxCrossEntropy()")):
        find_loss(xpnet.MeanSquaredError)


class MeanAbsoluteError(Loss):
    """ℓ = |y - t|: a loss as a user writes it."""

    def elements(self, Y, T, out):
        self.xp.subtract(Y, T, out=out)
        self.xp.module.absolute(out, out=out)

    def slope(self, Y, T, out):
        self.xp.subtract(Y, T, out=out)
        self.xp.module.sign(out, out=out)


def test_a_loss_of_ones_own_is_averaged_and_checked_like_the_others(backend):
    Y, T = np.array([[1.0, 5], [0, 2]]), np.array([[0.0, 2], [4, 2]])
    slope = np.array([[3, 3], [-1, 0.0]]) / 8
    identical(call(MeanAbsoluteError(), backend, Y, T, [3, 1]), (2.0, slope))
    names = ["MeanAbsoluteError()", "finite", "row 1"]
    refused(xpnet.DataError, names, call, MeanAbsoluteError(), backend, Y, T * [[1], [np.nan]])
