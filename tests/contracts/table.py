"""The table of what was tried, as a page of the documentation."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

from contracts.subject import BEFORE, BETWEEN, GIVEN
from contracts.trial import Trial, Verdict

HEAD = """# What takes effect, and what is refused

Nothing that you give or assign is silently ignored. `python tests/contract.py --write` has tried
everything below and written this page; the test suite runs it again. Each row is an argument, an
attribute, an option, an environment variable or a field of a file. It was given another right
value, the same value in another type, and values that cannot be meant: a word, `object()`, `None`,
NaN, -1, `{}`. An attribute was assigned before its object was first used, and after that.

- **takes effect**: what comes out differs.
- **the same**: the value in another type means what the plain value means.
- **refused**: an error names the object and the value; the last column quotes one.
"""


def page(found: Iterable[tuple[Trial, Verdict]], untried: Mapping[str, Mapping[str, str]]) -> str:
    """Return the page: one table for each room, and what was not tried, with the reasons."""
    rooms: dict[str, dict[str, dict[str, Verdict]]] = defaultdict(lambda: defaultdict(dict))
    for trial, verdict in found:
        rooms[trial.room][trial.name][trial.way] = verdict
    parts = [HEAD]
    for room, rows in rooms.items():
        parts.append(f"\n## {room}\n\n" + table(rows))
        if untried.get(room):
            reasons = defaultdict(list)
            for name, why in untried[room].items():
                reasons[why].append(f"`{name}`")
            parts.append(
                "\nNot tried:\n\n"
                + "".join(f"- {', '.join(names)}: {why}.\n" for why, names in reasons.items())
            )
    return "".join(parts)


def table(rows: Mapping[str, Mapping[str, Verdict]]) -> str:
    """Return the rows as a table with those columns that are not empty."""
    columns = [
        ("another value", lambda ways: one(ways, GIVEN)),
        ("assigned before use", lambda ways: one(ways, BEFORE)),
        ("assigned after use", lambda ways: one(ways, BETWEEN)),
        ("in another type", lambda ways: several(ways, "other types: ")),
        ("what cannot be meant", lambda ways: several(ways, "nonsense: ")),
        ("changed in the file", lambda ways: several(ways, "")),
        ("a refusal says", words),
    ]
    ours = (GIVEN, BEFORE, BETWEEN, "other types: ", "nonsense: ")
    cells = []
    for name, ways in rows.items():
        own = {way: v for way, v in ways.items() if not way.startswith(ours)}
        cells.append(
            [
                f"`{name}`",
                *(f(own if head == "changed in the file" else ways) for head, f in columns),
            ]
        )
    kept = [k for k in range(len(columns) + 1) if k == 0 or any(row[k] for row in cells)]
    heads = ["", *(head for head, _ in columns)]
    lines = [
        [heads[k] for k in kept],
        ["---"] * len(kept),
        *([row[k] for k in kept] for row in cells),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def one(ways: Mapping[str, Verdict], way: str) -> str:
    """Return the cell of one way."""
    return ways[way].kind if way in ways else ""


def several(ways: Mapping[str, Verdict], start: str) -> str:
    """Return the cell of some ways: their kinds, with the values where they differ."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for way, verdict in ways.items():
        if way.startswith(start):
            kinds[verdict.kind].append(way.removeprefix(start))
    if len(kinds) == 1:
        return next(iter(kinds))
    return "; ".join(f"{kind}: {', '.join(names)}" for kind, names in kinds.items())


def words(ways: Mapping[str, Verdict]) -> str:
    """Return the shortest text of a refusal, as code."""
    texts = [shown(v.words) for v in ways.values() if v.kind == "refused"]
    return f"`{min(texts, key=len)}`" if texts else ""


def shown(text: str) -> str:
    """Return the words of an error in one short line, without what differs from run to run."""
    text = re.sub(r"<object object at 0x\w+>", "object()", text)
    text = re.sub(r" at 0x\w+", "", text)
    text = re.sub(r"(/[\w.-]+)*/tmp\w+", "DIR", text.replace("|", "/").replace("`", "'"))
    return text if len(text) <= 160 else f"{text[:157]}..."
