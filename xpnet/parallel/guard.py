"""Guard: a process beside those that train, which says which of them has died, and ends the rest.

It is a process of its own because MPI ends all others at once when one dies, before any of them
could say anything, and does not say itself which one it was. Each process has a connection with the
guard, which the kernel closes when the process ends, whatever ends it. `watch` runs this file as a
script, by a Python that starts quickly: it imports nothing of xpnet.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

PATIENCE = 1.0  # seconds, in which MPI can end the others itself
LOOK = 0.5  # seconds, between two looks at mpiexec and at the processes
COMING = 60.0  # seconds, in which the first of them must have come
STARTER = -1  # in the place of a rank
STARTERS = "mpiexec", "mpirun", "orterun", "prterun"


def guard(door: socket.socket, machine: str, processes: dict[int, int]) -> None:
    """Wait until a process ends without having said that it leaves, or until all have left.

    Parameters
    ----------
    door : socket
        Where each process comes. It says its rank in a line of text; a byte more says that it
        leaves, for whatever reason, which it tells itself if need be.
    machine : str
        The name of this machine.
    processes : dict of int to int
        The number of each process here, by rank.
    """
    starter = _mpiexec_above(os.getppid())
    _speak_as(starter)
    names = {
        rank: f"rank {rank} (process {number} on {machine})" for rank, number in processes.items()
    }
    look = partial(_look, starter, processes, names, set())
    present, dead = _first_end(door, len(processes), look)
    if dead is None:
        return
    _wait_for_end(starter)
    if dead == STARTER:
        _say("mpiexec has died without a word; all processes end")
    else:
        _say(
            f"{names[dead]} has died without a word, killed from outside or for want of memory; "
            "all others end"
        )
    left = [rank for connection, rank in present.items() if _is_there(connection)]
    for rank in left:
        _kill(processes[rank])
    if not _wait_for_end(starter):
        _kill(starter)  # it may wait for ever


def _say(words: str) -> None:
    with suppress(OSError):  # the terminal may have closed
        print(f"xpnet: {words}", file=sys.stderr, flush=True)


def _look(starter: int, processes: dict[int, int], names: dict[int, str], told: set[int]) -> bool:
    """Return False if mpiexec has died; say once which process is stopped and holds up all."""
    stopped = {rank for rank, number in processes.items() if _state(number) == "T"}
    for rank in stopped - told if len(stopped) < len(processes) else ():
        _say(
            f"{names[rank]} is stopped, and the others wait for it; "
            f"kill -CONT {processes[rank]} continues it"
        )
        told.add(rank)
    return not starter or _runs(starter)


def _first_end(
    door: socket.socket, n: int, look: Callable[[], bool]
) -> tuple[dict[socket.socket, int], int | None]:
    """Return who is here, and the rank of the first that ends; None when all have left.

    It is `STARTER` if mpiexec ends before them.
    """
    present, left = dict[socket.socket, int](), 0
    with selectors.DefaultSelector() as ready:
        ready.register(door, selectors.EVENT_READ)
        while left < n:
            events = ready.select(LOOK if present else COMING)
            if not events:
                if not present:
                    break
                if not look():
                    return present, STARTER
            for key, _ in events:  # the kernel has them in the order in which they came
                connection: socket.socket = key.fileobj  # type: ignore[assignment]
                if connection is door:
                    for new, rank in _newcomer(door):
                        present[new] = rank
                        ready.register(new, selectors.EVENT_READ)
                    continue
                rank = present.pop(connection)
                if not connection.recv(1):
                    return present, rank
                ready.unregister(connection)
                left += 1
    return present, None


def _newcomer(door: socket.socket) -> list[tuple[socket.socket, int]]:
    """Return who comes, with its rank; nothing if it has gone again."""
    new, _ = door.accept()
    line = _line(new)
    return [(new, int(line))] if line else []


def _line(connection: socket.socket) -> bytes:
    """Return a line of text, and not what may come behind it; nothing if it has no end."""
    text = b""
    while not text.endswith(b"\n"):
        byte = connection.recv(1)
        if not byte:
            return b""
        text += byte
    return text


def _is_there(connection: socket.socket) -> bool:
    """Tell whether a process has neither ended nor left."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        connection.recv(1)
        return False
    return True


def _kill(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


# ---- mpiexec ------------------------------------------------------------------------------------


def _mpiexec_above(number: int) -> int:
    """Return the number of the mpiexec that has started a process, 0 if it is not to be found."""
    with suppress(OSError):
        while number:
            name, _, rest = Path(f"/proc/{number}/stat").read_text().rpartition(") ")
            if name.partition("(")[2].startswith(STARTERS):
                return number
            number = int(rest.split()[1])
    return 0


def _speak_as(starter: int) -> None:
    """Let standard error be that of mpiexec, as that of MPICH does not pass on the last words.

    And it waits for those who could say something, so the guard must not be one of them.
    """
    with suppress(OSError):
        voice = os.open(f"/proc/{starter}/fd/2", os.O_WRONLY | os.O_APPEND)
        os.dup2(voice, sys.stderr.fileno())
        os.close(voice)


def _wait_for_end(starter: int) -> bool:
    """Wait for the end of mpiexec, so as to speak after it; tell whether it has come."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if not _runs(starter):
            return True
        time.sleep(0.01)
    return False


def _runs(number: int) -> bool:
    """Tell whether a process has not ended; who has, may still wait to be counted by another."""
    return _state(number) not in ("", "Z")


def _state(number: int) -> str:
    """Return the letter that Linux has for the state of a process, "" if there is no process."""
    with suppress(OSError):
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][:1]
    return ""


if __name__ == "__main__":
    descriptor, here, *pairs = sys.argv[1:]
    numbers = {int(rank): int(number) for rank, number in (pair.split(":") for pair in pairs)}
    guard(socket.socket(fileno=int(descriptor)), here, numbers)
