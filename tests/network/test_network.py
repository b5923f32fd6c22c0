"""Sequential: shapes, the flat vectors, nesting, moving, copying, predicting, and its errors."""

from __future__ import annotations

import gc
import hashlib
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import pytest
import strictxp
from strict_backend import StrictBackend

import xpnet
from xpnet import (
    GELU,
    SGD,
    BatchNorm1d,
    DataError,
    Dropout,
    Flatten,
    Layer,
    LayerNorm,
    Linear,
    MixedArraysError,
    OptionError,
    ReLU,
    Sequential,
    ShapeError,
    Softmax,
    Tanh,
    XpnetError,
)

STRICT = StrictBackend()


@contextmanager
def raises(error, *parts):
    """Expect an error whose message contains all the parts."""
    with pytest.raises(error) as caught:
        yield
    message = str(caught.value)
    assert [part for part in parts if part not in message] == [], message


def numbers(*shape):
    """Return numbers between -1 and 1 without a pattern, always the same."""
    return np.sin(np.arange(1.0, 1 + np.prod(shape, dtype=int)) ** 2).reshape(shape)


def to_net(net, a):
    return net.xp.asarray(np.asarray(a), net.dtype)


def host(net, a):
    return np.array(net.xp.asnumpy(a))


def put(net, values):
    """Set all parameters."""
    net.xp.copyto(net.params, to_net(net, values))


def run(net, X, dY=None):
    """Return Y and, given dY, the gradients of the parameters and of the input, on the host."""
    Y = host(net, net.forward(to_net(net, X)))
    if dY is None:
        return Y
    dX = net.backward(to_net(net, dY))
    return Y, host(net, net.grads), None if dX is None else host(net, dX)


def stateful(**options):
    """Return a network with every kind of state, and a network in it."""
    return Sequential(
        Linear(4, 3),
        BatchNorm1d(3),
        Sequential(Dropout(0.5), Linear(3, 3, bias=False), BatchNorm1d(3)),
        Linear(3, 2),
        **options,
    )


def same(a, b):
    """Tell whether two state dicts are equal to the last bit."""
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# ---- what does not fit together ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        (
            [Linear(2, 3), Linear(4, 1)],
            ["layer 1, after Linear(2, 3),", "Linear(4, 1) takes 4 features, but 3 features come"],
        ),
        (
            [Linear(2, 3), ReLU(), BatchNorm1d(5)],
            ["layer 2, after ReLU(),", "BatchNorm1d(5) takes 5 features, but 3 features come"],
        ),
        (
            [Linear(2, 3), LayerNorm(2)],
            ["layer 1, after Linear(2, 3),", "LayerNorm(2) takes 2 features, but 3 features come"],
        ),
        (
            [Linear(2, 3), Sequential(Tanh(), Linear(4, 1))],
            ["layer 1, after Linear(2, 3),", "layer 1, after Tanh(),", "Linear(4, 1) takes 4"],
        ),
        (
            [Sequential(Linear(2, 3), Dropout()), Linear(7, 1)],
            ["layer 1, after Sequential(", "Linear(7, 1) takes 7 features, but 3 features come"],
        ),
    ],
)
def test_layers_that_do_not_fit_are_refused_at_once(layers, parts):
    with raises(ShapeError, *parts):
        Sequential(*layers)


@pytest.mark.parametrize(
    ("layers", "shape", "parts"),
    [
        ([Linear(2, 3)], (4, 5), ["layer 0 does", "Linear(2, 3) takes 2 features, but 5 features"]),
        ([ReLU(), Linear(4, 1)], (4, 5), ["layer 1, after ReLU(),", "takes 4", "5 features"]),
        ([Linear(4, 1)], (3, 2, 2), ["samples of shape (2, 2)", "put Flatten() before it"]),
        ([BatchNorm1d(4)], (3, 2, 2), ["samples of shape (2, 2)", "put Flatten() before it"]),
        ([Softmax()], (3, 2, 2), ["Softmax takes vectors", "(2, 2)"]),
        ([Flatten(), Linear(4, 1)], (3, 2, 3), ["layer 1, after Flatten(),", "but 6 features"]),
        ([Linear(2, 3)], (2,), ["(samples, features); got (2,)", "X.reshape(1, -1)"]),
    ],
)
def test_batches_that_do_not_fit_are_refused(strict, layers, shape, parts):
    net = Sequential(*layers)
    for refuse in (net.forward, net.predict):
        with raises(ShapeError, *parts):
            refuse(to_net(net, np.zeros(shape)))


