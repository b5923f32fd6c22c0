"""What the report shows, as an object that JSON can hold."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.plots import geometry, layer_numbers, numbers
from xpnet.plots.classes import classes_to_show, which_are_shown
from xpnet.plots.numbers import Floats
from xpnet.runs.problems import ProblemData
from xpnet.runs.saved import SavedRun
from xpnet.support.errors import XpnetError
from xpnet.training.recording import Recorder

SIDE = 81  # points of the grid behind a decision boundary, along each axis
CURVE_POINTS = 241
SCORE = 8.0  # where log(p / (1 - p)) ends: probabilities of 0.0003 and 0.9997
UNITS, MISTAKES = 64, 24  # at most so many images
IMAGE_BYTES = 1_500_000  # for the first layer's weights at all moments, and for the matrices
MOMENTS = 25  # at which test and training data are classified
SAMPLES, OUTPUTS = 10_000, 2_000_000  # of the training data, at most
FEW = 64  # parameters that are shown one by one
ROWS = 6000  # of the log, at most; the longest recipe has 5000


def contents(run: SavedRun, data_dir: Any = None) -> dict[str, Any]:
    """Return all that the page shows; ``notes`` say what is left out, and why."""
    shown: dict[str, Any] = {
        "config": run.config,
        "environment": run.environment,
        "results": run.results,
        "status": status(run),
        "log": _columns_of(run.log),
        "frames": [],
        "notes": [],
    }
    try:
        data = run.load(data_dir, download=False)
        recorder = run.recorder(data)
    except (XpnetError, OSError, ValueError) as error:
        shown["notes"].append(f"Only the curves can be shown: {error}.")
        return shown
    shown["frames"] = recorder.epochs
    shown["network"] = [vars(column) for column in layer_numbers.columns(recorder.trainer.net)]
    shown["norms"] = _norms(recorder, data)
    shown["training"] = training(recorder, data)
    if recorder.trainer.net.size <= FEW:
        shown["parameters"] = packed(numbers.finite(recorder.values), "f32")
    shown["view"] = _view(recorder, data)
    if kind_of(data) == "images":
        shown |= _images(recorder, data, shown["notes"])
    return shown


def status(run: SavedRun) -> str:
    """Return in words how the training ended."""
    done, planned = len(run.log), run.config["epochs"]
    epochs = f"{done:,} of {planned:,} epochs"
    if done >= planned:
        return f"finished, {epochs}"
    return f"{'stopped by Ctrl-C' if run.results else 'broken off'} after {epochs}"


def _columns_of(log: list[dict[str, float]]) -> dict[str, list[float]]:
    """Return the columns of the log; of a very long log every k-th row, and always the last."""
    step = -(-len(log) // ROWS) or 1
    rows = log[::step] + (log[-1:] if len(log) % step != 1 and step > 1 else [])
    names = [name for name in rows[-1] if all(name in row for row in rows)] if rows else []
    return {name: [row[name] for row in rows] for name in names}


def training(recorder: Recorder, data: ProblemData) -> dict[str, Any]:
    """Return the metrics on the training data at some moments; the log does not have them."""
    some = min(SAMPLES, OUTPUTS // max(1, data.classes))
    X, t = data.train[0][:some], data.train[1][:some]
    moments = numbers.evenly_spaced(
        len(recorder.epochs), max(MOMENTS, MOMENTS * SAMPLES // (8 * len(X)))
    )
    found = numbers.metrics_at(recorder, moments, X, t)
    return {"at": moments, "samples": len(X), **found}


def _norms(recorder: Recorder, data: ProblemData) -> dict[str, Any]:
    found = layer_numbers.norms_of_layers(recorder, *data.train)
    return {
        "names": found.names,
        "gradients": _rounded(found.gradients.T),
        "activations": _rounded(found.activations.T),
    }


# ---- what fits the problem --------------------------------------------------------------------


def kind_of(data: ProblemData) -> str:
    """Return which kind of picture fits the data: plane, curve, surface, images, or none."""
    features = int(np.prod(data.train[0].shape[1:]))
    if data.classes > 2:
        return "images"
    fits = {(2, 2): "plane", (0, 1): "curve", (0, 2): "surface"}
    return fits.get((data.classes, features), "")


def _view(recorder: Recorder, data: ProblemData) -> dict[str, Any] | None:
    """Return what the slider moves, for samples of one or two features."""
    makers = {"plane": _plane, "curve": _curve, "surface": _surface}
    make = makers.get(kind_of(data))
    return make(recorder, data) if make else None


def _plane(recorder: Recorder, data: ProblemData) -> dict[str, Any]:
    """Return log(p / (1 - p)) on a grid: its zero is the boundary, at any sharpness of p."""
    X, t = data.train
    x1, x2 = geometry.plane_axes(X, SIDE, margin=0.12)
    points = geometry.grid_points(x1, x2)
    scores = [_scores(numbers.probabilities(net, points)) for net in recorder.networks()]
    return {
        "kind": "plane",
        "x1": x1[[0, -1]].tolist(),
        "x2": x2[[0, -1]].tolist(),
        "scores": packed(np.reshape(scores, (-1, SIDE, SIDE)), "u16", (-SCORE, SCORE)),
        "points": _rounded(X),
        "labels": numbers.labels_of(t).tolist(),
    }


def _scores(P: Floats) -> Floats:
    with np.errstate(divide="ignore"):
        scores: Floats = np.log(P[:, 1]) - np.log(P[:, 0])
    return scores.clip(-SCORE, SCORE)


def _curve(recorder: Recorder, data: ProblemData) -> dict[str, Any]:
    X, t = data.train
    x = np.linspace(*geometry.axis_range(X, margin=0.02), CURVE_POINTS).reshape(-1, 1)
    fitted = [numbers.outputs(net, x).ravel() for net in recorder.networks()]
    return {
        "kind": "curve",
        "x": x.ravel().tolist(),
        "fit": packed(np.array(fitted), "f32"),
        "points": _rounded(np.hstack([X, t.reshape(-1, 1)])),
        "truth": _rounded(np.hstack([data.test[0], data.test[1].reshape(-1, 1)])),
    }


def _surface(recorder: Recorder, data: ProblemData) -> dict[str, Any]:
    """Return network and truth on the grid of the test data."""
    X, t = data.test
    side = int(np.sqrt(len(X)))
    shape = (-1, side, side)
    fitted = np.reshape([numbers.outputs(net, X) for net in recorder.networks()], shape)
    return {
        "kind": "surface",
        "x1": [float(X[:, 0].min()), float(X[:, 0].max())],
        "x2": [float(X[:, 1].min()), float(X[:, 1].max())],
        "fit": packed(fitted, "f32" if fitted.size < 400_000 else "u16"),
        "truth": packed(t.reshape(shape), "f32"),
    }


def _images(recorder: Recorder, data: ProblemData, notes: list[str]) -> dict[str, Any]:
    """Return confusion matrices, mistakes and first-layer weights."""
    shown: dict[str, Any] = {"confusion": _confusion(recorder, data)}
    if data.image_shape is None:
        notes.append(
            "No images: the samples are not images of one channel, nor a square of pixels."
        )
        return shown
    return shown | {
        "weights": _weights(recorder, data.image_shape),
        "mistakes": _mistakes(recorder, data, data.image_shape),
    }


def _confusion(recorder: Recorder, data: ProblemData) -> dict[str, Any]:
    """Return the confusion matrices of the test data at some moments."""

    def matrix(k: int) -> NDArray[np.int64]:
        return numbers.confusion_matrix(recorder.network(k), *data.test, data.classes)

    shown = classes_to_show(matrix(-1))
    fit = IMAGE_BYTES // (4 * len(shown) ** 2)
    moments = numbers.evenly_spaced(len(recorder.epochs), max(2, min(MOMENTS, fit)))
    found = np.array([matrix(k)[np.ix_(shown, shown)] for k in moments])
    which = which_are_shown(shown, data.classes)
    return packed(found, "f32") | {"at": moments, "classes": shown.tolist(), "which": which}


def _weights(recorder: Recorder, shape: tuple[int, int]) -> dict[str, Any]:
    """Return the weights of the first units as images; a unit has one scale for all moments."""
    units, features = layer_numbers.first_weights(recorder.network(-1)).shape
    units = max(1, min(units, UNITS, IMAGE_BYTES // (2 * features)))
    moments = numbers.evenly_spaced(len(recorder.epochs), max(2, IMAGE_BYTES // (units * features)))
    W = np.array([layer_numbers.first_weights(recorder.network(k))[:units] for k in moments])
    W /= np.abs(W).max(axis=(0, 2), keepdims=True).clip(1e-300)
    return packed(W.reshape(-1, units, *shape), "u8", (-1.0, 1.0)) | {"at": moments}


def _mistakes(recorder: Recorder, data: ProblemData, shape: tuple[int, int]) -> dict[str, Any]:
    X, t = data.test
    found = numbers.mistakes(recorder.network(-1), X, t)
    images = X[[mistake.sample for mistake in found[:MISTAKES]]]
    low = min(0.0, float(X.min()))
    high = 255.0 if X.dtype == np.uint8 else float(X.max()) or 1.0
    return {
        "number": len(found),
        "of": len(X),
        "list": [vars(mistake) for mistake in found[:MISTAKES]],
        "images": packed(images.reshape(-1, *shape), "u8", (low, high)),
    }


# ---- packing ----------------------------------------------------------------------------------


def packed(a: NDArray[Any], kind: str, ends: tuple[float, float] | None = None) -> dict[str, Any]:
    """Return an array as base64 text: float32, or whole numbers from one end to the other."""
    low, high = ends or ((float(a.min()), float(a.max())) if a.size else (0.0, 1.0))
    if kind == "f32":
        raw = a.astype("<f4")
    else:
        steps = 255 if kind == "u8" else 65535
        part = (np.asarray(a, np.float64) - low) / (high - low or 1.0)
        raw = np.rint(part * steps).astype("<u1" if kind == "u8" else "<u2")
    text = base64.b64encode(raw.tobytes()).decode()
    return {"type": kind, "shape": a.shape, "low": low, "high": high, "data": text}


def _rounded(a: NDArray[Any]) -> list[Any]:
    """Return numbers with 6 digits, as lists."""
    rows: list[Any] = [[float(f"{v:.6g}") for v in row] for row in a.tolist()]
    return rows
