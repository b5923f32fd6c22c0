"""Communicator: who else takes part in a training, as MPI has started the processes."""

from __future__ import annotations

import os
from collections.abc import Sequence

from xpnet.parallel.base import ALONE as ALONE
from xpnet.parallel.base import Communicator as Communicator
from xpnet.parallel.base import Share as Share
from xpnet.support.errors import OptionError, ParallelError
from xpnet.support.messages import unknown

KINDS = ("auto", "mpi", "single")
# What those that start processes tell each of them: of MPICH and Intel, Open MPI, MVAPICH.
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")


def communicator(kind: str = "auto") -> Communicator:
    """Return the processes that train together, for ``Trainer(..., comm=...)``.

    They are started by MPI: ``mpiexec -n 4 python -m mpi4py script.py``.

    Parameters
    ----------
    kind : str
        ``"mpi"``: all that MPI has started; ``"single"``: this one alone; ``"auto"``: MPI's if MPI
        has started this process together with others, else this one alone.

    Returns
    -------
    Communicator
        Its ``rank`` and ``size`` say which of how many processes this is.

    Raises
    ------
    OptionError
        If there is no such kind.
    ParallelError
        If MPI is needed and mpi4py is not installed, or does not belong to the MPI that has
        started this process.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.parallel.communicator()
    <rank 0 of 1>
    """
    if kind not in KINDS:
        raise OptionError(unknown("communicator", kind, KINDS))
    started = processes_started()
    if kind == "single" or (kind == "auto" and started == 1):
        return ALONE
    return _processes_of_mpi(started)


def _processes_of_mpi(started: int) -> Communicator:
    """Return all processes of MPI, after checking that it sees those that were started."""
    try:
        from xpnet.parallel.mpi import world
    except (Exception, SystemExit) as error:  # whatever a damaged MPI leads to
        missing = isinstance(error, ModuleNotFoundError) and error.name == "mpi4py"
        why = "is not installed" if missing else f"cannot be imported ({error})"
        raise ParallelError(
            f"training on several processes needs mpi4py, which {why}; run pip install mpi4py "
            "mpich, or where there is an MPI already, pip install mpi4py"
        ) from None
    found = world()
    if found.size < started:
        raise ParallelError(
            f"{started} processes have been started, but mpi4py sees {found.size}: they are of "
            "different MPIs; start with the mpiexec of the one that mpi4py uses, which "
            "`python -m mpi4py --mpi-lib-version` names"
        )
    return found


def started_together() -> Communicator:
    """Return all processes that mpiexec or srun has started along with this one."""
    comm, steps = communicator("auto"), os.environ.get("SLURM_STEP_NUM_TASKS", "1")
    if comm.size == 1 and steps.isdigit() and int(steps) > 1:
        raise ParallelError(
            f"srun has started {steps} processes, each of which MPI takes for the only one; "
            "start them with srun --mpi=pmix or --mpi=pmi2, see srun --mpi=list"
        )
    return comm


def processes_started() -> int:
    """Return how many processes an mpiexec has started along with this one."""
    names = [*SIZES, "SLURM_STEP_NUM_TASKS"] if "PMIX_RANK" in os.environ else SIZES
    return max(1, _number_in_environment(names))


def rank_started() -> int:
    """Return the rank that mpiexec has given this process."""
    return _number_in_environment(RANKS)


def _number_in_environment(names: Sequence[str]) -> int:
    numbers = [os.environ.get(name, "") for name in names]
    return max((int(number) for number in numbers if number.isdigit()), default=0)
