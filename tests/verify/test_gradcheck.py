"""The gradient check: right networks pass, and each classic mistake is found and named."""

from __future__ import annotations

import re

import numpy as np
import pytest

import xpnet

N = 5  # samples


def batch(n_in=3, n_out=2, n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, n_in)), rng.normal(size=(n, n_out))


def around(layer, loss="mse", **options):
    """Return the report on a layer for 3 features between two right ones."""
    net = xpnet.Sequential(
        xpnet.Linear(3, 3), xpnet.Tanh(), layer, xpnet.Tanh(), xpnet.Linear(3, 2), dtype="float64"
    )
    return xpnet.gradcheck(net, loss, *batch(), **options)


def wrong(report):
    return [entry.name for entry in report.entries if not entry.ok]


BEFORE, AFTER = ["0.W", "0.b"], ["4.W", "4.b"]  # the gradients around the layer in the middle

# ---- right networks ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize("loss", ["mse", "bce_logits", "softmax_cross_entropy", "huber"])
def test_a_right_network_passes(backend, loss, method):
    net = xpnet.Sequential(
        xpnet.Linear(3, 4),
        xpnet.GELU(),
        xpnet.Dropout(0.3),
        xpnet.Sequential(xpnet.Linear(4, 4), xpnet.Tanh()),
        xpnet.LayerNorm(4),
        xpnet.Linear(4, 2),
        seed=3,
    )
    X, t = batch()
    t = [0, 1, 1, 0, 1] if loss == "softmax_cross_entropy" else np.abs(t) % 1
    report = xpnet.gradcheck(net, loss, X, t, method=method)
    assert report.ok, report
    assert bool(report)
    names = ["0.W", "0.b", "3.0.W", "3.0.b", "4.gamma", "4.beta", "5.W", "5.b", "input"]
    assert [entry.name for entry in report.entries] == names
    assert [entry.shape for entry in report.entries[:2]] == [(3, 4), (4,)]
    assert report["input"].shape == X.shape
    assert report.error == max(entry.error for entry in report.entries)
    assert 0 < report.error <= report.tolerance == {"central": 1e-7, "complex": 1e-13}[method]
    for entry in report.entries:
        assert entry.ok
        assert entry.guess == ""
        assert entry.kinks == 0
        assert entry.numerical == pytest.approx(entry.analytic, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("layer", [xpnet.BatchNorm1d, xpnet.LayerNorm])
@pytest.mark.parametrize(("method", "n"), [("central", N), ("complex", N), ("complex", 2)])
def test_a_gradient_that_cancels_to_nothing_is_no_mistake(layer, method, n):
    """The normalization takes the bias before it out again, and of two samples nearly all."""
    for seed in range(20):
        net = xpnet.Sequential(xpnet.Linear(3, 4), layer(4), xpnet.Linear(4, 2), seed=seed)
        report = xpnet.gradcheck(net, "mse", *batch(n=n, seed=seed), method=method)
        assert report.ok, report


def test_the_sum_over_samples_may_cancel():
    for seed in range(10):
        net = xpnet.Sequential(xpnet.Linear(1, 1), xpnet.Tanh(), xpnet.Linear(1, 2), seed=seed)
        X, t = batch(1, 2, 2, seed)
        X -= X.mean(axis=0) * (1 - 1e-4)
        report = xpnet.gradcheck(net, "mse", X, t, method="complex")
        assert report.ok, report


def test_the_report_reads_like_a_table():
    text = str(around(xpnet.Linear(3, 3)))
    lines = text.splitlines()
    assert lines[0] == "gradient check, central differences, tolerance 1e-07"
    assert lines[1].split()[:3] == ["0.W", "(3,", "3)"]
    assert lines[1].endswith("  ok")
    assert lines[-1] == "all right"
    assert "WRONG" not in text
    text = str(around(xpnet.Linear(3, 3), method="complex", tolerance=1e-12))
    assert text.startswith("gradient check, complex step, tolerance 1e-12\n")


def test_a_single_gradient_is_found_by_name():
    report = around(xpnet.Linear(3, 3))
    assert report["2.W"].name == "2.W"
    with pytest.raises(xpnet.OptionError, match=r"unknown gradient '2\.w'.*did you mean '2\.W'"):
        report["2.w"]


def test_the_tolerance_is_the_callers():
    assert not around(xpnet.Linear(3, 3), tolerance=1e-15).ok
    assert around(xpnet.Linear(3, 3), tolerance=1e-6).ok


def test_a_network_without_parameters_is_checked_at_its_input():
    X, t = batch(3, 3)
    report = xpnet.gradcheck(xpnet.Sequential(xpnet.Tanh()), "mse", X, t)
    assert [entry.name for entry in report.entries] == ["input"]
    assert report.ok, report


def test_sample_weights_are_part_of_the_loss(backend):
    net = xpnet.Sequential(xpnet.Linear(3, 2), xpnet.Tanh(), dtype="float64")
    X, t = batch()
    for weight in ([1, 2, 0, 4, 0.5], np.arange(N), backend.asarray(np.arange(N) + 1.0)):
        for method in ("central", "complex"):
            report = xpnet.gradcheck(net, "mse", X, t, sample_weight=weight, method=method)
            assert report.ok, report
    X[2] = 7  # its weight is 0
    report = xpnet.gradcheck(net, "mse", X, t, sample_weight=[1, 2, 0, 4, 0.5])
    assert report["0.W"].numerical == pytest.approx(report["0.W"].analytic)


# ---- the classic mistakes ------------------------------------------------------------------------


class Sign(xpnet.Tanh):
    def backward(self, dY):
        return -super().backward(dY)


class TwiceInDX(xpnet.Tanh):
    def backward(self, dY):
        return 2 * super().backward(dY)


class TransposedW(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW[...] = self.dW.T.copy()
        return dX


class UpdatedTooEarly(xpnet.Linear):
    """As in the notebooks: W takes its step, and then carries the gradient down."""

    def backward(self, dY):
        xp = self.xp
        xp.matmul(self.X.T, dY, out=self.dW)
        xp.sum(dY, axis=0, out=self.db)
        step = xp.multiply(self.dW, 0.5, out=xp.empty(self.W.shape, self.dtype))
        xp.subtract(self.W, step, out=self.W)
        return xp.matmul(dY, self.W.T, out=self.dX[: len(dY)])


class LastRowInDb(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.db[...] = dY[-1]
        return dX


class ZeroDW(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW[...] = 0
        return dX


class NeverWritten(xpnet.Linear):
    def backward(self, dY):
        return self.xp.matmul(dY, self.W.T, out=self.dX[: len(dY)])


class AddedUp(xpnet.Linear):
    """As in frameworks where the gradients must be set to zero before each step."""

    def backward(self, dY):
        before = self.dW.copy()
        dX = super().backward(dY)
        self.dW += before
        return dX


class NanInDW(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW[1, 2] = np.nan
        return dX


class TwiceInDW(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW *= 2
        return dX


class MeanOfDW(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW /= len(dY)
        return dX


class WithoutWInDX(xpnet.Linear):
    def backward(self, dY):
        super().backward(dY)
        self.xp.copyto(self.dX, dY)
        return self.dX


class OneEntry(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW[2, 1] += 1e-5
        return dX


class SumOfSquares(xpnet.MeanSquaredError):
    """As in the notebooks: the loss is a mean, its gradient that of the sum."""

    def backward(self):
        dY = super().backward()
        return self.xp.multiply(dY, len(self.Y), out=dY)


class MeanTwice(xpnet.MeanSquaredError):
    def backward(self):
        dY = super().backward()
        return self.xp.divide(dY, len(self.Y), out=dY)


class WithoutTwo(xpnet.MeanSquaredError):
    def slope(self, Y, T, out):
        self.xp.subtract(Y, T, out=out)


class WithoutWeights(xpnet.MeanSquaredError):
    def backward(self):
        dY = self._dY[: len(self.Y)]
        self.slope(self.Y, self.T, out=dY)
        return self.xp.multiply(dY, 1 / dY.size, out=dY)


OTHER = "not a multiple of the right one"
MISTAKES = [
    (Sign, [*BEFORE, "input"], "the sign is reversed"),
    (TwiceInDX, [*BEFORE, "input"], "^2 times the right one: a constant factor"),
    (TransposedW, ["2.W"], "it is the transpose of the right one"),
    (UpdatedTooEarly, [*BEFORE, "input"], "^backward changed 2.W: update a parameter only after"),
    (LastRowInDb, ["2.b"], OTHER),
    (ZeroDW, ["2.W"], "it is zero everywhere"),
    (NeverWritten, ["2.W", "2.b"], "everywhere: was it never written"),
    (AddedUp, ["2.W"], "added to what was there"),
    (NanInDW, ["2.W"], "it is not finite"),
    (TwiceInDW, ["2.W"], "^2 times the right one: a constant factor"),
    (MeanOfDW, ["2.W"], "too small by n = 5: divided by the number of samples twice"),
    (WithoutWInDX, [*BEFORE, "input"], OTHER),
    (OneEntry, ["2.W"], OTHER),
]


def a(kind):
    """Return a layer of this kind for three features."""
    return kind(3, 3) if issubclass(kind, xpnet.Linear) else kind()


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize(("kind", "names", "guess"), MISTAKES)
def test_a_wrong_layer_is_found_and_named(kind, names, guess, method):
    report = around(a(kind), method=method)
    assert not report.ok
    assert not report
    assert sorted(wrong(report)) == sorted(names), report
    for name in names:
        entry = report[name]
        assert re.search(guess, entry.guess), entry
        assert f"analytic {entry.analytic:.8g}, numerical {entry.numerical:.8g}" in str(entry)
        assert str(entry).endswith(entry.guess)
    assert all(entry.guess == "" for entry in report.entries if entry.ok)
    assert str(report).endswith("NOT right")


@pytest.mark.parametrize(
    ("kind", "guess"),
    [
        (SumOfSquares, "too large by n = 5: a sum over the samples where the loss is their mean"),
        (MeanTwice, "too small by n = 5: divided by the number of samples twice"),
        (WithoutTwo, "0.5 times the right one: a constant factor is lost or there twice"),
    ],
)
def test_a_wrong_loss_is_found_and_named_in_every_gradient(kind, guess):
    report = around(xpnet.Linear(3, 3), kind())
    assert wrong(report) == [entry.name for entry in report.entries]
    assert {entry.guess for entry in report.entries} == {guess}


def test_a_loss_that_forgets_the_weights_is_found():
    assert around(xpnet.Linear(3, 3), WithoutWeights()).ok
    report = around(xpnet.Linear(3, 3), WithoutWeights(), sample_weight=[1, 2, 3, 4, 5])
    assert wrong(report) == [entry.name for entry in report.entries]


def test_the_worst_entry_is_shown():
    report = around(OneEntry(3, 3))
    entry = report["2.W"]
    assert entry.worst == (2, 1)
    assert entry.analytic - entry.numerical == pytest.approx(1e-5, rel=1e-3)
    assert "worst at [2][1]: analytic" in str(report)
    assert report.error == entry.error
    top = max(abs(e.numerical) for e in report.entries)
    assert 1e-5 / top < entry.error < 1e-2


def test_nan_in_one_gradient_does_not_spoil_the_others():
    net = xpnet.Sequential(
        NanInDW(3, 3), xpnet.Linear(3, 4), xpnet.BatchNorm1d(4), xpnet.Linear(4, 2), dtype="float64"
    )
    for method in ("central", "complex"):
        report = xpnet.gradcheck(net, "mse", *batch(), method=method)
        assert wrong(report) == ["0.W"], report
        assert report["0.W"].worst == (1, 2)
        assert np.isnan(report["0.W"].analytic)


def test_a_wrong_mask_is_no_kink():
    class Everywhere(xpnet.ReLU):
        def backward(self, dY):
            return dY

    class Reversed(xpnet.ReLU):
        def backward(self, dY):
            return dY * (self.Y[: len(dY)] <= 0)

    for layer in (Everywhere(), Reversed()):
        report = around(layer)
        assert wrong(report) == [*BEFORE, "input"]
        assert all(entry.kinks == 0 for entry in report.entries)


# ---- kinks ---------------------------------------------------------------------------------------


def test_kinks_are_counted_and_not_called_wrong(backend):
    net = xpnet.Sequential(xpnet.ReLU(), xpnet.Linear(3, 2), dtype="float64")
    X, t = batch()
    X[[0, 1, 1, 4], [0, 0, 2, 1]] = 0
    report = xpnet.gradcheck(net, "mse", X, t)
    assert report.ok, report
    assert report["input"].kinks == 4
    assert report["1.W"].kinks == 0
    assert "ok  (4 at a kink)" in str(report["input"])
    X[X == 0] = 1e-3
    assert xpnet.gradcheck(net, "mse", X, t)["input"].kinks == 0


def test_a_mistake_beside_a_kink_is_still_found():
    class Twice(xpnet.ReLU):
        def backward(self, dY):
            return 2 * super().backward(dY)

    X, t = batch()
    X[0, 0] = 0
    report = xpnet.gradcheck(xpnet.Sequential(Twice(), xpnet.Linear(3, 2)), "mse", X, t)
    assert wrong(report) == ["input"]


# ---- what is checked -----------------------------------------------------------------------------


def test_the_network_and_the_loss_are_not_changed(backend):
    net = xpnet.Sequential(
        xpnet.Linear(3, 4), xpnet.BatchNorm1d(4), xpnet.Dropout(), xpnet.Linear(4, 2)
    )
    loss = xpnet.MeanSquaredError()
    X, t = (backend.asarray(a.astype(np.float32)) for a in batch())
    loss.forward(net.forward(X), t)
    net.backward(loss.backward())

    def everything():
        arrays = {"grads": net.grads, "X": X, "t": t, "value": loss.value}
        host = {name: np.array(backend.asnumpy(a)) for name, a in arrays.items()}
        return net.state_dict() | host

    before, params = everything(), net.params
    for training in (True, False):
        net.train(training)
        for method in ("central", "complex"):
            xpnet.gradcheck(net, loss, X, t, method=method)
        assert [layer.training for layer in (net, *net)] == [training] * 5
        assert net.params is params
        assert (net.dtype, net.xp, net.input_gradient) == (np.float32, backend, False)
        after = everything()
        assert before.keys() == after.keys()
        for name, a in before.items():
            assert a.dtype == after[name].dtype
            assert np.array_equal(a, after[name]), name


def test_the_masks_of_dropout_are_the_next_ones_and_stay():
    masks = []

    class Watched(xpnet.Dropout):
        def forward(self, X):
            Y = super().forward(X)
            masks.append(self.M[: len(X)].real.copy())
            return Y

    for method in ("central", "complex"):
        masks.clear()
        net = xpnet.Sequential(xpnet.Linear(3, 6), Watched(0.5), xpnet.Linear(6, 2), seed=1)
        report = xpnet.gradcheck(net, "mse", *batch(), method=method)
        assert report.ok, report
        assert len(masks) > 20
        assert all(np.array_equal(mask, masks[0]) for mask in masks)
        net.forward(batch()[0].astype(np.float32))
        assert np.array_equal(masks[-1], masks[0])


def test_the_mode_of_the_network_is_that_of_the_check():
    class WrongAtRest(xpnet.BatchNorm1d):
        def _backward(self, dXhat, Xhat, sigma, work):
            dX = super()._backward(dXhat, Xhat, sigma, work)
            return dX if self.training else 3 * dX

    net = xpnet.Sequential(xpnet.Linear(3, 3), WrongAtRest(3), xpnet.Linear(3, 2))
    assert xpnet.gradcheck(net, "mse", *batch()).ok
    net.train(False)
    report = xpnet.gradcheck(net, "mse", *batch())
    assert wrong(report) == [*BEFORE, "input"]


def test_a_float32_network_is_checked_in_float64():
    net = xpnet.Sequential(xpnet.Linear(3, 3), OneEntry(3, 3), xpnet.Tanh())
    X, t = batch(3, 3)
    report = xpnet.gradcheck(net, "mse", X.astype(np.float32), t.astype(np.float32))
    assert wrong(report) == ["1.W"]
    assert report["0.W"].error < 1e-9
    assert net.params.dtype == np.float32


def test_pixels_are_fractions_of_255():
    net = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(4, 2), xpnet.Tanh(), dtype="float64")
    pixels = np.random.default_rng(0).integers(0, 256, (N, 2, 2)).astype(np.uint8)
    t = batch()[1]
    for method in ("central", "complex"):
        report = xpnet.gradcheck(net, "mse", pixels, t, method=method)
        assert report.ok, report
        assert str(report) == str(xpnet.gradcheck(net, "mse", pixels / 255, t, method=method))


def test_lists_and_whole_numbers_will_do(backend):
    net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    assert xpnet.gradcheck(net, "mse", [[1, 2], [3, 4]], [[1], [0]]).ok
    assert xpnet.gradcheck(net, "mse", [[1.5, 2], [3, 4]], (1, 0), method="complex").ok
    assert xpnet.gradcheck(net, "bce_logits", np.eye(2, dtype=bool), np.array([0, 1])).ok


def test_a_loss_that_was_used_elsewhere_is_used_as_new(backend):
    loss, (X, t) = xpnet.MeanSquaredError(), batch()
    for place in ("numpy", backend):
        for dtype in ("float32", "float64"):
            layers = xpnet.Linear(3, 2), xpnet.Tanh()
            net = xpnet.Sequential(*layers, dtype=dtype, backend=place)
            for method in ("central", "complex"):
                assert xpnet.gradcheck(net, loss, X, t, method=method).ok
            loss.forward(net.forward(net.xp.asarray(X)), net.xp.asarray(t))


class Counting(xpnet.MeanSquaredError):
    def __init__(self):
        super().__init__()
        self.calls = []

    def __deepcopy__(self, memo):
        twin = type(self)()
        twin.calls = self.calls
        return twin

    def elements(self, Y, T, out):
        self.calls.append(1)
        super().elements(Y, T, out)


def test_of_a_large_gradient_only_so_many_entries_are_checked():
    net = xpnet.Sequential(xpnet.Linear(40, 30), xpnet.Tanh(), xpnet.Linear(30, 2))
    X, t = batch(40, 2, 2)
    for method, calls in (("central", 2), ("complex", 1)):
        for most in (7, 50):
            loss = Counting()
            report = xpnet.gradcheck(net, loss, X, t, method=method, max_entries=most)
            assert report.ok, report
            sizes = [min(np.prod(entry.shape), most) for entry in report.entries]
            assert calls * sum(sizes) <= len(loss.calls) <= calls * sum(sizes) + 2
            again = xpnet.gradcheck(net, "mse", X, t, method=method, max_entries=most)
            assert str(again) == str(report)


def test_the_chosen_entries_are_spread_over_the_gradient():
    """A gradient of which a tenth is wrong is found; so is one that is wrong everywhere."""

    class Wrong(xpnet.Linear):
        def backward(self, dY):
            dX = super().backward(dY)
            self.dW[self.rows] *= -1
            return dX

    X, t = batch(40, 30, 2)
    for first in range(0, 40, 4):
        layer = Wrong(40, 30)
        layer.rows = slice(first, first + 4)
        report = xpnet.gradcheck(xpnet.Sequential(layer), "mse", X, t, max_entries=100)
        assert wrong(report) == ["0.W"], report
        assert first <= report["0.W"].worst[0] < first + 4
    layer.rows = slice(None)
    report = xpnet.gradcheck(xpnet.Sequential(layer), "mse", X, t)
    assert report["0.W"].guess == "the sign is reversed"


def test_a_single_nan_in_a_large_gradient_is_always_found():
    class OneNan(xpnet.Linear):
        def backward(self, dY):
            dX = super().backward(dY)
            self.dW[self.place] = np.nan
            return dX

    X, t = batch(40, 30, 2)
    for place in ((0, 0), (7, 29), (20, 3), (31, 17), (39, 29)):
        layer = OneNan(40, 30)
        layer.place = place
        entry = xpnet.gradcheck(xpnet.Sequential(layer), "mse", X, t, max_entries=20)["0.W"]
        assert not entry.ok
        assert entry.worst == place
        assert np.isnan(entry.analytic)
        assert entry.guess == "it is not finite"


@pytest.mark.parametrize("method", ["central", "complex"])
def test_gradients_of_very_different_size_are_each_checked(method):
    """A mistake of a factor 2 in a gradient a million times smaller than the others."""

    class Small(xpnet.Tanh):
        def forward(self, X):
            return super().forward(1e-6 * X)

        def backward(self, dY):
            return 1e-6 * super().backward(dY)

    for factor, names in ((1, []), (2, BEFORE)):
        layer = TwiceInDX() if factor == 2 else xpnet.Tanh()
        net = xpnet.Sequential(xpnet.Linear(3, 3), layer, Small(), xpnet.Linear(3, 2))
        report = xpnet.gradcheck(net, "mse", *batch(), method=method)
        assert wrong(report) == names + ["input"] * bool(names), report


# ---- works everywhere ----------------------------------------------------------------------------


def test_a_mistake_is_found_on_every_backend(backend):
    for kind, names in ((UpdatedTooEarly, [*BEFORE, "input"]), (LastRowInDb, ["2.b"])):
        for method in ("central", "complex"):
            assert sorted(wrong(around(a(kind), method=method))) == sorted(names)


# ---- what is refused -----------------------------------------------------------------------------


def test_unknown_names_are_refused_with_the_nearest():
    net, (X, t) = xpnet.Sequential(xpnet.Linear(3, 2)), batch()
    with pytest.raises(xpnet.OptionError, match="unknown method 'centra'; did you mean 'central'"):
        xpnet.gradcheck(net, "mse", X, t, method="centra")
    with pytest.raises(xpnet.OptionError, match="unknown loss 'msee'; did you mean 'mse'"):
        xpnet.gradcheck(net, "msee", X, t)
    with pytest.raises(xpnet.DataError, match="X must hold numbers; got the dtype <U1"):
        xpnet.gradcheck(net, "mse", np.array([["a", "b", "c"]]), t[:1])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e200])
def test_a_loss_that_is_not_finite_is_refused(value):
    net, (X, t) = xpnet.Sequential(xpnet.Linear(3, 2)), batch()
    X[2, 1] = value
    words = r"the loss is (nan|inf) at the point of the check"
    if not np.isfinite(value):
        words = rf"X must be finite .*; X\[2, 1\] is {value}"
    with pytest.raises(xpnet.DataError, match=words):
        xpnet.gradcheck(net, "mse", X, t)


def test_targets_that_do_not_fit_are_refused():
    net, (X, t) = xpnet.Sequential(xpnet.Linear(3, 2)), batch()
    with pytest.raises(xpnet.ShapeError, match="5 samples but targets t of shape"):
        xpnet.gradcheck(net, "mse", X, t[:4])
    with pytest.raises(xpnet.DataError, match=r"class labels must be 0 \.\.\. 1"):
        xpnet.gradcheck(net, "softmax_cross_entropy", X, [0, 1, 2, 0, 0])


# ---- gradients in arrays of their own ------------------------------------------------------------


class Clipped(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW = np.clip(self.dW, -1e9, 1e9)
        return dX


class Hidden(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        vars(self)["dW"] = np.clip(self.dW, -1e9, 1e9)
        return dX


def test_a_gradient_that_is_assigned_is_right():
    assert around(Clipped(3, 3)).ok


def test_a_gradient_that_the_optimizer_does_not_see():
    """All numbers are right, but not where the optimizer looks, from the second step on."""
    report = around(Hidden(3, 3))
    assert wrong(report) == ["2.W"]
    assert report["2.W"].error < 1e-8
    assert report["2.W"].guess == (
        "backward puts another array in the place of self.dW, past the layer: the optimizer does "
        "not see it; write self.dW = ... or self.dW[...] = ..."
    )


# ---- at a kink -----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [xpnet.ReLU, xpnet.LeakyReLU])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse"])
def test_all_values_exactly_at_the_kink(layer, loss):
    """X = 0 and b = 0; on the two sides of some samples the slopes may even cancel."""
    net = xpnet.Sequential(xpnet.Linear(3, 4), layer(), xpnet.Linear(4, 2), dtype="float64")
    for X in (np.zeros((4, 3)), np.tile([[1.0, 0, 0], [-1.0, 0, 0]], (2, 1))):
        net.params = np.linspace(-1, 1, net.size)
        net[0].W[0], net[0].b[...] = 0, 0
        t = np.arange(4) % 2 if loss[0] == "s" else np.arange(8.0).reshape(4, 2)
        report = xpnet.gradcheck(net, loss, X, t)
        assert report.ok, report
        assert report["0.b"].kinks
        assert "at a kink)" in str(report["0.b"])


@pytest.mark.parametrize("delta", [0.5, 1.0])
def test_hubers_loss_where_the_parabola_becomes_a_line(delta):
    net = xpnet.Sequential(xpnet.Linear(3, 1), dtype="float64")
    X = batch()[0]
    for side in (delta, -delta):
        report = xpnet.gradcheck(net, xpnet.Huber(delta), X, net.predict(X) + side)
        assert report.ok, report


@pytest.mark.parametrize("kind", [Sign, TwiceInDW, LastRowInDb, ZeroDW, OneEntry])
def test_a_mistake_is_found_at_a_kink_too(kind):
    net = xpnet.Sequential(a(kind), xpnet.Tanh(), xpnet.Linear(3, 1), dtype="float64")
    X = batch(3)[0]
    report = xpnet.gradcheck(net, xpnet.Huber(1.0), X, net.predict(X) - 1.0)
    assert not report.ok
    assert "times the right one" not in str(report) or kind in (Sign, TwiceInDW, ZeroDW)


# ---- what is not linear in dY --------------------------------------------------------------------


class Limited(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.xp.minimum(self.dW, 1e3, out=self.dW)
        return dX


class WithAPenalty(xpnet.Linear):
    def backward(self, dY):
        dX = super().backward(dY)
        self.dW += 1e-13 * self.W
        return dX


class OnlyLarge(xpnet.Tanh):
    def backward(self, dY):
        dX = super().backward(dY)
        dX[abs(dY) < 1e-4] = 0
        return dX


@pytest.mark.parametrize(
    ("kind", "names"),
    [(Limited, ["2.W"]), (WithAPenalty, ["2.W"]), (OnlyLarge, [*BEFORE, "input"])],
)
def test_a_gradient_that_is_not_linear_in_dY_is_found(kind, names):
    """At the point itself all numbers are right."""
    report = around(a(kind))
    assert set(wrong(report)) == set(names)
    for name in names:
        assert report[name].error < 1e-7
        assert report[name].guess.startswith("it is not linear in dY: a larger dY gives another")
