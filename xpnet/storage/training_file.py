"""Trainings in files: a state of a training becomes a file, and is checked when it is read."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from xpnet.storage.fields import FIELDS, require_description, require_known_arrays
from xpnet.storage.training_state import TrainingState
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.errors import CheckpointError

LOGGER = logging.getLogger("xpnet")
NAME = "step-{:09d}.npz"
PATTERN = re.compile(r"step-[0-9]{9,18}\.npz")


def write_training(path: Path, state: TrainingState) -> None:
    """Write the file of a training; it appears whole, or the old one stays.

    Raises
    ------
    CheckpointError
        If an array cannot be stored, or the reader would not take the description.
    OSError
        If the file cannot be written.
    """
    require_description(f"{path} cannot be written", json.loads(json.dumps(state.about)))
    write_archive(path, state.arrays, state.about)


def read_training(path: Path) -> TrainingState:
    """Return the state of a training that a file holds.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is damaged, or is not a checkpoint of a training.
    """
    arrays, about = read_archive(path)
    training = FIELDS.keys() & about.keys() - {"network"}
    what = f"{path} is damaged" if training else f"{path} is no checkpoint of a training"
    require_description(what, about)
    require_known_arrays(what, arrays, about)
    return TrainingState(arrays, about, str(path))


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first."""
    found = folder.glob("step-*[0-9].npz") if folder.is_dir() else []
    return sorted((path for path in found if PATTERN.fullmatch(path.name)), key=step_of)


def step_of(path: Path) -> int:
    """Return the number of the step after which a checkpoint was written, from its name."""
    return int(path.name.split("-")[1].split(".")[0])


def find_training(path: Path) -> TrainingState | None:
    """Return the state in a checkpoint, or in the latest one of a folder that is not damaged.

    Returns None if the folder has no checkpoint.

    Raises
    ------
    CheckpointError
        If the checkpoint is damaged, or all in the folder are.
    """
    if path.suffix == ".npz":
        return read_training(path)
    problems: list[str] = []
    for candidate in reversed(find_checkpoints(path)):
        try:
            found = read_training(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            LOGGER.warning("%s; going on from the one before, %s", problem, candidate)
        return found
    if problems:
        raise CheckpointError("; ".join(problems))
    return None
