"""The report as one file of HTML: style, program and numbers are in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from xpnet.runs.layout import REPORT
from xpnet.runs.problems import PROBLEMS
from xpnet.runs.report.contents import contents
from xpnet.runs.saved import read_run
from xpnet.support.files import write_atomically

# The browser itself sees to it that nothing is fetched.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def write_report(folder: Path, data_dir: str | Path | None = None) -> Path:
    """Write ``report.html`` into a run folder, and return its path.

    Parameters
    ----------
    folder : Path
        What ``xpnet train`` has left, finished or not.
    data_dir : str or Path, optional
        Where the data are now, if they have moved.

    Raises
    ------
    XpnetError
        If it is no run folder.
    OSError
        If the file cannot be written.
    """
    path = folder / REPORT
    write_atomically(path, page(contents(read_run(folder), data_dir)).encode())
    return path


def page(shown: Mapping[str, Any]) -> str:
    """Return the text of the page."""
    config, name = shown["config"], escape(shown["config"]["problem"])
    summary = PROBLEMS[config["problem"]].summary
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in shown["notes"])
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name} · xpnet</title>
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_part("report.css")}</style></head><body>
<header><h1>{name}</h1><p>{escape(summary)}. Training {escape(shown["status"])}.</p>
<dl class="tiles">{"".join(_tile(*tile) for tile in _tiles(shown))}</dl>{notes}</header>
<noscript><p class="note">The pictures need JavaScript; they are also in the folder of the run, as
PNG and SVG.</p></noscript>
<main id="main"></main>
<footer id="player" hidden><button id="play" aria-label="play">▶</button>
<input id="slider" type="range" min="0" step="1" aria-label="moment of the training">
<output id="readout"></output></footer>
<section class="card wide"><h2>How it was trained</h2>
<div class="tables">{_table(config)}{_table(shown["environment"])}</div></section>
<script type="application/json" id="data">{_json(shown)}</script>
<script>{_part("report.js")}</script></body></html>
"""


def _tiles(shown: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the numbers that one wants to know first, with their names."""
    results, log, config = shown["results"], shown["log"], shown["config"]
    tiles = []
    if "test_accuracy" in results:
        tiles += [(f"{part} accuracy", f"{results[f'{part}_accuracy']:.2%}") for part in PARTS]
    elif "test_rmse" in results:
        tiles += [(f"{part} RMSE", f"{results[f'{part}_rmse']:.4g}") for part in PARTS]
        tiles += [("test R²", f"{results['test_r2']:.4f}")]
    if results:
        tiles += [(f"{part} loss", f"{results[f'{part}_loss']:.4g}") for part in PARTS]
        tiles += [("time", f"{results['seconds']:.1f} s")]
    elif log:
        tiles += [(name.replace("_", " "), f"{log[name][-1]:.4g}") for name in log][1:]
    return [*tiles, ("parameters", f"{config['parameters']:,}"), ("backend", config["backend"])]


PARTS = ("test", "train")


def _tile(name: str, value: str) -> str:
    return f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"


def _table(rows: Mapping[str, Any]) -> str:
    return (
        "<table>"
        + "".join(
            f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(_words(value))}</td></tr>"
            for name, value in rows.items()
        )
        + "</table>"
    )


def _words(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "yes" if value else "no" if value is False else "-"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _json(value: Any) -> str:
    """Return JSON that can stand in a page: nothing in it ends the element."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _part(name: str) -> str:
    return files("xpnet.runs.report").joinpath(name).read_text(encoding="utf-8")
