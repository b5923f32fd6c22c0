"""``--processes N`` and ``--parallel``: the processes that run a command together."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from xpnet.cli.effects import say_that_one_process_shares_nothing
from xpnet.cli.exit_codes import USAGE
from xpnet.parallel.communicator import (
    ALONE,
    Communicator,
    processes_started,
    rank_started,
    started_together,
)
from xpnet.support.errors import OptionError


def communicator_of(options: argparse.Namespace) -> Communicator:
    """Return the processes that run the command together."""
    comm = started_together() if options.parallel else _one_process()
    say_that_one_process_shares_nothing(options, comm)
    return comm


def _one_process() -> Communicator:
    """Return this process alone, after checking that it has been started alone."""
    started = processes_started()
    if started > 1 and rank_started():
        raise SystemExit(USAGE)  # rank 0 prints the reason
    if started > 1:
        raise OptionError(
            f"{started} processes have been started, each of which would train on its own; "
            "add --parallel"
        )
    return ALONE


def arguments_of_each_process(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with ``--parallel`` instead of ``--processes N``."""
    kept, given = ["--parallel"], iter(arguments)
    for argument in given:
        name, equals, _ = argument.partition("=")
        if name.startswith("--pr") and "--processes".startswith(name):
            next(given) if not equals else None
        else:
            kept.append(argument)
    return [kept[1], kept[0], *kept[2:]]
