"""Weights from PyTorch, and out to ONNX
=====================================

A network that PyTorch has trained goes on here: the same weights, by the same names, and the same
outputs. Then it goes out again, as a file for any runtime.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from xpnet import BatchNorm1d, Linear, ReLU, Sequential, data, plots
from xpnet.exchange import to_onnx

try:
    import torch
    from onnx.reference import ReferenceEvaluator
except ImportError as error:
    print(f"this example needs {error.name}, which is not installed: pip install torch onnx")
    sys.exit()

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
X, t = data.spiral()

# %%
# Two arms of a spiral, learnt by PyTorch.
torch.manual_seed(0)
layers = [torch.nn.Linear(2, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)]
layers += [torch.nn.BatchNorm1d(64), torch.nn.ReLU(), torch.nn.Linear(64, 1)]
twin, loss = torch.nn.Sequential(*layers), torch.nn.BCEWithLogitsLoss()
optimizer, inputs = torch.optim.Adam(twin.parameters(), 0.01), torch.tensor(X, dtype=torch.float32)
for _ in range(epochs):
    optimizer.zero_grad()
    loss(twin(inputs)[:, 0], torch.tensor(t, dtype=torch.float32)).backward()
    optimizer.step()
theirs = twin.eval()(inputs).detach().numpy()

# %%
# The same layers here, and the weights by PyTorch's names: ``0.weight`` is our ``0.W``, transposed.
net = Sequential(Linear(2, 64), ReLU(), Linear(64, 64), BatchNorm1d(64), ReLU(), Linear(64, 1))
net.load_state_dict(twin.state_dict(), layout="torch")
ours = net.predict(X)
print(f"accuracy {np.mean((ours[:, 0] > 0) == t):.1%}")
print(f"the outputs here and in PyTorch differ by {np.abs(ours - theirs).max():.1e} at most")

# %%
# As a file of ONNX, read by its reference evaluator. Any runtime would do, in any language.
to_onnx(net, "from_pytorch.onnx")
(found,) = ReferenceEvaluator("from_pytorch.onnx").run(None, {"X": X.astype(np.float32)})
print(f"the outputs of from_pytorch.onnx differ by {np.abs(found - ours).max():.1e} at most")

# %%
# What PyTorch has learnt, in a picture of ours.
plots.decision_boundary(net, X, t)
plt.gcf().savefig("from_pytorch.png")
print("the figure is in from_pytorch.png")
