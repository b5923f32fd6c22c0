"""What every layer is: a function Y = f(X; parameters) that can also send a gradient back."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.backend.random import Random
from xpnet.initializers import Initializer, find_initializer
from xpnet.layers.part import Parameter, Part, Shape

__all__ = ["Layer", "Parameter", "Shape"]


class Layer(Part):
    """One differentiable function. To write your own, define ``forward`` and ``backward``.

    ``forward(X)`` returns Y and keeps what ``backward`` will need. ``backward(dY)`` takes the
    gradient of the loss with respect to Y, writes the gradient of each parameter ``W`` into
    ``self.dW``, and returns the gradient with respect to X. It returns None where ``self.dX`` is
    None: then nobody upstream needs that gradient.

    In ``__init__`` call ``super().__init__()`` and then ``self.parameter(name, shape, init)`` for
    each parameter. A layer that changes the shape defines ``output_shape``. A layer that needs
    scratch memory defines ``build`` and calls ``super().build``. ``self.xp`` is the backend,
    ``self.xp.module`` is NumPy or CuPy itself.

    Attributes
    ----------
    xp : Backend
        The primitives; the network sets it.
    training : bool
        False during prediction: Dropout passes everything, BatchNorm1d uses what it has learnt.
    Y : array, shape (batch size, *output shape)
        Memory for the result of ``forward``.
    dX : array, shape (batch size, *input shape), or None
        Memory for the result of ``backward``.
    state : dict of str to array
        Values that the layer keeps but does not train, such as running means.
    pixels : str
        What the layer does with uint8, pixels k that stand for k/255: ``"takes"`` them where its
        backend does, ``"passes"`` them on, or, by default, gets floating ``"numbers"`` instead.

    Notes
    -----
    The contract of a gradient: ``self.dW`` is a sum over the samples of the batch, and linear in
    dY. It holds on one process and on several that share a batch, for every backend.

    1. Every ``backward`` overwrites the gradient. Nobody sets it to zero before.
    2. ``xp.matmul`` or ``xp.sum`` writes the sum: ``xp.matmul(X.T, dY, out=self.dW)``, where
       ``X.T`` is a view, and ``xp.sum(dY, axis=0, out=self.db)``. All samples of the process go
       into it, one after the other along the axis that is summed, each with one row or several.
    3. A layer that uses a parameter several times writes the first part of the gradient so, and
       adds each further part with ``xp.add_matmul`` or ``xp.add_sum``.
    4. Pieces, such as ``self.dW[:k]``, may be written one by one. In the end all are written.
    5. After its sum a gradient may be multiplied with numbers, parameters and ``state``, and added
       to other gradients: it stays linear in dY. Limits and penalties belong to the optimizer.

    Where several processes must give the same bits, what breaks the contract is an error that names
    layer and parameter. Of an array that ``xp.module`` made the backend knows the shape alone.
    """

    def __init__(self) -> None:
        self._parameters: dict[str, Parameter] = {}
        self._state: dict[str, Array] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def parameter(self, name: str, shape: Shape, init: str | Initializer) -> None:
        """Declare a parameter: ``self.name`` and its gradient ``self.dname`` will be arrays."""
        self.declare(name, Parameter(shape, find_initializer(init)))

    # ---- what a layer defines -----------------------------------------------------------------

    def forward(self, X: Array) -> Array:
        """Return Y = f(X)."""
        raise NotImplementedError

    def backward(self, dY: Array) -> Array | None:
        """Write the gradient of each parameter and return dX."""
        raise NotImplementedError

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Return the shape of one sample of Y, given that of X; None means not known yet.

        Raises
        ------
        ShapeError
            If the layer cannot take that shape.
        """
        return shape

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make the arrays that a step will write, for batches of up to ``batch_size`` samples."""
        output_shape = self.output_shape(input_shape)
        assert output_shape is not None
        self.Y = self.xp.empty((batch_size, *output_shape), self.dtype)
        self.dX = self.xp.empty((batch_size, *input_shape), self.dtype) if input_gradient else None

    def initial_state(self, random: Random) -> dict[str, np.ndarray[Any, Any]]:
        """Return the first value of each entry of ``state``, on the host."""
        return {}
