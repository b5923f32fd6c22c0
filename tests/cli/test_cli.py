"""The command line: what it prints, what it leaves in the folder, and how it says no."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cupy_is
import numpy as np
import pytest
from command import exit_code

import xpnet
import xpnet.cli.info
from xpnet import golden
from xpnet.backend import find_backend, registry
from xpnet.backend.registry import KINDS
from xpnet.cli import main
from xpnet.data import write_idx
from xpnet.runs.problems import PROBLEMS, build

ROOT = Path(xpnet.__file__).parents[1]
FILES_WITHOUT_PLOTS = {
    "checkpoints", "config.json", "environment.json", "log.jsonl", "results.json", "weights.npz",
}  # fmt: skip
NUMBERS = {"problem", "backend", "epochs", "train_loss", "test_loss", "seconds", "weights_sha256"}


pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


@pytest.fixture
def train(run):
    """Train with --json and without pictures, which must go well; returns the results."""

    def train(*arguments):
        done = run("train", *arguments, "--plots", "none", "--json")
        assert done.code == 0, done.err
        assert len(done.out.splitlines()) == 1
        return json.loads(done.out, parse_constant=pytest.fail)

    return train


def started(*command, **environment):
    """Start a fresh interpreter that finds this xpnet, installed or not."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", **environment},
        preexec_fn=_heed_ctrl_c if os.name == "posix" else None,
    )


def _heed_ctrl_c():
    """Undo what a shell does to jobs in its background, which ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def folder():
    """Return the one folder in runs/."""
    (only,) = Path("runs").iterdir()
    return only


def contents(name, where=None):
    return json.loads(((where or folder()) / name).read_text(encoding="utf-8"))


def log(where=None):
    lines = ((where or folder()) / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def closing(text):
    """Return the table of the end: what is written for the test and the training data, by name."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split() == ["test", "train"])
    assert len({len(line) for line in lines[start : start + 2]}) == 1  # right under its name
    end = next(i for i, line in enumerate(lines) if re.match(r"\d+\.\d s|stopped", line))
    return {name: numbers for name, *numbers in map(str.split, lines[start + 1 : end])}


def weights(where=None):
    with np.load((where or folder()) / "weights.npz") as file:
        return {name: file[name] for name in file.files if name != "about"}


def says(done, code, *parts):
    """Check that a command failed with one line of error, and nothing else but usage."""
    last = done.err.splitlines()[-1]
    assert done.code == code, done.err
    assert [part for part in parts if part not in last] == [], last
    assert "error: " in last
    assert "Traceback" not in done.err
    assert code == 2 or len(done.err.splitlines()) == 1, done.err


# ---- training ---------------------------------------------------------------------------------


def test_digits_are_the_default(run):
    done = run("train", "--epochs", 2, "--plots", "none")
    assert (done.code, done.err) == (0, "")
    rows = [line for line in done.out.splitlines() if line.startswith("epoch ")]
    assert [row.split("  ")[0] for row in rows] == ["epoch 1/2", "epoch 2/2"]
    assert all(" loss " in row and " val_accuracy 0." in row for row in rows)
    results, config = contents("results.json"), contents("config.json")
    assert results["problem"] == config["problem"] == "digits"
    assert results["test_accuracy"] > 0.9
    assert closing(done.out) == {
        "loss": [f"{results['test_loss']:.4g}", f"{results['train_loss']:.4g}"],
        "accuracy": [f"{results['test_accuracy']:.2%}", f"{results['train_accuracy']:.2%}"],
    }
    assert f"\n{results['seconds']:.1f} s\n" in done.out
    assert done.out.splitlines()[-1] == f"results in {folder()}"
    assert "1437 samples" in done.out
    assert "360 to test" in done.out
    assert "17,226 parameters" in done.out
    assert f"val_accuracy {results['test_accuracy']:.4f}" in rows[-1]  # of the same weights


@pytest.mark.parametrize("problem", sorted(PROBLEMS.keys() - {"mnist"}))
@pytest.mark.parametrize("epochs", [1, 2, 5])
def test_every_problem(train, problem, epochs):
    results = train(problem, "--epochs", epochs)
    kind = "rmse" if problem in ("curve", "surface") else "accuracy"
    assert NUMBERS | {f"train_{kind}", f"test_{kind}"} <= results.keys()
    assert results["problem"] == problem
    assert results["backend"] == "numpy"
    assert results["epochs"] == epochs == len(log())
    assert results == contents("results.json")
    assert {p.name for p in folder().iterdir()} == FILES_WITHOUT_PLOTS


def test_json_leaves_standard_output_to_the_results(run):
    done = run("train", "curve", "--epochs", 5, "--json", "--plots", "none")
    results = json.loads(done.out)
    assert set(json.loads(done.out)) == NUMBERS | {
        "train_rmse", "test_rmse", "train_r2", "test_r2", "parameters",
    }  # fmt: skip
    assert len([line for line in done.err.splitlines() if line.startswith("epoch")]) == 5
    assert closing(done.err) == {
        name: [f"{results[f'{part}_{name}']:.4g}" for part in ("test", "train")]
        for name in ("loss", "rmse", "r2")
    }
    assert done.err.splitlines()[-1] == f"results in {folder()}"
    assert "report" not in done.err


