"""Nothing is silently ignored: `tests/contract.py` tries each public thing; its page is true."""

from __future__ import annotations

import pytest
from contract import PAGE, ROOMS, tried, untried
from contracts.table import page

SLOW = {"commands", "estimators", "files", "trainers"}


def name_of(room):
    """Return the last part of the name of a module."""
    return room.__name__.rpartition(".")[2]


@pytest.mark.parametrize(
    "room",
    [
        pytest.param(room, marks=[pytest.mark.thorough] * (name_of(room) in SLOW), id=name_of(room))
        for room in ROOMS
    ],
)
def test_nothing_is_ignored(room, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wrong = [f"{t.name} | {t.way}: {v.kind} {v.words}" for t, v in tried([room]) if not v.right]
    assert not wrong, "\n".join(wrong)


@pytest.mark.thorough
def test_the_page_says_what_happens(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = page(tried(), untried())
    assert without_words(found) == without_words(PAGE.read_text(encoding="utf-8")), (
        "run python tests/contract.py --write"
    )


def without_words(text):
    """Return the page without its last columns: the words of Python differ between its versions."""
    lines = [
        line.rpartition(" | ")[0] if line.startswith("| ") else line for line in text.split("\n")
    ]
    assert sum(line.count("takes effect") for line in lines) > 100
    return lines
