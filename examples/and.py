"""AND: one neuron
==================

The smallest network there is: one neuron, which learns ``x1 AND x2`` from the four rows of its
truth table. All it can do is draw one straight line through the plane, and here that is enough.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 1000

# %%
# Two weights and a bias, and a sigmoid that turns their sum into a probability.
X, t = data.and_gate()
net = xpnet.Sequential(xpnet.Linear(2, 1), xpnet.Sigmoid())
trainer = xpnet.Trainer(net, "bce", xpnet.SGD(net, lr=1.0))
trainer.fit(X, t, epochs=epochs, batch_size=None)  # None: all four rows in each step

# %%
# What it says now about each row.
for (x1, x2), true, p in zip(X, t, net.predict(X)[:, 0], strict=True):
    print(f"{x1:.0f} AND {x2:.0f} = {true}    probability {p:.3f}")

# %%
# The line is where the sum is 0 and the probability is one half.
values = net.state_dict()
(w1, w2), b = values["0.W"][:, 0], values["0.b"][0]
print(f"the line: {w1:.2f} x1 + {w2:.2f} x2 {b:+.2f} = 0")

# %%
# How it got there, and the plane with the line.
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
plots.loss_curve(trainer.history, left)
plots.decision_boundary(net, X, t, right)
right.legend(loc="center")
fig.savefig("and.png")
print("the figure is in and.png")
