"""Which terms of a sum are on this process; `xpnet.parallel` has sums over several processes."""

from __future__ import annotations

from xpnet.backend.base import Array

Blocks = list[tuple[slice, int]]


class LocalTerms:
    """All terms of a sum are on this process."""

    def blocks(self, n: int, size: int) -> Blocks:
        """Return the blocks of up to ``size`` terms to which n terms of this process belong.

        For each block: the slice of this process's terms that are in it, and the number of all its
        terms.
        """
        return [(slice(k, k + size), min(size, n - k)) for k in range(0, n, size)]

    def greatest(self, top: Array) -> Array:
        """Return the greatest of the values of all processes, element by element."""
        return top

    def total(self, S: Array) -> Array:
        """Return the sum of the values of all processes, element by element."""
        return S


LOCAL_TERMS = LocalTerms()
