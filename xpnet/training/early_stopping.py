"""EarlyStopping: the end of a training that does not get better, and its best weights."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from xpnet.network.checks import check_values_of
from xpnet.support.attributes import Checked
from xpnet.support.checks import at_least_0, count, yes_or_no
from xpnet.support.errors import OptionError
from xpnet.training.callbacks import Callback

AUTO, SIGNS = "auto", {"min": 1.0, "max": -1.0}


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise OptionError(f"{name} must be a name of the history, as 'val_loss'; got {value!r}")
    return value


def _mode(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in (AUTO, *SIGNS):
        raise OptionError(f'{name} must be "min", "max" or "auto"; got {value!r}')
    return value


class EarlyStopping(Callback):
    """Stops when a number has not improved for a while, and brings back the best weights.

    Parameters
    ----------
    monitor : str
        A name in the history: ``"loss"``, ``"val_loss"``, or ``"val_"`` and the name of a metric.
    patience : int
        Epochs without improvement that are waited for, at least 1.
    min_delta : float
        An improvement is more than this.
    restore_best_weights : bool
        True: the network ends with the weights of its best epoch.
    mode : {"auto", "min", "max"}
        Whether a better number is smaller or larger. ``"auto"`` asks the metric: losses are to
        shrink, the metrics of xpnet and of scikit-learn know what they are to do, and
        ``xpnet.metrics.Metric(function, mode="max")`` says it for another function. It is never
        guessed from the name.

    Attributes
    ----------
    best : float or None
        The best value so far, that of the epoch ``best_epoch``; what is not finite is never best.

    Raises
    ------
    OptionError
        If an argument cannot be meant; by `fit`, before the first step, if the history will not
        have the number, or if its direction is not known.
    """

    monitor: Any = Checked(_name)
    patience: Any = Checked(count)
    min_delta: Any = Checked(at_least_0)
    mode: Any = Checked(_mode)
    restore_best_weights: Any = Checked(yes_or_no)

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 5,
        min_delta: float = 0.0,
        restore_best_weights: bool = True,
        mode: str = AUTO,
    ) -> None:
        self.monitor, self.patience, self.min_delta = monitor, patience, min_delta
        self.restore_best_weights, self.mode = restore_best_weights, mode

    @property
    def sign(self) -> float | None:
        """1 if the number is to shrink, -1 if it is to grow, None if that is not known (yet)."""
        if self.mode != AUTO:
            return SIGNS[self.mode]
        if self.monitor in ("loss", "val_loss"):
            return SIGNS["min"]
        metrics = self.trainer.metrics if hasattr(self, "trainer") else {}
        metric = metrics.get(self.monitor.removeprefix("val_"))
        return SIGNS.get(str(getattr(metric, "mode", None)))

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Forget the training before."""
        self._require(self.trainer.logged)
        self._direction()
        self.best: float | None = None
        self.best_epoch = self.trainer.epoch - 1  # patience begins with this fit
        self._weights: Any = None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep the weights if they are the best; else see whether patience is at its end."""
        self._require(logs)
        value, sign = logs[self.monitor], self._direction()
        better = self.best is None or sign * (self.best - value) > self.min_delta
        if better and isfinite(value):
            self.best, self.best_epoch = value, epoch
            if self.restore_best_weights:
                self._weights = self.trainer.net.state_dict()
        elif epoch - self.best_epoch >= self.patience:
            self.trainer.stop = True

    def _require(self, names: Any) -> None:
        """Refuse a number that is not there."""
        if self.monitor not in names:
            raise OptionError(
                f"EarlyStopping watches {self.monitor!r}, but the history has {', '.join(names)}; "
                "values that begin with val_ need validation_data"
            )

    def _direction(self) -> float:
        """Return the sign; ask for it if it is not known."""
        sign = self.sign
        if sign is None:
            raise OptionError(
                f"EarlyStopping watches {self.monitor!r}: is a better value smaller or larger? "
                f'Write EarlyStopping({self.monitor!r}, mode="max") or mode="min", or give the '
                'metric as xpnet.metrics.Metric(function, mode="max")'
            )
        return sign

    def state_dict(self) -> dict[str, Any]:
        """Return the best value, its epoch, and the weights it had."""
        weights = {f"weights.{name}": a for name, a in (self._weights or {}).items()}
        return {"best": self.best, "best_epoch": self.best_epoch, **weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        values = dict(state)
        self.best = values.pop("best")
        self.best_epoch = count("best_epoch", values.pop("best_epoch"), least=-1)
        if self.best is not None and not isinstance(self.best, float):
            raise OptionError(f"best must be a number; got {self.best!r}")
        if self.best_epoch >= self.trainer.epoch:
            raise OptionError(f"best_epoch is {self.best_epoch}, which has not been trained")
        weights = {}
        for name, a in values.items():
            if not name.startswith("weights.") or not isinstance(a, np.ndarray):
                raise OptionError(f"{name!r:.60} is {a!r:.60}, which EarlyStopping does not know")
            weights[name.removeprefix("weights.")] = a
        if weights:
            check_values_of(self.trainer.net, weights)
        self._weights = weights or None

    def on_train_end(self, logs: Mapping[str, float]) -> None:
        """Bring back the best weights."""
        if self._weights is not None:
            self.trainer.net.load_state_dict(self._weights)
