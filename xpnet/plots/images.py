"""Images: the confusion matrix, first-layer weights, and the digits that were taken for others."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, prod, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.network import Sequential
from xpnet.plots.classes import classes_to_show, ticks, which_are_shown
from xpnet.plots.geometry import shape_of_images
from xpnet.plots.layer_numbers import first_weights
from xpnet.plots.numbers import Mistake, confusion_matrix, labels_of, samples_and_targets
from xpnet.plots.numbers import mistakes as all_mistakes
from xpnet.plots.style import axes
from xpnet.support.checks import count
from xpnet.support.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage
    from sklearn.metrics import ConfusionMatrixDisplay

READABLE = 30  # classes; of more, a cell has no room for its number


def confusion(net: Sequential, X: Any, t: Any, ax: Axes | None = None) -> ConfusionMatrixDisplay:
    """Draw how many samples of each class were taken for each class.

    Of more than 100 classes those with the most mistakes are drawn, and the title says so.

    Parameters
    ----------
    net : Sequential
    X : array or list, shape (n, *sample shape)
    t : array or list, shape (n,) or (n, classes)
        Labels or one-hot rows.
    ax : matplotlib.axes.Axes, optional

    Returns
    -------
    sklearn.metrics.ConfusionMatrixDisplay
    """
    from sklearn.metrics import ConfusionMatrixDisplay

    X, t = samples_and_targets(X, t)
    shape = net.output_shape(X.shape[1:]) or (1,)
    matrix = confusion_matrix(net, X, t, max(2, shape[0], int(labels_of(t).max()) + 1))
    shown, classes, ax = classes_to_show(matrix), len(matrix), axes(ax)
    matrix = matrix[np.ix_(shown, shown)]
    display = ConfusionMatrixDisplay(matrix, display_labels=shown)
    display.plot(ax=ax, cmap="Blues", colorbar=False, include_values=len(matrix) <= READABLE)
    # What is right is most of it: without it the mistakes have all shades for themselves.
    wrong = matrix - np.diag(matrix.diagonal())
    display.im_.set_clim(0, max(1, int(wrong.max()) * 2))
    for (i, j), text in np.ndenumerate(display.text_) if display.text_ is not None else ():
        dark = matrix[i, j] > wrong.max()
        text.set(color="white" if dark else "black", text=str(matrix[i, j]) if matrix[i, j] else "")
    places, words = ticks(shown)
    ax.set_xticks(places, words)
    ax.set_yticks(places, words)
    ax.set(xlabel="predicted", ylabel="true", title=which_are_shown(shown, classes))
    return display


def mistakes(
    net: Sequential,
    X: Any,
    t: Any,
    ax: Axes | None = None,
    *,
    n: int = 24,
    shape: tuple[int, int] | None = None,
) -> AxesImage:
    """Draw the images about which the network is most confident, and wrong.

    Parameters
    ----------
    net : Sequential
    X : array or list, shape (samples, pixels) or (samples, height, width)
    t : array or list, shape (samples,)
        Labels.
    ax : matplotlib.axes.Axes, optional
    n : int
        The largest number of images.
    shape : (int, int), optional
        Height and width of an image; without it they are those of X, or of a square.

    Returns
    -------
    matplotlib.image.AxesImage
        All images as one; above each is what it was taken for, and what it is.

    Raises
    ------
    OptionError
        If the pixels make no square and there is no shape, or it has another number of pixels.
    """
    X, t = samples_and_targets(X, t)
    found = all_mistakes(net, X, t)[: count("n", n)]
    size = _size(X.shape[1:], shape)
    pictures = np.array([X[m.sample].reshape(size) for m in found], float).reshape(-1, *size)
    return _draw_mistakes(axes(ax), found, pictures, size)


def _draw_mistakes(
    ax: Axes, found: Sequence[Mistake], pictures: NDArray[Any], size: tuple[int, int]
) -> AxesImage:
    """Draw the images side by side, with words above each."""
    columns = min(8, max(1, len(found)))
    room = ceil(size[0] / 3)  # a third of its height above each image is for the words
    drawn: AxesImage = ax.imshow(_tiles(pictures, columns, room), cmap="gray_r")
    _write_words(ax, found, columns, size, room)
    ax.set_axis_off()
    ax.set_title("most confident mistakes" if found else "no mistakes")
    return drawn


def _write_words(
    ax: Axes, found: Sequence[Mistake], columns: int, size: tuple[int, int], room: int
) -> None:
    """Write above each image which class was taken for which."""
    for k, mistake in enumerate(found):
        row, column = divmod(k, columns)
        x, y = column * (size[1] + 1) + (size[1] - 1) / 2, row * (size[0] + room) + room - 0.7
        words = f"{mistake.predicted}, not {mistake.true}"
        ax.text(x, y, words, ha="center", va="bottom", fontsize="small")


def weights(
    net: Sequential,
    ax: Axes | None = None,
    *,
    n: int = 64,
    shape: tuple[int, int] | None = None,
) -> AxesImage:
    """Draw the weights of each unit of the first Linear layer as an image.

    Parameters
    ----------
    net : Sequential
        Its samples are images.
    ax : matplotlib.axes.Axes, optional
    n : int
        The largest number of units.
    shape : (int, int), optional
        Height and width of an image; without it those of the network's last samples, or a square.

    Returns
    -------
    matplotlib.image.AxesImage
        All images as one, each with its own scale: blue is negative, red is positive.

    Raises
    ------
    OptionError
        If there is no Linear layer, or its inputs make no square and there is no shape, or it has
        another number of pixels.
    """
    W = first_weights(net)[: count("n", n)]
    W /= np.abs(W).max(axis=1, keepdims=True, initial=1e-300)
    pictures = W.reshape(-1, *_size(_shape_of_inputs(net, W.shape[1]), shape))
    ax = axes(ax)
    tiles = _tiles(pictures, ceil(sqrt(len(pictures))), 1)
    drawn: AxesImage = ax.imshow(tiles, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set_axis_off()
    return drawn


def _shape_of_inputs(net: Sequential, pixels: int) -> tuple[int, ...]:
    """Return the shape of the samples that a network has seen last, if it has so many pixels."""
    seen = net.sample_shape or ()
    return seen if prod(seen) == pixels else (pixels,)


def _size(sample_shape: tuple[int, ...], shape: tuple[int, int] | None) -> tuple[int, int]:
    """Return height and width of an image: what was asked for, else those of the samples."""
    pixels = prod(sample_shape)
    if shape is not None and prod(shape) != pixels:
        raise OptionError(f"the images have {pixels} pixels; shape={shape} has {prod(shape)}")
    return shape or shape_of_images(sample_shape)


def _tiles(pictures: NDArray[Any], columns: int, room: int) -> NDArray[Any]:
    """Return the pictures in rows as one, with room above each and a pixel between: NaN there."""
    n, height, width = pictures.shape
    rows = max(1, ceil(n / columns))
    tiles = np.full((rows, columns, height + room, width + 1), np.nan)
    tiles.reshape(-1, height + room, width + 1)[:n, room:, :width] = pictures
    return tiles.transpose(0, 2, 1, 3).reshape(rows * (height + room), columns * (width + 1))
