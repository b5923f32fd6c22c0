"""``cupyx`` of the stand-in."""

import numpy as np
from cupy import allow_synchronize

__all__ = ["allow_synchronize", "empty_pinned"]


def empty_pinned(shape, dtype=float, order="C"):
    return np.empty(shape, dtype, order)
