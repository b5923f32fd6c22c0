"""scikit-learn in the comparison on the CPU: ``python bench/cpu_sklearn.py MODE SETTING``.

`MLPClassifier` on float32, with the initial weights by way of a subclass. It draws its batches
itself. ``ordered`` gives it the rows in the order of the others' batches, with ``shuffle=False``:
so it alone need not pick them. ``shuffling`` is as anybody calls it, with its own order.
"""

from __future__ import annotations

import warnings

import cpu_common as common
import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

MODES = ("ordered", "shuffling")


class Started(MLPClassifier):
    """Starts from given weights."""

    def _init_coef(self, fan_in, fan_out, dtype):
        W, b = next(self.begin)
        assert W.shape == (fan_in, fan_out)
        return W.astype(dtype), b.astype(dtype)


class Contestant:
    def __init__(self, mode: str, task: common.Task) -> None:
        self.task, self.shuffle = task, mode == "shuffling"
        orders = [slice(None) if self.shuffle else order for order in task.orders]
        self.epochs = [(task.X[order], task.t[order]) for order in orders]
        self.X_test = task.X_test
        warnings.simplefilter("ignore", ConvergenceWarning)  # so many steps are what is asked for

    def restart(self) -> None:
        setting = self.task.setting
        self.model = Started(
            setting.sizes[1:-1],
            solver=setting.optimizer or "adam",
            alpha=0,
            batch_size=min(setting.batch, len(self.task.X)),
            learning_rate_init=setting.lr or 1e-3,
            momentum=0,
            nesterovs_momentum=False,
            max_iter=max(1, setting.epochs) if setting.binary else 1,
            n_iter_no_change=setting.epochs + 1,
            tol=0,
            shuffle=self.shuffle,
            random_state=0,
        )
        self.model.begin = iter(self.task.start)
        if setting.predicts:  # the shortest way to a model with these weights
            self.model.set_params(learning_rate_init=1e-30, batch_size=200)
            self.model.fit(self.task.X[:200], np.arange(200) % setting.sizes[-1])

    def train(self) -> None:
        if self.task.setting.binary:  # full batches: an epoch is a step
            self.model.fit(*self.epochs[0])
            return
        for X, t in self.epochs:
            self.model.partial_fit(X, t, classes=np.arange(self.task.setting.sizes[-1]))

    def predict(self) -> None:
        self.Y = self.model.predict_proba(self.X_test)

    def outputs(self, X):
        Y = self.model.predict_proba(X)
        return Y[:, 1] - Y[:, 0] if self.task.setting.binary else Y


def main() -> None:
    mode, task = common.arguments(__doc__, MODES)
    common.compete(Contestant(mode, task), f"scikit-learn {sklearn.__version__}")


if __name__ == "__main__":
    main()
