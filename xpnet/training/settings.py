"""What a training was given: the settings that a checkpoint and a script are compared by.

Their names are those of the arguments that set them: `Trainer.fit` takes them as ``override``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from inspect import signature
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from xpnet.data.batches import Batches
from xpnet.optimizers import Optimizer
from xpnet.optimizers.rates import rate_of
from xpnet.optimizers.settings import numbers_of
from xpnet.schedules import Constant, Schedule
from xpnet.support.errors import OptionError
from xpnet.training.callbacks import Callback
from xpnet.training.fingerprints import prints_of_columns, prints_of_validation
from xpnet.training.training import Training

SAMPLED = sorted({*range(8), *(2**k for k in range(3, 21))})  # steps at which schedules are asked
FUNCTIONS = (FunctionType, MethodType, BuiltinFunctionType, partial)
ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


class Settings:
    """The settings with which a `fit` begins; what is costly is found when it is asked for.

    Parameters
    ----------
    training : Training
    batches : Batches
    columns : Columns
        The data set on the device.
    validation : sequence or None
        The checked validation data.
    callbacks : sequence of Callback
        All of them, on every process.
    """

    def __init__(
        self,
        training: Training,
        batches: Batches,
        columns: Any,
        validation: Any,
        callbacks: Sequence[Callback],
    ) -> None:
        self.net, self.schedule = training.net, training.optimizer.schedule
        self.cheap = cheap_settings(training, batches) | {"callbacks": _all_arguments(callbacks)}
        self._data = columns, validation

    @cached_property
    def data(self) -> dict[str, Any]:
        """The fingerprints of the data."""
        columns, validation = self._data
        data, weight = prints_of_columns(self.net, columns)
        return {
            "data": data,
            "sample_weight": weight,
            "validation_data": prints_of_validation(self.net, validation),
        }

    @cached_property
    def all(self) -> dict[str, Any]:
        """All of them, as JSON can hold them."""
        return self.cheap | {"lr": describe_rate(self.schedule)} | self.data

    def since(self, optimizer: Optimizer) -> dict[str, Any]:
        """Return what has been set on the optimizer since the `fit` began."""
        schedule, numbers = optimizer.schedule, numbers_of(optimizer)
        constant, replaced = isinstance(schedule, Constant), schedule is not self.schedule
        return {
            "lr": schedule.lr if isinstance(schedule, Constant) else None,
            "schedule": describe_rate(schedule) if replaced and not constant else None,
            "changed": {k: v for k, v in numbers.items() if self.cheap.get(k) != v},
        }


def cheap_settings(training: Training, batches: Batches) -> dict[str, Any]:
    """Return the settings that are neither data nor a schedule."""
    size = batches.batch_size
    return {
        "loss": repr(training.loss),
        "optimizer": type(training.optimizer).__name__,
        **numbers_of(training.optimizer),
        "seed": training.seed,
        "batch_size": "all" if size == batches.n else size,
        "shuffle": batches.shuffle,
        "metrics": list(training.metrics),
        "penalty": _penalty_of(training),
    }


def describe_rate(schedule: Schedule) -> Any:
    """Return a constant learning rate; or the name of a schedule, and what it gives at some steps.

    A function cannot be written into a file. Two that give the same are the same for a training.
    """
    if isinstance(schedule, Constant):
        return schedule.lr
    rates = [_rate_at(schedule, step) for step in SAMPLED]
    return {"schedule": _name_of(schedule), "steps": SAMPLED, "rates": rates}


def same_rate_of(about: Mapping[str, Any], then: Mapping[str, Any], schedule: Schedule) -> bool:
    """Return True if a schedule is that of a checkpoint: the first one, or the present one.

    A constant learning rate that a callback has set comes back. A schedule cannot: where one has
    been set during the training, it is the one that is wanted.
    """
    first, present = then.get("lr"), about.get("schedule")
    if present is None and first is None:  # the first release has written no schedules
        return about["lr"] is None and not isinstance(schedule, Constant)
    kept = [first, about["lr"]] if present is None else [present]
    return any(same_rate(rate, schedule) for rate in kept if rate is not None)


def rate_line(about: Mapping[str, Any], then: Mapping[str, Any], now: Any) -> str:
    """Return the line that says how a learning rate differs."""
    was = about.get("schedule") or then.get("lr", "a schedule")
    shown = [rate["schedule"] if isinstance(rate, dict) else rate for rate in (was, now)]
    return f"lr: was {shown[0]!s:.150}, is {shown[1]!s:.150}"


def same_rate(then: Any, schedule: Schedule) -> bool:
    """Return True if a schedule is the one that `describe_rate` has described."""
    if not isinstance(then, dict) or isinstance(schedule, Constant):
        return bool(then == describe_rate(schedule))
    rates = [_rate_at(schedule, step) for step in then["steps"]]
    return then["schedule"] == _name_of(schedule) and all(map(_close, then["rates"], rates))


def _close(a: float | None, b: float | None) -> bool:
    """Return True for equal learning rates; the last bits of a cosine are the machine's."""
    return a == b if a is None or b is None else abs(a - b) <= 1e-12 * max(abs(a), abs(b))


def _rate_at(schedule: Schedule, step: int) -> float | None:
    try:
        return rate_of(schedule, step)
    except OptionError:  # it ends before
        return None


def _name_of(schedule: Schedule) -> str:
    """Return what a schedule is, without the address that each process has another of."""
    kind: Any = type(schedule)
    if issubclass(kind, FUNCTIONS):
        return "a function"
    if kind.__repr__ is object.__repr__:
        return str(kind.__name__)
    return ADDRESS.sub("", repr(schedule))


def _penalty_of(training: Any) -> Any:
    """Return the kind and the numbers of the penalty that a subclass of `Trainer` adds."""
    penalty = getattr(training, "_penalty", None)
    return None if penalty is None else [type(penalty).__name__, _numbers_in(vars(penalty))]


def _all_arguments(callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Return the arguments of each callback that remembers something, by its name.

    Those that only print and write files, on one process, do not decide about the training.
    """
    named = name_callbacks(callbacks)
    return {name: _arguments(callback) for name, callback in named.items() if not callback.once}


def _arguments(callback: Callback) -> dict[str, Any]:
    """Return the arguments that made a callback, as far as it keeps them under their names."""
    names = list(signature(type(callback).__init__).parameters)[1:]
    return _numbers_in({k: getattr(callback, k) for k in names if hasattr(callback, k)})


def _numbers_in(values: Mapping[str, Any]) -> dict[str, Any]:
    plain = bool | int | float | str | None
    return {k: v for k, v in values.items() if isinstance(v, plain) and not k.startswith("_")}


def name_callbacks(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Return the callbacks that remember something, as EarlyStopping0, EarlyStopping1 ..."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        kind = type(callback)
        if kind.state_dict is not Callback.state_dict:
            k = sum(type(other) is kind for other in named.values())
            named[f"{kind.__name__}{k}"] = callback
    return named
