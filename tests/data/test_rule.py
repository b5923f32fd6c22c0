"""One rule for what data mean: every door sees the same numbers, or refuses with the same words."""

from __future__ import annotations

import tempfile
import warnings
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.plots import numbers
from xpnet.runs.problems import PROBLEMS
from xpnet.verify.gradcheck import _converted

pandas = pytest.importorskip("pandas", reason="pandas is not installed, whose frames are read")
sklearn = pytest.importorskip("sklearn", reason="scikit-learn is not installed: estimators")
try:
    import polars
except ImportError:
    polars = None
try:
    import torch
except ImportError:
    torch = None

FEATURES = 3
WHOLE = ("?", "u1", "i1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", ">u8")
FLOATING = ("<f2", "<f4", ">f4", "<f8", ">f8", np.longdouble)


# ---- arrays of all kinds ------------------------------------------------------------------------


@st.composite
def arrays(draw, dtypes=(*WHOLE, *FLOATING)):
    """Numbers of all types, in all layouts that memory can have."""
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    n = draw(st.integers(1, 5))
    low, high = {"b": (0, 1), "u": (0, 255), "i": (-128, 127), "f": (-900, 900)}[dtype.kind]
    values = draw(st.lists(st.integers(low, high), min_size=3 * n, max_size=3 * n))
    a = (np.array(values) / (8 if dtype.kind == "f" else 1)).astype(dtype).reshape(n, FEATURES)
    return draw(st.sampled_from(LAYOUTS))(a)


def _every_second(a):
    wide = np.zeros((2 * len(a), 2 * FEATURES), a.dtype)
    wide[::2, 1::2] = a
    return wide[::2, 1::2]


def _read_only(a):
    a.flags.writeable = False
    return a


LAYOUTS = [
    lambda a: a,
    np.asfortranarray,
    lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    _every_second,
    _read_only,
    lambda a: np.broadcast_to(a[:1], a.shape),
]


def _mapped(a):
    with tempfile.TemporaryFile() as file:
        mapped = np.memmap(file, a.dtype, "w+", shape=a.shape)
    mapped[:] = a
    return mapped


def _matrix(a):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingDeprecationWarning)
        return np.matrix(a)


def _native(a):
    """The same numbers as other libraries take them."""
    a = a.astype(np.float64) if a.dtype == np.longdouble else a
    return np.array(a, a.dtype.newbyteorder("="))


def _tensor(a):
    return torch.from_numpy(_native(a).copy())


def _nullable(a):
    a = _native(a)
    if a.dtype == np.float16:
        a = a.astype(np.float32)
    return pandas.DataFrame({f"x{k}": pandas.array(a[:, k], dtype=_name(a)) for k in range(3)})


def _name(a):
    words = {"bool": "boolean"}
    return words.get(a.dtype.name, a.dtype.name.capitalize().replace("Ui", "UI"))


def _mixed(a):
    """A frame whose columns have several types; a column of uint8 is among them if it can be."""
    a = _native(a)
    frame = pandas.DataFrame({"a": a[:, 0], "b": a[:, 1].astype(np.float64), "c": a[:, 2]})
    return frame.astype({"c": object}) if a.dtype.kind == "f" else frame


def _class(a):
    class WithArray:
        def __array__(self, dtype=None, copy=None):
            return np.array(a, dtype)

    return WithArray()


# Each keeps the type uint8, which means pixels then; the others have no such type.
AS_ARRAYS = {
    "array": lambda a: a,
    "list of rows": list,
    "tuple of rows": tuple,
    "list of lists of numbers": lambda a: [list(row) for row in a],
    "map": _mapped,
    "matrix": _matrix,
    "without a masked value": lambda a: np.ma.masked_array(a, np.zeros(a.shape, bool)),
    "with __array__": _class,
    "on the device": lambda a: xpnet.get_backend().asarray(_native(a)),
}
AS_NUMBERS = {
    "lists": lambda a: _native(a).tolist(),
    "objects": lambda a: np.asarray(a).astype(object),
    "frame": lambda a: pandas.DataFrame(_native(a)),
    "frame, other rows": lambda a: pandas.DataFrame(_native(a), index=range(len(a), 0, -1)),
    "frame, mixed": _mixed,
    "frame, nullable": _nullable,
    "frame, objects": lambda a: pandas.DataFrame(_native(a)).astype(object),
}
if torch is not None:
    AS_ARRAYS["tensor"] = _tensor
    AS_ARRAYS["list of tensors"] = lambda a: list(_tensor(a))
