"""Every CUDA kernel compiles for an H100 with the flags that CuPy will use; no GPU is needed."""

from __future__ import annotations

import re
from functools import cache

import pytest

pytest.importorskip("cupy", reason="no CuPy: the CUDA kernels are not compiled")

from cupy._core import core
from cupy.cuda import compiler

from xpnet.backend import on_cupy

# These use only + - · / √ and comparisons; the others call exp, tanh or log, which are made of fma.
ELEMENTARY = set(on_cupy.KERNELS) - {
    "sigmoid",
    "gelu",
    "softplus",
    "softmax",
    "softmax_cross_entropy",
}
# A product or sum without .rn may still be merged when PTX becomes machine code.
MERGED = r"fma|mad\.\w+\.f|(?:add|sub|mul)\.(?:ftz\.)?f|div\.(?:approx|full)|sqrt\.approx"


@cache
def compile_kernels(method: str, options: tuple[str, ...]) -> bytes:
    """Compile as a RawModule does, with the options that CuPy 14.2 puts before and after ours."""
    arch = {"cubin": "-arch=sm_90", "ptx": "-arch=compute_90"}[method]
    options = core.assemble_cupy_compiler_options(options)
    options += ("-ftz=true", "--device-as-default-execution-space", arch)
    return compiler._NVRTCProgram(on_cupy.source(), "kernels.cu", method=method).compile(options)[0]


def ptx(T: str, options: tuple[str, ...] | None = None) -> dict[str, str]:
    """The PTX of each kernel, by name."""
    code = compile_kernels("ptx", on_cupy.compile_options(T) if options is None else options)
    text = code if isinstance(code, str) else code.decode()
    parts = re.split(r"^\.visible \.entry (\w+)", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def instructions(text: str, pattern: str) -> set[str]:
    return set(re.findall(rf"^\s*(?:@!?%p\d+ )?((?:{pattern})[.\w]*)", text, flags=re.MULTILINE))


@pytest.fixture(scope="module", autouse=True)
def _nvrtc():
    try:
        core.assemble_cupy_compiler_options(())
        compiler._NVRTCProgram("", "empty.cu", method="ptx").compile(())
    except Exception as error:  # each release of CuPy has another one for a missing library
        pytest.skip(f"no NVRTC or no CUDA headers, the CUDA kernels are not compiled: {error}")


@pytest.mark.parametrize("T", on_cupy.REALS)
def test_the_kernels_compile_for_an_h100(T):
    assert len(compile_kernels("cubin", on_cupy.compile_options(T))) > 10_000


@pytest.mark.parametrize("T", on_cupy.REALS)
def test_the_file_and_the_table_name_the_same_kernels(T):
    assert set(ptx(T)) == set(on_cupy.KERNELS)


@pytest.mark.parametrize("T", on_cupy.REALS)
@pytest.mark.parametrize("name", sorted(ELEMENTARY))
def test_products_and_sums_are_rounded_one_by_one(T, name):
    assert not instructions(ptx(T)[name], MERGED)


def test_the_check_for_merged_roundings_sees_them():
    merged = ptx("f", ("-std=c++17", "-DREAL=float"))
    assert {"mul.ftz.f32", "sub.ftz.f32"} <= instructions(merged["sgd"], MERGED)
    assert "fma.rn.ftz.f32" in instructions(ptx("f")["sigmoid"], MERGED)
    fast = ptx("f", (*on_cupy.compile_options("f"), "--prec-div=false", "--prec-sqrt=false"))
    assert instructions(fast["adam"], MERGED)


@pytest.mark.parametrize("name", sorted(on_cupy.KERNELS))
def test_float_kernels_compute_in_float(name):
    """A literal like 0.5 would make doubles; only the rate and the powers of Adam are doubles."""
    doubles = instructions(ptx("f")[name], r"[a-z]+\.(?:\w+\.)*f64")
    on_the_device = {"sgd", "momentum", "rmsprop", "adam"}
    allowed = {"ld.global.f64", "mov.f64", "sub.rn.f64", "cvt.rn.ftz.f32.f64"}
    assert doubles <= (allowed if name in on_the_device else set())


@pytest.mark.parametrize("T", on_cupy.REALS)
def test_there_is_nothing_whose_order_changes_from_run_to_run(T):
    for name, text in ptx(T).items():
        assert not instructions(text, r"atom|red\."), name
