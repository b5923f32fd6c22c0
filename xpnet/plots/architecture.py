"""A network, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpnet.network import Sequential
from xpnet.plots.layer_numbers import Column, columns
from xpnet.plots.style import BLUE, ORANGE, axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

SHOWN = 10  # units of a column; of more, the middle is left out
NARROW = 5  # more columns than this have their words upright


def network(net: Sequential, ax: Axes | None = None) -> list[Text]:
    """Draw a network: a column of units for each layer with parameters, with shapes and counts.

    Parameters
    ----------
    net : Sequential
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    list of matplotlib.text.Text
        What is written below each column, the input first.

    Raises
    ------
    OptionError
        If the shape of a sample is not known: the network has seen none, and has no Linear layer.
    """
    found, ax = columns(net), axes(ax)
    rows = max(min(column.units, SHOWN + 1) for column in found)
    heights = [_heights(column, min(0.5, 2 / rows)) for column in found]
    for x in range(len(found) - 1):
        _connect(ax, x, heights[x], heights[x + 1])
    for x, (column, ys) in enumerate(zip(found, heights, strict=True)):
        colour = ORANGE if x in (0, len(found) - 1) else BLUE
        ax.plot([x] * len(ys), ys, "o", color=colour, markersize=9, markeredgecolor="white")
        if column.units > SHOWN:
            ax.text(x, 0, "⋮", ha="center", va="center", fontsize="x-large")
    words: dict[str, Any] = {"ha": "center", "va": "top", "fontsize": "small"}
    if len(found) > NARROW:
        words |= {"fontsize": "x-small", "rotation": "vertical", "multialignment": "right"}
        words["linespacing"] = 1.0
    texts = [ax.text(x, -1.12, "\n".join(c.lines), **words) for x, c in enumerate(found)]
    ax.set(xlim=(-0.6, len(found) - 0.4), ylim=(-1.65 if len(found) > NARROW else -1.45, 1.1))
    ax.set_axis_off()
    ax.set_title(f"{net.size:,} parameters")
    return texts


def _heights(column: Column, step: float) -> list[float]:
    """Return the height of each unit that is shown, from the top to the bottom, around 0."""
    shown = min(column.units, SHOWN)
    gap = 1 if column.units > SHOWN else 0  # the dots in the middle
    top = (shown + gap - 1) * step / 2
    return [top - step * (k + (gap if k >= shown / 2 else 0)) for k in range(shown)]


def _connect(ax: Any, x: int, left: list[float], right: list[float]) -> None:
    for a in left:
        for b in right:
            ax.plot([x, x + 1], [a, b], "-", color="0.8", linewidth=0.5, zorder=0)
