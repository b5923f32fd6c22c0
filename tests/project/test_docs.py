"""The documentation says what the code does: its examples run, and nothing is missing in it.

The pages themselves are built by ``sphinx-build -W -b html docs docs/_build/html``.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import re
import tomllib
import warnings
from pathlib import Path

import pytest

import xpnet
from xpnet import data, initializers, layers, losses, metrics, schedules

ROOT = Path(__file__).resolve().parents[2]
DOCS, PACKAGE = ROOT / "docs", Path(xpnet.__file__).parent
PAGES = sorted(DOCS.glob("*.md"))
WITH_EXAMPLES = sorted(p for p in PACKAGE.rglob("*.py") if ">>>" in p.read_text(encoding="utf-8"))
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INCLUDE = re.compile(r"^```\{literalinclude\} (\S+)\n((?::.*\n)*)```$", re.MULTILINE)


def run(test):
    """Run the examples of a doctest; what they print must be exact, and they must not warn."""
    said = []
    runner = doctest.DocTestRunner()
    with xpnet.use_backend("numpy", reproducible=False), warnings.catch_warnings():
        warnings.simplefilter("error")
        result = runner.run(test, out=said.append)
    assert result.failed == 0, "".join(said)
    return result.attempted


# ---- the examples -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_the_examples_in_docstrings_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # for the files that they write
    if path.is_relative_to(PACKAGE / "plots"):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed, which draws")
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    module = importlib.import_module(name.removesuffix(".__init__"))
    tests = doctest.DocTestFinder(exclude_empty=True).find(module)
    assert sum(run(test) for test in tests) == path.read_text(encoding="utf-8").count(">>> ")


def examples_of(page):
    """Return the examples of a page as one doctest, each at its line of the file."""
    text = page.read_text(encoding="utf-8")
    examples = []
    for fence in FENCE.finditer(text):
        if fence[1] == "pycon":
            line = text.count("\n", 0, fence.start(2))
            found = doctest.DocTestParser().get_examples(fence[2], page.name)
            for example in found:
                example.lineno += line
            examples += found
    return doctest.DocTest(examples, {"__name__": "__main__"}, page.name, str(page), 0, None)


@pytest.mark.thorough(but=["index", "backpropagation", "add_a_layer"])
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_the_pages_run(page, tmp_path, monkeypatch):
    for library in ("onnx", "pandas", "polars", "safetensors", "torch"):
        if page.stem == "exchange":
            pytest.importorskip(library, reason=f"{library} is not installed, which is shown there")
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    assert run(examples_of(page)) == len(re.findall(r"^\s*>>> ", text, re.MULTILINE))


def test_an_example_that_prints_something_else_is_found():
    wrong = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    with pytest.raises(AssertionError, match="Expected"):
        run(wrong)
    warns = ">>> import warnings\n>>> warnings.warn('this')\n"
    with pytest.raises(AssertionError, match="UserWarning"):
        run(doctest.DocTestParser().get_doctest(warns, {}, "warns", None, 0))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_other_python_on_the_pages_compiles(page):
    for kind, code in FENCE.findall(page.read_text(encoding="utf-8")):
        assert kind in ("console", "pycon", "python", "text")
        if kind == "python":
            compile(code, page.name, "exec")


# ---- the code that the pages take from the source ---------------------------------------------


def includes(page):
    """Return (file, pyobject, lines) of each literalinclude of a page."""
    found = []
    for name, text in INCLUDE.findall(page.read_text(encoding="utf-8")):
        options = dict(re.findall(r":([\w-]+): ?(.*)", text))
        file = (page.parent / name).resolve()
        found.append((file, options.get("pyobject", ""), options.get("lines", "")))
    return found


def definition(file, name):
    """Return the class or function of a dotted name in a file, and its source lines."""
    text = file.read_text(encoding="utf-8")
    node = ast.parse(text)
    for part in name.split("."):
        named = [n for n in node.body if getattr(n, "name", None) == part]
        assert named, f"there is no {name} in {file.name}"
        node = named[0]
    return node, text.splitlines()[node.lineno - 1 : node.end_lineno]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_included_code_is_there(page):
    assert page.read_text(encoding="utf-8").count("{literalinclude}") == len(includes(page))
    for file, name, lines in includes(page):
        if file.suffix != ".py":
            assert file.is_file()
            continue
        node, source = definition(file, name)
        if lines:  # what they leave out is the docstring
            doc = node.body[0]
            first, last = doc.lineno - node.lineno + 1, doc.end_lineno - node.lineno + 1
            start = last + 1 if source[last].strip() else last + 2
            assert ast.get_docstring(node)
            head = "1" if first == 2 else f"1-{first - 1}"
            assert lines == f"{head}, {start}-", name


def functions_of(kind):
    """Return (file, Class.method) of the methods that make a layer or loss what it is."""
    names = ("forward", "backward")
    if issubclass(kind, losses.Loss):
        names = ("elements", "slope") if "slope" in vars(kind) else ("elements", "backward")
    found = set()
    for name in names:
        method = getattr(kind, name)
        file = ROOT / Path(*method.__module__.split(".")).with_suffix(".py")
        found.add((file, method.__qualname__))
    return found


KINDS = [
    kind
    for kind in vars(xpnet).values()
    if inspect.isclass(kind)
    and issubclass(kind, layers.Layer | losses.Loss)
    and kind not in (layers.Layer, losses.Loss, xpnet.Sequential)
]


def test_all_layers_and_losses_are_meant():
    named = {layer for layer in vars(layers).values() if inspect.isclass(layer)}
    named -= {layers.Layer, layers.Parameter}
    assert named | {loss for loss in losses.LOSSES.values() if inspect.isclass(loss)} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_layer_and_loss_is_derived_beside_its_code(kind):
    page = DOCS / "backpropagation.md"
    shown = {(file, name) for file, name, _ in includes(page)}
    assert functions_of(kind) <= shown
    assert f"\n### {kind.__name__}\n" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_layer_and_loss_is_checked_on_its_page(kind):
    """In its own section, by `check` or by `gradcheck`."""
    text = (DOCS / "backpropagation.md").read_text(encoding="utf-8")
    section = text.partition(f"\n### {kind.__name__}\n")[2]
    section = re.split(r"\n##+ ", section)[0]
    assert re.search(r"^>>> (check|xpnet\.gradcheck)\(.*\n(True)$", section, re.MULTILINE)


# ---- the reference ----------------------------------------------------------------------------


def public_names():
    """Return every public name with its module."""
    modules = {"exchange", "golden", "layers", "parallel", "schedules"}
    names = re_exported(PACKAGE / "__init__.py") - modules
    found = [f"xpnet.{name}" for name in names]
    found += [f"xpnet.data.{name}" for name in data.__all__]
    found += [f"xpnet.metrics.{name}" for name in metrics.__all__ if "find" not in name.lower()]
    found.remove("xpnet.metrics.METRICS")
    for part in ("estimators", "exchange", "parallel", "plots"):
        found += [f"xpnet.{part}.{name}" for name in re_exported(PACKAGE / part / "__init__.py")]
    for module in (schedules, initializers):
        found += [
            f"{module.__name__}.{name}"
            for name, kind in vars(module).items()
            if inspect.isclass(kind) and (kind.__module__, kind.__name__) == (module.__name__, name)
        ]
    return sorted(found)


def re_exported(file):
    """Return the names that a module has imported to be found in it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname or alias.name for node in imports for alias in node.names}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", public_names())
