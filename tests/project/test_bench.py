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

ROOT = Path(__file__).parents[2]
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


CHECK = {"ok": True, "recipes": {}, "not_run": {}, "steps": 200}
TRAINED = {"warm_s": {"median": 0.05}, "accuracies": [0.981] * 10, "reached": 10}
SPEED = {
    "xpnet": contestant(25),
    "xpnet whole": contestant(26),
    "xpnet straight": contestant(28),
    "xpnet products": {"share": {"median": 0.9}, "step_s": {"median": 0.01}},
    "xpnet launches": {"launches": {"1": contestant(30), "4": contestant(26)}},
}
PEERS = {
    "PyTorch eager": contestant(300),
    "PyTorch compile": {"failed": "a\nRuntimeError: no|luck"},
    "PyTorch graph by hand": contestant(50),
    "JAX scan": {"not_installed": "jax"},
}
MODES = {
    "xpnet eager": contestant(500),
    "xpnet reproducible": contestant(60),
    "xpnet reads": {"reads": 1, "others": "none"},
}
REST = {
    "PyTorch eager, foreach": contestant(250),
    "PyTorch compile, Adam eager": contestant(100),
    "JAX scan, unrolled": {"not_installed": "jax"},
}


def stage(call: int, **data) -> dict:
    return {"call": call, "status": "passed", "seconds": 1.0, "limit": 9, **data}


def passed(n: int, skipped: int = 0) -> dict:
    totals = {"passed": n, "failed": 0, "skipped": skipped, "seconds": 1.0}
    return {"kinds": {}, "failures": [], "totals": totals}


def results(call: int, **changes) -> dict:
    """Return what bench/gpu.sh leaves of a call where everything works."""
    stages = {
        "golden": stage(1, check=CHECK),
        "captured": stage(1, tests=passed(33)),
        "speed": stage(1, contestants=SPEED),
        "tests": stage(1, tests=passed(123)),
        "peers": stage(1, contestants=PEERS),
        "accuracy": stage(1, accuracy={"xpnet": TRAINED, "PyTorch graph": TRAINED}),
        "reductions": stage(1, tests=passed(4, skipped=1)),
        "modes": stage(2, contestants=MODES),
        "parallel": stage(2, tests=passed(24)),
        "check": stage(2, check=CHECK),
        "check-plain": stage(2, check=CHECK),
        "peers-rest": stage(2, contestants=REST),
    } | changes
    return {
        "device": {
            "GPU": "Some GPU",
            "CuPy": "14.2.0",
            "driver": "supports CUDA 13.0",
            "CuPy pool": "1 MiB",
        },
        "commit": "abc",
        "date": "2026-01-01",
        "rehearsal": False,
        "stages": {name: one for name, one in stages.items() if one and one["call"] == call},
    }


def gathered(folder: Path, **changes) -> dict:
    """Return the JSON that gpu_report makes of both calls."""
    folders = [folder / "one", folder / "two"]
    for call, one in enumerate(folders, 1):
        one.mkdir(exist_ok=True)
        (one / "results.json").write_text(json.dumps(results(call, **changes)), "utf-8")
    (folders[1] / "check.html").write_text("<html>")
    noted = folder / "verified.json"
    if not noted.exists():
        noted.write_text("[]")
    path = gpu_report.gather(folders, folder, noted)
    assert path.name == "gpu-some-gpu.json"
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
        "0.050 s, 10 of 10 reach it; PyTorch graph 0.050 s",
        "0.900 (10.00 ms a step) **missed**",
        "2.99 s",
        "2.40x (60 µs)",
        "1",
        "500 µs",
        "28 µs",
        "30, 26 µs",
        "golden: agrees; check: agrees; check-plain: agrees; tests: 160 passed, 0 failed, 1 "
        "skipped; several processes: 24 passed, 0 failed, 0 skipped",
    ]
    assert (tmp_path / "gpu-some-gpu.html").read_text() == "<html>"
    assert "| Some GPU |" in report.table([found])
    assert "Some GPU: CuPy 14.2.0, driver supports CUDA 13.0, 2026-01-01." in report.table([found])
    assert found["stages"]["check"]["commit"] == "abc"


def test_a_fast_wrong_answer_does_not_count(tmp_path):
    speed = SPEED | {"xpnet": contestant(25, accuracy=0.9)}
    found = gathered(tmp_path, speed=stage(1, contestants=speed))
    assert cells(found)[0].endswith("**missed**")