def test_many_epochs_print_about_twenty_rows_and_the_last(run):
    out = run("train", "and", "--epochs", 110, "--plots", "none").out
    rows = re.findall(r"^epoch +(\d+)/110 ", out, re.M)
    assert rows == [str(n) for n in (*range(5, 111, 5),)]
    assert len(log()) == 110


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_hash_is_that_of_the_weights(train, dtype):
    results, arrays = train("spiral", "--epochs", 2, "--dtype", dtype), weights()
    assert list(arrays) == ["0.W", "0.b", "2.W", "2.b", "4.W", "4.b"]
    assert {a.dtype for a in arrays.values()} == {np.dtype(dtype)}
    assert arrays["2.W"].shape == (64, 64)
    little = [a.astype(a.dtype.newbyteorder("<")).tobytes() for a in arrays.values()]
    assert hashlib.sha256(b"".join(little)).hexdigest() == results["weights_sha256"]
    assert sum(a.size for a in arrays.values()) == results["parameters"]


def test_the_results_are_those_of_the_weights(train):
    results, problem = train("curve", "--epochs", 5, "--seed", 3), PROBLEMS["curve"]
    split = problem.load(3, None)
    trainer = build(problem, split, dtype="float32", seed=3, backend="numpy")
    assert trainer.seed == trainer.net.seed == 3
    trainer.net.load_state_dict(weights())
    assert trainer.net.sha256() == results["weights_sha256"]
    for part, data in (("train", split.train), ("test", split.test)):
        for name, value in trainer.evaluate(*data).items():
            assert results[f"{part}_{name}"] == pytest.approx(value, rel=1e-6), (part, name)