if polars is not None:
    AS_NUMBERS["polars"] = lambda a: polars.DataFrame(
        _native(a), schema=["a", "b", "c"], orient="row"
    )
CONTAINERS = AS_ARRAYS | AS_NUMBERS


def seen(a, container):
    """What a network must see: the rule of docs/data.md, written down a second time."""
    numbers = np.asarray(a).astype(np.float64)
    return numbers / 255 if a.dtype == np.uint8 and container in AS_ARRAYS else numbers


# ---- the doors ----------------------------------------------------------------------------------


@cache
def network(backend):
    """A network that gives back what it sees."""
    net = xpnet.Sequential(xpnet.Linear(FEATURES, FEATURES), dtype="float64", backend=backend)
    net.load_state_dict({"0.W": np.eye(FEATURES), "0.b": np.zeros(FEATURES)})
    return net


def first_batch(X, n):
    """What the first step of a training computes with."""
    net = network(xpnet.get_backend()).copy()
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=1e-9))
    trainer.fit(X, np.zeros((n, FEATURES)), epochs=1, batch_size=None)
    return net.xp.asnumpy(trainer.loss.Y)


def evaluated(X, n):
    """What an evaluation gives to the metrics."""
    found = []
    keep = SimpleNamespace(__name__="keep")
    trainer = xpnet.Trainer(network(xpnet.get_backend()), "mse")
    trainer.metrics = {keep.__name__: lambda t, Y: found.append(Y) or 0.0}
    trainer.evaluate(X, np.zeros((n, FEATURES)))
    return found[0]


def validated(X, n):
    """The same in a training, by way of the validation data."""
    found = []
    net = network(xpnet.get_backend()).copy()
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=1e-300))
    trainer.metrics = {"keep": lambda t, Y: found.append(Y) or 0.0}
    t = np.zeros((n, FEATURES))
    one = np.zeros((1, FEATURES))
    trainer.fit(one, one, epochs=1, validation_data=(X, t))
    return found[0]


def estimator():
    from xpnet.estimators import MLPRegressor

    return MLPRegressor(
        "squared_error", (), "identity", max_iter=1, random_state=0, alpha=0, solver="sgd"
    )


@cache
def identity():
    """An estimator that gives back what it sees."""
    model = estimator().fit(np.eye(FEATURES), np.eye(FEATURES))
    model.coefs_, model.intercepts_ = [np.eye(FEATURES)], [np.zeros(FEATURES)]
    return model


def fitted(X, n):
    """What an estimator sees in fit, by its column means in the first gradient of b = 0, W = 0."""
    model = estimator().set_params(warm_start=True, learning_rate_init=1.0, momentum=0.0)
    y = np.ones((n, FEATURES))
    model.fit(X, y)
    model.coefs_ = [np.zeros_like(W) for W in model.coefs_]
    model.intercepts_ = [np.zeros_like(b) for b in model.intercepts_]
    model.fit(X, y)
    return model.coefs_[0]  # = Xᵀ 1 / n


def checked(X):
    xp = xpnet.get_backend()
    return xp.asnumpy(_converted(xp, X, "float64"))


DOORS = {
    "fit": first_batch,
    "evaluate": evaluated,
    "validation": validated,
    "predict": lambda X, n: network(xpnet.get_backend()).predict(X),
    "estimator": lambda X, n: identity().predict(X),
    "pictures": lambda X, n: numbers.outputs(network(xpnet.get_backend()), X),
    "boundary": lambda X, n: numbers.as_seen(X),
    "gradcheck": lambda X, n: checked(X),
}


