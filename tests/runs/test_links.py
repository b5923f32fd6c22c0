"""A run folder that somebody sends: nothing is written, or shown, through its links and pipes."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
from command import exit_code
from contracts.trial import at_most
from test_cli import says

from xpnet.runs.layout import PICTURES
from xpnet.support import files
from xpnet.support.files import append, open_file, read_bytes
from xpnet.training.checkpoint import find_checkpoints
from xpnet.training.trainer import Trainer

pytestmark = [
    pytest.mark.usefixtures("_in_an_empty_folder"),
    pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in folders"),
]
HERE, VICTIM = Path("here"), Path("victim")
READ = ["config.json", "environment.json", "results.json", "log.jsonl", "frames.bin"]
WRITTEN = ["report.html", *(f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg"))]


def train(*more):
    return exit_code("train", "and", "--epochs", 4, "--checkpoint-every", 2, "--quiet", *more)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a training of 4 steps."""
    folder = tmp_path_factory.mktemp("links") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnet.cli.train.write_pictures", lambda folder, data_dir=None: [])
        assert train("--out", folder) == 0
    return folder


@pytest.fixture
def here(whole):
    """Return a copy of it, and a file of somebody's that has to stay as it is."""
    shutil.copytree(whole, HERE)
    VICTIM.write_text("precious")
    return HERE


def make_unfinished(folder):
    """Remove what comes after the second step."""
    for name in ("checkpoints/step-000000004.npz", "results.json", "report.html", "weights.npz"):
        (folder / name).unlink(missing_ok=True)


def put_symbolic(path):
    path.symlink_to(VICTIM.resolve())


def put_hard(path):
    os.link(VICTIM, path)


LINKS = pytest.mark.parametrize("link", [put_symbolic, put_hard])


@pytest.mark.thorough
@LINKS
def test_the_report_takes_the_place_of_links(run, here, link):
    """Of each picture that is drawn, and of the page."""
    drawn = [name for name in WRITTEN if name.split(".")[0] in ("report", "loss", "network")]
    for name in drawn:
        (here / name).unlink(missing_ok=True)
        link(here / name)
    assert run("report", here).code == 0
    assert VICTIM.read_text() == "precious"
    for name in drawn:
        assert not (here / name).is_symlink()
        assert b"precious" not in (here / name).read_bytes()


