"""Weights as safetensors files: what PyTorch, Hugging Face and others read and write.

A file is a header in JSON, which says of each tensor what it is and where its bytes are, and the
bytes. Nothing in it can be run. It has no checksum, so ours have one among their metadata. The
header is checked here, strictly and with bounded means, before the library `safetensors` sees it.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from math import prod
from reprlib import repr as short
from typing import Any, NamedTuple

import numpy as np

from xpnet.network import Sequential, check_shapes
from xpnet.network.storing import demanded
from xpnet.support.checks import file_of, path_of
from xpnet.support.errors import CheckpointError, DataError, ShapeError, XpnetError
from xpnet.support.files import open_file, write_atomically, writing
from xpnet.support.version import __version__

INSTALL = "run pip install 'safetensors>=0.4.5', or '.[io]' in the folder of xpnet"
MOST = 1 << 18  # bytes of a header: some 3000 tensors; to parse one takes 10 MB at most
DTYPES = {
    **{f"{kind}{8 * n}": f"<{kind.lower()}{n}" for kind in "IU" for n in (1, 2, 4, 8)},
    **{"F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "?"},
    "BF16": "<u2",  # NumPy has none: the upper half of a float32
}
# Other types of the format, and what PyTorch makes of them.
UNREAD = {"C64": "tensor.real.contiguous()"}
UNREAD |= dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0"), "tensor.float()")
UNREAD |= dict.fromkeys(("F4", "F6_E2M3", "F6_E3M2"), "32-bit floating-point numbers")
FLOATING = ("F16", "F32", "F64", "BF16")
SIZES = {name: np.dtype(code).itemsize for name, code in DTYPES.items()}


class Tensor(NamedTuple):
    """What a header says of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


# ---- networks -----------------------------------------------------------------------------------


def save_safetensors(net: Sequential, path: str | os.PathLike[str], layout: str = "xpnet") -> None:
    """Write every parameter and state value of a network to a safetensors file.

    Parameters
    ----------
    net : Sequential
    path : str or os.PathLike
        A file that is there is replaced once the new one is complete.
    layout : str
        ``"xpnet"``, or ``"torch"`` for PyTorch's names and layout; see `Sequential.state_dict`.

    Raises
    ------
    XpnetError
        If the file cannot be written, or safetensors is not installed.
    """
    numpy, path = _library().numpy, file_of("save_safetensors: path", path)
    arrays = net.state_dict(layout)
    about = {
        "format": "pt" if layout == "torch" else "xpnet",  # "pt" is what others look for
        "xpnet_version": __version__,
        "xpnet_layout": layout,
        "xpnet_crc32": _crc32(arrays),
    }
    # safetensors 0.8.0 writes the wrong bytes of arrays that are not C-contiguous, such as W.T.
    plain = {name: np.asarray(a, order="C") for name, a in arrays.items()}
    data = numpy.save(plain, metadata=about)
    read_header(data[: 8 + MOST], len(data), str(path))  # what is written can be read
    with writing(path.parent, "choose another folder"):
        write_atomically(path, data)


def load_safetensors(net: Sequential, path: str | os.PathLike[str], layout: str = "xpnet") -> None:
    """Set every parameter and state value of a network from a safetensors file.

    Floating values of any width, bfloat16 among them, become the network's dtype.

    Parameters
    ----------
    net : Sequential
        With the layers that the values are for; if anything is wrong it stays as it is.
    path : str or os.PathLike
        The file.
    layout : str
        ``"xpnet"``, or ``"torch"`` for a file with PyTorch's names and layout.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is damaged, or is none.
    DataError, ShapeError
        If a name is missing or unknown, or a value has another shape or kind.
    XpnetError
        If safetensors is not installed.
    """
    _library()
    wanted, name = net.state_dict(layout), str(path_of("load_safetensors: path", path))
    try:
        with open_file(path) as file:
            size, data = os.fstat(file.fileno()).st_size, file.read(8 + MOST)
            tensors, _ = read_header(data, size, name)
            _check_fit(
                tensors, demanded(wanted, tensors, layout)
            )  # before memory is taken for the values
            data += file.read(size - len(data))
    except OSError as error:
        raise CheckpointError(f"{name} cannot be read: {error.strerror or error}") from None
    except (DataError, ShapeError) as error:
        raise type(error)(f"{name}, layout {layout!r}, does not fit: {error}") from None
    net.load_state_dict(read(data, name), layout)


def _check_fit(tensors: Mapping[str, Tensor], wanted: Mapping[str, Any]) -> None:
    """Check names, shapes, and that what has a fraction here has one there."""
    check_shapes({name: tensor.shape for name, tensor in tensors.items()}, wanted)
    for name, a in wanted.items():
        if (tensors[name].dtype in FLOATING) != (a.dtype.kind == "f"):
            raise DataError(f"the parameter {name!r} is {a.dtype}; got {tensors[name].dtype}")


