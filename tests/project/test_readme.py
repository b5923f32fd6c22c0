"""The README's Python does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib import pyplot

ROOT = Path(__file__).parents[2]
BLOCKS = [
    block.partition("```")[0]
    for block in (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1:]
]


PICTURES, FIRST, BY_HAND, LAYER = BLOCKS[:4]
(SAVING,) = [block for block in BLOCKS if "xpnet.load" in block]
(SEARCH,) = [block for block in BLOCKS if "GridSearchCV" in block]


@pytest.mark.thorough
def test_the_pictures_can_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    shorter = PICTURES.replace("Recorder()", "Recorder(4)").replace("epochs=100", "epochs=3")
    exec(compile(shorter, "README.md", "exec"), names)
    assert len(names["recorder"].epochs) == 4
    assert [line.get_ydata().tolist() for line in names["lines"]] == [
        names["trainer"].history["loss"]
    ]
    assert Path("spiral.gif").read_bytes().startswith(b"GIF89a")
    for figure in (names["display"].figure_, names["lines"][0].figure, names["film"]._fig):
        pyplot.close(figure)


def test_the_first_screen_runs_and_prints_what_it_says(capsys):
    first, by_hand = FIRST, BY_HAND
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
    shown = LAYER
    code = (ROOT / "xpnet/layers/linear.py").read_text(encoding="utf-8")
    for line in filter(None, map(str.strip, shown.splitlines())):
        if not line.startswith(("def ", '"""')):
            assert line in code, line


def test_a_training_is_saved_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(FIRST.replace("epochs=20", "epochs=1"), "README.md", "exec"), names)
    before = names["net"]
    saving = SAVING.replace("epochs=20", "epochs=2").replace("every_steps=500", "every_steps=40")
    exec(compile(saving, "README.md", "exec"), names)
    assert names["net"] is not before
    assert repr(names["net"]) == repr(before)
    assert [path.name for path in names["saved"].paths] == [
        f"step-{45 + t:09d}.npz" for t in (40, 80, 90)
    ]


@pytest.mark.thorough
def test_the_search_runs():
    names = {}
    exec(compile(FIRST.replace("epochs=20", "epochs=1"), "README.md", "exec"), names)
    short = SEARCH.replace("random_state=0", "random_state=0, learning_rate_init=0.02, tol=1")
    exec(compile(short, "README.md", "exec"), names)
    assert names["search"].best_score_ > 0.9
