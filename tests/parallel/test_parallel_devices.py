"""Several processes with a GPU each: NCCL in the captured step, or by way of the host.

Threads play the processes, see `team`. Each has a `StrictCuPy` of its own, whose graphs run in an
order of their own, and a ``cupy.cuda.nccl`` with the names, types and order of arguments of CuPy's,
which does nothing during a capture and refuses what NCCL refuses: a collective that is part of a
graph on some processes only, or of another graph.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import contract_layers
import cupy_is
import numpy as np
import pytest
import strictxp
from strict_cupy import StrictCuPy
from team import Member, Table, team
from test_kernels_host import HostKernels
from test_reproducible_kernels import HostKernels as ModeKernels
from test_reproducible_kernels import ReproducibleCuPy

import xpnet
from xpnet import golden
from xpnet.backend import capture, find_backend
from xpnet.backend.reproducible import Reproducible
from xpnet.data.mnist import find_mnist
from xpnet.parallel import Communicator, device_name, devices
from xpnet.parallel.communicator import Share
from xpnet.parallel.devices import NCCL, ByHost, between_devices
from xpnet.parallel.launch import environment, start
from xpnet.support.errors import BackendError, ParallelError
from xpnet.training.callbacks import Callback

N, WIDTH, CLASSES, BATCH = 63, 5, 3, 20  # three whole batches and a smaller one in an epoch
EPOCHS = 4  # after the second a graph runs again


# ---- CuPy and NCCL, of each thread its own -------------------------------------------------------


class Process(threading.local):
    """What a process has, as far as CuPy knows it."""

    xp: StrictCuPy
    backend: Any  # that, or reproducible mode on it
    network: Table | None = None  # between the GPUs; None where NCCL is not installed
    rank = 0
    gpu = "0000:65:00.0"
    gpus = 4


here = Process()


class Nccl:
    """``cupy.cuda.nccl`` of CuPy 14; the numbers are NCCL's."""

    NCCL_INT32, NCCL_INT64, NCCL_FLOAT32, NCCL_FLOAT64 = 2, 4, 7, 8
    NCCL_SUM, NCCL_MAX = 0, 2

    @property
    def available(self) -> bool:
        return here.network is not None

    def get_unique_id(self) -> bytes:
        assert here.rank == 0
        return b"identity".ljust(128)

    def NcclCommunicator(self, ndev: int, commId: bytes, rank: int) -> NcclCommunicator:
        assert (type(ndev), type(rank)) == (int, int)
        assert commId == b"identity".ljust(128)
        return NcclCommunicator(ndev, rank)


TYPES = {2: np.int32, 4: np.int64, 7: np.float32, 8: np.float64}


class NcclCommunicator:
    made = 0

    def __init__(self, ndev: int, rank: int) -> None:
        assert (ndev, rank) == (here.network.size, here.rank)
        self.others, self.device, self.captured = Member(rank, here.network), here.xp.played, 0
        NcclCommunicator.made += 1

    def allReduce(
        self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int
    ) -> None:
        assert {type(x) for x in (sendbuf, recvbuf, count, datatype, op, stream)} == {int}
        stack = self.device.stack
        assert stream == (stack[-1].ptr if stack else 0)
        assert not stack or stack[-1] is stack[-1].capture.main  # else the order is left open
        kind, combine = np.dtype(TYPES[datatype]), {0: np.add, 2: np.maximum}[op]
        which = f"{'captured' if stack else 'eager'} {len(self.device.graphs)}"
        memory = [
            np.ndarray(count, kind, (ctypes.c_char * (count * kind.itemsize)).from_address(address))
            for address in (sendbuf, recvbuf)
        ]

        def reduce() -> None:
            found = self.others.allgather(memory[0].copy(), f"{op} {kind} {count} {which}")
            total = found[0]
            for other in found[1:]:
                total = combine(total, other)
            memory[1][...] = total

        self.device.queue(reduce)


class Cuda(ModuleType):
    """``cupy.cuda``."""

    nccl = Nccl()
    runtime = SimpleNamespace(getDeviceCount=lambda: here.gpus, runtimeGetVersion=lambda: 13020)

    def __getattr__(self, name: str) -> Any:
        if name not in ("Stream", "Event", "MemoryPool", "using_allocator"):
            raise AttributeError(name)
        return getattr(here.xp.played, name)

    @staticmethod
    def Device() -> SimpleNamespace:
        return SimpleNamespace(pci_bus_id=here.gpu)

    @staticmethod
    def get_current_stream() -> SimpleNamespace:
        stack = here.xp.played.stack
        return stack[-1] if stack else SimpleNamespace(ptr=0)


