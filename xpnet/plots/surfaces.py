"""Functions of two variables, in three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.network import Sequential
from xpnet.plots.geometry import grid_points
from xpnet.plots.numbers import outputs
from xpnet.plots.style import axes
from xpnet.support.checks import count
from xpnet.support.errors import ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection


def surface(
    f: Sequential | Callable[[Any], Any],
    ax: Axes | None = None,
    *,
    x1: tuple[float, float] = (-1.0, 1.0),
    x2: tuple[float, float] = (-1.0, 1.0),
    resolution: int = 50,
) -> Poly3DCollection:
    """Draw a function of two variables.

    Parameters
    ----------
    f : Sequential or function
        A network of two features and one output; or what takes points of shape (n, 2) and returns
        n values, such as the true function, or the difference of the two.
    ax : matplotlib.axes.Axes, optional
        Made with ``projection="3d"``.
    x1, x2 : (float, float)
        The ends of each axis.
    resolution : int
        Points along each axis.

    Returns
    -------
    mpl_toolkits.mplot3d.art3d.Poly3DCollection

    Raises
    ------
    ShapeError
        If the function does not give one value for each point.
    OptionError
        If ``ax`` is not in three dimensions, or ``resolution`` no whole number of at least 2.
    """
    side = count("resolution", resolution, least=2)
    sides = {"rcount": side, "ccount": side}
    a, b = np.linspace(*x1, side), np.linspace(*x2, side)
    y = _heights(f, grid_points(a, b)).reshape(side, side)
    space = axes(ax, "3d")
    drawn: Poly3DCollection = space.plot_surface(*np.meshgrid(a, b), y, cmap="viridis", **sides)
    _label(space)
    return drawn


def _label(space: Any) -> None:
    """Label the three axes."""
    for axis in (space.xaxis, space.yaxis, space.zaxis):
        axis.get_major_locator().set_params(nbins=5)  # more overlap
    space.set(xlabel="x₁", ylabel="x₂", zlabel="y")


def _heights(f: Any, points: Any) -> Any:
    """Return the value of a network or a function at each point."""
    y = outputs(f, points) if isinstance(f, Sequential) else np.asarray(f(points))
    if y.size != len(points):
        raise ShapeError(f"a surface needs 1 value for each point; {f!r} gave the shape {y.shape}")
    return y
