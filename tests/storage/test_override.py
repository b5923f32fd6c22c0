"""What differs between a checkpoint and the script that goes on from it is named, line by line."""

from __future__ import annotations

import ast
import functools
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import schedules
from xpnet.storage.training_file import read_training
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.errors import CheckpointError, OptionError
from xpnet.training.callbacks import Callback

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(40, 4)).astype(np.float32)
T = DRAW.integers(0, 3, 40)
W = DRAW.uniform(0.5, 1.0, 40)


def make(
    optimizer=xpnet.SGD, *, dropout=0.25, n=8, loss="softmax_cross_entropy", seed=0, **options
):
    layers = xpnet.Linear(4, n), xpnet.Tanh(), xpnet.Dropout(dropout), xpnet.Linear(n, 3)
    net = xpnet.Sequential(*layers, backend="numpy")
    return xpnet.Trainer(net, loss, optimizer(net, **{"lr": 0.1, **options}), seed=seed)


def fit(made, folder=None, callbacks=(), X=X, t=T, **options):
    keep = [] if folder is None else [xpnet.Checkpoint(folder, every_steps=1)]
    options = {"epochs": 3, "batch_size": 16, **options}
    return made.fit(X, t, callbacks=[*keep, *callbacks], **options)


class Breaks(Callback):
    """Breaks the training off in the middle of its second epoch."""

    def on_train_batch_begin(self, batch, logs):
        if (self.trainer.epoch, batch) == (1, 1):
            raise InterruptedError


def broken_off(folder, made=None, callbacks=(), **options):
    with pytest.raises(InterruptedError):
        fit(made or make(), folder, [*callbacks, Breaks()], **options)


def everything(made):
    vectors = made.optimizer.state_vectors()
    numbers = {k: v.tobytes() for k, v in (made.net.state_dict() | vectors).items()}
    progress = made.epoch, made.epochs, made.batch, made.first_epoch, made.resumed, made.stop
    return numbers, made.optimizer.t, made.optimizer.lr, dict(made.history), progress


def changed(a, place, value):
    a = a.copy()
    a[place] = value
    return a


CASES = {  # what the script has made otherwise, and the names in the error
    "lr": (lambda: make(lr=1e-4), {}, ["lr: was 0.1, is 0.0001"]),
    "momentum": (lambda: make(momentum=0.9), {}, ["momentum: was 0.0, is 0.9"]),
    "weight decay": (lambda: make(weight_decay=0.1), {}, ["weight_decay: was 0.0, is 0.1"]),
    "clip_norm": (lambda: make(clip_norm=1), {}, ["clip_norm: was None, is 1.0"]),
    "a schedule": (
        lambda: make(lr=schedules.Cosine(0.1, 99)),
        {},
        ["lr: was 0.1, is Cosine(lr=0.1, steps=99, final=0.0)"],
    ),
    "optimizer": (
        lambda: make(xpnet.Adam, lr=0.1),
        {},
        ["optimizer: was 'SGD', is 'Adam'"],
    ),
    "two": (
        lambda: make(lr=1e-4, nesterov=True, momentum=0.9),
        {},
        ["lr: ", "momentum: was 0.0, is 0.9", "nesterov: was False, is True"],
    ),
    "loss": (lambda: make(loss="mse"), {"t": np.eye(3)[T]}, ["loss: ", "data: "]),
    "seed": (lambda: make(seed=3), {}, ["seed: was 0, is 3"]),
    "dropout": (lambda: make(dropout=0.5), {}, ["network: layer 2 was ['Dropout', {'p': 0.25"]),
    "batch size": (make, {"batch_size": 8}, ["batch_size: was 16, is 8"]),
    "whole batch": (make, {"batch_size": None}, ["batch_size: was 16, is 'all'", "shuffle: "]),
    "shuffle": (make, {"shuffle": False}, ["shuffle: was True, is False"]),
    "inputs": (make, {"X": changed(X, (20, 2), 7)}, ["data: was 40 samples, X "]),
    "targets": (make, {"t": changed(T, 39, (T[39] + 1) % 3)}, ["data: was 40 samples, X "]),
    "fewer samples": (make, {"X": X[:39], "t": T[:39]}, ["data: was 40 samples, X "]),
    "weights": (make, {"sample_weight": W}, ["sample_weight: was None, is "]),
    "validation": (make, {"validation_data": (X, T)}, ["validation_data: was None, is 40 "]),
    "callbacks": (make, {"callbacks": [xpnet.EarlyStopping("loss")]}, ["callbacks: was {}, is "]),
}


