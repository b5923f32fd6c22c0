"""Every layer with every loss: the gradients against slopes, PyTorch, the other backends, rounding.

A network is Linear, the layer, Linear, and what the loss needs at the end, so that the layer gets a
general X and a general dY; the gradients are those of all parameters and of the input.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import xpnet

# ---- the cases -----------------------------------------------------------------------------------


def _nested(k):
    inner = xpnet.Sequential(xpnet.Linear(k + 1, k), xpnet.Sigmoid())
    return xpnet.Sequential(xpnet.Linear(k, k + 1), xpnet.Tanh(), inner)


LAYERS = {
    "linear": lambda k: xpnet.Linear(k, k),
    "linear-no-bias": lambda k: xpnet.Linear(k, k, bias=False),
    "relu": lambda k: xpnet.ReLU(),
    "leaky-relu": lambda k: xpnet.LeakyReLU(0.2),
    "sigmoid": lambda k: xpnet.Sigmoid(),
    "tanh": lambda k: xpnet.Tanh(),
    "gelu": lambda k: xpnet.GELU(),
    "gelu-exact": lambda k: xpnet.GELU("none"),
    "softmax": lambda k: xpnet.Softmax(),
    "identity": lambda k: xpnet.Identity(),
    "flatten": lambda k: xpnet.Flatten(),  # stands first: the samples are images
    "dropout": lambda k: xpnet.Dropout(0.4),
    "dropout-prediction": lambda k: xpnet.Dropout(0.4),
    "batch-norm": xpnet.BatchNorm1d,
    "batch-norm-prediction": xpnet.BatchNorm1d,
    "batch-norm-not-affine": lambda k: xpnet.BatchNorm1d(k, affine=False),
    "batch-norm-average": lambda k: xpnet.BatchNorm1d(k, momentum=None),
    "batch-norm-not-tracked-prediction": lambda k: xpnet.BatchNorm1d(k, track_running_stats=False),
    "layer-norm": xpnet.LayerNorm,
    "layer-norm-no-bias": lambda k: xpnet.LayerNorm(k, bias=False),
    "layer-norm-not-affine": lambda k: xpnet.LayerNorm(k, elementwise_affine=False),
    "nested": _nested,
    # Behind a Linear, the network does these three in one pass with it; here they are on their own.
    "relu-apart": lambda k: xpnet.Sequential(xpnet.ReLU()),
    "sigmoid-apart": lambda k: xpnet.Sequential(xpnet.Sigmoid()),
    "tanh-apart": lambda k: xpnet.Sequential(xpnet.Tanh()),
}
# A new layer of existing primitives has its line above and, here, its twin in PyTorch, a function
# of (torch.nn.functional, layer, X), and a bound for the rounding of dX, a function of (X, dY).
TWINS: dict[type, Any] = {}
BOUNDS: dict[str, Any] = {}
LOSSES = {
    "mse": xpnet.MeanSquaredError,
    "bce": xpnet.BinaryCrossEntropy,
    "bce-logits": lambda: xpnet.BinaryCrossEntropy(from_logits=True),
    "cross-entropy": xpnet.CrossEntropy,
    "softmax-labels": xpnet.SoftmaxCrossEntropy,
    "softmax-one-hot": xpnet.SoftmaxCrossEntropy,
    "softmax-soft": xpnet.SoftmaxCrossEntropy,
    "huber": lambda: xpnet.Huber(0.7),
}
ENDS = {"bce": xpnet.Sigmoid, "cross-entropy": xpnet.Softmax}
# Differences of nearly equal terms: μ takes the mean out of X, and all of it if there is one value.
CANCELLING = [name for name in LAYERS if "-norm" in name and name != "batch-norm-prediction"]
KINKED_LAYERS, KINK_DISTANCE = ("relu", "leaky-relu", "relu-apart"), 1e-3

BATCHES = (1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10)
SHAPES = [
    (n, *(int(size) for size in np.random.default_rng([7, i]).integers(1, 6, 3)))
    for i, n in enumerate(BATCHES)
]  # samples, inputs, width of the layer, outputs

every_layer = pytest.mark.parametrize("layer", LAYERS)
every_loss = pytest.mark.parametrize("loss", LOSSES)


@dataclass
class Case:
    """A network, a loss and a batch, on NumPy in float64."""

    net: Any
    loss: Any
    X: np.ndarray
    t: np.ndarray
    weight: np.ndarray | None

    @property
    def batch(self):
        return self.t, self.weight


def make(layer: str, loss: str, number: int) -> Case:
    """Return the case of one shape, the first one that is away from all kinks."""
    for attempt in range(100):
        case = _draw(layer, loss, number, attempt)
        if _distance_to_kinks(case, layer, loss) > KINK_DISTANCE:
            return case
    raise AssertionError("no case away from the kinks")


def least_batch(layer: str) -> int:
    """Return the fewest samples: the variance of a batch of one is 0."""
    return 2 if layer in CANCELLING and layer.startswith("batch-norm") else 1


def _draw(layer: str, loss: str, number: int, attempt: int) -> Case:
    n, n_in, k, n_out = SHAPES[number]
    n = max(n, least_batch(layer))
    rng = np.random.default_rng([number, attempt])
    if loss.startswith(("cross", "softmax")):
        n_out += 1  # with a single class the loss is constant
    start, sample = [xpnet.Linear(n_in, k)], (n_in,)
    if layer == "flatten":
        start, sample = [], (n_in, 1, k)
    width = n_in * k if layer == "flatten" else k
    layers = [*start, LAYERS[layer](k), xpnet.Linear(width, n_out)]
    layers += [ENDS[loss]()] if loss in ENDS else []
    net = xpnet.Sequential(*layers, dtype="float64", seed=number, backend="numpy")
    net.params[...] = rng.uniform(-0.8, 0.8, net.size)  # biases too, which start at zero
    net.train(not layer.endswith("prediction"))
    if layer == "batch-norm-prediction":
        net[1].state["mean"][...] = rng.normal(size=(1, k))
        net[1].state["variance"][...] = rng.uniform(0.2, 2, (1, k))
    weight = None
    if number % 2:
        weight = rng.uniform(0.2, 3, n)
        weight[: n // 3] = 0
    return Case(
        net, LOSSES[loss](), rng.normal(size=(n, *sample)), _targets(loss, n, n_out, rng), weight
    )


def _targets(loss: str, n: int, n_out: int, rng: Any) -> np.ndarray:
    if loss == "softmax-labels":
        return rng.integers(0, n_out, n)
    if loss == "softmax-one-hot":
        return np.eye(n_out)[rng.integers(0, n_out, n)]
    if loss in ("softmax-soft", "cross-entropy"):
        return rng.dirichlet(np.ones(n_out), n)
    if loss.startswith("bce"):
        return rng.uniform(size=(n, n_out))
    return rng.normal(size=(n, n_out))


def _distance_to_kinks(case: Case, layer: str, loss: str) -> float:
    places = [np.ones(1)]
    Y = case.net.forward(case.X)
    if layer in KINKED_LAYERS:
        first = case.net[0]
        places.append(case.X @ first.W + first.b)
    if loss == "huber":
        places.append(np.abs(Y - case.t) - case.loss.delta)
    return min(np.abs(a).min() for a in places)


def gradients(net: Any, loss: Any, X: Any, t: Any, weight: Any) -> dict[str, np.ndarray]:
    """Return all gradients on the host, that of the input too; layer state stays as it was."""
    host, before = net.xp.asnumpy, net.state_dict()
    net.input_gradient = True
    loss.forward(net.forward(X), t, weight)
    dX = net.backward(loss.backward())
    net.load_state_dict(before)
    found = {
        f"{path}.{name}": np.array(host(getattr(part, "d" + name)))
        for path, part in net.walk("")
        for name in part.parameters
    }
    return found | {"input": np.array(host(dX))}


def largest(gradients: dict[str, np.ndarray]) -> float:
    return max(np.abs(g).max() for g in gradients.values())


# ---- slopes --------------------------------------------------------------------------------------


@pytest.mark.thorough(but=["*-mse", "*-softmax-one-hot"])
@every_loss
@every_layer
def test_every_gradient_is_the_slope_of_the_loss(layer, loss):
    """By the complex step to 10⁻¹³ of the largest slope, so that a sum may cancel."""
    felt = 0
    for number in range(len(SHAPES)):
        report = _checked(make(layer, loss, number), "complex")
        top = max(abs(entry.numerical) for entry in report.entries)
        assert top > 1e-3, f"there is no slope to compare with: {SHAPES[number]}"
        off = max(abs(entry.analytic - entry.numerical) for entry in report.entries)
        assert off <= 1e-13 * top, f"{SHAPES[number]}\n{report}"
        felt += abs(report["input"].numerical) > 1e-4 * top
    assert felt >= len(SHAPES) // 2, "hardly anything reaches the input"


KINKED = [(layer, loss) for layer in KINKED_LAYERS for loss in LOSSES]
KINKED += [(layer, "huber") for layer in LAYERS if layer not in (*KINKED_LAYERS, *CANCELLING)]


@pytest.mark.thorough(
    but=["linear-huber", "relu*-softmax-labels", "leaky-relu-mse", "relu*-mse", "nested-huber"]
)
@pytest.mark.parametrize(("layer", "loss"), KINKED)
def test_every_gradient_beside_a_kink_is_the_slope_on_both_sides(layer, loss):
    """By central differences, to which the normalization of two samples is too crooked."""
    for number in range(len(SHAPES)):
        report = _checked(make(layer, loss, number), "central")
        for entry in report.entries:
            assert entry.error <= 1e-7, f"{SHAPES[number]}\n{report}"
            assert entry.kinks == 0, f"{SHAPES[number]}\n{report}"


def _checked(case: Case, method: str) -> xpnet.GradientReport:
    report = xpnet.gradcheck(
        case.net, case.loss, case.X, case.t, sample_weight=case.weight, method=method
    )
    expected = {f"{path}.{name}" for path, part in case.net.walk("") for name in part.parameters}
    assert {entry.name for entry in report.entries} == expected | {"input"}
    return report


@pytest.mark.parametrize("layer", KINKED_LAYERS)
def test_both_sides_of_the_rectifiers_are_checked(layer):
    inner = [make(layer, "mse", i).net[1] for i in range(len(SHAPES))]
    inner = [part[0] if isinstance(part, xpnet.Sequential) else part for part in inner]
    Y = np.concatenate([part.Y.ravel() for part in inner])
    assert (Y > 0).sum() > 50
    assert (Y <= 0).sum() > 50


def test_both_sides_of_the_huber_loss_are_checked():
    cases = [make("tanh", "huber", i) for i in range(len(SHAPES))]
    e = np.concatenate([(c.net.forward(c.X) - c.t).ravel() for c in cases])
    assert (np.abs(e) < 0.7).sum() > 50
    assert (e > 0.7).sum() > 20
    assert (e < -0.7).sum() > 20


# ---- PyTorch -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    """PyTorch on one thread: more would only wait for each other at arrays as small as these."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second opinion")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield torch
    torch.set_num_threads(before)


