"""Locks of folders: one training at a time writes into a folder."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import subprocess
import sys
import threading

import pytest

from xpnet.support import locks
from xpnet.support.errors import OptionError
from xpnet.support.locks import FolderLock

HOLD = """
import sys, time
from xpnet.support.locks import FolderLock
lock = FolderLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def refused(folder, words):
    with pytest.raises(OptionError, match=words):
        FolderLock(folder, "wait").acquire()


def test_a_folder_has_one_lock_at_a_time(tmp_path):
    first = FolderLock(tmp_path)
    assert not first.held
    with first:
        assert first.held
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
        refused(tmp_path, "another training of this process is writing into the folder .*; wait")
        first.acquire()  # twice by the same object is once
        with FolderLock(tmp_path.parent):  # another folder is another lock
            pass
    assert not first.held
    assert list(tmp_path.iterdir()) == []
    with FolderLock(tmp_path):
        pass


def test_a_killed_process_is_no_obstacle_and_a_living_one_is_named(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        refused(tmp_path, f"the process {other.pid} is writing")
        other.kill()
    assert (tmp_path / ".lock").exists()
    with FolderLock(tmp_path):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"


def test_of_many_threads_one_holds_it(tmp_path):
    barrier, holding, found = threading.Barrier(8), threading.Lock(), []

    def work():
        barrier.wait()
        for _ in range(50):
            try:
                with FolderLock(tmp_path):
                    found.append(holding.acquire(blocking=False))
                    holding.release()
            except OptionError:
                found.append(None)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert True in found
    assert False not in found


def in_child(do):
    """Return the exit code of a forked child that does something."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = do()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_neither_holds_nor_releases_it(tmp_path):
    with FolderLock(tmp_path) as lock:

        def child():
            assert not lock.held
            lock.release()
            try:
                FolderLock(tmp_path).acquire()
            except OptionError as error:
                return 7 * str(error).startswith(f"the process {os.getppid()} is")
            return 0

        assert in_child(child) == 7
        assert (tmp_path / ".lock").exists()
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:  # a child that outlives the training does not keep the folder
            os.close(writing)
            os.read(reading, 1)
            os._exit(0)
    with FolderLock(tmp_path):
        pass
    os.close(writing)
    os.close(reading)
    os.waitpid(pid, 0)


def test_a_lock_that_is_dropped_is_released(tmp_path):
    lock = FolderLock(tmp_path)
    lock.acquire()
    del lock
    with FolderLock(tmp_path):
        pass


@pytest.mark.parametrize(
    "again", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))]
)
def test_a_copy_is_not_held(tmp_path, again):
    with FolderLock(tmp_path, "wait") as lock:
        other = again(lock)
        assert (other.folder, other.way_out, other.held) == (tmp_path, "wait", False)
        del other
        refused(tmp_path, "this process")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EIO])
def test_a_disk_without_locks_is_said(tmp_path, monkeypatch, caplog, number):
    def fails(file):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks, "_lock_at_once", fails)
    with FolderLock(tmp_path) as lock:
        assert lock.held
    assert "has no locks" in caplog.text
    assert os.strerror(number) in caplog.text


@pytest.mark.parametrize("kind", ["link", "dangling", "pipe", "folder"])
def test_what_is_not_a_plain_file_is_not_written(tmp_path, kind):
    victim, name = tmp_path / "victim", tmp_path / "run" / ".lock"
    name.parent.mkdir()
    if kind != "dangling":
        victim.write_text("precious")
    if kind in ("link", "dangling"):
        name.symlink_to(victim)
    elif kind == "pipe":
        os.mkfifo(name)
    else:
        name.mkdir()
    with pytest.raises(OSError):  # noqa: PT011, each system has its own number
        FolderLock(name.parent).acquire()
    assert victim.exists() == (kind != "dangling")
    assert not victim.exists() or victim.read_text() == "precious"


def test_a_file_that_was_removed_in_the_meantime_is_no_lock(tmp_path, monkeypatch):
    lock_at_once, removed = locks._lock_at_once, []

    def late(file):
        if not removed:
            removed.append(os.unlink(tmp_path / ".lock"))
        lock_at_once(file)

    monkeypatch.setattr(locks, "_lock_at_once", late)
    with FolderLock(tmp_path):
        refused(tmp_path, "this process")
