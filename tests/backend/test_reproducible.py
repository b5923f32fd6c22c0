"""Reproducible mode: every primitive, layer and loss gives the same bits on foreign devices."""

from __future__ import annotations

import ast
import inspect
import pickle
import sys
from copy import copy, deepcopy
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import numpy as np
import primitive_cases
import pytest
import strictxp
import test_gradients
from conftest import STRICT
from hostile import HostileBackend, PermutedBackend, change_mode
from primitive_cases import (
    ARRAY_METHODS,
    check,
    check_array_methods,
    copies,
    primitives,
    public,
)
from strictxp import no_alloc, no_sync
from test_gradients import LAYERS, LOSSES, gradients, largest, make

import xpnet
from xpnet import golden
from xpnet.backend import Backend, elementary, find_backend, reproducible
from xpnet.backend.options import CrossEntropyArrays, MomentumOptions
from xpnet.backend.reproducible import LEAST_EPS, Reproducible
from xpnet.data.mnist import find_mnist
from xpnet.support.errors import BackendError, OptionError, ShapeError

XP = find_backend("numpy", reproducible=True)
ON_STRICT = Reproducible(STRICT)
BACKEND = Path(reproducible.__file__).parents[1]


def foreign(seeds=(0, 1)) -> list[Reproducible]:
    """Return the mode on devices that keep nothing but what they must."""
    return [*(Reproducible(HostileBackend(seed)) for seed in seeds), ON_STRICT]


# ---- the primitives ------------------------------------------------------------------------------


def in_float32(case: primitive_cases.Case) -> bool:
    """Tell whether a case is one of the mode: its floating arrays are float32, and finite.

    The rates and powers of the optimizers are float64, and so may be the source of a copy.
    """
    floats = {name: a.dtype for name, a in case.arrays.items() if a.dtype.kind == "f"}
    double = {"rate", "powers"} | ({"A"} if case.primitive == "copyto" else set())
    types = {dtype for name, dtype in floats.items() if name not in double}
    return case.finite and types <= {np.dtype(np.float32)}


def has_a_value(case: primitive_cases.Case) -> bool:
    """Leave out the largest sum, which takes long, and the logarithm of what is not positive."""
    return case.primitive != "log" or bool((case.arguments["A"] > 0).all())


CASES = [case for case in primitive_cases.cases() if in_float32(case) and has_a_value(case)]


def tolerant(case: primitive_cases.Case) -> primitive_cases.Case:
    """Allow four roundings more, and what is flushed; whole numbers have to be the same.

    The text of ``base.py`` in float32 is what is less exact; the last of its roundings may go the
    other way, also in one single operation that the mode does in another order.
    """
    scale, ulps = case.scale, case.ulps + 4 if case.ulps else 0
    if isinstance(scale, dict):
        scale = {name: np.maximum(np.nan_to_num(size), 1e-23) for name, size in scale.items()}
    else:
        scale = np.maximum(np.nan_to_num(scale), 1e-23)
    return replace(case, ulps=ulps, scale=scale, elementary=False)


