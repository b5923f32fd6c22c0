"""By hand against autograd
===========================

The same network twice: once with the backward pass that xpnet has written by hand, once in PyTorch,
which finds the gradients itself. Same start, same batches, same optimizer, all in float64.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from xpnet import Adam, Linear, ReLU, Sequential, SoftmaxCrossEntropy, data

try:
    import torch
except ImportError:
    print("this example compares with PyTorch, which is not installed: pip install torch")
    sys.exit()

steps = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
X, t, *_ = data.digits()

# %%
# The two networks and their start: PyTorch's ``weight`` is our ``W``, transposed.
net = Sequential(Linear(64, 32), ReLU(), Linear(32, 10), dtype="float64", backend="numpy")
twin = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
start = [torch.tensor(a.T) for a in net.state_dict().values()]
twin.double().load_state_dict(dict(zip(twin.state_dict(), start, strict=True)))

# %%
# A step of the one, and the same step of the other.
loss, optimizer = SoftmaxCrossEntropy(), Adam(net, lr=1e-3)
twin_loss, twin_optimizer = torch.nn.CrossEntropyLoss(), torch.optim.Adam(twin.parameters(), 1e-3)
random, ours, theirs = np.random.default_rng(0), [], []
for _ in range(steps):
    batch = random.integers(len(X), size=32)
    ours.append(float(loss.forward(net.forward(X[batch]), t[batch])))
    net.backward(loss.backward())
    optimizer.step()
    L = twin_loss(twin(torch.tensor(X[batch])), torch.tensor(t[batch]))
    theirs.append(L.item())
    twin_optimizer.zero_grad()
    L.backward()
    twin_optimizer.step()
difference = np.abs(np.subtract(ours, theirs))
print(f"loss {ours[0]:.4f} -> {ours[-1]:.4f}; the two differ by {difference.max():.1e} at most")

# %%
# Two curves, one on the other; what is left between them is rounding.
fig, (top, bottom) = plt.subplots(2, 1, sharex=True, layout="constrained")
top.semilogy(theirs, color="lightgrey", linewidth=5, label="autograd")
top.semilogy(ours, linewidth=1, label="by hand")
top.legend(loc="upper right")
top.set(ylabel="loss")
bottom.semilogy(np.maximum(difference, 1e-17), ".", markersize=3)  # 1e-17: there is none
bottom.set(xlabel="step", ylabel="difference")
fig.savefig("compare_with_autograd.png")
print("the figure is in compare_with_autograd.png")