def test_the_seed_decides(train):
    hashes = [
        train("digits", "--epochs", 1, "--seed", seed, "--out", f"{i}")["weights_sha256"]
        for i, seed in enumerate([0, 0, 1])
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert contents("config.json", Path("2"))["seed"] == 1


def test_config_has_all_that_is_needed_to_repeat(train):
    results = train(
        "spiral", "--epochs", 3, "--hidden", "5,4", "--activation", "tanh", "--loss", "bce",
        "--optimizer", "momentum", "--lr", "0.125", "--batch-size", 100, "--seed", 9,
        "--dtype", "float64",
    )  # fmt: skip
    config = contents("config.json")
    assert config["network"] == [
        "Linear(2, 5)", "Tanh()", "Linear(5, 4)", "Tanh()", "Linear(4, 1)", "Sigmoid()",
    ]  # fmt: skip
    expected = {
        "problem": "spiral", "epochs": 3, "hidden": [5, 4], "activation": "tanh", "loss": "bce",
        "optimizer": "momentum", "lr": 0.125, "batch_size": 100, "seed": 9, "dtype": "float64",
        "one_cycle": False, "backend": "numpy", "xpnet": xpnet.__version__,
        "parameters": results["parameters"], "init": "he_uniform", "samples": [400, 400],
        "data_dir": None,
    }  # fmt: skip
    assert {name: config[name] for name in expected} == expected
    assert results["parameters"] == 2 * 5 + 5 + 5 * 4 + 4 + 4 + 1


def test_the_environment_is_that_of_the_training(train, monkeypatch):
    """The GPU is in it where it was used, and xpnet and the backend are in the configuration."""
    monkeypatch.setattr("xpnet.cli.info._gpu", lambda problems: {"GPU": "a GPU"})
    train("and", "--epochs", 1)
    found, software = contents("environment.json"), xpnet.cli.info.environment(gpu=False)
    assert list(found) == [
        *("Python", "NumPy", "BLAS", "processors", "Numba", "scikit-learn", "MPI"),
    ]
    assert found == software
    assert found["NumPy"] == np.__version__ == contents("config.json")["numpy"]
    assert xpnet.cli.info.environment(gpu=True) == software | {"GPU": "a GPU"}


def test_reproducible_by_option_and_by_environment(train, monkeypatch):
    """Both are the mode, say so, and give other bits than ordinary float32."""
    arguments = "digits", "--epochs", 2, "--out"
    ordinary, option = train(*arguments, "a"), train(*arguments, "b", "--reproducible")
    monkeypatch.setenv("XPNET_REPRODUCIBLE", "1")
    environment = train(*arguments, "c")
    modes = [contents("config.json", Path(where))["reproducible"] for where in "abc"]
    assert modes == [False, True, True]
    assert option["weights_sha256"] == environment["weights_sha256"] != ordinary["weights_sha256"]
    assert abs(option["test_loss"] - ordinary["test_loss"]) < 1e-3


def test_reproducible_is_said_and_takes_float32_only(run):
    done = run("train", "and", "--epochs", 1, "--reproducible", "--plots", "none")
    assert "backend numpy, reproducible" in done.out
    done = run("train", "and", "--reproducible", "--dtype", "float64")
    assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
    assert "reproducible mode takes networks of float32; got float64" in done.err


def test_the_recipe_is_that_of_the_problem(train):
    train("digits", "--epochs", 1)
    config, problem = contents("config.json"), PROBLEMS["digits"]
    for name in ("activation", "loss", "optimizer", "lr", "batch_size", "one_cycle"):
        assert config[name] == getattr(problem, name), name
    assert config["hidden"] == list(problem.hidden)
    assert (config["seed"], config["dtype"]) == (0, "float32")


@pytest.mark.parametrize(
    ("options", "lr", "one_cycle"),
    [
        ([], 0.01, True),
        (["--lr", "0.5"], 0.5, False),  # meant as it stands
        (["--optimizer", "sgd"], 0.1, False),  # another optimizer needs another rate
        (["--optimizer", "sgd", "--lr", "0.01"], 0.01, False),
        (["--optimizer", "adam"], 0.01, True),  # is what it was
    ],
)
def test_the_learning_rate_fits_the_optimizer(train, options, lr, one_cycle):
    train("curve", "--epochs", 10, *options)
    config = contents("config.json")
    assert (config["lr"], config["one_cycle"]) == (lr, one_cycle)


def test_full_batches_and_no_hidden_layers(train):
    train("spiral", "--epochs", 2, "--batch-size", "full", "--hidden", 0)
    config = contents("config.json")
    assert config["batch_size"] == "full"
    assert config["network"] == ["Linear(2, 1)"]


@pytest.mark.parametrize("epochs", [1, 2, 3, 9, 10])
def test_a_training_may_be_too_short_for_a_cycle(train, epochs):
    assert train("curve", "--epochs", epochs)["epochs"] == epochs
    assert contents("config.json")["one_cycle"] is (epochs >= 10)


# ---- the folder -------------------------------------------------------------------------------


def test_an_unused_folder_is_found(train, monkeypatch):
    monkeypatch.setattr(time, "strftime", lambda form: "20260102-030405")
    for _ in range(3):
        train("and", "--epochs", 1)
    names = ["and-20260102-030405", "and-20260102-030405-2", "and-20260102-030405-3"]
    assert sorted(os.listdir("runs")) == names


def test_the_default_folder_has_problem_and_time(train):
    train("xor", "--epochs", 1)
    assert re.fullmatch(r"xor-\d{8}-\d{6}", folder().name)


def test_out_makes_the_folders_above_it(train):
    train("and", "--epochs", 1, "--out", "a/b")
    assert len(log(Path("a/b"))) == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize("out", ["taken", "taken/below"])
def test_out_that_cannot_be_written(run, out):
    Path("taken").write_text("a file")
    done = run("train", "and", "--epochs", 1, "--out", out)
    says(done, 1, "cannot write to the folder taken", "--out DIR")
    assert done.out == ""  # before any training
    assert Path("taken").read_text() == "a file"


def fail(*arguments):
    raise RuntimeError


def test_a_second_run_leaves_nothing_of_the_first(run):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnet.training.trainer.Trainer._run_epoch", fail)
        with pytest.raises(RuntimeError):
            run("train", "curve", "--epochs", 5, "--out", "here")
    done = run(
        "train", "curve", "--optimizer", "sgd", "--lr", "1e38", "--epochs", 9, "--out", "here",
        "--plots", "none",
    )  # fmt: skip
    assert done.code == 1
    assert set(os.listdir("here")) == FILES_WITHOUT_PLOTS - {"results.json", "weights.npz"}
    assert os.listdir("here/checkpoints") == []
    assert contents("config.json", Path("here"))["epochs"] == 9


# ---- mistakes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["digitz"], ["unknown problem 'digitz'", "did you mean 'digits'", "spiral"]),
        (["--loss", "mes"], ["--loss", "unknown loss 'mes'", "did you mean 'mse'", "huber"]),
        (["--optimizer", "adm"], ["--optimizer", "'adm'", "did you mean 'adam'", "nesterov"]),
        (["--activation", "rulu"], ["--activation", "'rulu'", "did you mean 'relu'", "gelu"]),
        (["--dtype", "float16"], ["--dtype", "'float16'", "did you mean 'float", "float32"]),
        (["--backend", "numpi"], ["--backend", "'numpi'", "did you mean 'numpy'", "cupy"]),
        (["--backend", "cuda:x"], ["--backend", "'cuda:x'", "did you mean 'cuda'"]),
        (["--epochs", "-1"], ["--epochs", "1 or more; got '-1'"]),
        (["--epochs", "0"], ["--epochs", "1 or more; got '0'"]),
        (["--epochs", "x"], ["--epochs", "1 or more; got 'x'"]),
        (["--epochs", "1.5"], ["--epochs", "whole number", "got '1.5'"]),
        (["--batch-size", "0"], ["--batch-size", "1 or more; got '0'"]),
        (["--batch-size", "all"], ["--batch-size", "1 or more; got 'all'"]),
        (["--hidden", "64,x"], ["--hidden", "1 or more; got 'x'"]),
        (["--hidden", "64,0"], ["--hidden", "1 or more; got '0'"]),
        (["--hidden", ""], ["--hidden", "1 or more; got ''"]),
        (["--lr", "0"], ["--lr", "positive number; got '0'"]),
        (["--lr", "nan"], ["--lr", "positive number; got 'nan'"]),
        (["--lr", "inf"], ["--lr", "positive number; got 'inf'"]),
        (["--lr=-1"], ["--lr", "positive number; got '-1'"]),
        (["--lr", "fast"], ["--lr", "positive number; got 'fast'"]),
        (["--seed", "-1"], ["--seed", "0 or more; got '-1'"]),
        (["--seed", "x"], ["--seed", "0 or more; got 'x'"]),
        (["--speed=1"], ["unknown option --speed"]),
        (["--plots", "some"], ["--plots", "unknown choice 'some'", "choose from all, none"]),
        (["and", "xor"], ["unrecognized arguments: xor"]),
    ],
    ids=" ".join,
)
def test_usage_errors(run, arguments, parts):
    done = run("train", *arguments)
    says(done, 2, *parts)
    assert done.out == ""
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("problem", "loss", "kind", "fitting"),
    [
        ("curve", "bce", "a regression", "mse, huber"),
        ("spiral", "cross_entropy", "two classes", "bce_logits, bce, mse, huber"),
        ("digits", "mse", "10 classes", "softmax_cross_entropy, cross_entropy"),
    ],
)
def test_a_loss_that_does_not_fit(run, problem, loss, kind, fitting):
    done = run("train", problem, "--loss", loss)
    says(done, 2, f"the loss '{loss}' does not fit {kind}; choose from {fitting}")
    assert done.out == ""


