"""The numbers behind the pictures, against ones that are computed another way."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest

import xpnet
from xpnet import DataError, OptionError, Recorder, ShapeError, Trainer
from xpnet.plots import geometry, layer_numbers, numbers

rng = np.random.default_rng(0)
LOG = np.log


def scores(*end):
    """A network whose output is its input, through the layers at its end."""
    return xpnet.Sequential(xpnet.Identity(), *end, dtype="float64")


# ---- what can be shown --------------------------------------------------------------------------


def test_finite_numbers_stay_and_others_come_to_the_edge():
    values = [[1.5, np.nan, np.inf], [-np.inf, 1e31, -1e31]]
    assert numbers.finite(values).tolist() == [[1.5, 0, 1e30], [-1e30, 1e30, -1e30]]
    found = numbers.finite(np.array([1, 2], np.uint8))
    assert (found.dtype, found.tolist()) == (np.float64, [1, 2])


def test_outputs_are_those_of_the_network_at_rest(backend):
    net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Dropout(0.5), dtype="float32")
    X = rng.standard_normal((2000, 2))
    W, b = net.state_dict()["0.W"], np.array([1, -1, 0.5], np.float32)
    net.load_state_dict(net.state_dict() | {"0.b": b})
    got = numbers.outputs(net, X.tolist())
    assert (type(got), got.dtype) == (np.ndarray, np.float64)
    np.testing.assert_allclose(got, X @ W + b, rtol=1e-5, atol=1e-6)


def test_outputs_that_run_away_are_shown_at_the_edge_without_a_warning():
    net = xpnet.Sequential(xpnet.Linear(1, 1), xpnet.Linear(1, 1), dtype="float32")
    net.load_state_dict({"0.W": [[1e30]], "0.b": [0], "1.W": [[1e30]], "1.b": [0]})
    assert numbers.outputs(net, [[1.0], [-1.0], [0.0]]).tolist() == [[1e30], [-1e30], [0]]


# ---- probabilities and classes ----------------------------------------------------------------

ONE = [[0.0], [LOG(3)], [-LOG(3)], [1000], [-1000]]
ONE_P = [[0.5, 0.5], [0.25, 0.75], [0.75, 0.25], [0, 1], [1, 0]]
MANY = [[LOG(1), LOG(2), LOG(5)], [0, 0, 0], [1000, -1000, 0], [-1000, -1000, -1000]]
MANY_P = [[1 / 8, 2 / 8, 5 / 8], [1 / 3] * 3, [1, 0, 0], [1 / 3] * 3]


@pytest.mark.parametrize(
    ("end", "X", "P"),
    [
        ([], ONE, ONE_P),
        (
            [xpnet.Tanh],
            np.arctanh([[0.0], [0.5]]),
            [[0.5, 0.5], [0.3775406687981454, 0.6224593312018546]],
        ),
        ([xpnet.Sigmoid], ONE, ONE_P),
        ([lambda: xpnet.Sequential(xpnet.Identity(), xpnet.Sigmoid())], ONE, ONE_P),
        ([], MANY, MANY_P),
        ([xpnet.Softmax], MANY, MANY_P),
        ([lambda: xpnet.Sequential(xpnet.Softmax())], MANY, MANY_P),
        ([], [[LOG(3), LOG(1)]], [[0.75, 0.25]]),  # two scores are no single one
        ([xpnet.Sigmoid], [[0, LOG(3), -1000]], [[0.5, 0.75, 0]]),  # one Sigmoid for each class
    ],
)
def test_probabilities(end, X, P):
    got = numbers.probabilities(scores(*(make() for make in end)), X)
    np.testing.assert_allclose(got, P, rtol=1e-12, atol=1e-15)


def test_probabilities_of_what_is_no_number_or_endless_are_numbers():
    net = xpnet.Sequential(xpnet.Linear(1, 2), dtype="float64")
    net.load_state_dict({"0.W": [[1e308, 0]], "0.b": [0, 0]})
    assert numbers.probabilities(net, [[1e300], [-1e300]]).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    "t",
    [
        [2, 0, 1],
        np.array([[2], [0], [1]], np.uint8),
        np.array([2.0, 0.0, 1.0], np.float32),
        np.eye(3)[[2, 0, 1]],
        [[0.1, 0.2, 0.7], [0.6, 0.4, 0], [0, 1, 0]],
    ],
)
def test_labels_stay_and_rows_become_the_place_of_the_largest(t):
    got = numbers.labels_of(t)
    assert (got.dtype, got.tolist()) == (np.int64, [2, 0, 1])


def test_what_is_no_label_is_refused():
    with pytest.raises(DataError, match="t must hold numbers"):
        numbers.labels_of(["a", "b"])


def test_mistakes_are_the_wrong_ones_with_the_most_confident_first():
    P = [[0.9, 0.1, 0], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.4, 0.3, 0.3], [0.2, 0, 0.8]]
    with np.errstate(divide="ignore"):
        X = np.maximum(np.log(P), -800)
    found = numbers.mistakes(scores(), X, [0, 2, 1, 2, 0])
    rows = [(m.sample, m.true, m.predicted) for m in found]
    assert rows == [(2, 1, 2), (4, 0, 2), (1, 2, 1), (3, 2, 0)]  # the first of equals first
    assert [m.confidence for m in found] == pytest.approx([0.8, 0.8, 0.5, 0.4])
    assert numbers.mistakes(scores(), X, np.eye(3)[[0, 2, 1, 2, 0]]) == found
    assert numbers.mistakes(scores(), X, [0, 1, 2, 0, 2]) == []
    one = numbers.mistakes(scores(xpnet.Sigmoid()), [[LOG(4)], [-LOG(3)]], [0, 1])
    assert [(m.sample, m.true, m.predicted) for m in one] == [(0, 0, 1), (1, 1, 0)]
    assert [m.confidence for m in one] == pytest.approx([0.8, 0.75])


@pytest.mark.parametrize("classes", [4, 6])
def test_the_confusion_matrix_has_a_row_for_each_true_class(classes):
    true, taken = rng.integers(0, 3, 50), rng.integers(0, 4, 50)
    expected = np.zeros((classes, classes), int)
    for i, j in zip(true, taken, strict=True):
        expected[i, j] += 1
    assert (expected != expected.T).any()
    X = 5 * np.eye(4)[taken]
    for t in (true, true[:, None], np.eye(4)[true]):
        assert numbers.confusion_matrix(scores(), X, t, classes).tolist() == expected.tolist()
    two = numbers.confusion_matrix(scores(), [[1.0], [1.0], [-1.0]], [0, 0, 1], 2)
    assert two.tolist() == [[0, 2], [1, 0]]


def test_each_sample_needs_a_target():
    net, X, t = scores(), np.ones((3, 2)), [0, 1]
    for look in (numbers.samples_and_targets, lambda X, t: numbers.mistakes(net, X, t)):
        with pytest.raises(ShapeError, match=re.escape("X has the shape (3, 2), t (2,)")):
            look(X, t)
    with pytest.raises(ShapeError, match="each sample needs a target"):
        numbers.confusion_matrix(net, X, t, 2)
    with pytest.raises(ShapeError, match="each sample needs a target"):
        layer_numbers.norms_of_layers(trained()[1], np.ones((600, 2, 2)), np.zeros(599, int))


@pytest.mark.parametrize(
    ("n", "most", "found"),
    [(5, 10, [0, 1, 2, 3, 4]), (1, 5, [0]), (9, 3, [0, 4, 8]), (2, 2, [0, 1]), (101, 2, [0, 100])],
)
def test_some_of_many(n, most, found):
    assert numbers.evenly_spaced(n, most) == found


@pytest.mark.parametrize(("n", "most"), [(100, 7), (100, 99), (64, 50), (3, 2), (1000, 31)])
def test_some_are_spread_evenly_from_the_first_to_the_last(n, most):
    found = numbers.evenly_spaced(n, most)
    gaps = {b - a for a, b in pairwise(found)}
    assert (found[0], found[-1], len(found)) == (0, n - 1, most)
    assert max(gaps) - min(gaps) <= 1
    even = np.arange(most) * (n - 1) / (most - 1)
    assert np.abs(found - even).max() <= 0.5  # the nearest


# ---- the plane --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "margin", "ends"),
    [([0, 4, 10], 0.1, (-1, 11)), ([-2.0, 2.0], 0.25, (-3, 3)), ([3, 3], 0.1, (2.5, 3.5))],
)
def test_an_axis_goes_around_the_values(x, margin, ends):
    assert geometry.axis_range(np.array(x), margin) == pytest.approx(ends)
    assert geometry.axis_range(np.array([0, 10])) == pytest.approx((-1, 11))


def test_a_grid_goes_along_the_first_axis_first():
    points = geometry.grid_points(np.array([0.0, 1, 2]), np.array([10.0, 20]))
    assert points.tolist() == [[0, 10], [1, 10], [2, 10], [0, 20], [1, 20], [2, 20]]


def test_a_plane_is_around_the_points_of_each_feature():
    x1, x2 = geometry.plane_axes([[0, 100], [10, 300], [5, 200]], 5, 0.1)
    np.testing.assert_allclose(x1, [-1, 2, 5, 8, 11])
    np.testing.assert_allclose(x2, [80, 140, 200, 260, 320])


@pytest.mark.parametrize("shape", [(4, 3), (4, 1), (2,), (2, 2, 2)])
def test_a_plane_needs_two_features(shape):
    words = f"a plane needs samples of 2 features; X has the shape {shape}"
    with pytest.raises(ShapeError, match=re.escape(words)):
        geometry.plane_axes(np.zeros(shape), 5, 0.1)


def test_between_points_it_goes_straight_and_beyond_them_nowhere():
    x, y = np.array([[3.0], [1.0], [2.0]]), np.array([[30.0], [0.0], [10.0]])
    at = np.array([[0.99], [1], [1.5], [2.5], [3], [3.01]])
    found = geometry.interpolated(x, y)(at)
    np.testing.assert_allclose(found, [[np.nan], [0], [5], [20], [30], [np.nan]])


# ---- weights as images ------------------------------------------------------------------------


def test_squares():
    squares = {k * k for k in range(40)}
    assert {n for n in range(1500) if geometry.is_square(n)} == {n for n in squares if n < 1500}
    assert geometry.image_shape(784) == (28, 28)
    for n in (63, 65, 2):
        with pytest.raises(OptionError, match=f"{n} pixels make no square.*give the shape="):
            geometry.image_shape(n)


def test_first_weights_are_a_row_for_each_unit_and_no_view(backend):
    inner = xpnet.Sequential(xpnet.Linear(6, 4), xpnet.Tanh())
    net = xpnet.Sequential(xpnet.Flatten(), inner, xpnet.Linear(4, 2), dtype="float64")
    W = layer_numbers.first_weights(net)  # of a network that has never been used
    state = net.state_dict()
    np.testing.assert_array_equal(W, state["1.0.W"].T)
    assert (W.shape, W.dtype) == ((4, 6), np.float64)
    W[:] = 0
    np.testing.assert_array_equal(net.state_dict()["1.0.W"], state["1.0.W"])


def test_a_network_without_a_linear_layer_has_no_weights_to_show():
    with pytest.raises(OptionError, match=r"Sequential\(Tanh\(\)\) has no Linear layer"):
        layer_numbers.first_weights(xpnet.Sequential(xpnet.Tanh()))


# ---- norms ------------------------------------------------------------------------------------

N = 600  # more than are looked at
IMAGES = rng.integers(0, 256, (N, 2, 2)).astype(np.uint8)
LABELS = rng.integers(0, 3, N)


def rich(dtype="float64"):
    inner = xpnet.Sequential(xpnet.BatchNorm1d(5), xpnet.Tanh(), xpnet.Dropout(0.3))
    layers = xpnet.Linear(5, 6), xpnet.ReLU(), xpnet.Linear(6, 3, bias=False)
    return xpnet.Sequential(
        xpnet.Flatten(), xpnet.Linear(4, 5), inner, *layers, dtype=dtype, seed=3
    )


def trained(X=IMAGES, *, dtype="float64", metrics=(), frames=5):
    net, recorder = rich(dtype), Recorder(frames)
    made = Trainer(net, "softmax_cross_entropy", xpnet.Adam(net, 0.01), metrics=metrics)
    made.fit(X, LABELS, epochs=2, batch_size=100, callbacks=[recorder])
    return made, recorder


def by_hand(state, X):
    """The outputs of each block, in NumPy's own words; Dropout is at rest."""
    X = X.reshape(len(X), 4)
    A = X @ state["1.W"] + state["1.b"]
    sigma = np.sqrt(state["2.0.variance"] + 1e-5)
    B = np.tanh(state["2.0.gamma"] * (A - state["2.0.mean"]) / sigma + state["2.0.beta"])
    C = np.maximum(B @ state["3.W"] + state["3.b"], 0)
    return A, B, C, C @ state["5.W"]


