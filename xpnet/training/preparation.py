"""What a step needs is made before the first one: buffers, batches, and what fits in memory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from xpnet.data.batches import Batches, batch_sizes
from xpnet.losses import Loss
from xpnet.network import Sequential
from xpnet.optimizers import Optimizer
from xpnet.parallel.batch import share_batches
from xpnet.parallel.communicator import Communicator
from xpnet.support.errors import OutOfMemoryError, ShapeError
from xpnet.training.data import Columns
from xpnet.training.step import TrainingStep
from xpnet.training.training import Penalty


def make_step(
    net: Sequential,
    loss: Loss,
    optimizer: Optimizer,
    data: Columns,
    size: int,
    *,
    shuffle: bool,
    seed: int,
    comm: Communicator,
    penalty: Penalty | None = None,
) -> TrainingStep:
    """Return the step of a training, and make everything that it writes.

    Parameters
    ----------
    net, loss, optimizer
        What is trained.
    data : Columns
        The data set, on the device.
    size : int
        The number of samples in a batch.
    shuffle, seed
        See `Batches`.
    comm : Communicator
        The processes that share each batch.
    penalty : Penalty, optional
        See `TrainingStep`.
    """
    shape = data.sample_shape
    processes = share_batches(net, loss, comm, batch_sizes(data.samples, size), shape)
    rows, loss_rows = processes.rows, processes.loss_rows
    shares = [rows, *[loss_rows] * (len(data.arrays) - 1)]
    batches = Batches(net.xp, data.arrays, data.dtypes, size, shuffle, seed, shares)
    if net.capacity < rows(size)[1] or net.sample_shape != shape:
        with net.in_use:
            net.build(rows(size)[1], shape, net.input_gradient)
    (width,) = net.output_shape(shape) or ()
    loss.reserve(loss_rows(size)[1], width, net.dtype)
    return TrainingStep(net, loss, optimizer, batches, processes, penalty)


def check_sizes(net: Sequential, samples: int, size: int) -> None:
    """Check that each batch of an epoch has the samples that every layer needs.

    Raises
    ------
    ShapeError
        Naming the layer, and the next size of which all batches are large enough.
    """
    for path, layer in net.walk(""):
        least, smallest = layer.least_batch, min(batch_sizes(samples, size))
        if smallest >= least:
            continue
        sizes = range(max(size, least), samples + 1)
        right = next((k for k in sizes if min(batch_sizes(samples, k)) >= least), None)
        way_out = f"use batch_size={right}" if right else "give it more samples"
        raise ShapeError(
            f"layer {path}, {layer!r}, needs batches of {least} samples or more in training, but "
            f"of {samples} samples batch_size={size} makes a batch of {smallest}; {way_out}"
        )


def make_what_fits(size: int, make: Callable[[int], None]) -> None:
    """Make everything for a batch size; if memory does not suffice, say which size fits.

    The error is raised where no other error is being handled: its frames would keep the memory.

    Raises
    ------
    OutOfMemoryError
        If memory does not suffice; everything is made for the batch size that the error names.
    """
    with suppress(MemoryError):
        return make(size)
    fits = 0
    with suppress(MemoryError):
        for k in range((size - 1).bit_length()):
            make(2**k)
            fits = 2**k
    if fits:
        make(1)  # lets go of what was made for more
        make(fits)
    way_out = f"batch_size={fits} does" if fits else "not even one sample does"
    raise OutOfMemoryError(
        f"a batch of {size} samples does not fit in memory beside the network and the data "
        f"set; {way_out}"
    )
