"""IDX files: exact bytes, and one DataError for everything that is not one."""

import contextlib
import errno
import gzip
import io
import itertools
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpnet.data.gunzip import Gunzip
from xpnet.data.idx import decode_idx, read_idx, write_idx
from xpnet.support.errors import DataError, printable

# type code, dtype, struct letter, numbers that a wrong width, sign or byte order would change
KINDS = [
    (8, np.uint8, "B", [0, 1, 200]),
    (9, np.int8, "b", [-128, -1, 7]),
    (11, np.int16, "h", [-2, 258, 32767]),
    (12, np.int32, "i", [-2, 16909060, 2**31 - 1]),
    (13, np.float32, "f", [-0.5, 1e-40, 3e38]),
    (14, np.float64, "d", [-0.1, 5e-324, 1e308]),
]
MEMORY = 10 * 2**20


def header(code, *shape):
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape), *shape)


def small_file():
    return header(11, 2, 3) + struct.pack(">6h", *range(-3, 3))


def refusal(path, **options):
    """The one sentence with which a file is refused; it names the file."""
    with pytest.raises(DataError) as caught:
        read_idx(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{printable(str(path))} ")
    assert "\n" not in text
    return text


def refusal_of_bytes(tmp_path, data, **options):
    path = tmp_path / "array"
    path.write_bytes(data)
    return refusal(path, **options)


# What is read


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(("code", "dtype", "letter", "numbers"), KINDS)
def test_reads_every_type(tmp_path, code, dtype, letter, numbers, pack):
    path = tmp_path / "array"
    path.write_bytes(pack(header(code, 3) + struct.pack(f">3{letter}", *numbers)))
    array = read_idx(path)
    assert array.dtype == dtype
    assert array.dtype.isnative
    assert array.flags.c_contiguous
    assert array.flags.writeable
    np.testing.assert_array_equal(array, np.array(numbers, dtype))


@pytest.mark.parametrize(("code", "dtype", "letter", "numbers"), KINDS)
def test_writes_every_type(tmp_path, code, dtype, letter, numbers):
    expected = header(code, 1, 3) + struct.pack(f">3{letter}", *numbers)
    array = np.array([numbers], dtype)
    write_idx(tmp_path / "array", array)
    write_idx(str(tmp_path / "array.gz"), array)
    assert (tmp_path / "array").read_bytes() == expected
    assert gzip.decompress((tmp_path / "array.gz").read_bytes()) == expected


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_round_trip(tmp_path_factory, data):
    dtype = data.draw(st.sampled_from([np.dtype(kind) for _, kind, _, _ in KINDS]))
    order = data.draw(st.sampled_from("<>"))
    shape = hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4)
    array = data.draw(hnp.arrays(dtype.newbyteorder(order), shape))
    if data.draw(st.booleans()):
        array = array.T
    path = tmp_path_factory.mktemp("round") / data.draw(st.sampled_from(["array", "array.gz"]))
    write_idx(path, array)
    back = read_idx(str(path))
    assert (back.dtype, back.shape) == (dtype, array.shape)
    assert back.tobytes() == array.astype(dtype).tobytes()  # bytes: NaN is not equal to itself


def test_eight_dimensions(tmp_path):
    array = np.arange(2**8, dtype=np.uint8).reshape((2,) * 8)
    write_idx(tmp_path / "array", array)
    np.testing.assert_array_equal(read_idx(tmp_path / "array"), array)


def test_larger_than_one_piece(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, 2**21 + 3, dtype=np.uint8)
    for path in (tmp_path / "array", tmp_path / "array.gz"):
        write_idx(path, array)
        np.testing.assert_array_equal(read_idx(path), array)


def test_content_tells_gzip_not_the_name(tmp_path):
    plain_named_gzip, gzip_named_plain = tmp_path / "a.gz", tmp_path / "b"
    plain_named_gzip.write_bytes(small_file())
    gzip_named_plain.write_bytes(gzip.compress(small_file()))
    np.testing.assert_array_equal(read_idx(plain_named_gzip), read_idx(gzip_named_plain))


