"""A plugin for pytest, of the rehearsal: a few tests of each file, the same ones every time."""

from __future__ import annotations

from collections import defaultdict

import pytest

OF_EACH_FILE = 5
LEFT_OUT = {  # what takes the stand-in too long, or what it does not do
    "test_a_pool_with_a_limit_of_256_mb",
    "test_tf32_has_eleven_bits_and_float32_has_24",
    "test_the_golden_hashes_hold_on_cupy",
    "test_two_processes_on_one_gpu",
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """Keep a few tests of each file."""
    files = defaultdict(list)
    for item in items:
        if item.originalname not in LEFT_OUT:
            files[item.path].append(item)
    kept = {item.nodeid for of_file in files.values() for item in sample(of_file)}
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in kept])
    items[:] = [item for item in items if item.nodeid in kept]


def sample(items: list) -> list:
    """Return the first case of a few functions of a file, the first and the last among them."""
    functions = defaultdict(list)
    for item in items:
        functions[item.originalname].append(item)
    cases = [of_one[0] for of_one in functions.values()]
    n = min(OF_EACH_FILE, len(cases))
    return [cases[i * (len(cases) - 1) // max(n - 1, 1)] for i in range(n)]


def pytest_report_collectionfinish():
    left_out = ", ".join(sorted(LEFT_OUT))
    return f"a rehearsal: at most {OF_EACH_FILE} tests of each file, and none of {left_out}"
