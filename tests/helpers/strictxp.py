"""A strict stand-in for CuPy that runs on the CPU.

It holds NumPy arrays and computes with NumPy, under CuPy's rules, so that code which would break,
wait for the device, or silently go wrong on a GPU fails on any machine::

    import strictxp as xp

    X = xp.asarray(host_array)                 # on the "device": no NumPy function sees the data
    with xp.no_sync(), xp.no_alloc():
        xp.matmul(X, W, out=Y)                 # fine
        float(loss)                            # Synchronized: the host would wait here
        Y = X @ W                              # Allocated: a new device array

Names and signatures are CuPy's, read from ``cupy_api.json``; CuPy itself is not imported. Rules
that are stricter than CuPy's, where CuPy's answer is undefined or hides a copy, say "stricter".
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

API = json.loads(Path(__file__).with_name("cupy_api.json").read_text(encoding="utf-8"))


# --- What may be forbidden for a while -------------------------------------------------------


class Synchronized(RuntimeError):
    """The host would read from the device, or write to it, and wait."""


class Allocated(RuntimeError):
    """A new device array would be made."""


class OnAnotherDevice(RuntimeError):
    """An array of one device is used while another device is current in this thread.

    Stricter: CuPy goes from one GPU to the other where the machine can do that, and warns.
    """


class _Now(threading.local):
    """What holds in a thread at present."""

    uploads = False  # may there be copies from the host where nobody may wait?

    def __init__(self) -> None:
        self.forbidden: dict[type[Exception], bool] = {Synchronized: False, Allocated: False}
        self.queue: Callable[[Callable[[], Any]], Any] | None = None
        self.malloc: Callable[[int], Any] | None = None
        self.device = 0


_now = _Now()


@contextlib.contextmanager
def _set_forbidden(error: type[Exception], forbidden: bool) -> Iterator[None]:
    before = _now.forbidden[error]
    _now.forbidden[error] = forbidden
    try:
        yield
    finally:
        _now.forbidden[error] = before


def no_sync():
    """In this block everything that makes host and device wait for each other raises."""
    return _set_forbidden(Synchronized, True)


@contextlib.contextmanager
def no_reading() -> Iterator[None]:
    """In this block reading from the device raises; that is what CuPy itself can look for."""
    before, _now.uploads = _now.uploads, True
    try:
        with no_sync():
            yield
    finally:
        _now.uploads = before


def no_alloc():
    """In this block everything that makes a new device array raises Allocated."""
    return _set_forbidden(Allocated, True)


def allow_sync():
    """Inside no_sync(): host and device may wait for each other."""
    return _set_forbidden(Synchronized, False)


def allow_alloc():
    """Inside no_alloc(): for the plain text of a primitive that is one kernel on a GPU."""
    return _set_forbidden(Allocated, False)


# --- What is queued, and may run later -------------------------------------------------------


@contextlib.contextmanager
def queue(queue: Callable[[Callable[[], Any]], Any]) -> Iterator[None]:
    """In this block nothing is computed: ``queue`` gets what the device would have to do.

    As in the capture of a CUDA graph: arguments are what they are now, the contents of arrays are
    what they will be. Nobody may wait for the device.
    """
    before, _now.queue = _now.queue, queue
    try:
        with no_sync():
            yield
    finally:
        _now.queue = before


def _compute(function: Callable[..., Any], args: Any, kwargs: Any, outs: Any) -> Any:
    """Call NumPy, now or later; a result that is not given with out= is a new array either way."""
    if _now.queue is None:
        return function(*args, **kwargs)
    if outs:
        _now.queue(lambda: function(*args, **kwargs))
        return outs[0] if len(outs) == 1 else outs
    with np.errstate(all="ignore"):  # the values that are there now are of no interest
        made = function(*args, **kwargs)
    if not isinstance(made, np.ndarray | np.generic):
        return made
    if isinstance(made, np.ndarray) and any(
        np.may_share_memory(made, a) for a in args if isinstance(a, np.ndarray)
    ):
        return made  # a view
    placed = _Placed(np.asarray(made))
    host = placed.host  # what is queued does not own the block
    _now.queue(lambda: np.copyto(host, function(*args, **kwargs)))
    return placed


class _Placed:
    """The values of a new array in memory of the device, and the block that they lie in.

    The block is the array's; what is queued has only its address, as on a GPU.
    """

    def __init__(self, host: np.ndarray) -> None:
        self.block, self.host, malloc = None, host, get_allocator()
        if malloc is not None:
            self.block = malloc(host.nbytes)
            self.host = np.ndarray(host.shape, host.dtype, self.block.memory, 0, _strides(host))
            self.host[...] = host


def _strides(a: np.ndarray) -> tuple[int, ...] | None:
    """Return the strides of an array without gaps; None, which means C, for any other array."""
    return a.strides if a.flags.c_contiguous or a.flags.f_contiguous else None


_for_all_threads: list[Callable[[int], Any] | None] = [None]


def set_allocator(malloc: Callable[[int], Any] | None) -> None:
    """From now on the memory of new arrays comes from ``malloc(bytes)``, as ``memory`` of it."""
    _for_all_threads[0] = malloc


@contextlib.contextmanager
def using_allocator(malloc: Callable[[int], Any]) -> Iterator[None]:
    """In this block, in this thread, the memory of new arrays comes from there."""
    before, _now.malloc = _now.malloc, malloc
    try:
        yield
    finally:
        _now.malloc = before


def get_allocator() -> Callable[[int], Any] | None:
    """What the memory of new arrays comes from in this thread; None for NumPy's own."""
    return _now.malloc or _for_all_threads[0]


