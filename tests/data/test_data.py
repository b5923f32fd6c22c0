"""The data sets that are computed, the digits, and the batches."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import xpnet
from xpnet import data
from xpnet.backend.random import Random
from xpnet.data.batches import Batches

# --- Logic gates -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "truth"),
    [
        (data.and_gate, lambda a, b: a and b),
        (data.or_gate, lambda a, b: a or b),
        (data.xor_gate, lambda a, b: a ^ b),
    ],
)
def test_gates_are_truth_tables(gate, truth):
    X, t = gate()
    assert (X.dtype, t.dtype, t.shape) == (np.float64, np.int64, (4,))
    assert X.tolist() == [list(row) for row in itertools.product([0, 1], repeat=2)]
    assert t.tolist() == [truth(a, b) for a, b in itertools.product([0, 1], repeat=2)]
    X[:] = 7
    assert (gate()[0] != 7).all()


# --- Spiral ------------------------------------------------------------------------------------


def test_the_spiral_without_noise_is_two_arms():
    X, t = data.spiral(1000, noise=0.0, turns=1.5)
    assert (X.shape, X.dtype, t.dtype) == ((1000, 2), np.float64, np.int64)
    assert t.tolist() == [0, 1] * 500
    end = 3 * np.pi
    radius = np.linalg.norm(X, axis=1) * end  # the angle of the point
    direction = np.stack([np.cos(radius), np.sin(radius)], axis=1)
    side = np.where(t == 0, 1, -1)[:, None]
    np.testing.assert_allclose(X * end, side * radius[:, None] * direction, atol=1e-12)
    assert np.pi / 2 <= radius.min() < np.pi / 2 + 0.2
    assert end - 0.05 < radius.max() < end
    inner = np.mean(radius**2 < ((np.pi / 2) ** 2 + end**2) / 2)  # even in φ²
    assert abs(inner - 0.5) < 4 * 0.5 / np.sqrt(1000)


def test_the_noise_of_the_spiral_has_its_standard_deviation():
    clean, noisy = (data.spiral(4000, noise=noise)[0] for noise in (0.0, 0.25))
    noise = (noisy - clean) * 4 * np.pi  # where the arms are π apart
    assert noise.std(axis=0) == pytest.approx([0.25, 0.25], rel=0.05)
    assert abs(noise.mean()) < 4 * 0.25 / np.sqrt(8000)
    for a, b in zip(data.spiral(), data.spiral(400, noise=0.25, turns=2.0, seed=0), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_arms_of_the_spiral_are_balanced_for_every_size():
    for n in (2, 3, 10, 401):
        labels = data.spiral(n)[1]
        assert len(labels) == n
        assert abs(2 * labels.sum() - n) <= 1


@pytest.mark.parametrize(
    "options",
    [{"n": 1}, {"n": 0}, {"n": 2.5}, {"noise": -0.1}, {"noise": float("nan")}, {"turns": 0.25}],
)
def test_bad_options_of_the_spiral_are_refused(options):
    ((name, value),) = options.items()
    with pytest.raises(xpnet.OptionError, match=rf"^{name} must be .*; got {value}"):
        data.spiral(**options)


# --- Curve and surface -------------------------------------------------------------------------


def test_the_curve_is_a_wave_and_a_parabola():
    x = np.array([-np.pi / 2, -np.pi / 4, -1e-9, 0.0, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(data.curve_truth(x), [0, -1, 0, 0, 1, 0, -3], atol=1e-8)
    X, t = data.curve(500, noise=0.0)
    assert (X.shape, t.shape, X.dtype, t.dtype) == ((500, 1), (500, 1), np.float64, np.float64)
    np.testing.assert_array_equal(t, data.curve_truth(X))
    assert -3 <= X.min() < -2.95
    assert 2.95 < X.max() < 3


def test_the_surface_is_a_bowl():
    X, t = data.surface(500)
    assert (X.shape, t.shape, X.dtype, t.dtype) == ((500, 2), (500, 1), np.float64, np.float64)
    np.testing.assert_allclose(t[:, 0], X[:, 0] ** 2 + X[:, 1] ** 2, rtol=1e-15)
    assert (X.min(axis=0) >= -1).all()
    assert (X.max(axis=0) < 1).all()
    assert (X.max(axis=0) - X.min(axis=0) > 1.98).all()


def test_the_grid_of_the_surface():
    X, t = data.surface_grid(3)
    assert sorted(X.tolist()) == [list(p) for p in itertools.product([-1, 0, 1], repeat=2)]
    np.testing.assert_array_equal(t[:, 0], X[:, 0] ** 2 + X[:, 1] ** 2)
    assert data.surface_grid()[0].shape == (2500, 2)


@pytest.mark.parametrize("make", [data.curve, data.surface])
def test_the_noise_is_on_the_targets_only(make):
    X, t = make(4000, noise=0.0)
    noisy_X, noisy = make(4000, noise=0.2)
    np.testing.assert_array_equal(X, noisy_X)
    assert (noisy - t).std() == pytest.approx(0.2, rel=0.05)
    assert abs((noisy - t).mean()) < 4 * 0.2 / np.sqrt(4000)
    assert abs(np.corrcoef(X[:, 0], (noisy - t)[:, 0])[0, 1]) < 4 / np.sqrt(4000)


@pytest.mark.parametrize("make", [data.curve, data.surface])
@pytest.mark.parametrize(("name", "value"), [("n", 0), ("n", -3), ("n", 2.5), ("noise", -0.1)])
def test_bad_options_of_curve_and_surface_are_refused(make, name, value):
    with pytest.raises(xpnet.OptionError, match=rf"^{name} must be .*; got {value}"):
        make(**{name: value})


@pytest.mark.parametrize("make", [data.spiral, data.curve, data.surface])
def test_the_seed_decides(make):
    for a, b in zip(make(50, seed=3), make(50, seed=3), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (make(50, seed=3)[0] != make(50, seed=4)[0]).all()
    np.testing.assert_array_equal(make(50)[0], make(50, seed=0)[0])
    with pytest.raises(xpnet.OptionError, match="seed must be"):
        make(50, seed=-1)


FIRST = [  # the first point, and its target
    (data.spiral, {}, [-0.26303484405288047, -0.009539813967270288, 0.0]),
    (data.curve, {}, [-1.3642343474279355, -0.27696452099512686]),
    (data.surface, {"noise": 0.1}, [0.3407006729101627, 0.8942283472914412, 0.9693696367187047]),
]


@pytest.mark.parametrize(("make", "options", "expected"), FIRST)
def test_the_points_never_change(make, options, expected):
    X, t = make(**options)
    np.testing.assert_allclose([*X[0], *np.ravel(t[:1])], expected, rtol=1e-12)


def test_sizes_and_noise_that_are_not_given():
    assert [len(make()[0]) for make in (data.spiral, data.curve, data.surface)] == [400, 200, 200]
    assert len(data.curve(1)[0]) == len(data.surface(1)[0]) == 1
    np.testing.assert_array_equal(data.curve()[1], data.curve(noise=0.1)[1])
    np.testing.assert_array_equal(data.surface()[1], data.surface(noise=0.0)[1])


# --- Digits ------------------------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn_split_once_and_for_all():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    X, t, X_test, t_test = data.digits()
    assert (X.shape, X_test.shape) == ((1437, 64), (360, 64))
    assert (X.dtype, t.dtype, X_test.dtype, t_test.dtype) == tuple(map(np.dtype, "dldl"))
    assert (X.min(), X.max(), X_test.min(), X_test.max()) == (0, 1, 0, 1)
    theirs = datasets.load_digits()
    both = np.column_stack([np.concatenate([X, X_test]) * 16, np.concatenate([t, t_test])])
    expected = np.column_stack([theirs.data, theirs.target])
    assert sorted(both.tolist()) == sorted(expected.tolist())  # each once: disjoint, none lost
    assert min(np.bincount(t_test, minlength=10)) > 20
    for a, b in zip((X, t, X_test, t_test), data.digits(), strict=True):
        np.testing.assert_array_equal(a, b)


# --- Batches -----------------------------------------------------------------------------------


def batches(xp, columns, batch_size, *, shuffle=True, seed=0, dtypes=None):
    placed = [xp.asarray(c) for c in columns]
    return Batches(xp, placed, dtypes or [c.dtype for c in columns], batch_size, shuffle, seed)


def epoch_of(made, epoch):
    """The columns of an epoch, put together again, and the sizes of the batches."""
    made.start(epoch)
    got = [[np.array(made.xp.asnumpy(a)) for a in made.gather(n)] for n in made.sizes()]
    return [np.concatenate(column) for column in zip(*got, strict=True)], [len(b[0]) for b in got]


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (5, 5, [5]), (5, 9, [5]), (3, 1, [1, 1, 1]), (1, 1, [1])],
)
def test_each_sample_comes_once_in_an_epoch(backend, n, batch_size, sizes):
    made = batches(backend, [np.arange(float(n)), np.arange(n) * 10], batch_size)
    for epoch in range(3):
        (x, t), got = epoch_of(made, epoch)
        assert got == sizes == made.sizes()
        assert len(made) == len(sizes)
        assert sorted(x.tolist()) == list(range(n))
        np.testing.assert_array_equal(t, x * 10)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else(backend):
    x = np.arange(100.0)
    made = batches(backend, [x], 7, seed=5)
    orders = [epoch_of(made, epoch)[0][0] for epoch in (0, 1, 2, 0)]
    np.testing.assert_array_equal(orders[0], Random(5, "shuffle", 0).permutation(100))
    np.testing.assert_array_equal(orders[2], Random(5, "shuffle", 2).permutation(100))
    np.testing.assert_array_equal(orders[0], orders[3])
    np.testing.assert_array_equal(epoch_of(batches(backend, [x], 30, seed=5), 1)[0][0], orders[1])
    others = [epoch_of(batches(backend, [x], 7, seed=6), 0)[0][0], *orders[1:3], x]
    assert all((order != orders[0]).any() for order in others)


def test_without_shuffle_and_for_everything_at_once_the_order_stays(backend):
    x = np.arange(10.0)
    for batch_size, shuffle in [(4, False), (10, True), (99, True)]:
        made = batches(backend, [x], batch_size, shuffle=shuffle)
        for epoch in (0, 1):
            np.testing.assert_array_equal(epoch_of(made, epoch)[0][0], x)


def test_an_epoch_that_was_broken_off_does_not_matter(backend):
    made = batches(backend, [np.arange(10.0)], 4)
    whole = epoch_of(made, 0)[0][0]
    made.start(1)
    made.gather(4)
    np.testing.assert_array_equal(epoch_of(made, 0)[0][0], whole)


def test_pixels_become_255ths_where_floats_are_wanted_and_stay_numbers_elsewhere(backend):
    pixels = np.arange(256).astype(np.uint8).reshape(64, 2, 2)
    made = batches(
        backend, [pixels] * 3, 10, dtypes=[np.float32, np.float64, np.uint8], shuffle=False
    )
    (single, double, raw), _ = epoch_of(made, 0)
    np.testing.assert_array_equal(single, pixels.astype(np.float32) / np.float32(255), strict=True)
    np.testing.assert_array_equal(double, pixels / 255, strict=True)
    np.testing.assert_array_equal(raw, pixels, strict=True)
    assert made.columns[0].dtype == np.uint8


def test_other_types_stay_as_they_are(backend):
    columns = [np.arange(6), np.arange(6.0), np.arange(6) % 2 == 0, np.ones((6, 2), np.float32)]
    got, _ = epoch_of(batches(backend, columns, 4, shuffle=False), 0)
    for a, column in zip(got, columns, strict=True):
        np.testing.assert_array_equal(a, column, strict=True)


def test_the_same_arrays_are_filled_anew(backend):
    made = batches(backend, [np.arange(8.0)], 4, shuffle=False)
    made.start(0)
    (first,) = made.gather(4)
    (second,) = made.gather(4)
    assert backend.asnumpy(first).tolist() == backend.asnumpy(second).tolist() == [4, 5, 6, 7]
