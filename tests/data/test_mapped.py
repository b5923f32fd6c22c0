"""Training from a file that is mapped into memory: the same bits, and the file stays outside."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import DataError
from xpnet.backend import find_backend
from xpnet.data import mapped
from xpnet.data.mapped import find_mapped

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere a mapped file is used as any other array"
)
N, FEATURES, CLASSES = 1000, 784, 10
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (N, FEATURES)).astype(np.uint8)
LABELS = RNG.integers(0, CLASSES, N)


@pytest.fixture(autouse=True)
def _everything_is_large(monkeypatch):
    monkeypatch.setattr(mapped, "LARGE", 0)


@pytest.fixture
def stored(tmp_path):
    """A function that writes an array into a file behind some bytes, and maps it."""

    def store(a, mode="r"):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))} rows.bin"
        path.write_bytes(b"head" * 2 + a.tobytes())
        return np.memmap(path, a.dtype, mode, offset=8, shape=a.shape)

    return store


def trained(X, t=LABELS, *, backend="numpy", batch_size=64, **options):
    """The trainer after 2 epochs, the last batch of which is a short one."""
    flatten = [xpnet.Flatten()] if X.ndim > 2 else []
    layers = xpnet.Linear(X[0].size, 8), xpnet.Tanh(), xpnet.Linear(8, CLASSES)
    made = xpnet.Trainer(
        xpnet.Sequential(*flatten, *layers, seed=1, backend=backend), "softmax_cross_entropy"
    )
    made.fit(X, t, epochs=2, batch_size=batch_size, **options)
    return made


def is_read(made, column=0):
    return made.batches._readers[column] is not None


def same(a, b):
    """Two trainers that did exactly the same."""
    np.testing.assert_array_equal(a.net.params, b.net.params)
    assert a.history == b.history


DATA = {
    "uint8": PIXELS,
    "float32": RNG.standard_normal((N, 30), np.float32),
    "int64": RNG.integers(-3, 3, (N, 5)),
    "images": PIXELS.reshape(N, 1, 28, 28),
}


@pytest.mark.parametrize("kind", DATA)
@pytest.mark.parametrize("shuffle", [True, False])
def test_the_same_bits_as_from_memory(stored, kind, shuffle):
    X = DATA[kind]
    made = trained(stored(X), shuffle=shuffle)
    same(made, trained(X, shuffle=shuffle))
    assert is_read(made) is (kind != "int64")  # which becomes float32, and that is in memory


@pytest.mark.parametrize("backend", ["numba", "reproducible"])
def test_the_same_bits_on_other_backends(stored, backend):
    if backend == "numba":
        pytest.importorskip("numba")
    xp = find_backend("numpy", reproducible=True) if backend == "reproducible" else backend
    made = trained(stored(PIXELS), backend=xp)
    same(made, trained(PIXELS, backend=xp))
    assert is_read(made)


def test_parts_of_a_file(stored):
    X = stored(PIXELS)
    for part in (X[10:], X[3:203], np.asarray(X)[10:][5:]):
        made = trained(part, LABELS[: len(part)])
        same(made, trained(np.array(part), LABELS[: len(part)]))
        assert is_read(made)


def test_targets_of_a_file(stored):
    targets = np.eye(CLASSES, dtype=np.float32)[LABELS]
    made = trained(PIXELS, stored(targets))
    same(made, trained(PIXELS, targets))
    assert is_read(made, 1)
    assert not is_read(made, 0)


def resident(path):
    """The bytes of a file that are mapped and count as memory of this process."""
    here, found = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split()[0]:
            here = line.endswith(str(path))
        elif here and line.startswith("Rss:"):
            found += int(line.split()[1]) * 1024
    return found


def test_the_file_stays_outside(stored, monkeypatch):
    X = stored(PIXELS)
    made = trained(X)
    assert is_read(made)
    assert resident(X.filename) == 0
    monkeypatch.setattr(mapped, "LARGE", X.nbytes + 1)
    assert not is_read(trained(X))
    assert resident(X.filename) > X.nbytes / 2  # so this is seen where it happens


def test_changes_that_are_not_in_the_file_count(stored):
    private, shared = stored(PIXELS, "c"), stored(PIXELS, "r+")
    for X in (private, shared):
        X[:] = 255 - X
        same(trained(X), trained(255 - PIXELS))
        assert (X == 255 - PIXELS).all()
    assert not is_read(trained(private))
    assert is_read(trained(shared))


def test_a_file_that_has_been_replaced(stored, tmp_path):
    X = stored(PIXELS)
    other = tmp_path / "other"
    other.write_bytes(bytes(8 + X.nbytes))
    os.replace(other, X.filename)
    made = trained(X)
    same(made, trained(PIXELS))
    assert not is_read(made)
    X.filename.unlink()
    same(trained(X), made)


def test_rows_on_disk_are_announced_and_then_read(stored, monkeypatch):
    announced, read, places = [], os.preadv, []

    def only_if_announced(file, buffers, place, flags):
        if flags:
            places.append(place)
            if len(places) % 2:
                raise BlockingIOError
            return read(file, buffers, place, flags) - 1
        assert place in announced
        return read(file, buffers, place)

    monkeypatch.setattr(os, "preadv", only_if_announced)
    monkeypatch.setattr(os, "posix_fadvise", lambda file, place, *_: announced.append(place))
    made = trained(stored(PIXELS))
    monkeypatch.undo()
    same(made, trained(PIXELS))
    assert set(announced) - {0} == {8 + i * FEATURES for i in range(N)}


def test_a_file_that_has_become_shorter(stored):
    X = stored(PIXELS)
    reader = find_mapped(X, 2)
    os.truncate(X.filename, 8 + FEATURES * 10 + 1)
    np.testing.assert_array_equal(reader.read(np.array([9, 0])), PIXELS[[9, 0]])
    with pytest.raises(DataError, match="has become shorter"):
        reader.read(np.array([9, 10]))


def test_the_file_is_closed(stored):
    X = stored(PIXELS)

    def opened():
        return [file for file in Path("/proc/self/fd").iterdir() if file.resolve() == X.filename]

    before = len(opened())  # the mapping has a descriptor of its own
    made = trained(X)
    assert len(opened()) == before + 1
    made.fit(PIXELS, LABELS, epochs=1)
    assert len(opened()) == before


def test_what_is_used_as_it_is(stored, monkeypatch):
    X = stored(PIXELS)
    assert find_mapped(PIXELS, 64) is None
    assert find_mapped(np.array(X), 64) is None
    assert not is_read(trained(X, batch_size=None))  # all of it is needed at once
    monkeypatch.setattr(mapped, "NOWAIT", None)  # as on other systems
    assert find_mapped(X, 64) is None
    monkeypatch.undo()
    assert find_mapped(X, 64) is None  # small
