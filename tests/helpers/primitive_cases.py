"""One table of cases for every primitive, and the check that holds a backend against the meaning.

The meaning is the text of ``base.py`` on NumPy. A result may differ from it by ``ulps`` roundings,
relative to its own size or to ``scale``, the size of the terms that cancel in it; ``ulps=0`` means
the same value (not the same sign of zero). Where ``same_order`` is asked for, a case that is
``elementary`` (only + - · / √, each correctly rounded on every machine, and no sum) must be exact
too: the kernels do the operations of ``base.py`` in its order. An array that is passed for two
parameters is one array on the backend as well.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import numpy as np

from xpnet.backend import cuda
from xpnet.backend.base import Backend, mix64
from xpnet.backend.options import (
    AdamOptions,
    AdamState,
    CrossEntropyArrays,
    MomentumOptions,
    RMSpropOptions,
)

FLOATS = (np.float32, np.float64)
SHAPES = ((1, 1), (3, 5), (1, 33), (33, 1), (70, 31), (9, 64), (130, 100), (0, 5))
ARRAY_METHODS = {"empty", "zeros", "asarray", "asnumpy", "owns", "require"}  # check_array_methods
# test_capture.py and test_capture_memory.py
ARRAY_METHODS |= {"capture", "aside", "off_path", "join", "renew", "here", "peak_memory"}
ARRAY_METHODS |= {"batch_total"}  # no array: the size of a batch, see test_normalization.py
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e4, -1e4, 1e-30, -1e-30])

KEY = np.array([0xF123456789ABCDEF], np.uint64)
GROUPS = {  # arguments that a primitive takes as one tuple; the cases name its members
    "softmax_cross_entropy": {"out": CrossEntropyArrays},
    "momentum": {"options": MomentumOptions},
    "rmsprop": {"options": RMSpropOptions},
    "adam": {"state": AdamState, "options": AdamOptions},
}
JUNK = -1234.5  # what results and scratch hold before: a value that is never a result


WITH_CUPY = ("cupy_device", "on_cupy", "cupy_probe")


def _import_with_cupy() -> list[ModuleType]:
    """Import what needs CuPy also where CuPy is not installed: it needs only the name."""
    names = [f"xpnet.backend.{name}" for name in WITH_CUPY]
    if importlib.util.find_spec("cupy"):
        return [importlib.import_module(name) for name in names]
    sys.modules["cupy"] = ModuleType("cupy")
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        for name in ("cupy", "xpnet.backend.capture", *names):
            sys.modules.pop(name, None)


cupy_device, on_cupy, cupy_probe = _import_with_cupy()


class Meaning(Backend):
    """The text of ``base.py`` itself, on NumPy."""

    name = "meaning"
    module = np
    on_host = True

    def asnumpy(self, a: Any) -> np.ndarray:
        return np.asarray(a)


@dataclass
class Case:
    primitive: str
    title: str
    results: tuple[str, ...]  # the parameters that the primitive writes
    arguments: dict[str, Any]  # arrays, numbers and axes
    ulps: float
    scale: Any
    elementary: bool
    kernel: bool  # on a GPU: False where the text of base.py itself runs
    before: dict[str, int] = field(default_factory=dict)  # elements in front of a vector

    def __str__(self) -> str:
        return f"{self.primitive}-{self.title}"

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        return {name: a for name, a in self.arguments.items() if isinstance(a, np.ndarray)}

    @property
    def finite(self) -> bool:
        floats = (a for a in self.arrays.values() if a.dtype.kind == "f")
        return all(np.isfinite(a).all() for a in floats)


def _case(
    primitive: str,
    title: str,
    results: str = "out",
    *,
    ulps: float = 0,
    scale: Any = 0.0,
    elementary: bool = False,
    kernel: bool = True,
    **arguments: Any,
) -> Case:
    names = tuple(results.split())
    return Case(primitive, title, names, arguments, ulps, scale, elementary, kernel)


def public(cls: type, above: type = Backend) -> set[str]:
    """Return the methods that a class defines itself or by the classes between it and ``above``."""
    own = [kind for kind in cls.__mro__ if kind not in above.__mro__]
    names = {name for kind in own for name, value in vars(kind).items() if callable(value)}
    return {name for name in names if not name.startswith("_")}


def primitives() -> set[str]:
    """Return the names of all methods of `Backend`."""
    return public(Backend, object)


def grouped(primitive: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments by name as the primitive takes them."""
    made = dict(arguments)
    for name, kind in GROUPS.get(primitive, {}).items():
        members = {field: made.pop(field) for field in kind._fields if field in made}
        if members:
            made[name] = kind(**members)
    return made


