"""The command line: ``xpnet train``, ``xpnet report``, ``xpnet check`` and ``xpnet info``."""

from __future__ import annotations

import argparse
import errno
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet import golden
from xpnet.backend import Backend, find_backend, from_environment, parse_name, use_backend
from xpnet.data.mnist import find_mnist
from xpnet.layers import ACTIVATIONS
from xpnet.losses import LOSSES
from xpnet.network import DTYPES
from xpnet.optimizers import OPTIMIZERS
from xpnet.parallel.communicator import (
    ALONE,
    Communicator,
    communicator,
    processes_started,
    rank_started,
)
from xpnet.parallel.devices import device_name
from xpnet.parallel.launch import launch
from xpnet.runs.folder import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    RECIPE,
    RESULTS,
    Frames,
    RunFolder,
    read_run,
)
from xpnet.runs.problems import PROBLEMS, Problem, Split, build
from xpnet.runs.report import require_matplotlib, write_pictures, write_report
from xpnet.schedules import OneCycle
from xpnet.storage.checkpoint import Checkpoint, find_checkpoints
from xpnet.support.errors import (
    BackendError,
    DivergenceError,
    OptionError,
    ParallelError,
    XpnetError,
)
from xpnet.support.files import write_atomically, writing
from xpnet.support.messages import unknown
from xpnet.training.callbacks import Callback, ProgressBar
from xpnet.training.trainer import Trainer

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 failed, 2 usage, 130 Ctrl-C.

    After SIGTERM in a training it raises SystemExit with 143.
    """
    logger = logging.getLogger("xpnet")
    silent = logger.disabled
    try:
        options = _parser().parse_args(arguments)
        processes = getattr(options, "processes", None) or 1
        if processes > 1:
            return launch(processes, _for_each_process(arguments or sys.argv[1:]))
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except KeyboardInterrupt:
        print("xpnet: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OptionError as error:
        _say_error(error)
        return USAGE
    except (XpnetError, OSError, MemoryError) as error:
        _say_error(error)
        return FAILED
    finally:
        logger.disabled = silent  # --quiet is for one command


def _say_error(error: Exception) -> None:
    """Print an error; of several processes rank 0 has the word first, and then MPI ends all."""
    rank = rank_started()
    if rank:
        time.sleep(1 + 0.1 * min(rank, 10))
    of = f"rank {rank}: " if rank else ""
    print(f"xpnet: {of}error: {str(error) or 'out of memory'}", file=sys.stderr, flush=True)


# ---- xpnet info -------------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> int:
    from xpnet.cli.info import report

    print(report())
    return 0


# ---- xpnet train ------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    """Train a problem, tell about it on the way, and leave the results in a folder."""
    comm = _communicator(options)
    logging.getLogger("xpnet").disabled |= options.quiet or comm.rank > 0
    prepare = _begun if options.resume is None else _continued
    recipe, split, trainer = prepare(options, comm)
    if comm.rank:
        return _train_along(recipe, split, trainer)
    text = sys.stderr if options.json else sys.stdout
    say = _silent if options.quiet else partial(print, file=text, flush=True)
    if options.plots == "all":
        require_matplotlib()  # not only after the training
    run = _folder(options, recipe, split, trainer)
    say(_headline(recipe, trainer, split))
    if comm.size > 1:
        say(f"in {run.folder}")
    checkpoints = run.folder / CHECKPOINTS
    if options.resume is not None and not find_checkpoints(checkpoints):
        say(f"no checkpoint in {run.folder}: from the beginning")
    callbacks: list[Callback] = [run, Checkpoint(checkpoints, **options.checkpoint_every)]
    if not options.quiet:
        callbacks.append(ProgressBar(text))
    if options.plots == "all":
        callbacks.append(Frames(run))
    run.start()
    try:
        interrupted = _fit(trainer, recipe, split, callbacks, checkpoints)
    except DivergenceError as error:
        if options.plots == "none":
            raise
        with run.writing():
            path = write_report(run.folder, options.data_dir)
        raise DivergenceError(f"{error}; the training until then is in {path}") from None
    except SystemExit:
        print(f"xpnet: terminated; {_way_on(run.folder)}", file=sys.stderr, flush=True)
        comm.finish()
        raise
    if interrupted and options.resume is not None and not trainer.callbacks:
        raise KeyboardInterrupt  # it has not gone on yet: what is in the folder stays
    results = _results(recipe, trainer, split, run.seconds)
    comm.finish()
    run.write_json(RESULTS, results)
    run.write_weights(trainer)
    say(_closing(results, interrupted))
    if options.plots == "all":
        with run.writing():
            write_pictures(run.folder, options.data_dir)
            path = write_report(run.folder, options.data_dir)
        say(f"report in {path}")
    say(f"results in {run.folder}")
    if interrupted:
        say(_way_on(run.folder))
    if options.json:
        print(json.dumps(results))
    return INTERRUPTED if interrupted else 0


def _communicator(options: argparse.Namespace) -> Communicator:
    """Return the processes that train together."""
    if options.parallel:
        comm, steps = communicator("auto"), os.environ.get("SLURM_STEP_NUM_TASKS", "1")
        if comm.size == 1 and steps.isdigit() and int(steps) > 1:
            raise ParallelError(
                f"srun has started {steps} processes, each of which MPI takes for the only one; "
                "start them with srun --mpi=pmix or --mpi=pmi2, see srun --mpi=list"
            )
        return comm
    started = processes_started()
    if started > 1 and rank_started():
        raise SystemExit(USAGE)  # rank 0 says why
    if started > 1:
        raise OptionError(
            f"{started} processes have been started, each of which would train on its own; "
            "add --parallel"
        )
    return ALONE


def _for_each_process(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of each of the processes, where ``--processes N`` stands."""
    left, given = ["--parallel"], iter(arguments)
    for argument in given:
        name, equals, _ = argument.partition("=")
        if name.startswith("--pr") and "--processes".startswith(name):
            next(given) if not equals else None
        else:
            left.append(argument)
    return [left[1], left[0], *left[2:]]


