"""Networks and trainings in files: they come back as they were, on every backend."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.backend.random import Random
from xpnet.layers import LAYERS
from xpnet.support import archive
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.errors import CheckpointError, DivergenceError, OptionError, XpnetError
from xpnet.support.locks import FolderLock
from xpnet.training.callbacks import Callback
from xpnet.training.checkpoint import find_checkpoints

TESTS = Path(__file__).parents[1]
SAVED = TESTS / "saved"
DRAW = np.random.default_rng(0)
X = Random(0, "X").normal((50, 4)).astype(np.float32)  # the same with every NumPy
T = Random(0, "T").integers(50, 3)
EPOCHS, BATCHES = 3, 7  # of 8, the last of 2


def make(backend="numpy", seed=0, optimizer=xpnet.Adam, layers=(), dtype="float32", **options):
    net = xpnet.Sequential(
        *(xpnet.Linear(4, 8), xpnet.BatchNorm1d(8), xpnet.ReLU(), xpnet.Dropout(0.3)),
        *(xpnet.Sequential(xpnet.Linear(8, 5), xpnet.Tanh()), *layers, xpnet.Linear(5, 3)),
        backend=backend,
        dtype=dtype,
    )
    made = optimizer(net, **options)
    return xpnet.Trainer(net, "softmax_cross_entropy", made, metrics=["accuracy"], seed=seed)


def fit(trainer, callbacks=(), **options):
    options = {"epochs": EPOCHS, "batch_size": 8, "validation_data": (X, T), **options}
    return trainer.fit(X, T, callbacks=list(callbacks), **options)


def everything(trainer):
    """Return every number that a training ends with, as text that can be compared."""
    vectors = {k: trainer.net.xp.asnumpy(v) for k, v in trainer.optimizer.state_vectors().items()}
    arrays = trainer.net.state_dict() | vectors
    bits = {name: (str(a.dtype), a.shape, a.tobytes()) for name, a in arrays.items()}
    return bits | {"history": dict(trainer.history), "t": trainer.optimizer.t}


class Break(Callback):
    """Breaks the training off after so many steps."""

    def __init__(self, steps):
        self.left = steps

    def on_train_batch_end(self, batch, logs):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError


def broken_off(trainer, folder, steps, callbacks=(), every_steps=1, **options):
    """Train until some step, with checkpoints."""
    keeper = xpnet.Checkpoint(folder, every_steps=every_steps)
    # Break is called before the keeper; so one step more than is saved.
    with pytest.raises(InterruptedError):
        fit(trainer, [keeper, Break(steps + 1), *callbacks], **options)


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


# ---- networks -----------------------------------------------------------------------------------

MADE = {
    "BatchNorm1d": lambda: xpnet.BatchNorm1d(6, momentum=0.3, eps=1e-3),
    "Dropout": lambda: xpnet.Dropout(0.25),
    "LayerNorm": lambda: xpnet.LayerNorm(6, eps=1e-3),
    "LeakyReLU": lambda: xpnet.LeakyReLU(0.2),
    "Linear": lambda: xpnet.Linear(6, 2, bias=False, init="zeros"),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_layer_comes_back(tmp_path, backend, name, dtype):
    layer = MADE.get(name, LAYERS[name])()
    net = xpnet.Sequential(xpnet.Linear(4, 6), layer, dtype=dtype, seed=3)
    inputs = DRAW.normal(size=(5, 4)).astype(dtype)
    net.forward(backend.asarray(inputs))  # some have means by now
    net.save(tmp_path / "net.npz")
    found = xpnet.load(tmp_path / "net.npz")
    assert repr(found) == repr(net)
    assert found.config() == net.config()
    assert found.xp is backend
    assert found.dtype == net.dtype
    assert np.array_equal(found.predict(inputs), net.predict(inputs))
    assert list(found.state_dict()) == list(net.state_dict())


def test_every_layer_of_the_library_can_be_saved():
    public = {
        name
        for name, value in vars(xpnet).items()
        if isinstance(value, type) and issubclass(value, xpnet.Layer)
    }
    assert public - {"Layer", "Sequential"} == set(LAYERS)


def test_a_network_in_a_network(tmp_path):
    net = make().net
    net.save(tmp_path / "net.npz")
    found = xpnet.load(str(tmp_path / "net.npz"))
    assert repr(found) == repr(net)
    assert np.array_equal(found.predict(X), net.predict(X))


def test_numpy_reads_a_network(tmp_path):
    net = make().net
    net.save(tmp_path / "net.npz")
    with np.load(tmp_path / "net.npz") as file:
        assert np.array_equal(file["0.W"], net[0].W)


def test_a_loaded_network_goes_on_as_the_saved_one(tmp_path):
    """The masks of Dropout go on, too."""
    made = make(lr=0.01)
    fit(made, epochs=1)
    made.net.save(tmp_path / "net.npz")
    net = xpnet.load(tmp_path / "net.npz")
    outputs = [n.forward(X).copy() for n in (made.net, net)]
    assert np.array_equal(*outputs)


class Scale(xpnet.Layer):
    """Y = c X"""

    def __init__(self, c, name="scale"):
        super().__init__()
        self.c = c

    def forward(self, X):
        return self.xp.multiply(X, self.c, out=self.Y[: len(X)])

    def backward(self, dY):
        return self.xp.multiply(dY, self.c, out=self.dX[: len(dY)])


def test_layers_of_users(tmp_path):
    net = make(layers=[Scale(2.5)]).net
    net.save(tmp_path / "net.npz")
    found = xpnet.load(tmp_path / "net.npz", layers=[Scale])
    assert found[5].c == 2.5
    assert np.array_equal(found.predict(X), net.predict(X))
    with pytest.raises(CheckpointError, match=r"unknown layer 'Scale'.*layers=\[...\]"):
        xpnet.load(tmp_path / "net.npz")


class Forgets(Scale):
    def __init__(self, secret):
        super().__init__(1.0)


class Odd(Scale):
    def config(self):
        return {"c": np.float32(1)}


@pytest.mark.parametrize(
    ("layer", "why"),
    [(Forgets(2), "secret is not kept"), (Odd(1), "not JSON"), (Scale(np.nan), "not JSON compl")],
)
def test_layers_that_cannot_be_saved(tmp_path, layer, why):
    with pytest.raises(CheckpointError, match=f"cannot be saved: .*{why}"):
        make(layers=[layer]).net.save(tmp_path / "net.npz")
    assert list(tmp_path.iterdir()) == []


def test_the_file_of_the_first_release():
    """A file of version 0.1.0, format 1, which every later version has to read."""
    net = xpnet.load(SAVED / "network-1.npz", backend="numpy")
    assert repr(net) == repr(make().net)
    inputs = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
    with np.load(SAVED / "outputs-1.npz") as file:
        assert np.allclose(net.predict(inputs), file["outputs"], rtol=1e-6, atol=1e-7)


def test_the_checkpoint_of_the_first_release():
    """It was written in reproducible mode, so every machine ends with the same bits."""
    with xpnet.use_backend("numpy", reproducible=True):
        trainer = make(backend=None, lr=0.01)
    path = SAVED / "checkpoint-1.npz"
    fit(trainer, [xpnet.EarlyStopping()], resume=path)
    with np.load(SAVED / "outputs-1.npz") as file:
        assert np.array_equal(trainer.net.params, file["params"])


def spoilt(config, values=None):
    """Return a function that writes a network whose description is changed."""

    def write(path):
        net = make().net
        about = {"network": net.config()}
        arrays = net.state_dict() | (values or {})
        config(about)
        write_archive(path, {k: v for k, v in arrays.items() if v is not None}, about)

    return write


def layers(value):
    return spoilt(lambda about: about["network"].update(layers=value))


SPOILT = {
    "no network": spoilt(dict.clear),
    "a network that is a list": spoilt(lambda about: about.update(network=[])),
    "dtype": spoilt(lambda about: about["network"].update(dtype="object")),
    "dtype of two words": spoilt(lambda about: about["network"].update(dtype=["float32"])),
    "seed": spoilt(lambda about: about["network"].update(seed=-1)),
    "seed that is true": spoilt(lambda about: about["network"].update(seed=True)),
    "no layers": layers([]),
    "layers of numbers": layers([1, 2]),
    "layers of words": layers(["ab"]),
    "arguments in a list": layers([["Linear", [4, 8]]]),
    "a class of somewhere": layers([["os.system", {"command": "touch run"}]]),
    "a class of Python": layers([["__import__", {"name": "os"}]]),
    "the base class": layers([["Layer", {}]]),
    "unknown argument": layers([["Linear", {"n_in": 4, "n_out": 8, "x": 1}]]),
    "missing argument": layers([["Linear", {"n_in": 4}]]),
    "self": layers([["ReLU", {"self": 1}]]),
    "backend of an inner network": layers([["Sequential", {"layers": [], "backend": "cupy"}]]),
    "a huge layer": layers([["Linear", {"n_in": 10**12, "n_out": 10**12}]]),
    "a negative size": layers([["Linear", {"n_in": -4, "n_out": 8}]]),
    "many layers": layers([["ReLU", {}]] * 9000),
    "deep": layers(json.loads('[["Sequential",{"layers":' * 300 + "[]" + "}]]" * 300)),
    "layers that do not fit": layers(
        [["Linear", {"n_in": 4, "n_out": 8}], ["BatchNorm1d", {"n": 8}], ["LayerNorm", {"n": 5}]]
    ),
    "no weights": spoilt(lambda about: None, {"0.W": None}),
    "weights of another shape": spoilt(lambda about: None, {"0.W": np.zeros((4, 9))}),
    "weights too many": spoilt(lambda about: None, {"9.W": np.zeros((4, 9))}),
    "means of another shape": spoilt(lambda about: None, {"1.mean": np.zeros(8)}),
    "no means": spoilt(lambda about: None, {"1.mean": None}),
    "no array of a network": spoilt(dict.clear, dict.fromkeys(make().net.state_dict())),
}


@pytest.mark.parametrize("what", SPOILT)
def test_networks_that_are_none(tmp_path, what, monkeypatch):
    monkeypatch.chdir(tmp_path)
    SPOILT[what](tmp_path / "net.npz")
    with pytest.raises(CheckpointError, match=r"net\.npz holds no network that can be made") as e:
        xpnet.load("net.npz")
    assert len(str(e.value)) < 900
    assert [p.name for p in tmp_path.iterdir()] == ["net.npz"]


def test_errors_of_the_backend_are_not_of_the_file(tmp_path):
    xpnet.Sequential(xpnet.Linear(2, 1), dtype="float64").save(tmp_path / "net.npz")
    with (
        xpnet.use_backend("numpy", reproducible=True),
        pytest.raises(OptionError, match="reproducible mode takes networks of float32"),
    ):
        xpnet.load(tmp_path / "net.npz")


# ---- trainings: bit by bit ----------------------------------------------------------------------


@pytest.mark.thorough(but=["7", "14", "20"])
@pytest.mark.parametrize("steps", range(1, EPOCHS * BATCHES))
def test_a_training_goes_on_from_every_step(tmp_path, steps):
    whole = make(lr=xpnet.schedules.Cosine(0.01, 20))
    fit(whole, [xpnet.EarlyStopping(patience=9)])
    broken_off(
        *(make(lr=xpnet.schedules.Cosine(0.01, 20)), tmp_path, steps),
        callbacks=[xpnet.EarlyStopping(patience=9)],
    )
    assert find_checkpoints(tmp_path)[-1].name == f"step-{steps:09d}.npz"
    resumed = make(lr=xpnet.schedules.Cosine(0.01, 20))
    fit(resumed, [xpnet.EarlyStopping(patience=9)], resume=tmp_path)
    assert everything(resumed) == everything(whole)
    assert resumed.resumed
    assert resumed.epoch == EPOCHS


OPTIMIZERS = {
    "sgd": (xpnet.SGD, {}),
    "momentum": (xpnet.SGD, {"momentum": 0.9}),
    "nesterov": (xpnet.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "rmsprop": (xpnet.RMSprop, {"clip_norm": 0.1}),
    "adam": (xpnet.Adam, {"lr": xpnet.schedules.OneCycle(0.01, 21)}),
    "adamw": (xpnet.AdamW, {"lr": xpnet.schedules.WarmUp(xpnet.schedules.Constant(0.01), 5)}),
}


@pytest.mark.thorough(but=["numpy-*"])
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_optimizer_goes_on(tmp_path, backend, name, dtype):
    optimizer, options = OPTIMIZERS[name]
    options = {"backend": backend, "optimizer": optimizer, "dtype": dtype, **options}
    whole = make(**options)
    fit(whole)
    broken_off(make(**options), tmp_path, 10)
    resumed = make(**options)
    fit(resumed, resume=tmp_path)
    assert everything(resumed) == everything(whole)


@pytest.mark.parametrize("options", [{"batch_size": None}, {"shuffle": False}, {"batch_size": 6}])
def test_every_kind_of_batch(tmp_path, options):
    whole = make(lr=0.01)
    fit(whole, epochs=9, **options)
    broken_off(make(lr=0.01), tmp_path, 4, epochs=9, **options)
    resumed = make(lr=0.01)
    fit(resumed, epochs=9, resume=tmp_path, **options)
    assert everything(resumed) == everything(whole)


def test_sample_weights(tmp_path):
    weights = DRAW.random(50) * (DRAW.random(50) < 0.8)
    whole, resumed = make(lr=0.01), make(lr=0.01)
    fit(whole, sample_weight=weights)
    broken_off(make(lr=0.01), tmp_path, 9, sample_weight=weights)
    fit(resumed, sample_weight=weights, resume=tmp_path)
    assert everything(resumed) == everything(whole)


def test_from_one_backend_to_the_other_with_the_same_bits(tmp_path, strict, caplog):
    """In reproducible mode, in the middle of an epoch."""
    numpy, other = (xpnet.backend.find_backend(b, reproducible=True) for b in ("numpy", strict))
    whole = make(numpy, lr=0.01)
    fit(whole)
    for k, (before, after) in enumerate([(numpy, other), (other, numpy)]):
        broken_off(make(before, lr=0.01), tmp_path / f"{k}", 9)
        resumed = make(after, lr=0.01)
        fit(resumed, resume=tmp_path / f"{k}")
        assert everything(resumed) == everything(whole)
    assert messages(caplog) == []


def test_other_bits_are_said(tmp_path, strict, caplog):
    broken_off(make("numpy", lr=0.01), tmp_path, 9)
    fit(make(strict, lr=0.01), resume=tmp_path)
    assert [m for m in messages(caplog) if "last bits" in m and "backend was numpy, is" in m]
    caplog.clear()
    fit(make("numpy", lr=0.01), resume=tmp_path)
    assert messages(caplog) == []


def test_the_trainer_that_was_broken_off_may_go_on_itself(tmp_path):
    """What it has done since the checkpoint is forgotten."""
    whole, trainer = make(lr=0.01), make(lr=0.01)
    fit(whole)
    broken_off(trainer, tmp_path, 16, every_steps=5)
    trainer.history["of later"] = [1.0]
    fit(trainer, resume=tmp_path)
    assert everything(trainer) == everything(whole)


def test_a_gpu_may_start_many_steps_at_once(tmp_path):
    trainer = make()
    trainer.callbacks = [xpnet.Checkpoint(tmp_path)]
    assert not trainer._between_steps


def test_a_second_fit_goes_on_from_a_first(tmp_path):
    """The checkpoint knows where its fit began."""
    whole, first, resumed = make(lr=0.01), make(lr=0.01), make(lr=0.01)
    fit(whole, epochs=2)
    fit(whole, epochs=3)
    fit(first, epochs=2)
    broken_off(first, tmp_path, 9)
    fit(resumed, epochs=3, resume=tmp_path)
    assert everything(resumed) == everything(whole)
    assert resumed.epoch == 5


def test_a_training_may_be_made_longer(tmp_path):
    whole, resumed = make(lr=0.01), make(lr=0.01)
    fit(whole, epochs=5)
    fit(make(lr=0.01), [xpnet.Checkpoint(tmp_path)], epochs=2)
    fit(resumed, epochs=5, resume=tmp_path)
    assert everything(resumed) == everything(whole)


def test_a_finished_training_stays_as_it_is(tmp_path):
    whole, resumed = make(lr=0.01), make(lr=0.01)
    fit(whole, [xpnet.Checkpoint(tmp_path)])
    history = fit(resumed, resume=tmp_path)
    assert everything(resumed) == everything(whole)
    assert history == whole.history


def test_early_stopping_stops_at_the_same_epoch_with_the_same_weights(tmp_path):
    def patient():
        return xpnet.EarlyStopping("val_accuracy", patience=2)

    whole = make(lr=0.3)
    fit(whole, [patient()], epochs=40)
    assert 4 < whole.epoch < 40
    folders = [tmp_path / f"{k}" for k in range(whole.epoch)]
    for k, folder in enumerate(folders):
        broken_off(make(lr=0.3), folder, 1 + BATCHES * k, [patient()], epochs=40)
        resumed = make(lr=0.3)
        fit(resumed, [patient()], epochs=40, resume=folder)
        assert everything(resumed) == everything(whole)
    keeper = xpnet.Checkpoint(tmp_path / "stopped")
    fit(make(lr=0.3), [keeper, patient()], epochs=40)
    resumed = make(lr=0.3)
    fit(resumed, [patient()], epochs=40, resume=tmp_path / "stopped")
    assert everything(resumed) == everything(whole)  # it does not begin again
    fit(resumed, epochs=whole.epoch + 3, resume=tmp_path / "stopped", override="callbacks")
    assert resumed.epoch == whole.epoch + 3  # unless more has been asked for


def test_a_learning_rate_that_was_set_comes_back(tmp_path):
    """By a callback: the script gives the learning rate with which the training began."""
    trainer = make(lr=0.01)
    slower = Then(lambda: setattr(trainer.optimizer, "lr", 0.005))
    fit(trainer, [xpnet.Checkpoint(tmp_path), slower], epochs=1)
    resumed = make(lr=0.01)
    fit(resumed, epochs=1, resume=tmp_path)
    assert resumed.optimizer.lr == 0.005


def test_what_callbacks_remember_is_theirs(tmp_path, caplog):
    class Counts(Callback):
        n = 0

        def on_train_batch_end(self, batch, logs):
            self.n += 1

        def state_dict(self):
            return {"n": self.n, "squares": np.arange(self.n) ** 2}

        def load_state_dict(self, state):
            self.n, self.squares = state["n"], state["squares"]

    first, second = Counts(), Counts()
    second.n = 100
    fit(make(), [xpnet.Checkpoint(tmp_path), first, second], epochs=1)
    again = [Counts(), Counts()]
    fit(make(), again, epochs=1, resume=tmp_path)
    assert [c.n for c in again] == [first.n, second.n] == [BATCHES, 100 + BATCHES]
    assert again[0].squares.tolist() == (np.arange(BATCHES) ** 2).tolist()
    with pytest.raises(CheckpointError, match=r"callbacks: was .*Counts1.*, is"):
        fit(make(), [Counts()], epochs=1, resume=tmp_path)
    fit(make(), [Counts()], epochs=1, resume=tmp_path, override="callbacks")
    assert messages(caplog) == [
        f"{tmp_path / 'step-000000007.npz'}: what Counts1 remembered has no use now"
    ]


# ---- when it is saved ---------------------------------------------------------------------------


def steps_of(folder):
    return [int(path.stem.removeprefix("step-")) for path in find_checkpoints(folder)]


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({}, [7, 14, 21]),
        ({"every_steps": 4}, [16, 20, 21]),
        ({"every_steps": 4, "keep": 99}, [4, 8, 12, 16, 20, 21]),
        ({"keep": 1}, [21]),
        ({"every_minutes": 1e-9}, [19, 20, 21]),
        ({"every_minutes": 1e9}, [21]),
    ],
)
def test_when_it_is_saved_and_what_is_kept(tmp_path, options, steps):
    keeper = xpnet.Checkpoint(tmp_path / "a" / "b", **options)
    fit(make(), [keeper])
    assert steps_of(tmp_path / "a" / "b") == steps
    assert [path.stem for path in keeper.paths] == [f"step-{t:09d}" for t in steps]


@pytest.mark.parametrize(
    "options",
    [{"every_steps": 0}, {"every_steps": 1.5}, {"every_minutes": 0.0}, {"keep": 0}, {"keep": "3"}],
)
def test_wrong_numbers(tmp_path, options):
    with pytest.raises(OptionError, match=f"Checkpoint: {next(iter(options))} must be"):
        xpnet.Checkpoint(tmp_path, **options)


def test_a_folder_with_checkpoints_of_another_training_is_not_touched(tmp_path):
    fit(make(), [xpnet.Checkpoint(tmp_path)])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OptionError, match=r"has checkpoints of a training; .* resume=.*another"):
        fit(make(), [xpnet.Checkpoint(tmp_path)])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_trainer_may_go_on_in_its_folder(tmp_path):
    trainer, keeper = make(), xpnet.Checkpoint(tmp_path)
    fit(trainer, [keeper])
    fit(trainer, [keeper])
    assert steps_of(tmp_path) == [28, 35, 42]


def test_what_comes_later_is_set_aside(tmp_path):
    """Who goes back to an earlier checkpoint leaves the way of the later ones."""
    fit(make(), [xpnet.Checkpoint(tmp_path)])
    resumed = make()
    fit(resumed, [xpnet.Checkpoint(tmp_path)], resume=tmp_path / "step-000000014.npz", epochs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000007.npz",
        "step-000000014.npz",
        "step-000000021.npz.aside",
    ]


def test_leftovers_of_a_kill_are_swept_and_nothing_else(tmp_path):
    names = [".step-000000007.npz.0123456789abcdef.tmp", ".hidden", "a.tmp", ".b.tmp"]
    for name in names:
        (tmp_path / name).touch()
    fit(make(), [xpnet.Checkpoint(tmp_path)])
    left = {path.name for path in tmp_path.iterdir()}
    assert left & set(names) == set(names[1:])


def test_a_damaged_checkpoint_is_passed_over(tmp_path, caplog):
    whole, resumed = make(lr=0.01), make(lr=0.01)
    fit(whole)
    broken_off(make(lr=0.01), tmp_path, 9)
    newest, before = reversed(find_checkpoints(tmp_path)[1:])
    newest.write_bytes(newest.read_bytes()[:-1])
    fit(resumed, [xpnet.Checkpoint(tmp_path, every_steps=1)], resume=tmp_path)
    assert everything(resumed) == everything(whole)
    (message,) = messages(caplog)
    assert f"{newest} is damaged" in message
    assert message.endswith(f"going on from the one before, {before}")
    assert newest.with_name("step-000000009.npz.aside").exists()


def test_only_damaged_checkpoints(tmp_path):
    fit(make(), [xpnet.Checkpoint(tmp_path)])
    for path in find_checkpoints(tmp_path):
        path.write_bytes(b"")
    trainer = make()
    with pytest.raises(CheckpointError, match=r"step-000000021.*step-000000007"):
        fit(trainer, resume=tmp_path)
    assert len(steps_of(tmp_path)) == 3
    with pytest.raises(CheckpointError, match="step-000000014"):  # one that was asked for
        fit(trainer, resume=tmp_path / "step-000000014.npz")


@pytest.mark.parametrize("there", [True, False])
def test_nothing_to_go_on_from(tmp_path, there):
    whole, resumed = make(lr=0.01), make(lr=0.01)
    fit(whole)
    fit(resumed, resume=tmp_path if there else tmp_path / "none")
    assert everything(resumed) == everything(whole)
    assert not resumed.resumed
    with pytest.raises(CheckpointError, match=r"a\.npz cannot be read"):
        fit(make(), resume=tmp_path / "a.npz")


# ---- what does not fit --------------------------------------------------------------------------


def other_layers():
    return make(layers=[xpnet.Identity()])


@pytest.mark.parametrize(
    ("trainer", "options", "what"),
    [
        (other_layers, {}, "network"),
        (lambda: make(dtype="float64"), {}, "network"),
        (lambda: make(optimizer=xpnet.AdamW), {}, "optimizer: was 'Adam', is 'AdamW'"),
        (
            lambda: make(lr=xpnet.schedules.Cosine(1, 9)),
            {},
            "lr: was 0.001, is Cosine(lr=1.0, steps=9, final=0.0)",
        ),
        (lambda: make(seed=1), {}, "seed: was 0, is 1"),
        (make, {"batch_size": 9}, "batch_size: was 8, is 9"),
        (make, {"shuffle": False}, "shuffle"),
        (make, {"sample_weight": [0.0] * 2 + [1.0] * 48}, "data: was 50 samples, X "),
    ],
)
def test_the_checkpoint_of_another_training(tmp_path, trainer, options, what):
    broken_off(make(), tmp_path, 9)
    trainer = trainer()
    before = trainer.net.sha256()
    with pytest.raises(CheckpointError, match="is of another training:\n") as caught:
        fit(trainer, resume=tmp_path, **options)
    assert what in str(caught.value)
    assert trainer.net.sha256() == before
    assert (trainer.epoch, trainer.optimizer.t, trainer.history) == (0, 0, {})


def test_a_loss_of_another_kind(tmp_path):
    def trainer(loss):
        net = xpnet.Sequential(xpnet.Linear(4, 1))
        return xpnet.Trainer(net, loss)

    trainer("mse").fit(X, T, epochs=1, callbacks=[xpnet.Checkpoint(tmp_path)])
    with pytest.raises(CheckpointError, match="loss: was 'MeanSquaredError"):
        trainer("huber").fit(X, T, epochs=1, resume=tmp_path)


def test_a_network_is_no_training(tmp_path):
    trainer = make()
    trainer.net.save(tmp_path / "net.npz")
    with pytest.raises(CheckpointError, match=r"net\.npz is no checkpoint of a training"):
        fit(trainer, resume=tmp_path / "net.npz")


def change(part, **changes):
    def spoil(arrays, about):
        target = about if part is None else about[part]
        target.update(changes)

    return spoil


def array(name, a):
    def spoil(arrays, about):
        arrays.pop(name)
        if a is not None:
            arrays[name] = a

    return spoil


@pytest.mark.parametrize(
    "spoil",
    [
        change("progress", epoch=-1),
        change("progress", batch=1.5),
        change("progress", batch=100),
        change("progress", batch=8),
        change("progress", stop="no"),
        change("progress", first_epoch=9),
        change("progress", epochs=None),
        change(None, t=True),
        change(None, t=2**60),
        change(None, lr="fast"),
        change(None, lr=-1.0),
        change(None, lr=1),
        change(None, history=["loss", 5]),
        change(None, history=["loss", "a", "b", "c", "d"]),
        change(None, callbacks={"EarlyStopping0": 3}),
        change(None, callbacks={"EarlyStopping0": {}}),
        change(None, callbacks={"EarlyStopping0": {"best": "x", "best_epoch": 1}}),
        change(None, callbacks={"EarlyStopping0": {"best": 1.0, "best_epoch": "x"}}),
        change(None, callbacks=[]),
        change(None, settings=[]),
        change(None, progress=[]),
        change(None, machine=None),
        array("losses", None),
        array("losses", np.zeros((2, 1))),
        array("optimizer.m", None),
        array("optimizer.m", np.zeros(3)),
        array("history.0", None),
        array("history.0", np.zeros((1, 1))),
        array("0.W", None),
        array("0.W", np.zeros(3)),
        array("1.mean", None),
    ],
)
def test_checkpoints_that_hold_something_wrong(tmp_path, spoil):
    broken_off(make(), tmp_path, 9, [xpnet.EarlyStopping()])
    path = find_checkpoints(tmp_path)[-1]
    arrays, about = read_archive(path)
    spoil(arrays, about)
    write_archive(path, arrays, about)
    trainer = make()
    before = trainer.net.sha256()
    with pytest.raises(CheckpointError, match=r"step-000000009\.npz.*(damaged|does not take it)"):
        fit(trainer, [xpnet.EarlyStopping()], resume=path)
    if "callbacks" not in about or isinstance(about["callbacks"], dict):
        return
    assert trainer.net.sha256() == before


# ---- full disks, signals, numbers that are none -------------------------------------------------


def full_disk(monkeypatch, after):
    """Let the disk be full after so many calls of fsync."""
    left, fsync = [after], os.fsync

    def failing(descriptor):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)


def test_a_full_disk(tmp_path, monkeypatch):
    whole, trainer = make(lr=0.01), make(lr=0.01)
    fit(whole)
    with monkeypatch.context() as patch:
        full_disk(patch, 2)  # the first checkpoint and its folder
        with pytest.raises(XpnetError, match=r"cannot write to the folder .*No space left.*room"):
            fit(trainer, [xpnet.Checkpoint(tmp_path, every_steps=4)])
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000004.npz"]
    trainer.save(tmp_path / "elsewhere.npz")  # the training has lost nothing
    for start in ("elsewhere.npz", "step-000000004.npz"):
        resumed = make(lr=0.01)
        fit(resumed, resume=tmp_path / start)
        assert everything(resumed) == everything(whole)


def in_a_process_of_its_own(*arguments):
    """Run a script of this folder, with the same xpnet; return what it prints."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def beyond_the_limit(folder):
    """Save what is larger than the system allows; then elsewhere, where it is allowed."""
    import resource

    folder = Path(folder)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    trainer, (_, hard) = make(lr=0.01), resource.getrlimit(resource.RLIMIT_FSIZE)
    fit(trainer, [xpnet.Checkpoint(folder / "a")], epochs=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    with pytest.raises(XpnetError, match=r"cannot write to the folder .*File too large"):
        fit(trainer, [xpnet.Checkpoint(folder / "b")], epochs=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    trainer.save(folder / "c.npz")
    fit(trainer, epochs=1)
    print(trainer.epoch, trainer.optimizer.t)


@pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")
def test_a_file_that_is_larger_than_the_system_allows(tmp_path):
    program = f"import test_checkpoint; test_checkpoint.beyond_the_limit({str(tmp_path)!r})"
    assert in_a_process_of_its_own("-c", program) == "3 21\n"
    assert steps_of(tmp_path / "a") == [7]
    assert list((tmp_path / "b").iterdir()) == []
    resumed = make(lr=0.01)
    fit(resumed, epochs=2, resume=tmp_path / "c.npz")
    assert resumed.optimizer.t == 21


def test_a_full_disk_under_an_old_file(tmp_path, monkeypatch):
    net = make().net
    net.save(tmp_path / "net.npz")
    before = (tmp_path / "net.npz").read_bytes()
    net.params[:] = 0
    full_disk(monkeypatch, 0)
    with pytest.raises(OSError, match="No space left"):
        net.save(tmp_path / "net.npz")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"net.npz": before}


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    trainer = make()
    with pytest.raises(XpnetError, match=r"cannot write to the folder .*file/a .*another folder"):
        fit(trainer, [xpnet.Checkpoint(tmp_path / "file" / "a")])
    assert trainer.optimizer.t == 0


def test_saving_needs_a_whole_step(tmp_path):
    trainer = make()
    with pytest.raises(XpnetError, match="before the first fit"):
        trainer.save(tmp_path / "a.npz")
    backward = trainer.net.backward

    def broken(dY):
        backward(dY)
        raise InterruptedError

    trainer.net.backward = broken
    with pytest.raises(InterruptedError):
        fit(trainer)
    with pytest.raises(XpnetError, match="where a step was broken off"):
        trainer.save(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


class At(Callback):
    """Does something after a certain step."""

    def __init__(self, step, what):
        self.step, self.what = step, what

    def on_train_batch_end(self, batch, logs):
        self.step -= 1
        if self.step == 0:
            self.what()


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, BATCHES - 1, BATCHES, BATCHES + 1])
def test_signals(tmp_path, number, step):
    whole, trainer, resumed = make(lr=0.01), make(lr=0.01), make(lr=0.01)
    fit(whole)
    keeper, signals = xpnet.Checkpoint(tmp_path), At(step, lambda: signal.raise_signal(number))
    with pytest.raises((KeyboardInterrupt, SystemExit)) as caught:
        fit(trainer, [keeper, signals])
    if number == signal.SIGTERM:
        assert caught.value.code == 143
    else:
        assert caught.type is KeyboardInterrupt
    assert steps_of(tmp_path)[-1] == trainer.optimizer.t == step
    fit(resumed, resume=tmp_path)
    assert everything(resumed) == everything(whole)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.usefixtures("_ctrl_c")
