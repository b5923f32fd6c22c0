"""The backend with Numba: each loop against the meaning, and trainings against those of NumPy."""

from __future__ import annotations

import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from threading import Barrier

import numpy as np
import primitive_cases
import pytest
from primitive_cases import Meaning, check, check_array_methods, compare, public
from test_training import most_of_a_warm_step

import xpnet
from xpnet import golden, schedules
from xpnet.backend import backend_of, find_backend, why_no_numba
from xpnet.backend.base import Backend
from xpnet.backend.on_numpy import NumPyBackend
from xpnet.backend.options import AdamOptions, AdamState, CrossEntropyArrays, RMSpropOptions
from xpnet.backend.reproducible import Reproducible
from xpnet.cli import main
from xpnet.verify.consistency import check as check_consistency
from xpnet.verify.parity import parity

if why_no_numba():
    pytest.skip(why_no_numba(), allow_module_level=True)

from xpnet.backend import compiled_code, on_numba
from xpnet.backend.on_numba import NumbaBackend

XP, NUMPY = find_backend("numba"), find_backend("numpy")
OURS = public(NumbaBackend, NumPyBackend)
CASES = [case for case in primitive_cases.cases() if case.primitive in OURS]
FLOATS = pytest.mark.parametrize("dtype", ["float32", "float64"])


# ---- the primitives ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_does_what_base_says(case):
    check(XP, case, same_order=False)


def test_overrides_have_the_signatures_of_base():
    assert {case.primitive for case in CASES} == OURS
    for name in OURS:
        ours, theirs = (inspect.signature(getattr(c, name)) for c in (NumbaBackend, Backend))
        assert ours.parameters == theirs.parameters, name


def test_arrays_are_made_and_recognised():
    check_array_methods(XP)
    with pytest.raises(xpnet.MixedArraysError, match=r"'numba', but X is a builtins.list"):
        XP.require([1.0], "the network", "X")


def cross_entropy(xp, Z, T):
    losses, dZ, work, hot = np.zeros_like(Z[:, 0]), *(np.zeros_like(Z) for _ in range(3))
    xp.softmax_cross_entropy(Z, T, CrossEntropyArrays(losses, dZ, work, hot), scale=0.5)
    return losses, dZ


def read_only(a):
    a.flags.writeable = False
    return a


Z, T = np.random.default_rng(1).normal(size=(2, 6, 5))
TARGETS = {
    "every second column": np.repeat(np.abs(T), 2, axis=1)[:, ::2],
    "columns first": np.asfortranarray(np.abs(T)),
    "rows backwards": np.abs(T)[::-1],
    "read-only": read_only(np.abs(T)),
    "every second label": np.arange(12)[::2] % 5,
    "labels from behind": np.arange(6)[::-1] - 1,
    "read-only labels": read_only(np.arange(6) % 5),
    "far outside": np.array([2**62, -(2**62), 5, -1, -5, 4]),
}


@FLOATS
@pytest.mark.parametrize("kind", TARGETS)
def test_targets_may_lie_in_memory_in_any_way(kind, dtype):
    t, scores = TARGETS[kind], Z.astype(dtype)
    t = t if t.ndim == 1 or kind == "read-only" else t.astype(dtype)
    wanted = cross_entropy(Meaning(), scores, t)
    for got, want in zip(cross_entropy(XP, scores, t), wanted, strict=True):
        compare(kind, got, want, ulps=8, scale=2.0)


@FLOATS
def test_1000_classes(dtype):
    rng = np.random.default_rng(2)
    scores, labels = (5 * rng.normal(size=(9, 1000))).astype(dtype), rng.integers(0, 1000, 9)
    exact = cross_entropy(Meaning(), scores.astype(float), labels)
    for got, want in zip(cross_entropy(XP, scores, labels), exact, strict=True):
        compare("", got, want.astype(dtype), ulps=16, scale=1.0)


@FLOATS
@pytest.mark.parametrize("shape", [(0, 7), (5, 0), (5,), (5, 2, 3), (0,)], ids=str)
def test_pixels_of_any_shape(shape, dtype):
    data = np.random.default_rng(3).integers(0, 256, (9, *shape[1:])).astype(np.uint8)
    out, work = np.full(shape, -1, dtype), np.zeros(shape, np.uint8)
    got = XP.gather(data, np.arange(9)[::-1], np.array([2]), out, work)
    assert got is out
    np.testing.assert_array_equal(out, data[::-1][2 : 2 + len(out)] / np.array(255, dtype))
    out[...] = -1
    XP.gather(read_only(data), np.arange(9, dtype=np.int32)[::-1], np.array([2]), out, work)
    np.testing.assert_array_equal(out, data[::-1][2 : 2 + len(out)] / np.array(255, dtype))