@pytest.mark.thorough(but=["linear-*", "gelu-*", "batch-norm-*", "layer-norm-*", "nested-*"])
@every_loss
@every_layer
def test_loss_and_gradients_are_those_of_pytorch(torch, layer, loss):
    for number in range(len(SHAPES)):
        case = make(layer, loss, number)
        ours = gradients(case.net, case.loss, case.X, *case.batch)
        value, theirs = _with_torch(torch, case, loss)
        assert float(case.loss) == pytest.approx(value, rel=1e-13, abs=1e-15)
        assert ours.keys() == theirs.keys()
        for name, g in theirs.items():
            scale = largest(theirs) if layer in CANCELLING else np.abs(g).max()
            off = np.abs(ours[name] - g).max()
            assert off <= 1e-12 * scale, f"{SHAPES[number]}: {name} is off by {off} of {scale}"


def test_without_epsilon_the_binary_cross_entropy_is_pytorchs(torch):
    rng = np.random.default_rng(1)
    Y, T = rng.uniform(size=(6, 3)), rng.uniform(size=(6, 3))
    loss = xpnet.BinaryCrossEntropy(eps=1e-300)  # 1 - y + ε is 1 - y
    y = torch.tensor(Y, requires_grad=True)
    theirs = torch.nn.functional.binary_cross_entropy(y, torch.tensor(T))
    theirs.backward()
    assert float(loss.forward(Y, T)) == pytest.approx(theirs.item(), rel=1e-13)
    np.testing.assert_allclose(loss.backward(), y.grad.numpy(), rtol=1e-12)


