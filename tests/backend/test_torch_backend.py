"""A backend of another array library: one file and one line in the registry, nothing in xpnet."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import primitive_cases
import pytest
from primitive_cases import check, check_array_methods, public

import xpnet
from xpnet import data
from xpnet.backend import backend_of, find_backend, register_backend, registry

pytest.importorskip("torch", reason="PyTorch is not installed: no backend is made of its tensors")

import torch
from torch_backend import TORCH_KIND, Tensor, TorchBackend

NO_UINT64 = ("dropout_mask", "add-Q-wraps")  # PyTorch does not calculate with uint64


def cases():
    for case in primitive_cases.cases():
        if not str(case).startswith(NO_UINT64):  # and PyTorch's root may be off in its last bit
            yield replace(case, ulps=1) if case.primitive == "sqrt" else case


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """The one line, undone after each test; one thread, since threads are slow on small arrays."""
    monkeypatch.setattr(registry, "KINDS", dict(registry.KINDS))
    register_backend(TORCH_KIND)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("case", list(cases()), ids=str)
def test_it_does_what_base_says(case):
    check(TorchBackend(), case, same_order=False)


def test_no_primitive_is_written_anew():
    assert public(TorchBackend) == {"asnumpy"}


def test_arrays_are_made_and_recognised():
    check_array_methods(find_backend("torch"))
    a = find_backend("torch").zeros(3, np.float32)
    assert backend_of(a) is find_backend("torch")
    with pytest.raises(xpnet.MixedArraysError, match=r"'torch', but X is a numpy.ndarray"):
        find_backend("torch").require(np.zeros(2), "the network", "X")


def test_it_is_asked_for_by_name():
    assert "torch" in xpnet.available_backends()
    with xpnet.use_backend("torch") as xp:
        net = xpnet.Sequential(xpnet.Linear(2, 1))
    assert net.xp is xp is find_backend("torch")
    assert pickle.loads(pickle.dumps(net)).xp is xp
    with pytest.raises(xpnet.BackendError, match="'torch' has no reproducible mode; leave it out"):
        find_backend("torch", reproducible=True)
    with pytest.raises(xpnet.BackendError, match="did you mean 'torch'"):
        find_backend("torhc")


def test_it_learns_xor():
    X, t = data.xor_gate()
    layers = xpnet.Linear(2, 8), xpnet.Tanh(), xpnet.Linear(8, 1), xpnet.Sigmoid()
    net = xpnet.Sequential(*layers, backend="torch", seed=1)
    xpnet.Trainer(net, "mse", xpnet.Adam(net, 0.05)).fit(X, t, epochs=400, batch_size=4)
    assert isinstance(net.params, Tensor)
    for twin in (net.copy(), pickle.loads(pickle.dumps(net))):
        assert twin.sha256() == net.sha256()
        assert twin[0].W.data_ptr() == twin.params.data_ptr() != net.params.data_ptr()
        np.testing.assert_array_equal(twin.predict(X), net.predict(X))
        given = twin.predict(twin.xp.asarray(X, np.float32))
        assert isinstance(given, Tensor)
        np.testing.assert_array_equal(twin.xp.asnumpy(given), net.predict(X))
    np.testing.assert_allclose(net.predict(X).reshape(-1), t.reshape(-1), atol=0.1)


def test_it_learns_the_digits_as_numpy_does():
    X, t, X_test, t_test = data.digits()
    losses = []
    for backend in ("numpy", "torch"):
        layers = xpnet.Linear(64, 32), xpnet.ReLU(), xpnet.Linear(32, 10)
        net = xpnet.Sequential(*layers, backend=backend, dtype="float64", seed=1)
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam", metrics=["accuracy"])
        losses.append(trainer.fit(X, t, epochs=10, batch_size=32)["loss"])
    assert trainer.evaluate(X_test, t_test)["accuracy"] > 0.9
    np.testing.assert_allclose(*losses, rtol=1e-9)
