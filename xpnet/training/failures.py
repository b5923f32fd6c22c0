"""What ends a training early: numbers that are not finite; see also `xpnet.support.signals`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.support.errors import DivergenceError
from xpnet.training.advice import advice
from xpnet.training.step import TrainingStep
from xpnet.training.training import Training


def divergence(
    training: Training, step: TrainingStep, what: str, value: float, number: int
) -> DivergenceError:
    """Return the error for a loss that is not finite: it names step and layer, and what may help.

    Parameters
    ----------
    training : Training
    step : TrainingStep
    what : str
        Such as ``"loss"``.
    value : float
        The loss.
    number : int
        The number of the step in the present epoch, from 0.
    """
    net, rows, found = training.net, step.processes.rows_here, ""
    for path, layer in net.walk(""):
        Y = getattr(layer, "Y", None)
        if Y is not None and not np.isfinite(net.xp.asnumpy(Y[:rows])).all():
            found = f"the first output that is not finite is that of layer {path}, {layer!r}"
            break
    first = what == "loss" and number == 0 and training.epoch == training.first_epoch
    finite = "every layer's output is still finite, the loss itself overflows"
    where = next(filter(None, training.comm.allgather(found)), finite)
    return DivergenceError(
        f"the {what} became {value} in step {number + 1} of epoch {training.epoch + 1}: {where}; "
        f"{advice(training, step, first)}"
    )


def require_finite(
    training: Training,
    values: Mapping[str, np.ndarray[Any, Any]],
    step: TrainingStep | None = None,
) -> None:
    """Check all parameters, and what the layers keep beside them.

    Raises
    ------
    DivergenceError
        If a value is not finite; it names the value, its layer and the step.
    """
    for name, a in values.items():
        if a.dtype.kind == "f" and not np.isfinite(a).all():
            place = np.unravel_index(int(np.argmin(np.isfinite(a))), a.shape)
            layer = dict(training.net.walk(""))[name.rpartition(".")[0]]
            where = f"{name}[{', '.join(map(str, place))}] of layer {layer!r}"
            raise DivergenceError(
                f"{where} is {a[place]} after step {training.batch or training.steps_per_epoch} of "
                f"epoch {training.epoch + (training.batch > 0)}; {advice(training, step)}"
            )