def test_a_number_is_no_batch(backend):
    net = Sequential(Linear(2, 3))
    with raises(ShapeError, "(samples, features); got ()"):
        net.forward(to_net(net, 1.0))


def test_no_hint_where_flatten_would_not_help():
    with pytest.raises(ShapeError) as caught:
        Sequential(Linear(5, 1)).forward(np.zeros((3, 2, 2), np.float32))
    assert "Flatten" not in str(caught.value)


def test_a_refused_batch_changes_nothing(backend):
    net, X = Sequential(Linear(2, 3), Tanh()), numbers(4, 2)
    Y = run(net, X)
    with pytest.raises(ShapeError):
        run(net, numbers(9, 5))
    assert np.array_equal(run(net, X), Y)


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        ([], ["at least one layer"]),
        ([Linear(2, 3), ReLU], ["layer 1 of Sequential", "ReLU", "write ReLU()"]),
        ([Linear(2, 3), "relu"], ["layer 1 of Sequential", "'relu'"]),
        ([[Linear(2, 3)]], ["layer 0 of Sequential", "[Linear(2, 3)]"]),
    ],
)
def test_what_is_no_layer(layers, parts):
    with raises(OptionError, *parts):
        Sequential(*layers)


def test_a_layer_stands_in_a_network_once():
    a, act = Linear(2, 2), Tanh()
    nested = Sequential(Linear(2, 2), act)
    for layers in ([a, Tanh(), a], [act, nested], [nested, nested]):
        with raises(OptionError, "twice", "one object for each place"):
            Sequential(*layers)


def test_a_layer_stands_in_one_network_only():
    """The second network would take the views of the first one, which then trains nothing."""
    inner = Sequential(Linear(2, 2))
    outer = Sequential(inner, Tanh())
    for layer in (inner, inner[0], outer[1]):
        with raises(OptionError, f"layer 1, {layer!r}", "another network"):
            Sequential(ReLU(), layer)
    with pytest.raises(ShapeError):
        Sequential(Linear(2, 3), unused := Linear(2, 2))
    assert len(Sequential(unused)) == 1  # a network that was never made owns nothing


def test_a_copy_is_free_and_its_layers_are_not():
    outer = Sequential(Sequential(Linear(2, 2)), Tanh())
    inner, twin = outer[0].copy(), outer.copy()
    del outer
    gc.collect()
    for layer in (inner[0], twin[0], twin[0][0], twin[1]):
        with raises(OptionError, "another network"):
            Sequential(layer)
    assert Sequential(inner, twin).size == 12


def test_the_copy_of_a_part_is_free():
    outer = Sequential(Sequential(Linear(2, 2)), Tanh())
    assert Sequential(outer[0].copy(), Linear(2, 1)).size == outer.size + 3
    assert Sequential(deepcopy(outer[0][0])).size == outer.size


@pytest.mark.parametrize("n", [0, -1, 2.0, "2", True, None])
def test_bad_sizes(n):
    for make, name in (
        (lambda: Linear(n, 3), "Linear: n_in"),
        (lambda: Linear(3, n), "Linear: n_out"),
        (lambda: BatchNorm1d(n), "BatchNorm1d: n "),
        (lambda: LayerNorm(n), "LayerNorm: n "),
    ):
        with raises(OptionError, name, "whole number, 1 or more", repr(n)):
            make()


def test_sizes_may_be_numbers_of_numpy():
    assert repr(Sequential(Linear(np.int64(2), np.int32(3)))) == "Sequential(Linear(2, 3))"


@pytest.mark.parametrize("dtype", ["flaot32", "int32", "float16", np.int64, object, {"a": 1}, None])
def test_bad_dtypes(dtype):
    with raises(OptionError, "unknown dtype", "float32, float64"):
        Sequential(Linear(2, 3), dtype=dtype)
    with pytest.raises(OptionError, match="did you mean 'float32'"):
        Sequential(Linear(2, 3), dtype="flaot32")


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("f4"), ">f4"])
def test_a_dtype_has_many_names(dtype):
    assert Sequential(Linear(2, 3), dtype=dtype).dtype == np.dtype("float32")
    assert Sequential(Linear(2, 3), dtype=dtype).params.dtype.isnative


@pytest.mark.parametrize("seed", [-1, 1.0, "1", True, None])
def test_bad_seeds(seed):
    with raises(OptionError, "seed must be a whole number, 0 or more", repr(seed)):
        Sequential(Linear(2, 3), seed=seed)


