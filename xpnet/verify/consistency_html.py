"""The consistency report as one page of HTML, which needs no network."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from xpnet.verify.consistency_report import CheckReport, RecipeReport
from xpnet.verify.parity import Check

STYLE = """
:root { color-scheme: light dark; --line: #8884; --good: #15803d; --bad: #b91c1c }
@media (prefers-color-scheme: dark) { :root { --good: #4ade80; --bad: #f87171 } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 68rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin-bottom: 0 } h2 { font-size: 1.15rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .6rem 0; display: block; overflow-x: auto }
th, td { text-align: left; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line) }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap }
code { font-size: .8rem; overflow-wrap: anywhere }
.good { color: var(--good) } .bad { color: var(--bad); font-weight: 600 }
details { border-bottom: 1px solid var(--line); padding: .4rem 0 } summary { cursor: pointer }
"""


def page(report: CheckReport) -> str:
    """Return the report as the text of an HTML file."""
    missing = report.left_out.items()
    parts = [
        f"<h1>{_mark(report.ok, report.verdict)}</h1>",
        f"<p>{report.steps} steps of {len(report.recipes)} trainings, "
        f"on {escape(', '.join(f'{k} {v}' for k, v in report.machine.items()))}.</p>",
        _table(["training", "gradients", *_backends(report)], map(_summary, report.recipes)),
        *(f"<p><b>{escape(what)}: not run.</b> {escape(why)}</p>" for what, why in missing),
        f"<p>Last verified on: {escape(report.last_verified)}.</p>",
    ]
    if report.recipes:
        legend = report.legend.items()
        parts += [
            "<h2>Each training</h2>",
            *map(_recipe, report.recipes),
            "<h2>What the columns mean</h2>",
            *(f"<p><b>{escape(what)}</b>: {escape(why)}.</p>" for what, why in legend),
        ]
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>xpnet check</title>'
    view = '<meta name="viewport" content="width=device-width">'
    return f"{head}{view}<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"


def _backends(report: CheckReport) -> list[str]:
    return list(dict.fromkeys(name for recipe in report.recipes for name in recipe.trainings))


def _summary(recipe: RecipeReport) -> list[str]:
    gradients = _mark(recipe.gradients.ok, "agree" if recipe.gradients.ok else "differ")
    bits = [
        _mark(t.golden, t.verdict + (f": {t.first}" if t.first else ""))
        for t in recipe.trainings.values()
    ]
    return [escape(recipe.name), gradients, *bits]


def _recipe(recipe: RecipeReport) -> str:
    tables = [
        _checks([check for check in recipe.gradients.checks if check.dtype == dtype])
        for dtype in ("float64", "float32")
    ]
    hashes = [
        [escape(name), _code(t.gradients), _code(t.weights), f"{t.milliseconds:.1f} ms"]
        for name, t in recipe.trainings.items()
    ]
    bits = _table(["SHA-256 of", "all gradients", "the last weights", "a step"], hashes)
    wrong = [f'<p class="bad">{escape(text)}</p>' for text in recipe.failures()]
    title = _mark(recipe.ok, recipe.name)
    shown = "" if recipe.ok else " open"
    return f"<details{shown}><summary>{title}</summary>{''.join([*wrong, *tables, bits])}</details>"


def _checks(checks: list[Check]) -> str:
    """Return the checks in one type as columns, the gradients as rows."""
    names = dict.fromkeys(row.name for check in checks for row in check.rows)
    rows = []
    for name in names:
        cells = [[row for row in check.rows if row.name == name] for check in checks]
        shown = [
            "".join(_mark(r.ok, f"{r.error:.1e} of {r.limit:.1e}") for r in cell) for cell in cells
        ]
        rows.append([escape(name), *shown])
    head = [f"{checks[0].dtype}: error of limit", *(check.what for check in checks)]
    return _table(head, rows)


def _table(head: Iterable[str], rows: Iterable[list[str]]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        "<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in row) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _mark(good: bool, text: str) -> str:
    """Return text with a sign before it, so that the colour is not all that tells."""
    return f'<span class="{"good" if good else "bad"}">{"✓" if good else "✗"} {escape(text)}</span>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"
