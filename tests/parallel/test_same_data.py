"""Several processes have the same data, each value of it, also where a training goes on."""

from __future__ import annotations

import re

import numpy as np
import pytest
from team import outcomes, team

import xpnet
from xpnet.data import mapped
from xpnet.parallel.communicator import ALONE
from xpnet.support.errors import CheckpointError, ParallelError
from xpnet.training import fingerprints

DRAW = np.random.default_rng(0)
X, W = DRAW.normal(size=(300, 4)), DRAW.uniform(0.5, 1, 300)
X[200, 3] = 0.0
T = DRAW.integers(0, 3, 300)
VALIDATION = X[:250] + 1, T[:250]


def fit(comm, X=X, t=T, *, w=W, validation=VALIDATION, **options):
    layers = xpnet.Linear(4, 5), xpnet.Tanh(), xpnet.Linear(5, 3)
    net = xpnet.Sequential(*layers, backend="numpy")
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, 0.1), comm=comm)
    given = {"sample_weight": w, "validation_data": validation, "epochs": 1, "batch_size": 64}
    trainer.fit(X, t, **given | options)
    return net.sha256(), trainer.epoch, trainer.optimizer.t


def other(a, place, value):
    a = a.copy()
    a[place] = value
    return a


ONE_VALUE = {
    "inputs": {"X": other(X, (200, 3), 1e-6)},
    "the sign of zero": {"X": other(X, (200, 3), -0.0)},
    "targets": {"t": other(T, 200, (T[200] + 1) % 3)},
    "sample_weight": {"w": other(W, 200, W[200] + 1e-3)},
    "validation data": {"validation": (other(VALIDATION[0], (200, 3), 7.0), T[:250])},
    "validation targets": {"validation": (VALIDATION[0], other(T, 200, (T[200] + 1) % 3)[:250])},
}


@pytest.mark.parametrize("what", ONE_VALUE)
def test_one_value_of_row_200_that_differs_is_refused_on_all(what):
    def work(comm):
        return fit(comm, **(ONE_VALUE[what] if comm.rank == 1 else {}))

    name = {"the sign of zero": "inputs"}.get(what, what)
    for error in outcomes(2, work):
        assert isinstance(error, ParallelError), error
        assert re.search(f"the fingerprint of (the )?{name} is .* on rank 1 and ", str(error))


def test_two_processes_go_on_with_other_data_only_if_told_to(tmp_path):
    fit(ALONE, callbacks=[xpnet.Checkpoint(tmp_path)])
    changed = ONE_VALUE["inputs"]
    more = {"resume": tmp_path, "epochs": 2}
    for error in outcomes(2, lambda comm: fit(comm, **changed, **more)):
        assert isinstance(error, CheckpointError | ParallelError), error
        assert "data: was 300 samples" in str(error)
    found = team(2, lambda comm: fit(comm, **changed, **more, override="data"))
    assert found[0] == found[1]
    assert found[0][1:] == (2, 10)


@pytest.mark.parametrize(("row", "seen"), [(0, True), (1, False), (4999, True)])
def test_of_a_large_mapped_file_some_rows_are_compared(tmp_path, monkeypatch, row, seen):
    """The page about checkpoints says so; the file may be larger than the memory."""
    monkeypatch.setattr(mapped, "LARGE", 0)
    monkeypatch.setattr(fingerprints, "SOME", 50)

    def written(name, X):
        np.save(tmp_path / name, X)
        return np.load(tmp_path / name, mmap_mode="r")

    rows = DRAW.normal(size=(5000, 4))
    same, changed = written("a.npy", rows), written("b.npy", other(rows, (row, 2), 9.0))
    net = xpnet.Sequential(xpnet.Linear(4, 1), backend="numpy")
    first, second = (fingerprints.fingerprint_of(net, a) for a in (same, changed))
    assert (first != second) == seen
    monkeypatch.setattr(mapped, "LARGE", 2**28)
    first, second = (fingerprints.fingerprint_of(net, a) for a in (same, changed))
    assert first != second
