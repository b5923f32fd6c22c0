"""Kinds of data that are refused with a way out: each way out is taken."""

from __future__ import annotations

import datetime
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from numpy.lib.recfunctions import structured_to_unstructured

import xpnet
from xpnet.support.checks import on_host

pandas = pytest.importorskip("pandas", reason="pandas is not installed, whose frames are read")
scipy_sparse = pytest.importorskip("scipy.sparse", reason="SciPy is not installed: sparse matrices")
A = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
RECORDS = np.zeros(2, [("a", "f8"), ("b", "f8"), ("c", "f8")])
PIXELS = np.array([[200, 55, 0]], np.uint8)


def adding(features=3):
    """A network whose output is the sum of what it sees."""
    return xpnet.Sequential(xpnet.Linear(features, 1, init="ones"), dtype="float64")


WAYS_OUT = {
    "complex": (A + 1j, "Complex data not supported: use X.real", lambda X: X.real),
    "times": (
        A.astype("m8[s]"),
        r"turn times into numbers, X / numpy.timedelta64\(1, 's'\)",
        lambda X: X / np.timedelta64(1, "s"),
    ),
    "records": (
        RECORDS,
        r"structured_to_unstructured\(X\)",
        structured_to_unstructured,
    ),
    "words": (
        np.array(["x", "y"]),
        r"such as labels by numpy.unique\(X, return_inverse=True\)\[1\]",
        lambda X: np.unique(X, return_inverse=True)[1],
    ),
    "numbers as words": (
        np.array([["1.5", "2"]]),
        r"numbers that are written as words become numbers by X.astype\(float\)",
        lambda X: X.astype(float),
    ),
    "numbers as words in a frame": (
        pandas.DataFrame({"a": ["1.5", "2"]}, dtype=object),
        r"^X: the column 'a' must hold .* by a.astype\(float\)",
        lambda X: X.astype(float),
    ),
    "enormous": (
        [[10**400, 1]],
        r"X has a whole number above 1.8e\+308; scale the values",
        lambda X: [[x // 10**390 for x in row] for row in X],
    ),
    "csr": (scipy_sparse.csr_matrix(A), r"scipy.csr_matrix.*X.toarray\(\)", lambda X: X.toarray()),
    "coo": (scipy_sparse.coo_array(A), r"scipy.coo_array.*X.toarray\(\)", lambda X: X.toarray()),
    "generator": (
        (row for row in A),
        r"builtins.generator.*numpy.array\(list\(X\)\)",
        lambda X: np.array(list(X)),
    ),
    "dict": (
        {"a": A[:, 0], "b": A[:, 1], "c": A[:, 2]},
        r"builtins.dict, not an array.*pandas.DataFrame\(X\)",
        pandas.DataFrame,
    ),
    "None": (None, "builtins.NoneType.*give an array, a list or a data frame", lambda X: A),
    "words in a frame": (
        pandas.DataFrame({"a": ["x", "y"]}),
        r"^X: the column 'a' must hold numbers; got the dtype str",
        lambda X: np.unique(X, return_inverse=True)[1],
    ),
    "categories": (
        pandas.Series([3, 1], dtype="category"),
        r"^X must hold numbers; got the dtype category; turn words and categories into numbers",
        lambda X: np.unique(X, return_inverse=True)[1],
    ),
    "an array of categories": (
        pandas.Categorical([3, 1, 3]),
        r"^X must hold numbers; got the dtype category",
        lambda X: X.codes,
    ),
    "an index of categories": (
        pandas.CategoricalIndex([3, 1, 3]),
        r"^X must hold numbers; got the dtype category",
        lambda X: X.codes,
    ),
    "dates": (
        pandas.date_range("2026-01-01", periods=3).to_numpy(),
        "turn dates into numbers, such as the days since the first date",
        lambda X: (X - X[0]) / np.timedelta64(1, "D"),
    ),
    "dates of Python": (
        [datetime.date(2026, 1, 1)],
        r"got the dtype object, first value datetime.date\(2026, 1, 1\)",
        lambda X: [day.toordinal() for day in X],
    ),
}


@pytest.mark.parametrize("kind", WAYS_OUT)
def test_the_way_out_is_named_and_true(kind):
    data, words, way_out = WAYS_OUT[kind]
    with pytest.raises(xpnet.DataError, match=words):
        on_host(data, "X")
    assert on_host(way_out(data), "X").dtype.kind in "fiub"


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        ([[1, Decimal("2.5")]], "float64"),
        ([[Fraction(1, 2), 2]], "float64"),
        (np.array([[1, 2.5]], object), "float64"),
        (np.array([[1, True]], object), "int64"),
        (np.array([[False, True]], object), "bool"),
        (np.array([[np.uint8(200)]], object), "int64"),
        ([[2**70, 1]], "float64"),
        (np.array([], object), "bool"),
    ],
)
def test_objects_that_are_numbers_are_read_as_numbers(data, dtype):
    found = on_host(data, "X")
    assert found.dtype == dtype
    assert found.tolist() == [[float(x) for x in row] for row in np.asarray(data).tolist()]


