"""What may help where a training cannot go on, or will not learn: each advice has its reason."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import say_once
from xpnet.data.sparse import SparseRows
from xpnet.layers import LAYERS, Dropout, Flatten, Identity, Sigmoid, Softmax
from xpnet.losses import BinaryCrossEntropy, CrossEntropy, Loss, SoftmaxCrossEntropy
from xpnet.optimizers import SGD, Optimizer
from xpnet.training.step import TrainingStep
from xpnet.training.training import Training

LARGE = 1e4  # data and weights above it are likely to be the reason
ROWS = 4096  # that are looked at at a time


def check_end(net: Any, loss: Loss) -> None:
    """Say once if the last layer of a network does not fit the loss."""
    last = _last(net)
    on_scores = isinstance(loss, SoftmaxCrossEntropy) or getattr(loss, "from_logits", False)
    if on_scores and isinstance(last, Sigmoid | Softmax):
        other = "cross_entropy" if loss.distribution else "bce"
        right = isinstance(last, Softmax) == loss.distribution
        say_once(
            f"{loss!r} takes scores, but {last!r} makes probabilities of them, and the training "
            f"learns slowly: leave out {last!r}{f', or use the loss {other!r}' * right}"
        )
    probabilities = takes_probabilities(loss) and type(last) in LAYERS.values()
    if probabilities and not isinstance(last, Softmax if loss.distribution else Sigmoid | Softmax):
        say_once(f"{loss!r} takes probabilities, but the network ends with {last!r}: {_end(loss)}")


def takes_probabilities(loss: Loss) -> bool:
    """Return True for a loss of xpnet that is defined for outputs from 0 to 1."""
    return isinstance(loss, CrossEntropy) or (
        isinstance(loss, BinaryCrossEntropy) and not loss.from_logits
    )


def advice(training: Training, step: TrainingStep | None, first: bool = False) -> str:
    """Return what may help after numbers that are not finite.

    Parameters
    ----------
    training : Training
    step : TrainingStep or None
        Has the outputs and the data, None if they are not known.
    first : bool
        True: no step of this `fit` had changed a parameter.
    """
    found = None if step is None else _of_outputs(training, step) or _of_data(training, step)
    if found is None and first:
        found = _of_parameters(training)
    return found or _of_optimizer(training.optimizer)


def _of_optimizer(optimizer: Optimizer) -> str:
    """Return the advice for steps that are too long; those of Adam do not shrink with g."""
    clips = isinstance(optimizer, SGD) and optimizer.clip_norm is None
    also = " or set clip_norm" if clips else ""
    return f"lower the learning rate (now {optimizer.lr:g}){also}, and begin with a new network"


def _of_outputs(training: Training, step: TrainingStep) -> str | None:
    """Return the advice for outputs that the loss is not defined for."""
    loss = training.loss
    if not takes_probabilities(loss) or loss.Y is None:
        return None
    Y = step.xp.asnumpy(loss.Y)
    outside = Y[np.isfinite(Y) & ((Y < 0) | (Y > 1))]
    if not outside.size:
        return None
    return f"{loss!r} takes probabilities, but an output is {outside[0]:.3g}: {_end(loss)}"


def _of_data(training: Training, step: TrainingStep) -> str | None:
    """Return the advice for inputs or targets that are too large; labels never are."""
    names = [("X", "inputs"), ("t", "targets")][: 1 if training.loss.distribution else 2]
    for (name, what), column in zip(names, step.batches.columns, strict=False):
        top = _largest(step.xp, column)
        if top > LARGE:
            return f"the {what} are large, to {top:.2g}: scale them, as {name} / abs({name}).max()"
    return None


def _of_parameters(training: Training) -> str | None:
    """Return the advice for a network that was not finite before the first update."""
    for name, value in training.net.state_dict().items():
        top = np.abs(value).max(initial=0.0) if value.dtype.kind == "f" else 0.0
        if np.isnan(top) or (top > LARGE and training.epoch):  # an earlier fit has diverged
            return f"{name} was spoilt before: make a new network, and an optimizer for it"
        if top > LARGE:
            return f"the first values of {name} are large, to {top:.2g}: begin with smaller ones"
    return None


def _largest(xp: Any, column: Any) -> float:
    """Return the largest magnitude in a column."""
    column = column.matrix.data if isinstance(column, SparseRows) else column
    blocks = (xp.asnumpy(column[k : k + ROWS]) for k in range(0, len(column), ROWS))
    return max((float(np.abs(block).max()) for block in blocks), default=0.0)


def _end(loss: Loss) -> str:
    """Return how a network ends for a loss on probabilities."""
    if loss.distribution:
        return 'end it with Softmax(), or use the loss "softmax_cross_entropy"'
    return 'end it with Sigmoid(), or use the loss "bce_logits"'


def _last(net: Any) -> Any:
    """Return the last layer that changes the outputs."""
    layers = [layer for _, layer in net.walk("") if not isinstance(layer, SAME)]
    return layers[-1] if layers else None


SAME = (Dropout, Flatten, Identity)