def on_host(a: Any) -> Any:
    """The values of a device array, which must be of the current device; all else as it is."""
    return _here(a) if isinstance(a, ndarray) else a


def get_device() -> int:
    """The number of the device that is current in this thread."""
    return _now.device


def set_device(device: int) -> None:
    """Make a device the current one in this thread."""
    _now.device = device


def _write(array: np.ndarray, key: Any, value: Any) -> None:
    """Assign, now or later."""
    if _now.queue is None:
        array[key] = value
    else:
        _now.queue(lambda: array.__setitem__(key, value))


def _sync(what: str) -> None:
    if _now.forbidden[Synchronized]:
        raise Synchronized(f"{what} makes the host wait for the device")


def _alloc(what: str) -> None:
    if _now.forbidden[Allocated]:
        raise Allocated(f"{what} makes a new device array")


# --- Into NumPy and back ---------------------------------------------------------------------

_SCALARS = (bool, int, float, complex, np.generic)
_DTYPES = "?bhilqBHILQefdFD"


def _operand(x: Any) -> Any:
    """NumPy's form of an operand of a ufunc: a device array or a scalar, nothing else."""
    if isinstance(x, ndarray):
        return _here(x)
    if isinstance(x, _SCALARS):
        return x
    raise TypeError(f"Unsupported type {type(x)}")


def _here(x: ndarray) -> np.ndarray:
    """The values of an array of the current device."""
    if x._device != _now.device:
        raise OnAnotherDevice(
            f"an array of device {x._device}, but device {_now.device} is current"
        )
    return x._host


def _array(x: Any) -> np.ndarray:
    """NumPy's form of an argument that must be a device array."""
    if isinstance(x, ndarray):
        return _here(x)
    raise TypeError(f"Unsupported type {type(x)}: a device array is needed")


def _anywhere(x: Any) -> np.ndarray:
    """NumPy's form of a device array, on whatever device it is."""
    return x._host if isinstance(x, ndarray) else _array(x)


def _argument(x: Any) -> Any:
    """NumPy's form of another argument: lists of device arrays, but no data from the host."""
    if isinstance(x, ndarray):
        return _here(x)
    if isinstance(x, np.ndarray):
        raise TypeError(f"Unsupported type {type(x)}")
    if isinstance(x, list | tuple):
        if {type(element) for element in x} != {ndarray}:
            raise TypeError(f"Unsupported type {type(x)} of {[type(element) for element in x]}")
        return type(x)(_here(element) for element in x)
    return x