@LINKS
@pytest.mark.parametrize("name", ["results.json", "weights.npz", "environment.json", "report.html"])
def test_going_on_takes_the_place_of_links(here, link, name):
    make_unfinished(here)
    (here / name).unlink(missing_ok=True)
    if name != "environment.json":  # that is only read, and is refused; see below
        link(here / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnet.cli.train.write_pictures", lambda folder, data_dir=None: [])
        code = train_on(here)
    assert VICTIM.read_text() == "precious"
    assert code == (1 if name == "results.json" else 0)


def train_on(folder, *more):
    return exit_code("train", "--resume", folder, "--quiet", *more)


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("command", ["report", "train --resume"])
def test_no_file_is_read_through_a_link(run, here, name, command):
    """So what a file elsewhere holds never stands in a report that is sent back."""
    Path("elsewhere").write_bytes((here / name).read_bytes())
    (here / name).unlink()
    (here / name).symlink_to(Path("elsewhere").resolve())
    before = Path("elsewhere").read_bytes()
    done = run(*command.split(), here)
    assert Path("elsewhere").read_bytes() == before
    if (command, name) == ("report", "frames.bin"):
        assert done.code == 0
        assert "a link" in (here / "report.html").read_text()  # as a note
    else:
        says(done, 1, name, "a link")


@pytest.mark.parametrize("name", ["log.jsonl", "frames.bin"])
@LINKS
def test_a_link_that_is_planted_during_the_training(here, monkeypatch, link, name):
    make_unfinished(here)
    right = Trainer._run_epoch

    def plant(self, *args):
        path = here / name
        if path.exists() and not path.is_symlink() and path.stat().st_nlink == 1:
            path.unlink()
            link(path)
        right(self, *args)

    monkeypatch.setattr(Trainer, "_run_epoch", plant)
    assert train_on(here) == 1
    assert VICTIM.read_text() == "precious"


def test_checkpoints_behind_a_link_are_not_touched(run, here):
    make_unfinished(here)
    (here / "checkpoints").rename("others")
    (here / "checkpoints").symlink_to(Path("others").resolve())
    before = sorted(os.listdir("others"))
    says(run("train", "--resume", here), 1, "cannot read here/checkpoints (a link)")
    assert sorted(os.listdir("others")) == before


def test_the_folder_itself_may_be_a_link(here):
    Path("link").symlink_to(here)
    make_unfinished(here)
    assert train_on("link", "--plots", "none") == 0
    assert (here / "results.json").exists()


# ---- pipes, sockets, devices, folders ----------------------------------------------------------


def put_socket(path):
    with socket.socket(socket.AF_UNIX) as file:
        file.bind(str(path))


def put_device(path):
    path.symlink_to("/dev/zero")


def put_large(path):
    """Put a file of 10 TB there that takes no place on the disk."""
    with path.open("wb") as file:
        os.truncate(file.fileno(), 10**13)


NO_FILES = [os.mkfifo, put_socket, put_device, os.mkdir]
THINGS = pytest.mark.parametrize("put", [*NO_FILES, put_large])


@THINGS
@pytest.mark.parametrize("name", READ)
def test_things_that_are_no_files_are_named_at_once(run, here, put, name):
    (here / name).unlink()
    put(here / name)
    with at_most(20):
        done = run("report", here)
        if name == "frames.bin":
            note = (here / "report.html").read_text()
            assert "Only the curves can be shown: " in note
            assert done.code == 0
        else:
            says(done, 1, f"cannot read {here / name} (")
        assert train_on(here) == 1


@pytest.mark.parametrize("put", NO_FILES)
def test_checkpoints_that_are_no_files(here, put, caplog):
    """The one before is taken."""
    make_unfinished(here)
    put(here / "checkpoints/step-000000003.npz")
    with at_most(20):
        assert exit_code("train", "--resume", here, "--plots", "none") == 0
    assert "going on from the one before" in caplog.text
    assert find_checkpoints(here / "checkpoints")[-1].name == "step-000000004.npz"


@pytest.mark.thorough
@THINGS
def test_networks_that_are_no_files(here, put):
    (here / "frames.bin").unlink()
    (here / "weights.npz").unlink()
    put(here / "weights.npz")
    with at_most(20):
        assert exit_code("report", here) == 0
    assert "Only the curves can be shown: " in (here / "report.html").read_text()


@THINGS
@pytest.mark.parametrize("name", ["log.jsonl", "frames.bin", "results.json", "environment.json"])
def test_a_new_training_beside_them(run, put, name):
    """Nobody made them for a training, so they stay."""
    HERE.mkdir()
    put(HERE / name)
    with at_most(20):
        done = run("train", "and", "--epochs", 2, "--out", HERE)
    assert done.code in (1, 2)
    assert name in done.err
    assert os.listdir(HERE) == [name]


# ---- the functions -----------------------------------------------------------------------------


def test_opening(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"1234")
    assert read_bytes(path, 4) == b"1234"
    with pytest.raises(OSError, match="larger than 3 bytes"):
        read_bytes(path, 3)
    (tmp_path / "link").symlink_to(path)
    with open_file(tmp_path / "link") as file:
        assert file.read() == b"1234"
    with pytest.raises(OSError, match="a link"):
        open_file(tmp_path / "link", follow=False)
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(OSError, match="a link that leads nowhere"):
        open_file(tmp_path / "circle")


def test_appending(tmp_path):
    path = tmp_path / "a"
    append(path, b"12")
    append(path, b"34")
    assert path.read_bytes() == b"1234"
    os.link(path, tmp_path / "b")
    with pytest.raises(OSError, match="a second name, a hard link"):
        append(path, b"56")
    os.mkfifo(tmp_path / "pipe")
    with at_most(5), pytest.raises(OSError, match="a folder or a device"):
        append(tmp_path / "pipe", b"56")


def test_what_has_been_opened_is_what_is_checked(tmp_path, monkeypatch):
    """A pipe that takes the place of the file at the last moment does not hang."""
    path, right = tmp_path / "a", os.open
    path.write_bytes(b"1234")

    def swap(*args, **kwargs):
        path.unlink()
        os.mkfifo(path)
        return right(*args, **kwargs)

    monkeypatch.setattr(files.os, "open", swap)
    with at_most(5), pytest.raises(OSError, match="a folder or a device"):
        open_file(path)


@pytest.mark.parametrize("put", [os.mkfifo, put_socket, put_device, os.mkdir, put_hard])
@pytest.mark.parametrize("arguments", ["--resume here", "and --epochs 1 --out here"])
def test_a_lock_that_is_no_file(run, here, put, arguments):
    put(here / ".lock")
    with at_most(20):
        says(run("train", *arguments.split()), 1, "cannot write to the folder here (", ".lock")
    assert VICTIM.read_text() == "precious"
