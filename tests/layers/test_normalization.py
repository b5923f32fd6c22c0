"""The options of BatchNorm1d and LayerNorm, and batches of a single sample."""

from __future__ import annotations

import json
from itertools import product

import numpy as np
import pytest

import xpnet
from xpnet.parallel.base import Communicator, Share
from xpnet.parallel.shared_backend import SharedBackend

N = 4
BATCH_NORMS = [
    {"momentum": momentum, "affine": affine, "track_running_stats": tracked}
    for momentum, affine, tracked in product((0.3, 1.0, None), (True, False), (True, False))
]
LAYER_NORMS = [
    {"elementwise_affine": affine, "bias": bias}
    for affine, bias in product((True, False), repeat=2)
]
KINDS = [("BatchNorm1d", options) for options in BATCH_NORMS]
KINDS += [("LayerNorm", options) for options in LAYER_NORMS]
every_kind = pytest.mark.parametrize(("kind", "options"), KINDS, ids=str)


def made(kind, options, **more):
    net = xpnet.Sequential(getattr(xpnet, kind)(N, eps=1e-3, **options), **more)
    net.input_gradient = True
    return net


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(1, 2, shape)


# ---- PyTorch ------------------------------------------------------------------------------------


@every_kind
def test_outputs_gradients_and_averages_are_pytorchs(kind, options):
    """Over three batches of different sizes and then at rest; its variance has n - 1 below."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")
    twin = torch.nn.Sequential(getattr(torch.nn, kind)(N, eps=1e-3, **options)).double()
    net = made(kind, options, dtype="float64")
    net.params[...] = numbers(net.size, seed=1)
    for (_, own), size in zip(twin.named_parameters(), (N, N), strict=False):
        own.data = torch.tensor(net.params[:size].copy())
    net.load_state_dict(twin.state_dict(), layout="torch")
    means, variances = [np.zeros(N)], [np.ones(N)]
    for step in range(4):
        training = step < 3
        net.train(training)
        twin.train(training)
        if not training:
            values = net.state_dict("torch")
            twin.load_state_dict({k: torch.from_numpy(a) for k, a in values.items()})
        X, dY = numbers(3 + step, N, seed=step), numbers(3 + step, N, seed=10 + step)
        x = torch.tensor(X, requires_grad=True)
        y = twin(x)
        for own in twin.parameters():
            own.grad = None
        y.backward(torch.tensor(dY))
        assert net.forward(X) == pytest.approx(y.detach().numpy(), abs=1e-12)
        assert net.backward(dY) == pytest.approx(x.grad.numpy(), abs=1e-12)
        theirs = [own.grad.numpy() for own in twin.parameters()]
        assert net.grads == pytest.approx(np.concatenate([np.zeros(0), *theirs]), abs=1e-12)
        means.append(X.mean(axis=0))
        variances.append(X.var(axis=0))
        if "running_mean" in (state := {k[2:]: v for k, v in net.state_dict("torch").items()}):
            a = options["momentum"]
            for name, seen in (("running_mean", means), ("running_var", variances)):
                if not training:
                    continue
                want = seen[0]
                for k, new in enumerate(seen[1:], 1):
                    want = want + (new - want) * (1 / k if a is None else a)
                assert state[name] == pytest.approx(want, abs=1e-12)
            assert state["running_mean"] == pytest.approx(
                twin.state_dict()["0.running_mean"].numpy(), abs=1e-12
            )


# ---- saved, moved, described ---------------------------------------------------------------------


@every_kind
def test_the_options_go_through_files_copies_and_types(kind, options, tmp_path):
    net = made(kind, options)
    X = numbers(6, N).astype(np.float32)
    net.forward(X)
    net.save(tmp_path / "net.npz")
    double = net.copy().to(dtype="float64")
    assert double.predict(X) == pytest.approx(net.predict(X), abs=1e-5)
    assert all(
        a.dtype == (np.int64 if name == "0.batches" else np.float64)
        for name, a in double.state_dict().items()
    )
    found = []
    for one in (net.copy(), xpnet.load(tmp_path / "net.npz"), net):
        before = one.predict(X).tobytes()
        one.train()
        found.append((repr(one), before, one.forward(X[:3]).tobytes(), one.predict(X).tobytes()))
    assert found[0] == found[1] == found[2]


def test_files_of_layers_without_new_options_are_described_as_before():
    """So checkpoints of earlier releases go on, and earlier releases read such files."""
    layers = xpnet.BatchNorm1d(3), xpnet.LayerNorm(3), xpnet.GELU()
    assert [layer.config() for layer in layers] == [
        {"n": 3, "momentum": 0.1, "eps": 1e-5}, {"n": 3, "eps": 1e-5}, {},
    ]  # fmt: skip
    set_ = xpnet.BatchNorm1d(3, None, affine=np.False_).config()
    assert json.loads(json.dumps(set_)) == {"n": 3, "momentum": None, "eps": 1e-5, "affine": False}


@every_kind
def test_in_reproducible_mode_they_train_and_predict(kind, options):
    net = made(kind, options, dtype="float64")
    xp = xpnet.backend.find_backend("numpy", reproducible=True)
    X = numbers(6, N).astype(np.float32)
    exact = made(kind, options, backend=xp)
    for seed in range(3):
        net.forward(X[seed:])
        exact.forward(xp.asarray(X[seed:]))
    for name, a in exact.state_dict().items():
        assert a == pytest.approx(net.state_dict()[name], rel=1e-5, abs=1e-6)
    assert exact.predict(X) == pytest.approx(net.predict(X), abs=1e-5)


# ---- a batch of one ------------------------------------------------------------------------------


def trainer(*options, **more):
    inner = xpnet.Sequential(xpnet.BatchNorm1d(3, *options, **more))
    net = xpnet.Sequential(xpnet.Linear(2, 3), inner, xpnet.ReLU(), xpnet.Linear(3, 1))
    return xpnet.Trainer(net, "mse")


@pytest.mark.parametrize(
    ("n", "size", "right"),
    [(65, 1, 3), (65, 32, 33), (65, 64, 65), (4, 1, 2), (2, 1, 2), (3, 2, 3)],
)
def test_fit_refuses_batches_of_one_before_the_first_step_and_its_way_out_is_right(n, size, right):
    training = trainer()
    before, X, t = training.net.sha256(), numbers(n, 2), numbers(n)
    with pytest.raises(xpnet.ShapeError) as caught:
        training.fit(X, t, batch_size=size)
    said = f"layer 1.0, BatchNorm1d(3), needs batches of 2 samples or more in training, but of {n} "
    said += f"samples batch_size={size} makes a batch of 1; use batch_size={right}"
    assert str(caught.value) == said
    assert training.net.sha256() == before
    history = training.fit(X, t, batch_size=right, epochs=2)
    assert np.isfinite(history["loss"]).all()
    assert training.net.state_dict()["1.0.variance"].min() > 1e-3


@pytest.mark.parametrize("size", [1, 32, None])
def test_a_data_set_of_one_sample_is_refused(size):
    with pytest.raises(xpnet.ShapeError, match="makes a batch of 1; give it more samples"):
        trainer().fit(numbers(1, 2), numbers(1), batch_size=size)


def test_without_batch_norm_a_batch_may_have_one_sample():
    net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.LayerNorm(3), xpnet.Linear(3, 1))
    xpnet.Trainer(net, "mse").fit(numbers(5, 2), numbers(5), batch_size=2)


def test_by_hand_one_sample_is_refused_in_training_and_predicted():
    net, X = made("BatchNorm1d", {}), numbers(1, N).astype(np.float32)
    before = net.state_dict()
    with pytest.raises(
        xpnet.ShapeError, match=r"one sample has the variance 0; give it a batch of"
    ):
        net.forward(X)
    assert all(np.array_equal(a, before[name]) for name, a in net.state_dict().items())
    assert net.predict(X).shape == (1, N)
    net.train(False)
    assert net.forward(X).shape == (1, N)
    with pytest.raises(xpnet.ShapeError, match="one sample"):
        made("BatchNorm1d", {"track_running_stats": False}).predict(X)


class Halves(Communicator):
    """Two processes with the same numbers, so that the sum of both is twice one's own."""

    def on(self, xp):
        return self

    def allreduce(self, a, how="sum"):
        a *= 2
        return a


