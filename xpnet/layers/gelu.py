"""GELU: the Gaussian error linear unit."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array
from xpnet.layers.base import Layer, Shape
from xpnet.support.attributes import Checked
from xpnet.support.errors import OptionError
from xpnet.support.messages import unknown

FORMS = ("none", "tanh")


def _checked_form(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in FORMS:
        raise OptionError(f"GELU: {unknown('approximate', value, FORMS)}")
    return str(value)


class GELU(Layer):
    """Y = X (1 + T) / 2        with T = tanh(√(2/π) (X + a X³)), a = 0.044715

    dX = dY · ((1 + T) + X (1 - T²) √(2/π) (1 + 3a X²)) / 2

    The form with tanh instead of the error function, which differs from it by up to 5e-4. With
    ``approximate="none"`` the error function itself:

    Y = X Φ        with Φ = (1 + erf(X/√2)) / 2, and φ = Φ' = exp(-X²/2) / √(2π)

    dX = dY · (Φ + X φ)

    Parameters
    ----------
    approximate : str
        ``"tanh"`` or ``"none"``: PyTorch's words. Its own default is ``"none"``.

    Raises
    ------
    OptionError
        If it is another word.

    References
    ----------
    Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    """

    approximate: Any = Checked(_checked_form)

    def __init__(self, approximate: str = "tanh") -> None:
        super().__init__()
        self.approximate = approximate

    def config(self) -> dict[str, Any]:
        """Return the arguments; that of a later release only where it is set."""
        return {} if self.approximate == "tanh" else super().config()

    def __repr__(self) -> str:
        return "GELU()" if self.approximate == "tanh" else f"GELU({self.approximate!r})"

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make room for T and for scratch, or for Φ and φ."""
        super().build(batch_size, input_shape, input_gradient)
        self.T = self.xp.empty(self.Y.shape, self.dtype)
        self.work = self.xp.empty(self.Y.shape, self.dtype)

    def forward(self, X: Array) -> Array:
        """Return Y, of the shape of X."""
        self.X, n = X, len(X)
        Y, T, work = self.Y[:n], self.T[:n], self.work[:n]
        if self.approximate == "tanh":
            return self.xp.gelu(X, out=Y, T=T)
        Phi = self.xp.normal(X, out=T, density=work, work=Y)
        return self.xp.multiply(X, Phi, out=Y)

    def backward(self, dY: Array) -> Array:
        """Return dX, of the shape of dY."""
        xp, X, n = self.xp, self.X, len(dY)
        dX, T, work = self.dX[:n], self.T[:n], self.work[:n]
        if self.approximate == "tanh":
            return xp.gelu_grad(dY, X, T, out=dX, work=work)
        Phi, phi = T, work
        xp.multiply(X, phi, out=dX)
        xp.add(dX, Phi, out=dX)
        return xp.multiply(dX, dY, out=dX)