def _with_torch(torch: Any, case: Case, loss: str) -> tuple[float, dict[str, np.ndarray]]:
    """Return the loss and all gradients from autograd, for what `case.net` has just computed."""
    leaves = {
        name: torch.tensor(np.array(a), requires_grad=True)
        for name, a in case.net.state_dict().items()
        if name.rpartition(".")[2] in ("W", "b", "gamma", "beta")
    }
    leaves["input"] = torch.tensor(case.X, requires_grad=True)
    Y = leaves["input"]
    for path, layer in case.net.walk(""):
        Y = _torch_layer(torch, layer, Y, lambda name, path=path: leaves[f"{path}.{name}"])
    losses = _torch_losses(torch, loss, case.loss, Y, torch.tensor(case.t))
    w = torch.ones(len(losses)) if case.weight is None else torch.tensor(case.weight)
    value = (w * losses).sum() / w.sum()
    value.backward()
    return value.item(), {name: leaf.grad.numpy() for name, leaf in leaves.items()}


def _torch_layer(torch: Any, layer: Any, X: Any, value: Any) -> Any:
    F, kind = torch.nn.functional, type(layer)
    if kind in TWINS:
        return TWINS[kind](F, layer, X)
    if kind is xpnet.Linear:
        return X @ value("W") + value("b") if layer.bias else X @ value("W")
    if kind is xpnet.LeakyReLU:
        return F.leaky_relu(X, layer.slope)
    if kind is xpnet.Dropout:
        return _torch_dropout(torch, layer, X)
    if kind is xpnet.LayerNorm:
        return F.layer_norm(X, (layer.n,), *_affine(layer, value), layer.eps)
    if kind is xpnet.BatchNorm1d:
        return _torch_batch_norm(torch, layer, X, *_affine(layer, value))
    return {
        xpnet.ReLU: F.relu,
        xpnet.Sigmoid: torch.sigmoid,
        xpnet.Tanh: torch.tanh,
        xpnet.GELU: lambda X: F.gelu(X, approximate=layer.approximate),
        xpnet.Softmax: lambda X: F.softmax(X, dim=1),
        xpnet.Identity: lambda X: X,
        xpnet.Flatten: lambda X: torch.flatten(X, 1),
    }[kind](X)