def test_an_unknown_initializer_gets_a_suggestion():
    with raises(OptionError, "'glorot_unifrom'; did you mean 'glorot_uniform'"):
        Linear(2, 3, init="glorot_unifrom")


@pytest.mark.parametrize("shape", [(3,), (7, 2), (3, 2)])
def test_an_initializer_that_gives_another_shape(shape):
    net = Sequential(Linear(2, 3, init=lambda random, wanted: np.zeros(shape)))
    with raises(ShapeError, "Linear(2, 3)", "W", "(2, 3)", str(shape)):
        net.params  # noqa: B018


# ---- the flat vectors -------------------------------------------------------------------------


def test_layers_hold_views(backend):
    net = Sequential(Linear(2, 3), Tanh(), Linear(3, 1, bias=False))
    assert net.size == 12
    assert net.params.shape == net.grads.shape == (12,)
    assert net.params.dtype == net.grads.dtype == np.float32
    for vector, names in ((net.params, ("W", "b", "W")), (net.grads, ("dW", "db", "dW"))):
        backend.copyto(vector, to_net(net, range(12)))
        pieces = [
            getattr(layer, k) for layer, k in zip((net[0], net[0], net[2]), names, strict=True)
        ]
        assert host(net, pieces[0]).tolist() == [[0, 1, 2], [3, 4, 5]]
        assert host(net, pieces[1]).tolist() == [6, 7, 8]
        assert host(net, pieces[2]).tolist() == [[9], [10], [11]]
        backend.copyto(pieces[1], -1.0)
        assert host(net, vector).tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1, 9, 10, 11]


def test_a_network_is_a_sequence_of_layers():
    layers = [Linear(2, 3), Tanh(), Linear(3, 1)]
    net = Sequential(*layers)
    assert len(net) == 3
    assert list(net) == layers
    assert net[-1] is layers[2]


def test_a_network_without_parameters(backend):
    net, X = Sequential(Tanh(), Flatten()), numbers(3, 2, 2)
    Y, grads, dX = run(net, X, numbers(3, 4))
    assert np.allclose(Y, np.tanh(X).reshape(3, 4))
    assert grads.shape == (0,)
    assert dX is None


def test_gradients_are_overwritten_and_parameters_are_not(backend):
    net, X, dY = Sequential(Linear(2, 3, bias=False), dtype="float64"), numbers(4, 2), numbers(4, 3)
    put(net, numbers(6))
    first = run(net, X, dY)
    assert np.allclose(first[0], X @ numbers(2, 3), rtol=1e-14, atol=1e-15)
    assert np.allclose(first[1], (X.T @ dY).ravel(), rtol=1e-14, atol=1e-15)
    assert np.array_equal(run(net, X, dY)[1], first[1])
    assert np.allclose(run(net, X, -2 * dY)[1], -2 * first[1], rtol=1e-14)
    assert np.array_equal(host(net, net.params), numbers(6))


def test_backward_needs_a_forward(backend):
    net = Sequential(Linear(2, 3), Tanh())
    dY = to_net(net, numbers(4, 3))
    with pytest.raises(XpnetError, match="forward"):
        net.backward(dY)
    net.forward(to_net(net, numbers(4, 2)))
    assert net.backward(dY) is None


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Linear(2, 2)],
        lambda: [BatchNorm1d(2)],
        lambda: [LayerNorm(2)],
        lambda: [Tanh(), Linear(2, 2)],
        lambda: [Flatten(), Dropout(), Linear(2, 2)],
        lambda: [Sequential(GELU(), Linear(2, 2)), Tanh()],
    ],
)
def test_nobody_computes_the_gradient_of_the_input(backend, layers):
    net = Sequential(*layers(), Linear(2, 2))
    dX = run(net, numbers(4, 2), numbers(4, 2))[2]
    first = next(layer for _, layer in net.walk("") if layer.size)
    assert dX is None
    assert first.dX is None
    assert net[-1].dX is not None


class Unused(Layer):
    """Y = X; its backward must not be called."""

    def forward(self, X):
        return X

    def backward(self, dY):
        raise AssertionError("nobody upstream needs this gradient")


def test_backward_stops_at_the_first_parameters(backend):
    net = Sequential(Unused(), Sequential(Unused(), Linear(2, 3)))
    assert run(net, numbers(4, 2), numbers(4, 3))[1].any()


def test_the_gradient_of_the_input_on_request(backend):
    net = Sequential(Sequential(Linear(2, 3, bias=False)), dtype="float64")
    net.input_gradient = True
    put(net, numbers(6))
    dY = numbers(4, 3)
    dX = run(net, numbers(4, 2), dY)[2]
    assert np.allclose(dX, dY @ numbers(2, 3).T, rtol=1e-14, atol=1e-15)


