"""Random numbers that are the same on every backend and every machine.

Raw 64-bit integers come from the counter-based generator Philox, whose stream NumPy guarantees, and
our own arithmetic turns them into numbers. Everything is drawn on the host and moved to the device,
because the streams of NumPy and CuPy never match.
"""

from __future__ import annotations

import zlib
from math import prod

import numpy as np
from numpy.typing import NDArray

from xpnet.backend.host_functions import cos_sin, log
from xpnet.support.checks import count


class Random:
    """Numbers that depend on the seed and on what they are for, and on nothing else.

    Parameters
    ----------
    seed : int
        Not negative.
    *purpose : str or int
        Names the stream, for example ``"weights"`` or ``"shuffle", epoch``. Streams of different
        purposes are independent of each other.

    Raises
    ------
    OptionError
        If the seed is no integer or is negative.
    """

    def __init__(self, seed: int, *purpose: str | int) -> None:
        words = [zlib.crc32(p.encode()) if isinstance(p, str) else p for p in purpose]
        key = np.random.SeedSequence(count("seed", seed, least=0), spawn_key=words)
        self._philox = np.random.Philox(key)

    def raw(self, n: int) -> NDArray[np.uint64]:
        """Return n raw integers, uniform on 0 ... 2⁶⁴ - 1."""
        return self._philox.random_raw(n)

    def uniform(
        self, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0
    ) -> NDArray[np.float64]:
        """Return float64 numbers, uniform on [low, high): the upper 53 bits times 2⁻⁵³."""
        u = (self.raw(prod(shape)) >> np.uint64(11)) * 2.0**-53
        return np.asarray(low + (high - low) * u, np.float64).reshape(shape)

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """Return float64 standard normal numbers (Box and Muller 1958)."""
        n = prod(shape)
        u, v = self.uniform((2, (n + 1) // 2))
        radius, (cos, sin) = np.sqrt(-2 * log(1 - u)), cos_sin(v)
        return np.concatenate([radius * cos, radius * sin])[:n].reshape(shape)

    def integers(self, n: int, high: int) -> NDArray[np.int64]:
        """Return n integers, uniform on 0 ... high - 1 (to within high / 2⁵³)."""
        return np.floor(self.uniform((n,)) * high).astype(np.int64)

    def permutation(self, n: int) -> NDArray[np.int64]:
        """Return 0 ... n - 1 in random order.

        The index stands in the lower half of each random key: no two keys are equal, so every
        sorting method on every device finds the same order.
        """
        low = np.uint64(2**32 - 1)
        keys = (self.raw(n) & ~low) | np.arange(n, dtype=np.uint64)
        return (np.sort(keys) & low).astype(np.int64)
