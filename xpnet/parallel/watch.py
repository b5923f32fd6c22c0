"""Watch: a process that dies without a word must not leave the others waiting for ever.

On each machine one of the processes starts a `guard` beside them (where there are Unix sockets;
elsewhere MPI's own word must do).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from xpnet.parallel.base import Communicator

SCRIPT = Path(__file__).with_name("guard.py")
_guards: list[subprocess.Popen[Any]] = []  # that a process has started; nobody waits for them


@contextmanager
def watched(comm: Communicator, broken: type[Exception]) -> Iterator[None]:
    """Say which process dies, and end all, inside a ``with`` block that all enter.

    A message to the dead may raise ``broken``: the guard knows better what has happened.
    """
    leave = _come(comm)
    try:
        yield
    except broken:
        time.sleep(3)  # longer than a guard's patience
        raise
    finally:
        leave()


def _come(comm: Communicator) -> Callable[[], None]:
    """Connect this process with the guard of its machine, and return what takes leave of it."""
    place, folder = (socket.gethostname(), _numbered_by()), ""
    places = comm.allgather((place, os.getpid()))
    here = {rank: number for rank, (other, number) in enumerate(places) if other == place}
    first = min(here)
    if comm.rank == first and hasattr(socket, "AF_UNIX"):
        folder = tempfile.mkdtemp(prefix="xpnet-")
        _start(folder, place[0], here)
    door = comm.allgather(folder)[first]
    connection = socket.socket(socket.AF_UNIX) if door else None
    if connection is not None:
        connection.connect(f"{door}/door")
        connection.sendall(f"{comm.rank}\n".encode())
    comm.barrier()
    if folder:
        shutil.rmtree(folder)

    def leave() -> None:
        if connection is not None:
            with suppress(OSError), connection:
                connection.sendall(b"!")

    return leave


def _start(folder: str, machine: str, processes: dict[int, int]) -> None:
    """Start a guard, in a session of its own: what ends the others does not end it."""
    _guards[:] = [guard for guard in _guards if guard.poll() is None]
    pairs = [f"{rank}:{number}" for rank, number in processes.items()]
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"{folder}/door")
        door.listen(len(processes))
        guard = subprocess.Popen(
            [sys.executable, "-I", "-S", str(SCRIPT), str(door.fileno()), machine, *pairs],
            pass_fds=[door.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
    _guards.append(guard)


def _numbered_by() -> str:
    """Return the namespace in which processes have their numbers: each container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