# ---- a network in a network -------------------------------------------------------------------


def test_nested_and_flat_networks_are_equal_to_the_last_bit(backend):
    def layers():
        return [Linear(3, 4), Dropout(0.5), GELU(), Linear(4, 4), BatchNorm1d(4), Linear(4, 2)]

    X, dY, a = numbers(5, 3), numbers(5, 2), layers()
    nested = Sequential(a[0], Sequential(a[1], Sequential(a[2], a[3])), *a[4:], seed=3)
    flat = Sequential(*layers(), seed=3)
    for _ in range(2):
        for ours, theirs in zip(run(nested, X, dY), run(flat, X, dY), strict=True):
            assert np.array_equal(ours, theirs)
    assert np.array_equal(nested.predict(X), flat.predict(X))
    assert nested.sha256() == flat.sha256()


def test_a_trained_network_keeps_its_values_in_another(backend):
    inner = Sequential(Linear(2, 3), Dropout(0.5), BatchNorm1d(3), seed=5)
    put(inner, numbers(inner.size))
    run(inner, numbers(4, 2))
    before = inner.state_dict()
    outer = Sequential(Tanh(), inner, Linear(3, 1), seed=6)
    after = outer.state_dict()
    assert same({k[2:]: v for k, v in after.items() if k.startswith("1.")}, before)
    assert before["1.drawn"] == 1
    assert before["2.mean"].any()
    fresh = Sequential(Tanh(), Linear(3, 1), seed=6).state_dict()
    assert np.array_equal(after["2.W"], fresh["1.W"])  # the new layer starts as it would alone


def test_the_vectors_of_an_inner_network_are_slices(backend):
    inner = Sequential(Linear(2, 3), Tanh())
    outer = Sequential(Linear(2, 2, bias=False), inner, Linear(3, 1))
    for whole, part in ((outer.params, inner.params), (outer.grads, inner.grads)):
        backend.copyto(whole, to_net(outer, range(17)))
        assert host(outer, part).tolist() == list(range(4, 13))
    assert host(outer, inner[0].db).tolist() == [10, 11, 12]
    backend.copyto(inner.params, 0.5)
    assert host(outer, outer.params).tolist() == [*range(4), *[0.5] * 9, *range(13, 17)]


def test_an_inner_network_still_predicts_by_itself(backend):
    inner, X = Sequential(Flatten(), Linear(4, 3), seed=1), numbers(6, 2, 2)
    outer = Sequential(inner, Tanh())
    Y = run(outer, X)
    assert np.allclose(np.tanh(inner.predict(np.tile(X, (3, 1, 1)))[:6]), Y, atol=1e-6)
    assert np.allclose(np.tanh(inner.predict(X.reshape(6, 4))), Y, atol=1e-6)
    assert np.array_equal(run(outer, X), Y)


# ---- by name ----------------------------------------------------------------------------------


def test_every_array_has_a_name():
    shapes = {name: a.shape for name, a in stateful().state_dict().items()}
    assert list(shapes.items()) == [
        ("0.W", (4, 3)),
        ("0.b", (3,)),
        ("1.gamma", (3,)),
        ("1.beta", (3,)),
        ("1.mean", (1, 3)),
        ("1.variance", (1, 3)),
        ("2.0.key", (1,)),
        ("2.0.drawn", (1,)),
        ("2.1.W", (3, 3)),
        ("2.2.gamma", (3,)),
        ("2.2.beta", (3,)),
        ("2.2.mean", (1, 3)),
        ("2.2.variance", (1, 3)),
        ("3.W", (3, 2)),
        ("3.b", (2,)),
    ]


def test_state_dicts_go_round(backend):
    X, dY = numbers(5, 4), numbers(5, 2)
    net, other = stateful(seed=1), stateful(seed=2)
    put(net, numbers(net.size))
    run(net, X)
    values = net.state_dict()
    assert all(type(value) is np.ndarray for value in values.values())
    other.load_state_dict(values)
    assert same(other.state_dict(), values)
    for ours, theirs in zip(run(net, X, dY)[:2], run(other, X, dY)[:2], strict=True):
        assert np.array_equal(ours, theirs)


def test_a_state_dict_is_a_copy(backend):
    net = stateful()
    values, before = net.state_dict(), net.state_dict()
    for value in values.values():
        value[...] = 7
    assert same(net.state_dict(), before)
    net.load_state_dict(values)
    run(net, numbers(5, 4))
    assert all((value == 7).all() for value in values.values())


