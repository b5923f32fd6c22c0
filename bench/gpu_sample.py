"""A plugin for pytest, of the rehearsal: a few tests of each file, the same ones every time."""

from __future__ import annotations

from collections import defaultdict

import pytest

OF_EACH_FILE = 5


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keep a few tests of each file."""
    files = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    kept = {item.nodeid for of_file in files.values() for item in sample(of_file)}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def sample(items: list) -> list:
    """Return a case of a few functions of a file, the first function and the last among them."""
    functions = defaultdict(list)
    for item in items:
        functions[item.originalname].append(item)
    cases = [of_one[len(of_one) // 2] for of_one in functions.values()]
    n = min(OF_EACH_FILE, len(cases))
    return [cases[i * (len(cases) - 1) // max(n - 1, 1)] for i in range(n)]


def pytest_report_collectionfinish():
    return f"a rehearsal: a sample of at most {OF_EACH_FILE} tests of each file"
