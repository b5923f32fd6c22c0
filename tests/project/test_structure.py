"""The shape of the library: imports point down, nothing optional is imported, nothing is unsafe."""

from __future__ import annotations

import ast
import fnmatch
import graphlib
import importlib.metadata
import inspect
import io
import pickle
import re
import subprocess
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

import pytest

import xpnet

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))  # as when a script of that folder runs
import house  # noqa: E402
from house import imports, room  # noqa: E402

PACKAGE = Path(xpnet.__file__).parent
HOUSE = house.House(PACKAGE)
TREES = HOUSE.trees
FILES = {name: PACKAGE / name for name in TREES}
LAYER_FILES = [name for name in FILES if room(name) == "layers"]
COMPUTING_FILES = [name for name in FILES if room(name) in ("layers", "losses", "optimizers")]

# What the files of each room may import of the library, besides its own. A new room needs a line.
LOWEST = {"support", "backend"}
LAYERS = {*LOWEST, "initializers", "layers", "losses"}
NETWORKS = {*LAYERS, "network", "optimizers", "schedules"}
TRAINING = {*NETWORKS, "data", "parallel", "training"}
MAY_IMPORT = {
    "support": set(),
    "backend": {"support"},
    "initializers": LOWEST,
    "schedules": LOWEST,
    "data": LOWEST,
    "layers": {*LOWEST, "initializers"},
    "losses": LOWEST,
    "network": {*LOWEST, "initializers", "layers"},
    "optimizers": {*LOWEST, "network", "schedules"},
    "parallel": {*LOWEST, "layers", "network"},
    "exchange": {*LOWEST, "layers", "network"},
    "storage": NETWORKS,
    "training": {*TRAINING, "storage"} - {"training"},
    "verify": {*TRAINING, "storage"},
    "plots": TRAINING,
    "runs": {*TRAINING, "plots", "storage"},
    "estimators": TRAINING,
}
ANYTHING = {"__init__", "__main__", "cli"}  # xpnet/__init__.py is the list of public names

# Files that need more than NumPy and the standard library at their first line.
NEEDS = {
    "backend/*cupy*": "cupy",
    "backend/*capture*": "cupy",
    "backend/*numba*": "numba",
    "parallel/mpi.py": "mpi4py",
    "estimators/base.py": "sklearn",
    "estimators/classifier.py": "sklearn",
    "estimators/inputs.py": "sklearn",
    "estimators/lbfgs.py": "sklearn",
    "estimators/learnt.py": "sklearn",
    "estimators/regressor.py": "sklearn",
}
OPTIONAL = (
    "cupy matplotlib mpi4py numba onnx pandas polars pooch safetensors sklearn threadpoolctl torch "
    "tqdm"
)


def within(name, parts):
    """Return True if a dotted name is one of the parts or lies in one of them."""
    return any(f"{name}.".startswith(f"{p}.") for p in parts)


# ---- imports ----------------------------------------------------------------------------------


def test_the_table_has_no_cycle_and_knows_every_part():
    graphlib.TopologicalSorter(MAY_IMPORT).prepare()
    assert set().union(*MAY_IMPORT.values()) <= MAY_IMPORT.keys()
    assert {room(name) for name in FILES} - MAY_IMPORT.keys() - ANYTHING == set()


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    """Also those inside functions, and those for type checkers."""
    mine = room(name)
    allowed = {} if mine in ANYTHING else {f"xpnet.{p}" for p in (mine, *MAY_IMPORT[mine])}
    wrong = [
        f"{name}:{line} imports {target}"
        for line, target in imports(TREES[name])
        if within(target, ["xpnet"]) and not (mine in ANYTHING or within(target, allowed))
    ]
    assert wrong == []


def test_no_file_imports_one_that_imports_it():
    """Not through other files, and not through the list of public names either."""
    assert house.circles(HOUSE.inside) == []
    assert house.circles(HOUSE.graph) == []


def test_the_import_test_sees_wrong_imports():
    tree = ast.parse("def f():\n  from xpnet import cli\n  import xpnet.cli, numpy as np")
    assert sorted(imports(tree)) == [(2, "xpnet.cli"), (3, "numpy"), (3, "xpnet.cli")]
    tree = ast.parse("if TYPE_CHECKING:\n  import a\nelse:\n  import b")
    assert sorted(imports(tree)) == [(2, "a"), (4, "b")]
    assert room("storage/network_file.py") == "storage"
    assert room("schedules.py") == "schedules"
    assert within("layers.base.Layer", {"layers.base"})
    assert not within("layers.linear.Linear", {"layers.base"})
    assert not within("layers", {"layers.base"})
    assert not within("networks", {"network"})


@pytest.mark.parametrize("name", FILES)
def test_other_libraries_are_imported_where_they_are_used(name):
    needed = {library for files, library in NEEDS.items() if fnmatch.fnmatch(name, files)}
    allowed = {*sys.stdlib_module_names, "numpy", "xpnet", *needed}
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


@pytest.mark.parametrize(
    "name", [*COMPUTING_FILES, *(name for name in FILES if room(name) == "network")]
)
def test_nobody_asks_for_the_device(name):
    """Layers, losses and optimizers are written once, for every backend."""
    tree = TREES[name]
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not {text for text in strings(tree) if text.lower() in ("cupy", "numpy", "cuda", "gpu")}
    assert "on_host" not in attributes
    assert "get_array_module" not in ast.dump(tree)
    if room(name) != "network":
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