PINNED = list[np.ndarray]()


def empty_pinned(shape: Any, dtype: Any = float, order: str = "C") -> np.ndarray:
    PINNED.append(np.empty(shape, dtype, order))
    return PINNED[-1]


def one_by_one(kernels: Callable[..., None]) -> Callable[..., None]:
    """Let kernels on the host take turns: their memory of blocks and threads is there once."""

    def run(*args: Any, **kwargs: Any) -> None:
        with alone:
            kernels(*args, **kwargs)

    alone = threading.Lock()
    return run


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    """The kernels, and those of reproducible mode."""
    if sys.platform != "linux" or not shutil.which("g++"):
        pytest.skip("no g++ on Linux here: the CUDA kernels are not run on the host")
    folder = tmp_path_factory.mktemp
    ordinary = HostKernels(folder("kernels"), blocks=1, size=32)
    return one_by_one(ordinary), one_by_one(ModeKernels(folder("kernels of the mode")))


@pytest.fixture
def cupy(monkeypatch):
    """Let CuPy be that of each thread."""
    cupy, cuda, cupyx = ModuleType("cupy"), Cuda("cupy.cuda"), ModuleType("cupyx")
    cupy.cuda, cupyx.empty_pinned = cuda, empty_pinned
    for module in (cupy, cuda, cupyx):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(capture, "cupy", cupy)
    monkeypatch.setattr(devices, "_made", {})
    monkeypatch.setattr(devices, "say_once", logging.getLogger("xpnet").warning)
    PINNED.clear()
    return cupy


class OnGPU(Member):
    """A process with MPI, which must not see memory of a device."""

    def on(self, xp: Any) -> Communicator:
        return self if xp.on_host else between_devices(self)

    def allreduce(self, a: Any, op: str = "sum") -> Any:
        assert isinstance(a, np.ndarray)
        self.pinned = any(np.may_share_memory(a, memory) for memory in PINNED)
        return super().allreduce(a, op)


def processes(
    size: int, work: Callable[[Communicator], Any], nccl: bool = True, xp: Any = StrictCuPy
) -> list[Any]:
    """Return what ``work(comm)`` gives on so many processes with a GPU each."""
    network = Table(size)

    def run(comm: Member) -> Any:
        here.rank, here.network, here.gpu = comm.rank, network if nccl else None, f"gpu {comm.rank}"
        here.backend = xp(None, ("aside last", "random", "aside first")[comm.rank], comm.rank)
        here.xp = here.backend.ordinary
        try:
            return work(OnGPU(comm.rank, comm.table))
        finally:
            network.leave(comm.rank)

    return team(size, run)


@pytest.fixture
def gpus(cupy, kernels):
    """Return `processes` with the kernels: ordinary, or in reproducible mode fused or as written"""
    ordinary, of_mode = kernels

    def backend(mode: str) -> Any:
        def made(_: None, order: str, seed: int) -> Any:
            xp = StrictCuPy(ordinary, order, seed)
            if mode == "fused":
                fused = ReproducibleCuPy(xp, xp.launcher(of_mode))
                fused.line_block = 64
                return fused
            return Reproducible(xp) if mode else xp

        return made

    def gpus(size: int, work: Any, nccl: bool = True, mode: str = "") -> list[Any]:
        return processes(size, work, nccl, backend(mode))

    return gpus


# ---- the trainings -------------------------------------------------------------------------------


def mixed():
    return [
        *(xpnet.Linear(WIDTH, 6, bias=False), xpnet.BatchNorm1d(6), xpnet.ReLU()),
        *(xpnet.Dropout(0.2), xpnet.Linear(6, CLASSES)),
    ]


def plain():
    return [xpnet.Linear(WIDTH, 6), xpnet.Tanh(), xpnet.Linear(6, CLASSES)]


TRAININGS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "BatchNorm, Dropout, Adam": (mixed, lambda net: xpnet.Adam(net, 1e-2), {}),
    "weights, momentum, clipping": (
        plain,
        lambda net: xpnet.SGD(net, 0.1, momentum=0.9, clip_norm=0.5),
        {"weights": True},
    ),
    "batches of 2": (mixed, lambda net: xpnet.SGD(net, 0.1), {"n": 6, "batch_size": 2}),
}


