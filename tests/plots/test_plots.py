"""The pictures: their artists hold the numbers of the data, of the network, of the training."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from matplotlib import animation, colors
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.text import Text
from mpl_toolkits.mplot3d.art3d import Poly3DCollection
from sklearn.inspection import DecisionBoundaryDisplay
from sklearn.metrics import ConfusionMatrixDisplay

import xpnet
from xpnet import OptionError, Recorder, ShapeError, Trainer, plots
from xpnet.plots import layer_numbers, numbers, style
from xpnet.training.recording import FrameFile

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _no_figure_stays():
    plt.close("all")
    yield
    plt.close("all")


def linear(W, b, *more, dtype="float64"):
    """A network of one Linear layer with these weights, and what follows it."""
    W, b = np.array(W, float), np.array(b, float)
    net = xpnet.Sequential(xpnet.Linear(*W.shape), *more, dtype=dtype)
    net.load_state_dict(net.state_dict() | {"0.W": W, "0.b": b})
    return net


def recorded(*layers, epochs=3, frames=4, outputs=1):
    """A recorder after a training of 2 features, and the data."""
    layers = layers or (xpnet.Linear(2, 4), xpnet.Tanh(), xpnet.Linear(4, outputs))
    X, recorder = rng.standard_normal((12, 2)), Recorder(frames)
    made = Trainer(xpnet.Sequential(*layers, dtype="float64"), "mse")
    t = rng.standard_normal((12, outputs))
    made.fit(X, t, epochs=epochs, batch_size=4, callbacks=[recorder])
    return recorder, X, t


def tilted():
    """The probability 1 / (1 + exp(-(3 x₁ + x₂/2 - 1))): the two axes are not alike."""
    return linear([[3], [0.5]], [-1], xpnet.Sigmoid())


POINTS = np.array([[0.0, 5], [1, -3], [2, 9], [-1, 1], [0.5, 0.5]])
SIDES = np.array([0, 1, 1, 0, 1])
SCORES = 9 * np.eye(3)[[0, 1, 1, 2, 0, 1, 1]]  # of a network that changes nothing
TRUE = [0, 1, 2, 2, 1, 2, 2]
IMAGES = rng.uniform(-1, 1, (14, 9))


def same(n):
    return linear(np.eye(n), np.zeros(n))


def draw_curve(ax=None, **options):
    X = np.array([[2.0], [-1], [0.5]])
    return plots.curve(linear([[2]], [1]), X, [[3.0], [-2], [1]], ax, **options)


def draw_film(**options):
    return plots.animate(recorded()[0], lambda net, ax: ax.plot([0, 1]), **options)


# What draws on ax, and what comes back.
DRAWN = {
    "loss_curve": (lambda ax=None: plots.loss_curve({"loss": [3, 2]}, ax), [Line2D]),
    "curve": (draw_curve, Line2D),
    "gradient_flow": (lambda ax=None: plots.gradient_flow(*recorded(), ax), [Line2D] * 2),
    "decision_boundary": (
        lambda ax=None: plots.decision_boundary(tilted(), POINTS, SIDES, ax, resolution=9),
        DecisionBoundaryDisplay,
    ),
    "surface": (lambda ax=None: plots.surface(tilted(), ax, resolution=5), Poly3DCollection),
    "confusion": (
        lambda ax=None: plots.confusion(same(3), SCORES, TRUE, ax),
        ConfusionMatrixDisplay,
    ),
    "mistakes": (
        lambda ax=None: plots.mistakes(same(9), IMAGES, np.zeros(14, int), ax),
        AxesImage,
    ),
    "weights": (lambda ax=None: plots.weights(same(9), ax), AxesImage),
    "network": (lambda ax=None: plots.network(tilted(), ax), [Text] * 2),
}


def new_axes(name, **options):
    """Empty axes such as this function needs."""
    projection = "3d" if name == "surface" else None
    return plt.figure(layout="constrained").add_subplot(projection=projection, **options)


def axes_of(artist):
    """The axes of whatever a function returns."""
    first = artist[0] if isinstance(artist, list) else artist
    return getattr(first, "ax_", None) or first.axes


# ---- the module -------------------------------------------------------------------------------

PUBLIC = sorted(name for name, f in vars(plots).items() if inspect.isfunction(f))
MODULES = ["animation", "architecture", "boundary", "images", "lines", "surfaces"]


def test_the_module_has_the_functions_that_draw_and_nothing_else():
    found = [
        name
        for module in MODULES
        for name, f in vars(import_module(f"xpnet.plots.{module}")).items()
        if inspect.isfunction(f) and f.__module__ == f"xpnet.plots.{module}" and name[0] != "_"
    ]
    assert sorted(found) == PUBLIC == sorted([*DRAWN, "animate"])
    files = {path.stem for path in Path(plots.__file__).parent.glob("*.py")}
    assert files == {
        *MODULES,
        "drawing",
        "classes",
        "geometry",
        "layer_numbers",
        "numbers",
        "style",
        "__init__",
    }


@pytest.mark.parametrize("name", PUBLIC)
def test_docstrings_name_every_parameter_and_what_comes_back(name):
    f = getattr(plots, name)
    doc, parameters = inspect.getdoc(f), inspect.signature(f).parameters
    section = doc.partition("Parameters\n----------\n")[2].partition("\n\n")[0]
    named = [names.split(" : ")[0].split(", ") for names in re.findall(r"(?m)^\S.*$", section)]
    assert [word for words in named for word in words] == list(parameters)
    assert re.search(r"\n\nReturns\n-------\n\S", doc)
    raises = re.search(r"\n\nRaises\n------\n(?:ShapeError|OptionError)\n", doc)
    assert raises or name == "confusion"


def run(program):
    """What a script prints that starts with a fresh Python."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        cwd=Path(xpnet.__file__).parent.parent,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.thorough
