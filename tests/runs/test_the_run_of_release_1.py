"""The run folder of version 0.1.0 in ``tests/saved/run-1``, which every later version has to read.

`xpnet train spiral --reproducible --hidden 8 --epochs 6 --batch-size 100` has left it, with the
checkpoint after step 20 of 24. In reproducible mode the bits are the same on every machine.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import exit_code

import xpnet
from xpnet.runs.saved import read_run

SAVED = Path(__file__).parents[1] / "saved" / "run-1"
RESULTS = json.loads((SAVED / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path):
    """A copy that may be changed."""
    return Path(shutil.copytree(SAVED, tmp_path / "run"))


def test_its_network_and_its_moments_are_read():
    run = read_run(SAVED)
    assert run.problem.hidden == (8,)
    assert len(run.log) == 6
    recorder = run.recorder(run.load())
    assert recorder.epochs[0] == 0
    assert recorder.epochs[-1] == 6
    net = xpnet.load(SAVED / "weights.npz", backend="numpy")
    assert net.sha256() == RESULTS["weights_sha256"]
    assert np.array_equal(recorder.network(len(recorder.epochs) - 1).params, net.params)


def test_its_training_goes_on_to_the_same_bits(folder):
    for name in ("results.json", "weights.npz"):
        (folder / name).unlink()
    assert exit_code("train", "--resume", folder, "--plots", "none", "--quiet") == 0
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert found.keys() == RESULTS.keys()
    for name, value in RESULTS.items():
        if name.endswith("loss"):  # release 1 summed it in float32
            assert found[name] == pytest.approx(value, rel=1e-6), name
        elif name != "seconds":
            assert found[name] == value, name


def test_its_report_is_made_again(folder):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed, which draws")
    assert exit_code("report", folder) == 0
    assert "Linear(2, 8)" in (folder / "report.html").read_text(encoding="utf-8")