def train(xp: Any, comm: Any, name: str, dtype: str = "float64", callbacks: Any = ()) -> Any:
    """Train, and return the trainer."""
    layers, optimizer, options = TRAININGS[name]
    n, rng = options.get("n", N), np.random.default_rng(3)
    X, t = rng.normal(size=(n, WIDTH)), rng.integers(0, CLASSES, n)
    weights = rng.uniform(size=n) if options.get("weights") else None
    net = xpnet.Sequential(*layers(), seed=1, backend=xp, dtype=dtype)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", optimizer(net), comm=comm)
    trainer.launch = 2
    trainer.fit(
        *(X, t), epochs=EPOCHS, batch_size=options.get("batch_size", BATCH), sample_weight=weights,
        validation_data=(X[:30], t[:30]), callbacks=callbacks,
    )  # fmt: skip
    return trainer


def numbers(trainer: Any) -> np.ndarray:
    """All that a training has made."""
    kept = [*trainer.net.state_dict().values(), *trainer.optimizer.host_state().values()]
    made = [*trainer.history.values(), trainer.net.xp.asnumpy(trainer.net.grads), *kept]
    return np.concatenate([np.ravel(np.asarray(a, np.float64)) for a in made])


def graphs() -> int:
    return len(here.xp.played.graphs)


@pytest.mark.parametrize(("name", "size"), list(zip(TRAININGS, (2, 2, 3), strict=True)))
def test_a_training_between_gpus_is_that_of_one_process(gpus, name, size):
    wanted = numbers(train("numpy", None, name))

    def work(comm, captures=True):
        here.xp.captures = captures
        trainer = train(here.backend, comm, name)
        assert isinstance(trainer.net.xp.across, NCCL if here.network else ByHost)
        assert bool(graphs()) == bool(captures and here.network)
        return numbers(trainer)

    captured = gpus(size, work)
    eager = gpus(size, lambda comm: work(comm, captures=False))
    by_host = gpus(size, work, nccl=False)
    for found in (captured, eager, by_host):
        assert all(np.array_equal(found[0], other) for other in found)
        assert np.abs(found[0] - wanted).max() < 1e-12
    assert np.array_equal(captured[0], eager[0])
    assert np.array_equal(captured[0], by_host[0])


@pytest.mark.thorough
@pytest.mark.parametrize("name", TRAININGS)
def test_reproducible_mode_between_gpus_has_the_bits_of_one_process(gpus, name):
    def work(comm):
        trainer = train(here.backend, comm, name, "float32")
        assert bool(graphs()) == bool(here.network)
        return numbers(trainer)

    wanted = numbers(train(find_backend("numpy", True), None, name, "float32"))
    for size, mode, nccl in ((2, "fused", True), (3, "written", True), (3, "fused", False)):
        for found in gpus(size, work, nccl, mode):
            assert np.array_equal(found, wanted), (size, mode, nccl)


def contract_trained(xp: Any, comm: Any, kind: Any, dtype: str) -> np.ndarray:
    """Train a network with a layer that holds the contract of a gradient."""
    rng = np.random.default_rng(3)
    X, t = rng.normal(size=(N, contract_layers.WIDTH)), rng.integers(0, CLASSES, N)
    layers = [kind(), xpnet.Linear(contract_layers.WIDTH, CLASSES)]
    net = xpnet.Sequential(*layers, seed=1, backend=xp, dtype=dtype)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, 0.1), comm=comm)
    trainer.launch = 2
    trainer.fit(X, t, epochs=EPOCHS, batch_size=BATCH)
    return numbers(trainer)


@pytest.mark.thorough(but=["Gated"])
@pytest.mark.parametrize("kind", contract_layers.KEEP_THE_CONTRACT)
def test_the_contract_of_a_gradient_between_gpus(gpus, kind):
    """Layers that add up parts, write pieces, or go on after the sum; in captured steps."""

    def work(comm, dtype="float64"):
        found = contract_trained(here.backend, comm, kind, dtype)
        assert bool(graphs()) == bool(here.network)
        return found

    wanted = contract_trained("numpy", None, kind, "float64")
    for size in (2, 3):
        for found in gpus(size, work):
            assert np.abs(found - wanted).max() < 1e-12
    wanted = contract_trained(find_backend("numpy", True), None, kind, "float32")
    for size, mode, nccl in ((1, "fused", True), (2, "fused", True), (3, "written", True),
                             (3, "fused", False)):  # fmt: skip
        for found in gpus(size, lambda comm: work(comm, "float32"), nccl, mode):
            assert np.array_equal(found, wanted), (size, mode, nccl)