def test_gzip_of_several_members(tmp_path):
    data = small_file()
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(data[:7]) + gzip.compress(data[7:]))
    np.testing.assert_array_equal(read_idx(path).ravel(), np.arange(-3, 3))


def test_max_bytes_counts_the_data(tmp_path):
    path = tmp_path / "array"
    path.write_bytes(small_file())
    assert read_idx(path, max_bytes=12).nbytes == 12
    assert "max_bytes=11" in refusal(path, max_bytes=11)


# What is refused


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_every_truncation(tmp_path, pack):
    data = pack(small_file())
    for n in range(len(data)):
        refusal_of_bytes(tmp_path, data[:n])


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_every_truncation_before_compression(tmp_path, pack):
    data = small_file()
    for n in range(len(data)):
        refusal_of_bytes(tmp_path, pack(data[:n]))


def test_trailing_bytes(tmp_path):
    data = small_file()
    assert "longer" in refusal_of_bytes(tmp_path, data + b"\0")
    assert "longer" in refusal_of_bytes(tmp_path, gzip.compress(data + b"\0"))
    assert "longer" in refusal_of_bytes(tmp_path, gzip.compress(data) + gzip.compress(b"\0"))
    refusal_of_bytes(tmp_path, gzip.compress(data) + b"junk")


def test_bit_flips_of_a_plain_file(tmp_path):
    for flipped in bit_flips(small_file()):
        decode_or_refuse(flipped)


def test_bit_flips_of_a_gzip_file_never_change_the_array():
    expected = decode_idx(io.BytesIO(small_file()), "file")
    for flipped in bit_flips(gzip.compress(small_file())):
        array = decode_or_refuse(flipped)
        assert array is None or np.array_equal(array, expected)


@settings(deadline=None, max_examples=500)
@given(
    start=st.sampled_from([b"", b"\0\0", b"\0\0\x08\x01", b"\0\0\x0e\x02\0\0", b"\x1f\x8b\x08"]),
    rest=st.binary(max_size=40),
    packed=st.booleans(),
)
def test_any_bytes(start, rest, packed):
    decode_or_refuse(gzip.compress(start + rest) if packed else start + rest)


def bit_flips(data):
    for i in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[i // 8] ^= 1 << i % 8
        yield bytes(flipped)


def decode_or_refuse(data):
    """An array or None; any other exception than DataError fails the test."""
    try:
        return decode_idx(io.BytesIO(data), "file", max_bytes=2**20)
    except DataError:
        return None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "begins with b''"),
        (b"\0\0\x08", "begins with"),
        (b"<html>", "begins with b'<htm'"),
        (b"\1\0\x08\1\0\0\0\0", "begins with"),
        (b"\0\1\x08\1\0\0\0\0", "begins with"),
        (header(10, 1) + b"\0", "type code 10"),
        (header(0, 1) + b"\0", "type code 0"),
        (header(8) + b"\0", "0 dimensions"),
        (header(8, *[1] * 9) + b"\0", "9 dimensions"),
        (header(8, *[1] * 255) + b"\0", "255 dimensions"),
        (header(8, 1, 1)[:-1], "inside its header"),
    ],
)
def test_what_is_not_idx(tmp_path, data, found):
    assert found in refusal_of_bytes(tmp_path, data)
    assert found in refusal_of_bytes(tmp_path, gzip.compress(data))


HUGE = 2**32 - 1


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "start",
    [
        header(14, 2**20, 2**18),  # 2 TiB
        header(8, *[HUGE] * 8),
        header(8, 0, *[HUGE] * 7),  # NumPy refuses the shape although it holds nothing
        header(8, HUGE, HUGE, 0),
        header(8, HUGE),  # within max_bytes, but not in the file
        header(8, 2**28),
    ],
)
@pytest.mark.parametrize("n", [0, 100])
def test_hostile_header_costs_no_memory(tmp_path, start, n, pack):
    path = tmp_path / "array"
    path.write_bytes(pack(start + bytes(n)))
    refusal_without_memory(path)


