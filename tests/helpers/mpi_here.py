"""Whether processes of MPI can be started on this machine."""

from __future__ import annotations

import subprocess
import sys
from functools import cache

from xpnet.parallel.launch import start
from xpnet.support.errors import ParallelError


@cache
def why_no_mpi() -> str:
    """Return the reason why no processes of MPI can be started here; empty if they can.

    A process of its own imports MPI, as the import initializes it.
    """
    try:
        start(1)
    except ParallelError as error:
        return str(error)
    command = [sys.executable, "-c", "from mpi4py import MPI"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    last = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    return f"mpi4py is installed, but `from mpi4py import MPI` fails: {last}"
