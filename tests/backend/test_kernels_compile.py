"""Every CUDA kernel compiles for three GPUs with the flags of CuPy; no GPU is needed."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("cupy", reason="no CuPy: the CUDA kernels are not compiled")

import cupy
from cupy._core import core
from cupy.cuda import compiler

from xpnet.backend import cuda, cupy_kernels, reproducible_kernels

# These use only + - · / √ and comparisons; the others call exp, tanh or log, which are made of fma.
ELEMENTARY = set(cupy_kernels.KERNELS) - {
    *("sigmoid", "bias_sigmoid", "bias_tanh", "gelu", "normal"),
    *("softplus", "softmax"),
    *("softmax_cross_entropy", "softmax_cross_entropy_labels"),
}
OPTIMIZERS = ("sgd", "momentum", "rmsprop", "adam")
# A product or sum without .rn may still be merged when PTX becomes machine code.
MERGED = r"fma|mad\.\w+\.f|(?:add|sub|mul)\.(?:ftz\.)?f|div\.(?:approx|full)|sqrt\.approx"


@cache
def compile_kernels(method: str, options: tuple[str, ...], file: str = "kernels.cu") -> bytes:
    """Compile as a RawModule does, with the options that CuPy 14.2 puts before and after ours."""
    arch = {"ptx": "-arch=compute_90"}.get(method, f"-arch={method}")
    method = "ptx" if method == "ptx" else "cubin"
    options = core.assemble_cupy_compiler_options(options)
    options += ("-ftz=true", "--device-as-default-execution-space", arch)
    return compiler._NVRTCProgram(cuda.source(file), file, method=method).compile(options)[0]


def ptx(T: str, options: tuple[str, ...] | None = None, file: str = "kernels.cu") -> dict[str, str]:
    """The PTX of each kernel, by name."""
    code = compile_kernels("ptx", cuda.compile_options(T) if options is None else options, file)
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


@pytest.mark.thorough(but=["sm_90-f"])
@pytest.mark.parametrize("T", cuda.REALS)
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_120"])
def test_the_kernels_compile_for_ampere_hopper_and_blackwell(T, arch):
    assert len(compile_kernels(arch, cuda.compile_options(T))) > 10_000


@pytest.mark.parametrize("T", cuda.REALS)
def test_the_file_and_the_table_name_the_same_kernels(T):
    assert set(ptx(T)) == set(cupy_kernels.KERNELS)


@pytest.mark.parametrize("T", cuda.REALS)
@pytest.mark.parametrize("name", sorted(ELEMENTARY))
def test_products_and_sums_are_rounded_one_by_one(T, name):
    assert not instructions(ptx(T)[name], MERGED)


def test_the_check_for_merged_roundings_sees_them():
    merged = ptx("f", tuple(o for o in cuda.compile_options("f") if "fmad" not in o))
    assert {"mul.ftz.f32", "sub.ftz.f32"} <= instructions(merged["sgd"], MERGED)
    assert "fma.rn.ftz.f32" in instructions(ptx("f")["sigmoid"], MERGED)
    fast = ptx("f", (*cuda.compile_options("f"), "--prec-div=false", "--prec-sqrt=false"))
    assert instructions(fast["adam"], MERGED)


@pytest.mark.parametrize("name", sorted(cupy_kernels.KERNELS))
def test_float_kernels_compute_in_float(name):
    """A literal like 0.5 would make doubles; only the rate and the powers of Adam are doubles."""
    doubles = instructions(ptx("f")[name], r"[a-z]+\.(?:\w+\.)*f64")
    allowed = {"ld.global.nc.f64", "mov.f64", "sub.rn.f64", "cvt.rn.ftz.f32.f64"}
    assert doubles <= (allowed if name in OPTIMIZERS else set())


@pytest.mark.parametrize("T", cuda.REALS)
def test_there_is_nothing_whose_order_changes_from_run_to_run(T):
    for name, text in ptx(T).items():
        assert not instructions(text, r"atom|red\."), name


# ---- optimizers: 16 bytes at once, and each number once -----------------------------------------


def accesses(text: str, kind: str) -> int:
    """Count the instructions that read or write an array, which may be that of several numbers."""
    return len(re.findall(rf"^\s*(?:@!?%p\d+ )?{re.escape(kind)}\s", text, flags=re.MULTILINE))


@pytest.mark.parametrize(
    ("file", "T"), [("kernels.cu", "f"), ("kernels.cu", "d"), (reproducible_kernels.FILE, "f")]
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_read_and_write_16_bytes_at_once_and_nothing_twice(file, T, name):
    """Only g is read through .nc, since nobody writes it; a loop may stand there several times."""
    options = reproducible_kernels.options() if file == reproducible_kernels.FILE else None
    text = ptx(T, options, file)[name]
    one, pack = {"f": ("f32", "v4.f32"), "d": ("f64", "v2.f64")}[T]
    numbers, state = 3 if name == "adam" else 1, cupy_kernels.KERNELS[name].count("T") - 1
    for size, besides in ((pack, 0), (one, numbers if T == "d" else 0)):
        g = accesses(text, f"ld.global.nc.{size}") - besides
        assert g > 0
        assert accesses(text, f"ld.global.{size}") == accesses(text, f"st.global.{size}")
        assert accesses(text, f"st.global.{size}") == state * g
    assert not re.search(r"\b(?:ld|st)\.local\b", text)
    assert re.search(r"and\.b64\s+%rd\d+, %rd\d+, 15;", text), "is it a multiple of 16?"


# ---- reproducible mode: each step is one operation of CuPy, rounded once -------------------------

REAL = {"float32": "float", "float64": "double"}
TYPES = {**REAL, "int32": "int", "int64": "long long", "uint8": "unsigned char", "bool": "bool"}
ARITHMETIC = (
    r"(?:add|sub|mul|div|fma|mad|sqrt|rsqrt|rcp|ex2|lg2|tanh|sin|cos)(?:\.\w+)*\.f(?:32|64)"
)
WHOLE_NUMBERS = ("bitwise_and", "add", "subtract", "multiply", "left_shift", "right_shift")

# What the mode does with an array module, the types, and the one instruction that rounds, if any.
STEPS = [
    *((name, (T, T), T, rounds) for T in REAL for name, rounds in (
        ("add", "add"), ("subtract", "sub"), ("multiply", "mul"), ("divide", "div"),
        ("maximum", None), ("minimum", None),
    )),
    *(("sqrt", (T,), T, "sqrt") for T in REAL),
    *((name, (T,), T, None) for T in REAL for name in ("negative", "absolute")),
    *(("greater", (T, T), "bool", None) for T in REAL),
    *((name, (T, T), T, None) for T in ("int32", "int64") for name in WHOLE_NUMBERS),
    *(("maximum", (T, T), T, None) for T in ("int32", "int64")),
]  # fmt: skip
CASTS = [("float32", "float64"), ("float64", "float32"), ("uint8", "float64"), ("uint8", "float32")]
CASTS += [("bool", "float32")]


def routine(name: str, inputs: tuple[str, ...]) -> tuple[str, str]:
    """Return what CuPy puts before the kernel of an operation, and the text of the operation."""
    operation = getattr(cupy, name)
    (text, *_) = [
        op.routine for op in operation._ops.ops if tuple(t.name for t in op.in_types) == inputs
    ]
    return operation._preamble, text


@cache
def step_ptx(preamble: str, text: str, inputs: tuple[str, ...], result: str) -> str:
    """The PTX of a kernel of CuPy for one operation, with the options that CuPy takes for it."""
    names = [f"in{k}" for k in range(len(inputs))]
    arrays = ", ".join(f"const {TYPES[T]}* _{n}" for n, T in zip(names, inputs, strict=True))
    types = "".join(
        f"typedef {TYPES[T]} {n}_type; const {n}_type {n} = _{n}[i];\n"
        for n, T in zip(names, inputs, strict=True)
    )
    code = f"""{preamble}
