"""A surface from points
========================

200 points of the bowl ``x1² + x2²``, and a network that has to find the surface between them. On a
grid that it has never seen we can say how far it is off, and where.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 4000

# %%
# Smooth activations for a smooth surface. The learning rate falls to nothing along a cosine: large
# steps first, fine ones at the end.
X, t = data.surface(200)
net = xpnet.Sequential(
    xpnet.Linear(2, 32), xpnet.Tanh(), xpnet.Linear(32, 32), xpnet.Tanh(), xpnet.Linear(32, 1)
)
adam = xpnet.Adam(net, lr=xpnet.schedules.Cosine(0.01, epochs))
trainer = xpnet.Trainer(net, "mse", adam, metrics=["rmse", "r2"])
trainer.fit(X, t, epochs=epochs, batch_size=None)
result = trainer.evaluate(*data.surface_grid(50))
print(f"on a grid of 50 x 50: RMSE {result['rmse']:.4f}, R² {result['r2']:.5f}")


# %%
# The network, the truth, and what lies between them, on a scale of its own.
def truth(X):
    return (X**2).sum(axis=1, keepdims=True)


def difference(X):
    return net.predict(X) - truth(X)


fig, axes = plt.subplots(
    1, 3, figsize=(12, 4), layout="constrained", subplot_kw={"projection": "3d"}
)
for ax, f, title in zip(
    axes, (net, truth, difference), ("network", "truth", "difference"), strict=True
):
    plots.surface(f, ax)
    ax.set(title=title, zlabel="")
fig.savefig("surface.png")
print("the figure is in surface.png")

# %%
# The loss on the way there.
fig, ax = plt.subplots(layout="constrained")
plots.loss_curve(trainer.history, ax)
