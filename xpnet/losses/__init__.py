"""The losses: how wrong the outputs are, and the gradient of exactly that number."""

from __future__ import annotations

from typing import Any

from xpnet.losses.base import Loss
from xpnet.losses.binary import BinaryCrossEntropy
from xpnet.losses.classification import CrossEntropy, SoftmaxCrossEntropy
from xpnet.losses.regression import Huber, MeanSquaredError, Poisson
from xpnet.losses.targets import check_targets, check_weights
from xpnet.support.errors import OptionError
from xpnet.support.messages import look_up

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "Huber",
    "Loss",
    "MeanSquaredError",
    "Poisson",
    "SoftmaxCrossEntropy",
    "check_targets",
    "check_weights",
    "find_loss",
]
LOSSES: dict[str, Any] = {
    "mse": MeanSquaredError,
    "huber": Huber,
    "poisson": Poisson,
    "bce": BinaryCrossEntropy,
    "bce_logits": lambda: BinaryCrossEntropy(from_logits=True),
    "cross_entropy": CrossEntropy,
    "softmax_cross_entropy": SoftmaxCrossEntropy,
}


def find_loss(loss: str | Loss) -> Loss:
    """Return a new loss of this name, or ``loss`` itself."""
    if isinstance(loss, str):
        made: Loss = look_up("loss", loss, LOSSES)()
        return made
    if not isinstance(loss, Loss):
        raise OptionError(f"no loss: {loss!r}; write for example xpnet.SoftmaxCrossEntropy()")
    return loss
