"""The initial weights: their spread, their limits, their names."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.backend.random import Random
from xpnet.initializers import INITIALIZERS, Constant, Normal, Orthogonal, Uniform, find_initializer

N_IN, N_OUT = 400, 300
VARIANCE = {
    "normal": 0.25,
    "lecun_normal": 1 / N_IN,
    "lecun_uniform": 1 / N_IN,
    "glorot_normal": 2 / (N_IN + N_OUT),
    "glorot_uniform": 2 / (N_IN + N_OUT),
    "he_normal": 2 / N_IN,
    "he_uniform": 2 / N_IN,
}


def weights(init, shape=(N_IN, N_OUT), seed=0):
    return find_initializer(init)(Random(seed, "weights"), shape)


def test_the_names():
    assert INITIALIZERS.keys() == VARIANCE.keys() | {"zeros", "ones", "orthogonal"}
    assert find_initializer("he_normal") is INITIALIZERS["he_normal"]
    assert find_initializer(weights) is weights


@pytest.mark.parametrize("name", VARIANCE)
def test_mean_and_spread(name):
    W = weights(name)
    std = np.sqrt(VARIANCE[name])
    assert W.shape == (N_IN, N_OUT)
    assert W.dtype == np.float64
    assert abs(W.mean()) < 4 * std / np.sqrt(W.size)
    assert W.std() == pytest.approx(std, rel=0.02)
    assert weights(name, (N_OUT, N_IN)).std() == pytest.approx(
        std * (1 if "glorot" in name or name == "normal" else np.sqrt(N_IN / N_OUT)), rel=0.02
    )
    if name.endswith("uniform"):
        limit = np.sqrt(3) * std
        assert 0.999 * limit < abs(W).max() <= limit
        share = np.mean(abs(W) < limit / 4)
    else:
        share = np.mean(abs(W) < 0.31864 * std)  # a quarter of a normal distribution
        assert np.mean(abs(W) > 2.5758 * std) == pytest.approx(0.01, rel=0.1)
    assert share == pytest.approx(0.25, rel=0.03)


def test_constant_normal_and_uniform_take_a_number():
    assert Constant() == Constant(0.0)
    assert Normal() == Normal(0.5)
    assert Uniform() == Uniform(0.5)
    for made in (Constant(), Normal(), Uniform(), Orthogonal(), INITIALIZERS["he_normal"]):
        assert hash(made) == hash(made)  # a value, which nobody changes by mistake
    assert (weights("zeros") == 0).all()
    assert (weights("ones") == 1).all()
    np.testing.assert_array_equal(weights(Constant(2.5), (2, 3)), np.full((2, 3), 2.5))
    np.testing.assert_array_equal(weights(Normal(3.0)), weights("normal") * 6)
    W = weights(Uniform(0.1))
    assert -0.1 <= W.min() < -0.0999
    assert 0.0999 < W.max() < 0.1


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (35, 35)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape):
    W = weights("orthogonal", shape)
    assert W.shape == shape
    gram = W.T @ W if shape[0] >= shape[1] else W @ W.T
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-14)
    np.testing.assert_array_equal(weights(Orthogonal(1.5), shape), 1.5 * W)


def test_orthogonal_is_the_one_decomposition_whose_r_has_a_positive_diagonal():
    A = Random(0, "weights").normal((20, 20))
    assert (np.diag(weights("orthogonal", (20, 20)).T @ A) > 0).all()


@pytest.mark.parametrize("name", [*VARIANCE, "orthogonal"])
def test_the_seed_decides(name):
    np.testing.assert_array_equal(weights(name, (6, 5)), weights(name, (6, 5)))
    assert (weights(name, (6, 5)) != weights(name, (6, 5), seed=1)).all()


def test_an_unknown_name_is_refused_with_a_suggestion():
    message = r"unknown initializer 'he_unifrom'; did you mean 'he_uniform'\? .*zeros"
    with pytest.raises(xpnet.OptionError, match=message):
        xpnet.Linear(2, 2, init="he_unifrom")


def test_the_layers_start_from_one_stream_in_order(backend):
    def init(random, shape):
        return random.uniform(shape)

    net = xpnet.Sequential(
        xpnet.Linear(3, 2, init=init), xpnet.Tanh(), xpnet.Linear(2, 2, init=init), dtype="float64"
    )
    stream = Random(0, "weights").uniform((10,))
    expected = [*stream[:6], 0, 0, *stream[6:], 0, 0]
    np.testing.assert_array_equal(backend.asnumpy(net.params), expected)
    np.testing.assert_array_equal(backend.asnumpy(net[0].W), stream[:6].reshape(3, 2))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Constant, "Constant: value"),
        (Normal, "Normal: std"),
        (Uniform, "Uniform: limit"),
        (Orthogonal, "Orthogonal: gain"),
    ],
)
@pytest.mark.parametrize("value", ["0.5", None, float("nan"), float("inf"), [0.5]])
def test_a_size_that_is_no_number_is_refused_by_name(make, name, value):
    with pytest.raises(xpnet.OptionError, match=rf"^{name} must be"):
        make(value)


@pytest.mark.parametrize(("make", "right"), [(Normal, False), (Uniform, False), (Constant, True)])
def test_only_what_is_a_width_may_not_be_negative(make, right):
    if right:
        assert weights(make(-0.5), (1, 2)).tolist() == [[-0.5, -0.5]]
    else:
        with pytest.raises(xpnet.OptionError, match="0 or more"):
            make(-0.5)
