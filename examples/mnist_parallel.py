"""MNIST on several processes
=============================

Every process takes a share of each batch, and one sum over all of them is the gradient of the whole
batch. In reproducible mode four processes end with the bits of one. Run this as it stands, and then
with ``mpiexec -n 4 python -m mpi4py examples/mnist_parallel.py``.
"""

import sys

import matplotlib.pyplot as plt

import xpnet
from xpnet import Linear, ReLU, data

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
X, t, X_test, t_test = data.load_mnist()


# %%
# What prints, draws or writes a file is to do so once: on rank 0.
class LossOfEachStep(xpnet.Callback):
    once = True

    def on_train_begin(self, logs):
        self.losses = []

    def on_train_batch_end(self, batch, logs):
        self.losses.append(float(self.trainer.loss))


# %%
# Network, loss and optimizer know nothing of other processes. A batch is that of all together.
def train(comm):
    with xpnet.use_backend("numpy", reproducible=True):
        net = xpnet.Sequential(Linear(784, 64), ReLU(), Linear(64, 32), ReLU(), Linear(32, 10))
    trainer, steps = xpnet.Trainer(net, "softmax_cross_entropy", comm=comm), LossOfEachStep()
    trainer.fit(X[:20000], t[:20000], epochs=epochs, batch_size=128, callbacks=[steps])
    return net, steps


# %%
# First each on its own, then all together; where MPI has started no others, that is the same.
comm = xpnet.parallel.communicator("auto")
trained = {size: train(others) for size, others in {1: None, comm.size: comm}.items()}

# %%
# The same hash, and the same loss in every step: one line hides in the other.
if comm.rank == 0:
    fig, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    for size, (net, steps) in trained.items():
        accuracy = (net.predict(X_test).argmax(axis=1) == t_test).mean()
        print(f"processes: {size}  accuracy: {accuracy:.2%}  {net.sha256()}")
        ax.plot(steps.losses, lw=4 / size, label=f"processes: {size}")
    ax.set(xlabel="step", ylabel="loss", yscale="log", title=f"{net.sha256()[:16]}...")
    ax.legend()
    fig.savefig("mnist_parallel.png")
    print("the figure is in mnist_parallel.png")
