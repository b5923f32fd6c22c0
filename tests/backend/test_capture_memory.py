"""What graphs, threads and devices have for themselves: memory, scratch, handles, a place.

As `test_capture`, on the strict stand-in: its memory is given out again as CuPy's pool does.
"""

from __future__ import annotations

import sys
from threading import Barrier

import numpy as np
import pytest
import strictxp
from at_once import at_once
from primitive_cases import cupy_device
from test_capture import ORDERS, TRAININGS, bits, data, eager, fit, linear, trainer_of
from test_reproducible_kernels import ReproducibleCuPy

import xpnet
from xpnet.backend import capture, find_backend, gemm
from xpnet.backend.gemm import recording_lock
from xpnet.backend.reproducible import Reproducible
from xpnet.verify.gradcheck import gradcheck

# More than 1024 parameters: the sum of their squares, which clips the gradient, is made in parts.
WIDE = (
    lambda: [xpnet.Linear(7, 180), xpnet.ReLU(), xpnet.Linear(180, 3)],
    *("softmax_cross_entropy", lambda net: xpnet.Adam(net, 0.01, clip_norm=0.1), {}),
)


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setitem(TRAININGS, "wide", WIDE)


# ---- memory -------------------------------------------------------------------------------------


def test_freed_memory_goes_to_the_next_request_of_that_size_on_that_stream(make):
    xp = make()
    side = xp.played.Stream(non_blocking=True)
    a = xp.empty(100, np.float32)
    place, size = a.data.ptr, a.nbytes
    del a
    assert xp.empty(2 * size, np.uint8).data.ptr != place
    with side:
        assert xp.empty(100, np.float32).data.ptr != place
    assert xp.empty(100, np.float32).data.ptr == place


def test_what_is_in_memory_that_comes_back_is_lost(make):
    xp = make()
    a = xp.asarray(np.ones(3))
    memory = a._host
    del a
    assert np.isnan(memory).all()


@pytest.mark.thorough
@pytest.mark.parametrize("launch", [1, 3])
def test_two_layers_that_make_arrays_give_the_same_weights_in_all_orders(make, launch):
    """The second layer's gradient is freed while the side stream may still read it."""
    name = "two layers that make arrays"
    wanted = eager(make, name)
    for order in ORDERS:
        xp = make(order)
        trainer = trainer_of(name, xp)
        trainer.launch = launch
        fit(trainer, name)
        assert xp.played.graphs
        assert bits(trainer) == wanted, order


def test_memory_is_used_again_once_the_streams_have_joined(make):
    """Otherwise a graph of 16 steps would take 16 times the memory."""
    xp, places = make(), []

    def step():
        for _ in range(16):
            made = xp.module.zeros(10, np.float32)
            places.append(made.data.ptr)
            del made
            xp.join()

    captured = xp.capture(step)
    captured()
    places.clear()
    captured()
    assert len(places) == 16
    assert len(set(places)) == 1


def test_the_arrays_of_a_graph_end_before_its_memory():
    """CuPy's pool: a block that was split is lost to the device if a part of it ends later."""
    ended = []

    class Part:
        def __init__(self, name):
            self.name = name

        def __del__(self):
            ended.append(self.name)

    graph = capture.Graph(Part("graph"), memory=Part("memory"), needed=Part("arrays"))
    assert not ended
    del graph
    assert ended == ["graph", "arrays", "memory"]


def test_memory_of_the_main_stream_waits_for_the_side_stream(make):
    """Reduced to its core: freed while the branch that reads it has not been waited for."""
    found = []
    for order in ORDERS:
        xp = make(order)
        X, out = xp.asarray(np.arange(4.0)), xp.zeros(4, np.float64)

        def step(xp=xp, X=X, out=out):
            first = X + 1.0
            with xp.off_path():
                xp.multiply(first, 2.0, out=out)
            del first
            later = [X + 50.0, X + 50.0]  # of the same size: none may be written over the first
            xp.join()
            xp.add(out, later[0], out=out)
            xp.add(out, later[1], out=out)

        captured = xp.capture(step)
        for _ in range(3):
            captured()
        assert xp.played.graphs
        found.append(xp.asnumpy(out).tolist())
    assert found == [[102.0, 106.0, 110.0, 114.0]] * len(ORDERS)


