"""What the command line says about options given twice, without effect, or misspelt."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import cupy_is
import numpy as np
import pytest

import xpnet
from xpnet.backend import registry
from xpnet.cli.words import spoken

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")
SHORT = "--epochs", "1", "--plots", "none"


def refused(done, words):
    """Check that a command was refused in one line, before it wrote anything."""
    (line,) = done.err.splitlines()
    assert (done.code, done.out) == (2, ""), done.err
    assert words in line
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train xor --epochs 3 --epochs 4", "--epochs is given twice: 3 and 4;"),
        ("train xor --epochs=3 --seed 1 --ep 4", "--epochs is given twice: 3 and 4;"),
        ("train xor --e 3 --epochs 3", "is given twice: 3 and 3;"),
        ("train --lr 1 xor --lr=2", "--lr is given twice: 1 and 2;"),
        ("train xor --processes 2 --processes 3", "--processes is given twice: 2 and 3;"),
        ("check --steps 1 --steps 2", "--steps is given twice: 1 and 2;"),
        ("report run --data-dir a --data-dir b", "--data-dir is given twice: a and b;"),
        ("check --problems xor,xor", "--problems: xor is there twice; got 'xor,xor'"),
        ("check --backends numpy,numba,numpy", "numpy is there twice"),
        ("train xor -lr 0.1", "unknown option -lr; did you mean --lr?"),
        ("train xor -hidden 3", "unknown option -hidden; did you mean --hidden?"),
        ("train xor --lr -1", "--lr: must be a positive number; got '-1'"),
        ("train xor --out=", "--out: must be a path; got ''"),
        ("train mnist --data-dir=", "--data-dir: must be a path; got ''"),
        ("check --html=", "--html: must be a path; got ''"),
        ("train xor --data-dir x", "--data-dir x: no files are read for xor; leave it out"),
        ("check --problems xor,spiral --data-dir x", "no files are read for xor, spiral;"),
        ("train xor --hidden 0 --activation tanh", "--activation tanh: it stands after each"),
    ],
)
def test_what_cannot_have_an_effect_is_refused(run, arguments, words):
    refused(run(*arguments.split()), words)


def test_what_says_the_same_or_more_may_stand_twice(run):
    Path("one.py").write_text("")
    Path("two.py").write_text("")
    files = "--extend", "one.py", "--extend", "two.py"
    done = run("train", "xor", *SHORT, "--quiet", "--quiet", *files)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_a_folder_of_data_for_a_run_without_files(run):
    assert run("train", "xor", *SHORT, "--out", "run").code == 0
    for arguments in (("report", "run"), ("train", "--resume", "run", "--epochs", "2")):
        done = run(*arguments, "--data-dir", "x")
        assert (done.code, done.out) == (2, "")
        assert "--data-dir x: no files are read for xor" in done.err


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--parallel", "--parallel has no effect: this is the only process"),
        ("--processes=1", "--processes 1 has no effect: one process"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [["train", "xor", *SHORT], ["check", "--problems=xor", "--backends=numpy", "--steps=1"]],
    ids=["train", "check"],
)
def test_one_process_shares_nothing(run, caplog, command, option, words):
    registry.say_once.cache_clear()
    assert run(*command, option).code == 0
    assert [r.message for r in caplog.records if words in r.message] != []
    caplog.clear()
    registry.say_once.cache_clear()
    if command[0] == "train":
        assert run(*command, option, "--quiet").code == 0
        assert caplog.records == []


def test_errors_name_options_of_the_command(run, monkeypatch):
    cupy_is.unusable(monkeypatch, "no GPU; run nvidia-smi, or use backend='numpy'")
    done = run("train", "xor", "--backend", "cupy")
    assert done.code == 1
    assert done.err.endswith("run nvidia-smi, or use --backend numpy\n")
    done = run("check", "--problems", "xor", "--steps", "1", "--require", "cupy")
    assert done.code == 1
    assert "run nvidia-smi, or use --backends numpy" in " ".join(done.out.split())
    assert spoken("backend='cuda:0'", "train") == "--backend cuda:0"


def test_no_gpu_is_one_short_line(run, monkeypatch, caplog):
    cupy_is.unusable(monkeypatch, "a long reason" * 10)
    monkeypatch.setattr(registry, "say_once", logging.getLogger("xpnet").warning)
    monkeypatch.delenv("XPNET_BACKEND", raising=False)
    assert run("train", "xor", *SHORT).code == 0
    (said,) = caplog.records
    assert said.message == "no GPU in use, computing with NumPy; xpnet info says why"


def test_enormous_numbers_are_short(run):
    options = "--optimizer", "momentum", "--lr", "1e9", "--epochs", "2", "--plots", "none"
    done = run("train", "curve", *options)
    assert done.code == 0
    assert max(map(len, done.out.splitlines())) < 100
    table = done.out.splitlines()[-5:-2]
    assert [len(line.split()) for line in table] == [3, 3, 3]  # columns have a space between


def test_a_row_of_an_epoch_without_a_number(capsys):
    """NaN and infinity, as a metric of a user's may give, stay words."""
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    odd = [
        xpnet.metrics.Metric(lambda Y, t: float("nan"), name="nan"),
        xpnet.metrics.Metric(lambda Y, t: -np.inf, name="inf"),
    ]
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=0.1), metrics=odd)
    X, t = np.zeros((4, 2)), np.full((4, 1), 1e3)
    bar = xpnet.ProgressBar(sys.stdout)
    trainer.fit(X, t, epochs=1, validation_data=(X, t), callbacks=[bar])
    row = capsys.readouterr().out
    assert "loss 1.0000e+06" in row
    assert "val_nan nan" in row
    assert "val_inf -inf" in row


def test_ctrl_c_within_an_epoch_names_the_step(run, monkeypatch):
    class AtStep(xpnet.Callback):
        def on_train_batch_end(self, batch, logs):
            if (self.trainer.epoch, batch) == (1, 2):
                raise KeyboardInterrupt

    fit = xpnet.Trainer.fit

    def stopped(self, *args, callbacks, **kwargs):
        return fit(self, *args, callbacks=[*callbacks, AtStep()], **kwargs)

    monkeypatch.setattr(xpnet.Trainer, "fit", stopped)
    done = run("train", "spiral", "--epochs", "3", "--plots", "none")
    assert done.code == 130
    assert "\nstopped by Ctrl-C after 1 epochs and 3 of 7 steps\n" in done.out