@pytest.mark.parametrize("case", CASES)
def test_what_differs_is_named_and_the_advice_of_the_error_helps(tmp_path, case):
    script, options, lines = CASES[case]
    broken_off(tmp_path)
    made = script()
    before = everything(made)
    with pytest.raises(CheckpointError, match="is of another training:\n") as caught:
        fit(made, resume=tmp_path, **options)
    assert everything(made) == before
    said = str(caught.value).splitlines()[1:-1]
    starts = [line.split(": ")[0].strip() for line in said]
    for line in lines:
        assert any(other.strip().startswith(line) for other in said)
    advised = ast.literal_eval(re.search(r"override=(\(.*\))\)$", str(caught.value))[1])
    assert sorted(advised) == sorted(starts)
    for name in advised:  # each of them is needed
        rest = [other for other in advised if other != name]
        with pytest.raises(CheckpointError, match=f"\n  {name}: "):
            fit(script(), resume=tmp_path, override=rest, **options)
    resumed = script()
    fit(resumed, resume=tmp_path, override=advised, **options)
    assert (resumed.epoch, resumed.resumed) == (3, True)


class Takes(Callback):
    """Notes the learning rate, momentum and decay of each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_begin(self, batch, logs):
        optimizer = self.trainer.optimizer
        self.seen.append((optimizer.lr, optimizer.momentum, optimizer.weight_decay))


def test_what_is_overridden_takes_effect_from_the_next_step_on(tmp_path):
    """It is as if the script had been changed by hand between two steps."""
    options = {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1}
    broken_off(tmp_path)
    resumed, notes = make(**options), Takes()
    fit(resumed, callbacks=[notes], resume=tmp_path, override=tuple(options))
    assert set(notes.seen) == {(0.01, 0.5, 0.1)}
    assert len(notes.seen) == 9 - 4

    class Changes(Callback):
        def on_train_batch_begin(self, batch, logs):
            if (self.trainer.epoch, batch) == (1, 1):
                for name, value in options.items():
                    setattr(self.trainer.optimizer, name, value)

    by_hand = make()
    fit(by_hand, callbacks=[Changes()])
    assert resumed.net.sha256() == by_hand.net.sha256()


def test_an_epoch_whose_batches_are_others_begins_again(tmp_path):
    broken_off(tmp_path)
    assert read_training(sorted(tmp_path.glob("*.npz"))[-1]).about["progress"]["batch"] == 1
    resumed, notes = make(), Takes()
    fit(resumed, callbacks=[notes], resume=tmp_path, batch_size=10, override="batch_size")
    assert len(notes.seen) == 2 * 4
    assert resumed.optimizer.t == 4 + 2 * 4
    assert len(resumed.history["loss"]) == 3


def test_another_optimizer_begins_with_no_memory_and_counts_on(tmp_path):
    broken_off(tmp_path, make(xpnet.Adam))
    made = make(xpnet.AdamW)

    class Looks(Callback):
        def on_train_begin(self, logs):
            self.m, self.t = made.optimizer.m.copy(), made.optimizer.t
            self.powers = made.optimizer.powers.tolist()

    looks = Looks()
    fit(made, callbacks=[looks], resume=tmp_path, override=("optimizer", "weight_decay"))
    assert not looks.m.any()
    assert (looks.t, looks.powers) == (4, [1.0, 1.0])


def test_the_same_values_are_the_same_data_whatever_holds_them(tmp_path, strict):
    class Table(list):
        pass

    broken_off(tmp_path, validation_data=(X, T), sample_weight=W)
    whole = make()
    fit(whole, validation_data=(X, T), sample_weight=W)
    forms = [
        (X.astype(np.float64), T.astype(np.int8)),
        (np.asfortranarray(X), T.astype(np.uint64)),
        (X.tolist(), T.tolist()),
        (np.repeat(X, 2, axis=0)[::2], T[::-1][::-1]),
        (X.astype(">f4"), T.astype(">i2")),
        (strict.asarray(X), T),
    ]
    for inputs, targets in forms:
        resumed = make()
        fit(resumed, X=inputs, t=targets, resume=tmp_path, validation_data=(inputs, targets),
            sample_weight=list(2 * W))  # fmt: skip
        assert resumed.net.sha256() == whole.net.sha256()
    on_device = make()
    on_device.net.to(strict)
    fit(on_device, resume=tmp_path, validation_data=(X, T), sample_weight=W)
    assert on_device.epoch == 3


def test_more_epochs_are_no_other_training_and_fewer_than_done_are_refused(tmp_path):
    fit(make(), tmp_path, epochs=4)
    longer, whole = make(), make()
    fit(longer, epochs=6, resume=tmp_path)
    fit(whole, epochs=6)
    assert longer.net.sha256() == whole.net.sha256()
    fit(make(), epochs=6, resume=tmp_path, override=("epochs",))
    with pytest.raises(CheckpointError, match=r"epochs: 4 have been trained, is 3\n.*'epochs'"):
        fit(make(), epochs=3, resume=tmp_path)
    done = make()
    fit(done, epochs=3, resume=tmp_path, override=("epochs",))
    assert done.optimizer.t == 12


# ---- schedules ----------------------------------------------------------------------------------


class Own:
    def __init__(self, lr):
        self.lr = lr

    def __call__(self, step):
        return self.lr / (1 + step)


def power(step, lr):
    return lr * 0.9**step


PAIRS = {
    "cosine": (schedules.Cosine(0.1, 10), schedules.Cosine(9.0, 999), True),
    "the same": (schedules.Cosine(0.1, 10), schedules.Cosine(0.1, 10), False),
    "a late step": (schedules.Step(0.1, 1000), schedules.Step(0.1, 1001), True),
    "warm up": (
        schedules.WarmUp(lambda t: 0.1, 5),
        schedules.WarmUp(lambda t: 0.1 + 0 * t, 5),
        False,
    ),
    "lambda": (lambda t: 0.1 / (1 + t), lambda t: 0.1 / (1 + t), False),
    "other lambda": (lambda t: 0.1 / (1 + t), lambda t: 0.1 / (1.001 + t), True),
    "partial": (functools.partial(power, lr=0.1), functools.partial(power, lr=0.2), True),
    "an object": (Own(0.1), Own(0.1), False),
    "another object": (Own(0.1), Own(0.2), True),
    "a list": ([0.1 + 0.01 * k for k in range(30)].__getitem__,
               [0.1 + 0.01 * k for k in range(30)].__getitem__, False),
    "to a number": (lambda t: 0.1, 0.1, True),
}  # fmt: skip


@pytest.mark.parametrize("pair", PAIRS)
def test_schedules_are_compared_by_what_they_give(tmp_path, pair):
    was, now, differ = PAIRS[pair]
    broken_off(tmp_path, make(lr=was))
    if not differ:
        whole, resumed = make(lr=was), make(lr=now)
        fit(whole)
        fit(resumed, resume=tmp_path)
        assert resumed.net.sha256() == whole.net.sha256()
        return
    with pytest.raises(CheckpointError, match=r"\n  lr: was .*, is ") as caught:
        fit(make(lr=now), resume=tmp_path)
    assert " at 0x" not in str(caught.value)
    fit(make(lr=now), resume=tmp_path, override="lr")


class Sets(Callback):
    """Sets something after the first epoch."""

    def __init__(self, **numbers):
        self.numbers = numbers

    def on_epoch_end(self, epoch, logs):
        if epoch == 0:
            for name, value in self.numbers.items():
                setattr(self.trainer.optimizer, name, value)


@pytest.mark.parametrize(
    "numbers",
    [{"lr": 0.01}, {"momentum": 0.9}, {"weight_decay": 0.1, "clip_norm": 0.5}, {"nesterov": True}],
)
def test_what_a_callback_has_set_comes_back(tmp_path, numbers):
    def script():
        return make(momentum=0.5), Sets(**numbers)

    whole, sets = script()
    fit(whole, callbacks=[sets])
    made, sets = script()
    broken_off(tmp_path, made, [sets])
    resumed, _ = script()
    fit(resumed, resume=tmp_path)
    assert everything(resumed)[:-1] == everything(whole)[:-1]
    with pytest.raises(CheckpointError, match=r"momentum: was 0\.5, is 0\.4"):
        fit(make(momentum=0.4), resume=tmp_path)
    other, as_made = make(momentum=0.5), make(momentum=0.5).optimizer
    fit(other, callbacks=[Sets(**numbers)], resume=tmp_path, override=[*numbers])
    assert all(getattr(other.optimizer, k) == getattr(as_made, k) for k in numbers)


def test_a_schedule_that_was_set_during_the_training_is_asked_for(tmp_path):
    made, cosine = make(), schedules.Cosine(0.1, 20)
    broken_off(tmp_path, made, [Sets(lr=cosine)])
    whole = make()
    fit(whole, callbacks=[Sets(lr=cosine)])
    with pytest.raises(CheckpointError, match=r"lr: was Cosine\(lr=0.1, steps=20.*, is 0.1"):
        fit(make(), resume=tmp_path)
    resumed = make(lr=cosine)
    fit(resumed, resume=tmp_path)
    assert resumed.net.sha256() == whole.net.sha256()


# ---- names --------------------------------------------------------------------------------------


def test_names_that_are_none_are_refused_before_the_first_step(tmp_path):
    made = make()
    for override, words in [
        ("learning_rate", "override: unknown setting 'learning_rate'; choose from .*, lr, "),
        (["lr", "moment"], "did you mean 'momentum'"),
        (3, "override names settings"),
        ([3], "unknown setting 3"),
    ]:
        with pytest.raises(OptionError, match=words):
            fit(made, override=override)
    assert made.optimizer.t == 0


def test_an_optimizer_of_ones_own_has_settings_of_its_own(tmp_path):
    class Signs(xpnet.Optimizer):
        def __init__(self, net, lr=0.01, *, floor=0.0):
            super().__init__(net, lr)
            self.floor = floor

        def update(self, p, g):
            self.xp.sgd(p, g, self.rate, work=self.work)

    broken_off(tmp_path, make(Signs))
    with pytest.raises(CheckpointError, match=r"floor: was 0.0, is 1.0\n.*\('floor',\)"):
        fit(make(Signs, floor=1.0), resume=tmp_path)
    fit(make(Signs, floor=1.0), resume=tmp_path, override=("floor",))


def test_parameters_that_do_not_fit_cannot_be_overridden(tmp_path):
    broken_off(tmp_path)
    for override in [(), ("network",)]:
        with pytest.raises(CheckpointError, match="network: layer 0 was") as caught:
            fit(make(n=9), resume=tmp_path, override=override)
        assert str(caught.value).endswith("\nmake each as it was")


# ---- all or nothing -----------------------------------------------------------------------------


class Refuses(Callback):
    """Does not take what it remembered."""

    def state_dict(self):
        return {"a": 1}

    def load_state_dict(self, state):
        raise state["a"]


def raising(error):
    def load_state_dict(self, state):
        raise error

    return load_state_dict


@pytest.mark.parametrize("error", [ValueError, AttributeError, KeyboardInterrupt])
def test_nothing_has_changed_if_a_callback_refuses(tmp_path, monkeypatch, error):
    def callbacks():
        return [xpnet.EarlyStopping("loss", patience=9), Refuses()]

    broken_off(tmp_path, make(momentum=0.9), callbacks())
    made = make(momentum=0.9)
    fit(made, epochs=1)  # it has a past of its own
    made.optimizer.lr = 0.1
    before = everything(made)
    monkeypatch.setattr(Refuses, "load_state_dict", raising(error))
    with pytest.raises((CheckpointError, error)):
        fit(made, callbacks=callbacks(), resume=tmp_path)
    assert everything(made) == before


def spoil(folder, change):
    path = sorted(folder.glob("*.npz"))[-1]
    arrays, about = read_archive(path)
    change(arrays, about)
    write_archive(path, arrays, about)
    return path


@pytest.mark.parametrize("name", ["0.W", "optimizer.v", "EarlyStopping0.weights.0.W"])
def test_numbers_that_are_none_are_refused(tmp_path, name):
    broken_off(tmp_path, make(momentum=0.9), [xpnet.EarlyStopping("loss")])
    path = spoil(tmp_path, lambda arrays, about: arrays[name].flat.__setitem__(0, np.nan))
    made = make(momentum=0.9)
    before = everything(made)
    with pytest.raises(CheckpointError, match=r"not finite"):
        fit(made, callbacks=[xpnet.EarlyStopping("loss")], resume=path)
    assert everything(made) == before


@pytest.mark.parametrize("change", ["another name", "another shape", "one is missing"])
def test_best_weights_of_another_network_are_refused_at_once(tmp_path, change):
    def other(arrays, about):
        a = arrays.pop("EarlyStopping0.weights.0.W")
        if change != "one is missing":
            name = "9.W" if change == "another name" else "0.W"
            arrays[f"EarlyStopping0.weights.{name}"] = a if change == "another name" else a[1:]

    broken_off(tmp_path, make(), [xpnet.EarlyStopping("loss")])
    made = make()
    before = everything(made)
    with pytest.raises(CheckpointError, match="EarlyStopping0 does not take it"):
        fit(made, callbacks=[xpnet.EarlyStopping("loss")], resume=spoil(tmp_path, other))
    assert everything(made) == before


# ---- files of the first release -----------------------------------------------------------------


def test_a_checkpoint_of_the_first_release_says_what_it_cannot_compare(caplog):
    path = Path(__file__).parents[1] / "saved" / "checkpoint-1.npz"
    about = json.loads(json.dumps(read_archive(path)[1]))
    assert "constant lr" in about["settings"]  # as the first release wrote it
    from test_checkpoint import fit as fit_then
    from test_checkpoint import make as make_then

    def script(lr=0.01, **options):
        return make_then(
            backend=xpnet.backend.find_backend("numpy", reproducible=True), lr=lr, **options
        )

    fit_then(script(), [xpnet.EarlyStopping()], resume=path)
    (said,) = [r.getMessage() for r in caplog.records if "earlier xpnet" in r.getMessage()]
    assert "beta1" in said
    assert "validation_data" in said
    for made, line in [
        (script(lr=0.02), "lr: was 0.01, is 0.02"),
        (script(seed=1), "seed: was 0, is 1"),
    ]:
        with pytest.raises(CheckpointError, match=line):
            fit_then(made, [xpnet.EarlyStopping()], resume=path)
    fit_then(script(lr=0.02), [xpnet.EarlyStopping()], resume=path, override="lr")


def test_short_columns_of_a_history_belong_to_the_fit_that_had_them():
    from xpnet.storage.training_state import aligned

    nan = math.nan
    later = aligned({"loss": [1.0, 2, 3, 4, 5], "val_loss": [7.0, 8]}, 3)
    np.testing.assert_equal(later["val_loss"], [nan, nan, nan, 7, 8])
    before = aligned({"loss": [1.0, 2, 3, 4, 5], "val_loss": [7.0, 8, 9]}, 3)
    np.testing.assert_equal(before["val_loss"], [7, 8, 9, nan, nan])
    assert aligned({}, 3) == {}