def test_a_peer_that_learns_nothing_is_not_the_fastest(tmp_path):
    rest = REST | {"PyTorch eager, foreach": contestant(1, accuracy=0.1)}
    graph = PEERS | {"PyTorch graph by hand": contestant(1, accuracy=0.1)}
    found = gathered(
        tmp_path, peers=stage(1, contestants=graph), **{"peers-rest": stage(2, contestants=rest)}
    )
    assert cells(found)[0].startswith("12.00x")
    assert cells(found)[2] == "learns too little (10.0% right)"


def failed(call: int, reason: str, **data) -> dict:
    return stage(call, reason=reason, last_lines="one\ntwo", **data) | {"status": "failed"}


def test_stages_that_fail_leave_their_reason(tmp_path):
    bad = passed(122)
    bad["totals"]["failed"] = 1
    found = gathered(
        tmp_path,
        speed=failed(1, "not done after 120 s"),
        accuracy=failed(1, "exit code 1"),
        tests=failed(1, "exit code 1", tests=bad),
        parallel=None,
        check=failed(2, "not done after 100 s"),
        golden=failed(1, "exit code 1", check=CHECK | {"ok": False}),
    )
    shown = cells(found)
    assert shown[0] == "failed: not done after 120 s"
    assert shown[5] == "failed: exit code 1"
    assert shown[-1] == (
        "golden: does not agree; check: did not come to its end; check-plain: agrees; tests: 159 "
        "passed, 1 failed, 1 skipped; several processes: not yet run **missed**"
    )
    assert (tmp_path / "verified.json").read_text() == "[]"
    found["stages"]["golden"] = stage(1, check=CHECK)
    found["stages"]["check"] = stage(2, check=CHECK)
    found["stages"].pop("tests")
    assert report.measured(report.agreement, found)[1] is None
    assert "37 passed, 0 failed, 1 skipped, not all were run" in cells(found)[-1]


def test_checks_of_two_commits_verify_nothing(monkeypatch):
    monkeypatch.setattr(gpu_report, "PROBLEM_NAMES", ["xor"])
    both = [{"golden": stage(1, check=WHOLE)}, {"check": stage(2, check=WHOLE)}]
    for commit, expected in (("abc", True), ("def", False)):
        parts = [
            results(1, golden=None, check=None) | {"commit": one, "stages": stages}
            for one, stages in zip(("abc", commit), both, strict=True)
        ]
        assert gpu_report.verified(gpu_report.merged(parts)) is expected


def test_a_contestant_that_fails_leaves_its_reason(tmp_path):
    speed = SPEED | {
        "xpnet": contestant(25) | {"warnings": ["the step could not be captured"]},
        "xpnet whole": {"failed": "Traceback\nValueError: a|b"},
    }
    modes = {name: found for name, found in MODES.items() if name != "xpnet reads"}
    found = gathered(tmp_path, speed=stage(1, contestants=speed), modes=stage(2, contestants=modes))
    assert cells(found)[4] == "failed: ValueError: a/b"
    assert cells(found)[7] == "failed: the step could not be captured"
    assert cells(found)[9] == "not yet run"


# ---- what is verified, and what is refused -------------------------------------------------------

WHOLE = CHECK | {"recipes": {"xor: a net": {"trainings": {"cupy": {"golden": True}}}}}


@pytest.mark.parametrize(
    ("change", "noted"),
    [
        ({}, True),
        ({"check-plain": None}, True),
        ({"check-plain": stage(2, check=WHOLE | {"ok": False})}, False),
        ({"golden": None}, False),
        ({"golden": stage(1, check=WHOLE | {"ok": False})}, False),
        ({"check": None}, False),
        ({"check": stage(2, check=WHOLE | {"steps": 199})}, False),
        ({"check": stage(2, check=CHECK)}, False),
        ({"check": failed(2, "not done after 100 s")}, False),
    ],
)
def test_a_device_joins_the_verified_ones_if_all_agreed(tmp_path, monkeypatch, change, noted):
    monkeypatch.setattr(gpu_report, "PROBLEM_NAMES", ["xor"])
    every = {name: stage(call, check=WHOLE) for name, call in (("golden", 1), ("check", 2))}
    for _ in range(2):  # once is enough
        found = gathered(tmp_path, **every | change)
    entries = json.loads((tmp_path / "verified.json").read_text())
    wanted = {
        "CuPy": "14.2.0",
        "driver": "supports CUDA 13.0",
        "GPU": "Some GPU",
        "date": "2026-01-01",
    }
    assert entries == [wanted] * noted
    said = report.sentence([found], entries)
    assert ("agrees to the bit" in said) == noted
    assert said.startswith("**Run on Some GPU** (2026-01-01): ")
    assert "agrees to the bit" not in report.sentence([found], [])
    if not change:
        assert said.endswith("; aims reached: 8 of 10.")


