"""What ``xpnet train`` trains: a new training, or the one that a folder goes on with."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from xpnet.backend import Backend, find_backend, from_environment, use_backend
from xpnet.cli.effects import check_activation, check_data_dir
from xpnet.optimizers import default_learning_rate
from xpnet.parallel.communicator import Communicator
from xpnet.parallel.devices import device_name, device_of_environment
from xpnet.runs.problems import PROBLEMS, Problem, ProblemData, build
from xpnet.runs.saved import read_run
from xpnet.support.checks import positive
from xpnet.support.errors import BackendError, OptionError
from xpnet.training.trainer import Trainer

# Options that a training which goes on has already; but for the epochs no other value can be given.
OF_A_NEW_TRAINING = (
    "problem", "reproducible", "hidden", "activation", "loss", "optimizer", "lr", "epochs",
    "batch_size", "seed", "dtype",
)  # fmt: skip
# Options that replace a field of the problem.
OF_THE_PROBLEM = ("hidden", "activation", "loss", "optimizer", "lr", "epochs", "batch_size")


class PreparedTraining(NamedTuple):
    """A problem as it is to be trained, its data, and the trainer."""

    problem: Problem
    data: ProblemData
    trainer: Trainer


def new_training(options: argparse.Namespace, comm: Communicator) -> PreparedTraining:
    """Return the training that the options describe."""
    problem = problem_of(options)
    check_activation(options, problem)
    check_data_dir(options.data_dir, [problem.name])
    backend = _backend_of(options, comm)
    seed, dtype = options.seed or 0, options.dtype or "float32"
    data = _load_in_turn(comm, lambda: problem.load(seed, options.data_dir))
    with use_backend(backend):
        trainer = build(problem, data, dtype=dtype, seed=seed, comm=comm)
    return PreparedTraining(problem, data, trainer)


def resumed_training(options: argparse.Namespace, comm: Communicator) -> PreparedTraining:
    """Return the training of the folder that ``--resume`` names, before its first step."""
    saved = read_run(Path(options.resume))
    config = saved.config
    check_data_dir(options.data_dir, [config["problem"]])
    problem = replace(saved.problem, epochs=_epochs_to_go_on(options, config))
    data = _load_in_turn(comm, lambda: saved.load(options.data_dir))
    with use_backend(_backend_to_resume_on(config, options.backend, comm)):
        trainer = build(problem, data, dtype=config["dtype"], seed=config["seed"], comm=comm)
    return PreparedTraining(problem, data, trainer)


def problem_of(options: argparse.Namespace) -> Problem:
    """Return the problem, with the options in place of its own settings."""
    problem = PROBLEMS[options.problem or "digits"]
    given = {name: getattr(options, name) for name in OF_THE_PROBLEM}
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("batch_size") == "full":
        given["batch_size"] = None
    if given.get("optimizer", problem.optimizer) != problem.optimizer and "lr" not in given:
        given["lr"] = _constant_rate_of(given["optimizer"])
    # A learning rate that was asked for is constant.
    return replace(problem, **given, one_cycle=problem.one_cycle and "lr" not in given)


def _constant_rate_of(optimizer: str) -> float:
    """Return the default learning rate of an optimizer, which must be a number here."""
    lr = default_learning_rate(optimizer)
    if callable(lr):
        raise OptionError(
            f"the default learning rate of {optimizer!r} is a schedule, which the folder of a "
            "training cannot hold; give a number with --lr"
        )
    return positive(f"the default learning rate of {optimizer!r}", lr)


def _epochs_to_go_on(options: argparse.Namespace, config: Mapping[str, Any]) -> int:
    """Return how many epochs a training that goes on is to have: those it had, or more.

    Raises
    ------
    OptionError
        If an option would change anything else of the training.
    """
    given = {name: getattr(options, name) for name in OF_A_NEW_TRAINING}
    epochs: int = given.pop("epochs") or config["epochs"]
    lines = [
        f"  {_option(name, value)}: it began {_words(config[name])}"
        for name, value in given.items()
        if value is not None and _words(value) != _words(config[name])
    ]
    if options.out is not None:
        lines.append(f"  --out {options.out}: it stays in its folder, {options.resume}")
    if epochs < config["epochs"]:
        lines.append(f"  --epochs {epochs}: it began with {config['epochs']}, and can have more")
    if lines:
        raise OptionError(
            "\n".join(["--resume: the training goes on as it began; leave out", *lines])
        )
    return epochs


def _option(name: str, value: Any) -> str:
    """Return an option and its value as the user writes them."""
    option = "the problem" if name == "problem" else "--" + name.replace("_", "-")
    return option if value is True else f"{option} {_text(value)}"


def _words(value: Any) -> str:
    return f"with {_text(value)}" if value is not False else "without"


def _text(value: Any) -> str:
    return ",".join(map(str, value)) or "0" if isinstance(value, list | tuple) else str(value)


def _load_in_turn(comm: Communicator, load: Callable[[], ProblemData]) -> ProblemData:
    """Load the data first on one process of each machine, which may have to download them."""
    if comm.local_rank:
        comm.barrier()
    data = load()
    if not comm.local_rank:
        comm.barrier()
    return data


def _backend_of(options: argparse.Namespace, comm: Communicator) -> Backend:
    """Return the backend that the command line names, or else the environment."""
    name = options.backend or device_of_environment(comm)
    if name:
        return find_backend(device_name(name, comm), options.reproducible)
    return from_environment("auto", options.reproducible)


def _backend_to_resume_on(
    config: Mapping[str, Any], name: str | None, comm: Communicator
) -> Backend:
    """Return the backend of this name; without a name the one on which the training began."""
    try:
        return find_backend(device_name(name or config["backend"], comm), config["reproducible"])
    except BackendError as error:
        if name:
            raise
        way_out = (
            "use --backend numpy to go on without it; one of your own is known with --extend FILE"
        )
        raise BackendError(f"{error}; {way_out}") from None
