"""Trials of the command line and of the environment variables."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import tempfile
from pathlib import Path
from unittest import mock

import xpnet
from contracts.subject import GIVEN
from contracts.trial import Trial, once
from xpnet.cli import main
from xpnet.cli.parser import make_parser

EXTENSION = "import xpnet\n\n\n@xpnet.register\nclass Half(xpnet.Identity):\n    pass\n"
# Another right value of each option of `xpnet train`, and values that cannot be meant.
TRAIN = {
    "--backend": ("numba", ["cuda9", ""]),
    "--reproducible": (None, ["yes"]),
    "--hidden": ("5", ["x", "-3", "2.5", "", "1,,2", "1e3", "1000000000000000000"]),
    "--activation": ("tanh", ["Tan", "", "3"]),
    "--loss": ("huber", ["hubert", ""]),
    "--optimizer": ("adam", ["adm", ""]),
    "--lr": ("0.5", ["x", "-1", "0", "nan", "inf", "", "1e400"]),
    "--epochs": ("4", ["x", "0", "-1", "2.5", "", "1e2"]),
    "--batch-size": ("2", ["x", "0", "-1", "2.5", ""]),
    "--seed": ("5", ["x", "-1", "2.5", ""]),
    "--dtype": ("float64", ["float16", "", "f8"]),
    "--extend": ("EXTENSION", ["no-such-file.py", ""]),
    "--data-dir": (".", ["no-such-folder", ""]),
    "--out": ("OTHER", [""]),
    "--resume": ("no-such-folder", [""]),
    "--checkpoint-every": ("1", ["x", "0", "-1m", "", "5h"]),
    "--plots": ("all", ["some", ""]),
    "--processes": ("1", ["x", "0", "-1", ""]),
    "--parallel": (None, ["yes"]),
    "--quiet": (None, ["yes"]),
    "--json": (None, ["yes"]),
}
CHECK = {
    "--problems": ("spiral", ["xr", "", "xor,"]),
    "--backends": ("numpy", ["nump", ""]),
    "--steps": ("3", ["x", "0", ""]),
    "--require": ("cupy", ["x", ""]),
    "--data-dir": (".", ["no-such-folder", ""]),
    "--processes": ("1", ["x", "0"]),
    "--parallel": (None, ["yes"]),
    "--html": ("page.html", [""]),
    "--json": (None, ["yes"]),
}
# What an option needs beside it to have an effect.
BESIDE = {
    ("train", "--extend"): ["--activation", "half"],
}
BASE = {
    "train": ["xor", "--epochs", "3", "--plots", "none", "--out", "run"],
    "check": ["--problems", "xor", "--backends", "numpy,numba", "--steps", "2"],
}


def run(command, *more, environment=None):
    """Run a command in an empty folder; return what it printed and wrote. Raise what it refuses."""
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("EXTENSION").write_text(EXTENSION, encoding="utf-8")
        own = {"XPNET_BACKEND": "numpy"} | (environment or {})
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.dict(os.environ, own),
            mock.patch("xpnet.backend.default._default", None),
        ):
            try:
                code = main([command, *BASE.get(command, []), *more])
            except SystemExit as stop:
                code = stop.code
        if code:
            if "Traceback" in err.getvalue():
                raise RuntimeError(err.getvalue()[-300:])
            raise xpnet.OptionError((err.getvalue() + out.getvalue()).strip().splitlines()[-1])
        written = {p.as_posix(): without_times(p) for p in Path().rglob("*") if p.is_file()}
    return no_times(out.getvalue()), no_times(err.getvalue()), written


def no_times(text):
    """Return a text without what differs from run to run."""
    return re.sub(r"\d+(\.\d+)? ?m?s\b|\"seconds\": [\d.]+|/tmp/\S+", "", text)


def without_times(path):
    """Return a file as words, without what differs from run to run."""
    if path.suffix in (".json", ".jsonl"):
        return no_times(path.read_text(encoding="utf-8"))
    return str(path.stat().st_size)


def options(command):
    """Return the names of the options of a command."""
    commands = next(
        a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction)
    ).choices
    return [
        max(action.option_strings, key=len)
        for action in commands[command]._actions
        if action.option_strings and action.help != argparse.SUPPRESS and action.dest != "help"
    ]


class Command:
    """The options of a command."""

    room = "Command line"

    def __init__(self, name, table):
        self.name, self.table = name, table

    def trials(self):
        """Return each option with another value, twice, and with values that cannot be meant."""
        plain = once(lambda: run(self.name))
        for option in options(self.name):
            value, wrong = self.table[option]
            given = [option] if value is None else [option, value]
            given += BESIDE.get((self.name, option), [])
            where = "Command line", f"xpnet {self.name} {option}"
            yield Trial(*where, GIVEN, lambda given=given: run(self.name, *given), plain)
            for text in wrong:
                args = [f"{option}={text}"]
                yield Trial(
                    *where,
                    f"nonsense: {text!r}",
                    lambda args=args: run(self.name, *args),
                    plain,
                    nonsense=True,
                )
        for word in ("--unknwon", "words"):
            yield Trial(
                "Command line",
                f"xpnet {self.name} {word}",
                GIVEN,
                lambda word=word: run(self.name, word),
                plain,
            )


VARIABLES = {
    "XPNET_BACKEND": ["numba", "cuda9", "0"],
    "XPNET_REPRODUCIBLE": ["1", "maybe", "2"],
    "XPNET_UNKNWON": ["1"],
    "XPNET_BACKENDS": ["numba"],
}


class Environment:
    """The environment variables."""

    room = "Environment"

    def trials(self):
        """Return each variable with each value."""
        plain = once(lambda: run("train"))
        for name, values in VARIABLES.items():
            for text in values:
                yield Trial(
                    "Environment",
                    f"${name}",
                    f"= {text!r}",
                    lambda name=name, text=text: run("train", environment={name: text}),
                    plain,
                )


def subjects():
    """Return the commands and the environment."""
    return [Command("train", TRAIN), Command("check", CHECK), Environment()]
