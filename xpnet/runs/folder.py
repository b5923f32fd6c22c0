"""Writing a run folder: what a training leaves behind.

``config.json`` and ``environment.json`` are written before the first step, ``log.jsonl`` has a line
for each epoch and ``frames.bin`` the parameters at some moments, both written as they come;
``results.json`` and ``weights.npz`` follow at the end. So a training that is cut off at any moment
leaves a folder that can be read, and goes on from ``checkpoints/``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xpnet.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    FRAMES,
    LOG,
    OF_THE_END,
    RESULTS,
    WEIGHTS,
)
from xpnet.runs.reading import read_json
from xpnet.support.checks import at_least_0
from xpnet.support.errors import OptionError, XpnetError
from xpnet.support.files import sweep, write_atomically, writing
from xpnet.training.callbacks import Callback
from xpnet.training.checkpoint import find_checkpoints
from xpnet.training.recording import FrameFile
from xpnet.training.trainer import Trainer


class RunFolder(Callback):
    """The folder that a training leaves, and the callback that writes its log.

    Parameters
    ----------
    out : str, optional
        The folder; by default a new one, ``runs/PROBLEM-DATE-TIME``.
    problem : str
        The name of the problem.
    resume : bool
        True if the training in the folder goes on.

    Raises
    ------
    OptionError
        If the folder has a training that was broken off.
    XpnetError
        If the folder cannot be made or written. This is found before any training.
    """

    once = True

    def __init__(self, out: str | None, problem: str, resume: bool = False) -> None:
        new = f"{problem}-{time.strftime('%Y%m%d-%H%M%S')}"
        self.folder = Path(out) if out else _unused(Path("runs") / new)
        if not resume and _unfinished(self.folder):
            raise OptionError(
                f"{self.folder} has a training that was broken off; go on with "
                f"`xpnet train --resume {self.folder}`, or choose another folder with --out DIR"
            )
        with self.writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
            if not resume:
                self._remove(CONFIG, ENVIRONMENT, LOG, FRAMES, *OF_THE_END)
                for path in (self.folder / CHECKPOINTS).glob("step-*.npz*"):
                    path.unlink()

    def writing(self) -> AbstractContextManager[None]:
        """Return a context in which an error of writing says what to do."""
        return writing(self.folder, "choose another one with --out DIR")

    def _remove(self, *names: str) -> None:
        """Remove files that an earlier training has left."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(value, indent=2, default=str) + "\n"
        with self.writing():
            write_atomically(self.folder / name, text.encode())

    def write_weights(self, trainer: Trainer) -> None:
        """Write the network, which `xpnet.load` and ``numpy.load`` read."""
        with self.writing():
            trainer.net.save(self.folder / WEIGHTS)

    @property
    def seconds(self) -> float:
        """The time that the training has taken, before and after it was broken off."""
        return time.perf_counter() - self._start

    def start(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_begin(self, logs: Any) -> None:
        """Write the log up to this moment, and remove the files of an earlier end."""
        trainer, history = self.trainer, self.trainer.history
        columns = zip(*history.values(), strict=True)
        rows = [dict(zip(history, numbers, strict=True)) for numbers in columns]
        text = "".join(_line(epoch, row) for epoch, row in enumerate(rows))
        with self.writing():
            write_atomically(self.folder / LOG, text.encode())
            if not trainer.resumed:
                self._remove(FRAMES)
            if trainer.epoch < trainer.epochs:
                self._remove(*OF_THE_END)

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        """Append the row of the epoch, at once."""
        with self.writing(), (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(_line(epoch, logs))

    def state_dict(self) -> dict[str, Any]:
        """Return the time that the training has taken."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count the time on from that of the checkpoint."""
        self._start -= at_least_0("seconds", state["seconds"])


class Frames(FrameFile):
    """Writes the parameters at some moments of a training into its folder."""

    def __init__(self, run: RunFolder) -> None:
        super().__init__(run.folder / FRAMES)
        self.writing = run.writing

    def keep(self, epoch: float, values: NDArray[Any]) -> None:
        """Append the moment and the values."""
        with self.writing():
            super().keep(epoch, values)

    def cut(self, moment: float) -> None:
        """Shorten the file."""
        with self.writing():
            super().cut(moment)


def _line(epoch: int, row: Mapping[str, float]) -> str:
    return json.dumps({"epoch": epoch + 1, **row}) + "\n"


def _unfinished(folder: Path) -> bool:
    """Return True if the folder has a training that is not finished, and a checkpoint of it."""
    if not find_checkpoints(folder / CHECKPOINTS):
        return False
    try:
        return bool(read_json(folder / RESULTS)["epochs"] < read_json(folder / CONFIG)["epochs"])
    except (KeyError, TypeError, XpnetError):  # no results, or damaged ones
        return True


def _unused(folder: Path) -> Path:
    """Return the folder, or the first of folder-2, folder-3 ... that does not exist."""
    candidate, k = folder, 1
    while candidate.exists():
        k += 1
        candidate = folder.with_name(f"{folder.name}-{k}")
    return candidate