# ---- the check -----------------------------------------------------------------------------------


def check(
    xp: Backend, case: Case, *, same_order: bool, place: Callable[..., Any] | None = None
) -> None:
    """Run the case on ``xp`` and on the meaning and compare all arrays and what is returned."""
    wanted, got = copies(case), copies(case, place or xp.asarray)
    wanted_return, got_return = run(Meaning(), case, wanted), run(xp, case, got)
    ulps = 0 if same_order and case.elementary else case.ulps
    written = [id(case.arguments[name]) for name in case.results]
    for name, before in case.arrays.items():
        host = np.asarray(xp.asnumpy(got[name]))
        if id(before) in written:
            scale = case.scale[name] if isinstance(case.scale, dict) else case.scale
            compare(f"{case}: {name}", host, wanted[name], ulps, scale)
        elif name not in ("work", "hot"):
            assert host.tobytes() == before.tobytes(), f"{case}: {name} was changed"
    assert _which(got_return, got) == _which(wanted_return, wanted), f"{case}: what is returned"


def copies(case: Case, place: Callable[..., Any] = np.asarray) -> dict[str, Any]:
    """Return fresh arrays by name, as ``place`` makes them."""
    by_id = {id(a): _placed(a, case.before.get(name, 0), place) for name, a in case.arrays.items()}
    return {name: by_id[id(a)] for name, a in case.arrays.items()}


def _placed(a: np.ndarray, before: int, place: Callable[..., Any]) -> Any:
    """Return a copy of a; one of a vector may begin some elements after the start of its memory."""
    if not before:
        return place(a.copy())
    return place(np.concatenate([_junk(before, a.dtype), a]))[before:]


def run(xp: Backend, case: Case, arrays: dict[str, Any]) -> Any:
    """Call the primitive; numbers that are finite must not even make NumPy warn."""
    quiet = nullcontext() if case.finite else np.errstate(all="ignore")
    with quiet:
        return getattr(xp, case.primitive)(**grouped(case.primitive, case.arguments | arrays))


def _which(returned: Any, arrays: dict[str, Any]) -> list[str]:
    names = [name for name, a in arrays.items() if a is returned]
    assert names or returned is None, "what is returned is none of the arrays"
    return names


