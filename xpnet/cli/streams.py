"""Standard output and standard error of a command: what cannot be written must not end a training.

An output may be closed, full, a pipe that nobody reads any more, or in an encoding without our
characters. The command goes on, and says at its end what could not be written.
"""

from __future__ import annotations

import errno
import io
import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO, cast


class Outlet(io.RawIOBase):
    """A file that is written as long as that works; `error` is what has ended it."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Write all of the data, or none of it once there has been an error."""
        rest = memoryview(data).cast("B")
        while self.error is None and rest:
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:  # the other end has made the pipe non-blocking
                select.select([], [self.descriptor], [])
            except OSError as error:
                self.error = error
        return len(data)

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the number of the file."""
        return self.descriptor

    def isatty(self) -> bool:
        """Return True if it is a terminal."""
        return os.isatty(self.descriptor)

    @property
    def reader_is_gone(self) -> bool:
        """Whether it is a pipe that nobody reads any more."""
        return self.error is not None and self.error.errno == errno.EPIPE


@contextmanager
def lasting_streams() -> Iterator[Outlet | None]:
    """Replace both streams, and give standard output; None where somebody else has replaced it."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    output = _replaced("stdout")
    _replaced("stderr")
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """Open the null device where one of the first three files is closed.

    Else the next file that is opened, which may be a checkpoint, would be taken for the output.
    """
    descriptor = os.open(os.devnull, os.O_RDWR)
    while descriptor < 3:
        os.set_inheritable(descriptor, True)
        descriptor = os.dup(descriptor)
    os.close(descriptor)


def _replaced(name: str) -> Outlet | None:
    """Put an outlet in the place of a stream of `sys`, unless somebody else has replaced that."""
    stream: TextIO | None = getattr(sys, name)
    if stream is None:  # it was closed when Python started, or there is none, as under pythonw
        setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        return None
    if stream is not getattr(sys, f"__{name}__") or (os.name == "nt" and stream.isatty()):
        return None  # a console of Windows takes text, not bytes
    stream.flush()
    outlet = Outlet(stream.fileno())
    errors = stream.errors or "strict"
    if errors in ("strict", "surrogateescape"):  # neither can write × in ASCII
        errors = "backslashreplace"
    text = io.TextIOWrapper(
        io.BufferedWriter(cast(io.RawIOBase, outlet)), stream.encoding, errors, line_buffering=True
    )
    setattr(sys, name, text)
    return outlet


def stop_if_unread() -> None:
    """End a training, saved as by SIGTERM, if nobody reads its output any more."""
    buffer = getattr(sys.stdout, "buffer", None)
    outlet = getattr(buffer, "raw", None)
    ours = callable(signal.getsignal(signal.SIGTERM))
    if isinstance(outlet, Outlet) and outlet.reader_is_gone and ours:
        signal.raise_signal(signal.SIGTERM)
