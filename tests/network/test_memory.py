"""What happens when memory does not suffice, on a backend that has only so much of it."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import xpnet
from xpnet.backend import find_backend
from xpnet.backend.on_numpy import NumPyBackend

MEGABYTE = 2**20
RNG = np.random.default_rng(0)
X, LABELS = RNG.integers(0, 256, (4096, 784)).astype(np.uint8), RNG.integers(0, 10, 4096)


class Limited(NumPyBackend):
    """NumPy with so many bytes for all arrays together, as a GPU's memory pool with a limit."""

    def __init__(self, limit):
        self.limit, self.used, self.peak = limit, 0, 0

    def _kept(self, size, make):
        if self.used + size > self.limit:
            raise MemoryError(f"out of memory allocating {size} bytes")
        self.used += size
        self.peak = max(self.peak, self.used)
        a = make()
        weakref.finalize(a, self._freed, size)
        return a

    def _freed(self, size):
        self.used -= size

    def empty(self, shape, dtype):
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self._kept(size, lambda: np.full(shape, 77, dtype))

    def zeros(self, shape, dtype):
        a = self.empty(shape, dtype)
        a[...] = 0
        return a

    def asarray(self, a, dtype=None):
        made = np.asarray(a, dtype, order="C")
        return self._kept(made.nbytes, made.copy)


def network(xp, hidden=1024):
    return xpnet.Sequential(
        *(xpnet.Linear(784, hidden), xpnet.ReLU(), xpnet.BatchNorm1d(hidden), xpnet.Dropout(0.5)),
        *(xpnet.Linear(hidden, hidden), xpnet.Tanh(), xpnet.Linear(hidden, 10)),
        backend=xp,
    )


@pytest.fixture
def made():
    xp = Limited(64 * MEGABYTE)
    return xpnet.Trainer(network(xp), "softmax_cross_entropy", "adam")


def test_a_batch_that_does_not_fit_is_refused_with_one_that_does(made):
    before = {k: v.tobytes() for k, v in made.net.state_dict().items()}
    with pytest.raises(xpnet.OutOfMemoryError, match=r"^a batch of 4096 samples.*batch_size=") as e:
        made.fit(X, LABELS, epochs=1, batch_size=None)
    assert {k: v.tobytes() for k, v in made.net.state_dict().items()} == before
    assert made.optimizer.t == 0
    assert made.epoch == 0
    assert not made.history
    size = int(str(e.value).partition("batch_size=")[2].split()[0])
    assert 64 <= size < 4096
    history = made.fit(X[: 2 * size], LABELS[: 2 * size], epochs=2, batch_size=size)
    assert len(history["loss"]) == 2
    assert made.optimizer.t == 4


def test_the_size_that_is_named_is_the_largest_power_of_2(made):
    with pytest.raises(xpnet.OutOfMemoryError) as e:
        made.fit(X, LABELS, epochs=1, batch_size=3000)
    size = int(str(e.value).partition("batch_size=")[2].split()[0])
    with pytest.raises(xpnet.OutOfMemoryError, match=f"batch of {2 * size} .* batch_size={size} "):
        made.fit(X, LABELS, epochs=1, batch_size=2 * size)
    made.fit(X[:size], LABELS[:size], epochs=1, batch_size=size)
    assert made.net.xp.peak <= made.net.xp.limit


@pytest.mark.thorough(but=["4200000", "7800000"])
@pytest.mark.parametrize("limit", [*range(4_200_000, 12_400_000, 400_000)])
def test_the_size_that_is_named_works_whatever_was_left(limit):
    """Also while the error lives, whose frames know what was made before."""
    xp = Limited(10**9)
    trainer = xpnet.Trainer(network(xp, 32), "softmax_cross_entropy", "sgd")
    trainer.net.sha256()
    xp.limit = limit
    with pytest.raises(xpnet.OutOfMemoryError, match="batch_size=") as e:
        trainer.fit(X, LABELS, epochs=1, batch_size=None)
    size = int(str(e.value).partition("batch_size=")[2].split()[0])
    trainer.fit(X, LABELS, epochs=1, batch_size=size)