@FLOATS
@pytest.mark.parametrize("shape", [(0, 5), (5, 0)], ids=str)
def test_nothing_at_all(shape, dtype):
    Y, b = np.zeros(shape, dtype), np.full(shape[1], 7, dtype)
    XP.affine_grad(Y, Y, "relu", out=Y.copy(), db=b)
    assert not b.any()
    XP.affine(np.zeros((shape[0], 3), dtype), np.zeros((3, shape[1]), dtype), b, Y, "relu")
    XP.dropout_mask(np.array([1], np.uint64), np.array([1], np.uint64), Y, 0.5, None)
    labels = np.zeros(shape[0], np.int64)
    written = CrossEntropyArrays(Y.sum(axis=1), Y.copy(), Y.copy())
    XP.softmax_cross_entropy(Y, labels, written)


@FLOATS
def test_zero_divided_by_zero_is_no_error(dtype):
    p, g, s, m, v = np.zeros((5, 3), dtype)
    number, powers = np.array([0.1]), np.array([0.9, 0.999])
    XP.rmsprop(p, g, s, number, RMSpropOptions(0.9, 0.0), work=g)
    assert np.isnan(p).all()
    p[...] = 0
    XP.adam(p, g, AdamState(m, v, number, powers), AdamOptions(0.9, 0.99, 0.0), work=g)
    assert np.isnan(p).all()


@FLOATS
def test_a_mask_counts_through_all_uint64(dtype):
    """Kept is what draws below the threshold, to the last of 53 bits."""
    key, counter = np.array([2**64 - 1], np.uint64), np.array([2**63], np.uint64)
    for keep in (2**-53, 0.5 - 2**-53, 0.5, 1 - 2**-53, 1.0):
        got, want = (np.zeros(100_000, dtype) for _ in range(2))
        XP.dropout_mask(key, counter, got, keep, None)
        Meaning().dropout_mask(key, counter, want, keep, None)
        np.testing.assert_array_equal(got, want)


# ---- training ------------------------------------------------------------------------------------

N, STEPS = 60, 50
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 5))
X8 = RNG.integers(0, 256, (N, 5)).astype(np.uint8)
LABELS, SOFT, REAL = RNG.integers(0, 3, N), RNG.dirichlet(np.ones(3), N), RNG.normal(size=(N, 3))
LAYERS = {
    "relu": [xpnet.ReLU],
    "sigmoid": [xpnet.Sigmoid],
    "tanh": [xpnet.Tanh],
    "dropout": [xpnet.ReLU, lambda: xpnet.Dropout(0.3)],
    "batch norm": [lambda: xpnet.BatchNorm1d(8), xpnet.ReLU],
    "gelu": [xpnet.GELU],
    "layer norm": [lambda: xpnet.LayerNorm(8), lambda: xpnet.LeakyReLU(0.1)],
}
LOSSES = {  # the end of the network, and the targets
    "mse": ([], REAL),
    "huber": ([], REAL),
    "bce": ([xpnet.Sigmoid], SOFT),
    "bce_logits": ([], SOFT),
    "cross_entropy": ([xpnet.Softmax], LABELS),
    "softmax_cross_entropy": ([], LABELS),
}
OPTIMIZERS = {
    "sgd": lambda net: xpnet.SGD(net, 0.1),
    "momentum": lambda net: xpnet.SGD(net, 0.05, momentum=0.8),
    "nesterov": lambda net: xpnet.SGD(net, 0.05, momentum=0.8, nesterov=True),
    "rmsprop": lambda net: xpnet.RMSprop(net, 0.01, rho=0.9, eps=1e-3),
    "adam": lambda net: xpnet.Adam(net, 0.01),
    "adamw": lambda net: xpnet.AdamW(net, 0.01, weight_decay=0.1),
    "decay": lambda net: xpnet.Adam(net, 0.01, weight_decay=0.1),
    "clipped": lambda net: xpnet.SGD(net, 0.5, clip_norm=0.3, weight_decay=0.01),
    "cosine": lambda net: xpnet.SGD(net, schedules.Cosine(0.2, STEPS), momentum=0.9),
    "one cycle": lambda net: xpnet.Adam(net, schedules.OneCycle(0.05, STEPS)),
}