def test_without_pyplot_there_is_no_pyplot_and_no_window():
    assert run(
        "import sys, xpnet\n"
        "def there(): print(*[m in sys.modules for m in ('matplotlib', 'matplotlib.pyplot')])\n"
        "there()\n"
        "import xpnet.plots\n"
        "there()\n"
        "net = xpnet.Sequential(xpnet.Linear(9, 2))\n"
        "(line,) = xpnet.plots.loss_curve({'loss': [2, 1]})\n"
        "recorder = xpnet.Recorder()\n"
        "xpnet.Trainer(net, 'mse').fit([[0] * 9], [[0, 0]], epochs=1, callbacks=[recorder])\n"
        "film = xpnet.plots.animate(recorder, lambda net, ax: xpnet.plots.weights(net, ax))\n"
        "film._draw_was_started = True\n"  # or matplotlib warns that it has not been shown
        "xpnet.plots.surface(xpnet.Sequential(xpnet.Linear(2, 1)))\n"
        "there()\n"
        "print(type(line.figure).__name__, line.figure.get_layout_engine() is not None)\n"
        "net = xpnet.Sequential(xpnet.Linear(2, 1))\n"
        "xpnet.plots.decision_boundary(net, [[0, 1], [1, 0]], [0, 1])\n"
        "from matplotlib import pyplot\n"
        "print(pyplot.get_fignums())\n"
    ) == ["False", "False", "False", "False", "True", "False", "Figure", "True", "[]"]


def test_in_a_notebook_a_figure_is_one_of_pyplot():
    assert run(
        "import sys, types\n"
        "sys.modules['ipykernel'] = types.ModuleType('ipykernel')\n"
        "import matplotlib, xpnet.plots\n"
        "matplotlib.use('Agg')\n"
        "(line,) = xpnet.plots.loss_curve({'loss': [2, 1]})\n"
        "from matplotlib import pyplot\n"
        "print(pyplot.get_fignums(), line.figure is pyplot.gcf())\n"
    ) == ["[1]", "True"]


@pytest.mark.parametrize("name", DRAWN)
def test_a_picture_is_drawn_on_the_axes_that_are_given(name):
    draw, kind = DRAWN[name]
    other, ax = new_axes(name), new_axes(name)
    before = plt.get_fignums(), len(other.get_children())
    found = draw(ax)
    if isinstance(kind, list):
        assert [type(each) for each in found] == kind
    else:
        assert type(found) is kind
    assert axes_of(found) is ax
    assert (plt.get_fignums(), len(other.get_children())) == before
    ax.figure.canvas.draw()  # nothing is warned of: all letters are there


