"""A metric: a function of (targets, outputs) with a name, and a direction if it is known."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from xpnet.losses import Loss
from xpnet.support.errors import DataError, OptionError
from xpnet.support.messages import look_up
from xpnet.training.metrics import classes, numbers
from xpnet.training.metrics.sums import precise

Function = Callable[..., Any]
MODES = ("min", "max")
# "A function ending with _score returns a value to maximize; one ending with _error, _loss or
# _deviance a value to minimize": scikit-learn's own rule for the functions of sklearn.metrics.
SKLEARN = {"_score": "max", "_error": "min", "_loss": "min", "_deviance": "min"}


class Metric:
    """A function of (targets, outputs), the argument order of scikit-learn.

    Parameters
    ----------
    function : function
        Gives one number for t, shape (n,) or (n, outputs), and Y, shape (n, outputs): NumPy arrays,
        floating ones in float64. With weights it also gets ``sample_weight``.
    mode : {"min", "max"}, optional
        Whether a better value is smaller or larger. By default that is known of the functions of
        this module and of ``sklearn.metrics``; of others it is not.
    name : str, optional
        In the history; by default that of the function.

    Raises
    ------
    OptionError
        If the function cannot be called, or the mode or the name cannot be meant.

    Examples
    --------
    ::

        worst = xpnet.metrics.Metric(lambda t, Y: abs(Y - t).max(), mode="min", name="worst")
        trainer = xpnet.Trainer(net, "mse", metrics=["r2", worst])
    """

    def __init__(
        self, function: Function, mode: str | None = None, name: str | None = None
    ) -> None:
        if not callable(function):
            raise OptionError(f"a metric is a function of (t, Y) or a name; got {function!r:.80}")
        if mode is not None and mode not in MODES:
            raise OptionError(f'Metric: mode must be "min" or "max"; got {mode!r}')
        self.function, self.name = function, _name_of(function) if name is None else name
        self.mode = _mode_of(function) if mode is None else mode
        if not isinstance(self.name, str) or not self.name.isprintable() or not self.name.strip():
            raise OptionError(f"the name of a metric must be a word; got {self.name!r}")
        if self.name == "loss":
            raise OptionError(
                "a metric cannot be named 'loss': the history has the loss under this name; "
                'write xpnet.metrics.Metric(function, name="...")'
            )

    def __repr__(self) -> str:
        return f"Metric({self.name!r}, mode={self.mode!r})"

    def __call__(self, t: Any, Y: Any, sample_weight: Any = None) -> float:
        """Return the number, after a look at what the function returned."""
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        try:
            value = self.function(self._given(t), self._given(Y), **weights)
        except Exception as error:
            error.add_note(
                f"The metric {self.name!r} raised this. It was given targets of shape "
                f"{np.shape(t)} and outputs of shape {np.shape(Y)}."
            )
            raise
        try:
            number = np.asarray(value).reshape(())
            if number.dtype.kind in "biufO":
                return float(number[()])
            raise TypeError
        except (TypeError, ValueError, RuntimeError):  # PyTorch's: it requires a gradient
            raise self._no_number(value) from None

    def _given(self, a: Any) -> np.ndarray[Any, Any]:
        """Return an array in its wide type, a copy for a function that may write in it."""
        wide = precise(np.asarray(a))
        return wide if self.is_ours else wide.copy()

    def _no_number(self, value: Any) -> DataError:
        came = repr(value)
        if isinstance(value, np.ndarray | list | tuple):
            came = f"an array of shape {np.shape(value)}"
        return DataError(f"the metric {self.name!r} must return one number; it returned {came:.80}")

    @property
    def is_ours(self) -> bool:
        """Whether it is one of this module's, as it is meant for a loss."""
        return isinstance(self.function, _OfNumbers)

    @property
    def takes_weights(self) -> bool:
        """Whether the function has an argument ``sample_weight``."""
        try:
            parameters = inspect.signature(self.function).parameters.values()
        except (TypeError, ValueError):
            return False
        return any(p.name == "sample_weight" or p.kind is p.VAR_KEYWORD for p in parameters)


