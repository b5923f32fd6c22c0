"""Bring the table of docs/kernels.md up to date: ``python bench/kernel_table.py [--check]``.

NVRTC compiles every kernel for a GPU, which need not be there, and says what each one needs.
``--check`` changes nothing; the exit code is 1 if the page is out of date. Another version of NVRTC
gives other numbers, so ``--check`` compares only with the version that the page names.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

from xpnet.backend import cuda, reproducible_kernels

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- kernel table -->\n", "<!-- end of kernel table -->\n"
ARCH = "sm_90"
ORDINARY, REPRODUCIBLE = "kernels.cu", reproducible_kernels.FILE
TYPES = {ORDINARY: "fd", REPRODUCIBLE: "f"}  # reproducible mode has float32 alone


class Need(NamedTuple):
    """What a kernel needs: registers of a thread, and bytes."""

    registers: int
    spill_stores: int
    spill_loads: int
    local: int
    shared: int


HEADINGS = ("registers", "spill stores", "spill loads", "local memory", "shared memory")
OF_A_KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<local>\d+) bytes stack frame, (?P<spill_stores>\d+) bytes spill stores, "
    r"(?P<spill_loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers(?:[^\n]*?(?P<shared>\d+) bytes smem)?",
    re.DOTALL,
)


def needs(log: str) -> dict[str, Need]:
    """Return what each kernel needs, by its name, from what the assembler said."""
    found = {}
    for match in OF_A_KERNEL.finditer(log):
        numbers = {k: int(match[k] or 0) for k in Need._fields}
        found[match["name"]] = Need(**numbers)
    return found


@cache
def assembler_log(file: str, T: str, *more: str) -> str:
    """Compile a file of kernels for a type as CuPy 14.2 does, and return what is said about it."""
    from cupy._core import core
    from cupy.cuda import compiler

    options = cuda.compile_options if file == ORDINARY else reproducible_kernels.options
    told = core.assemble_cupy_compiler_options(options(T))
    told += ("-ftz=true", "--device-as-default-execution-space", f"-arch={ARCH}", *more)
    program = compiler._NVRTCProgram(cuda.source(file), file, method="cubin")
    log = io.StringIO()
    program.compile((*told, "--ptxas-options=-v"), log_stream=log)
    return log.getvalue().replace("\0", "")


def version() -> str:
    """Return the version of NVRTC here."""
    from cupy.cuda import nvrtc

    return "NVRTC {}.{}".format(*nvrtc.getVersion())


def everything() -> dict[str, dict[str, list[Need]]]:
    """Return what the kernels of each file need, for each type."""
    found = {}
    for file, types in TYPES.items():
        of_types = [needs(assembler_log(file, T)) for T in types]
        found[file] = {name: [of[name] for of in of_types] for name in sorted(of_types[0])}
    return found


def tables(found: dict[str, dict[str, list[Need]]]) -> str:
    """Return the text between the markers."""
    parts = [f"\nCompiled by {version()} for {ARCH}.\n"]
    for file, kernels in found.items():
        types = " / ".join(cuda.REALS[T][0] for T in TYPES[file])
        parts.append(f"\n## {file}: {types}\n\n| kernel | {' | '.join(HEADINGS)} |\n")
        parts.append(f"|---|{'---:|' * len(HEADINGS)}\n")
        for name, of_types in kernels.items():
            cells = [" / ".join(map(str, of)) for of in zip(*of_types, strict=True)]
            parts.append(f"| `{name}` | {' | '.join(cells)} |\n")
    return "".join([*parts, "\n"])


def brought_up_to_date(text: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"the page has no place for the table, {BEGIN.strip()} ... {END.strip()}")
    return f"{before}{BEGIN}{tables(everything())}{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--page", type=Path, default=ROOT / "docs/kernels.md")
    options = parser.parse_args(arguments)
    text = options.page.read_text("utf-8")
    named = re.search(r"NVRTC \d+\.\d+", text)
    if options.check and named and named[0] != version():
        print(f"not compared: {options.page.name} is of {named[0]}, and here is {version()}")
        return 0
    now = brought_up_to_date(text)
    if options.check:
        if now != text:
            print("the page is out of date: run python bench/kernel_table.py", file=sys.stderr)
        return int(now != text)
    options.page.write_text(now, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