def _setting(x: Any) -> Any:
    """NumPy's form of a shape, an axis, a count: CuPy needs the value on the host."""
    if isinstance(x, ndarray):
        _sync("a device array where the host needs a number")
        return x._host
    return x


def _anything(x: Any) -> Any:
    """NumPy's form of an argument of a function about which nothing is known."""
    return x._host if isinstance(x, ndarray) else x


def _wrap(host: np.ndarray, of: ndarray | None = None) -> ndarray:
    """A view of a device array."""
    array = object.__new__(ndarray)
    array._host, array._block = host, None
    array.base = of if of is None or of.base is None else of.base
    array._device = _now.device if of is None else of._device
    return array


def _new(host: np.ndarray | _Placed) -> ndarray:
    """A new device array."""
    placed = host if isinstance(host, _Placed) else _Placed(host)
    array = _wrap(placed.host)
    array._block = placed.block
    return array


def _result(host: Any, arrays: list[ndarray], what: str) -> Any:
    """What NumPy returned, in the form in which CuPy returns it.

    One of ``arrays``, or a view of one, costs nothing. Any other array is new, and so is a NumPy
    scalar: it becomes a 0-d array. Shapes, dtypes, None and the like stay as they are.
    """
    if isinstance(host, list | tuple):
        make = getattr(host, "_make", type(host))
        return make([_result(part, arrays, what) for part in host])
    if isinstance(host, _Placed):
        _alloc(what)
        return _new(host)
    if not isinstance(host, np.ndarray | np.generic):
        return host
    for array in arrays:
        if array._host is host:
            return array
    if host.base is not None:
        for array in arrays:
            if np.may_share_memory(host, array._host):
                return _wrap(host, array)
    if host.dtype.char not in _DTYPES:
        raise ValueError(f"Unsupported dtype {host.dtype}")
    _alloc(what)
    return _new(np.asarray(host))


# --- Indexing --------------------------------------------------------------------------------


def _index(array: ndarray, key: Any) -> tuple[tuple[Any, ...], bool]:
    """NumPy's form of ``array[key]``, and whether index arrays are in it.

    Without index arrays the key gets an ellipsis: NumPy then returns a view, never a scalar.
    """
    key = key if isinstance(key, tuple) else (key,)
    if not any(isinstance(k, _INDEX_ARRAYS) for k in key):
        return (key if any(k is Ellipsis for k in key) else (*key, ...)), False
    hosts = [_index_array(k) if isinstance(k, _INDEX_ARRAYS) else k for k in key]
    axis, counts = 0, [_count_axes(k) for k in hosts]
    for i, k in enumerate(hosts):
        if isinstance(k, np.ndarray) and k.dtype.kind in "iu":
            hosts[i] = _into_range(k, array.shape[axis])
        axis += array.ndim - sum(counts) if k is Ellipsis else counts[i]
    return tuple(hosts), True


def _index_array(k: Any) -> np.ndarray:
    if not isinstance(k, ndarray):
        _sync("an index array from the host")
        _alloc("an index array from the host")
        return np.asarray(k) if np.size(k) else np.asarray(k, int)
    if k.dtype == bool:
        _sync("a boolean mask as an index")
    return k._host


def _count_axes(k: Any) -> int:
    if k is None or k is Ellipsis:
        return 0
    return k.ndim if isinstance(k, np.ndarray) and k.dtype == bool else 1


def _into_range(indices: np.ndarray, n: int) -> np.ndarray:
    """CuPy wraps an index array into range, where NumPy raises."""
    return np.asarray(np.mod(indices, n, dtype=np.int64)) if n else indices


def _check_scatter(array: ndarray, key: tuple[Any, ...], value: Any) -> None:
    if not isinstance(value, ndarray) or value.dtype != array.dtype:
        _alloc("assigning a scalar, or another dtype, with an index array")
    if sum(isinstance(k, np.ndarray) for k in key) > 1:
        _alloc("assigning with several index arrays")
    if isinstance(value, ndarray) and value.size > 1:
        elements = np.arange(array.size).reshape(array.shape)[key]
        if len(np.unique(elements)) < elements.size:  # stricter
            raise ValueError("duplicate indices: which value stays is undefined on a GPU")