# ---- files --------------------------------------------------------------------------------------


def read(data: bytes, name: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return the tensors of a safetensors file, given its bytes; bfloat16 comes as float32.

    Raises
    ------
    CheckpointError
        Naming the file, if it is damaged, or is none.
    """
    library = _library()
    tensors, about = read_header(data[: 8 + MOST], len(data), name)
    try:
        found = dict(library.deserialize(data))
    except library.SafetensorError as error:
        raise CheckpointError(f"{name} is no safetensors file: {error}") from None
    arrays = {key: _array(tensor, found[key]["data"]) for key, tensor in tensors.items()}
    if "xpnet_crc32" in about and about["xpnet_crc32"] != _crc32(arrays):
        raise CheckpointError(f"{name} is damaged: its checksum is wrong; use another copy of it")
    return arrays


def _array(tensor: Tensor, data: bytes) -> np.ndarray[Any, Any]:
    a = np.frombuffer(data, DTYPES[tensor.dtype]).reshape(tensor.shape)
    return (a.astype("<u4") << 16).view("<f4") if tensor.dtype == "BF16" else a


def _crc32(arrays: Mapping[str, np.ndarray[Any, Any]]) -> str:
    """Return the CRC-32 of names, types, shapes and values, in the order of the names."""
    crc = 0
    for name, a in sorted(arrays.items()):
        a = np.asarray(a, a.dtype.newbyteorder("<"), order="C")
        crc = zlib.crc32(f"{name!r} {a.dtype.str} {a.shape}".encode(), crc)
        crc = zlib.crc32(a.data, crc)
    return f"{crc:08x}"


def read_header(head: bytes, size: int, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file of some size, given how it begins.

    Raises
    ------
    CheckpointError
        If anything in it is not as it must be, or does not agree with the size of the file.
    """
    try:
        return _parsed(head, size)
    except DataError as error:
        raise CheckpointError(f"{name} cannot be read: {error}") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is damaged, or no safetensors file: {error}") from None


def _parsed(head: bytes, size: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    """`read_header`, with the errors of whatever is wrong."""
    length = int.from_bytes(head[:8], "little")
    if len(head) < 8 or length > size - 8:
        raise ValueError(f"it has {size} bytes, too few for its header")
    if length > MOST:
        raise ValueError(f"its header would have {length} bytes, and {MOST} are the most")
    header = json.loads(head[8 : 8 + length].decode(), object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    about = header.pop("__metadata__", {})
    if not isinstance(about, dict) or not all(isinstance(x, str) for x in about.values()):
        raise ValueError("its metadata are no table of words")
    tensors = {key: _tensor(key, entry) for key, entry in header.items()}
    _check_tiling(tensors, size - 8 - length)
    return tensors, about


def _tensor(name: str, entry: Any) -> Tensor:
    """Return what the header says of a tensor, after checking it."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{short(name)} does not have dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    _check_dtype(name, dtype)
    if not _are_whole(offsets, 2) or len(offsets) != 2:
        raise ValueError(f"{short(name)} has the data_offsets {short(offsets)}")
    if not _are_whole(shape, 32) or prod(k or 1 for k in shape) >= 1 << 48:
        raise ValueError(f"{short(name)} has the shape {short(shape)}")
    tensor, needed = Tensor(dtype, tuple(shape), *offsets), prod(shape) * SIZES[dtype]
    if tensor.stop - tensor.start != needed:
        raise ValueError(f"{short(name)} needs {needed} bytes, and has {short(offsets)}")
    return tensor


def _check_dtype(name: str, dtype: Any) -> None:
    """Raise DataError for a type of the format that is not read, else ValueError for no type."""
    if isinstance(dtype, str) and dtype in UNREAD:
        raise DataError(
            f"{short(name)} has the dtype {dtype}, which is not read; write the file again "
            f"with {UNREAD[dtype]}"
        )
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"{short(name)} has the dtype {short(dtype)}, not {', '.join(DTYPES)}")


def _are_whole(numbers: Any, most: int) -> bool:
    return (
        isinstance(numbers, list)
        and len(numbers) <= most
        and all(type(k) is int and k >= 0 for k in numbers)
    )


def _check_tiling(tensors: Mapping[str, Tensor], size: int) -> None:
    """Check that the tensors fill the file without a gap, and that none lies over another."""
    end = 0
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.start, tensor.stop)):
        if tensor.start != end:
            raise ValueError(f"its tensors have a gap or an overlap at byte {end}")
        end = tensor.stop
    if end != size:
        raise ValueError(f"its tensors have {end} bytes, and {size} are there")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a name stands in its header twice")
    return table


def _library() -> Any:
    """Return the library, with its functions for NumPy."""
    try:
        import safetensors.numpy
    except ImportError:
        raise XpnetError(f"safetensors is not installed; {INSTALL}") from None
    return safetensors