@pytest.mark.thorough(but=["a*", "m*", "r*", "softmax-*", "sum-f-3*"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_mode_does_what_base_says(case):
    for xp in (XP, ON_STRICT):
        check(xp, tolerant(case), same_order=False)


@pytest.mark.thorough(but=["a*", "m*", "softmax-*", "gelu*"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_primitive_has_the_same_bits_everywhere(case):
    wanted = bits_of(case, XP)
    for xp in foreign():
        assert bits_of(case, xp) == wanted, xp


@pytest.mark.gpu
@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_primitive_has_the_same_bits_on_cupy(case):
    assert bits_of(case, find_backend("cupy", reproducible=True)) == bits_of(case, XP)


@pytest.mark.gpu
@pytest.mark.parametrize("recipe", golden.RECIPES, ids=lambda recipe: recipe.name)
def test_the_golden_hashes_hold_on_cupy(recipe):
    if recipe.problem == "mnist" and not find_mnist():
        pytest.skip("no MNIST: XPNET_DATA names no folder with it")
    found = golden.trace(recipe, find_backend("cupy", reproducible=True))
    assert found == golden.golden_trace(recipe)


def bits_of(case, xp):
    """Run a case whose data has come in by ``xp.asarray``, as in training."""
    arrays = copies(case, xp.asarray)
    primitive_cases.run(xp, case, arrays)
    return [np.array(xp.asnumpy(arrays[name])).tobytes() for name in case.results]


@pytest.mark.parametrize("number", [0.0, -0.0, 1e-40, -1e-40, 1e-31, 2.0**-126, -1.0])
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "maximum", "minimum"])
def test_single_operations_with_tiny_numbers_give_the_same_bits(name, number):
    """A number of the user's, such as an ε, may be subnormal; what comes out is no such number."""
    A = np.float32([0.0, 2.0**-100, -(2.0**-100), 3 * 2.0**-99, 1e-30, 1.0, -1.0])
    for B in (number, np.float32([number]), A[::-1].copy()):
        results = set()
        for xp in (XP, *foreign(range(4))):
            b = xp.asarray(B) if isinstance(B, np.ndarray) else B
            out = getattr(xp, name)(xp.asarray(A), b, out=xp.empty(len(A), np.float32))
            results.add(bits(xp, out))
        (found,) = results
        values = np.frombuffer(found, np.float32)
        assert not np.signbit(values[values == 0]).any()
        assert np.all((values == 0) | (np.abs(values) >= 2.0**-101))


WIDE = np.linspace(-130, 130, 2600, dtype=np.float32).reshape(130, 20).T.copy()
SMALL = (WIDE * np.float32(1e-20)).astype(np.float32)
UNIT = np.linspace(0, 1, 2600, dtype=np.float32).reshape(20, 130) * np.float32(1e-19)


@pytest.mark.parametrize(
    ("name", "operands", "scratch"),
    [
        ("sigmoid", {"X": WIDE}, {}),
        ("softplus", {"X": WIDE}, {}),
        ("tanh", {"A": SMALL}, {}),
        ("gelu", {"X": WIDE}, {"T": WIDE.shape}),
        ("normal", {"X": WIDE}, {"density": WIDE.shape, "work": WIDE.shape}),
        ("softmax", {"X": WIDE}, {"work": (20, 1)}),
        ("sigmoid_grad", {"dY": SMALL, "Y": UNIT}, {}),
        ("tanh_grad", {"dY": SMALL * np.float32(1e-10), "Y": 1 - UNIT}, {}),
        (
            "gelu_grad",
            {"dY": SMALL * np.float32(1e-10), "X": WIDE, "T": 1 - UNIT},
            {"work": WIDE.shape},
        ),
        ("softmax_grad", {"dY": SMALL, "Y": UNIT}, {"work": (20, 1)}),
        ("relu", {"X": SMALL * np.float32(1e-10), "slope": 1e-9}, {}),
        ("relu_grad", {"dY": SMALL * np.float32(1e-10), "Y": WIDE, "slope": 1e-9}, {}),
    ],
)
def test_functions_whose_results_are_tiny_give_the_same_bits(name, operands, scratch):
    """Below 2⁻¹²⁶ one device has a number where the other has zero."""
    results, tiny = set(), 0
    for xp in (XP, *foreign(range(4))):
        placed = {k: xp.asarray(a) if isinstance(a, np.ndarray) else a for k, a in operands.items()}
        arrays = {k: xp.empty(shape, np.float32) for k, shape in scratch.items()}
        out = getattr(xp, name)(**placed, out=xp.empty(WIDE.shape, np.float32), **arrays)
        results.add(bits(xp, out))
        tiny += (xp.asnumpy(out) == 0).sum()
    assert len(results) == 1
    assert tiny or name in ("tanh", "tanh_grad")


def test_probabilities_and_losses_that_are_tiny_give_the_same_bits():
    results = set()
    for xp in (XP, *foreign(range(4))):
        Z, T = xp.asarray(WIDE), xp.asarray(UNIT)
        losses, dZ, work = xp.empty(20, np.float32), xp.empty(WIDE.shape, np.float32), T
        T = xp.zeros(WIDE.shape, np.float32)
        xp.softmax_cross_entropy(Z, T, CrossEntropyArrays(losses, dZ, work))
        results.add(bits(xp, losses) + bits(xp, dZ))
    assert len(results) == 1


def test_a_tiny_learning_rate_is_the_same_everywhere():
    results = set()
    for xp in (XP, *foreign(range(4))):
        p, g, rate = (
            xp.zeros(2, np.float32),
            xp.asarray([1e12, -1.0], np.float32),
            xp.zeros(1, float),
        )
        xp.copyto(rate, 1e-40)
        xp.sgd(p, g, rate, work=xp.zeros(2, np.float32))
        results.add(bits(xp, p))
    assert len(results) == 1


@pytest.mark.thorough(but=["0.5-True"])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("mu", [0.5, 0.9])
def test_a_momentum_that_fades_away_fades_everywhere(mu, nesterov):
    """v becomes half of itself until it is nothing, and the step stays large enough to be seen."""
    results = set()
    for xp in (XP, *foreign(range(4))):
        v, found = xp.asarray([1e-20, -3e-25, 1e-29], np.float32), []
        p, work, rate = xp.zeros(3, np.float32), xp.zeros(3, np.float32), xp.zeros(1, np.float64)
        xp.copyto(rate, 1e7)
        for _ in range(500):
            g = xp.zeros(3, np.float32)
            xp.momentum(p, g, v, rate, MomentumOptions(mu, nesterov), work=work)
            found += [bits(xp, p), bits(xp, v)]
        assert np.abs(xp.asnumpy(v)).max() < 1e-29  # at 0.9 it stays at four steps of `flush`
        results.add(b"".join(found))
    assert len(results) == 1


@pytest.mark.parametrize("number", [2.0**30, 3e9, -3e9, 1e-30])
def test_quotients_that_are_tiny_give_the_same_bits(number):
    A = np.float32([0.0, 2.0**-100, -(2.0**-100), 1e-29, 1.0, -1.0])
    for B in (number, np.full(6, number, np.float32)):
        results = set()
        for xp in (XP, *foreign(range(4))):
            b = xp.asarray(B) if isinstance(B, np.ndarray) else B
            results.add(bits(xp, xp.divide(xp.asarray(A), b, out=xp.empty(6, np.float32))))
        assert len(results) == 1


@pytest.mark.parametrize("axis", [0, 1])
def test_the_sign_of_a_largest_zero_is_the_same_everywhere(axis):
    A = np.where(np.arange(60).reshape(10, 6) % 4 < 2, -0.0, 0.0).astype(np.float32)
    for xp in (XP, *foreign(range(3))):
        out = xp.empty((1, 6) if axis == 0 else (10, 1), np.float32)
        found = xp.asnumpy(xp.max(xp.asarray(A), axis, out=out))
        assert found.tobytes() == bytes(found.nbytes), xp


def test_sums_and_products_of_nothing_are_zero():
    for xp in (XP, ON_STRICT):
        for shape, axis in (((0, 5), 0), ((5, 0), 1), ((0,), 0), ((0,), None), ((0, 5), 1)):
            A, total = xp.zeros(shape, np.float32), np.zeros(shape, np.float32).sum(axis)
            out = xp.asarray(np.full(total.shape, 7), np.float32)
            assert bits(xp, xp.sum(A, axis, out=out)) == total.tobytes()
        for rows, n, columns in ((3, 0, 2), (0, 4, 2), (3, 4, 0)):
            A, B = xp.zeros((rows, n), np.float32), xp.zeros((n, columns), np.float32)
            out = xp.asarray(np.full((rows, columns), 7), np.float32)
            assert bits(xp, xp.matmul(A, B, out=out)) == bytes(4 * rows * columns)


def test_the_cases_cover_every_primitive():
    assert {case.primitive for case in CASES} | ARRAY_METHODS == primitives() - {"ordinary"}


def test_the_signatures_are_those_of_base():
    for name in primitives():
        assert callable(getattr(XP, name))
        if name in public(Reproducible):
            ours, theirs = (inspect.signature(getattr(c, name)) for c in (Reproducible, Backend))
            assert shape_of(ours) == shape_of(theirs), name


def shape_of(signature: inspect.Signature) -> list[tuple]:
    """Return all but the annotations: an override may take more."""
    return [(p.name, p.kind, p.default) for p in signature.parameters.values()]


def test_what_is_taken_over_from_the_ordinary_backend_has_no_arithmetic():
    """Copies, comparisons and whole numbers; what computes is replaced or made of single steps."""
    assert set(reproducible.AS_THEY_ARE) == {
        *("empty", "zeros", "asnumpy", "owns", "take", "one_hot", "gather", "record"),
        *("dropout_mask", "capture", "renew", "here", "peak_memory"),
    }
    left = primitives() - public(Reproducible) - set(reproducible.AS_THEY_ARE)
    sums = {"add_matmul", "add_sum", "affine_grad", "mean"}
    assert left == {*sums, "require", "batch_total", "sqrt", "aside", "off_path", "join"}


def test_arrays_are_made_and_recognised():
    check_array_methods(XP)
    for a in (ON_STRICT.zeros((2, 3), np.float32), ON_STRICT.asarray(NUMBERS, np.float32)):
        assert isinstance(a, strictxp.ndarray)
        assert a.dtype == np.float32
    assert ON_STRICT.owns(a)
    assert not ON_STRICT.owns(NUMBERS)


# ---- what may be called at all -------------------------------------------------------------------

# Functions of an array module whose last bits IEEE 754 does not define, or whose order is free.
FORBIDDEN = {
    *("exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "tanh", "sinh", "cosh"),
    *("sin", "cos", "tan", "arctan", "power", "float_power", "cbrt", "hypot", "reciprocal", "fma"),
    *("mean", "var", "std", "average", "median", "prod", "cumsum", "cumprod", "trace", "nansum"),
    *("einsum", "dot", "tensordot", "vdot", "inner", "outer", "convolve", "linalg", "norm"),
}
MODULES = ("m", "module")  # what the array module is called: `m`, `self.module`, and in Adam `xp`


def violations(source: str) -> list[str]:
    """Return the forbidden calls in a text, with their lines.

    Forbidden of the array module: functions that each library rounds in its own way, and sums in an
    order of its own (sums and products go through the ordinary backend, on the grid). Forbidden
    altogether: powers and products of matrices as operators, since x**0.5 and A @ B are calls, too.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in FORBIDDEN and of_module(node.value):
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult | ast.Pow):
            if not all(map(constant, (node.left, node.right))):
                found.append(f"{node.lineno}: {ast.unparse(node)}")
        elif isinstance(node, ast.ImportFrom) and node.module == "numpy":
            found.append(f"{node.lineno}: {ast.unparse(node)}")
    return found


def of_module(node: ast.AST) -> bool:
    name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
    return name in (*MODULES, "np", "xp")


def constant(node: ast.AST) -> bool:
    """Tell whether a number on the host stands there: 2.0**-77, or a power of two, 2.0**-bits."""
    if isinstance(node, ast.UnaryOp):
        return constant(node.operand)
    host = isinstance(node, ast.Name | ast.Call) and not isinstance(node, ast.Attribute)
    return isinstance(node, ast.Constant) or (host and ast.unparse(node) in ON_THE_HOST)


ON_THE_HOST = ("bits", "max(1, sum_bits(S.shape[1]))")


FILES = [BACKEND / "exact.py", BACKEND / "elementary.py", *BACKEND.glob("reproducible/*.py")]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_nothing_is_called_whose_bits_are_not_defined(file):
    assert not violations(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    "line",
    [
        "m.exp(x, out=x)",
        "self.module.tanh(x, out=x)",
        "xp.power(x, 2)",
        "np.linalg.norm(x)",
        "c2**-0.5",
        "A @ B",
        "m.einsum('ij,ij->i', A, A)",
        "f = m.mean",
        "self._ordinary.module.log(x)",
        "from numpy import exp",
    ],
)
def test_the_look_at_the_source_sees_what_is_forbidden(line):
    source = (BACKEND / "elementary.py").read_text(encoding="utf-8")
    (found,) = violations(f"{source}\n\ndef f(m, self, xp, x, A, B, c2):\n    {line}\n")
    assert found.startswith(str(source.count("\n") + 4))


def test_the_look_at_the_source_lets_pass_what_is_defined():
    assert not violations(
        "m.add(x, 1.0, out=x)\nelementary.exp(m, x, work)\nFLUSH = 1.5 * 2.0**-77"
    )


# ---- what each guard is for ----------------------------------------------------------------------


def step_bits(layers, X, t, loss, xp, scale=1.0, steps=3):
    """Return what `golden.Trace` hashes of a few steps, by phase."""
    net = xpnet.Sequential(*layers(), seed=1, backend=xp)
    for _ in range(2):  # a subnormal number as a factor would be 0
        xp.multiply(net.params, scale**0.5, out=net.params)
    judge, optimizer = xpnet.losses.find_loss(loss), xpnet.SGD(net, 0.1, momentum=0.9)
    judge.use(xp)
    found = {phase: [] for phase in golden.PHASES}
    for _ in range(steps):
        judge.forward(net.forward(xp.asarray(X, np.float32)), xp.asarray(t))
        outputs = [layer.Y for _, layer in net.walk("") if hasattr(layer, "Y")]
        found["forward"] += [bits(xp, a) for a in (*outputs, judge.value)]
        net.backward(judge.backward())
        found["backward"].append(bits(xp, net.grads))
        optimizer.step()
        found["update"].append(bits(xp, net.params))
    return {phase: b"".join(parts) for phase, parts in found.items()}


def bits(xp, a):
    return np.array(xp.asnumpy(a)).tobytes()


def small_relu():
    return [xpnet.Linear(6, 9), xpnet.ReLU(), xpnet.Linear(9, 3)]


DATA = np.random.default_rng(3).normal(size=(20, 6))
TARGETS = np.random.default_rng(4).normal(size=(20, 3))


def different(phase, scale=1.0, layers=small_relu, X=DATA, seeds=range(4)):
    """Return how many results of a phase there are on NumPy and on hostile devices."""
    backends = [XP, *(Reproducible(HostileBackend(seed)) for seed in seeds)]
    return len({step_bits(layers, X, TARGETS, "mse", xp, scale)[phase] for xp in backends})


TINY = (1.0, 1e-19, 3e-38, 3e-39)  # of products and of weights that are subnormal


@pytest.mark.parametrize("scale", TINY)
@pytest.mark.parametrize("phase", golden.PHASES)
def test_with_all_guards_there_is_one_result(phase, scale):
    assert different(phase, scale) == 1


def no_flush(m, x):
    return x


def zero_that_keeps_its_sign(m, x):
    """X where |x| ≥ 2⁻¹²⁶, else a zero of the sign of x: what a GPU does by itself"""
    x[...] = np.where(np.abs(x) < 2.0**-126, np.copysign(np.float32(0), x), x)
    return x


@pytest.mark.thorough(but=["update-no_flush"])
@pytest.mark.parametrize("weaker", [no_flush, zero_that_keeps_its_sign])
@pytest.mark.parametrize("phase", golden.PHASES)
def test_without_flush_the_devices_differ(monkeypatch, weaker, phase):
    change_mode(monkeypatch, "flush", weaker)
    assert max(different(phase, scale) for scale in TINY) > 1


def test_the_sign_of_a_zero_of_relu_is_flushed(monkeypatch):
    def relu(self, X, out, slope=0.0):
        return self.module.maximum(X, 0.0, out=out)

    monkeypatch.setattr(Reproducible, "relu", relu)
    assert different("forward") > 1


# Residuals: the targets are the probabilities as float32, so that p - t shows what is beyond them.


def residual_bits(xp, columns=40):
    Z = np.random.default_rng(5).normal(size=(500, columns))
    Z, P, work = xp.asarray(Z, np.float32), *(xp.empty(Z.shape, np.float32) for _ in range(2))
    P = xp.softmax(Z, out=P, work=xp.empty((500, 1), np.float32))
    losses, dZ = xp.empty(500, np.float32), xp.empty(Z.shape, np.float32)
    xp.softmax_cross_entropy(Z, xp.asarray(P), CrossEntropyArrays(losses, dZ, work))
    return bits(xp, dZ)


def residuals():
    return {residual_bits(xp) for xp in (XP, *(Reproducible(HostileBackend(k)) for k in range(4)))}


def test_residuals_are_the_same_and_not_zero():
    (found,) = residuals()
    assert np.count_nonzero(np.frombuffer(found, np.float32)) > 10_000


def test_the_sums_of_exponentials_need_the_grid(monkeypatch):
    change_mode(monkeypatch, "snap", lambda m, X, C, out: m.add(X, 0.0, out=out))
    assert len(residuals()) > 1


def test_the_exponentials_of_a_library_differ(monkeypatch):
    monkeypatch.setattr(elementary, "exp", lambda m, x, work: m.exp(x, out=x))
    assert len(residuals()) > 1


# ---- layers and losses ---------------------------------------------------------------------------

every_layer = pytest.mark.parametrize("layer", LAYERS)
every_loss = pytest.mark.parametrize("loss", LOSSES)


def in_float32_on(xp, case):
    """Return the loss and all gradients of a case, whose network moves to a backend."""
    net, judge = case.net.copy().to(xp, "float32"), case.loss
    judge.use(xp)
    t = xp.asarray(case.t) if case.t.dtype.kind == "i" else xp.asarray(case.t, np.float32)
    w = None if case.weight is None else xp.asarray(case.weight, np.float32)
    found = gradients(net, judge, xp.asarray(case.X, np.float32), t, w)
    return found | {"loss": np.array(xp.asnumpy(judge.value))}


@pytest.mark.thorough(but=["*-mse", "*-softmax-labels"])
@every_loss
@every_layer
def test_gradients_and_losses_have_the_same_bits_everywhere(layer, loss):
    for number in (1, 8, 19):
        wanted = in_float32_on(XP, make(layer, loss, number))
        others = [Reproducible(HostileBackend(number)), *([ON_STRICT] if number == 8 else [])]
        for xp in others:
            got = in_float32_on(xp, make(layer, loss, number))
            for name, g in wanted.items():
                assert got[name].tobytes() == g.tobytes(), f"{xp}, shape {number}: {name}"


@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize(
    "layer", [name for name in LAYERS if name != "nested" and not name.endswith("apart")]
)
def test_gradients_of_a_layer_are_right_to_the_rounding(monkeypatch, layer, n):
    """The bounds are those of ordinary float32, which `test_gradients` derives."""
    with xpnet.use_backend(XP):
        monkeypatch.setattr(xpnet.Sequential, "copy", lambda net: deepcopy(net).to(XP.ordinary))
        test_gradients.test_float32_gradients_of_a_layer_are_right_to_the_rounding(layer, n)


@pytest.mark.parametrize("n", [1, 3, 40])
@every_loss
def test_gradients_of_a_loss_are_right_to_the_rounding(monkeypatch, loss, n):
    """The bounds are those of ordinary float32; what comes as float64 goes to the ordinary one."""

    def forward(self, Y, t, *rest):
        self.use(XP if Y.dtype == np.float32 else XP.ordinary)
        return original(self, Y, t, *rest)

    original = xpnet.losses.Loss.forward
    monkeypatch.setattr(xpnet.losses.Loss, "forward", forward)
    test_gradients.test_float32_gradients_of_a_loss_are_right_to_the_rounding(loss, n)


@pytest.mark.thorough(but=["linear", "batch-norm", "gelu"])
@every_layer
def test_gradients_are_no_worse_than_those_of_ordinary_float32(layer):
    """Over all losses and shapes, against float64 on the same numbers."""
    errors = {True: [], False: []}
    for loss in LOSSES:
        for number in range(0, 20, 3):
            case = make(layer, loss, number)
            for a in (case.net.params, case.X):
                a[...] = a.astype(np.float32)
            exact = gradients(case.net.copy(), LOSSES[loss](), case.X, *case.batch)
            for xp in (XP, XP.ordinary):
                found = in_float32_on(xp, case)
                off = max(np.abs(found[name] - g).max() for name, g in exact.items())
                errors[xp.reproducible].append(off / largest(exact))
    assert np.median(errors[True]) <= 1.2 * np.median(errors[False]) + 2.0**-26


# ---- training ------------------------------------------------------------------------------------


def rich(classes=3):
    """A network in which everything random and everything with a state takes part."""
    return [
        xpnet.Linear(6, 8),
        xpnet.BatchNorm1d(8),
        xpnet.ReLU(),
        xpnet.Dropout(0.25),
        xpnet.Linear(8, 7),
        xpnet.LayerNorm(7),
        xpnet.GELU(),
        xpnet.Linear(7, classes),
    ]


def fitted(xp, X, t, layers=rich, **options):
    """Return what training by the Trainer gives, and prediction after it."""
    net = xpnet.Sequential(*layers(), seed=3, backend=xp)
    lr = xpnet.schedules.Cosine(0.01, 50)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.AdamW(net, lr), seed=2)
    trainer.fit(X, t, epochs=3, batch_size=16, **options)
    states = b"".join(a.tobytes() for a in net.state_dict().values())
    return states, net.predict(X).tobytes(), trainer.history["loss"]


LABELS = np.random.default_rng(6).integers(0, 3, 50)
IMAGES = np.random.default_rng(7).integers(0, 256, (50, 6), dtype=np.uint8)
NUMBERS = np.random.default_rng(8).normal(size=(50, 6))


@pytest.mark.thorough(but=["False-f"])
@pytest.mark.parametrize("X", [NUMBERS, NUMBERS.astype(np.float32), IMAGES], ids=["d", "f", "B"])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_trainer_gives_the_same_bits_everywhere(X, weighted):
    w = {"sample_weight": np.random.default_rng(9).uniform(0.5, 2, 50)} if weighted else {}
    wanted = fitted(XP, X, LABELS, **w)
    for xp in (*foreign(), Reproducible(PermutedBackend(3))):
        assert fitted(xp, X, LABELS, **w) == wanted, xp
    assert fitted(XP.ordinary, X, LABELS, **w)[0] != wanted[0]


def test_data_with_tiny_numbers_and_negative_zeros_gives_the_same_bits():
    """Subnormal numbers and zeros of both signs, in the data, its labels and its weights."""
    X = NUMBERS.astype(np.float32)
    X[::2] *= 1e-39
    X[::5] = -0.0
    w = np.ones(50)
    w[::7] = 1e-40
    wanted = fitted(XP, X, LABELS, sample_weight=w)
    for xp in foreign(range(4)):
        assert fitted(xp, X, LABELS, sample_weight=w) == wanted


def test_threads_do_not_disturb_each_other():
    """Each trains a network of its own, as with ordinary float32; they take turns all the time."""
    recipe, found, interval = golden.RECIPES[4], [], sys.getswitchinterval()
    threads = [
        Thread(target=lambda: found.append(golden.trace(recipe, XP, steps=20).phases))
        for _ in range(3)
    ]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert found == [golden.trace(recipe, XP, steps=20).phases] * 3


OPTIMIZERS = {
    "sgd": lambda net: xpnet.SGD(net, 0.1),
    "momentum": lambda net: xpnet.SGD(net, 0.1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda net: xpnet.SGD(net, 0.1, momentum=0.9, nesterov=True, clip_norm=0.1),
    "rmsprop": lambda net: xpnet.RMSprop(net, 0.01),
    "adam": lambda net: xpnet.Adam(net, 0.01, clip_norm=0.1, weight_decay=0.01),
    "adamw": lambda net: xpnet.AdamW(net, xpnet.schedules.Cosine(0.01, 1000)),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS)


@every_optimizer
@pytest.mark.parametrize("X", [NUMBERS, IMAGES], ids=["numbers", "pixels"])
@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "mse", "bce_logits", "huber"])
def test_a_warm_step_makes_no_array_and_does_not_wait(optimizer, X, loss):
    xp, step = ON_STRICT, stepper(ON_STRICT, optimizer, X, loss)
    step()
    before = bits(xp, step.net.params)
    with no_sync(), no_alloc():
        step()
        step()
    assert bits(xp, step.net.params) != before


@pytest.mark.parametrize("layer", [name for name in LAYERS if not name.startswith("flatten")])
def test_a_warm_pass_of_each_layer_makes_no_array_and_does_not_wait(layer):
    xp = ON_STRICT
    net = xpnet.Sequential(xpnet.Linear(6, 5), LAYERS[layer](5), xpnet.Linear(5, 3), backend=xp)
    net.train(not layer.endswith("prediction"))
    judge = xpnet.SoftmaxCrossEntropy()
    judge.use(xp)
    judge.validate = False
    X, t = xp.asarray(NUMBERS, np.float32), xp.asarray(LABELS)

    def step():
        judge.forward(net.forward(X), t)
        net.backward(judge.backward())

    step()
    with no_sync(), no_alloc():
        step()


def stepper(xp, optimizer, X, loss):
    """Return a function that takes a step on a batch, with the network as ``net``."""
    net = xpnet.Sequential(*rich(), seed=1, backend=xp)
    judge, mover = xpnet.losses.find_loss(loss), OPTIMIZERS[optimizer](net)
    judge.use(xp)
    judge.validate = False
    data = xp.asarray(X, None if X.dtype == np.uint8 else np.float32)
    labels = loss.startswith("softmax")
    t = xp.asarray(LABELS) if labels else xp.asarray(np.eye(3)[LABELS], np.float32)

    def step():
        judge.forward(net.forward(data), t)
        net.backward(judge.backward())
        mover.step()

    step.net = net
    return step


@every_optimizer
def test_every_optimizer_has_the_same_bits_everywhere(optimizer):
    """With gradients that are large, tiny, and zero in some places."""
    results = {optimized(optimizer, xp) for xp in (XP, *foreign(range(3)))}
    assert len(results) == 1


def optimized(optimizer, xp):
    net, found = xpnet.Sequential(*rich(), seed=1, backend=xp), []
    mover, rng = OPTIMIZERS[optimizer](net), np.random.default_rng(5)
    for _ in range(20):
        g = rng.normal(size=net.size) * 2.0 ** rng.integers(-120, 3, net.size)
        g[::6] = rng.choice([0.0, -0.0, 1e-39, -1e-42], len(g[::6]))
        xp.copyto(net.grads, xp.asarray(g, np.float32))
        mover.step()
        found.append(bits(xp, net.params))
        found += [bits(xp, a) for a in mover.state_vectors().values()]
    return b"".join(found)


# ---- pixels --------------------------------------------------------------------------------------

FIRST = {
    "linear": lambda: [xpnet.Linear(12, 8)],
    "no bias": lambda: [xpnet.Linear(12, 8, bias=False)],
    "dropout": lambda: [xpnet.Dropout(0.3), xpnet.Linear(12, 8)],
    "batch norm": lambda: [xpnet.BatchNorm1d(12), xpnet.Linear(12, 8)],
    "layer norm": lambda: [xpnet.LayerNorm(12), xpnet.Linear(12, 8)],
    "relu": lambda: [xpnet.ReLU(), xpnet.Linear(12, 8)],
    "leaky relu": lambda: [xpnet.LeakyReLU(), xpnet.Linear(12, 8)],
    "sigmoid": lambda: [xpnet.Sigmoid(), xpnet.Linear(12, 8)],
    "tanh": lambda: [xpnet.Tanh(), xpnet.Linear(12, 8)],
    "gelu": lambda: [xpnet.GELU(), xpnet.Linear(12, 8)],
    "exact gelu": lambda: [xpnet.GELU("none"), xpnet.Linear(12, 8)],
    "softmax": lambda: [xpnet.Softmax(), xpnet.Linear(12, 8)],
    "identity": lambda: [xpnet.Identity(), xpnet.Linear(12, 8)],
    "nested": lambda: [xpnet.Sequential(xpnet.Dropout(0.2)), xpnet.Linear(12, 8)],
    "flatten": lambda: [xpnet.Flatten(), xpnet.Linear(12, 8)],
}
PIXELS = np.random.default_rng(1).integers(0, 256, (30, 12), dtype=np.uint8)
every_first = pytest.mark.parametrize("first", FIRST)


def pixels_of(first):
    return PIXELS.reshape(30, 3, 4) if first == "flatten" else PIXELS


def on_pixels(first, xp, X, input_gradient):
    """Return Y, all gradients, and what prediction gives, for a batch of pixels or of numbers."""
    net = xpnet.Sequential(*FIRST[first](), xpnet.Tanh(), xpnet.Linear(8, 2), seed=4, backend=xp)
    net.input_gradient = input_gradient
    Y = net.forward(xp.asarray(X))
    dX = net.backward(xp.asarray(np.linspace(-1, 1, 60).reshape(30, 2), np.float32))
    found = [Y, net.grads, *([dX] if input_gradient else [])]
    return [np.array(xp.asnumpy(a)) for a in found] + [net.predict(X)]


@pytest.mark.parametrize("input_gradient", [False, True])
@every_first
def test_pixels_may_come_to_any_layer(first, input_gradient):
    """They are k/255, to the rounding of float32, and give the same bits everywhere."""
    K = pixels_of(first)
    wanted = on_pixels(first, XP, K, input_gradient)
    for xp in foreign():
        got = on_pixels(first, xp, K, input_gradient)
        assert [a.tobytes() for a in got] == [a.tobytes() for a in wanted]
    real = on_pixels(first, XP.ordinary, (K / 255).astype(np.float32), input_gradient)
    for ours, theirs in zip(wanted, real, strict=True):
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() <= 2.0**-18 * np.abs(theirs).max()


@pytest.mark.parametrize("layer", [xpnet.Identity, xpnet.Flatten, lambda: xpnet.Dropout(0.5)])
def test_pixels_that_pass_a_whole_network_are_numbers_at_its_end(layer):
    got = xpnet.Sequential(layer(), backend=XP).predict(PIXELS)
    want = xpnet.Sequential(layer(), backend="numpy").predict(PIXELS)
    assert got.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-6)


class Twice(xpnet.Layer):
    """A layer as a user writes it, in plain NumPy."""

    def forward(self, X):
        return np.multiply(X, 2, out=self.Y[: len(X)])

    def backward(self, dY):
        return dY


def test_a_layer_of_the_users_gets_numbers_not_pixels():
    got = xpnet.Sequential(Twice(), backend=XP).predict(PIXELS)
    np.testing.assert_allclose(got, PIXELS / 127.5, rtol=1e-6)


def test_a_subclass_may_ask_for_numbers():
    class Centred(xpnet.Linear):
        pixels = "numbers"

        def forward(self, X):
            return super().forward(np.asarray(X - 0.5, np.float32))

    class Further(Centred):
        pass

    assert (xpnet.Linear.pixels, xpnet.Flatten.pixels, xpnet.ReLU.pixels) == (
        "takes", "passes", "numbers",
    )  # fmt: skip
    X = PIXELS.reshape(30, 12)
    for kind in (Centred, Further):
        net = xpnet.Sequential(xpnet.Flatten(), kind(12, 2), backend=XP, seed=1)
        plain = xpnet.Sequential(xpnet.Linear(12, 2), backend="numpy", seed=1)
        wanted = plain.predict((X / 255 - 0.5).astype(np.float32))
        np.testing.assert_allclose(net.predict(X), wanted, rtol=1e-4, atol=1e-6)


def test_prediction_does_not_depend_on_the_batch():
    """Each row is computed by itself, whatever stands in the other rows and however many."""
    net = xpnet.Sequential(*rich(), seed=1, backend=XP)
    X = np.random.default_rng(2).normal(size=(1500, 6)).astype(np.float32)
    whole = net.predict(X)
    cuts = [0, 1, 9, 700, 1500]
    pieces = np.concatenate([net.predict(X[a:b]) for a, b in pairwise(cuts)])
    assert whole.tobytes() == pieces.tobytes()


def test_functions_refuse_outputs_that_they_could_not_write():
    X, wide = np.zeros((3, 4), np.float32), np.ones((3, 8), np.float32)
    with pytest.raises(ShapeError, match=r"xp.tanh writes C-contiguous.*\(3, 4\).*\(32, 8\)"):
        XP.tanh(X, out=wide[:, ::2])
    assert wide.all()


@pytest.mark.parametrize("tiny", [1e-40, -1e-40, 2.0**-126])
def test_factors_that_only_some_devices_have_are_zero(tiny):
    """As in LeakyReLU(1e-40): beside a large number they would make something of it."""
    X = np.float32([-3.8e28, 3.8e28, 1.0, 0.0])
    for xp in (XP, Reproducible(HostileBackend(1))):
        out = np.empty(4, np.float32)
        assert xp.multiply(X, tiny, out=out).tolist() == [0, 0, 0, 0]
        assert xp.relu(X, out=out, slope=abs(tiny)).tolist() == [0, *X[1:].tolist()]
        assert xp.relu_grad(X, -X, out=out, slope=abs(tiny)).tolist() == [X[0], 0, 0, 0]
        p, v = X.copy(), X.copy()
        rate, work = np.array([1.0]), np.empty(4, np.float32)
        options = MomentumOptions(abs(tiny), nesterov=True)
        xp.momentum(p, np.zeros(4, np.float32), v, rate, options, work=work)
        assert (p.tolist(), v.tolist()) == (X.tolist(), [0, 0, 0, 0])


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", np.float64, "complex128"])
def test_networks_of_other_types_are_refused_with_the_way_out(dtype):
    sentence = r"reproducible mode takes networks of float32; got .*reproducible=False.*xp.ordinary"
    with pytest.raises(OptionError, match=sentence):
        xpnet.Sequential(xpnet.Linear(2, 1), dtype=dtype, backend=XP)
    net = xpnet.Sequential(xpnet.Linear(2, 1), backend=XP)
    with pytest.raises(OptionError, match=sentence):
        net.to(dtype=dtype)
    double = xpnet.Sequential(xpnet.Linear(2, 1), dtype="float64", backend="numpy")
    with pytest.raises(OptionError, match=sentence):
        double.to(XP)
    assert (net.dtype, net.xp) == (np.float32, XP)
    assert (double.dtype, double.xp) == (np.float64, XP.ordinary)


@pytest.mark.parametrize("optimizer", [xpnet.Adam, xpnet.AdamW, xpnet.RMSprop])
def test_an_epsilon_that_is_not_the_same_everywhere_is_refused(optimizer):
    net = xpnet.Sequential(xpnet.Linear(2, 1), backend=XP)
    net.forward(XP.asarray(np.ones((1, 2)), np.float32))
    with pytest.raises(OptionError, match=r"needs eps of at least 1e-13; got 1e-38"):
        optimizer(net, eps=1e-38).step()
    optimizer(net, eps=LEAST_EPS).step()


def test_emulated_products_are_refused(monkeypatch):
    monkeypatch.setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", "1")
    with pytest.raises(BackendError, match="unset CUBLAS_EMULATE_DOUBLE_PRECISION"):
        Reproducible(XP.ordinary)
    for harmless in ("", "0"):
        monkeypatch.setenv("CUBLAS_EMULATE_DOUBLE_PRECISION", harmless)
        Reproducible(XP.ordinary)


@pytest.mark.parametrize("direction", [-np.inf, np.inf, 0])
def test_another_rounding_is_refused(monkeypatch, direction):
    """A processor that rounds up, down, or toward zero."""

    class Numbers(np.ndarray):
        def __add__(self, other):
            a, b = np.asarray(self), np.asarray(other)
            total = a + b
            exact = [Fraction(x) + Fraction(y) for x, y in zip(a, b, strict=True)]
            past = [
                Fraction(t) > e if direction <= 0 else Fraction(t) < e
                for t, e in zip(total, exact, strict=True)
            ]
            return np.where(past, np.nextafter(total, direction), total)

    change_mode(monkeypatch, "np", SimpleNamespace(array=lambda a: np.array(a).view(Numbers)))
    with pytest.raises(BackendError, match="needs float64 that rounds to nearest"):
        Reproducible(XP.ordinary)


# ---- copies and moves ----------------------------------------------------------------------------


def trained():
    net = xpnet.Sequential(*rich(), seed=1, backend=XP)
    xpnet.Trainer(net, "softmax_cross_entropy", "adam").fit(NUMBERS, LABELS, epochs=1)
    return net


@pytest.mark.parametrize(
    "twin", [copy, deepcopy, lambda net: net.copy(), lambda net: pickle.loads(pickle.dumps(net))]
)
def test_copies_and_pickles_keep_the_mode(twin):
    net = trained()
    assert pickle.loads(pickle.dumps(XP)) is copy(XP) is deepcopy(XP) is XP
    other = twin(net)
    assert other.xp is XP
    assert other.predict(NUMBERS).tobytes() == net.predict(NUMBERS).tobytes()


def test_a_pickle_of_an_ordinary_network_stays_ordinary(monkeypatch):
    """Whatever the environment says where it is read: its type may be one the mode refuses."""
    net = xpnet.Sequential(xpnet.Linear(2, 1), dtype="float64", backend="numpy")
    text = pickle.dumps(net), pickle.dumps(trained())
    monkeypatch.setenv("XPNET_REPRODUCIBLE", "1")
    assert [pickle.loads(t).xp.reproducible for t in text] == [False, True]


def test_a_move_by_name_keeps_the_mode():
    net = trained()
    before = net.state_dict()
    assert net.to("numpy").xp is XP
    assert net.to("cpu").xp is XP
    assert net.to(dtype="float32").xp is XP
    same(net.state_dict(), before)
    ordinary = xpnet.Sequential(xpnet.Linear(2, 1), backend="numpy")
    assert ordinary.to("numpy").xp is XP.ordinary


def test_a_move_by_backend_changes_the_mode_and_keeps_the_values():
    net = trained()
    before = net.state_dict()
    assert net.to(XP.ordinary).xp is XP.ordinary
    same(net.state_dict(), before)
    assert net.to(dtype="float64").to(dtype="float32").to(XP).xp is XP
    same(net.state_dict(), before)


def same(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.tobytes() == b[name].tobytes(), name


def test_training_goes_on_where_it_was_after_a_move():
    """Parameters, running averages, masks and what the optimizer remembers go along."""

    def walk(moves):
        net = xpnet.Sequential(*rich(), seed=1, backend=XP)
        step, optimizer = xpnet.SoftmaxCrossEntropy(), xpnet.Adam(net, 0.01)
        for move in moves:
            xp = net.to(move).xp
            step.use(xp)
            X, t = xp.asarray(NUMBERS, np.float32), xp.asarray(LABELS)
            step.forward(net.forward(X), t)
            net.backward(step.backward())
            optimizer.step()
        return bits(net.xp, net.params)

    assert walk([XP, Reproducible(HostileBackend(1)), ON_STRICT, XP]) == walk([XP] * 4)


def test_gradcheck_takes_a_network_of_the_mode():
    net = xpnet.Sequential(xpnet.Linear(4, 3), xpnet.Tanh(), xpnet.Linear(3, 2), backend=XP)
    X, t = NUMBERS[:5, :4], NUMBERS[:5, :2]
    for method in ("complex", "central"):
        report = xpnet.gradcheck(net, "mse", X, t, method=method)
        assert report.ok, report
    assert net.xp is XP
    assert net.dtype == np.float32


# ---- arrays --------------------------------------------------------------------------------------


def test_data_is_flushed_in_a_copy():
    given = np.array([1e-40, -0.0, 1e-31, 0.5, -3e-39], np.float32)
    before = given.tobytes()
    placed = XP.asarray(given)
    assert given.tobytes() == before
    assert placed.tobytes() == np.array([0, 0, 0, 0.5, 0], np.float32).tobytes()
    assert XP.asarray(given.astype(float), np.float32).tobytes() == placed.tobytes()
    double = given.astype(float)
    assert (
        XP.asarray(double).tobytes() == double.tobytes()
    )  # it is flushed where it becomes float32
    assert XP.asarray(LABELS) is LABELS


def test_float64_that_becomes_float32_is_flushed():
    out = np.empty(3, np.float32)
    for source in (np.array([1e-40, -0.0, 1e-310]), -1e-42, -0.0):
        XP.copyto(out, source)
        assert out.tobytes() == bytes(12)


def test_what_it_says_of_itself():
    assert repr(XP) == "<xpnet backend 'numpy', reproducible>"
    assert XP.reproducible
    assert not XP.ordinary.reproducible
    assert XP.ordinary.ordinary is XP.ordinary
    assert (XP.name, XP.module, XP.on_host) == ("numpy", np, True)
