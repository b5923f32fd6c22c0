"""Try every public thing: does a change take effect, or is it refused? Nothing may be ignored.

``python tests/contract.py`` lists what is ignored or ends in an error that is not xpnet's; names of
rooms choose: ``python tests/contract.py layers files``. ``--write`` writes docs/contract.md.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

from contracts import (  # noqa: E402
    commands,
    estimators,
    files,
    layers,
    losses,
    networks,
    optimizers,
    trainers,
)
from contracts.table import page  # noqa: E402

ROOMS = (layers, networks, losses, optimizers, trainers, estimators, files, commands)
PAGE = Path(__file__).parents[1] / "docs" / "contract.md"


def tried(rooms=ROOMS):
    """Yield each trial with its verdict."""
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        for room in rooms:
            for subject in room.subjects():
                for trial in subject.trials():
                    yield trial, trial.verdict()


def untried(rooms=ROOMS):
    """Return for each heading the names that are not tried, with the reasons."""
    found = {}
    for room in rooms:
        for subject in room.subjects():
            own = {k: v for k, v in getattr(subject, "fixed", {}).items() if v}
            found.setdefault(subject.room, {}).update(own)
    return found


def main(*words):
    """List what is wrong, or write the page."""
    if "--write" in words:
        PAGE.write_text(page(tried(), untried()), encoding="utf-8")
        return
    rooms = [room for room in ROOMS if not words or room.__name__.split(".")[1] in words]
    number = wrong = 0
    for trial, verdict in tried(rooms):
        number, wrong = number + 1, wrong + (not verdict.right)
        if not verdict.right:
            where = f"{trial.name} | {trial.way}"
            print(f"{where} | {verdict.kind} | {verdict.words[:150]}", flush=True)
    print(f"{number} trials, {wrong} wrong")


if __name__ == "__main__":
    main(*sys.argv[1:])
