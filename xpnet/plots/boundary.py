"""The regions of the plane that a network gives to each class."""

from __future__ import annotations

from inspect import signature
from typing import TYPE_CHECKING, Any

from xpnet.network import Sequential
from xpnet.plots.geometry import grid_points, plane_axes
from xpnet.plots.numbers import as_seen, labels_of, probabilities, samples_and_targets
from xpnet.plots.style import COLOURS, axes, points, two_classes
from xpnet.support.checks import count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from sklearn.inspection import DecisionBoundaryDisplay

MARGIN = 0.12  # around the points, a part of their range
# As paths the many squares would make an SVG file of megabytes.
AS_PIXELS: dict[str, Any] = {"plot_method": "pcolormesh", "rasterized": True}


def decision_boundary(
    net: Sequential, X: Any, t: Any = None, ax: Axes | None = None, *, resolution: int = 200
) -> DecisionBoundaryDisplay:
    """Draw the probability of class 1, or the regions of several classes, and the points.

    Parameters
    ----------
    net : Sequential
        A network that takes two features. Outputs without Sigmoid or Softmax count as scores.
    X : array or list, shape (n, 2)
        The points; the picture goes a little beyond them. Pixels k of uint8 are at k/255.
    t : array or list, shape (n,) or (n, classes), optional
        Their classes; without them no points are drawn.
    ax : matplotlib.axes.Axes, optional
    resolution : int
        Points of the grid along each axis.

    Returns
    -------
    sklearn.inspection.DecisionBoundaryDisplay

    Raises
    ------
    ShapeError
        If the points do not have two features, or there are not as many classes as points.
    OptionError
        If ``resolution`` is not a whole number of at least 2.
    """
    if t is not None:
        X, t = samples_and_targets(X, t)
    X = as_seen(X)
    x1, x2 = plane_axes(X, count("resolution", resolution, least=2), MARGIN)
    P = probabilities(net, grid_points(x1, x2)).reshape(len(x2), len(x1), -1)
    ax = axes(ax)
    draw = _draw_two_classes if P.shape[2] == 2 else _draw_classes
    display = draw(ax, x1, x2, P)
    if t is not None:
        points(ax, X, labels_of(t))
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1))  # beside them: points are everywhere
    ax.set(xlabel="x₁", ylabel="x₂", xlim=x1[[0, -1]], ylim=x2[[0, -1]])
    return display


def _draw_two_classes(ax: Axes, x1: Any, x2: Any, P: Any) -> DecisionBoundaryDisplay:
    """Draw the probability of class 1, and the line where it is 1/2."""
    display = _display(x1, x2, P[:, :, 1])
    display.plot(cmap=two_classes(), vmin=0, vmax=1, alpha=0.6, ax=ax, **AS_PIXELS)
    if P[:, :, 1].min() < 0.5 < P[:, :, 1].max():
        ax.contour(x1, x2, P[:, :, 1], [0.5], colors="black", linewidths=1.2)
    return display


def _draw_classes(ax: Axes, x1: Any, x2: Any, P: Any) -> DecisionBoundaryDisplay:
    """Draw the class with the largest probability."""
    from matplotlib.colors import ListedColormap

    regions = ListedColormap([COLOURS[k % len(COLOURS)] for k in range(P.shape[2])])
    limits = {"vmin": -0.5, "vmax": P.shape[2] - 0.5}
    display = _display(x1, x2, P.argmax(axis=2))
    display.plot(cmap=regions, alpha=0.35, ax=ax, **limits, **AS_PIXELS)
    return display


def _display(x1: Any, x2: Any, response: Any) -> DecisionBoundaryDisplay:
    """Return scikit-learn's picture of a plane."""
    from sklearn.inspection import DecisionBoundaryDisplay

    # scikit-learn wants this since 1.9; 2 means that the response is one picture.
    known = signature(DecisionBoundaryDisplay).parameters
    more = {"n_classes": 2} if "n_classes" in known else {}
    return DecisionBoundaryDisplay(
        xx0=x1 + 0 * x2[:, None], xx1=0 * x1 + x2[:, None], response=response, **more
    )