@pytest.mark.parametrize("name", DRAWN)
def test_without_axes_there_is_one_new_figure(name):
    drawn = axes_of(DRAWN[name][0]())
    assert plt.get_fignums() == [1]
    assert plt.gcf().axes == [drawn]
    assert type(drawn.figure.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("ax", ["left", 3, plt], ids=["text", "number", "pyplot"])
def test_what_is_no_axes_is_refused(name, ax):
    with pytest.raises(OptionError, match=f"ax must be an axes of matplotlib; got {ax!r:.5}"):
        DRAWN[name][0](ax)
    assert plt.get_fignums() == []


def test_a_figure_is_no_axes():
    with pytest.raises(OptionError, match="ax must be an axes of matplotlib; got <Figure"):
        plots.loss_curve({"loss": [1]}, plt.figure())


# ---- lines ------------------------------------------------------------------------------------

HISTORY = {
    "loss": [2.0, 1.0, 0.5],
    "val_loss": [2.5, 1.5, 1.25],
    "val_accuracy": [0.25, 0.5, 0.75],
    "val_r2": [0.1, 0.2, 0.4],
    "val_two_words": [1.0, -1.0, 3.0],
    "val_zero": [1.0, 0.0, 3.0],
}


def test_loss_curve_has_the_numbers_of_the_history():
    training, validation = plots.loss_curve(HISTORY)
    for line, name in ((training, "loss"), (validation, "val_loss")):
        assert list(line.get_xdata()) == [1, 2, 3]
        assert list(line.get_ydata()) == HISTORY[name]
    ax = training.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["training", "validation"]
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", "loss", "log")
    assert training.get_color() != validation.get_color()
    assert training.get_linestyle() != validation.get_linestyle()


@pytest.mark.parametrize(
    ("metric", "scale", "label"),
    [
        ("accuracy", "linear", "accuracy"),
        ("r2", "linear", "r2"),
        ("two_words", "linear", "two words"),
        ("zero", "linear", "zero"),
        ("loss", "log", "loss"),
    ],
)
def test_a_logarithmic_axis_is_for_what_is_positive_and_no_accuracy(metric, scale, label):
    line = plots.loss_curve(HISTORY, metric=metric)[-1]
    assert (line.axes.get_yscale(), line.axes.get_ylabel()) == (scale, label)
    assert list(line.get_ydata()) == HISTORY[f"val_{metric}"]
    assert line.get_label() == "validation"
    twin = plots.loss_curve(HISTORY)[1]
    assert (line.get_color(), line.get_linestyle()) == (twin.get_color(), twin.get_linestyle())


def test_one_value_below_0_on_either_side_makes_the_axis_linear():
    for history in ({"loss": [1, -1], "val_loss": [1, 1]}, {"loss": [1, 1], "val_loss": [1, -1]}):
        assert plots.loss_curve(history)[0].axes.get_yscale() == "linear"


def test_few_epochs_are_dots_and_ticks_are_whole_epochs():
    (few,) = plots.loss_curve({"loss": np.arange(12) + 1.0})
    (many,) = plots.loss_curve({"loss": np.arange(13) + 1.0})
    assert (few.get_marker(), many.get_marker()) == ("o", "")
    (two,) = plots.loss_curve({"loss": [2.0, 1.0]})
    for line in (two, many):
        ticks = line.axes.get_xticks()
        assert (ticks == np.round(ticks)).all()


def test_an_axis_of_less_than_a_power_of_ten_has_plain_numbers():
    (line,) = plots.loss_curve({"loss": [0.69, 0.64, 0.61]})
    line.figure.canvas.draw()
    axis = line.axes.yaxis
    shown = [*axis.get_majorticklabels(), *axis.get_minorticklabels()]
    texts = {text.get_text() for text in shown} - {""}
    assert {"0.65", "0.62"} & texts
    assert all("\\" in text or float(text) > 0 for text in texts)
    assert len([text for text in texts if "\\" in text]) < 3
    (wide,) = plots.loss_curve({"loss": [10.0, 0.3, 0.01]})
    wide.figure.canvas.draw()
    assert {text.get_text() for text in wide.axes.yaxis.get_minorticklabels()} == {""}


@pytest.mark.parametrize(
    ("history", "metric", "words"),
    [
        (
            HISTORY,
            "los",
            "unknown metric 'los'; did you mean 'loss'? choose from accuracy, ",
        ),
        (HISTORY, "val_loss", "unknown metric 'val_loss'; did you mean 'loss'?"),
        ({"loss": [1.0]}, "accuracy", "unknown metric 'accuracy'; choose from loss"),
        ({}, "loss", "the history is empty: trainer.fit(...) writes it"),
        ({"loss": []}, "loss", "the history is empty"),
    ],
)
def test_a_number_that_the_history_does_not_have_is_refused(history, metric, words):
    with pytest.raises(OptionError, match=re.escape(words)):
        plots.loss_curve(history, metric=metric)
    assert plt.get_fignums() == []


def test_a_curve_is_what_the_network_says():
    line = draw_curve(truth=lambda x: x**3)
    data, truth, fit = line.axes.lines
    assert fit is line
    assert data.get_xydata().tolist() == [[2, 3], [-1, -2], [0.5, 1]]
    assert data.get_linestyle() == "None"
    x = fit.get_xdata().ravel()
    assert (len(x), x[0], x[-1]) == (400, pytest.approx(-1.06), pytest.approx(2.06))
    np.testing.assert_allclose(fit.get_ydata().ravel(), 2 * x + 1)
    np.testing.assert_allclose(truth.get_ydata().ravel(), x**3)
    np.testing.assert_array_equal(truth.get_xdata().ravel(), x)
    labels = [text.get_text() for text in line.axes.get_legend().get_texts()]
    assert labels == ["data", "truth", "network"]
    assert (line.axes.get_xlabel(), line.axes.get_ylabel()) == ("x", "y")
    assert len(draw_curve().axes.lines) == 2  # no truth


@pytest.mark.parametrize(
    ("net", "X", "t"),
    [
        (same(2), np.ones((3, 2)), np.ones(3)),
        (linear([[1, 2]], [0, 0]), np.ones((3, 1)), np.ones(3)),
        (linear([[1]], [0]), np.ones((3, 1)), np.ones((3, 2))),
        (linear([[1]], [0]), np.ones(3), np.ones(3)),
    ],
)
def test_a_curve_needs_one_feature_and_one_output(net, X, t):
    words = f"a curve needs samples of 1 feature.* X has the shape {re.escape(str(X.shape))}, "
    with pytest.raises(ShapeError, match=words):
        plots.curve(net, X, t)
    with pytest.raises(ShapeError, match="takes 2 features"):
        plots.curve(same(2), np.ones((3, 1)), np.ones(3))
    with pytest.raises(ShapeError, match="each sample needs a target"):
        plots.curve(linear([[1]], [0]), np.ones((3, 1)), np.ones(4))
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("of", "label"),
    [("gradients", "norm of the gradient"), ("activations", "root mean square of the outputs")],
)
def test_gradient_flow_is_the_norms_of_each_layer(of, label):
    recorder, X, t = recorded()
    found = layer_numbers.norms_of_layers(recorder, X, t)
    lines = plots.gradient_flow(recorder, X, t, of=of)
    assert len(lines) == 2
    for k, line in enumerate(lines):
        assert list(line.get_xdata()) == recorder.epochs
        assert list(line.get_ydata()) == list(getattr(found, of)[:, k])
    names = ["Linear(2, 4), Tanh()", "Linear(4, 1)"]
    ax = lines[0].axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == names
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_yscale()) == ("epoch", label, "log")
    default = plots.gradient_flow(recorder, X, t)
    assert (default[0].get_ydata() == found.gradients[:, 0]).all()