def test_a_data_set_that_does_not_fit_is_named(made):
    many = np.zeros((70_000, 784), np.uint8)
    with pytest.raises(xpnet.OutOfMemoryError, match=r"^the data set needs 55 MB.*fewer samples$"):
        made.fit(many, np.zeros(70_000, int), epochs=1, batch_size=2)
    made.fit(X[:64], LABELS[:64], epochs=1)


def test_where_not_even_one_sample_fits():
    xp = Limited(13 * MEGABYTE)
    net = xpnet.Sequential(xpnet.Linear(784, 800), backend=xp)  # 628 000 parameters in five vectors
    trainer = xpnet.Trainer(net, "mse", "adam")
    xp.limit = xp.used + 12_000
    with pytest.raises(xpnet.OutOfMemoryError, match=r"not even one sample does$"):
        trainer.fit(np.zeros((1, 784), np.uint8), np.zeros((1, 800)), epochs=1)


def test_images_stay_bytes_on_the_device():
    """47 MB for MNIST, not 188."""
    xp = Limited(10**9)
    trainer = xpnet.Trainer(network(xp, 16), "softmax_cross_entropy", "sgd")
    trainer.fit(X, LABELS, epochs=1, batch_size=32)
    images = trainer.batches.columns[0]
    assert (images.dtype, images.nbytes) == (np.uint8, X.size)
    assert xp.peak < X.size + 2 * MEGABYTE


def test_data_that_are_on_the_device_are_used_where_they_are(backend):
    """On a GPU nothing of them goes to the host and back."""
    rng = np.random.default_rng(1)
    for X in (rng.integers(0, 256, (40, 6)).astype(np.uint8), rng.normal(size=(40, 6))):
        X = X.astype(np.float32) if X.dtype != np.uint8 else X
        t, found = rng.integers(0, 3, 40), []
        for placed in (X, backend.asarray(X)):
            net = xpnet.Sequential(xpnet.Linear(6, 3), backend=backend)
            trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam", metrics=["accuracy"])
            trainer.fit(placed, t, epochs=2, validation_data=(placed, t))
            found.append((trainer.net.sha256(), dict(trainer.history)))
        if not backend.on_host:
            column = trainer.batches.columns[0]
            assert column is placed or np.shares_memory(column._host, placed._host)
        assert found[0] == found[1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_data_on_the_device_are_named(backend, value):
    X = np.ones((5, 3), np.float32)
    X[3, 1] = value
    trainer = xpnet.Trainer(xpnet.Sequential(xpnet.Linear(3, 1), backend=backend), "mse")
    with pytest.raises(xpnet.DataError, match=rf"X\[3, 1\] is {value}"):
        trainer.fit(backend.asarray(X), np.ones(5))


@pytest.mark.gpu
def test_a_pool_with_a_limit_of_256_mb():
    import cupy

    xp, pool = find_backend("cupy"), cupy.get_default_memory_pool()
    xp._gemm.prepare()  # the workspaces of cuBLAS, which are kept
    gc.collect()
    pool.free_all_blocks()
    net = network(xp)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam")
    before, limit = net.sha256(), pool.get_limit()
    pool.set_limit(size=256 * MEGABYTE)
    try:
        many = np.tile(X, (16, 1))
        with pytest.raises(xpnet.OutOfMemoryError, match="batch_size=") as e:
            trainer.fit(many, np.tile(LABELS, 16), epochs=1, batch_size=None)
        assert net.sha256() == before
        size = int(str(e.value).partition("batch_size=")[2].split()[0])
        trainer.fit(many, np.tile(LABELS, 16), epochs=1, batch_size=size)
        assert net.sha256() != before
        assert 0 < xp.peak_memory() <= 256 * MEGABYTE
    finally:
        pool.set_limit(size=limit)