def _torch_dropout(torch: Any, layer: Any, X: Any) -> Any:
    """With the mask that was drawn, as PyTorch draws others."""
    if not layer.training:
        return X
    M = layer.M[: len(X)].copy()
    assert np.isin(M, [0, 1 / (1 - layer.p)]).all()
    return X * torch.tensor(M)


def _affine(layer: Any, value: Any) -> list[Any]:
    return [value(name) if name in layer.parameters else None for name in ("gamma", "beta")]


def _torch_batch_norm(torch: Any, layer: Any, X: Any, gamma: Any, beta: Any) -> Any:
    if not layer.state:
        return torch.nn.functional.batch_norm(X, None, None, gamma, beta, True, eps=layer.eps)
    mean, variance = (torch.tensor(layer.state[k][0].copy()) for k in ("mean", "variance"))
    return torch.nn.functional.batch_norm(
        X, mean, variance, gamma, beta, training=layer.training, eps=layer.eps
    )


def _torch_losses(torch: Any, name: str, loss: Any, Y: Any, t: Any) -> Any:
    """Return the loss of each sample."""
    F = torch.nn.functional
    if name.startswith("softmax"):
        return F.cross_entropy(Y, t, reduction="none")
    if name == "cross-entropy":
        return -(t * torch.log(Y + loss.eps)).sum(dim=1)
    if name == "bce":
        losses = -t * torch.log(Y + loss.eps) - (1 - t) * torch.log(1 - Y + loss.eps)
    elif name == "bce-logits":
        losses = F.binary_cross_entropy_with_logits(Y, t, reduction="none")
    elif name == "huber":
        losses = F.huber_loss(Y, t, delta=loss.delta, reduction="none")
    else:
        losses = F.mse_loss(Y, t, reduction="none")
    return losses.mean(dim=1)


