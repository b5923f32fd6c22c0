"""Errors in a user's own classes: one line that names file, line and method."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_cli import says

from xpnet.layers import ACTIVATIONS, LAYERS
from xpnet.losses import LOSSES
from xpnet.optimizers import OPTIMIZERS

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder", "_registers_as_before")

PARTS = """
import xpnet

@xpnet.register
class Odd(xpnet.Layer):
    def forward(self, X):
        return FORWARD
    def backward(self, dY):
        return BACKWARD

@xpnet.register(name="odd_loss")
class OddLoss(xpnet.Loss):
    def elements(self, Y, T, out):
        out[...] = ELEMENTS
    def slope(self, Y, T, out):
        out[...] = Y
"""
GOOD = {"FORWARD": "X * 1", "BACKWARD": "dY * 1", "ELEMENTS": "Y * Y"}
LINES = {"FORWARD": 7, "BACKWARD": 9, "ELEMENTS": 14}


@pytest.fixture
def _registers_as_before():
    tables = LAYERS, ACTIVATIONS, LOSSES, OPTIMIZERS
    before, path = [dict(table) for table in tables], sys.path.copy()
    yield
    sys.path[:] = path
    sys.modules.pop("parts", None)
    for table, old in zip(tables, before, strict=True):
        table.clear()
        table.update(old)


def write_parts(**code):
    text = PARTS
    for name, right in GOOD.items():
        text = text.replace(name, code.get(name, right))
    Path("parts.py").write_text(text)


def train(run, *more, parts="parts.py"):
    options = "--activation", "odd", "--epochs", 1, "--plots", "none", "--backend", "numpy"
    return run("train", "spiral", *options, "--extend", parts, *more, "--out", "here")


@pytest.mark.parametrize(
    ("where", "code", "error", "method"),
    [
        ("FORWARD", "1 / 0", "ZeroDivisionError: division by zero", "Odd.forward"),
        ("FORWARD", "X.nothing", "AttributeError: ", "Odd.forward"),
        ("FORWARD", "helper(X)", "NameError: name 'helper' is not defined", "Odd.forward"),
        ("BACKWARD", "[][1]", "IndexError: list index out of range", "Odd.backward"),
        ("BACKWARD", "open('none')", "FileNotFoundError: ", "Odd.backward"),
        ("ELEMENTS", "{}['a']", "KeyError: 'a'", "OddLoss.elements"),
    ],
)
@pytest.mark.parametrize("parts", ["parts.py", "./parts.py", "ABSOLUTE"])
def test_an_error_in_a_class(run, where, code, error, method, parts):
    write_parts(**{where: code})
    parts = str(Path("parts.py").resolve()) if parts == "ABSOLUTE" else parts
    done = train(run, "--loss", "odd_loss", parts=parts)
    says(done, 1, f"parts.py, line {LINES[where]}, in {method}: {error}", "XPNET_TRACEBACK=1")


def test_the_traceback_comes_when_it_is_asked_for(run, monkeypatch):
    write_parts(FORWARD="1 / 0")
    monkeypatch.setenv("XPNET_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        train(run)


def test_a_module_beside_the_file_is_the_users_too(run):
    write_parts(FORWARD="1 / 0")
    Path("main_parts.py").write_text("import parts\n")
    done = train(run, parts="main_parts.py")
    says(done, 1, "parts.py, line 7, in Odd.forward: ZeroDivisionError")


def test_a_bug_of_the_library_is_not_the_users(run, monkeypatch):
    write_parts()
    monkeypatch.setattr("xpnet.cli.train.results_of", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(run)


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("FORWARD", "None", "forward of layer 1, Odd(), returned None"),
        ("FORWARD", "X[:, :1]", "must return the shape"),
        ("BACKWARD", "None", "backward of layer"),
    ],
)
def test_what_a_class_returns_is_checked(run, where, code, words):
    write_parts(**{where: code})
    says(train(run), 1, words)


@pytest.mark.parametrize("option", ["activation", "loss", "optimizer"])
def test_an_unknown_name_may_be_of_ones_own(run, option):
    done = run("train", "spiral", f"--{option}", "of_my_own")
    says(done, 2, f"unknown {option} 'of_my_own'", "of your own is known with --extend FILE")