def test_a_second_signal_acts_at_once(tmp_path):
    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    trainer = make()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, [xpnet.Checkpoint(tmp_path), At(3, twice)])
    assert steps_of(tmp_path) == []


def test_the_handler_of_somebody_else_stays_in_charge():
    came = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        fit(make(), [At(3, lambda: signal.raise_signal(signal.SIGTERM))])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert came == [signal.SIGTERM]


def test_other_threads_have_no_signals():
    done = []
    thread = threading.Thread(target=lambda: done.append(fit(make())))
    thread.start()
    thread.join()
    assert len(done[0]["loss"]) == EPOCHS


def hidden_nan(trainer):
    """Put a number that is none where no loss shows it: ReLU makes 0 of -∞."""
    trainer.net[1].beta[2] = -np.inf
    assert np.isfinite(trainer.net.predict(X)).all()


def test_a_number_that_is_none_is_found_in_the_same_epoch(tmp_path, backend):
    trainer = make(backend)
    spoil = At(2 * BATCHES, lambda: hidden_nan(trainer))
    with pytest.raises(DivergenceError) as caught:
        fit(trainer, [xpnet.Checkpoint(tmp_path), spoil])
    message = str(caught.value)
    assert message.startswith("1.beta[2] of layer BatchNorm1d(8) is ")
    assert "after step 7 of epoch 2; lower the learning rate" in message
    assert steps_of(tmp_path) == [7]  # the last good one
    trainer = make(backend)  # also where nothing is saved
    with pytest.raises(DivergenceError, match="after step 7 of epoch 2"):
        fit(trainer, [At(2 * BATCHES, lambda: hidden_nan(trainer))], validation_data=None)