# ---- the other backends --------------------------------------------------------------------------


@pytest.mark.thorough(but=["numba-*", "strict-linear"])
@every_layer
def test_gradients_are_the_same_on_every_backend(backend, layer):
    for loss in LOSSES:
        for number in (0, 1, 8, 15, 19):
            case = make(layer, loss, number)
            expected = gradients(case.net.copy(), LOSSES[loss](), case.X, *case.batch)
            net, judge = case.net.to(backend), LOSSES[loss]()
            weight = None if case.weight is None else backend.asarray(case.weight)
            X, t = backend.asarray(case.X), backend.asarray(case.t)
            found = gradients(net, judge, X, t, weight)
            assert found.keys() == expected.keys()
            for name, g in expected.items():
                off = np.abs(found[name] - g).max()
                assert off <= 1e-12 * largest(expected), f"{loss} {SHAPES[number]}: {name} {off}"


# ---- float32 -------------------------------------------------------------------------------------
#
# u = 2⁻²⁴ is one rounding in float32. The reference is the same layer in float64 on the same
# numbers, so what differs is rounding alone, and each bound is the sum of the roundings on the way,
# to first order in u. exp and tanh of NumPy are right to 4 units in the last place, 8u; a sum of
# n terms to n u times the sum of their sizes, in whatever order it is formed.

u = 2.0**-24


def _layer_bounds(name, layer, X, Y, dY):
    """Return a bound for the rounding of each gradient, from float64 values."""
    n, a = len(X), np.abs
    if name.startswith("linear"):  # sums of n or n_out products, each rounded once
        W = a(layer.W)
        bounds = {"W": (n + 1) * u * a(X).T @ a(dY), "input": (len(W.T) + 1) * u * a(dY) @ W.T}
        return bounds | ({"b": n * u * a(dY).sum(axis=0)} if layer.bias else {})
    if "-norm" in name:
        return _normalization_bounds(name, layer, X, dY)
    if name in ("relu", "identity", "flatten", "dropout-prediction"):  # a factor of 1 or 0
        return {"input": np.zeros(X.shape)}
    if name == "leaky-relu":  # the slope is rounded, and the product
        return {"input": 2 * u * a(dY)}
    if name == "dropout":  # keep is rounded, 1/keep, and the product
        return {"input": 3 * u * a(dY) / (1 - layer.p) * (Y != 0)}
    if name == "sigmoid":  # Y to 10u: exp, +, /; then 1 - Y, which is off by 10u Y + u, and · ·
        return {"input": 13 * u * a(dY) * Y}
    if name == "tanh":  # Y to 8u, so Y² to 17u; 1 - Y²; ·
        return {"input": 20 * u * a(dY)}
    if name == "gelu":  # T to 11u: the polynomial reaches it damped by 1 - T²; twice that in T²
        return {"input": 16 * u * a(dY) * (1 + a(X) * (1 + 0.15 * X * X))}
    if (
        name == "gelu-exact"
    ):  # Φ to (12 + x²)u of the smaller side; Xφ to as many, and twice · and +
        phi = np.exp(-X * X / 2) / np.sqrt(2 * np.pi)
        return {"input": u * a(dY) * (4 + (16 + X * X) * (phi + a(X) * phi))}
    if name in BOUNDS:
        return {"input": BOUNDS[name](X, dY)}
    assert name == "softmax", f"BOUNDS needs the bound for {name}"
    # The difference X - max is rounded, exp, the sum of k, /; then another sum of k.
    k, spread = X.shape[1], (X.max(axis=1) - X.min(axis=1))[:, None]
    terms = Y * (a(dY) + (a(dY) * Y).sum(axis=1, keepdims=True))
    return {"input": (2 * (17 + 2 * spread + k) + k + 4) * u * terms}


