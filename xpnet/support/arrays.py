"""Data of any library, read as NumPy arrays of real numbers: the rule of docs/data.md."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.support.errors import DataError
from xpnet.support.tables import is_table, read_table
from xpnet.support.values import NumPyArray, as_numbers, kind_of, last_word, refuse_masked

PLAIN = (int, float, complex, str, bytes, type(None), np.generic)  # what NumPy reads from a list

# What makes a tensor of PyTorch one that NumPy can read, by words of PyTorch's errors.
TENSORS = {
    "BFloat16": "float",
    "Float8": "float",
    "Float4": "float",
    "ComplexHalf": "real.float",
    "QInt": "dequantize",
    "QUInt": "dequantize",
}


def read(a: Any, name: str) -> NumPyArray:
    """Return data of any library as a plain NumPy array of numbers; see `on_host`."""
    try:
        host = _read(a, name)
    except DataError:
        raise
    except Exception as error:  # of whatever library it is
        if "inhomogeneous" in str(error):
            words = f"{name} has rows of unequal lengths; each needs as many numbers"
            raise DataError(words) from None
        calls = [call for word, call in TENSORS.items() if word in str(error)]
        hint = f"; use {last_word(name)}.{calls[0]}()" if calls else ""
        raise DataError(f"{name} is a {kind_of(a)} that NumPy cannot read: {error}{hint}") from None
    return as_numbers(host, name, a)


def _read(a: Any, name: str) -> NumPyArray:
    """Return data of any library as a NumPy array of any dtype."""
    refuse_masked(a, name)
    if isinstance(a, np.ndarray):
        return np.asarray(a)  # of a subclass, such as numpy.matrix, the plain array
    if isinstance(a, list | tuple):
        return _read_list(a, name)
    if hasattr(a, "get") and hasattr(a, "strides"):  # CuPy's, which np.asarray refuses
        return np.asarray(a.get())
    if is_table(a):
        return read_table(a, name)
    host = np.asarray(_resolved(a))
    return np.from_dlpack(a) if host.dtype == object and hasattr(a, "__dlpack__") else host


def _resolved(a: Any) -> Any:
    """Return a tensor of PyTorch without its gradient, its pending sign and conjugate done."""
    for method in ("detach", "resolve_conj", "resolve_neg"):
        a = getattr(a, method)() if hasattr(a, method) else a
    return a


def _read_list(items: Any, name: str) -> NumPyArray:
    """Return a list; what it holds is read by the same rule as a whole array would be."""
    if all(issubclass(kind, PLAIN) for kind in set(map(type, items))):
        return np.asarray(items)
    read_items = [_read(x, f"{name}[{i}]") if _holds(x) else x for i, x in enumerate(items)]
    return np.asarray(read_items)


def _holds(item: Any) -> bool:
    """Return True if an item of a list is a row or an array, not a number."""
    return not isinstance(item, PLAIN) and (hasattr(item, "__len__") or hasattr(item, "__array__"))
