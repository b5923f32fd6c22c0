"""The contract of a gradient, see `xpnet.Layer`: held in every mode, or an error with names.

Threads play the processes, see `team`; test_parallel_devices.py has the same layers in captured
steps between GPUs.
"""

from __future__ import annotations

import warnings
from functools import partial

import numpy as np
import pytest
from contract_layers import BREAK_THE_CONTRACT, KEEP_THE_CONTRACT, WIDTH, Hidden, TwelveRows
from team import team

import xpnet
from xpnet.backend import find_backend
from xpnet.parallel.communicator import ALONE
from xpnet.support.errors import ParallelError

CLASSES = 3


def layers(kind, first=True):
    before = [] if first else [xpnet.Linear(WIDTH, WIDTH), xpnet.Tanh()]
    return [*before, kind(), xpnet.Linear(WIDTH, CLASSES)]


def network(kind, xp, dtype, first=True):
    return xpnet.Sequential(*layers(kind, first), seed=2, backend=xp, dtype=dtype)


def data(n):
    draw = np.random.default_rng(5)
    return draw.normal(size=(n, WIDTH)), draw.integers(0, CLASSES, n)


class Gradients(xpnet.Callback):
    """Keeps the gradient of each step."""

    def __init__(self):
        self.found = []

    def on_train_batch_end(self, batch, logs):
        net = self.trainer.net
        self.found.append(np.array(net.xp.asnumpy(net.grads)))


def train(kind, comm, xp, dtype, n=23, batch_size=9, first=True):
    """Return the gradients of all steps, and the parameters at the end."""
    net, kept = network(kind, xp, dtype, first), Gradients()
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, 0.1), comm=comm)
    trainer.fit(*data(n), epochs=2, batch_size=batch_size, callbacks=[kept])
    return np.array(kept.found), np.array(net.xp.asnumpy(net.params))


@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize("kind", KEEP_THE_CONTRACT)
def test_the_gradients_are_right(kind, first):
    """... by numerical slopes: so what follows compares with what is right."""
    report = xpnet.gradcheck(network(kind, "numpy", "float64", first), "softmax_cross_entropy",
                             *data(7))  # fmt: skip
    assert report.ok, report


@pytest.mark.parametrize("kind", KEEP_THE_CONTRACT)
def test_ordinary_mode_on_several_processes(kind, backend):
    wanted = train(kind, ALONE, "numpy", "float64")
    if not backend.on_host:
        found = [train(kind, ALONE, backend, "float64")]
    else:
        found = [
            one
            for size in (1, 2, 3)
            for one in team(size, lambda comm: train(kind, comm, backend, "float64"))
        ]
    for gradients, params in found:
        assert np.abs(gradients - wanted[0]).max() < 1e-14
        assert np.abs(params - wanted[1]).max() < 1e-14


@pytest.mark.thorough(but=["Recurrent-*", "Heads-*"])
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
@pytest.mark.parametrize("kind", KEEP_THE_CONTRACT)
def test_reproducible_mode_has_the_same_bits_on_all_numbers_of_processes(kind, first):
    """A batch of 2 leaves one of 3 processes without a sample, one of 1300 has two blocks."""
    for n, batch_size in ((23, 9), (2, None), (1300, None)):
        options = {"n": n, "batch_size": batch_size, "first": first}
        true, _ = train(kind, ALONE, "numpy", "float64", **options)
        mode = find_backend("numpy", True)
        wanted = train(kind, ALONE, mode, "float32", **options)
        assert np.abs(wanted[0] - true).max() < 2e-5 * np.abs(true).max()
        work = partial(train, kind, xp=mode, dtype="float32", **options)
        for size in (2, 3):
            for found in team(size, lambda comm, work=work: work(comm=comm)):
                assert [a.tobytes() for a in found] == [a.tobytes() for a in wanted], (n, size)


@pytest.mark.parametrize("order", ["written", "aside last", "random"])
@pytest.mark.parametrize("kind", KEEP_THE_CONTRACT)
def test_captured_steps(make, kind, order):
    """All steps of the second epoch but the last are replayed."""
    true, _ = train(kind, ALONE, "numpy", "float64")
    for dtype, tolerance in (("float32", 1e-6), ("float64", 1e-14)):
        xp = make(order)
        captured = train(kind, ALONE, xp, dtype)
        assert xp.played.graphs
        eager = make(order)
        eager.captures = False
        wanted = train(kind, ALONE, eager, dtype)
        assert [a.tobytes() for a in captured] == [a.tobytes() for a in wanted]
        assert np.abs(captured[0] - true).max() < tolerance


