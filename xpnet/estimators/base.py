"""What classifier and regressor share when they fit."""

from __future__ import annotations

import warnings
from math import inf
from numbers import Integral
from types import SimpleNamespace
from typing import Any, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state

from xpnet.backend import Backend
from xpnet.backend.random import Random
from xpnet.data.sparse import SparseRows
from xpnet.estimators import options
from xpnet.estimators.lbfgs import Objective, minimize
from xpnet.estimators.learnt import Learnt, predict_rows
from xpnet.estimators.solvers import make_optimizer
from xpnet.estimators.training import Convergence, EstimatorTrainer, slices
from xpnet.estimators.weights import NumPyArray, first_weights, flat_of, scaled, weights_of
from xpnet.losses import Loss, check_weights
from xpnet.network import Sequential
from xpnet.support.checks import count, on_host
from xpnet.support.errors import DivergenceError, OptionError, ShapeError


def has_epochs(model: Any) -> bool:
    """Return True for a solver that goes through the data in epochs, as partial_fit needs."""
    if model.solver == options.LBFGS:
        raise AttributeError(
            "partial_fit is only available for stochastic optimizers. lbfgs is not stochastic."
        )
    return True


class MLP(Learnt):
    """A multi-layer perceptron; see `MLPClassifier` and `MLPRegressor`.

    What `fit` does; what has been learnt is in `Learnt`.
    """

    # The parameters, all of which __init__ sets, and what fit sets.
    alpha: float
    early_stopping: bool
    max_iter: int
    random_state: Any
    n_outputs_: int
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    _seed: int

    # ---- what the two kinds define ------------------------------------------------------------

    def _targets(self, y: NumPyArray, first: bool, partial: bool, classes: Any) -> NumPyArray:
        """Return y as targets of the loss; ``first``: note what they are like, too."""
        raise NotImplementedError

    def _loss(self) -> Loss:
        """Return the loss."""
        raise NotImplementedError

    def _mean_of(self, loss: float) -> float:
        """Return a loss as scikit-learn reports it."""
        return loss

    def _score_of(self, t: NumPyArray, Y: NumPyArray, sample_weight: NumPyArray | None) -> float:
        """Return how well scores Y agree with targets t."""
        raise NotImplementedError

    # ---- fit ----------------------------------------------------------------------------------

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, partial: bool = False, classes: Any = None
    ) -> Self:
        """Train for ``max_iter`` epochs, or if ``partial`` for one."""
        options.check_options(self)
        options.require_known_parameters(self)
        if partial and self.early_stopping:
            raise OptionError(
                "partial_fit does not support early_stopping=True: it has no validation data; set "
                "early_stopping=False"
            )
        first = not hasattr(self, "coefs_") or not (partial or self.warm_start)
        X, y = self._validated(X, y, first)
        X, y, w = self._weighted(X, y, sample_weight, partial)
        t = self._targets(y, first, partial, classes)
        xp, self._seed = self._backend(), self._draw_seed() if first else self._seed
        parts = self._split(X, t, w)
        if first:
            self._begin(X, xp)
        self._same_architecture()
        self._watch(first)
        self.n_iter_ = 0
        self._train(xp, *parts, partial)
        return self

    def _validated(self, X: Any, y: Any, first: bool) -> tuple[Any, NumPyArray]:
        """Return X and y after scikit-learn's checks; X is dense or CSR."""
        raise NotImplementedError

    def _weighted(
        self, X: Any, y: NumPyArray, sample_weight: Any, partial: bool
    ) -> tuple[Any, NumPyArray, NumPyArray | None]:
        """Return the samples whose weight is not 0, and their weights, None if all are equal."""
        w = None
        if sample_weight is not None:
            X, y, w = _used(X, y, weights_for(sample_weight, X.shape[0]))
        balance = self._class_weights(y, partial)
        if balance is not None:
            X, y, w = _used(X, y, balance if w is None else w * balance)
        return X, y, w

    def _class_weights(self, y: NumPyArray, partial: bool) -> NumPyArray | None:
        """Return what the class of each sample weighs; None where classes have no weights."""
        return None

    def _begin(self, X: Any, xp: Backend) -> None:
        """Draw the first weights; begin to count."""
        hidden = options.hidden_sizes(self.hidden_layer_sizes)
        sizes = [X.shape[1], *hidden, self.n_outputs_]
        names = options.for_each_layer("activation", self.activation, len(hidden))
        names = [*names, names[-1] if names else ""]
        dtype = X.dtype if X.dtype.name in xp.dtypes else np.dtype(np.float32)
        self.coefs_, self.intercepts_ = first_weights(self._seed, sizes, names, dtype)
        self.n_layers_, self.loss_curve_, self.t_ = len(sizes), [], 0
        self._optimizer_state: dict[str, Any] | None = None
        self._no_improvement_count = 0

    def _same_architecture(self) -> None:
        """Refuse to go on from weights of another architecture."""
        asked = options.hidden_sizes(self.hidden_layer_sizes)
        present = [W.shape[1] for W in self.coefs_[:-1]]
        if asked != present:
            raise OptionError(
                f"the training cannot go on: hidden_layer_sizes={asked}, but coefs_ has hidden "
                f"layers of {present} units; use warm_start=False, or a clone of the estimator"
            )

    def _draw_seed(self) -> int:
        """Return ``random_state`` if it is a seed, else a number drawn from it."""
        if isinstance(self.random_state, Integral):
            return count("random_state", self.random_state, least=0)
        try:
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        except (ValueError, AttributeError):
            raise OptionError(
                "random_state must be a whole number, a RandomState or None; got "
                f"{self.random_state!r:.80}"
            ) from None

    def _watch(self, first: bool) -> None:
        """Prepare the record of what decides when to stop: validation score or training loss."""
        if not first and self.early_stopping == (self.validation_scores_ is not None):
            return
        validating = bool(self.early_stopping)
        self.validation_scores_ = [] if validating else None
        self.best_validation_score_ = -inf if validating else None
        self.best_loss_ = None if validating else inf

    def _split(
        self, X: Any, t: NumPyArray, w: NumPyArray | None
    ) -> tuple[list[Any], list[Any] | None]:
        """Return [X, t, w] of the training, and of the validation if there is one."""
        if not self.early_stopping:
            return [X, t, w], None
        arrays = [X, t] if w is None else [X, t, w]
        parts = train_test_split(
            *arrays,
            test_size=self.validation_fraction,
            random_state=self._seed % 2**32,
            stratify=self._strata(t),
        )
        training, validation = parts[::2], parts[1::2]
        if validation[0].shape[0] < 2:
            raise OptionError(
                f"The validation set is too small: validation_fraction="
                f"{self.validation_fraction!r} of {X.shape[0]} samples is less than 2 samples; "
                "raise it, or give more data"
            )
        nothing = [None] * (w is None)
        return [*training, *nothing], [*validation, *nothing]

    def _strata(self, t: NumPyArray) -> NumPyArray | None:
        """Return the labels to stratify the split by, or None."""
        return None

    def _train(
        self, xp: Backend, training: list[Any], validation: list[Any] | None, partial: bool
    ) -> None:
        """Train from the present weights on, and keep what comes out."""
        X, t, w = training
        w, alpha = scaled(w, 0.0 if self.solver == "adamw" else float(self.alpha))
        net = self._network(xp, self._seed_of_masks())
        if self.solver == options.LBFGS:
            self._minimize(net, [X, t, w], alpha)
            return
        optimizer = make_optimizer(net, self)
        if partial:
            self._resume(optimizer)
        trainer = EstimatorTrainer(net, self._loss(), optimizer, alpha, self._seed)
        trainer.epoch = len(self.loss_curve_)
        watched = self._watched_by_callbacks(validation)
        score = None if validation is None else lambda: self._validate(net, *validation)
        record = Convergence(self, score, [X, w], trainer.penalty, keeps_best=watched is None)
        how: dict[str, Any] = {
            "epochs": 1 if partial else self.max_iter,
            "batch_size": options.batch_size(self.batch_size),
            "sample_weight": w,
            "shuffle": bool(self.shuffle),
            "callbacks": [record, *(self.callbacks or ())],
            "validation_data": watched,
        }
        self._run(trainer, SparseRows(X) if hasattr(X, "tocsr") else X, t, how)
        self._take(record.best())
        self._optimizer_state = optimizer.host_state() | {"solver": self.solver, "lr": optimizer.lr}
        self._optimizer = SimpleNamespace(learning_rate=optimizer.lr)  # where scikit-learn has it
        if not partial:
            self._warn_if_unfinished(trainer)

    def _minimize(self, net: Sequential, data: list[Any], alpha: float) -> None:
        """Train by L-BFGS: all samples in each step."""
        shapes = [W.shape for W in self.coefs_]
        marks = [np.ones(shape) for shape in shapes], [np.zeros(n_out) for _, n_out in shapes]
        batches = slices(data[0].shape[0])
        objective = Objective(net, self._loss(), data, alpha, flat_of(marks), batches)

        def note(p: NumPyArray) -> None:
            self.loss_ = self._mean_of(objective.value) + objective.penalty
            self.loss_curve_.append(self.loss_)
            self.t_ += data[0].shape[0]
            if self.verbose:
                print(f"Iteration {len(self.loss_curve_)}, loss = {self.loss_:.8f}")

        p = flat_of((self.coefs_, self.intercepts_)).astype(np.float64)
        p = minimize(objective, p, self, note)
        objective(p)
        self.loss_ = self._mean_of(objective.value) + objective.penalty
        if not np.isfinite(self.loss_):
            raise DivergenceError(
                f"the loss is {self.loss_} after {self.n_iter_} iterations of lbfgs; scale the "
                "features and the targets"
            )
        self.best_loss_ = self.loss_
        self._take(net.xp.asnumpy(net.params))

    def _warn_if_unfinished(self, trainer: EstimatorTrainer) -> None:
        """Warn if the training has ended before it converged."""
        if self.n_iter_ == self.max_iter and not trainer.stop:
            text = "epochs are over, and the training has not converged yet."
            text = f"Stochastic optimizer: max_iter={self.max_iter} {text}"
            warnings.warn(text, ConvergenceWarning, stacklevel=5)

    def _run(self, trainer: EstimatorTrainer, X: Any, t: NumPyArray, how: dict[str, Any]) -> None:
        """Call ``trainer.fit``; Ctrl-C keeps what has been reached."""
        try:
            trainer.fit(X, t, **how)
        except DivergenceError as error:
            raise DivergenceError(_renamed(str(error), self.learning_rate_init)) from None
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        finally:
            trainer.release()

    def _resume(self, optimizer: Any) -> None:
        """Give the optimizer the state of the one before, if it is of the same kind."""
        state = self._optimizer_state or {}
        if state.get("solver") == self.solver and state.keys() >= optimizer.state_vectors().keys():
            optimizer.restore(state)
            if self.learning_rate != "constant":
                optimizer.lr = state["lr"]

    def _watched_by_callbacks(self, validation: list[Any] | None) -> Any:
        """Return the validation data in the form of `Trainer.fit`, if a callback watches them."""
        if validation is None or not any(hasattr(c, "monitor") for c in self.callbacks or ()):
            return None
        X, t, w = validation
        X = X.toarray() if hasattr(X, "tocsr") else X  # whoever predicts takes dense rows
        return (X, t) if w is None else (X, t, w)

    def _validate(self, net: Sequential, X: Any, t: NumPyArray, w: NumPyArray | None) -> float:
        """Return the score on validation data.

        Raises
        ------
        DivergenceError
            If an output is not finite; it names the first layer whose outputs are not.
        """
        Y = predict_rows(net, X)
        if not np.isfinite(Y).all():
            row = int(np.argmin(np.isfinite(Y).all(axis=1)))
            raise DivergenceError(
                f"the outputs for the validation data are not finite after epoch {self.n_iter_}: "
                f"{_first_not_finite(net, X[row : row + 1])}; lower learning_rate_init "
                f"(now {self.learning_rate_init!r})"
            )
        return self._score_of(t, Y, w)

    def _seed_of_masks(self) -> int:
        """Return a seed for the dropout of this call of `fit`: a later one goes on differently."""
        return int(Random(self._seed, "masks", len(self.loss_curve_)).raw(1)[0])

    def _take(self, flat: NumPyArray) -> None:
        """Keep all parameters of a network as ``coefs_`` and ``intercepts_``."""
        self.coefs_, self.intercepts_ = weights_of(flat, [W.shape for W in self.coefs_])

    # ---- scikit-learn -------------------------------------------------------------------------

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _renamed(text: str, rate: float) -> str:
    """Return the words of an error of `Trainer` with the names of an estimator."""
    reason, _, way_out = text.rpartition("; ")
    if way_out.startswith("lower"):
        way_out = f"lower learning_rate_init (now {rate!r})"
    return f"{reason}; {way_out.replace('t / abs(t)', 'y / abs(y)')}"


def weights_for(sample_weight: Any, n: int) -> NumPyArray:
    """Return the weights of n samples, of which a single number gives the same to each."""
    w = on_host(sample_weight, "sample_weight")
    w = np.full(n, w) if w.ndim == 0 else w
    if w.ndim != 1:
        raise ShapeError(f"sample_weight must have the shape ({n},) or be a number; got {w.shape}")
    return w


def _used(X: Any, y: NumPyArray, w: NumPyArray) -> tuple[Any, NumPyArray, NumPyArray]:
    """Return the samples whose weight is not 0, after a check of the weights."""
    check_weights(w, X.shape[0])
    w = w.reshape(-1).astype(np.float64)
    used = w > 0
    return (X, y, w) if used.all() else (X[used], y[used], w[used])


def _first_not_finite(net: Sequential, row: Any) -> str:
    """Return the words about the first layer whose output for a row is not finite."""
    predict_rows(net, row)
    found = [
        f"the first output that is not finite is that of layer {path}, {layer!r}"
        for path, layer in net.walk("")
        if (Y := getattr(layer, "Y", None)) is not None
        and not np.isfinite(net.xp.asnumpy(Y[:1])).all()
    ]
    return found[0] if found else "every layer's output for the first of them is finite"
