"""A training as a film."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xpnet.network import Sequential
from xpnet.plots.drawing import new_figure
from xpnet.plots.style import require_recorded
from xpnet.support.checks import count
from xpnet.training.recording import Recorder

if TYPE_CHECKING:
    from matplotlib.animation import FuncAnimation


def animate(
    recorder: Recorder,
    draw: Callable[[Sequential, Any], Any],
    *,
    interval: int = 50,
    projection: str | None = None,
) -> FuncAnimation:
    """Return a film of a training: one picture for each moment that was recorded.

    Parameters
    ----------
    recorder : Recorder
        A callback of the training.
    draw : function
        ``draw(net, ax)`` draws the network as it was at one moment, on empty axes, for example
        ``lambda net, ax: xpnet.plots.decision_boundary(net, X, t, ax)``.
    interval : int
        Milliseconds between two pictures.
    projection : str, optional
        ``"3d"`` for surfaces.

    Returns
    -------
    matplotlib.animation.FuncAnimation
        ``film.to_jshtml()`` has a slider and a play button, for notebooks; ``film.save("x.gif",
        writer="pillow")`` writes a file. Keep it in a variable as long as it is shown.

    Raises
    ------
    OptionError
        If the recorder has not been in a training, or ``interval`` is no whole number.
    """
    from matplotlib.animation import FuncAnimation

    require_recorded("animate", recorder)
    interval, figure = count("interval", interval), new_figure()
    ax, moments = figure.add_subplot(projection=projection), len(recorder.epochs)
    return FuncAnimation(figure, _picture, moments, fargs=(recorder, draw, ax), interval=interval)


def _picture(k: int, recorder: Recorder, draw: Callable[[Sequential, Any], Any], ax: Any) -> Any:
    """Draw one moment of a training on empty axes."""
    ax.clear()
    draw(recorder.network(k), ax)
    ax.set_title(f"epoch {recorder.epochs[k]:.6g}")
    return [ax]