NAMES = [
    "Flatten(), Linear(4, 5)",
    "BatchNorm1d(5), Tanh(), Dropout(0.3)",
    "Linear(5, 6), ReLU()",
    "Linear(6, 3, bias=False)",
]
PARAMETERS = [["1.W", "1.b"], ["2.0.gamma", "2.0.beta"], ["3.W", "3.b"], ["5.W"]]


@pytest.mark.parametrize("X", [IMAGES, IMAGES / 255], ids=["pixels", "numbers"])
def test_norms_are_those_of_an_independent_computation(backend, X):
    made, recorder = trained(X)
    found = layer_numbers.norms_of_layers(recorder, X, LABELS)
    assert found.epochs == recorder.epochs
    assert found.names == NAMES
    x, xp = IMAGES[:512] / 255, made.net.xp
    for k in range(len(recorder.epochs)):
        state = recorder.network(k).state_dict()
        rms = [np.sqrt(np.mean(Y**2)) for Y in by_hand(state, x)]
        np.testing.assert_allclose(found.activations[k], rms, rtol=1e-9)
        # The gradient: by a new network and a new loss.
        net, loss = rich(), xpnet.SoftmaxCrossEntropy()
        net.load_state_dict(state)
        net.train(False)
        loss.forward(net.forward(xp.asarray(x)), xp.asarray(LABELS[:512]))
        net.backward(loss.backward())
        layers = dict(net.walk(""))
        grads = {}
        for name in (name for group in PARAMETERS for name in group):
            path, _, parameter = name.rpartition(".")
            grads[name] = xp.asnumpy(getattr(layers[path], f"d{parameter}"))
        norms = [np.sqrt(sum((grads[p] ** 2).sum() for p in group)) for group in PARAMETERS]
        np.testing.assert_allclose(found.gradients[k], norms, rtol=1e-9)
    assert (found.gradients > 0).all()


