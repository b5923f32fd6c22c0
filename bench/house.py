"""Measure how the source is built: ``python bench/house.py``.

Options: ``--check`` exits with 1 if a number is above its limit, ``--worst`` names what makes each
number, ``--root FOLDER`` measures another checkout. The file needs the standard library only, and
imports nothing of xpnet.

The numbers, and how each one is counted:

- Lines to follow one step: all lines, docstrings included, of the files in `STEP`.
- Entries at the top level: modules, folders and data files of ``xpnet/``, without ``py.typed``.
- Circles between files: groups of files that import each other, directly or through other files.
  Imports inside functions and under ``TYPE_CHECKING`` count. ``from xpnet import x`` is an import
  of the file of the submodule x if there is one, and of ``xpnet/__init__.py`` otherwise. That
  ``import xpnet.a.b`` also runs ``xpnet/__init__.py`` and ``xpnet/a/__init__.py`` does not count.
  ``xpnet/__init__.py`` imports nearly everything and is left out here; the next line counts the
  files below it that import from it.
- Longest class: its lines without docstrings.
- Long functions: more than 40 lines, docstring included, decorators not.
- Complex functions: the cyclomatic complexity that radon counts is above 10, its grade C.
- Files that mention `reproducible`: in code, comments or docstrings, outside ``backend/``,
  ``parallel/`` and ``verify/``.
- Rooms: the folders and the modules at the top level, without ``xpnet/__init__.py``.
- Floors: the rooms, or files, on the longest chain of imports. A circle stands on one floor.
- Arrows: pairs of rooms, or files, of which the first imports the second.

How long a step takes is measured by ``python bench/compare.py``.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[1]
STEP = (  # each line: one file, by its names in different releases
    ("layers/base.py",),
    ("layers/linear.py",),
    ("network/sequential.py", "network.py"),
    ("losses/base.py", "losses.py"),
    ("optimizers/base.py", "optimizers.py"),
    ("training/step.py", "training/trainer.py", "training.py"),
    ("backend/base.py",),
)
FACADE = "__init__.py"
LONG, COMPLEX = 40, 10
THE_MODE = re.compile("reproducible", re.IGNORECASE)
MAY_MENTION_IT = ("backend", "parallel", "verify")

Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = dict[str, set[str]]


# ---- reading -------------------------------------------------------------------------------------


class House:
    """The source files of one checkout."""

    def __init__(self, package: Path) -> None:
        self.package = package
        paths = sorted(package.rglob("*.py"))
        self.texts = {p.relative_to(package).as_posix(): p.read_text("utf-8") for p in paths}
        self.trees = {name: ast.parse(text) for name, text in self.texts.items()}

    @cached_property
    def graph(self) -> Graph:
        """The files that each file imports."""
        return {
            name: {self.file(target) for _, target in imports(tree)} - {None, name}
            for name, tree in self.trees.items()
        }

    @cached_property
    def inside(self) -> Graph:
        """The same without the list of public names, ``xpnet/__init__.py``."""
        return {k: names - {FACADE} for k, names in self.graph.items() if k != FACADE}

    @cached_property
    def rooms(self) -> Graph:
        """The rooms that each room imports."""
        found: Graph = {room(name): set() for name in self.inside}
        for name, names in self.inside.items():
            found[room(name)] |= {room(target) for target in names} - {room(name)}
        return found

    def file(self, target: str) -> str | None:
        """Return the file that has the module or the name ``xpnet.a.b``; None for other libraries.

        Examples
        --------
        ``xpnet.losses.Huber`` is in losses/__init__.py, ``xpnet.losses.base.Loss`` in
        losses/base.py, ``xpnet.Linear`` in __init__.py.
        """
        head, *words = target.split(".")
        if head != self.package.name:
            return None
        for n in range(len(words), -1, -1):
            path = "/".join(words[:n])
            for name in (f"{path}.py", f"{path}/__init__.py".lstrip("/")):
                if name in self.trees:
                    return name
        return None

    def definitions(self, kinds: type | tuple[type, ...]) -> Iterator[tuple[str, ast.AST]]:
        """Yield (``file: Class.name``, node) of each class or function, closures excepted."""
        for file, tree in self.trees.items():
            for name, node in _definitions(tree):
                if isinstance(node, kinds):
                    yield f"{file}: {name}", node


def room(name: str) -> str:
    """Return the room of a file: its folder, or its own name at the top level."""
    return name.partition("/")[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[tuple[int, str]]:
    """Return (line, full name) of all imports, those for type checkers included."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: imports are written in full")
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def _definitions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | Function):
            yield f"{prefix}{child.name}", child
        if isinstance(child, ast.ClassDef):
            yield from _definitions(child, f"{prefix}{child.name}.")
        elif not isinstance(child, Function):
            yield from _definitions(child, prefix)


