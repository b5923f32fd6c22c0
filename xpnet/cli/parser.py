"""The options of all commands, and their help."""

from __future__ import annotations

import argparse
from functools import partial

import xpnet
from xpnet.cli.arguments import (
    backend_name,
    batch_size,
    checkpoint_interval,
    count,
    layer_sizes,
    list_of,
    one_of,
    path,
    positive_number,
    seed,
)
from xpnet.cli.check import check
from xpnet.cli.extend import OPTION
from xpnet.cli.info import info
from xpnet.cli.report import report
from xpnet.cli.train import train
from xpnet.cli.words import Parser
from xpnet.layers import ACTIVATIONS
from xpnet.losses import LOSSES
from xpnet.network import DTYPES
from xpnet.optimizers import OPTIMIZERS
from xpnet.runs.problems import PROBLEMS, Problem
from xpnet.verify import golden

OWN = f"; one of your own is known with {OPTION} FILE, the Python file that registers it"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; the function of each command is its default `run`."""
    parser = Parser(
        prog="xpnet",
        description="Neural networks with backpropagation written by hand, on NumPy and CuPy.",
    )
    parser.add_argument("--version", action="version", version=f"xpnet {xpnet.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    parser.set_defaults(run=partial(_help, parser))
    commands.add_parser("info", help="versions, BLAS, GPU, data, and what is wrong").set_defaults(
        run=info
    )
    _add_check_options(
        commands.add_parser(
            "check",
            help="do all backends compute the same gradients?",
            description="Compare the gradients of all backends in float64 and float32, then every "
            "bit of whole trainings in reproducible mode, also with the golden hashes. The exit "
            "code is 0 if all that ran agreed.",
        )
    )
    _add_train_options(
        commands.add_parser(
            "train",
            help="train a problem",
            description="Train a network. Without options each problem uses its own recipe.",
            epilog="problems:\n" + "\n".join(map(_describe, PROBLEMS.values())),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )
    _add_report_options(
        commands.add_parser(
            "report",
            help="make the report of a run again",
            description="Write report.html and the pictures of a run folder again, also of a "
            "training that was broken off.",
        )
    )
    return parser


def _help(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Print the help, as xpnet does without a command."""
    parser.print_help()
    return 0


def _describe(problem: Problem) -> str:
    """Return the lines of the help on a problem."""
    hidden = "-".join(map(str, problem.hidden))
    batch = f"batch {problem.batch_size}" if problem.batch_size else "full batch"
    return (
        f"  {problem.name:<8} {problem.summary}\n"
        f"  {'':<8} {hidden} {problem.activation}, {problem.loss}, {problem.optimizer} "
        f"lr {problem.lr:g}{' one cycle' if problem.one_cycle else ''}, {batch}, "
        f"{problem.epochs} epochs"
    )


# ---- xpnet train and xpnet report -------------------------------------------------------------


def _add_train_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=train)
    add = parser.add_argument
    add(
        "problem",
        nargs="?",
        metavar="PROBLEM",
        type=one_of("problem", PROBLEMS),
        help="see the list below; default digits",
    )
    add(
        "--backend",
        type=backend_name,
        metavar="B",
        help="numpy, numba, cupy or auto (default: $XPNET_BACKEND, or auto)",
    )
    add(
        "--reproducible",
        action="store_true",
        default=None,
        help="the same bits on every machine and backend (default: $XPNET_REPRODUCIBLE)",
    )
    _add_settings(parser)
    _add_extension_option(parser)
    _add_folder_options(parser)
    _add_process_options(parser, "train on N processes of this machine")
    add("--quiet", action="store_true", help="say nothing but errors")
    add("--json", action="store_true", help="print the results as one line of JSON at the end")


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what decides the numbers of a training."""
    add = parser.add_argument
    sizes = "sizes of the hidden layers, as 64,32; 0: none"
    add("--hidden", type=layer_sizes, metavar="N,N", help=sizes)
    add("--activation", type=one_of("activation", ACTIVATIONS, OWN), help=", ".join(ACTIVATIONS))
    add("--loss", type=one_of("loss", LOSSES, OWN), help=", ".join(LOSSES))
    add("--optimizer", type=one_of("optimizer", OPTIMIZERS, OWN), help=", ".join(OPTIMIZERS))
    add("--lr", type=positive_number, metavar="X", help="learning rate, constant")
    add("--epochs", type=count, metavar="N", help="how often each sample is used")
    add("--e", dest="epochs", type=count, help=argparse.SUPPRESS)  # short for it in 0.1, too
    add("--batch-size", type=batch_size, metavar="N|full", help="samples per step")
    add("--seed", type=seed, metavar="N", help="of weights, shuffles and made-up data; default 0")
    add("--dtype", type=one_of("dtype", DTYPES), help="float32 (default) or float64")


def _add_folder_options(parser: argparse.ArgumentParser) -> None:
    """Add where the data are, and what the training leaves where."""
    add = parser.add_argument
    add("--data-dir", type=path, metavar="DIR", help="where the IDX files of mnist are")
    add(
        "--out",
        type=path,
        metavar="DIR",
        help="where the results go; default runs/PROBLEM-DATE-TIME",
    )
    add(
        "--resume",
        type=path,
        metavar="DIR",
        help="go on with the training in this folder, as if it had never stopped",
    )
    add(
        "--checkpoint-every",
        type=checkpoint_interval,
        default="5m",
        metavar="N|Nm",
        help="save the training every N steps or N minutes, default 5m; also at Ctrl-C and SIGTERM",
    )
    add(
        "--plots",
        type=one_of("choice", ("all", "none")),
        default="all",
        help="all: report.html and pictures (default); none: neither",
    )


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=report)
    parser.add_argument("folder", type=path, metavar="DIR", help="what xpnet train has left")
    _add_extension_option(parser)
    parser.add_argument(
        "--data-dir", type=path, metavar="DIR", help="where the IDX files of mnist are now"
    )


def _add_extension_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that `xpnet.cli.extend` has already looked for."""
    parser.add_argument(
        OPTION,
        action="append",
        metavar="FILE",
        help="run this Python file of yours first; it calls xpnet.register",
    )


# ---- xpnet check ------------------------------------------------------------------------------


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(run=check)
    add, problems, steps = parser.add_argument, golden.PROBLEM_NAMES, golden.STEPS
    add(
        "--problems",
        type=list_of(one_of("problem", problems)),
        default=problems,
        metavar="P,P",
        help=f"default {','.join(problems)}",
    )
    add(
        "--backends",
        type=list_of(backend_name),
        default=("numpy", "cupy"),
        metavar="B,B",
        help="default numpy,cupy",
    )
    add(
        "--steps", type=count, default=steps, metavar="N", help=f"of each training; default {steps}"
    )
    add(
        "--require",
        type=list_of(backend_name),
        default=(),
        metavar="B,B",
        help="fail if one of these backends cannot run",
    )
    add("--data-dir", type=path, metavar="DIR", help="where the IDX files of mnist are")
    _add_process_options(parser, "share each batch among N processes of this machine")
    add("--html", type=path, metavar="FILE", help="write the report as one page")
    add("--json", action="store_true", help="print the report as one line of JSON at the end")


def _add_process_options(parser: argparse.ArgumentParser, what: str) -> None:
    add = parser.add_argument
    add("--processes", type=count, metavar="N", help=f"{what}, by the mpiexec that is installed")
    add("--parallel", action="store_true", help="for each of the processes that mpiexec starts")