def test_gradient_norms_are_slopes_of_the_loss():
    """Along the gradient of one layer the loss grows by its norm: a difference quotient."""
    recorder = trained()[1]
    found, net = (
        layer_numbers.norms_of_layers(recorder, IMAGES, LABELS),
        recorder.network(-1).copy(),
    )
    net.train(False)
    x, loss, eps = IMAGES[:512] / 255, xpnet.SoftmaxCrossEntropy(), 1e-6
    loss.forward(net.forward(x), LABELS[:512])
    net.backward(loss.backward())
    start, params, grads = 0, net.params.copy(), net.grads.copy()
    for k, size in enumerate([25, 10, 36, 18]):
        along = np.zeros_like(params)
        along[start : start + size] = grads[start : start + size] / found.gradients[-1, k]
        start += size
        ends = []
        for sign in (1, -1):
            net.params[:] = params + sign * eps * along
            ends.append(float(loss.forward(net.forward(x), LABELS[:512])))
        assert (ends[0] - ends[1]) / (2 * eps) == pytest.approx(found.gradients[-1, k], rel=1e-6)
    assert start == len(params)


def test_norms_look_at_the_first_512_samples_and_at_no_other():
    _, recorder = trained()
    before = layer_numbers.norms_of_layers(recorder, IMAGES, LABELS)
    for sample, same in ((512, True), (511, False)):
        X = IMAGES.copy()
        X[sample] = 255 - X[sample]
        after = layer_numbers.norms_of_layers(recorder, X, LABELS)
        assert (after.activations == before.activations).all() == same
        assert (after.gradients == before.gradients).all() == same
    t = LABELS.copy()
    t[511] = (t[511] + 1) % 3
    assert (layer_numbers.norms_of_layers(recorder, IMAGES, t).gradients != before.gradients).any()


