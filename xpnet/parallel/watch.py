"""Watch: a process that dies without a word must not leave the others waiting for ever.

MPI itself says nothing to those that wait for a message. So on Linux each process is told by the
kernel when another one on its machine ends, says which one it was, and ends all.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from xpnet.parallel.communicator import Communicator

PATIENCE = 1.0  # seconds, in which a process that ends as it should lets the others know


@contextmanager
def watched(
    comm: Communicator, abort: Callable[[], None], broken: type[Exception]
) -> Iterator[None]:
    """End all processes, inside a ``with`` block that all enter, if one on this machine dies.

    A message to the dead may raise ``broken``: the watch knows better what has happened.
    """
    places = comm.allgather((socket.gethostname(), _numbered_by(), os.getpid()))
    watch = _Watch(comm.rank, places, abort)
    try:
        yield
    except BaseException as error:
        if isinstance(error, broken):
            watch.wait()
        watch.end()
        raise
    watch.end()
    comm.barrier()  # nobody leaves while another one still watches


class _Watch:
    """A thread that waits for the end of other processes.

    Parameters
    ----------
    rank : int
        That of this process.
    places : list of (str, str, int)
        The machine of each process by rank, who numbers the processes there, and its number.
    abort : function
        Ends all processes.
    """

    def __init__(
        self, rank: int, places: list[tuple[str, str, int]], abort: Callable[[], None]
    ) -> None:
        self.rank, self.places, self.abort = rank, places, abort
        self._others: dict[int, int] = {}  # ranks, by the descriptors of their processes
        for other, (*where, number) in enumerate(places):
            if where == [*places[rank][:2]] and other != rank:
                with suppress(AttributeError, OSError):  # a system that has no such thing
                    self._others[os.pidfd_open(number)] = other
        self._end, self._bell = os.pipe()
        self._thread = threading.Thread(target=self._wait, daemon=True)
        self._thread.start()

    def _wait(self) -> None:
        poll = select.poll()
        for descriptor in (self._end, *self._others):
            poll.register(descriptor, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll()]
        if self._end in ready:
            return
        # The first rank that is left speaks; perhaps it is no death but the end of the training.
        place = sum(other < self.rank for other in self._others.values())
        if select.select([self._end], [], [], PATIENCE + 0.1 * min(place, 10))[0]:
            return
        dead = self._others[ready[0]]
        machine, _, number = self.places[dead]
        print(
            f"xpnet: rank {dead} (process {number} on {machine}) has died without a word: killed "
            "from outside, or for want of memory; all others end",
            file=sys.stderr,
            flush=True,
        )
        time.sleep(0.1)  # MPI takes no notice of what is still on its way to the terminal
        self.abort()

    def wait(self) -> None:
        """Give the watch the time to end all, if somebody has died."""
        self._thread.join(PATIENCE + 2)

    def end(self) -> None:
        """End the watch."""
        os.write(self._bell, b"!")
        self._thread.join()
        for descriptor in (self._end, self._bell, *self._others):
            os.close(descriptor)


def _numbered_by() -> str:
    """Return the namespace in which processes have their numbers: each container has its own."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""
