"""Training as scikit-learn's own MLP does it: its loss, its penalty, and when it stops."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.data.sparse import SparseRows
from xpnet.estimators.solvers import set_learning_rate
from xpnet.layers import Linear
from xpnet.losses import Loss
from xpnet.network import PREDICTION_BATCH, Sequential
from xpnet.network.checks import check_values
from xpnet.optimizers import Optimizer
from xpnet.training.callbacks import Callback
from xpnet.training.data import DataReader
from xpnet.training.trainer import Trainer

SMALLEST_RATE = 1e-6  # below it, learning_rate="adaptive" ends the training


class HalfSquaredError(Loss):
    """ℓ = Σⱼ (yⱼ - tⱼ)²/2        ∂ℓ/∂yⱼ = yⱼ - tⱼ"""

    mean_over_outputs = False

    def elements(self, Y: Array, T: Array, out: Array) -> None:
        """(y - t)²/2"""
        self.slope(Y, T, out=out)
        self.xp.multiply(out, out, out=out)
        self.xp.multiply(out, 0.5, out=out)

    def slope(self, Y: Array, T: Array, out: Array) -> None:
        """y - t"""
        self.xp.subtract(Y, T, out=out)


class WeightPenalty:
    """Adds the penalty α ‖W‖² / (2 Σᵢ wᵢ) to the loss of each batch, wᵢ = 1 unless given.

    dW = dW + α W / Σᵢ wᵢ for the W of each `Linear`; its b is left alone.

    Parameters
    ----------
    net : Sequential
    optimizer : Optimizer
    alpha : float
        α.
    """

    def __init__(self, net: Sequential, optimizer: Optimizer, alpha: float) -> None:
        self.xp, self.alpha = net.xp, alpha
        self._factor, self._squares = (net.xp.zeros((), net.dtype) for _ in range(2))
        self._matrices = [
            (layer.W, layer.dW, optimizer.work[: layer.W.size].reshape(layer.W.shape))
            for layer in net
            if isinstance(layer, Linear)
        ]

    def add_gradient(self, X: Array, t: Array, *weights: Array) -> None:
        """dW = dW + α W / Σᵢ wᵢ"""
        xp, factor = self.xp, self._over_weight(len(X), *weights)
        for W, dW, work in self._matrices:
            xp.multiply(W, factor, out=work)
            xp.add(dW, work, out=dW)

    def _over_weight(self, n: int, w: Array = None) -> float | Array:
        """Return α / Σᵢ wᵢ, on the device where the weights are."""
        if w is None:
            return self.alpha / n
        self.xp.sum(w, out=self._factor)
        return self.xp.divide(self.alpha, self._factor, out=self._factor)

    def squares(self) -> float:
        """Return ‖W‖², over all layers."""
        xp, total, square = self.xp, self._squares, self._factor
        xp.copyto(total, 0)
        with np.errstate(over="ignore"):  # the next loss is not finite, and the trainer says so
            for W, _, work in self._matrices:
                xp.multiply(W, W, out=work)
                xp.sum(work, out=square)
                xp.add(total, square, out=total)
        return float(xp.asnumpy(total))


class CheckedData(DataReader):
    """Data that scikit-learn has checked; sparse rows stay sparse on the host."""

    mean_weight = False

    def check(self, X: Any, t: Any) -> tuple[Any, np.ndarray[Any, Any]]:
        """Return inputs and targets as they are: only these may be too large for the network."""
        check_values(t, self.net.dtype, "y")
        return X, t

    def put(self, column: Any, dtype: np.dtype[Any]) -> Array:
        """Return a column on the device.

        A step on a device cannot fetch sparse rows from the host, so there they are dense.
        """
        if not isinstance(column, SparseRows):
            return super().put(column, dtype)
        rows, xp = column.astype(dtype), self.net.xp
        if xp.on_host:
            return rows
        dense = xp.empty(rows.shape, dtype)
        for some in slices(len(rows)):
            xp.copyto(dense[some], xp.asarray(rows.read(some)))
        return dense


class EstimatorTrainer(Trainer):
    """Trains with the penalty of scikit-learn's MLP, on data that scikit-learn has checked.

    Parameters
    ----------
    net, loss, optimizer, seed
        See `Trainer`.
    alpha : float
        α of the `WeightPenalty`.
    """

    def __init__(
        self, net: Sequential, loss: Loss, optimizer: Optimizer, alpha: float, seed: int
    ) -> None:
        super().__init__(net, loss, optimizer, seed=seed)
        self._reader = CheckedData(net, self.loss)
        self.penalty = WeightPenalty(net, optimizer, alpha) if alpha else None
        self._penalty = self.penalty

    def release(self) -> None:
        """Drop the data: a callback may keep the trainer."""
        self._steps = self._data = None


def slices(n: int) -> list[slice]:
    """Return the rows, of n, that are dense or predicted at a time."""
    return [slice(a, a + PREDICTION_BATCH) for a in range(0, n, PREDICTION_BATCH)]


class Convergence(Callback):
    """Keeps the estimator's record of each epoch, and stops when there is no progress any more.

    Parameters
    ----------
    model : estimator
        Its ``loss_curve_``, ``validation_scores_``, ``n_iter_`` ... go on from where they are.
    score : function or None
        Gives the score on the validation data; None: the training loss is watched.
    data : list of X, w
        The samples of an epoch, and what they weigh; None: 1 each.
    weight_penalty : WeightPenalty or None
        Its value is added to the loss of each epoch.
    keeps_best : bool
        True: the weights of the best score count, if there are validation data. False: those with
        which the training ends, as a callback may have brought back others.
    """

    def __init__(
        self,
        model: Any,
        score: Callable[[], float] | None,
        data: list[Any],
        weight_penalty: WeightPenalty | None,
        keeps_best: bool,
    ) -> None:
        X, w = data
        self.model, self.score, self.samples = model, score, X.shape[0]
        self.total_weight = float(self.samples if w is None else w.sum())
        self.weight_penalty, self.keeps_best = weight_penalty, keeps_best
        self.weights: np.ndarray[Any, Any] | None = None  # the best so far on validation data

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Until there are better ones, the weights are the best."""
        if self.score:
            self.weights = self._copy()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Note the penalty of the weights with which the epoch begins, in the mean of its steps."""
        penalty, self.penalty = self.weight_penalty, 0.0
        if penalty:
            factor = penalty.alpha * self.trainer.steps_per_epoch / (2 * self.total_weight)
            self.penalty = factor * penalty.squares()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Write down what the epoch has reached."""
        model = self.model
        model.loss_ = model._mean_of(logs["loss"]) + self.penalty
        model.loss_curve_.append(model.loss_)
        model.n_iter_ += 1
        model.t_ += self.samples
        if model.verbose:
            print(f"Iteration {model.n_iter_}, loss = {model.loss_:.8f}")
        if not self._progress():
            self._slow_down_or_stop()
        elif model.solver == "sgd" and model.learning_rate == "invscaling":
            lr = model.learning_rate_init / (model.t_ + 1) ** model.power_t
            set_learning_rate(self.trainer.optimizer, lr)

    def _progress(self) -> bool:
        """Return False if there was no progress of at least ``tol`` for too long."""
        model = self.model
        if self.score:
            value, best = self.score(), model.best_validation_score_
            model.validation_scores_.append(value)
            if model.verbose:
                print(f"Validation score: {value:f}")
        else:
            value, best = -model.loss_, -model.best_loss_
        stalled = value < best + model.tol
        model._no_improvement_count = model._no_improvement_count + 1 if stalled else 0
        if value > best and self.score:
            model.best_validation_score_, self.weights = value, self._copy()
        elif value > best:
            model.best_loss_ = -value
        return bool(model._no_improvement_count <= model.n_iter_no_change)

    def _slow_down_or_stop(self) -> None:
        """Stop, or go on with a fifth of the learning rate."""
        model, optimizer = self.model, self.trainer.optimizer
        adaptive, then = model.solver == "sgd" and model.learning_rate == "adaptive", "Stopping."
        if adaptive and optimizer.lr > SMALLEST_RATE:
            set_learning_rate(optimizer, optimizer.lr / 5)
            model._no_improvement_count = 0
            then = f"Setting learning rate to {optimizer.lr:f}"
        else:
            self.trainer.stop = True
        if model.verbose:
            what = "Validation score" if self.score else "Training loss"
            print(
                f"{what} did not improve more than tol={model.tol:f} for "
                f"{model.n_iter_no_change} consecutive epochs. {then}"
            )

    def best(self) -> np.ndarray[Any, Any]:
        """Return the weights that count."""
        return self._copy() if self.weights is None or not self.keeps_best else self.weights

    def _copy(self) -> np.ndarray[Any, Any]:
        net = self.trainer.net
        return np.array(net.xp.asnumpy(net.params))