# ---- scratch ------------------------------------------------------------------------------------


def long_sum(xp, seed):
    """Return a step with a sum that is made in parts, its result, and what that must be."""
    A = xp.asarray(np.random.default_rng(seed).normal(size=5000))
    out = xp.zeros((), np.float64)
    return (lambda: xp.sum(A, out=out)), out, A._host.sum()


def test_two_threads_do_not_share_the_parts_of_a_sum(make):
    xp, barrier = make(), Barrier(2)
    launch = xp._kernels

    def taking_turns(*arguments):
        barrier.wait(20)
        launch(*arguments)
        barrier.wait(20)

    xp._kernels = taking_turns
    (one, a, wanted_a), (two, b, wanted_b) = long_sum(xp, 1), long_sum(xp, 2)
    at_once(one, two)
    assert float(a) == pytest.approx(wanted_a, rel=1e-12)
    assert float(b) == pytest.approx(wanted_b, rel=1e-12)


def test_two_graphs_do_not_share_the_parts_of_a_sum(make):
    """On two streams their kernels may take turns."""
    xp = make()
    results = []
    for seed in (1, 2):
        step, out, wanted = long_sum(xp, seed)
        captured = xp.capture(step)
        captured()
        captured()
        results.append((out, wanted, captured))  # which keeps its memory
    first, second = xp.played.graphs
    for nodes in zip(first.nodes, second.nodes, strict=True):
        for node in nodes:
            node.work()
    for out, wanted, _ in results:
        assert float(out) == pytest.approx(wanted, rel=1e-12)


def test_a_graph_keeps_its_scratch_when_the_thread_takes_a_larger_one(make):
    xp = make()
    step, out, wanted = long_sum(xp, 1)
    captured = xp.capture(step)
    captured()
    captured()
    columns = xp.asarray(np.ones((4096, 2000), np.float64))
    xp.sum(columns, axis=0, out=xp.empty(2000, np.float64))
    others = [xp.asarray(np.full(1024, 9.0)) for _ in range(8)]  # take what has become free
    captured()
    assert len(xp.played.graphs) == 1
    assert float(out) == pytest.approx(wanted, rel=1e-12)
    assert all((a._host == 9).all() for a in others)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["wide", "two layers that make arrays"])
@pytest.mark.parametrize("captures", [True, False])
def test_two_threads_train_two_networks_on_one_device(make, name, captures, often):
    wanted = eager(make, name, epochs=6)
    xp = make("random")
    xp.captures = captures
    trainers = [trainer_of(name, xp) for _ in range(2)]
    at_once(*[lambda trainer=trainer: fit(trainer, name, epochs=6) for trainer in trainers])
    assert [bits(trainer) for trainer in trainers] == [wanted] * 2
    assert bool(xp.played.graphs) == captures


@pytest.mark.thorough
def test_two_threads_train_in_reproducible_mode(make, mode_kernels, often):
    trainer = trainer_of("adam", Reproducible(find_backend("numpy")))
    fit(trainer, epochs=4)
    wanted, xp = bits(trainer), make("random")
    mode = ReproducibleCuPy(xp, xp.launcher(mode_kernels))
    mode.line_block = 64
    trainers = [trainer_of("adam", mode) for _ in range(2)]
    at_once(*[lambda trainer=trainer: fit(trainer, epochs=4) for trainer in trainers])
    assert [bits(trainer) for trainer in trainers] == [wanted] * 2


# ---- which graphs are recorded anew -------------------------------------------------------------


class Others(xpnet.Callback):
    """After an epoch another network comes, with all that it needs, and is trained."""

    def __init__(self):
        self.graphs = []

    def on_epoch_end(self, epoch, logs):
        self.graphs.append({id(graph) for graph in self.trainer._steps.captured.graphs.values()})
        if epoch in (2, 4):
            fit(trainer_of("wide", self.trainer.net.xp), "wide", epochs=3)


