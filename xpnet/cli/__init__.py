"""The command line: ``xpnet train``, ``xpnet report``, ``xpnet check`` and ``xpnet info``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence

from xpnet.backend import say_once
from xpnet.backend.variables import unknown_variables
from xpnet.cli.exit_codes import FAILED, INTERRUPTED, UNREAD, USAGE
from xpnet.cli.extend import naming_errors_of_extensions, run_extensions
from xpnet.cli.parser import make_parser
from xpnet.cli.processes import arguments_of_each_process
from xpnet.cli.streams import Outlet, lasting_streams
from xpnet.cli.words import spoken
from xpnet.parallel.communicator import rank_started
from xpnet.parallel.launch import launch
from xpnet.support.errors import OptionError, XpnetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 failed, 2 usage, 130 Ctrl-C.

    It is 141 if nobody has read all of the output. After SIGTERM or SIGHUP in a training it raises
    SystemExit with 143 or 129.
    """
    logger = logging.getLogger("xpnet")
    silent = logger.disabled
    with lasting_streams() as output:
        try:
            code = _guarded(sys.argv[1:] if arguments is None else list(arguments))
        except SystemExit as stop:
            if stop.code not in (0, 143) or output is None or not output.reader_is_gone:
                raise
            code = UNREAD
        finally:
            logger.disabled = silent  # --quiet is for one command
        return code if output is None or output.error is None else _unwritten(output, code)


def _guarded(arguments: list[str]) -> int:
    """Run a command; an error that a user can do something about is printed in one line."""
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("xpnet: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OptionError as error:
        _print_error(error, arguments)
        return USAGE
    except (XpnetError, OSError, MemoryError) as error:
        _print_error(error, arguments)
        return FAILED


def _unwritten(output: Outlet, code: int) -> int:
    """Return the exit code of a command whose output could not be written."""
    if output.reader_is_gone:
        return code or UNREAD
    assert output.error is not None
    if not code:
        why = f"cannot write to standard output ({output.error.strerror})"
        print(f"xpnet: error: {why}; all files are written", file=sys.stderr)
    return code or FAILED


def _run(arguments: list[str]) -> int:
    """Run a command, on several processes if the arguments ask for them."""
    run_extensions(arguments)
    options = make_parser().parse_args(arguments)
    if not (rank_started() or getattr(options, "quiet", False)):
        for sentence in unknown_variables():
            say_once(sentence)
    processes = getattr(options, "processes", None) or 1
    if processes > 1:
        return launch(processes, arguments_of_each_process(arguments))
    run: Callable[[argparse.Namespace], int] = options.run
    with naming_errors_of_extensions(arguments):
        return run(options)


def _print_error(error: Exception, arguments: Sequence[str]) -> None:
    """Print an error. Of several processes rank 0 prints first, and then MPI ends all of them."""
    rank = rank_started()
    if rank:
        time.sleep(1 + 0.1 * min(rank, 10))
    who = f"rank {rank}: " if rank else ""
    words = spoken(str(error), arguments[0] if arguments else "") or "out of memory"
    print(f"xpnet: {who}error: {words}", file=sys.stderr, flush=True)
