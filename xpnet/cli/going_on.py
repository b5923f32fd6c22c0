"""Where ``xpnet train --resume`` goes on, and what may differ then."""

from __future__ import annotations

import argparse
from pathlib import Path

from xpnet.runs.problems import Problem
from xpnet.storage.training_file import find_training
from xpnet.support.errors import CheckpointError
from xpnet.training.differences import WAY_OUT

AS_IT_BEGAN = (
    "put config.json, the data and extensions back as they were, or begin another training without "
    "--resume"
)


def beginning(
    options: argparse.Namespace, problem: Problem, checkpoints: Path
) -> tuple[Path, tuple[str, ...]]:
    """Return where the training goes on, and what may differ: one cycle, if the epochs do.

    A kill may have come after the folder was told of more epochs, and before the next checkpoint.
    """
    saved = find_training(checkpoints) if options.resume and problem.one_cycle else None
    if saved is None:
        return checkpoints, ()
    same = saved.about["progress"]["epochs"] == problem.epochs
    return Path(saved.source), () if same else ("lr",)


def in_words_of_the_command_line(error: CheckpointError) -> CheckpointError:
    """Return an error whose way out is not in Python, where it says what differs."""
    said, differs, _ = str(error).partition(f"\n{WAY_OUT}")
    return CheckpointError(f"{said}\n{AS_IT_BEGAN}") if differs else error
