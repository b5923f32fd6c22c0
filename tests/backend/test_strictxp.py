"""The stand-in for CuPy keeps CuPy's rules, and computes NumPy's values.

The tests of CuPy's own rules take ``m``: they run on the stand-in, and where there is a GPU on
CuPy too, so that the stand-in is neither stricter nor laxer than CuPy without our knowing.
"""

import copy
import importlib
import importlib.util
import inspect
import operator
import pickle

import make_cupy_api
import numpy as np
import pytest
import strictxp
from strictxp import API, Allocated, Synchronized, allow_alloc, no_alloc, no_sync


@pytest.fixture(params=["strictxp", pytest.param("cupy", marks=pytest.mark.gpu)])
def m(request):
    return importlib.import_module(request.param)


def refusal(m):
    """What an operation that CuPy refuses raises; CuPy itself is not always orderly about it."""
    return TypeError if m is strictxp else (TypeError, ValueError, AttributeError)


def device(values, dtype=np.float32, m=strictxp):
    return m.asarray(np.asarray(values, dtype))


def same(actual, expected):
    """The same numbers, dtype and shape; ``actual`` is a device array."""
    expected = np.asarray(expected)
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(strictxp.asnumpy(actual), expected, strict=True)


A = np.arange(-3, 9, dtype=np.float32).reshape(3, 4) / 4
B = np.arange(12, dtype=np.float32).reshape(4, 3) / 8 + 0.5
U = np.array([1, 2**63, 2**64 - 1], np.uint64)
i = np.array([2, 0, 1])


# --- NumPy's values --------------------------------------------------------------------------

VOCABULARY = {
    "operators": lambda m, A, B, U, i: (2 * A - A**2) / (A + 7) // 0.25 % 0.5,
    "reflected operators": lambda m, A, B, U, i: 1 - (8 / (10 - A)),
    "comparison": lambda m, A, B, U, i: ((A > 0) & (A <= 1)) | (A == -0.5) ^ (A != 0),
    "comparison of scalars": lambda m, A, B, U, i: (A > 0.25) & ~(np.float32(1) <= A),
    "unary": lambda m, A, B, U, i: abs(-A),
    "matmul": lambda m, A, B, U, i: A @ B,
    "matmul transposed": lambda m, A, B, U, i: m.matmul(A.T, B.T),
    "dot": lambda m, A, B, U, i: m.dot(A[0], B[:, 0]),
    "uint64": lambda m, A, B, U, i: (U * 0x9E3779B97F4A7C15 + 1) ^ (U >> 31),
    "uint64 to float": lambda m, A, B, U, i: (U >> 40).astype(m.float32) * 2.0**-24,
    "shift": lambda m, A, B, U, i: 1 << i,
    "float32 stays": lambda m, A, B, U, i: m.exp(A) * 0.1 + 1,
    "NumPy scalars are strong": lambda m, A, B, U, i: A * np.float64(0.1),
    "NumPy scalars on the left": lambda m, A, B, U, i: np.float64(0.1) * A,
    "int and float": lambda m, A, B, U, i: i / 2 + A[:, 0],
    "log": lambda m, A, B, U, i: m.log(B),
    "maximum": lambda m, A, B, U, i: m.maximum(A, 0),
    "where": lambda m, A, B, U, i: m.where(A > 0, A, 0.01),
    "clip": lambda m, A, B, U, i: m.clip(A, 0, 1),
    "sum": lambda m, A, B, U, i: m.sum(A, axis=0),
    "sum of all": lambda m, A, B, U, i: m.sum(A),
    "sum, positional axis": lambda m, A, B, U, i: m.sum(A, 1, np.float64),
    "mean": lambda m, A, B, U, i: A.mean(axis=1, keepdims=True),
    "max": lambda m, A, B, U, i: m.max(A, axis=(0, 1)),
    "argmax": lambda m, A, B, U, i: m.argmax(A, axis=1),
    "argmin": lambda m, A, B, U, i: A.argmin(),
    "all": lambda m, A, B, U, i: (B > 0).all() | m.any(A > 99),
    "count": lambda m, A, B, U, i: m.count_nonzero(A),
    "allclose": lambda m, A, B, U, i: m.allclose(A, A),
    "array_equal": lambda m, A, B, U, i: m.array_equal(A, A),
    "cumsum": lambda m, A, B, U, i: m.cumsum(A, axis=1),
    "einsum": lambda m, A, B, U, i: m.einsum("ij,ji->i", A, B),
    "concatenate": lambda m, A, B, U, i: m.concatenate([A, B.T], axis=0),
    "stack": lambda m, A, B, U, i: m.stack((A, A), axis=1),
    "pad": lambda m, A, B, U, i: m.pad(A, ((1, 0), (0, 2))),
    "tile": lambda m, A, B, U, i: m.tile(A, (2, 1)),
    "arange": lambda m, A, B, U, i: m.arange(5),
    "arange from": lambda m, A, B, U, i: m.arange(1, 2, 0.25, dtype=np.float32),
    "zeros": lambda m, A, B, U, i: m.zeros((2, 3), np.float32),
    "zeros by default": lambda m, A, B, U, i: m.zeros(3),
    "full": lambda m, A, B, U, i: m.full(3, 7, dtype=m.uint8),
    "ones_like": lambda m, A, B, U, i: m.ones_like(A),
    "broadcast_to": lambda m, A, B, U, i: m.broadcast_to(A[0], (2, 4)),
    "reshape": lambda m, A, B, U, i: A.reshape(2, -1).ravel(),
    "reshape with a tuple": lambda m, A, B, U, i: m.reshape(A, (6, 2)),
    "transpose": lambda m, A, B, U, i: A[None].transpose(2, 0, 1).squeeze(),
    "swapaxes": lambda m, A, B, U, i: m.swapaxes(A, 0, 1),
    "slice": lambda m, A, B, U, i: A[1:, ::-2],
    "element": lambda m, A, B, U, i: A[1, -1],
    "newaxis": lambda m, A, B, U, i: A[:, m.newaxis, 1],
    "gather": lambda m, A, B, U, i: A[i],
    "gather from a position": lambda m, A, B, U, i: i[0 + m.arange(2)],
    "gather pairs": lambda m, A, B, U, i: A[m.arange(3), i],
    "gather columns": lambda m, A, B, U, i: A[..., i],
    "gather in three": lambda m, A, B, U, i: A.reshape(3, 2, 2)[i, :, i % 2],
    "gather with a 0-d array": lambda m, A, B, U, i: A[i[0], 1:],
    "take": lambda m, A, B, U, i: m.take(A, i, axis=1),
    "take, method": lambda m, A, B, U, i: A.take(i, axis=0),
    "take_along_axis": lambda m, A, B, U, i: m.take_along_axis(A, i[:, None], 1),
    "mask": lambda m, A, B, U, i: A[A > 0],
    "mask and slice": lambda m, A, B, U, i: A[i > 0, 1:],
    "mask of leading axes, then an index": lambda m, A, B, U, i: A.reshape(3, 2, 2)[
        A.reshape(3, 4)[:, :2] > 0, i[1]
    ],
    "argsort": lambda m, A, B, U, i: m.argsort(i),
    "unique": lambda m, A, B, U, i: m.unique(i % 2),
    "nonzero": lambda m, A, B, U, i: m.nonzero(A)[1],
    "where with one argument": lambda m, A, B, U, i: m.where(A)[0],
    "divmod": lambda m, A, B, U, i: divmod(A, 0.5)[1],
    "modf": lambda m, A, B, U, i: m.modf(A)[0],
    "real": lambda m, A, B, U, i: (A * (1 + 2j)).imag,
    "complex": lambda m, A, B, U, i: (A + 1j).real,
    "add.reduce": lambda m, A, B, U, i: m.add.reduce(A),
    "multiply.reduce": lambda m, A, B, U, i: m.multiply.reduce(A, axis=1),
    "add.accumulate": lambda m, A, B, U, i: m.add.accumulate(A, axis=1),
    "dtype=": lambda m, A, B, U, i: m.add(i, 1, dtype=np.float64),
    "casting=": lambda m, A, B, U, i: m.add(A, 1, dtype=np.int32, casting="unsafe"),
    "bitwise_count": lambda m, A, B, U, i: m.bitwise_count(U),
    "constants": lambda m, A, B, U, i: A * m.pi + m.inf,
    "mT": lambda m, A, B, U, i: m.stack([A, A]).mT,
}