def trained(xp, layers="relu", loss="mse", optimizer="adam", *, X=X, t=None, dtype="float64"):
    """Return the parameters and running averages after 50 steps of 12 samples, and the history."""
    end, targets = LOSSES[loss]
    hidden = [make() for make in LAYERS[layers]], [make() for make in LAYERS[layers]]
    bias = layers != "batch norm"  # which would take it away again, up to rounding
    first, second = xpnet.Linear(5, 8, bias=bias), xpnet.Linear(8, 8, bias=bias)
    made = [first, *hidden[0], second, *hidden[1], xpnet.Linear(8, 3), *(make() for make in end)]
    net = xpnet.Sequential(*made, dtype=dtype, seed=1, backend=xp)
    trainer = xpnet.Trainer(net, loss, OPTIMIZERS[optimizer](net))
    history = trainer.fit(X, targets if t is None else t, epochs=10, batch_size=12)
    assert trainer.optimizer.t == STEPS
    return net.state_dict(), history["loss"]


def same_training(**options):
    (ours, losses), (theirs, wanted) = trained(XP, **options), trained(NUMPY, **options)
    np.testing.assert_allclose(losses, wanted, rtol=1e-10)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=0, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("layers", LAYERS)
def test_layers_train_as_on_numpy(layers):
    same_training(layers=layers)


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_train_as_on_numpy(loss):
    same_training(loss=loss)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers_train_as_on_numpy(optimizer):
    same_training(optimizer=optimizer)


def test_pixels_and_soft_targets_train_as_on_numpy():
    same_training(X=X8, loss="softmax_cross_entropy", t=SOFT, layers="dropout")


@pytest.mark.parametrize("rich", [False, True], ids=["plain", "dropout and batchnorm"])
@pytest.mark.parametrize("weights", [None, np.ones(300)], ids=["unweighted", "weighted"])
def test_a_warm_step_makes_no_array(rich, weights):
    with xpnet.use_backend(XP):
        assert 0 <= most_of_a_warm_step(rich, weights) < 64 * 1024


def test_threads_do_not_disturb_each_other():
    """Eight trainings at once, each with the bits that it has alone."""
    start = Barrier(8)

    def train(layers, together=True):
        if together:
            start.wait()
        loss = "softmax_cross_entropy"
        state, _ = trained(XP, layers, loss, X=X8, dtype="float32")
        return {name: a.tobytes() for name, a in state.items()}

    kinds = [*LAYERS, "dropout"]
    with ThreadPoolExecutor(8) as eight:
        together = list(eight.map(train, kinds))
    assert together == [train(kind, together=False) for kind in kinds]


FRESH = """
from concurrent.futures import ThreadPoolExecutor
import numba, numpy as np, xpnet
from xpnet.backend import on_numba

try:
    numba.njit(cache=True)(on_numba._sgd.py_func)
except RuntimeError:
    print("no folder can be written")

def train(_):
    layers = xpnet.Linear(4, 5), xpnet.ReLU(), xpnet.Dropout(0.5), xpnet.Linear(5, 3)
    net = xpnet.Sequential(*layers, backend="numba")
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam")
    trainer.fit(np.arange(80, dtype=np.uint8).reshape(20, 4), np.arange(20) % 3, epochs=3)
    return net.sha256()

with ThreadPoolExecutor(8) as eight:
    assert {*eight.map(train, range(8))} == {train(0)}
print("trained")
"""


@pytest.mark.thorough
def test_where_nothing_can_be_kept_it_compiles_anew(tmp_path):
    """In eight threads at once; files stand where Numba would make its folders."""
    shutil.copytree(
        Path(xpnet.__file__).parent,
        tmp_path / "xpnet",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (tmp_path / "xpnet/backend/__pycache__").touch()
    (tmp_path / "file").touch()
    names = "HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "NUMBA_CACHE_DIR"
    nowhere = dict.fromkeys(names, str(tmp_path / "file" / "folder"))
    done = subprocess.run(
        [sys.executable, "-B", "-W", "error", "-c", FRESH],
        env=os.environ | nowhere | {"PYTHONPATH": str(tmp_path), "OPENBLAS_NUM_THREADS": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.stdout, done.stderr) == ("no folder can be written\ntrained\n", "")


# ---- a backend among the others ------------------------------------------------------------------


def test_it_has_a_name_of_its_own():
    assert find_backend(" Numba ") is XP
    assert (XP.name, XP.module, XP.on_host, XP.reproducible) == ("numba", np, True, False)
    assert "numba" in xpnet.available_backends()
    assert find_backend("cpu") is not XP
    with xpnet.use_backend("numba") as chosen:
        assert chosen is XP
        assert xpnet.Sequential(xpnet.Linear(2, 1)).xp is XP
        assert backend_of(np.zeros(2)) is XP
    assert backend_of(np.zeros(2)) is NUMPY


def test_the_environment_chooses_it(monkeypatch):
    monkeypatch.setenv("XPNET_BACKEND", "numba")
    assert xpnet.get_backend() is XP


def test_networks_move_between_it_and_numpy():
    net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1), backend="numpy")
    X, before = np.ones((4, 2), np.float32), net.sha256()
    Y = net.predict(X)
    assert net.to("numba").xp is XP
    assert net.sha256() == before
    np.testing.assert_allclose(net.predict(X), Y, rtol=1e-6)
    for copy in (deepcopy(net), net.copy(), pickle.loads(pickle.dumps(net))):
        assert copy.xp is XP
        assert copy.sha256() == before
    assert net.to("numpy").xp is NUMPY


