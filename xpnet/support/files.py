"""Files that are written whole, and files of others, which are read with a limit.

A reader sees the old file or the new one, never a part. A new file takes the place of a link, so
what the link points to is never overwritten; it may be read and written by whom the old file was.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from xpnet.support.errors import XpnetError

CANNOT_SYNC = {
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF),
    *(errno.EACCES, errno.EPERM, errno.EISDIR, errno.EROFS),
}
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp", re.DOTALL)
# Flags of `os.open` that not every system has. Without O_NONBLOCK a pipe is waited for.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
AT_ONCE = sum(getattr(os, f"O_{name}", 0) for name in ("NONBLOCK", "NOCTTY", "CLOEXEC", "BINARY"))
NOT_A_FILE = "a folder or a device, such as a pipe"


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``; also after a crash there is the old file or the new one.

    Raises
    ------
    OSError
        If the folder cannot be written or the disk is full; the old file is intact then.
    """
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file to write, which replaces ``path`` once all of it is on the disk.

    If anything fails, the old file is intact and the temporary file is removed; an OSError names
    ``path``.
    """
    # Shorter: the longest name that a file may have leaves no room for more.
    temporary = path.with_name(f".{path.name[:50]}.{secrets.token_hex(8)}.tmp")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        with temporary.open("xb") as file:
            yield file
            file.flush()
            _keep_mode(path, temporary)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        with suppress(OSError):  # there is none, or no folder that could hold one
            temporary.unlink()
    _sync(path.parent)


def _keep_mode(old: Path, new: Path) -> None:
    """Let the new file be read and written by whom the old one is, where there is an old one."""
    with suppress(OSError):  # there is none, or the disk knows no modes
        mode = os.lstat(old).st_mode
        if stat.S_ISREG(mode):
            os.chmod(new, stat.S_IMODE(mode) & 0o777)


def _sync(folder: Path) -> None:
    """Write the names of the files in a folder to the disk, as Windows does by itself.

    A disk that cannot do that, or a folder that cannot be read, is no failure: the file is written.
    """
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in CANNOT_SYNC:
            raise


def open_file(path: str | os.PathLike[str], *, follow: bool = True) -> BinaryIO:
    """Open a file to read it, at once, whatever stands there; with ``follow`` False no link.

    Raises
    ------
    OSError
        If there is no file, or a folder, a pipe, a socket or a device stands there.
    ValueError
        If the path holds a zero byte.
    """
    return _opened(path, os.O_RDONLY | (0 if follow else NO_LINK), "rb")


def append(path: Path, data: bytes) -> None:
    """Append ``data`` to a file that has no other name, and make the file if it is missing.

    Raises
    ------
    OSError
        If the file cannot be written, is a link, or is known by a second name, too.
    """
    with _opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | NO_LINK, "ab") as file:
        if os.fstat(file.fileno()).st_nlink > 1:
            raise OSError(errno.EMLINK, "the file has a second name, a hard link", str(path))
        file.write(data)


def _opened(path: str | os.PathLike[str], flags: int, mode: str) -> BinaryIO:
    """Open a file, and check what has been opened: nothing can take its place in between."""
    descriptor = -1
    try:
        descriptor = os.open(path, flags | AT_ONCE, 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, NOT_A_FILE, str(path))
    except OSError as error:
        if descriptor >= 0:
            os.close(descriptor)
        link = "a link" if flags & NO_LINK else "a link that leads nowhere"
        what = {errno.ELOOP: link, errno.ENXIO: NOT_A_FILE}  # a socket, a pipe that nobody reads
        if error.errno in what:
            raise OSError(errno.EINVAL, what[error.errno], str(path)) from None
        raise
    return cast(BinaryIO, os.fdopen(descriptor, mode))


def read_bytes(path: Path, limit: int, *, follow: bool = True) -> bytes:
    """Return what is in a file of at most ``limit`` bytes.

    Raises
    ------
    OSError
        If the file cannot be read, is not a regular file, or is larger.
    """
    with open_file(path, follow=follow) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise OSError(errno.EFBIG, f"larger than {limit:,} bytes", str(path))
        return file.read(size)  # not what is appended meanwhile


def sweep(folder: Path) -> None:
    """Remove the temporary files of processes that were killed; nobody may be writing now."""
    for path in folder.iterdir():
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextmanager
def writing(folder: Path, way_out: str) -> Iterator[None]:
    """Turn an error of writing into an XpnetError with the folder and with what to do."""
    try:
        yield
    except OSError as error:
        path = error.filename2 or error.filename
        file = f": {Path(path).name}" if path else ""
        raise XpnetError(
            f"cannot write to the folder {folder} ({error.strerror}{file}); {way_out}"
        ) from None