def test_a_number_that_is_none_is_not_saved(tmp_path):
    trainer = make()
    spoil = At(3, lambda: hidden_nan(trainer))
    with pytest.raises(DivergenceError, match=r"1\.beta\[2\] .* after step 3 of epoch 1"):
        fit(trainer, [spoil, xpnet.Checkpoint(tmp_path, every_steps=1)])
    assert steps_of(tmp_path) == [1, 2]


def test_large_numbers_are_finite():
    """The sum of their squares is not."""
    trainer = make(lr=1e-30)
    trainer.net[1].beta[:] = -1e25
    fit(trainer, epochs=1)
    assert np.isfinite(trainer.history["loss"]).all()


def test_a_divergence_keeps_the_last_good_checkpoint(tmp_path):
    trainer = make(optimizer=xpnet.SGD, lr=lambda step: 1e30 if step > 9 else 0.01)
    with pytest.raises(DivergenceError, match=r"layer .* of epoch 2|of epoch 2: .*layer"):
        fit(trainer, [xpnet.Checkpoint(tmp_path, every_steps=1)])
    *_, last = find_checkpoints(tmp_path)
    assert int(last.stem.removeprefix("step-")) <= 11
    for name, a in xpnet.load(last).state_dict().items():
        assert np.isfinite(a).all(), name


