"""A plugin for pytest, of the rehearsal: a few tests of each file, the same ones every time."""

from __future__ import annotations

from collections import defaultdict
from itertools import zip_longest

import pytest

OF_EACH_FILE = 8
LEFT_OUT = {  # what takes the stand-in too long, or what it does not do
    "test_a_pool_with_a_limit_of_256_mb",
    "test_tf32_has_eleven_bits_and_float32_has_24",
    "test_the_golden_hashes_hold_on_cupy",
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
    """Return a few tests of a file: the first case of each function, then the second ones, ..."""
    functions = defaultdict(list)
    for item in items:
        functions[item.originalname].append(item)
    in_turn = [case for cases in zip_longest(*functions.values()) for case in cases if case]
    return in_turn[:OF_EACH_FILE]


def pytest_report_collectionfinish():
    left_out = ", ".join(sorted(LEFT_OUT))
    return f"a rehearsal: at most {OF_EACH_FILE} tests of each file, and none of {left_out}"
