"""Linear: the fully connected layer."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.initializers import Initializer
from xpnet.layers.base import Layer, Shape
from xpnet.layers.shapes import features
from xpnet.support.attributes import Fixed, Foreign
from xpnet.support.checks import count, yes_or_no


class Linear(Layer):
    """Y = X W + b

    dW = Xᵀ dY        db = Σᵢ dYᵢ        dX = dY Wᵀ

    Where ReLU, Sigmoid or Tanh follows, a network may run both as `xpnet.network.fusions` says.

    Parameters
    ----------
    n_in, n_out : int
        Features in and out; W has the shape (n_in, n_out), b the shape (n_out,).
    bias : bool
        False leaves out b.
    init : str or function
        How W starts, see `xpnet.initializers`; b starts at zero.

    Raises
    ------
    OptionError
        If a size is not a positive whole number or the initialiser is unknown.
    """

    W: Array
    dW: Array
    b: Array
    db: Array
    n_in: Any = Fixed()
    n_out: Any = Fixed()
    bias: Any = Fixed()
    weight, kernel = Foreign("the weights are W, (n_in, n_out)"), Foreign("the weights are W")

    def __init__(
        self, n_in: int, n_out: int, bias: bool = True, init: str | Initializer = "glorot_uniform"
    ) -> None:
        super().__init__()
        self.n_in, self.n_out = count("Linear: n_in", n_in), count("Linear: n_out", n_out)
        self.bias = yes_or_no("Linear: bias", bias)
        self.parameter("W", (n_in, n_out), init)
        if bias:
            self.parameter("b", (n_out,), "zeros")

    def __repr__(self) -> str:
        return f"Linear({self.n_in}, {self.n_out}{'' if self.bias else ', bias=False'})"

    def output_shape(self, shape: Shape | None) -> Shape:
        """Return (n_out,)."""
        features(self, shape, self.n_in)
        return (self.n_out,)

    def forward(self, X: Array) -> Array:
        """Return X W + b, shape (n, n_out)."""
        self.X, Y = X, self.Y[: len(X)]
        if not self.bias:
            return self.xp.matmul(X, self.W, out=Y)
        return self.xp.affine(X, self.W, self.b, out=Y)

    def backward(self, dY: Array) -> Array | None:
        """Write dW and db, and return dX, shape (n, n_in)."""
        xp = self.xp
        with xp.off_path():  # nobody waits for these two before the optimizer
            if self.bias:
                xp.sum(dY, axis=0, out=self.db)
            xp.matmul(self.X.T, dY, out=self.dW)
        return None if self.dX is None else xp.matmul(dY, self.W.T, out=self.dX[: len(dY)])
