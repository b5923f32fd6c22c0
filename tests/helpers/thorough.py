"""Tests with the marker ``thorough`` take long, and run with ``pytest --thorough`` only.

They also run if they are asked for: ``-m thorough`` runs nothing else, and a test that is named
(``pytest tests/a/test_b.py::test_c``) is run. The last lines of the output say how many were left
out, and where if files were named.

``@pytest.mark.thorough(but=["xor", "*-mse"])`` leaves out all cases of a test but those of these
ids, which may have ``*``. An id that no case has is an error: then nothing of the test would run.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from fnmatch import fnmatchcase
from pathlib import Path

import pytest


def add_option(parser):
    parser.addoption(
        "--thorough", action="store_true", help="run the long tests, too (marker: thorough)"
    )


class Thorough:
    """The plugin that leaves them out."""

    def __init__(self, config):
        self.asked_for = config.getoption("thorough") or re.search(
            r"\bthorough\b", config.getoption("markexpr")
        )
        self.left_out = Counter()  # path -> the number of tests

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config, items):
        _unmark_short_cases(items)
        yield  # -m and -k choose
        self._leave_out(config, items)

    def _leave_out(self, config, items):
        if self.asked_for:
            return
        named = [_place(config, argument) for argument in config.args]
        left_out = [item for item in items if _is_thorough(item) and not _is_named(item, named)]
        self.left_out.update(item.path for item in left_out)
        config.hook.pytest_deselected(items=left_out)
        kept = set(items).difference(left_out)
        items[:] = [item for item in items if item in kept]

    def pytest_terminal_summary(self, terminalreporter, config):
        if not self.left_out:
            return
        files = {path for path, _ in (_place(config, argument) for argument in config.args)}
        for path in sorted(files & set(self.left_out)):
            where = path.relative_to(config.rootpath).as_posix()
            terminalreporter.write_line(f"{where}: {self.left_out[path]} thorough tests not run")
        n = self.left_out.total()
        terminalreporter.write_line(
            f"{n} thorough tests not run: pytest --thorough runs them, too", yellow=True
        )


def _unmark_short_cases(items):
    """Take the marker from the cases that ``but`` names."""
    found = defaultdict(set)  # test function -> the ids that a case has
    for item in items:
        marker = item.get_closest_marker("thorough")
        if marker is None or "but" not in marker.kwargs:
            continue
        ids = [i for i in marker.kwargs["but"] if _matches(item.callspec.id, i)]
        found[item.path, item.originalname, tuple(marker.kwargs["but"])].update(ids)
        if ids:
            item.own_markers.remove(marker)
    if all(item.config.args == item.config.getini("testpaths") for item in items[:1]):
        for (path, name, but), ids in found.items():
            if set(but) - ids:
                missing = ", ".join(sorted(set(but) - ids))
                raise pytest.UsageError(f"{path}::{name}: no case has the id {missing}")


def _matches(case, pattern):
    """Return True if an id fits a pattern; only ``*`` is special."""
    return fnmatchcase(case, re.sub(r"([\[\]?])", r"[\1]", pattern))


def _is_thorough(item):
    return item.get_closest_marker("thorough") is not None


def _place(config, argument):
    """Return (path, names) of an argument ``path::names``; names may be empty."""
    path, _, names = argument.partition("::")
    return Path(config.invocation_params.dir, path).resolve(), names


def _is_named(item, named):
    own = item.nodeid.partition("::")[2]
    return any(
        path == item.path
        and names
        and (own == names or own.startswith((f"{names}[", f"{names}::")))
        for path, names in named
    )