@pytest.mark.parametrize("loss", ["bce_logits", "bce", "mse", "huber"])
def test_losses_that_fit(train, loss):
    assert train("xor", "--loss", loss, "--epochs", 1)["epochs"] == 1
    end = contents("config.json")["network"][-1]
    assert end == ("Linear(3, 1)" if loss == "bce_logits" else "Sigmoid()")


def test_probabilities_for_the_loss_that_wants_them(train):
    train("digits", "--loss", "cross_entropy", "--epochs", 1)
    assert contents("config.json")["network"][-1] == "Softmax()"


@pytest.mark.parametrize(
    "arguments", [["curve", "--loss", "bce"], ["mnist", "--data-dir", "nowhere"]], ids=" ".join
)
def test_a_training_that_never_starts_leaves_no_folder(run, arguments):
    assert run("train", *arguments).code in (1, 2)
    assert not Path("runs").exists()


@pytest.mark.parametrize("json_option", [[], ["--json"]])
def test_divergence(run, json_option):
    done = run(
        "train", "curve", "--loss", "mse", "--optimizer", "sgd", "--lr", "1e30",
        "--activation", "relu", "--batch-size", 50, "--epochs", 9, *json_option,
    )  # fmt: skip
    assert done.code == 1
    last = done.err.splitlines()[-1]
    where = r"in step 2 of epoch 1: .* not finite is that of layer 2, Linear\(32, 32\)"
    assert re.search(
        rf"error: the loss became (inf|nan) {where}; lower the learning rate \(now", last
    )
    assert last.endswith(f"; the training until then is in {folder() / 'report.html'}")
    assert (folder() / "report.html").exists()
    assert "Traceback" not in done.err
    assert "results" not in done.out
    assert json_option == [] or done.out == ""


@pytest.mark.parametrize("epochs", [1, 2])
def test_divergence_in_the_last_step_of_an_epoch(run, epochs):
    """Nobody warns, no Infinity gets into the JSON, and weights that are worth nothing fail."""
    options = "--lr", "1e40", "--epochs", epochs, "--plots", "none", "--json"
    done = run("train", "curve", "--optimizer", "sgd", *options)
    assert done.code == 1
    assert done.out == ""
    assert "report" not in done.err
    assert not (folder() / "report.html").exists()
    assert re.search(r"error: .* (inf|nan)", done.err.splitlines()[-1])


def raising(error):
    def load(seed, data_dir):
        raise error

    return load


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "xpnet: interrupted"),
        (MemoryError(), 1, "xpnet: error: out of memory"),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
        (xpnet.DataError("broken file"), 1, "xpnet: error: broken file"),
        (xpnet.OptionError("wrong option"), 2, "xpnet: error: wrong option"),
    ],
)
def test_every_error_is_one_line(run, monkeypatch, error, code, line):
    monkeypatch.setitem(PROBLEMS, "and", replace(PROBLEMS["and"], load=raising(error)))
    done = run("train", "and")
    assert done.code == code
    assert len(done.err.splitlines()) == 1
    assert line in done.err


