"""The state of a training as plain data: arrays, and a description that JSON can hold.

Beside the parameters it has all that decides how the training goes on: the optimizer's memory, the
place in the epoch, the losses so far, the history, and what the callbacks remember. Shuffles and
dropout masks follow from a seed and from counters, so the numbers of a generator need not be kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.support.archive import Arrays
from xpnet.support.errors import CheckpointError

PROGRESS = ("epoch", "batch", "first_epoch", "epochs", "stop")


@dataclass(frozen=True)
class TrainingState:
    """What `Trainer.state` returns, and `Trainer.restore` takes.

    Attributes
    ----------
    arrays : dict of str to array
        ``"0.W"`` and the like: the network. ``"optimizer..."``: its memory. ``"losses"``: those of
        the present epoch. ``"history.0"``...: each list of the history. And those of callbacks.
    about : dict
        The description: of the network, the settings, the progress, the callbacks ...
    source : str
        What errors call it: the path, if it comes from a file.
    """

    arrays: Arrays
    about: dict[str, Any]
    source: str = "the state"

    @property
    def network(self) -> Arrays:
        """The values of the network: their names begin with the number of a layer."""
        return {name: a for name, a in self.arrays.items() if name[0].isdigit()}

    @property
    def history(self) -> dict[str, list[float]]:
        """The history until then: a value for each epoch, NaN where there was none.

        Raises
        ------
        CheckpointError
            If a column is missing.
        """
        found = {}
        for k, name in enumerate(self.about["history"]):
            column = self.arrays.get(f"history.{k}", np.zeros(()))
            if column.ndim != 1 or column.dtype.kind != "f":
                raise self.damaged(f"the history has no {name}")
            found[name] = column.tolist()
        return aligned(found, self.about["progress"]["first_epoch"])

    def damaged(self, why: object) -> CheckpointError:
        """Return the error for a state that cannot be restored."""
        return CheckpointError(f"{self.source} is damaged: {why}")


def aligned(columns: Mapping[str, list[float]], first_epoch: int) -> dict[str, list[float]]:
    """Return the columns of a history in equal lengths, NaN where an epoch has no value.

    The first release wrote shorter columns. One that has a value for each epoch before the last
    `fit` has none later; any other ends with the last epoch.
    """
    longest = max(map(len, columns.values()), default=0)
    found = {}
    for name, values in columns.items():
        gap = [float("nan")] * (longest - len(values))
        ended = gap and len(values) == first_epoch != longest - first_epoch
        found[name] = values + gap if ended else gap + values
    return found
