"""Problems: a data set with the network and the settings that solve it, for the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import data as data_sets
from xpnet.backend import Backend, say_once
from xpnet.initializers import Initializer
from xpnet.layers import ACTIVATIONS, Layer, Linear, Sigmoid, Softmax
from xpnet.losses import LOSSES
from xpnet.network import Sequential
from xpnet.optimizers import find_optimizer
from xpnet.parallel.communicator import Communicator
from xpnet.plots.geometry import find_shape_of_images
from xpnet.plots.numbers import MOST_CLASSES
from xpnet.schedules import OneCycle, Schedule
from xpnet.support.errors import DataError, OptionError, OutOfMemoryError
from xpnet.support.messages import look_up
from xpnet.training.trainer import Trainer

MOST_PARAMETERS = 2**56
FROM_FILES = frozenset({"mnist"})  # the problems whose data are files in a folder
Arrays = tuple[Any, Any]
Folder = str | Path | None


@dataclass(frozen=True)
class ProblemData:
    """Training data and test data of a problem; ``classes`` is 0 for a regression.

    ``image_shape`` is (height, width) where the rows of X are images of one channel.
    """

    train: Arrays
    test: Arrays
    classes: int
    image_shape: tuple[int, int] | None = None


@dataclass(frozen=True)
class Problem:
    """A data set, the network that fits it, and the settings that train it.

    ``batch_size`` None means all samples at once. With ``one_cycle`` the learning rate rises to
    ``lr`` and falls to nothing over the whole training; without it the learning rate is constant.
    """

    name: str
    summary: str
    load: Callable[..., ProblemData]  # (seed, data folder, may download = True)
    hidden: tuple[int, ...]
    activation: str
    loss: str
    optimizer: str
    lr: float
    epochs: int
    batch_size: int | None
    init: str | Initializer = "glorot_uniform"
    one_cycle: bool = False


def build(
    problem: Problem,
    data: ProblemData,
    *,
    dtype: str,
    seed: int,
    backend: str | Backend | None = None,
    comm: Communicator | None = None,
) -> Trainer:
    """Return a trainer of a fresh, fully connected network, with the settings of the problem.

    The network ends as its loss wants it: with a Sigmoid or Softmax for losses on probabilities,
    with nothing for losses on scores and for regression. To change a setting, give
    ``dataclasses.replace(problem, hidden=(256, 128))``.

    Raises
    ------
    OptionError
        If a name is unknown or the loss does not fit the problem.
    OutOfMemoryError
        If no machine could hold the network.
    """
    (X, t), classes = data.train, data.classes
    outputs = 1 if classes == 2 else classes or t.reshape(len(t), -1).shape[1]
    end = _last_layer(problem.loss, classes)
    activation = look_up("activation", problem.activation, ACTIVATIONS)
    sizes = [int(np.prod(X.shape[1:])), *problem.hidden]
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes):
        layers += [Linear(n_in, n_out, init=problem.init), activation()]
    layers.append(Linear(sizes[-1], outputs, init=problem.init))
    _check_size([*sizes, outputs])
    net = Sequential(*layers, *end, dtype=dtype, seed=seed, backend=backend)
    lr: float | Schedule = problem.lr
    steps = problem.epochs * -(-len(X) // (problem.batch_size or len(X)))
    if problem.one_cycle and steps >= 10:  # in fewer there is no going up and down
        lr = OneCycle(problem.lr, steps)
    optimizer = find_optimizer(problem.optimizer, net, lr=lr)
    metrics = ["accuracy"] if classes else ["rmse", "r2"]
    return Trainer(net, problem.loss, optimizer, metrics=metrics, seed=seed, comm=comm)


def _check_size(sizes: Sequence[int]) -> None:
    """Check that no machine is asked for more bytes than it has addresses for."""
    parameters = sum(a * b + b for a, b in pairwise(sizes))
    if parameters > MOST_PARAMETERS:
        raise OutOfMemoryError(
            f"the hidden layers {', '.join(map(str, sizes[1:-1]))} make {parameters:,} parameters, "
            "which no memory can hold; give smaller ones with --hidden"
        )


# The losses of the library that fit a regression (0), two classes (2), and more classes.
FITTING_LOSSES = {0: ("mse", "huber"), 2: ("bce_logits", "bce", "mse", "huber")}
FITTING_MANY_CLASSES = ("softmax_cross_entropy", "cross_entropy")
LOSSES_OF_THE_LIBRARY = {*FITTING_LOSSES[2], *FITTING_MANY_CLASSES}


def _last_layer(loss: str, classes: int) -> list[Layer]:
    """Return the layer that turns scores into what the loss takes.

    A loss of a user's fits each regression, and two classes: it takes the probability of class 1,
    or scores if its ``threshold`` is 0. With ``distribution`` it fits more classes, and takes
    scores.
    """
    _check_fits(loss, classes)
    if loss == "cross_entropy":
        return [Softmax()]
    own = loss not in LOSSES_OF_THE_LIBRARY
    on_scores = loss == "bce_logits" or (own and LOSSES[loss].threshold == 0)
    return [Sigmoid()] if classes == 2 and not on_scores else []


def _check_fits(loss: str, classes: int) -> None:
    """Raise OptionError if a loss is not for so many classes."""
    fitting = FITTING_LOSSES.get(classes, FITTING_MANY_CLASSES)
    kind = look_up("loss", loss, LOSSES)
    own = loss not in LOSSES_OF_THE_LIBRARY
    if loss not in fitting and not (own and (classes <= 2 or kind.distribution)):
        what = {0: "a regression", 2: "two classes"}.get(classes, f"{classes} classes")
        why = " without distribution = True" if own else ""
        raise OptionError(
            f"the loss {loss!r} does not fit {what}{why}; choose from {', '.join(fitting)}"
        )


def _gate(gate: Callable[[], Arrays]) -> Callable[..., ProblemData]:
    return lambda seed, folder, download=True: ProblemData(
        gate(), gate(), classes=2
    )  # four points are all there are


def _spiral(seed: int, folder: Folder, download: bool = True) -> ProblemData:
    return ProblemData(
        data_sets.spiral(400, seed=seed), data_sets.spiral(400, seed=seed + 1_000_000), classes=2
    )


def _curve(seed: int, folder: Folder, download: bool = True) -> ProblemData:
    x = np.linspace(-3, 3, 601).reshape(-1, 1)
    return ProblemData(data_sets.curve(200, seed=seed), (x, data_sets.curve_truth(x)), classes=0)


def _surface(seed: int, folder: Folder, download: bool = True) -> ProblemData:
    return ProblemData(data_sets.surface(200, seed=seed), data_sets.surface_grid(50), classes=0)


def _digits(seed: int, folder: Folder, download: bool = True) -> ProblemData:
    X, t, X_test, t_test = data_sets.digits()
    return ProblemData((X, t), (X_test, t_test), classes=10, image_shape=(8, 8))


def _mnist(seed: int, folder: Folder, download: bool = True) -> ProblemData:
    X, t, X_test, t_test = data_sets.load_images(folder, download=download)
    classes = max(3, int(max(t.max(), t_test.max())) + 1)
    _check_labels(t, classes)
    train, test = ((images.reshape(len(images), -1), k) for images, k in ((X, t), (X_test, t_test)))
    return ProblemData(train, test, classes, find_shape_of_images(X.shape[1:]))


def _check_labels(t: Any, classes: int) -> None:
    """Say which labels have no sample; refuse labels that are too many or too large."""
    if classes > MOST_CLASSES:
        kinds = len(np.unique(t))
        raise DataError(
            f"the labels go up to {classes - 1}, with {kinds} different ones, but a training here "
            f"has at most {MOST_CLASSES} classes, counted from 0; write the files again with the "
            f"labels 0 ... {min(kinds, MOST_CLASSES) - 1}"
        )
    absent = np.setdiff1d(np.arange(classes), t).tolist()
    if absent:
        some = ", ".join(map(str, absent[:8])) + (" ..." if len(absent) > 8 else "")
        say_once(
            f"the network has an output for each label 0 ... {classes - 1}, but no training sample "
            f"has the label {some}; do the labels count from 0?"
        )


# The notebook's net; with its lr of 1, 2 of 100 starts are not done after 5000 epochs.
_gate_settings: dict[str, Any] = {
    "hidden": (3,),
    "activation": "sigmoid",
    "loss": "mse",
    "optimizer": "sgd",
    "lr": 2.0,
    "epochs": 5000,
    "batch_size": None,
    "init": "normal",
}

PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("and", "x1 AND x2, four points", _gate(data_sets.and_gate), **_gate_settings),
        Problem("xor", "x1 XOR x2, four points", _gate(data_sets.xor_gate), **_gate_settings),
        Problem(
            "spiral",
            "two spiral arms, 400 points with noise",
            _spiral,
            hidden=(64, 64),
            activation="relu",
            loss="bce_logits",
            optimizer="adam",
            lr=0.01,
            epochs=300,
            batch_size=64,
            init="he_uniform",
        ),
        Problem(
            "curve",
            "a noisy curve of two pieces, 200 points",
            _curve,
            hidden=(32, 32),
            activation="tanh",
            loss="mse",
            optimizer="adam",
            lr=0.01,
            epochs=2000,
            batch_size=None,
            one_cycle=True,
        ),
        Problem(
            "surface",
            "the bowl x1^2 + x2^2, 200 points",
            _surface,
            hidden=(32, 32),
            activation="tanh",
            loss="mse",
            optimizer="adam",
            lr=0.01,
            epochs=4000,
            batch_size=None,
            one_cycle=True,
        ),
        Problem(
            "digits",
            "1797 handwritten digits of 8 x 8 pixels, part of scikit-learn",
            _digits,
            hidden=(128, 64),
            activation="relu",
            loss="softmax_cross_entropy",
            optimizer="adam",
            lr=0.003,
            epochs=40,
            batch_size=32,
            init="he_uniform",
            one_cycle=True,
        ),
        Problem(
            "mnist",
            "70000 handwritten digits of 28 x 28 pixels, or any data set of IDX files",
            _mnist,
            hidden=(64, 32),
            activation="relu",
            loss="softmax_cross_entropy",
            optimizer="adam",
            lr=0.004,
            epochs=5,
            batch_size=128,
            init="he_uniform",
            one_cycle=True,
        ),
    )
}