QUIET = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:X has feature names"
)
EXAMPLES = settings(
    max_examples=34,  # on three backends
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def host(a):
    return np.asarray(a.get() if hasattr(a, "get") else a, np.float64)


@QUIET
@EXAMPLES
@given(a=arrays(), container=st.sampled_from(sorted(CONTAINERS)))
def test_every_door_sees_the_same_numbers(backend, a, container):
    X, expected = CONTAINERS[container](a), seen(a, container)
    for door, look in DOORS.items():
        found = host(look(X, len(a)))
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=0, err_msg=door)
    means = np.repeat(expected.mean(axis=0)[:, None], FEATURES, axis=1)
    np.testing.assert_allclose(fitted(X, len(a)), means, rtol=1e-5, atol=1e-6)


@EXAMPLES
@given(a=arrays(("u1", "i1", ">i2", ">i4", ">f4", ">f8")), packed=st.booleans())
def test_the_command_line_sees_what_is_in_the_files(backend, a, packed):
    end = ".gz" if packed else ""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "t10k"):
            xpnet.data.write_idx(f"{folder}/{part}-images-idx2-any{end}", a)
            xpnet.data.write_idx(f"{folder}/{part}-labels-idx1-ubyte", np.zeros(len(a), np.uint8))
        X = PROBLEMS["mnist"].load(0, folder).train[0]
    np.testing.assert_allclose(first_batch(X, len(a)), seen(a, "array"), rtol=1e-14, atol=0)


# ---- refusals -----------------------------------------------------------------------------------

NAN, INF, HOLE, WORD, COMPLEX, DATE = range(6)
IN_ARRAYS, IN_OBJECTS = (NAN, INF), (HOLE, WORD, COMPLEX, DATE)


@st.composite
def bad(draw):
    """Data with something wrong in one place."""
    a = np.array(draw(arrays(("<f4", "<f8", ">f8"))), np.float64)
    row, column = draw(st.integers(0, len(a) - 1)), draw(st.integers(0, FEATURES - 1))
    kind = draw(st.sampled_from((NAN, INF, HOLE, WORD, COMPLEX, DATE, "mask", "shape", "type")))
    if kind in IN_ARRAYS:
        a[row, column] = np.nan if kind == NAN else np.inf
        return CONTAINERS[draw(st.sampled_from(sorted(CONTAINERS)))](a)
    if kind in IN_OBJECTS:
        a = a.astype(object)
        wrong = {HOLE: None, WORD: "3", COMPLEX: 1j, DATE: np.datetime64("2026-01-01")}[kind]
        if kind == HOLE:
            wrong = draw(st.sampled_from((None, pandas.NA, pandas.NaT, np.datetime64("nat"))))
        a[row, column] = wrong
        return draw(st.sampled_from((lambda a: a, lambda a: a.tolist(), pandas.DataFrame)))(a)
    if kind == "mask":
        mask = np.zeros(a.shape, bool)
        mask[row, column] = True
        masked = np.ma.masked_array(a, mask)
        return draw(st.sampled_from((lambda m: m, list, lambda m: m.astype(object))))(masked)
    if kind == "shape":
        return draw(st.sampled_from((a[0], a[0, 0], a[:0], a[:, :0], a[:0, :0], [], [[]])))
    wrong = [
        a.astype(str), a + 0j, a.astype("M8[s]"), a.astype("m8[s]"), None, "words", {"a": a[:, 0]},
        (row for row in a), a[:, 0].astype([("x", "f8")]), pandas.DataFrame(a).astype("category"),
        pandas.Categorical([1, 2]), [[1, 2, 3], [4, 5]], {1, 2, 3}, iter([1.0]), object(),
    ]  # fmt: skip
    return draw(st.sampled_from(wrong))


def refusal(look, X, n):
    """The class and the words of a refusal."""
    with pytest.raises(xpnet.XpnetError) as caught:
        look(X, n)
    words = str(caught.value).removeprefix("validation_data: ").partition("; ")[0]
    return caught.type, words


@QUIET
@EXAMPLES
@given(X=bad())
def test_every_door_refuses_with_the_same_words(backend, X):
    n = len(X) if isinstance(X, list) or getattr(X, "ndim", 0) else 1
    found = {
        door: refusal(look, X, n) for door, look in (DOORS | {"fit, estimator": fitted}).items()
    }
    assert len(set(found.values())) == 1, found
    error, words = found["fit"]
    assert issubclass(error, xpnet.DataError | xpnet.ShapeError)
    assert words.startswith("X")