extern "C" __global__ void step({arrays}, {TYPES[result]}* _out0, long long n) {{
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i >= n) return;
    {types} typedef {TYPES[result]} out0_type; out0_type out0;
    {text};
    _out0[i] = out0;
}}"""
    options = core.assemble_cupy_compiler_options(("-std=c++17",))
    options += ("-ftz=true", "--device-as-default-execution-space", "-arch=compute_90")
    compiled = compiler._NVRTCProgram(code, "step.cu", method="ptx").compile(options)[0]
    return compiled if isinstance(compiled, str) else compiled.decode()


def roundings(text: str) -> list[str]:
    """Return every instruction that computes with floating numbers, as often as it occurs."""
    return re.findall(rf"^\s*(?:@!?%p\d+ )?({ARITHMETIC})\s", text, flags=re.MULTILINE)


@pytest.mark.parametrize(("name", "inputs", "result", "rounds"), STEPS)
def test_a_step_of_the_mode_is_one_instruction(name, inputs, result, rounds):
    """So that there is nothing to merge, whatever the options are; and it rounds to nearest."""
    found = roundings(step_ptx(*routine(name, inputs), inputs, result))
    if rounds is None:
        assert not found
        return
    (instruction,) = found
    kind, *how = instruction.split(".")
    assert kind == rounds
    assert {"float32": "f32", "float64": "f64"}[inputs[0]] == how[-1]
    assert set(how[:-1]) <= {"rn", "ftz"}, "no other rounding, and no approximation"
    assert "rn" in how or kind in ("add", "sub", "mul")  # for those it is what no name means
    assert ("ftz" in how) == (inputs[0] == "float32")


@pytest.mark.parametrize(("source", "result"), CASTS)
def test_a_cast_of_the_mode_rounds_to_nearest(source, result):
    text = step_ptx("", "out0 = in0", (source,), result)
    assert not roundings(text)
    casts = set(re.findall(r"cvt\.[\w.]*f(?:32|64)[\w.]*", text))
    exact = {"cvt.f64.f32", "cvt.ftz.f64.f32"} | {
        f"cvt.rn.{f}.{i}" for f in ("f32", "f64") for i in ("u8", "u16", "u32", "s16", "s32")
    }
    assert casts <= exact | {"cvt.rn.ftz.f32.f64"}
    if (source, result) == ("float64", "float32"):
        assert casts == {"cvt.rn.ftz.f32.f64"}


def test_the_look_at_a_step_sees_two_of_them():
    merged = step_ptx("", "out0 = in0 * in1 + in0", ("float64", "float64"), "float64")
    assert roundings(merged) == ["fma.rn.f64"]
    twice = step_ptx("", "out0 = (in0 + in1) * (in0 - in1)", ("float32", "float32"), "float32")
    assert len(roundings(twice)) > 1
    assert roundings(step_ptx("", "out0 = __fdividef(in0, in1)", ("float32",) * 2, "float32")) != [
        "div.rn.ftz.f32"
    ]


def test_every_operation_of_the_mode_is_looked_at():
    """All that `exact`, `elementary` and `reproducible` call of the array module."""
    called = set()
    folder = Path(cuda.__file__).parent
    files = [folder / "exact.py", folder / "elementary.py", *folder.glob("reproducible/*.py")]
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of = ast.unparse(node.func.value)
                if of in ("m", "self.module"):
                    called.add(node.func.attr)
    assert called
    assert called <= {name for name, *_ in STEPS}


@pytest.mark.parametrize("name", ["gather", "gather_integers", "one_hot", "dropout_mask"])
def test_the_kernels_of_the_mode_that_copy_do_not_compute(name):
    assert not roundings(ptx("f")[name])


def test_the_sums_of_the_mode_are_sums_alone():
    """In double, of numbers for which no addition rounds: in any order, but without a product."""
    assert set(roundings(ptx("d")["sum_rows"])) == {"add.rn.f64"}
