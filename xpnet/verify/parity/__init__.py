"""Parity: do all backends compute the same gradients, for a network of yours and one batch?

Every run stands at one point: parameters and batch are rounded to float32 first, so that float32
and float64 start from the same numbers. Then, backend by backend:

- In float64 every gradient against NumPy's, and NumPy's against the slope of the loss and against
  PyTorch's autograd, which has no line in common with this library.
- In float32 each layer by itself against the bound of its rounding, and the whole network against
  float64. How far the latter may be off is measured: it is how far the float64 gradient moves when
  each number on the way is moved by as much as float32 arithmetic may be off there.
- In reproducible mode, bit by bit.

What differs is located: in the first layer that gives something else for the same input.
"""

from xpnet.verify.parity.displaced import Displaced as Displaced
from xpnet.verify.parity.gradients import parity as parity
from xpnet.verify.parity.passes import locate as locate
from xpnet.verify.parity.report import Bits as Bits
from xpnet.verify.parity.report import Check as Check
from xpnet.verify.parity.report import Difference as Difference
from xpnet.verify.parity.report import ParityReport as ParityReport
from xpnet.verify.parity.report import Row as Row
from xpnet.verify.parity.report import wrapped as wrapped
