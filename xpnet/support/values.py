"""What counts as a number in data, and the words that refuse what does not: see docs/data.md."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np

from xpnet.support.errors import DataError

NumPyArray = np.ndarray[Any, Any]
WAYS_OUT = {  # by the kind of a dtype
    "O": "each value must be a number (float() argument must be a string or a real number)",
    "c": "Complex data not supported: use {a}.real, or real and imaginary part as two features",
    "M": "turn dates into numbers, such as the days since the first date",
    "m": "turn times into numbers, {a} / numpy.timedelta64(1, 's')",
    "V": "use {a}.astype('float32'), or for named fields structured_to_unstructured({a}), which is "
    "imported from numpy.lib.recfunctions",
}
WORDS = (
    "turn words and categories into numbers, such as labels by "
    "numpy.unique({a}, return_inverse=True)[1]"
)


class ObjectError(DataError, TypeError):
    """An object is neither a number nor a word, which Python, too, calls a wrong type."""


def as_numbers(host: NumPyArray, name: str, a: Any = None) -> NumPyArray:
    """Return an array of real numbers; objects are numbers if each of them is.

    ``a`` is what the array was read from.
    """
    if host.dtype.kind == "O":
        return _objects(host, name, a)
    if host.dtype.kind not in "fiub":
        raise DataError(not_numbers(name, host.dtype, host))
    if host.dtype.itemsize > 8:  # longdouble, which no device has
        with np.errstate(over="ignore"):
            return host.astype(np.float64)
    return host


def _objects(host: NumPyArray, name: str, a: Any) -> NumPyArray:
    if host.ndim == 0:
        raise DataError(f"{name} is a {kind_of(a)}, not an array of numbers; {_collected(a, name)}")
    for i, value in enumerate(host.flat):
        if not isinstance(value, Real | Decimal | np.bool_):
            _refuse_object(host, i, value, name)
    kinds = set(map(type, host.flat))
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return host.astype(bool)
    whole = bool(kinds) and all(issubclass(kind, Integral | np.bool_) for kind in kinds)
    for dtype in (np.int64, np.float64)[not whole :]:
        with suppress(OverflowError):
            return host.astype(dtype)
    raise DataError(f"{name} has a whole number above {np.finfo(float).max:.2g}; scale the values")


def _refuse_object(host: NumPyArray, i: int, value: Any, name: str) -> None:
    """Raise DataError for an object that is not a number."""
    place = [int(k) for k in np.unravel_index(i, host.shape)]
    if is_missing(value):
        raise DataError(f"{name} has no value at {place} ({value!r}); fill it in, or drop the row")
    values = host.reshape(-1)[i : i + 1]
    kind = np.asarray(value).dtype.kind if np.isscalar(value) else "O"
    error = ObjectError if kind == "O" else DataError
    raise error(not_numbers(name, host.dtype, values, kind))


def not_numbers(
    name: str, dtype: Any, values: NumPyArray | None = None, kind: str | None = None
) -> str:
    """Return the words that refuse data of a type, with a way out for the kind of the type."""
    first, way_out = "", WAYS_OUT.get(kind or dtype.kind, WORDS)
    if values is not None and values.size:
        first = f", first value {values.flat[0]!r:.60}"
        if way_out is WORDS and _is_numeral(values.flat[0]):
            way_out = "numbers that are written as words become numbers by {a}.astype(float)"
    way_out = way_out.format(a=last_word(name))
    return f"{name} must hold numbers; got the dtype {dtype}{first}; {way_out}"


def _is_numeral(word: Any) -> bool:
    """Return True for a word that is a number."""
    try:
        return bool(np.isfinite(float(word)))
    except (TypeError, ValueError):
        return False


def kind_of(a: Any) -> str:
    """Return the name of a type with its library, such as ``torch.Tensor``."""
    return f"{type(a).__module__.partition('.')[0]}.{type(a).__name__}"


def last_word(name: str) -> str:
    """Return the name of an argument that stands at the end of a longer name."""
    word = name.split()[-1].strip("'\"")
    if word.isidentifier():
        return word
    return f"values[{word!r}]" if word[0].isdigit() and word[-1] != ")" else "the value"


def is_masked(a: Any) -> bool:
    """Return True for an array of NumPy that has a mask."""
    return isinstance(a, np.ndarray) and hasattr(a, "filled")


def refuse_masked(a: Any, name: str) -> None:
    """Raise DataError if values are masked: what lies under the mask would be used."""
    if is_masked(a) and np.ma.is_masked(a):
        lacking = np.ma.getmaskarray(a)
        lacking = np.ones((), bool) if lacking.dtype.names else lacking
        places, x = np.argwhere(lacking).tolist(), last_word(name)
        where = f" at {places[0]}" if places[0] else ""
        more = f" and at {len(places) - 1} more places" if len(places) > 1 else ""
        raise DataError(
            f"{name} is a masked array without a value{where}{more}; fill them, "
            f"{x}.filled(value), or leave out their rows in all arrays, {x}[~mask]"
        )


def unmasked(a: Any) -> Any:
    """Return ``a``, after checking that it is not an array with masked values."""
    refuse_masked(a, "the array")
    return a


def is_missing(value: Any) -> bool:
    """Return True for what stands for no value: None, NA of pandas, NaT, a masked one."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or is_masked(value)
        or (isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value)))
    )


def _collected(a: Any, name: str) -> str:
    """Return how to make an array of something that is not one."""
    x = last_word(name)
    if hasattr(a, "toarray"):
        return f"a network takes dense rows: {x}.toarray(), or some rows of it at a time"
    if hasattr(a, "collect"):
        return f"use {x}.collect()"
    if hasattr(a, "keys"):
        return f"a table of its columns is pandas.DataFrame({x})"
    if hasattr(a, "__iter__"):
        return f"collect its samples in one array first, such as numpy.array(list({x}))"
    return "give an array, a list or a data frame"
