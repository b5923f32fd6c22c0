"""XOR: why networks have layers
================================

No straight line separates the rows of ``x1 XOR x2`` that are true from those that are false, so one
neuron cannot learn it. Three neurons in front of it can: each draws a line of its own, and the last
one puts the pieces together.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5000

# %%
# Three neurons that draw the lines, and one that looks on which side of each a point is.
X, t = data.xor_gate()
net = xpnet.Sequential(
    xpnet.Linear(2, 3, init="normal"),
    xpnet.Sigmoid(),
    xpnet.Linear(3, 1, init="normal"),
    xpnet.Sigmoid(),
)
recorder = xpnet.Recorder()
trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=2.0))
trainer.fit(X, t, epochs=epochs, batch_size=None, callbacks=[recorder])

# %%
# What it says now about each row.
for (x1, x2), true, y in zip(X, t, net.predict(X)[:, 0], strict=True):
    print(f"{x1:.0f} XOR {x2:.0f} = {true}    network {y:.3f}")
print(f"loss {trainer.history['loss'][0]:.4f} -> {trainer.history['loss'][-1]:.6f}")

# %%
# For 3000 epochs the loss stands still: all outputs are near one half, and the gradients are small.
# Then the lines find their places, and it falls.
fig, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained")
plots.network(net, axes[0, 0])
plots.decision_boundary(net, X, t, axes[0, 1])
axes[0, 1].legend(loc="center")
plots.loss_curve(trainer.history, axes[1, 0])
plots.gradient_flow(recorder, X, t, axes[1, 1])
fig.savefig("xor.png")
print("the figure is in xor.png")
