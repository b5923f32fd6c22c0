"""What holds for any data, however they lie in memory, and for every layer and every loss.

``XPNET_EXAMPLES=20000`` tries so many examples of each property; the suite tries few, always the
same.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xpnet
from xpnet.backend import find_backend
from xpnet.losses import LOSSES

EXAMPLES = int(os.environ.get("XPNET_EXAMPLES", "0"))
WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
KINDS = (*WHOLE, "float16", "float32", "float64", "bool")
LAYOUTS = ("C", "F", "reversed", "gaps", "big-endian", "read-only", "unaligned", "list")
NATIVE = [layout for layout in LAYOUTS if layout not in ("big-endian", "list")]
LAYERS = {
    "linear": lambda: (xpnet.Linear(3, 2),),
    "no bias": lambda: (xpnet.Linear(3, 2, bias=False),),
    "fused": lambda: (xpnet.Linear(3, 4), xpnet.ReLU(), xpnet.Linear(4, 2), xpnet.Tanh()),
    "relu": lambda: (xpnet.ReLU(),),
    "leaky_relu": lambda: (xpnet.LeakyReLU(0.1),),
    "sigmoid": lambda: (xpnet.Sigmoid(),),
    "tanh": lambda: (xpnet.Tanh(),),
    "gelu": lambda: (xpnet.GELU(),),
    "softmax": lambda: (xpnet.Softmax(),),
    "dropout": lambda: (xpnet.Dropout(0.5),),
    "batch_norm": lambda: (xpnet.BatchNorm1d(3),),
    "layer_norm": lambda: (xpnet.LayerNorm(3),),
    "identity": lambda: (xpnet.Identity(), xpnet.Flatten()),
    "nested": lambda: (xpnet.Sequential(xpnet.Linear(3, 3), xpnet.Sigmoid()), xpnet.Linear(3, 2)),
}
BACKENDS = [
    pytest.param(("numpy", False), id="numpy"),
    pytest.param(("numpy", True), id="reproducible"),
    pytest.param(("numba", False), id="numba", marks=pytest.mark.numba),
]
every_layer = pytest.mark.parametrize("name", LAYERS)
every_loss = pytest.mark.parametrize("loss", LOSSES)
every_backend = pytest.mark.parametrize("place", BACKENDS)


def examples(few, *strategies, **named):
    """Decorate a property: so many examples in the suite, or as many as the environment says."""
    options = settings(
        max_examples=EXAMPLES or few,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    return lambda test: options(given(*strategies, **named)(test))


# ---- data ----------------------------------------------------------------------------------------


@st.composite
def numbers(draw, shape, kinds=KINDS, largest=8):
    """Return a plain array of some type; its numbers are of moderate size."""
    dtype = np.dtype(draw(st.sampled_from(kinds)))
    if dtype.kind == "f":
        # without -0, which reproducible mode makes +0 wherever it copies
        elements = st.floats(-largest, largest, width=16).map(lambda x: x + 0.0)
    elif dtype.kind == "b":
        elements = st.booleans()
    else:
        elements = st.integers(0 if dtype.kind == "u" else -largest, largest)
    return draw(hnp.arrays(dtype, shape, elements=elements))


def laid_out(a, layout):
    """Return the same numbers, lying otherwise in memory."""
    if layout == "F":
        return np.asfortranarray(a)
    if layout == "reversed":
        return np.flip(np.flip(a).copy())
    if layout == "gaps":
        large = np.zeros([2 * side + 1 for side in a.shape], a.dtype)
        places = tuple(slice(1, None, 2) for _ in a.shape)
        large[places] = a
        return large[places]
    if layout == "big-endian":
        return a.astype(a.dtype.newbyteorder(">"))
    if layout == "unaligned":
        return np.ndarray(a.shape, a.dtype, bytearray(b"\0" + a.tobytes()), offset=1)
    if layout == "read-only":
        a = a.copy()
        a.flags.writeable = False
        return a
    return a.tolist() if layout == "list" else a


def pair(draw, a, layouts=LAYOUTS):
    """Return numbers in some layout, and as a plain array."""
    first, second = draw(st.sampled_from(LAYOUTS[:-1])), draw(st.sampled_from(layouts))
    odd = laid_out(laid_out(a, first), second)
    return odd, (np.array(odd) if isinstance(odd, list) else a)


def snapshot(a):
    return repr(a) if isinstance(a, list) else (a.tobytes(), a.dtype, a.shape, a.strides)


def bits(net):
    return {name: a.tobytes() for name, a in net.state_dict().items()}


def same_or_refused(function, *pairs):
    """See that a function does the same with both of each pair, and leaves them as they are.

    Both may be refused, by an error of the library. Returns what the function gives.
    """
    results = []
    for arrays in ([pair[k] for pair in pairs] for k in range(2)):
        before = [snapshot(a) for a in arrays]
        try:
            results.append(function(*arrays))
        except xpnet.XpnetError as error:
            results.append(type(error))
        assert [snapshot(a) for a in arrays] == before
    assert results[0] == results[1]
    return results[1]


def network(name, place, dtype="float32", **options):
    dtype = "float32" if place[1] else dtype
    return xpnet.Sequential(*LAYERS[name](), dtype=dtype, backend=find_backend(*place), **options)


sides = st.integers(0, 5)
dtypes = st.sampled_from(["float32", "float64"])


@pytest.mark.thorough(but=["*-numpy"])
@every_backend
@every_layer
@examples(30, data=st.data())
def test_predict_takes_numbers_as_they_lie(name, place, data):
    shape = data.draw(sides), data.draw(st.sampled_from([3, 3, 3, 0, 1]))
    odd, plain = pair(data.draw, data.draw(numbers(shape)))
    net = network(name, place, data.draw(dtypes))
    found = same_or_refused(lambda X: net.predict(X).tobytes(), (odd, plain))
    if isinstance(found, bytes) and not (plain.dtype == np.uint8 and place[1]):
        X = plain.astype(net.dtype)
        X = X / net.dtype.type(255) if plain.dtype == np.uint8 else X
        assert net.predict(X).tobytes() == found


@pytest.mark.thorough(but=["*-numpy"])
@every_backend
@every_layer
@examples(15, data=st.data())
def test_forward_and_backward_take_numbers_as_they_lie(name, place, data):
    kind = data.draw(dtypes)
    net = network(name, place, kind, seed=data.draw(st.integers(0, 3)))
    net.input_gradient = True
    n = data.draw(st.integers(2 if name == "batch_norm" else 1, 5))
    shape = net.predict(np.zeros((n, 3))).shape
    X = pair(data.draw, data.draw(numbers((n, 3))))
    dY = pair(data.draw, data.draw(numbers(shape)), LAYOUTS[:-1])
    start = net.state_dict()

    def step(X, dY):
        net.load_state_dict(start)
        Y = net.forward(X).tobytes()
        return Y, net.backward(dY).tobytes(), net.grads.tobytes(), bits(net)

    assert isinstance(same_or_refused(step, X, dY), tuple)


@st.composite
def targets(draw, loss, n, width):
    """Return targets that a loss takes, or nearly."""
    if "cross" in loss and draw(st.booleans()):
        return draw(numbers((n,), WHOLE, width - 1))
    if "cross" in loss:
        return np.eye(width)[draw(numbers((n,), ["uint8"], width - 1))]
    return draw(numbers((n, width), largest=1))


@pytest.mark.thorough(but=["*-numpy"])
@every_backend
@every_loss
@examples(20, data=st.data())
def test_fit_takes_numbers_as_they_lie(loss, place, data):
    n, width = data.draw(sides), data.draw(st.integers(1, 3))
    X = pair(data.draw, data.draw(numbers((n, 2))))
    t = pair(data.draw, data.draw(targets(loss, n, width)))
    w = pair(data.draw, data.draw(numbers((n,), largest=3)))
    weighted, size = data.draw(st.booleans()), data.draw(st.sampled_from([1, 2, None]))
    last = xpnet.Sigmoid if loss in ("bce", "cross_entropy") else xpnet.Identity

    def fit(X, t, w):
        net = xpnet.Sequential(xpnet.Linear(2, width), last(), backend=find_backend(*place))
        trainer, weights = xpnet.Trainer(net, loss, "sgd"), w if weighted else None
        options = {"epochs": 2, "batch_size": size, "validation_data": (X, t)}
        trainer.fit(X, t, sample_weight=weights, **options)
        return bits(net), dict(trainer.history)

    same_or_refused(fit, X, t, w)


@pytest.mark.thorough(but=["*-numpy"])
@every_backend
@every_loss
@examples(20, data=st.data())
def test_losses_take_numbers_as_they_lie(loss, place, data):
    n, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    kind = "float32" if place[1] else data.draw(dtypes)
    outputs = np.abs(data.draw(numbers((n, width), [kind], 1)))
    Y = laid_out(outputs, data.draw(st.sampled_from(NATIVE))), outputs
    t = pair(data.draw, data.draw(targets(loss, n, width)))

    def value(Y, t):
        made = LOSSES[loss]()
        made.use(find_backend(*place))
        L = made.forward(Y, t)
        return L.tobytes(), made.backward().tobytes()

    same_or_refused(value, Y, t)


@every_backend
@every_layer
@examples(10, data=st.data())
def test_values_are_loaded_as_they_lie(name, place, data):
    net = network(name, place, data.draw(dtypes))
    names = list(net.state_dict())
    values = [pair(data.draw, data.draw(numbers(a.shape))) for a in net.state_dict().values()]

    def load(*values):
        net.load_state_dict(dict(zip(names, values, strict=True)))
        return bits(net)

    pairs = [(a, plain) for a, (_, plain) in zip(net.state_dict().values(), values, strict=True)]
    with np.errstate(all="ignore"):  # a counter takes whole numbers only
        fit = all(
            a.dtype.kind == "f" or np.array_equal(plain.astype(a.dtype), plain)
            for a, plain in pairs
        )
    assert isinstance(same_or_refused(load, *values), dict) == fit
    for a, plain in zip(net.state_dict().values(), [p for _, p in pairs] * fit, strict=fit):
        assert np.array_equal(a, plain.astype(a.dtype))


@pytest.mark.thorough(but=["numpy"])
@every_backend
@examples(100, data=st.data())
def test_any_shape_is_taken_or_refused(place, data):
    """Inputs, targets and weights with sides 0 and 1, and numbers without a shape."""
    shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
    X, t, w = (data.draw(numbers(data.draw(shapes))) for _ in range(3))
    loss = data.draw(st.sampled_from(sorted(LOSSES)))
    layers = (xpnet.Flatten(), xpnet.Linear(3, 2)), (xpnet.Linear(1, 1),), (xpnet.Softmax(),)
    net = xpnet.Sequential(*data.draw(st.sampled_from(layers)), backend=find_backend(*place))
    trainer = xpnet.Trainer(net, loss)

    def use(call):
        try:
            return call()
        except xpnet.XpnetError:
            return None

    Y = use(lambda: net.predict(X))
    assert Y is None or len(Y) == len(X)
    use(lambda: trainer.fit(X, t, epochs=1, sample_weight=data.draw(st.sampled_from([w, None]))))
    use(lambda: trainer.evaluate(X, t))
    use(lambda: net.forward(X))
    use(lambda: net.load_state_dict(dict.fromkeys(net.state_dict(), X)))


# ---- what the formulas say -----------------------------------------------------------------------


halves = st.integers(-8, 8).map(lambda k: k / 4)  # sums and products of such are exact


def grid(shape):
    return hnp.arrays(np.float64, shape, elements=halves)


@examples(100, data=st.data())
def test_linear_is_linear(data):
    X, Z, a = data.draw(grid((3, 4))), data.draw(grid((3, 4))), data.draw(halves)
    net = xpnet.Sequential(xpnet.Linear(4, 2, bias=False), dtype="float64")
    net.load_state_dict({"0.W": data.draw(grid((4, 2)))})
    assert np.array_equal(net.predict(a * X + Z), a * net.predict(X) + net.predict(Z))


@every_backend
@examples(100, data=st.data())
def test_softmax_does_not_see_a_shift(place, data):
    net = network("softmax", place, "float64")
    X, shift = data.draw(grid((4, 3))), data.draw(hnp.arrays(np.float64, (4, 1), elements=halves))
    Y = net.predict(X)
    assert np.array_equal(net.predict(X + shift), Y)
    assert np.allclose(Y.sum(axis=1), 1, rtol=0, atol=1e-6)
    order = np.argsort(data.draw(st.permutations(range(3))))
    assert np.allclose(net.predict(X[:, order]), Y[:, order], rtol=1e-6)


@every_backend
@examples(50, data=st.data())
def test_a_normalised_batch_has_mean_0_and_variance_1(place, data):
    n, eps = data.draw(st.integers(2, 6)), 1e-5
    X = data.draw(grid((n, 3)))
    for name, axis in (("batch_norm", 0), ("layer_norm", 1)):
        net = network(name, place, "float64")
        Y = net.forward(net.xp.asarray(X, net.dtype))
        variance = X.var(axis=axis)
        assert np.allclose(Y.mean(axis=axis), 0, atol=1e-5)
        assert np.allclose(Y.var(axis=axis), variance / (variance + eps), atol=1e-5)
    running = network("batch_norm", place, "float64")
    running.forward(running.xp.asarray(X, running.dtype))
    state = running.state_dict()
    assert np.allclose(state["0.mean"], 0.1 * X.mean(axis=0), atol=1e-6)
    assert np.allclose(state["0.variance"], 0.9 + 0.1 * X.var(axis=0), atol=1e-6)


@pytest.mark.thorough(but=["*-numpy"])
@every_backend
@every_layer
@examples(15, data=st.data())
def test_at_rest_each_sample_is_on_its_own(name, place, data):
    """The order of the samples does not matter, nor do the samples beside one."""
    n = data.draw(st.integers(1, 6))
    X = data.draw(grid((n, 3)))
    net = network(name, place, "float64", seed=1)
    Y, order = net.predict(X), np.array(data.draw(st.permutations(range(n))))
    close = np.array_equal if place[1] else lambda a, b: np.allclose(a, b, rtol=1e-14, atol=1e-15)
    assert close(net.predict(X[order]), Y[order])
    assert close(net.predict(X[:1]), Y[:1])


@pytest.mark.thorough(but=["*-numpy"])
@every_backend
@every_loss
@examples(20, data=st.data())
def test_a_loss_is_a_weighted_mean_over_samples(loss, place, data):
    n = data.draw(st.integers(1, 6))
    kind = "float32" if place[1] else "float64"
    Y = data.draw(hnp.arrays(kind, (n, 3), elements=st.integers(1, 7).map(lambda k: k / 8)))
    t = np.eye(3, dtype=kind)[data.draw(hnp.arrays(np.int64, (n,), elements=st.integers(0, 2)))]
    w = data.draw(hnp.arrays(kind, (n,), elements=st.integers(1, 4)))
    order = np.array(data.draw(st.permutations(range(n))))

    def both(Y, t, w=None):
        made = LOSSES[loss]()
        made.use(find_backend(*place))
        return float(made.forward(Y, t, w)), np.array(made.backward())

    def close(a, b):
        bound = 1e-5 if place[1] else 1e-12
        return all(np.allclose(x, y, bound, bound / 100) for x, y in zip(a, b, strict=True))

    L, dY = both(Y, t)
    permuted = both(Y[order], t[order])
    assert close(permuted, (L, dY[order]))
    assert close(both(Y, t, np.ones(n, kind)), (L, dY))
    weighted = both(Y, t, w)
    assert close(both(Y, t, 4 * w), weighted)
    repeated = np.repeat(np.arange(n), w.astype(int))
    L, dY = both(Y[repeated], t[repeated])
    total = np.zeros_like(Y)
    np.add.at(total, repeated, dY)
    assert close((L, total), weighted)
