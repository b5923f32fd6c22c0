"""Backpropagation by hand
==========================

Three layers, forward and backward, with nothing but array functions: ``xp`` is NumPy, or CuPy where
that is the backend. Samples are rows, and dA is the gradient of the loss L with respect to A.
"""

import sys

import matplotlib.pyplot as plt

from xpnet import Linear, Sequential, SoftmaxCrossEntropy, Tanh, data, get_backend, plots

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 500
xp = get_backend().module
X, t, X_test, t_test = map(xp.asarray, data.digits())
T = xp.eye(10)[t]  # one-hot: a row for each target, with a 1 at its class
net = Sequential(Linear(64, 32), Tanh(), Linear(32, 16), Tanh(), Linear(16, 10), dtype="float64")
W1, b1, W2, b2, W3, b3 = parameters = [xp.asarray(a) for a in net.state_dict().values()]


# %%
# Forward. Each row of P is the softmax of a row of Z3, and the loss is L = -1/n Σ T · log P.
def forward(X):
    A1 = xp.tanh(X @ W1 + b1)
    A2 = xp.tanh(A1 @ W2 + b2)
    E = xp.exp(A2 @ W3 + b3)
    return A1, A2, E / E.sum(axis=1, keepdims=True)


# %%
# Backward, from the end to the start: each line multiplies by the Jacobian J of one function.
def backward(A1, A2, P):
    dZ3 = (P - T) / len(X)  # J = diag p - p pᵀ, and J (-t/p) = p - t, since Σ t = 1
    dA2, dW3, db3 = dZ3 @ W3.T, A2.T @ dZ3, dZ3.sum(axis=0)  # dZ3 W3ᵀ, A2ᵀ dZ3, 1ᵀ dZ3
    dZ2 = dA2 * (1 - A2**2)  # tanh acts on each element: J = diag(1 - a²)
    dA1, dW2, db2 = dZ2 @ W2.T, A1.T @ dZ2, dZ2.sum(axis=0)  # dZ2 W2ᵀ, A1ᵀ dZ2, 1ᵀ dZ2
    dZ1 = dA1 * (1 - A1**2)
    return X.T @ dZ1, dZ1.sum(axis=0), dW2, db2, dW3, db3  # dW1 = Xᵀ dZ1, db1 = 1ᵀ dZ1


# %%
# The same network in xpnet, from the same start, has the same gradients.
loss, losses = SoftmaxCrossEntropy(), []
loss.forward(net.forward(X), t)
net.backward(loss.backward())
by_hand = xp.concatenate([gradient.ravel() for gradient in backward(*forward(X))])
print(f"largest difference of a gradient: {float(abs(by_hand - net.grads).max()):.1e}")
for _ in range(steps):  # now train
    A1, A2, P = forward(X)
    losses.append(float(-(T * xp.log(P)).sum() / len(X)))
    for parameter, gradient in zip(parameters, backward(A1, A2, P), strict=True):
        parameter -= 0.5 * gradient  # gradient descent: W ← W - lr dW
accuracy = float((forward(X_test)[2].argmax(axis=1) == t_test).mean())
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}, test accuracy {accuracy:.2%}")
plots.loss_curve({"loss": losses})
plt.savefig("by_hand.png")
print("the figure is in by_hand.png")
