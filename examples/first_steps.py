"""First steps
==============

A network learns to read digits of 8 x 8 pixels: first with a Trainer, then with nothing hidden.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import data, plots

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
X, t, X_test, t_test = data.digits()


def make_net():
    return xpnet.Sequential(
        xpnet.Linear(64, 64, init="he_uniform"),
        xpnet.ReLU(),
        xpnet.Linear(64, 10),
        seed=0,  # the same start on every backend
    )


# %%
# The short way.
net = make_net()
trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam", metrics=["accuracy"])
history = trainer.fit(X, t, epochs=epochs, batch_size=32, validation_data=(X_test, t_test))
print(f"loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}")
print(f"test accuracy {history['val_accuracy'][-1]:.2%}")
print("predicted", net.predict(X_test[:10]).argmax(axis=1), "true", t_test[:10])

# %%
# The loss over the training, and which digits are taken for which.
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
plots.loss_curve(history, left)
plots.confusion(net, X_test, t_test, right)
fig.savefig("first_steps.png")
print("the figure is in first_steps.png")

# %%
# The same by hand: every step in sight.
net = make_net()
X, t = net.xp.asarray(X), net.xp.asarray(t)  # NumPy's or CuPy's, as the network's
loss, optimizer = xpnet.SoftmaxCrossEntropy(), xpnet.Adam(net, lr=1e-3)
for _ in range(epochs):
    for i in range(0, len(X), 32):
        loss.forward(net.forward(X[i : i + 32]), t[i : i + 32])
        net.backward(loss.backward())
        optimizer.step()
print(f"by hand: loss of the last batch {float(loss):.3f}")
