"""The folder of a new training: it is the training's own, or nothing in it can be lost."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command import exit_code
from test_cli import says

from xpnet.runs import claim
from xpnet.runs.layout import OF_THE_END
from xpnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")
HERE = Path("here")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a training that is finished."""
    folder = tmp_path_factory.mktemp("claim") / "whole"
    assert (
        exit_code("train", "and", "--epochs", 2, "--plots", "none", "--quiet", "--out", folder) == 0
    )
    return folder


def everything(folder):
    return {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def train_in(run, folder):
    return run("train", "xor", "--epochs", 1, "--plots", "none", "--out", folder)


@pytest.mark.parametrize("name", ["log.jsonl", "frames.bin", "environment.json", *OF_THE_END])
def test_a_file_that_only_has_a_name_of_ours_stays(run, name):
    HERE.mkdir()
    (HERE / name).write_text("precious")
    says(train_in(run, HERE), 2, f"here has {name}, which the training would replace", "--out DIR")
    assert everything(HERE) == {HERE / name: b"precious"}


@pytest.mark.parametrize("text", ["{}", "[]", '{"port": 80}', "precious", ""])
def test_a_configuration_of_another_program_stays(run, text):
    HERE.mkdir()
    (HERE / "config.json").write_text(text)
    done = train_in(run, HERE)
    says(done, 2, "here", "config.json", "or choose another folder with --out DIR")
    assert everything(HERE) == {HERE / "config.json": text.encode()}


def test_files_of_other_names_do_no_harm(run):
    (HERE / "checkpoints").mkdir(parents=True)
    others = [HERE / name for name in ("notes.txt", "my.png", "checkpoints/step-000000001.npz.bak")]
    for path in others:
        path.write_text("precious")
    assert train_in(run, HERE).code == 0
    assert [path.read_text() for path in others] == ["precious"] * 3


def test_checkpoints_without_a_configuration_stay(run, whole):
    shutil.copytree(whole / "checkpoints", HERE / "checkpoints")
    before = everything(HERE)
    says(train_in(run, HERE), 2, "here has checkpoints, which the training would replace")
    assert everything(HERE) == before


@pytest.mark.parametrize("gone", [["results.json"], ["checkpoints"], []])
def test_a_training_stays_that_is_finished_or_can_go_on(run, whole, gone):
    """The command that the error gives goes on with it."""
    shutil.copytree(whole, "my run's")
    for name in gone:
        path = Path("my run's", name)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = everything(Path("my run's"))
    done = train_in(run, "my run's")
    says(done, 2, "my run's has a training that ", "or choose another folder with --out DIR")
    assert everything(Path("my run's")) == before
    _, command, *_ = done.err.split("`")
    words = shlex.split(command.replace(" N", " 4"))
    assert words[0] == "xpnet"
    assert ("--epochs" in words) == (gone != ["results.json"])
    assert exit_code(*words[1:], "--quiet", "--plots", "none") == 0


def test_pictures_of_a_training_without_results_stay(run, whole):
    shutil.copytree(whole, HERE)
    (HERE / "results.json").unlink()
    shutil.rmtree(HERE / "checkpoints")
    (HERE / "network.png").write_text("precious")
    before = everything(HERE)
    says(train_in(run, HERE), 2, "here has network.png, weights.npz, which the training would")
    assert everything(HERE) == before


@pytest.mark.parametrize("folder", [HERE, HERE / "checkpoints"])
@pytest.mark.parametrize("arguments", ["--resume here", "xor --epochs 1 --out here"])
def test_a_folder_that_cannot_be_listed_is_not_empty(run, whole, monkeypatch, folder, arguments):
    shutil.copytree(whole, HERE)
    right, before = os.listdir, everything(HERE)

    def refuse(path="."):
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return right(path)

    if arguments.startswith("--resume") and folder == HERE:
        return  # its files have names that are known
    monkeypatch.setattr(claim.os, "listdir", refuse)
    done = run("train", *arguments.split(), "--quiet")
    says(done, 1, f"cannot read {folder} (Permission denied)")
    assert everything(HERE) == before


@pytest.mark.parametrize("arguments", ["--resume here", "xor --epochs 1 --out here"])
def test_a_file_in_the_place_of_the_checkpoints(run, whole, arguments):
    shutil.copytree(whole, HERE)
    shutil.rmtree(HERE / "checkpoints")
    (HERE / "checkpoints").write_text("precious")
    before = everything(HERE)
    says(run("train", *arguments.split()), 1, "cannot read here/checkpoints (not a folder)")
    assert everything(HERE) == before


def test_trainings_that_begin_together_have_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20260102-030405")
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: claim.make_new_folder("and"), range(24)))
    assert len(set(folders)) == 24
    assert all(folder.is_dir() for folder in folders)


# ---- two trainings, one folder -----------------------------------------------------------------


@pytest.mark.parametrize("arguments", ["--resume here", "xor --epochs 1 --out here"])
def test_while_a_training_writes_no_other_does(run, whole, monkeypatch, arguments):
    """Not even one that has not yet written anything by which it could be known."""
    second = []
    right = Trainer._run_epoch

    def begin_another(self, *args):
        if not second:
            second.append(None)
            before = everything(HERE)
            second[0] = run("train", *arguments.split(), "--plots", "none")
            assert everything(HERE) == before
        right(self, *args)

    monkeypatch.setattr(Trainer, "_run_epoch", begin_another)
    done = run("train", "and", "--epochs", 2, "--plots", "none", "--out", HERE)
    assert done.code == 0
    says(second[0], 2, "another training of this process is writing into the folder here; ")
    assert len((HERE / "log.jsonl").read_text().splitlines()) == 2
    assert not (HERE / ".lock").exists()
    assert exit_code("train", "--resume", HERE, "--quiet", "--plots", "none") == 0


def test_a_command_that_fails_leaves_no_lock(run, whole):
    shutil.copytree(whole, HERE)
    for _ in range(2):
        says(train_in(run, HERE), 2, "here has a training that is finished")
    assert not (HERE / ".lock").exists()
