"""Launch: ``xpnet train --processes 4`` starts itself four times, by the mpiexec that is there."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from xpnet.support.errors import ParallelError
from xpnet.support.signals import ENDING

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
CODES = (0, 1, 2, 129, 130, 141, 143)  # of xpnet itself
PATIENCE = 10.0  # seconds, in which the processes should have ended after a signal
PR_SET_PDEATHSIG = 1
HOW = "run pip install mpi4py mpich, or pip install '.[mpi]' in the folder of xpnet"


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run ``xpnet`` with these arguments on so many processes, and return the exit code.

    Ctrl-C, SIGTERM and SIGHUP go on to all of them, and they do not outlive this process: where
    it is killed, they end as by SIGTERM.

    Raises
    ------
    ParallelError
        If there is no mpi4py, or no mpiexec.
    """
    command = [*start(processes), "-m", "xpnet", *arguments]
    # In a session of its own: else the terminal would send Ctrl-C to mpiexec as well as to this
    # process, and mpiexec takes a second one for an order to kill.
    job = subprocess.Popen(
        command,
        env=environment(processes),
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=end_with(os.getpid()) if sys.platform == "linux" else None,
    )
    came: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        came.append(number)
        # An mpiexec does not pass SIGHUP on.
        job.send_signal(number if number == signal.SIGINT else signal.SIGTERM)

    before = {n: signal.signal(n, pass_on) for n in passed_on()}
    try:
        code = _end_of(job, came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code == 128 + signal.SIGTERM and came:
        return 128 + came[0]
    if code in CODES:
        return code
    time.sleep(0.5)  # a signal has killed a process: the guard says which one
    return 1


def passed_on() -> list[int]:
    """Return the signals that go on to all processes; what nohup ignores stays ignored."""
    return [n for n in ENDING if signal.getsignal(n) != signal.SIG_IGN]


def _end_of(job: subprocess.Popen[bytes], came: Sequence[int]) -> int:
    """Wait for the end of the job; say what to do if it does not end after a signal."""
    while not came:
        with suppress(subprocess.TimeoutExpired):
            return job.wait(0.5)
    with suppress(subprocess.TimeoutExpired):
        return job.wait(PATIENCE)
    print(
        "xpnet: the processes end after the present step, which takes long, or one of them is "
        "stopped; the same signal again ends them at once, unsaved",
        file=sys.stderr,
        flush=True,
    )
    return job.wait()


def end_with(parent: int) -> Callable[[], None]:
    """Return what lets the kernel of Linux send SIGTERM to a new process when its parent ends."""
    control = ctypes.CDLL(None).prctl

    def end_with() -> None:
        control(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != parent:  # it has ended already
            os._exit(1)

    return end_with


def start(processes: int) -> list[str]:
    """Return the command that starts Python so many times.

    Always by way of mpi4py, as otherwise an exception in one process would leave the others
    waiting for it.
    """
    if importlib.util.find_spec("mpi4py") is None:
        raise ParallelError(f"several processes need mpi4py; {HOW}")
    return [find_mpiexec(), "-n", str(processes), sys.executable, "-m", "mpi4py"]


def find_mpiexec() -> str:
    """Return the mpiexec of this Python's environment, or else that of the system."""
    beside = Path(sys.executable).parent
    found = shutil.which("mpiexec", path=str(beside)) or shutil.which("mpiexec")
    if found is None:
        raise ParallelError(f"there is no mpiexec, which starts several processes; {HOW}")
    return found


def environment(processes: int) -> Mapping[str, str]:
    """Return the environment of the processes: each has its share of the cores, unless told."""
    found = dict(os.environ)
    if not any(name in found for name in THREADS):
        found |= dict.fromkeys(THREADS, str(max(1, len(cores()) // processes)))
    return found


def cores() -> frozenset[int]:
    """Return the numbers of the processor's cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))
