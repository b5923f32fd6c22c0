"""Layers, losses and optimizers of a user's own: by name in Python and on the command line."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from command import exit_code
from test_parallel import begun, ended

import xpnet
from xpnet import layers
from xpnet.cli.extend import files_to_run
from xpnet.cli.train import how_to_resume
from xpnet.layers import ACTIVATIONS, LAYERS
from xpnet.losses import LOSSES, find_loss
from xpnet.optimizers import OPTIMIZERS, default_learning_rate, find_optimizer
from xpnet.runs.saved import read_run
from xpnet.training.checkpoint import find_checkpoints

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder", "_tables")

# The file that the documentation shows.
PAGE = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
(MINE,) = [block for block in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "register" in block]
FILE, HERE = "my_parts.py", Path("here")
OPTIONS = ["--optimizer", "lion", "--activation", "swish", "--loss", "log_cosh"]
SPIRAL = ["spiral", *OPTIONS, "--extend", FILE, "--epochs", 4, "--plots", "none"]


TABLES = (ACTIVATIONS, LAYERS, LOSSES, OPTIMIZERS)
OF_THE_LIBRARY = [dict(table) for table in TABLES]


def forget():
    """Leave the tables as in a fresh process."""
    for table, names in zip(TABLES, OF_THE_LIBRARY, strict=True):
        table.clear()
        table.update(names)


@pytest.fixture
def _tables():
    """Put the user's file into the folder of the test, and undo what it and the option do."""
    Path(FILE).write_text(MINE, encoding="utf-8")
    path = sys.path.copy()
    yield
    sys.path[:] = path
    forget()


def config(folder=HERE):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def results(folder=HERE):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


# ---- in Python ----------------------------------------------------------------------------------


def test_the_class_itself_comes_back_and_has_a_name():
    class Doubled(xpnet.ReLU):
        pass

    assert xpnet.register(Doubled) is Doubled
    assert (LAYERS["Doubled"], ACTIVATIONS["doubled"]) == (Doubled, Doubled)

    @xpnet.register(name="other")
    class Other(xpnet.MeanSquaredError):
        pass

    assert type(find_loss("other")) is Other
    net = xpnet.Sequential(xpnet.Linear(2, 1))

    @xpnet.register
    class Slow(xpnet.SGD):
        def __init__(self, net, lr=0.001, **options):
            super().__init__(net, lr, **options)

    trainer = xpnet.Trainer(net, "other", "slow")
    assert type(trainer.optimizer) is Slow
    assert trainer.optimizer.lr == default_learning_rate("slow") == 0.001


def test_a_layer_with_arguments_is_no_activation_and_is_loaded():
    @xpnet.register
    class Shift(xpnet.Layer):
        """Y = X + b"""

        def __init__(self, n):
            super().__init__()
            self.n = n
            self.parameter("b", (n,), "normal")

        def forward(self, X):
            return X + self.b

        def backward(self, dY):
            self.db[...] = dY.sum(axis=0)
            return dY

    assert "shift" not in ACTIVATIONS
    net = xpnet.Sequential(xpnet.Linear(2, 3), Shift(3), xpnet.Linear(3, 1))
    net.save("net.npz")
    again, X = xpnet.load("net.npz"), np.ones((4, 2), np.float32)
    np.testing.assert_array_equal(again.predict(X), net.predict(X))
    del LAYERS["Shift"]
    with pytest.raises(xpnet.CheckpointError, match="unknown layer 'Shift'"):
        xpnet.load("net.npz")


def test_a_class_that_is_defined_again_takes_its_place():
    """As by running the cell of a notebook a second time."""

    def define():
        @xpnet.register
        class Cell(xpnet.ReLU):
            pass

        return Cell

    first, second = define(), define()
    assert first is not second
    assert LAYERS["Cell"] is ACTIVATIONS["cell"] is second


class Linear(xpnet.ReLU):
    """It has the name of another layer."""


