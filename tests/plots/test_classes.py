"""Confusion matrices of many classes: what is shown fits, and the rest is said."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import xpnet
from xpnet import plots
from xpnet.plots.classes import classes_to_show, ticks, which_are_shown
from xpnet.runs.problems import ProblemData
from xpnet.runs.report import contents
from xpnet.training.recording import Recorder


def identity(classes):
    """Return a network whose outputs are its inputs."""
    net = xpnet.Sequential(xpnet.Linear(classes, classes), backend="numpy")
    net.load_state_dict({"0.W": np.eye(classes), "0.b": np.zeros(classes)})
    return net


@pytest.mark.parametrize("classes", [2, 10, 47, 100])
def test_up_to_100_classes_are_all_shown(classes):
    matrix = np.ones((classes, classes), int)
    shown = classes_to_show(matrix)
    assert shown.tolist() == list(range(classes))
    assert which_are_shown(shown, classes) == ""


def test_of_more_those_with_the_most_mistakes_are_shown():
    """Class 7 is taken for 150 twice, 3 for 151 once; what is right does not count."""
    matrix = np.diag(np.full(200, 1000))
    matrix[7, 150], matrix[3, 151] = 2, 1
    matrix[:98, 199] += 5  # 199 is predicted most often, for 98 classes
    shown = classes_to_show(matrix)
    assert len(shown) == 100
    assert shown.tolist() == [*range(98), 150, 199]
    assert which_are_shown(shown, 200) == "the 100 classes with the most mistakes, of 200"


@pytest.mark.parametrize("last", [9, 46, 99, 1999])
def test_labels_of_the_axes_do_not_overlap(last):
    shown = np.arange(max(0, last - 99), last + 1)
    places, words = ticks(shown)
    assert words == [str(shown[k]) for k in places]
    assert places[0] == 0
    assert sum(map(len, words)) <= 40
    assert len(words) >= 8


@pytest.mark.parametrize("classes", [47, 150])
def test_the_picture(classes):
    """Here each sample k is taken for class k + 1."""
    net, X = identity(classes), np.eye(classes)
    t = (np.arange(classes) - 1) % classes
    display = plots.confusion(net, X, t)
    n = min(classes, 100)
    matrix = display.confusion_matrix
    assert matrix.shape == (n, n)
    assert matrix[np.arange(n - 1), np.arange(1, n)].tolist() == [1] * (n - 1)
    ax = display.ax_
    assert ("100 classes" in ax.get_title()) == (classes > 100)
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(a.x1 < b.x0 for a, b in pairwise(boxes))


@pytest.mark.thorough
def test_the_report_of_many_classes_is_small():
    classes = 1500
    net = identity(classes)
    recorder = Recorder()
    recorder.trainer = xpnet.Trainer(net, "softmax_cross_entropy")
    for k in range(30):
        recorder.add(k)
    X, t = np.eye(classes, dtype=np.float32), (np.arange(classes) - 1) % classes
    data = ProblemData((X, t), (X, t), classes, None)
    found = contents._confusion(recorder, data)
    assert found["which"] == "the 100 classes with the most mistakes, of 1,500"
    assert found["shape"][1:] == (100, 100)
    assert found["classes"] == list(range(100))
    assert len(found["data"]) < 2_100_000
    assert contents.training(recorder, data)["samples"] == contents.OUTPUTS // classes
