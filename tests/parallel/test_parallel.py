"""Training on several processes: the results are those of one, to the bit where that is promised.

Most of it is played by threads, see `team`. Real processes of MPI run `parallel_worker`, once for
each number of them, and the tests look at what they have written.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import mpi_here
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from parallel_worker import (
    BREAKS,
    CLASSES,
    FEATURES,
    MODE,
    MORE,
    MORE_REPRODUCIBLE,
    ORDINARY,
    RECIPES,
    REPRODUCIBLE,
    TO_RESUME,
    Case,
    Hashes,
    L,
    Scale,
    Spy,
    break_off,
    go_on,
    plain,
    result,
    saved,
    scheduled,
    sgd,
    train,
    with_batch_norm,
    with_own_layer,
)
from team import Member, Table, outcomes, team

import xpnet
from xpnet import golden
from xpnet.backend import find_backend
from xpnet.data import mapped
from xpnet.data.mnist import find_mnist
from xpnet.network import PREDICTION_BATCH
from xpnet.parallel import Communicator, communicator, launch
from xpnet.parallel.batch import shared_predict
from xpnet.parallel.communicator import ALONE, Share, processes_started, rank_started
from xpnet.parallel.launch import THREADS, start
from xpnet.parallel.sharing import shared
from xpnet.support.errors import DivergenceError, OptionError, ParallelError, XpnetError
from xpnet.training.callbacks import Callback
from xpnet.verify import consistency_processes
from xpnet.verify.consistency_processes import check_processes

HELPERS = Path(__file__).parents[1] / "helpers"
SIZES = 2, 3, 4
LIMIT = 60  # seconds for real processes
TOLERANCE = {"float64": 1e-13, "float32": 1e-5}


def backwards(found):
    return found[::-1]


def in_pairs(found):
    return found[1::2] + found[::2]


# ---- one training, on one process and on several ------------------------------------------------


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """Return what a case gives on one process."""
    folder, found = tmp_path_factory.mktemp("alone"), {}

    def alone(case):
        if case not in found:
            found[case] = train(ALONE, case, folder)
        return found[case]

    return alone


def relative(values, wanted):
    """Return how far a training is from another one, all values together."""
    assert values.keys() == wanted.keys()
    off = max(np.abs(values[name] - wanted[name]).max(initial=0) for name in wanted)
    return off / max(np.abs(a).max(initial=0) for a in wanted.values())


def agree(found, wanted, tolerance):
    """Check that a training has ended as another one, and got there by the same way."""
    assert relative(found["values"], wanted["values"]) <= tolerance
    assert found["history"].keys() == wanted["history"].keys()
    for name, numbers in wanted["history"].items():
        assert found["history"][name] == pytest.approx(numbers, rel=max(tolerance, 1e-12)), name


def are_the_same(found, wanted):
    """Check that a training has the bits of another one; returns nothing that could be close."""
    assert found["hashes"] == wanted["hashes"]
    assert found["history"] == wanted["history"]
    for name, a in wanted["values"].items():
        assert found["values"][name].tobytes() == a.tobytes(), name


def on_sizes(cases, more):
    """Try some cases on all numbers of processes, and more on one: the smallest on four."""
    every = [(name, size) for name in cases for size in SIZES]
    return every + [(name, 4 if more[name].n < 100 else 3) for name in more]


@pytest.mark.thorough(but=["*-2", "*-4"])
@pytest.mark.parametrize(("name", "size"), on_sizes(ORDINARY, MORE))
def test_the_result_does_not_depend_on_the_number_of_processes(
    alone, monkeypatch, tmp_path, name, size
):
    monkeypatch.setattr(mapped, "LARGE", 0)
    case = {**ORDINARY, **MORE}[name]
    found = team(size, lambda comm: train(comm, case, tmp_path / _made(tmp_path, comm)))
    agree(found[0], alone(case), TOLERANCE[case.dtype])
    for other in found[1:]:
        are_the_same(other, found[0])


@pytest.mark.thorough(but=["weights-3", "blocks-3", "pixels-3", "batches of one-4"])
@pytest.mark.parametrize(("name", "size"), on_sizes(REPRODUCIBLE, MORE_REPRODUCIBLE))
def test_in_reproducible_mode_not_even_the_bits_do(alone, monkeypatch, tmp_path, name, size):
    monkeypatch.setattr(mapped, "LARGE", 0)
    case = {**REPRODUCIBLE, **MORE_REPRODUCIBLE}[name]
    order = (list, backwards, in_pairs)[len(name) % 3]
    found = team(size, lambda comm: train(comm, case, tmp_path / _made(tmp_path, comm)), order)
    for one in found:
        are_the_same(one, alone(case))


def _made(folder, comm):
    """Make a folder for a member, whose files no other one writes at the same time."""
    (folder / str(comm.rank)).mkdir()
    return str(comm.rank)


def test_gradients_are_clipped(alone):
    """Else the cases that clip would test nothing."""
    for case in (MORE["clipping"], MORE_REPRODUCIBLE["clipping, decay"]):
        own = {**case.optimizer.keywords, "clip_norm": 1e9}
        loose = replace(case, optimizer=partial(sgd, **own))
        assert alone(case)["hashes"] != alone(loose)["hashes"]


# ---- reproducible mode --------------------------------------------------------------------------


@pytest.mark.thorough(but=["*-2"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recipe", golden.RECIPES, ids=lambda recipe: recipe.name)
def test_golden_hashes_of_the_first_steps(recipe, size):
    if recipe.problem == "mnist" and not find_mnist():
        pytest.skip("no MNIST: XPNET_DATA names no folder with it")
    steps, order = 3, {2: backwards, 3: in_pairs, 4: list}[size]
    wanted = golden.golden_trace(recipe)
    golden.load(recipe.problem)

    def trace(comm):
        return golden.trace(recipe, find_backend("numpy", True), steps, comm=comm)

    for found in team(size, trace, order):
        for phase in ("backward", "update"):
            assert found.phases[phase] == wanted.phases[phase][:steps]


def test_the_check_on_processes_says_which_rank_differs(monkeypatch):
    def lines_of(steps):
        def checked(comm):
            lines = []
            backends = [find_backend("numpy", True)]
            ok = check_processes(comm, ["xor"], backends, steps, on_line=lines.append)
            return ok, lines

        return team(2, checked)

    recipes = [recipe.name for recipe in golden.RECIPES if recipe.problem == "xor"]
    right = [f"numpy, 2 processes: golden      {name}" for name in recipes]
    assert lines_of(2) == [(True, right)] * 2
    other = golden.golden_trace(golden.RECIPES[-1])
    monkeypatch.setattr(consistency_processes, "golden_trace", lambda recipe: other)
    for ok, (line, *_) in lines_of(2):
        assert not ok
        assert "NOT GOLDEN (rank 0 in step 1, in the backward phase; rank 1 in step 1," in line


@pytest.mark.parametrize("size", SIZES)
def test_gradients_that_no_primitive_writes_are_refused(size):
    """Their bits would depend on the number of processes; see test_contract.py."""
    case = Case(with_own_layer, n=50, batch_size=7, epochs=2, optimizer=sgd, **MODE)
    with pytest.raises(ParallelError, match=r"da of layer 1, Scale\(\): the gradient is written"):
        team(size, lambda comm: train(comm, case))


@pytest.mark.parametrize("layers", [lambda: [Scale(4)], lambda: [Scale(4), L(4, 2), Scale(2)]])
def test_in_ordinary_mode_they_are_summed_once(layers):
    """Sums of small whole numbers are exact, however they are formed."""
    X = np.arange(16, dtype=np.float32).reshape(4, 4)

    def gradients(comm):
        net = xpnet.Sequential(*layers(), backend="numpy", dtype="float64")
        net.load_state_dict({k: np.round(4 * v) for k, v in net.state_dict().items()})
        kept = Kept()
        trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, 0.25), comm=comm)
        T = np.zeros((4, *net.output_shape((4,))))
        trainer.fit(X, T, epochs=1, batch_size=4, callbacks=[kept])
        return kept.grads[0]

    (wanted,) = team(1, gradients)
    for size in (2, 4):
        for found in team(size, gradients):
            assert np.array_equal(found, wanted)


class Kept(Callback):
    """Keeps the gradients and the losses of each step."""

    def __init__(self):
        self.grads, self.losses = [], []

    def on_train_batch_end(self, batch, logs):
        self.grads.append(self.trainer.net.grads.copy())
        self.losses.append(float(self.trainer.loss))


# ---- who has which samples ----------------------------------------------------------------------


@given(total=st.integers(1, 3000), size=st.integers(1, 300))
def test_shares(total, size):
    table = Table(size)
    shares = [Member(rank, table).share(total) for rank in range(size)]
    ends = [share.first + share.rows for share in shares]
    assert [share.first for share in shares] == [0, *ends[:-1]]
    assert ends[-1] == total
    rows = [share.rows for share in shares]
    assert max(rows) - min(rows) <= 1
    assert rows == sorted(rows, reverse=True)
    for share in shares:
        assert share.total == total
        first, n = share.gathered
        assert 0 <= first < first + n <= total
        assert (first, n) == (share.first, share.rows) if share.rows else n == 1


def test_a_single_process_has_all():
    assert ALONE.share(7) == Share(0, 7, 7)
    assert repr(ALONE) == "<rank 0 of 1>"


@pytest.mark.parametrize("options", [{}, MODE], ids=["ordinary", "reproducible"])
def test_all_processes_together_see_what_one_sees(options):
    """Each step has the same samples in the same order; no sample is in two places."""
    case = Case(lambda: [Spy(), *plain()], n=29, batch_size=9, epochs=3, **options)

    def seen(comm):
        trainer = case.trainer(comm)
        case.fit(trainer)
        steps = trainer.net[0].seen
        sizes = [9, 9, 9, 2] * 3
        return [x[: comm.share(n).rows] for x, n in zip(steps, sizes, strict=True)]

    (wanted,) = team(1, seen)
    assert not np.array_equal(wanted[0], wanted[4])
    for size in SIZES:
        for step, pieces in zip(wanted, zip(*team(size, seen), strict=True), strict=True):
            assert np.array_equal(np.concatenate(pieces), step)


# ---- evaluation ---------------------------------------------------------------------------------


def f1(t, Y):
    from sklearn.metrics import f1_score

    return f1_score(t, Y.argmax(axis=1), average="macro")


@pytest.mark.parametrize("options", [{}, MODE], ids=["ordinary", "reproducible"])
@pytest.mark.parametrize("rows", [1, 3, 1024, 1025, 3 * 1024 + 5, 5000])
def test_evaluation(rows, options):
    """Every piece is computed as it would be by a single process, so the bits are the same."""
    case = Case(with_batch_norm, n=rows, **options)
    X, t = case.data()

    def evaluated(comm):
        trainer = case.trainer(comm)
        metrics = {"metrics": ["accuracy", f1], "comm": comm}
        judge = xpnet.Trainer(trainer.net, "softmax_cross_entropy", **metrics)
        return judge.evaluate(X, t), shared_predict(judge.net, X, comm, PREDICTION_BATCH)

    ((wanted, outputs),) = team(1, evaluated)
    assert set(wanted) == {"loss", "accuracy", "f1"}
    for size in SIZES:
        for found, own in team(size, evaluated):
            assert found == wanted
            assert own.tobytes() == outputs.tobytes()


def test_evaluation_does_not_leave_all_to_one_process():
    case = Case(n=4096)
    X, t = case.data()

    def computed(comm):
        trainer = case.trainer(comm)
        trainer.net.build(1024, (FEATURES,), False)
        rows, forward = [], trainer.net.forward
        trainer.net.forward = lambda X: rows.append(len(X)) or forward(X)
        trainer.evaluate(X, t)
        return rows

    assert team(3, computed) == [[1024, 1024], [1024], [1024]]
    assert team(4, computed) == [[1024]] * 4


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_put_together_keeps_every_bit(dtype):
    whole = np.array([[0.0, -0.0], [np.nan, -np.inf], [1e-40, 3.0], [-1e-310, 7e300]])
    with np.errstate(over="ignore"):
        whole = whole.astype(dtype)

    def together(comm):
        share = comm.share(len(whole))
        own = whole[share.first : share.first + share.rows]
        return comm.put_together(own, share.first, np.full_like(whole, 5), np).tobytes()

    for size in (1, *SIZES, 5):
        assert team(size, together) == [whole.tobytes()] * size


# ---- callbacks ----------------------------------------------------------------------------------

SMALL = Case(n=40, batch_size=8, epochs=4)  # 5 steps in an epoch


class Called(Callback):
    def __init__(self):
        self.calls = []

    def on_train_begin(self, logs):
        self.calls.append("begin")

    def on_train_batch_end(self, batch, logs):
        self.calls.append(batch)

    def on_epoch_end(self, epoch, logs):
        self.calls.append(dict(logs))

    def on_train_end(self, logs):
        self.calls.append("end")


class CalledOnce(Called):
    once = True


def test_some_callbacks_are_called_on_rank_0_only():
    def calls(comm):
        everywhere, once = Called(), CalledOnce()
        SMALL.fit(SMALL.trainer(comm), everywhere, once)
        return everywhere.calls, once.calls

    (first, *others) = team(3, calls)
    assert len(first[0]) == 2 + 4 * 6
    assert first[0] == first[1]
    assert others == [(first[0], [])] * 2


def test_early_stopping_stops_all_at_once_and_restores():
    case = replace(SMALL, epochs=30, optimizer=lambda net: xpnet.Adam(net, 0.05))

    def stopped(comm):
        trainer = case.trainer(comm)
        X, t = replace(case, n=41).data()
        data = {"validation_data": (X[::-1], t)}  # gets worse
        case.fit(trainer, xpnet.EarlyStopping(patience=3), **data)
        return trainer.epoch, trainer.net.predict(X), trainer.net.sha256(), trainer.stop

    ((epoch, outputs, _, _),) = team(1, stopped)
    assert 3 < epoch < 30
    for size in SIZES:
        found = team(size, stopped)
        assert [one[0] for one in found] == [epoch] * size
        assert all(one[2:] == (found[0][2], True) for one in found)
        assert found[-1][1] == pytest.approx(outputs, rel=1e-9)


@pytest.mark.parametrize("rank", range(3))
def test_one_process_stops_all(rank):
    class Stop(Callback):
        def on_epoch_end(self, epoch, logs):
            self.trainer.stop = epoch == 1

    def stopped(comm):
        trainer = SMALL.trainer(comm)
        SMALL.fit(trainer, *[Stop()] * (comm.rank == rank))
        return trainer.epoch, trainer.stop

    assert team(3, stopped) == [(2, True)] * 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_for_one_process_ends_all(monkeypatch, number):
    """All have taken the same number of steps then."""
    received = {}

    @contextmanager
    def interruptible():
        yield received.setdefault(threading.get_ident(), [])

    class Interrupted(Called):
        def on_train_batch_end(self, batch, logs):
            super().on_train_batch_end(batch, logs)
            if self.trainer.optimizer.t == 8 and self.trainer.comm.rank == 2:
                received[threading.get_ident()].append(number)

        def on_interrupt(self):
            self.calls.append("interrupt")

    def calls(comm):
        called = Interrupted()
        with pytest.raises((KeyboardInterrupt, SystemExit)) as raised:
            SMALL.fit(SMALL.trainer(comm), called)
        assert number == signal.SIGINT or raised.value.code == 143
        return raised.type, called.calls[-4:]

    monkeypatch.setattr(xpnet.training.trainer, "interruptible", interruptible)
    kind = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    assert team(3, calls) == [(kind, [1, 2, "interrupt", "end"])] * 3


# ---- checkpoints --------------------------------------------------------------------------------


def went_on(found, name, alone):
    """Check that a training which was broken off has ended as one that was not."""
    case = TO_RESUME[name]
    if case.reproducible:
        found["hashes"] = [*alone(case)["hashes"][:-1], *found["hashes"]]
        are_the_same(found, alone(case))
    else:
        agree(found, alone(case), 1e-13)


@pytest.mark.thorough
def test_a_checkpoint_of_some_processes_goes_on_on_another_number(alone, tmp_path):
    team(3, lambda comm: break_off(comm, tmp_path))
    assert len(list(tmp_path.iterdir())) == len(TO_RESUME) * len(BREAKS)
    for name, (size, where) in product(TO_RESUME, enumerate(BREAKS, 1)):
        path = saved(tmp_path, name, where)
        for found in team(size, partial(go_on, name=name, path=path)):
            went_on(found, name, alone)


def test_only_rank_0_saves(tmp_path):
    def save(comm):
        trainer = SMALL.trainer(comm)
        if comm.rank == 0:
            with pytest.raises(XpnetError, match="between two steps"):
                trainer.save(tmp_path / "early.npz")
        SMALL.fit(trainer)
        trainer.save(tmp_path / f"{comm.rank}.npz")

    team(3, save)
    assert [path.name for path in tmp_path.iterdir()] == ["0.npz"]


def test_only_rank_0_looks_for_checkpoints(tmp_path):
    """The folder of the others may be empty, or have something else in it."""
    for case in (SMALL, replace(SMALL, epochs=6)):

        def fit(comm, case=case):
            folder = tmp_path / str(comm.rank)
            trainer = case.trainer(comm)
            case.fit(trainer, xpnet.Checkpoint(folder), resume=folder)
            return trainer.resumed, trainer.net.sha256()

        found = team(2, fit)
    assert not (tmp_path / "1").exists()
    assert {resumed for resumed, _ in found} == {True}
    assert len({sha for _, sha in found}) == 1
    (wanted,) = team(1, lambda comm: train(comm, replace(SMALL, epochs=6)))
    assert len(xpnet.load(tmp_path / "0" / "step-000000030.npz").sha256()) == 64
    assert wanted["history"]["loss"]


def test_callbacks_of_all_processes_remember(tmp_path):
    """What EarlyStopping knows comes back on every process, what rank 0 alone has on rank 0."""

    class Noted(CalledOnce):
        def state_dict(self):
            return {"number": 7}

        def load_state_dict(self, state):
            self.calls.append(state)

    case = replace(SMALL, epochs=2)

    def fit(comm, case=case, resume=None):
        stopping, noted, trainer = xpnet.EarlyStopping(), Noted(), case.trainer(comm)
        case.fit(trainer, stopping, noted, resume=resume)
        trainer.save(tmp_path / "saved.npz")
        return stopping.best, stopping.best_epoch, noted.calls[1:2]

    before = team(3, fit)

    def look(comm):
        return fit(comm, resume=tmp_path / "saved.npz")

    after = team(3, look)
    assert [one[:2] for one in after] == [one[:2] for one in before]
    assert [one[2] for one in after] == [[{"number": 7}], [], []]


# ---- agreement ----------------------------------------------------------------------------------

OTHERS = {  # what one process has, and what the error says
    "the seed of the shuffles": ({"seed": 5}, "the seed is 5 on rank 1 and 0 on rank 0"),
    "the batch size": ({"batch_size": 9}, "the batch_size is 9 on rank 1 and 8 on rank 0"),
    "the order": ({"shuffle": False}, "the shuffle is False on rank 1 and True on rank 0"),
    "the number of samples": ({"n": 39}, "the number of samples is 39 on rank 1 and 40 on rank 0"),
    "the network": (
        {"layers": with_own_layer},
        r"the network is \['Sequential\(Linear\(20, 32\), .*Tanh.* on rank 1 and .*ReLU",
    ),
    "the dtype": ({"dtype": "float32"}, r"the network is .*'float32'.* on rank 1 and .*'float64'"),
    "the loss": ({"loss": "cross_entropy"}, r"the loss is 'CrossEntropy.* on rank 1 and 'Softmax"),
    "the optimizer": ({"optimizer": sgd}, "the optimizer is 'SGD' on rank 1 and 'Adam' on rank 0"),
    "the learning rate": (
        {"optimizer": lambda net: xpnet.Adam(net, 0.5)},
        "the learning rate is 0.5 on rank 1 and 0.001 on rank 0",
    ),
    "a schedule": ({"optimizer": scheduled}, r"the learning rate is \{'schedule': "),
    "the epochs": (
        {"epochs": 5},
        r"the number of steps done is \[0, 0, 0, 5\] on rank 1 and \[0, 0, 0, 4\] on rank 0",
    ),
    "the inputs": (
        {"kind": "pixels"},
        r"the fingerprint of the inputs is \d+ on rank 1 and \d+ on",
    ),
    "the targets": ({"labels": 3}, r"the fingerprint of the targets is \d+ on rank 1 and \d+ on"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_processes_that_are_not_given_the_same_say_so(what):
    changes, text = OTHERS[what]
    changes = dict(changes)
    seed, labels = changes.pop("seed", 0), changes.pop("labels", None)

    def fit(comm):
        case, other = SMALL, comm.rank == 1
        if other:
            case = replace(SMALL, **changes)
        X, t = case.data()
        if other and labels:
            t[-1] = (t[-1] + 1) % 5
        trainer = case.trainer(comm)
        trainer.seed = seed if other else 0
        options = {"epochs": case.epochs, "batch_size": case.batch_size, "shuffle": case.shuffle}
        trainer.fit(X, t, **options)

    for error in outcomes(3, fit):
        assert isinstance(error, ParallelError), error
        assert re.search(text, str(error)), error


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (lambda X, t: {"sample_weight": np.ones(len(t))}, "sample_weight is"),
        (lambda X, t: {"validation_data": (X[:9], t[:9])}, "validation targets is"),
    ],
    ids=["weights", "validation"],
)
def test_weights_and_validation_are_compared(options, what):
    def fit(comm):
        X, t = SMALL.data()
        SMALL.trainer(comm).fit(X, t, **(options(X, t) if comm.rank == 1 else {}))

    for error in outcomes(3, fit):
        assert isinstance(error, ParallelError), error
        assert f"the fingerprint of {what}" in str(error).replace("the validation", "validation")
        assert "on rank 1 and None on rank 0" in str(error)


def test_processes_in_different_modes_say_so():
    def fit(comm):
        case = replace(SMALL, dtype="float32", reproducible=comm.rank == 2)
        case.fit(case.trainer(comm))

    for error in outcomes(3, fit):
        assert isinstance(error, ParallelError), error
        assert "the network is" in str(error)
        assert "on rank 2 and" in str(error)


@pytest.mark.parametrize("size", SIZES)
def test_all_begin_with_the_values_of_rank_0(alone, size):
    """Parameters, the memory of the optimizer, the seeds of dropout, the means of batch norm."""
    case = Case(with_batch_norm, n=40, batch_size=8, optimizer=momentum)

    def fit(comm):
        trainer = case.trainer(comm, seed=comm.rank)
        if comm.rank:
            trainer.optimizer.state_vectors()["v"][...] = 1
            trainer.net[1].state["mean"][...] = 2
        hashes = Hashes()
        case.fit(trainer, hashes)
        return result(trainer, hashes.found)

    found = team(size, fit)
    agree(found[0], alone(case), 1e-13)
    for other in found[1:]:
        are_the_same(other, found[0])


def momentum(net):
    return sgd(net, momentum=0.9)


class Change(Callback):
    """Does something on one process only."""

    def __init__(self, change):
        self.change = change

    def on_train_batch_end(self, batch, logs):
        if (self.trainer.epoch, batch) == (1, 2):
            self.change(self.trainer)


def one_weight(trainer):
    trainer.net.params[-1] += 1e-9


def the_rate(trainer):
    trainer.optimizer.lr = 0.5


@pytest.mark.parametrize("options", [{}, MODE], ids=["ordinary", "reproducible"])
@pytest.mark.parametrize("change", [one_weight, the_rate])
def test_what_changes_on_one_process_is_found_with_the_epoch(change, options):
    def fit(comm):
        case, called = replace(SMALL, **options), Called()
        changes = [Change(the_rate if options else change)] * (comm.rank == 2)
        try:
            case.fit(case.trainer(comm), called, *changes)
        except ParallelError as error:
            return str(error), len(called.calls)

    text = "the losses or parameters of rank 2 are not those of rank 0 any more"
    for error, calls in team(3, fit):
        assert text in error
        assert calls == 1 + 6 + 5 + 1  # begin, an epoch, the steps of the next one, end


# ---- divergence ---------------------------------------------------------------------------------


@pytest.mark.parametrize("row", range(4))
@pytest.mark.parametrize("options", [{"dtype": "float32"}, MODE], ids=["ordinary", "reproducible"])
def test_the_layer_that_overflows_is_named_by_all(options, row):
    """Only one process has the row for which it does."""
    X, t = np.ones((4, FEATURES), np.float32), np.zeros(4, np.int64)
    X[row] = 1e25

    def fit(comm):
        case = Case(lambda: [L(FEATURES, 4), xpnet.Identity(), L(4, 5)], **options)
        trainer = case.trainer(comm)
        trainer.net.load_state_dict({k: v + 1e14 for k, v in trainer.net.state_dict().items()})
        trainer.fit(X, t, epochs=1, batch_size=4, shuffle=False)

    for size in (1, *SIZES):
        for error in outcomes(size, fit):
            assert isinstance(error, DivergenceError), error
            assert "the first output that is not finite is that of layer 0, Linear(20, 4)" in str(
                error
            )


def test_rows_of_a_step_before_are_not_looked_at():
    """A process that has no row any more computes one for nothing; buffers keep old numbers."""
    X, t = np.ones((5, FEATURES)), np.zeros((5, CLASSES))

    def fit(comm):
        case = Case(loss="mse", dtype="float32")
        trainer = case.trainer(comm)

        class Spoil(Callback):
            def on_train_batch_end(self, batch, logs):
                trainer.net[0].Y[1:] = np.nan
                trainer.net.params[...] = 1e38

        trainer.fit(X, t, epochs=1, batch_size=4, shuffle=False, callbacks=[Spoil()])

    for error in outcomes(2, fit):
        assert isinstance(error, DivergenceError), error
        assert "in step 2 of epoch 1: the first output that is not finite is that of" in str(error)


# ---- what goes between the processes ------------------------------------------------------------


def calls_of(case, size=2):
    """Return the size of the network, and all that its training has asked of the others."""
    asked = []

    def fit(comm):
        trainer = case.trainer(comm)
        case.fit(trainer, validation_data=None)
        asked[:] = comm.table.calls
        return trainer.net.size

    return team(size, fit)[0], asked


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse"])
def test_a_step_is_one_sum_of_gradients_loss_and_count(weighted, loss):
    """No data goes from one to another, whatever there is of it."""
    targets = "one-hot" if loss == "mse" else "labels"
    case = Case(n=40, batch_size=8, epochs=2, loss=loss, targets=targets, weighted=weighted)
    size, calls = calls_of(case)
    summed = f"sum float64 {size + 2}"
    begin = calls.index(summed)
    assert set(calls[:begin]) <= {"allgather", "bcast", "greatest"}
    assert calls[:begin].count("bcast") >= 3  # the parameters, and Adam's two vectors
    assert set(calls[begin:]) == {summed, "greatest", "allgather"}
    assert calls.count(summed) == 2 * len(range(0, 40 - 6 * weighted, 8))
    assert calls[begin:].count("allgather") == 2  # after each epoch: are all equal?
    assert all(calls[k + 1] == "greatest" for k, call in enumerate(calls) if call == summed)


def test_batch_norm_sums_its_statistics_besides():
    case = Case(
        lambda: [L(FEATURES, 7), xpnet.BatchNorm1d(7), L(7, CLASSES)], n=8, batch_size=8, epochs=1
    )
    size, calls = calls_of(case)
    sums = [call for call in calls if call.startswith("sum")]
    assert sums == ["sum float64 7"] * 4 + [f"sum float64 {size + 2}"]


# ---- the backend of a network that shares its batches -------------------------------------------


@pytest.mark.parametrize("options", [{"dtype": "float32"}, MODE], ids=["ordinary", "reproducible"])
def test_a_network_is_as_any_other_one_afterwards(alone, options):
    """It is copied, pickled, trained on alone, and gives the same outputs."""
    case = replace(SMALL, **options)
    X, _ = case.data()

    def fit(comm):
        trainer = case.trainer(comm)
        case.fit(trainer)
        case.fit(trainer)  # goes on
        return trainer.net

    (wanted,) = team(1, fit)
    for net in team(3, fit):
        assert repr(net.xp) == repr(wanted.xp)
        outputs = net.predict(X)
        assert outputs == pytest.approx(wanted.predict(X), rel=1e-4, abs=1e-5)
        for other in (net.copy(), pickle.loads(pickle.dumps(net)), net):
            assert np.array_equal(other.predict(X), outputs)
        before = net.sha256()
        xpnet.Trainer(net, "softmax_cross_entropy").fit(*case.data(), epochs=1)
        assert net.sha256() != before
        assert repr(net.to("numpy").xp) == repr(wanted.xp)
        assert type(net.xp) is type(wanted.xp)


@pytest.mark.parametrize("reproducible", [False, True])
def test_a_backend_is_split_once(reproducible):
    """A second training uses it again; one with other processes begins with what is beneath."""
    xp, comm = find_backend("numpy", reproducible), Communicator()
    first = shared(xp, comm)
    assert shared(first, comm) is first
    other = shared(first, Communicator())
    assert other is not first
    assert other.whole is xp


def test_merged_gradients_are_sums_over_all_processes():
    """No layer asks for them in reproducible mode; a layer of one's own may."""
    dY, Y = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)

    class Bias(xpnet.Layer):
        def __init__(self):
            super().__init__()
            self.parameter("b", (3,), "zeros")

    def gradient(comm):
        xp, share = shared(find_backend("numpy", True), comm), comm.share(7)
        net = xpnet.Sequential(Bias(), backend=xp)
        rows = slice(share.first, share.first + share.rows)
        with xp.backward_over(share, net):
            out = xp.empty(dY[rows].shape, Y.dtype)
            xp.affine_grad(dY[rows], Y[rows], "relu", out=out, db=net[0].db)
        return net.grads.tobytes()

    (wanted,) = team(1, gradient)
    for size in SIZES:
        assert team(size, gradient, backwards) == [wanted] * size


