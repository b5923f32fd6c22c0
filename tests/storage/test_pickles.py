"""Pickles of release 1: its networks, losses, optimizers and callbacks go on from them."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import xpnet

OLD = Path(__file__).parents[1] / "saved" / "objects-1.pickle"
X, LABELS = np.arange(8.0).reshape(2, 4) / 8, np.array([0, 1])


@pytest.fixture
def old():
    return pickle.loads(OLD.read_bytes())


def test_a_network_of_release_1_predicts_is_copied_saved_and_changed(old, tmp_path):
    net = old["net"]
    np.testing.assert_allclose(net.predict(X), old["outputs"], rtol=1e-12)
    net.save(tmp_path / "net.npz")
    for other in (net.copy(), xpnet.load(tmp_path / "net.npz"), pickle.loads(pickle.dumps(net))):
        np.testing.assert_allclose(other.predict(X), old["outputs"], rtol=1e-12)
    assert net.seed == 7
    net[1].momentum = 0.5
    net.layers.append(xpnet.Softmax())
    np.testing.assert_allclose(net.predict(X).sum(axis=1), 1)


def test_what_belongs_to_a_network_of_release_1_trains_it_on(old):
    net, optimizer, stop = old["net"], old["optimizer"], old["stop"]
    assert net is optimizer.net
    trainer = xpnet.Trainer(net, old["loss"], optimizer)
    trainer.fit(X, LABELS, epochs=2, validation_data=(X, LABELS), callbacks=[stop])
    assert optimizer.t == 5
    assert (stop.patience, stop.mode) == (3, "auto")


def test_options_newer_than_the_pickle_have_their_defaults(old):
    assert repr(old["loss"]) == "SoftmaxCrossEntropy()"
    scores = np.array([[0.0, 0.0], [1.0, 1.0]])
    assert float(old["loss"].forward(scores, LABELS)) == pytest.approx(np.log(2))
    assert (old["net"][1].affine, old["net"][2].approximate) == (True, "tanh")
