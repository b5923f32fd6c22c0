"""Files of safetensors: what is written is what is read, here and by the library, and no other."""

from __future__ import annotations

import errno
import json
import os
import re
import struct
import sys
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet.exchange import load_safetensors, save_safetensors
from xpnet.exchange.safetensors import MOST, read, read_header

library = pytest.importorskip(
    "safetensors.numpy", reason="safetensors is not installed: pip install '.[io]'"
)
from safetensors import safe_open  # noqa: E402


def network(seed=0, dtype="float32", backend=None):
    return xpnet.Sequential(
        *(xpnet.Linear(4, 3), xpnet.BatchNorm1d(3), xpnet.Dropout(0.3), xpnet.LayerNorm(3)),
        xpnet.Sequential(xpnet.Linear(3, 3, bias=False), xpnet.Tanh()),
        **{"seed": seed, "dtype": dtype, "backend": backend},
    )


def trained(**options):
    """A network in which no two values are the same and BatchNorm1d has learnt."""
    net = network(**options)
    net.forward(net.xp.asarray(np.random.default_rng(0).normal(size=(8, 4)), net.dtype))
    return net


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(np.array_equal(a[name], b[name]) for name in a)


def with_header(header, data=b""):
    """Return a file with any header: a table, words, or bytes."""
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    text = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


# ---- what is written is what is read ------------------------------------------------------------


@pytest.mark.parametrize("layout", ["xpnet", "torch"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_saved_is_loaded(layout, dtype, tmp_path, backend):
    net, other = trained(dtype=dtype), network(seed=1, dtype=dtype)
    save_safetensors(net, tmp_path / "net.safetensors", layout)
    load_safetensors(other, str(tmp_path / "net.safetensors"), layout)
    X = np.random.default_rng(1).normal(size=(5, 4)).astype(dtype)
    assert np.array_equal(net.predict(X), other.predict(X))
    assert same(net, other) == (layout == "xpnet")  # only ours has the state of Dropout
    assert [path.name for path in tmp_path.iterdir()] == ["net.safetensors"]


def test_the_library_reads_what_is_written(tmp_path):
    """Also the transposed weight: safetensors 0.8.0 writes the wrong bytes of views such as Wᵀ."""
    net, path = trained(), tmp_path / "net.safetensors"
    for layout in ("xpnet", "torch"):
        save_safetensors(net, path, layout)
        found, expected = library.load_file(path), net.state_dict(layout)
        assert found.keys() == expected.keys()
        assert all(np.array_equal(found[name], a) for name, a in expected.items())
    assert np.array_equal(found["0.weight"], net.layers[0].W.T)
    with safe_open(path, "np") as file:
        assert file.metadata().keys() == {f"xpnet_{k}" for k in ("version", "layout", "crc32")} | {
            "format"
        }
        assert file.metadata()["format"] == "pt"  # which others ask for


def test_arrays_of_any_layout_are_written_in_order(tmp_path, monkeypatch):
    """What `state_dict` gives is in order already; the writer does not rely on it."""
    net, path = network(), tmp_path / "net.safetensors"
    W = np.arange(12, dtype=np.float32).reshape(3, 4)
    views = {"T": W.T, "F": np.asfortranarray(W), "steps": W[:, ::2], "back": W[::-1], "0": W[0, 0]}
    given = []
    monkeypatch.setattr(net, "state_dict", lambda layout: views)
    monkeypatch.setattr(library, "save", lambda d, metadata, save=library.save: (
        given.extend(d.values()), save(d, metadata))[1])  # fmt: skip
    save_safetensors(net, path)
    assert len(given) == len(views)
    assert all(a.flags.c_contiguous for a in given)
    found = library.load_file(path)
    assert all(np.array_equal(found[name], a) for name, a in views.items())
    assert found["0"].shape == ()


def test_files_of_pytorch_are_read_and_written(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, which has such files")
    from safetensors.torch import load_model, save_model

    layers = [torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.GELU(approximate="tanh")]
    twin, other = torch.nn.Sequential(*layers).eval(), network()
    other = xpnet.Sequential(xpnet.Linear(4, 3), xpnet.BatchNorm1d(3), xpnet.GELU())
    twin[1].running_mean += 1
    X = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    save_model(twin, tmp_path / "theirs.safetensors")
    load_safetensors(other, tmp_path / "theirs.safetensors", "torch")
    with torch.no_grad():
        expected = twin(torch.tensor(X)).numpy()
        assert other.predict(X) == pytest.approx(expected, abs=1e-6)
        for parameter in twin.parameters():
            parameter.zero_()
        save_safetensors(other, tmp_path / "ours.safetensors", "torch")
        load_model(twin, tmp_path / "ours.safetensors", strict=True)
        assert twin(torch.tensor(X)).numpy() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "bfloat16"])
def test_floating_values_of_any_width_are_taken(kind, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed, which has bfloat16")
    from safetensors.torch import save_file

    dtype, path = getattr(torch, kind), tmp_path / "net.safetensors"
    weight = torch.tensor([[1.5, -2.25, 0.0], [3.140625, torch.inf, 1e-3]]).to(dtype)
    save_file({"0.weight": weight}, path)
    net = xpnet.Sequential(xpnet.Linear(3, 2, bias=False))
    load_safetensors(net, path, "torch")
    assert np.array_equal(net.layers[0].W.T, weight.to(torch.float32).numpy())


TYPES = [f"{kind}{8 * n}" for kind in "iu" for n in (1, 2, 4, 8)]
TYPES = [name.replace("i", "int").replace("u", "uint") for name in TYPES]


@pytest.mark.thorough
@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.text(max_size=5).filter(lambda name: name != "__metadata__"),
        st.tuples(
            st.sampled_from([*TYPES, "float16", "float32", "float64", "bool"]),
            st.lists(st.integers(0, 3), max_size=4),
        ),
        max_size=4,
    )
)
def test_every_type_and_shape_is_read(kinds):
    random = np.random.default_rng(0)
    arrays = {
        name: random.integers(0, 2, shape).astype(dtype) for name, (dtype, shape) in kinds.items()
    }
    found = read(library.save(arrays), "a file")
    assert found.keys() == arrays.keys()
    assert all(found[name].dtype == a.dtype for name, a in arrays.items())
    assert all(np.array_equal(found[name], a) for name, a in arrays.items())
    assert all(found[name].shape == a.shape for name, a in arrays.items())


