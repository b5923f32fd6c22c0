"""Thinc in the comparison on the CPU: ``python bench/cpu_thinc.py MODE SETTING``."""

from __future__ import annotations

import cpu_common as common
import numpy as np
import thinc
from thinc.api import SGD, Adam, CategoricalCrossentropy, Linear, Relu, Softmax, chain

MODES = ("thinc",)


class Contestant:
    def __init__(self, mode: str, task: common.Task) -> None:
        self.task, sizes = task, task.setting.sizes
        *hidden, n_out = sizes[1:]
        last = Linear(n_out) if task.setting.binary else Softmax(n_out)
        self.model = chain(*[Relu(n) for n in hidden], last)
        self.T = task.t.reshape(-1, 1).astype(np.float32)
        if not task.setting.binary:
            self.T = np.eye(n_out, dtype=np.float32)[task.t]
        self.model.initialize(X=task.X[:2], Y=self.T[:2])
        self.loss = CategoricalCrossentropy()
        self.batches = list(task.batches())
        self.whole = len(task.X) == task.setting.batch

    def restart(self) -> None:
        for layer, (W, b) in zip(self.model.layers, self.task.start, strict=True):
            inner = next(node for node in layer.walk() if node.has_param("W"))
            inner.set_param("W", np.array(W.T, order="C"))  # trained in place
            inner.set_param("b", b.copy())
        setting = self.task.setting
        if setting.optimizer == "sgd":
            self.optimizer = SGD(setting.lr, L2=0.0, grad_clip=0.0, use_averages=False)
        else:
            rate = setting.lr or 1e-3
            self.optimizer = Adam(rate, L2=0.0, grad_clip=0.0, use_averages=False)

    def gradient(self, Y, T):
        if self.task.setting.binary:
            return (self.model.ops.sigmoid(Y) - T) / np.float32(len(T))
        return self.loss.get_grad(Y, T)

    def train(self) -> None:
        for rows in self.batches:
            X, T = (self.task.X, self.T) if self.whole else (self.task.X[rows], self.T[rows])
            Y, backprop = self.model.begin_update(X)
            backprop(self.gradient(Y, T))
            self.model.finish_update(self.optimizer)

    def predict(self) -> None:
        self.Y = self.model.predict(self.task.X_test)

    def outputs(self, X):
        return self.model.predict(X)


def main() -> None:
    mode, task = common.arguments(__doc__, MODES)
    common.compete(Contestant(mode, task), f"Thinc {thinc.__version__}")


if __name__ == "__main__":
    main()
