"""Locks of folders: while one training writes into a folder, no other does."""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from xpnet.support.errors import OptionError

LOGGER = logging.getLogger("xpnet")
NAME = ".lock"
TRIES = 100  # others may take and leave the lock in the same moment
FAR = 2**30  # the byte that Windows locks: whoever is refused can still read those before it
TAKEN = {errno.EAGAIN, errno.EACCES, errno.EDEADLK}  # what systems say of a lock that is held
FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class FolderLock:
    """The right to write into a folder, which one training has at a time.

    The operating system holds the lock for the open file ``.lock``, and lets go of it when the
    process ends, however it ends: a file that a killed process has left is no obstacle. On a disk
    that has no locks there is a warning, and no protection. A copy of a lock is not held, and
    neither is the lock of a process in a child that it forks.

    Parameters
    ----------
    folder : Path
        An existing folder.
    way_out : str
        The end of the message for whoever is refused.

    Examples
    --------
    >>> import tempfile
    >>> from xpnet.support.locks import FolderLock
    >>> with tempfile.TemporaryDirectory() as folder, FolderLock(folder) as lock:
    ...     lock.held
    True
    """

    def __init__(
        self, folder: str | os.PathLike[str], way_out: str = "choose another folder"
    ) -> None:
        self.folder, self.way_out = Path(folder), way_out
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds the lock by this object."""
        return self._file is not None

    @property
    def in_place(self) -> bool:
        """Whether it is held, and its file is still that of the folder."""
        return self._file is not None and _is_in_place(self._file, self.folder / NAME)

    def acquire(self) -> None:
        """Take the lock.

        Raises
        ------
        OptionError
            If another training has it, in this process or in another one.
        OSError
            If the folder cannot be written, or its ``.lock`` is not a plain file.
        """
        for _ in range(TRIES):
            if self.held:
                break
            file = os.open(self.folder / NAME, FLAGS, 0o666)
            try:
                if self._lock(file):
                    self._file = file
            finally:
                if not self.held:
                    os.close(file)
        if not self.held:
            raise OSError(errno.EAGAIN, "its lock comes and goes", str(self.folder / NAME))
        _HELD.add(self)

    def release(self) -> None:
        """Let go of the lock and remove its file, if this object holds it.

        A folder of the same name may be another one by now: the file in it is not ours.
        """
        ours, file, self._file = self.in_place, self._file, None
        if file is None:
            return
        if os.name == "posix" and ours:
            self._unlink()  # while it is locked: nobody else's file has the name
        os.close(file)
        if os.name != "posix" and ours:
            self._unlink()

    def _lock(self, file: int) -> bool:
        """Lock an open file; return False if its owner has just removed it from the folder."""
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:  # a second name is a hard link
            raise OSError(errno.EINVAL, "it is not a plain file", str(self.folder / NAME))
        try:
            _lock_at_once(file)
        except OSError as error:
            if error.errno in TAKEN:
                raise self._refusal(file) from None
            LOGGER.warning(
                "the disk of %s has no locks (%s); begin no second training in this folder",
                *(self.folder, error.strerror),
            )
        if not _is_in_place(file, self.folder / NAME):
            return False
        os.ftruncate(file, 0)
        os.write(file, b"%d\n" % os.getpid())
        return True

    def _refusal(self, file: int) -> OptionError:
        """Return the error for whoever comes second."""
        owner = os.read(file, 20).strip()
        who = f"the process {int(owner)}" if owner.isdigit() else "another process"
        if owner == b"%d" % os.getpid():
            who = "another training of this process"
        return OptionError(f"{who} is writing into the folder {self.folder}; {self.way_out}")

    def _unlink(self) -> None:
        with suppress(OSError):
            os.unlink(self.folder / NAME)

    def _close_in_child(self) -> None:
        """Close the file that a fork has copied: the lock stays with the parent."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def __enter__(self) -> FolderLock:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of Python there may be no `os` any more
            self.release()

    def __reduce__(self) -> tuple[type[FolderLock], tuple[Path, str]]:
        return FolderLock, (self.folder, self.way_out)


_HELD: WeakSet[FolderLock] = WeakSet()


def _forget_in_child() -> None:
    for lock in list(_HELD):
        lock._close_in_child()


def _is_in_place(file: int, path: Path) -> bool:
    """Return True if the name in the folder is that of the open file."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return False


if sys.platform == "win32":
    import msvcrt

    def _lock_at_once(file: int) -> None:
        os.lseek(file, FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(file, 0, os.SEEK_SET)

else:
    import fcntl

    os.register_at_fork(after_in_child=_forget_in_child)

    def _lock_at_once(file: int) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
