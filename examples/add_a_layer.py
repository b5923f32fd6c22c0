"""A layer of your own, with a trainable parameter, and the proof that its gradient is right."""

import numpy as np

import xpnet


class Swish(xpnet.Layer):
    """Y = X S        with S = σ(a X) and a trainable for each feature

    dX = dY · (S + a X S (1 - S))        da = Σᵢ dYᵢ Xᵢ² Sᵢ (1 - Sᵢ)
    """

    def __init__(self, n):
        super().__init__()
        self.parameter("a", (n,), "ones")  # makes self.a and self.da

    def forward(self, X):
        self.X = X
        self.S = 1 / (1 + self.xp.module.exp(-self.a * X))  # xp.module: numpy or cupy
        return X * self.S

    def backward(self, dY):
        X, S = self.X, self.S
        self.da[...] = (dY * X * X * S * (1 - S)).sum(axis=0)
        return dY * (S + self.a * X * S * (1 - S))


rng = np.random.default_rng(0)
X, t = rng.normal(size=(8, 5)), rng.integers(0, 3, 8)
net = xpnet.Sequential(xpnet.Linear(5, 7), Swish(7), xpnet.Linear(7, 3))
report = xpnet.gradcheck(net, xpnet.SoftmaxCrossEntropy(), X, t)
print(report)
assert report.ok