def test_a_bug_is_not_hidden(run, monkeypatch):
    monkeypatch.setitem(PROBLEMS, "and", replace(PROBLEMS["and"], load=raising(KeyError("bug"))))
    with pytest.raises(KeyError, match="bug"):
        run("train", "and")


# ---- backends ---------------------------------------------------------------------------------


@pytest.fixture
def no_gpu(monkeypatch):
    cupy_is.unusable(monkeypatch, "the reason; the way out")


def test_cupy_that_cannot_be_used(run, no_gpu):
    done = run("train", "and", "--backend", "cupy")
    says(done, 1, "'cupy' cannot be used: the reason; the way out")
    assert done.out == ""
    assert not Path("runs").exists()


def test_auto_is_the_default_and_says_what_it_does(run, no_gpu, monkeypatch, caplog):
    monkeypatch.delenv("XPNET_BACKEND")
    monkeypatch.setattr(registry, "say_once", logging.getLogger("xpnet").warning)
    assert run("train", "and", "--epochs", 1, "--plots", "none").code == 0
    assert contents("config.json")["backend"] == "numpy"
    assert [record.message for record in caplog.records] == [
        "no GPU in use, computing with NumPy; xpnet info says why"
    ]


@pytest.mark.parametrize(
    ("value", "reason"), [("numpi", "did you mean 'numpy'"), ("cupy", "the reason; the way out")]
)
def test_the_environment_variable_is_named(run, no_gpu, monkeypatch, value, reason):
    monkeypatch.setenv("XPNET_BACKEND", value)
    says(run("train", "and", "--epochs", 1), 1, "XPNET_BACKEND", repr(value), reason)


@pytest.mark.parametrize("value", ["numpi", "cupy", " ", ""])
def test_an_option_is_stronger_than_the_environment(train, no_gpu, monkeypatch, value):
    monkeypatch.setenv("XPNET_BACKEND", value)
    for problem in ("and", "curve", "digits"):
        assert train(problem, "--epochs", 5, "--backend", "cpu", "--out", problem)["epochs"] == 5


def test_an_empty_environment_variable_is_none(train, no_gpu, monkeypatch):
    monkeypatch.setenv("XPNET_BACKEND", " ")
    assert train("and", "--epochs", 1)["backend"] == "numpy"


def test_the_default_backend_is_what_it_was(train):
    own = xpnet.set_backend(type(find_backend("numpy"))())
    train("and", "--epochs", 1)
    assert xpnet.get_backend() is own


# ---- mnist ------------------------------------------------------------------------------------

FILES = [
    f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
]


@pytest.fixture
def idx_files(tmp_path):
    """Three classes of images of 5 x 4 pixels: the class is the row that is bright."""
    where = tmp_path / "idx"
    for name, n in zip(FILES, (60, 60, 12, 12), strict=True):
        t = np.arange(n) % 3
        X = np.full((n, 5, 4), 20, np.uint8)
        X[np.arange(n), t] = 250
        write_idx(where / name, X if "images" in name else t.astype(np.uint8))
    return where


def test_images_of_your_own(train, idx_files):
    results = train("mnist", "--data-dir", idx_files, "--batch-size", 8, "--epochs", 10)
    network = contents("config.json")["network"]
    assert (network[0], network[-1]) == ("Linear(20, 64)", "Linear(32, 3)")
    assert results["test_accuracy"] == results["train_accuracy"] == 1.0


def test_the_recipe_of_mnist(train, idx_files):
    assert train("mnist", "--data-dir", idx_files)["epochs"] == PROBLEMS["mnist"].epochs


def test_missing_files_are_listed(run, idx_files):
    (idx_files / FILES[1]).unlink()
    (idx_files / FILES[2]).unlink()
    done = run("train", "mnist", "--data-dir", idx_files)
    says(done, 1, f"{idx_files} lacks {FILES[1]}, {FILES[2]} (looked in", "--data-dir")
    assert done.out == ""


# ---- check ------------------------------------------------------------------------------------


def test_check_tells_as_it_goes_and_in_the_end(run, no_gpu):
    done = run("check", "--problems", "xor, spiral", "--steps", 2)
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    heads = [line.strip("- ") for line in lines if line.startswith("-- ")]
    assert heads == [recipe.name for recipe in golden.RECIPES[:4]]
    assert sum(line.startswith("agree      golden  ") for line in lines) == 4
    assert "cupy: not run: the backend 'cupy' cannot be used: the reason; the way out" in lines
    assert lines[-2].startswith("last verified on: ")
    assert lines[-1] == "all that ran agrees"
    assert max(map(len, lines)) <= 100


def test_check_fails_without_what_is_required(run, no_gpu):
    done = run("check", "--problems", "xor", "--steps", 1, "--require", "cupy")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[-1] == "all that ran agrees; cupy was required and not run"


