"""The command line: ``xpnet train``, ``xpnet report``, ``xpnet check`` and ``xpnet info``."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Sequence

from xpnet.cli.exit_codes import FAILED, INTERRUPTED, USAGE
from xpnet.cli.extend import naming_errors_of_extensions, run_extensions
from xpnet.cli.parser import make_parser
from xpnet.cli.processes import arguments_of_each_process
from xpnet.parallel.communicator import rank_started
from xpnet.parallel.launch import launch
from xpnet.support.errors import OptionError, XpnetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 failed, 2 usage, 130 Ctrl-C.

    After SIGTERM in a training it raises SystemExit with 143.
    """
    logger = logging.getLogger("xpnet")
    silent = logger.disabled
    try:
        return _run(sys.argv[1:] if arguments is None else list(arguments))
    except KeyboardInterrupt:
        print("xpnet: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OptionError as error:
        _print_error(error)
        return USAGE
    except (XpnetError, OSError, MemoryError) as error:
        _print_error(error)
        return FAILED
    finally:
        logger.disabled = silent  # --quiet is for one command


def _run(arguments: list[str]) -> int:
    """Run a command, on several processes if the arguments ask for them."""
    run_extensions(arguments)
    options = make_parser().parse_args(arguments)
    processes = getattr(options, "processes", None) or 1
    if processes > 1:
        return launch(processes, arguments_of_each_process(arguments))
    run: Callable[[argparse.Namespace], int] = options.run
    with naming_errors_of_extensions(arguments):
        return run(options)


def _print_error(error: Exception) -> None:
    """Print an error. Of several processes rank 0 prints first, and then MPI ends all of them."""
    rank = rank_started()
    if rank:
        time.sleep(1 + 0.1 * min(rank, 10))
    who = f"rank {rank}: " if rank else ""
    print(f"xpnet: {who}error: {str(error) or 'out of memory'}", file=sys.stderr, flush=True)
