"""Values that a user assigns to a layer or a network: they are copied, or refused by name."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm1d, DataError, Linear, OptionError, Sequential, ShapeError, Tanh


def numbers(*shape):
    return np.sin(np.arange(1.0, 1 + np.prod(shape, dtype=int)) ** 2).reshape(shape)


def new(backend=None, dtype="float64", **options):
    return Sequential(Linear(4, 3), Tanh(), Linear(3, 2), dtype=dtype, backend=backend, **options)


def host(a):
    return np.array(a.get() if hasattr(a, "get") else a)


def pickled(net):
    """Return the network from a pickle; a backend that is not registered has none."""
    return net.copy() if net.xp.name == "strict" else pickle.loads(pickle.dumps(net))


# ---- parameters ----------------------------------------------------------------------------------


def assigned_first(net, W):
    net[0].W = W


def assigned_later(net, W):
    net.forward(net.xp.zeros((2, 4), net.dtype))
    net[0].W = W


@pytest.mark.parametrize("assign", [assigned_first, assigned_later])
def test_an_assigned_parameter_is_a_value_of_the_network(backend, assign):
    """It is in the flat vector: so it is trained, copied, pickled, saved, moved, hashed."""
    net, W = new(backend), numbers(4, 3)
    assign(net, W)
    W_before, W[0, 0] = W.copy(), 99  # what was given is copied
    assert np.array_equal(host(net[0].W), W_before)
    assert np.array_equal(host(net.params)[:12], W_before.ravel())
    for other in (net.copy(), copy.deepcopy(net), pickled(net), net.twin()):
        assert np.array_equal(host(other[0].W), W_before)
    plain = new(backend)
    plain.params[:12] = plain.xp.asarray(W_before.ravel())
    assert net.sha256() == plain.sha256()
    X = net.xp.asarray(numbers(5, 4))
    assert np.array_equal(host(net.predict(X)), host(plain.predict(X)))
    net.forward(X)
    net.backward(net.xp.asarray(numbers(5, 2)))
    xpnet.SGD(net, lr=1.0).step()
    assert np.allclose(host(net[0].W), W_before - host(net[0].dW), atol=1e-15)
    net.to(dtype="float32")
    assert np.allclose(host(net[0].W), W_before - host(net[0].dW), atol=1e-6)


def test_the_textbooks_update_trains_as_sgd_does():
    """`layer.W = layer.W - lr * layer.dW` for each parameter is a step of SGD."""
    by_hand, by_sgd = new(), new()
    X, t, loss = numbers(20, 4), np.arange(20) % 2, xpnet.SoftmaxCrossEntropy()
    optimizer = xpnet.SGD(by_sgd, lr=0.5)
    for _ in range(5):
        loss.forward(by_sgd.forward(X), t)
        by_sgd.backward(loss.backward())
        optimizer.step()
        loss.forward(by_hand.forward(X), t)
        by_hand.backward(loss.backward())
        for layer in (by_hand[0], by_hand[2]):
            layer.W = layer.W - 0.5 * layer.dW
            layer.b -= 0.5 * layer.db
    assert np.allclose(by_hand.params, by_sgd.params, rtol=1e-12)


def test_a_parameter_may_be_assigned_before_there_is_a_network():
    layer = Linear(4, 2)
    layer.W = np.zeros((4, 2), "f4")
    layer.b = [1, 2]
    free = copy.deepcopy(layer)
    net = Sequential(layer)
    assert np.array_equal(net.predict(numbers(3, 4)), [[1, 2]] * 3)
    assert np.array_equal(Sequential(free).predict(numbers(3, 4)), [[1, 2]] * 3)


def test_the_other_first_values_do_not_change():
    layer, net = Linear(4, 3), new()
    layer.W = numbers(4, 3)
    other = Sequential(layer, Tanh(), Linear(3, 2), dtype="float64")
    assert np.array_equal(other.params[12:], net.params[12:])


@pytest.mark.parametrize("kind", ["f4", "f2", "i8", "u1", "?", "list", "tuple"])
def test_numbers_of_all_kinds_are_cast(backend, kind):
    net = new(backend, dtype="float32")
    b = [1, 0, 1]
    net[0].b = {"list": list, "tuple": tuple}.get(kind, lambda b: np.array(b, kind))(b)
    assert host(net[0].b).dtype == "float32"
    assert host(net[0].b).tolist() == b


def test_arrays_of_the_backend_and_of_the_host(backend):
    net = new(backend)
    net[0].W = net.xp.asarray(numbers(4, 3))
    net[2].W = numbers(3, 2)
    assert np.array_equal(host(net[0].W), numbers(4, 3))
    assert np.array_equal(host(net[2].W), numbers(3, 2))


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (np.zeros((3, 4)), ShapeError, r"W of Linear\(4, 3\) has the shape \(4, 3\); got \(3, 4\)"),
        (np.zeros((1, 3)), ShapeError, r"got \(1, 3\)"),
        (np.zeros((4, 3, 1)), ShapeError, r"got \(4, 3, 1\)"),
        (0.0, ShapeError, r"got \(\); for one value everywhere assign to \[...\]"),
        (None, DataError, r"W of Linear\(4, 3\) is a builtins.NoneType, not an array"),
        ("zeros", DataError, r"W of Linear\(4, 3\) must hold numbers"),
        (np.ones((4, 3), complex), DataError, "must hold numbers; got the dtype complex128"),
        ([[1, 2], [3]], DataError, "W of .* rows of unequal lengths"),
        (np.ma.array(np.ones((4, 3)), mask=np.eye(4, 3)), DataError, "mask"),
        (np.full((4, 3), 1e300), DataError, r"does not fit float32; the largest is 1e\+300"),
    ],
)
@pytest.mark.parametrize("used", [True, False])
def test_what_does_not_fit_is_refused_and_changes_nothing(value, error, words, used):
    net = new(dtype="float32")
    if used:
        net.predict(np.zeros((1, 4)))
    before = new(dtype="float32").params.copy()
    with pytest.raises(error, match=words):
        net[0].W = value
    assert np.array_equal(net.params, before)


def test_nan_is_a_number_like_any_other():
    """A gradient that is NaN is found where it is used, and loading takes it, too."""
    net = new()
    net[0].b = [np.nan, np.inf, 0.0]
    assert np.array_equal(net[0].b, [np.nan, np.inf, 0.0], equal_nan=True)


def test_a_transposed_parameter_is_not_read_while_it_is_written(backend):
    net = Sequential(Linear(3, 3), backend=backend, dtype="float64")
    W = host(net.params)[:9].reshape(3, 3).copy()
    net[0].W = net[0].W.T
    assert np.array_equal(host(net[0].W), W.T)


def test_a_parameter_cannot_be_deleted_or_declared_later():
    net = new()
    net.predict(numbers(1, 4))
    with pytest.raises(OptionError, match=r"W of Linear\(4, 3\) cannot be deleted"):
        del net[0].W
    for change in (
        lambda p: p.pop("W"),
        lambda p: p.clear(),
        lambda p: p.update(V=p["W"]),
        lambda p: p.setdefault("V"),
        lambda p: p.popitem(),
        lambda p: p.__delitem__("W"),
        lambda p: p.__ior__({"V": 1}),
    ):
        with pytest.raises(OptionError, match=r"Linear\(4, 3\) cannot be declared, changed"):
            change(net[0].parameters)
    with pytest.raises(OptionError, match=r"declare it in __init__"):
        net[0].parameter("V", (3,), "zeros")
    assert [*net[0].parameters] == ["W", "b"]


def test_values_that_are_not_there_yet_say_so():
    layer = Linear(4, 3)
    for use in (
        lambda: layer.W.copy(),
        lambda: layer.W + 1,
        lambda: 1 - layer.dW,
        lambda: np.asarray(layer.W),
        lambda: np.sum(layer.W),
        lambda: layer.W[0],
        lambda: layer.W.shape,
    ):
        with pytest.raises(xpnet.XpnetError, match="has no values yet: a network gives"):
            use()
    with pytest.raises(xpnet.XpnetError, match=r"dW of Linear\(4, 3\) has no place yet"):
        layer.dW = numbers(4, 3)
    net = Sequential(layer)
    _ = net.params  # the advice
    assert (layer.W + 1).shape == (4, 3)


def test_two_layers_of_one_class_may_have_other_parameters():
    with_bias, without = Linear(2, 2), Linear(2, 2, bias=False)
    without.b = "anything"  # nothing to the layer
    assert without.b == "anything"
    with pytest.raises(DataError):
        with_bias.b = "anything"


# ---- gradients -----------------------------------------------------------------------------------


class ByAssignment(xpnet.Layer):
    """Y = X W + b, as a textbook writes it."""

    def __init__(self, n_in, n_out):
        super().__init__()
        self.n_in, self.n_out = n_in, n_out
        self.parameter("W", (n_in, n_out), "glorot_uniform")
        self.parameter("b", (n_out,), "zeros")

    def output_shape(self, shape):
        return (self.n_out,)

    def forward(self, X):
        self.X = X
        return X @ self.W + self.b

    def backward(self, dY):
        self.dW = self.X.T @ dY
        self.db = dY.sum(axis=0)
        return dY @ self.W.T


def trained(kind):
    net = Sequential(kind(4, 3), Tanh(), kind(3, 2), dtype="float64")
    X = numbers(40, 4)
    xpnet.Trainer(net, "softmax_cross_entropy", "adam").fit(X, np.arange(40) % 2, epochs=3)
    return net


def test_a_layer_that_assigns_its_gradients_is_trained():
    theirs, ours = trained(ByAssignment), trained(Linear)
    assert np.allclose(theirs.params, ours.params, rtol=1e-9)
    assert xpnet.gradcheck(theirs, "softmax_cross_entropy", numbers(5, 4), [0, 1, 0, 1, 1]).ok
    copied = pickle.loads(pickle.dumps(theirs))
    assert np.array_equal(copied.predict(numbers(3, 4)), theirs.predict(numbers(3, 4)))


def test_a_layer_of_a_users_is_as_good_in_another_process():
    """There nobody has made such a layer: only the pickle tells what its parameters are."""
    net = trained(ByAssignment)
    code = f"""
        import pickle, sys, numpy as np
        sys.path.insert(0, {str(__file__).rpartition("/")[0]!r})
        net = pickle.loads(sys.stdin.buffer.read())
        net[0].W = np.ones((4, 3))
        print((net.params[:12] == 1).all())
    """
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        input=pickle.dumps(net),
        capture_output=True,
        check=True,
    )
    assert out.stdout.decode().strip() == "True"


def test_a_gradient_of_another_shape_is_refused_by_name():
    class Wrong(ByAssignment):
        def backward(self, dY):
            self.dW = dY.T @ self.X
            return None

    net = Sequential(Wrong(4, 3), dtype="float64")
    net.forward(numbers(5, 4))
    with pytest.raises(ShapeError, match=r"dW of Wrong\(\) has the shape \(4, 3\); got \(3, 4\)"):
        net.backward(numbers(5, 3))


def test_the_vectors_of_a_network_may_be_assigned(backend):
    net = new(backend)
    net.params = numbers(net.size)
    net.grads = list(numbers(net.size) + 1)
    assert np.array_equal(host(net[0].W).ravel(), numbers(net.size)[:12])
    net.params -= net.grads
    assert np.allclose(host(net[0].W), -1)
    with pytest.raises(ShapeError, match=r"params of Sequential\(Linear.* \(23,\); got \(22,\)"):
        net.params = numbers(22)
    outer = Sequential(net, dtype="float64", backend=backend)
    net.params = numbers(net.size)  # a slice of the vector of the outer network
    assert np.array_equal(host(outer.params), numbers(net.size))


# ---- state ---------------------------------------------------------------------------------------


def at_rest(net):
    return host(net.predict(numbers(3, 4)))


def test_the_state_of_a_layer_may_be_assigned(backend):
    net = Sequential(BatchNorm1d(4), Linear(4, 2), dtype="float64", backend=backend)
    at_rest(net)
    mean, variance = numbers(1, 4), np.full((1, 4), 4.0)
    net[0].state = {"mean": mean, "variance": [[1, 1, 1, 1]]}
    net[0].state["variance"] = variance
    expected = (numbers(3, 4) - mean) / np.sqrt(4 + 1e-5) @ host(net[1].W)
    assert np.allclose(at_rest(net), expected)
    assert np.array_equal(net.state_dict()["0.mean"], mean)
    assert np.allclose(at_rest(net.copy()), expected)
    assert np.allclose(at_rest(pickled(net)), expected)


def test_a_state_that_does_not_fit_is_refused():
    net = Sequential(BatchNorm1d(4), dtype="float64")
    at_rest(net)
    before = net.state_dict()
    for change in (
        lambda layer: setattr(layer, "state", {"mean": numbers(1, 4)}),
        lambda layer: setattr(layer, "state", {**layer.state, "more": numbers(1, 4)}),
        lambda layer: setattr(layer, "state", {**layer.state, "variance": numbers(1, 3)}),
        lambda layer: layer.state.__setitem__("means", numbers(1, 4)),
        lambda layer: layer.state.pop("mean"),
        lambda layer: layer.state.clear(),
    ):
        with pytest.raises(OptionError, match=r"state of BatchNorm1d\(4\) has the entries mean"):
            change(net[0])
    with pytest.raises(ShapeError, match=r"state\['mean'\] of BatchNorm1d\(4\) has the shape"):
        net[0].state["mean"] = numbers(4)
    with pytest.raises(OptionError, match=r"state of BatchNorm1d\(4\) must be a dict"):
        net[0].state = None
    after = net.state_dict()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_state_of_a_free_layer_takes_its_own_entries_only():
    """Otherwise the network would be saved with values that no network reads."""
    for name, value, words in (
        ("var", np.ones((1, 3)), "unknown entry 'var'; did you mean 'variance'?"),
        ("mean", np.ones(3), r"state\['mean'\] of BatchNorm1d\(3\) has the shape \(1, 3\); got"),
    ):
        layer = BatchNorm1d(3)
        layer.state[name] = value
        with pytest.raises((OptionError, ShapeError), match=words):
            Sequential(layer).predict(numbers(2, 3))


def test_the_name_of_an_initialiser_is_not_assigned():
    net = new()
    for _ in ("before use", "after use"):
        with pytest.raises(OptionError, match=r"init of Linear\(4, 3\) cannot be set; give it to"):
            net[0].init = "zeros"
        net.predict(numbers(2, 4))
