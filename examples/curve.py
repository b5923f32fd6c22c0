"""A curve through noise
========================

200 noisy points of a curve that is a wave on the left and a parabola on the right. The network sees
only the points; how well it has found the curve behind them is measured without the noise.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 2000

# %%
# One number in, one number out, and two hidden layers of 32.
X, t = data.curve(200)
x = np.linspace(-3, 3, 601).reshape(-1, 1)
net = xpnet.Sequential(
    xpnet.Linear(1, 32), xpnet.Tanh(), xpnet.Linear(32, 32), xpnet.Tanh(), xpnet.Linear(32, 1)
)
adam = xpnet.Adam(net, lr=xpnet.schedules.Cosine(0.01, epochs))
trainer = xpnet.Trainer(net, "mse", adam, metrics=["r2"])
truth = x, data.curve_truth(x)
trainer.fit(X, t, epochs=epochs, batch_size=None, validation_data=truth)

# %%
# The noise has the variance 0.01: a loss on the points far below that would mean that the network
# has learnt the noise, too.
history = trainer.history
print(f"loss on the points {history['loss'][-1]:.4f}, on the curve {history['val_loss'][-1]:.4f}")
print(f"R² on the curve {history['val_r2'][-1]:.4f}")

# %%
# The points, the curve behind them, and what the network makes of them.
fig, ax = plt.subplots(layout="constrained")
plots.curve(net, X, t, ax, truth=data.curve_truth)
fig.savefig("curve.png")
print("the figure is in curve.png")

# %%
# The loss on the points ends at the noise, that on the curve goes below.
fig, ax = plt.subplots(layout="constrained")
plots.loss_curve(history, ax)
