"""Linear: the fully connected layer."""

from __future__ import annotations

from xpnet.backend import Array
from xpnet.initializers import Initializer
from xpnet.layers.base import Layer, Shape, features
from xpnet.layers.graph import Graph
from xpnet.support.checks import count


class Linear(Layer):
    """Y = X W + b

    dW = Xᵀ dY        db = Σᵢ dYᵢ        dX = dY Wᵀ

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

    pixels = "takes"
    W: Array
    dW: Array
    b: Array
    db: Array

    def __init__(
        self, n_in: int, n_out: int, bias: bool = True, init: str | Initializer = "glorot_uniform"
    ) -> None:
        super().__init__()
        self.n_in, self.n_out = count("Linear: n_in", n_in), count("Linear: n_out", n_out)
        self.bias = bias
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
        self.X = X
        if not self.bias:
            return self.xp.matmul(X, self.W, out=self.Y[: len(X)])
        return self.xp.affine(X, self.W, self.b, out=self.Y[: len(X)])

    def backward(self, dY: Array) -> Array | None:
        """Write dW and db, and return dX, shape (n, n_in)."""
        if self.bias:
            with self.xp.off_path():  # nobody waits for it before the optimizer
                self.xp.sum(dY, axis=0, out=self.db)
        return self.backward_of_product(dY)

    def backward_of_product(self, dY: Array) -> Array | None:
        """Write dW and return dX."""
        xp, X = self.xp, self.X
        if self.dX is None:  # the first layer: nobody upstream needs it
            xp.matmul(X.T, dY, out=self.dW)
            return None
        with xp.off_path():
            xp.matmul(X.T, dY, out=self.dW)
        return xp.matmul(dY, self.W.T, out=self.dX[: len(dY)])

    def torch_values(self) -> dict[str, Array]:
        """Return ``weight``, which is Wᵀ, shape (n_out, n_in), and ``bias``."""
        return {"weight": self.W.T} | ({"bias": self.b} if self.bias else {})

    def to_onnx(self, graph: Graph, X: str) -> str:
        """Return Gemm(X, W, b)."""
        return graph("Gemm", X, *self.xpnet_values().values())

    def followed_by(self, layer: Layer) -> LinearActivation | None:
        """Return the two as one, if the second has a function that `Backend.affine` knows.

        Classes and objects that change something are left alone, and reproducible mode is: there
        the values of each layer are compared.
        """
        f = vars(type(layer)).get("activation", "")
        known = type(self) is Linear and self.bias and f
        if not known or self.xp.reproducible or not (_as_written(self) and _as_written(layer)):
            return None
        return LinearActivation(self, layer, f)


def _as_written(layer: Layer) -> bool:
    """Tell whether nobody has put another forward or backward into the object or its class."""
    kind, names = type(layer), ("forward", "backward")
    return not any(
        name in vars(layer) or getattr(kind, name).__module__ != kind.__module__ for name in names
    )


class LinearActivation:
    """Y = f(X W + b): a `Linear` and the activation behind it, with one pass over Y each way.

    dZ = dY · f'(Z) in terms of Y        db = Σᵢ dZᵢ        dW = Xᵀ dZ        dX = dZ Wᵀ

    A network that trains puts the two together by itself. Both layers then share one Y, that of
    the activation: Z = X W + b is nowhere stored.
    """

    def __init__(self, linear: Linear, activation: Layer, f: str) -> None:
        self.linear, self.activation, self.f = linear, activation, f
        linear.Y = activation.Y

    def forward(self, X: Array) -> Array:
        """Return Y, shape (n, n_out)."""
        linear, self.linear.X = self.linear, X
        return linear.xp.affine(X, linear.W, linear.b, out=self.activation.Y[: len(X)], f=self.f)

    def backward(self, dY: Array) -> Array | None:
        """Write dW and db, and return dX, shape (n, n_in)."""
        linear, n = self.linear, len(dY)
        Y, dZ = self.activation.Y[:n], self.activation.dX[:n]
        linear.xp.affine_grad(dY, Y, self.f, out=dZ, db=linear.db)
        return linear.backward_of_product(dZ)
