"""Where a file is written: links, permissions, folders, names, and what is no path."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest

import xpnet
import xpnet.exchange
from xpnet.support import files


def network():
    return xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Linear(3, 1), seed=1)


def by_net(path):
    network().save(path)


def by_trainer(path):
    net = network()
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=0.1))
    trainer.fit(np.zeros((4, 2)), np.zeros((4, 1)), epochs=1)
    trainer.save(path)


def by_safetensors(path):
    pytest.importorskip("safetensors")
    xpnet.exchange.save_safetensors(network(), path)


def by_onnx(path):
    pytest.importorskip("onnx")
    xpnet.exchange.to_onnx(network(), path, (2,))


WRITERS = pytest.mark.parametrize("write", [by_net, by_trainer, by_safetensors, by_onnx])
posix = pytest.mark.skipif(os.name == "nt", reason="links and modes of POSIX")


@posix
@WRITERS
def test_a_file_takes_the_place_of_a_link(tmp_path, write):
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("kept")
    link.symlink_to(victim)
    write(link)
    assert victim.read_text() == "kept"
    assert not link.is_symlink()
    assert link.stat().st_size > 100


@posix
@WRITERS
@pytest.mark.parametrize("mode", [0o600, 0o664])
def test_permissions_stay(tmp_path, write, mode):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(mode)
    write(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.stat().st_size > 100


@posix
def test_a_new_file_and_one_for_a_link_have_the_permissions_of_the_process(tmp_path):
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_text("kept")
    victim.chmod(0o600)
    link.symlink_to(victim)
    before = os.umask(0o027)
    try:
        for path in (tmp_path / "new", link):
            by_net(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o640
    finally:
        os.umask(before)


@WRITERS
@pytest.mark.parametrize("link", [False, pytest.param(True, marks=posix)])
def test_a_folder_is_no_target(tmp_path, write, link):
    folder = tmp_path / "folder"
    folder.mkdir()
    if link:
        folder = tmp_path / "link"
        folder.symlink_to(tmp_path / "folder")
    with pytest.raises((OSError, xpnet.XpnetError), match=r"[Ii]s a directory"):
        write(folder)
    assert folder.is_dir()
    assert {p.name for p in tmp_path.rglob("*")} <= {"folder", "link"}  # and nothing temporary


@WRITERS
@pytest.mark.parametrize(
    "path", ["new/", b"net.npz", io.BytesIO(), 3, None, "", "a\0b"], ids=lambda p: repr(p)[:9]
)
def test_what_is_no_path_of_a_file_is_refused(tmp_path, monkeypatch, write, path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(xpnet.OptionError, match="path must"):
        write(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [b"net.npz", io.BytesIO(), None])
def test_what_is_no_path_is_not_read(path):
    with pytest.raises(xpnet.OptionError, match="path must be a path"):
        xpnet.load(path)


@WRITERS
@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "a\nb", " ", "~", "-x", "a.tmp"])
def test_names_of_any_kind(tmp_path, monkeypatch, write, name):
    if os.name == "nt":
        pytest.skip("Windows has fewer names")
    monkeypatch.chdir(tmp_path)
    write(name)
    assert os.listdir() == [name]


@pytest.mark.parametrize("path", ["nowhere/net.npz", "~/net.npz", "taken/net.npz", "x" * 256])
def test_an_error_names_the_path_that_was_given(tmp_path, monkeypatch, path):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file")
    with pytest.raises(OSError, match=path) as info:
        network().save(path)
    assert info.value.filename == path
    assert ".tmp" not in str(info.value)
    assert os.listdir() == ["taken"]


def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch):
    def denied(self, mode):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(files.Path, "open", denied)  # the superuser may write everywhere
    path = tmp_path / "net.npz"
    with pytest.raises(PermissionError) as info:
        network().save(path)
    assert info.value.filename == str(path)


def test_temporary_files_of_any_name_are_swept(tmp_path):
    for name in ("a\nb", "x" * 200):
        (tmp_path / f".{name}.{'0' * 16}.tmp").touch()
    (tmp_path / "a.tmp").touch()
    files.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["a.tmp"]
