"""The command line: ``xpnet train``, ``xpnet check`` and ``xpnet info``."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet import golden
from xpnet.backend import Backend, find_backend, from_environment, parse_name, use_backend
from xpnet.callbacks import Callback, ProgressBar
from xpnet.errors import BackendError, OptionError, XpnetError
from xpnet.files import write_atomically
from xpnet.layers import ACTIVATIONS
from xpnet.losses import LOSSES
from xpnet.names import unknown
from xpnet.network import DTYPES
from xpnet.optimizers import OPTIMIZERS
from xpnet.problems import PROBLEMS, Problem, Split, build
from xpnet.schedules import OneCycle
from xpnet.training import Trainer

FAILED, USAGE, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 failed, 2 usage, 130 Ctrl-C."""
    try:
        options = _parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except KeyboardInterrupt:
        print("xpnet: interrupted", file=sys.stderr)
        return INTERRUPTED
    except OptionError as error:
        print(f"xpnet: error: {error}", file=sys.stderr)
        return USAGE
    except (XpnetError, OSError, MemoryError) as error:
        print(f"xpnet: error: {str(error) or 'out of memory'}", file=sys.stderr)
        return FAILED


# ---- xpnet info -------------------------------------------------------------------------------


def _info(options: argparse.Namespace) -> int:
    from xpnet.info import report

    print(report())
    return 0


# ---- xpnet train ------------------------------------------------------------------------------


def _train(options: argparse.Namespace) -> int:
    """Train a problem, tell about it on the way, and leave the results in a folder."""
    recipe = _recipe(options)
    backend = _chosen_backend(options)
    split = recipe.load(options.seed, options.data_dir)
    text = sys.stderr if options.json else sys.stdout
    with use_backend(backend):
        trainer = build(recipe, split, dtype=options.dtype, seed=options.seed)
    run = RunFolder(options.out, recipe.name)
    run.write_json("config.json", _config(options, recipe, trainer))
    print(_headline(recipe, trainer, split), file=text)
    start, interrupted = time.perf_counter(), False
    try:
        trainer.fit(
            *split.train,
            epochs=recipe.epochs,
            batch_size=recipe.batch_size,
            validation_data=split.test,
            callbacks=[ProgressBar(text), run],
        )
    except KeyboardInterrupt:
        interrupted = True
    results = _results(recipe, trainer, split, time.perf_counter() - start)
    run.write_json("results.json", results)
    run.write_weights(trainer)
    print(_closing(results, run.folder, interrupted), file=text)
    if options.json:
        print(json.dumps(results))
    return INTERRUPTED if interrupted else 0


def _chosen_backend(options: argparse.Namespace) -> Backend:
    """Return the backend that the command line or else the environment names."""
    reproducible = options.reproducible or None
    if options.backend:
        return find_backend(options.backend, reproducible)
    return from_environment("auto", reproducible)


def _recipe(options: argparse.Namespace) -> Problem:
    """Return the problem with what the command line changes in its recipe."""
    problem = PROBLEMS[options.problem]
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


def _config(options: argparse.Namespace, recipe: Problem, trainer: Trainer) -> dict[str, Any]:
    """Return all that is needed to run the same training again."""
    told = ("hidden", "activation", "init", "loss", "optimizer", "lr", "epochs")
    return {
        "problem": recipe.name,
        "xpnet": xpnet.__version__,
        "numpy": np.__version__,
        "backend": trainer.net.xp.name,
        "reproducible": trainer.net.xp.reproducible,
        "dtype": options.dtype,
        "seed": options.seed,
        "parameters": trainer.net.size,
        "network": [repr(layer) for layer in trainer.net],
        **{name: getattr(recipe, name) for name in told},
        "one_cycle": isinstance(trainer.optimizer.schedule, OneCycle),
        "batch_size": recipe.batch_size or "full",
    }


