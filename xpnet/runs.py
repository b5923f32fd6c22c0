"""Run folders: what a training leaves behind, and how it is read again.

``config.json`` and ``environment.json`` are written before the first step, ``log.jsonl`` has a line
for each epoch and ``frames.bin`` the parameters at some moments, both written as they come;
``results.json`` and ``weights.npz`` follow at the end. So a training that is cut off at any moment
leaves a folder that can be read.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.callbacks import Callback
from xpnet.errors import DataError, XpnetError
from xpnet.files import write_atomically
from xpnet.names import look_up
from xpnet.problems import PROBLEMS, Problem, Split, build
from xpnet.recording import Recorder, read_frames
from xpnet.training import Trainer

CONFIG, ENVIRONMENT, LOG, FRAMES = "config.json", "environment.json", "log.jsonl", "frames.bin"
RESULTS, WEIGHTS, REPORT = "results.json", "weights.npz", "report.html"
PICTURES = (
    "loss", "accuracy", "rmse", "network", "gradients", "activations", "boundary", "curve",
    "surface", "confusion", "mistakes", "weights",
)  # fmt: skip
RECIPE = (
    "hidden", "activation", "loss", "optimizer", "lr", "epochs", "batch_size", "one_cycle",
)  # fmt: skip


# ---- writing ----------------------------------------------------------------------------------


class RunFolder(Callback):
    """The folder that a training leaves, and the callback that writes its log.

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
            self._clear()
            (self.folder / LOG).write_text("", encoding="utf-8")
        except OSError as error:
            raise XpnetError(
                f"cannot write to the folder {self.folder} ({error.strerror}); "
                "choose another one with --out DIR"
            ) from None

    def _clear(self) -> None:
        """Remove what a run before has left here, and nothing else."""
        pictures = [f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")]
        for name in (ENVIRONMENT, FRAMES, RESULTS, WEIGHTS, REPORT, *pictures):
            (self.folder / name).unlink(missing_ok=True)

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file."""
        text = json.dumps(value, indent=2, default=str) + "\n"
        write_atomically(self.folder / name, text.encode())

    def write_weights(self, trainer: Trainer) -> None:
        """Write every parameter by its name, as arrays that ``numpy.load`` reads."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = trainer.net.state_dict()
        np.savez(buffer, **arrays)
        write_atomically(self.folder / WEIGHTS, buffer.getvalue())

    def on_epoch_end(self, epoch: int, logs: Any) -> None:
        """Append the row of the epoch, at once."""
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"epoch": epoch + 1, **logs}) + "\n")


def _unused(folder: Path) -> Path:
    """Return the folder, or the first of folder-2, folder-3 ... that does not exist."""
    candidate, k = folder, 1
    while candidate.exists():
        k += 1
        candidate = folder.with_name(f"{folder.name}-{k}")
    return candidate


# ---- reading ----------------------------------------------------------------------------------


@dataclass
class Run:
    """A run folder, read.

    ``environment`` and ``results`` are empty if the training did not come so far; ``log`` has a
    row for each epoch that was finished.
    """

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    log: list[dict[str, float]]
    results: dict[str, Any]

    @property
    def problem(self) -> Problem:
        """The recipe, as it was used."""
        problem = look_up("problem", self.config["problem"], PROBLEMS)
        given = {name: self.config[name] for name in RECIPE}
        if given["batch_size"] == "full":
            given["batch_size"] = None
        return replace(problem, **given | {"hidden": tuple(given["hidden"])})

    def load(self, data_dir: str | Path | None = None) -> Split:
        """Return the data of the training.

        Raises
        ------
        DataError
            If they cannot be found, or are not those of the training.
        """
        split = self.problem.load(self.config["seed"], data_dir or self.config["data_dir"])
        now, then = [len(split.train[0]), len(split.test[0])], self.config["samples"]
        if now != then:
            raise DataError(f"the data are not those of the training: {now} samples, not {then}")
        return split

    def recorder(self, split: Split) -> Recorder:
        """Return the moments that were recorded; if there are none, the end, if that is there.

        The network is on NumPy, wherever it has been trained.

        Raises
        ------
        DataError
            If there is neither, or the files are damaged.
        """
        config = self.config
        trainer = build(
            self.problem, split, dtype=config["dtype"], seed=config["seed"], backend="numpy"
        )
        if (self.folder / FRAMES).exists():
            return read_frames(self.folder / FRAMES, trainer)
        recorder = Recorder()
        recorder.trainer = trainer
        with np.load(self.folder / WEIGHTS, allow_pickle=False) as weights:
            trainer.net.load_state_dict(weights)
        recorder.add(float(len(self.log)))
        return recorder


def read_run(folder: Path) -> Run:
    """Return what is in a run folder.

    Raises
    ------
    XpnetError
        If it is none, or its configuration is damaged.
    """
    if not (folder / CONFIG).is_file():
        raise XpnetError(
            f"{folder} is no run folder: there is no {CONFIG} in it; "
            "`xpnet train PROBLEM --out DIR` makes one"
        )
    config = _read_json(folder / CONFIG)
    missing = {*RECIPE, "problem", "seed", "dtype", "samples", "data_dir"} - config.keys()
    if missing:
        raise XpnetError(f"{folder / CONFIG} lacks {', '.join(sorted(missing))}")
    log = [row for row in map(_row, _lines(folder / LOG)) if row]
    return Run(folder, config, _read_json(folder / ENVIRONMENT), log, _read_json(folder / RESULTS))


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no file."""
    if not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise XpnetError(f"{path} is damaged: {error}") from None
    if not isinstance(value, dict):
        raise XpnetError(f"{path} is damaged: it holds no object")
    return value


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []


def _row(line: str) -> dict[str, float] | None:
    """Return a row of the log; None for a line that was cut off."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    good = isinstance(row, dict) and all(
        isinstance(v, int | float) and isfinite(v) for v in row.values()
    )
    return row if good and "epoch" in row and "loss" in row else None
