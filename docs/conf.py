"""How the documentation is built: ``sphinx-build -W -b html docs docs/_build/html``.

Nothing is fetched, neither here nor by a reader: no other project's index, no font, no script from
elsewhere. Formulas are MathML, which browsers draw themselves; see `_ext/formulas.py`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]  # the examples of a checkout import its xpnet
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # small products: threads wait for each other
if "XPNET_DATA" in os.environ:  # relative to the checkout; the examples run in another folder
    os.environ["XPNET_DATA"] = str((HERE.parent / os.environ["XPNET_DATA"]).resolve())

import xpnet  # noqa: E402

project, author = "xpnet", "The xpnet authors"
copyright = author
version = release = xpnet.__version__

extensions = [
    "formulas",
    "more_layers",
    "myst_parser",
    "sphinx.ext.autodoc",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "_ext", "gallery/*.ipynb", "gallery/*.py", "gallery/*.json"]
nitpicky = True
nitpick_ignore_regex = [  # names in backquotes that are no part of the API: they stay code
    (r"py:obj", r".*"),
]
default_role = "py:obj"

# ---- text --------------------------------------------------------------------------------------

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
html_math_renderer = "mathml"
pygments_style = "default"
smartquotes = False

# ---- the reference -----------------------------------------------------------------------------

autodoc_docstring_signature = False  # a docstring that begins with "Y = max(X, 0)" is no signature
autodoc_typehints = "none"  # the docstrings say it better
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
add_module_names = False
toc_object_entries_show_parents = "hide"

# ---- the gallery -------------------------------------------------------------------------------

EXAMPLES = HERE / "_build" / "examples"  # copies, since what they write is left beside them
shutil.rmtree(EXAMPLES, ignore_errors=True)
shutil.copytree(HERE.parent / "examples", EXAMPLES)

sphinx_gallery_conf = {
    "examples_dirs": str(EXAMPLES),
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",  # all of them are run, as if without an argument
    "within_subsection_order": "gallery_order.Order",
    "abort_on_example_error": True,
    "backreferences_dir": None,
    "capture_repr": (),  # what a script wants to show it prints
    "download_all_examples": False,
    "image_srcset": ["2x"],
    "matplotlib_animations": True,
    "min_reported_time": float("inf"),
    "nested_sections": False,
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}

# ---- a report, for the page that tells of it ---------------------------------------------------

EXTRA = HERE / "_build" / "extra"
if not (EXTRA / "spiral-report.html").exists():
    EXTRA.mkdir(parents=True, exist_ok=True)
    run = HERE / "_build" / "run"
    shutil.rmtree(run, ignore_errors=True)  # of a build that was broken off
    command = [sys.executable, "-m", "xpnet", "train", "spiral", "--quiet", "--out", str(run)]
    subprocess.run([*command, "--backend", "numpy"], check=True, cwd=HERE.parent)
    shutil.copy(run / "report.html", EXTRA / "spiral-report.html")
html_extra_path = [str(EXTRA)]

# ---- the pages ---------------------------------------------------------------------------------

html_theme = "pydata_sphinx_theme"
html_title = "xpnet"
html_static_path = ["_static"]
html_css_files = ["xpnet.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"**": []}
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {
    "navbar_align": "left",
    "logo": {"text": "xpnet"},
    "header_links_before_dropdown": 6,
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "pygments_light_style": "tango",
    "pygments_dark_style": "monokai",
}


def without_links(app, docname, source):
    """Take out the link to an icon font that Matplotlib writes into films: the theme has one."""
    source[0] = re.sub(r"<link[^>]*https?://[^>]*>", "", source[0])


def setup(app):
    """Register it."""
    app.connect("source-read", without_links)