def _train_along(recipe: Problem, split: Split, trainer: Trainer) -> int:
    """Take part in a training of which rank 0 tells."""
    try:
        interrupted = _fit(trainer, recipe, split, [], Path())
    except DivergenceError:
        trainer.comm.barrier()  # rank 0 has the word; its end is that of all
        raise
    except SystemExit:
        trainer.comm.finish()
        raise
    _results(recipe, trainer, split, 0.0)  # rank 0 waits for this share of the evaluation
    trainer.comm.finish()
    return INTERRUPTED if interrupted else 0


def _folder(
    options: argparse.Namespace, recipe: Problem, split: Split, trainer: Trainer
) -> RunFolder:
    """Return a new folder for the training, or that in which it began."""
    from xpnet.cli.info import environment

    if options.resume is not None:
        return RunFolder(str(Path(options.resume)), recipe.name, resume=True)
    run = RunFolder(options.out, recipe.name)
    run.write_json(CONFIG, _config(options.data_dir, recipe, trainer, split))
    run.write_json(ENVIRONMENT, environment(gpu=not trainer.net.xp.on_host))
    return run


def _begun(options: argparse.Namespace, comm: Communicator) -> tuple[Problem, Split, Trainer]:
    """Return what is to be trained, as the command line says."""
    recipe = _recipe(options)
    backend = _chosen_backend(options, comm)
    seed, dtype = options.seed or 0, options.dtype or "float32"
    split = _in_turn(comm, lambda: recipe.load(seed, options.data_dir))
    with use_backend(backend):
        return recipe, split, build(recipe, split, dtype=dtype, seed=seed, comm=comm)


def _in_turn(comm: Communicator, load: Callable[[], Split]) -> Split:
    """Return the data; of the processes on a machine the first one may have to download them."""
    if comm.local_rank:
        comm.barrier()
    split = load()
    if not comm.local_rank:
        comm.barrier()
    return split


