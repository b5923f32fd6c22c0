"""Frames and series of pandas and polars are data like arrays, or an error that names a column."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.support.checks import on_host

pandas = pytest.importorskip("pandas", reason="pandas is not installed, whose frames are read")
try:
    import polars
except ImportError:
    polars = None

needs_polars = pytest.mark.skipif(
    polars is None, reason="polars is not installed: pip install polars"
)


def of_polars(make, *more):
    """Return the parameters of a test, or of one that is skipped without polars.

    ``make`` makes a frame or a series of polars.
    """
    return pytest.param(polars and make(), *more, marks=needs_polars)


RANDOM = np.random.default_rng(0)
COLUMNS = {"a": RANDOM.normal(size=24), "b": np.arange(24) % 5, "c": np.arange(24) % 3 == 0}
X = np.stack([COLUMNS[name].astype(np.float64) for name in COLUMNS], axis=1)
LABELS, NUMBERS = np.arange(24) % 4, RANDOM.normal(size=24)
WEIGHTS = np.linspace(0.5, 1.5, 24)


def nullable(columns):
    types = {"f": "Float64", "i": "Int64", "b": "boolean"}
    return pandas.DataFrame(
        {name: pandas.array(a, types[a.dtype.kind]) for name, a in columns.items()}
    )


FRAMES = {
    "pandas": (pandas.DataFrame, pandas.Series),
    "pandas, nullable": (nullable, lambda a: nullable({"a": a})["a"]),
    "pandas, another index": (
        lambda columns: pandas.DataFrame(columns, index=range(24, 0, -1)),
        lambda a: pandas.Series(a, index=range(24, 0, -1)),
    ),
    "polars": polars and (polars.DataFrame, polars.Series),
}


@pytest.fixture(
    params=[pytest.param(name, marks=needs_polars) if name == "polars" else name for name in FRAMES]
)
def kind(request):
    return FRAMES[request.param]


# ---- frames as data -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "t", "outputs"),
    [("softmax_cross_entropy", LABELS, 4), ("mse", NUMBERS, 1), ("mse", X[:, :2], 2)],
    ids=["labels", "numbers", "two numbers"],
)
def test_they_are_trained_from_as_arrays_are(kind, loss, t, outputs, backend):
    frame, series = kind
    t_ = series(t) if t.ndim == 1 else frame({"y": t[:, 0], "z": t[:, 1]})
    forms = [(X, t, WEIGHTS), (frame(COLUMNS), t_, series(WEIGHTS))]
    if loss == "mse" and t.ndim == 1:
        forms.append((frame(COLUMNS), frame({"y": t}), frame({"w": WEIGHTS})))
    found = []
    for X_, t_, w_ in forms:
        net = xpnet.Sequential(xpnet.Linear(3, outputs), dtype="float64")
        trainer = xpnet.Trainer(net, loss)
        trainer.fit(X_, t_, epochs=2, sample_weight=w_, validation_data=(X_, t_))
        found.append((net.sha256(), trainer.evaluate(X_, t_), net.predict(X_).tolist()))
    assert all(other == found[0] for other in found)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (pandas.DataFrame({"a": [1, 2], "b": [3, 4]}), np.array([[1, 3], [2, 4]])),
        (pandas.DataFrame(np.ones((2, 3), np.uint8)), np.ones((2, 3), np.int16)),  # no pixels
        (pandas.Series([200], dtype="uint8"), np.array([200], np.int16)),
        (pandas.DataFrame({"a": [1, 2]}, dtype=object), np.array([[1], [2]])),
        (pandas.DataFrame({"a": [1, 2.5], "b": [True, False]}, dtype=object),
         np.array([[1, 1], [2.5, 0]])),
        (pandas.DataFrame([[1.5, 2]], columns=["a", "a"]), np.array([[1.5, 2.0]])),
        (pandas.DataFrame({("a", 1): [1.5], ("a", 2): [2]}), np.array([[1.5, 2.0]])),
        (pandas.DataFrame({"a": [True], "b": [2]}), np.array([[1, 2]])),
        (pandas.DataFrame({"a": pandas.array([1.5], "Float32")}), np.array([[1.5]], np.float32)),
        (pandas.DataFrame({"a": pandas.arrays.SparseArray([0.0, 1.5])}), np.array([[0.0], [1.5]])),
        (pandas.DataFrame(index=[1, 2]), np.zeros((2, 0))),
        (pandas.DataFrame({"a": [], "b": []}, dtype="float32"), np.zeros((0, 2), np.float32)),
        (pandas.Series([2**53 + 1], dtype="Int64"), np.array([2**53 + 1])),
        (pandas.Index([1, 2]), np.array([1, 2])),
        of_polars(lambda: polars.DataFrame({"a": [1, 2], "b": [3, 4]}), np.array([[1, 3], [2, 4]])),
        of_polars(lambda: polars.DataFrame(np.ones((2, 3), np.uint8)), np.ones((2, 3), np.int16)),
        of_polars(lambda: polars.DataFrame({"a": [True], "b": [2]}), np.array([[1, 2]])),
        of_polars(lambda: polars.Series([[1, 2], [3, 4]], dtype=polars.Array(polars.Int8, 2)),
         np.array([[1, 2], [3, 4]], np.int8)),
        of_polars(lambda: polars.DataFrame(schema={"a": polars.Float32}),
         np.zeros((0, 1), np.float32)),
    ],
)  # fmt: skip
def test_they_become_the_array_that_they_hold(frame, expected):
    found = on_host(frame, "X")
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert np.array_equal(found, expected, equal_nan=expected.dtype.kind == "f")


def test_a_frame_of_one_type_is_not_copied():
    a = np.zeros((4, 3), np.float32)
    assert np.shares_memory(on_host(pandas.DataFrame(a, copy=False), "X"), a)


def test_an_array_like_a_frame_in_pandas_wide_format_keeps_the_order_of_its_columns():
    frame = pandas.DataFrame(X, columns=["z", "a", "m"])
    assert np.array_equal(on_host(frame, "X"), X)


# ---- what is no number, or missing --------------------------------------------------------------

NOT_NUMBERS = {
    "words": (pandas.DataFrame({"a": [1.0], "b": ["x"]}), "'b' must hold numbers; got the dtype"),
    "objects": (
        pandas.DataFrame({"a": [1.0, 2.0], "b": [1, None]}, dtype=object),
        r"'b' has no value in row 1; fill it in, or drop the row",
    ),
    "words among objects": (
        pandas.DataFrame({"a": [1.0, 2.0], "b": [1, "x"]}, dtype=object),
        "'b' must hold numbers; got the dtype .*, first value .*'x'",
    ),
    "NaN": (pandas.DataFrame({"a": [1.0, np.nan]}), "'a' has no value in row 1"),
    "infinite": (
        pandas.DataFrame({"a": [1.0, -np.inf]}),
        "'a' must be finite; row 1 is -inf; replace it, or drop the row",
    ),
    "categories": (
        pandas.DataFrame({"a": [1.0], "b": pandas.Categorical([3])}),
        "'b' must hold numbers; got the dtype category",
    ),
    "dates": (
        pandas.DataFrame({"a": pandas.to_datetime(["2026-01-01"])}),
        r"'a' must hold numbers; got the dtype datetime64\[\w+\]",
    ),
    "complex": (pandas.DataFrame({"a": [1j]}), "'a' must hold numbers; got the dtype complex128"),
    "missing": (
        pandas.DataFrame({"a": pandas.array([1, 2, None], "Int64"), "b": [1.0, 2.0, 3.0]}),
        "'a' has no value in row 2; fill it in, or drop the row",
    ),
    "missing, floating": (
        pandas.DataFrame({"a": pandas.array([None, 2], "Float64")}),
        "'a' has no value in row 0",
    ),
    "missing, True or False": (
        pandas.DataFrame({"a": pandas.array([True, None], "boolean")}),
        "'a' has no value in row 1",
    ),
    "polars, words": of_polars(
        lambda: polars.DataFrame({"a": [1.0], "b": ["x"]}),
        "'b' must hold numbers; got the dtype .*, first value .*'x'",
    ),
    "polars, categories": of_polars(
        lambda: polars.DataFrame({"a": polars.Series(["x"], dtype=polars.Categorical)}),
        "'a' must hold numbers",
    ),
    "polars, lists": of_polars(
        lambda: polars.DataFrame({"a": [[1.0], [2.0, 3.0]]}), "'a' must hold numbers"
    ),
    "polars, missing": of_polars(
        lambda: polars.DataFrame({"b": [1.0, 2.0], "a": [1, None]}),
        "'a' has no value in row 1; fill it in, or drop the row",
    ),
    "polars, NaN": of_polars(
        lambda: polars.DataFrame({"a": [1.0, np.nan]}), "'a' must be finite; row 1 is nan"
    ),
    "polars, missing, True or False": of_polars(
        lambda: polars.DataFrame({"a": [None, True]}),
        "'a' has no value in row 0",
    ),
}


@pytest.mark.parametrize(("frame", "message"), NOT_NUMBERS.values(), ids=NOT_NUMBERS)
def test_what_is_no_number_is_named_with_its_column(frame, message):
    net = xpnet.Sequential(xpnet.Linear(frame.shape[1], 1))
    t = np.zeros(len(frame))
    with pytest.raises(xpnet.DataError, match=f"^X: the column {message}"):
        xpnet.Trainer(net, "mse").fit(frame, t)
    with pytest.raises(xpnet.DataError, match=f"^X: the column {message}"):
        net.predict(frame)
    with pytest.raises(xpnet.DataError, match=f"t: the column {message}"):
        xpnet.Trainer(net, "mse").fit(np.zeros((len(frame), frame.shape[1])), frame)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        (pandas.Series(["x"]), "must hold numbers; got the dtype"),
        (pandas.Series([3], dtype="category"), "must hold numbers; got the dtype category"),
        (pandas.Series([None, 3], dtype="Int64"), "has no value in row 0"),
        of_polars(
            lambda: polars.Series(["x"]), "must hold numbers; got the dtype .*, first value .*'x'"
        ),
        of_polars(lambda: polars.Series([3, None]), "has no value in row 1"),
        of_polars(
            lambda: polars.Series([3], dtype=polars.Int128), "polars.Series that NumPy cannot read"
        ),
    ],
)
def test_what_is_no_number_in_a_series_is_named(series, message):
    with pytest.raises(xpnet.DataError, match=f"^sample_weight .*{message}"):
        on_host(series, "sample_weight")


@needs_polars
def test_a_frame_that_has_not_been_computed_yet_is_no_data():
    lazy = polars.DataFrame({"a": [1.0]}).lazy()
    with pytest.raises(xpnet.DataError, match="LazyFrame"):
        on_host(lazy, "X")
