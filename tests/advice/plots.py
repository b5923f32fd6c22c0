"""Advice about pictures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from advice import advice, refused, without
from xpnet.backend import say_once

NEEDS = "matplotlib is not installed"


@advice("run pip install matplotlib")
def _():
    pytest.importorskip("matplotlib", reason=NEEDS)
    from xpnet import plots

    with without("matplotlib", "matplotlib.font_manager"):
        with refused(xpnet.XpnetError, "run pip install matplotlib") as info:
            plots.loss_curve({"loss": [2.0, 1.0]})
        assert "xpnet train" not in str(info.value)
    plots.loss_curve({"loss": [2.0, 1.0]})  # with Matplotlib it draws


@advice("remove the file matplotlibrc of this folder if there is one, or {}{}")
def _():
    pytest.importorskip("matplotlib", reason=NEEDS)
    code = "from xpnet.plots.drawing import require_matplotlib; require_matplotlib()"
    command, settings = [sys.executable, "-c", code], Path("matplotlibrc")
    settings.write_bytes(b"\xff\xfe\0bad")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "remove the file matplotlibrc of this folder if there is one" in done.stderr
    settings.unlink()
    subprocess.run(command, check=True)


@advice("the pictures that scikit-learn draws are left out, as it cannot be imported ({}); run pip")
def _(run, caplog):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    pytest.importorskip("matplotlib", reason=NEEDS)
    from xpnet.runs.report import pictures

    def draw(ax):
        from sklearn.metrics import ConfusionMatrixDisplay

        ConfusionMatrixDisplay(np.eye(2)).plot(ax=ax)

    say_once.cache_clear()
    with without("sklearn.metrics"):
        assert pictures._drawn(draw) is None
    assert "; run pip install scikit-learn" in caplog.text
    assert pictures._drawn(draw) is not None


@advice("the labels and outputs have {}; count the pairs that occur")
def _():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    plots = pytest.importorskip("xpnet.plots", reason=NEEDS)
    net = xpnet.Sequential(xpnet.Linear(2, 5000), backend="numpy")
    X, t = np.ones((9, 2)), np.arange(9)
    with refused(xpnet.DataError, "count the pairs that occur") as info:
        plots.confusion(net, X, t)
    code = str(info.value).partition("count the pairs that occur, ")[2]
    pairs, counts = eval(code, {"numpy": np, "net": net, "X": X, "t": t})
    assert pairs[0].tolist() == t.tolist()
    assert counts.tolist() == [1] * 9


@advice("the shape of a sample is not known: {} has seen none yet; call net.predict(X) first")
def _():
    plots = pytest.importorskip("xpnet.plots", reason=NEEDS)
    net = xpnet.Sequential(xpnet.ReLU(), backend="numpy")
    with refused(xpnet.OptionError, "has seen none yet; call net.predict(X) first"):
        plots.network(net)
    net.predict(np.ones((2, 3)))
    plots.network(net)


@advice("{} needs a Recorder that has been in a training: trainer.fit(..., callbacks=[recorder])")
def _():
    pytest.importorskip("matplotlib", reason=NEEDS)
    from xpnet import plots

    net, recorder = xpnet.Sequential(xpnet.Linear(2, 2)), xpnet.Recorder()
    trainer, X = xpnet.Trainer(net, "softmax_cross_entropy"), np.eye(2)
    with refused(xpnet.OptionError, "training: trainer.fit(..., callbacks=[recorder])"):
        plots.gradient_flow(recorder, X, [0, 1])
    trainer.fit(X, [0, 1], epochs=2, callbacks=[recorder])
    plots.gradient_flow(recorder, X, [0, 1])


@advice("the history is empty: trainer.fit(...) writes it")
def _():
    pytest.importorskip("matplotlib", reason=NEEDS)
    from xpnet import plots

    trainer = xpnet.Trainer(xpnet.Sequential(xpnet.Linear(2, 2)), "mse")
    with refused(xpnet.OptionError, "the history is empty: trainer.fit(...) writes it"):
        plots.loss_curve(trainer.history)
    trainer.fit(np.eye(2), np.eye(2), epochs=2)
    plots.loss_curve(trainer.history)