def test_the_share_of_a_process_may_be_one_sample():
    xp = SharedBackend(xpnet.backend.find_backend("numpy"), Halves())
    assert xp.batch_total(1) == 1
    net, X = made("BatchNorm1d", {}, backend=xp), numbers(1, N).astype(np.float32)
    with xp.over(Share(0, 1, 2)):
        assert xp.batch_total(1) == 2
        net.forward(X)
    with pytest.raises(xpnet.ShapeError), xp.over(Share(0, 1, 1)):
        net.forward(X)


# ---- features that are constant, predictions of many ---------------------------------------------


def test_a_feature_that_is_constant_in_a_batch_is_beta():
    net = made("BatchNorm1d", {}, dtype="float64")
    net.params[N:] = 7.0
    X = np.full((5, N), 1e3)
    assert np.array_equal(net.forward(X), np.full((5, N), 7.0))
    assert np.isfinite(net.backward(numbers(5, N))).all()


def test_without_averages_all_samples_of_a_prediction_are_one_batch():
    """Also those beyond the first 1024, and a last one that would be alone."""
    net = made("BatchNorm1d", {"track_running_stats": False, "affine": False}, dtype="float64")
    X = numbers(1025, N)
    want = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0) + 1e-3)
    assert net.predict(X) == pytest.approx(want, abs=1e-12)
    outer = xpnet.Sequential(net, dtype="float64")
    assert xpnet.Trainer(outer, "mse").evaluate(X, want)["loss"] == pytest.approx(0, abs=1e-24)


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("BatchNorm1d", {"n": 8.0}, "n must be a whole number, 1 or more; got 8.0"),
        ("LayerNorm", {"n": (8,)}, "n must be a whole number, 1 or more; got (8,)"),
        ("LayerNorm", {"n": True}, "n must be a whole number, 1 or more; got True"),
        ("BatchNorm1d", {"n": 8, "eps": 0}, "eps must be positive and finite; got 0"),
        ("BatchNorm1d", {"n": 8, "momentum": 0}, "momentum must be positive and finite; got 0"),
        (
            "BatchNorm1d",
            {"n": 8, "momentum": 1.5},
            "momentum must be in (0, 1], or None for the plain average; got 1.5",
        ),
        ("BatchNorm1d", {"n": 8, "momentum": "0.1"}, "momentum must be a number; got '0.1'"),
        ("BatchNorm1d", {"n": 8, "momentum": True}, "momentum must be a number; got True"),
        ("BatchNorm1d", {"n": 8, "affine": "no"}, "affine must be True or False; got 'no'"),
        (
            "BatchNorm1d",
            {"n": 8, "track_running_stats": None},
            "track_running_stats must be True or False; got None",
        ),
        ("LayerNorm", {"n": 8, "bias": 0}, "bias must be True or False; got 0"),
        (
            "LayerNorm",
            {"n": 8, "elementwise_affine": 2},
            "elementwise_affine must be True or False; got 2",
        ),
        ("Dropout", {"p": "0.5"}, "p must be a number; got '0.5'"),
        ("Dropout", {"p": 1.0}, "p must be at least 0 and below 1; got 1.0"),
        ("Dropout", {"p": False}, "p must be a number; got False"),
        ("Dropout", {"p": float("nan")}, "p must be at least 0 and below 1; got nan"),
        ("Dropout", {"p": None}, "p must be a number; got None"),
        ("LeakyReLU", {"slope": float("nan")}, "slope must be at least 0 and below 1; got nan"),
        ("LeakyReLU", {"slope": "0.1"}, "slope must be a number; got '0.1'"),
        ("LeakyReLU", {"slope": 0}, "slope must be above 0; for 0 use ReLU()"),
        (
            "GELU",
            {"approximate": "tahn"},
            "unknown approximate 'tahn'; did you mean 'tanh'? choose",
        ),
        ("GELU", {"approximate": None}, "unknown approximate None; "),
        ("GELU", {"approximate": True}, "unknown approximate True; "),
    ],
)
def test_options_that_are_wrong_are_refused_by_name_and_value(kind, options, said):
    with pytest.raises(xpnet.OptionError) as caught:
        getattr(xpnet, kind)(**options)
    assert str(caught.value).startswith(f"{kind}: {said}")


