"""Advice of the losses, the optimizers and the checks of gradients."""

from __future__ import annotations

import copy

import numpy as np

import xpnet
from advice import advice, refused

X = np.sin(np.arange(24.0)).reshape(8, 3)
T = np.arange(8.0)[:, None] / 8


def network():
    """Return a network of one layer."""
    return xpnet.Sequential(xpnet.Linear(3, 1), backend="numpy")


def fit(net, optimizer, **how):
    """Train in steps of 4 samples."""
    return xpnet.Trainer(net, "mse", optimizer).fit(X, T, batch_size=4, **{"epochs": 3, **how})


@advice("sample_weight must have the shape ({},); got {}: give one for each sample")
def _():
    net = network()
    with refused(xpnet.ShapeError, "got (3,): give one for each sample"):
        fit(net, "sgd", sample_weight=np.ones(3))
    fit(net, "sgd", sample_weight=np.ones(8))


@advice("a shallow copy of {} would share its moments; copy both")
def _():
    net = network()
    optimizer = xpnet.Adam(net)
    words = "copy.deepcopy((net, optimizer)), or make a new optimizer"
    with refused(xpnet.OptionError, words):
        copy.copy(optimizer)
    net2, optimizer2 = copy.deepcopy((net, optimizer))
    fit(net2, optimizer2)
    assert optimizer.t == 0
    fit(net, xpnet.Adam(net))


@advice("the learning rate {} fails for step {}: {}; train for fewer steps, or let it return")
def _():
    rates = [0.1, 0.05, 0.02, 0.01]
    net = network()
    words = "train for fewer steps, or let it return a number for each"
    with refused(xpnet.OptionError, words):
        fit(net, xpnet.SGD(net, lr=lambda step: rates[step]))
    net = network()
    fit(net, xpnet.SGD(net, lr=lambda step: rates[step]), epochs=2)  # 4 steps
    fit(net, xpnet.SGD(net, lr=lambda step: rates[min(step, 3)]))


@advice("lr is the class {}; give a number or an object of it, such as")
def _():
    net = network()
    with refused(xpnet.OptionError, "such as xpnet.schedules.Cosine(0.1, steps=1000)"):
        xpnet.Adam(net, lr=xpnet.schedules.Step)
    for rate in (0.1, xpnet.schedules.Step(0.1, every=2), xpnet.schedules.Cosine(0.1, steps=1000)):
        fit(net, xpnet.Adam(net, lr=rate))


def checked(kind):
    """Return the report of a check of a layer behind another one."""
    net = xpnet.Sequential(xpnet.Linear(3, 3), kind(3, 3), xpnet.Linear(3, 1), dtype="float64")
    return xpnet.gradcheck(net, "mse", X, T)


@advice("it is not linear in dY: a larger dY gives another multiple of it; leave limits")
def _():
    class Limited(xpnet.Linear):
        def backward(self, dY):
            dX = super().backward(dY)
            self.dW = np.clip(self.dW, -1e3, 1e3)
            return dX

    report = checked(Limited)
    assert "leave limits and penalties to the optimizer (clip_norm, weight_decay)" in str(report)
    assert checked(xpnet.Linear).ok
    net = network()
    fit(net, xpnet.SGD(net, lr=0.1, clip_norm=1.0, weight_decay=1e-3))


@advice("backward puts another array in the place of {}, past the layer: the optimizer does not")
def _():
    class Hidden(xpnet.Linear):
        def backward(self, dY):
            dX = super().backward(dY)
            vars(self)["dW"] = 2 * self.dW / 2
            return dX

    class Assigned(xpnet.Linear):
        def backward(self, dY):
            dX = super().backward(dY)
            self.dW = 2 * self.dW / 2
            return dX

    class Written(xpnet.Linear):
        def backward(self, dY):
            dX = super().backward(dY)
            self.dW[...] = 2 * self.dW / 2
            return dX

    assert "write self.dW = ... or self.dW[...] = ..." in str(checked(Hidden))
    assert checked(Assigned).ok
    assert checked(Written).ok


@advice("nesterov=True needs a momentum, such as momentum=0.9")
def _():
    net = network()
    with refused(xpnet.OptionError, "needs a momentum, such as momentum=0.9"):
        xpnet.SGD(net, nesterov=True)
    fit(net, xpnet.SGD(net, nesterov=True, momentum=0.9))


@advice("backward needs the forward pass of the batch first: net.forward(X)")
def _():
    net = network()
    dY = np.ones((8, 1), np.float32)
    with refused(xpnet.XpnetError, "first: net.forward(X)"):
        net.backward(dY)
    net.forward(X.astype(np.float32))
    net.backward(dY)
    assert np.allclose(net[0].db, 8)