def _continued(options: argparse.Namespace, comm: Communicator) -> tuple[Problem, Split, Trainer]:
    """Return what was being trained in a folder."""
    given = [name for name in OF_A_NEW_RUN if getattr(options, name) is not None]
    if given:
        names = ", ".join("--" + name.replace("_", "-") for name in given)
        names = names.replace("--problem", str(options.problem))
        raise OptionError(f"--resume: the training goes on as it began; leave out {names}")
    found = read_run(Path(options.resume))
    config, recipe = found.config, found.problem
    split = _in_turn(comm, lambda: found.load(options.data_dir))
    with use_backend(_backend_of(config, options.backend, comm)):
        trainer = build(recipe, split, dtype=config["dtype"], seed=config["seed"], comm=comm)
    return recipe, split, trainer


# What a training keeps that goes on.
OF_A_NEW_RUN = (
    "problem", "reproducible", "hidden", "activation", "loss", "optimizer", "lr", "epochs",
    "batch_size", "seed", "dtype", "out",
)  # fmt: skip


def _backend_of(config: Mapping[str, Any], name: str | None, comm: Communicator) -> Backend:
    """Return the backend of this name, or that on which the training began."""
    try:
        return find_backend(device_name(name or config["backend"], comm), config["reproducible"])
    except BackendError as error:
        if name:
            raise
        raise BackendError(f"{error}; --backend numpy goes on without it") from None


def _way_on(folder: Path) -> str:
    return f"xpnet train --resume {folder} goes on with it"


def _fit(
    trainer: Trainer, recipe: Problem, split: Split, callbacks: list[Callback], checkpoints: Path
) -> bool:
    """Train, and tell whether Ctrl-C has ended it."""
    try:
        trainer.fit(
            *split.train,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            validation_data=split.test,
            callbacks=callbacks,
            resume=checkpoints,
        )
    except KeyboardInterrupt:
        return True
    return False


def _report(options: argparse.Namespace) -> int:
    """Make the report and the pictures of a run folder again."""
    folder, data_dir = Path(options.folder), options.data_dir
    with writing(folder, "make room for it, or make the report of a copy elsewhere"):
        paths = [write_report(folder, data_dir), *write_pictures(folder, data_dir)]
    print(*paths, sep="\n")
    return 0


def _chosen_backend(options: argparse.Namespace, comm: Communicator) -> Backend:
    """Return the backend that the command line or else the environment names."""
    name = options.backend
    if comm.size > 1:
        name = device_name(name or os.environ.get("XPNET_BACKEND", "").strip() or "auto", comm)
    if name:
        return find_backend(name, options.reproducible)
    return from_environment("auto", options.reproducible)


def _recipe(options: argparse.Namespace) -> Problem:
    """Return the problem with what the command line changes in its recipe."""
    problem = PROBLEMS[options.problem or "digits"]
    names = ("hidden", "activation", "loss", "optimizer", "lr", "epochs", "batch_size")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if given.get("batch_size") == "full":
        given["batch_size"] = None
    if given.get("optimizer", problem.optimizer) != problem.optimizer:
        given.setdefault("lr", DEFAULT_RATES[given["optimizer"]])
    # A rate that was asked for is meant as it stands.
    return replace(problem, **given, one_cycle=problem.one_cycle and "lr" not in given)


DEFAULT_RATES = {
    "sgd": 0.1,
    "momentum": 0.05,
    "nesterov": 0.05,
    "rmsprop": 1e-3,
    "adam": 1e-3,
    "adamw": 1e-3,
}


def _config(
    data_dir: str | None, recipe: Problem, trainer: Trainer, split: Split
) -> dict[str, Any]:
    """Return all that is needed to run the same training again."""
    found = find_mnist(data_dir) if recipe.name == "mnist" else None
    return {
        "problem": recipe.name,
        "xpnet": xpnet.__version__,
        "numpy": np.__version__,
        "backend": trainer.net.xp.name,
        "reproducible": trainer.net.xp.reproducible,
        "dtype": trainer.net.dtype.name,
        "seed": trainer.seed,
        "parameters": trainer.net.size,
        "network": [repr(layer) for layer in trainer.net],
        "init": recipe.init,
        **{name: getattr(recipe, name) for name in RECIPE},
        "one_cycle": isinstance(trainer.optimizer.schedule, OneCycle),
        "batch_size": recipe.batch_size or "full",
        "samples": [len(split.train[0]), len(split.test[0])],
        "data_dir": found and str(found.resolve()),
    }


