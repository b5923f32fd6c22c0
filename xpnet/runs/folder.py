"""Writing a run folder: what a training leaves behind.

``config.json`` and ``environment.json`` are written before the first step, ``log.jsonl`` has a line
for each epoch and ``frames.bin`` the parameters at some moments, both written as they come;
``results.json`` and ``weights.npz`` follow at the end. So a training that is cut off at any moment
leaves a folder that can be read, and goes on from ``checkpoints/``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from math import isfinite
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xpnet.runs.claim import AGAIN, OTHER
from xpnet.runs.layout import CONFIG, ENVIRONMENT, FRAMES, LOG, OF_THE_END, WEIGHTS
from xpnet.support.checks import at_least_0
from xpnet.support.files import append, write_atomically, writing
from xpnet.training.callbacks import Callback
from xpnet.training.recording import FrameFile
from xpnet.training.trainer import Trainer


class RunFolder(Callback):
    """The folder that a training leaves, and the callback that writes its log.

    Parameters
    ----------
    folder : Path
        The folder, which `xpnet.runs.claim` has made ready.
    resumes : bool
        True if the training in the folder goes on.
    """

    once = True

    def __init__(self, folder: Path, resumes: bool = False) -> None:
        self.folder, self.resumes = folder, resumes
        self._config: Mapping[str, Any] = {}

    def writing(self) -> AbstractContextManager[None]:
        """Return a context in which an error of writing says what to do."""
        return writing(self.folder, AGAIN if self.resumes else OTHER)

    def _remove(self, *names: str) -> None:
        """Remove files that an earlier training has left."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def describe(self, config: Mapping[str, Any], environment: Callable[[], Any]) -> None:
        """Write the configuration and the environment of a new training.

        Of one that goes on the environment is written if it is missing, and the configuration
        when the first step is certain.
        """
        if self.resumes:
            self._config = config
        else:
            self.write_json(CONFIG, config)
        if not (self.folder / ENVIRONMENT).exists():
            self.write_json(ENVIRONMENT, environment())

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
        if self._config:  # of a training that goes on, to more epochs
            self.write_json(CONFIG, self._config)
        with self.writing():
            write_atomically(self.folder / LOG, text.encode())
            if not trainer.resumed:
                self._remove(FRAMES)
            if trainer.epoch < trainer.epochs:
                self._remove(*OF_THE_END)

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        """Append the row of the epoch, at once."""
        with self.writing():
            append(self.folder / LOG, _line(epoch, logs).encode())

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
    known = {name: value for name, value in row.items() if isfinite(value)}  # NaN: there was none
    return json.dumps({"epoch": epoch + 1, **known}) + "\n"