@pytest.mark.parametrize("expression", VOCABULARY.values(), ids=VOCABULARY)
def test_vocabulary_has_numpys_values(expression):
    same(expression(strictxp, *map(strictxp.asarray, (A, B, U, i))), expression(np, A, B, U, i))


def test_dtypes_and_constants_are_numpys():
    for name in "float32 float64 uint8 int64 uint64 bool_ pi inf newaxis dtype finfo".split():  # noqa: SIM905
        assert getattr(strictxp, name) is getattr(np, name)


@pytest.mark.parametrize("symbol", "add sub mul truediv floordiv mod pow".split())  # noqa: SIM905
def test_operators_in_place(m, symbol):
    x, view = device(B, m=m), None
    view = x[1:]
    result = getattr(operator, f"i{symbol}")(view, 2)
    assert result is view
    expected = B.copy()
    getattr(operator, f"i{symbol}")(expected[1:], 2)
    np.testing.assert_allclose(m.asnumpy(x), expected, rtol=1e-6)


def test_integer_operators_in_place(m):
    x, expected = device(U, np.uint64, m), U.copy()
    for symbol in ("ilshift", "irshift", "iand", "ior", "ixor"):
        f = getattr(operator, symbol)
        x, expected = f(x, 3), f(expected, 3)
        np.testing.assert_array_equal(m.asnumpy(x), expected)


# --- Host arrays stay out --------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [np.asarray, np.array, lambda x: np.array([x, x]), lambda x: np.zeros(3).__setitem__(..., x)],
    ids=["asarray", "array", "list", "assignment"],
)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # CuPy's
def test_no_implicit_conversion_to_numpy(m, convert):
    with pytest.raises(TypeError, match=r"Implicit conversion.*Please use `\.get\(\)`"):
        convert(m.ones(3))


HOST = np.ones((3, 4), np.float32)
MIXED = {
    "right operand": lambda m, x: x + HOST,
    "left operand": lambda m, x: HOST + x,
    "comparison": lambda m, x: x > HOST,
    "matmul": lambda m, x: x @ HOST.T,
    "left of matmul": lambda m, x: HOST.T @ x,
    "in place": lambda m, x: operator.iadd(x, HOST),
    "host in place": lambda m, x: operator.iadd(HOST, x),
    "ufunc": lambda m, x: m.maximum(x, HOST),
    "0-d operand": lambda m, x: m.add(x, np.array(1.0)),
    "0-d operand of an operator": lambda m, x: x + np.array(1.0),
    "NumPy's ufunc": lambda m, x: np.add(HOST, x),
    "where": lambda m, x: m.where(x > 0, x, HOST),
    "where's condition": lambda m, x: m.where(HOST > 0, x, x),
    "dot": lambda m, x: m.dot(x.T, HOST),
    "concatenate": lambda m, x: m.concatenate([x, HOST]),
    "NumPy's concatenate": lambda m, x: np.concatenate([HOST, x]),
    "assignment": lambda m, x: x.__setitem__(..., HOST),
    "assignment to a slice": lambda m, x: x.__setitem__(slice(1), HOST[:1]),
    "copyto": lambda m, x: m.copyto(x, HOST),
    "ufunc's out=": lambda m, x: m.exp(x, out=HOST),
    "positional out": lambda m, x: m.exp(x, HOST),
    "reduction's out=": lambda m, x: m.sum(x, axis=0, out=np.zeros(4, np.float32)),
    "matmul's out=": lambda m, x: m.matmul(x, x.T, out=np.zeros((3, 3), np.float32)),
}


