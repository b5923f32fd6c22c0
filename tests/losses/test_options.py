"""Options of the losses, and Poisson: PyTorch's and scikit-learn's values, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import DataError, OptionError, ShapeError

rng = np.random.default_rng(5)
N, K = 7, 4
Z = 2 * rng.standard_normal((N, K))
P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
LABELS = np.array([0, 3, 1, 1, 2, 0, 3])
BITS, SOFT = rng.integers(0, 2, (N, K)), rng.dirichlet(np.ones(K), N)
COUNTS = rng.poisson(3.0, (N, K))
W = rng.uniform(0.5, 2, N)


def call(loss, xp, Y, t, *weights):
    Y, t, *weights = (xp.asarray(np.asarray(a)) for a in (Y, t, *weights))
    value = float(loss.forward(Y, t, *weights))
    return value, np.array(xp.asnumpy(loss.backward()))


def torch_value(function, Y, t, **options):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    leaf = torch.tensor(Y, requires_grad=True)
    t = torch.tensor(np.asarray(t))
    options = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in options.items()}
    value = getattr(torch.nn.functional, function)(leaf, t, **options)
    value.backward()
    return value.item(), leaf.grad.numpy()


def close(actual, expected, rtol=1e-12):
    np.testing.assert_allclose(actual[0], expected[0], rtol=rtol)
    np.testing.assert_allclose(actual[1], expected[1], rtol=rtol, atol=1e-15)


SCE, BCE, MSE = xpnet.SoftmaxCrossEntropy, xpnet.BinaryCrossEntropy, xpnet.MeanSquaredError
SUM = {"reduction": "sum"}
TORCH = {  # our loss, torch's function, the targets, torch's options
    "smooth labels": (SCE(label_smoothing=0.1), "cross_entropy", LABELS, {"label_smoothing": 0.1}),
    "smooth rows": (SCE(label_smoothing=0.3), "cross_entropy", SOFT, {"label_smoothing": 0.3}),
    "ignored class": (SCE(ignore_index=3), "cross_entropy", LABELS, {"ignore_index": 3}),
    "ignored -100": (
        SCE(ignore_index=-100),
        "cross_entropy",
        np.where(LABELS == 1, -100, LABELS),
        {"ignore_index": -100},
    ),
    "ignored, smooth, sum": (
        SCE(ignore_index=1, label_smoothing=0.2, reduction="sum"),
        "cross_entropy",
        LABELS,
        {"ignore_index": 1, "label_smoothing": 0.2, **SUM},
    ),
    "sum of labels": (SCE(reduction="sum"), "cross_entropy", LABELS, SUM),
    "sum of mse": (MSE(reduction="sum"), "mse_loss", SOFT, SUM),
    "sum of huber": (xpnet.Huber(0.3, reduction="sum"), "huber_loss", SOFT, {"delta": 0.3, **SUM}),
    "pos_weight": (
        BCE(True, pos_weight=[0.5, 1, 2, 7]),
        "binary_cross_entropy_with_logits",
        BITS * 1.0,
        {"pos_weight": [0.5, 1.0, 2.0, 7.0]},
    ),
    "one pos_weight, soft, sum": (
        BCE(True, pos_weight=3, reduction="sum"),
        "binary_cross_entropy_with_logits",
        SOFT,
        {"pos_weight": [3.0], **SUM},
    ),
    "poisson": (xpnet.Poisson(reduction="sum"), "poisson_nll_loss", COUNTS * 1.0, SUM),
}


@pytest.mark.parametrize("case", TORCH)
def test_pytorch_gives_the_same(backend, case):
    loss, function, t, options = TORCH[case]
    value, slope = torch_value(function, Z, t, **options)
    if function == "poisson_nll_loss":  # leaves out what does not depend on the outputs
        value += np.sum([c * np.log(c) - c if c else 0.0 for c in COUNTS.ravel()])
    close(call(loss, backend, Z, t), (value, slope))
    single = call(loss, backend, Z.astype("f4"), t)
    np.testing.assert_allclose(single[1], slope, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("case", TORCH)
def test_the_gradient_is_that_of_the_value(backend, case):
    loss, _, t, _ = TORCH[case]
    _, slope = call(loss, backend, Z, t, W)
    numeric, h = np.zeros_like(Z), 1e-6
    for place in np.ndindex(*Z.shape):
        step = np.zeros_like(Z)
        step[place] = h
        above, below = (call(loss, backend, Z + s, t, W)[0] for s in (step, -step))
        numeric[place] = (above - below) / (2 * h)
    np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("case", TORCH)
def test_gradcheck_proves_the_options(case):
    loss, _, t, _ = TORCH[case]
    if "huber" not in case:
        net = xpnet.Sequential(xpnet.Linear(3, K), dtype="float64")
        assert xpnet.gradcheck(net, loss, rng.standard_normal((N, 3)), t, method="complex").ok


@pytest.mark.parametrize("case", TORCH)
def test_a_warm_call_makes_no_array(strict, case):
    from strictxp import no_alloc, no_sync

    loss, _, t, _ = TORCH[case]
    placed = [strict.asarray(np.asarray(a)) for a in (Z, t, W)]
    loss.forward(*placed)
    loss.validate = False
    with no_sync(), no_alloc():
        loss.forward(*placed)
        loss.backward()
    loss.validate = True


def test_the_mean_of_the_ignored_is_over_what_counts_and_nothing_left_is_0(backend):
    loss = SCE(ignore_index=3)
    kept = LABELS != 3
    value, slope = call(loss, backend, Z, LABELS, W)
    expected = call(SCE(), backend, Z[kept], LABELS[kept], W[kept])
    close((value, slope[kept]), expected)
    assert not slope[~kept].any()
    value, slope = call(loss, backend, Z, np.full(N, 3))
    assert (value, slope.any()) == (0, False)


def test_a_training_leaves_out_what_is_ignored(backend):
    X, t = rng.standard_normal((N, 3)), np.where(LABELS == 1, -1, LABELS)

    def trained(X, t, loss, w):
        net = xpnet.Sequential(xpnet.Linear(3, K), dtype="float64")
        made = xpnet.Trainer(net, loss, xpnet.SGD(net, 0.1), metrics=["accuracy"])
        history = made.fit(X, t, epochs=2, batch_size=2, sample_weight=w, validation_data=(X, t))
        return history, np.array(backend.asnumpy(net.params))

    used = t >= 0
    for w in (None, W):
        here = trained(X, t, SCE(ignore_index=-1), w)
        there = trained(X[used], t[used], SCE(), None if w is None else w[used])
        assert here[0] == there[0]
        np.testing.assert_array_equal(here[1], there[1])
    with pytest.raises(DataError, match="all 7 targets are ignored"):
        trained(X, np.full(N, -1), SCE(ignore_index=-1), None)


def test_poisson_is_half_the_deviance_of_scikit_learn(backend):
    sk = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    value, slope = call(xpnet.Poisson(), backend, Z, COUNTS, W)
    deviance = sk.mean_poisson_deviance(
        COUNTS.ravel(), np.exp(Z).ravel(), sample_weight=np.repeat(W, K)
    )
    assert value == pytest.approx(deviance / 2, rel=1e-12)
    np.testing.assert_allclose(slope, W[:, None] / W.sum() * (np.exp(Z) - COUNTS) / K, rtol=1e-12)
    perfect, nothing = call(xpnet.Poisson(), backend, np.log([[1.0, 5.0]]), [[1, 5]])
    assert perfect == pytest.approx(0, abs=1e-15)
    assert nothing == pytest.approx(np.zeros((1, 2)), abs=1e-15)
    for y in (-700.0, -30.0, 30.0, 300.0):
        value, slope = call(xpnet.Poisson(), backend, [[y]], [[0]])
        assert value == slope[0, 0] == pytest.approx(np.exp(y), rel=1e-14)


def test_the_gradient_has_the_sum_of_the_targets(backend):
    """Soft targets that miss 1 by 1e-3: value and gradient are those of the targets as they are."""
    T = SOFT * (1 + rng.uniform(-9e-4, 9e-4, (N, 1)))
    loss, logs = SCE(), Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
    value, slope = call(loss, backend, Z, T, W)
    share = (W / W.sum())[:, None]
    assert value == pytest.approx(-np.sum(share * T * logs), rel=1e-13)
    right = share * (P * T.sum(axis=1, keepdims=True) - T)
    np.testing.assert_allclose(slope, right, rtol=1e-10, atol=1e-16)
    assert abs(right - share * (P - T)).max() > 1e-6
    net = xpnet.Sequential(xpnet.Linear(3, K), dtype="float64")
    assert xpnet.gradcheck(net, loss, rng.standard_normal((N, 3)), T, method="complex").ok


# --- What is refused, and what takes effect later ------------------------------------------------


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: SCE(label_smoothing=1.0), "label_smoothing must be at least 0 and below 1"),
        (lambda: SCE(label_smoothing=-0.1), "label_smoothing must be"),
        (lambda: SCE(ignore_index=1.5), "ignore_index must be a whole number or None; got 1.5"),
        (lambda: SCE(ignore_index=True), "ignore_index must be"),
        (lambda: SCE(reduction="none"), '"mean" or "sum"; got \'none\''),
        (lambda: MSE(reduction=None), '"mean" or "sum"; got None'),
        (lambda: BCE(pos_weight=2.0), "pos_weight needs from_logits=True"),
        (lambda: BCE(True, pos_weight=0), "pos_weight must be positive"),
        (lambda: BCE(True, pos_weight=[[1.0]]), "a number, or one for each output"),
        (lambda: BCE(from_logits="yes"), "from_logits must be True or False; got 'yes'"),
        (lambda: setattr(MSE(), "validate", 0), "validate must be True or False; got 0"),
        (lambda: setattr(xpnet.Huber(), "delta", -1), "Huber: delta must be positive"),
        (lambda: setattr(BCE(), "eps", 0), "eps must be positive"),
        (lambda: setattr(BCE(True), "pos_weight", 3), "pos_weight of .* cannot be changed to 3"),
        (lambda: setattr(SCE(), "reduction", "max"), "reduction must be"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_meant_are_refused_also_later(make, words):
    with pytest.raises(OptionError, match=words):
        make()


def test_pos_weight_and_negative_counts_are_refused_by_name(backend):
    with pytest.raises(ShapeError, match="pos_weight has 3 numbers, but the network has 4 outputs"):
        call(BCE(True, pos_weight=[1, 2, 3]), backend, Z, BITS)
    with pytest.raises(DataError, match=r"Poisson\(\): targets must be between 0 and inf.*-1"):
        call(xpnet.Poisson(), backend, Z, COUNTS - 1 * (COUNTS.max() == COUNTS) * (COUNTS + 1))


def test_a_changed_option_takes_effect_in_training_and_evaluation(backend):
    X, t = rng.standard_normal((N, 3)), rng.standard_normal(N) * 5
    net = xpnet.Sequential(xpnet.Linear(3, 1), dtype="float64")
    made = xpnet.Trainer(net, xpnet.Huber(0.01), xpnet.SGD(net, 1e-9))
    made.fit(X, t, epochs=1, validation_data=(X, t))
    made.loss.delta = 100.0
    e = np.ravel(net.predict(X)) - t
    assert made.evaluate(X, t)["loss"] == pytest.approx(np.mean(e * e) / 2, rel=1e-12)
    history = made.fit(X, t, epochs=1, validation_data=(X, t))
    assert history["loss"][1] == pytest.approx(np.mean(e * e) / 2, rel=1e-6)
    assert history["val_loss"][1] == pytest.approx(np.mean(e * e) / 2, rel=1e-6)
    made.loss.reduction = "sum"
    assert made.fit(X, t, epochs=1)["loss"][2] == pytest.approx(np.mean(e * e) / 2, rel=1e-6)


def test_the_gradient_of_a_sum_is_larger_by_the_number_of_terms(backend):
    X, T = rng.standard_normal((8, 3)), rng.standard_normal((8, 2))

    def trained(loss, rate):
        net = xpnet.Sequential(xpnet.Linear(3, 2), dtype="float64")
        made = xpnet.Trainer(net, loss, xpnet.SGD(net, rate))
        return made.fit(X, T, epochs=2, batch_size=4), np.array(backend.asnumpy(net.params))

    (history, mean), (sums, total) = trained(MSE(), 0.08), trained(MSE(reduction="sum"), 0.01)
    np.testing.assert_allclose(mean, total, rtol=1e-12)
    np.testing.assert_allclose(sums["loss"], 2 * np.array(history["loss"]), rtol=1e-12)


def test_the_representation_names_the_options():
    assert repr(SCE(label_smoothing=0.1, ignore_index=-1)) == (
        "SoftmaxCrossEntropy(label_smoothing=0.1, ignore_index=-1)"
    )
    assert (
        repr(BCE(True, pos_weight=2)) == "BinaryCrossEntropy(from_logits=True, pos_weight=(2.0,))"
    )
    assert repr(SCE()) == "SoftmaxCrossEntropy()"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (xpnet.MeanSquaredError(), "MeanSquaredError()"),
        (xpnet.MeanSquaredError(reduction="sum"), "MeanSquaredError(reduction='sum')"),
        (xpnet.Poisson(reduction="sum"), "Poisson(reduction='sum')"),
        (xpnet.Huber(2.0, reduction="sum"), "Huber(2.0, reduction='sum')"),
        (
            xpnet.BinaryCrossEntropy(True, pos_weight=[2.0], reduction="sum"),
            "BinaryCrossEntropy(from_logits=True, pos_weight=(2.0,), reduction='sum')",
        ),
        (xpnet.BinaryCrossEntropy(eps=0.01), "BinaryCrossEntropy(eps=0.01)"),
        (xpnet.CrossEntropy(0.01, ignore_index=3), "CrossEntropy(eps=0.01, ignore_index=3)"),
    ],
)
def test_a_loss_is_written_with_all_options_that_are_not_the_default(loss, words):
    """Resuming compares losses by what they are written as."""
    assert repr(loss) == words


def test_resuming_with_another_reduction_is_refused(tmp_path):
    X = rng.standard_normal((8, 2))

    def fit(epochs, reduction):
        net = xpnet.Sequential(xpnet.Linear(2, 2))
        trainer = xpnet.Trainer(net, xpnet.MeanSquaredError(reduction=reduction))
        keeper = xpnet.Checkpoint(tmp_path)
        trainer.fit(X, X, epochs=epochs, callbacks=[keeper], resume=tmp_path)

    fit(1, "mean")
    with pytest.raises(xpnet.CheckpointError, match=r"MeanSquaredError\(reduction='sum'\)"):
        fit(2, "sum")
    fit(2, "mean")


@pytest.mark.parametrize("factor", [1e-310, 1e-46, 1e-30, 1e30, 1e300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_any_magnitude_count_by_their_ratios(backend, factor, dtype):
    loss, Y = xpnet.MeanSquaredError(), Z.astype(dtype)
    value, slope = call(loss, backend, Y, P.astype(dtype), np.full(N, 1.5))
    scaled, same_slope = call(loss, backend, Y, P.astype(dtype), np.full(N, 1.5 * factor))
    assert scaled == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(same_slope, slope, rtol=1e-6)
