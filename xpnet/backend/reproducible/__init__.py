"""Reproducible mode: the same bits on NumPy and on CuPy, on any BLAS, any CPU and any GPU.

`Reproducible` is a backend on top of another backend. It replaces the primitives whose last bits
depend on the machine. The layers do not know of it:

- Sums and matrix products are made exact, see `exact`, so that their order does not matter.
- exp, log, tanh and their kin are polynomials, see `elementary`.
- All else is a sequence of single operations + - · / √ max on float32 or float64, each of which
  IEEE 754 defines to the last bit, never two in one kernel, where a compiler could merge them.
- Every float32 that is stored passes through `exact.flush`.

What it promises: for float32 networks and finite numbers, the output of every layer, the loss,
every gradient and every update are the same bits everywhere. Data must come in by ``xp.asarray``,
as it does in `Trainer`, ``predict`` and `xpnet.parity`. Images stay uint8 up to the first product.
Numbers must be below 1e33, learning rates below 2²⁴. Orthogonal initial weights are LAPACK's, and
differ between machines.

What it costs, besides time: numbers are rounded relative to the largest of their row or column, to
26 bits or so, and below 1e-30 they are 0. Features of very different sizes should be scaled, as
they should anyway; `xpnet.parity` holds the gradients of this mode to those of float64.
"""

from xpnet.backend.reproducible.arrays import AS_THEY_ARE
from xpnet.backend.reproducible.optimizers import LEAST_EPS, Reproducible, checked_eps
from xpnet.backend.reproducible.sums import K_BLOCK, TILE
from xpnet.backend.reproducible.terms import LOCAL_TERMS, Blocks, LocalTerms

__all__ = [
    "AS_THEY_ARE",
    "K_BLOCK",
    "LEAST_EPS",
    "LOCAL_TERMS",
    "TILE",
    "Blocks",
    "LocalTerms",
    "Reproducible",
    "checked_eps",
]
