"""The state of a training as plain data: arrays, and a description that JSON can hold.

Beside the parameters it has all that decides how the training goes on: the optimizer's memory, the
place in the epoch, the losses so far, the history, and what the callbacks remember. Shuffles and
dropout masks follow from a seed and from counters, so the numbers of a generator need not be kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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
        """The history until then."""
        names = enumerate(self.about["history"])
        return {name: self.arrays[f"history.{k}"].tolist() for k, name in names}

    def require_same(self, now: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that it is the state of this training, and that no array is missing.

        Parameters
        ----------
        now : dict
            The description of the network, and the settings of the training.
        shapes : dict of str to tuple
            The shapes that arrays must have.

        Raises
        ------
        CheckpointError
            If a setting differs, or an array is missing or has another shape.
        """
        then = {"network": self.about["network"], **self.about["settings"]}
        for name, value in json.loads(json.dumps(now)).items():
            if name not in then or then[name] != value:
                was = f"was {then.get(name)!r:.150}, and is {value!r:.150}"
                raise CheckpointError(f"{self.source} is of another training: the {name} {was}")
        for name, shape in shapes.items():
            if name not in self.arrays or self.arrays[name].shape != shape:
                raise self.damaged(f"it has no {name} of shape {shape}")
        for k, name in enumerate(self.about["history"]):
            if getattr(self.arrays.get(f"history.{k}"), "ndim", None) != 1:
                raise self.damaged(f"the history has no {name}")

    def damaged(self, why: object) -> CheckpointError:
        """Return the error for a state that cannot be restored."""
        return CheckpointError(f"{self.source} is damaged: {why}")
