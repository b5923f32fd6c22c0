"""Training on several processes: each takes a share of every batch, and one sum puts them together.

The result does not depend on how many there are. A batch is the same on one process and on a
hundred, each process computes the gradient of its samples, and one all-reduce of one vector, the
sums of gradients and losses and the count, gives all of them the gradient of the whole batch. The
processes start with the same parameters and make the same step, so they stay equal bit by bit. In
reproducible mode even the bits do not depend on the number of processes.

Nothing here moves data by itself: that is done by MPI, through mpi4py, and between GPUs by NCCL.
"""

from xpnet.parallel.communicator import Communicator as Communicator
from xpnet.parallel.communicator import communicator as communicator
from xpnet.parallel.devices import device_name as device_name
