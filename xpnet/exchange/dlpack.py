"""Arrays from other libraries and for them, by DLPack: the same memory where that is possible."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, find_backend, get_backend
from xpnet.support.errors import DataError

ON_GPU = (2, 13)  # DLPack's numbers for CUDA memory, and for what it manages


def from_dlpack(a: Any, backend: str | Backend | None = None) -> Array:
    """Return an array of NumPy or CuPy for that of another library.

    It is the same memory if both are on the same side: what is written on the one side is seen on
    the other. If one is on the host and one on a GPU, it is a copy.

    Parameters
    ----------
    a : array with ``__dlpack__``
        Such as a tensor of PyTorch, whose gradient is not recorded.
    backend : str or Backend, optional
        See `xpnet.set_backend`; the default backend if left out.

    Raises
    ------
    DataError
        If the other library does not give the array away, with its reason.
    """
    xp = get_backend() if backend is None else find_backend(backend)
    if xp.owns(a):
        return a
    try:
        on_gpu = a.__dlpack_device__()[0] in ON_GPU
        if not xp.on_host and on_gpu:
            return xp.module.from_dlpack(a)
        host = np.from_dlpack(a, device="cpu") if on_gpu else np.from_dlpack(a)
    except (AttributeError, BufferError, RuntimeError, TypeError, ValueError) as error:
        hint = "; NumPy has no such type, use tensor.float()" if "dtype" in str(error) else ""
        raise DataError(f"no array by DLPack from {type(a).__name__}: {error}{hint}") from None
    return host if xp.on_host else xp.asarray(host)


def to_dlpack(a: Array) -> Array:
    """Return an array that ``from_dlpack`` of other libraries can take: ``a`` itself, or a copy.

    They share its memory. A copy it is where that would go wrong: of arrays that may not be
    written to, which others do not respect; with negative strides, which end the process in
    PyTorch; or in the other byte order.

    Parameters
    ----------
    a : array
        Of NumPy or CuPy.

    Raises
    ------
    DataError
        If it is no array of numbers.
    """
    if not hasattr(a, "strides") or a.dtype.kind not in "fiubc" or a.dtype.char in "gG":
        raise DataError(f"DLPack is for arrays of numbers; got {getattr(a, 'dtype', type(a))}")
    a = np.asarray(a) if isinstance(a, np.generic) else a  # a scalar has no memory to share
    plain = all(k >= 0 and k % a.itemsize == 0 for k in a.strides)
    if isinstance(a, np.ndarray):
        plain = plain and a.flags.behaved and a.dtype.isnative
    return a if plain else a.astype(a.dtype.newbyteorder("="), order="C")