def test_saved_on_one_backend_loaded_on_the_other(tmp_path, strict):
    net, host = trained(), network(seed=1, backend="numpy")
    save_safetensors(net, tmp_path / "net.safetensors")
    load_safetensors(host, tmp_path / "net.safetensors")
    assert same(net, host)


# ---- damage -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Return a small file as bytes, and a network that it is for."""
    path = tmp_path_factory.mktemp("file") / "net.safetensors"
    save_safetensors(trained(backend="numpy"), path)
    return path.read_bytes(), network(seed=1, backend="numpy")


def test_every_truncation_is_refused(file, tmp_path):
    data, net = file
    before = net.sha256()
    for length in range(len(data)):
        with pytest.raises(xpnet.CheckpointError, match="a file"):
            read(data[:length], "a file")
    path = tmp_path / "net.safetensors"
    for length in (0, 7, 8, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(xpnet.CheckpointError, match=re.escape(str(path))):
            load_safetensors(net, path)
    path.write_bytes(data + b"x")
    with pytest.raises(xpnet.CheckpointError):
        load_safetensors(net, path)
    assert net.sha256() == before


def test_a_bit_that_flips_is_found_or_does_no_harm(file, tmp_path):
    """Every bit of the file. safetensors itself takes what has been changed in the values."""
    data, net = file
    path, refused = tmp_path / "net.safetensors", 0
    path.write_bytes(data)
    load_safetensors(net, path)
    expected = net.state_dict()
    for i in range(len(data)):
        for bit in (0, 3, 6):
            damaged = bytearray(data)
            damaged[i] ^= 1 << bit
            try:
                found = read(bytes(damaged), "a file")
            except xpnet.CheckpointError:
                refused += 1
                continue
            # A name of our own metadata has changed: then nobody looks at it.
            assert found.keys() == expected.keys()
            assert all(np.array_equal(found[name], a) for name, a in expected.items())
    assert refused > 0.8 * 3 * len(data)


def test_a_wrong_checksum_leaves_the_network_as_it_was(file, tmp_path):
    data, net = file
    before, path = net.state_dict(), tmp_path / "net.safetensors"
    damaged = bytearray(data)
    damaged[-1] ^= 64
    path.write_bytes(damaged)
    with pytest.raises(xpnet.CheckpointError, match="is damaged: its checksum is wrong"):
        load_safetensors(net, path)
    after = net.state_dict()
    assert all(np.array_equal(after[name], a) for name, a in before.items())
    assert library.load(bytes(damaged))  # which the library does not see


# ---- hostile files ------------------------------------------------------------------------------

LONG, SOME = "9" * 4000, json.dumps(entry())


@pytest.mark.parametrize(
    ("kind", "way_out"),
    [
        ("F8_E4M3", "tensor.float()"),
        ("C64", "tensor.real.contiguous()"),
        ("F4", "32-bit floating-point numbers"),
    ],
)
def test_other_types_of_the_format_are_no_damage(kind, way_out, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(with_header({"0.W": entry(kind)}, bytes(4)))
    net = xpnet.Sequential(xpnet.Linear(1, 1, bias=False))
    said = (
        f"cannot be read: '0.W' has the dtype {kind}, which is not read; write the file again with "
    )
    with pytest.raises(xpnet.CheckpointError) as caught:
        load_safetensors(net, tmp_path / "net.safetensors")
    assert str(caught.value).endswith(f"{said}{way_out}")


HALF_A_LETTER = with_header('{"\\ud800": {"dtype":"F32","shape":[0],"data_offsets":[0,0]}}')
HOSTILE = {
    "nothing": b"",
    "no header": struct.pack("<Q", 0),
    "a header of 100 MB": struct.pack("<Q", 100 << 20) + b"{" + b" " * (100 << 20),
    "a header of 2**63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "terabytes": with_header({"a": entry("F64", (10**6, 10**6), (0, 8 * 10**12))}),
    "more than there are atoms": with_header({"a": entry("F64", (2**62, 2**62), (0, 8))}, bytes(8)),
    "an endless number": with_header(f'{{"a": {LONG}{LONG}}}'),
    "long sides": with_header('{"a":{"dtype":"F32","data_offsets":[0,4],"shape":[' + LONG + "]}}"),
    "many sides": with_header({"a": entry(shape=[1] * 80_000)}, bytes(4)),
    "a side below 0": with_header({"a": entry(shape=(-1, -1))}, bytes(4)),
    "a side that is a fraction": with_header({"a": entry(shape=(1.0,))}, bytes(4)),
    "a side that is True": with_header({"a": entry(shape=(True,))}, bytes(4)),
    "no sides": with_header({"a": {**entry(), "shape": None}}, bytes(4)),
    "fewer bytes than its shape": with_header({"a": entry(shape=(2,))}, bytes(4)),
    "three offsets": with_header({"a": entry(offsets=(0, 4, 4))}, bytes(4)),
    "offsets backwards": with_header({"a": entry(offsets=(4, 0))}, bytes(4)),
    "offsets beyond": with_header({"a": entry(offsets=(4, 8))}, bytes(4)),
    "a gap": with_header({"a": entry(), "b": entry(offsets=(8, 12))}, bytes(12)),
    "an overlap": with_header(
        {"a": entry(shape=(2,), offsets=(0, 8)), "b": entry(shape=(2,), offsets=(4, 12))}, bytes(12)
    ),
    "two over each other": with_header({"a": entry(), "b": entry()}, bytes(4)),
    "bytes that belong to nothing": with_header({"a": entry()}, bytes(5)),
    "a tensor twice": with_header(f'{{"a": {SOME}, "a": {SOME}}}', bytes(4)),
    "metadata twice": with_header('{"__metadata__": {}, "__metadata__": {}}'),
    "a dtype twice": with_header(f'{{"a": {{"dtype": "F32", {SOME[1:]}}}', bytes(4)),
    "a dtype that is none": with_header({"a": entry("object")}, bytes(4)),
    "a dtype that is a list": with_header({"a": entry(["F32"])}, bytes(4)),
    "complex numbers": with_header({"a": entry("C64", offsets=(0, 8))}, bytes(8)),
    "8 bits that are no number": with_header({"a": entry("F8_E4M3", (4,))}, bytes(4)),
    "something more": with_header({"a": {**entry(), "code": "x"}}, bytes(4)),
    "something less": with_header({"a": {"dtype": "F32"}}, bytes(4)),
    "a list": with_header([1, 2]),
    "a word": with_header('"a"'),
    "metadata that are no words": with_header({"__metadata__": {"a": [1]}}),
    "metadata that are a list": with_header({"__metadata__": [1]}),
    "no JSON": with_header("{'a': 1}"),
    "no UTF-8": with_header(b'{"\xff": 1}'),
    "half a letter": HALF_A_LETTER,
    "a deep list": with_header("[" * (MOST - 1)),
    "many lists": with_header("[" + "[]," * (MOST // 3 - 2) + "[]]"),
    "many tables": with_header('{"a": [' + "{}," * (MOST // 3 - 6) + "{}]}"),
    "many tensors": with_header({f"{i}": entry(offsets=(4 * i, 4 * i + 4)) for i in range(3000)}),
    "a pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "an archive": b"PK\x03\x04" + bytes(60),
}  # fmt: skip


@pytest.mark.thorough(but=["a*", "no*", "t*"])
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_files_are_refused_in_little_memory(data, tmp_path):
    path, net = tmp_path / "hostile.safetensors", network(backend="numpy")
    path.write_bytes(data)
    net.params  # noqa: B018  # the values are made
    with pytest.raises(xpnet.XpnetError, match=r"hostile\.safetensors"):
        load_safetensors(net, path)
    tracemalloc.start()
    try:
        with pytest.raises(xpnet.XpnetError) as refused:
            load_safetensors(net, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6
    assert len(str(refused.value)) < 600
    with pytest.raises(xpnet.CheckpointError):
        read(data, "hostile.safetensors")
    if data != HALF_A_LETTER:  # which the library alone refuses
        with pytest.raises(xpnet.CheckpointError):
            read_header(data[: 8 + MOST], len(data), "hostile.safetensors")


def test_a_hostile_file_that_is_right_but_not_for_this_network_is_not_read(tmp_path):
    """A terabyte that is there, as a hole in the file, and a header that says so."""
    path, size = tmp_path / "hostile.safetensors", 10**12
    path.write_bytes(with_header({"0.W": entry("U8", (10**6, 10**6), (0, size))}))
    length = path.stat().st_size + size
    try:
        with path.open("r+b") as file:
            file.truncate(length)
    except OSError as error:
        pytest.skip(f"no files with holes here: {error}")
    tracemalloc.start()
    try:
        with pytest.raises(xpnet.XpnetError, match=r"no value for|has the shape"):
            load_safetensors(xpnet.Sequential(xpnet.Linear(2, 2, bias=False)), path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 10e6


# ---- files for something else -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"0.W": np.zeros((5, 3), np.float32)}, xpnet.ShapeError, r"'0.W' has the shape \(4, 3\)"),
        ({"9.W": np.zeros(1, np.float32)}, xpnet.DataError, "unknown parameter '9.W'"),
        ({"0.W": None}, xpnet.DataError, "no value for the parameter '0.W'"),
        ({"0.W": np.zeros((4, 3), np.int32)}, xpnet.DataError, "'0.W' is float32; got I32"),
        ({"2.drawn": np.ones(1)}, xpnet.DataError, "'2.drawn' is uint64; got F64"),
    ],
    ids=["shape", "unknown", "missing", "integers", "no integers"],
)
def test_what_does_not_fit_changes_nothing(change, error, message, tmp_path):
    net, path = network(), tmp_path / "net.safetensors"
    values = {**trained().state_dict(), **change}
    library.save_file({name: a for name, a in values.items() if a is not None}, path)
    before = net.sha256()
    with pytest.raises(error, match=message):
        load_safetensors(net, path)
    assert net.sha256() == before


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(xpnet.CheckpointError, match=r"none\.safetensors cannot be read: No such"):
        load_safetensors(network(), tmp_path / "none.safetensors")
    with pytest.raises(xpnet.CheckpointError, match="cannot be read"):
        load_safetensors(network(), tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(xpnet.CheckpointError, match="pipe cannot be read: a folder or a device"):
        load_safetensors(network(), tmp_path / "pipe")


def test_a_network_of_too_many_layers_is_not_written(tmp_path):
    """Its header would be refused when it is read."""
    net = xpnet.Sequential(*(xpnet.Linear(1, 1) for _ in range(2500)))
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"old")
    with pytest.raises(xpnet.CheckpointError, match=f"{MOST} are the most"):
        save_safetensors(net, path)
    assert path.read_bytes() == b"old"


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    net, path = network(), tmp_path / "net.safetensors"
    save_safetensors(net, path)
    old = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(xpnet.XpnetError, match="No space left on device"):
        save_safetensors(trained(), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "none" / "net.safetensors"
    with pytest.raises(xpnet.XpnetError, match=r"cannot write to the folder .*none"):
        save_safetensors(network(), path)


def test_without_the_library_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for function in (save_safetensors, load_safetensors):
        with pytest.raises(xpnet.XpnetError, match=r"pip install 'safetensors>=0.4.5'"):
            function(network(), tmp_path / "net.safetensors")
    assert not list(tmp_path.iterdir())
