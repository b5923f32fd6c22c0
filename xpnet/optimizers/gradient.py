"""The gradient that an update sees: shortened if it is too long, and with the weight decay."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array


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
        xp.multiply(g, g, out=work)
        xp.sum(work, axis=0, out=norm)
        xp.sqrt(norm, out=norm)
        xp.maximum(norm, clip, out=norm)
        xp.divide(clip, norm, out=norm)
        xp.multiply(g, norm, out=own)
    if decay != 0.0:
        xp.multiply(optimizer.net.params, decay, out=work)
        xp.add(own, work, out=own)
    return own