# ---- counting ------------------------------------------------------------------------------------


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of more than one file that all reach each other (Tarjan, 1972)."""
    return sorted(group for group in components(graph) if len(group) > 1)


def components(graph: Graph) -> list[list[str]]:
    """Return all groups of files that reach each other; each group after those it imports."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for below in sorted(graph[name]):
            if below not in number:
                visit(below)
                lowest[name] = min(lowest[name], lowest[below])
            elif below in stack:
                lowest[name] = min(lowest[name], number[below])
        if lowest[name] == number[name]:
            k = stack.index(name)
            found.append(sorted(stack[k:]))
            del stack[k:]

    for name in sorted(graph):
        if name not in number:
            visit(name)
    return found


def longest_chain(graph: Graph) -> list[str]:
    """Return the files of the longest chain of imports, the highest first."""
    chain: dict[str, list[str]] = {}
    for group in components(graph):
        below = {target for name in group for target in graph[name]} - set(group)
        longest = max((chain[name] for name in sorted(below)), key=len, default=[])
        for name in group:
            chain[name] = [name, *longest]
    return max(chain.values(), key=len)


def lines_without_docstrings(node: ast.AST) -> int:
    """Return how many lines a class or a function has besides docstrings."""
    lines = set(range(node.lineno, node.end_lineno + 1))
    for inner in ast.walk(node):
        if isinstance(inner, ast.ClassDef | Function) and ast.get_docstring(inner) is not None:
            first = inner.body[0]
            lines -= set(range(first.lineno, first.end_lineno + 1))
    return len(lines)


def complexity(function: Function) -> int:
    """Return the cyclomatic complexity as radon 6 counts it: 1 and 1 for each decision.

    Functions and classes inside the function do not count, nor does what is inside an assert.
    """
    return 1 + sum(map(_decisions, function.body))


def _decisions(node: ast.AST) -> int:
    if isinstance(node, ast.Assert):
        return 1
    if isinstance(node, ast.ClassDef | Function):
        return 0
    return _own_decisions(node) + sum(map(_decisions, ast.iter_child_nodes(node)))


def _own_decisions(node: ast.AST) -> int:
    match node:
        case ast.If() | ast.IfExp():
            return 1
        case ast.For() | ast.While() | ast.AsyncFor():
            return 1 + bool(node.orelse)
        case ast.Try():
            return len(node.handlers) + bool(node.orelse)
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.Match():
            others = any(getattr(case.pattern, "pattern", 0) is None for case in node.cases)
            return max(0, len(node.cases) - others)
    return 0


# ---- the table -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line of the table: what is counted, the number, its limit, and what makes the number."""

    what: str
    number: int
    limit: int | None
    worst: list[str]

    @property
    def above(self) -> bool:
        """True if the number is above its limit."""
        return self.limit is not None and self.number > self.limit

    def __str__(self) -> str:
        limit = "" if self.limit is None else f"   at most {self.limit:5,}"
        return f"{self.what:36}{self.number:7,}{limit}{'  ABOVE' * self.above}"


def step(house: House) -> tuple[int, list[str]]:
    names = [next((name for name in row if name in house.texts), None) for row in STEP]
    missing = [row[0] for row, name in zip(STEP, names, strict=True) if name is None]
    if missing:
        raise SystemExit(f"no file {', '.join(missing)}: write its new name into STEP")
    sizes = {name: len(house.texts[name].splitlines()) for name in names}
    return sum(sizes.values()), [f"{size} {name}" for name, size in sizes.items()]