OTHER_ROOMS = re.compile(r"(?<![a-z])(reproducible|capture|comm|onnx|torch)(?![a-z])", re.I)


@pytest.mark.parametrize("name", COMPUTING_FILES)
def test_layers_losses_and_optimizers_are_mathematics(name):
    """Modes, graphs, processes and other libraries are the matter of other rooms."""
    lines = HOUSE.texts[name].splitlines()
    assert [f"{name}:{k}: {line}" for k, line in enumerate(lines, 1) if mentions(line)] == []


def mentions(line):
    return OTHER_ROOMS.findall(line)


def test_whole_words_are_seen():
    assert mentions("self.comm, _onnx and torch.nn, Reproducible mode") == [
        "comm", "onnx", "torch", "Reproducible",
    ]  # fmt: skip
    assert mentions("a command is captured by PyTorch") == []


def asks_for_processes(tree):
    """Return the lines of the conditions that depend on the number of processes.

    These are the conditions with an attribute of a communicator that is not its rank and is not
    called: ``comm.size > 1``, ``if self.comm.alone``.
    """
    tests = [node.test for node in ast.walk(tree) if isinstance(node, ast.If | ast.IfExp)]
    tests += [node.test for node in ast.walk(tree) if isinstance(node, ast.While | ast.Assert)]
    tests += [n for node in ast.walk(tree) for n in getattr(node, "ifs", ())]
    tests += [node for node in ast.walk(tree) if isinstance(node, ast.BoolOp | ast.Compare)]
    return sorted({test.lineno for test in tests if _of_a_communicator(test)})


def _of_a_communicator(test):
    called = {id(node.func) for node in ast.walk(test) if isinstance(node, ast.Call)}
    return any(
        re.fullmatch(r"(.*\.)?_?(comm|communicator)", ast.unparse(node.value))
        for node in ast.walk(test)
        if isinstance(node, ast.Attribute)
        and node.attr not in ("rank", "local_rank")
        and id(node) not in called
    )


def test_one_process_is_no_special_case():
    """At most 3 conditions outside parallel/ depend on the number of processes."""
    outside = {name: tree for name, tree in TREES.items() if room(name) != "parallel"}
    found = [f"{name}:{k}" for name, tree in outside.items() for k in asks_for_processes(tree)]
    assert len(found) <= 3, found


@pytest.mark.parametrize(
    ("code", "n"),
    [
        ("if comm.size > 1: pass", 1),
        ("x = 1 if self.trainer.comm.size == 1 else 2", 1),
        ("together = comm.size > 1", 1),
        ("while not self._comm.alone: pass", 1),
        ("[a for a in b if comm.size]", 1),
        ("if comm.rank == 0: pass", 0),
        ("if comm.any(stop): pass", 0),
        ("if comm is None: pass", 0),
        ("split(xp, comm.size)", 0),
        ("if command.size: pass", 0),
    ],
)
def test_conditions_on_processes_are_seen(code, n):
    assert len(asks_for_processes(ast.parse(code))) == n


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
    """Under 80 lines of code for a layer and what it needs; a function has at most 15."""
    lines = code_lines(FILES[name])
    nodes = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    sizes = {n.name: len(lines & set(range(n.lineno, n.end_lineno + 1))) for n in nodes}
    assert {k: v for k, v in sizes.items() if v >= 80 and k != "Layer"} == {}
    layers = [n for n in nodes if isinstance(n, ast.ClassDef) and n.name in vars(xpnet)]
    most = 100 if name == "layers/base.py" else 80
    assert len(lines) < most * max(1, len(layers))
    functions = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
    assert {k: v for k, v in sizes.items() if k in functions and v > 15} == {}


def test_the_base_of_the_layers_is_short():
    assert len(HOUSE.texts["layers/base.py"].splitlines()) <= 150


def test_every_class_has_a_name_of_its_own():
    files = defaultdict(list)
    for place, _ in HOUSE.definitions(ast.ClassDef):
        files[re.split(r"[ .]", place)[-1]].append(place.partition(":")[0])
    assert {name: where for name, where in files.items() if len(where) > 1} == {}


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


def test_names_of_version_0_1_are_still_there():
    from xpnet.callbacks import Callback
    from xpnet.checkpoint import Checkpoint
    from xpnet.consistency import check
    from xpnet.errors import DataError
    from xpnet.gradcheck import gradcheck
    from xpnet.parity import parity
    from xpnet.random import Random
    from xpnet.recording import Recorder

    from xpnet.training import History, Trainer

    found = [Callback, Checkpoint, check, DataError, gradcheck, parity, Recorder, History, Trainer]
    assert all(getattr(xpnet, thing.__name__) is thing for thing in found)
    assert xpnet.errors.DataError is DataError
    assert xpnet.metrics.METRICS
    assert Random(3, "weights").permutation(4).sum() == 6


def test_errors_are_those_of_xpnet():
    """So a traceback names what one can write behind ``except``, and errors can be pickled."""
    for name in public_names():
        thing = getattr(xpnet, name)
        if isinstance(thing, type) and issubclass(thing, Exception):
            assert f"{thing.__module__}.{thing.__qualname__}" == f"xpnet.{name}"
            error = pickle.loads(pickle.dumps(thing("why")))
            assert type(error) is thing
            assert str(error) == "why"


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").is_file()


def test_the_version_is_that_of_the_installed_package():
    try:
        installed = importlib.metadata.version("xpnet")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("xpnet is not installed here, only its folder is on the path")
    assert xpnet.__version__ == installed