def test_gzip_bomb_behind_a_small_header(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(bomb(header(8, 10)))
    assert "longer" in refusal_without_memory(path)


def test_gzip_bomb_is_bounded_by_max_bytes(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(bomb(header(8, 2**26)))
    assert "max_bytes=1048576" in refusal_without_memory(path, max_bytes=2**20)


def test_memory_grows_with_the_stream_not_with_the_claim(tmp_path):
    noise = np.random.default_rng(0).bytes(2**18)  # packs to itself: 200 MB could be in it
    path = tmp_path / "array.gz"
    path.write_bytes(gzip.compress(header(8, 200 * 2**20) + noise))
    assert "shorter" in refusal_without_memory(path)


@pytest.mark.parametrize(
    ("pack", "n", "is_read"),
    [
        (bytes, 2**20 + 8, True),
        (bytes, 2**20 + 9, False),
        (gzip.compress, 1032 * 2**20, True),
        (gzip.compress, 1033 * 2**20, False),
    ],
)
def test_more_than_the_file_can_hold_is_refused_unread(pack, n, is_read):
    class Counting(io.BytesIO):
        count = 0

        def read(self, n=-1):
            data = super().read(n)
            self.count += len(data)
            return data

    noise = np.random.default_rng(0).bytes(2**20)
    file = Counting(pack(header(8, n) + noise))
    with pytest.raises(DataError, match="shorter"):
        decode_idx(file, "file")
    assert (file.count > 2**18) is is_read


def bomb(start):
    """The header and 64 MiB of zeros, in 64 KiB."""
    packer = zlib.compressobj(wbits=31)
    pieces = [packer.compress(start), *(packer.compress(bytes(2**20)) for _ in range(64))]
    return b"".join([*pieces, packer.flush()])


def refusal_without_memory(path, **options):
    tracemalloc.start()
    try:
        text = refusal(path, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY
    return text


# Files that cannot be opened, read or written


def test_missing_file(tmp_path):
    path = tmp_path / "absent"
    assert refusal(path) == f"{path} cannot be read (No such file or directory): check the path"


def test_folder(tmp_path):
    assert "a folder" in refusal(tmp_path)


def test_file_where_a_folder_must_be(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    refusal(tmp_path / "file" / "array")


def test_zero_byte_in_the_path():
    refusal("a\0b")
    with pytest.raises(DataError):
        write_idx("a\0b", np.zeros(1, np.uint8))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_pipe_does_not_wait(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refusal(tmp_path / "pipe")


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read every file")
def test_unreadable_file_and_folder(tmp_path):
    folder = tmp_path / "folder"
    write_idx(folder / "array", np.zeros(1, np.uint8))
    (folder / "array").chmod(0)
    assert "Permission denied" in refusal(folder / "array")
    folder.chmod(0)
    assert "Permission denied" in refusal(folder / "array")
    folder.chmod(0o700)


@pytest.mark.parametrize("allowed", [2, 6, 12])
def test_failing_disk(allowed):
    class Failing(io.BytesIO):
        def read(self, n=-1):
            if self.tell() + n > allowed:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(n)

    with pytest.raises(DataError, match=r"^file .*Input/output error"):
        decode_idx(Failing(small_file()), "file")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.int64),
        np.zeros(3, np.uint16),
        np.zeros(3, bool),
        np.zeros(3, np.complex64),
        np.array([None]),
        np.array(["a"]),
        np.zeros((), np.uint8),
        np.zeros((1,) * 9, np.uint8),
        np.broadcast_to(np.uint8(0), (2**32, 0)),
    ],
    ids=lambda array: f"{array.dtype}-{array.ndim}",
)
def test_no_place_in_idx(tmp_path, array):
    with pytest.raises(DataError) as caught:
        write_idx(tmp_path / "array", array)
    assert str(array.dtype) in str(caught.value)
    assert str(array.shape) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_gzip_has_no_clock(tmp_path):
    write_idx(tmp_path / "array.gz", np.zeros(3, np.uint8))
    assert (tmp_path / "array.gz").read_bytes()[4:8] == bytes(4)


def test_write_makes_folders_and_leaves_only_the_file(tmp_path):
    path = tmp_path / "a" / "b" / "array"
    write_idx(path, np.zeros(3, np.uint8))
    write_idx(path, np.ones(3, np.uint8))
    assert list(path.parent.iterdir()) == [path]
    np.testing.assert_array_equal(read_idx(path), [1, 1, 1])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch, step):
    path = tmp_path / "array"
    write_idx(path, np.zeros(3, np.uint8))

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(DataError, match="No space left on device") as caught:
        write_idx(path, np.ones(3, np.uint8))
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]
    np.testing.assert_array_equal(read_idx(path), [0, 0, 0])


