"""Files that are written whole: a reader sees the old file or the new one, never a part."""

from __future__ import annotations

import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from xpnet.support.errors import XpnetError

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")


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

    If anything fails, the old file is intact and the temporary file is removed.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Write the names of the files in a folder to the disk, as Windows does by itself."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file to read it; a folder or a device raises OSError, a bad path also ValueError."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
        raise OSError("a folder or a device")
    return open(path, "rb")


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