@pytest.mark.parametrize(
    ("change", "error", "parts"),
    [
        (lambda v: v.pop("3.b"), DataError, ["'3.b'", "(2,)"]),
        (lambda v: v.pop("2.2.mean"), DataError, ["'2.2.mean'", "(1, 3)"]),
        (lambda v: v.update({"3.v": 0}), DataError, ["'3.v'", "did you mean '3."]),
        (lambda v: v.update({"3.b": np.zeros(3)}), ShapeError, ["'3.b'", "(2,)", "(3,)"]),
        (lambda v: v.update({"3.W": np.zeros((2, 3))}), ShapeError, ["'3.W'", "(3, 2)", "(2, 3)"]),
        (lambda v: v.update({"3.b": np.array(["a", "b"])}), DataError, ["'3.b'", "<U1"]),
    ],
)
def test_a_state_dict_that_does_not_fit_changes_nothing(backend, change, error, parts):
    net = stateful()
    before = net.state_dict()
    values = {name: value + 1 for name, value in before.items()}
    change(values)
    with raises(error, *parts):
        net.load_state_dict(values)
    assert same(net.state_dict(), before)


# ---- moving and copying -----------------------------------------------------------------------


@pytest.mark.parametrize("source", ["numpy", STRICT], ids=["numpy", "strict"])
def test_to_moves_everything(backend, source):
    X, dY = numbers(5, 4), numbers(5, 2)
    net, stays = (stateful(backend=source, dtype="float64", seed=4) for _ in range(2))
    optimizers = [SGD(n, 0.1, momentum=0.9) for n in (net, stays)]
    for n, optimizer in zip((net, stays), optimizers, strict=True):
        run(n, X, dY)
        optimizer.step()
    assert net.to(backend) is net
    assert net.xp is net[2].xp is net[2][1].xp is backend
    assert same(net.state_dict(), stays.state_dict())
    assert np.array_equal(host(net, net.grads), host(stays, stays.grads))
    for a in (net.params, net.grads, net[0].W, net[2][1].dW, *net[1].state.values()):
        assert backend.owns(a)
    for n, optimizer in zip((net, stays), optimizers, strict=True):  # state and optimizer go on
        run(n, X, dY)
        optimizer.step()
    after, expected = net.state_dict(), stays.state_dict()
    assert after["2.0.drawn"] == 2
    for name in after:
        assert np.allclose(after[name], expected[name], rtol=1e-12, atol=1e-14), name


def test_the_arrays_of_the_old_backend_are_refused(strict):
    net = Sequential(Linear(2, 3), backend="numpy")
    run(net, numbers(4, 2), numbers(4, 3))
    net.to(strict)
    with raises(MixedArraysError, "'strict', but X is a numpy.ndarray", "net.xp.asarray(X)"):
        net.forward(numbers(4, 2))
    net.to("numpy")
    with raises(MixedArraysError, "'numpy', but X is a strictxp.ndarray", "net.to("):
        net.forward(strictxp.asarray(numbers(4, 2)))
    run(net, numbers(4, 2))
    with raises(MixedArraysError, "dY is a strictxp.ndarray"):
        net.backward(strictxp.asarray(numbers(4, 3)))


def test_to_changes_the_dtype(backend):
    net, X = stateful(), numbers(5, 4)
    run(net, X, numbers(5, 2))
    before, grads = net.state_dict(), host(net, net.grads)
    net.to(dtype="float64")
    after = net.state_dict()
    assert {str(a.dtype) for name, a in after.items() if "2.0." not in name} == {"float64"}
    assert {str(after["2.0.key"].dtype), str(after["2.0.drawn"].dtype)} == {"uint64"}
    assert same(after, before)
    assert np.array_equal(host(net, net.grads), grads)
    assert net.dtype == net[2].dtype == net.predict(X).dtype == net[2][1].dW.dtype == np.float64
    assert same(net.to(dtype="float32").state_dict(), before)


def test_to_with_a_mistake_changes_nothing(backend):
    net, X = Sequential(Linear(2, 3), backend="numpy"), numbers(4, 2)
    Y = run(net, X)
    for move in (lambda: net.to(backend, "flaot32"), lambda: net.to("numpi")):
        with pytest.raises(XpnetError, match="did you mean"):
            move()
        assert net.xp.name == "numpy"
        assert np.array_equal(run(net, X), Y)


