"""Formulas without a network: TeX becomes MathML, and the formulas of docstrings keep their lines.

Docutils turns TeX into MathML, which every browser draws without a script or a font of ours.
"""

from __future__ import annotations

import html
import re

from docutils.nodes import SkipNode
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

logger = logging.getLogger(__name__)
FORMULA = re.compile(r"\S+(, \S+)? = |.*\S {4,}\S")  # how a line begins that must stay a line
STAR = re.compile(r"(?<=, )\*(?=\w+ shape\))")  # as in "shape (n, *sample shape)"


def inline(writer, node):
    """Write a formula within a line."""
    writer.body.append(mathml(node, as_block=False))
    raise SkipNode


def block(writer, node):
    """Write a displayed formula, which may be scrolled where it is wider than the page."""
    writer.body.append(f'<div class="formula">{mathml(node, as_block=True)}</div>\n')
    raise SkipNode


def mathml(node, as_block):
    """Return a formula as MathML; what docutils does not know becomes a warning, and stays TeX."""
    try:
        return tex2mathml(node.astext(), as_block=as_block)
    except MathError as error:
        logger.warning("%s in the formula %s", error, node.astext(), location=node)
        return f"<code>{html.escape(node.astext())}</code>"


def keep_lines(app, what, name, obj, options, lines):
    """Make a line block of each paragraph of formulas, as docstrings of layers begin with."""
    lines[:] = [STAR.sub(r"\\*", line) for line in lines]
    end = next((i for i, line in enumerate(lines) if set(line) == {"-"}), len(lines))
    start = 0
    for i in range(end + 1):
        if i < end and lines[i].strip():
            continue
        paragraph = lines[start:i]
        if paragraph and all(map(FORMULA.match, paragraph)):
            lines[start:i] = ["| " + re.sub(r"([|*])", r"\\\1", line) for line in paragraph]
        start = i + 1


def as_it_is(app, what, name, obj, options, signature, returns):
    """Keep the signature: numpydoc would look for one in "Y = max(X, 0)"."""
    return signature, returns


def setup(app):
    """Register all."""
    app.setup_extension("sphinx.ext.autodoc")
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    app.connect("autodoc-process-docstring", keep_lines, priority=400)  # before numpydoc
    app.connect("autodoc-process-signature", as_it_is, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