def test_many_layers_have_a_line_each_and_a_legend_beside_them():
    recorder, X, t = recorded(*[xpnet.Linear(2, 2) for _ in range(14)], outputs=2)
    lines = plots.gradient_flow(recorder, X, t)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 14
    ax = lines[0].axes
    ax.figure.canvas.draw()
    legend, frame = ax.get_legend().get_window_extent(), ax.get_window_extent()
    assert frame.x1 <= legend.x0
    assert legend.x1 <= ax.figure.bbox.x1
    few = plots.gradient_flow(*recorded())[0].axes
    few.figure.canvas.draw()
    assert few.get_legend().get_window_extent().x1 < few.get_window_extent().x1


def test_gradients_that_are_all_0_can_be_drawn():
    recorder, X = Recorder(), np.zeros((4, 2))
    Trainer(linear([[0], [0]], [0]), "mse").fit(X, X[:, 0], epochs=2, callbacks=[recorder])
    for of in ("gradients", "activations"):
        (line,) = plots.gradient_flow(recorder, X, X[:, 0], of=of)
        assert list(line.get_ydata()) == [0, 0, 0]
        assert line.axes.get_yscale() == "linear"


def test_an_unknown_kind_of_norm_is_refused():
    words = "unknown kind of norm 'gradient'; did you mean 'gradients'? choose from activations, "
    with pytest.raises(OptionError, match=re.escape(words)):
        plots.gradient_flow(*recorded(), of="gradient")


@pytest.mark.parametrize("name", ["gradient_flow", "animate"])
@pytest.mark.parametrize("kind", ["fresh", "none", "history", "file"])
def test_a_recorder_must_have_been_in_a_training(name, kind, tmp_path):
    file = FrameFile(tmp_path / "frames.bin")
    made = Trainer(linear([[0], [0]], [0]), "mse")
    made.fit(POINTS, SIDES, epochs=1, callbacks=[file])  # its moments are in the file
    recorder = {"fresh": Recorder(), "none": None, "history": made.history, "file": file}[kind]
    words = f"{name} needs a Recorder that has been in a training: trainer.fit("
    more = {"gradient_flow": (POINTS, SIDES), "animate": (lambda net, ax: None,)}[name]
    with pytest.raises(OptionError, match=re.escape(words)) as error:
        getattr(plots, name)(recorder, *more)
    assert repr(recorder) in str(error.value)
    assert plt.get_fignums() == []


# ---- the plane --------------------------------------------------------------------------------


def test_the_decision_boundary_is_the_probability_at_each_point():
    display = plots.decision_boundary(tilted(), POINTS, SIDES, resolution=30)
    x1, x2 = display.xx0[0], display.xx1[:, 0]
    assert display.response.shape == (30, 30)
    # 0.12 of the range around the points
    assert (x1[0], x1[-1]) == (pytest.approx(-1.36), pytest.approx(2.36))
    assert (x2[0], x2[-1]) == (pytest.approx(-4.44), pytest.approx(10.44))
    expected = 1 / (1 + np.exp(-(3 * x1 + x2[:, None] / 2 - 1)))
    np.testing.assert_allclose(display.response, expected)
    assert (display.xx0 == x1).all()
    assert (display.xx1 == x2[:, None]).all()
    # What is drawn: each square is where it belongs, in the colours from blue to orange.
    mesh, ax = display.surface_, display.ax_
    np.testing.assert_allclose(np.reshape(mesh.get_array(), (30, 30)), expected)
    corners = mesh.get_coordinates()
    centres = (corners[1:, 1:] + corners[:-1, :-1]) / 2
    np.testing.assert_allclose(centres, np.stack(np.meshgrid(x1, x2), axis=2))
    assert mesh.get_clim() == (0, 1)
    assert mesh.get_rasterized()
    assert ax.get_xlim() == (x1[0], x1[-1])
    assert ax.get_ylim() == (x2[0], x2[-1])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x₁", "x₂")
    for value, colour in ((0, style.BLUE), (1, style.ORANGE)):
        assert mesh.get_cmap()(float(value))[:3] == pytest.approx(colors.to_rgb(colour), abs=0.01)


def test_the_black_line_is_where_both_classes_are_as_likely():
    display = plots.decision_boundary(tilted(), POINTS)
    _, contour = display.ax_.collections
    (path,) = contour.get_paths()
    x1, x2 = path.vertices.T
    np.testing.assert_allclose(3 * x1 + x2 / 2, 1, atol=1e-3)
    assert x2.min() == pytest.approx(-4.44, abs=0.2)  # through the whole picture
    assert x1.min() == pytest.approx(-1.36, abs=0.05)
    assert display.ax_.get_legend() is None  # no classes, no points
    assert len(display.ax_.lines) == 0
    assert display.response.shape == (200, 200)


