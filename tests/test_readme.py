"""The README's Python and the examples do what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

import xpnet

ROOT = Path(__file__).parent.parent
BLOCKS = [
    block.partition("```")[0]
    for block in (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
]


def test_the_first_screen_runs_and_prints_what_it_says(capsys):
    first, by_hand = BLOCKS[:2]
    names = {}
    exec(compile(first, "README.md", "exec"), names)
    accuracy, labels = capsys.readouterr().out.split("\n")[:2]
    promised = [line.partition("# ")[2] for line in first.splitlines() if "# " in line]
    assert f"{float(accuracy):.2f}" == promised[0]
    assert labels == promised[1]
    before = names["net"].sha256()
    exec(compile(by_hand, "README.md", "exec"), names)
    assert float(capsys.readouterr().out) < 0.5
    assert names["net"].sha256() != before


def test_the_layer_that_the_readme_shows_is_the_layer():
    """All but the docstrings, the type hints and the choice of no bias."""
    shown = BLOCKS[2]
    code = (ROOT / "xpnet/layers/linear.py").read_text(encoding="utf-8")
    for line in filter(None, map(str.strip, shown.splitlines())):
        if not line.startswith(("def ", '"""')):
            assert line in code, line


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_the_examples_run(path, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(path), "2"])
    with xpnet.use_backend("numpy"):
        runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
