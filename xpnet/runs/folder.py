"""Run folders: what a training leaves behind, and how it is read again.

``config.json`` and ``environment.json`` are written before the first step, ``log.jsonl`` has a line
for each epoch and ``frames.bin`` the parameters at some moments, both written as they come;
``results.json`` and ``weights.npz`` follow at the end. So a training that is cut off at any moment
leaves a folder that can be read, and ``checkpoints/`` lets it go on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from xpnet.backend import use_backend
from xpnet.layers import ACTIVATIONS
from xpnet.losses import LOSSES
from xpnet.network import DTYPES
from xpnet.optimizers import OPTIMIZERS
from xpnet.runs.problems import PROBLEMS, Problem, Split, build
from xpnet.storage.archive import read_archive
from xpnet.storage.checkpoint import find_checkpoints
from xpnet.support.checks import at_least_0
from xpnet.support.errors import DataError, OptionError, ShapeError, XpnetError
from xpnet.support.files import sweep, write_atomically, writing
from xpnet.training.callbacks import Callback
from xpnet.training.recording import FrameFile, Recorder, read_frames
from xpnet.training.trainer import Trainer

CONFIG, ENVIRONMENT, LOG, FRAMES = "config.json", "environment.json", "log.jsonl", "frames.bin"
RESULTS, WEIGHTS, REPORT = "results.json", "weights.npz", "report.html"
CHECKPOINTS = "checkpoints"
PICTURES = (
    "loss", "accuracy", "rmse", "network", "gradients", "activations", "boundary", "curve",
    "surface", "confusion", "mistakes", "weights",
)  # fmt: skip
OF_THE_END = (
    RESULTS, WEIGHTS, REPORT, *(f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg")),
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
    resume : bool
        True: the training that is there goes on.

    Raises
    ------
    OptionError
        If there is a training in it that was broken off.
    XpnetError
        If the folder cannot be made or written; before any training.
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
        """Return a context in which what cannot be written is told with the way out."""
        return writing(self.folder, "choose another one with --out DIR")

    def _remove(self, *names: str) -> None:
        """Remove what a run before has left here, and nothing else."""
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
        """How long the training has taken, with what it took before it was broken off."""
        return time.perf_counter() - self._start

    def start(self) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_begin(self, logs: Any) -> None:
        """Let the log end where the training begins or goes on, and remove what was its end."""
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
        """Return how long the training has taken."""
        return {"seconds": self.seconds}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from there."""
        self._start -= at_least_0("seconds", state["seconds"])


class Frames(FrameFile):
    """The moments of a training, in its folder."""

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
    """Tell whether there is a training in the folder that a checkpoint could go on with."""
    if not find_checkpoints(folder / CHECKPOINTS):
        return False
    try:
        return bool(_read_json(folder / RESULTS)["epochs"] < _read_json(folder / CONFIG)["epochs"])
    except (KeyError, TypeError, XpnetError):  # there are no results, or nobody knows
        return True


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
        problem = PROBLEMS[self.config["problem"]]
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
        DataError, CheckpointError
            If there is neither, or the files are damaged.
        """
        config = self.config
        frames, weights = self.folder / FRAMES, self.folder / WEIGHTS
        path = frames if frames.exists() else weights
        if not path.exists():
            raise DataError(f"there is neither {FRAMES} nor {WEIGHTS} in {self.folder}")
        sizes = (1, *config["hidden"], 1)  # at least, so that a wrong one takes no memory
        if path.stat().st_size < sum(a * b for a, b in pairwise(sizes)):
            raise DataError(f"{path} is too short for the network of {CONFIG}")
        with use_backend("numpy", reproducible=False):
            trainer = build(self.problem, split, dtype=config["dtype"], seed=config["seed"])
        recorder = read_frames(path, trainer) if path == frames else self._end(path, trainer)
        if not recorder.epochs:
            raise DataError(f"{path} holds no moment of the training")
        return recorder

    def _end(self, path: Path, trainer: Trainer) -> Recorder:
        """Return the last moment alone, with the weights of a file."""
        recorder = Recorder()
        recorder.trainer = trainer
        values, _ = read_archive(path)
        try:
            trainer.net.load_state_dict(values)
        except (DataError, ShapeError) as error:
            raise DataError(f"{path} is damaged: {error}") from None
        recorder.add(float(len(self.log)))
        return recorder


def read_run(folder: Path) -> Run:
    """Return what is in a run folder.

    Raises
    ------
    XpnetError
        If it is none, or its configuration is damaged.
    """
    config, results = _read_json(folder / CONFIG), _read_json(folder / RESULTS)
    if not config:
        raise XpnetError(
            f"{folder} is no run folder: there is no {CONFIG} in it; "
            "`xpnet train PROBLEM --out DIR` makes one"
        )
    _check(folder / CONFIG, config, FITS)
    if results:
        _check(folder / RESULTS, results, dict.fromkeys(_numbers_of(results), _finite))
    log = [row for row in map(_row, _lines(folder / LOG)) if row]
    return Run(folder, config, _read_json(folder / ENVIRONMENT), log, results)


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max  # False for NaN


def _whole(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value < 2**63


def _wholes(value: Any) -> bool:
    return isinstance(value, list) and all(_whole(v, least=1) for v in value)


def _one_of(names: Collection[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value in names


# What the configuration must hold, and how to see that it is that.
FITS: Mapping[str, Callable[[Any], bool]] = {
    "problem": _one_of(PROBLEMS),
    "hidden": _wholes,
    "activation": _one_of(ACTIVATIONS),
    "loss": _one_of(LOSSES),
    "optimizer": _one_of(OPTIMIZERS),
    "lr": lambda value: _finite(value) and value > 0,
    "epochs": lambda value: _whole(value, least=1),
    "batch_size": lambda value: value == "full" or _whole(value, least=1),
    "one_cycle": lambda value: isinstance(value, bool),
    "dtype": _one_of(DTYPES),
    "seed": lambda value: type(value) is int and value >= 0,
    "samples": lambda value: _wholes(value) and len(value) == 2,
    "reproducible": lambda value: isinstance(value, bool),
    "data_dir": lambda value: value is None or isinstance(value, str),
    "parameters": _whole,
    "backend": lambda value: isinstance(value, str),
}


def _numbers_of(results: Mapping[str, Any]) -> list[str]:
    """Return the names of the numbers that the results must hold."""
    metrics = ("accuracy",) if "test_accuracy" in results else ("rmse", "r2")
    return ["seconds", *(f"{part}_{m}" for m in ("loss", *metrics) for part in ("test", "train"))]


def _check(path: Path, found: Mapping[str, Any], fits: Mapping[str, Callable[[Any], bool]]) -> None:
    for name, fit in fits.items():
        if name not in found:
            raise _damaged(path, f"it lacks {name}")
        if not fit(found[name]):
            raise _damaged(path, f"{name} is {found[name]!r:.60}")


def _damaged(path: Path, why: object) -> XpnetError:
    return XpnetError(f"{path} is damaged: {why}; bring back a copy of it, or train again")


def _text(path: Path) -> str:
    """Return what is in a file, nothing if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise XpnetError(
            f"cannot read {path} ({error.strerror}); make it a file that can be read"
        ) from None


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no file."""
    text = _text(path)
    try:
        value = json.loads(text or "{}")
        # What a page cannot hold: NaN, infinity, halves of characters.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(value, dict):
        raise _damaged(path, "it holds no object")
    return value


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _row(line: str) -> dict[str, float] | None:
    """Return a row of the log; None for a line that was cut off."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(row, dict) and all(map(_finite, row.values()))
    return row if good and "epoch" in row and "loss" in row else None
