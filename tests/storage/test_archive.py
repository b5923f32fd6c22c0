"""Archives: what comes back, what a damage does, and what hostile files are refused for."""

from __future__ import annotations

import io
import os
import pickle
import random
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from xpnet.support.archive import (
    ABOUT,
    DIRECTORY_LIMIT,
    decode_archive,
    read_archive,
    write_archive,
)
from xpnet.support.errors import CheckpointError

ARRAYS = {
    "0.W": np.arange(12.0, dtype=np.float32).reshape(3, 4),
    "0.b": np.zeros(0, np.float64),
    "optimizer.t": np.array(7, np.int64),
    "drawn": np.array([2**64 - 1], np.uint64),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "a.npz"
    write_archive(path, ARRAYS, {"name": "α", "deep": [1, {"x": 0.1}]})
    return path


def decode(data):
    return decode_archive(io.BytesIO(data), "the file")


def same(arrays, others=ARRAYS):
    return list(arrays) == list(others) and all(
        a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
        for a, b in zip(arrays.values(), others.values(), strict=True)
    )


# ---- what comes back ----------------------------------------------------------------------------


def test_arrays_and_description_come_back(path):
    arrays, about = read_archive(path)
    assert same(arrays)
    assert about["name"] == "α"
    assert about["deep"] == [1, {"x": 0.1}]
    for a in arrays.values():
        assert a.flags.writeable
        assert a.flags.owndata


def test_numpy_reads_it(path):
    with np.load(path, allow_pickle=False) as file:
        assert same({name: file[name] for name in file.files if name != ABOUT})


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i8"]
)
def test_every_type_of_number(tmp_path, dtype):
    a = (np.arange(24) % 2).reshape(2, 3, 4).astype(dtype)
    write_archive(tmp_path / "a.npz", {"a": a.T, "b": a[:, ::-1], "c": a[:0]}, {})
    arrays, _ = read_archive(tmp_path / "a.npz")
    expected = {"a": a.T, "b": a[:, ::-1], "c": a[:0]}
    native = {k: np.array(v, v.dtype.newbyteorder("="), order="C") for k, v in expected.items()}
    assert same(arrays, native)


@pytest.mark.parametrize("a", [np.array(["x"]), np.array([None]), np.zeros(2, complex)])
def test_what_is_no_real_number_is_not_stored(tmp_path, a):
    with pytest.raises(CheckpointError, match=r"'a' of the dtype .* cannot be stored"):
        write_archive(tmp_path / "a.npz", {"a": a}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "../a", "/a", "a/b", "a b", "a.", ".a"])
def test_names_are_words(tmp_path, name):
    with pytest.raises(CheckpointError, match="cannot be stored"):
        write_archive(tmp_path / "a.npz", {name: np.zeros(1)}, {})


def test_too_many_arrays_are_refused_when_they_are_written(tmp_path):
    """Else the reader would refuse the file."""
    most = DIRECTORY_LIMIT // (46 + 28 + len("00000.npy")) - 1
    arrays = {f"{k:05}": np.zeros(1, np.int8) for k in range(most)}
    write_archive(tmp_path / "a.npz", arrays, {})
    assert len(read_archive(tmp_path / "a.npz")[0]) == most
    with pytest.raises(CheckpointError, match="too many parts"):
        write_archive(tmp_path / "b.npz", {**arrays, "a": ARRAYS["0.b"], "b": ARRAYS["0.b"]}, {})
    assert not (tmp_path / "b.npz").exists()