def test_options_of_numpy_are_numbers_and_can_be_saved():
    layers = [
        xpnet.Dropout(np.float32(0.5)), xpnet.LeakyReLU(np.float64(0.25)),
        xpnet.BatchNorm1d(np.int64(4), np.float32(0.5), affine=np.True_),
        xpnet.GELU(np.str_("none")),
    ]  # fmt: skip
    for layer in layers:
        again = type(layer)(**json.loads(json.dumps(layer.config())))
        assert repr(again) == repr(layer)
        assert again.config() == layer.config()


@pytest.mark.parametrize(
    ("make", "option", "value"),
    [
        (lambda: xpnet.BatchNorm1d(N), "momentum", 0.5),
        (lambda: xpnet.BatchNorm1d(N), "eps", 0.5),
        (lambda: xpnet.LayerNorm(N), "eps", 0.5),
        (xpnet.LeakyReLU, "slope", 0.5),
        (xpnet.GELU, "approximate", "none"),
        (xpnet.Dropout, "p", 0.75),
    ],
)
def test_an_option_that_is_assigned_takes_effect(make, option, value):
    X = numbers(6, N)
    changed, whole = xpnet.Sequential(make()), xpnet.Sequential(make())
    setattr(changed[0], option, value)
    first = type(whole[0])(**whole[0].config() | {option: value})
    wanted = xpnet.Sequential(first)
    found = [net.forward(X).tolist() + list(net.state_dict().values()) for net in (changed, wanted)]
    assert str(found[0]) == str(found[1]) != str(whole.forward(X).tolist())
    assert changed[0].config() == wanted[0].config()