# --- The array -------------------------------------------------------------------------------


def _reader(convert: Callable[..., Any]) -> Callable[..., Any]:
    def read(self, *args):
        _sync(f"{convert.__name__}()")
        return convert(self._host, *args)

    return read


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array on the "device". Only get() and its kin bring the data to the host.

    The operators are NumPy's ufuncs, which come back to __array_ufunc__; the methods are below.
    """

    __slots__ = ("__weakref__", "_block", "_device", "_host", "base")
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape, dtype=float, *, order="C"):
        _alloc("ndarray()")
        placed = _Placed(np.empty(shape, dtype, order))
        self._host, self._block = placed.host, placed.block
        self.base, self._device = None, _now.device

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    data = property(lambda self: SimpleNamespace(ptr=self._host.ctypes.data))
    strides = property(lambda self: self._host.strides)
    T = property(lambda self: self if self.ndim < 2 else _wrap(self._host.T, self))
    mT = property(lambda self: _wrap(self._host.mT, self))
    real = property(lambda self: _result(self._host.real, [self], "real"))
    imag = property(lambda self: _result(self._host.imag, [self], "imag of a real array"))

    @property
    def flags(self):
        c, f = self._host.flags.c_contiguous, self._host.flags.f_contiguous
        return SimpleNamespace(c_contiguous=c, f_contiguous=f, owndata=self.base is None)

    # From the device to the host.

    def get(self, stream=None, order="C", out=None, blocking=True):
        _sync("get()")
        if out is None:
            return np.array(self._host, order=order)
        _check_transfer(self, out)
        out[...] = self._host
        return out

    __float__ = _reader(float)
    __int__ = _reader(int)
    __complex__ = _reader(complex)
    __bool__ = _reader(bool)
    __repr__ = _reader(repr)
    __str__ = _reader(str)
    __format__ = _reader(format)

    def __reduce__(self):
        return array, (self.get(),)

    def __array__(self, dtype=None, copy=None):
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    # From the host to the device.

    def set(self, arr, stream=None):
        _sync("set()")
        _check_transfer(self, arr)
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        self._host[...] = arr

    def fill(self, value):
        if isinstance(value, ndarray):
            _sync("fill() with a device array")
        _write(self._host, ..., _operand(value))

    # On the device.

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        before, _now.device = _now.device, self._device
        try:
            return self.copy()
        finally:
            _now.device = before

    def astype(self, dtype, order="K", *, copy=True):  # CuPy refuses casting= and subok=
        host = _compute(self._host.astype, (dtype, order), {"copy": copy}, None)
        return _result(host, [self], "astype()")

    def __len__(self):
        return len(self._host)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        key, gathers = _index(self, key)
        host = self._host[key]
        return _result(np.array(host), [], "an index array") if gathers else _wrap(host, self)

    def __setitem__(self, key, value):
        if isinstance(value, np.ndarray):
            value = value[()]  # a 0-d array is as good as a scalar here
        host, _ = _operand(value), _here(self)
        key, scatters = _index(self, key)
        if scatters:
            _check_scatter(self, key, value)
        _write(self._host, key, host)

    # NumPy's own functions and operators, called with a device array.

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__" or ufunc.__name__ not in _UFUNCS:
            return NotImplemented
        if out is not None:
            kwargs["out"] = out[0] if len(out) == 1 else out
        if (
            ufunc.__name__ in _COMPARISONS
        ):  # NumPy turns the scalar in np.float32(1) < x into an array
            inputs = [x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs]
        return _lookup(ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, function, types, args, kwargs):
        if function.__module__ != "numpy" or function.__name__ not in API["functions"]:
            return NotImplemented
        return _lookup(function.__name__)(*args, **kwargs)


_COMPARISONS = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"}
_UFUNCS = {*API["ufuncs"], "matmul"}
_INDEX_ARRAYS = (ndarray, np.ndarray, list, tuple, bool, np.bool_)


def _check_transfer(array: ndarray, host: Any) -> None:
    if not isinstance(host, np.ndarray):
        raise TypeError(f"a numpy.ndarray is needed, not {type(host)}")
    if array.dtype != host.dtype:
        raise TypeError(f"{host.dtype} on the host and {array.dtype} on the device")
    if array.shape != host.shape:
        raise ValueError(f"shape {host.shape} on the host and {array.shape} on the device")


# --- Ufuncs ----------------------------------------------------------------------------------


class ufunc:
    """An elementwise function with CuPy's arguments: no where=, order=, subok=."""

    def __init__(self, name: str) -> None:
        self.__name__ = name
        self._numpy = getattr(np, name)
        self.nin = getattr(self._numpy, "nin", 1)
        self.nout = getattr(self._numpy, "nout", 1)

    def __call__(self, *args, out=None, dtype=None, casting="same_kind"):
        if not self.nin <= len(args) <= self.nin + self.nout:
            raise TypeError(f"Wrong number of arguments for {self.__name__}: {len(args)}")
        if len(args) > self.nin:
            if out is not None:
                raise ValueError("Cannot specify 'out' as both a positional and keyword argument")
            args, out = args[: self.nin], args[self.nin :]
        hosts = [_operand(arg) for arg in args]
        arrays = [arg for arg in args if isinstance(arg, ndarray)]
        # A few of CuPy's ufuncs are plain functions in NumPy: fix, i0, sinc.
        options = {"dtype": dtype, "casting": casting} if isinstance(self._numpy, np.ufunc) else {}
        if out is not None:
            outs = out if isinstance(out, tuple) else (out,)
            options["out"] = tuple(None if out is None else _output(out) for out in outs)
            given = [out for out in outs if out is not None]
            self._check_overlaps(arrays, given)
            arrays += given
        host = _compute(self._numpy, hosts, options, options.get("out"))
        return _result(host, arrays, self.__name__)

    def _check_overlaps(self, arrays: list[ndarray], outs: list[ndarray]) -> None:
        """CuPy copies an input that overlaps an output, unless they are one and the same object."""
        for out in outs if _now.forbidden[Allocated] else ():
            for array in arrays:
                if array is not out and np.may_share_memory(array._host, out._host):
                    _alloc(f"{self.__name__} with an input that overlaps out=")

    def reduce(self, array, axis=0, dtype=None, out=None, keepdims=False):
        function = self._choose("sum", "prod")
        return function(array, axis=axis, dtype=dtype, out=out, keepdims=keepdims)

    def accumulate(self, array, axis=0, dtype=None, out=None):
        return self._choose("cumsum", "cumprod")(array, axis=axis, dtype=dtype, out=out)

    def _choose(self, for_add: str, for_multiply: str) -> Callable[..., Any]:
        if self.__name__ not in ("add", "multiply"):
            raise NotImplementedError(f"CuPy reduces with add and multiply, not {self.__name__}")
        return _lookup(for_add if self.__name__ == "add" else for_multiply)


