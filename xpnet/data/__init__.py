"""Data sets: small ones that are computed, the digits of scikit-learn, and MNIST."""

from xpnet.data.curves import curve, curve_truth, surface, surface_grid
from xpnet.data.digits import digits
from xpnet.data.idx import read_idx, write_idx
from xpnet.data.logic import and_gate, or_gate, xor_gate
from xpnet.data.mnist import load_images, load_mnist
from xpnet.data.spiral import spiral

__all__ = [
    "and_gate",
    "curve",
    "curve_truth",
    "digits",
    "load_images",
    "load_mnist",
    "or_gate",
    "read_idx",
    "spiral",
    "surface",
    "surface_grid",
    "write_idx",
    "xor_gate",
]
