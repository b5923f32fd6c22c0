"""Advice is true: whoever does what an error message says is helped."""

from __future__ import annotations

import ast
import importlib
import re
from functools import cache
from inspect import signature
from pathlib import Path

import pytest
from advice import ELSEWHERE, FOLLOWED, NOT_FOLLOWED

import xpnet

PACKAGE = Path(xpnet.__file__).parent
FOLDER = Path(__file__).parents[1] / "advice"
for _path in sorted(FOLDER.glob("[a-z]*.py")):
    importlib.import_module(f"advice.{_path.stem}")

VERBS = (
    "add begin bring build call change check choose close collect compute convert count declare "
    "define delete draw drop end fill fit free get give go install keep leave let load lower make "
    "move name open pass put raise read rebuild register reinstall remove rename replace "
    "reshape resume return run save say scale see set start stop take train try turn unset "
    "update use wait write"
)
VERB = rf"(?i:{VERBS.replace(' ', '|')}|do it)\b(?! of\b)"
AFTER = r"(?:^|[.?;:,)] (?:or |so |(?i:for) [\w ]+ )?)"
CALL = r"\b(?:net|xpnet|trainer)\.[\w.]+\("  # names what to write
ADVICE = re.compile(rf"{AFTER}{VERB}|{CALL}|, such as \w+=")


def text_of(node):
    """Return the text of a string in the source; what is put in is {}."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
    return None


@cache
def messages():
    """Return each text with advice in the source, with its place."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name == "parser.py":  # the help of the options
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        parts = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
        for node in ast.walk(tree):
            text = text_of(node)
            if text and id(node) not in docstrings | parts and " " in text and ADVICE.search(text):
                found[text] = f"{path.relative_to(PACKAGE)}:{node.lineno}"
    return found


@pytest.mark.parametrize("piece", sorted(FOLLOWED))
def test_advice_that_is_followed_helps(piece, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    follow = FOLLOWED[piece]
    follow(**{name: request.getfixturevalue(name) for name in signature(follow).parameters})


def test_every_advice_is_followed_or_says_why_not():
    known = [*FOLLOWED, *ELSEWHERE, *NOT_FOLLOWED]
    missing = [
        f"{place}: {text}"
        for text, place in messages().items()
        if not any(piece in text for piece in known)
    ]
    assert not missing, "\n".join(missing)


def test_no_entry_is_about_a_message_that_is_gone():
    texts = list(messages())
    assert [
        p for p in (*FOLLOWED, *ELSEWHERE, *NOT_FOLLOWED) if not any(p in text for text in texts)
    ] == []


@pytest.mark.parametrize("test", sorted(set(ELSEWHERE.values())))
def test_the_test_that_follows_an_advice_exists(test):
    file, _, name = test.partition("::")
    text = (FOLDER.parents[1] / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)
