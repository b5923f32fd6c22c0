"""Train a network on handwritten digits: first with a Trainer, then with nothing hidden."""

import sys

import xpnet
from xpnet.data import digits

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
X, t, X_test, t_test = digits()


def make_net():
    return xpnet.Sequential(
        xpnet.Linear(64, 64, init="he_uniform"),
        xpnet.ReLU(),
        xpnet.Linear(64, 10),
        seed=0,  # the same start on every backend
    )


# 1. The short way.
net = make_net()
trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam", metrics=["accuracy"])
history = trainer.fit(X, t, epochs=epochs, batch_size=32, validation_data=(X_test, t_test))
print(f"loss {history['loss'][0]:.3f} -> {history['loss'][-1]:.3f}")
print(f"test accuracy {history['val_accuracy'][-1]:.2%}")
print("predicted", net.predict(X_test[:10]).argmax(axis=1), "true", t_test[:10])

# 2. The same by hand: every step in sight.
net = make_net()
loss = xpnet.SoftmaxCrossEntropy()
optimizer = xpnet.Adam(net, lr=1e-3)
for _ in range(epochs):
    for i in range(0, len(X), 32):
        loss.forward(net.forward(X[i : i + 32]), t[i : i + 32])
        net.backward(loss.backward())
        optimizer.step()
print(f"by hand: loss of the last batch {float(loss):.3f}")