def _headline(recipe: Problem, trainer: Trainer, split: Split) -> str:
    one_cycle = isinstance(trainer.optimizer.schedule, OneCycle)
    net, cycle = trainer.net, ", one cycle" if one_cycle else ""
    mode = ", reproducible" if net.xp.reproducible else ""
    return (
        f"{recipe.name}: {len(split.train[0])} samples to train on, "
        f"{len(split.test[0])} to test with, backend {net.xp.name}{mode}\n"
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


def _closing(results: dict[str, Any], folder: Path, interrupted: bool) -> str:
    if "test_accuracy" in results:
        told = (
            f"test accuracy {results['test_accuracy']:.2%}, train {results['train_accuracy']:.2%}"
        )
    else:
        told = f"test RMSE {results['test_rmse']:.4f}, R2 {results['test_r2']:.4f}"
    stopped = f"stopped by Ctrl-C after {results['epochs']} epochs: " if interrupted else ""
    device = ""
    if "peak_memory_mb" in results:
        device = (
            f"compiling and capturing took {results['capture_seconds']:.1f} s of that; "
            f"memory of the GPU: {results['peak_memory_mb']:.1f} MB at the peak\n"
        )
    return f"{stopped}{told}, {results['seconds']:.1f} s\n{device}results in {folder}"


class RunFolder(Callback):
    """The folder that a training leaves: config, log (a line for each epoch), results, weights.

    Parameters
    ----------
    out : str, optional
        The folder; by default a new one, ``runs/PROBLEM-DATE-TIME``.
    problem : str
        The name of the problem.

    Raises
    ------
    XpnetError
        If the folder cannot be made or written; before any training.
    """

    def __init__(self, out: str | None, problem: str) -> None:
        new = f"{problem}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.folder = Path(out) if out else _unused(Path("runs") / new)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("results.json", "weights.npz"):  # of a run before
                (self.folder / name).unlink(missing_ok=True)
            (self.folder / "log.jsonl").write_text("", encoding="utf-8")
        except OSError as error:
            raise XpnetError(
                f"cannot write to the folder {self.folder} ({error.strerror}); "
                "choose another one with --out DIR"
            ) from None

    def write_json(self, name: str, value: dict[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(value, indent=2, default=str) + "\n"
        write_atomically(self.folder / name, text.encode())

    def write_weights(self, trainer: Trainer) -> None:
        """Write every parameter by its name, as arrays that ``numpy.load`` reads."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = trainer.net.state_dict()
        np.savez(buffer, **arrays)
        write_atomically(self.folder / "weights.npz", buffer.getvalue())

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        """Append the row of the epoch, at once."""
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch + 1, **logs}) + "\n")


def _unused(folder: Path) -> Path:
    """Return the folder, or the first of folder-2, folder-3 ... that does not exist."""
    candidate, k = folder, 1
    while candidate.exists():
        k += 1
        candidate = folder.with_name(f"{folder.name}-{k}")
    return candidate


# ---- xpnet check ------------------------------------------------------------------------------


def _check(options: argparse.Namespace) -> int:
    """Check that all backends compute the same; tell as it goes, and leave a report if asked."""
    from xpnet.consistency import check
    from xpnet.consistency_html import page

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
        default="digits",
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
        help="the same bits on every machine and backend (default: $XPNET_REPRODUCIBLE)",
    )
    add(
        "--hidden", type=_sizes, metavar="N,N", help="sizes of the hidden layers, as 64,32; 0: none"
    )
    add("--activation", type=_one_of("activation", ACTIVATIONS), help=", ".join(ACTIVATIONS))
    add("--loss", type=_one_of("loss", LOSSES), help=", ".join(LOSSES))
    add("--optimizer", type=_one_of("optimizer", OPTIMIZERS), help=", ".join(OPTIMIZERS))
    add("--lr", type=_rate, metavar="X", help="learning rate, constant")
    add("--epochs", type=_count, metavar="N", help="how often each sample is used")
    add("--batch-size", type=_batch_size, metavar="N|full", help="samples per step")
    add("--seed", type=_seed, default=0, metavar="N", help="of weights, shuffles and made-up data")
    add("--dtype", type=_one_of("dtype", DTYPES), default="float32", help=" or ".join(DTYPES))
    add("--data-dir", metavar="DIR", help="where the IDX files of mnist are")
    add("--out", metavar="DIR", help="where the results go; default runs/PROBLEM-DATE-TIME")
    add("--json", action="store_true", help="print the results as one line of JSON at the end")


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


def _sizes(text: str) -> tuple[int, ...]:
    return () if text == "0" else tuple(_whole(part, 1) for part in text.split(","))


def _rate(text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number; got {text!r}")
    return rate
