"""What the table of backends says of CuPy in a test."""

from __future__ import annotations

from dataclasses import replace

from xpnet.backend import registry


def unusable(monkeypatch, why_not):
    """Let CuPy be unusable for a reason: a sentence, or a function of the number of the device."""
    reason = why_not if callable(why_not) else lambda device=0: why_not
    changed = replace(registry.KINDS["cupy"], why_not=reason)
    monkeypatch.setitem(registry.KINDS, "cupy", changed)