@pytest.mark.parametrize("b", [-50, 50])
def test_without_a_boundary_there_is_no_line(b):
    display = plots.decision_boundary(linear([[1], [1]], [b]), POINTS, SIDES, resolution=20)
    assert len(display.ax_.collections) == 1


def test_the_points_have_a_colour_and_a_marker_for_each_class():
    display = plots.decision_boundary(tilted(), POINTS, SIDES[:, None], resolution=5)
    zero, one = display.ax_.lines
    assert zero.get_xydata().tolist() == POINTS[SIDES == 0].tolist()
    assert one.get_xydata().tolist() == POINTS[SIDES == 1].tolist()
    assert (zero.get_color(), one.get_color()) == (style.BLUE, style.ORANGE)
    assert zero.get_marker() != one.get_marker()
    assert zero.get_linestyle() == one.get_linestyle() == "None"
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["class 0", "class 1"]


def test_few_points_are_large():
    many = np.vstack([POINTS] * 4)
    sizes = [
        plots.decision_boundary(tilted(), X, np.resize(SIDES, len(X)), resolution=3)
        .ax_.lines[0]
        .get_markersize()
        for X in (many[:19], many)
    ]
    assert sizes[0] > sizes[1]


@pytest.mark.parametrize("classes", [3, 8])
def test_several_classes_are_regions_in_the_colours_of_their_points(classes):
    angles = np.arange(classes) * 2 * np.pi / classes + 0.3
    X = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    display = plots.decision_boundary(
        linear(X.T, np.zeros(classes)), X, np.eye(classes), resolution=41
    )
    points = np.stack([display.xx0, display.xx1], axis=2)
    np.testing.assert_array_equal(display.response, (points @ X.T).argmax(axis=2))
    mesh, ax = display.surface_, display.ax_
    np.testing.assert_array_equal(np.reshape(mesh.get_array(), (41, 41)), display.response)
    assert len(ax.lines) == classes
    for k, line in enumerate(ax.lines):
        assert line.get_xydata().tolist() == [X[k].tolist()]
        shown = mesh.get_cmap()(mesh.norm(k))[:3]
        assert shown == pytest.approx(colors.to_rgb(line.get_color()))
    assert len({(line.get_color(), line.get_marker()) for line in ax.lines}) == classes
    assert len(ax.collections) == 1  # no line of 0.5


@pytest.mark.parametrize("resolution", [1, 0, 2.5, "fine"])
def test_a_bad_resolution_is_refused(resolution):
    for draw in (
        lambda **o: plots.decision_boundary(tilted(), POINTS, **o),
        lambda **o: plots.surface(tilted(), **o),
    ):
        with pytest.raises(OptionError, match="resolution must be a whole number, 2 or more; got"):
            draw(resolution=resolution)
    assert plt.get_fignums() == []


def test_a_decision_boundary_needs_two_features_and_as_many_classes():
    with pytest.raises(ShapeError, match=r"2 features; X has the shape \(14, 9\)"):
        plots.decision_boundary(same(9), IMAGES)
    with pytest.raises(ShapeError, match=r"X has the shape \(5, 2\), t \(4,\)"):
        plots.decision_boundary(tilted(), POINTS, SIDES[:4])
    with pytest.raises(ShapeError, match="takes 3 features"):
        plots.decision_boundary(same(3), POINTS)
    assert plt.get_fignums() == []


# ---- surfaces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["network", "function", "column"])
def test_a_surface_has_the_value_of_each_point(monkeypatch, kind):
    def plane(X):
        assert X.shape == (7 * 7, 2)
        return 2 * X[:, 0] - 5 * X[:, 1] + 1

    f = {
        "network": linear([[2], [-5]], [1]),
        "function": plane,
        "column": lambda X: plane(X)[:, None],
    }[kind]
    ax, given = new_axes("surface"), []
    draw = ax.plot_surface

    def plot_surface(*args, **options):
        given.extend(args)
        return draw(*args, **options)

    monkeypatch.setattr(ax, "plot_surface", plot_surface)
    drawn = plots.surface(f, ax, x1=(-1, 2), x2=(10, 13), resolution=7)
    x, y, z = given
    np.testing.assert_allclose(z, 2 * x - 5 * y + 1)
    for axis, (low, high) in ((x, (-1, 2)), (y, (10, 13))):
        np.testing.assert_allclose(np.unique(axis), np.linspace(low, high, 7))
    # The colours, one for each of 6 x 6 pieces, are those of the means of its corners.
    means = (z[1:, 1:] + z[1:, :-1] + z[:-1, 1:] + z[:-1, :-1]) / 4
    np.testing.assert_allclose(np.sort(drawn.get_array()), np.sort(means.ravel()))
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_zlabel()) == ("x₁", "x₂", "y")


