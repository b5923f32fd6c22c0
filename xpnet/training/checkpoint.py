"""Checkpoint: a callback that saves the whole training, so that nothing learnt is lost."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from xpnet.storage.training_file import NAME, step_of
from xpnet.storage.training_file import find_checkpoints as find_checkpoints
from xpnet.support.attributes import Checked
from xpnet.support.checks import count, or_none, path_of, positive
from xpnet.support.errors import OptionError, XpnetError
from xpnet.support.files import sweep, writing
from xpnet.support.locks import FolderLock
from xpnet.training.callbacks import Callback
from xpnet.training.training import Training

WAIT = "let it end, or choose another folder"


class Checkpoint(Callback):
    """Saves the whole training, so that ``trainer.fit(..., resume=folder)`` can go on with it.

    It saves after so many steps or minutes, or, if neither is given, after each epoch; and always
    at the end, and when Ctrl-C or SIGTERM ends the training. What is saved has been looked at: a
    training whose parameters are no longer finite does not overwrite a good checkpoint.

    Parameters
    ----------
    folder : str or os.PathLike
        Where ``step-000000700.npz`` and the like are; it is made if it is missing.
    every_steps : int, optional
        Save when so many steps have been taken since the last time. On a GPU, where steps are
        started 16 at once, it may be up to 15 later.
    every_minutes : float, optional
        Save when so many minutes have passed.
    keep : int
        How many of the latest are kept. With two or more, a damaged one does no harm.

    Raises
    ------
    OptionError
        If a number is out of range; by `fit`, if the folder has checkpoints of another training,
        or if another training is writing into it at the same time, in any process.
    XpnetError
        By `fit`, if the folder cannot be written or the disk is full, or if it has been deleted or
        renamed. The checkpoints before stay,
        and the trainer is as it was: ``trainer.save`` can save it elsewhere.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.data import xor_gate
    >>> net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    >>> trainer, keeper = xpnet.Trainer(net, "bce_logits"), xpnet.Checkpoint("saved")
    >>> _ = trainer.fit(*xor_gate(), epochs=5, callbacks=[keeper], resume="saved")
    >>> [path.name for path in keeper.paths]
    ['step-000000003.npz', 'step-000000004.npz', 'step-000000005.npz']
    """

    folder: Any = Checked(path_of)
    keep: Any = Checked(count)
    every_steps: Any = Checked(or_none(count))
    every_minutes: Any = Checked(or_none(positive))
    every_step = False
    after_others = True
    once = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 3,
    ) -> None:
        self.folder, self.keep = folder, keep
        self.every_steps, self.every_minutes = every_steps, every_minutes
        self._of: Training | None = None
        self._lock = FolderLock(folder)  # taken when a training begins

    @property
    def paths(self) -> list[Path]:
        """The checkpoints in the folder, the oldest first."""
        return find_checkpoints(self.folder)

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Make the folder ready; what belongs to another training is not touched."""
        with writing(self.folder, "choose another folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FolderLock(self.folder, WAIT)
            lock.acquire()
            try:
                sweep(self.folder)
                self._set_aside()
                self.trainer.state()  # raises if what a callback remembers cannot be saved
            except BaseException:
                lock.release()
                raise
        self._lock = lock
        self._of = self.trainer
        self._saved()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Save if it is time."""
        steps, minutes = self.every_steps, self.every_minutes
        if (steps and self.trainer.optimizer.t - self._t >= steps) or (
            minutes and time.monotonic() - self._time >= 60 * minutes
        ):
            self.save()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Save at the end, and if no other time has been asked for."""
        trainer = self.trainer
        at_the_end = bool(trainer.stop) or trainer.epoch == trainer.epochs
        if at_the_end or not (self.every_steps or self.every_minutes):
            self.save()

    def on_interrupt(self) -> None:
        """Save before the training ends."""
        self.save()

    def on_train_end(self, logs: Mapping[str, float]) -> None:
        """Let other trainings write into the folder."""
        self._lock.release()

    def save(self) -> None:
        """Write a checkpoint, and remove those that are too old."""
        with writing(self.folder, "make room for it; the checkpoints before it are intact"):
            ours = self._lock.held and self._lock.folder == self.folder
            if ours and not self._lock.in_place:
                self._find_again()
            with nullcontext() if ours else FolderLock(self.folder, WAIT):
                self.trainer.save(self.folder / NAME.format(self.trainer.optimizer.t))
                for path in self.paths[: -self.keep]:
                    path.unlink(missing_ok=True)
        self._saved()

    def _saved(self) -> None:
        self._t, self._time = self.trainer.optimizer.t, time.monotonic()
        self._left = self._seen()

    def _seen(self) -> list[tuple[Path, int]]:
        """Return the checkpoints, and when they were written."""
        return [(path, path.stat().st_mtime_ns) for path in self.paths]

    def _find_again(self) -> None:
        """Lock the folder again, whose lock somebody has removed, if it is still the same."""
        if not self.folder.is_dir() or self._seen() != self._left:
            raise XpnetError(
                f"the folder {self.folder} has been deleted, renamed or replaced during the "
                "training, which ends here; rename it back and resume from it, or save the "
                "present state elsewhere by trainer.save(path) and resume from that"
            )
        self._lock.release()
        self._lock.acquire()

    def _set_aside(self) -> None:
        """Rename checkpoints that are newer than the step we resumed from.

        A training that begins anew must not do that: the checkpoints belong to another training.
        """
        trainer = self.trainer
        if self.paths and not trainer.resumed and self._of is not trainer:
            raise OptionError(
                f"the folder {self.folder} has checkpoints of a training; go on with it by "
                f"fit(..., resume={str(self.folder)!r}), or choose another folder"
            )
        for path in self.paths:
            if step_of(path) > trainer.optimizer.t:
                path.replace(path.with_name(f"{path.name}.aside"))
