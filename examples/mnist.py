"""MNIST: handwritten digits
============================

60000 images of 28 x 28 pixels to learn from, and 10000 to be judged by. A small network gets more
than 97 of 100 right within seconds. What it gets wrong is worth a look.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5

# %%
# The images stay bytes in memory; the network takes a byte k as k/255.
X, t, X_test, t_test = data.load_mnist()
net = xpnet.Sequential(
    xpnet.Linear(784, 64, init="he_uniform"),
    xpnet.ReLU(),
    xpnet.Linear(64, 32, init="he_uniform"),
    xpnet.ReLU(),
    xpnet.Linear(32, 10),
)
print(net.summary())

# %%
# The learning rate rises and falls once, which saves epochs.
batch_size = 128
lr = xpnet.schedules.OneCycle(0.004, steps=epochs * -(-len(X) // batch_size))
trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.Adam(net, lr=lr), metrics=["accuracy"])
trainer.fit(X, t, epochs=epochs, batch_size=batch_size, validation_data=(X_test, t_test))
print(f"test accuracy {trainer.history['val_accuracy'][-1]:.2%}")

# %%
# The loss on both sets, and which digits are taken for which; the mistakes that the network is most
# sure of, and what its first layer looks for.
fig, axes = plt.subplots(2, 2, figsize=(12, 10), layout="constrained")
plots.loss_curve(trainer.history, axes[0, 0])
plots.confusion(net, X_test, t_test, axes[0, 1])
plots.mistakes(net, X_test, t_test, axes[1, 0])
plots.weights(net, axes[1, 1])
fig.savefig("mnist.png")
print("the figure is in mnist.png")