def test_norms_leave_trainer_network_and_loss_as_they_are(backend):
    made, recorder = trained(dtype="float32")
    net, loss, xp = made.net, made.loss, made.net.xp

    def everything():
        return [
            *net.state_dict().values(),
            np.array(xp.asnumpy(net.grads)),
            np.array(xp.asnumpy(loss.Y)),
            float(loss),
            net.training,
            [layer.training for _, layer in net.walk("")],
            loss.validate,
            net.capacity,
        ]

    before, objects = everything(), (net.params, net.grads, made.loss, loss.Y)
    found = layer_numbers.norms_of_layers(recorder, IMAGES, LABELS)
    for a, b in zip(everything(), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert all(
        a is b for a, b in zip(objects, (net.params, net.grads, made.loss, loss.Y), strict=True)
    )
    epochs = list(found.epochs)
    plain, _ = trained(dtype="float32")
    for each in (made, plain):  # and it trains on as if nobody had looked
        each.fit(IMAGES, LABELS, epochs=1, batch_size=100, callbacks=[recorder][: each is made])
    np.testing.assert_array_equal(xp.asnumpy(net.params), xp.asnumpy(plain.net.params))
    assert len(recorder.epochs) > len(epochs) == len(found.epochs)  # the picture does not grow


def test_norms_of_a_network_that_runs_away_can_be_shown():
    net, recorder = xpnet.Sequential(xpnet.Linear(1, 1), dtype="float32"), Recorder()
    Trainer(net, "mse").fit([[1.0]], [1.0], epochs=1, callbacks=[recorder])
    recorder.values[-1][:] = 3e38
    found = layer_numbers.norms_of_layers(recorder, [[1.0]], [1.0])
    assert found.activations[-1] == found.gradients[-1] == 1e30
    assert 0 < found.gradients[0] < 100


def test_metrics_at_some_moments_are_those_of_the_network_then():
    def worst(t, Y):
        return np.abs(Y - np.eye(3)[t]).max()

    made, recorder = trained(metrics=["accuracy", worst])
    moments = [3, 0]
    found = numbers.metrics_at(recorder, moments, IMAGES, LABELS)
    assert [*found] == ["accuracy", "worst"]
    for place, k in enumerate(moments):
        Y = by_hand(recorder.network(k).state_dict(), IMAGES / 255)[-1]
        assert found["accuracy"][place] == np.mean(Y.argmax(axis=1) == LABELS)
        assert found["worst"][place] == pytest.approx(worst(LABELS, Y))
    assert found["worst"][0] != found["worst"][1]
    listed = numbers.metrics_at(recorder, moments, (IMAGES / 255).tolist(), LABELS.tolist())
    assert listed["accuracy"] == found["accuracy"]
    assert numbers.metrics_at(recorder, [-1], IMAGES, LABELS)["worst"][0] == pytest.approx(
        made.evaluate(IMAGES, LABELS)["worst"]
    )


def test_metrics_that_run_away_can_be_shown():
    def endless(t, Y):
        return np.float64(1) / 0

    recorder = trained(metrics=[endless])[1]
    assert numbers.metrics_at(recorder, [0, 1], IMAGES, LABELS) == {"endless": [1e30, 1e30]}


# ---- the network itself -----------------------------------------------------------------------


def shown(net):
    return [(column.units, column.lines) for column in layer_numbers.columns(net)]


REST = [
    (5, ["BatchNorm1d", "Tanh", "Dropout", "5", "10 parameters"]),
    (6, ["Linear", "ReLU", "6", "36 parameters"]),
    (3, ["Linear", "3", "18 parameters"]),
]


def test_columns_are_the_input_and_each_layer_with_parameters():
    net = rich()
    unseen = [(4, ["input", "4"]), (5, ["Flatten", "Linear", "5", "25 parameters"]), *REST]
    assert shown(net) == unseen
    net.predict(IMAGES)
    assert shown(net) == [(4, ["input", "2 × 2"]), *unseen[1:]]
    sizes = [int(c.lines[-1].split()[0].replace(",", "")) for c in layer_numbers.columns(net)[1:]]
    assert sum(sizes) == net.size
    large = xpnet.Sequential(xpnet.Linear(64, 100), xpnet.Sigmoid())
    assert shown(large)[1] == (100, ["Linear", "Sigmoid", "100", "6,500 parameters"])


def test_a_column_has_the_shape_behind_its_last_layer():
    net = xpnet.Sequential(xpnet.Tanh(), xpnet.Flatten(), xpnet.Identity())
    net.predict(np.zeros((1, 3, 5)))
    lines = ["Tanh", "Flatten", "Identity", "15", "0 parameters"]
    assert shown(net) == [(15, ["input", "3 × 5"]), (15, lines)]


def test_a_network_that_has_seen_no_sample_and_has_no_linear_layer_is_refused():
    with pytest.raises(OptionError, match=r"not known: Sequential\(ReLU\(\)\) has seen none yet"):
        layer_numbers.columns(xpnet.Sequential(xpnet.ReLU()))
