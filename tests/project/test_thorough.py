"""Which tests ``pytest`` runs, and which ones with ``--thorough`` only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).parents[1] / "helpers"
CONFTEST = """
from thorough import Thorough, add_option as pytest_addoption

def pytest_configure(config):
    config.addinivalue_line("markers", "thorough: takes long")
    config.addinivalue_line("markers", "other: another one")
    config.pluginmanager.register(Thorough(config), "thorough")
"""
TESTS = """
import pytest

def test_short(): pass

@pytest.mark.other
@pytest.mark.thorough
def test_long(): pass

@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.thorough)])
def test_both(n): pass
"""


@pytest.fixture
def passed(tmp_path):
    """Return a function that runs pytest on two files, and returns what passed and the output."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for name in ("test_a.py", "test_b.py"):
        (tmp_path / name).write_text(TESTS)

    def run(*arguments):
        command = [sys.executable, "-m", "pytest", "-v", "--strict-markers", *arguments]
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider"],
            env=os.environ | {"PYTHONPATH": str(HELPERS), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        return re.findall(r"(\S+) PASSED", done.stdout), done.stdout + done.stderr

    return run


LONG = ["test_a.py::test_long", "test_a.py::test_both[2]"]
SHORT = ["test_a.py::test_short", "test_a.py::test_both[1]"]
B = [name.replace("test_a", "test_b") for name in (*SHORT, *LONG)]


def test_thorough_tests_are_left_out_and_counted(passed):
    found, output = passed()
    assert sorted(found) == sorted(SHORT + B[:2])
    assert "4 thorough tests not run: pytest --thorough runs them, too" in output
    assert "4 passed, 4 deselected" in output
    assert "test_a.py: " not in output


@pytest.mark.thorough(but=["options0-*", "options3-*"])
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--thorough"], {*SHORT, *LONG, *B}),
        (["-m", "thorough"], {*LONG, *B[2:]}),
        (["--thorough", "-m", "thorough"], {*LONG, *B[2:]}),
        (["-m", "not thorough"], {*SHORT, *B[:2]}),
        (["--thorough", "-k", "long"], {LONG[0], B[2]}),
        (["--thorough", "-m", "other", "test_b.py"], {B[2]}),
        ([LONG[0]], {LONG[0]}),
        (["./test_a.py::test_both"], {SHORT[1], LONG[1]}),
        ([LONG[1], "test_b.py::test_short"], {LONG[1], B[0]}),
    ],
)
def test_thorough_tests_that_are_asked_for_run(passed, options, wanted):
    found, output = passed(*options)
    assert set(found) == wanted
    assert len(found) == len(wanted)
    assert "thorough tests not run" not in output


def test_a_file_that_is_named_says_what_was_left_out_of_it(passed):
    found, output = passed("test_a.py")
    assert sorted(found) == sorted(SHORT)
    assert "test_a.py: 2 thorough tests not run\n2 thorough tests not run: pytest" in output


BUT = """
import pytest

@pytest.mark.thorough(but=["1", "x-*", "[3]?"])
@pytest.mark.parametrize("n", ["0", "1", "2", "x-1", "x-2", "[3]?", "[3]a", "3"])
def test_cases(n): pass
"""


def test_cases_that_the_marker_names_are_no_long_ones(passed, tmp_path):
    (tmp_path / "test_a.py").write_text(BUT)
    short = {f"test_a.py::test_cases[{n}]" for n in ("1", "x-1", "x-2", "[3]?")}
    found, output = passed("test_a.py")
    assert set(found) == short
    assert "test_a.py: 4 thorough tests not run" in output
    long = {f"test_a.py::test_cases[{n}]" for n in ("0", "2", "[3]a", "3")}
    assert set(passed("test_a.py", "-m", "thorough")[0]) == long
    assert set(passed("test_a.py", "--thorough")[0]) == short | long


def test_the_marker_names_cases_that_there_are(passed, tmp_path):
    (tmp_path / "test_a.py").write_text(BUT.replace('"x-*"', '"y-*"'))
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = .\n")
    found, output = passed()
    assert not found
    assert "test_a.py::test_cases: no case has the id y-*" in output


def test_only_what_the_other_options_choose_is_counted(passed):
    found, output = passed("-k", "both")
    assert sorted(found) == sorted([SHORT[1], B[1]])
    assert "2 thorough tests not run" in output
    assert passed("-m", "other")[0] == []
    assert "2 thorough tests not run" in passed("-m", "other")[1]
    assert "test_a.py: 1 thorough tests not run" in passed("test_a.py", "-k", "long")[1]