def test_every_public_name_is_in_the_reference(name):
    pages = [page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.rst")]
    entries = re.findall(r"^\.\. auto(?:class|function|exception):: (\S+)$", "".join(pages), re.M)
    assert entries.count(name) == 1
    index = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    assert index.count(f"{{py:obj}}`{name.removeprefix('xpnet.')} <{name}>`") == 1


def test_the_reference_has_nothing_else():
    pages = [page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.rst")]
    entries = re.findall(r"^\.\. auto(?:class|function|exception):: (\S+)$", "".join(pages), re.M)
    assert sorted(entries) == public_names()


def test_the_reference_has_what_a_class_inherits():
    """The methods of a class that the page shows may lie in several files."""
    text = "".join(page.read_text(encoding="utf-8") for page in (DOCS / "api").glob("*.rst"))
    entries = re.findall(r"^\.\. autoclass:: xpnet\.(\w+)\n((?:   .+\n)*)", text, re.M)
    shown = {name: options for name, options in entries if ":members:\n" in options}
    assert {"Sequential", "Layer", "Trainer", "Backend"} <= shown.keys()
    for name, options in shown.items():
        bases = getattr(xpnet, name).__mro__[1:]
        own = any(kind.__module__.startswith("xpnet.") for kind in bases)
        assert (":inherited-members:" in options) == own, name


def test_a_layer_that_no_page_names_is_added_to_the_reference(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    more_layers = importlib.import_module("more_layers")
    texts = [
        (DOCS / "api" / name).read_text(encoding="utf-8") for name in ("layers.rst", "index.md")
    ]
    entry, link = ".. autoclass:: xpnet.ReLU\n", "| {py:obj}`ReLU <xpnet.ReLU>` |"
    row = f"{link} max(X, 0) |\n"
    entries = more_layers.with_entries(texts[0].replace(entry, ""))
    rows = more_layers.with_rows(texts[1].replace(row, ""))
    assert entries.partition("More layers")[2].count(f"\n{entry}") == 1
    assert rows.count(f"{link} the rectifier |\n") == 1
    for name in more_layers.KINDS:
        assert entries.count(f".. autoclass:: xpnet.{name}\n") == 1
        assert rows.count(f"`{name} <xpnet.{name}>`") == 1


# ---- how it is built --------------------------------------------------------------------------


def test_the_pages_load_nothing_from_elsewhere():
    """No index of another project, no script, font or picture by its address."""
    conf = (DOCS / "conf.py").read_text(encoding="utf-8")
    assert "intersphinx" not in conf
    static = [path for path in DOCS.glob("_static/*") if path.suffix in (".css", ".svg")]
    for path in [*PAGES, *static, *DOCS.glob("api/*"), DOCS / "conf.py"]:
        text = path.read_text(encoding="utf-8").replace('xmlns="http://www.w3.org/2000/svg"', "")
        assert not re.search(r"(src|href)=\S*//|url\([^#]|@import|https?://\w", text), path


def test_the_formulas_become_mathml():
    docutils = pytest.importorskip(
        "docutils.utils.math.latex2mathml",
        reason="docutils is not installed: pip install '.[docs]'",
    )
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        formulas = re.findall(r"\$\$(.*?)\$\$|\{math\}`(.*?)`", text, re.DOTALL)
        for block, inline in formulas:
            assert docutils.tex2mathml(block or inline, as_block=bool(block)).startswith("<math")


def test_the_configuration_names_extensions_that_the_extra_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = {re.split(r"[<>=\[]", r)[0] for r in project["optional-dependencies"]["docs"]}
    needed = {"sphinx", "pydata-sphinx-theme", "numpydoc", "myst-parser", "sphinx-gallery"}
    assert needed <= extra