def test_results_that_do_not_belong_here_are_refused(tmp_path):
    def refused(sentence: str, *folders: Path) -> None:
        with pytest.raises(report.RefusedError, match=sentence):
            gpu_report.gather(list(folders), tmp_path, tmp_path / "verified.json")

    gathered(tmp_path)
    one, two, missing = tmp_path / "one", tmp_path / "two", tmp_path / "missing"
    refused("cannot read .*missing.* name a folder that bench/gpu.sh wrote", one, missing)
    (two / "results.json").write_text(json.dumps(results(2) | {"rehearsal": True}))
    refused("two has the results of a rehearsal; name a folder with those of a GPU", one, two)
    (two / "results.json").write_text(json.dumps(results(2) | {"device": {"GPU": "Other"}}))
    refused(r"of several devices \(Other, Some GPU\)", one, two)
    (two / "results.json").write_text("[]")
    refused("is damaged or not from bench/gpu.sh", two)


# ---- the README ----------------------------------------------------------------------------------


def test_the_readme_has_the_present_table(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().err


def test_a_readme_that_is_out_of_date(tmp_path, capsys):
    readme, noted = tmp_path / "README.md", tmp_path / "verified.json"
    markers = "\nold\n".join([*report.SENTENCE, *report.TABLE])
    readme.write_text(f"before\n{markers}\nafter\n")
    noted.write_text("[]")
    where = ["--results", str(tmp_path), "--readme", str(readme), "--verified", str(noted)]
    assert report.main(["--check", *where]) == 1
    assert "out of date" in capsys.readouterr().err
    assert report.main(where) == 0
    assert report.main(["--check", *where]) == 0
    text = readme.read_text("utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert text.count(report.NOT_YET) == len(report.ROWS)
    assert "**No GPU has run xpnet yet**" in text
    gathered(tmp_path)
    assert report.main(["--check", *where]) == 1
    assert gpu_report.main([str(tmp_path / "one"), *where]) == 0
    assert report.main(["--check", *where]) == 0
    assert "**Run on Some GPU**" in readme.read_text("utf-8")
    readme.write_text("no markers")
    before = sorted(tmp_path.iterdir())
    for main, words in ((report.main, []), (gpu_report.main, [str(tmp_path / "two")])):
        (tmp_path / "gpu-some-gpu.json").unlink(missing_ok=True)
        assert main([*words, *where]) == 2
        assert "the README needs the lines <!-- gpu sentence" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [p for p in before if p.name != "gpu-some-gpu.json"]


# ---- processes ----------------------------------------------------------------------------------


@pytest.mark.thorough(but=["print('words')-printed no result"])
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
@pytest.mark.parametrize("name", ["gpu.sh", "gpu_pack.sh"])
def test_the_scripts_are_shell_scripts(name):
    subprocess.run(["bash", "-n", BENCH / name], check=True)


def test_a_contestant_spins_after_its_cold_epoch(monkeypatch):
    done = []
    found = common.race(lambda: len(done.append("epoch") or done), lambda: None, 4, True,
                        lambda: done.append("spin"))  # fmt: skip
    assert done == ["epoch", "spin", *["epoch"] * 3]
    assert found["loss"] == 5
    assert found["warm_s"]["rounds"] == common.QUICK_ROUNDS
    monkeypatch.setattr(common, "SPIN", 0.01)
    common.spin(lambda: done.append("product"), lambda: done.append("wait"))
    assert done.count("product") == 8 * done.count("wait") > 0
    monkeypatch.setattr(common, "REHEARSAL", True)
    done.clear()
    common.spin(lambda: done.append("product"), lambda: None)
    assert done == []


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


@pytest.mark.thorough(but=["eager", "graph"])
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


@pytest.mark.thorough(but=["captured"])
@needs_mnist
@pytest.mark.parametrize("mode", gpu_xpnet.MODES)
def test_xpnet_as_a_contestant(mode, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu_xpnet.py", mode, "--device", "cpu", "--quick"])
    gpu_xpnet.main()
    found = json.loads(capsys.readouterr().out)
    assert found["captures"] is False
    if mode == "reads":
        assert found["reads"] == 1


@pytest.mark.thorough
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
    arguments += ["--names", "xpnet,PyTorch graph"]
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