@pytest.mark.parametrize("mix", MIXED.values(), ids=MIXED)
def test_host_arrays_are_refused(m, mix):
    with pytest.raises(refusal(m), match=r"numpy\.ndarray" if m is strictxp else None):
        mix(m, m.ones((3, 4), np.float32))
    assert (HOST == 1).all()


REFUSED_BY_STRICT = {
    "sum": lambda x: strictxp.sum(HOST),
    "max": lambda x: strictxp.max(HOST, axis=0),
    "clip": lambda x: strictxp.clip(HOST, 0, 1),
    "dot": lambda x: strictxp.dot(HOST, HOST.T),
    "assignment with an index": lambda x: x.__setitem__(strictxp.arange(3), HOST),
}


@pytest.mark.parametrize("mix", REFUSED_BY_STRICT.values(), ids=REFUSED_BY_STRICT)
def test_host_arrays_are_refused_where_cupy_computes_on_the_host(mix):
    with pytest.raises(TypeError, match=r"numpy\.ndarray"):
        mix(strictxp.ones((3, 4), np.float32))


@pytest.mark.parametrize("other", [[1, 2, 3], (1, 2, 3), None, "1", {}], ids=repr)
def test_operands_are_arrays_or_scalars(m, other):
    for operation in (operator.add, operator.lt, operator.eq, operator.ne, m.maximum):
        if m is not strictxp and other is None and operation in (operator.eq, operator.ne):
            continue  # to CuPy no element is None
        with pytest.raises(refusal(m)):
            operation(m.ones(3), other)
    with pytest.raises(refusal(m)):
        m.where(m.ones(3) > 0, m.ones(3), other)


@pytest.mark.parametrize("name", ["sum", "max", "argmax", "mean", "ravel", "zeros_like"])
@pytest.mark.parametrize("values", [[1.0, 2.0], 3.0], ids=["list", "scalar"])
def test_functions_of_an_array_need_one(m, name, values):
    with pytest.raises(refusal(m)):
        getattr(m, name)(values)


def test_some_functions_take_scalars(m):
    assert float(m.round(1.26, 1)) == 1.3
    assert bool(m.allclose(1.0, m.ones(3)))


def test_a_list_is_assigned_by_element_only(m):
    x = m.zeros(2)
    with pytest.raises(refusal(m)):
        x[...] = [1, 2]


def test_scalars_of_all_kinds_are_assigned(m):
    x = m.zeros(5, np.float32)
    x[0], x[1], x[2], x[3] = 1, np.float64(2), m.asarray(3), np.array(4)
    x[4:] = True
    np.testing.assert_array_equal(m.asnumpy(x), [1, 2, 3, 4, 1])


def test_numpys_functions_answer_with_device_arrays(m):
    x = device(A, m=m)
    for y, expected in [(np.exp(x), np.exp(A)), (np.sum(x, axis=0), A.sum(0))]:
        assert type(y) is m.ndarray
        np.testing.assert_allclose(m.asnumpy(y), expected, rtol=1e-6)
    assert np.shape(x) == (3, 4)
    out = m.empty_like(x)
    assert np.exp(x, out=out) is out
    assert np.matmul(x, x.T).shape == (3, 3)


def test_numpys_functions_that_cupy_lacks_are_refused(m):
    x = m.ones(3)
    for unknown in (np.spacing, lambda x: np.nanpercentile(x, 5)):
        with pytest.raises(TypeError):
            unknown(x)
    with pytest.raises(TypeError):
        np.add.outer(x, x, x)


def test_methods_of_numpys_functions_are_refused():
    """CuPy 14.2 has some of them."""
    x = strictxp.ones(3)
    for unknown in (np.add.reduce, lambda x: np.add.at(x, x, x)):
        with pytest.raises(TypeError):
            unknown(x)


def test_numpys_submodules_are_not_there():
    x = strictxp.ones(3)
    for unknown in (np.linalg.norm, np.fft.fft, lambda x: np.linalg.outer(x, x)):
        with pytest.raises(TypeError):
            unknown(x)


def test_numpys_functions_fill_device_arrays(m):
    x, whole, rest = device(A, m=m), m.empty((3, 4), np.float32), m.empty((3, 4), np.float32)
    assert np.matmul(x, x.T, out=rest[:, :3].copy()).shape == (3, 3)
    if m is strictxp:  # CuPy takes one output here
        assert np.divmod(x, 0.5, out=(whole, rest))[1] is rest
        same(whole, np.divmod(A, 0.5)[0])


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_comparison_with_a_numpy_scalar_on_the_left(m, name):
    compare = getattr(operator, name)
    result = compare(np.float32(0.5), device(A, m=m))
    assert type(result) is m.ndarray
    np.testing.assert_array_equal(m.asnumpy(result), compare(np.float32(0.5), A))


def test_what_is_known_without_the_device(m):
    x = device(A, m=m)
    with no_sync(), no_alloc():
        assert m.size(x) == 12
        assert m.ndim(x) == m.ndim(3.0) + 2
        assert m.shape(x) == (3, 4)
        assert m.promote_types("f4", "f8") == m.result_type(x, np.float64) == np.float64
        assert m.broadcast_shapes((3, 1), (4,)) == (3, 4)
        assert m.issubdtype(x.dtype, m.floating)
        assert m.may_share_memory(x, x[0])


