"""Find the bug
===============

Two mistakes of many notebooks. The networks learn all the same, so nobody notices; the gradient
check does, and says what is wrong. An MNIST notebook shows what the first one does to a training.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from xpnet import SGD, CrossEntropy, Linear, ReLU, Sequential, Softmax, Trainer, data, gradcheck

iterations = int(sys.argv[1]) if len(sys.argv) > 1 else 100


class TooEarly(Linear):  # W is updated, and only then passes the gradient down
    def backward(self, dY):
        super().backward(dY)
        self.W -= 0.1 * self.dW
        self.dW[...] = 0  # W has had its step: nothing is left for the optimizer
        return None if self.dX is None else dY @ self.W.T


class Summed(CrossEntropy):  # the loss is a mean over the samples, but its gradient is a sum
    def backward(self):
        return len(self.Y) * super().backward()


# %%
# What the gradient check says about each.
X, t = np.random.default_rng(0).normal(size=(8, 5)), np.arange(8) % 3
for layer, loss in (TooEarly, CrossEntropy()), (Linear, Summed()):
    net = Sequential(layer(5, 7), ReLU(), layer(7, 3), Softmax())
    print(gradcheck(net, loss, X, t), end="\n\n")

# %%
# The notebook: its network, its first weights, and all of MNIST in each step.
(X, t, *_), losses = data.load_mnist(), []
for layer in (TooEarly, Linear):
    net = Sequential(layer(784, 64), ReLU(), layer(64, 32), ReLU(), layer(32, 10), Softmax())
    random, start = np.random.RandomState(42), net.to(dtype="float64").state_dict()
    for name, a in start.items():
        start[name] = random.randn(*a.T.shape).T / (len(a) ** 0.5 if a.ndim == 2 else 1)
    net.load_state_dict(start)
    trainer = Trainer(net, CrossEntropy(), SGD(net, lr=0.1))
    losses.append(trainer.fit(X, t, epochs=iterations + 1, batch_size=None, shuffle=False)["loss"])

# %%
# What it has published, at 100, 200 ... 700, comes out with the mistake, and only with it.
(early, right), published = losses, [0.5321, 0.3786, 0.3333, 0.3089, 0.2916, 0.2776, 0.2649]
for i in range(100, min(iterations, 700) + 1, 100):
    print(f"{i}: loss {early[i]:.4f}, published {published[i // 100 - 1]}, right {right[i]:.4f}")
fig, ax = plt.subplots(layout="constrained")
ax.plot(np.subtract(early, right))
ax.set(xlabel="iteration", ylabel="loss with the mistake - right loss")
fig.savefig("find_the_bug.png")
print(f"{iterations}: {early[-1]:.6f} and {right[-1]:.6f}; the figure is in find_the_bug.png")
