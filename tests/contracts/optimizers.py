"""Trials of optimizers, schedules and initialisers."""

from __future__ import annotations

import xpnet
from contracts import networks
from contracts.subject import New, Subject
from contracts.trial import plain_data
from xpnet import initializers, schedules
from xpnet.backend.random import Random


def make(kind):
    def made(**arguments):
        net = xpnet.Sequential(xpnet.Linear(4, 3), dtype="float64", seed=1, backend="numpy")
        return kind(net, **arguments)

    return made


def use(optimizer):
    for _ in range(2):
        optimizer.net.train()
        optimizer.net.forward(networks.X)
        optimizer.net.backward(networks.DY)
        optimizer.step()


def outcome(optimizer):
    use(optimizer)
    return plain_data([optimizer.net.params, optimizer.host_state(), optimizer.lr])


def subject(kind):
    other = {
        "clip_norm": 0.5,
        "weight_decay": 0.25,
        "schedule": New(lambda: schedules.Cosine(0.5, 10)),
        "net": New(networks.make),
        "momentum": 0.5,
        "mu": 0.5,
        "eps": 0.1,
        "beta1": 0.5,
        "beta2": 0.5,
        "rho": 0.5,
    }
    return Subject(
        "Optimizers",
        kind.__name__,
        make(kind),
        use,
        outcome,
        kind,
        other=other,
        given={"nesterov": False, "momentum": 0.9} if kind is xpnet.SGD else {},
        fixed={
            "net": "an optimizer belongs to its network",
            "rate": "memory that each step overwrites",
        },
    )


def schedule(kind, **given):
    return Subject(
        "Schedules",
        kind.__name__,
        lambda **a: kind(**a),
        lambda s: s(3),
        lambda s: [s(k) for k in range(20)],
        kind,
        given=given,
        other={"final": 0.01, "end": 10.0, "then": schedules.Step(0.3, 2)},
    )


def initializer(kind, **given):
    """Return the trials of an initialiser: numbers for one shape."""

    def numbers(f):
        return plain_data(f(Random(0, "weights"), (3, 4)))

    return Subject(
        "Initialisers",
        kind.__name__,
        kind,
        numbers,
        numbers,
        kind,
        given=given,
        right={"value": ("-1",), "gain": ("-1",)},
    )


def subjects():
    yield from map(subject, (xpnet.SGD, xpnet.RMSprop, xpnet.Adam, xpnet.AdamW))
    yield schedule(schedules.Constant, lr=0.5)
    yield schedule(schedules.Step, lr=0.5, every=4)
    yield schedule(schedules.Exponential, lr=0.5, factor=0.5)
    yield schedule(schedules.Cosine, lr=0.5, steps=10)
    yield schedule(schedules.WarmUp, then=schedules.Cosine(0.5, 10), steps=4)
    yield schedule(schedules.OneCycle, lr=0.5, steps=12)
    yield initializer(initializers.Constant, value=0.5)
    yield initializer(initializers.Normal, std=0.25)
    yield initializer(initializers.Uniform, limit=0.25)
    yield initializer(initializers.Orthogonal, gain=0.5)
