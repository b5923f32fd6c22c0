"""Attributes of a trainer that may be assigned between two fits, each checked as in `__init__`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.losses import find_loss
from xpnet.optimizers import find_optimizer
from xpnet.parallel.communicator import ALONE, Communicator
from xpnet.support.attributes import require_known, require_known_in
from xpnet.support.checks import count
from xpnet.support.errors import OptionError
from xpnet.training.callbacks import Callback
from xpnet.training.metrics import find_metrics


class LossOf:
    """The loss; what checks data for it, and the metrics that ask it, follow."""

    def __set__(self, trainer: Any, value: Any) -> None:
        own = vars(trainer)
        own["loss"] = find_loss(value)
        for metric in own.get("metrics", {}).values():
            if getattr(metric, "is_ours", False):
                metric.function.loss = own["loss"]
        if "_reader" in own:
            own["_reader"].loss = own["loss"]


class OptimizerOf:
    """The optimizer, which must be of the trainer's network."""

    def __set__(self, trainer: Any, value: Any) -> None:
        vars(trainer)["optimizer"] = find_optimizer(value, trainer.net)


class MetricsOf:
    """The metrics, by their names or as functions."""

    def __set__(self, trainer: Any, value: Any) -> None:
        given = value.values() if isinstance(value, Mapping) else value
        vars(trainer)["metrics"] = find_metrics(given, trainer.loss)


class ProcessesOf:
    """The processes that train together; a trainer keeps those that it began with."""

    def __set__(self, trainer: Any, value: Any) -> None:
        comm = ALONE if value is None else value
        if not isinstance(comm, Communicator):
            raise OptionError(f"comm is xpnet.parallel.communicator(); got {value!r:.60}")
        if vars(trainer).setdefault("comm", comm) is not comm:
            raise OptionError(f"comm of a trainer stays; make a new Trainer; got {comm!r:.60}")


def require_known_names(trainer: Any, callbacks: Sequence[Callback]) -> None:
    """Refuse attributes that nothing reads, of all that takes part in a training."""
    for thing in (trainer, trainer.loss, trainer.optimizer, *callbacks):
        require_known(thing)
    require_known_in(trainer.net)


def seed_of(name: str, value: Any) -> int:
    """Return a seed: a whole number of 0 or more."""
    return count(name, value, least=0)


def stop_of(name: str, value: Any) -> bool:
    """Return True or False; numbers and arrays of one element count as Python counts them."""
    if not isinstance(value, bool | int | np.generic | np.ndarray) or np.size(value) != 1:
        raise OptionError(f"{name} must be True or False; got {value!r:.60}")
    return bool(value)
