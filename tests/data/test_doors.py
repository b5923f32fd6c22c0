"""What the doors say of shapes, pixels and numbers that are too large."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest

import xpnet
from xpnet import plots

mpl.use("agg")
RANDOM = np.random.default_rng(0)
X, T = RANDOM.normal(size=(20, 3)), np.arange(20) % 4


def trainer(dtype="float64", features=3, loss="softmax_cross_entropy"):
    outputs = 1 if loss == "mse" else 4
    net = xpnet.Sequential(xpnet.Linear(features, outputs), dtype=dtype)
    return xpnet.Trainer(net, loss)


# ---- pixels -------------------------------------------------------------------------------------

PIXELS = RANDOM.integers(0, 256, (300, 2)).astype(np.uint8)
RIGHT = (PIXELS[:, 0] > 128).astype(int)


def test_a_table_has_no_pixels_whatever_its_columns_are(backend):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame({"a": [200], "b": [55]}, dtype="uint8")
    adding = xpnet.Sequential(xpnet.Linear(2, 1, init="ones"), dtype="float64")
    three = xpnet.Sequential(xpnet.Linear(3, 1, init="ones"), dtype="float64")
    assert adding.predict(frame).item() == 255
    assert adding.predict(frame.astype("int64")).item() == 255
    assert three.predict(frame.assign(c=0.0)).item() == 255
    assert adding.predict(frame.to_numpy()).item() == pytest.approx(1)  # an array has


def test_the_boundary_is_where_the_network_sees_the_pixels(backend):
    net = xpnet.Sequential(xpnet.Linear(2, 16), xpnet.Tanh(), xpnet.Linear(16, 1))
    made = xpnet.Trainer(net, "bce_logits", xpnet.Adam(net, lr=0.05), metrics=["accuracy"])
    made.fit(PIXELS, RIGHT, epochs=60)
    assert made.evaluate(PIXELS, RIGHT)["accuracy"] > 0.95
    display = plots.decision_boundary(net, PIXELS, RIGHT, resolution=50)
    assert (display.response > 0.5).mean() == pytest.approx(0.5, abs=0.05)
    assert display.xx0.max() == pytest.approx(1.12, abs=0.02)
    drawn = [line.get_xydata() for line in display.ax_.lines]
    for k in (0, 1):
        assert any(np.array_equal(points, PIXELS[k == RIGHT] / 255) for points in drawn)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimators_take_pixels_as_networks_do(backend):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    from xpnet.estimators import MLPClassifier

    models = [MLPClassifier((4,), max_iter=2, random_state=0) for _ in range(4)]
    forms = [PIXELS, PIXELS / 255, pandas.DataFrame(PIXELS), PIXELS.astype(int)]
    weights = [m.fit(a, RIGHT).coefs_[0] for m, a in zip(models, forms, strict=True)]
    assert np.array_equal(weights[0], weights[1])
    assert np.array_equal(weights[2], weights[3])
    assert not np.array_equal(weights[0], weights[2])
    pixels, numbers = (m.decision_function(PIXELS / 255) for m in (models[0], models[2]))
    assert np.array_equal(models[0].decision_function(PIXELS), pixels)
    assert np.array_equal(models[2].decision_function(PIXELS), numbers)


def test_pictures_keep_the_shape_of_the_images():
    images = RANDOM.integers(0, 256, (6, 4, 16)).astype(np.uint8)
    net = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(64, 3))
    drawn = plots.mistakes(net, images, (net.predict(images).argmax(axis=1) + 1) % 3)
    assert drawn.get_array().shape == (4 + 2, 6 * 17)  # a third of the height is for the words
    one_channel = plots.mistakes(net, images[:, None], np.zeros(6, int) + 9)
    assert one_channel.get_array().shape == (6, 6 * 17)
    net.predict(images)
    assert plots.weights(net, n=3).get_array().shape == (2 * 5, 2 * 17)
    rows = xpnet.Sequential(xpnet.Linear(64, 3))
    assert plots.weights(rows, n=3).get_array().shape == (2 * 9, 2 * 9)


def test_a_confusion_matrix_without_end_is_refused():
    net = xpnet.Sequential(xpnet.Linear(3, 4))
    with pytest.raises(xpnet.DataError, match=r"at most 4000 classes; .* have 50001"):
        plots.confusion(net, X, np.where(np.arange(20) == 3, 50_000, T))


# ---- shapes and ranges --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "t", "words"),
    [
        (T, X, r"got \(20,\).*X comes first, then t, of shape \(20, 3\): are they swapped"),
        (T[:, None], X, r"1 features? come.*X comes first, then t, of shape \(20, 3\)"),
        (T, np.eye(4)[T], r"X must have the shape \(samples, features\); got \(20,\)"),
        (X[0], T, r"got \(3,\).*for one sample X.reshape\(1, -1\)"),
        (X[:, :2], T, r"layer 0 does not fit: .*takes 3 features, but 2"),
        (X, T[:, None], r"\(n,\) for class labels, t.ravel\(\)"),
        (X[:19], T, r"19 samples but targets t of shape \(20,\)"),
    ],
)
def test_shapes_that_do_not_fit_say_what_to_do(inputs, t, words, backend):
    for use in (trainer().fit, trainer().evaluate):
        with pytest.raises(xpnet.ShapeError, match=words) as caught:
            use(inputs, t)
        assert ("swapped" in str(caught.value)) is ("swapped" in words or "comes first" in words)


@pytest.mark.parametrize(
    ("data", "error", "words"),
    [
        ((X[:, :2], T), xpnet.ShapeError, "^validation_data: layer 0 .*takes 3 features"),
        ((X, T[:-1]), xpnet.ShapeError, "^validation_data: .*20 samples but targets"),
        ((X * np.nan, T), xpnet.DataError, r"^validation_data: X must be .*X\[0, 0\] is nan"),
        ((X, T + 3), xpnet.DataError, "^validation_data: .*0 ... 3"),
        ((X, T, T, T), xpnet.OptionError, "^validation_data must be a pair"),
        ((X, T, -T - 1), xpnet.DataError, "^validation_data: sample_weight .*not negative"),
    ],
)
def test_errors_of_validation_data_say_so(data, error, words):
    with pytest.raises(error, match=words):
        trainer().fit(X, T, validation_data=data)


HUGE = X.copy()
HUGE[5, 1] = 1e39


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_numbers_too_large_for_float32_are_named(backend):
    from xpnet.estimators import MLPRegressor

    words = (
        r"X must be finite \(not NaN or inf, to 3.4e\+38\); X\[5, 1\] is 1e\+39; scale the values"
    )
    for use in (trainer("float32").fit, trainer("float32").evaluate):
        with pytest.raises(xpnet.DataError, match=words):
            use(HUGE, T)
    with pytest.raises(xpnet.DataError, match=words):
        trainer("float32").net.predict(HUGE)
    assert np.isfinite(trainer("float64").net.predict(HUGE)).all()
    with pytest.raises(xpnet.DataError, match=r"t must be finite .*t\[5, 0\] is 1e\+39"):
        trainer("float32", loss="mse").fit(X, HUGE[:, 1:2])
    with pytest.raises(xpnet.DataError, match=r"y must be finite .*y\[5, 0\] is 1e\+39"):
        MLPRegressor(hidden_layer_sizes=(2,), max_iter=1).fit(X.astype(np.float32), HUGE[:, 1])


def test_a_missing_value_far_down_is_found_by_predict(backend):
    many = np.zeros((3000, 3))
    many[2500, 2] = np.nan
    with pytest.raises(xpnet.DataError, match=r"X\[2500, 2\] is nan; fill it in, or drop the row"):
        trainer().net.predict(many)
    on_device = trainer().net.xp.asarray(many)
    with pytest.raises(xpnet.DataError, match=r"X\[2500, 2\] is nan"):
        trainer().net.predict(on_device)
