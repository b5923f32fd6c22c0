"""Where two backends part: the first step, phase and layer that differ by a bit."""

from __future__ import annotations

from xpnet.network import Sequential
from xpnet.verify.golden import PHASES, RecipeRun, little_endian
from xpnet.verify.parity import locate
from xpnet.verify.parity.values import worst


def first_difference(a: RecipeRun, b: RecipeRun, steps: int) -> str:
    """Return the step, phase and layer in which two trainings first differ, from a fresh start."""
    for step in range(steps):
        before = a.net.copy(), b.net.copy()
        for phase in PHASES:
            getattr(a, phase)()
            getattr(b, phase)()
            if not _same(a, b, phase):
                found = _changed(a, b) if phase == "update" else _located(*before, a, b)
                return f"in step {step + 1}, in the {phase} phase: {found}"
    return "and agree when they are run again: one of them does not repeat itself"


def _same(a: RecipeRun, b: RecipeRun, phase: str) -> bool:
    """Return True if all that a phase has made is the same, bit by bit."""
    pairs = zip(a.results(phase), b.results(phase), strict=True)
    return all(
        little_endian(a.net.xp.asnumpy(x)) == little_endian(b.net.xp.asnumpy(y)) for x, y in pairs
    )


def _located(before_a: Sequential, before_b: Sequential, a: RecipeRun, b: RecipeRun) -> str:
    """Return the first layer whose output or stored state differs for equal input."""
    X, t = (a.net.xp.asnumpy(array) for array in a.batch)
    found = locate(
        before_a, before_b, a.loss, X, t, same=lambda x, y: little_endian(x) == little_endian(y)
    )
    return str(found) if found else _changed(a, b)


def _changed(a: RecipeRun, b: RecipeRun) -> str:
    """Return which state or parameter is not the same, and after what."""
    ours, theirs = a.net.state_dict(), b.net.state_dict()
    for name, x in ours.items():
        y = theirs[name]
        if little_endian(x) != little_endian(y):
            entry = worst(x, y)
            place = "".join(f"[{i}]" for i in entry)
            path, _, last = name.rpartition(".")
            layer = dict(a.net.walk(""))[path]
            who = f"{a.optimizer!r}" if last in layer.parameters else f"layer {path}, {layer!r}"
            return f"{who} makes {name}{place} {float(x[entry])!r} and {float(y[entry])!r}"
    return "but not when the layers are run again, one by one"
