"""The same bits on CPU and GPU
===============================

In reproducible mode a training has the same result on every machine, down to the last bit. This one
runs with NumPy and, where there is an NVIDIA GPU, with CuPy. What has to come out is known: xpnet
comes with the hashes of the weights after each of 200 steps.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import GELU, LayerNorm, Linear, Sigmoid, golden, plots

steps = min(int(sys.argv[1]), 200) if len(sys.argv) > 1 else 200
X, t = golden.load("spiral")
recipe = next(r for r in golden.RECIPES if r.name.startswith("spiral: 2-32-32-1 GELU"))
known = golden.golden_trace(recipe).phases["update"][steps - 1]  # the first 8 of its 64 digits
print(f"known    {known}... after {steps} steps")


# %%
# The same lines for both. All samples are in each step, so that an epoch is a step.
def train():
    hidden = Linear(2, 32), LayerNorm(32), GELU(), Linear(32, 32), GELU()
    net = xpnet.Sequential(*hidden, Linear(32, 1), Sigmoid())
    trainer = xpnet.Trainer(net, "huber", xpnet.RMSprop(net, lr=0.003))
    trainer.fit(X, t, epochs=steps, batch_size=None)
    return net


# %%
# NumPy first, then CuPy.
nets = {}
for name in ("numpy", "cupy"):
    if name in xpnet.available_backends():
        with xpnet.use_backend(name, reproducible=True):
            nets[name] = train()
        print(f"{name:8} {nets[name].sha256()}")
    else:
        print(f"{name:8} no GPU can be used here; any GPU has to give this hash")
if not all(net.sha256().startswith(known) for net in nets.values()):
    sys.exit("the hashes differ")

# %%
# The same bits make the same picture.
fig, axes = plt.subplots(
    1, len(nets), figsize=(5 * len(nets), 4), layout="constrained", squeeze=False
)
for ax, (name, net) in zip(axes[0], nets.items(), strict=True):
    plots.decision_boundary(net, X, t, ax)
    ax.set_title(f"{name}: {net.sha256()[:8]}...")
fig.savefig("cpu_or_gpu.png")
print("the figure is in cpu_or_gpu.png")