def test_a_copy_is_independent(backend):
    X, dY, net = numbers(5, 4), numbers(5, 2), stateful(seed=1)
    optimizer = SGD(net, 0.1)
    run(net, X, dY)
    before, twin = net.state_dict(), net.copy()
    assert same(twin.state_dict(), before)
    assert twin.xp is backend
    assert not twin.optimizers
    assert np.array_equal(host(twin, twin.grads), host(net, net.grads))
    backend.copyto(twin.params, 1.0)
    assert (host(twin, twin[2][1].W) == 1).all()  # its layers are views of its own vector
    run(twin, X, dY)
    assert same(net.state_dict(), before)
    kept = twin.state_dict()
    run(net, X, dY)
    optimizer.step()
    assert same(twin.state_dict(), kept)
    assert not same(net.state_dict(), before)


def test_a_copy_before_the_first_batch_starts_alike(backend):
    net = stateful(seed=7)
    assert same(net.copy().state_dict(), net.state_dict())


# ---- predicting -------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 2500])
def test_predict_takes_any_number_of_samples(backend, n):
    net = Sequential(Linear(3, 4), Tanh(), Linear(4, 2), dtype="float64")
    X, p = numbers(n, 3), net.state_dict()
    Y = net.predict(X)
    expected = np.tanh(X @ p["0.W"] + p["0.b"]) @ p["2.W"] + p["2.b"]
    assert type(Y) is np.ndarray
    assert Y.shape == (n, 2)
    assert np.allclose(Y, expected, rtol=1e-12, atol=1e-14)
    assert net.capacity == min(n, 1024)


def test_predict_gives_what_it_got(backend):
    net, X = Sequential(Linear(3, 2), dtype="float64"), numbers(1030, 3)
    Y = net.predict(X)
    for rows in (X.tolist(), tuple(map(tuple, X))):
        assert type(net.predict(rows)) is np.ndarray
        assert np.array_equal(net.predict(rows), Y)
    on_device = net.predict(backend.asarray(X))
    assert backend.owns(on_device)
    assert np.array_equal(host(net, on_device), Y)
    first = net.predict(backend.asarray(X[:4]))
    kept = host(net, first)
    net.predict(backend.asarray(X[4:8]))
    assert np.array_equal(host(net, first), kept)  # no view of a buffer


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
def test_numbers_of_all_kinds(backend, dtype):
    net, X = Sequential(Linear(3, 2), dtype="float64"), np.round(3 * numbers(4, 3)).astype(dtype)
    expected = net.predict(X.astype(np.float64))
    assert np.array_equal(net.predict(X), expected)
    assert np.array_equal(host(net, net.forward(backend.asarray(X))), expected)


def test_bytes_are_pixels(backend):
    net, X = Sequential(Linear(3, 2), dtype="float64"), np.array([[0, 51, 255]], np.uint8)
    expected = net.predict([[0.0, 0.2, 1.0]])
    for Y in (net.predict(X), host(net, net.predict(backend.asarray(X)))):
        assert np.allclose(Y, expected, rtol=1e-15)
    assert np.allclose(host(net, net.forward(backend.asarray(X))), expected, rtol=1e-15)


def test_predict_takes_the_arrays_of_another_backend():
    net, X = Sequential(Linear(3, 2), backend="numpy"), numbers(4, 3)
    assert np.array_equal(net.predict(strictxp.asarray(X)), net.predict(X))


@pytest.mark.parametrize("X", [[], np.zeros((0, 3)), 1.0, np.float64(1)])
def test_predict_needs_a_sample(backend, X):
    error = DataError if np.ndim(X) == 2 else ShapeError
    with raises(error, "must have the shape" if np.ndim(X) < 2 else "no values", str(np.shape(X))):
        Sequential(Linear(3, 2)).predict(X)


@pytest.mark.parametrize(
    "X", [[["a", "b"]], [["1", "2"]], [[1j, 2]], [[None, 1]], [[1, 2], [3]]], ids=str
)
def test_what_is_no_number(backend, X):
    net = Sequential(Linear(2, 3))
    for use in (net.predict, net.forward):
        with pytest.raises(DataError):
            use(X)


@pytest.mark.parametrize("dtype", ["complex64", "U1", "O"])
def test_dtypes_that_are_no_numbers_are_named(dtype):
    net, X = Sequential(Linear(2, 3), backend="numpy"), np.zeros((4, 2), dtype)
    X[:] = "x" if dtype == "O" else 0  # objects that are numbers are read as numbers
    for use in (net.predict, net.forward):
        with raises(DataError, "numbers", str(X.dtype)):
            use(X)