def test_a_surface_is_over_the_square_of_2_with_50_points_unless_told():
    drawn = plots.surface(linear([[1], [0]], [0]))
    ax = drawn.axes
    assert len(drawn.get_array()) == 49 * 49
    finer = plots.surface(linear([[1], [0]], [0]), resolution=60)
    assert len(finer.get_array()) == 59 * 59  # no point is left out
    assert ax.xy_dataLim.extents == pytest.approx([-1, -1, 1, 1])
    assert ax.name == "3d"
    assert all(len(axis.get_majorticklocs()) <= 7 for axis in (ax.xaxis, ax.yaxis, ax.zaxis))


@pytest.mark.parametrize("f", [same(2), lambda X: X, lambda X: 1.0, lambda X: X[:-1, 0]])
def test_a_surface_needs_one_value_for_each_point(f):
    with pytest.raises(
        ShapeError, match=r"a surface needs 1 value for each point; .* gave the shape"
    ):
        plots.surface(f)
    assert plt.get_fignums() == []


def test_a_surface_needs_three_dimensions():
    with pytest.raises(OptionError, match=r"projection='3d', for example .* this one is 'rect"):
        plots.surface(tilted(), plt.figure().add_subplot())


# ---- images -----------------------------------------------------------------------------------


def test_confusion_has_the_counts_with_the_true_classes_as_rows():
    expected = [[1, 0, 0], [1, 1, 0], [0, 3, 1]]
    for t in (TRUE, np.eye(3)[TRUE], np.array(TRUE)[:, None]):
        display = plots.confusion(same(3), SCORES, t)
        assert display.confusion_matrix.tolist() == expected
    image = display.ax_.images[0]
    assert image.get_array().tolist() == expected
    assert image.get_clim() == (0, 6)  # twice the largest mistake
    assert len(display.ax_.figure.axes) == 1  # no bar of colours
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("predicted", "true")
    texts = {text.get_position(): text.get_text() for text in display.ax_.texts}
    assert texts == {
        (j, i): str(expected[i][j]) if expected[i][j] else "" for i in range(3) for j in range(3)
    }


@pytest.mark.parametrize(("classes", "texts"), [(30, 900), (31, 0)])
def test_of_many_classes_the_counts_are_left_out(classes, texts):
    display = plots.confusion(same(classes), np.eye(classes), range(classes))
    assert len(display.ax_.texts) == texts
    assert display.confusion_matrix.tolist() == np.eye(classes).tolist()


def test_counts_can_be_read_on_dark_and_on_light():
    X, t = 9 * np.eye(2)[[0] * 1500 + [1] * 3], [0] * 1500 + [0, 0, 1]
    display = plots.confusion(same(2), X, t)
    found = {text.get_text(): text.get_color() for text in display.ax_.texts}
    assert found == {"1500": "white", "2": "black", "1": "black", "": "black"}
    assert display.ax_.images[0].get_clim() == (0, 4)


def test_confusion_has_all_classes_of_the_outputs_and_of_the_targets():
    assert plots.confusion(same(3), SCORES[:1], [0]).confusion_matrix.shape == (3, 3)
    assert plots.confusion(same(3), SCORES[:2], [0, 4]).confusion_matrix.shape == (5, 5)
    right = plots.confusion(tilted(), [[9, 0], [-9, 0]], [1, 0])  # one output is two classes
    assert right.confusion_matrix.tolist() == [[1, 0], [0, 1]]
    assert right.ax_.images[0].get_clim() == (0, 1)
    alone = plots.confusion(tilted(), [[9, 0]], [0])
    assert alone.confusion_matrix.tolist() == [[0, 1], [0, 0]]
    with pytest.raises(ShapeError, match="each sample needs a target"):
        plots.confusion(same(3), SCORES, [0])
    assert len(plt.get_fignums()) == 4  # none for what was refused