class Huber(xpnet.MeanSquaredError):
    """It has the name of another loss."""


class Weighted(xpnet.Loss):
    """It cannot be made without arguments."""

    def __init__(self, weight):
        super().__init__()


class Shift(xpnet.Layer):
    """It cannot be made without arguments."""

    def __init__(self, n):
        super().__init__()


class NoRate(xpnet.Optimizer):
    """It has no learning rate that has a name."""

    def __init__(self, net, eta):
        super().__init__(net, eta)


class Nothing(xpnet.Layer):
    """It says that it is a layer, and no more."""


class NoForward(xpnet.Layer):
    """It has one half."""

    def backward(self, dY):
        return dY


class Activation(NoForward):
    """It has both halves."""

    def forward(self, X):
        return X


class NoSlope(xpnet.Loss):
    """It has a value and no slope."""

    def elements(self, Y, T, out):
        self.xp.copyto(out, Y)


class NoUpdate(xpnet.Optimizer):
    """It has a learning rate and no use for it."""


@dataclass
class Other:
    """Nothing of a network."""


@pytest.mark.parametrize(
    ("thing", "name", "words"),
    [
        (3, None, "takes a subclass of .*; got 3, which is not a class"),
        ("swish", None, "got 'swish', which is not a class"),
        (xpnet.ReLU(), None, r"got ReLU\(\), which is not a class"),
        (Other, None, "takes a subclass of .*Other"),
        (xpnet.Layer, None, "got Layer"),
        (xpnet.Sequential, None, "got Sequential"),
        (Linear, None, "'Linear' of .*is taken: xpnet has a layer of that name; rename the class"),
        (Huber, None, r"'huber' of .*is taken: xpnet has a loss.*register\(\.\.\., name="),
        (Weighted, None, "made without arguments: give each argument of Weighted.__init__ a def"),
        (
            Shift,
            "shift",
            "Shift needs arguments, so it cannot be the activation 'shift'; leave out",
        ),
        (NoForward, None, "NoForward does not define forward"),
        (Nothing, None, "Nothing does not define forward and backward"),
        (NoSlope, None, "NoSlope does not define slope"),
        (NoUpdate, None, "NoUpdate does not define update"),
        (Activation, "identity", "xpnet has an activation of that name"),
        (NoRate, None, r"made as NoRate\(net, lr=0\.01\): its __init__ needs an argument lr"),
        (Huber, "two words", "letters, digits and _, as swish2; got 'two words'"),
        (Huber, "", "got ''"),
        (Huber, 3, "got 3"),
    ],
)
def test_what_cannot_be_registered(thing, name, words):
    with pytest.raises(xpnet.OptionError, match=words):
        xpnet.register(thing, name)
    assert list(TABLES) == OF_THE_LIBRARY


def test_a_class_may_define_what_calls_the_missing_method():
    class Whole(xpnet.Loss):
        def forward(self, Y, t, sample_weight=None):
            return Y

        def backward(self):
            return self.Y

    class Descends(xpnet.Optimizer):
        def descend(self):
            pass

    assert xpnet.register(Whole) is Whole
    assert xpnet.register(Descends) is Descends


def test_a_class_that_extends_one_of_another_file_leaves_it_in_the_table():
    class Noisy(xpnet.Linear):
        pass

    assert Noisy in xpnet.Linear.__subclasses__()
    assert layers._found() == OF_THE_LIBRARY[1]


def test_a_name_of_another_class_of_the_users():
    xpnet.register(Huber, "mine")

    class Second(xpnet.MeanSquaredError):
        pass

    with pytest.raises(xpnet.OptionError, match=r"test_register\.Huber has a loss of that name"):
        xpnet.register(Second, "mine")


class Bare(xpnet.SGD):
    """Its learning rate has no default."""

    def __init__(self, net, lr):
        super().__init__(net, lr)