def test_equal_contents_are_equal_bytes(path, tmp_path):
    write_archive(tmp_path / "b.npz", ARRAYS, {"name": "α", "deep": [1, {"x": 0.1}]})
    assert path.read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_nothing_is_left_beside_it(path):
    assert [p.name for p in path.parent.iterdir()] == ["a.npz"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_mode_is_that_of_any_new_file(path):
    plain = path.with_name("plain")
    plain.write_text("")
    assert path.stat().st_mode == plain.stat().st_mode


# ---- damage -------------------------------------------------------------------------------------


def test_every_truncation_is_found(path):
    data = path.read_bytes()
    for length in range(len(data)):
        with pytest.raises(CheckpointError, match="the file is damaged"):
            decode(data[:length])


def test_3000_flipped_bits_are_found_or_do_nothing(path):
    data, draw, found = path.read_bytes(), random.Random(0), 0
    for _ in range(3000):
        flipped = bytearray(data)
        flipped[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        try:
            arrays, about = decode(bytes(flipped))
        except CheckpointError:
            found += 1
        else:
            assert same(arrays)
            assert about["name"] == "α"
    assert found > 2500  # the others hit dates and the like


def test_something_behind_it_is_found(path):
    with pytest.raises(CheckpointError, match="it does not end as it should"):
        decode(path.read_bytes() + b"\0")


# ---- hostile files ------------------------------------------------------------------------------


def npy(header, data=b""):
    """Return the bytes of a member, whatever they say of themselves."""
    header = header.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + data


def array_of(descr="<f4", shape="(2,)", data=b"\0" * 8, order="False"):
    return npy(f"{{'descr': {descr!r}, 'fortran_order': {order}, 'shape': {shape}, }}", data)


def about(text='{"format": 1}'):
    text = text if isinstance(text, bytes) else text.encode()
    return array_of("|u1", f"({len(text)},)", text)


def zipped(members, **options):
    """Return the bytes of a zip file of (name, data)."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", **options) as archive:
        warnings.simplefilter("ignore")  # of the same name twice
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


class Payload:
    """What a pickle would run."""

    def __reduce__(self):
        return Path.touch, (Path("run"),)


def objects():
    file = io.BytesIO()
    np.save(file, np.array([Payload()], object), allow_pickle=True)
    return file.getvalue()


def with_directory(entries):
    """Return a file of little else than a directory of so many entries."""
    entry = struct.pack(
        "<4s4B4HL2L5H2L", b"PK\1\2", 20, 0, 20, 0, *(0,) * 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    )
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry) * entries, 0, 0)
    return entry * entries + end


def with_a_large_directory_64(entries):
    """Return the same, with the true size in the end for 64 bits alone."""
    data = with_directory(entries)
    directory, end = data[:-22], struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, 0, 0)
    end64 = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, len(directory), 0
    )
    pointer = struct.pack("<4sLQL", b"PK\6\7", 0, len(directory), 1)
    return directory + end64 + pointer + end


def overlapping():
    """Return a file whose members all are the same bytes."""
    large = array_of("|u1", "(100000,)", bytes(100_000))
    data = zipped([("about.npy", about()), ("a.npy", large)])
    place = data.rindex(b"PK\1\2")
    entry, end = data[place:-22], bytearray(data[-22:])
    copies = b"".join(entry.replace(b"a.npy", b"%c.npy" % c) for c in range(97, 110))
    (size,) = struct.unpack("<L", end[12:16])
    end[8:16] = struct.pack("<2HL", 14, 14, size + len(copies) - len(entry))
    return data[:place] + copies + bytes(end)


def encrypted():
    """Return a file whose members say that they are encrypted."""
    data = bytearray(zipped([GOOD, ("a.npy", array_of())]))
    for sign, place in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.rindex(sign) + place] |= 1
    return bytes(data)


def with_end(place, value):
    """Return a file with another byte in its last 22."""
    data = bytearray(zipped([GOOD, ("a.npy", array_of())]))
    data[place] = value
    return bytes(data)


GOOD = ("about.npy", about())
HOSTILE = {
    "empty": (b"", "does not end"),
    "text": (b"<html>not found</html>" * 100, "does not end"),
    "pickle": (pickle.dumps(Payload()), "does not end"),
    "a pickle in a member": (zipped([GOOD, ("a.npy", objects())]), "a.npy holds no array"),
    "a pickle for a description": (zipped([("about.npy", objects())]), "about.npy holds no array"),
    "a member that is no array": (zipped([GOOD, ("a.npy", b"hello")]), "a.npy holds no array"),
    "deflated": (
        zipped([GOOD, ("a.npy", about(b" " * 10**6))], compression=zipfile.ZIP_DEFLATED),
        "larger than the file",
    ),
    "lzma": (
        zipped([("a.npy", about(b" " * 10**6)), GOOD], compression=zipfile.ZIP_LZMA),
        "larger than the file",
    ),
    "deflated numbers": (
        zipped([GOOD, ("a.npy", array_of())], compression=zipfile.ZIP_DEFLATED), "is compressed"
    ),
    "encrypted": (encrypted(), "'a.npy' is compressed or encrypted"),
    "a program before it": (b"#!/bin/sh\n" + zipped([GOOD]), "its directory has"),
    "a comment that is not there": (with_end(-2, 5), "does not end"),
    "a wrong number of members": (with_end(-12, 1), "it has 2 members, not 1"),
    "two of a name": (zipped([GOOD, ("a.npy", about()), ("a.npy", about())]), "same name"),
    "terabytes": (
        zipped([GOOD, ("a.npy", array_of("<f8", "(1099511627776,)"))]), "not the size"
    ),
    "more than 64 bits": (
        zipped([GOOD, ("a.npy", array_of("<f8", "(4294967296, 4294967296)"))]), "not the size"
    ),
    "nothing times much": (
        zipped([GOOD, ("a.npy", array_of("<f8", "(0, 9999999999999999999)", b""))]), "damaged"
    ),
    "100 dimensions": (
        zipped([GOOD, ("a.npy", array_of("|u1", f"({'1, ' * 99}1)", b"0"))]), "damaged"
    ),
    "a shape of many digits": (
        zipped([GOOD, ("a.npy", array_of("|u1", f"({'9' * 60_000},)"))]), "holds no array"
    ),
    "many digits and a mistake": (
        zipped([GOOD, ("a.npy", array_of("|u1", f"({'1, ' * 20_000}x)"))]), "holds no array"
    ),
    "too short": (zipped([GOOD, ("a.npy", array_of(data=b"\0" * 7))]), "not the size"),
    "too long": (zipped([GOOD, ("a.npy", array_of(data=b"\0" * 9))]), "not the size"),
    "complex": (zipped([GOOD, ("a.npy", array_of("<c8", "(1,)"))]), "holds no array"),
    "text array": (zipped([GOOD, ("a.npy", array_of("<U1"))]), "holds no array"),
    "objects without a pickle": (zipped([GOOD, ("a.npy", array_of("|O"))]), "holds no array"),
    "records": (
        zipped([GOOD, ("a.npy", npy("{'descr': [('x', '<f8')], 'fortran_order': False}"))]),
        "holds no array",
    ),
    "fortran": (zipped([GOOD, ("a.npy", array_of(order="True"))]), "holds no array"),
    "code in a header": (
        zipped([GOOD, ("a.npy", npy("__import__('pathlib').Path('run').touch()"))]),
        "holds no array",
    ),
    "a path upwards": (zipped([GOOD, ("../../a.npy", about())]), "is called '../../a.npy'"),
    "an absolute path": (zipped([GOOD, ("/etc/a.npy", about())]), "is called '/etc/a.npy'"),
    "a folder": (zipped([GOOD, ("a/", b"")]), "is called 'a/'"),
    "no array by its name": (zipped([GOOD, ("a.txt", b"")]), "is called 'a.txt'"),
    "no description": (zipped([("a.npy", about())]), "no description"),
    "a description of floats": (zipped([("about.npy", array_of())]), "no description"),
    "a huge description": (
        zipped([("about.npy", about(b'{"format": 1, "a": "' + b" " * 2**18 + b'"}'))]),
        "no description",
    ),
    "no JSON": (zipped([("about.npy", about("{"))]), "damaged"),
    "no UTF-8": (zipped([("about.npy", about(b'{"format": 1, "a": "\xff"}'))]), "damaged"),
    "NaN": (zipped([("about.npy", about('{"format": 1, "a": NaN}'))]), "holds NaN"),
    "deep": (zipped([("about.npy", about("[" * 100_000))]), "damaged"),
    "a number of many digits": (
        zipped([("about.npy", about('{"format": 1, "a": ' + "9" * 200_000 + "}"))]), "damaged"
    ),
    "a list": (zipped([("about.npy", about("[1]"))]), "no format"),
    "no format": (zipped([("about.npy", about("{}"))]), "no format"),
    "a format that is true": (zipped([("about.npy", about('{"format": true}'))]), "no format"),
    "a newer format": (
        zipped([("about.npy", about('{"format": 2, "xpnet": "9.1"}'))]),
        "saved by a newer xpnet, 9.1",
    ),
    "a large directory": (with_directory(300_000), "directory has 13800000 bytes"),
    "a large directory, 64 bits": (with_a_large_directory_64(300_000), "directory has 13800000"),
    "a directory of lies": (with_directory(5000), "damaged"),
    "the same bytes many times": (overlapping(), "larger than the file"),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(kind, tmp_path, monkeypatch):
    """And cost at most 10 MB, and run nothing; bench/reliability.py measures the time."""
    data, why = HOSTILE[kind]
    monkeypatch.chdir(tmp_path)
    Path("a.npz").write_bytes(data)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=r"a\.npz") as caught:
            read_archive(Path("a.npz"))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert why in str(caught.value)
    assert len(str(caught.value)) < 500
    assert peak < 10e6
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


def test_the_hostile_files_differ_from_good_ones_only_there():
    """The parts that they are made of are right."""
    arrays, found = decode(zipped([GOOD, ("a.npy", array_of())]))
    assert arrays["a"].tolist() == [0, 0]
    assert found == {"format": 1}
    assert decode(zipped([("about.npy", about(b'{"format": 1, "a": "' + b" " * 10**5 + b'"}'))]))


def test_a_flipped_byte_in_the_numbers_is_found_by_the_crc(path):
    data = path.read_bytes()
    place = data.index(ARRAYS["0.W"].tobytes())
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        decode(data[:place] + b"\1" + data[place + 1 :])
    assert zlib.crc32(b"") == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: None, "No such file"),
        (Path.mkdir, "a folder or a device"),
        (lambda path: os.mkfifo(path), "a folder or a device"),
    ],
)
def test_what_cannot_be_read(tmp_path, make, why):
    make(tmp_path / "a.npz")
    with pytest.raises(CheckpointError, match=rf"a\.npz cannot be read .{why}"):
        read_archive(tmp_path / "a.npz")


def test_a_zero_byte_in_the_path():
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_archive(Path("a\0.npz"))


def test_files_beyond_4_gb(path, monkeypatch):
    """Their zips have other numbers; here every file counts as so large."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 300)
    large = path.with_name("b.npz")
    write_archive(large, ARRAYS, {})
    data = large.read_bytes()
    assert b"PK\6\6" in data
    assert same(read_archive(large)[0])
    for length in range(len(data) - 100, len(data)):
        with pytest.raises(CheckpointError):
            decode(data[:length])
