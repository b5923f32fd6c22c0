"""No kernel spills or uses local memory, and docs/kernels.md has the present numbers."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest

pytest.importorskip("cupy", reason="no CuPy: the CUDA kernels are not compiled")

from xpnet.backend import cupy_kernels, reproducible_kernels

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))  # as when a script of that folder runs
kernel_table = import_module("kernel_table")
Need, assembler_log, main = kernel_table.Need, kernel_table.assembler_log, kernel_table.main
needs = kernel_table.needs

FILES = [(file, T) for file, types in kernel_table.TYPES.items() for T in types]
NAMES = {
    "kernels.cu": set(cupy_kernels.KERNELS),
    "reproducible.cu": set(reproducible_kernels.KERNELS),
}
PAGE = BENCH.parent / "docs/kernels.md"


@pytest.fixture(scope="module", autouse=True)
def _nvrtc():
    try:
        kernel_table.version()
        assembler_log("kernels.cu", "f")
    except Exception as error:  # each release of CuPy has another one for a missing library
        pytest.skip(f"no NVRTC or no CUDA headers, the CUDA kernels are not compiled: {error}")


@pytest.mark.thorough(but=["kernels.cu-f"])
@pytest.mark.parametrize(("file", "T"), FILES)
def test_no_kernel_spills_or_uses_local_memory(file, T):
    log = assembler_log(file, T)
    found = needs(log)
    assert found.keys() == NAMES[file]
    assert log.count("bytes stack frame") == len(found), "a kernel calls a function: add its needs"
    bad = {k: n for k, n in found.items() if n.spill_stores or n.spill_loads or n.local}
    assert not bad


@pytest.mark.thorough
def test_spills_are_seen():
    few = needs(assembler_log("kernels.cu", "d", "--maxrregcount=16"))
    assert few["adam"].spill_loads
    assert few["adam"].local


SAID = """
ptxas info    : Compiling entry function 'first' for 'sm_90'
ptxas info    : Function properties for first
ptxas         .     24 bytes stack frame, 8 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 36 registers, used 1 barriers, 24 bytes cumulative stack size, 4224 bytes smem
ptxas info    : Compiling entry function 'second' for 'sm_90'
ptxas info    : Function properties for second
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 14 registers, used 0 barriers
"""


def test_what_the_assembler_says_is_read():
    assert needs(SAID) == {"first": Need(36, 8, 16, 24, 4224), "second": Need(14, 0, 0, 0, 0)}


@pytest.mark.thorough
def test_the_page_has_the_present_table(capsys):
    assert main(["--check"]) == 0, "run python bench/kernel_table.py"
    said = capsys.readouterr().out
    if said:
        pytest.skip(said.strip())


@pytest.mark.thorough
def test_a_page_that_is_out_of_date_is_found(tmp_path, capsys):
    page, text = tmp_path / "kernels.md", PAGE.read_text("utf-8")
    head, _, _ = text.partition(kernel_table.BEGIN)
    page.write_text(f"{head}{kernel_table.BEGIN}{kernel_table.END}", "utf-8")
    assert main(["--check", "--page", str(page)]) == 1
    assert "out of date" in capsys.readouterr().err
    assert main(["--page", str(page)]) == 0
    assert main(["--check", "--page", str(page)]) == 0
    page.write_text(page.read_text("utf-8").replace(kernel_table.version(), "NVRTC 1.2"), "utf-8")
    assert main(["--check", "--page", str(page)]) == 0
    assert "not compared: kernels.md is of NVRTC 1.2" in capsys.readouterr().out
    page.write_text(head, "utf-8")
    with pytest.raises(SystemExit, match="no place for the table"):
        main(["--page", str(page)])