def top_level(house: House) -> tuple[int, list[str]]:
    left_out = ("py.typed", "__pycache__")
    return _counted(p.name for p in sorted(house.package.iterdir()) if p.name not in left_out)


def through_the_facade(house: House) -> tuple[int, list[str]]:
    groups = [group for group in circles(house.graph) if FACADE in group]
    return _counted(name for group in groups for name in group if FACADE in house.graph[name])


def longest_class(house: House) -> tuple[int, list[str]]:
    found = [(lines_without_docstrings(n), name) for name, n in house.definitions(ast.ClassDef)]
    ranked = sorted(found, reverse=True)
    return ranked[0][0], [f"{size} {name}" for size, name in ranked[:5]]


def long_functions(house: House) -> tuple[int, list[str]]:
    return _above(house, LONG, lambda node: node.end_lineno - node.lineno + 1)


def complex_functions(house: House) -> tuple[int, list[str]]:
    return _above(house, COMPLEX, complexity)


def mentions_of_the_mode(house: House) -> tuple[int, list[str]]:
    outside = (name for name in house.texts if name.partition("/")[0] not in MAY_MENTION_IT)
    return _counted(name for name in outside if THE_MODE.search(house.texts[name]))


def circles_of(graph: Graph) -> tuple[int, list[str]]:
    return _counted(" ".join(group) for group in circles(graph))


def floors(graph: Graph) -> tuple[int, list[str]]:
    return _counted(longest_chain(graph))


def arrows(graph: Graph) -> tuple[int, list[str]]:
    busiest = sorted(graph, key=lambda name: len(graph[name]), reverse=True)[:5]
    return sum(map(len, graph.values())), [f"{len(graph[name])} {name}" for name in busiest]


def _above(house: House, limit: int, count: Callable[..., int]) -> tuple[int, list[str]]:
    found = [(count(node), name) for name, node in house.definitions(Function)]
    return _counted(f"{n} {name}" for n, name in sorted(found, reverse=True) if n > limit)


def _counted(names: Iterable[str]) -> tuple[int, list[str]]:
    found = list(names)
    return len(found), found


def table(house: House) -> list[Line]:
    return [
        Line("lines to follow one step", *_limited(1000, step(house))),
        Line("entries at the top level of xpnet/", *_limited(20, top_level(house))),
        Line("circles between files", *_limited(0, circles_of(house.inside))),
        Line("  by way of xpnet/__init__.py", *_limited(0, through_the_facade(house))),
        Line("circles between rooms", *_limited(0, circles_of(house.rooms))),
        Line("longest class, lines", *_limited(250, longest_class(house))),
        Line(f"functions over {LONG} lines", *_limited(5, long_functions(house))),
        Line(f"functions of complexity over {COMPLEX}", *_limited(6, complex_functions(house))),
        Line("files that mention `reproducible`", *_limited(6, mentions_of_the_mode(house))),
        Line("floors of rooms", *_limited(12, floors(house.rooms))),
        Line("arrows between rooms", *_limited(140, arrows(house.rooms))),
        Line("floors of files", *_limited(None, floors(house.graph))),
        Line("arrows between files", *_limited(None, arrows(house.graph))),
    ]


def _limited(
    limit: int | None, counted: tuple[int, list[str]]
) -> tuple[int, int | None, list[str]]:
    number, worst = counted
    return number, limit, worst


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="exit with 1 above a limit")
    parser.add_argument("--worst", action="store_true", help="name what makes each number")
    parser.add_argument("--root", type=Path, default=ROOT, help="the checkout to measure")
    options = parser.parse_args(arguments)
    lines = table(House(options.root / "xpnet"))
    for line in lines:
        print(line)
        if options.worst:
            print(*(f"      {one}" for one in line.worst), sep="\n")
    print("the time of a step: python bench/compare.py")
    return int(options.check and any(line.above for line in lines))


if __name__ == "__main__":
    sys.exit(main())