# ---- what cannot be right -----------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("kind", BREAK_THE_CONTRACT)
def test_what_cannot_be_right_is_an_error_with_names(kind, size):
    mode = find_backend("numpy", True)
    with pytest.raises(ParallelError) as error:
        team(size, lambda comm: train(kind, comm, mode, "float32", n=20, batch_size=10))
    said, name = str(error.value), getattr(kind, "broken", "da")
    assert f"{name} of layer 0, {kind()!r}: the gradient " in said
    assert BREAK_THE_CONTRACT[kind] in said
    assert "A layer that xpnet.gradcheck finds right can also train on one process, or" in said


def test_rows_of_a_sample_that_differ_by_process():
    mode = find_backend("numpy", True)
    with pytest.raises(ParallelError, match=r"da of layer 0, .* a sum over \[3, 4\] rows per samp"):
        team(2, lambda comm: train(TwelveRows, comm, mode, "float32", n=7, batch_size=None))
    wanted = train(TwelveRows, ALONE, "numpy", "float64", n=7, batch_size=None)
    for found in team(2, lambda comm: train(TwelveRows, comm, "numpy", "float64", 7, None)):
        assert np.abs(found[0] - wanted[0]).max() < 1e-14


# Layers that are wrong everywhere.
WRONG = {
    *("OnlyAPiece", "AddsToTheOld", "AddsItself", "ThroughACopy", "AddsToACopy"),
    *("AddsInPlace", "OfSumsOfItsOwn", "ByMean"),
    *("Limited", "Penalised", "Squared", "Inverted", "NumberIn", "ParameterIn"),
    *("ProductOfParameters", "ProductOfGradients", "SumOfAParameter"),
}


@pytest.mark.parametrize("kind", [k for k in BREAK_THE_CONTRACT if k.__name__ not in WRONG])
def test_the_ways_out_are_ways_out(kind):
    """On one process, and without reproducible mode, these layers are right."""
    wanted = train(kind, ALONE, "numpy", "float64")
    for found in team(2, lambda comm: train(kind, comm, "numpy", "float64")):
        assert np.abs(found[0] - wanted[0]).max() < 1e-14
    train(kind, ALONE, find_backend("numpy", True), "float32")


@pytest.mark.parametrize("kind", [k for k in BREAK_THE_CONTRACT if k.__name__ in WRONG])
def test_the_gradient_check_finds_the_others(kind):
    """But for one that also writes a copy of which nobody knows."""
    report = xpnet.gradcheck(network(kind, "numpy", "float64"), "softmax_cross_entropy", *data(7))
    assert report.ok == (kind.__name__ == "AddsToACopy")


def test_after_the_error_the_layers_have_their_arrays_again():
    kind, mode = next(iter(BREAK_THE_CONTRACT)), find_backend("numpy", True)

    def arrays(comm):
        net = network(kind, mode, "float32")
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, 0.1), comm=comm)
        with pytest.raises(ParallelError):
            trainer.fit(*data(18), epochs=1, batch_size=9)
        assert isinstance(net[0].da, np.ndarray)
        assert np.shares_memory(net[0].da, net.grads)
        return True

    assert team(2, arrays) == [True, True]


def test_a_layer_that_hides_another_one_is_named():
    mode = find_backend("numpy", True)
    with pytest.raises(ParallelError, match=r"have 21; a layer that holds others defines walk"):
        team(2, lambda comm: train(Hidden, comm, mode, "float32"))


def test_questions_about_a_gradient_are_answered():
    """A layer may look at its shape, and take views."""

    class Curious(xpnet.Linear):
        def backward(self, dY):
            dW = self.dW
            assert (len(dW), dW.shape, dW.ndim, dW.size) == (WIDTH, (WIDTH, CLASSES), 2, 18)
            assert dW.dtype == np.float32
            assert repr(dW) == "<dW of layer 0, Linear(6, 3)>"
            assert dW.T.shape == (CLASSES, WIDTH)
            assert not hasattr(dW, "__cuda_array_interface__")
            self.xp.matmul(dY.T, self.X, out=dW.T)
            self.xp.sum(dY, axis=0, out=self.db)
            return None

    def trained(comm):
        net = xpnet.Sequential(Curious(WIDTH, CLASSES), backend=find_backend("numpy", True))
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, 0.1), comm=comm)
        trainer.fit(*data(18), epochs=1, batch_size=9)
        return net.sha256()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len({h for size in (2, 3) for h in team(size, trained)}) == 1