def _output(out: Any) -> np.ndarray:
    if isinstance(out, ndarray):
        return out._host
    raise TypeError(f"Unsupported type {type(out)}: out= must be a device array")


# --- Functions -------------------------------------------------------------------------------


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Parameters whose values CuPy needs on the host.
_SETTINGS = _names("""
    shape newshape new_shape axis axes axis1 axis2 axisa axisb axisc keepdims start stop step num
    N M n k repeats reps shift pad_width decimals fill_value dims dimensions indices_or_sections
    source destination offset ddof minlength kth""")
# Functions and methods that wait for the device, most because values decide about a shape.
_SYNCS = _names("""
    argwhere array2string array_repr array_str bincount choose compress delete dump dumps extract
    flatnonzero histogram histogram2d histogramdd intersect1d isin item mask_indices nanmax nanmin
    nonzero place save savetxt savez savez_compressed setdiff1d setxor1d tobytes tofile trim_zeros
    tolist union1d unique unique_all unique_counts unique_inverse unique_values unravel_index""")
# Functions that only look at an array in another way, on whatever device it is.
_VIEWS = _names("ravel reshape squeeze swapaxes transpose view")
# Functions that take a scalar as `a`.
_TAKE_SCALARS = _names("allclose around average cross diff isclose ndim percentile round shape")
# Functions that give a Python number in NumPy and a 0-d array in CuPy.
_GIVE_ARRAYS = _names("allclose array_equal array_equiv count_nonzero")
# Functions that may write over their input.
_ELEMENTWISE = _names("around clip isneginf isposinf round")


