"""Threads: 8 that train and 16 that predict at once give the bits of one."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
from at_once import at_once

import xpnet
from xpnet.backend import find_backend
from xpnet.estimators import MLPClassifier

pytestmark = pytest.mark.usefixtures("often")
TRAINING, PREDICTING, SHARED = 8, 16, 4
ROWS = (1, 700, 2500)  # of different predictions; above 1024 they are made in pieces
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (max(ROWS), 12)).astype(np.uint8)
NUMBERS = RNG.normal(size=(max(ROWS), 12))
LABELS = RNG.integers(0, 3, max(ROWS))
MODES = [
    pytest.param(("numpy", False, "float32"), id="float32"),
    pytest.param(("numpy", False, "float64"), id="float64"),
    pytest.param(("numpy", True, "float32"), id="reproducible"),
    pytest.param(("numba", False, "float32"), id="numba", marks=pytest.mark.numba),
]


@pytest.fixture(params=MODES)
def mode(request):
    """What makes a network: the backend, one object for all threads, and the dtype."""
    name, reproducible, dtype = request.param
    return {"backend": find_backend(name, reproducible), "dtype": dtype}


def network(seed, **mode):
    inner = xpnet.Sequential(xpnet.Linear(9, 9), xpnet.GELU(), xpnet.LayerNorm(9))
    return xpnet.Sequential(
        *(xpnet.Linear(12, 9), xpnet.ReLU(), xpnet.BatchNorm1d(9), xpnet.Dropout(0.3), inner),
        *(xpnet.Linear(9, 8), xpnet.Tanh(), xpnet.Linear(8, 3), xpnet.Softmax()),
        seed=seed,
        **mode,
    )


def trained(k, mode):
    """Train a network of its own; return every bit of it, and of the history."""
    loss = ("cross_entropy", "mse", "huber", "bce")[k % 4]
    optimizer = ("adam", "momentum", "rmsprop", "sgd")[k // 2 % 4]
    net = network(k, **mode)
    trainer = xpnet.Trainer(net, loss, optimizer, metrics=["rmse"] if k % 4 else ["accuracy"])
    X = (IMAGES if k % 2 else NUMBERS)[:150]
    t = np.eye(3)[LABELS[:150]] if k % 4 else LABELS[:150]
    sizes = (7, 16, 40, 150)
    trainer.fit(X, t, epochs=2, batch_size=sizes[k % 4], validation_data=(X, t))
    return bits(net), dict(trainer.history)


def bits(net):
    return {name: value.tobytes() for name, value in net.state_dict().items()}


def predicted(k, nets):
    """Return the bits of predictions of all networks, for all numbers of rows."""
    X, found = (IMAGES if k % 2 else NUMBERS), {}
    for i in range(len(nets) * len(ROWS)):
        place, n = (i + k) % len(nets), ROWS[(i + k // 2) % len(ROWS)]
        found[place, n] = nets[place].predict(X[:n]).tobytes()
    return found


@pytest.mark.thorough(but=["float32"])
def test_training_and_predicting_at_once_give_the_bits_of_one(mode):
    def works(nets):
        train = [lambda k=k: trained(k, mode) for k in range(TRAINING)]
        return train + [lambda k=k: predicted(k, nets) for k in range(PREDICTING)]

    def fresh():
        return [network(seed, **mode) for seed in range(SHARED)]

    one = [work() for work in works(fresh())]
    for _ in range(2):
        assert at_once(*works(fresh())) == one  # networks that have not even values yet


def test_predicting_does_not_disturb_a_training(mode):
    """The predictions may see parameters in the middle of a step, but change nothing."""
    X, t = NUMBERS[:700], LABELS[:700]

    def train(net):
        trainer = xpnet.Trainer(net, "cross_entropy")
        try:
            trainer.fit(X, t, epochs=3, batch_size=50, validation_data=(X, t))
        finally:
            done.set()
        return bits(net), dict(trainer.history)

    def predict(net):
        while not done.is_set():
            Y = net.predict(X)
            assert Y.shape == (700, 3)
            assert np.allclose(Y.sum(axis=1), 1, atol=1e-5)

    done = Event()
    alone = train(network(5, **mode))
    done.clear()
    net = network(5, **mode)
    assert at_once(lambda: train(net), *[lambda: predict(net)] * 3)[0] == alone


@pytest.mark.thorough(but=["float32"])
def test_a_training_does_not_disturb_predictions(mode):
    """Its steps are so short that no parameter changes, so predictions must be what they were."""
    layers = (xpnet.Linear(12, 9), xpnet.ReLU(), xpnet.Dropout(0.5), xpnet.Linear(9, 3, bias=False))
    net, done = xpnet.Sequential(*layers, **mode), Event()
    pieces = [NUMBERS[:n] for n in (1, 5, 9)]  # fewer than a step takes
    expected = [net.predict(X).tobytes() for X in pieces]
    net.input_gradient = False  # its buffers have to be made anew

    def train():
        trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, 1e-30))
        try:
            for size in range(10, 300, 10):  # larger buffers for each
                trainer.fit(NUMBERS[:300], np.zeros((300, 3)), epochs=1, batch_size=size)
        finally:
            done.set()

    def predict():
        while not done.is_set():
            assert [net.predict(X).tobytes() for X in pieces] == expected

    at_once(train, *[predict] * 3)


def test_a_training_holds_the_network_whenever_it_writes_to_it():
    net, calls = network(2), []

    def watched(name):
        method = getattr(net, name)

        def call(*args):
            calls.append((name, net.in_use._is_owned()))
            return method(*args)

        return call

    trainer = xpnet.Trainer(net, "cross_entropy")
    for name in ("build", "train", "forward", "backward"):
        setattr(net, name, watched(name))
    X, t = NUMBERS[:30], LABELS[:30]
    trainer.fit(X, t, epochs=2, batch_size=7, validation_data=(X, t))
    assert {name for name, _ in calls} == {"build", "train", "forward", "backward"}
    assert all(held for _, held in calls)
    assert not net.in_use._is_owned()


def test_new_networks_get_their_values_once(mode):
    """Whichever thread is the first."""
    X = NUMBERS[:2]

    def fresh():
        layers = (xpnet.Linear(12, 3), xpnet.BatchNorm1d(3), xpnet.Linear(3, 2))
        return xpnet.Sequential(*layers, **mode)

    expected = fresh().predict(X).tobytes()

    def use(nets):
        return [(id(net.params), net.predict(X).tobytes() == expected) for net in nets]

    nets = [fresh() for _ in range(200)]
    first, *others = at_once(*[lambda: use(nets)] * 4)
    assert all(right for _, right in first)
    assert all(other == first for other in others)


def test_a_twin_follows_its_network(backend):
    """What is used while another thread has the network: same values, settings and state."""
    net, X = network(3, backend=backend), NUMBERS[:30].astype(np.float32)

    def beside():
        with net.in_use, ThreadPoolExecutor(1) as pool:
            return pool.submit(net.predict, X).result()

    def same():
        return np.array_equal(net.predict(X), beside())

    assert same()
    xpnet.Trainer(net, "cross_entropy").fit(X, LABELS[:30], epochs=1, batch_size=10)
    assert same()  # the running means of BatchNorm1d, too
    net.train()
    net.forward(backend.asarray(X))
    before = backend.asnumpy(net[0].X).copy()
    dY = backend.asarray(np.ones((30, 3), np.float32))
    net.backward(dY)
    grads = backend.asnumpy(net.grads).copy()
    beside()
    assert net.training
    assert net[3].training
    assert np.array_equal(backend.asnumpy(net[0].X), before)
    net.backward(dY)  # finds all that forward has left
    assert np.array_equal(backend.asnumpy(net.grads), grads)
    net[2].eps = 0.5
    net.load_state_dict({name: 2 * value for name, value in net.state_dict().items()})
    assert same()
    assert not np.array_equal(beside(), network(3, backend=backend).predict(X))
    net.to(dtype="float64")
    assert same()
    assert beside().dtype == np.float64


def test_an_estimator_predicts_in_many_threads():
    model = MLPClassifier((5,)).partial_fit(NUMBERS[:200], LABELS[:200], classes=range(3))
    expected = model.predict_proba(NUMBERS).tobytes()
    found = at_once(*[lambda: model.predict_proba(NUMBERS).tobytes()] * PREDICTING)
    assert found == [expected] * PREDICTING


def test_copies_and_pickles_have_locks_of_their_own():
    net = network(0)
    with net.in_use:
        for other in (net.copy(), pickle.loads(pickle.dumps(net))):
            with ThreadPoolExecutor(1) as pool:
                assert pool.submit(other.in_use.acquire, blocking=False).result()


def test_two_trainings_of_one_network_take_turns(mode):
    """Neither is disturbed: the second begins with what the first has made."""
    net = network(1, **mode)
    trainers = [xpnet.Trainer(net, "cross_entropy", "sgd") for _ in range(2)]

    def fit(trainer):
        trainer.fit(NUMBERS[:60], LABELS[:60], epochs=2, batch_size=15)

    at_once(*[lambda trainer=trainer: fit(trainer) for trainer in trainers])
    one = network(1, **mode)
    for _ in range(2):
        fit(xpnet.Trainer(one, "cross_entropy", "sgd"))
    assert bits(net) == bits(one)
