"""What ``bench/house.py`` measures, on sources whose numbers are known, and on xpnet."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))  # as when a script of that folder runs
import house  # noqa: E402

FILES = {
    "__init__.py": "from xpnet.high.a import A\n",
    "low.py": "import numpy\nclass C:\n    'Doc.'\n    def f(self):\n        '''A\n        b.'''\n",
    "high/__init__.py": "",
    "high/a.py": "from xpnet import low\nfrom xpnet.high import b\n",
    "high/b.py": "def f():\n    from xpnet.high.a import A\n",
    "middle.py": "if TYPE_CHECKING:\n    from xpnet import A\nimport xpnet.low\n",
}


@pytest.fixture
def small(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "xpnet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "xpnet" / "py.typed").touch()
    return house.House(tmp_path / "xpnet")


def test_the_file_of_a_name(small):
    assert small.file("xpnet.low") == "low.py"
    assert small.file("xpnet.high.a.A") == "high/a.py"
    assert small.file("xpnet.high.something") == "high/__init__.py"
    assert small.file("xpnet.A") == small.file("xpnet") == "__init__.py"
    assert small.file("xpnetwork.low") is small.file("numpy") is None


def test_imports_in_functions_and_for_type_checkers_count(small):
    assert small.graph == {
        "__init__.py": {"high/a.py"},
        "low.py": set(),
        "high/__init__.py": set(),
        "high/a.py": {"low.py", "high/b.py"},
        "high/b.py": {"high/a.py"},
        "middle.py": {"__init__.py", "low.py"},
    }
    assert small.rooms == {"low": set(), "high": {"low"}, "middle": {"low"}}


def test_relative_imports_are_refused():
    with pytest.raises(ValueError, match="line 2: imports are written in full"):
        house.imports(ast.parse("\nfrom . import a"))


def test_circles_and_floors(small):
    assert house.circles(small.inside) == [["high/a.py", "high/b.py"]]
    assert house.through_the_facade(small) == (0, [])
    small.graph["high/b.py"].add("middle.py")
    small.graph["low.py"].add("__init__.py")
    assert house.through_the_facade(small) == (2, ["low.py", "middle.py"])
    graph = {"a": {"b", "c"}, "b": {"d"}, "c": {"e"}, "d": {"b"}, "e": {"f"}, "f": set()}
    assert house.circles(graph) == [["b", "d"]]
    assert house.longest_chain(graph) == ["a", "c", "e", "f"]
    assert house.components(graph) == [["b", "d"], ["f"], ["e"], ["c"], ["a"]]


def test_a_circle_of_circles_is_one():
    graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c", "a"}}
    assert house.circles(graph) == [["a", "b", "c", "d"]]


def test_sizes(small):
    assert house.top_level(small) == (4, ["__init__.py", "high", "low.py", "middle.py"])
    assert house.longest_class(small) == (2, ["2 low.py: C"])
    assert house.long_functions(small) == (0, [])
    small.trees["long.py"] = ast.parse("class A:\n  @d\n  def f(self):" + "\n    1" * 40)
    assert house.long_functions(small) == (1, ["41 long.py: A.f"])
    assert house.complex_functions(small) == (0, [])
    small.trees["long.py"] = ast.parse("def f():\n  return " + " or ".join("abcdefghijk"))
    assert house.complex_functions(small) == (1, ["11 long.py: f"])


def test_mentions_of_the_mode(small):
    small.texts["low.py"] += "# Reproducible\n"
    small.texts["verify/a.py"] = small.texts["parallel/a.py"] = "reproducible"
    assert house.mentions_of_the_mode(small) == (1, ["low.py"])


@pytest.mark.parametrize(
    ("code", "decisions"),
    [
        ("return 1", 0),
        ("if a: pass\nelif b: pass\nelse: pass", 2),
        ("return a if b and c or d else e", 3),
        ("for i in x: pass\nelse: pass", 2),
        ("while a: break", 1),
        ("try: pass\nexcept A: pass\nexcept B: pass\nelse: pass", 3),
        ("return [a for a in b if c if d for e in f]", 4),
        ("assert a and b, c or d", 1),
        ("with a: pass", 0),
        ("return lambda: a or b", 1),
        ("def g():\n  if a: pass", 0),
        ("class G:\n  if a: pass", 0),
        ("match a:\n  case 1: pass\n  case 2: pass\n  case _: pass", 2),
    ],
)
def test_complexity_is_what_radon_counts(code, decisions):
    """The numbers are those of radon 6.0.1."""
    function = ast.parse("def f():\n" + "".join(f"  {line}\n" for line in code.split("\n"))).body[0]
    assert house.complexity(function) == 1 + decisions


def test_a_file_of_the_step_that_is_gone_is_named(small):
    with pytest.raises(SystemExit, match=r"no file layers/base\.py, layers/linear\.py"):
        house.step(small)


def test_check_fails_above_a_limit(monkeypatch, capsys):
    monkeypatch.setattr(house, "House", str)  # nothing is read
    monkeypatch.setattr(house, "table", lambda _: [house.Line("floors", 3, 2, ["a", "b", "c"])])
    assert house.main([]) == 0
    assert house.main(["--check"]) == 1
    assert capsys.readouterr().out.count("ABOVE") == 2
    monkeypatch.setattr(house, "table", lambda _: [house.Line("floors", 2, 2, ["a", "b"])])
    assert house.main(["--check", "--worst"]) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == ["      a", "      b"]


def test_xpnet_is_within_the_limits():
    """If a number is above its limit, ``python bench/house.py --worst`` names the files."""
    command = [sys.executable, "-I", "-S", str(ROOT / "bench/house.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "the time of a step: python bench/compare.py"