def test_an_optimizer_without_a_default_learning_rate():
    xpnet.register(Bare)
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    assert find_optimizer("bare", net, lr=0.5).lr == 0.5
    for make in (lambda: find_optimizer("bare", net), lambda: xpnet.Trainer(net, "mse", "bare")):
        with pytest.raises(xpnet.OptionError, match=r"'bare' has no default learning rate.* --lr "):
            make()


def test_the_default_learning_rates_are_those_of_the_classes():
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    for name in OPTIMIZERS:
        assert default_learning_rate(name) == find_optimizer(name, net).lr
    with pytest.raises(xpnet.OptionError, match="unknown optimizer 'adma'; did you mean 'adam'"):
        default_learning_rate("adma")


# ---- on the command line ------------------------------------------------------------------------


def test_a_training_with_parts_of_the_users(run):
    done = run("train", *SPIRAL, "--out", HERE)
    assert (done.code, done.err) == (0, "")
    assert "log_cosh, lion (lr 0.002), batch 64" in done.out
    found = config()
    assert found["network"][1::2] == ["Swish()", "Swish()", "Sigmoid()"]
    assert {name: found[name] for name in ("activation", "loss", "optimizer", "lr")} == {
        "activation": "swish", "loss": "log_cosh", "optimizer": "lion", "lr": 0.002,
    }  # fmt: skip
    assert FILE not in (HERE / "config.json").read_text(encoding="utf-8")  # it names no code
    net = xpnet.load(HERE / "weights.npz")
    assert repr(net[1]) == "Swish()"
    assert net.sha256() == results()["weights_sha256"]
    assert xpnet.load(find_checkpoints(HERE / "checkpoints")[-1]).sha256() == net.sha256()


def test_the_command_of_the_page(run):
    (line,) = re.findall(r"^\$ xpnet (train .*--extend.*)$", PAGE, re.M)
    assert run(*shlex.split(line), "--epochs", 1, "--plots", "none", "--out", HERE).code == 0
    assert config()["optimizer"] == "lion"


def test_the_option_may_stand_anywhere_and_be_shortened():
    for order in (
        ["--extend", FILE, *OPTIONS],
        [*OPTIONS, f"--extend={FILE}"],
        [*OPTIONS, "--ext", FILE],
    ):
        forget()
        assert exit_code("train", "and", "--epochs", 1, "--plots", "none", *order) == 0
    assert files_to_run(["train", "--ex=a", "--extend", "b", "--epochs", "3"]) == ["a", "b"]
    assert files_to_run(["train", "--", "--extend", "b"]) == []
    assert files_to_run(["train", "--extend"]) == []
    assert files_to_run(["train", "--extend=", "--extend", ""]) == ["", ""]
    assert exit_code("train", "and", "--e", 1, "--plots", "none") == 0  # as in 0.1: --epochs


def test_the_help_lists_them(run):
    done = run("train", "--extend", FILE, "--help")
    assert done.code == 0
    assert all(name in done.out for name in ("swish", "log_cosh", "lion"))


def test_a_run_goes_on_and_ends_the_same(run):
    """The state vectors of the optimizer are in the checkpoint."""
    whole = Path("whole")
    assert run("train", *SPIRAL, "--out", whole).code == 0
    fit, calls = xpnet.Trainer._launch, []

    def stop(self):
        fit(self)
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xpnet.Trainer, "_launch", stop)
        done = run("train", *SPIRAL, "--out", HERE)
    assert done.code == 130
    assert f"xpnet train --resume {HERE} --extend {FILE} goes on with it" in done.out
    assert how_to_resume(Path("a run"), ["my parts.py", "b.py"]) == (
        "xpnet train --resume 'a run' --extend 'my parts.py' --extend b.py goes on with it"
    )
    forget()
    done = run("train", "--resume", HERE, "--plots", "none")
    assert done.code == 1
    assert done.err.startswith(f"xpnet: error: {HERE / 'config.json'}: unknown activation 'swish'")
    assert "add --extend FILE, the Python file that registers it" in done.err
    assert len(done.err.splitlines()) == 1
    done = run("train", "--resume", HERE, "--plots", "none", "--extend", FILE)
    assert (done.code, done.err) == (0, "")
    assert results()["weights_sha256"] == results(whole)["weights_sha256"]


