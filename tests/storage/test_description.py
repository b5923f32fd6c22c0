"""Fields of files: each takes effect, or is refused or said; nothing is ignored."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from test_override import Sets, T, X, broken_off, everything, fit, make

import xpnet
from xpnet.storage.training_file import find_checkpoints
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.errors import CheckpointError

RATE = {"schedule": "Cosine", "steps": [0], "rates": [0.1]}
PRINTS = {"samples": 40, "X": 1, "t": 2}
NEWER = "was it written by a newer xpnet"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A checkpoint in the middle of an epoch."""
    folder = tmp_path_factory.mktemp("saved")
    broken_off(folder, callbacks=[xpnet.EarlyStopping("loss")], validation_data=(X, T))
    return read_archive(find_checkpoints(folder)[-1])


def resume(path, made=None, callbacks=None):
    callbacks = [xpnet.EarlyStopping("loss")] if callbacks is None else callbacks
    fit(made or make(), callbacks=callbacks, resume=path, validation_data=(X, T))


def written(path, saved, place, value):
    """Write the checkpoint with another value at a dotted place."""
    arrays, about = copy.deepcopy(saved)
    inner, (*first, last) = about, place.split(".")
    for name in first:
        inner = inner[name]
    inner[last] = value
    write_archive(path, arrays, about)
    return path


OTHER_KINDS = {
    "network": [None, 3.5, {}, {"layers": 3.5}, {"layers": None}],
    "settings": [None, []],
    "settings.lr": [None, "x", 1, -0.1, {}, {**RATE, "steps": 3}, {**RATE, "rates": []},
                    {**RATE, "steps": [10**40]}, {**RATE, "rates": [10**400]}, {**RATE, "more": 1},
                    {**RATE, "schedule": None}],
    "settings.data": [None, {}, 3, {**PRINTS, "X": "x"}, {**PRINTS, "t": -1}, {**PRINTS, "y": 1},
                      {**PRINTS, "weights": 1}, {"samples": 40, "X": 1}],
    "settings.sample_weight": [{}, 0.5, "x", True],
    "settings.validation_data": [{}, 0.5, {**PRINTS, "X": 1.5}, {**PRINTS, "y": 1}],
    "settings.callbacks": [None, [], {"EarlyStopping0": 3}],
    "progress": [None, 3],
    "progress.epoch": [-1, 0.5, True],
    "progress.first_epoch": [-1, 2**53],
    "progress.epochs": [2**64, None],
    "progress.stop": [0, None],
    "schedule": [3, "x", {"schedule": "Cosine"}, {**RATE, "rates": ["x"]}],
    "changed": [None, 3, "x", {"momentum": "x"}, {"momentum": []}, {"momentum": 10**400}],
    "history": [["loss", "loss"], ["loss", 3], "loss", None],
    "callbacks": [None, {"EarlyStopping0": 1}],
    "t": [-1, 1.0, True, None],
    "lr": ["x", 1, -1.0],
    "machine": [None, []],
}  # fmt: skip


@pytest.mark.parametrize("place", OTHER_KINDS)
def test_a_field_of_another_kind_is_named(tmp_path, saved, place):
    path, made = tmp_path / "a.npz", make()
    for value in OTHER_KINDS[place]:
        written(path, saved, place, value)
        with pytest.raises(CheckpointError, match=f"a.npz is damaged: its {place} is "):
            resume(path, made)
    assert made.optimizer.t == 0


def test_the_checkpoint_itself_goes_on(tmp_path, saved, caplog):
    made = make()
    resume(written(tmp_path / "a.npz", saved, "xpnet", "0.1.0"), made)
    assert made.epoch == 3
    assert not caplog.records


@pytest.mark.parametrize("name", ["unknwon", "batch_norm"])
@pytest.mark.parametrize("place", ["", "progress.", "settings.", "settings.data.", "network."])
def test_an_unknown_field_is_refused_by_name(tmp_path, saved, place, name):
    path = written(tmp_path / "a.npz", saved, place + name, 1)
    with pytest.raises(CheckpointError, match=name):
        resume(path)
    if place in ("", "progress."):
        words = f"damaged: .*unknown field '{place}{name}'; {NEWER}"
        with pytest.raises(CheckpointError, match=words):
            resume(path)
    if not place:
        with pytest.raises(CheckpointError, match=f"unknown field '{name}'; {NEWER}"):
            xpnet.load(path)


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_field_that_is_missing_is_named_or_said(tmp_path, saved, caplog, name):
    arrays, about = copy.deepcopy(saved)
    inner, (*first, last) = about, name.split(".")
    for word in first:
        inner = inner[word]
    del inner[last]
    write_archive(tmp_path / "a.npz", arrays, about)
    if first != ["settings"] or last == "lr":
        with pytest.raises(CheckpointError, match=f"its {name} is missing"):
            resume(tmp_path / "a.npz")
        return
    resume(tmp_path / "a.npz")
    (said,) = [record.getMessage() for record in caplog.records]
    assert f"{last} could not be compared" in said


