"""Advice about several processes, which threads play."""

from __future__ import annotations

import numpy as np
from contract_layers import WIDTH, Bend
from team import team

import xpnet
from advice import advice, elsewhere, refused
from xpnet.backend import find_backend


def train(kind):
    """Train a network with one layer of this kind on two processes, in reproducible mode."""
    xp = find_backend("numpy", reproducible=True)

    def fit(comm):
        net = xpnet.Sequential(kind(), xpnet.Linear(WIDTH, 2), seed=0, backend=xp)
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", comm=comm)
        trainer.fit(np.ones((8, WIDTH)), np.arange(8) % 2, epochs=1, batch_size=4)

    team(2, fit)


@advice("is written through a copy; take a slice, such as [k : k + 1]")
def _():
    class Copies(Bend):
        def write(self, dY):
            for k in range(WIDTH):
                self.xp.sum(self.terms(dY)[:, k : k + 1], axis=0, out=self.da[[k]])

    class Slices(Bend):
        def write(self, dY):
            for k in range(WIDTH):
                self.xp.sum(self.terms(dY)[:, k : k + 1], axis=0, out=self.da[k : k + 1])

    with refused(xpnet.XpnetError, "take a slice, such as [k : k + 1]"):
        train(Copies)
    train(Slices)


@advice("is in an array of its own; write into self.{}")
def _():
    class Own(Bend):
        def backward(self, dY):
            vars(self)["da"] = self.xp.empty((WIDTH,), self.dtype)
            return super().backward(dY)

    with refused(xpnet.XpnetError, "is in an array of its own; write into self.da"):
        train(Own)
    train(Bend)


elsewhere(
    "tests/project/test_bare_machine.py::test_processes_without_threadpoolctl",
    "threadpoolctl is not installed, and the BLAS of each process has a thread for every core",
)
elsewhere(
    "tests/parallel/test_contract.py::test_the_gradients_are_right",
    "compute the terms of each sample into an array of the layer, and write their sum by",
)
