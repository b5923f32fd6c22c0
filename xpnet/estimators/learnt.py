"""What an estimator has learnt: weights on the host, and the network that is made of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from copy import copy
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from xpnet.backend import Backend, find_backend, get_backend, parse_name, say_once
from xpnet.estimators import options
from xpnet.estimators.inputs import features_of
from xpnet.estimators.training import slices
from xpnet.estimators.weights import NumPyArray, checked_weights
from xpnet.layers import Layer
from xpnet.network import Sequential
from xpnet.support.errors import BackendError
from xpnet.training.callbacks import Callback
from xpnet.training.trainer import Trainer


class Learnt(BaseEstimator):  # type: ignore[misc]
    """The part of an estimator that holds the weights and predicts.

    The weights are kept on the host, in ``coefs_`` and ``intercepts_``. Each `fit` and each
    prediction makes a network from them, on the backend that is asked for then.
    """

    hidden_layer_sizes: Any
    activation: Any
    dropout: Any
    backend: str | Backend | None
    reproducible: bool | None
    callbacks: Any
    coefs_: list[NumPyArray]
    intercepts_: list[NumPyArray]

    def _keep(self, parameters: dict[str, Any]) -> None:
        """Keep the arguments of __init__ as they are."""
        for name, value in parameters.items():
            if name != "self":
                setattr(self, name, value)

    # ---- the network --------------------------------------------------------------------------

    def _network(self, xp: Backend, seed: int, *output: Layer) -> Sequential:
        """Return a network with the present weights."""
        sizes, flat = checked_weights(self)
        own = flat.dtype.name
        net = Sequential(
            *options.make_layers(sizes, self.activation, self.dropout),
            *output,
            dtype=own if own in xp.dtypes else "float32",
            seed=seed,
            backend=xp,
        )
        xp.copyto(net.params, xp.asarray(flat, net.dtype))
        return net

    def to_sequential(self) -> Sequential:
        """Return what has been learnt as a network, which can be saved, drawn and exported.

        Its outputs are those of ``predict_proba`` (for two classes the probability of the second
        one alone), or of ``predict`` of a regressor; with the loss ``"poisson"`` their logarithms.

        Returns
        -------
        Sequential
            An independent copy, on the backend of the estimator.

        Examples
        --------
        >>> import numpy as np
        >>> from xpnet.estimators import MLPRegressor
        >>> X = np.linspace(0, 1, 20).reshape(10, 2)
        >>> model = MLPRegressor(hidden_layer_sizes=(3,), tol=1, random_state=0)
        >>> model.fit(X, X[:, 0]).to_sequential()
        Sequential(Linear(2, 3), ReLU(), Linear(3, 1))
        """
        check_is_fitted(self)
        return self._network(self._backend_to_predict(), 0, *self._output_layer())

    def _output_layer(self) -> list[Layer]:
        """Return the layer behind the scores, if there is one."""
        return []

    def _backend(self) -> Backend:
        """Return the backend that is asked for."""
        asked = get_backend() if self.backend is None else self.backend
        return find_backend(asked, self.reproducible)

    def _backend_to_predict(self) -> Backend:
        """Return the backend that is asked for, or NumPy if it cannot be used here."""
        if not isinstance(self.backend, str):
            return self._backend()
        parse_name(self.backend)  # a word that names none is a mistake
        try:
            return self._backend()
        except BackendError as error:
            say_once(f"predicting with NumPy: {error}")
            return find_backend("numpy", self.reproducible)

    def _outputs(self, X: Any, *output: Layer) -> NumPyArray:
        """Return the scores of samples, or what another layer makes of them."""
        check_is_fitted(self)
        X = features_of(self, X, first=False)
        return predict_rows(self._network(self._backend_to_predict(), 0, *output), X)

    # ---- pickles ------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """Return what a pickle needs: nothing that belongs to a device.

        A backend becomes its name, and callbacks forget the training that they have seen.
        """
        state: dict[str, Any] = dict(super().__getstate__())
        if isinstance(self.backend, Backend):
            state |= {"backend": self.backend.name, "reproducible": self.backend.reproducible}
        callbacks = self.callbacks
        if isinstance(callbacks, Callback):
            state["callbacks"] = _without_training(callbacks)
        elif isinstance(callbacks, Iterable):
            state["callbacks"] = [_without_training(callback) for callback in callbacks]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take back a state; a parameter that is newer than the pickle has its default."""
        parameters = inspect.signature(type(self).__init__).parameters.values()
        defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
        super().__setstate__(defaults | state)


def predict_rows(net: Sequential, X: Any) -> NumPyArray:
    """Return a network's outputs; sparse rows become dense a few at a time."""
    if not hasattr(X, "tocsr"):
        return np.asarray(net.predict(X))
    return np.concatenate([net.predict(X[rows].toarray()) for rows in slices(X.shape[0])])


def _without_training(callback: Any) -> Any:
    """Return a copy of a callback that knows no trainer and no network."""
    twin = copy(callback)
    for name, value in vars(callback).items():
        if isinstance(value, Trainer | Sequential):
            setattr(twin, name, None)
    return twin