def test_check_fails_where_something_differs(run, monkeypatch):
    right = xpnet.Sigmoid.backward
    monkeypatch.setattr(
        xpnet.Sigmoid, "backward", lambda self, dY: right(self, dY * np.float32(1.01))
    )
    done = run("check", "--problems", "xor", "--backends", "numpy", "--steps", 1)
    assert (done.code, done.err) == (1, "")
    assert "DIFFER     NOT GOLDEN  xor: 2-8-1 sigmoid" in done.out
    assert done.out.splitlines()[-1] == "NOT all agrees"


def test_check_without_mnist(run, tmp_path):
    done = run("check", "--problems", "mnist", "--backends", "numpy", "--data-dir", tmp_path)
    assert (done.code, done.err) == (1, "")
    assert f"mnist: not run: {tmp_path} lacks {FILES[0]}" in " ".join(done.out.split())
    assert done.out.splitlines()[-1] == "nothing was checked"


def test_check_wants_mnist_itself(run, idx_files):
    done = run("check", "--problems", "mnist", "--backends", "numpy", "--data-dir", idx_files)
    assert (done.code, done.err) == (1, "")
    assert "mnist: not run: images of 20 pixels, but those of MNIST itself have 784" in done.out


def test_check_in_json_leaves_standard_output_to_it(run, no_gpu):
    done = run("check", "--problems", "xor", "--steps", 2, "--json")
    (line,) = done.out.splitlines()
    found = json.loads(line, parse_constant=pytest.fail)
    assert done.code == 0
    assert (found["ok"], found["steps"]) == (True, 2)
    assert list(found["not_run"]) == ["cupy"]
    assert found["machine"]["xpnet"] == xpnet.__version__
    assert [recipe["name"] for recipe in found["recipes"]] == [r.name for r in golden.RECIPES[:2]]
    for recipe in found["recipes"]:
        training = recipe["trainings"]["numpy"]
        assert training["golden"] is True
        assert re.fullmatch("[0-9a-f]{64}", training["weights"])
        assert training["weights"] in done.err
    assert done.err.splitlines()[-1] == "all that ran agrees"


def test_check_writes_a_page(run):
    done = run(
        "check", "--problems", "xor", "--backends", "numpy", "--steps", 1, "--html", "a.html"
    )
    assert done.code == 0
    assert os.listdir(".") == ["a.html"]
    html = Path("a.html").read_text(encoding="utf-8")
    assert "✓ all that ran agrees" in html
    assert all(recipe.name in html for recipe in golden.RECIPES[:2])


@pytest.mark.parametrize("where", ["nowhere/a.html", "taken/a.html", "here"])
def test_a_page_that_cannot_be_written_is_told_before_any_work(run, where):
    Path("taken").write_text("a file")
    Path("here").mkdir()
    done = run("check", "--problems", "xor", "--html", where)
    says(done, 2, f"--html: cannot write {where}", "choose another file")
    assert done.out == ""
    assert sorted(os.listdir(".")) == ["here", "taken"]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--problems", "xor,spirl"], ["--problems", "'spirl'", "did you mean 'spiral'"]),
        (["--problems", "curve"], ["--problems", "'curve'", "digits, mnist, spiral, xor"]),
        (["--problems", ""], ["--problems", "unknown problem ''"]),
        (["--backends", "numpy,numpi"], ["--backends", "'numpi'", "did you mean 'numpy'"]),
        (["--require", "cuppy"], ["--require", "'cuppy'", "did you mean 'cupy'"]),
        (["--steps", "0"], ["--steps", "1 or more; got '0'"]),
        (["xor"], ["unrecognized arguments: xor"]),
    ],
    ids=" ".join,
)
def test_usage_errors_of_check(run, arguments, parts):
    done = run("check", *arguments)
    says(done, 2, *parts)
    assert done.out == ""


def test_check_knows_all_golden_problems(run):
    """They are written down again where the options are, which does not import them."""
    assert f"default {','.join(golden.PROBLEM_NAMES)}" in " ".join(
        run("check", "--help").out.split()
    )


# ---- info, help, and the ways in ----------------------------------------------------------------


