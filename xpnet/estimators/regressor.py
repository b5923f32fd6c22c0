"""MLPRegressor: a network that predicts numbers, for scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_X_y, column_or_1d

from xpnet.estimators.base import MLP, has_epochs
from xpnet.estimators.inputs import FLOATS, features_of
from xpnet.estimators.options import chosen
from xpnet.estimators.training import HalfSquaredError
from xpnet.estimators.weights import NumPyArray
from xpnet.losses import Huber, Loss, Poisson
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError, OptionError, ShapeError

LOSSES: dict[str, Callable[[], Loss]] = {
    "squared_error": HalfSquaredError,
    "huber": Huber,
    "poisson": Poisson,
}


class MLPRegressor(RegressorMixin, MLP):  # type: ignore[misc]
    """A regressor with hidden layers, trained by the backpropagation of this library.

    Its parameters and attributes have the names and the meaning of those of
    `sklearn.neural_network.MLPRegressor`; some are added.

    Parameters
    ----------
    loss : str
        ``"squared_error"``: half the squared error; ``"huber"``, see `xpnet.Huber`; ``"poisson"``:
        half the Poisson deviance of numbers that are not negative, of which the network predicts
        the logarithm. The errors of several outputs are added; ``loss_`` has their mean, as
        scikit-learn's. It comes first, as in scikit-learn 1.9.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, \
power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, \
early_stopping, validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun, dropout, \
backend, reproducible, callbacks
        See `MLPClassifier`. Validation data are chosen at random, their score is R².

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, \
best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, n_features_in_, feature_names_in_
        See `MLPClassifier`.
    out_activation_ : str
        ``"identity"``; ``"exp"`` for the loss ``"poisson"``.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from xpnet.estimators import MLPRegressor
    >>> X, y = make_regression(200, 3, random_state=0)
    >>> model = MLPRegressor(learning_rate_init=0.1, tol=0.1, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.99
    True
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: Any = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        backend: Any = None,
        reproducible: bool | None = None,
        callbacks: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X, sample_weight
            See `MLPClassifier.fit`.
        y : array, shape (n,) or (n, outputs)
            The numbers to predict.

        Returns
        -------
        MLPRegressor
            The estimator itself.

        Raises
        ------
        OptionError
            If a parameter is wrong.
        DataError, ShapeError, ValueError
            If the data are.
        DivergenceError
            If the loss is no longer finite.
        """
        return self._fit(X, y, sample_weight)

    @available_if(has_epochs)  # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train for one epoch on some data, and go on from there in the next call.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.

        Returns
        -------
        MLPRegressor
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, partial=True)

    def predict(self, X: Any) -> NumPyArray:
        """Return the predicted numbers, shape (n,), or (n, outputs) if there are several."""
        Y = self._numbers_of(self._outputs(X))
        return Y[:, 0] if self.n_outputs_ == 1 else Y

    def _numbers_of(self, Y: NumPyArray) -> NumPyArray:
        """Return the predictions that outputs of the network mean."""
        with np.errstate(over="ignore"):
            return np.exp(Y) if self.out_activation_ == "exp" else Y

    # ---- numbers ------------------------------------------------------------------------------

    def _validated(self, X: Any, y: Any, first: bool) -> tuple[Any, NumPyArray]:
        X, y = features_of(self, X, first), y if y is None else on_host(y, "y")
        X, y = check_X_y(X, y, accept_sparse="csr", multi_output=True, dtype=FLOATS, estimator=self)
        return X, column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y

    def _targets(self, y: NumPyArray, first: bool, partial: bool, classes: Any) -> NumPyArray:
        t = y.reshape(len(y), -1).astype(np.float64)
        if first:
            self.n_outputs_ = t.shape[1]
            self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        if self.loss == "poisson" and (t < 0).any():
            raise DataError(f"y must be 0 or more for the loss 'poisson'; got {t.min():g}")
        if t.shape[1] != self.n_outputs_:
            raise ShapeError(
                f"y has {t.shape[1]} outputs; the first call of the training had {self.n_outputs_}"
            )
        return t

    def _loss(self) -> Loss:
        if not isinstance(self.loss, str):
            raise OptionError(
                f"loss must be a name, {' or '.join(LOSSES)}; got {self.loss!r:.80}. It comes "
                "first, as in scikit-learn; write hidden_layer_sizes=... for the sizes"
            )
        loss = chosen("loss", self.loss, LOSSES)()
        loss.mean_over_outputs = False
        return loss

    def _mean_of(self, loss: float) -> float:
        """Return the mean over the outputs; of the Poisson deviance it is the sum there."""
        return loss if self.loss == "poisson" else loss / self.n_outputs_

    def _score_of(self, t: NumPyArray, Y: NumPyArray, sample_weight: NumPyArray | None) -> float:
        return float(r2_score(t, self._numbers_of(Y), sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