@pytest.mark.parametrize("k", [1, 2, 5])  # XOR, spiral, digits with BatchNorm and Dropout
def test_golden_trainings_between_gpus(gpus, k):
    recipe, steps = golden.RECIPES[k], 2
    wanted = golden.trace(recipe, find_backend("numpy", True), steps).sha256
    for trace in gpus(
        3, lambda comm: golden.trace(recipe, here.backend, steps, comm=comm), mode="fused"
    ):
        assert {**trace.sha256, "forward": ""} == {**wanted, "forward": ""}


def test_a_sum_of_nothing_in_reproducible_mode(gpus):
    """One feature, and processes without a sample: there are products of 1 x 0 with 0 x n."""
    X, t = np.array([[0.3], [-0.7]]), np.array([1, 0])

    def fit(xp, comm):
        net = xpnet.Sequential(xpnet.Linear(1, 2), seed=1, backend=xp)
        xpnet.Trainer(net, "softmax_cross_entropy", "sgd", comm=comm).fit(X, t, epochs=4)
        return net.sha256()

    wanted = fit(find_backend("numpy", True), None)
    for mode in ("fused", "written"):
        assert set(gpus(3, lambda comm: fit(here.backend, comm), mode=mode)) == {wanted}


# ---- all processes record, and replay, at the same time ------------------------------------------


class OfRank0(Callback):
    """Looks at every step, and only on rank 0."""

    once = True

    def __init__(self) -> None:
        self.seen = list[int]()

    def on_train_batch_end(self, batch, logs):
        self.seen.append(batch)


class OnRank1(Callback):
    """Does something in an epoch, on one of the processes."""

    every_step = False

    def __init__(self, what: Callable[[Any], Any]) -> None:
        self.what = what

    def on_train_batch_end(self, batch, logs):
        if self.trainer.comm.rank == 1 and self.trainer.epoch == 1 and batch >= 2:
            self.what(self.trainer)


def wants_fewer(trainer: Any) -> None:
    trainer.launch = 1


def needs_larger_buffers(trainer: Any) -> None:
    trainer.net.xp.renew()


def sets_what_a_step_looks_at(trainer: Any) -> None:
    trainer.optimizer.rho = 0.5  # a number that SGD does not have: nothing else changes


@pytest.mark.parametrize("what", [wants_fewer, needs_larger_buffers, sets_what_a_step_looks_at])
def test_what_happens_on_one_process_does_not_part_the_others(gpus, what):
    name = "weights, momentum, clipping"

    def work(comm):
        found = numbers(train(here.backend, comm, name, callbacks=[OnRank1(what)]))
        return found, graphs()

    (wanted, _), *_ = gpus(2, lambda comm: (numbers(train(here.backend, comm, name)), graphs()))
    for found, _ in (both := gpus(2, work)):
        assert np.array_equal(found, wanted)
    assert both[0][1] == both[1][1] > 0


def test_rank_0_may_look_at_every_step(gpus):
    name, watch = "weights, momentum, clipping", OfRank0()

    def work(comm):
        return numbers(train(here.backend, comm, name, callbacks=[watch]))

    wanted = gpus(2, lambda comm: numbers(train(here.backend, comm, name)))
    assert all(np.array_equal(found, wanted[0]) for found in gpus(2, work))
    assert watch.seen == [*range(4)] * EPOCHS


def test_where_one_process_cannot_record_none_does(gpus, monkeypatch):
    """The warnings are counted by hand, as catching them is not for threads."""
    name, said = "weights, momentum, clipping", list[str]()
    monkeypatch.setattr(capture.warnings, "warn", lambda text, *_, **__: said.append(text))

    def work(comm):
        def refuse(step):
            record(step)
            raise MemoryError("no room")

        record = here.xp._record_graph
        if comm.rank == 1:
            here.xp._record_graph = refuse
        trainer = train(here.backend, comm, name)
        assert trainer._steps.captured.failed
        return numbers(trainer)

    wanted = gpus(2, lambda comm: numbers(train(here.backend, comm, name)))
    assert all(np.array_equal(found, wanted[0]) for found in gpus(2, work))
    assert sorted(text.rpartition("slower ")[2] for text in said) == [
        "(MemoryError: no room)", "(another process could not)",
    ]  # fmt: skip


