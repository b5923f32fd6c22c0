"""L-BFGS: SciPy's minimiser on the loss and the gradient of all samples together."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from xpnet.estimators.weights import NumPyArray
from xpnet.losses import Loss
from xpnet.network import Sequential

WAY_OUT = "scale the features and the targets"
Rows = Callable[[slice], NumPyArray]


class Objective:
    """L(p) + α ‖W‖² / (2 Σᵢ wᵢ) and its gradient, as a function of the flat vector p.

    L is the weighted mean of the losses of all samples. It is summed over batches of rows, so the
    memory that a step needs does not grow with the data set.

    Parameters
    ----------
    net : Sequential
    loss : Loss
    data : list of X, t, w
        X is dense or CSR, w is None where all samples weigh the same.
    alpha : float
        α.
    is_weight : ndarray, shape (net.size,)
        1 for the entries of p that are part of a W, 0 for those of a b.
    batches : list of slice
        The rows of each batch.
    """

    def __init__(
        self,
        net: Sequential,
        loss: Loss,
        data: list[Any],
        alpha: float,
        is_weight: NumPyArray,
        batches: list[slice],
    ) -> None:
        self.net, self.loss, self.alpha, self.batches = net, loss, alpha, batches
        self.X, self.t, self.w = data
        self.is_weight = is_weight
        self.total = float(len(self.t) if self.w is None else self.w.sum())
        self.value = self.penalty = np.nan

    def __call__(self, p: NumPyArray) -> tuple[float, NumPyArray]:
        """Return the value and the gradient, in float64."""
        net, xp = self.net, self.net.xp
        xp.copyto(net.params, xp.asarray(p, net.dtype))
        value, gradient = 0.0, np.zeros_like(p)
        with np.errstate(all="ignore"):  # SciPy goes back from where the loss is not finite
            for rows in self.batches:
                weight = self._step(rows) / self.total
                value += weight * float(self.loss)
                gradient += weight * xp.asnumpy(net.grads)
            W = self.is_weight * p
            self.value, self.penalty = value, float(self.alpha / (2 * self.total) * (W @ W))
            return value + self.penalty, gradient + self.alpha / self.total * W

    def _step(self, rows: slice) -> float:
        """Write loss and gradient of a batch; return what its samples weigh together."""
        net, xp = self.net, self.net.xp
        X, t = self.X[rows], xp.asarray(self.t[rows])
        X = xp.asarray(X.toarray() if hasattr(X, "toarray") else X, net.dtype)
        w = None if self.w is None else self.w[rows]
        self.loss.forward(net.forward(X), t, None if w is None else xp.asarray(w, net.dtype))
        net.backward(self.loss.backward())
        return float(len(t) if w is None else w.sum())


def minimize(objective: Objective, p: NumPyArray, model: Any, on_iteration: Any) -> NumPyArray:
    """Return the p that SciPy's L-BFGS-B has reached from p; set ``model.n_iter_``.

    Warns
    -----
    ConvergenceWarning
        If it has stopped before the gradient was as small as ``model.tol``.
    """
    from scipy.optimize import minimize as minimum_of

    options = {"maxfun": model.max_fun, "maxiter": model.max_iter, "gtol": model.tol}
    found = minimum_of(
        objective, p, method="L-BFGS-B", jac=True, options=options, callback=on_iteration
    )
    model.n_iter_ = min(found.nit, model.max_iter)
    if found.status:
        limit = "max_iter" if found.nit >= model.max_iter else "max_fun"
        reached = found.status == 1
        text = (
            f"lbfgs has not converged after {found.nit} iterations and {found.nfev} evaluations "
            f"({found.message}); "
        )
        text += f"raise {limit} (now {getattr(model, limit)})" if reached else WAY_OUT
        warnings.warn(text, ConvergenceWarning, stacklevel=6)
    return np.asarray(found.x)