def test_bfloat16_of_pytorch_has_a_way_out():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    X = torch.ones(2, 3, dtype=torch.bfloat16)
    with pytest.raises(xpnet.DataError, match=r"torch.Tensor that NumPy cannot read.*X.float\(\)"):
        adding().predict(X)
    assert adding().predict(X.float()).tolist() == [[3.0], [3.0]]
    for other in (X.float().to_sparse(), torch.ones(2, 3, device="meta")):
        with pytest.raises(xpnet.DataError, match=r"Use Tensor\.(to_dense|cpu)\(\)"):
            adding().predict(other)


def test_a_column_of_arrays_is_named():
    polars = pytest.importorskip("polars", reason="polars is not installed: pip install polars")
    frame = polars.DataFrame(
        {"a": [1.0, 2.0], "b": polars.Series([[1, 2], [3, 4]], dtype=polars.Array(polars.Int8, 2))}
    )
    words = r"^X: the column 'b' must hold one number in each row; got arrays of shape \(2,\)"
    with pytest.raises(xpnet.DataError, match=words):
        on_host(frame, "X")


def test_bfloat16_of_numpy_has_a_way_out():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    X = A.astype(ml_dtypes.bfloat16)
    with pytest.raises(xpnet.DataError, match=r"dtype bfloat16.*X.astype\('float32'\)"):
        adding().predict(X)
    assert adding().predict(X.astype("float32")).tolist() == [[6.0], [15.0]]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_sparse_matrix_is_a_table():
    from xpnet.estimators import MLPRegressor

    dense = np.array([[200, 0], [0, 55], [3, 0]], np.uint8)
    sparse, y = scipy_sparse.csr_array(dense), np.arange(3.0)
    models = [
        MLPRegressor(hidden_layer_sizes=(2,), max_iter=3, random_state=0).fit(X, y)
        for X in (sparse, dense.astype(float))
    ]
    np.testing.assert_allclose(models[0].coefs_[0], models[1].coefs_[0], rtol=1e-12)
    np.testing.assert_allclose(
        models[0].predict(sparse), models[1].predict(dense * 1.0), rtol=1e-12
    )


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint16", "int32", "uint32", "int64", "bool"])
def test_whole_numbers_other_than_uint8_are_numbers(dtype, backend):
    X = np.array([[1, 0, 1]], dtype)
    assert adding().predict(X).item() == 2


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [
        (PIXELS, 1),
        (list(PIXELS), 1),
        (PIXELS.tolist(), 255),
        (PIXELS.astype(object), 255),
        (pandas.DataFrame(PIXELS), 255),
        ([pandas.Series(PIXELS[0])], 255),
        (PIXELS.astype("float32"), 255),
    ],
)
def test_uint8_in_an_array_is_a_pixel(pixels, expected, backend):
    assert adding().predict(pixels).item() == pytest.approx(expected, rel=1e-12)


def test_targets_of_uint8_are_numbers(backend):
    net = adding()
    t = np.array([[200]], np.uint8)
    found = xpnet.Trainer(net, "mse").evaluate(np.array([[100.0, 50, 50]]), t)
    assert found["loss"] == 0


def test_weights_of_uint8_are_numbers(backend):
    trainer = xpnet.Trainer(adding(), "mse")
    trainer.fit(A, A[:, :1], epochs=1, sample_weight=np.array([3, 0], np.uint8))
    assert len(trainer.batches) == 1
    assert trainer.batches.n == 1