def _headline(recipe: Problem, trainer: Trainer, split: Split) -> str:
    one_cycle = isinstance(trainer.optimizer.schedule, OneCycle)
    net, cycle = trainer.net, ", one cycle" if one_cycle else ""
    mode = ", reproducible" if net.xp.reproducible else ""
    together = f", {trainer.comm.size} processes" if trainer.comm.size > 1 else ""
    return (
        f"{recipe.name}: {len(split.train[0])} samples to train on, "
        f"{len(split.test[0])} to test with, backend {net.xp.name}{mode}{together}\n"
        f"{', '.join(map(repr, net))}\n"
        f"{net.size:,} parameters, {net.dtype}, {recipe.loss}, "
        f"{recipe.optimizer} (lr {recipe.lr:g}{cycle}), batch {recipe.batch_size or 'full'}"
    )


def _results(recipe: Problem, trainer: Trainer, split: Split, seconds: float) -> dict[str, Any]:
    """Return the outcome, for people and for ``--json``."""
    train, test = trainer.evaluate(*split.train), trainer.evaluate(*split.test)
    results: dict[str, Any] = {
        "problem": recipe.name,
        "backend": trainer.net.xp.name,
        "epochs": trainer.epoch,
    }
    if trainer.comm.size > 1:
        results["processes"] = trainer.comm.size
    for name in train:
        results[f"train_{name}"], results[f"test_{name}"] = train[name], test[name]
    if not trainer.net.xp.on_host:
        results["peak_memory_mb"] = round(trainer.net.xp.peak_memory() / 1e6, 1)
        results["capture_seconds"] = round(trainer.capture_seconds, 2)
    return results | {
        "parameters": trainer.net.size,
        "seconds": round(seconds, 4),
        "weights_sha256": trainer.net.sha256(),
    }


def _silent(*words: str) -> None:
    """Say nothing."""


def _closing(results: dict[str, Any], interrupted: bool) -> str:
    """Return the table at the end, and what it took."""
    names = [name.removeprefix("test_") for name in results if name.startswith("test_")]
    rows = [
        f"{name:<10}{_number(name, results[f'test_{name}']):>10}"
        f"{_number(name, results[f'train_{name}']):>10}"
        for name in names
    ]
    lines = [f"{'':<10}{'test':>10}{'train':>10}", *rows]
    if interrupted:
        lines.append(f"stopped by Ctrl-C after {results['epochs']} epochs")
    lines.append(f"{results['seconds']:.1f} s")
    if "peak_memory_mb" in results:
        lines[-1] += (
            f", {results['capture_seconds']:.1f} s of that for compiling and capturing; "
            f"memory of the GPU: {results['peak_memory_mb']:.1f} MB at the peak"
        )
    return "\n".join(lines)


def _number(name: str, value: float) -> str:
    return f"{value:.2%}" if name == "accuracy" else f"{value:.4g}"


# ---- xpnet check ------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    """Check that all backends compute the same; tell as it goes, and leave a report if asked."""
    comm = _communicator(options)
    if comm.size > 1:
        return _check_processes(options, comm)
    from xpnet.verify.consistency import check
    from xpnet.verify.consistency_html import page

    text = sys.stderr if options.json else sys.stdout
    if options.html:
        _can_write(Path(options.html))
    report = check(
        options.problems,
        options.backends,
        options.steps,
        data_dir=options.data_dir,
        required=options.require,
        on_recipe=lambda recipe: print(recipe, file=text, flush=True),
    )
    print(report.summary(), file=text)
    if options.html:
        write_atomically(Path(options.html), page(report).encode())
    if options.json:
        print(json.dumps(report.to_dict()))
    return 0 if report.ok else FAILED


