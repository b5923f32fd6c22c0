"""10 000 steps leak nothing, and what is no longer used is freed."""

from __future__ import annotations

import gc
import pickle
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from weakref import ref

import numpy as np
import pytest

import xpnet
from xpnet.backend import find_backend

STEPS, ROUNDS, EPOCHS, WARM = 10_000, 40, 10, 4
RNG = np.random.default_rng(0)
X, T = RNG.normal(size=(96, 6)), RNG.integers(0, 3, 96)
PAGES = Path("/proc/self/statm")  # of Linux


@pytest.fixture(
    params=[
        pytest.param(("numpy", False), id="numpy"),
        pytest.param(("numpy", True), id="reproducible"),
        pytest.param(("numba", False), id="numba", marks=pytest.mark.numba),
    ]
)
def xp(request):
    return find_backend(*request.param)


def network(xp):
    layers = [xpnet.Linear(6, 5), xpnet.Tanh(), xpnet.BatchNorm1d(5), xpnet.Dropout(0.1)]
    layers += [xpnet.Sequential(xpnet.Linear(5, 5), xpnet.ReLU()), xpnet.Linear(5, 3)]
    layers = layers[:2] + layers[5:] if xp.reproducible else layers  # it is slow
    return xpnet.Sequential(*layers, backend=xp)


def used(trainer):
    """Train for 250 steps, and use network and trainer in every other way."""
    net, t = trainer.net, trainer.optimizer.t
    callback = xpnet.EarlyStopping(patience=99)
    trainer.fit(X, T, epochs=EPOCHS, batch_size=4, validation_data=(X, T), callbacks=[callback])
    trainer.fit(X, T, epochs=EPOCHS, batch_size=None)
    assert trainer.optimizer.t - t == EPOCHS * (24 + 1) == STEPS // ROUNDS
    trainer.evaluate(X, T)
    net.predict(X.tolist())
    other = pickle.loads(pickle.dumps(net.copy()))
    other.load_state_dict(net.state_dict())
    xpnet.SGD(other).restore(xpnet.SGD(net).host_state())
    with net.in_use, ThreadPoolExecutor(1) as pool:
        pool.submit(net.predict, X).result()
    with pytest.raises(xpnet.ShapeError):
        trainer.fit(X, T[1:])


def resident():
    """Return the memory of the process in bytes, 0 where nobody says."""
    return int(PAGES.read_text().split()[1]) * 4096 if PAGES.exists() else 0


@pytest.mark.thorough
def test_10_000_steps_leak_nothing(xp):
    trainer = xpnet.Trainer(network(xp), "softmax_cross_entropy", metrics=["accuracy"])
    for _ in range(WARM):
        used(trainer)
    gc.collect()
    blocks, pages = sys.getallocatedblocks(), resident()
    for _ in range(ROUNDS if xp.name == "numpy" else 10):
        used(trainer)
    gc.collect()
    numbers = sum(map(len, trainer.history.values()))
    assert sys.getallocatedblocks() - blocks < numbers + STEPS // 20
    assert resident() - pages < 2**20


@pytest.mark.thorough(but=["numpy"])
def test_a_network_is_freed_with_its_last_user(xp):
    """At once: nothing in it knows itself."""
    gc.collect()
    gc.disable()
    try:
        for _ in range(1000 if xp.name == "numpy" and not xp.reproducible else 10):
            net = network(xp)
            net.predict(X)
            net.forward(xp.asarray(X, np.float32))
            net.backward(xp.asarray(np.ones((96, 3)), np.float32))
            optimizer = xpnet.Adam(net)
            optimizer.step()
            left = [ref(a) for a in (net, net.twin(), net[0], net[-1], net.params, optimizer)]
            del net, optimizer
            assert [a() for a in left] == [None] * len(left)
    finally:
        gc.enable()


@pytest.mark.thorough(but=["numpy"])
def test_a_trainer_is_freed(xp):
    """With its data; callbacks and it know each other, so a collection of garbage may be needed."""
    left = []
    for k in range(30):
        data, recorder = X.copy(), xpnet.Recorder()
        trainer = xpnet.Trainer(network(xp), "softmax_cross_entropy")
        trainer.fit(data, T, epochs=1, callbacks=[recorder])
        left += [ref(a) for a in (data, recorder, trainer, trainer.net, trainer.loss)]
        if k % 2:  # the frames of an error, too
            with pytest.raises(xpnet.DataError):
                trainer.fit(data * np.nan, T)
        del data, recorder, trainer
    gc.collect()
    assert [a() for a in left] == [None] * len(left)


@pytest.mark.thorough
def test_threads_take_their_scratch_with_them(xp):
    net = network(xp)

    def use():
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: net.predict(X), range(16)))

    use()
    gc.collect()
    tracemalloc.start()
    try:
        use()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            use()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 2**16
    finally:
        tracemalloc.stop()