@pytest.mark.thorough
def test_the_report_needs_the_file_again(run):
    assert run("train", *SPIRAL[:-1], "all", "--out", HERE).code == 0
    assert (HERE / "report.html").exists()
    forget()
    done = run("report", HERE)
    assert (done.code, done.out) == (1, "")
    assert "unknown activation 'swish'" in done.err
    done = run("report", HERE, "--extend", FILE)
    assert (done.code, done.err) == (0, "")
    found = read_run(HERE)
    assert found.recorder(found.load()).epochs[-1] == 4


@pytest.mark.thorough
@pytest.mark.parametrize("how", ["--processes", "--parallel"])
def test_several_processes(mpi, how):
    if how == "--processes":
        words = [sys.executable, "-m", "xpnet", "train", *SPIRAL, "--processes", 2]
    else:
        from xpnet.parallel.launch import start

        words = [*start(2), "-m", "xpnet", "train", *SPIRAL, "--parallel"]
    done = ended(begun([str(word) for word in [*words, "--out", HERE]]))
    assert (done.code, done.err) == (0, "")
    assert (results()["processes"], config()["optimizer"]) == (2, "lion")


MISTAKES = {
    "missing": (None, "there is no such file; give the path of a Python file"),
    "syntax": ("x = 1\nclass A(:\n", "SyntaxError: invalid syntax"),
    "raises": ("x = 1\n\ny = x / 0\n", ", line 3: ZeroDivisionError: division by zero"),
    "exits": ("import sys\nsys.exit(3)\n", ", line 2: SystemExit: 3"),
    "imports": ("import nowhere_to_be_found\n", ", line 1: ModuleNotFoundError: No module named"),
    "registers": (
        "import xpnet\nxpnet.register(xpnet.Layer)\n",
        ", line 2: register takes a layer, a loss or an optimizer; got Layer",
    ),
    "binary": ("\0\0", "null bytes"),
}


@pytest.mark.parametrize("name", MISTAKES)
@pytest.mark.parametrize("more", [[], ["--processes", "2"]], ids=["one", "two"])
def test_a_file_that_cannot_be_run(run, name, more):
    text, words = MISTAKES[name]
    path = Path("wrong") / "file.py"
    path.parent.mkdir()
    if text is not None:
        path.write_text(text, encoding="utf-8")
    done = run("train", "and", "--extend", path, "--optimizer", "lion", *more)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"xpnet: error: --extend {path}")
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert not Path("runs").exists()


def test_the_file_imports_what_lies_beside_it(run):
    folder = Path("parts")
    folder.mkdir()
    (folder / "activations_of_mine.py").write_text(MINE, encoding="utf-8")
    (folder / "all_parts.py").write_text("import activations_of_mine\n", encoding="utf-8")
    options = [*OPTIONS, "--extend", folder / "all_parts.py", "--epochs", 1, "--plots", "none"]
    done = run("train", "spiral", *options, "--out", HERE)
    assert (done.code, done.err) == (0, "")
    assert config()["activation"] == "swish"
    del sys.modules["activations_of_mine"]


def test_a_run_on_a_backend_that_is_not_known(run):
    assert run("train", "and", "--epochs", 1, "--plots", "none", "--out", HERE).code == 0
    known = config()
    (HERE / "config.json").write_text(json.dumps(known | {"backend": "mine"}), encoding="utf-8")
    done = run("train", "--resume", HERE)
    assert (done.code, done.out) == (1, "")
    assert "unknown backend 'mine'; choose from auto, cpu, " in done.err
    assert "one of your own is known with --extend FILE" in done.err


