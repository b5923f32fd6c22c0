"""A layer of your own
======================

Swish has a slope that is trained. Forward, backward and a parameter are all that a layer needs, and
the gradient check proves that they fit together.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 300


# %%
# The docstring is the derivation, and the code follows it.
class Swish(xpnet.Layer):
    """Y = X S        with S = σ(a X) and a trainable for each feature

    dX = dY · (S + a X S (1 - S))        da = Σᵢ dYᵢ Xᵢ² Sᵢ (1 - Sᵢ)
    """

    def __init__(self, n):
        super().__init__()
        self.parameter("a", (n,), "normal")  # makes self.a and self.da

    def forward(self, X):
        self.X = X
        self.S = 1 / (1 + self.xp.module.exp(-self.a * X))  # xp.module: numpy or cupy
        return X * self.S

    def backward(self, dY):
        X, S = self.X, self.S
        self.xp.sum(dY * X * X * S * (1 - S), axis=0, out=self.da)
        return dY * (S + self.a * X * S * (1 - S))


# %%
# The proof: every gradient beside the slope of the loss.
net = xpnet.Sequential(xpnet.Linear(2, 32), Swish(32), xpnet.Linear(32, 1))
X, t = data.spiral(400, turns=1)
report = xpnet.gradcheck(net, "bce_logits", X[:8], t[:8])
print(report)
assert report.ok

# %%
# It trains as any other layer does.
trainer = xpnet.Trainer(net, "bce_logits", xpnet.Adam(net, lr=0.01), metrics=["accuracy"])
trainer.fit(X, t, epochs=epochs)
print(f"accuracy {trainer.evaluate(X, t)['accuracy']:.2%}")
plots.decision_boundary(net, X, t)
plt.savefig("add_a_layer.png")
print("the figure is in add_a_layer.png")
