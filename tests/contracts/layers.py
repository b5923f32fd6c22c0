"""Trials of layers: a layer between two others, two steps by hand, a prediction."""

from __future__ import annotations

import numpy as np

import xpnet
from contracts.subject import New, Subject
from contracts.trial import plain_data

N = 4
X = np.linspace(-1, 1, 6 * N).reshape(6, N) ** 3
DY = np.cos(np.arange(6.0 * 3)).reshape(6, 3)


def network(layer):
    """Return a network in which the layer is the middle one."""
    first, last = xpnet.Linear(N, N), xpnet.Linear(N, 3)
    return xpnet.Sequential(first, layer, last, dtype="float64", seed=1, backend="numpy")


def step(net):
    """Take a step of plain gradient descent."""
    net.train()
    net.forward(X)
    net.backward(DY)
    net.params[:] -= 0.1 * net.grads


class Used:
    """A layer, and the network that it becomes a part of when it is used."""

    def __init__(self, layer):
        self.layer, self.net = layer, None

    def network(self):
        """Return the network, made when it is first asked for."""
        self.net = self.net or network(self.layer)
        return self.net


def outcome(used):
    """Return all that the network computes, after another step."""
    net = used.network()
    step(net)
    return plain_data([net.state_dict(), net.grads, net.predict(X), net.predict(2 * X)])


def use(used):
    """Take the first step."""
    step(used.network())


def subject(kind, given=None, other=None, fixed=None, right=None):
    """Return the trials of one kind of layer."""
    return Subject(
        "Layers",
        kind.__name__,
        make=lambda **arguments: Used(kind(**arguments)),
        use=use,
        outcome=outcome,
        arguments=kind,
        given=given or {},
        other={**VALUES, **(other or {})},
        fixed={**OF_THE_STEP, **GRADIENTS, **(fixed or {})},
        target=lambda used: used.layer,
        right=right or {},
    )


VALUES = {
    "W": New(lambda: np.full((N, N), 0.5)),
    "b": New(lambda: np.full(N, 0.5)),
    "dW": New(lambda: np.full((N, N), 0.5)),
    "training": False,
    "init": "normal",
    "pixels": "takes",
    "state": New(lambda: {"mean": np.full((1, N), 0.5), "variance": np.full((1, N), 2.0)}),
}
GRADIENTS = dict.fromkeys(
    ("dW", "db", "dgamma", "dbeta"), "memory that each `backward` overwrites; assigning copies"
)
OF_THE_STEP = {
    "xp": "the network's; `net.to` moves the network",
    "Y": "memory that each `forward` overwrites",
    "dX": "memory that each `backward` overwrites",
    "dtype": "the network's; `net.to` changes it",
}


def subjects():
    """Return one subject for each layer of the library."""
    one = {"n": N}
    return [
        subject(xpnet.Linear, {"n_in": N, "n_out": N}),
        subject(xpnet.Dropout, other={"p": 0.25}),
        subject(xpnet.LeakyReLU, right={"slope": ("-1",)}),
        subject(xpnet.BatchNorm1d, one),
        subject(xpnet.LayerNorm, one),
        *[
            subject(getattr(xpnet, name))
            for name in ("Flatten", "GELU", "Identity", "ReLU", "Sigmoid", "Softmax", "Tanh")
        ],
    ]
