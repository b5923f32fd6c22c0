"""Files of CUDA kernels: their text, how they are compiled, and how a kernel is started."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import normal

WARP, BLOCK, MAX_BLOCKS = 32, 256, 2048  # threads; kernels go on where the grid ends
REALS: dict[str, tuple[str, Any]] = {"d": ("double", np.float64), "f": ("float", np.float32)}
CACHE_ELSEWHERE = "name a folder that can be written with CUPY_CACHE_DIR"


class Kernels:
    """A file of kernels on the GPU: compiled when one is first used, and kept by CuPy on disk.

    Parameters
    ----------
    file : str
        Its name.
    options : function
        What the compiler is told for a type T.
    """

    def __init__(self, file: str, options: Callable[[str], tuple[str, ...]]) -> None:
        self.file, self.options = file, options
        self._compiled: dict[tuple[str, str], Any] = {}

    def __call__(
        self, name: str, T: str, threads: int, args: tuple[Any, ...], block: int = BLOCK
    ) -> None:
        """Queue a kernel of the type T ("f" or "d") on the current stream."""
        kernel = self._compiled.get((name, T))
        if kernel is None:
            module = _module(self.file, self.options(T))
            kernel = self._compiled[name, T] = module.get_function(name)
        kernel((min(-(-threads // block), MAX_BLOCKS),), (block,), args)


def source(file: str = "kernels.cu") -> str:
    """Return the text of a file of kernels, with the text of what it includes."""
    text = Path(__file__).with_name(file).read_text(encoding="utf-8")
    before, include, after = text.partition('#include "common.cuh"\n')
    return f"{before}{source('common.cuh')}{after}" if include else text


def compile_options(T: str) -> tuple[str, ...]:
    """Return what the compiler is told; --fmad=false: round as the text of base.py says."""
    constants = [f"-D{k}={literal(v)}" for k, v in vars(normal).items() if k.isupper()]
    return ("-std=c++17", "--fmad=false", f"-DREAL={REALS[T][0]}", *constants)


def literal(value: Any) -> str:
    """Return a number, or several with commas, as C++ writes it."""
    if isinstance(value, tuple):
        return ",".join([literal(float(v)) for v in value])
    return value.hex() if isinstance(value, float) else f"{value}LL"


@cache
def _module(file: str, options: tuple[str, ...]) -> Any:
    import cupy

    return cupy.RawModule(code=source(file), options=options)