def _normalization_bounds(name, layer, X, dY):
    """A sum of m along the axis, m u |X|/σ in each X̂; the same again in each of the three terms."""
    axis, a = layer.axis, np.abs
    training = name != "batch-norm-prediction"
    mu, variance = X.mean(axis, keepdims=True), X.var(axis, keepdims=True)
    if not training:
        mu, variance = layer.state["mean"], layer.state["variance"]
    sigma = np.sqrt(variance + layer.eps)
    Xhat, dXhat = a(X - mu) / sigma, a((layer.gamma if "gamma" in layer.parameters else 1.0) * dY)
    m = X.shape[axis]
    size = a(X).max(axis, keepdims=True) + a(mu)
    xhat = (m + 4) * u * (1 + size / sigma) * (1 + Xhat)  # of X̂, and relative to σ
    terms = dXhat
    if training:
        mean = dXhat.mean(axis, keepdims=True)
        terms = dXhat + mean + 3 * Xhat * (dXhat * Xhat).mean(axis, keepdims=True)
    rounding = xhat if training else xhat * sigma / (size + sigma)
    n = len(X)
    bounds = {
        "gamma": ((n + 1) * u * a(dY) * Xhat + a(dY) * xhat).sum(axis=0),
        "beta": n * u * a(dY).sum(axis=0),
    }
    return {name: bounds[name] for name in layer.parameters} | {
        "input": 4 * (rounding.max(axis, keepdims=True) + (m + 4) * u) * terms / sigma
    }


@pytest.mark.parametrize("n", [1, 3, 40])
@pytest.mark.parametrize(
    "layer", [name for name in LAYERS if name != "nested" and not name.endswith("apart")]
)
def test_float32_gradients_of_a_layer_are_right_to_the_rounding(layer, n):
    rng, k = np.random.default_rng([3, n]), 7
    n = n if least_batch(layer) == 1 else max(n, 3)  # of two samples nearly all cancels
    sample = (7, 1, 2) if layer == "flatten" else (k,)
    net = xpnet.Sequential(LAYERS[layer](k), dtype="float32", seed=5)
    net.params[...] = rng.normal(size=net.size)
    net.train(not layer.endswith("prediction"))
    if layer == "batch-norm-prediction":
        net[0].state["mean"][...] = rng.normal(size=(1, k))
        net[0].state["variance"][...] = rng.uniform(0.2, 2, (1, k))
    X = (2 * rng.normal(size=(n, *sample))).astype(np.float32)
    dY = rng.normal(size=(n, *net.output_shape(sample))).astype(np.float32)
    double = net.copy().to(dtype="float64")
    wide, dwide = X.astype(np.float64), dY.astype(np.float64)
    (_, got), (Y, want) = _of_layer(net, X, dY), _of_layer(double, wide, dwide)
    bounds = _layer_bounds(layer, double[0], wide, Y, dwide)
    assert bounds.keys() == want.keys()
    for name, bound in bounds.items():
        assert got[name].dtype == np.float32
        off, size = np.abs(got[name] - want[name]), np.abs(want[name]).max()
        assert (off <= bound).all(), f"{name}: {(off / np.maximum(bound, 1e-30)).max()} bounds off"
        if size > 1e-6:
            assert bound.max() < 1e-3 * size, f"the bound on {name} says nothing"