@pytest.mark.skipif(os.name != "posix", reason="file modes are a POSIX thing")
def test_mode_follows_the_umask(tmp_path):
    before = os.umask(0o022)
    try:
        write_idx(tmp_path / "array", np.zeros(3, np.uint8))
    finally:
        os.umask(before)
    assert (tmp_path / "array").stat().st_mode & 0o777 == 0o644


# What a small gzip file may cost


def packed(data, splits=()):
    """A gzip file with a member for each part."""
    edges = [0, *sorted(splits), len(data)]
    return b"".join(gzip.compress(data[a:b]) for a, b in itertools.pairwise(edges))


@given(
    st.binary(max_size=300),
    st.lists(st.integers(0, 300), max_size=5),
    st.integers(0, 40),
    st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
@settings(max_examples=60, deadline=None)
def test_members_and_zeros_between_them_are_read_as_by_python(data, splits, zeros, sizes):
    splits = [min(k, len(data)) for k in splits]
    file = packed(data, splits) + bytes(zeros) + packed(data) + bytes(zeros)
    assert gzip.decompress(file) == 2 * data
    stream, found = Gunzip(io.BytesIO(file)), b""
    for n in itertools.cycle(sizes):
        piece = stream.read(n)
        found += piece
        assert len(piece) == n or found == 2 * data
        if len(piece) < n:
            break
    assert stream.read(1) == b""


@given(st.integers(0, 400), st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_a_changed_bit_of_two_members_is_an_error_or_no_matter(place, bit):
    data = np.random.default_rng(0).bytes(150)
    file = bytearray(packed(data, [70]))
    file[place % len(file)] ^= 1 << bit
    with contextlib.suppress(zlib.error, EOFError):
        assert Gunzip(io.BytesIO(bytes(file))).read(1000) == data


def test_the_number_of_members_has_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("xpnet.data.gunzip.MOST_MEMBERS", 50)
    data = header(8, 4) + b"abcd"
    path = tmp_path / "array.gz"
    path.write_bytes(packed(b"") * 49 + packed(data))
    assert read_idx(path).tobytes() == b"abcd"
    path.write_bytes(packed(b"") * 50 + packed(data))
    assert "more than 50 gzip members" in refusal(path)


@pytest.mark.parametrize("flag", [8, 16])
def test_a_long_name_or_comment_is_read_in_pieces(flag):
    class Counting(io.BytesIO):
        calls = 0

        def read(self, n=-1):
            self.calls += 1
            return super().read(n)

    data = header(8, 4) + b"abcd"
    start = b"\x1f\x8b\x08" + bytes([flag, 0, 0, 0, 0, 0, 255])
    file = Counting(start + b"n" * 2**20 + b"\0" + gzip.compress(data)[10:])
    assert decode_idx(file, "file").tobytes() == b"abcd"
    assert file.calls < 200  # not one for each byte
