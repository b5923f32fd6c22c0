"""Reading a run folder: the training that it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from xpnet.backend import use_backend
from xpnet.runs.layout import CONFIG, ENVIRONMENT, FRAMES, LOG, RESULTS, SETTINGS, WEIGHTS
from xpnet.runs.problems import FROM_FILES, PROBLEMS, Problem, ProblemData, build
from xpnet.runs.reading import check_config, check_results, read_json, read_log
from xpnet.support.archive import read_archive
from xpnet.support.errors import DataError, ShapeError, XpnetError
from xpnet.training.recording import Recorder, read_frames
from xpnet.training.trainer import Trainer


@dataclass
class SavedRun:
    """The contents of a run folder.

    ``environment`` and ``results`` are empty if the training ended before they were written;
    ``log`` has a row for each epoch that was finished.
    """

    folder: Path
    config: dict[str, Any]
    environment: dict[str, Any]
    log: list[dict[str, float]]
    results: dict[str, Any]

    @property
    def problem(self) -> Problem:
        """The problem, with the settings of this training."""
        problem = PROBLEMS[self.config["problem"]]
        given = {name: self.config[name] for name in SETTINGS}
        if given["batch_size"] == "full":
            given["batch_size"] = None
        return replace(problem, **given | {"hidden": tuple(given["hidden"])})

    def load(self, data_dir: str | Path | None = None, *, download: bool = True) -> ProblemData:
        """Return the data of the training; with ``download`` False nothing is fetched for that.

        Raises
        ------
        DataError
            If the data cannot be found, or are not the data of the training.
        """
        folder = data_dir or self.config["data_dir"]
        data = self.problem.load(self.config["seed"], folder, download)
        now, then = [len(data.train[0]), len(data.test[0])], self.config["samples"]
        if now != then:
            way_out = f"bring back a copy of {CONFIG}, which is damaged"
            if self.config["problem"] in FROM_FILES:
                way_out = "name the folder of those with --data-dir"
            raise DataError(
                f"the data are not those of the training: {now} samples, not {then}; {way_out}"
            )
        return data

    def recorder(self, data: ProblemData) -> Recorder:
        """Return the moments that were recorded, or else the end of the training alone.

        The network is on NumPy, on whatever backend it has been trained.

        Raises
        ------
        DataError, CheckpointError
            If there is neither file, or a file is damaged.
        """
        config = self.config
        frames, weights = self.folder / FRAMES, self.folder / WEIGHTS
        path = frames if frames.exists() else weights
        if not path.exists():
            raise DataError(f"there is neither {FRAMES} nor {WEIGHTS} in {self.folder}")
        sizes = (1, *config["hidden"], 1)  # a lower bound, so that wrong sizes take no memory
        if path.stat().st_size < sum(a * b for a, b in pairwise(sizes)):
            raise DataError(f"{path} is too short for the network of {CONFIG}")
        with use_backend("numpy", False):
            trainer = build(self.problem, data, dtype=config["dtype"], seed=config["seed"])
        recorder = (
            read_frames(path, trainer) if path == frames else self._last_moment(path, trainer)
        )
        if not recorder.epochs:
            raise DataError(f"{path} holds no moment of the training")
        return recorder

    def _last_moment(self, path: Path, trainer: Trainer) -> Recorder:
        """Return a recorder of one moment: the weights of a file."""
        recorder = Recorder()
        recorder.trainer = trainer
        values, _ = read_archive(path)
        try:
            trainer.net.load_state_dict(values)
        except (DataError, ShapeError) as error:
            raise DataError(f"{path} is damaged: {error}") from None
        recorder.add(float(len(self.log)))
        return recorder


def read_run(folder: Path) -> SavedRun:
    """Return what is in a run folder.

    Raises
    ------
    XpnetError
        If the folder is not a run folder, or its configuration or its results are damaged.
    """
    config, results = read_json(folder / CONFIG), read_json(folder / RESULTS)
    if not config and not (folder / CONFIG).exists():
        raise XpnetError(
            f"{folder} is no run folder: there is no {CONFIG} in it; "
            "`xpnet train PROBLEM --out DIR` makes one"
        )
    check_config(folder / CONFIG, config)
    if results:
        check_results(folder / RESULTS, results)
    environment, log = read_json(folder / ENVIRONMENT), read_log(folder / LOG)
    return SavedRun(folder, config, environment, log, results)
