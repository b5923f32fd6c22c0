"""A folder of checkpoints that is deleted, renamed or replaced while a training writes into it."""

from __future__ import annotations

import os
import shutil

import pytest
from test_override import fit, make

import xpnet
from xpnet.support.errors import OptionError, XpnetError
from xpnet.support.locks import FolderLock


class After(xpnet.Callback):
    """Does something to the folder after the first epoch."""

    every_step = False

    def __init__(self, folder, do):
        self.folder, self.do = folder, do

    def on_epoch_begin(self, epoch, logs):
        if epoch == 1:
            self.do(self.folder)


def renamed(folder):
    folder.rename(folder.with_name("renamed"))


def replaced(folder):
    renamed(folder)
    folder.mkdir()


def taken(folder):
    renamed(folder)
    fit(make(seed=1), callbacks=[xpnet.Checkpoint(folder)], epochs=1)


def a_file(folder):
    shutil.rmtree(folder)
    folder.write_text("")


@pytest.mark.parametrize("do", [shutil.rmtree, renamed, replaced, taken, a_file])
def test_the_training_ends_and_can_be_saved_elsewhere(tmp_path, do):
    folder, whole, made = tmp_path / "saved", make(), make()
    fit(whole, epochs=4)
    with pytest.raises(XpnetError, match="saved has been deleted, renamed or replaced") as caught:
        fit(made, callbacks=[xpnet.Checkpoint(folder), After(folder, do)], epochs=4)
    assert "trainer.save(path)" in str(caught.value)
    left = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    assert left == (["step-000000003.npz"] if do is taken else [])
    made.save(tmp_path / "elsewhere.npz")
    resumed = make()
    fit(resumed, resume=tmp_path / "elsewhere.npz", epochs=4)
    assert resumed.net.sha256() == whole.net.sha256()
    if do is not shutil.rmtree and do is not a_file:
        folder.rename(tmp_path / "other") if folder.exists() else None
        (tmp_path / "renamed").rename(folder)
        again = make()
        fit(again, callbacks=[xpnet.Checkpoint(folder)], resume=folder, epochs=4)
        assert again.net.sha256() == whole.net.sha256()


def test_a_lock_that_is_removed_is_taken_again(tmp_path):
    """Who cleans up hidden files does not end a training."""
    held = []

    def remove(folder):
        (folder / ".lock").unlink()

    class Looks(xpnet.Callback):
        every_step, after_others, once = False, True, True

        def on_epoch_end(self, epoch, logs):
            held.append((tmp_path / ".lock").exists())

    made, keeper = make(), xpnet.Checkpoint(tmp_path)
    fit(made, callbacks=[keeper, After(tmp_path, remove), Looks()], epochs=3)
    assert held == [True, True, True]
    assert [path.name[-6:-4] for path in keeper.paths] == ["03", "06", "09"]
    assert not (tmp_path / ".lock").exists()


def test_a_training_that_has_taken_the_lock_meanwhile_is_named(tmp_path):
    other = FolderLock(tmp_path)

    def take(folder):
        (folder / ".lock").unlink()
        other.acquire()

    with pytest.raises(OptionError, match="another training of this process is writing"):
        fit(make(), callbacks=[xpnet.Checkpoint(tmp_path), After(tmp_path, take)])
    assert (tmp_path / ".lock").exists()  # the other one's stays
    other.release()


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps a file that is open")
def test_letting_go_leaves_the_lock_of_another_folder_alone(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    first, second = FolderLock(folder), FolderLock(folder)
    first.acquire()
    assert first.in_place
    folder.rename(tmp_path / "b")
    folder.mkdir()
    second.acquire()
    assert not first.in_place
    first.release()
    assert (folder / ".lock").exists()
    assert second.in_place
    second.release()