class Broken(Layer):
    """Raises in the middle of a network."""

    def forward(self, X):
        raise RuntimeError("out of order")


def test_predict_leaves_no_trace(backend):
    net, X = stateful(), numbers(5, 4)
    run(net, X)
    before = net.state_dict()
    Y = net.predict(X)
    assert np.array_equal(net.predict(X), Y)  # no mask is drawn
    assert same(net.state_dict(), before)
    assert all(layer.training for _, layer in net.walk(""))
    run(net, X)
    assert net.state_dict()["2.0.drawn"] == 2  # training goes on as before


def test_predict_restores_the_mode_when_a_layer_raises(backend):
    net = Sequential(Dropout(0.5), Broken())
    with pytest.raises(RuntimeError, match="out of order"):
        net.predict(numbers(5, 4))
    assert net.training
    assert net[0].training


def test_train_and_evaluating(backend):
    net, X = Sequential(Sequential(Dropout(0.5)), Tanh()), numbers(5, 40)
    modes = lambda: [net.training, *(layer.training for _, layer in net.walk(""))]  # noqa: E731
    assert all(modes())
    with net.evaluating():
        assert not any(modes())
        assert np.allclose(run(net, X), np.tanh(X), atol=1e-6)
    assert all(modes())
    net.train(False)
    with net.evaluating():
        pass
    assert not any(modes())
    net.train()
    assert all(modes())
    assert (run(net, X) == 0).any()


def test_evaluating_restores_each_layer():
    net = Sequential(Sequential(Linear(2, 2), Dropout()), BatchNorm1d(2))
    net[1].training = False  # frozen by hand
    with net.evaluating():
        pass
    assert [net[0][1].training, net[1].training] == [True, False]
    net.train(False)
    net[0].predict(numbers(3, 2))  # of a network whose outer one is at rest
    assert not net[0][1].training


# ---- batches of changing shape ----------------------------------------------------------------


def test_batches_of_changing_size(backend):
    def make():
        layers = [Linear(3, 4), GELU(), BatchNorm1d(4), Linear(4, 4), LayerNorm(4), Softmax()]
        return Sequential(*layers, dtype="float64", seed=2)

    net = make()
    for n in (2, 7, 3, 7, 8):
        X, dY = numbers(n, 3), numbers(n, 4)
        for ours, theirs in zip(run(net, X, dY)[:2], run(make(), X, dY)[:2], strict=True):
            assert np.allclose(ours, theirs, rtol=1e-12, atol=1e-15)
    assert net.capacity == 8
    buffers = [layer.Y for layer in net]
    for n in (8, 3):
        run(net, numbers(n, 3))
    assert all(layer.Y is Y for layer, Y in zip(net, buffers, strict=True))  # made once


def test_samples_of_changing_shape(backend):
    net, X = Sequential(Flatten(), Tanh(), Linear(6, 2)), numbers(5, 6)
    Y = run(net, X)
    for shape in ((2, 3), (3, 2), (6,), (1, 6, 1)):
        assert np.array_equal(run(net, X.reshape(5, *shape)), Y)
        assert net.sample_shape == shape


# ---- what a network tells about itself ----------------------------------------------------------


def test_the_hash_is_that_of_the_parameters(backend):
    net = stateful(seed=1)
    names = ["0.W", "0.b", "1.gamma", "1.beta", "2.1.W", "2.2.gamma", "2.2.beta", "3.W", "3.b"]

    def expected():
        values = net.state_dict()
        return hashlib.sha256(
            b"".join(values[k].astype("<f4").tobytes() for k in names)
        ).hexdigest()

    start = net.sha256()
    assert start == expected()
    run(net, numbers(5, 4))  # changes state, but no parameter
    assert net.sha256() == start
    for i in (0, net.size - 1):
        backend.copyto(net.params[i : i + 1], 0.25)
        assert net.sha256() == expected() != start
    assert net.sha256() == net.to("numpy").sha256()
    assert net.sha256() != net.to(dtype="float64").sha256()


def test_initial_weights_are_the_same_everywhere(backend):
    """Only exact arithmetic goes into them, so that the seed alone decides about every bit."""
    net = Sequential(Linear(2, 3), Tanh(), Linear(3, 1, init="he_uniform"))
    assert net.sha256() == "2f744c5f4ef6bb8432eb36882c8b427427c1d9d4f1dcde55ace90da3ee57b18c"


