"""What ``xpnet train`` says and writes about a training: its settings and its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import xpnet
from xpnet.backend import mode
from xpnet.cli.prepare import PreparedTraining
from xpnet.data.mnist import find_mnist
from xpnet.runs.layout import SETTINGS
from xpnet.runs.problems import FROM_FILES
from xpnet.schedules import OneCycle
from xpnet.training.trainer import Trainer


def config_of(training: PreparedTraining, data_dir: str | None) -> dict[str, Any]:
    """Return all that is needed to run the same training again."""
    problem, data, trainer = training
    folder = find_mnist(data_dir) if problem.name in FROM_FILES else None
    return {
        "problem": problem.name,
        "xpnet": xpnet.__version__,
        "numpy": np.__version__,
        **mode.settings(trainer.net.xp),
        "dtype": trainer.net.dtype.name,
        "seed": trainer.seed,
        "parameters": trainer.net.size,
        "network": [repr(layer) for layer in trainer.net],
        "init": problem.init,
        **{name: getattr(problem, name) for name in SETTINGS},
        "one_cycle": isinstance(trainer.optimizer.schedule, OneCycle),
        "batch_size": problem.batch_size or "full",
        "samples": [len(data.train[0]), len(data.test[0])],
        "data_dir": folder and str(folder.resolve()),
    }


def headline(training: PreparedTraining) -> str:
    """Return the lines that say what is going to be trained."""
    problem, data, trainer = training
    net = trainer.net
    cycle = ", one cycle" if isinstance(trainer.optimizer.schedule, OneCycle) else ""
    return (
        f"{problem.name}: {len(data.train[0])} samples to train on, "
        f"{len(data.test[0])} to test with, backend {net.xp.name}"
        f"{mode.suffix(net.xp)}{trainer.comm.suffix}\n"
        f"{', '.join(map(repr, net))}\n"
        f"{net.size:,} parameters, {net.dtype}, {problem.loss}, "
        f"{problem.optimizer} (lr {problem.lr:g}{cycle}), batch {problem.batch_size or 'full'}"
    )


def results_of(training: PreparedTraining, seconds: float) -> dict[str, Any]:
    """Return the results of a training, on its training data and its test data."""
    problem, data, trainer = training
    train, test = trainer.evaluate(*data.train), trainer.evaluate(*data.test)
    results: dict[str, Any] = {
        "problem": problem.name,
        "backend": trainer.net.xp.name,
        "epochs": trainer.epoch,
        **trainer.comm.record,
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


def closing_table(results: Mapping[str, Any], stopped: str = "") -> str:
    """Return the table of the results, where Ctrl-C has stopped it, and the time that it took."""
    names = [name.removeprefix("test_") for name in results if name.startswith("test_")]
    rows = [
        f"{name:<10} {_number(name, results[f'test_{name}']):>9}"
        f" {_number(name, results[f'train_{name}']):>9}"
        for name in names
    ]
    lines = [f"{'':<10}{'test':>10}{'train':>10}", *rows]
    if stopped:
        lines.append(f"stopped by Ctrl-C after {stopped}")
    lines.append(f"{results['seconds']:.1f} s")
    if "peak_memory_mb" in results:
        lines[-1] += (
            f", {results['capture_seconds']:.1f} s of that for compiling and capturing; "
            f"memory of the GPU: {results['peak_memory_mb']:.1f} MB at the peak"
        )
    return "\n".join(lines)


def progress_of(trainer: Trainer) -> str:
    """Return how far a training has come: the epochs, and the steps of the one that was begun."""
    begun = f" and {trainer.batch} of {trainer.steps_per_epoch} steps" if trainer.batch else ""
    return f"{trainer.epoch} epochs{begun}"


def _number(name: str, value: float) -> str:
    return f"{value:.2%}" if name == "accuracy" else f"{value:.4g}"
