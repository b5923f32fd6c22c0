"""Colours, and where to draw."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from xpnet.plots.drawing import new_figure
from xpnet.support.errors import OptionError
from xpnet.training.recording import Recorder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap

# Of Okabe and Ito, "Color Universal Design" (2008): told apart with any kind of colour vision.
BLUE, ORANGE, GREEN, PINK, SKY, YELLOW = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # one more than colours: class 6 is not class 0


def axes(ax: Any = None, projection: str | None = None) -> Any:
    """Return the axes to draw on: those given, or those of a new figure.

    Raises
    ------
    OptionError
        If ``ax`` is no axes of matplotlib, or not of the projection that is needed.
    """
    if ax is None:
        return new_figure().add_subplot(projection=projection)
    if not hasattr(ax, "get_figure") or not hasattr(ax, "plot"):
        raise OptionError(f"ax must be an axes of matplotlib; got {ax!r}")
    if projection and ax.name != projection:
        raise OptionError(
            f"ax must be made with projection={projection!r}, for example "
            f"plt.subplots(subplot_kw={{'projection': {projection!r}}}); this one is {ax.name!r}"
        )
    return ax


def log_scale(ax: Axes) -> None:
    """Make the y axis logarithmic; where it spans less than a power of ten: 0.3, not 3 × 10⁻¹."""
    from matplotlib.ticker import LogFormatterSciNotation

    class Short(LogFormatterSciNotation):
        def __call__(self, x: float, pos: int | None = None) -> str:
            return f"{x:g}" if super().__call__(x, pos) else ""

    ax.set_yscale("log")
    ax.yaxis.set_minor_formatter(Short())


def require_recorded(who: str, recorder: Any) -> None:
    """Check that something is a recorder with moments in memory.

    Raises
    ------
    OptionError
        If it is not.
    """
    if not isinstance(recorder, Recorder) or not recorder.values:
        raise OptionError(
            f"{who} needs a Recorder that has been in a training: "
            f"trainer.fit(..., callbacks=[recorder]); got {recorder!r}"
        )


@cache
def two_classes() -> Colormap:
    """Return the colours from class 0, blue, over white to class 1, orange."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("two classes", [BLUE, "#f7f7f7", ORANGE])


def points(ax: Axes, X: Any, labels: Any) -> None:
    """Draw the points of two features: each class has a colour and a marker of its own."""
    for k in sorted(set(labels.tolist())):
        chosen = X[labels == k]
        ax.plot(
            chosen[:, 0],
            chosen[:, 1],
            MARKERS[k % len(MARKERS)],
            color=COLOURS[k % len(COLOURS)],
            markeredgecolor="white",
            markeredgewidth=0.8,
            markersize=9 if len(X) < 20 else 5,
            label=f"class {k}",
        )
