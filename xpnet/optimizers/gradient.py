"""The gradient that an update sees: shortened if it is too long, and with the weight decay."""

from __future__ import annotations

from math import frexp, ldexp
from typing import Any

from xpnet.backend import Array


def set_limit(optimizer: Any) -> None:
    """Put s = 2ⁿ and s · clip on the device, so that squares of s g hold up to |g| = 10²⁸ clip.

    Without it the norm of a float32 gradient of 10²⁰ is infinite, and a gradient that is to be
    shortened becomes 0. A power of two changes no digit: squares that it makes too small are below
    the last digit of any norm that exceeds the limit.
    """
    scale = min(1.0, ldexp(1.0, max(-126, -30 - frexp(optimizer.clip_norm)[1])))
    optimizer.xp.copyto(optimizer.scale, scale)
    optimizer.xp.copyto(optimizer.limit, scale * optimizer.clip_norm)


def effective_gradient(optimizer: Any) -> Array:
    """Return c g + λ p with c = min(1, clip / ‖g‖), or g itself if neither is asked for."""
    xp, g, clip = optimizer.xp, optimizer.net.grads, optimizer.clip_norm
    decay = 0.0 if optimizer.decoupled_decay else optimizer.weight_decay
    if clip is None and decay == 0.0:
        return g
    own, work, norm = optimizer.own_gradient, optimizer.work, optimizer.norm
    if clip is None:
        xp.copyto(own, g)
    else:
        xp.multiply(g, optimizer.scale, out=work)
        xp.multiply(work, work, out=work)
        xp.sum(work, axis=0, out=norm)
        xp.sqrt(norm, out=norm)
        xp.maximum(norm, optimizer.limit, out=norm)
        xp.divide(optimizer.limit, norm, out=norm)
        xp.multiply(g, norm, out=own)
    if decay != 0.0:
        xp.multiply(optimizer.net.params, decay, out=work)
        xp.add(own, work, out=own)
    return own
