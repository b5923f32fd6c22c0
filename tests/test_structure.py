"""The shape of the library: imports point down, nothing optional is imported, nothing is unsafe."""

from __future__ import annotations

import ast
import graphlib
import importlib.metadata
import inspect
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import xpnet

PACKAGE = Path(xpnet.__file__).parent
FILES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}
LAYER_FILES = [name for name in FILES if name.startswith("layers/")]

# What each part may import of the library, besides itself. A new part needs a line here.
LOWEST = {"checks", "errors", "names", "random"}
COMPUTING = {*LOWEST, "archive", "backend", "initializers", "layers", "losses", "network"}
SAVING = {"callbacks", "checkpoint", "files"}
TRAINING = {*COMPUTING, *SAVING, "data", "metrics", "optimizers", "parallel", "schedules"}
TRAINING |= {"training"}
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "archive": {"__version__", "errors", "files"},
    "names": {"errors"},
    "checks": {"errors"},
    "functions": {"backend"},
    "random": {"checks", "errors", "functions"},
    "backend": {"errors", "names"},
    "initializers": {"names", "random"},
    "schedules": {"checks", "errors", "functions"},
    "data": {"checks", "errors", "files", "functions", "random"},
    "layers": {*LOWEST, "backend", "initializers"},
    "losses": {*LOWEST, "backend", "initializers"},
    "parallel": {*LOWEST, "backend"},
    "network": {*LOWEST, "archive", "backend", "initializers", "layers.base"},
    "optimizers": {*LOWEST, "backend", "network", "schedules"},
    "metrics": {"losses", "names"},
    "callbacks": {"backend", "checks", "errors", "files"},
    "training": TRAINING - {"training"},
    "recording": {*LOWEST, "backend", "callbacks", "network"},
    "views": {*COMPUTING, "recording"},
    "gradcheck": COMPUTING,
    "parity": {*COMPUTING, "gradcheck"},
    "golden": {*COMPUTING, "data", "optimizers", "parallel"},
    "consistency": {*LOWEST, "__version__", "backend", "golden", "network", "parity"},
    "consistency_html": {"consistency", "parity"},
    "consistency_processes": {"backend", "golden", "parallel"},
    "checkpoint": {*COMPUTING, *SAVING, "schedules"} - {"checkpoint"},
    "exchange": {*LOWEST, "__version__", "backend", "files", "layers.base", "network"},
    "problems": TRAINING,
    "plots": {*TRAINING, "recording", "views"},
    "runs": {*TRAINING, "files", "problems", "recording"},
    "report": {*TRAINING, "files", "plots", "problems", "recording", "runs", "views"},
    "estimators": TRAINING,
}
ANYTHING = {"", "__main__", "cli", "info"}  # "" is xpnet itself, its list of public names

# Files that need more than NumPy and the standard library at their first line.
NEEDS = {f"backend/{name}.py": {"cupy"} for name in ("cupy_device", "cupy_probe", "capture")}
NEEDS["backend/on_numba.py"] = {"numba"}
NEEDS["parallel/mpi.py"] = {"mpi4py"}
NEEDS |= {f"estimators/{name}.py": {"sklearn"} for name in ("base", "classifier", "regressor")}
OPTIONAL = (
    "cupy matplotlib mpi4py numba onnx pandas polars pooch safetensors sklearn threadpoolctl torch "
    "tqdm"
)


def part(name):
    """Return the part that a file belongs to: its folder, or its own name."""
    return "" if name == "__init__.py" else name.partition("/")[0].removesuffix(".py")


