"""Copies of trainers, optimizers, losses and callbacks: each works by itself, or is refused."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import xpnet
from xpnet import Linear, OptionError, Sequential, Tanh

X = np.sin(np.arange(1.0, 265.0) ** 2).reshape(66, 4)
T = (X[:, 0] > 0).astype(int)
DUPLICATES = {"deepcopy": copy.deepcopy, "pickle": lambda a: pickle.loads(pickle.dumps(a))}


def new(optimizer=xpnet.Adam):
    net = Sequential(Linear(4, 5), Tanh(), Linear(5, 2))
    return xpnet.Trainer(
        net, "softmax_cross_entropy", optimizer(net, lr=0.05), metrics=["accuracy"]
    )


def moments(optimizer):
    return [np.asarray(a).copy() for a in optimizer.state_vectors().values()]


@pytest.mark.parametrize("way", DUPLICATES)
@pytest.mark.parametrize("optimizer", [xpnet.SGD, xpnet.Adam, xpnet.AdamW, xpnet.RMSprop])
def test_a_copied_trainer_goes_on_as_the_original_does(way, optimizer):
    one = new(optimizer)
    one.fit(X, T, epochs=2)
    two = DUPLICATES[way](one)
    assert two.optimizer.net is two.net is not one.net
    one.fit(X, T, epochs=2)
    assert not np.array_equal(one.net.params, two.net.params)  # it stays where it was
    assert len(two.history["loss"]) == 2
    two.fit(X, T, epochs=2)
    assert np.array_equal(one.net.params, two.net.params)
    assert one.history == two.history


@pytest.mark.parametrize("way", DUPLICATES)
def test_a_copied_optimizer_moves_along_with_its_network(way):
    one = new()
    one.fit(X, T, epochs=1)
    two = DUPLICATES[way](one)
    before = moments(two.optimizer)
    for trainer in (one, two):
        trainer.net.to(dtype="float64")
        assert trainer.optimizer.m.dtype == np.float64
        assert trainer.optimizer.work.dtype == np.float64
    for a, b in zip(before, moments(two.optimizer), strict=True):
        assert np.array_equal(a, b)
    for trainer in (one, two):
        trainer.fit(X, T, epochs=1)
    assert np.array_equal(one.net.params, two.net.params)


@pytest.mark.parametrize("way", DUPLICATES)
def test_network_and_optimizer_are_copied_together(way):
    one = new()
    one.fit(X, T, epochs=1)
    for net, optimizer in (
        DUPLICATES[way]((one.net, one.optimizer)),
        DUPLICATES[way]((one.optimizer, one.net))[::-1],
    ):
        assert optimizer.net is net
        assert [*net.optimizers] == [optimizer]
        net.to(dtype="float64")
        assert optimizer.m.dtype == np.float64
        xpnet.Trainer(net, "softmax_cross_entropy", optimizer).fit(X, T, epochs=1)
    assert one.net.dtype == np.float32


@pytest.mark.parametrize("way", DUPLICATES)
def test_an_optimizer_alone_brings_a_network_along(way):
    one = new()
    one.fit(X, T, epochs=1)
    optimizer = DUPLICATES[way](one.optimizer)
    assert optimizer.net is not one.net
    assert np.array_equal(optimizer.net.params, one.net.params)
    optimizer.net.grads[...] = 1
    optimizer.step()
    assert not np.array_equal(optimizer.net.params, one.net.params)
    with pytest.raises(OptionError, match="was made for another network"):
        xpnet.Trainer(one.net, "mse", optimizer)


def test_the_copy_of_a_network_has_no_optimizer():
    one = new()
    assert len(one.net.optimizers) == 1
    assert len(one.net.copy().optimizers) == 0


@pytest.mark.parametrize("way", [*DUPLICATES.values(), copy.copy])
def test_a_copied_loss_has_arrays_of_its_own(way):
    loss, Y = xpnet.SoftmaxCrossEntropy(), np.ones((66, 2))
    loss.forward(Y, T)
    dY = loss.backward().copy()
    other = way(loss)
    other.forward(Y * [1, -1], T)
    other.backward()
    assert np.array_equal(loss.backward(), dY)
    assert float(loss) == pytest.approx(np.log(2))


def test_callbacks_are_copied_with_their_trainer():
    one = new()
    stopping = xpnet.EarlyStopping("loss", patience=50)
    one.fit(X, T, epochs=2, callbacks=[stopping])
    two = copy.deepcopy(one)
    assert two.callbacks[0] is not stopping
    assert two.callbacks[0].trainer is two
    assert two.callbacks[0].best == stopping.best


class Copies(xpnet.Callback):
    """Copies its trainer in the middle of an epoch, at the end of the first one, or elsewhere."""

    def __init__(self, event, way):
        self.event, self.way, self.found = event, way, None

    def _look(self, event):
        late = event == "on_train_begin" or self.trainer.optimizer.t > 2
        if event == self.event and self.found is None and late:
            self.found = DUPLICATES[self.way](self.trainer)

    def on_train_begin(self, logs):
        self._look("on_train_begin")

    def on_train_batch_end(self, batch, logs):
        self._look("on_train_batch_end")

    def on_epoch_end(self, epoch, logs):
        self._look("on_epoch_end")

    def on_train_end(self, logs):
        self._look("on_train_end")


@pytest.mark.parametrize("way", DUPLICATES)
@pytest.mark.parametrize("event", [name for name in vars(Copies) if name.startswith("on_")])
def test_a_copy_out_of_a_callback_is_saved_and_trained_by_itself(tmp_path, way, event):
    whole, made = new(), new()
    whole.fit(X, T, epochs=3, batch_size=16)
    keeper, copies = xpnet.Checkpoint(tmp_path / "folder"), Copies(event, way)
    made.fit(X, T, epochs=3, batch_size=16, callbacks=[keeper, copies])
    found, t = copies.found, copies.found.optimizer.t
    assert made.net.sha256() == whole.net.sha256()
    assert t == {"on_train_begin": 0, "on_train_batch_end": 3, "on_epoch_end": 5}.get(event, 15)
    found.save(tmp_path / "copy.npz")
    resumed = new()
    resumed.fit(X, T, epochs=3, batch_size=16, resume=tmp_path / "copy.npz")
    assert resumed.net.sha256() == whole.net.sha256()
    assert resumed.history == whole.history
    found.fit(X, T, epochs=1, batch_size=16)
    assert found.optimizer.t == t + 5
    assert made.net.sha256() == whole.net.sha256()


@pytest.mark.parametrize(("dtype", "takes_effect"), [(np.float32, True), (np.float64, False)])
def test_data_that_a_callback_changes_in_place(tmp_path, dtype, takes_effect):
    """The page about data says which are read where they are; a checkpoint knows the first."""
    mine, whole, made = X.astype(dtype), new(), new()

    class Changes(xpnet.Callback):
        def on_epoch_end(self, epoch, logs):
            mine[0] = 3

    whole.fit(X, T, epochs=2, batch_size=16)
    keeper = xpnet.Checkpoint(tmp_path)
    made.fit(mine, T, epochs=2, batch_size=16, callbacks=[Changes(), keeper])
    assert (made.net.sha256() != whole.net.sha256()) == takes_effect
    with pytest.raises(xpnet.CheckpointError, match="data: was 66 samples"):
        new().fit(mine, T, epochs=3, batch_size=16, resume=tmp_path)
    new().fit(X.astype(dtype), T, epochs=3, batch_size=16, resume=tmp_path)


def test_shallow_copies_that_would_share_a_training_are_refused():
    one = new()
    with pytest.raises(OptionError, match=r"Adam\(lr=0.05\) would share its moments; copy both"):
        copy.copy(one.optimizer)
    with pytest.raises(OptionError, match=r"would share .* copy.deepcopy\(trainer\)"):
        copy.copy(one)
    two = copy.deepcopy(one)  # the advice
    two.fit(X, T, epochs=1)
    assert np.array_equal(one.net.params, new().net.params)