# ---- NCCL itself, and the choice -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES.values())
@pytest.mark.parametrize("op", ["sum", "max"])
def test_nccl_reduces_in_place_pieces_of_arrays_too(cupy, op, dtype):
    values = np.arange(12).reshape(2, 6).astype(dtype) - 8

    def work(comm):
        a = strictxp.asarray(values * (comm.rank + 1))
        between_devices(comm).allreduce(a[1:], op)
        return a.get()

    wanted = {"sum": values * 6, "max": np.maximum(values, values * 3)}[op][1:]
    for rank, found in enumerate(processes(3, work)):
        assert np.array_equal(found[1:], wanted)
        assert np.array_equal(found[:1], values[:1] * (rank + 1))


def test_pinned_memory_is_made_once_for_a_size(cupy):
    def work(comm):
        between = between_devices(comm)
        for n in (4, 3, 4, 1, 6, 2):
            a = strictxp.asarray(np.full((n, 1), comm.rank + 0.5))
            assert between.allreduce(a) is a
            assert a.get().tolist() == [[2.0]] * n
            assert comm.pinned
        number = strictxp.asarray(np.array(comm.rank))
        assert between.allreduce(number, "max").get() == 1

    processes(2, work, nccl=False)
    assert sorted((a.size, a.dtype.name) for a in PINNED) == [
        *[(1, "int64")] * 2, *[(4, "float64")] * 2, *[(6, "float64")] * 2,
    ]  # fmt: skip


def test_the_same_gpus_have_one_nccl(cupy):
    before = NcclCommunicator.made

    def work(comm):
        first = between_devices(comm)
        assert between_devices(comm) is first
        here.gpu += " once more"
        assert between_devices(comm) is not first
        return sys.getrefcount(first._nccl)

    assert min(processes(2, work)) > 2  # one of them is nobody's: it is not destroyed with the rest
    assert NcclCommunicator.made - before == 4


@pytest.mark.parametrize(
    ("places", "has", "said"),
    [
        ("abc", "111", None),
        ("aba", "111", f"GPU a of {socket.gethostname()} is used by two processes"),
        ("abc", "110", "rank 2 has no NCCL, which pip install nvidia-nccl-cu13 brings"),
        ("aaa", "000", "is used by two processes"),
    ],
)
def test_nccl_is_for_processes_that_all_have_it_and_a_gpu_of_their_own(
    cupy, caplog, places, has, said
):
    def work(comm):
        here.gpu = places[comm.rank]
        if has[comm.rank] == "0":
            here.network = None
        between = between_devices(comm)
        assert (between.rank, between.size) == (comm.rank, 3)
        assert between.captures == (said is None)
        return type(between)

    with caplog.at_level(logging.WARNING, logger="xpnet"):
        assert set(processes(3, work)) == {NCCL if said is None else ByHost}
    assert len(caplog.records) == (said is not None)
    assert said is None or said in caplog.text


def test_a_cupy_without_nccl_is_asked_without_a_word(monkeypatch, recwarn):
    """CuPy warns when it is asked, and with -W error that is an exception."""

    class Without(ModuleType):
        def __getattr__(self, name):
            warnings.warn("nccl library could not be loaded.", stacklevel=2)
            return SimpleNamespace(available=False)

    monkeypatch.setitem(sys.modules, "cupy", ModuleType("cupy"))
    monkeypatch.setitem(sys.modules, "cupy.cuda", Without("cupy.cuda"))
    assert devices._nccl() is None
    monkeypatch.setitem(sys.modules, "cupy.cuda", None)
    assert devices._nccl() is None
    assert not recwarn


def test_all_processes_have_a_gpu_or_none_has(gpus):
    def work(comm):
        return train(here.backend if comm.rank else "numpy", comm, "batches of 2")

    with pytest.raises(ParallelError, match="the backend is 'cupy' on rank 1 and 'numpy' on rank"):
        gpus(2, work)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cupy", ["cupy:0", "cupy:1", "cupy:0"]),
        ("GPU", ["cupy:0", "cupy:1", "cupy:0"]),
        ("auto", ["cupy:0", "auto", "cupy:0"]),
        ("cuda:1", ["cuda:1"] * 3),
        ("numpy", ["numpy"] * 3),
    ],
)
def test_processes_of_a_machine_take_its_gpus_in_turn(cupy, monkeypatch, name, found):
    cupy_is.unusable(monkeypatch, lambda device: "broken" if device else "")

    def work(comm):
        here.gpus = 2
        return device_name(name, comm)

    assert team(3, work) == found
    assert device_name(name, Communicator()) == name
    with pytest.raises(BackendError):
        device_name("cupi", Communicator())