def _of_layer(net, X, dY):
    net.input_gradient = True
    Y = np.array(net.forward(X))
    dX = np.array(net.backward(dY))
    return Y, {n: np.array(getattr(net[0], "d" + n)) for n in net[0].parameters} | {"input": dX}


def _loss_bound(name, Y, T, g):
    """Return a bound for the rounding of dY = share · slope; g is dY in float64, share 1 here."""
    a = np.abs
    if name in ("mse", "huber"):  # the difference, 2 ·, and · share, which is rounded itself
        return 4 * u * a(g)
    if name == "bce":  # 1 - y, + ε, /, and the same for the other; their difference; · share
        return 7 * u * ((1 - T) / (1 - Y) + T / Y)
    if name == "bce-logits":  # σ to 10u; the difference; · share
        return 10 * u / (1 + np.exp(-Y)) + 3 * u * a(g)
    if name == "cross-entropy":  # + ε, /, · share
        return 5 * u * a(g)
    k, spread = Y.shape[1], (Y.max(axis=1) - Y.min(axis=1))[:, None]
    P = np.exp(Y - Y.max(axis=1, keepdims=True))
    return (17 + 2 * spread + k) * u * P / P.sum(axis=1, keepdims=True) + 3 * u * a(g)


@pytest.mark.parametrize("n", [1, 3, 40])
@every_loss
def test_float32_gradients_of_a_loss_are_right_to_the_rounding(loss, n):
    rng, k = np.random.default_rng([4, n]), 6
    Y = (2 * rng.normal(size=(n, k))).astype(np.float32)
    if loss in ENDS:
        Y = rng.uniform(0.01, 0.99, (n, k)).astype(np.float32)
    t = _targets(loss, n, k, rng)
    t = t if t.dtype.kind == "i" else t.astype(np.float32)
    single, double = LOSSES[loss](), LOSSES[loss]()
    single.forward(Y, t)
    wide = t if t.dtype.kind == "i" else t.astype(np.float64)
    double.forward(Y.astype(np.float64), wide)
    got, want = single.backward(), double.backward()
    share = 1 / (n * k) if double.mean_over_outputs else 1 / n
    T = np.eye(k)[t] if t.dtype.kind == "i" else wide
    bound = share * _loss_bound(loss, Y.astype(np.float64), T, want / share)
    assert got.dtype == np.float32
    off = np.abs(got - want)
    assert (off <= bound).all(), f"{(off / bound).max()} bounds off"
    assert bound.max() < 1e-4 * np.abs(want).max(), "the bound says nothing"


# ---- properties ----------------------------------------------------------------------------------


@every_loss
@every_layer
def test_value_and_gradient_belong_together(backend, layer, loss):
    """L(p + h d, X + h D) - L(p - h d, X - h D) = 2h (g · d + dX · D), for a random direction"""
    case = make(layer, loss, 13)
    net, judge = case.net.to(backend), LOSSES[loss]()
    rng, h, host = np.random.default_rng(2), 1e-5, backend.asnumpy
    params, states = np.array(host(net.params)), net.state_dict()
    d, D = rng.normal(size=net.size), rng.normal(size=case.X.shape)
    weight = None if case.weight is None else backend.asarray(case.weight)

    def value(step):
        net.load_state_dict(states)  # the same mask each time
        backend.copyto(net.params, backend.asarray(params + step * d))
        Y = net.forward(backend.asarray(case.X + step * D))
        return float(judge.forward(Y, backend.asarray(case.t), weight))

    g = gradients(net, judge, backend.asarray(case.X), backend.asarray(case.t), weight)
    slope = float(host(net.grads) @ d + (g["input"] * D).sum())
    central = (value(h) - value(-h)) / (2 * h)
    size = np.linalg.norm(host(net.grads)) * np.linalg.norm(d)
    assert abs(slope) > 1e-3 * size, "the direction is across the slope, take another"
    assert abs(central - slope) < 1e-7 * size