@pytest.mark.parametrize("name", ["optimizer.q", "history.9", "junk", "Early.weights"])
def test_an_array_that_nothing_reads_is_refused(tmp_path, saved, name):
    arrays, about = saved
    write_archive(tmp_path / "a.npz", {**arrays, name: np.zeros(3)}, about)
    made = make()
    before = everything(made)
    with pytest.raises(
        CheckpointError, match=f"a.npz is damaged: .*unknown array '{name}'; {NEWER}"
    ):
        resume(tmp_path / "a.npz", made)
    assert everything(made) == before


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"best": 1.0, "best_epoch": 0, "patience": 3.5}, "'patience' is 3.5"),
        ({"best": 1.0, "best_epoch": 0, "weights.9.W": 3.5}, "'weights.9.W' is 3.5"),
        ({"best": 1.0, "best_epoch": 1}, "best_epoch is 1"),
        ({"best": "x", "best_epoch": 0}, "best must be a number"),
        ({"best": 1.0}, "best_epoch"),
    ],
)
def test_what_early_stopping_remembered_is_checked(tmp_path, saved, state, words):
    arrays, about = copy.deepcopy(saved)
    about["callbacks"]["EarlyStopping0"] = state
    write_archive(tmp_path / "a.npz", arrays, about)
    with pytest.raises(CheckpointError, match=f"EarlyStopping0 does not take it .*{words}"):
        resume(tmp_path / "a.npz")


def test_a_callback_of_which_nothing_is_saved_begins_anew_and_that_is_said(tmp_path, saved, caplog):
    arrays, about = copy.deepcopy(saved)
    about["callbacks"] = {}
    arrays = {k: a for k, a in arrays.items() if not k.startswith("Early")}
    write_archive(tmp_path / "a.npz", arrays, about)
    resume(tmp_path / "a.npz")
    assert "nothing that EarlyStopping0 remembered: it begins anew" in caplog.text


def test_a_number_that_the_optimizer_does_not_have_is_said(tmp_path, caplog):
    broken_off(tmp_path, callbacks=[Sets(own_number=3.0)])
    fit(make(), resume=tmp_path)
    assert "was set on the optimizer does not come back: own_number" in caplog.text


# ---- networks ----------------------------------------------------------------------------------


def network(path, change, arrays=None):
    inner = xpnet.Sequential(xpnet.Linear(3, 3), seed=5)
    net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Dropout(0.3), inner, seed=3)
    about = {"network": json.loads(json.dumps(net.config()))}
    change(about)
    write_archive(path, net.state_dict() | (arrays or {}), about)
    return net


def test_fields_of_a_network_that_nobody_knows_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    for change in (
        lambda about: about.update(more=1),
        lambda about: about["network"].update(more=1),
        lambda about: about["network"]["layers"][2][1].update(more=1),
    ):
        network(path, change)
        with pytest.raises(CheckpointError, match=f"unknown field 'more'; {NEWER}"):
            xpnet.load(path)
    network(path, lambda about: None, {"more": np.zeros(2)})
    with pytest.raises(CheckpointError, match=f"unknown array 'more'; {NEWER}"):
        xpnet.load(path)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"seed": "x"}, {"dtype": "int8"}])
def test_an_inner_network_is_checked(tmp_path, wrong):
    network(tmp_path / "a.npz", lambda about: about["network"]["layers"][2][1].update(wrong))
    with pytest.raises(
        CheckpointError, match=f"{next(iter(wrong))}.* is {next(iter(wrong.values()))!r}"
    ):
        xpnet.load(tmp_path / "a.npz")


def test_an_inner_network_keeps_its_seed(tmp_path):
    net = network(tmp_path / "a.npz", lambda about: None)
    assert xpnet.load(tmp_path / "a.npz").config() == net.config()


def test_arguments_that_a_file_does_not_give_are_said(tmp_path, caplog):
    def lacking(about):
        layers = about["network"]["layers"]
        del layers[0][1]["bias"], layers[1][1]["p"], layers[2][1]["layers"][0][1]["bias"]

    network(tmp_path / "a.npz", lacking)
    net = xpnet.load(tmp_path / "a.npz")
    assert net[1].p == 0.5
    (said,) = [record.getMessage() for record in caplog.records]
    assert "0.bias of Linear, 1.p of Dropout, 2.0.bias of Linear; the defaults are taken" in said
