"""The pictures of a run, each as PNG and as SVG."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import plots
from xpnet.backend import say_once
from xpnet.plots import geometry, numbers
from xpnet.plots.drawing import own_style
from xpnet.plots.style import BLUE
from xpnet.runs.problems import ProblemData
from xpnet.runs.report.contents import kind_of, training
from xpnet.runs.saved import SavedRun, read_run
from xpnet.support.errors import XpnetError
from xpnet.support.files import replacing
from xpnet.training.recording import Recorder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
# White behind everything, so that the pictures can be read on dark pages, too; no date, and names
# that do not change, so that the same run makes the same file.
STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "image.interpolation": "nearest",
    "svg.hashsalt": "xpnet",
}


def write_pictures(folder: Path, data_dir: str | Path | None = None) -> list[Path]:
    """Write the pictures into a run folder, and return their paths.

    Parameters
    ----------
    folder : Path
        What ``xpnet train`` has left, finished or not.
    data_dir : str or Path, optional
        Where the data are now, if they have moved.

    Raises
    ------
    XpnetError
        If it is no run folder, or matplotlib is not installed.
    OSError
        If a file cannot be written.
    """
    written = []
    with own_style(STYLE):
        for name, figure in _figures(read_run(folder), data_dir):
            if figure is None:
                continue
            for kind, more in (("png", {"dpi": DPI}), ("svg", {"metadata": {"Date": None}})):
                path = folder / f"{name}.{kind}"
                with replacing(path) as file:
                    figure.savefig(file, format=kind, **more)
                written.append(path)
    return written


def _figures(run: SavedRun, data_dir: Any) -> Iterator[tuple[str, Figure | None]]:
    """Give each picture with its name."""
    names = run.log[0] if run.log else {}
    rows = {name: [row[name] for row in run.log if name in row] for name in names}
    history = {name: numbers.finite(values).tolist() for name, values in rows.items()}
    if "loss" in history:
        yield "loss", _drawn(partial(plots.loss_curve, history))
    data: Any = None
    recorder: Any = None
    with suppress(XpnetError, OSError, ValueError):  # the report says why
        data = run.load(data_dir, download=False)
        recorder = run.recorder(data)
    for metric in ("accuracy", "rmse"):
        if f"val_{metric}" in history:
            yield metric, _drawn(partial(_metric, history, metric, recorder, data))
    if recorder is not None:
        yield from _of_the_network(recorder, data)


def _metric(history: Any, metric: str, recorder: Any, data: Any, ax: Any) -> None:
    """Draw a metric on the validation data, of the log, and on the training data beside it."""
    if recorder is not None:
        found = training(recorder, data)
        epochs = [recorder.epochs[k] for k in found["at"]]
        ax.plot(epochs, found[metric], color=BLUE, label="training")
    plots.loss_curve(history, ax, metric=metric)


def _of_the_network(recorder: Recorder, data: ProblemData) -> Iterator[tuple[str, Figure | None]]:
    train, test = data.train, data.test
    for of in ("gradients", "activations"):
        yield of, _drawn(partial(plots.gradient_flow, recorder, *train, of=of))
    net = recorder.network(-1)
    yield "network", _drawn(partial(plots.network, net))
    match kind_of(data):
        case "plane":
            yield "boundary", _drawn(partial(plots.decision_boundary, net, *train), (6.4, 5.6))
        case "curve":
            truth = geometry.interpolated(*test)
            yield "curve", _drawn(partial(plots.curve, net, *train, truth=truth))
        case "surface":
            yield "surface", _surfaces(net, *test)
        case "images":
            yield "confusion", _drawn(partial(plots.confusion, net, *test), (6.4, 6.0))
            if shape := data.image_shape:
                yield "mistakes", _drawn(partial(plots.mistakes, net, *test, shape=shape))
                yield "weights", _drawn(partial(plots.weights, net, shape=shape), (6.4, 6.4))


def _drawn(draw: Callable[..., Any], size: tuple[float, float] = (6.4, 4.4)) -> Figure | None:
    """Return a figure with one drawing, or None where the library that draws it is missing."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    try:
        draw(ax=figure.add_subplot())
    except ImportError as error:
        say_once(
            "the pictures that scikit-learn draws are left out, as it cannot be imported "
            f"({error}); run pip install scikit-learn"
        )
        return None
    return figure


def _surfaces(net: Any, X: Any, t: Any) -> Figure:
    """Return network and truth side by side, and their difference."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.6), layout="constrained")
    fitted, truth, side = numbers.outputs(net, X), t.reshape(-1, 1), int(np.sqrt(len(X)))
    parts = {"network": fitted, "truth": truth, "network - truth": fitted - truth}
    for k, (title, values) in enumerate(parts.items()):
        ax = figure.add_subplot(1, 3, k + 1, projection="3d")
        # The values are those on the grid of the test data, whatever the picture asks for.
        plots.surface(partial(_known, values), ax, resolution=side).set_rasterized(True)
        ax.set_title(title)
    return figure


def _known(values: Any, points: Any) -> Any:
    return values
