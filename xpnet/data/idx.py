"""IDX, the file format of MNIST: a type code, a shape, then the numbers, all big-endian."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xpnet.data.gunzip import Gunzip
from xpnet.support.errors import DataError
from xpnet.support.files import open_file, write_atomically

_CODES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_DTYPES = {code: np.dtype(text) for code, text in _CODES.items()}
_MAX_NDIM = 8
_PIECE = 2**20
_MOST_BY_DEFLATE = 1032  # bytes from one: 258 bytes by a length and a distance of one bit each


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = 2**32) -> NDArray[Any]:
    """Read the array of an IDX file, plain or gzip.

    The header is not believed: more than the file can hold is refused at once, and memory grows
    with the data that it really holds. Those of gzip may be 1032 times as large as the file; of a
    source that you do not trust, accept fewer bytes by `max_bytes`.

    Parameters
    ----------
    path : str or os.PathLike
        The file. Its first two bytes tell whether it is gzip, not its name.
    max_bytes : int
        The largest array to accept.

    Returns
    -------
    ndarray
        uint8, int8, int16, int32, float32 or float64 of 1 to 8 dimensions; native byte order,
        C-contiguous, writable.

    Raises
    ------
    DataError
        If the file cannot be read, or is not exactly one IDX array of at most `max_bytes`.
    """
    try:
        file = open_file(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise DataError(f"{path} cannot be read ({_reason(error)}): check the path") from error
    with file:
        return decode_idx(file, str(path), max_bytes=max_bytes)


def write_idx(path: str | os.PathLike[str], array: NDArray[Any]) -> None:
    """Write an array as an IDX file, and make the folders above it where they are missing.

    The file appears whole or not at all, and an array always gives the same bytes.

    Parameters
    ----------
    path : str or os.PathLike
        The file; it is compressed with gzip if its name ends in `.gz`.
    array : ndarray
        uint8, int8, int16, int32, float32 or float64 of 1 to 8 dimensions.

    Raises
    ------
    DataError
        If IDX has no place for such an array, or the file cannot be written.
    """
    path, data = Path(path), encode_idx(array)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written ({_reason(error)}): write elsewhere") from error


def decode_idx(file: BinaryIO, name: str, *, max_bytes: int = 2**32) -> NDArray[Any]:
    """`read_idx` of an open file that can seek; the errors call it `name`."""
    try:
        size = file.seek(0, os.SEEK_END)
        stream = _unpack(file)
        if isinstance(stream, Gunzip):
            size *= _MOST_BY_DEFLATE
        dtype, shape = _read_header(stream, name)
        claim = f"the {dtype.name} array of shape {shape} that its header announces"
        n_bytes = math.prod(shape) * dtype.itemsize
        # a zero must not hide the sizes beside it, which may be too large for NumPy
        if math.prod(n or 1 for n in shape) * dtype.itemsize > max_bytes:
            raise DataError(
                f"{name} exceeds max_bytes={max_bytes} by {claim}: is it the right file?"
            )
        # one byte more than announced: it shows trailing bytes, and makes gzip check its CRC
        data = _read_at_most(stream, n_bytes + 1) if n_bytes <= size else b""
        if len(data) < n_bytes:
            raise DataError(f"{name} is shorter than {claim}: it is truncated, get it again")
        if len(data) > n_bytes:
            raise DataError(f"{name} is longer than {claim}: it is damaged, get it again")
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name} cannot be read ({_reason(error)}): get it again") from error
    # a copy: NumPy's own memory has large pages, which rows are gathered from in half the time
    return np.ndarray(shape, dtype, data).astype(dtype.newbyteorder("="))


def encode_idx(array: NDArray[Any]) -> bytes:
    """The bytes of the plain IDX file that holds `array`; an array has only one."""
    dtype, shape = array.dtype.newbyteorder(">"), array.shape
    code = next((code for code, known in _DTYPES.items() if known == dtype), None)
    if code is None or not 1 <= len(shape) <= _MAX_NDIM or max(shape) >= 2**32:
        raise DataError(
            f"IDX has no place for a {array.dtype} array of shape {shape}: convert it to"
            f" uint8, int8, int16, int32, float32 or float64 of 1 to {_MAX_NDIM} dimensions"
        )
    header = struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)
    return b"".join((header, np.ascontiguousarray(array, dtype).data))


def _unpack(file: BinaryIO) -> BinaryIO | Gunzip:
    """The stream as it was before compression."""
    file.seek(0)
    is_gzip = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return Gunzip(file) if is_gzip else file


def _read_header(stream: Any, name: str) -> tuple[np.dtype[Any], tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise DataError(f"{name} begins with {magic!r}, not as an IDX file: is it the right file?")
    code, ndim = magic[2:]
    if code not in _DTYPES or not 1 <= ndim <= _MAX_NDIM:
        raise DataError(
            f"{name} has type code {code} and {ndim} dimensions, not one of {[*_DTYPES]} and"
            f" 1 to {_MAX_NDIM}: is it the right file?"
        )
    sizes = stream.read(4 * ndim)
    if len(sizes) < 4 * ndim:
        raise DataError(f"{name} ends inside its header: it is truncated, get it again")
    return _DTYPES[code], struct.unpack(f">{ndim}I", sizes)


def _read_at_most(stream: Any, n: int) -> bytearray:
    """Up to n bytes; memory is spent on what comes, not on what was announced."""
    data = bytearray()
    while piece := stream.read(min(_PIECE, n - len(data))):
        data += piece
    return data


def _reason(error: Exception) -> str:
    """What the system says, without its error number and its own naming of the file."""
    return getattr(error, "strerror", None) or str(error)
