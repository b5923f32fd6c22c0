"""Trials of losses: the value and the gradient for some outputs."""

from __future__ import annotations

import numpy as np

import xpnet
from contracts.subject import Subject
from contracts.trial import plain_data

Y = np.linspace(0.05, 1.9, 12).reshape(6, 2)
P = np.column_stack([Y[:, 0] / 3, 1 - Y[:, 0] / 3])
T = np.column_stack([np.arange(6) % 2, 1 - np.arange(6) % 2]).astype(float)


def run(loss, out):
    value = float(loss.forward(out, T))
    return value, np.array(loss.backward())


def evaluated(loss, out):
    """Return what a trainer makes of the loss: it looks at the names of its attributes, too."""
    net = xpnet.Sequential(xpnet.Identity(), dtype="float64", backend="numpy")
    return xpnet.Trainer(net, loss).evaluate(out, T)


def subject(kind, given=None, other=None):
    out = P if kind in (xpnet.CrossEntropy, xpnet.BinaryCrossEntropy) else 3 * Y
    return Subject(
        "Losses",
        kind.__name__,
        make=lambda **a: kind(**a),
        use=lambda loss: run(loss, out),
        outcome=lambda loss: plain_data(
            [run(loss, out), run(loss, out[::-1].copy()), evaluated(loss, out)]
        ),
        arguments=kind,
        given=given or {},
        fixed={"value": "memory that each `forward` overwrites"},
        right={"ignore_index": ("-1",)},
        other=other or {},
    )


def subjects():
    from xpnet.losses import LOSSES

    kinds = dict.fromkeys(k for k in LOSSES.values() if isinstance(k, type))
    return [subject(kind) for kind in kinds]