# ---- which processes there are ------------------------------------------------------------------

NAMES = (
    *("PMI_SIZE", "PMI_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK", "PMIX_RANK"),
    *("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "SLURM_STEP_NUM_TASKS"),
)


@pytest.fixture
def _alone(monkeypatch):
    """No mpiexec has started this process, and mpi4py cannot be imported."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "xpnet.parallel.mpi", raising=False)
    monkeypatch.setitem(sys.modules, "mpi4py", None)


@pytest.mark.usefixtures("_alone")
def test_without_mpi_there_is_one_process(monkeypatch):
    assert communicator() is communicator("auto") is communicator("single") is ALONE
    assert (ALONE.rank, ALONE.size, ALONE.local_rank, ALONE.local_size) == (0, 1, 0, 1)
    monkeypatch.setenv("PMI_SIZE", "4")
    assert communicator("single") is ALONE
    monkeypatch.setenv("PMI_SIZE", "1")
    assert communicator("auto") is ALONE


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(("kind", "started"), [("mpi", "1"), ("mpi", "3"), ("auto", "3")])
def test_mpi_needs_mpi4py(monkeypatch, kind, started):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", started)
    with pytest.raises(ParallelError, match="needs mpi4py, which is not installed; run pip"):
        communicator(kind)


def test_tests_of_mpi_say_why_they_are_skipped(monkeypatch, tmp_path):
    """Where mpi4py is missing, there is no mpiexec, or mpi4py is there and no MPI."""
    why = mpi_here.why_no_mpi.__wrapped__
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    assert why().startswith("several processes need mpi4py; run pip install")
    monkeypatch.undo()
    monkeypatch.setattr(launch.shutil, "which", lambda name, path=None: None)
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: name)
    assert why().startswith("there is no mpiexec, which starts several processes; run pip install")
    monkeypatch.setattr(launch.shutil, "which", lambda name, path=None: "/bin/mpiexec")
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py/__init__.py").touch()
    (tmp_path / "mpi4py/MPI.py").write_text("raise RuntimeError('cannot load MPI library')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    reason = "RuntimeError: cannot load MPI library"
    assert why() == f"mpi4py is installed, but `from mpi4py import MPI` fails: {reason}"
    (tmp_path / "mpi4py/MPI.py").write_text("")
    assert why() == ""


@pytest.mark.usefixtures("_alone")
def test_mpi4py_without_its_mpi(monkeypatch, tmp_path):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py/__init__.py").touch()
    (tmp_path / "mpi4py/MPI.py").write_text(
        "raise ImportError('libmpi.so.12: not found', name='mpi4py.MPI')"
    )
    monkeypatch.delitem(sys.modules, "mpi4py")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ParallelError, match=r"cannot be imported \(libmpi.so.12: not found\)"):
        communicator("mpi")
    monkeypatch.delitem(sys.modules, "mpi4py")


@pytest.mark.usefixtures("_alone")
def test_processes_of_another_mpi(monkeypatch):
    """Each of them is alone, for mpi4py; more than were started there may well be."""
    world = SimpleNamespace(size=1)
    monkeypatch.setitem(sys.modules, "xpnet.parallel.mpi", SimpleNamespace(world=lambda: world))
    monkeypatch.setenv("PMI_SIZE", "4")
    with pytest.raises(ParallelError, match="4 processes have been started, but mpi4py sees 1"):
        communicator()
    world.size = 4
    assert communicator() is world
    monkeypatch.delenv("PMI_SIZE")
    assert communicator("mpi") is world


def test_there_is_no_such_communicator():
    with pytest.raises(OptionError, match="unknown communicator 'mpy'"):
        communicator("mpy")


@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize(
    ("given", "size", "rank"),
    [
        ("", 1, 0),
        ("PMI_SIZE=3 PMI_RANK=2", 3, 2),
        ("OMPI_COMM_WORLD_SIZE=3 OMPI_COMM_WORLD_RANK=1", 3, 1),
        ("MV2_COMM_WORLD_SIZE=5 MV2_COMM_WORLD_RANK=4", 5, 4),
        ("SLURM_STEP_NUM_TASKS=6", 1, 0),
        ("SLURM_STEP_NUM_TASKS=6 PMIX_RANK=2", 6, 2),
        ("PMI_SIZE=? PMI_RANK=-1", 1, 0),
        ("PMI_SIZE=0", 1, 0),
    ],
)
def test_what_the_environment_tells(monkeypatch, given, size, rank):
    for pair in given.split():
        monkeypatch.setenv(*pair.split("="))
    assert (processes_started(), rank_started()) == (size, rank)


def test_trainings_of_one_process_do_not_need_mpi4py():
    code = "import sys, xpnet; xpnet.parallel.communicator(); print('mpi4py' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings(), capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"


# ---- processes of MPI ---------------------------------------------------------------------------


def surroundings():
    """Return the environment of a process that has the same xpnet, and one thread."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    own = {name: value for name, value in os.environ.items() if name not in NAMES}
    return own | dict.fromkeys(THREADS, "1") | {"PYTHONPATH": paths, "PYTHONUTF8": "1"}


def begun(command, **environment):
    """Start a command whose processes end together with it."""
    return subprocess.Popen(
        command,
        env=surroundings() | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process, limit=LIMIT):
    """Wait for a command; returns its exit code, standard output and standard error."""
    try:
        out, err = process.communicate(timeout=limit)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # nothing is left of it, whatever has happened
        process.wait()
    return SimpleNamespace(code=process.returncode, out=out, err=err)


def worker(processes, *arguments):
    """Start `parallel_worker` on so many processes."""
    command = [*start(processes), HELPERS / "parallel_worker.py", *arguments]
    return begun(list(map(str, command)), PYTHONWARNINGS="error")


@pytest.fixture(scope="module")
def real(mpi, tmp_path_factory):
    """Return what each rank of 1, 2, 3 and 4 processes has found, and the numbers of rank 0."""
    folder, found = tmp_path_factory.mktemp("real"), {}
    X, t = golden.load("digits")
    np.savez(folder / "digits.npz", X=X, t=t)
    for size in (4, 3, 2, 1):  # those of 4 leave checkpoints for the others
        done = ended(worker(size, folder))
        assert done.code == 0, done.err
        ranks = json.loads((folder / f"{size}.json").read_text(encoding="utf-8"))
        with np.load(folder / f"{size}.npz") as file:
            for name, a in file.items():
                group, case, key = name.split("/")
                outcome = ranks[0][group][case]
                outcome["values"] = {**_dict(outcome["values"]), key: a}
        found[size] = ranks
    return found


def _dict(value):
    return value if isinstance(value, dict) else {}


@pytest.mark.thorough
def test_all_ranks_take_part(real):
    for size, ranks in real.items():
        assert [rank["about"] for rank in ranks] == [[k, size, k, size] for k in range(size)]


@pytest.mark.thorough
@pytest.mark.parametrize("size", SIZES)
def test_the_methods_of_a_real_communicator(real, size):
    last = size - 1
    for rank in real[size]:
        assert rank["primitives"] == {
            "sum": [size * last / 2, -size * last / 2, 1.5 * size],
            "max": [last, 0, 1.5],
            "bcast_array": [0, 0, 1.5],
            "bcast": [0],
            "allgather": [[k] for k in range(size)],
            "greatest": 10 + last,
            "least": -5,
            "large": 2**40 * size,
        }


@pytest.mark.thorough
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", ORDINARY)
def test_real_processes_give_the_result_of_one(real, name, size):
    (alone,) = real[1]
    agree(real[size][0]["ordinary"][name], alone["ordinary"][name], TOLERANCE[ORDINARY[name].dtype])


@pytest.mark.thorough
@pytest.mark.parametrize("size", SIZES)
def test_real_processes_are_equal_after_each_epoch(real, size):
    first, *others = real[size]
    for group in ("ordinary", "reproducible", "resumed"):
        for name, outcome in first[group].items():
            for other in others:
                assert other[group][name]["hashes"] == outcome["hashes"], name
                assert other[group][name]["history"] == outcome["history"], name


@pytest.mark.thorough
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", REPRODUCIBLE)
def test_real_processes_give_the_bits_of_one(real, name, size):
    (alone,) = real[1]
    are_the_same(real[size][0]["reproducible"][name], alone["reproducible"][name])


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, *SIZES])
@pytest.mark.parametrize("name", RECIPES)
def test_golden_hashes_hold_for_real_processes(real, name, size):
    if RECIPES[name].problem == "mnist" and not find_mnist():
        pytest.skip("no MNIST: XPNET_DATA names no folder with it")
    wanted = golden.golden_trace(RECIPES[name]).sha256["update"]
    if name in real[size][0]["golden"]:  # some are left out, as few cores take a while
        assert [rank["golden"][name] for rank in real[size]] == [wanted] * size
    else:
        assert (RECIPES[name].problem, size) in [("digits", 2), ("digits", 3)]


@pytest.mark.thorough
@pytest.mark.parametrize("size", [1, *SIZES])
@pytest.mark.parametrize("name", TO_RESUME)
def test_a_checkpoint_of_four_real_processes_goes_on(alone, real, name, size):
    for where in BREAKS:
        went_on(real[size][0]["resumed"][f"{name} {where}"], name, alone)


@pytest.mark.thorough
def test_real_processes_that_are_not_given_the_same_say_so(real):
    for size in (3, 4):
        for rank in real[size]:
            assert "the batch_size is 51 on rank 2 and 50 on rank 0" in rank["disagreement"]
