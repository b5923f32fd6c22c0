"""CUDA kernels compiled by g++ and started as CUDA's driver starts them, without a GPU."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np

HEADER = Path(__file__).with_name("cuda_on_host.h")
# The kernels that are started with so many threads in a block take any number: here fewer.
FEW = {256: 32, 1024: 32}


def compile_on_host(
    folder: Path, text: str, kernels: Iterable[str], options: Iterable[str], more: str = ""
) -> Path:
    """Compile a text of kernels with one C function for each that starts it.

    ``options`` are those of the compiler for GPUs, and ``more`` is added at the end. What is not
    aligned is found by g++'s sanitizer, which calls a function of the stand-in.
    """
    lines = ['#include "kernels.cu"', more]
    for name in kernels:
        lines += [
            f'extern "C" int count_{name}() {{ return host::count({name}); }}',
            f'extern "C" const char* run_{name}(unsigned blocks, unsigned size, void** args)',
            f"{{ return host::launch({name}, blocks, size, args); }}",
        ]
    (folder / "kernels.cu").write_text(text, encoding="utf-8")
    (folder / "all.cpp").write_text("\n".join(lines), encoding="utf-8")
    command = ["g++", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += [option for option in options if option.startswith(("-D", "-std"))]
    command += ["-ffp-contract=off", "-fsanitize=alignment", "-include", str(HEADER)]
    library = folder / "kernels.so"
    subprocess.run([*command, "-o", str(library), str(folder / "all.cpp")], check=True)
    return library


def start(
    library: ctypes.CDLL, name: str, blocks: int, size: int, args: tuple[object, ...]
) -> None:
    """Run a kernel with blocks of so many threads."""
    count = library[f"count_{name}"]()
    assert len(args) == count, f"{name} has {count} parameters and is started with {len(args)}"
    values = [value(a) for a in args]
    pointers = (ctypes.c_void_p * len(args))(*[v.ctypes.data for v in values])
    run = library[f"run_{name}"]
    run.restype = ctypes.c_char_p
    failure = run(blocks, size, pointers)
    assert failure is None, f"{name}: {failure.decode()}"


def value(a: object) -> np.ndarray:
    """The value of an argument in the memory that CuPy would give to the driver."""
    if isinstance(a, np.ndarray):
        return np.array(a.ctypes.data, np.uintp)
    if isinstance(a, np.generic | bool):
        return np.array(a)
    return np.array(a, {int: np.int64, float: np.float64}[type(a)])


class HostModule:
    """What `cupy.RawModule` gets, compiled once for all processes on a machine."""

    def __init__(self, code: str, options: tuple[str, ...]) -> None:
        self.code, self.options = code, options

    def __call__(self, name: str, T: str, threads: int, args: tuple, block: int) -> None:
        size = FEW.get(block, block)
        start(self.library, name, min(-(-threads // size), 3), size, args)

    @cached_property
    def library(self) -> ctypes.CDLL:
        parts = (self.code, *self.options, HEADER.read_text("utf-8"))
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        folder = Path(tempfile.gettempdir(), f"kernels-on-host-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        library = folder / f"{key}.so"
        if not library.exists():
            with tempfile.TemporaryDirectory(dir=folder) as new:
                made = compile_on_host(Path(new), self.code, self._names(), self.options)
                os.replace(made, library)
        return ctypes.CDLL(str(library))

    def _names(self) -> list[str]:
        """Return the names of the kernels, those that macros make included."""
        defines = [option for option in self.options if option.startswith("-D")]
        command = ["g++", "-E", "-P", "-x", "c++", *defines, "-"]
        done = subprocess.run(command, input=self.code, capture_output=True, text=True, check=True)
        kernel = r"__global__\s+void\s+(?:__launch_bounds__\(\w+\)\s+)?(\w+)\("
        return re.findall(kernel, done.stdout)
