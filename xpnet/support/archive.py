"""Archives: named arrays and a description in one ``.npz``, written whole and read with care.

An archive is an uncompressed zip of ``.npy`` files, so ``numpy.load`` reads it, too; the array
``about`` is the description, as JSON. Each member has a CRC-32, which finds what a disk or a copy
has damaged. The reader believes nothing: no member is compressed, none holds objects, each has
exactly the bytes that its shape needs, and memory is spent on what the file really holds.
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from xpnet.support.errors import CheckpointError
from xpnet.support.files import open_file, replacing

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

FORMAT = 1
STORED = 0  # the zip's word for "not compressed"
ABOUT = "about"
ABOUT_LIMIT = 2**18  # bytes of the description
DIRECTORY_LIMIT = 2**18  # bytes of the zip's directory: some 3000 arrays
NAME = re.compile(r"\w+(\.\w+)*")
HEADER = re.compile(
    rb"\{'descr': '([<|]\w{2})', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,19}(?:, \d{1,19})*,?)?)\), \} *\n"
)
DTYPES = {np.dtype(code).str.encode() for code in "?bBhHiIqQefd"}

Arrays = dict[str, NDArray[Any]]


def write_archive(path: Path, arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> None:
    """Write arrays and their description: the file appears whole, or the old one stays.

    Raises
    ------
    CheckpointError
        If there are too many arrays, or one is not of real numbers.
    OSError
        If the folder cannot be written or the disk is full.
    """
    from zipfile import ZipFile, ZipInfo

    from xpnet.support.version import __version__

    text = json.dumps({"format": FORMAT, "xpnet": __version__, **about}, allow_nan=False).encode()
    members = {ABOUT: np.frombuffer(text, np.uint8), **arrays}
    members = {name: _stored(name, a) for name, a in members.items()}
    # 46 bytes for each, and 28 for sizes beyond 4 GB.
    directory = sum(46 + len(f"{name}.npy".encode()) + 28 for name in members)
    if len(text) > ABOUT_LIMIT or directory > DIRECTORY_LIMIT:
        raise CheckpointError(f"{path} would need too many parts: {len(members)} arrays")
    with replacing(path) as file, ZipFile(file, "w") as archive:
        for name, a in members.items():
            member = ZipInfo(f"{name}.npy")  # without the date: equal contents, equal bytes
            member.file_size = a.nbytes
            with archive.open(member, "w") as out:
                np.lib.format.write_array(out, a, version=(1, 0), allow_pickle=False)


def _stored(name: str, a: NDArray[Any]) -> NDArray[Any]:
    """Return an array as it stands in the file: little-endian, row after row."""
    little = np.asarray(a, a.dtype.newbyteorder("<"), order="C")
    if little.dtype.str.encode() not in DTYPES or not NAME.fullmatch(name):
        raise CheckpointError(f"an array {name!r} of the dtype {a.dtype} cannot be stored")
    return little


def read_archive(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Return the arrays of an archive, and its description.

    Raises
    ------
    CheckpointError
        If it cannot be read, is damaged, or is no archive of this library.
    """
    try:
        file = open_file(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        why = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path} cannot be read ({why}): check the path") from None
    with file:
        return decode_archive(file, str(path))


def decode_archive(file: BinaryIO, name: str) -> tuple[Arrays, dict[str, Any]]:
    """`read_archive` of an open file that can seek; the errors call it ``name``."""
    from zipfile import ZipFile

    try:
        size = file.seek(0, os.SEEK_END)
        number = _check_end(file, size)
        with ZipFile(file) as archive:
            members = archive.infolist()
            _check_members(members, number, size)
            arrays = {m.filename.removesuffix(".npy"): _read(archive, m) for m in members}
        about = _description(arrays.pop(ABOUT, None))
    except MemoryError:
        raise
    except Exception as error:  # zipfile and json have many
        raise CheckpointError(
            f"{name} is damaged, or was not saved by xpnet ({error}); use another copy of it"
        ) from None
    if about["format"] > FORMAT:
        newer = str(about.get("xpnet"))[:20]
        raise CheckpointError(f"{name} was saved by a newer xpnet, {newer}; update this one")
    return arrays, about


def _check_end(file: BinaryIO, size: int) -> int:
    """See that the directory is small and just before the end; return its number of members."""
    file.seek(max(0, size - 98))
    tail = file.read()
    end = tail[-22:]
    if len(end) < 22 or end[:4] != b"PK\5\6" or end[20:] != b"\0\0":
        raise ValueError("it does not end as it should")
    members, directory, start = struct.unpack("<HLL", end[10:20])
    behind = size - 22
    if tail[-42:-38] == b"PK\6\7":  # a pointer to another end, with 64 bits for each number
        members, directory, start = struct.unpack("<QQQ", tail[-66:-42])
        behind = size - 98
    if directory > DIRECTORY_LIMIT or start + directory != behind:
        raise ValueError(f"its directory has {directory} bytes from {start} on")
    return int(members)


def _check_members(members: list[ZipInfo], number: int, size: int) -> None:
    """See that all members are plain, have names of their own, and fit in the file together."""
    if len(members) != number:
        raise ValueError(f"it has {len(members)} members, not {number}")
    if len({member.filename for member in members}) < number:
        raise ValueError("two members have the same name")
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members are larger than the file")
    for member in members:
        plain = member.compress_type == STORED and not member.flag_bits & 1
        if not plain or member.file_size != member.compress_size:
            raise ValueError(f"the member {member.filename[:60]!r} is compressed or encrypted")
        if not NAME.fullmatch(member.filename) or not member.filename.endswith(".npy"):
            raise ValueError(f"a member is called {member.filename[:60]!r}")


def _read(archive: ZipFile, member: ZipInfo) -> NDArray[Any]:
    """Return the array of a member, whose CRC is checked on the way."""
    data = archive.read(member)
    start = 10 + int.from_bytes(data[8:10], "little")
    header = HEADER.fullmatch(data, 10, start)
    if data[:8] != b"\x93NUMPY\1\0" or header is None or header[1] not in DTYPES:
        raise ValueError(f"{member.filename[:60]} holds no array of numbers")
    dtype = np.dtype(header[1].decode())
    shape = tuple(int(n) for n in header[2].replace(b",", b" ").split())
    if math.prod(shape) * dtype.itemsize != len(data) - start:
        raise ValueError(f"{member.filename[:60]} has not the size that it announces")
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def _description(text: NDArray[Any] | None) -> dict[str, Any]:
    if text is None or text.dtype != np.uint8 or text.size > ABOUT_LIMIT:
        raise ValueError("it has no description")
    about = json.loads(text.tobytes().decode(), parse_constant=_refuse)
    if not isinstance(about, dict) or type(about.get("format")) is not int:
        raise ValueError("it has no format")
    return about


def _refuse(word: str) -> None:
    raise ValueError(f"its description holds {word}")
