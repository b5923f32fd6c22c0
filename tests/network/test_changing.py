"""The list of layers and the settings of a network, changed after use: in effect, or refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import xpnet
from xpnet import BatchNorm1d, Dropout, Linear, OptionError, Sequential, ShapeError, Softmax, Tanh


def numbers(*shape):
    return np.sin(np.arange(1.0, 1 + np.prod(shape, dtype=int)) ** 2).reshape(shape)


X = numbers(6, 4)


def used(*layers, **options):
    """Return a network whose layers have had a step, so that there are values to lose."""
    net = Sequential(*layers, dtype="float64", **options)
    loss = xpnet.MeanSquaredError()
    loss.forward(net.forward(net.xp.asarray(X)), net.xp.zeros(net.predict(X).shape, "float64"))
    net.backward(loss.backward())
    net.params -= 0.1 * net.grads
    return net


def by_hand(layers, X):
    """Return what the layers compute, in plain NumPy."""
    for layer in layers:
        if isinstance(layer, Linear):
            X = X @ np.array(layer.xp.asnumpy(layer.W)) + np.array(layer.xp.asnumpy(layer.b))
        elif isinstance(layer, Tanh):
            X = np.tanh(X)
        elif isinstance(layer, Softmax):
            e = np.exp(X - X.max(axis=1, keepdims=True))
            X = e / e.sum(axis=1, keepdims=True)
        elif isinstance(layer, Sequential):
            X = by_hand(layer.layers, X)
    return X


def everything_agrees(net, tmp_path, layers):
    """Check that all that can be asked of a network knows these layers, and trains them all."""
    kinds = [type(layer) for layer in layers]
    assert [type(layer) for layer in net] == kinds
    assert repr(net) == f"Sequential({', '.join(map(repr, layers))})"
    assert net.size == sum(layer.size for layer in layers) == len(net.params)
    wanted = by_hand(layers, X)
    net.save(tmp_path / "net.npz")
    for other in (net, net.copy(), xpnet.load(tmp_path / "net.npz"), net.twin()):
        assert np.allclose(net.xp.asnumpy(other.predict(X)), wanted, atol=1e-12)
    t = np.zeros_like(wanted)
    assert xpnet.gradcheck(net, "mse", X, t).ok
    before = net.params.copy()
    xpnet.Trainer(net, "mse", xpnet.SGD(net, 0.1)).fit(X, t, epochs=1)
    assert (before != net.params).mean() > 0.5
    assert np.allclose(net.predict(X), by_hand(layers, X), atol=1e-12)


CHANGES = {
    "append": lambda net: net.layers.append(Softmax()),
    "append parameters": lambda net: net.layers.append(Linear(2, 5)),
    "insert": lambda net: net.layers.insert(2, Linear(3, 3)),
    "pop": lambda net: net.layers.pop(),
    "pop in the middle": lambda net: net.layers.pop(1),
    "remove": lambda net: net.layers.remove(net[1]),
    "del": lambda net: net.layers.__delitem__(-1),
    "del of the network": lambda net: net.__delitem__(slice(1, 2)),
    "replace": lambda net: net.layers.__setitem__(-1, Linear(3, 5)),
    "replace in the network": lambda net: net.__setitem__(2, Linear(3, 5)),
    "slice": lambda net: net.layers.__setitem__(slice(1, None), [Linear(3, 3), Softmax()]),
    "extend": lambda net: net.layers.extend([Tanh(), Linear(2, 2)]),
    "+=": lambda net: setattr(net, "layers", net.layers.__iadd__([Tanh()])),
    "assign": lambda net: setattr(net, "layers", [net[0], Linear(3, 2)]),
    "reverse": lambda net: net.layers.reverse(),
    "sort": lambda net: net.layers.sort(key=lambda layer: isinstance(layer, Linear)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_of_the_list_takes_effect(tmp_path, name):
    square = name in ("reverse", "sort")
    net = (
        used(Linear(4, 4), Linear(4, 4), Tanh())
        if square
        else used(Linear(4, 3), Tanh(), Linear(3, 2))
    )
    values = {id(layer): (layer.W.copy(), layer.b.copy()) for layer in net if layer.size}
    before = list(net)
    CHANGES[name](net)
    assert list(net) != before
    for layer in net:
        if id(layer) in values:
            assert np.array_equal(layer.W, values[id(layer)][0])
            assert np.array_equal(layer.b, values[id(layer)][1])
    everything_agrees(net, tmp_path, list(net))


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_before_the_first_use(tmp_path, name):
    square = name in ("reverse", "sort")
    layers = (
        (Linear(4, 4), Linear(4, 4), Tanh()) if square else (Linear(4, 3), Tanh(), Linear(3, 2))
    )
    net = Sequential(*layers, dtype="float64")
    CHANGES[name](net)
    same = Sequential(*copy.deepcopy(list(net)), dtype="float64")
    assert np.array_equal(net.params, same.params)  # as if it had been made so
    everything_agrees(net, tmp_path, list(net))


def test_a_change_on_another_backend(backend):
    net = used(Linear(4, 3), Tanh(), Linear(3, 2), backend=backend)
    net.layers[-1] = Linear(3, 5)
    assert np.allclose(net.xp.asnumpy(net.predict(X)), by_hand(net, X), atol=1e-12)


def test_a_nested_list_changes_the_outer_network(tmp_path):
    net = used(Linear(4, 3), Sequential(Tanh(), Linear(3, 3)), Linear(3, 2))
    W = net[2].W.copy()
    net[1].layers.append(Linear(3, 3))
    net[1].layers.insert(0, Linear(3, 3))
    assert np.array_equal(net[2].W, W)
    everything_agrees(net, tmp_path, list(net))
    with pytest.raises(ShapeError, match=r"layer 2, after Sequential.* takes 3 features, but 5"):
        net[1].layers.append(Linear(3, 5))
    assert len(net[1]) == 4
    assert np.allclose(net.predict(X), by_hand(net, X), atol=1e-12)


def test_new_layers_get_other_values_than_the_first_ones():
    """Equal values in two layers of a network would stay equal in symmetric positions."""
    net = used(Linear(4, 4), Dropout(0.5))
    net.layers.extend([Linear(4, 4), Dropout(0.5)])
    net.layers.append(Linear(4, 4))
    first, second, third = (net[i].W for i in (0, 2, 4))
    fresh = Sequential(Linear(4, 4), dtype="float64")
    assert not np.allclose(second, fresh.params[:16].reshape(4, 4))
    assert not np.allclose(second, third)
    assert not np.allclose(first, second)
    assert net[1].state["key"] != net[3].state["key"]


def test_state_stays_with_its_layer():
    net = used(BatchNorm1d(4), Linear(4, 3))
    net.forward(X)
    mean = net[0].state["mean"].copy()
    assert mean.any()
    net.layers.append(BatchNorm1d(3))
    assert np.array_equal(net[0].state["mean"], mean)
    assert not net[2].state["mean"].any()
    net.layers.insert(0, Tanh())
    assert np.array_equal(net[1].state["mean"], mean)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda ls: ls.append(Linear(4, 3)), ShapeError, "layer 3, after Linear.* does not fit"),
        (lambda ls: ls.append("relu"), OptionError, "layer 3 of Sequential is not a Layer: 'relu'"),
        (lambda ls: ls.append(Tanh), OptionError, r"write Tanh\(\)"),
        (lambda ls: ls.append(ls[1]), OptionError, r"Tanh\(\) stands in the network twice"),
        (lambda ls: ls.clear(), OptionError, "at least one layer"),
        (lambda ls: ls.__imul__(2), OptionError, "stands in the network twice"),
        (lambda ls: ls.extend(None), TypeError, "not iterable"),
        (lambda ls: ls.pop(7), IndexError, "out of range"),
        (lambda ls: ls.reverse(), ShapeError, "does not fit"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(change, error, words):
    net = used(Linear(4, 3), Tanh(), Linear(3, 2))
    layers, Y = list(net), net.predict(X)
    with pytest.raises(error, match=words):
        change(net.layers)
    assert list(net) == layers
    assert np.array_equal(net.predict(X), Y)


def test_a_layer_of_another_network_is_refused_and_the_advice_helps():
    other = used(Linear(4, 3))
    net = used(Linear(4, 4))
    with pytest.raises(OptionError, match=r"belongs to another network; take a copy of the layer"):
        net.layers.append(other[0])
    net.layers.append(other[0].copy())
    assert np.array_equal(net[1].W, other[0].W)
    net[1].W[...] = 0
    assert other[0].W.any()


def test_a_layer_that_was_taken_out_is_free_and_keeps_its_values():
    net = used(Linear(4, 3), Tanh(), Linear(3, 2))
    taken = net.layers.pop()
    W = taken.W.copy()
    net.params *= 0
    other = Sequential(Linear(4, 3), taken, dtype="float64")
    _ = other.params
    assert np.array_equal(other[1].W, W)


def test_an_optimizer_keeps_the_parameters_where_they_are(tmp_path):
    net = used(Linear(4, 3), Tanh(), Linear(3, 2))
    optimizer = xpnet.Adam(net)
    params = net.params
    for change in (
        lambda: net.layers.append(Linear(2, 2)),
        lambda: net.layers.pop(),
        lambda: net.layers.__setitem__(0, Linear(4, 3)),
    ):
        with pytest.raises(OptionError, match=r"while Adam\(lr=0.001\) has moments of the para"):
            change()
    assert len(net) == 3
    net.layers.append(Softmax())  # takes no parameters along
    del net.layers[1]
    assert net.params is params
    assert optimizer.net is net
    changed = net.copy()  # the advice
    changed.layers.append(Linear(2, 2))
    everything_agrees(changed, tmp_path, list(changed))


def test_with_a_trainer_that_has_begun():
    """An activation may come in between two trainings; the moments stay right."""
    net = used(Linear(4, 3), Linear(3, 2))
    t = np.arange(6) % 2
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.Adam(net))
    trainer.fit(X, t, epochs=2)
    net.layers.insert(1, Tanh())
    trainer.fit(X, t, epochs=2)
    assert np.allclose(net.predict(X), by_hand(net, X), atol=1e-12)
    with pytest.raises(OptionError, match="while Adam"):
        net.layers.pop()


def test_lists_of_layers_are_lists():
    net = used(Linear(4, 3), Tanh())
    assert net.layers == [net[0], net[1]]
    assert type(net.layers[:1]) is list
    assert type(pickle.loads(pickle.dumps(net.layers))) is list
    free = copy.deepcopy(net.layers)
    free.append(Linear(3, 2))
    assert len(net) == 2
    other = Sequential(*free)
    assert np.array_equal(other.predict(X)[0], other.predict(X[:1])[0])
    changed = net.copy()
    changed.layers.append(Linear(3, 2))
    assert len(net) == 2
    unpickled = pickle.loads(pickle.dumps(net))
    unpickled.layers.append(Linear(3, 2))
    assert unpickled.predict(X).shape == (6, 2)


# ---- transfer learning ---------------------------------------------------------------------------


def test_three_ways_to_a_network_with_a_new_head():
    net = used(Linear(4, 3), Tanh(), Linear(3, 2))
    kept = net.copy()
    ways = [
        Sequential(*[layer.copy() for layer in kept[:-1]], Linear(3, 5), dtype="float64"),
        Sequential(*copy.deepcopy(kept[:-1]), Linear(3, 5), dtype="float64"),
        kept.copy(),
    ]
    ways[2][-1] = Linear(3, 5)
    for way in ways:
        assert way.predict(X).shape == (6, 5)
        assert np.array_equal(way[0].W, net[0].W)
        way.params *= 0
        assert net[0].W.any()


def test_a_shallow_copy_is_independent_too():
    net = used(Linear(4, 3))
    for twin in (copy.copy(net), copy.copy(net[0])):
        layer = twin if isinstance(twin, Linear) else twin[0]
        layer.W = np.zeros((4, 3))
        assert net[0].W.any()
    assert net[0].owner() is net
    net[0].W = np.ones((4, 3))
    assert (net.params[:12] == 1).all()


# ---- settings ------------------------------------------------------------------------------------


def test_the_seed_can_be_changed_until_there_are_values():
    net = Sequential(Linear(4, 3))
    net.seed = 5
    assert np.array_equal(net.params, Sequential(Linear(4, 3), seed=5).params)
    net.seed = 5
    with pytest.raises(OptionError, match=r"seed of .* make a new network with seed=6"):
        net.seed = 6
    with pytest.raises(OptionError, match="seed must be a whole number"):
        Sequential(Linear(4, 3)).seed = -1


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("dtype", "float64", r"net.to\(dtype=...\) changes the type"),
        ("xp", "cupy", r"net.to\(backend\) moves"),
    ],
)
def test_what_the_network_manages_is_refused_with_the_way(name, value, words):
    net = Sequential(Linear(4, 3))
    for _ in range(2):
        with pytest.raises(OptionError, match=words):
            setattr(net, name, value)
        net.predict(X)
    assert net.to(dtype="float64").dtype == "float64"


def test_setting_the_mode_of_a_network_sets_that_of_its_layers():
    net = Sequential(Linear(4, 3), Sequential(Dropout(0.5)))
    net.training = False
    assert [layer.training for _, layer in net.walk("")] == [False, False]
    net.training = np.True_
    assert net[1][0].training is True
    for mode in ("no", 0, None):
        with pytest.raises(OptionError, match="training must be True or False"):
            net.training = mode
        with pytest.raises(OptionError, match="training must be True or False"):
            net.train(mode)
    with pytest.raises(OptionError, match="input_gradient must be True or False"):
        net.input_gradient = "yes"