@every_layer
def test_backward_overwrites_the_gradients_and_changes_nothing_else(backend, layer):
    case = make(layer, "mse", 12)
    net, host = case.net.to(backend), backend.asnumpy
    X, given = backend.asarray(case.X), np.random.default_rng(3).normal(size=case.t.shape)
    dY = backend.asarray(given)
    net.input_gradient = True
    net.forward(X)
    states, found = net.state_dict(), []
    for _ in range(2):
        backend.copyto(net.grads, np.nan)  # whatever was there is of no matter
        dX = net.backward(dY)
        found.append(np.concatenate([host(net.grads), host(dX).ravel()]))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[0], found[1])
    for name, a in net.state_dict().items():
        assert np.array_equal(a, states[name]), f"backward changed {name}"
    assert np.array_equal(host(X), case.X)
    assert np.array_equal(host(dY), given)


@pytest.mark.parametrize("weighted", [False, True])
@every_loss
def test_a_second_backward_of_a_loss_gives_the_same(backend, loss, weighted):
    case = make("tanh", loss, 12)
    judge, host = LOSSES[loss](), backend.asnumpy
    w = np.arange(len(case.X)) + 1.0
    given = np.array(case.net.forward(case.X)), case.t, w
    Y, t, weight = (backend.asarray(a) for a in given)
    value = float(judge.forward(Y, t, weight if weighted else None))
    first = np.array(host(judge.backward()))
    np.testing.assert_array_equal(host(judge.backward()), first)
    assert float(judge) == value
    for a, before in zip((Y, t, weight), given, strict=True):
        assert np.array_equal(host(a), before)


@every_loss
@pytest.mark.parametrize("layer", [name for name in LAYERS if name != "dropout"])
def test_permuting_the_batch_permutes_the_input_gradient(layer, loss):
    """Not for Dropout, whose mask belongs to the place in the batch."""
    case = make(layer, loss, 17)
    order = np.random.default_rng(1).permutation(len(case.X))
    assert (order != np.arange(len(order))).sum() > 4
    first = gradients(case.net, case.loss, case.X, case.t, case.weight)
    second = gradients(case.net, case.loss, case.X[order], case.t[order], case.weight[order])
    first["input"] = first["input"][order]
    for name, g in first.items():
        assert np.abs(second[name] - g).max() <= 1e-13 * largest(first), name


@pytest.mark.parametrize("asked", [False, True])
@every_layer
def test_the_first_layer_gives_no_dx_unless_asked(backend, layer, asked):
    case = make(layer, "mse", 13)
    net, judge = case.net.to(backend), xpnet.MeanSquaredError()
    net.input_gradient = asked
    judge.forward(net.forward(backend.asarray(case.X)), backend.asarray(case.t))
    dX = net.backward(judge.backward())
    assert (dX is None) == (not asked)
    if asked:
        assert dX.shape == case.X.shape
    first = next(part for _, part in net.walk("") if part.size)
    assert (first.dX is None) == (not asked)


def test_layers_before_the_first_parameter_are_not_asked_for_gradients(backend):
    class Proud(xpnet.Tanh):
        def backward(self, dY):
            raise AssertionError("nobody needs this gradient")

    net = xpnet.Sequential(xpnet.Flatten(), Proud(), xpnet.Linear(6, 2), dtype="float64")
    Y = net.forward(backend.asarray(np.ones((3, 2, 3))))
    assert net.backward(Y) is None


def test_the_input_gradient_may_be_asked_for_after_the_first_batch(backend):
    net = xpnet.Sequential(xpnet.Linear(3, 2), dtype="float64")
    X, dY = backend.asarray(np.ones((4, 3))), backend.asarray(np.ones((4, 2)))
    net.forward(X)
    assert net.backward(dY) is None
    net.input_gradient = True
    net.forward(X)
    dX = net.backward(dY)
    assert dX is not None
    W = backend.asnumpy(net[0].W)
    np.testing.assert_allclose(backend.asnumpy(dX), np.ones((4, 2)) @ W.T, rtol=1e-15)