# --- Between host and device -----------------------------------------------------------------


@pytest.mark.parametrize("make", ["asarray", "array"])
def test_what_can_go_to_the_device(m, make):
    make = getattr(m, make)
    for source in (
        A,
        A.T,
        [[1, 2], [3, 4]],
        5,
        2.5,
        np.float32(3),
        True,
        [m.asarray(1), m.ones(())],
    ):
        x = make(source)
        assert type(x) is m.ndarray
        hosts = [m.asnumpy(s) for s in source] if isinstance(source, list) else source
        expected = np.asarray(hosts)
        assert (x.shape, x.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_array_equal(m.asnumpy(x), expected)
    assert make(A, dtype=np.float64).dtype == np.float64


def test_asarray_copies_only_if_it_must(m):
    x = m.ones(3, np.float32)
    assert m.asarray(x) is x
    assert m.asarray(x, dtype=np.float32) is x
    assert m.asarray(x, np.float64) is not x
    y = m.array(x)
    y[0] = 7
    assert float(x[0]) == 1
    host = np.ones(3)
    z = m.asarray(host)
    host[0] = 7
    assert float(z[0]) == 1


def test_some_things_cannot_go_to_the_device(m):
    for bad in ("text", None, [object()], np.longdouble([1]), [m.ones(2), 1.0]):
        with pytest.raises((TypeError, ValueError)):
            m.asarray(bad)
    with pytest.raises((TypeError, ValueError)):
        m.zeros(3, dtype=object)
    x = m.zeros(3)
    x.fill(np.float32(2))
    np.testing.assert_array_equal(x.get(), [2, 2, 2])
    with pytest.raises((TypeError, ValueError)):
        x.fill(np.ones(3))


def test_get_copies(m):
    x = device(A, m=m)
    host = x.get()
    host[0] = 99
    np.testing.assert_array_equal(x.get(), A)
    assert x.T.get().flags.c_contiguous
    assert x.get(order="F").flags.f_contiguous
    out = np.empty_like(A)
    assert x.get(out=out) is out
    np.testing.assert_array_equal(out, A)
    np.testing.assert_array_equal(m.asnumpy(A), A)
    for bad, error in [(A.astype(float), TypeError), (A[0].copy(), ValueError), ([0], TypeError)]:
        with pytest.raises(error):
            x.get(out=bad)


def test_set_copies_what_fits(m):
    x = m.zeros((3, 4), np.float32)
    x.set(A)
    np.testing.assert_array_equal(x.get(), A)
    for bad, error in [(A.astype(float), TypeError), (A.T, ValueError), (A.tolist(), TypeError)]:
        with pytest.raises(error):
            x.set(bad)
    with pytest.raises(TypeError):
        x.set(m.zeros((3, 4), np.float32))
    with pytest.raises(RuntimeError, match="non-contiguous"):
        x[:, ::2].set(A[:, ::2].copy())
    x[1].set(np.full(4, 7, np.float32))
    assert float(x[1, 3]) == 7
    x.T.set(A.T)
    np.testing.assert_array_equal(x.get(), A)
    with pytest.raises(ValueError, match="hape"):
        x.set(A[0].copy())
    with pytest.raises(ValueError, match="hape"):
        x.get(out=np.zeros((1, 3, 4), np.float32))


def test_copies_and_pickles(m):
    x = device(A, m=m)
    for y in (copy.copy(x), copy.deepcopy({"x": x})["x"], pickle.loads(pickle.dumps(x)), x.copy()):
        assert type(y) is m.ndarray
        y[...] = 0
    np.testing.assert_array_equal(x.get(), A)


# --- Arrays ----------------------------------------------------------------------------------


def test_attributes(m):
    x = device(A, m=m)
    for name in ("shape", "dtype", "ndim", "size", "nbytes", "itemsize", "strides"):
        assert getattr(x, name) == getattr(A, name)
        assert getattr(x.T, name) == getattr(A.T, name)
    assert (x.flags.c_contiguous, x.flags.f_contiguous, x.flags.owndata) == (True, False, True)
    assert (x.T.flags.c_contiguous, x.T.flags.f_contiguous, x.T.flags.owndata) == (
        False,
        True,
        False,
    )
    assert len(x) == 3
    row = x[0]
    assert row.T is row
    with pytest.raises(TypeError):
        hash(x)
    with pytest.raises(TypeError):
        len(row[0])
    with pytest.raises(TypeError):
        iter(row[0])


def test_views_share_memory_and_know_their_base(m):
    x = m.zeros((2, 3))
    assert x.base is None
    for view in (
        x[0],
        x[0, 0],
        x[...],
        x.T,
        x.reshape(-1),
        x[None, 1:],
        x.ravel(),
        x[0][1:],
        x.view(),
    ):
        assert view.base is x
        view[...] += 1
    np.testing.assert_array_equal(x.get(), [[7, 7, 7], [6, 6, 6]])
    for fresh in (x.copy(), x + 1, x[m.arange(2)], x[m.asarray(0)], x.T.ravel(), x.astype("f4")):
        assert fresh.base is None
    assert x.astype(float, copy=False) is x


def test_results_are_never_scalars(m):
    x = device(A, m=m)
    i = m.asarray(1)
    for y in (
        m.sum(x),
        x.max(),
        x.argmin(),
        x[0, 0],
        x[i, i],
        x[0] @ x[0],
        m.exp(1.0),
        next(iter(x[0])),
    ):
        assert type(y) is m.ndarray
        assert y.shape == ()


def test_there_is_no_index(m):
    with pytest.raises(TypeError):
        range(m.asarray(3))
    with pytest.raises(TypeError):
        [1, 2][m.asarray(1)]
    if m is strictxp:  # CuPy reads it
        with pytest.raises(TypeError):
            m.arange(9)[: m.asarray(3)]


def test_truth_of_several_elements_is_ambiguous(m):
    with pytest.raises(ValueError, match="ambiguous"):
        bool(m.ones(2))


# --- Indices ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
def test_index_arrays_wrap(m, dtype):
    x = m.arange(300) if dtype == np.int8 else m.arange(3)
    far = m.asarray(np.array([4, 127] if dtype == np.uint64 else [-1, 127], dtype))
    expected = np.array([4, 127] if dtype == np.uint64 else [-1, 127]) % len(x)
    for found in (x[far], m.take(x, far), x.take(far), m.take_along_axis(x, far, 0)):
        np.testing.assert_array_equal(m.asnumpy(found), expected)


def test_index_arrays_wrap_on_their_own_axis(m):
    x = m.arange(24).reshape(2, 3, 4)
    i = m.asarray([5])
    for key, expected in [
        ((i,), (1,)),
        ((slice(None), i), (slice(None), 2)),
        ((..., i), (..., 1)),
        ((None, 0, ..., i), (None, 0, ..., 1)),
        ((i, i, i), (1, 2, 1)),
        ((0, ..., i), (0, ..., 1)),
        ((None, i), (None, 1)),
        ((m.asarray([[5]]), slice(None), m.asarray([[6]])), (1, slice(None), 2)),
        ((x[:, :, 0] >= 0, m.asarray(7)), (..., 3)),
    ]:
        found = m.asnumpy(x[key])
        np.testing.assert_array_equal(found.ravel(), m.asnumpy(x)[expected].ravel())
    along = m.take_along_axis(x, i[:, None, None], 1)
    np.testing.assert_array_equal(along.get(), m.asnumpy(x)[:, 2:])
    assert int(m.take_along_axis(x, i + 24, None)[0]) == 5
    y = m.zeros(3)
    y[m.asarray([4])] = 1
    m.put(y, m.asarray([5]), 2)
    np.testing.assert_array_equal(y.get(), [0, 1, 2])


def test_plain_indices_do_not_wrap(m):
    for index in (3, -4, np.int64(3)):
        with pytest.raises(IndexError):
            m.arange(3)[index]
    with pytest.raises(IndexError):
        m.arange(3)[m.asarray(0), m.asarray(0)]
    with pytest.raises(IndexError):
        m.arange(3)[m.asarray([0.5])]
    with pytest.raises(IndexError):
        m.zeros((0, 2))[m.asarray([0])]


def test_index_arrays_may_come_from_the_host(m):
    for index in ([2, 0], np.array([2, 0]), [True, False, True], []):
        expected = np.arange(3)[index if len(index) else slice(0)]
        np.testing.assert_array_equal(np.sort(m.arange(3)[index].get()), np.sort(expected))


def test_duplicate_indices_in_an_assignment_are_an_error():
    x, twice = strictxp.zeros(3), strictxp.asarray([1, 1])
    with pytest.raises(ValueError, match="duplicate indices"):
        x[twice] = strictxp.asarray([1.0, 2.0])
    with pytest.raises(ValueError, match="duplicate indices"):
        x[strictxp.asarray([1, 4])] += strictxp.ones(2)
    x[twice] = 5  # whoever wins, wins with a 5
    x[twice] = strictxp.asarray([5.0])
    x[strictxp.asarray([2, 0])] = strictxp.asarray([7.0, 8.0])
    same(x, [8.0, 5.0, 7.0])


# --- Signatures ------------------------------------------------------------------------------

WRONG = {
    "take(mode=)": lambda m, x: m.take(x, m.arange(2), mode="clip"),
    "sum(initial=)": lambda m, x: m.sum(x, initial=0),
    "max(where=)": lambda m, x: m.max(x, where=x > 0),
    "x.sum(where=)": lambda m, x: x.sum(where=x > 0),
    "x.take(mode=)": lambda m, x: x.take(m.arange(2), mode="clip"),
    "clip(min=)": lambda m, x: m.clip(x, min=0),
    "clip(a)": lambda m, x: m.clip(x),
    "ufunc(where=)": lambda m, x: m.exp(x, where=x > 0),
    "ufunc(order=)": lambda m, x: m.exp(x, order="C"),
    "ufunc(subok=)": lambda m, x: m.exp(x, subok=True),
    "ufunc()": lambda m, x: m.add(x),
    "ufunc(4)": lambda m, x: m.add(x, x, x, x),
    "zeros(like=)": lambda m, x: m.zeros(3, like=x),
    "astype(casting=)": lambda m, x: x.astype("i4", casting="unsafe"),
    "item(0)": lambda m, x: x.item(0),
    "matmul(a, b, out)": lambda m, x: m.matmul(x, x.T, m.empty((3, 3))),
    "reduce(initial=)": lambda m, x: m.add.reduce(x, initial=0),
    "matmul with a scalar": lambda m, x: m.matmul(x, 2.0),
    "matmul of a scalar": lambda m, x: m.matmul(2.0, x),
    "where without y": lambda m, x: m.where(x > 0, x),
    "where without x": lambda m, x: m.where(x > 0, None, x),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_signatures_are_cupys(m, call):
    with pytest.raises(refusal(m)):
        call(m, m.ones((3, 4)))


def test_wrong_signature_is_named_each_time():
    for _ in range(2):
        with pytest.raises(TypeError, match=r"cupy\.take\(a, indices.*'mode'"):
            strictxp.take(strictxp.ones(3), strictxp.arange(2), mode="clip")


def test_out_is_given_once(m):
    x = m.ones(3)
    with pytest.raises(ValueError, match="both a positional and keyword"):
        m.exp(x, x, out=x)


def test_names_that_cupy_lacks(m):
    for name in ("vecdot", "matvec", "einsum_path", "str_", "no_such_name", "_private"):
        assert not hasattr(m, name)
    for name in ("ctypes", "resize", "tostring", "__index__", "__contains__"):
        assert not hasattr(m.ndarray, name)


def test_reduce_is_for_add_and_multiply_only(m):
    for method in ("reduce", "accumulate"):
        with pytest.raises(NotImplementedError):
            getattr(m.maximum, method)(m.ones(3))


def test_arguments_that_mean_different_things_need_names():
    x, out = strictxp.ones((2, 3)), strictxp.zeros(2, np.int64)
    with pytest.raises(TypeError, match="dtype= here, out= in NumPy"):
        strictxp.argmax(x, 1, out)
    assert strictxp.argmax(x, 1, out=out) is out


def test_positional_out_is_found():
    x, out = strictxp.ones((2, 3)), strictxp.zeros(2)
    assert strictxp.max(x, 1, out) is out
    assert strictxp.exp(x[0], out=None) is not None
    same(out, [1.0, 1.0])


# --- out= ------------------------------------------------------------------------------------


def test_out_is_returned_and_written(m):
    x, out = device(A, m=m), m.empty((3, 4), np.float32)
    assert m.exp(x, out=out) is out
    np.testing.assert_allclose(out.get(), np.exp(A), rtol=1e-6)
    assert m.add(x, 1, out) is out
    np.testing.assert_array_equal(out.get(), A + 1)
    assert m.multiply(out, out, out=(out,)) is out
    np.testing.assert_array_equal(out.get(), (A + 1) ** 2)
    small = m.empty(4, np.float32)
    # CuPy 14.2 cannot do it for the minimum: it gives CUB `out` for the dtype, see `_ndarray_min`
    for name in ("sum", "max", "mean", *["min"] * (m is strictxp)):
        assert getattr(m, name)(x, axis=0, out=small) is small
        np.testing.assert_allclose(small.get(), getattr(A, name)(0), rtol=1e-6, atol=1e-6)
    square = m.empty((3, 3), np.float32)
    assert m.matmul(x, x.T, out=square) is square
    np.testing.assert_array_equal(square.get(), A @ A.T)
    places = m.empty(3, np.int64)
    assert m.argmax(x, axis=1, out=places) is places
    assert m.take(x, m.arange(3), axis=0, out=out) is out
    np.testing.assert_array_equal(out.get(), A)
    assert m.clip(x, 0, 1, out=x) is x
    quotients, rests = m.empty((3, 4), np.float32), m.empty((3, 4), np.float32)
    assert m.divmod(out, 0.5, out=(quotients, rests))[1] is rests


OUTS = {
    "ufunc, shape": (ValueError, lambda m, x: m.exp(x, out=m.empty(4))),
    "ufunc, casting": (TypeError, lambda m, x: m.exp(x, out=m.empty((3, 4), np.int64))),
    "in place, casting": (TypeError, lambda m, x: operator.itruediv(m.arange(3), 2)),
    "sum, shape": (ValueError, lambda m, x: m.sum(x, axis=0, out=m.empty((1, 4)))),
    "sum, longer": (ValueError, lambda m, x: m.sum(x[:, :1], axis=0, out=m.empty(5))),
    "max, shape": (ValueError, lambda m, x: m.max(x, axis=0, out=m.empty(3))),
    "max, all": (ValueError, lambda m, x: m.max(x, out=m.empty(1))),
    "mean, shape": (ValueError, lambda m, x: m.mean(x, axis=1, out=m.empty(4))),
    "argmax, shape": (ValueError, lambda m, x: m.argmax(x, axis=1, out=m.empty(4, np.int64))),
    "take, shape": (ValueError, lambda m, x: m.take(x, m.arange(2), axis=0, out=m.empty((3, 4)))),
    "take, dtype": (TypeError, lambda m, x: m.take(x, 0, axis=0, out=m.empty(4, np.float32))),
    "matmul, shape": (ValueError, lambda m, x: m.matmul(x, x.T, out=m.empty((3, 4)))),
    "matmul, more axes": (ValueError, lambda m, x: m.matmul(x, x.T, out=m.empty((2, 3, 3)))),
}


@pytest.mark.parametrize(("error", "call"), OUTS.values(), ids=OUTS)
def test_out_must_fit(m, error, call):
    with pytest.raises(error):
        call(m, m.ones((3, 4)))


def test_matmul_writes_only_where_cupy_writes_directly():
    x = strictxp.ones((3, 3), np.float32)
    for out in (
        strictxp.empty((3, 3)),
        x.copy().T[:, :],
        strictxp.empty((3, 6), np.float32)[:, ::2],
    ):
        with pytest.raises(ValueError, match="C-contiguous and of dtype float32"):
            strictxp.matmul(x, x + 1, out=out if out.dtype == float else out.T.T)
    vector = strictxp.empty(3, np.float32)
    assert strictxp.matmul(x[0].copy(), x, out=vector) is vector
    assert strictxp.matmul(x[0].copy(), x[1].copy(), out=strictxp.empty((), np.float32)).shape == ()


def test_out_may_not_overlap_an_input():
    x = strictxp.ones((3, 3))
    for call in (
        lambda: strictxp.matmul(x, x, out=x),
        lambda: strictxp.matmul(x[:1], x, out=x[1:2]),
        lambda: strictxp.sum(x, axis=0, out=x[0]),
        lambda: strictxp.take(x, strictxp.asarray([1, 2, 0]), axis=0, out=x),
        lambda: strictxp.concatenate([x[:1], x[1:]], out=x),
    ):
        with pytest.raises(ValueError, match="overlaps an input"):
            call()
    assert strictxp.clip(x, 0, 1, out=x) is x


# --- No synchronization ----------------------------------------------------------------------

SYNCS = {
    "float": float,
    "int": int,
    "complex": complex,
    "bool": bool,
    "if": lambda x: 1 if x > 0 else 0,
    "in": lambda x: 1 in x.reshape(1),
    "repr": repr,
    "str": str,
    "f-string": lambda x: f"{x:.2f}",
    "item": lambda x: x.item(),
    "tolist": lambda x: x.tolist(),
    "tobytes": lambda x: x.tobytes(),
    "get": lambda x: x.get(),
    "asnumpy": strictxp.asnumpy,
    "pickle": pickle.dumps,
    "set": lambda x: x.set(np.ones((), np.float32)),
    "asarray": lambda x: strictxp.asarray(A),
    "array of a list": lambda x: strictxp.array([1, 2]),
    "mask": lambda x: x[x > 0],
    "host mask": lambda x: x[True],
    "assignment to a mask": lambda x: x.__setitem__(x > 0, 1),
    "list index": lambda x: x.reshape(1)[[0]],
    "host index": lambda x: x.reshape(1)[np.array([0])],
    "assignment to a list index": lambda x: x.reshape(1).__setitem__([0], 1),
    "nonzero": lambda x: strictxp.nonzero(x.reshape(1)),
    "x.nonzero": lambda x: x.reshape(1).nonzero(),
    "where": lambda x: strictxp.where(x.reshape(1)),
    "flatnonzero": strictxp.flatnonzero,
    "argwhere": lambda x: strictxp.argwhere(x.reshape(1)),
    "unique": strictxp.unique,
    "bincount": lambda x: strictxp.bincount(x.reshape(1).astype(np.int64)),
    "arange": strictxp.arange,
    "axis": lambda x: strictxp.sum(x.reshape(1), axis=strictxp.asarray(0)),
    "fill": lambda x: x.fill(x),
    "full": lambda x: strictxp.full(3, x),
}


@pytest.mark.parametrize("sync", SYNCS.values(), ids=SYNCS)
def test_synchronization_can_be_forbidden(sync):
    x = strictxp.asarray(np.float32(1))
    sync(x)
    with no_sync(), pytest.raises(Synchronized):
        sync(x)
    sync(x)


def test_what_does_not_synchronize():
    x, i = strictxp.ones((3, 4), np.float32), strictxp.arange(3)
    with no_sync():
        y = strictxp.where(x > 0, x, 0) @ x.T + strictxp.asarray(2.0)
        y[i] = y[i, i] + y.sum() - y.argmax(axis=1)
        y[0], y[1] = 1, y[2]
        assert [row.shape for row in y] == [(3,)] * 3
        assert (len(y), y.shape, y.dtype, y.ndim) == (3, (3, 3), np.float64, 2)
        assert strictxp.asarray(y) is y
        assert strictxp.array([y.sum(), y.max()]).shape == (2,)
        copy.deepcopy(y).fill(3)


# --- No allocation ---------------------------------------------------------------------------

ALLOCATIONS = {
    "operator": lambda x, i: x + 1,
    "comparison": lambda x, i: x > 0,
    "negation": lambda x, i: -x,
    "matmul": lambda x, i: x @ x.T,
    "ufunc": lambda x, i: strictxp.exp(x),
    "out=None": lambda x, i: strictxp.exp(x, out=None),
    "reduction": lambda x, i: x.sum(),
    "where": lambda x, i: strictxp.where(x, x, 0),
    "gather": lambda x, i: x[i],
    "gather with a 0-d array": lambda x, i: x[i[0]],
    "take": lambda x, i: strictxp.take(x, i),
    "zeros": lambda x, i: strictxp.zeros(3),
    "empty_like": lambda x, i: strictxp.empty_like(x),
    "ndarray": lambda x, i: strictxp.ndarray((3,)),
    "asarray": lambda x, i: strictxp.asarray(A),
    "asarray of a scalar": lambda x, i: strictxp.asarray(1.0),
    "another dtype": lambda x, i: strictxp.asarray(x, float),
    "astype": lambda x, i: x.astype(np.float32),
    "copy": lambda x, i: x.copy(),
    "deepcopy": lambda x, i: copy.deepcopy(x),
    "reshape of a transpose": lambda x, i: x.T.reshape(-1),
    "ascontiguousarray": lambda x, i: strictxp.ascontiguousarray(x.T),
    "part of several results": lambda x, i: strictxp.divmod(x, 2.0, out=(x, None)),
    "imag": lambda x, i: x.imag,
    "hidden copy of an overlapping input": lambda x, i: strictxp.exp(x[:2], out=x[1:3]),
    "hidden copy of an equal view": lambda x, i: strictxp.exp(x[:2], out=x[:2]),
    "scalar to index array": lambda x, i: x.__setitem__(i, 1),
    "other dtype to index array": lambda x, i: x.__setitem__(i, i[:, None]),
    "two index arrays": lambda x, i: x.__setitem__((i, i), x[:, 3]),
    "host index": lambda x, i: x.__setitem__([0], x[:1]),
}


@pytest.mark.parametrize("allocate", ALLOCATIONS.values(), ids=ALLOCATIONS)
def test_allocation_can_be_forbidden(allocate):
    x, i = device(A), strictxp.arange(3)
    allocate(x, i)
    x, i = device(A), strictxp.arange(3)
    with no_alloc(), pytest.raises(Allocated):
        allocate(x, i)
    allocate(x, i)


def test_hidden_copies_in_matmul_are_allocations():
    square, out = strictxp.ones((4, 4), np.float32), strictxp.empty((2, 2), np.float32)
    part, double = strictxp.ones((2, 2), np.float32), strictxp.ones((2, 2))
    wide = strictxp.empty((2, 2))
    with no_alloc():
        for call in (
            lambda: strictxp.matmul(square[:2, :2], part, out=out),
            lambda: strictxp.matmul(part, square[::2, ::2], out=out),
            lambda: strictxp.matmul(part, double, out=wide),
        ):
            with pytest.raises(Allocated, match="matmul of an array"):
                call()
        assert strictxp.matmul(part.T, part, out=out) is out
    batch, results = strictxp.ones((2, 2, 2)), strictxp.empty((2, 2, 2))
    with no_alloc():
        assert strictxp.matmul(batch, batch, out=results) is results
        with pytest.raises(Allocated):
            strictxp.matmul(batch.T, batch, out=results)


def test_what_does_not_allocate():
    x, i = device(A), strictxp.arange(3)
    y, columns, square = x.copy(), strictxp.empty(4, np.float32), strictxp.empty((3, 3), np.float32)
    rows = strictxp.empty(3, np.int64)
    with no_alloc():
        assert strictxp.exp(x, out=y) is y
        assert strictxp.add(y, columns, out=y) is y
        assert strictxp.matmul(x, y.T, out=square) is square
        assert strictxp.sum(x, axis=0, out=columns) is columns
        assert strictxp.argmax(x, axis=1, out=rows) is rows
        assert strictxp.take(x, i, axis=0, out=y) is y
        assert strictxp.asarray(x) is x
        assert strictxp.asarray(x, np.float32) is x
        assert x.astype(np.float32, copy=False) is x
        assert strictxp.ascontiguousarray(x) is x
        assert strictxp.add(x[:1], y[1:2], out=x[2:]).shape == (1, 4)
        for view in (x.T, x[0], x[1, 2], x[:, None], x.reshape(2, 6), x.ravel(), x.real, x.view()):
            assert view is x or view.base is x
        strictxp.broadcast_to(x[0], (5, 4))
        assert strictxp.split(x, 3)[2].base is x
        y += 1
        y *= x
        y[...] = x
        y[0] = 3
        y[i] = x
        y.fill(0)
        y.set(A)
        y.get()
        float(square[0, 0])


def test_blocks_nest_and_end():
    x = strictxp.ones(3)
    with no_alloc():
        with allow_alloc():
            y = x + 1
            with no_alloc(), pytest.raises(Allocated):
                x + 1
            y = x + 1
        with pytest.raises(Allocated):
            x + 1
        float(y[0])
    with no_sync(), no_sync():
        pass
    float((x + 1)[0])
    with pytest.raises(KeyError), no_sync(), no_alloc():
        raise KeyError
    float((x + 1)[0])


# --- CuPy's list of names ----------------------------------------------------------------------


def test_api_file_describes_the_installed_cupy():
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed")
    described = make_cupy_api.describe()
    if described["cupy"] != API["cupy"]:
        pytest.skip(f"CuPy is {described['cupy']}, cupy_api.json is of {API['cupy']}")
    assert make_cupy_api.to_json(described) == make_cupy_api.PATH.read_text(encoding="utf-8")


def test_api_file_is_about_cupy():
    assert API["functions"]["take"] == [
        ["a", 1, False],
        ["indices", 1, False],
        ["axis", 1, True],
        ["out", 1, True],
    ]
    assert API["methods"]["dot"] == [["b", 1, False], ["out", 1, True]]
    assert API["methods"]["reshape"] == [["shape", 2, False], ["order", 3, True], ["copy", 3, True]]
    assert {"exp", "add"} <= set(API["ufuncs"])
    assert {"pi", "float32"} <= set(API["values"])
    assert "get" in API["ndarray"]


def test_the_stand_in_has_no_name_that_cupy_lacks():
    public = {name for name in dir(strictxp.ndarray) if not name.startswith("_")}
    assert public <= set(API["ndarray"])
    wanted = (
        "T all any argmax argmin astype base clip copy dot dtype fill flags get imag item itemsize"
    )
    wanted += " max mean min nbytes ndim prod ravel real reshape set shape size squeeze strides sum"
    wanted += " tolist transpose view"
    assert set(wanted.split()) <= public
    assert "flat" not in public


@pytest.mark.parametrize("name", ["array", "asarray", "asnumpy"])
def test_functions_by_hand_have_cupys_signature(name):
    parameters = inspect.signature(getattr(strictxp, name)).parameters.values()
    described = [[p.name, int(p.kind), p.default is not p.empty] for p in parameters]
    assert described == API["functions"][name]


@pytest.mark.parametrize("name", ["get", "set", "fill"])
def test_methods_by_hand_have_cupys_signature(name):
    parameters = list(inspect.signature(getattr(strictxp.ndarray, name)).parameters.values())[1:]
    described = [[p.name, int(p.kind), p.default is not p.empty] for p in parameters]
    assert described == API["methods"][name]


def test_lists_of_names_hold_names_of_cupy():
    known = set(API["functions"]) | set(API["methods"])
    for names in ("_SYNCS", "_TAKE_SCALARS", "_GIVE_ARRAYS", "_ELEMENTWISE"):
        assert getattr(strictxp, names) <= known
    parameters = {p[0] for described in API["functions"].values() for p in described or ()}
    assert parameters >= strictxp._SETTINGS


def test_every_name_of_both_can_be_had():
    for kind in ("functions", "ufuncs", "values"):
        for name in API[kind]:
            if hasattr(np, name):
                assert hasattr(strictxp, name)
            elif name != "asnumpy":
                assert not hasattr(strictxp, name)