def imports(tree):
    """Return the (line, full name) of all imports that are not for type checkers only."""
    found, nodes = [], [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            nodes += node.orelse
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports are written in full"
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def within(name, parts):
    """Tell whether a dotted name is one of the parts or lies in it."""
    return any(f"{name}.".startswith(f"{p}.") for p in parts)


# ---- imports ----------------------------------------------------------------------------------


def test_the_table_has_no_cycle_and_knows_every_part():
    graph = {name: {p.partition(".")[0] for p in below} for name, below in MAY_IMPORT.items()}
    graphlib.TopologicalSorter(graph).prepare()
    assert {part(name) for name in FILES} - MAY_IMPORT.keys() - ANYTHING == set()


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    mine = part(name)
    wrong = [
        f"{name}:{line} imports {target}"
        for line, target in imports(TREES[name])
        if within(target, ["xpnet"])
        and mine not in ANYTHING
        and not within(target.removeprefix("xpnet").lstrip("."), {mine, *MAY_IMPORT[mine]})
    ]
    assert wrong == []


def test_the_import_test_sees_wrong_imports():
    tree = ast.parse("def f():\n  from xpnet import cli\n  import xpnet.cli, numpy as np")
    assert sorted(imports(tree)) == [(2, "xpnet.cli"), (3, "numpy"), (3, "xpnet.cli")]
    assert imports(ast.parse("if TYPE_CHECKING:\n  import a\nelse:\n  import b")) == [(4, "b")]
    assert within("layers.base.Layer", {"layers.base"})
    assert not within("layers.linear.Linear", {"layers.base"})
    assert not within("layers", {"layers.base"})
    assert not within("networks", {"network"})


@pytest.mark.parametrize("name", FILES)
def test_other_libraries_are_imported_where_they_are_used(name):
    allowed = {*sys.stdlib_module_names, "numpy", "xpnet", *NEEDS.get(name, ())}
    heads = [node for node in TREES[name].body if isinstance(node, ast.Import | ast.ImportFrom)]
    found = {target.partition(".")[0] for _, target in imports(ast.Module(heads, []))}
    assert found <= allowed


def test_importing_xpnet_imports_numpy_and_nothing_else():
    program = (
        "import sys, numpy\n"
        "before = set(sys.modules)\n"
        "import xpnet\n"
        "new = {m.partition('.')[0] for m in set(sys.modules) - before}\n"
        "print(sorted(new - sys.stdlib_module_names - {'numpy', 'xpnet'}))\n"
        f"print([m for m in {OPTIONAL.split()} if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert (run.stdout, run.stderr) == ("[]\n[]\n", "")


# ---- what must not be there -------------------------------------------------------------------

UNSAFE_MODULES = {"dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"__import__", "eval", "exec", "yaml.load", "importlib.import_module"}


def unsafe(tree):
    """Return what runs code that may come from a file."""
    found = [name for _, name in imports(tree) if name.partition(".")[0] in UNSAFE_MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            found += [name for name in (ast.unparse(node.func),) if name in UNSAFE_CALLS]
            found += [
                "allow_pickle"
                for keyword in node.keywords
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False"
            ]
    return found


@pytest.mark.parametrize("name", FILES)
def test_nothing_runs_code_from_a_file(name):
    assert unsafe(TREES[name]) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import load",
        "np.load(f, allow_pickle=True)",
        "np.load(f, allow_pickle=flag)",
        "eval(text)",
        "exec(text)",
        "yaml.load(text)",
        "__import__(name)",
    ],
)
def test_unsafe_lines_are_seen(line):
    assert len(unsafe(ast.parse(line))) == 1


def strings(tree):
    """Return the texts of a file without its docstrings."""
    bodies = [getattr(node, "body", None) for node in ast.walk(tree)]
    docs = {id(b[0].value) for b in bodies if isinstance(b, list) and isinstance(b[0], ast.Expr)}
    constants = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return [c.value for c in constants if isinstance(c.value, str) and id(c) not in docs]


@pytest.mark.parametrize("name", [*LAYER_FILES, "losses.py", "optimizers.py", "network.py"])
def test_nobody_asks_for_the_device(name):
    """Layers, losses and optimizers are written once, for every backend."""
    tree = TREES[name]
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not {text for text in strings(tree) if text.lower() in ("cupy", "numpy", "cuda", "gpu")}
    assert "on_host" not in attributes
    assert "get_array_module" not in ast.dump(tree)
    if name != "network.py":
        assert "module" not in attributes  # the closed list of primitives is enough


@pytest.mark.parametrize("name", LAYER_FILES)
def test_layers_compute_with_xp_alone(name):
    """NumPy is there for the names of types, and for starting values on the host."""
    nodes = list(ast.walk(TREES[name]))
    starts = [n for n in nodes if isinstance(n, ast.FunctionDef) and n.name == "initial_state"]
    on_host = {id(n) for start in starts for n in ast.walk(start)}
    names = [n for n in nodes if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "np"]
    used = {n.attr for n in names if id(n) not in on_host}
    assert used <= {"dtype", "float32", "float64", "integer", "ndarray", "shape", "uint64"}
    modules = [target for _, target in imports(TREES[name]) if within(target, {"numpy", "cupy"})]
    assert modules in ([], ["numpy"])
    assert modules == [] or "import numpy as np" in ast.unparse(TREES[name])


# ---- size, names, package -----------------------------------------------------------------------


def code_lines(path):
    """Return the numbers of the lines that are neither blank, comment nor docstring."""
    text, lines = path.read_text(encoding="utf-8"), set()
    blank = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in blank | {tokenize.ENDMARKER}:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return lines


@pytest.mark.parametrize("name", LAYER_FILES)
def test_layers_are_short(name):
    """Under 80 lines of code for a layer and what it needs; a function has at most 15.

    The base of all has what files, threads and ONNX need besides.
    """
    lines = code_lines(FILES[name])
    nodes = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    sizes = {n.name: len(lines & set(range(n.lineno, n.end_lineno + 1))) for n in nodes}
    assert {k: v for k, v in sizes.items() if v >= 80 and k != "Layer"} == {}
    layers = [n for n in nodes if isinstance(n, ast.ClassDef) and n.name in vars(xpnet)]
    most = 100 if name == "layers/base.py" else 80
    assert len(lines) < most * max(1, len(layers))
    functions = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    assert {k: v for k, v in sizes.items() if k in functions and v > 15} == {}


def public_names():
    return [name.rpartition(".")[2] for _, name in imports(TREES["__init__.py"])]


@pytest.mark.parametrize("name", public_names())
def test_public_names_have_a_docstring(name):
    assert inspect.cleandoc(getattr(xpnet, name).__doc__ or "")


def test_public_names_are_there_and_re_exported():
    assert {"Sequential", "Linear", "Trainer", "set_backend"} <= set(public_names())
    assert len(set(public_names())) == len(public_names())
    for node in TREES["__init__.py"].body:
        if isinstance(node, ast.ImportFrom):  # `X as X` tells type checkers that X is public
            assert [alias.asname for alias in node.names] == [alias.name for alias in node.names]


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_version_is_that_of_the_installed_package():
    try:
        installed = importlib.metadata.version("xpnet")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("xpnet is not installed here, only its folder is on the path")
    assert xpnet.__version__ == installed