def _inner(function: Function) -> Any:
    """Return the function inside of partials."""
    while isinstance(function, partial):
        function = function.func
    return function


def _name_of(function: Function) -> str:
    inner = _inner(function)
    return str(getattr(inner, "__name__", type(inner).__name__))


def _mode_of(function: Function) -> str | None:
    """Return the direction of what is ours or scikit-learn's."""
    inner = _inner(function)
    if str(getattr(inner, "__module__", "")).startswith("sklearn.metrics"):
        ends = (mode for end, mode in SKLEARN.items() if _name_of(inner).endswith(end))
        return next(ends, None)
    return next((own.mode for own in METRICS.values() if own.function is inner), None)


METRICS: dict[str, Metric] = {}
for _function in (classes.accuracy, classes.exact_match, classes.precision, classes.recall,
                  classes.f1, numbers.r2):  # fmt: skip
    METRICS[_function.__name__] = Metric(_function, "max")
for _function in (numbers.mae, numbers.mse, numbers.rmse):
    METRICS[_function.__name__] = Metric(_function, "min")


def find_metrics(metrics: Any, loss: Loss) -> dict[str, Metric]:
    """Return metrics by their names.

    Raises
    ------
    OptionError
        If a name is unknown, or two metrics have one name.
    """
    one = isinstance(metrics, str | Metric) or callable(metrics)
    if not one and not isinstance(metrics, Iterable):
        raise OptionError(f"metrics is a list of names and functions; got {metrics!r:.80}")
    given = [metrics] if one else list(metrics)
    made = [find_metric(metric, loss) for metric in given]
    names = [metric.name for metric in made]
    for name in names:
        if names.count(name) > 1:
            raise OptionError(
                f"each metric needs a name of its own; {names.count(name)} are named {name!r}: "
                f'write xpnet.metrics.Metric(function, name="...") (got {given!r:.200})'
            )
    return {metric.name: metric for metric in made}


def find_metric(metric: str | Function, loss: Loss) -> Metric:
    """Return the metric of a name or a function, one of ours as it is meant for the loss."""
    if not isinstance(metric, str):
        metric = metric if isinstance(metric, Metric) else Metric(metric)
        found = next((own for own in METRICS.values() if own.function is metric.function), None)
        return metric if found is None else _for_loss(metric, loss)
    return _for_loss(look_up("metric", metric, METRICS), loss)


def _for_loss(own: Metric, loss: Loss) -> Metric:
    """Return a metric of ours that takes the outputs as the loss means them."""
    function = own.function
    if function.__module__ != classes.__name__:
        return Metric(_OfNumbers(function, loss), own.mode, own.name)
    return Metric(_OfClasses(function, loss), own.mode, own.name)


class _OfNumbers:
    """A metric of numbers, of what the outputs mean for the loss."""

    def __init__(self, function: Function, loss: Loss) -> None:
        self.function, self.loss = function, loss

    def __call__(self, t: Any, Y: Any, sample_weight: Any = None) -> float:
        link = self.loss.link
        return float(self.function(t, Y if link is None else link(Y), sample_weight))


class _OfClasses(_OfNumbers):
    """A metric of classes, with the threshold and the kind of target of the loss."""

    def __call__(self, t: Any, Y: Any, sample_weight: Any = None) -> float:
        loss = self.loss
        if loss.numbers:
            _require_classes(t, loss)
        options = {"threshold": loss.threshold, "independent": _independent(loss)}
        return float(self.function(t, Y, **options, sample_weight=sample_weight))


def _independent(loss: Loss) -> bool | None:
    """Return whether several outputs are independent labels, None if the loss does not tell."""
    if loss.distribution:
        return False
    return True if loss.target_range == (0.0, 1.0) else None


def _require_classes(t: Any, loss: Loss) -> None:
    """Refuse targets of a loss of numbers that are not classes."""
    t = np.asarray(t)
    other = (t != 0) & (t != 1)
    if other.any():
        value = t[other][0]
        raise DataError(
            f"{loss!r} compares numbers, such as the target {value}: a metric of classes needs the "
            'targets 0 and 1; use "mae", "rmse" or "r2"'
        )
