"""Launch: ``xpnet train --processes 4`` starts itself four times, by the mpiexec that is there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from xpnet.support.errors import ParallelError

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
CODES = (0, 1, 2, 130, 143)  # of xpnet itself
HOW = "run pip install mpi4py mpich, or pip install '.[mpi]' in the folder of xpnet"


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run ``xpnet`` with these arguments on so many processes, and return the exit code.

    Ctrl-C and SIGTERM go on to all of them.

    Raises
    ------
    ParallelError
        If there is no mpi4py, or no mpiexec.
    """
    command = [*start(processes), "-m", "xpnet", *arguments]
    # In a session of its own: else the terminal would send Ctrl-C to mpiexec as well as to this
    # process, and mpiexec takes a second one for an order to kill.
    job = subprocess.Popen(
        command, env=environment(processes), stdin=subprocess.DEVNULL, start_new_session=True
    )

    def pass_on(number: int, frame: FrameType | None) -> None:
        job.send_signal(number)

    before = {n: signal.signal(n, pass_on) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = job.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if code in CODES:
        return code
    time.sleep(0.5)  # a signal has killed a process: the guard says which one
    return 1


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