def compare(title: str, got: np.ndarray, want: np.ndarray, ulps: float, scale: Any) -> None:
    """Compare values: NaN and infinities at the same places, the rest to within the roundings."""
    assert got.dtype == want.dtype, f"{title}: {got.dtype} instead of {want.dtype}"
    assert got.shape == want.shape, f"{title}: {got.shape} instead of {want.shape}"
    if ulps == 0:
        np.testing.assert_array_equal(got, want, err_msg=title)
        return
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite], err_msg=title)
    wide = np.result_type(want, np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(got.astype(wide) - want)
        size = np.maximum(np.abs(want.astype(wide)), np.nan_to_num(scale, nan=0.0, posinf=0.0))
        limit = ulps * np.finfo(want.dtype).eps * size + np.finfo(want.dtype).tiny
        wrong = finite & ~(off <= limit)
    if wrong.any():
        i = np.unravel_index(np.argmax(np.where(wrong, off / limit, 0)), want.shape)
        raise AssertionError(
            f"{title}: {wrong.sum()} of {want.size} values are off by more than {ulps} roundings; "
            f"the worst is {got[i]!r} instead of {want[i]!r} at {i}"
        )


def check_array_methods(xp: Backend) -> None:
    """``empty``, ``zeros``, ``asarray``, ``asnumpy``, ``owns`` and ``require``."""
    ndarray = xp.module.ndarray
    for a in (xp.empty((2, 3), np.float32), xp.zeros((2, 3), np.float32)):
        assert isinstance(a, ndarray)
        assert (a.shape, a.dtype, a.flags.c_contiguous) == ((2, 3), np.float32, True)
    assert xp.zeros((), np.float64).shape == ()
    assert not xp.asnumpy(xp.zeros(5, np.int64)).any()
    host = np.arange(6, dtype=np.float64).reshape(2, 3)
    for source in (host, host.T, host[:, ::2], np.asfortranarray(host), xp.asarray(host).T):
        a = xp.asarray(source, dtype=np.float32)
        assert isinstance(a, ndarray)
        assert (a.dtype, a.shape, a.flags.c_contiguous) == (np.float32, source.shape, True)
        back = xp.asnumpy(a)
        assert type(back) is np.ndarray
        np.testing.assert_array_equal(back, xp.asnumpy(source))
    assert xp.asarray(host).dtype == np.float64
    assert xp.asarray(xp.asarray(host)) is not None
    assert xp.owns(xp.zeros(1, np.float32))
    assert not xp.owns([1.0])
    xp.require(xp.zeros(1, np.float32), "ReLU()", "X")


# ---- the table -----------------------------------------------------------------------------------


def cases() -> list[Case]:
    """All cases, in the order of ``base.py``."""
    makers = (_vocabulary, _activations, _rows, _losses, _gathers, _records, _masks, _optimizers)
    return [case for make in makers for case in make()]


def _random(shape: Any, dtype: Any, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng([seed, *np.atleast_1d(np.array(shape, int))])
    return np.asarray(3 * rng.normal(size=shape), dtype)


def _special(dtype: Any, seed: int) -> np.ndarray:
    """All pairs of special values stand opposite each other in seeds 0 and 1."""
    n = len(SPECIAL)
    a = np.tile(SPECIAL, (n, 1)) if seed % 2 else np.tile(SPECIAL[:, None], (1, n))
    return a.astype(dtype)


def _junk(shape: Any, dtype: Any) -> np.ndarray:
    return np.full(shape, JUNK if np.dtype(dtype).kind == "f" else 77, dtype)


def _inputs(dtype: Any, n: int) -> Iterator[tuple[str, tuple[np.ndarray, ...]]]:
    """n matrices of one shape: random ones, and all pairs of special values."""
    letter = np.dtype(dtype).char
    for shape in SHAPES:
        title = f"{letter}-{shape[0]}x{shape[1]}"
        yield title, tuple(_random(shape, dtype, seed) for seed in range(n))
    yield f"{letter}-special", tuple(_special(dtype, seed) for seed in range(n))


def _vocabulary() -> Iterator[Case]:
    for dtype in FLOATS:
        A, B = _random((7, 9), dtype, 1), _random((7, 9), dtype, 2)
        letter, out = np.dtype(dtype).char, _junk((7, 9), dtype)
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
            for kind, b in (("matrix", B), ("row", B[0]), ("column", B[:, :1]), ("number", 0.1)):
                yield _case(name, f"{letter}-{kind}", A=A, B=b, out=out)
            yield _case(name, f"{letter}-in-place", A=A, B=B[0], out=A)
            yield _case(name, f"{letter}-twice", A=A, B=A, out=A)
            a, b = _special(dtype, 0), _special(dtype, 1)
            yield _case(name, f"{letter}-special", A=a, B=b, out=_junk(a.shape, dtype))
        for name in ("subtract", "divide"):
            yield _case(name, f"{letter}-of-1", A=1.0, B=B, out=out)
        positive = np.abs(A)
        for name, ulps in (("sqrt", 0), ("log", 4), ("tanh", 4)):
            yield _case(name, f"{letter}-random", A=positive, out=out, ulps=ulps)
            yield _case(name, f"{letter}-in-place", A=positive, out=positive, ulps=ulps)
            yield _case(name, f"{letter}-special", A=a, out=_junk(a.shape, dtype), ulps=ulps)
        yield from _copies(dtype, letter)
        yield from _products(dtype, letter)
        yield from _sums(dtype, letter)
        for axis, shape in ((0, (1, 9)), (1, (7, 1))):
            yield from _means(A, axis, shape)
            yield _case("max", f"{letter}-{axis}", A=A, axis=axis, out=_junk(shape, dtype))
        table, indices = _random((20, 3, 2), dtype), np.array([19, 0, 7, 7])
        yield _case("take", f"{letter}-rows", A=table, indices=indices, out=_junk((4, 3, 2), dtype))
        line, one = table[:, 0, 0].copy(), np.array([4])
        yield _case("take", f"{letter}-one", A=line, indices=one, out=_junk(1, dtype))
    counter = np.array([2**64 - 1, 5], np.uint64)
    yield _case("add", "Q-wraps", A=counter, B=1, out=counter)


def _copies(dtype: Any, letter: str) -> Iterator[Case]:
    out = _junk((4, 6), dtype)
    for kind, source in {
        "same": _random((4, 6), dtype),
        "row": _random((1, 6), dtype),
        "double": _random((4, 6), np.float64),
        "integers": np.arange(24).reshape(4, 6) - 9,
        "pixels": np.arange(24, dtype=np.uint8).reshape(4, 6) + np.uint8(200),
        "truth": np.arange(24).reshape(4, 6) % 3 == 0,
        "special": np.resize(SPECIAL, (4, 6)),
        "0": 0,
        "2.5": 2.5,
        "infinity": np.inf,
    }.items():
        yield _case("copyto", f"{letter}-{kind}", A=source, out=out)


def _products(dtype: Any, letter: str) -> Iterator[Case]:
    for n, k, m in ((1, 1, 1), (3, 5, 2), (33, 17, 9), (4, 1, 6)):
        A, B, out = _random((n, k), dtype, 1), _random((k, m), dtype, 2), _junk((n, m), dtype)
        scale = np.abs(A).astype(np.float64) @ np.abs(B)
        title = f"{letter}-{n}x{k}x{m}"
        yield _case("matmul", title, A=A, B=B, out=out, ulps=k + 2, scale=scale)
        before = _random((n, m), dtype, 4)
        both = scale + np.abs(before)
        yield _case("add_matmul", title, A=A, B=B, out=before, ulps=k + 2, scale=both)
        b = _random((m,), dtype, 3)
        for f in ("", "relu", "sigmoid", "tanh"):
            arrays = {"X": A, "W": B, "b": b, "out": out, "scale": scale + np.abs(b) + 1}
            yield _case("affine", f"{title}-{f}", f=f, ulps=k + 8, **arrays)
    X, W = np.zeros((3, 2), dtype), _random((2, len(SPECIAL)), dtype)
    for f in ("", "relu", "sigmoid", "tanh"):
        out, b = _junk((3, len(SPECIAL)), dtype), SPECIAL.astype(dtype)
        yield _case("affine", f"{letter}-special-{f}", X=X, W=W, b=b, out=out, f=f, ulps=8)
    A, B, out = _random((6, 4), dtype), _random((5, 6), dtype, 1), _junk((4, 5), dtype)
    scale = np.abs(A.T).astype(np.float64) @ np.abs(B.T)
    yield _case("matmul", f"{letter}-views", A=A.T, B=B.T, out=out, ulps=8, scale=scale)


def _sums(dtype: Any, letter: str) -> Iterator[Case]:
    """Over each axis and all, kept and dropped; more than 1024 are added in parts on a GPU."""
    shapes = (4, 3, 5), (7,), (1024,), (1025,), (30, 90), (1, 5000), (2100, 3), (3000, 33), ()
    for shape in (*SHAPES, *shapes):
        for axis in (None, *range(-1, len(shape))) if shape else (None,):
            for keepdims in (False, True):
                yield _sum(_random(shape, dtype), axis, keepdims)
    yield _sum(_random((1_100_000,), dtype), None, False)
    rows, out = _special(dtype, 0), _junk(len(SPECIAL), dtype)
    yield _case("sum", f"{letter}-special", A=rows, axis=1, out=out, ulps=16, scale=1e5)
    for shape, axis in (((7, 3), 0), ((7, 3), 1), ((7, 3), None), ((90,), 0), ((0, 4), 0)):
        A = _random(shape, dtype)
        scale = np.sum(np.abs(A), axis=axis, dtype=np.float64)
        before = _random(scale.shape, dtype, 1)
        both = scale + np.abs(before)
        title = f"{letter}-{'x'.join(map(str, shape))}-{axis}"
        arrays = {"A": A, "axis": axis, "out": before}
        yield _case("add_sum", title, ulps=16, scale=both, kernel=A.size > 0, **arrays)
    A, out = np.ones((5, 6), dtype), _junk((), np.float64)
    yield _case("sum", f"{letter}-into-double", A=A, out=out, kernel=dtype is np.float64)


def _sum(A: np.ndarray, axis: int | None, keepdims: bool) -> Case:
    scale = np.sum(np.abs(A), axis=axis, keepdims=keepdims, dtype=np.float64)
    return _case(
        "sum",
        f"{A.dtype.char}-{'x'.join(map(str, A.shape))}-{axis}-{keepdims}",
        A=A,
        axis=axis,
        keepdims=keepdims,
        out=_junk(scale.shape, A.dtype),
        ulps=16,
        scale=scale,
        kernel=A.size > 0 and (axis in (None, -1, A.ndim - 1) or A.ndim == 2),
    )


def _means(A: np.ndarray, axis: int, shape: tuple[int, ...]) -> Iterator[Case]:
    for out in (_junk(shape, A.dtype), _junk(A.shape[1 - axis], A.dtype)):
        title = f"{A.dtype.char}-{axis}-{out.ndim}"
        arrays = {"A": A, "axis": axis, "out": out, "keepdims": out.ndim == 2}
        yield _case("mean", title, ulps=16, scale=1.0, **arrays)


def _activations() -> Iterator[Case]:
    for dtype in FLOATS:
        for title, (X, dY) in _inputs(dtype, 2):
            out, work = _junk(X.shape, dtype), _junk(X.shape, dtype)
            for slope in (0.0, 0.01):
                yield _case("relu", f"{title}-{slope}", X=X, out=out, slope=slope)
                yield _case("relu_grad", f"{title}-{slope}", dY=dY, Y=X, out=out, slope=slope)
            yield _case("sigmoid", title, X=X, out=out, ulps=8)
            yield _case("softplus", title, X=X, out=out, ulps=8)
            with np.errstate(all="ignore"):
                Y, T = 1 / (1 + np.exp(-X)), np.tanh(X * (0.8 + 0.036 * X * X))
                x, dy = np.abs(X.astype(np.float64)), np.abs(dY.astype(np.float64))
                slopes = dy * (2 + x * (1 + 0.15 * x**2))
            exact = {"out": out, "ulps": 8, "elementary": True}
            yield _case("sigmoid_grad", title, dY=dY, Y=Y, **exact)
            yield _case("tanh_grad", title, dY=dY, Y=T, scale=dy, **exact)
            yield _case("gelu", title, "out T", X=X, out=out, T=work, ulps=8, scale=x)
            yield _case("normal", title, "out density", **_normal(X))
            yield _case("gelu_grad", title, dY=dY, X=X, T=T, work=work, scale=slopes, **exact)
        yield from _activation_grads(dtype)
    yield from _other_types()


def _normal(X: np.ndarray) -> dict[str, Any]:
    """φ(X) feels the rounding of X² times X²; so does Φ(X), but no more than its smaller side."""
    with np.errstate(all="ignore"):
        x = np.minimum(np.abs(X.astype(np.float64)), 40)
        size = (1 + x * x) * np.exp(-x * x / 2)
    arrays = {name: _junk(X.shape, X.dtype) for name in ("out", "density", "work")}
    scale = {"out": size + (X > 0), "density": size}
    return {"X": X, **arrays, "ulps": 16, "scale": scale}


def _activation_grads(dtype: Any) -> Iterator[Case]:
    """With their sums over the rows, which on a GPU may be made of parts."""
    letter = np.dtype(dtype).char
    more = ((f"{letter}-{n}x{m}", (_random((n, m), dtype), _random((n, m), dtype, 1)))
            for n, m in ((2100, 5), (1024, 40), (2048, 33)))  # fmt: skip
    for title, (Z, dY) in [*_inputs(dtype, 2), *more]:
        with np.errstate(all="ignore"):
            values = {"relu": np.maximum(Z, 0), "sigmoid": 1 / (1 + np.exp(-Z)), "tanh": np.tanh(Z)}
            size = np.nan_to_num(np.abs(dY.astype(np.float64)), posinf=0.0)
        for f, Y in values.items():
            out, db = _junk(Z.shape, dtype), _junk(Z.shape[1], dtype)
            scale = {"out": size, "db": size.sum(axis=0)}
            arrays = {"dY": dY, "Y": Y, "out": out, "db": db, "ulps": 16, "scale": scale}
            yield _case("affine_grad", f"{title}-{f}", "out db", f=f, **arrays)


def _other_types() -> Iterator[Case]:
    """No kernel takes float16 or two types at once: the text of base.py runs, on any backend."""
    X, out = _random((3, 5), np.float16), _junk((3, 5), np.float16)
    yield _case("relu", "e", X=X, out=out, slope=0.5, kernel=False)
    yield _case("sigmoid", "e", X=X, out=out, ulps=8, kernel=False)
    X, out = _random((3, 5), np.float32), _junk((3, 5), np.float64)
    yield _case("relu", "f-to-d", X=X, out=out, kernel=False)


def _rows() -> Iterator[Case]:
    for dtype in FLOATS:
        for title, (X, dY) in [*_inputs(dtype, 2), *_more_rows(dtype)]:
            out, work = _junk(X.shape, dtype), _junk((len(X), 1), dtype)
            yield _case("softmax", title, X=X, out=out, work=work, ulps=16)
            with np.errstate(all="ignore"):
                E = np.exp(X - X.max(axis=1, keepdims=True))
                Y = E / E.sum(axis=1, keepdims=True)
                terms = np.abs(dY * Y).sum(axis=1, keepdims=True, dtype=np.float64)
                scale = np.abs(Y) * (np.abs(dY) + terms)
            arrays = {"dY": dY, "Y": Y, "out": out, "work": work}
            yield _case("softmax_grad", title, ulps=16, scale=scale, **arrays)


def _more_rows(dtype: Any) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Ties, large scores, infinities in single rows, and a NaN at every place of a row."""
    letter, dY = np.dtype(dtype).char, _random((6, 40), dtype, 1)
    large, ties = 1e4 * _random((6, 40), dtype), np.zeros((6, 40), dtype)
    ties[2:, ::3] = 7
    lost, infinite = np.tile(_random(40, dtype), (40, 1)), _random((6, 40), dtype)
    np.fill_diagonal(lost, np.nan)
    infinite[0, 39] = np.inf
    infinite[1, 3] = infinite[3] = infinite[4, 5:] = -np.inf
    yield f"{letter}-large", (large.astype(dtype), dY)
    yield f"{letter}-ties", (ties, dY)
    yield f"{letter}-nan", (lost, _random((40, 40), dtype, 1))
    yield f"{letter}-infinite", (infinite, dY)


def _losses() -> Iterator[Case]:
    for dtype in FLOATS:
        letter = np.dtype(dtype).char
        for kind, labels, classes in (
            ("outside", np.array([0, 4, -1, 5, 2, 2**40, -5]), 5),
            ("one", np.zeros(1, np.int64), 1),
            ("many", np.arange(300) % 10, 10),
            ("none", np.zeros(0, np.int64), 10),
        ):
            out = _junk((len(labels), classes), dtype)
            yield _case("one_hot", f"{letter}-{kind}", labels=labels, out=out)
        for code in (np.int32, np.uint8):
            labels, out = np.array([3, 0, 2], code), _junk((3, 4), dtype)
            title = f"{letter}-{code.__name__}"
            yield _case("one_hot", title, labels=labels, out=out, kernel=False)
        for title, (Z, other) in [*_inputs(dtype, 2), *_more_rows(dtype)]:
            one_hot = np.eye(Z.shape[1], dtype=dtype)[np.arange(len(Z)) % Z.shape[1]]
            yield _cross_entropy(f"{title}-soft", Z, np.abs(other))
            yield _cross_entropy(f"{title}-one-hot", Z, one_hot, scale=0.1)
            labels = np.arange(len(Z)) % (Z.shape[1] + 1)  # one is outside
            yield _cross_entropy(f"{title}-labels", Z, labels)
            yield _cross_entropy(f"{title}-labels-mean", Z, labels, scale=1 / 3)


def _cross_entropy(title: str, Z: np.ndarray, T: np.ndarray, **options: float) -> Case:
    """All its sums have terms of one sign; only P - T cancels, where the scale is its terms."""
    losses, dZ, work = _junk(len(Z), Z.dtype), _junk(Z.shape, Z.dtype), _junk(Z.shape, Z.dtype)
    arrays = {"Z": Z, "T": T, "losses": losses, "dZ": dZ, "work": work}
    if T.ndim == 1:
        arrays["hot"] = _junk(Z.shape, Z.dtype)
        T = np.ones_like(Z)
    size = {"losses": 0.0, "dZ": np.nan_to_num(np.abs(T), posinf=0.0) + 1}
    case = _case("softmax_cross_entropy", title, "losses dZ", ulps=16, scale=size, **arrays)
    case.arguments |= options
    return case


def _gathers() -> Iterator[Case]:
    order, position = np.random.default_rng(5).permutation(40), np.array([11])
    pixels = np.arange(40 * 7, dtype=np.uint8).reshape(40, 7)
    for dtype in FLOATS:
        letter = np.dtype(dtype).char
        data = np.resize(np.concatenate([SPECIAL, _random(269, dtype)]), (40, 7)).astype(dtype)
        for kind, source, n in (
            ("values", data, 13),
            ("images", data.reshape(40, 1, 7), 29),
            ("single", data[:, 0], 5),
            ("nothing", data, 0),
            ("pixels", pixels, 13),
            ("pixel-images", np.tile(pixels, (1, 3)).reshape(40, 3, 7), 29),
        ):
            shape = (n, *source.shape[1:])
            scratch = {"work": np.zeros(shape, np.uint8)} if source.dtype == np.uint8 else {}
            yield _gather(f"{letter}-{kind}", source, order, position, _junk(shape, dtype), scratch)
        every, start = np.arange(256, dtype=np.uint8)[:, None], np.array([0])
        scratch, out = {"work": np.zeros((256, 1), np.uint8)}, _junk((256, 1), dtype)
        yield _gather(f"{letter}-all-pixels", every, np.arange(256)[::-1], start, out, scratch)
    several, out = np.arange(120).reshape(40, 3), _junk((13, 3), np.int64)
    yield _gather("several", several, order, position, out, {})
    for code in (np.int64, np.int32, np.uint8):
        labels, out = (np.arange(40) * 6).astype(code), _junk(13, code)
        kernel = code is not np.int32
        yield _gather(code.__name__, labels, order, position, out, {}, kernel=kernel)


def _records() -> Iterator[Case]:
    for dtype in FLOATS:
        letter = np.dtype(dtype).char
        for place, value in ((0, 2.5), (4, np.nan), (6, -0.1)):
            arrays = {"value": np.array(value, dtype), "out": _random(7, dtype)}
            arrays["position"] = np.array([place])
            yield _case("record", f"{letter}-{place}", "out position", **arrays)


def _gather(
    title: str,
    data: np.ndarray,
    order: np.ndarray,
    position: np.ndarray,
    out: np.ndarray,
    scratch: dict[str, np.ndarray],
    kernel: bool = True,
) -> Case:
    arrays = {"data": data, "order": order, "position": position, "out": out, **scratch}
    return _case("gather", title, kernel=kernel, **arrays)


def _masks() -> Iterator[Case]:
    for dtype in FLOATS:
        letter = np.dtype(dtype).char
        for shape in ((1, 1), (3, 5), (70, 31), (0, 5), (4, 3, 2)):
            for keep, drawn in ((0.5, 0), (0.7, 1), (0.85, 2**64 - 1), (1.0, 3), (0.01, 4)):
                yield _mask(
                    f"{letter}-{'x'.join(map(str, shape))}-{keep}", dtype, shape, keep, drawn
                )
        lowest = int(mix64(mix64(KEY + mix64(np.array([9], np.uint64))))[0]) >> 11
        yield _mask(f"{letter}-limit", dtype, (3,), lowest / 2**53, 9)  # its own is not below
        yield _mask(f"{letter}-piece", dtype, (3, 5), 0.5, 9, first=2**40 + 1)


def _mask(
    title: str, dtype: Any, shape: tuple[int, ...], keep: float, drawn: int, first: int = 0
) -> Case:
    return _case(
        "dropout_mask",
        title,
        key=KEY,
        counter=np.array([drawn], np.uint64),
        out=_junk(shape, dtype),
        keep=keep,
        work=np.zeros((2, 7), np.uint64),
        first=first,
    )


def _optimizers() -> Iterator[Case]:
    for dtype in FLOATS:
        letter = np.dtype(dtype).char
        for n in (0, 1, 7, 1003):
            p, g, m = (_random(n, dtype, seed) for seed in range(3))
            yield from updates(f"{letter}-{n}", p, g, m, np.abs(_random(n, dtype, 3)))
            yield from updates(f"{letter}-{n}-first", p, g, np.zeros_like(p), np.zeros_like(p))
        yield from _large_updates(dtype)
        strange = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 1e4], dtype)
        p, m = _random(7, dtype, 1), _random(7, dtype, 2)
        yield from updates(f"{letter}-special", p, strange, m, np.abs(m))


def _large_updates(dtype: Any) -> Iterator[Case]:
    """Of more elements than a GPU starts threads; where a vector begins decides how it is read."""
    n = cuda.MAX_BLOCKS * cuda.BLOCK + 3
    p, g, m = (_random(n, dtype, seed) for seed in range(3))
    for title, before in (("even", {}), ("odd", dict.fromkeys("pgmvs", 1)), ("g-odd", {"g": 2})):
        before = {name: k * 4 // p.itemsize for name, k in before.items()}
        for case in updates(f"{p.dtype.char}-{n}-{title}", p, g, m, np.abs(m)):
            yield replace(case, before=before)


def updates(
    title: str, p: np.ndarray, g: np.ndarray, m: np.ndarray, v: np.ndarray
) -> Iterator[Case]:
    """Each optimizer on the same arrays; no two of its numbers are equal, and ε is not small."""
    size = np.abs(p).astype(np.float64) + np.abs(g) + np.abs(m) + 1
    base = {"p": p, "g": g, "rate": np.array([0.1]), "work": np.full_like(p, JUNK)}
    base |= {"ulps": 8, "scale": size, "elementary": True}
    yield _case("sgd", title, "p", **base)
    for nesterov in (False, True):
        yield _case(
            "momentum", f"{title}-{nesterov}", "p v", v=m, mu=0.9, nesterov=nesterov, **base
        )
    yield _case("rmsprop", title, "p s", s=v, rho=0.99, eps=1e-3, **base)
    powers, numbers = np.array([0.9**3, 0.999**3]), {"beta1": 0.9, "beta2": 0.999, "eps": 1e-3}
    for decay in (0.0, 0.03):
        arrays = {"m": m, "v": v, "powers": powers, "decay": decay}
        yield _case("adam", f"{title}-{decay}", "p m v", **arrays, **numbers, **base)
