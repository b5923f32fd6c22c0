"""Trainings in files: a state of a training becomes a file, and is checked when it is read."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.storage.training_state import TrainingState
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.checks import is_whole
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
    whole = FITS.keys() <= about.keys()
    what = "is damaged" if whole else "is no checkpoint of a training"
    require_description(f"{path} {what}", about)
    return TrainingState(arrays, about, str(path))


def require_description(what: str, about: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a part of the description of a training is not as it must be."""
    for name, fits in FITS.items():
        if name not in about or not fits(about[name]):
            raise CheckpointError(f"{what}: its {name} is {about.get(name)!r:.60}")


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


def _is_count(value: Any) -> bool:
    return is_whole(value, below=2**53)


def _progress(value: Any) -> bool:
    """Return True if this says how far a training is."""
    if not isinstance(value, dict) or not isinstance(value.get("stop"), bool):
        return False
    wholes = [value.get(name) for name in ("epoch", "batch", "first_epoch")]
    epochs = is_whole(value.get("epochs"), below=2**64)  # sys.maxsize: a training without end
    return epochs and all(map(_is_count, wholes)) and value["first_epoch"] <= value["epoch"]


# What the description of a training must hold, and how to see that it is that.
FITS: Mapping[str, Callable[[Any], bool]] = {
    "network": lambda value: isinstance(value, dict),
    "settings": lambda value: isinstance(value, dict),
    "progress": _progress,
    "t": _is_count,
    "lr": lambda value: value is None or (type(value) is float and 0 < value < np.inf),
    "history": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "callbacks": lambda value: (
        isinstance(value, dict) and all(isinstance(state, dict) for state in value.values())
    ),
    "machine": lambda value: isinstance(value, dict),
}
