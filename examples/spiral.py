"""Two spirals
==============

Two arms, wound around each other twice: a classic that was hard for the networks of 1988. A
recorder keeps the weights at some moments of the training, so that we can watch the border between
the arms take shape.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 300

# %%
# 400 noisy points to learn from, and 400 others to be judged by.
X, t = data.spiral(400, seed=0)
X_test, t_test = data.spiral(400, seed=1)
net = xpnet.Sequential(
    xpnet.Linear(2, 64, init="he_uniform"),
    xpnet.ReLU(),
    xpnet.Linear(64, 64, init="he_uniform"),
    xpnet.ReLU(),
    xpnet.Linear(64, 1),  # a score: above 0 it is the second arm
)
recorder = xpnet.Recorder(frames=40)
trainer = xpnet.Trainer(net, "bce_logits", xpnet.Adam(net, lr=0.01), metrics=["accuracy"])
trainer.fit(X, t, epochs=epochs, batch_size=64, callbacks=[recorder])
print(f"accuracy {trainer.evaluate(X, t)['accuracy']:.2%} on the points it has seen")
print(f"accuracy {trainer.evaluate(X_test, t_test)['accuracy']:.2%} on others")

# %%
# Where the network says which arm a point is on.
fig, ax = plt.subplots(layout="constrained")
plots.decision_boundary(net, X, t, ax)
fig.savefig("spiral.png")

# %%
# The training as a film, with a slider.
film = plots.animate(recorder, lambda net, ax: plots.decision_boundary(net, X, t, ax))
Path("spiral.html").write_text(film.to_jshtml(), encoding="utf-8")
print("the figure is in spiral.png, the film in spiral.html")
