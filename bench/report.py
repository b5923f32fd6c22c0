"""Bring the README's words about GPUs up to date: ``python bench/report.py [--check]``.

These are a sentence and a table. The figures are those of the JSON files that
``bench/gpu_report.py`` wrote to ``bench/results``, a column for each device. ``--check`` changes
nothing; the exit code is 1 if the README is out of date, and 2 if a file cannot be used.
"""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gpu_table import CONTESTANTS

ROOT = Path(__file__).parents[1]
TABLE = "<!-- gpu table -->", "<!-- end of gpu table -->"
SENTENCE = "<!-- gpu sentence -->", "<!-- end of gpu sentence -->"
NO_GPU = (
    "**No GPU has run xpnet yet**: the CuPy backend is tested on stand-ins for CuPy, which "
    "compute on the CPU, and every figure about a GPU is still missing."
)
NOT_YET = "not yet run"
CLOSE = 0.01  # of the test set: who learns less than another has no time to show

EAGER = ("PyTorch eager", "PyTorch eager, foreach")
COMPILE = ("PyTorch compile", "PyTorch compile, Adam eager")
BY_HAND = ("PyTorch graph by hand",)
JAX = ("JAX scan", "JAX scan, unrolled")
CHECKS = ("golden", "check", "check-plain")
DISAGREES = "does not agree"
TESTS, PARALLEL = ("captured", "tests", "reductions"), ("parallel",)


class Missing(Exception):
    """A figure that is not there, and why."""


class RefusedError(Exception):
    """A file cannot be used; the sentence says which, and why."""


def find(report: dict, kind: str, name: str) -> dict:
    """Return what was found for a contestant, or say why there is nothing."""
    kept = (stage.get(kind, {}) for stage in report["stages"].values())
    found = next((one[name] for one in kept if name in one), None)
    if found is None:
        raise Missing(absent(report, stage_of(kind, name)))
    if "not_installed" in found:
        raise Missing(f"{found['not_installed']} not installed")
    if "failed" in found:
        raise Missing(f"failed: {last_line(found['failed'])}")
    return found


def stage_of(kind: str, name: str) -> str:
    """Return the stage that a contestant belongs to."""
    return CONTESTANTS[name].stage if kind == "contestants" else kind


def absent(report: dict, stage: str) -> str:
    """Return why there is nothing of a stage."""
    found = report["stages"].get(stage, {})
    return f"{found['status']}: {found['reason']}" if "reason" in found else NOT_YET


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2].strip().replace("|", "/")


def peer(report: dict, name: str) -> dict:
    return find(report, "contestants", name)


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
            why = why or f"learns too little ({one['accuracy']:.1%} right)"
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
    found = find(report, "accuracy", "xpnet")
    seconds, n = found["warm_s"]["median"], len(found["accuracies"])
    others = []
    for name, result in report["stages"]["accuracy"]["accuracy"].items():
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


def straight(report: dict) -> Cell:
    return f"{peer(report, 'xpnet straight')['step_us']:.0f} µs", None


def agreement(report: dict) -> Cell:
    """The checks and the GPU tests: what the figures are worth."""
    checks = {name: report["stages"].get(name, {}) for name in CHECKS}
    words = [f"{name}: {verdict(stage)}" for name, stage in checks.items()]
    words.append(f"tests: {counted(report, TESTS)}")
    words.append(f"several processes: {counted(report, PARALLEL)}")
    states = {report["stages"].get(name, {}).get("status") for name in (*CHECKS, *TESTS)}
    if states == {"passed"}:
        return "; ".join(words), True
    return "; ".join(words), False if "failed" in states else None  # the rest has not been run


def verdict(stage: dict) -> str:
    """Return what a check says."""
    if "check" not in stage:
        return "did not come to its end" if stage else NOT_YET
    return "agrees" if stage["check"]["ok"] else DISAGREES


def counted(report: dict, names: Sequence[str]) -> str:
    """Return how many tests of these stages passed, failed and were skipped."""
    totals = [report["stages"].get(name, {}).get("tests", {}).get("totals") for name in names]
    known = [one for one in totals if one]
    if not known:
        return NOT_YET
    keys = ("passed", "failed", "skipped")
    words = ", ".join(f"{sum(one[key] for one in known)} {key}" for key in keys)
    return words if len(known) == len(names) else f"{words}, not all were run"


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
    ("step as a graph without a second branch", "", straight),
    ("step with 1, 4, 16, 64 steps to a launch", "", launches),
    ("the same gradients, and the tests on the GPU", "all", agreement),
]


