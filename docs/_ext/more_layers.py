"""The reference has every layer: those that no page names are added when it is built."""

import sys

import xpnet
from xpnet.layers import LAYERS

# Without those that examples have registered.
KINDS = {name: kind for name, kind in LAYERS.items() if kind.__module__.startswith("xpnet.layers.")}


def with_entries(text):
    """Return the text of api/layers.rst with an entry for each layer that is not there."""
    missing = [name for name in KINDS if f".. autoclass:: xpnet.{name}\n" not in text]
    if not missing:
        return text
    entries = "".join(f"\n.. autoclass:: xpnet.{name}\n" for name in missing)
    return f"{text}\nMore layers\n-----------\n{entries}"


def with_rows(text):
    """Return the text of api/index.md with a row for each layer that is not there.

    The second column is the first line of the layer's file, such as "ReLU: the rectifier."
    """
    last = next(row for row in text.splitlines(True) if "`Identity <xpnet.Identity>`" in row)
    rows = ""
    for name, kind in KINDS.items():
        link = f"{{py:obj}}`{name} <xpnet.{name}>`"
        if link not in text:
            words = sys.modules[kind.__module__].__doc__.partition("\n")[0]
            rows += f"| {link} | {words.partition(': ')[2].rstrip('.')} |\n"
    return text.replace(last, last + rows)


PAGES = {"api/layers": with_entries, "api/index": with_rows}


def add(app, docname, source):
    """Add what is missing on a page."""
    if docname in PAGES:
        source[0] = PAGES[docname](source[0])


def setup(app):
    """Register it."""
    app.connect("source-read", add)
    return {"version": xpnet.__version__, "parallel_read_safe": True}