def _function(name: str, numpy: Callable[..., Any], parameters: list[list[Any]] | None):
    """NumPy's function or method under CuPy's signature and rules."""
    signature = _signature(parameters)
    plans: dict[tuple[Any, ...], tuple[list[Callable[[Any], Any]], int | None]] = {}

    def function(*args, **kwargs):
        way = (len(args), *kwargs)
        if way not in plans:
            plans[way] = _plan(name, numpy, signature, args, kwargs)
        forms, i_out = plans[way]
        values = [*args, *kwargs.values()]
        if name in _SYNCS:
            _sync(f"{name}()")
        hosts = [form(value) for form, value in zip(forms, values, strict=True)]
        arrays = _device_arrays(values)
        if i_out is not None and values[i_out] is not None:
            _check_out(name, arrays, values[i_out])
        given = [] if i_out is None or values[i_out] is None else [hosts[i_out]]
        named = dict(zip(kwargs, hosts[len(args) :], strict=True))
        host = _compute(numpy, hosts[: len(args)], named, given)
        return _result(np.asarray(host) if name in _GIVE_ARRAYS else host, arrays, name)

    function.__name__ = name
    return function


def _signature(parameters: list[list[Any]] | None) -> inspect.Signature | None:
    if parameters is None:
        return None
    defaults = {False: inspect.Parameter.empty, True: None}
    return inspect.Signature(
        [inspect.Parameter(name, kind, default=defaults[d]) for name, kind, d in parameters]
    )


def _plan(name, numpy, signature, args, kwargs):
    """For one way to call a function: the form of each argument, and which one is ``out``."""
    if signature is None:
        return [_anything] * (len(args) + len(kwargs)), None
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"cupy.{name}{signature}: {error}") from None
    fixed = [p.name for p in signature.parameters.values() if p.kind < p.VAR_POSITIONAL]
    starred = [p.name for p in signature.parameters.values() if p.kind == p.VAR_POSITIONAL]
    _check_order(name, fixed[: len(args)], _numpy_names(numpy), signature)
    names = [*[*fixed, *starred * len(args)][: len(args)], *kwargs]
    forms = [_setting if parameter in _SETTINGS else _argument for parameter in names]
    if names[:1] in (["a"], ["condition"]) and name not in _TAKE_SCALARS:
        forms[0] = _anywhere if name in _VIEWS else _array
    return forms, names.index("out") if "out" in names else None


def _check_order(name, names, numpy_names, signature):
    """Stricter: argmax(a, 1, x) means dtype=x in CuPy and out=x in NumPy."""
    for ours, theirs in zip(names, numpy_names, strict=False):
        if ours != theirs and theirs in signature.parameters:
            raise TypeError(f"{name}: name the argument that is {ours}= here, {theirs}= in NumPy")


def _numpy_names(numpy: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(numpy).parameters)
    except ValueError:  # compiled, and without a signature
        return []


def _device_arrays(values: list[Any]) -> list[ndarray]:
    """The device arrays among the arguments of a call, and in lists of them."""
    arrays = []
    for value in values:
        if isinstance(value, ndarray):
            arrays.append(value)
        elif isinstance(value, list | tuple):
            arrays += [element for element in value if isinstance(element, ndarray)]
    return arrays


