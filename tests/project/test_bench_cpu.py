"""The contestants on the CPU train as xpnet does, and ``bench/compare.py`` tells what they took."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from xpnet.backend import find_backend
from xpnet.data.mnist import find_mnist

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))  # as when a script of that folder runs
NAMES = ("cpu_common", "cpu_xpnet", "compare", "step")
common, cpu_xpnet, compare, step = map(import_module, NAMES)

DATA = os.environ.get("XPNET_DATA")
needs_mnist = pytest.mark.skipif(
    not DATA or find_mnist(DATA) is None, reason="XPNET_DATA names no folder with MNIST"
)

# ---- the contestants ----------------------------------------------------------------------------

SETTINGS = {
    "sgd": common.Setting("", (12, 8, 5), 16, "sgd", 0.1, 2, 3, (2, 3), ""),
    "adam": common.Setting("", (12, 8, 5), 16, "adam", 0.01, 2, 3, (2, 3), ""),
    "binary": common.Setting("", (2, 6, 1), 24, "adam", 0.01, 6, 1, (6, 1), ""),
    "predict": common.Setting("", (12, 8, 5), 16, "", 0, 0, 1, (0, 1), ""),
}
OTHER_EPS = 1e-4
# The module, the mode, and how far the parameters may be from xpnet's. JAX forms 1 - β₂ᵗ in
# float32. scikit-learn's and Thinc's Adam add ε to √v and not to √v̂, as if it were up to 32 times
# as large.
CONTESTANTS = {
    "xpnet": ("cpu_xpnet", "numpy", 0),
    "xpnet numba": ("cpu_xpnet", "numba", 1e-6),
    "PyTorch eager": ("cpu_torch", "eager", 1e-6),
    "JAX jit": ("cpu_jax", "jit", 3e-6),
    "JAX scan": ("cpu_jax", "scan", 3e-6),
    "scikit-learn": ("cpu_sklearn", "ordered", OTHER_EPS),
    "Thinc": ("cpu_thinc", "thinc", OTHER_EPS),
}


def small_task(name: str) -> common.Task:
    """Return a task with data made for it; the rows are few, and no two batches are alike."""
    setting, rng = SETTINGS[name], np.random.default_rng(0)
    n_in, n_out = setting.sizes[0], setting.sizes[-1]
    n = 200 if setting.predicts else setting.batch * setting.steps
    X, t = rng.standard_normal((n, n_in), np.float32), np.arange(n) % max(2, n_out)
    X_test, t_test = X[:20] + np.float32(0.1), t[:20]
    start = [  # biases, too, so that none is forgotten
        (rng.standard_normal(W.shape, np.float32) / 2, rng.standard_normal(b.shape, np.float32) / 2)
        for W, b in common.start(replace(setting, epochs=1))
    ]
    return common.Task(setting, X, t, X_test, t_test, common.orders(setting, n), start, None)


def parameters(peer) -> list[np.ndarray]:
    """Return W and b of each layer, W of shape (n_in, n_out), wherever the contestant has them."""
    if hasattr(peer, "net") and hasattr(peer.net, "state_dict") and hasattr(peer, "X_test"):
        state = [a.numpy() for a in peer.net.state_dict().values()]  # PyTorch
        found = [a.T for a in state]
    elif hasattr(peer, "net"):
        state = peer.net.state_dict()
        layers = sorted({name.partition(".")[0] for name in state}, key=int)
        found = [state[f"{i}.{kind}"] for i in layers for kind in "Wb"]
    elif hasattr(peer, "state"):  # JAX
        found = [np.asarray(a) for layer in peer.state[0] for a in layer]
    elif hasattr(peer.model, "coefs_"):  # scikit-learn
        pairs = zip(peer.model.coefs_, peer.model.intercepts_, strict=True)
        found = [a for pair in pairs for a in pair]
    else:  # Thinc
        inner = [next(n for n in layer.walk() if n.has_param("W")) for layer in peer.model.layers]
        found = [a for node in inner for a in (node.get_param("W").T, node.get_param("b"))]
    return [np.array(a) for a in found]


def ours(task: common.Task) -> cpu_xpnet.Contestant:
    """Return xpnet after a round."""
    contestant = cpu_xpnet.Contestant("numpy", task)
    common.one_round(contestant)
    return contestant


def make(name: str, task: common.Task):
    module, mode, _ = CONTESTANTS[name]
    pytest.importorskip(compare.CONTESTANTS[name][0])
    return import_module(module).Contestant(mode, task)


def scores(Y: np.ndarray) -> np.ndarray:
    """Return outputs in the form in which all can be compared: less what shifts a whole row."""
    Y = np.asarray(Y, dtype=np.float64).reshape(len(Y), -1)
    if Y.shape[1] > 1 and np.allclose(Y.sum(axis=1), 1):
        Y = np.log(Y)  # probabilities
    return Y - Y.mean(axis=1, keepdims=True) if Y.shape[1] > 1 else Y


@pytest.mark.parametrize("setting", ["sgd", "adam", "binary"])
@pytest.mark.parametrize("name", CONTESTANTS)
@pytest.mark.filterwarnings("ignore")  # what the peers say while they are imported
def test_a_contestant_trains_as_xpnet_does(name, setting):
    task = small_task(setting)
    peer, xpnet = make(name, task), ours(task)
    for _ in range(2):  # the second round as if the first had not been
        common.one_round(peer)
        for mine, theirs in zip(parameters(xpnet), parameters(peer), strict=True):
            assert theirs.dtype == np.float32
            np.testing.assert_allclose(theirs, mine, rtol=0, atol=CONTESTANTS[name][2])
    found = peer.outputs(task.X_test)
    if (name, setting) == ("scikit-learn", "binary"):  # the difference of two probabilities
        found = 2 * np.arctanh(np.asarray(found, dtype=np.float64))
    expected = scores(xpnet.outputs(task.X_test))
    np.testing.assert_allclose(scores(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", compare.OURS)
def test_the_bytes_of_an_image_train_as_what_they_stand_for(name):
    task = small_task("adam")
    pixels = np.random.default_rng(2).integers(0, 256, task.X.shape).astype(np.uint8)
    X = pixels.astype(np.float32) / 255
    found = make(name, replace(task, X=X * 0, pixels=pixels))
    common.one_round(found)
    pairs = zip(parameters(ours(replace(task, X=X))), parameters(found), strict=True)
    assert all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in pairs)


@pytest.mark.parametrize("name", [n for n in CONTESTANTS if ("predict", n) not in compare.SKIPPED])
@pytest.mark.filterwarnings("ignore")
def test_a_contestant_predicts_what_xpnet_does(name):
    task = small_task("predict")
    peer, xpnet = make(name, task), ours(task)
    assert common.one_round(peer)["accuracy"] == common.one_round(xpnet)["accuracy"]
    for mine, theirs in zip(parameters(xpnet), parameters(peer), strict=True):
        np.testing.assert_array_equal(theirs, mine)
    expected = scores(xpnet.Y)
    np.testing.assert_allclose(scores(peer.outputs(task.X_test)), expected, atol=1e-5)
    np.testing.assert_allclose(scores(peer.Y), expected, atol=1e-5)


def test_the_tolerance_would_notice_a_mistake():
    """Another order of the batches, or a start that is a little off, shows in the parameters."""
    task = small_task("adam")
    right = parameters(ours(task))

    def off(changed: common.Task) -> float:
        pairs = zip(right, parameters(ours(changed)), strict=True)
        return max(float(np.abs(a - b).max()) for a, b in pairs)

    rows = np.random.default_rng(1).permutation(len(task.X))
    assert off(replace(task, X=task.X[rows], t=task.t[rows])) > 30 * OTHER_EPS
    (W, b), *rest = task.start
    assert off(replace(task, start=[(W, b * 0), *rest])) > 30 * OTHER_EPS


@pytest.mark.parametrize("setting", ["sgd", "binary"])
def test_the_floor_has_the_products_of_a_step(setting, monkeypatch):
    task = small_task(setting)
    contestant, floor = cpu_xpnet.Contestant("numpy", task), cpu_xpnet.Floor("floor", task)
    contestant.restart()
    with step.Timers(find_backend("numpy")) as timers:
        contestant.train()
    found, dot = Counter(), np.dot

    def counted(A, B, out):
        found[f"{len(A)} x {len(B)} x {B.shape[1]}"] += 1
        return dot(A, B, out=out)

    monkeypatch.setattr(np, "dot", counted)
    floor.train()
    assert found == {sizes: n for (name, sizes), n in timers.calls.items() if name == "matmul"}
    assert found.total() == 5 * task.steps


def test_the_floor_has_the_products_of_a_prediction(monkeypatch):
    task = small_task("predict")
    floor, rows, dot = cpu_xpnet.Floor("floor", replace(task, X_test=task.X[:150])), [], np.dot
    monkeypatch.setattr(np, "dot", lambda A, B, out: rows.append(len(A)) or dot(A, B, out=out))
    floor.predict()
    assert rows == [150, 150]


@pytest.mark.thorough
@needs_mnist
def test_the_task_of_a_setting():
    quick = common.task("small-adam", quick=True)
    assert quick.steps == 2 * 117
    assert [len(rows) for rows in quick.batches()] == [128] * quick.steps
    np.testing.assert_array_equal(quick.X, quick.pixels.astype(np.float32) / 255)
    assert common.task("predict", quick=True).steps == 0


# ---- what is said about them --------------------------------------------------------------------


def result(us: float, accuracy: float = 0.97, steps: int = 100) -> dict:
    seconds = [us * max(1, steps) * factor / 1e6 for factor in (1.1, 1.0, 0.9)]
    return {"version": "a 1", "steps": steps, "seconds": seconds, "accuracy": accuracy}


def results(**changes) -> dict:
    found = {name: result(200) for name in compare.CONTESTANTS}
    found |= {
        "xpnet": result(100),
        "xpnet numba": result(50),
        "products alone": result(40, accuracy=0.1),
        "torch.compile": {"failed": "Traceback\nRuntimeError: no"},
        "Thinc": {"not_installed": "thinc"},
    }
    return found | changes


def test_a_ratio_is_formed_in_each_round():
    peer, mine = {"seconds": [2.0, 3.0, 8.0]}, {"seconds": [1.0, 3.0, 2.0]}
    assert compare.ratios(peer, mine) == {"median": 2.0, "min": 1.0, "max": 4.0}


def test_what_does_not_learn_is_wrong():
    found = results(**{"JAX jit": result(1, accuracy=0.95), "JAX scan": result(1, accuracy=0.965)})
    names = [name for name, r in found.items() if "seconds" in r and compare.wrong(name, found)]
    assert names == ["JAX jit"]


def test_the_table_of_a_setting():
    lines = compare.table("A title", results(**{"JAX jit": result(1, 0.5)})).splitlines()
    line = {name: next(s for s in lines if s.startswith(name)) for name in compare.CONTESTANTS}
    assert lines[1] == "A title"
    assert " ".join(lines[2].split()) == "us/step spread x xpnet x xpnet numba accuracy"
    assert line["PyTorch eager"].split("   ")[-1].strip() == "97.00%"
    assert "200.0  180 to 220" in line["PyTorch eager"]
    assert "2.00 (2.00-2.00)" in line["PyTorch eager"]
    assert "4.00 (4.00-4.00)" in line["PyTorch eager"]
    assert [name for name in line if line[name].endswith("WRONG")] == ["JAX jit"]
    assert "%" not in line["products alone"]
    assert "Traceback" in line["torch.compile"]
    assert line["Thinc"].endswith("thinc is not installed")


def test_the_table_of_a_prediction_gives_the_time_of_a_call():
    text = compare.table("", {"xpnet": result(7000, steps=0)})
    assert "us/call" in text
    assert "7000.0" in text
    assert "inf" not in text


def test_the_table_where_xpnet_failed():
    text = compare.table("", {"xpnet": {"failed": "no"}, "Thinc": result(5)})
    assert "x xpnet" not in text
    assert "97.00%" in text


def test_the_chart(tmp_path):
    image = pytest.importorskip("matplotlib.image")
    names, path = list(common.SETTINGS), tmp_path / "chart.png"
    found = {name: results() for name in names}
    found[names[0]] |= {name: {"failed": "no"} for name in compare.OURS}
    found[names[1]] |= {"xpnet numba": {"not_installed": "numba"}, "JAX jit": result(1, 0.5)}
    compare.chart(found, path)
    height, width, _ = image.imread(path).shape
    assert 600 < height < 1500
    assert 1000 < width < 2000
    nothing = tmp_path / "nothing.png"
    compare.chart({names[0]: found[names[0]]}, nothing)  # nothing to compare with
    assert not nothing.exists()


@pytest.mark.parametrize(
    ("found", "code"),
    [
        ({}, 0),
        ({"Thinc": {"failed": "no"}}, 1),
        ({"Thinc": result(1, 0.5)}, 1),
        ({"products alone": {"failed": "no"}}, 1),
    ],
)
def test_one_that_failed_or_is_wrong_makes_a_failure(found, code, monkeypatch, capsys):
    fine = {name: result(1) for name in compare.CONTESTANTS} | {"JAX jit": {"not_installed": "jax"}}
    monkeypatch.setattr(compare, "compete", lambda *_: fine | found)
    monkeypatch.setattr(sys, "argv", ["compare.py", "--settings", "spiral"])
    assert compare.main() == code
    assert capsys.readouterr().err == "".join(f"failed or wrong: spiral: {n}\n" for n in found)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('{\"steps\": 1}', flush=True); raise SystemExit(3)", "exit code 3"),
        ("import sys; print('x' * 10**6, file=sys.stderr); raise ValueError('no')", "Error: no"),
        ("print('words', flush=True); import time; time.sleep(60)", "printed 'words'"),
        ("import time; time.sleep(60)", "no answer in 0.5 s"),
    ],
)
def test_a_contestant_that_fails_is_out(code, expected, monkeypatch, tmp_path):
    path = str(tmp_path / "script.py")
    Path(path).write_text(code)
    monkeypatch.setattr(compare, "CONTESTANTS", {"it": ("numpy", path, "a")})
    monkeypatch.setattr(compare, "PAUSE_S", 0)
    if "no answer" in expected:
        monkeypatch.setattr(compare, "LIMIT_S", 0.5)
    options = argparse.Namespace(threads=1, quick=True, only=None, rounds=2)
    found = compare.compete("spiral", options)
    assert expected in found["it"]["failed"]


@pytest.mark.thorough
def test_the_whole_comparison_with_one_peer(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(compare, "PAUSE_S", 0)
    out = tmp_path / "out.json"
    command = "compare.py --quick --settings spiral --only scikit --rounds 1 --threads 1 --out"
    monkeypatch.setattr(sys, "argv", [*command.split(), str(out)])
    assert compare.main() == 0, capsys.readouterr().err
    report = json.loads(out.read_text())
    found = report["results"]["spiral"]
    assert list(found) == ["xpnet", "xpnet numba", "products alone", "scikit-learn"]
    assert len(found["xpnet"]["seconds"]) == 1
    assert found["xpnet"]["steps"] == 300
    assert found["xpnet"]["accuracy"] > 0.98
    assert report["quick"] is True
    text = capsys.readouterr().out
    assert all(name in text for name in found)


# ---- where the time of a step goes --------------------------------------------------------------


@pytest.fixture
def few_rounds(monkeypatch):
    monkeypatch.setattr(step, "ROUNDS", 2)
    monkeypatch.setattr(step, "timer_cost", lambda: {"inside": 0.0, "outside": 0.0})


@pytest.mark.parametrize("setting", ["sgd", "binary"])
def test_the_parts_of_a_step(setting, few_rounds):
    task, xp = small_task(setting), find_backend("numpy")
    before = set(vars(xp))
    found = step.measure(task, "numpy")
    assert set(vars(xp)) == before
    products = [part for part in found["parts"] if part["primitive"] == "matmul"]
    size, (n_in, n_hidden, n_out) = task.setting.batch, task.setting.sizes
    assert {part["sizes"] for part in products} == {
        f"{size} x {n_in} x {n_hidden}",
        f"{size} x {n_hidden} x {n_out}",
        f"{n_in} x {size} x {n_hidden}",
        f"{n_hidden} x {size} x {n_out}",
        f"{size} x {n_out} x {n_hidden}",
    }
    assert all(part["calls"] == 1 for part in products)
    assert all(part["us"] > 0 for part in found["parts"])
    whole = sum(part["us"] for part in found["parts"])
    assert found["step_us"] / 10 < whole < 10 * found["step_us"]  # a machine may be busy
    assert found["floor_us"] > 0
    about = {"setting": "a", "backend": "numpy", "threads": 1}
    text = step.table(about | found)
    assert "Python between" in text
    assert products[0]["sizes"] in text


def test_the_timers_are_taken_off_after_an_exception(few_rounds, monkeypatch):
    task, xp = small_task("sgd"), find_backend("numpy")
    before, train, calls = set(vars(xp)), cpu_xpnet.Contestant.train, []

    def fail(contestant):
        calls.append(set(vars(xp)) - before)
        train(contestant)
        if calls[-1]:
            raise ZeroDivisionError

    monkeypatch.setattr(cpu_xpnet.Contestant, "train", fail)
    with pytest.raises(ZeroDivisionError):
        step.measure(task, "numpy")
    assert "matmul" in calls[-1]
    assert set(vars(xp)) == before


def test_a_timer_leaves_out_the_primitives_inside(monkeypatch):
    class Backend:
        def outer(self) -> None:
            clock[0] += 1
            self.inner()
            self.inner()

        def inner(self) -> None:
            clock[0] += 10

    clock = [0.0]
    monkeypatch.setattr(step.time, "perf_counter", lambda: clock[0])
    with step.Timers(Backend()) as timers:
        timers.xp.outer()
        timers.xp.inner()
    assert timers.seconds == {("outer", ""): 1, ("inner", ""): 30}
    assert timers.calls == {("outer", ""): 1, ("inner", ""): 3}


def test_what_a_timer_costs():
    cost = step.timer_cost(200)
    assert set(cost) == {"inside", "outside"}
    assert all(abs(us) < 1000 for us in cost.values())