def test_complex_networks_are_left_to_numpy():
    sentence = "^the backend 'numba' takes networks of float32 or float64; got complex128; use the"
    with pytest.raises(xpnet.OptionError, match=sentence):
        xpnet.Sequential(xpnet.Linear(2, 1), dtype="complex128", backend=XP)


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize("layers", ["relu", "sigmoid", "tanh"])
def test_gradients_pass_the_gradient_check(layers, method):
    made = xpnet.Linear(5, 4), *(make() for make in LAYERS[layers]), xpnet.Linear(4, 3)
    net = xpnet.Sequential(*made, dtype="float64", backend=XP)
    report = xpnet.gradcheck(net, "softmax_cross_entropy", X[:7], LABELS[:7], method=method)
    assert report.ok, report


def test_both_checks_of_all_backends_take_it():
    net = xpnet.Sequential(xpnet.Linear(5, 4), xpnet.ReLU(), xpnet.Linear(4, 3))
    report = parity(net, "softmax_cross_entropy", X, LABELS, backends=["numpy", "numba"])
    assert report.ok, report
    assert {"numba, norm", "numba, whole"} <= {check.what for check in report.checks}
    found = check_consistency(["xor", "digits"], ["numpy", "numba"], steps=3)
    assert found.ok, found
    assert not found.not_run
    assert all([*recipe.trainings] == ["numpy", "numba"] for recipe in found.recipes)


SMALL = [recipe for recipe in golden.RECIPES if recipe.problem != "mnist"]


@pytest.mark.parametrize("recipe", SMALL, ids=[recipe.name for recipe in SMALL])
def test_the_golden_hashes_hold_in_reproducible_mode(recipe):
    mode = find_backend("numba", reproducible=True)
    assert type(mode) is Reproducible
    assert (mode.name, mode.ordinary, repr(mode)) == (
        "numba",
        XP,
        "<xpnet backend 'numba', reproducible>",
    )
    assert pickle.loads(pickle.dumps(mode)) is mode
    trace, wanted = golden.trace(recipe, mode, 25), golden.golden_trace(recipe)
    assert trace.first_difference(wanted) is None
    assert len(trace.phases["update"]) == 25


@pytest.mark.thorough
def test_the_command_line_takes_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--epochs", "1", "--backend", "numba", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["backend"] == "numba"
    assert main(["info"]) == 0
    assert "\nNumba " in capsys.readouterr().out


# ---- the cache of compiled functions ------------------------------------------------------------


def twice(a, out):
    for i in range(a.size):
        out[i] = 2 * a[i]


def doubled():
    """Return [2, 4, 6], by a function that is compiled, or found in the cache."""
    a, out = np.arange(1.0, 4.0), np.empty(3)
    function = on_numba.compiled(twice)
    function(a, out)
    assert out.tolist() == [2, 4, 6]
    return function.stats


@pytest.fixture
def _own_cache(tmp_path, monkeypatch):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    compiled_code._say_once.cache_clear()


@pytest.mark.usefixtures("_own_cache")
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("data", [b"", b"\x80\x05K", b"garbage " * 100])
def test_a_damaged_cache_is_made_anew(tmp_path, caplog, kind, data):
    assert doubled().cache_misses
    assert doubled().cache_hits
    (file,) = tmp_path.rglob(f"*.{kind}")
    file.write_bytes(data)
    doubled()
    assert f"Numba's cache in {file.parent} cannot be used (" in caplog.text
    assert doubled().cache_hits  # it has been mended
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("_own_cache")
def test_a_full_disk_keeps_nothing_and_ends_nothing(monkeypatch, caplog):
    from numba.core.caching import IndexDataCacheFile

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(IndexDataCacheFile, "_save_index", full)
    for _ in range(2):
        assert doubled().cache_misses
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