@pytest.mark.thorough
def test_another_network_throws_no_graph_away(make):
    wanted, others = eager(make, "adam"), Others()
    trainer = trainer_of("adam", make("aside last"))
    fit(trainer, callbacks=[others])
    assert len(others.graphs[2]) == 2
    assert all(graphs == others.graphs[2] for graphs in others.graphs[2:])
    assert bits(trainer) == wanted


class Scaled(xpnet.Layer):
    """A layer of a user's with an array of its own."""

    def build(self, *sizes):
        super().build(*sizes)
        self.take(0.5)

    def take(self, scale):
        self.scale = self.xp.asarray(np.array(scale, np.float32))
        self.version = self.xp.renew()

    def forward(self, X):
        return self.xp.multiply(X, self.scale, out=self.Y[: len(X)])

    def backward(self, dY):
        return self.xp.multiply(dY, self.scale, out=self.dX[: len(dY)])


class Scales(xpnet.Callback):
    def on_epoch_begin(self, epoch, logs):
        if epoch in (3, 6):
            self.trainer.net.layers[1].take(epoch / 4)


@pytest.mark.thorough
def test_a_layer_that_replaces_an_array_says_so(make, monkeypatch):
    monkeypatch.setitem(TRAININGS, "scaled", (linear(Scaled), *TRAININGS["user's layer"][1:]))
    wanted = eager(make, "scaled", callbacks=[Scales()])
    trainer = trainer_of("scaled", make("aside last"))
    fit(trainer, "scaled", callbacks=[Scales()])
    assert bits(trainer) == wanted
    assert wanted != eager(make, "scaled")


def captured_by_hand(xp, *version):
    """Return a step of a loop of one's own, its graphs' count, and the network."""
    net = xpnet.Sequential(xpnet.Linear(7, 3), seed=1, backend=xp)
    loss, optimizer = xpnet.SoftmaxCrossEntropy(), xpnet.SGD(net, 0.1)
    loss.validate = False
    loss.use(xp)
    X, t, _ = data()
    X, t = xp.asarray(X[:20]), xp.asarray(t[:20])

    def step():
        optimizer.advance()
        loss.forward(net.forward(X), t)
        net.backward(loss.backward())
        optimizer.descend()

    return xp.capture(step, *[f(net) for f in version]), net


@pytest.mark.parametrize("version", [(), (lambda net: lambda: net.version,)])
def test_a_step_of_ones_own_is_recorded_anew_when_its_network_is_built_anew(make, version):
    found = []
    for captures in (True, False):
        xp = make("aside last")
        xp.captures = captures
        run, net = captured_by_hand(xp, *version)
        for i in range(9):
            run()
            if i == 4:
                net.build(50, (7,), False)
        found.append(xp.asnumpy(net.params).tobytes())
        assert len(xp.played.graphs) == 2 * captures
    assert found[0] == found[1]


@pytest.mark.parametrize(("version", "graphs"), [((), 2), ((lambda net: lambda: net.version,), 1)])
def test_whose_arrays_a_step_of_ones_own_waits_for(make, version, graphs):
    """Without a version it is recorded anew for any new arrays: too often, never too seldom."""
    xp = make()
    run, _ = captured_by_hand(xp, *version)
    for _ in range(3):  # the first makes arrays
        run()
    assert len(xp.played.graphs) == 1
    another = xpnet.Sequential(xpnet.Linear(2, 2), backend=xp)
    assert another.params.size == 6
    run()
    run()
    assert len(xp.played.graphs) == graphs


# ---- forks --------------------------------------------------------------------------------------


class Straight(xpnet.Callback):
    """From an epoch on the graph is a chain."""

    def on_epoch_begin(self, epoch, logs):
        self.trainer.net.xp.forks = epoch < 5


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["adam", "normalised", "two layers that make arrays"])
def test_without_forks_a_graph_is_a_chain_with_the_same_bits(make, name):
    wanted = eager(make, name)
    xp = make("aside last")
    trainer = trainer_of(name, xp)
    fit(trainer, name, callbacks=[Straight()])
    assert bits(trainer) == wanted
    forked, chained = xp.played.graphs[0], xp.played.graphs[-1]
    assert forked.depth < len(forked.nodes)
    assert chained.depth == len(chained.nodes)