@pytest.mark.parametrize(("path", "shown"), [("folder", "folder"), ("", "''")])
def test_what_is_no_file_is_not_run(run, path, shown):
    Path("folder").mkdir()
    done = run("train", "and", "--extend", path)
    assert (done.code, done.err.splitlines()) == (
        2, [f"xpnet: error: --extend {shown}: there is no such file; give the path of a Python "
            "file of yours"],
    )  # fmt: skip


def test_a_learning_rate_that_the_command_line_has_to_give(run):
    Path("bare.py").write_text(
        "import xpnet\n"
        "@xpnet.register\n"
        "class Bare(xpnet.SGD):\n"
        "    def __init__(self, net, lr):\n"
        "        super().__init__(net, lr)\n"
        "@xpnet.register\n"
        "class Falling(xpnet.SGD):\n"
        "    def __init__(self, net, lr=xpnet.schedules.Exponential(0.1, 0.9)):\n"
        "        super().__init__(net, lr)\n"
    )
    for rate in ("0", "'0.1'", "(0.1, 0.2)", "float('nan')"):
        Path("rate.py").write_text(
            "import xpnet\n"
            "@xpnet.register\n"
            "class Rate(xpnet.SGD):\n"
            f"    def __init__(self, net, lr={rate}):\n"
            "        super().__init__(net, 0.1)\n"
        )
        done = run("train", "and", "--extend", "rate.py", "--optimizer", "rate")
        assert (done.code, done.out, len(done.err.splitlines())) == (2, "", 1)
        assert "error: the default learning rate of 'rate' must be " in done.err
    for name, words in (
        ("bare", "the optimizer 'bare' has no default learning rate; give one: "),
        ("falling", "the default learning rate of 'falling' is a schedule"),
    ):
        start = ["train", "and", "--extend", "bare.py", "--epochs", 1, "--plots", "none"]
        done = run(*start, "--optimizer", name)
        assert (done.code, done.out) == (2, "")
        assert words in done.err
        assert "--lr" in done.err
        assert run(*start, "--optimizer", name, "--lr", 0.5).code == 0


@pytest.mark.parametrize(("optimizer", "lr"), [("momentum", 0.1), ("nesterov", 0.1)])
def test_momentum_has_one_default_learning_rate(run, optimizer, lr):
    start = ["train", "spiral", "--epochs", 1, "--plots", "none", "--out", HERE]
    assert run(*start, "--optimizer", optimizer).code == 0
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    assert config()["lr"] == find_optimizer(optimizer, net).lr == lr


# ---- the loss and the problem -------------------------------------------------------------------

LOSSES_OF_THE_USER = """
import xpnet

@xpnet.register
class Plain(xpnet.MeanSquaredError):
    pass

@xpnet.register
class Scores(xpnet.MeanSquaredError):
    threshold = 0.0

@xpnet.register
class Classes(xpnet.SoftmaxCrossEntropy):
    pass
"""


@pytest.mark.parametrize(
    ("problem", "loss", "last"),
    [
        ("curve", "plain", "Linear(32, 1)"),
        ("spiral", "plain", "Sigmoid()"),
        ("spiral", "scores", "Linear(64, 1)"),
        ("digits", "classes", "Linear(64, 10)"),
    ],
)
def test_a_network_ends_as_the_loss_of_the_user_wants_it(run, problem, loss, last):
    Path("losses.py").write_text(LOSSES_OF_THE_USER)
    start = ["train", problem, "--extend", "losses.py", "--plots", "none", "--out", HERE]
    assert run(*start, "--loss", loss, "--epochs", 1).code == 0
    assert config()["network"][-1] == last


def test_a_loss_without_classes_does_not_fit_ten(run):
    Path("losses.py").write_text(LOSSES_OF_THE_USER)
    done = run("train", "digits", "--extend", "losses.py", "--loss", "plain")
    assert done.code == 2
    assert "the loss 'plain' does not fit 10 classes without distribution = True" in done.err