def _check_processes(options: argparse.Namespace, comm: Communicator) -> int:
    """Check that processes which share each batch have the golden hashes, too."""
    from xpnet.verify.consistency_processes import check_processes

    if options.html or options.json:
        raise OptionError("--html and --json are for the check of a single process; leave them out")
    say, backends = _silent if comm.rank else partial(print, flush=True), []
    for name in dict.fromkeys((*options.backends, *options.require)):
        try:
            backends.append(find_backend(device_name(name, comm), reproducible=True))
        except BackendError as error:
            if name in options.require:
                raise
            say(f"{name}: not run: {error}")
    say(f"{options.steps} steps in reproducible mode: all gradients, and all parameters")
    ok = check_processes(
        comm, options.problems, backends, options.steps, data_dir=options.data_dir, on_line=say
    )
    say("all that ran agrees" if ok else "NOT all agrees")
    comm.finish()
    return 0 if ok else FAILED


def _can_write(path: Path) -> None:
    """Say before any work that a file cannot be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError as error:
        raise OptionError(
            f"--html: cannot write {path} ({error.strerror}); choose another file"
        ) from None


# ---- the options ------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="xpnet",
        description="Neural networks with backpropagation written by hand, on NumPy and CuPy.",
    )
    parser.add_argument("--version", action="version", version=f"xpnet {xpnet.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    info = commands.add_parser("info", help="versions, BLAS, GPU, data, and what is wrong")
    info.set_defaults(run=_info)
    check = commands.add_parser(
        "check",
        help="do all backends compute the same gradients?",
        description="Compare the gradients of all backends in float64 and float32, then every bit "
        "of whole trainings in reproducible mode, also with the golden hashes. The exit code is 0 "
        "if all that ran agreed.",
    )
    check.set_defaults(run=_check)
    _add_check_options(check)
    train = commands.add_parser(
        "train",
        help="train a problem",
        description="Train a network. Without options each problem uses its own recipe.",
        epilog="problems:\n" + "\n".join(map(_describe, PROBLEMS.values())),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(run=_train)
    _add_training_options(train)
    report = commands.add_parser(
        "report",
        help="make the report of a run again",
        description="Write report.html and the pictures of a run folder again, also of a training "
        "that was broken off.",
    )
    report.set_defaults(run=_report)
    report.add_argument("folder", metavar="DIR", help="what xpnet train has left")
    report.add_argument("--data-dir", metavar="DIR", help="where the IDX files of mnist are now")
    return parser


def _describe(problem: Problem) -> str:
    hidden = "-".join(map(str, problem.hidden))
    batch = f"batch {problem.batch_size}" if problem.batch_size else "full batch"
    return (
        f"  {problem.name:<8} {problem.summary}\n"
        f"  {'':<8} {hidden} {problem.activation}, {problem.loss}, {problem.optimizer} "
        f"lr {problem.lr:g}{' one cycle' if problem.one_cycle else ''}, {batch}, "
        f"{problem.epochs} epochs"
    )


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "problem",
        nargs="?",
        metavar="PROBLEM",
        type=_one_of("problem", PROBLEMS),
        help="see the list below; default digits",
    )
    add(
        "--backend",
        type=_backend,
        metavar="B",
        help="numpy, numba, cupy or auto (default: $XPNET_BACKEND, or auto)",
    )
    add(
        "--reproducible",
        action="store_true",
        default=None,
        help="the same bits on every machine and backend (default: $XPNET_REPRODUCIBLE)",
    )
    add(
        "--hidden", type=_sizes, metavar="N,N", help="sizes of the hidden layers, as 64,32; 0: none"
    )
    add("--activation", type=_one_of("activation", ACTIVATIONS), help=", ".join(ACTIVATIONS))
    add("--loss", type=_one_of("loss", LOSSES), help=", ".join(LOSSES))
    add("--optimizer", type=_one_of("optimizer", OPTIMIZERS), help=", ".join(OPTIMIZERS))
    add("--lr", type=_positive, metavar="X", help="learning rate, constant")
    add("--epochs", type=_count, metavar="N", help="how often each sample is used")
    add("--batch-size", type=_batch_size, metavar="N|full", help="samples per step")
    add("--seed", type=_seed, metavar="N", help="of weights, shuffles and made-up data; default 0")
    add("--dtype", type=_one_of("dtype", DTYPES), help="float32 (default) or float64")
    add("--data-dir", metavar="DIR", help="where the IDX files of mnist are")
    add("--out", metavar="DIR", help="where the results go; default runs/PROBLEM-DATE-TIME")
    add(
        "--resume",
        metavar="DIR",
        help="go on with the training in this folder, as if it had never stopped",
    )
    add(
        "--checkpoint-every",
        type=_often,
        default="5m",
        metavar="N|Nm",
        help="save the training every N steps or N minutes, default 5m; also at Ctrl-C and SIGTERM",
    )
    add(
        "--plots",
        type=_one_of("choice", ("all", "none")),
        default="all",
        help="all: report.html and pictures (default); none: neither",
    )
    _add_process_options(parser, "train on N processes of this machine")
    add("--quiet", action="store_true", help="say nothing but errors")
    add("--json", action="store_true", help="print the results as one line of JSON at the end")


def _add_process_options(parser: argparse.ArgumentParser, what: str) -> None:
    add = parser.add_argument
    add("--processes", type=_count, metavar="N", help=f"{what}, by the mpiexec that is installed")
    add("--parallel", action="store_true", help="for each of the processes that mpiexec starts")


def _add_check_options(parser: argparse.ArgumentParser) -> None:
    add, problems = parser.add_argument, golden.PROBLEMS
    add(
        "--problems",
        type=_list_of(_one_of("problem", problems)),
        default=problems,
        metavar="P,P",
        help=f"default {','.join(problems)}",
    )
    add(
        "--backends",
        type=_list_of(_backend),
        default=("numpy", "cupy"),
        metavar="B,B",
        help="default numpy,cupy",
    )
    steps = golden.STEPS
    add(
        "--steps",
        type=_count,
        default=steps,
        metavar="N",
        help=f"of each training; default {steps}",
    )
    add(
        "--require",
        type=_list_of(_backend),
        default=(),
        metavar="B,B",
        help="fail if one of these backends cannot run",
    )
    add("--data-dir", metavar="DIR", help="where the IDX files of mnist are")
    _add_process_options(parser, "share each batch among N processes of this machine")
    add("--html", metavar="FILE", help="write the report as one page")
    add("--json", action="store_true", help="print the report as one line of JSON at the end")


def _list_of(convert: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """Return a converter of several, separated by commas."""
    return lambda text: tuple(convert(part.strip()) for part in text.split(","))


def _one_of(what: str, names: Collection[str]) -> Callable[[str], str]:
    """Return a converter that takes one of the names, and else suggests the nearest."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(unknown(what, text, names))
        return text

    return convert


def _backend(text: str) -> str:
    try:
        parse_name(text)
    except BackendError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _whole(text: str, least: int) -> int:
    try:
        n = int(text)
    except ValueError:
        n = least - 1
    if n < least:
        raise argparse.ArgumentTypeError(f"must be a whole number, {least} or more; got {text!r}")
    return n


def _count(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _batch_size(text: str) -> int | str:
    return "full" if text == "full" else _whole(text, 1)


def _often(text: str) -> dict[str, Any]:
    """Return what `Checkpoint` takes: 500 are steps, 5m are minutes."""
    try:
        if text.endswith("m"):
            return {"every_minutes": _positive(text.removesuffix("m"))}
        return {"every_steps": _count(text)}
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be steps, as 500, or minutes, as 5m; got {text!r}"
        ) from None


def _sizes(text: str) -> tuple[int, ...]:
    return () if text == "0" else tuple(_whole(part, 1) for part in text.split(","))


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number; got {text!r}")
    return number
