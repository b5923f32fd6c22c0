"""The solvers of the estimators: optimizers of xpnet with the formulas of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from typing import Any

from xpnet.backend import Array
from xpnet.network import Sequential
from xpnet.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop


@dataclass(frozen=True)
class CorrectedRate:
    """η √(1 - β₂ᵗ) / (1 - β₁ᵗ) in step t = 1, 2, ...: the start of Adam, corrected as a whole.

    scikit-learn's Adam is p = p - ηₜ m / (√v + ε) with this ηₜ. That of Kingma and Ba corrects m
    and v one by one, before ε is added.
    """

    lr: float
    beta1: float
    beta2: float

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step; the first step is 0."""
        t = step + 1
        return self.lr * sqrt(1 - self.beta2**t) / (1 - self.beta1**t)


class AdamOfScikitLearn(Adam):
    """m = β₁ m + (1 - β₁) g,  v = β₂ v + (1 - β₂) g²,  p = p - ηₜ m / (√v + ε)

    with the ηₜ of `CorrectedRate`. Powers of β₁ and β₂ that are 0 leave m and v uncorrected.
    """

    def make_state(self) -> None:
        """Make m and v, and powers that stay 0."""
        super().make_state()
        self.xp.copyto(self.powers, 0)

    def state_vectors(self) -> dict[str, Array]:
        """Return m and v."""
        return {"m": self.m, "v": self.v}


def _sgd(net: Sequential, lr: float, model: Any) -> Optimizer:
    nesterov = bool(model.nesterovs_momentum) and model.momentum > 0
    return SGD(net, lr, momentum=model.momentum, nesterov=nesterov)


def _rmsprop(net: Sequential, lr: float, model: Any) -> Optimizer:
    return RMSprop(net, lr, eps=model.epsilon)


def _adam(net: Sequential, lr: float, model: Any) -> Optimizer:
    betas = {"beta1": model.beta_1, "beta2": model.beta_2}
    rate = CorrectedRate(lr, model.beta_1, model.beta_2)
    return AdamOfScikitLearn(net, rate, **betas, eps=model.epsilon)


def _adamw(net: Sequential, lr: float, model: Any) -> Optimizer:
    betas = {"beta1": model.beta_1, "beta2": model.beta_2}
    return AdamW(net, lr, **betas, eps=model.epsilon, weight_decay=model.alpha)


SOLVERS: dict[str, Callable[[Sequential, float, Any], Optimizer]] = {
    "adam": _adam,
    "adamw": _adamw,
    "rmsprop": _rmsprop,
    "sgd": _sgd,
}


def make_optimizer(net: Sequential, model: Any) -> Optimizer:
    """Return the optimizer that a model asks for."""
    return SOLVERS[model.solver](net, model.learning_rate_init, model)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Change the learning rate of `SGD` as scikit-learn does.

    There the velocity is made of steps, -η v, and not of gradients, v: what was collected goes on
    with the learning rate that it was collected with.
    """
    velocity = optimizer.state_vectors().get("v")
    if velocity is not None:
        optimizer.xp.multiply(velocity, optimizer.lr / lr, out=velocity)
    optimizer.lr = lr
