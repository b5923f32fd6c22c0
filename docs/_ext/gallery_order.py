"""The examples in the order in which they are best read; new ones come last, by name."""

from __future__ import annotations

from pathlib import Path

READ = [
    "first_steps",
    "by_hand",
    "and",
    "xor",
    "spiral",
    "curve",
    "surface",
    "mnist",
    "grid_search",
    "find_the_bug",
    "add_a_layer",
    "compare_with_autograd",
    "from_pytorch",
    "cpu_or_gpu",
    "mnist_parallel",
]


class Order:
    """A key to sort the files of the gallery."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, filename):
        """Return the place of a file."""
        name = Path(filename).stem
        return (READ.index(name) if name in READ else len(READ)), name