def test_info(run, no_gpu, monkeypatch):
    monkeypatch.setattr("xpnet.cli.info.why_no_cupy", lambda device=0: "the reason; the way out")
    done = run("info")
    rows = dict(
        re.split(r"\s{2,}", line, maxsplit=1) for line in done.out.splitlines() if "  " in line
    )
    assert (done.code, done.err) == (0, "")
    assert rows["xpnet"] == xpnet.__version__
    assert rows["NumPy"] == np.__version__
    assert rows["Python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert re.search(r"\d+ threads", rows["BLAS"])
    assert int(rows["processors"]) >= 1
    assert re.match(r"\d+\.\d+", rows["scikit-learn"])
    assert rows["backend"] == "numpy"
    assert "MNIST" in rows
    assert "the reason; the way out" in done.out
    assert "GPU" in rows


@pytest.mark.parametrize(
    ("version", "reason", "problem"),
    [("0.68.1", "", False), ("not installed", "Numba: why", False), ("0.60", "Numba: why", True)],
)
def test_info_names_numba(run, monkeypatch, version, reason, problem):
    monkeypatch.setattr("xpnet.cli.info._installed", lambda name: version)
    monkeypatch.setattr("xpnet.cli.info.why_no_numba", lambda: reason)
    done = run("info")
    assert done.code == 0
    assert re.search(rf"^Numba +{re.escape(version)}$", done.out, re.M)
    assert ("problem: Numba: why" in done.out) is problem


def test_info_names_mpi_and_nccl(run, monkeypatch):
    """By what is installed: to ask them would start them."""
    versions = {"mpi4py": "4.1.2", "openmpi": "5.0.11", "nvidia-nccl-cu12": "2.27.7"}
    monkeypatch.setattr(
        "xpnet.cli.info._installed", lambda name: versions.get(name, "not installed")
    )
    monkeypatch.setattr(
        "xpnet.cli.info.distributions", lambda: [SimpleNamespace(name="cupy-cuda12x")]
    )
    described = replace(KINDS["cupy"], describe=lambda: {"CuPy": "14.2.0"})
    monkeypatch.setitem(KINDS, "cupy", described)
    monkeypatch.setattr("xpnet.cli.info.why_no_cupy", lambda: "")
    lines = run("info").out
    assert re.search(r"^MPI +mpi4py 4\.1\.2, openmpi 5\.0\.11$", lines, re.M)
    assert re.search(r"^NCCL +nvidia-nccl-cu12 2\.27\.7$", lines, re.M)
    versions.clear()
    assert re.search(r"^MPI +not installed$", run("info").out, re.M)


@pytest.mark.parametrize(
    ("kernels", "simd", "said"),
    [
        ("Haswell", ["X86_V3", "X86_V4"], True),
        ("Haswell", ["AVX2", "AVX512F", "AVX512_SKX"], True),
        ("Haswell", ["X86_V3"], False),
        ("SkylakeX", ["X86_V3", "X86_V4"], False),
    ],
)
def test_info_says_how_openblas_may_be_faster(run, monkeypatch, kernels, simd, said):
    pool = {"user_api": "blas", "internal_api": "openblas", "version": "0.3", "num_threads": 2}
    pools = [pool | {"architecture": kernels}]
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: pools)
    config = {"SIMD Extensions": {"found": simd}}
    monkeypatch.setattr(np, "show_config", lambda mode: config)
    done = run("info")
    assert f"openblas 0.3, 2 threads ({kernels})" in done.out
    sentence = f"problem: OpenBLAS uses its {kernels} kernels, without the AVX-512"
    assert (sentence in done.out and "OPENBLAS_CORETYPE=SkylakeX" in done.out) is said


def test_info_finds_the_data_folder(run, idx_files, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(idx_files))
    assert re.search(rf"^MNIST +{re.escape(str(idx_files))}$", run("info").out, re.M)
    (idx_files / FILES[0]).unlink()
    assert str(idx_files) not in run("info").out


def test_info_names_what_is_wrong(run, monkeypatch):
    monkeypatch.setenv("XPNET_BACKEND", "numpi")
    done = run("info")
    assert done.code == 0
    assert re.search(r"^problem: .*XPNET_BACKEND.*'numpi'; did you mean 'numpy'", done.out, re.M)
    assert re.search(r"^backend +none$", done.out, re.M)