# ---- the table ----------------------------------------------------------------------------------


def cell(measure: Callable[[dict], Cell], report: dict) -> str:
    text, reached = measured(measure, report)
    return text + (" **missed**" if reached is False else "")


def measured(measure: Callable[[dict], Cell], report: dict) -> Cell:
    """Return what was measured, or why nothing was."""
    try:
        return measure(report)
    except Missing as missing:
        return str(missing), None
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        return f"not in the report ({type(error).__name__}: {error})", None


def table(reports: list[dict]) -> str:
    """Return the table, and what each column was measured with."""
    names = [gpu(report) for report in reports] or ["measured"]
    lines = [f"| what | aim | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for what, aim, measure in ROWS:
        cells = [cell(measure, report) for report in reports] or [NOT_YET]
        lines.append(f"| {what} | {aim or '-'} | {' | '.join(cells)} |")
    if reports:
        lines.append("")
        lines += [tools(report) for report in reports]
    return "\n".join(lines)


def tools(report: dict) -> str:
    words = {"CuPy": "CuPy", "CUDA": "CUDA runtime", "PyTorch": "torch", "JAX": "jax"}
    device = report["device"]
    known = [f"{name} {device[key]}" for name, key in words.items() if key in device]
    known.append(f"driver {device.get('driver', 'unknown')}")
    return f"{gpu(report)}: {', '.join(known)}, {report.get('date', '')}."


def gpu(report: dict) -> str:
    return report["device"].get("GPU", "unknown GPU")


def sentence(reports: list[dict], verified: list[dict]) -> str:
    """Return the state of the GPU, honestly, in one sentence."""
    if not reports:
        return NO_GPU
    latest = max(reports, key=lambda report: report.get("date", ""))
    here = {"GPU": gpu(latest), "date": latest.get("date", "")}
    known = any(here.items() <= entry.items() for entry in verified)
    verdicts = [verdict(latest["stages"].get(name, {})) for name in CHECKS]
    if DISAGREES in verdicts:
        check = "`xpnet check` does not agree"
    elif known:
        check = "`xpnet check` agrees to the bit"
    else:
        check = "`xpnet check` has not been run in full"
    cells = [measured(measure, latest)[1] for _, aim, measure in ROWS if aim]
    aims = f"aims reached: {cells.count(True)} of {len(cells)}"
    where = f"**Run on {here['GPU']}** ({here['date']})"
    return f"{where}: {check}; tests: {counted(latest, TESTS)}; {aims}."


def load(folder: Path) -> list[dict]:
    return [read_json(path) for path in sorted(folder.glob("gpu-*.json"))]


def read(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or "it is not a text"
        raise RefusedError(f"cannot read {path} ({why})") from None


def read_json(path: Path) -> Any:
    try:
        return json.loads(read(path))
    except ValueError as error:
        raise RefusedError(f"{path} is damaged ({error})") from None


def brought_up_to_date(text: str, reports: list[dict], verified: list[dict]) -> str:
    """Return the README with the present sentence and table between their markers."""
    lines = textwrap.fill(sentence(reports, verified), 100, break_long_words=False)
    text = between(text, SENTENCE, f"\n{lines}\n")
    return between(text, TABLE, f"\n{table(reports)}\n")


def between(text: str, markers: tuple[str, str], new: str) -> str:
    """Return the text with something new between two markers."""
    begin, end = markers
    before, found, rest = text.partition(begin)
    _, found_too, after = rest.partition(end)
    if not (found and found_too):
        raise RefusedError(f"the README needs the lines {begin} and {end}")
    return f"{before}{begin}{new}{end}{after}"


def old_and_new(options: argparse.Namespace) -> tuple[str, str]:
    """Return the README as it is and as it should be."""
    text = read(options.readme)
    return text, brought_up_to_date(text, load(options.results), read_json(options.verified))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--verified", type=Path, default=ROOT / "xpnet/verify/verified.json")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    options = parser.parse_args(arguments)
    try:
        text, now = old_and_new(options)
    except RefusedError as error:
        print(f"report.py: {error}", file=sys.stderr)
        return 2
    if options.check:
        if now != text:
            print("README.md is out of date: run python bench/report.py", file=sys.stderr)
        return int(now != text)
    from xpnet.support.files import write_atomically  # bench/gpu.sh does without xpnet

    write_atomically(options.readme, now.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