def tile(image, k, columns, height, width, room):
    """Picture k of an image of many, and what is around it: above and to the right."""
    rows = image.get_array().filled(np.nan)[k // columns * (height + room) :][: height + room]
    part = rows[:, k % columns * (width + 1) :][:, : width + 1]
    return part[room:, :width], np.concatenate([part[:room].ravel(), part[room:, width]])


@pytest.mark.parametrize(("height", "width", "room"), [(3, 3, 1), (1, 9, 1), (9, 1, 3)])
def test_mistakes_are_the_images_with_what_they_were_taken_for(height, width, room):
    t = np.roll(IMAGES.argmax(axis=1), 1)
    found = numbers.mistakes(same(9), IMAGES, t)
    assert 9 <= len(found) <= 14  # in two rows
    shape = None if height == width else (height, width)
    image = plots.mistakes(same(9), IMAGES, t, shape=shape)
    assert image.get_array().shape == (2 * (height + room), 8 * (width + 1))
    ax = image.axes
    assert len(ax.texts) == len(found)
    for k, mistake in enumerate(found):
        inside, around = tile(image, k, 8, height, width, room)
        np.testing.assert_allclose(inside, IMAGES[mistake.sample].reshape(height, width))
        assert np.isnan(around).all()
        words = ax.texts[k]
        assert words.get_text() == f"{mistake.predicted}, not {mistake.true}"
        x, y = words.get_position()
        assert x == k % 8 * (width + 1) + (width - 1) / 2  # above the middle
        top = k // 8 * (height + room)
        assert top - 0.5 < y < top + room - 0.5  # in the room above
        assert (words.get_ha(), words.get_va()) == ("center", "bottom")
    inside, _ = tile(image, len(found), 8, height, width, room)
    assert np.isnan(inside).all()
    assert ax.get_title() == "most confident mistakes"
    assert not ax.axison
    assert image.get_cmap().name == "gray_r"


def test_few_mistakes_make_one_row_and_none_an_empty_picture():
    t = IMAGES.argmax(axis=1)
    image = plots.mistakes(same(9), IMAGES, (t + 1) % 9, n=2)
    assert (image.get_array().shape, len(image.axes.texts)) == ((4, 8), 2)
    none = plots.mistakes(same(9), IMAGES, t)
    assert none.get_array().mask.all()
    assert (none.axes.get_title(), len(none.axes.texts)) == ("no mistakes", 0)
    none.figure.canvas.draw()
    many = np.tile(IMAGES, (3, 1))
    assert len(plots.mistakes(same(9), many, np.tile(t + 1, 3) % 9).axes.texts) == 24


def test_mistakes_of_images_in_two_dimensions_and_in_bytes():
    pixels = rng.integers(0, 256, (5, 3, 3)).astype(np.uint8)
    net = xpnet.Sequential(xpnet.Flatten(), xpnet.Linear(9, 2, init="zeros"))
    image = plots.mistakes(net, pixels, np.ones(5, int))
    assert len(image.axes.texts) == 5
    for k in range(5):
        np.testing.assert_array_equal(tile(image, k, 5, 3, 3, 1)[0], pixels[k])


WEIGHTS = rng.standard_normal((6, 5))
WEIGHTS[:, 1] /= 1000
WEIGHTS[:, 2] = -np.arange(6) * 1000.0
WEIGHTS[:, 3] = 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_each_unit_has_the_image_of_its_weights_on_its_own_scale(dtype):
    net = linear(WEIGHTS, np.zeros(5), xpnet.Tanh(), xpnet.Linear(5, 1), dtype=dtype)
    before = net.state_dict()
    image = plots.weights(net, shape=(2, 3))
    assert image.get_array().shape == (2 * (2 + 1), 3 * (3 + 1))
    for k in range(5):
        inside, around = tile(image, k, 3, 2, 3, 1)
        scale = np.abs(WEIGHTS[:, k]).max() or 1
        np.testing.assert_allclose(inside, WEIGHTS[:, k].reshape(2, 3) / scale, rtol=1e-6)
        assert np.isnan(around).all()
    assert np.isnan(tile(image, 5, 3, 2, 3, 1)[0]).all()
    assert image.get_clim() == (-1, 1)
    low, middle, high = (image.get_cmap()(image.norm(v))[:3] for v in (-1, 0, 1))
    assert low[2] > low[0]  # blue
    assert high[0] > high[2]  # red
    assert min(middle) > 0.9
    assert not image.axes.axison
    for name, value in net.state_dict().items():  # nothing has happened to the network
        np.testing.assert_array_equal(value, before[name])


def test_at_most_so_many_units_are_drawn():
    net = linear(WEIGHTS, np.zeros(5))
    assert plots.weights(net, shape=(3, 2), n=2).get_array().shape == (4, 2 * 3)
    assert plots.weights(xpnet.Sequential(xpnet.Linear(4, 70))).get_array().shape == (8 * 3, 8 * 3)


def test_images_need_a_square_or_a_shape():
    net, X, t = linear(WEIGHTS, np.zeros(5)), np.ones((3, 6)), [0, 1, 2]
    for draw in (lambda **o: plots.weights(net, **o), lambda **o: plots.mistakes(net, X, t, **o)):
        with pytest.raises(OptionError, match="6 pixels make no square image; give the shape="):
            draw()
        with pytest.raises(OptionError, match=r"have 6 pixels; shape=\(2, 4\) has 8"):
            draw(shape=(2, 4))
        with pytest.raises(OptionError, match="n must be a whole number, 1 or more; got 0"):
            draw(n=0, shape=(2, 3))
    with pytest.raises(OptionError, match=r"Sequential\(Tanh\(\)\) has no Linear layer"):
        plots.weights(xpnet.Sequential(xpnet.Tanh()))
    with pytest.raises(ShapeError, match="each sample needs a target"):
        plots.mistakes(net, X, [0, 1], shape=(2, 3))
    assert plt.get_fignums() == []


# ---- the network ------------------------------------------------------------------------------


def drawn_network(*layers):
    net = xpnet.Sequential(*layers)
    texts = plots.network(net)
    ax = texts[0].axes
    columns = [line for line in ax.lines if line.get_marker() == "o"]
    wires = [line for line in ax.lines if line.get_marker() != "o"]
    return net, texts, ax, columns, wires


def test_a_network_is_drawn_with_its_units_connections_shapes_and_counts():
    _, texts, ax, columns, wires = drawn_network(
        xpnet.Linear(2, 3), xpnet.BatchNorm1d(3), xpnet.ReLU(), xpnet.Linear(3, 1)
    )
    assert [text.get_text().split("\n") for text in texts] == [
        ["input", "2"],
        ["Linear", "3", "9 parameters"],
        ["BatchNorm1d", "ReLU", "3", "6 parameters"],
        ["Linear", "1", "4 parameters"],
    ]
    assert ax.get_title() == "19 parameters"
    assert [len(column.get_xdata()) for column in columns] == [2, 3, 3, 1]
    for x, column in enumerate(columns):
        assert set(column.get_xdata()) == {x}
        assert texts[x].get_position()[0] == x
        ys = column.get_ydata()
        assert np.mean(ys) == pytest.approx(0)
        assert np.diff(ys) == pytest.approx(np.full(len(ys) - 1, -0.5))
        assert texts[x].get_position()[1] < min(ys)
    ends = [(tuple(wire.get_xdata()), tuple(wire.get_ydata())) for wire in wires]
    expected = {
        ((x, x + 1), (a, b))
        for x in range(3)
        for a in columns[x].get_ydata()
        for b in columns[x + 1].get_ydata()
    }
    assert set(ends) == expected
    assert len(ends) == 2 * 3 + 3 * 3 + 3 * 1
    colours = [column.get_color() for column in columns]
    assert colours == [style.ORANGE, style.BLUE, style.BLUE, style.ORANGE]
    assert not ax.axison


def test_of_many_units_the_middle_is_left_out():
    net, texts, ax, columns, wires = drawn_network(
        xpnet.Linear(164, 10), xpnet.Tanh(), xpnet.Linear(10, 11)
    )
    assert [len(column.get_xdata()) for column in columns] == [10, 10, 10]
    assert len(wires) == 2 * 100
    dots = [text.get_position() for text in ax.texts if text.get_text() == "⋮"]
    assert dots == [(0, 0), (2, 0)]  # of exactly 10 all are there
    for column, gaps in zip(columns, [{1, 2}, {1}, {1, 2}], strict=True):
        ys = column.get_ydata()
        steps = -np.diff(ys)
        assert {round(step / steps[0]) for step in steps} == gaps
        assert ys == pytest.approx(-ys[::-1])  # as much above the middle as below
        assert np.abs(ys).max() < 1
    assert net.size == 1771
    assert ax.get_title() == "1,771 parameters"
    assert texts[0].get_text() == "input\n164"


@pytest.mark.thorough(but=["5"])
@pytest.mark.parametrize("depth", [2, 4, 5, 13])
def test_the_words_of_two_columns_do_not_overlap(depth):
    inner = [f for _ in range(depth) for f in (xpnet.Linear(99, 99), xpnet.LeakyReLU())]
    _, texts, ax, _, _ = drawn_network(*inner)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in texts]
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
    assert len(texts) == depth + 1