# ---- on a GPU ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nccl():
    """NCCL among one process; skipped, with the reason, where it is not installed."""
    find_backend("cupy")
    module = devices._nccl()
    if module is None:
        pytest.skip(f"NCCL is not installed: pip install {devices._wheel()}")
    return NCCL(Communicator(), module)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", TYPES.values())
@pytest.mark.parametrize("op", ["sum", "max"])
def test_nccl_on_a_gpu(nccl, op, dtype):
    xp = find_backend("cupy")
    a = xp.asarray(np.arange(-8, 4).reshape(2, 6), dtype)
    assert nccl.allreduce(a[1:], op) is not None
    assert np.array_equal(xp.asnumpy(a), np.arange(-8, 4).reshape(2, 6))


class Alone(Communicator):
    """One process that takes itself for two, so that it does all that two do."""

    size = 2

    def __init__(self, between: Communicator) -> None:
        self.between = between

    def on(self, xp: Any) -> Communicator:
        return self.between

    def share(self, total: int) -> Share:
        return Share(0, total, total)


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("reproducible", [False, True])
def test_steps_with_nccl_in_a_graph_have_the_bits_of_steps(nccl, name, reproducible):
    xp = find_backend("cupy", reproducible)
    found = []
    for captures in (True, False):
        xp.ordinary.captures = captures
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # a capture that fails warns
                trainer = train(xp, Alone(nccl), name, "float32")
            assert bool(getattr(trainer._steps.captured, "graphs", {})) == captures
            found.append(numbers(trainer))
        finally:
            xp.ordinary.captures = True
    assert np.array_equal(*found)
    wanted = numbers(train(find_backend("numpy", reproducible), None, name, "float32"))
    assert np.abs(found[0] - wanted).max() <= (0 if reproducible else 1e-5)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", golden.RECIPES, ids=lambda recipe: recipe.name)
def test_nccl_has_the_golden_hashes(nccl, recipe):
    _skip_without_mnist(recipe.problem)
    trace = golden.trace(recipe, find_backend("cupy", True), comm=Alone(nccl))
    assert trace.sha256["update"] == golden.golden()["recipes"][recipe.name]["update"]


def _skip_without_mnist(problem: str) -> None:
    if problem == "mnist" and not find_mnist():
        pytest.skip("no MNIST here")


TWO = """
import sys
from test_parallel_devices import TRAININGS, numbers, train
from xpnet import golden
from xpnet.backend import find_backend
from xpnet.parallel import communicator
from xpnet.parallel.devices import ByHost

comm = communicator("mpi")
assert comm.size == 2

def say(*words):
    assert comm.allgather(words) == [words] * 2
    if comm.rank == 0:
        print(*words, sep="\\t", flush=True)

for recipe in golden.RECIPES:
    if recipe.problem in sys.argv[1:]:
        trace = golden.trace(recipe, find_backend("cupy", True), comm=comm)
        say(recipe.name, trace.sha256["update"])
for name in TRAININGS:
    trainer = train(find_backend("cupy", False), comm, name, "float32")
    assert type(trainer.net.xp.across) is ByHost
    say(name, *numbers(trainer).tolist())
"""


@pytest.mark.gpu
@pytest.mark.usefixtures("mpi")
def test_two_processes_on_one_gpu():
    """By way of the host, as NCCL refuses that."""
    problems = ["xor", "spiral", *["mnist"] * bool(find_mnist())]
    if os.environ.get("XPNET_REHEARSAL") == "1":  # see bench/gpu.sh: the stand-in is slow
        problems = ["xor"]
    path = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    done = subprocess.run(
        [*start(2), "-c", TWO, *problems],
        env={**environment(2), "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("exchange gradients by way of the host") == 1
    said = [line.split("\t") for line in done.stdout.splitlines()]
    found = {name: values for name, *values in said}
    for name, values in golden.golden()["recipes"].items():
        if name.partition(":")[0] in problems:
            assert found.pop(name) == [values["update"]]
    assert found.keys() == TRAININGS.keys()
    for name, values in found.items():
        wanted = numbers(train("numpy", None, name, "float32"))
        assert np.abs(np.array(values, float) - wanted).max() < 1e-5