def test_the_seed_decides_about_weights_and_masks(backend):
    nets = [Sequential(Linear(2, 3), Dropout(0.5), seed=seed) for seed in (1, 1, 2)]
    hashes = [net.sha256() for net in nets]
    assert hashes[0] == hashes[1] != hashes[2]
    keys = [int(net.state_dict()["1.key"][0]) for net in nets]
    assert keys[0] == keys[1] != keys[2]


def test_summary():
    net = Sequential(Flatten(), Linear(20, 60), ReLU(), Sequential(Linear(60, 2, bias=False)))
    rows = net.summary().splitlines()
    assert [row.split() for row in rows[:3]] == [
        ["layer", "output", "parameters"],
        ["0", "Flatten()", "?", "0"],
        ["1", "Linear(20,", "60)", "60", "1,260"],
    ]
    assert len({len(row) for row in rows}) == 1  # columns stand below each other
    net.forward(np.zeros((1, 4, 5), np.float32))
    assert net.summary().split("\n") == [
        "layer                                         output  parameters",
        "0      Flatten()                                  20           0",
        "1      Linear(20, 60)                             60       1,260",
        "2      ReLU()                                     60           0",
        "3      Sequential(Linear(60, 2, bias=False))       2         120",
        "       in all                                              1,380",
    ]


def test_summary_of_images():
    net = Sequential(Tanh(), Flatten())
    net.forward(np.zeros((1, 4, 5), np.float32))
    assert "4 x 5" in net.summary()


def test_repr_reads_as_it_was_written():
    net = Sequential(Linear(2, 3), Sequential(ReLU(), Linear(3, 1, bias=False)), Dropout(0.25))
    text = "Sequential(Linear(2, 3), Sequential(ReLU(), Linear(3, 1, bias=False)), Dropout(0.25))"
    assert repr(net) == text
    assert repr(eval(text, vars(xpnet))) == text


# ---- a layer of one's own ---------------------------------------------------------------------


class Scale(Layer):
    """Y = s X, written with plain operators and the array module, as a beginner would."""

    def __init__(self, n):
        super().__init__()
        self.parameter("s", (n,), lambda random, shape: 2 + random.uniform(shape))

    def forward(self, X):
        self.X = X
        return X * self.s

    def backward(self, dY):
        self.ds[...] = self.xp.module.sum(dY * self.X, axis=0)
        return dY * self.s


def test_a_layer_of_your_own(backend):
    net = Sequential(Linear(2, 3), Scale(3), Tanh(), dtype="float64")
    X, dY = numbers(4, 2), numbers(4, 3)
    Y, grads, _ = run(net, X, dY)
    p = net.state_dict()
    H = X @ p["0.W"] + p["0.b"]
    assert ((p["1.s"] >= 2) & (p["1.s"] < 3)).all()
    assert np.allclose(Y, np.tanh(H * p["1.s"]), rtol=1e-13)
    slope = dY * (1 - Y**2)
    expected = [(X.T @ (slope * p["1.s"])).ravel(), (slope * p["1.s"]).sum(0), (slope * H).sum(0)]
    assert np.allclose(grads, np.concatenate(expected), rtol=1e-12, atol=1e-14)
    assert net.size == 12
    SGD(net, 0.5).step()
    assert np.allclose(net.state_dict()["1.s"], p["1.s"] - 0.5 * expected[2], rtol=1e-13)


def test_a_layer_may_bring_a_fusion_of_its_own():
    class Both:
        def __init__(self, first, second):
            self.first, self.second = first, second
            assert first.Y.shape == (4, 5)  # both have been built

        def forward(self, X):
            return self.second.forward(self.first.forward(X))

        def backward(self, dY):
            return self.first.backward(self.second.backward(dY))

    class Mine(xpnet.Linear):
        def followed_by(self, layer):
            asked.append(layer)
            return Both(self, layer) if type(layer) is xpnet.GELU else super().followed_by(layer)

    asked = []
    X, dY = np.random.default_rng(0).normal(size=(4, 3)), np.ones((4, 2))
    found = {}
    for kind in (Mine, xpnet.Linear):
        layers = [kind(3, 5), xpnet.GELU(), kind(5, 2), xpnet.ReLU(), kind(2, 2)]
        net = xpnet.Sequential(*layers, seed=1, dtype="float64")
        net.forward(X)
        net.backward(dY)
        found[kind] = net.predict(X), np.array(net.grads)
        if kind is Mine:
            assert [type(layer) for layer in asked[:2]] == [xpnet.GELU, xpnet.ReLU]
    for mine, wanted in zip(*found.values(), strict=True):
        assert np.abs(mine - wanted).max() < 1e-15
