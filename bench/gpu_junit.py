"""What pytest says in JUnit's XML: how the tests of each file ended."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

FAILURES = 20  # that are kept with their message
MESSAGE = 300  # characters
OUTCOMES = {"failure": "failed", "error": "failed", "skipped": "skipped"}


def suites(xml: bytes) -> list[ET.Element]:
    """Return the suites in a file, none if it is not XML."""
    try:
        return list(ET.fromstring(xml).iter("testsuite"))
    except ET.ParseError:
        return []


def merged(old: bytes, new: bytes, name: str) -> bytes:
    """Return a file with the suites of both; the new ones replace earlier ones of this name."""
    root = ET.Element("testsuites")
    root.extend(suite for suite in suites(old) if suite.get("name") != name)
    for suite in suites(new):
        suite.set("name", name)
        root.append(suite)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def summary(xml: bytes) -> dict:
    """Return how many tests of each file passed, failed and were skipped, and what failed."""
    kinds: dict[str, dict] = {}
    failures: list[dict] = []
    for case in (case for suite in suites(xml) for case in suite.iter("testcase")):
        outcome, message = outcome_of(case)
        zeros = {"passed": 0, "failed": 0, "skipped": 0, "seconds": 0.0}
        kind = kinds.setdefault(file_of(case), zeros)
        kind[outcome] += 1
        kind["seconds"] = round(kind["seconds"] + float(case.get("time") or 0), 3)
        if outcome == "failed" and len(failures) < FAILURES:
            said = " ".join(message.split())[:MESSAGE]
            failures.append({"test": case.get("name", ""), "message": said})
    return {"kinds": dict(sorted(kinds.items())), "failures": failures}


def file_of(case: ET.Element) -> str:
    """Return the name of the file that a test is in."""
    if case.get("file"):
        return Path(case.get("file", "")).name
    return case.get("classname", "").rpartition(".")[2] or case.get("name", "unknown")


def outcome_of(case: ET.Element) -> tuple[str, str]:
    for child in case:
        if child.tag in OUTCOMES:
            return OUTCOMES[child.tag], child.get("message") or ""
    return "passed", ""


def totals(kinds: dict[str, dict]) -> dict:
    """Return the sums over all files."""
    keys = ("passed", "failed", "skipped", "seconds")
    return {key: round(sum(kind[key] for kind in kinds.values()), 1) for key in keys}
