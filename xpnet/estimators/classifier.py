"""MLPClassifier: a network that tells classes apart, for scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, check_X_y, column_or_1d

from xpnet.estimators.base import MLP, has_epochs
from xpnet.estimators.inputs import FLOATS, features_of
from xpnet.estimators.weights import NumPyArray, weight_of_labels
from xpnet.layers import Layer, Sigmoid, Softmax
from xpnet.losses import BinaryCrossEntropy, Loss, SoftmaxCrossEntropy
from xpnet.support.errors import DataError, OptionError
from xpnet.support.values import refuse_masked


class MLPClassifier(ClassifierMixin, MLP):  # type: ignore[misc]
    """A classifier with hidden layers, trained by the backpropagation of this library.

    Its parameters and attributes have the names and the meaning of those of
    `sklearn.neural_network.MLPClassifier`; some are added.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        The units of each hidden layer; () for none.
    activation : str or sequence of str
        ``"relu"``, ``"tanh"``, ``"logistic"``, ``"identity"``, ``"gelu"`` or ``"leaky_relu"``; one
        for all hidden layers, or one for each.
    solver : str
        ``"adam"`` and ``"sgd"``, with the formulas of scikit-learn; ``"lbfgs"``, SciPy's minimiser,
        which takes all samples in each step; ``"rmsprop"`` or ``"adamw"``, see `xpnet.Optimizer`.
        An argument of another solver has no effect, as in scikit-learn.
    alpha : float
        α of the penalty α ‖W‖² / (2 Σᵢ wᵢ) that is added to the loss of a batch with the sample
        weights wᵢ, 1 each unless given. It is for the weights alone, not the intercepts. With
        ``"adamw"`` it is λ of `xpnet.AdamW` instead.
    batch_size : int or "auto"
        Samples per step, at most all; "auto" is 200.
    learning_rate : str
        ``"constant"``; with ``"sgd"`` also ``"invscaling"``: divided by the number of samples seen
        to the power ``power_t``, and ``"adaptive"``: divided by 5 instead of stopping, until 1e-6.
    learning_rate_init : float
        The learning rate η of the first step.
    power_t : float
        See ``learning_rate``.
    max_iter : int
        Epochs, at most.
    shuffle : bool
        False: the samples keep their order.
    random_state : int, RandomState or None
        The seed of weights, order of the samples, dropout masks and choice of validation data. The
        same int gives the same result.
    tol : float
        What counts as progress, of the training loss or of the validation score.
    verbose : bool
        Print a line for each epoch.
    warm_start : bool
        Go on from the present weights in the next `fit`.
    momentum, nesterovs_momentum : float, bool
        Of ``"sgd"``; see `xpnet.SGD`.
    early_stopping : bool
        Stop when the score on validation data, put aside before, makes no progress; the best
        weights are kept.
    validation_fraction : float
        The part of the data that is put aside, with the same share of each class.
    beta_1, beta_2, epsilon : float
        Of ``"adam"`` and ``"adamw"``; ``epsilon`` also of ``"rmsprop"``.
    n_iter_no_change : int or inf
        Epochs without progress after which the training stops.
    max_fun : int
        Of ``"lbfgs"``: how often the loss of all samples is computed, at most.
    dropout : float or sequence of float
        The fraction of each hidden layer's outputs that is silenced in training; one for all
        layers, or one for each.
    class_weight : dict, "balanced" or None
        What the samples of each class weigh, as in all of scikit-learn.
    backend : str, Backend or None
        Where to compute, see `xpnet.set_backend`; None is the default backend. An estimator that
        was trained on a GPU can be pickled, and predicts with NumPy where there is none.
    reproducible : bool or None
        True: the same bits on every machine, computed as float32; see `xpnet.set_backend`.
    callbacks : sequence of Callback or None
        Such as `xpnet.Recorder`, for the trainer of each `fit`. ``logs["loss"]`` is without the
        penalty.

    Attributes
    ----------
    classes_ : array
        The classes, in the order of the outputs.
    coefs_, intercepts_ : list of array
        W, shape (n_in, n_out), and b of each layer: NumPy, whatever the backend.
    loss_, best_loss_ : float
        Of the last epoch, and of the best one (None with early stopping), penalty included.
    loss_curve_ : list of float
        ``loss_`` of each epoch.
    validation_scores_, best_validation_score_ : list of float, float
        With early stopping the accuracy on the validation data, else None.
    n_iter_ : int
        Epochs in the last `fit`.
    t_ : int
        Samples seen in all.
    n_layers_, n_outputs_ : int
        Layers, that of the inputs included, and units in the last one.
    out_activation_ : str
        ``"softmax"``; ``"logistic"`` for two classes and for several labels.
    n_features_in_, feature_names_in_ : int, array
        The features seen in `fit`; names only if a data frame had some.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from xpnet.estimators import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MLPClassifier((64,), max_iter=200, random_state=0).fit(X[:1000], y[:1000])
    >>> model.predict(X[1000:1005]).tolist(), y[1000:1005].tolist()
    ([1, 4, 0, 5, 3], [1, 4, 0, 5, 3])
    """

    def __init__(
        self,
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
        class_weight: Any = None,
        backend: Any = None,
        reproducible: bool | None = None,
        callbacks: Any = None,
    ) -> None:
        self._keep(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Train.

        Parameters
        ----------
        X : array, sparse matrix or data frame, shape (n, features)
            float32 is computed with as float32, all else as float64. uint8 in an array means pixels
            k that stand for k/255, as for networks, and numbers in a data frame or sparse matrix.
            Sparse rows become dense batch by batch.
        y : array, shape (n,) or (n, labels)
            The class of each sample, of any type; or for several labels 0 or 1 for each.
        sample_weight : array, shape (n,), optional
            The weight of each sample; 0 is as if the sample were not there.

        Returns
        -------
        MLPClassifier
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
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Train for one epoch on some data, and go on from there in the next call.

        Parameters
        ----------
        X, y, sample_weight
            See `fit`.
        classes : array, shape (n_classes,)
            All that will ever come; needed in the first call, unless y has several labels.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        return self._fit(X, y, sample_weight, partial=True, classes=classes)

    def predict(self, X: Any) -> Any:
        """Return the class of each sample, shape (n,); for several labels 0 or 1 for each.

        The labels are a sparse matrix if those of `fit` were one.
        """
        places = self._places_of(self._outputs(X))
        if self._sparse_labels:
            from scipy.sparse import csr_matrix

            return csr_matrix(places)
        return places if self._multilabel else np.asarray(self.classes_[places])

    def predict_proba(self, X: Any) -> NumPyArray:
        """Return the probability of each class, in the order of ``classes_``."""
        check_is_fitted(self)
        if not self._binary:
            return self._outputs(X, *self._output_layer())
        Z = self._outputs(X)
        with np.errstate(over="ignore"):  # 1 / (1 + e^1000) is 0
            return np.asarray(1 / (1 + np.exp(np.hstack([Z, -Z]))))

    def predict_log_proba(self, X: Any) -> NumPyArray:
        """Return the logarithms of the probabilities, finite also where a probability is not."""
        Z = self._outputs(X)
        if self.out_activation_ == "softmax":
            Z = Z - Z.max(axis=1, keepdims=True)
            return np.asarray(Z - np.log(np.exp(Z).sum(axis=1, keepdims=True)))
        return _log_sigmoid(np.hstack([-Z, Z]) if self._binary else Z)

    def decision_function(self, X: Any) -> NumPyArray:
        """Return the scores: what the last layer gives, before they become probabilities.

        Shape (n, n_classes), or for two classes (n,), positive for the second one.
        """
        Z = self._outputs(X)
        return Z[:, 0] if self._binary else Z

    # ---- classes ------------------------------------------------------------------------------

    @property
    def _binary(self) -> bool:
        """Whether one output stands for two classes."""
        return not self._multilabel and self.out_activation_ == "logistic"

    def _places_of(self, Z: NumPyArray) -> NumPyArray:
        """Return the place of each class in ``classes_``, or 0 or 1 for each label."""
        if self._multilabel:
            return (Z > 0).astype(np.int64)
        return (Z[:, 0] > 0).astype(np.int64) if self._binary else np.asarray(Z.argmax(axis=1))

    _sparse_labels = False  # in pickles of version 0.1

    def _validated(self, X: Any, y: Any, first: bool) -> tuple[Any, NumPyArray]:
        refuse_masked(y, "y")
        X = features_of(self, X, first)
        X, y = check_X_y(X, y, accept_sparse="csr", multi_output=True, dtype=FLOATS, estimator=self)
        sparse = hasattr(y, "toarray")
        y = y.toarray() if sparse else y
        if first:
            self._sparse_labels = sparse
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return X, y

    def _class_weights(self, y: NumPyArray, partial: bool) -> NumPyArray | None:
        if self.class_weight is None:
            return None
        if partial and isinstance(self.class_weight, str):
            raise OptionError(
                f"class_weight={self.class_weight!r} cannot be known from a part of the data; give "
                "partial_fit a dict of the weights, or sample_weight"
            )
        if not isinstance(self.class_weight, str | Mapping | list):
            raise OptionError(
                f"class_weight must be a dict, 'balanced' or None; got {self.class_weight!r:.80}"
            )
        try:
            w = weight_of_labels(self.class_weight, y)
        except (ValueError, IndexError, AttributeError, TypeError) as error:
            raise OptionError(
                f"class_weight={self.class_weight!r:.80} does not fit y: {error}"
            ) from None
        if not (np.isfinite(w).all() and (w >= 0).all()):
            raise OptionError(
                f"the weights in class_weight must be 0 or more; got {self.class_weight!r:.80}"
            )
        return w

    def _targets(self, y: NumPyArray, first: bool, partial: bool, classes: Any) -> NumPyArray:
        kind = type_of_target(y)
        if kind == "multiclass-multioutput":
            raise DataError("y has columns with more than two classes; fit one model to each")
        multilabel = kind == "multilabel-indicator"
        if first:
            self._multilabel = multilabel
            self._note_classes(y, partial, classes)
        elif not (partial or multilabel):
            self._check_same_classes(y)
        self._check_classes(y, multilabel, classes)
        if multilabel:
            return y.astype(np.float64)
        places = np.searchsorted(self.classes_, y)
        return places.astype(np.float64)[:, None] if self._binary else places

    def _note_classes(self, y: NumPyArray, partial: bool, classes: Any) -> None:
        """Note which classes there are, and the outputs that they need."""
        if partial and classes is None and not self._multilabel:
            raise DataError(
                "the first call of partial_fit needs classes: all that will ever come, not only "
                "those of these samples"
            )
        if self._multilabel:
            self.classes_ = np.arange(y.shape[1])
        else:
            self.classes_ = np.unique(y if classes is None else classes)
        n = len(self.classes_)
        logistic = self._multilabel or n == 2
        self.out_activation_ = "logistic" if logistic else "softmax"
        self.n_outputs_ = 1 if n == 2 and not self._multilabel else n

    def _check_same_classes(self, y: NumPyArray) -> None:
        """Refuse to go on with other classes, or without some of them, as scikit-learn does."""
        present = np.unique(y)
        if not np.array_equal(present, self.classes_):
            raise DataError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {present}; use partial_fit "
                "for a part of the classes, or warm_start=False"
            )

    def _check_classes(self, y: NumPyArray, multilabel: bool, classes: Any) -> None:
        """Refuse classes that have no output."""
        known = multilabel == self._multilabel
        if multilabel and known:
            known = y.shape[1] == len(self.classes_)
        elif known:
            known = bool(np.isin(y, self.classes_).all())
        if classes is not None and not multilabel:
            known = known and np.array_equal(np.unique(classes), self.classes_)
        if not known:
            raise DataError(
                f"y or classes has classes other than those of the first call, {self.classes_}; "
                "name all of them there (partial_fit has the argument classes), or begin anew"
            )

    def _loss(self) -> Loss:
        if self.out_activation_ == "softmax":
            return SoftmaxCrossEntropy()
        loss = BinaryCrossEntropy(from_logits=True)
        loss.mean_over_outputs = False  # several labels: their losses are added
        return loss

    def _score_of(self, t: NumPyArray, Y: NumPyArray, sample_weight: NumPyArray | None) -> float:
        right = self._places_of(Y) == (t[:, 0] if self._binary else t)
        return float(np.average(right.reshape(len(t), -1).all(axis=1), weights=sample_weight))

    def _strata(self, t: NumPyArray) -> NumPyArray | None:
        if self._multilabel:
            return None
        places = t[:, 0].astype(np.int64) if self._binary else t
        return np.asarray(self.classes_[places])  # in the user's words, for the errors

    def _output_layer(self) -> list[Layer]:
        return [Softmax() if self.out_activation_ == "softmax" else Sigmoid()]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _log_sigmoid(Z: NumPyArray) -> NumPyArray:
    """Return log(1 / (1 + e^-z)): 0 where the probability is 1, and finite where it is 0."""
    with np.errstate(over="ignore"):  # 1 / (1 + e^1000) is 0
        P = 1 / (1 + np.exp(-Z))
    return np.asarray(np.where(P > 0.5, np.log(np.maximum(P, 0.5)), -np.logaddexp(0, -Z)))