@pytest.mark.parametrize("installed", [[], ["cupy-cuda12x"], ["cupy-cuda12x", "cupy-cuda13x"]])
def test_info_bears_any_state_of_cupy(run, monkeypatch, installed):
    """Above all a CuPy that is installed and does not import."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    for name in ("cupy_device", "on_cupy", "cupy_probe"):
        monkeypatch.delitem(sys.modules, f"xpnet.backend.{name}", raising=False)
        monkeypatch.setattr(xpnet.backend, name, None, raising=False)
    monkeypatch.setattr("xpnet.cli.info.why_no_cupy", lambda device=0: "CuPy does not import")
    found = [SimpleNamespace(name=name) for name in installed]
    monkeypatch.setattr("xpnet.cli.info.distributions", lambda: found)
    done = run("info")
    assert done.code == 0
    assert "CuPy does not import" in done.out
    assert ("problem: CuPy does not import" in done.out) is bool(installed)
    assert ("cupy-cuda12x and cupy-cuda13x share" in done.out) is (len(installed) == 2)


@pytest.mark.parametrize(
    ("part", "row"),
    [
        ("_blas", "BLAS"),
        ("_processors", "processors"),
        ("_numba", "Numba"),
        ("_installed", "scikit-learn"),
        ("_which", "MPI"),
        ("_backend", "backend"),
        ("_mnist", "MNIST"),
        ("platform.platform", "Python"),
        ("distributions", None),
    ],
)
def test_no_row_of_info_ends_the_report(run, monkeypatch, part, row):
    def fail(*args):
        raise RuntimeError("it is\nbroken")

    monkeypatch.setattr(f"xpnet.cli.info.{part}", fail)
    done = run("info")
    assert (done.code, done.err) == (0, "")
    found = dict(
        re.split("  +", line, maxsplit=1) for line in done.out.splitlines() if "  " in line
    )
    assert {"Python", "BLAS", "GPU", "backend", "MNIST"} <= found.keys()
    if row:
        assert found[row] == "unknown (RuntimeError: it is broken)"
    else:
        sentence = "problem: the installed packages cannot be listed (RuntimeError: it is broken)"
        assert sentence in done.out


def test_version(run):
    done = run("--version")
    assert (done.code, done.out) == (0, f"xpnet {xpnet.__version__}\n")


def test_help_lists_everything(run):
    done = run("train", "--help")
    assert done.code == 0
    for name, problem in PROBLEMS.items():
        assert re.search(rf"^  {name} +{re.escape(problem.summary)}$", done.out, re.M)
        assert f"{problem.optimizer} lr {problem.lr:g}" in done.out
    options = "--data-dir", "--plots", "--quiet"
    for name in ("leaky_relu", "softmax_cross_entropy", "nesterov", "float64", *options):
        assert name in done.out
    top = run("--help")
    assert top.code == 0
    assert re.search(r"^ +info ", top.out, re.M)
    assert re.search(r"^ +train ", top.out, re.M)
    assert re.search(r"^ +check ", top.out, re.M)
    assert re.search(r"^ +report ", top.out, re.M)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["inf", "--x"], "unknown command 'inf'; did you mean info?"),
        (["train", "--optimiser", "adam"], "unknown option --optimiser; did you mean --optimizer?"),
        (["check", "--problem=xor", "--backend", "x", "--bits"], "unknown option --bits"),
        (["info", "x"], "unrecognized arguments: x"),
    ],
)
def test_no_command(run, arguments, part):
    done = run(*arguments)
    says(done, 2, part)
    assert len(done.err.splitlines()) == 1
    assert done.out == ""


def test_without_a_command_there_is_the_help(run):
    assert run() == run("--help")


@pytest.mark.thorough
def test_nothing_needs_more_than_ascii(monkeypatch):
    """As where the output goes to a file in the encoding of an old terminal."""
    check = ["check", "--problems", "spiral", "--steps", "1", "--html", "a.html"]
    for arguments in (["train", "curve", "--epochs", "5"], ["info"], ["train", "--help"], check):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
        assert exit_code(*arguments) == 0


def test_python_m_xpnet():
    arguments = "train", "and", "--epochs", "1", "--plots", "none", "--json"
    process = started("-m", "xpnet", *arguments)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["problem"] == "and"
    assert "Warning" not in err
    process = started("-m", "xpnet", "train", "nonsense")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert "unknown problem 'nonsense'" in err


def test_the_installed_command():
    """What pip makes of the entry point: sys.exit(main())."""
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("there is no pyproject.toml beside this xpnet")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, function = project["scripts"]["xpnet"].split(":")
    assert getattr(importlib.import_module(module), function) is main
    program = f"import sys; from {module} import {function}; sys.exit({function}())"
    process = started("-c", program, "train", "and", "--epochs", "1", "--out", "/dev/null/x")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("xpnet: error: cannot write to the folder")


# ---- Ctrl-C -----------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c():
    process = started("-m", "xpnet", "train", "spiral", "--epochs", "100000", "--out", "here")
    file, deadline = Path("here/log.jsonl"), time.monotonic() + 60
    while not (file.exists() and file.read_text().count("\n")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert err == ""
    results, rows = contents("results.json", Path("here")), log(Path("here"))
    assert 1 <= results["epochs"] < 100000
    assert [row["epoch"] for row in rows] == [*range(1, results["epochs"] + 1)]
    assert f"stopped by Ctrl-C after {results['epochs']} epochs" in out
    assert f"report in {Path('here/report.html')}\nresults in here\n" in out
    page = Path("here/report.html").read_text(encoding="utf-8")
    assert f"stopped by Ctrl-C after {results['epochs']:,} of 100,000 epochs" in page
    parameters = b"".join(a.astype("<f4").tobytes() for a in weights(Path("here")).values())
    assert hashlib.sha256(parameters).hexdigest() == results["weights_sha256"]


def test_ctrl_c_before_the_first_epoch_is_done(run, monkeypatch):
    def fit(self, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(xpnet.Trainer, "fit", fit)
    done = run("train", "and", "--json")
    assert done.code == 130
    assert (folder() / "report.html").exists()
    assert json.loads(done.out)["epochs"] == 0
    assert contents("results.json")["epochs"] == 0
    assert "stopped by Ctrl-C after 0 epochs" in done.err
