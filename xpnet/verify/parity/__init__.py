"""Parity: do all backends compute the same gradients, for your network and one batch?

Every run starts from the same numbers: parameters and batch are first rounded to float32. Then
parity compares, for each backend:

- In float64: every gradient with NumPy's, and NumPy's with the slope of the loss and with PyTorch's
  autograd, which shares no line of code with this library.
- In float32: each layer by itself with the bound of its rounding errors, and the whole network with
  float64. The limit for the whole network is measured: it is how far the float64 gradient moves
  when each intermediate result moves as far as float32 may be off there.
- In reproducible mode: all bits.

If results differ, parity finds the first layer whose result differs for the same input.
"""

from xpnet.verify.parity.gradients import parity as parity
from xpnet.verify.parity.passes import locate as locate
from xpnet.verify.parity.report import Bits as Bits
from xpnet.verify.parity.report import Check as Check
from xpnet.verify.parity.report import Difference as Difference
from xpnet.verify.parity.report import ParityReport as ParityReport
from xpnet.verify.parity.report import Row as Row
from xpnet.verify.parity.report import wrapped as wrapped
from xpnet.verify.parity.rounding_noise import RoundingNoise as RoundingNoise
