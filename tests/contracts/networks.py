"""Trials of networks, by themselves and in their files."""

from __future__ import annotations

import numpy as np

import xpnet
from contracts.subject import New, Subject
from contracts.trial import plain_data

X = np.linspace(-1, 1, 24).reshape(6, 4) ** 3
DY = np.cos(np.arange(6.0 * 3)).reshape(6, 3)


def make(**arguments):
    """Return a network of five layers."""
    layers = [xpnet.Linear(4, 4), xpnet.BatchNorm1d(4), xpnet.Tanh(), xpnet.Dropout(0.5)]
    given = {"dtype": "float64", "seed": 1, "backend": "numpy"}
    return xpnet.Sequential(*layers, xpnet.Linear(4, 3), **given | arguments)


def use(net):
    """Take a step of plain gradient descent."""
    net.train()
    net.forward(X)
    net.backward(DY)
    net.params[:] -= 0.1 * net.grads


def outcome(net):
    """Return all that the network computes, after another step."""
    Y = np.array(net.forward(X))
    dX = net.backward(DY.astype(net.dtype))
    values = net.state_dict(), net.grads, net.predict(X), Y, dX
    return plain_data([*values, net.config(), net.xp.name])


def new_layers():
    return [xpnet.Linear(4, 2), xpnet.Tanh(), xpnet.Linear(2, 3)]


def subjects():
    """Return the network, and its functions that take data."""
    other = {
        "dtype": "float32",
        "seed": 5,
        "backend": "numba",
        "xp": "numba",
        "layers": New(new_layers),
        "params": New(lambda: np.full(make().size, 0.25)),
        "grads": New(lambda: np.full(make().size, 0.25)),
        "state": New(dict),
        "input_gradient": True,
        "training": False,
    }
    return [
        Subject(
            "Networks",
            "Sequential",
            make,
            use,
            outcome,
            xpnet.Sequential,
            given={"dtype": "float64", "seed": 1, "backend": "numpy"},
            other=other,
            fixed={
                "grads": "memory that each `backward` overwrites",
                "state": "a network has none; its layers have",
            },
        ),
    ]
