"""What a backend is to those who ask for it by name; see `registry`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xpnet.backend.base import Backend


def _always(device: int = 0) -> str:
    """Return no reason why it could not be used."""
    return ""


@dataclass(frozen=True, eq=False)
class Kind:
    """One entry of the table of backends.

    Attributes
    ----------
    name : str
        The name that its backends have, such as ``"cupy"``.
    make : function
        Makes the backend from the number of a device and whether products use TF32. The registry
        calls the function once for each pair, and only where ``why_not`` gives no reason.
    aliases : tuple of str
        Other names for it.
    why_not : function
        Returns why the backend cannot be used on a device, one sentence; "" if it can be used.
    library : str
        The array library as its documentation writes it, such as ``"CuPy"``.
    arrays : str
        The top module of the type of its arrays, such as ``"cupy"``.
    devices : function, optional
        Returns how many devices there are. A kind with this function has names like ``"cuda:1"``,
        and the first such kind that works is what ``"auto"`` means.
    has_tf32 : bool
        True if float32 products can be made with TensorFloat-32.
    reproducible : function or None
        Makes reproducible mode on such a backend; None where there is none.
    describe : function
        Returns what ``xpnet info`` prints about it, by name.
    moving : str
        How a user moves an array between this library and NumPy.
    """

    name: str
    make: Callable[[int, bool], Backend]
    aliases: tuple[str, ...] = ()
    why_not: Callable[[int], str] = _always
    library: str = "NumPy"
    arrays: str = "numpy"
    devices: Callable[[], int] | None = None
    has_tf32: bool = False
    reproducible: Callable[[Backend], Backend] | None = None
    describe: Callable[[], dict[str, str]] = dict
    moving: str = "xp.asarray(a) or xp.asnumpy(a)"

    def label(self, device: int) -> str:
        """Return the name with the number of the device, if it has devices."""
        return self.name if self.devices is None else f"{self.name}:{device}"
