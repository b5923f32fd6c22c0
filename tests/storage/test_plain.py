"""What a checkpoint cannot hold is made plain, or refused before the first step."""

from __future__ import annotations

import errno
import math
import os
import sys
from fractions import Fraction

import numpy as np
import pytest

import xpnet
from xpnet.storage.training_file import NAME, find_checkpoints, read_training
from xpnet.support import files
from xpnet.support.errors import CheckpointError, OptionError
from xpnet.training.callbacks import Callback

X = np.random.default_rng(0).normal(size=(12, 2))
T = (X[:, 0] > 0).astype(int)


def make():
    return xpnet.Trainer(xpnet.Sequential(xpnet.Linear(2, 2)), "softmax_cross_entropy", "sgd")


class Remembers(Callback):
    """Remembers a value, and is given it back."""

    def __init__(self, state):
        self.state, self.found = state, None

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.found = state


LOOP = []
LOOP.append(LOOP)
KEPT = {
    "int": (np.int32(3), 3),
    "bool": (np.bool_(True), True),
    "float": (np.float32(0.5), 0.5),
    "0-d": (np.array(0.25), 0.25),
    "infinite": (math.inf, math.inf),
    "tuple": ((1, (np.float64(-math.inf), "a")), [1, [-math.inf, "a"]]),
    "dict": ({"a": {"b": np.int8(1)}}, {"a": {"b": 1}}),
    "word": (np.str_("a"), "a"),
    "half a pair": ("\ud800", "\ud800"),
    "none": (None, None),
    "large": (2**63, 2**63),
}


@pytest.mark.parametrize("case", KEPT)
def test_values_come_back_as_plain_ones(tmp_path, case):
    given, wanted = KEPT[case]
    make().fit(X, T, callbacks=[xpnet.Checkpoint(tmp_path), Remembers({"a": given})], epochs=2)
    again = Remembers({"a": given})
    make().fit(X, T, callbacks=[again], epochs=2, resume=tmp_path)
    assert again.found == {"a": wanted}
    assert type(again.found["a"]) is type(wanted)


def test_a_number_that_is_none_comes_back(tmp_path):
    make().fit(X, T, callbacks=[xpnet.Checkpoint(tmp_path), Remembers({"a": [np.nan]})], epochs=1)
    again = Remembers({"a": [0.0]})
    make().fit(X, T, callbacks=[again], epochs=1, resume=tmp_path)
    assert math.isnan(again.found["a"][0])


@pytest.mark.parametrize("dtype", ["?", "i1", ">u2", "f2", ">f8", "i8"])
def test_arrays_of_real_numbers_come_back(tmp_path, dtype):
    a = np.asfortranarray(np.arange(6).reshape(2, 3)).astype(dtype)
    make().fit(X, T, callbacks=[xpnet.Checkpoint(tmp_path), Remembers({"a.b": a})], epochs=1)
    again = Remembers({})
    make().fit(X, T, callbacks=[again], epochs=1, resume=tmp_path)
    assert again.found["a.b"].tolist() == a.tolist()


REFUSED = {
    "set": {"a": {1}},
    "bytes": {"a": b"1"},
    "complex": {"a": 1j},
    "object": {"a": Fraction(1, 2)},
    "words": {"a": np.array(["a"])},
    "objects": {"a": np.array([None, 1])},
    "complex array": {"a": np.array([1j])},
    "dates": {"a": np.array(["2020-01-01"], "M8[D]")},
    "masked": {"a": np.ma.masked_array([1.0], [True])},
    "an array in a list": {"a": [np.zeros(2)]},
    "a number as name": {"a": {1: 2}},
    "a name": {"best value": np.zeros(2)},
    "an endless number": {"a": 2**64},
    "no dict": [1],
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_saved_is_refused_before_the_first_step(tmp_path, case):
    made, bad = make(), Remembers(REFUSED[case])
    with pytest.raises(CheckpointError, match="Remembers0"):
        made.fit(X, T, callbacks=[xpnet.Checkpoint(tmp_path), bad], epochs=1)
    assert made.optimizer.t == 0
    assert list(tmp_path.iterdir()) == []
    made.fit(X, T, callbacks=[bad], epochs=1)  # whoever saves nothing may remember anything


class Stops(Callback):
    def __init__(self, stop):
        self.as_given = stop

    def on_epoch_end(self, epoch, logs):
        if epoch % 3 == 2:
            self.trainer.stop = self.as_given


@pytest.mark.parametrize("stop", [True, 1, np.bool_(True), np.int64(1), np.array(True)])
def test_a_training_without_end_can_be_stopped_saved_and_resumed(tmp_path, stop):
    keeper, recorder = xpnet.Checkpoint(tmp_path), xpnet.Recorder()
    made = make()
    made.fit(X, T, epochs=sys.maxsize, callbacks=[keeper, recorder, Stops(stop)])
    assert made.epoch == 3
    progress = read_training(keeper.paths[-1]).about["progress"]
    assert (progress["stop"], progress["epochs"]) == (True, sys.maxsize)
    again = make()
    again.fit(X, T, epochs=sys.maxsize, resume=tmp_path)
    assert (again.epoch, again.stop) == (3, True)
    again.fit(X, T, epochs=sys.maxsize, callbacks=[Stops(True)])  # beyond the largest of C
    with pytest.raises(OptionError, match=r"at most sys\.maxsize"):
        again.fit(X, T, epochs=sys.maxsize + 1)


def test_nothing_is_written_that_the_reader_would_not_take(tmp_path):
    made = make()
    made.fit(X, T, epochs=1)
    made.save(tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()
    made.epoch = -1
    with pytest.raises(CheckpointError, match=r"a\.npz cannot be written: its progress\.epoch is "):
        made.save(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == before


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path):
    steps = [999_999_999, 1_000_000_000, 1_000_000_001, 10_000_000_000]
    for step in reversed(steps):
        (tmp_path / NAME.format(step)).touch()
    (tmp_path / "step-1.npz").touch()
    (tmp_path / "step-old-000000009.npz").touch()
    assert [int(path.stem[5:]) for path in find_checkpoints(tmp_path)] == steps


def test_many_steps_keep_the_latest(tmp_path):
    made = make()
    made.optimizer.t = 999_999_997
    keeper = xpnet.Checkpoint(tmp_path, keep=2)
    made.fit(X, T, epochs=5, callbacks=[keeper], batch_size=None)
    assert [path.name for path in keeper.paths] == ["step-1000000001.npz", "step-1000000002.npz"]


@pytest.mark.parametrize(
    ("number", "fails"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)]
)
def test_a_disk_that_cannot_sync_folders_is_no_failure(tmp_path, monkeypatch, number, fails):
    sync = os.fsync

    def of_files_only(descriptor):
        if os.path.samestat(os.fstat(descriptor), os.stat(tmp_path)):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", of_files_only)
    path = tmp_path / "a"
    if fails:
        with pytest.raises(OSError, match=os.strerror(number)):
            files.write_atomically(path, b"1")
    else:
        files.write_atomically(path, b"1")
    assert path.read_bytes() == b"1"
