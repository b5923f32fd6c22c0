"""Bring the README's table of GPU figures up to date: ``python bench/report.py [--check]``.

The figures are those of the JSON files that ``bench/gpu.sh`` left in ``bench/results``, a column
for each device. ``--check`` changes nothing; the exit code is 1 if the README is out of date.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- gpu table -->", "<!-- end of gpu table -->"
NOT_YET = "not yet run"
CLOSE = 0.01  # of the test set: who learns less than another has no time to show

EAGER = ("PyTorch eager", "PyTorch eager, foreach")
COMPILE = ("PyTorch compile", "PyTorch compile, Adam eager")
BY_HAND = ("PyTorch graph by hand",)
JAX = ("JAX scan", "JAX scan, unrolled")


class Missing(Exception):
    """A figure that is not there, and why."""


def get(results: dict, name: str, part: dict) -> dict:
    """Return what was found for a name, or say why there is nothing."""
    found = results.get(name)
    if found is None:
        raise Missing(f"failed: {part['reason']}" if "reason" in part else NOT_YET)
    if "not_installed" in found:
        raise Missing(f"{found['not_installed']} not installed")
    if "failed" in found:
        raise Missing(f"failed: {last_line(found['failed'])}")
    return found


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip().replace("|", "/")


def peer(report: dict, name: str) -> dict:
    return get(report.get("peers", {}), name, report["parts"].get("peers", {}))


def best(report: dict, names: tuple[str, ...], least: float) -> dict:
    """Return the fastest of these contestants that learnt something like as much."""
    found, why = [], ""
    for name in names:
        try:
            one = peer(report, name)
        except Missing as missing:
            why = why or str(missing)
            continue
        if one["accuracy"] >= least:
            found.append(one)
        else:
            why = why or f"only {one['accuracy']:.1%} right"
    if not found:
        raise Missing(why)
    return min(found, key=lambda one: one["step_us"])


# ---- the rows: each returns what was measured, and whether that is enough -----------------------

Cell = tuple[str, bool | None]


def faster(names: tuple[str, ...], least: float | None) -> Callable[[dict], Cell]:
    def cell(report: dict) -> Cell:
        ours = peer(report, "xpnet")
        other = best(report, names, ours["accuracy"] - CLOSE)
        ratio = other["step_us"] / ours["step_us"]
        text = (
            f"{ratio:.2f}x ({ours['step_us']:.0f} µs, {ours['accuracy']:.1%}; "
            f"{other['step_us']:.0f} µs, {other['accuracy']:.1%})"
        )
        right = ours["accuracy"] >= other["accuracy"] - CLOSE
        return text, None if least is None else right and ratio >= least

    return cell


def epoch(report: dict) -> Cell:
    warm = peer(report, "xpnet whole")["warm_s"]
    low, high = warm["min"] * 1e3, warm["max"] * 1e3
    return f"{warm['median'] * 1e3:.1f} ms ({low:.1f} to {high:.1f})", warm["median"] < 0.015


def target(report: dict) -> Cell:
    part = report["parts"].get("accuracy", {})
    found = get(report.get("accuracy", {}), "xpnet", part)
    seconds, n = found["warm_s"]["median"], len(found["accuracies"])
    others = []
    for name, result in report["accuracy"].items():
        if "warm_s" in result and name != "xpnet":
            others.append(f"{name} {result['warm_s']['median']:.3f} s")
    told = f"; {', '.join(others)}" if others else ""
    text = f"{seconds:.3f} s, {found['reached']} of {n} reach it{told}"
    return text, seconds < 0.1 and found["reached"] >= 0.9 * n


def large(report: dict) -> Cell:
    found = peer(report, "xpnet products")
    share, step = found["share"]["median"], found["step_s"]["median"]
    return f"{share:.3f} ({step * 1e3:.2f} ms a step)", share >= 0.95


def cold(report: dict) -> Cell:
    found = peer(report, "xpnet")
    seconds = found["cold_s"] - found["warm_s"]["median"]
    refused = [text for text in found.get("warnings", []) if "captured" in text]
    if refused:
        raise Missing(f"failed: {last_line(refused[0])}")
    return f"{seconds:.2f} s", seconds < 5


def reproducible(report: dict) -> Cell:
    exact, ours = peer(report, "xpnet reproducible")["step_us"], peer(report, "xpnet")["step_us"]
    return f"{exact / ours:.2f}x ({exact:.0f} µs)", exact < 3 * ours


def reads(report: dict) -> Cell:
    found = peer(report, "xpnet reads")
    clean = found["others"] == "none"
    text = str(found["reads"]) if clean else f"{found['reads']}; {last_line(found['others'])}"
    return text, clean and found["reads"] == 1


def uncaptured(report: dict) -> Cell:
    found = peer(report, "xpnet eager")
    return f"{found['step_us']:.0f} µs", None


def launches(report: dict) -> Cell:
    found = peer(report, "xpnet launches")["launches"]
    if not found:
        raise Missing("not in this version")
    return ", ".join(f"{one['step_us']:.0f}" for one in found.values()) + " µs", None


def agreement(report: dict) -> Cell:
    """The checks and the GPU tests: what the figures are worth."""
    checks = all(check["ok"] for check in report["checks"].values())
    done = all(check["recipes"] for check in report["checks"].values())
    verdict = "agrees" if checks else "does not agree" if done else "did not come to its end"
    words = [f"`xpnet check` {verdict}"]
    tests, parallel = (report["parts"].get(name) for name in ("tests", "parallel"))
    words.append(report["tests"][-1].strip("= ") if report["tests"] else "no tests run")
    if parallel:
        several = report["parallel"][-1:] or ["no tests run"]
        words.append(f"several processes: {several[0].strip('= ')}")
    ran = [part["ok"] for part in (tests or {"ok": False}, parallel) if part]
    return "; ".join(words), checks and all(ran)


STEP = "step, 784-64-32-10, B=128, Adam, beside"
ROWS: list[tuple[str, str, Callable[[dict], Cell]]] = [
    (f"{STEP} PyTorch eager", "8x", faster(EAGER, 8)),
    (f'{STEP} torch.compile(mode="reduce-overhead")', "1.5x", faster(COMPILE, 1.5)),
    (f"{STEP} PyTorch, a CUDA graph by hand", "", faster(BY_HAND, None)),
    (f"{STEP} JAX, one scan for an epoch", "1.2x", faster(JAX, 1.2)),
    ("epoch of MNIST at that setting, all 60000, warm", "under 15 ms", epoch),
    ("98 % on MNIST's test set, warm, median of 10 seeds", "under 0.1 s, 9 of 10", target),
    ("784-4096-4096-10, B=4096: the products' share of a step", "0.95", large),
    ("capture and compile, cold", "under 5 s", cold),
    ("reproducible mode, step at B=128", "under 3x ordinary", reproducible),
    ("host reads in an epoch", "1", reads),
    ("step without capture", "", uncaptured),
    ("step with 1, 4, 16, 64 steps to a launch", "", launches),
    ("the same gradients, and the tests on the GPU", "all", agreement),
]


# ---- the table ----------------------------------------------------------------------------------


def cell(measure: Callable[[dict], Cell], report: dict) -> str:
    try:
        text, reached = measure(report)
    except Missing as missing:
        return str(missing)
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        return f"not in the report ({type(error).__name__}: {error})"
    return text + (" **missed**" if reached is False else "")


def table(reports: list[dict]) -> str:
    """Return the table, and what each column was measured with."""
    names = [report.get("GPU", "unknown GPU") for report in reports] or ["measured"]
    lines = [f"| what | at least | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for what, least, measure in ROWS:
        cells = [cell(measure, report) for report in reports] or [NOT_YET]
        lines.append(f"| {what} | {least or '-'} | {' | '.join(cells)} |")
    if reports:
        lines.append("")
        lines += [tools(report) for report in reports]
    return "\n".join(lines)


def tools(report: dict) -> str:
    words = {"CuPy": "CuPy", "CUDA": "CUDA runtime", "PyTorch": "torch", "JAX": "jax"}
    known = [f"{name} {report[key]}" for name, key in words.items() if key in report]
    known.append(f"driver {report.get('driver', 'unknown')}")
    return f"{report.get('GPU', 'unknown GPU')}: {', '.join(known)}, {report.get('date', '')}."


def load(folder: Path) -> list[dict]:
    return [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("gpu-*.json"))]


def brought_up_to_date(text: str, reports: list[dict]) -> str:
    """Return the README with the present table between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the README needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{table(reports)}\n{END}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = parser.parse_args(arguments)
    text = options.readme.read_text("utf-8")
    now = brought_up_to_date(text, load(options.results))
    if options.check:
        if now != text:
            print("README.md is out of date: run python bench/report.py", file=sys.stderr)
        return int(now != text)
    options.readme.write_text(now, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