@pytest.mark.parametrize(
    ("make", "option", "value", "said"),
    [
        (
            lambda: xpnet.BatchNorm1d(N),
            "n",
            5,
            "n of BatchNorm1d(4) cannot be changed to 5; make a",
        ),
        (lambda: xpnet.BatchNorm1d(N), "affine", False, "affine of BatchNorm1d(4) cannot be"),
        (lambda: xpnet.BatchNorm1d(N), "track_running_stats", False, "track_running_stats of Ba"),
        (
            lambda: xpnet.BatchNorm1d(N),
            "momentum",
            None,
            "momentum of BatchNorm1d(4) cannot become",
        ),
        (lambda: xpnet.BatchNorm1d(N, None), "momentum", 0.1, "momentum of BatchNorm1d(4) cannot"),
        (lambda: xpnet.BatchNorm1d(N), "momentum", 5, "BatchNorm1d: momentum must be in (0, 1]"),
        (lambda: xpnet.LayerNorm(N), "eps", -1, "LayerNorm: eps must be positive and finite; got"),
        (lambda: xpnet.LayerNorm(N), "bias", False, "bias of LayerNorm(4) cannot be changed to"),
        (xpnet.LeakyReLU, "slope", -1, "LeakyReLU: slope must be at least 0 and below 1; got -1"),
        (xpnet.GELU, "approximate", "bad", "GELU: unknown approximate 'bad'; "),
        (xpnet.Dropout, "p", 2, "Dropout: p must be at least 0 and below 1; got 2"),
    ],
)
def test_an_assignment_that_cannot_take_effect_is_refused(make, option, value, said):
    net = xpnet.Sequential(make())
    with pytest.raises(xpnet.OptionError) as caught:
        setattr(net[0], option, value)
    assert str(caught.value).startswith(said)
    assert net[0].config() == make().config()