def test_a_network_of_unknown_shape_is_refused():
    with pytest.raises(OptionError, match=r"not known: Sequential\(ReLU\(\)\) has seen none yet"):
        plots.network(xpnet.Sequential(xpnet.ReLU()))
    assert plt.get_fignums() == []


# ---- films ------------------------------------------------------------------------------------


class Reel(animation.AbstractMovieWriter):
    """Keeps what is on the axes in each picture, and writes no file."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def setup(self, fig, outfile, dpi=None):
        self.fig, self.outfile, self.dpi = fig, outfile, dpi or 50

    def grab_frame(self, **options):
        (ax,) = self.fig.axes
        self.seen.append((ax.get_title(), len(ax.lines), ax.name))

    def finish(self):
        pass


@pytest.mark.parametrize("projection", [None, "3d"])
def test_a_film_has_a_picture_of_the_network_at_each_moment(projection):
    recorder, _, _ = recorded(epochs=2, frames=5)
    drawn = []

    def draw(net, ax):
        assert isinstance(ax, Axes)
        assert len(ax.lines) == 0  # empty
        ax.plot([0, 1], [0, 1])
        ax.set_title("my own")
        drawn.append(net.params.copy())

    film = plots.animate(recorder, draw, interval=20, projection=projection)
    assert type(film) is animation.FuncAnimation
    n = len(recorder.epochs)
    assert list(film.new_frame_seq()) == list(range(n))
    assert film.event_source.interval == 20
    reel = Reel()
    film.save("nowhere", writer=reel)
    name = projection or "rectilinear"
    assert reel.seen == [(f"epoch {epoch:.6g}", 1, name) for epoch in recorder.epochs]
    assert [title for title, _, _ in reel.seen][:2] == ["epoch 0", "epoch 0.333333"]
    np.testing.assert_array_equal(drawn[-n:], recorder.values)
    assert plt.get_fignums() == [1]


@pytest.mark.thorough
def test_a_film_becomes_a_page():
    recorder, X, _ = recorded(epochs=1, frames=3)
    assert len(recorder.epochs) == 3

    def draw(net, ax):
        plots.decision_boundary(net, X, X[:, 0] > 0, ax, resolution=5)

    film = plots.animate(recorder, draw)
    assert film.event_source.interval == 50
    page = film.to_jshtml(fps=10)
    assert len(re.findall(r"frames\[\d+\] = ", page)) == 3


@pytest.mark.parametrize("interval", [0, 2.5, "slow"])
def test_a_bad_interval_is_refused(interval):
    with pytest.raises(OptionError, match="interval must be a whole number, 1 or more; got"):
        draw_film(interval=interval)
    assert plt.get_fignums() == []