# ---- killed -------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked, as on POSIX")
@pytest.mark.parametrize(("case", "n"), [("kills", 20), ("signals", 10)])
def test_who_is_killed_at_random_ends_as_who_is_not(case, n):
    """In the middle of a step, and of a file; bench/reliability.py does it 200 times."""
    result = json.loads(in_a_process_of_its_own(TESTS / "helpers/survive.py", case, n))
    assert result["identical"] == n
    if case == "signals":
        assert result["broken off"] == n
    else:
        assert result["broken off"] > n / 2


@pytest.fixture(autouse=True)
def _no_warning_unless_asked_for(caplog):
    caplog.set_level(logging.WARNING, "xpnet")


def test_the_reader_has_one_way_in():
    """Nothing else in the library reads an archive."""
    assert archive.read_archive is read_archive


# ---- two trainings and one folder ----------------------------------------------------------------


class Then(Callback):
    """Does something once, in the first step, and keeps the error that it raises."""

    def __init__(self, do):
        self.do, self.error = do, None

    def on_train_batch_end(self, batch, logs):
        do, self.do = self.do, None
        if do:
            try:
                do()
            except XpnetError as error:
                self.error = error


def test_a_second_training_does_not_write_into_the_folder_of_the_first(tmp_path):
    then = Then(lambda: fit(make(), [xpnet.Checkpoint(tmp_path)], resume=tmp_path))
    fit(make(), [xpnet.Checkpoint(tmp_path, every_steps=1), then])
    assert isinstance(then.error, OptionError)
    assert f"is writing into the folder {tmp_path}; let it end" in str(then.error)
    fit(make(), [xpnet.Checkpoint(tmp_path)], resume=tmp_path)  # after the first there is no lock


def test_two_folders_are_two_locks_and_a_keeper_may_save_at_any_time(tmp_path):
    made, keeper = make(), xpnet.Checkpoint(tmp_path / "a")
    then = Then(lambda: fit(make(), [xpnet.Checkpoint(tmp_path / "b")]))
    fit(made, [keeper, then])
    assert then.error is None
    keeper.save()  # after the training it has no lock, and takes one as long as it writes
    assert steps_of(tmp_path / "a") == [7, 14, 21]
    with FolderLock(keeper.folder), pytest.raises(OptionError, match="is writing"):
        keeper.save()


@pytest.mark.parametrize("place", ["begin", "end"])
def test_a_training_that_fails_leaves_no_lock(tmp_path, place):
    keeper = xpnet.Checkpoint(tmp_path)
    fit(make(), [keeper], epochs=1)
    if place == "begin":
        with pytest.raises(OptionError, match="has checkpoints of a training") as kept:
            fit(make(), [xpnet.Checkpoint(tmp_path)])
    else:
        with pytest.raises(InterruptedError) as kept:
            fit(make(), [keeper, Break(1)], resume=tmp_path)
    assert kept.tb  # as a notebook keeps the frames of the last error
    with FolderLock(tmp_path):
        pass
