"""The scripts in ``bench`` run here as far as they can, and the README has their present table."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.data.mnist import find_mnist

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "bench"
sys.path.insert(0, str(BENCH))  # as when a script of that folder runs
NAMES = ("gpu_common", "gpu_report", "gpu_xpnet", "peers", "report", "time_to_accuracy")
common, gpu_report, gpu_xpnet, peers, report, time_to_accuracy = map(import_module, NAMES)

DATA = os.environ.get("XPNET_DATA")
needs_mnist = pytest.mark.skipif(
    not DATA or find_mnist(DATA) is None, reason="XPNET_DATA names no folder with MNIST"
)


# ---- the table in the README --------------------------------------------------------------------


def contestant(step_us: float, accuracy: float = 0.97) -> dict:
    warm = {"median": step_us * 469e-6, "min": 0.01, "max": 0.02, "rounds": 7}
    return {"step_us": step_us, "warm_s": warm, "cold_s": 3.0, "loss": 0.1, "accuracy": accuracy}


def parts(**changes) -> dict[str, str]:
    """Return the files that the parts of gpu.sh leave behind where everything works."""
    check = json.dumps({"ok": True, "recipes": [], "not_run": {}, "steps": 200})
    found = {
        "xpnet": contestant(25),
        "xpnet eager": contestant(500),
        "xpnet reproducible": contestant(60),
        "xpnet whole": contestant(26),
        "PyTorch eager": contestant(300),
        "PyTorch eager, foreach": contestant(250),
        "PyTorch compile": {"failed": "a\nRuntimeError: no|luck"},
        "PyTorch compile, Adam eager": contestant(100),
        "PyTorch graph by hand": contestant(50),
        "JAX scan": {"not_installed": "jax"},
        "JAX scan, unrolled": {"not_installed": "jax"},
        "xpnet products": {"share": {"median": 0.9}, "step_s": {"median": 0.01}},
        "xpnet launches": {"launches": {"1": contestant(30), "4": contestant(26)}},
        "xpnet reads": {"reads": 1, "others": "none"},
    }
    trained = {"warm_s": {"median": 0.05}, "accuracies": [0.981] * 10, "reached": 10}
    device = {"GPU": "Some GPU", "CuPy": "14.2.0", "driver": "580", "date": "2026-01-01"}
    files = {
        "device.json": json.dumps(device),
        "check.out": check,
        "check-plain.out": check,
        "check.html": "<html>",
        "peers.json": json.dumps(found),
        "accuracy.json": json.dumps({"xpnet": trained, "PyTorch eager": trained}),
        "tests.out": "....\n123 passed, 4 deselected in 56.78s\n",
        "parallel.out": "....\n24 passed, 39 deselected in 30.12s\n",
        "goals.out": "| what | at least | measured |\n|---|---|---|\n| a | 1 | 2 |\n",
    }
    files |= {f"{name}.end": "0 12 60" for name in gpu_report.PARTS}
    return {name: text for name, text in (files | changes).items() if text is not None}


def gathered(folder: Path, **changes) -> dict:
    """Return the JSON that gpu_report makes of them."""
    (folder / "parts").mkdir()
    for name, text in parts(**changes).items():
        (folder / "parts" / name).write_text(text, encoding="utf-8")
    path = gpu_report.gather(folder / "parts", folder, folder / "verified.json")
    assert path.name.startswith("gpu-")
    return json.loads(path.read_text("utf-8"))


def cells(found: dict) -> list[str]:
    return [report.cell(measure, found) for *_, measure in report.ROWS]


def test_the_table_of_a_device(tmp_path):
    found = gathered(tmp_path)
    assert cells(found) == [
        "10.00x (25 µs, 97.0%; 250 µs, 97.0%)",
        "4.00x (25 µs, 97.0%; 100 µs, 97.0%)",
        "2.00x (25 µs, 97.0%; 50 µs, 97.0%)",
        "jax not installed",
        "12.2 ms (10.0 to 20.0)",
        "0.050 s, 10 of 10 reach it; PyTorch eager 0.050 s",
        "0.900 (10.00 ms a step) **missed**",
        "2.99 s",
        "2.40x (60 µs)",
        "1",
        "500 µs",
        "30, 26 µs",
        "`xpnet check` agrees; 123 passed, 4 deselected in 56.78s; several processes: 24 passed, "
        "39 deselected in 30.12s",
    ]
    assert found["goals"] == [{"what": "a", "at_least": "1", "measured": "2"}]
    assert (tmp_path / "gpu-some-gpu.html").read_text() == "<html>"
    assert "| Some GPU |" in report.table([found])


def test_a_fast_wrong_answer_does_not_count(tmp_path):
    results = json.loads(parts()["peers.json"]) | {"xpnet": contestant(25, accuracy=0.9)}
    found = gathered(tmp_path, **{"peers.json": json.dumps(results)})
    assert cells(found)[0].endswith("**missed**")


def test_a_peer_that_learns_nothing_is_not_the_fastest(tmp_path):
    results = json.loads(parts()["peers.json"])
    results["PyTorch eager, foreach"] = contestant(1, accuracy=0.1)
    results["PyTorch graph by hand"] = contestant(1, accuracy=0.1)
    found = gathered(tmp_path, **{"peers.json": json.dumps(results)})
    assert cells(found)[0].startswith("12.00x")
    assert cells(found)[2] == "only 10.0% right"


def test_parts_that_fail_leave_their_reason(tmp_path):
    found = gathered(
        tmp_path,
        **{
            "peers.json": None,
            "peers.end": "124 200 200",
            "peers.err": "one\ntwo\n",
            "accuracy.json": "{",
            "accuracy.end": "1 3 75",
            "accuracy.err": "Traceback\nValueError: no",
            "tests.out": "E   assert 1 == 2\n1 failed, 122 passed in 9.9s\n",
            "tests.end": "1 10 180",
            "parallel.out": "",
            "parallel.end": "124 100 100",
            "check.out": "",
            "check.end": None,
            "device.json": None,
        },
    )
    late = {"ok": False, "seconds": 200, "reason": "not done after 200 s", "last_lines": "one\ntwo"}
    assert found["parts"]["peers"] == late
    assert found["parts"]["accuracy"]["last_lines"] == "Traceback\nValueError: no"
    assert "1 failed" in found["parts"]["tests"]["last_lines"]
    assert found["parts"]["check"] == {"ok": False, "reason": "not run"}
    shown = cells(found)
    assert shown[0] == "failed: not done after 200 s"
    assert shown[5] == "failed: exit code 1"
    assert shown[-1].startswith("`xpnet check` did not come to its end; 1 failed, 122 passed")
    assert shown[-1].endswith("several processes: no tests run **missed**")
    assert not (tmp_path / "verified.json").exists()
    assert "unknown GPU" in report.table([found])


def test_a_contestant_that_fails_leaves_its_reason(tmp_path):
    results = json.loads(parts()["peers.json"])
    results["xpnet"]["warnings"] = ["the step could not be captured"]
    results["xpnet whole"] = {"failed": "Traceback\nValueError: a|b"}
    del results["xpnet reads"]
    found = gathered(tmp_path, **{"peers.json": json.dumps(results)})
    assert cells(found)[4] == "failed: ValueError: a/b"
    assert cells(found)[7] == "failed: the step could not be captured"
    assert cells(found)[9] == "not yet run"


def test_a_device_joins_the_verified_ones_if_all_agreed(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_report, "PROBLEMS", ["xor"])
    training = dict.fromkeys(("golden", "first", "gradients", "weights", "milliseconds"))
    recipe = {
        "name": "xor: a net",
        "gradients": {"ok": True},
        "differences": [],
        "trainings": {"cupy": training},
    }
    check = {"ok": True, "recipes": [recipe], "not_run": {}, "steps": gpu_report.STEPS}
    (tmp_path / "verified.json").write_text("[]")
    text = json.dumps(check)
    gathered(tmp_path, **{"check.out": text, "check-plain.out": text})
    (entry,) = json.loads((tmp_path / "verified.json").read_text())
    assert entry["GPU"] == "Some GPU"


def test_the_readme_has_the_present_table(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().err


def test_a_readme_that_is_out_of_date(tmp_path, capsys):
    readme, where = tmp_path / "README.md", ["--results", str(tmp_path)]
    readme.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    where += ["--readme", str(readme)]
    assert report.main(["--check", *where]) == 1
    assert "out of date" in capsys.readouterr().err
    assert report.main(where) == 0
    assert report.main(["--check", *where]) == 0
    text = readme.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert text.count(report.NOT_YET) == len(report.ROWS)
    gathered(tmp_path)
    assert report.main(["--check", *where]) == 1
    readme.write_text("no markers")
    with pytest.raises(SystemExit, match="gpu table"):
        report.main(where)


# ---- processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("print('words'); print('{\"a\": 1}')", None),
        ("raise ValueError('no')", "ValueError: no"),
        ("print('words')", "printed no result"),
        ("raise SystemExit(3)", "exit code 3"),
        ("import time; print(1, flush=True); time.sleep(60)", "not done after 1 s"),
    ],
)
def test_a_contestant_apart(code, expected):
    found = common.apart(["-c", code], 20 if "sleep" not in code else 1)
    if expected is None:
        assert found["a"] == 1
        assert found["all_s"] > 0
    else:
        assert expected in found["failed"]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_gpu_sh_is_a_shell_script():
    subprocess.run(["bash", "-n", BENCH / "gpu.sh"], check=True)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script")
def test_gpu_sh_says_what_is_missing(tmp_path):
    def run(python: str) -> subprocess.CompletedProcess:
        environment = os.environ | {"PYTHON": python, "CUDA_VISIBLE_DEVICES": ""}
        command = ["bash", str(BENCH / "gpu.sh"), str(tmp_path)]
        return subprocess.run(command, capture_output=True, text=True, env=environment)

    nothing = run("false")
    assert nothing.returncode == 2
    assert "cannot import xpnet" in nothing.stderr
    no_gpu = run(sys.executable)
    assert no_gpu.returncode == 2
    assert "gpu.sh: the backend 'cupy' cannot be used" in no_gpu.stderr
    assert list(tmp_path.iterdir()) == []


# ---- the contestants ----------------------------------------------------------------------------

SIZES, ROWS = (784, 16, 8, 10), 3 * 32


@pytest.fixture
def batches(monkeypatch):
    """Pixels and labels for a small net; every contestant takes them in the same order."""
    monkeypatch.setattr(common, "SIZES", SIZES)
    monkeypatch.setattr(common, "BATCH", 32)
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (ROWS, 784)).astype(np.uint8)
    return X, rng.integers(0, 10, ROWS)


def after_three_epochs(batches) -> list[np.ndarray]:
    """Return the weights that xpnet gives, W and b in turn."""
    trainer = gpu_xpnet.make(xpnet.get_backend(), SIZES)
    trainer.fit(*batches, epochs=3, batch_size=32, shuffle=False)
    return [a for name, a in sorted(trainer.net.state_dict().items())]


@pytest.mark.parametrize("mode", ["eager", "eager-foreach", "compile", "compile-forward", "graph"])
@pytest.mark.filterwarnings("ignore")  # PyTorch's, while it compiles
def test_pytorch_trains_as_xpnet_does(batches, mode, monkeypatch):
    torch = pytest.importorskip("torch")
    gpu_torch = import_module("gpu_torch")

    monkeypatch.setattr(torch, "randperm", lambda n, device: torch.arange(n, device=device))
    start = common.weights(SIZES)
    peer = gpu_torch.Contestant(mode, "cpu", *batches, start, batch=32, lr=common.LR)
    peer.epoch()
    peer.restart(start)  # as if nothing had been
    rates = [common.LR] * 3 if mode == "eager" else None
    losses = [peer.epoch(rates) for _ in range(3)]
    assert losses[2] < losses[0]
    found = [p.detach().numpy() for layer in peer.loss.net[::2] for p in layer.parameters()]
    for ours, theirs in zip(after_three_epochs(batches), found, strict=True):
        np.testing.assert_allclose(theirs.T, ours, atol=2e-6)


@pytest.mark.parametrize("mode", ["scan", "scan-unrolled"])
def test_jax_trains_as_xpnet_does(batches, mode, monkeypatch):
    jax = pytest.importorskip("jax")
    gpu_jax = import_module("gpu_jax")

    monkeypatch.setattr(jax.random, "permutation", lambda key, n: np.arange(n))
    peer = gpu_jax.Contestant(mode, *batches)
    losses = [peer.epoch() for _ in range(3)]
    assert losses[2] < losses[0]
    found = [np.asarray(a) for layer in peer.state[0] for a in layer]
    for ours, theirs in zip(after_three_epochs(batches), found, strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-6)


@needs_mnist
@pytest.mark.parametrize("mode", gpu_xpnet.MODES)
def test_xpnet_as_a_contestant(mode, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_xpnet.py", mode, "--device", "cpu", "--quick"])
    gpu_xpnet.main()
    found = json.loads(capsys.readouterr().out)
    assert found["captures"] is False
    if mode == "reads":
        assert found["reads"] == 1


@needs_mnist
def test_the_comparison_and_the_time_to_accuracy(monkeypatch, capsys, tmp_path):
    """Without the peers, whose scripts take long to start."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: real(n) if n == "numpy" else None)
    out, rest = tmp_path / "out.json", ["--quick", "--out", str(tmp_path / "out.json")]
    monkeypatch.setattr(sys, "argv", ["peers.py", "--device", "cpu", "--only", "eager", *rest])
    assert peers.main() == 0
    found = json.loads(out.read_text())
    assert found["xpnet eager"]["steps"] == 4
    assert found["PyTorch eager"] == {"not_installed": "torch"}
    arguments = ["time_to_accuracy.py", "--backend", "numpy", "--seeds", "1", *rest]
    monkeypatch.setattr(sys, "argv", arguments)
    assert time_to_accuracy.main() == 0
    assert len(json.loads(out.read_text())["xpnet"]["accuracies"]) == 1
    assert "torch is not installed" in capsys.readouterr().out


def test_the_readme_has_the_table_of_what_trainings_and_files_survive():
    reliability = import_module("reliability")
    path = BENCH / "results" / "reliability.json"
    results = json.loads(path.read_text(encoding="utf-8"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for row in reliability.rows(results):
        assert f"| {' | '.join(row)} |\n" in readme
