"""Options that would have no effect beside the others: they are refused, or it is said."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from xpnet.backend import say_once
from xpnet.parallel.communicator import Communicator
from xpnet.runs.problems import FROM_FILES, Problem
from xpnet.support.errors import OptionError


def check_data_dir(data_dir: str | None, problems: Collection[str]) -> None:
    """Check that a problem reads the files that ``--data-dir`` is for.

    Raises
    ------
    OptionError
        If none of them does.
    """
    if data_dir is not None and not FROM_FILES.intersection(problems):
        raise OptionError(
            f"--data-dir {data_dir}: no files are read for {', '.join(problems)}; leave it out"
        )


def check_activation(options: argparse.Namespace, problem: Problem) -> None:
    """Check that there is a hidden layer for the activation that was asked for.

    Raises
    ------
    OptionError
        If there is none.
    """
    if options.activation is not None and not problem.hidden:
        raise OptionError(
            f"--activation {options.activation}: it stands after each hidden layer, and --hidden 0 "
            "makes none; leave one of the two out"
        )


def say_that_one_process_shares_nothing(options: argparse.Namespace, comm: Communicator) -> None:
    """Say in one line that ``--parallel`` or ``--processes 1`` changes nothing."""
    if comm.size > 1 or getattr(options, "quiet", False):
        return
    if options.parallel:
        say_once(
            "--parallel has no effect: this is the only process; --processes 2 starts two, and "
            "mpiexec as many as it is told"
        )
    elif options.processes:
        say_once("--processes 1 has no effect: one process has nobody to share a batch with")
