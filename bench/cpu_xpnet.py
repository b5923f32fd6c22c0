"""xpnet in the comparison on the CPU, and the floor: ``python bench/cpu_xpnet.py MODE SETTING``.

``numpy`` and ``numba`` are `Trainer.fit` as anybody would call it, its checks and its buffers
included; the images are bytes. ``floor`` is the same products of matrices alone, by `numpy.dot`, on
arrays that are there already: what is left when everything else costs nothing.
"""

from __future__ import annotations

from itertools import pairwise

import cpu_common as common
import numpy as np

import xpnet
from xpnet.network import PREDICTION_BATCH

MODES = ("numpy", "numba", "floor")


class Contestant:
    def __init__(self, mode: str, task: common.Task) -> None:
        self.task, self.backend = task, mode
        self.X = task.X if task.pixels is None else task.pixels

    def restart(self) -> None:
        if self.task.setting.predicts and hasattr(self, "net"):
            return
        setting = self.task.setting
        self.net = common.network(setting.sizes, self.backend, common.SEED)
        names = [name.rpartition(".") for name in self.net.state_dict()]
        layers = [int(layer) for layer, _, kind in names if kind == "W"]
        for i, (W, b) in zip(layers, self.task.start, strict=True):
            self.net[i].W[...], self.net[i].b[...] = W, b
        if setting.predicts:
            return
        make = xpnet.SGD if setting.optimizer == "sgd" else xpnet.Adam
        loss = "bce_logits" if setting.binary else "softmax_cross_entropy"
        optimizer = make(self.net, lr=setting.lr)
        self.trainer = xpnet.Trainer(self.net, loss, optimizer, seed=common.SEED)

    def train(self) -> None:
        setting = self.task.setting
        self.trainer.fit(self.X, self.task.t, epochs=setting.epochs, batch_size=setting.batch)

    def predict(self) -> None:
        self.Y = self.net.predict(self.task.X_test)

    def outputs(self, X: np.ndarray) -> np.ndarray:
        return self.net.predict(X)


class Floor:
    """The products of a step, or of a prediction, and nothing else."""

    def __init__(self, mode: str, task: common.Task) -> None:
        self.task = task
        rows, self.passes = task.setting.batch, [task.setting.batch] * task.steps
        if task.setting.predicts:  # in the pieces of `Sequential.predict`
            rows, n = PREDICTION_BATCH, len(task.X_test)
            self.passes = [min(rows, n - i) for i in range(0, n, rows)]
        rng, self.layers = np.random.default_rng(0), []
        for n_in, n_out in pairwise(task.setting.sizes):
            X, W, dY = (
                rng.standard_normal(s, np.float32)
                for s in ((rows, n_in), (n_in, n_out), (rows, n_out))
            )
            self.layers.append((X, W, dY, *(np.empty_like(a) for a in (dY, W, X))))

    def restart(self) -> None:
        pass

    def train(self) -> None:
        for _ in self.passes:
            for X, W, _, Y, _, _ in self.layers:
                np.dot(X, W, out=Y)
            for i, (X, W, dY, _, dW, dX) in enumerate(self.layers):
                np.dot(X.T, dY, out=dW)
                if i:  # the first layer needs no dX
                    np.dot(dY, W.T, out=dX)

    def predict(self) -> None:
        for n in self.passes:
            for X, W, _, Y, _, _ in self.layers:
                np.dot(X[:n], W, out=Y[:n])

    def outputs(self, X: np.ndarray) -> np.ndarray:
        return np.zeros((len(X), 10))


def main() -> None:
    mode, task = common.arguments(__doc__, MODES)
    contestant = (Floor if mode == "floor" else Contestant)(mode, task)
    common.compete(contestant, f"xpnet {xpnet.__version__}, NumPy {np.__version__}")


if __name__ == "__main__":
    main()
