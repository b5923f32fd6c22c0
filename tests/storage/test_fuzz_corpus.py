"""What fuzzing has found, and some thousands of mutations of good files: see `fuzz.py`."""

from __future__ import annotations

import pytest
from fuzz import CORPUS, TARGETS, mutations

from xpnet.runs import reading
from xpnet.storage import network_file, training_file
from xpnet.support.errors import XpnetError
from xpnet.training import recording, state

MUTATIONS = 5000


@pytest.fixture(params=TARGETS)
def name(request):
    return request.param


@pytest.fixture
def target(name, monkeypatch):
    """One reader; those that read given values, not files, are back to normal afterwards."""
    if name == "safetensors":
        pytest.importorskip("safetensors", reason="safetensors is not installed")
    for module, word in (
        (network_file, "read_archive"),
        (training_file, "read_archive"),
        (training_file, "write_archive"),
        (state, "machine"),
        (reading, "_bytes"),
        (recording, "read_bytes"),
    ):
        monkeypatch.setattr(module, word, getattr(module, word))
    return TARGETS[name]()


def test_the_seeds_are_good_files(target):
    for data in target.seeds():
        target.read(data[0], data[1:])


@pytest.mark.thorough
def test_only_errors_of_the_library_come_out(target):
    refused = 0
    for data in mutations(target, MUTATIONS):
        try:
            target.read(data[0], data[1:])
        except XpnetError:
            refused += 1
    assert 0 < refused < MUTATIONS or type(target).__name__ == "Log"  # it leaves lines out


def test_what_has_been_found(name, target):
    """Each file was once an error of another kind."""
    for path in sorted((CORPUS / name).glob("*")):
        target(path.read_bytes())
