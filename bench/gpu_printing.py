"""What ``bench/gpu.sh`` prints: the stages before it begins, each one's end, and all in the end."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import report
from gpu_table import BUDGETS, Stage

WIDTH = 200  # characters of a line in the last table
MOST_LINES = 60
REACHED = {True: "yes", False: "NO", None: "-"}  # of an aim


def table(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return lines with columns; the last one is as long as it is."""
    texts = [[str(word) for word in row] for row in rows]
    widths = [max(map(len, column)) + 2 for column in list(zip(*texts, strict=True))[:-1]]
    return ["".join(map(str.ljust, row, widths)) + row[-1] for row in texts]


def estimates(stages: Sequence[Stage], header: dict) -> str:
    """Return what will be done, and how long it may take."""
    head = ("stage", "call", "about s", "at most s", "what a rehearsal cannot show")
    rows = [(s.name, s.call, s.estimate, s.limit, s.only_a_gpu) for s in stages]
    sums = [
        f"call {call}: about {sum(s.estimate for s in group)} s of {BUDGETS[call]} s"
        for call, group in groupby(stages, lambda stage: stage.call)
    ]
    device = table([*header["device"].items(), ("commit", header["commit"])])
    said = "REHEARSAL: small sizes and a sample of the tests; no figure below is that of a GPU"
    kind = [said] * header["rehearsal"]
    return "\n".join([*kind, *device, "", *table([head, *rows]), *sums])


def ended(stage: Stage, record: dict, seconds: float) -> str:
    """Return how a stage ended."""
    lines = [f"== {stage.name}: {outcome_of(record)}; {seconds:.0f} s in all"]
    lines += record.get("last_lines", "").splitlines()
    tests = record.get("tests", {})
    if tests.get("kinds"):
        lines += kinds(tests["kinds"])
    lines += [f"FAILED {one['test']}: {one['message']}" for one in tests.get("failures", ())]
    return "\n".join(lines)


def kinds(found: dict) -> list[str]:
    """Return how the tests of each file ended."""
    keys = ("passed", "failed", "skipped", "seconds")
    rows = [[name, *(one[key] for key in keys)] for name, one in found.items()]
    return table([("tests", *keys), *rows])


def outcome_of(record: dict) -> str:
    """Return how a stage ended, in a line."""
    words = f"{record['status']} after {record['seconds']:.0f} s"
    totals = record.get("tests", {}).get("totals")
    if totals:
        words += ": " + ", ".join(f"{totals[key]} {key}" for key in ("passed", "failed", "skipped"))
    return f"{words} ({record['reason']})" if "reason" in record else words


def outcome(stages: Sequence[Stage], results: dict) -> str:
    """Return the last table: the stages, then the figures that count, with their aims."""
    done = results["stages"]
    rows = [(s.name, outcome_of(done[s.name]) if s.name in done else "not run") for s in stages]
    lines = [*table([("stage", "outcome"), *rows]), ""]
    figures = []
    for what, aim, measure in report.ROWS:
        text, reached = report.measured(measure, results)
        figures.append((what, aim or "-", REACHED[reached], text))
    lines += table([("what", "aim", "reached", "measured"), *figures])
    kind = ["REHEARSAL: no figure above is that of a GPU"] * results["rehearsal"]
    return "\n".join(shortened(line) for line in [*lines[: MOST_LINES - 1], *kind])


def shortened(line: str) -> str:
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