def _check_out(name: str, arrays: list[ndarray], out: Any) -> None:
    host = _output(out)
    overlaps = sum(np.may_share_memory(array._host, host) for array in arrays)
    if overlaps > 1 and name not in _ELEMENTWISE:  # stricter: a kernel may read what it has written
        raise ValueError(f"{name}: out= overlaps an input")


# --- Functions that differ from NumPy's; they see NumPy arrays ---------------------------------


def _matmul(a, b, *, out=None, **options):
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        raise TypeError(f"Unsupported type {type(a)} or {type(b)}: matmul needs device arrays")
    dtype = np.promote_types(a.dtype, b.dtype)
    for x in (a, b):
        contiguous = x.flags.c_contiguous or (x.flags.f_contiguous and x.ndim < 3)
        if x.dtype != dtype or not contiguous:
            _alloc("matmul of an array that is not contiguous, or must be cast,")
    if out is None:
        return np.matmul(a, b, **options)
    if out.dtype != dtype or not out.flags.c_contiguous:  # stricter: CuPy goes through a copy
        raise ValueError(f"matmul: out= must be C-contiguous and of dtype {dtype}")
    if out.ndim != max(a.ndim, b.ndim, 2) - (a.ndim == 1) - (b.ndim == 1):
        raise ValueError(f"matmul: out= has the wrong shape {out.shape}")
    return np.matmul(a, b, out=out, **options)


def _take(a, indices, axis=None, out=None):
    if out is not None and out.dtype != a.dtype:
        raise TypeError("Output dtype mismatch")
    return np.take(a, indices, axis, out, mode="wrap")


def _take_along_axis(a, indices, axis):
    n = a.size if axis is None else a.shape[axis]
    return np.take_along_axis(a, _into_range(indices, n), axis)


def _put(a, ind, v, mode="wrap"):
    np.put(a, ind, v, mode)


def _where(condition, x=None, y=None, /):
    if x is None and y is None:
        _sync("where(condition)")
        return np.nonzero(condition)
    for choice in (x, y):
        if not isinstance(choice, (np.ndarray, *_SCALARS)):
            raise TypeError(f"Unsupported type {type(choice)}")
    return np.where(condition, x, y)


_DIFFERENT = {
    "matmul": _matmul,
    "put": _put,
    "take": _take,
    "take_along_axis": _take_along_axis,
    "where": _where,
}


# --- Between host and device -----------------------------------------------------------------


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    """A new device array with the values of a device array, NumPy array, list or scalar."""
    if isinstance(obj, ndarray):
        host = np.array(obj._host, dtype, copy=copy or None, order=order, ndmin=ndmin)
        return _result(host, [obj], "array()")
    if isinstance(obj, list | tuple) and any(isinstance(element, ndarray) for element in obj):
        obj = [_array(element) for element in obj]
    elif not isinstance(obj, _SCALARS) and not _now.uploads:
        _sync("a copy from the host to the device")
    return _result(np.array(obj, dtype, order=order, ndmin=ndmin), [], "array()")


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """``a`` itself where it is a device array of that dtype, else a new device array."""
    return array(a, dtype, bool(copy), order)


asanyarray = asarray


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    """A copy on the host."""
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    return np.asarray(a, order=order)


# --- The names of the module and of the methods ----------------------------------------------


@functools.cache
def _lookup(name: str) -> Any:
    if name in API["ufuncs"]:
        return ufunc(name)
    if name in API["functions"]:
        return _function(name, _DIFFERENT.get(name, getattr(np, name)), API["functions"][name])
    if name in API["values"]:
        return getattr(np, name)
    raise AttributeError(f"{name!r} is not in CuPy, or not in this stand-in for it")


__getattr__ = _lookup


def _add_methods() -> None:
    for name, parameters in API["methods"].items():
        if hasattr(np.ndarray, name) and not hasattr(ndarray, name):
            numpy = _DIFFERENT.get(name, getattr(np.ndarray, name))
            setattr(ndarray, name, _function(name, numpy, [["a", 0, False], *parameters]))


_add_methods()