def test_only_a_backend_whose_graphs_can_fork_has_the_switch(make):
    xp = make()
    assert xp.forks
    assert not find_backend("numpy").forks
    mode = Reproducible(xp)
    assert not mode.forks
    with pytest.raises(AttributeError):
        mode.forks = True


# ---- cuBLAS -------------------------------------------------------------------------------------


def test_the_first_product_of_a_handle_is_not_in_a_capture(make):
    xp, cublas = make(), None
    cublas, seen = xp._gemm._library, []
    multiply = cublas.cublasGemmEx

    def watched(handle, *arguments):
        seen.append((handle.value, bool(xp.played.stack)))
        return multiply(handle, *arguments)

    cublas.cublasGemmEx = watched
    trainer = trainer_of("adam", xp)
    fit(trainer, epochs=3)
    first = {}
    for handle, in_capture in seen:
        first.setdefault(handle, in_capture)
    assert len(first) == 2
    assert not any(first.values())
    assert {handle for handle, in_capture in seen if in_capture} == set(first)


def test_what_waits_for_the_device_waits_for_a_recording(make, monkeypatch):
    """CUDA refuses it while a stream is being recorded, also in another thread."""
    xp, entered, free = make(), [], []

    class Lock:
        def __enter__(self):
            entered.append(True)

        def __exit__(self, *error):
            pass

    def step():
        if xp.played.stack:  # while it is recorded
            free.extend(at_once(lambda: recording_lock.acquire(blocking=False)))

    captured = xp.capture(step)
    captured()
    captured()
    assert free == [False]
    monkeypatch.setattr(gemm, "recording_lock", Lock())
    monkeypatch.setattr(capture, "recording_lock", Lock())
    xp._gemm._handles.by_lane.clear()
    assert not entered, "the graph has the handles, too"
    captured.graphs.clear()
    assert len(entered) == 3, "two handles of cuBLAS and the memory"


# ---- several devices ----------------------------------------------------------------------------


@pytest.fixture
def two(make, kernels):
    """The backends of two devices; the first one is current in every thread that says nothing."""

    def made():
        first = make("random", devices=2)
        return first, first.other(kernels, 1)

    yield made
    assert strictxp.get_device() == 0
    strictxp.set_device(0)


@pytest.mark.thorough(but=["False"])
@pytest.mark.parametrize("captures", [True, False])
def test_a_backend_computes_on_its_device_from_any_thread(make, two, captures):
    wanted = eager(make, "wide", epochs=6)
    backends = two()
    for xp in backends:
        xp.captures = captures
    trainers = [trainer_of("wide", xp) for xp in (*backends, *backends)]
    for trainer in trainers[:2]:  # in this thread, one after the other
        fit(trainer, "wide", epochs=6)
    at_once(*[lambda trainer=trainer: fit(trainer, "wide", epochs=6) for trainer in trainers[2:]])
    for trainer, device in zip(trainers, (0, 1, 0, 1), strict=True):
        assert trainer.net.params._device == device
        assert bits(trainer) == wanted


def test_everything_else_goes_to_the_device_too(two):
    """Data that are there already, predictions, evaluations, moves, and single primitives."""
    _, xp = two()
    X, t, _ = data()
    net = xpnet.Sequential(xpnet.Linear(7, 6), xpnet.Tanh(), xpnet.Linear(6, 3), backend=xp)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam", metrics=["accuracy"])
    there = xp.asarray(X)
    assert there._device == 1
    trainer.fit(there, t, epochs=3, batch_size=20, validation_data=(there, t))
    assert trainer.evaluate(there, t) == trainer.evaluate(X, t)
    Y = net.predict(there)
    assert Y._device == 1
    (other,) = at_once(lambda: xp.asnumpy(net.predict(there)))
    np.testing.assert_array_equal(xp.asnumpy(Y), other)
    out = xp.empty((83, 7), np.float32)
    (total,) = at_once(lambda: xp.asnumpy(xp.add(there, there, out=out)))
    np.testing.assert_array_equal(total, X + X)
    net.to("numpy")
    np.testing.assert_allclose(net.predict(X), other, atol=1e-6)
    assert xp.scratch("a name", (3,))._device == 1


