"""Callbacks: what happens between the steps of a training; the names are those of Keras."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from xpnet.backend import say_once
from xpnet.support.attributes import Checked, completed
from xpnet.support.errors import OptionError
from xpnet.training.training import Training


class Callback:
    """Override what you need. ``self.trainer`` is the `Trainer`; set its ``stop`` to end early.

    ``logs`` has the row of the history that is being written: ``loss`` and, with validation data,
    ``val_loss`` and ``val_`` of each metric. It is empty before the first number is known.

    Attributes
    ----------
    trainer : Trainer
        As far as callbacks need it, see `xpnet.training.training.Training`.
    every_step : bool
        False: what is done after a step may be done after some steps together, which lets a GPU
        start them at once; ``batch`` is then the last of them.
    after_others : bool
        True: what it does, it does after all other callbacks, as `xpnet.Checkpoint` must.
    once : bool
        True: of several processes that train together only rank 0 calls it, as what prints and
        writes files must be. Others are called on all of them, and must do the same on each.
    """

    trainer: Training
    every_step = True
    after_others = False
    once = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(completed(type(self), state))

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Before the first step."""

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Before the first step of an epoch; the first epoch is 0."""

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float]) -> None:
        """Before a step."""

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """After a step; ``float(self.trainer.loss)`` is its loss, and waits for the device."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """After an epoch and its validation; ``logs`` is complete."""

    def on_interrupt(self) -> None:
        """After the last step before Ctrl-C or SIGTERM ends the training."""

    def on_train_end(self, logs: Mapping[str, float]) -> None:
        """After the last step, also after Ctrl-C."""

    def state_dict(self) -> dict[str, Any]:
        """Return what it needs to go on from a checkpoint: arrays, numbers, words, by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` gave; `on_train_begin` has been called before."""


def in_order(callbacks: Sequence[Callback]) -> list[Callback]:
    """Return the callbacks in the order in which they are called."""
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise OptionError(f"no callback: {callback!r}; write for example EarlyStopping()")
    return sorted(callbacks, key=lambda callback: callback.after_others)


def acts_between_steps(callback: Callback) -> bool:
    """Return True if a callback has something to do before or after each step."""
    hooks = ("on_train_batch_begin", "on_train_batch_end")
    return callback.every_step and any(
        getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)
        for hook in hooks
    )


def _file_of(name: str, value: Any) -> Any:
    """Return a text file, or None for standard output."""
    if value is not None and not hasattr(value, "write"):
        raise OptionError(f"{name} must be an open text file or None; got {value!r:.60}")
    return value


class ProgressBar(Callback):
    """A bar on standard error over all epochs, and a row for each.

    Up to 50 epochs have a row each; of more, about 20 do, and always the last. tqdm draws the bar.
    Where tqdm is not installed, the rows are all, and a terminal is told so once.

    Parameters
    ----------
    file : text file, optional
        Where the rows go; by default standard output.
    """

    every_step = False
    once = True

    file: Any = Checked(_file_of)

    def __init__(self, file: TextIO | None = None) -> None:
        self.file = file

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Draw the empty bar; where standard error is no terminal there is none."""
        trainer, steps = self.trainer, self.trainer.steps_per_epoch
        epochs = trainer.epochs - trainer.first_epoch
        self._every = 1 if epochs <= 50 else epochs // 20
        self._waiting = ""
        done = (trainer.epoch - trainer.first_epoch) * steps + trainer.batch
        total = epochs * steps
        self._bar = _bar(total, done)
        if trainer.resumed:
            where = f"{trainer.epoch:,} of {trainer.epochs:,} epochs"
            self._write(f"going on after {done:,} of {total:,} steps, {where}")

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Count from the steps that have been done."""
        self._steps = self.trainer.batch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Move the bar."""
        self._bar.update(batch + 1 - self._steps)
        self._steps = batch + 1

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Print the row of the epoch, if it is its turn."""
        numbers = "  ".join(f"{name} {_short(value)}" for name, value in logs.items())
        total = self.trainer.epochs
        self._waiting = f"epoch {epoch + 1:>{len(str(total))}}/{total}  {numbers}"
        if (epoch + 1) % self._every == 0:
            self._print()

    def on_train_end(self, logs: Mapping[str, float]) -> None:
        """Print the last row, if that has not been done, and remove the bar."""
        self._print()
        self._bar.close()

    def _print(self) -> None:
        if self._waiting:
            self._write(self._waiting)
        self._waiting = ""

    def _write(self, line: str) -> None:
        self._bar.write(line, file=self.file or sys.stdout)


def _short(value: float) -> str:
    """Return a number with four digits after the point, an enormous one with its power of ten."""
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4e}"


class _NoBar:
    """What stands in for a bar of tqdm: it prints the rows."""

    def update(self, steps: int) -> None:
        """Draw nothing."""

    def write(self, line: str, file: TextIO | None) -> None:
        """Print a row, where there is something to print it on."""
        print(line, file=file, flush=True)

    def close(self) -> None:
        """Remove nothing."""


def _bar(total: int, done: int) -> Any:
    """Return a bar of tqdm, drawn on a terminal only; without tqdm something that prints rows."""
    try:
        from tqdm import tqdm
    except (Exception, SystemExit):  # it is not installed, or is damaged
        if sys.stderr is not None and sys.stderr.isatty():
            say_once("tqdm, which draws the progress bar, is not installed; run pip install tqdm")
        return _NoBar()
    if sys.stderr is None:  # as under pythonw, or where it was closed
        return _NoBar()
    return tqdm(total=total, initial=done, unit="step", leave=False, disable=None)
