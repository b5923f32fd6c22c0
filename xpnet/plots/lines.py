"""Lines: the loss over a training, a fitted curve, the norms of each layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.network import Sequential
from xpnet.plots.geometry import axis_range
from xpnet.plots.layer_numbers import norms_of_layers
from xpnet.plots.numbers import as_seen, outputs, samples_and_targets
from xpnet.plots.style import BLUE, COLOURS, ORANGE, axes, log_scale, require_recorded
from xpnet.support.errors import OptionError, ShapeError
from xpnet.support.messages import unknown
from xpnet.training.recording import Recorder

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

LOOKS: dict[str, dict[str, Any]] = {
    "training": {"color": BLUE, "linestyle": "-"},
    "validation": {"color": ORANGE, "linestyle": "--"},
}
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1, 1)}
FLOWS = {"gradients": "norm of the gradient", "activations": "root mean square of the outputs"}


def loss_curve(
    history: Mapping[str, Sequence[float]], ax: Axes | None = None, *, metric: str = "loss"
) -> list[Line2D]:
    """Draw a number of the history over the epochs, with its twin on the validation data.

    Parameters
    ----------
    history : mapping of str to list of float
        ``trainer.history``.
    ax : matplotlib.axes.Axes, optional
    metric : str
        A name in the history, without ``val_``. The axis is logarithmic where all is positive, but
        for an accuracy or an R².

    Returns
    -------
    list of matplotlib.lines.Line2D
        One or two.

    Raises
    ------
    OptionError
        If the history has no such number.

    Examples
    --------
    >>> import xpnet.plots
    >>> [line.get_label() for line in xpnet.plots.loss_curve({"loss": [1.0, 0.5, 0.25]})]
    ['training']
    """
    found = _curves_of(history, metric)
    ax, lines = axes(ax), list[Any]()
    for label, (epochs, values) in found.items():
        look = LOOKS[label] | {"marker": "o" if len(values) <= 12 else "", "markersize": 4}
        lines += ax.plot(epochs, values, label=label, **look)
    _label_epochs(ax, metric, min(np.nanmin(values) for _, values in found.values()))
    return lines


def _curves_of(
    history: Mapping[str, Sequence[float]], metric: str
) -> dict[str, tuple[list[int], list[float]]]:
    """Return the epochs and the values of a metric on training and validation data, if any."""
    found = {
        label: curve
        for name, label in ((metric, "training"), (f"val_{metric}", "validation"))
        if name in history and not metric.startswith("val_") and (curve := _known(history[name]))
    }
    if not found:
        names = {name.removeprefix("val_") for name, values in history.items() if _known(values)}
        nothing = "the history is empty: trainer.fit(...) writes it"
        raise OptionError(unknown("metric", metric, names) if names else nothing)
    return found


def _known(values: Sequence[float]) -> tuple[list[int], list[float]] | None:
    """Return epochs and values from the first that is known to the last; between may be gaps."""
    known = np.flatnonzero(~np.isnan(np.asarray(values, float)))
    if not known.size:
        return None
    first, end = int(known[0]), int(known[-1]) + 1
    return list(range(first + 1, end + 1)), list(values[first:end])


def _label_epochs(ax: Axes, metric: str, least: float) -> None:
    """Label the axes, whole epochs on the one; a loss has a logarithmic scale if it can."""
    from matplotlib.ticker import MaxNLocator

    if least > 0 and not metric.endswith(("accuracy", "r2")):
        log_scale(ax)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))
    ax.set(xlabel="epoch", ylabel=metric.replace("_", " "))
    ax.legend(loc="best")  # left out it is the same, but warns where the machine is slow


def curve(
    net: Sequential,
    X: Any,
    t: Any,
    ax: Axes | None = None,
    *,
    truth: Callable[[Any], Any] | None = None,
) -> Line2D:
    """Draw what a network of one feature and one output has fitted, over the data.

    Parameters
    ----------
    net : Sequential
    X, t : array or list, shape (n, 1)
        The data.
    ax : matplotlib.axes.Axes, optional
    truth : function, optional
        Takes x of shape (m, 1) and returns what the data would be without noise.

    Returns
    -------
    matplotlib.lines.Line2D
        The fit.

    Raises
    ------
    ShapeError
        If the samples have more than one feature, the network has more than one output, or there
        are not as many targets as samples.
    """
    X, t = _checked_curve(net, X, t)
    ax, x = axes(ax), np.linspace(*axis_range(X, margin=0.02), 400).reshape(-1, 1)
    ax.plot(X, t.reshape(len(X)), "o", color="0.6", markersize=3, label="data")
    if truth is not None:
        ax.plot(x, truth(x), "--", color=ORANGE, linewidth=1.5, label="truth")
    line: Line2D
    (line,) = ax.plot(x, outputs(net, x), color=BLUE, linewidth=2, label="network")
    ax.set(xlabel="x", ylabel="y")
    ax.legend(loc="best")
    return line


def _checked_curve(net: Sequential, X: Any, t: Any) -> tuple[Any, Any]:
    """Return samples and targets on the host, after checking that they are points of a curve."""
    X, t = samples_and_targets(X, t)
    if X.shape != (len(X), 1) or t.size != len(X) or net.output_shape((1,)) != (1,):
        raise ShapeError(
            "a curve needs samples of 1 feature, 1 target for each, and a network with 1 output; "
            f"X has the shape {X.shape}, t {t.shape}, the network is {net!r}"
        )
    return as_seen(X), t


def gradient_flow(
    recorder: Recorder, X: Any, t: Any, ax: Axes | None = None, *, of: str = "gradients"
) -> list[Line2D]:
    """Draw how large the gradients of each layer are over a training, always on the same samples.

    Parameters
    ----------
    recorder : Recorder
        A callback of the training.
    X, t : array or list
        Samples and targets; the first 512 are used.
    ax : matplotlib.axes.Axes, optional
    of : str
        ``"gradients"``: √ Σ g² over the parameters of a layer; or ``"activations"``: √ mean y² over
        the outputs of a layer and of the layers without parameters behind it.

    Returns
    -------
    list of matplotlib.lines.Line2D
        One for each layer with parameters.

    Raises
    ------
    OptionError
        If ``of`` is neither, or the recorder has not been in a training.
    """
    if of not in FLOWS:
        raise OptionError(unknown("kind of norm", of, FLOWS))
    require_recorded("gradient_flow", recorder)
    found, ax, lines = norms_of_layers(recorder, X, t), axes(ax), list[Any]()
    norms = found.gradients if of == "gradients" else found.activations
    for k, name in enumerate(found.names):
        colour, style = COLOURS[k % len(COLOURS)], ("-", "--", ":")[k // len(COLOURS) % 3]
        lines += ax.plot(found.epochs, norms[:, k], style, color=colour, label=name)
    if norms.any():
        log_scale(ax)
    ax.set(xlabel="epoch", ylabel=FLOWS[of])
    many = len(lines) > len(COLOURS)  # their names would hide the lines: beside them
    ax.legend(fontsize="small", **(BESIDE if many else {"loc": "best"}))
    return lines