def test_reproducible_mode_goes_to_the_device_too(two, mode_kernels, monkeypatch):
    monkeypatch.setitem(sys.modules, "xpnet.backend.cupy_device", cupy_device)  # without CuPy, too
    trainer = trainer_of("pixels", Reproducible(find_backend("numpy")))
    fit(trainer, "pixels", epochs=3)
    wanted, (_, xp) = bits(trainer), two()
    mode = find_backend(xp, reproducible=True)
    mode._kernels, mode.line_block = xp.launcher(mode_kernels), 64
    trainer = trainer_of("pixels", mode)
    at_once(lambda: fit(trainer, "pixels", epochs=3))
    assert bits(trainer) == wanted


def test_a_step_of_ones_own_goes_to_the_device_too(two):
    first, second = two()
    found = []
    for xp in (first, second):
        run, net = captured_by_hand(xp)
        for _ in range(3):
            run()
        at_once(run)
        found.append(xp.asnumpy(net.params).tobytes())
    assert [graph.device_id for graph in first.played.graphs] == [0, 1]
    assert found[0] == found[1]


def test_gradcheck_goes_to_the_device_too(two):
    _, xp = two()
    net = xpnet.Sequential(
        xpnet.Linear(3, 4), xpnet.Tanh(), xpnet.Linear(4, 2), dtype="float64", backend=xp
    )
    X = np.random.default_rng(0).normal(size=(5, 3))
    result = gradcheck(net, xpnet.MeanSquaredError(), X, np.ones((5, 2)))
    assert result.ok


def test_the_stand_in_refuses_arrays_of_another_device(two):
    _, xp = two()
    there = xp.zeros(3, np.float32)
    with pytest.raises(strictxp.OnAnotherDevice, match="an array of device 1, but device 0"):
        there + there
    with xp.here():
        assert (there + there)._device == 1


# ---- on a GPU -----------------------------------------------------------------------------------


def on_a_gpu(name, xp, **options):
    """Return the bits of a training on a GPU, and its trainer."""
    trainer = trainer_of(name, xp)
    fit(trainer, name, epochs=6, **options)
    return bits(trainer), trainer


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["wide", "two layers that make arrays"])
@pytest.mark.parametrize("reproducible", [False, True])
def test_two_threads_train_two_networks_on_a_gpu(name, reproducible, often):
    xp = find_backend("cupy", reproducible)
    wanted, _ = on_a_gpu(name, xp)
    found = at_once(*[lambda: on_a_gpu(name, xp)] * 2)
    assert [one for one, _ in found] == [wanted] * 2
    assert all(trainer._steps.captured.graphs for _, trainer in found)


@pytest.mark.gpu
def test_another_network_throws_no_graph_away_on_a_gpu():
    xp, others = find_backend("cupy"), Others()
    wanted, _ = on_a_gpu("adam", xp)
    found, _ = on_a_gpu("adam", xp, callbacks=[others])
    assert found == wanted
    assert others.graphs[2]
    assert all(graphs == others.graphs[2] for graphs in others.graphs[2:])


@pytest.mark.gpu
def test_the_second_gpu_computes_from_any_thread():
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one GPU here")
    wanted, _ = on_a_gpu("wide", find_backend("cupy"))
    other = find_backend("cuda:1")
    cupy.cuda.Device(0).use()
    found, trainer = on_a_gpu("wide", other)
    (in_a_thread, _) = at_once(lambda: on_a_gpu("wide", other))[0]
    assert found == in_a_thread == wanted
    assert trainer.net.params.device.id == 1
    assert cupy.cuda.Device().id == 0
