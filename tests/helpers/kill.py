"""A second's worth of checks that a mistake anywhere in xpnet should not survive.

`test_mutations.py` runs them on xpnet with one mistake put in, ``python tests/helpers/kill.py`` on
xpnet as it is. Every formula is written here once more, in plain NumPy, in the most direct way.
"""

from __future__ import annotations

import gzip
from contextlib import suppress
from inspect import signature
from io import BytesIO
from math import cos, erf, pi, sqrt
from pathlib import Path
from tempfile import TemporaryDirectory

import contract_layers
import numpy as np
from strict_backend import StrictBackend
from team import team

import xpnet
from xpnet import optimizers, schedules
from xpnet.backend.random import Random
from xpnet.data.batches import Batches
from xpnet.data.gunzip import Gunzip
from xpnet.data.image_sets import image_set
from xpnet.initializers import find_initializer
from xpnet.parallel.communicator import ALONE
from xpnet.parallel.sharing import shared
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.checks import on_host

BACKENDS = xpnet.backend.find_backend("numpy"), StrictBackend()


L, S = xpnet.Linear, xpnet.Sequential


def close(got, want, what, tolerance=1e-12):
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{what}: {got.shape} instead of {want.shape}"
    off = np.abs(got - want).max(initial=0)
    assert off <= tolerance * max(1, np.abs(want).max(initial=0)), f"{what}: off by {off}"


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def network(*layers, seed=0):
    net = xpnet.Sequential(*layers, dtype="float64", seed=seed)
    values = np.random.default_rng(seed).uniform(0.2, 0.9, net.size)
    values[::2] *= -1
    net.xp.copyto(net.params, net.xp.asarray(values))
    return net


# ---- layers and losses -------------------------------------------------------------------------


def logistic(X):
    return 1 / (1 + np.exp(-X))


def softmax(X):
    E = np.exp(X - X.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def gelu(X):
    return X / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (X + 0.044715 * X**3)))


def normalized(X, axis, eps=1e-5):
    mean = X.mean(axis, keepdims=True)
    return (X - mean) / np.sqrt(((X - mean) ** 2).mean(axis, keepdims=True) + eps)


def check_layers(xp):
    X = 2 * numbers(6, 5)
    for layer, want in (
        (xpnet.ReLU(), np.where(X > 0, X, 0)),
        (xpnet.LeakyReLU(0.2), np.where(X > 0, X, 0.2 * X)),
        (xpnet.Sigmoid(), logistic(X)),
        (xpnet.Tanh(), np.tanh(X)),
        (xpnet.GELU(), gelu(X)),
        (xpnet.GELU("none"), X / 2 * (1 + np.vectorize(erf)(X / np.sqrt(2)))),
        (xpnet.Softmax(), softmax(X)),
        (xpnet.Identity(), X),
        (xpnet.LayerNorm(5), normalized(X, 1)),
        (xpnet.BatchNorm1d(5), normalized(X, 0)),
        (xpnet.BatchNorm1d(5, eps=0.5), normalized(X, 0, 0.5)),
    ):
        net = network(layer)
        if layer.size:
            gamma, beta = np.arange(1, 6) / 2, np.arange(5) - 1.5
            xp.copyto(net.params, xp.asarray(np.concatenate([gamma, beta])))
            want = gamma * want + beta
        close(xp.asnumpy(net.forward(xp.asarray(X))), want, layer)
    net = network(L(5, 3))
    W, b = xp.asnumpy(net[0].W), xp.asnumpy(net[0].b)
    close(xp.asnumpy(net.forward(xp.asarray(X))), X @ W + b, "Linear")
    large = xp.asarray(np.array([[1e3, 0, -1e3], [500, 1000, 1000]]))
    Y = xp.asnumpy(network(xpnet.Softmax()).forward(large))
    close(Y, [[1, 0, 0], [0, 0.5, 0.5]], "Softmax of large scores")
    close(xp.asnumpy(network(xpnet.Sigmoid()).forward(large))[0], [1, 0.5, 0], "large Sigmoid")


def check_every_layer(xp):
    """Those that need no arguments: a layer that is new is among them."""
    X, T = numbers(4, 3), numbers(4, 2, seed=1)
    for kind in xpnet.layers.LAYERS.values():
        if all(p.default is not p.empty for p in signature(kind).parameters.values()):
            net = network(L(3, 5), kind(), L(5, 2))
            report = xpnet.gradcheck(net, "mse", X, T)
            assert report.ok, report


def option_cases(Y, Q, P, labels):
    """Options of the losses: the loss, outputs, targets, and what value and slope must be."""
    smooth, off, counts = 0.8 * np.eye(3)[labels] + 0.2 / 3, 1.0005 * Q, np.floor(9 * Q)
    c = np.array([0.5, 2, 5])
    weighed = (1 - Q) * np.log(1 + np.exp(Y)) + c * Q * np.log(1 + np.exp(-Y))
    deviance = np.exp(Y) - counts * Y + counts * np.log(np.maximum(counts, 1)) - counts
    return (
        (
            xpnet.SoftmaxCrossEntropy(label_smoothing=0.2),
            Y,
            labels,
            -smooth * np.log(P),
            P - smooth,
        ),
        (
            xpnet.SoftmaxCrossEntropy(),
            Y,
            off,
            -off * np.log(P),
            P * off.sum(axis=1, keepdims=True) - off,
        ),
        (
            xpnet.BinaryCrossEntropy(True, pos_weight=c),
            Y,
            Q,
            weighed / 3,
            (logistic(Y) * (1 + (c - 1) * Q) - c * Q) / 3,
        ),
        (xpnet.Poisson(), Y, counts, deviance / 3, (np.exp(Y) - counts) / 3),
    )


def check_options(xp):
    """What is ignored does not count, and a sum is one."""
    Y, labels = numbers(4, 3), np.array([2, 0, 1, 2])
    P, kept = softmax(Y), labels != 2
    loss = xpnet.SoftmaxCrossEntropy(ignore_index=2)
    value = loss.forward(xp.asarray(Y), xp.asarray(labels))
    close(xp.asnumpy(value), -np.log(P[[1, 2], [0, 1]]).mean(), "ignore_index")
    slopes = kept[:, None] * (P - np.eye(3)[labels]) / 2
    close(xp.asnumpy(loss.backward()), slopes, "the gradient with ignore_index")
    loss = xpnet.MeanSquaredError(reduction="sum")
    close(xp.asnumpy(loss.forward(xp.asarray(Y), xp.asarray(P))), ((Y - P) ** 2).sum(), "a sum")
    close(xp.asnumpy(loss.backward()), 2 * (Y - P), "the gradient of a sum")


def check_losses(xp):
    Y, T, w = numbers(4, 3), numbers(4, 3, seed=1), np.array([1, 0, 3, 0.5])
    P, Q, labels = softmax(Y), softmax(T), np.array([2, 0, 1, 2])
    one_hot, e, eps = np.eye(3)[labels], Y - T, 1e-3
    c = np.clip(e, -0.6, 0.6)
    assert min((e < -1).sum(), (e > 1).sum(), (np.abs(e) < 0.6).sum()) >= 2
    bce = -Q * np.log(P + eps) - (1 - Q) * np.log(1 - P + eps)
    dbce = (1 - Q) / (1 - P + eps) - Q / (P + eps)
    huber = np.where(np.abs(e) <= 0.6, e**2 / 2, 0.6 * (np.abs(e) - 0.3))
    cases = (
        (xpnet.MeanSquaredError(), Y, T, e**2 / 3, 2 * e / 3),
        (xpnet.Huber(0.6), Y, T, huber / 3, c / 3),
        (xpnet.BinaryCrossEntropy(eps=eps), P, Q, bce / 3, dbce / 3),
        (
            xpnet.BinaryCrossEntropy(from_logits=True),
            Y,
            Q,
            (np.log(1 + np.exp(Y)) - Q * Y) / 3,
            (logistic(Y) - Q) / 3,
        ),
        (xpnet.CrossEntropy(eps), P, Q, -Q * np.log(P + eps), -Q / (P + eps)),
        (xpnet.CrossEntropy(eps), P, labels, -one_hot * np.log(P + eps), -one_hot / (P + eps)),
        (xpnet.SoftmaxCrossEntropy(), Y, Q, -Q * np.log(P), P - Q),
        (xpnet.SoftmaxCrossEntropy(), Y, labels, -one_hot * np.log(P), P - one_hot),
    )
    cases += option_cases(Y, Q, P, labels)
    for loss, outputs, t, losses, slopes in cases:
        for weight, share in ((None, np.full(4, 0.25)), (w, w / w.sum())):
            given = None if weight is None else xp.asarray(weight)
            value = loss.forward(xp.asarray(outputs), xp.asarray(t), given)
            close(xp.asnumpy(value), (share * losses.sum(axis=1)).sum(), loss)
            close(xp.asnumpy(loss.backward()), share[:, None] * slopes, f"gradient of {loss}")
    zero_and_one, swapped = xp.asarray(np.eye(2)), xp.asarray(1 - np.eye(2))
    for loss in (xpnet.BinaryCrossEntropy(), xpnet.CrossEntropy()):
        assert np.isfinite(float(loss.forward(zero_and_one, swapped)))
        assert np.isfinite(xp.asnumpy(loss.backward())).all()
    large = xp.asarray(np.array([[1e3, -1e3]]))
    logits = xpnet.BinaryCrossEntropy(from_logits=True)
    for loss, want in ((xpnet.SoftmaxCrossEntropy(), 2000), (logits, 1000)):
        close(float(loss.forward(large, xp.asarray(np.array([[0.0, 1.0]])))), want, loss)


def check_gradients(xp):
    labels = np.array([1, 0, 2, 1])
    T = np.abs(numbers(4, 3, seed=1))
    Q = T / T.sum(axis=1, keepdims=True)
    inner = xpnet.Sequential(L(3, 4), xpnet.GELU(), L(4, 3, bias=False))
    images, X = numbers(4, 2, 1, 2), numbers(4, 2)
    for start, layers, loss, t in (
        (X, [L(2, 3), xpnet.Tanh(), L(3, 3), xpnet.Sigmoid(), L(3, 3)], "softmax_cross_entropy", Q),
        (X, [L(2, 3), S(xpnet.Tanh()), L(3, 3), S(xpnet.Sigmoid()), L(3, 3)], "mse", T),
        (X, [L(2, 3), S(xpnet.ReLU()), L(3, 3)], "mse", T),
        (X, [L(2, 3), xpnet.BatchNorm1d(3), L(3, 3), xpnet.LayerNorm(3), L(3, 3)], "mse", T),
        (images, [xpnet.Flatten(), L(4, 3), inner, xpnet.Softmax()], "cross_entropy", labels),
        (X, [L(2, 3), xpnet.Softmax(), L(3, 3), xpnet.Dropout(0.4), L(3, 3)], "bce_logits", Q),
        (X, [L(2, 3), xpnet.ReLU(), L(3, 3), xpnet.LeakyReLU(0.3), L(3, 3)], "huber", T),
        (X, [L(2, 3), xpnet.Sigmoid()], "bce", Q),
        (X[:3], [L(2, 3), xpnet.BatchNorm1d(3, affine=False), L(3, 3)], "mse", T[:3]),
        (X, [L(2, 3), xpnet.GELU("none"), xpnet.LayerNorm(3, bias=False), L(3, 3)], "mse", T),
        (X, [L(2, 3), xpnet.BatchNorm1d(3), xpnet.Dropout(0.5), L(3, 3)], "at rest", T),
    ):
        net = network(*layers)
        net.train(loss != "at rest")
        weight = [1, 2, 0, 3][: len(start)]
        report = xpnet.gradcheck(
            net,
            loss.replace("at rest", "mse"),
            start,
            t,
            sample_weight=weight,
            method="complex",
            tolerance=np.inf,
        )
        top = max(abs(entry.numerical) for entry in report.entries)
        off = max(abs(entry.analytic - entry.numerical) for entry in report.entries)
        assert off <= 1e-12 * top, f"{net}: off by {off}"


def check_overwriting(xp):
    net = network(L(2, 3), xpnet.LayerNorm(3), L(3, 2))
    X, dY = xp.asarray(numbers(4, 2)), xp.asarray(numbers(4, 2, seed=1))
    net.forward(X)
    assert net.backward(dY) is None
    first, params = np.array(xp.asnumpy(net.grads)), np.array(xp.asnumpy(net.params))
    xp.copyto(net.grads, 7)
    net.backward(dY)
    close(xp.asnumpy(net.grads), first, "a second backward", 0)
    close(xp.asnumpy(net.params), params, "parameters after backward", 0)


# ---- optimizers --------------------------------------------------------------------------------


def check_optimizers(xp):
    optimizers.rates.RATES_AHEAD = 3  # so that the table of rates is refilled
    try:
        for make, rule, options in OPTIMIZERS:
            _check_optimizer(xp, make, rule, options)
    finally:
        optimizers.rates.RATES_AHEAD = 1024


def _check_optimizer(xp, make, rule, options):
    """Eight steps of it against the rule; after five of them the network moves."""
    net = network(L(2, 2))
    optimizer = make(net, **options)
    p, memory, clip = np.array(xp.asnumpy(net.params)), {}, options.get("clip_norm")
    schedule = options["lr"] if callable(options["lr"]) else lambda t: options["lr"]
    for t in range(8):
        g = numbers(6, seed=t)
        xp.copyto(net.grads, xp.asarray(g))
        assert optimizer.lr == schedule(t)
        optimizer.step()
        if clip and sqrt((g**2).sum()) > clip:
            g = g * clip / sqrt((g**2).sum())
        decay = options.get("weight_decay", 0)
        if make is not xpnet.AdamW:
            g = g + decay * p
            decay = 0
        p = rule(p * (1 - schedule(t) * decay), g, schedule(t), t + 1, memory, options)
        close(xp.asnumpy(net.params), p, f"{make.__name__} {options}, step {t + 1}")
        close(xp.asnumpy(net.grads), numbers(6, seed=t), "the gradient after the step", 0)
        if t == 4:
            net.to(dtype="float64")


def sgd(p, g, lr, t, memory, options):
    mu = options.get("momentum", 0)
    memory["v"] = mu * memory.get("v", 0) + g
    return p - lr * (g + mu * memory["v"] if options.get("nesterov") else memory["v"])


def rmsprop(p, g, lr, t, memory, options):
    memory["s"] = options["rho"] * memory.get("s", 0) + (1 - options["rho"]) * g**2
    return p - lr * g / (np.sqrt(memory["s"]) + options["eps"])


def adam(p, g, lr, t, memory, options):
    b1, b2 = options["beta1"], options["beta2"]
    memory["m"] = b1 * memory.get("m", 0) + (1 - b1) * g
    memory["v"] = b2 * memory.get("v", 0) + (1 - b2) * g**2
    m, v = memory["m"] / (1 - b1**t), memory["v"] / (1 - b2**t)
    return p - lr * m / (np.sqrt(v) + options["eps"])


def falling(t):
    return 0.1 / (t + 1)


BETAS = {"beta1": 0.8, "beta2": 0.95, "eps": 0.01}
OPTIMIZERS = (
    (xpnet.SGD, sgd, {"lr": 0.1}),
    (xpnet.SGD, sgd, {"lr": falling, "momentum": 0.7}),
    (xpnet.SGD, sgd, {"lr": 0.1, "momentum": 0.7, "nesterov": True}),
    (xpnet.SGD, sgd, {"lr": 0.1, "weight_decay": 0.3}),
    (xpnet.SGD, sgd, {"lr": 0.1, "clip_norm": 2.0, "weight_decay": 0.3}),
    (xpnet.RMSprop, rmsprop, {"lr": falling, "rho": 0.8, "eps": 0.01}),
    (xpnet.Adam, adam, {"lr": 0.1, **BETAS}),
    (xpnet.Adam, adam, {"lr": 0.1, "weight_decay": 0.3, **BETAS}),
    (xpnet.AdamW, adam, {"lr": falling, "weight_decay": 0.3, **BETAS}),
)


def check_schedules(xp):
    for schedule, want in (
        (schedules.Step(0.5, 3, 0.1), lambda t: 0.5 * 0.1 ** (t // 3)),
        (schedules.Exponential(0.5, 0.9), lambda t: 0.5 * 0.9**t),
        (schedules.Cosine(0.5, 8, 0.1), lambda t: 0.1 + 0.2 * (1 + cos(pi * min(t / 8, 1)))),
        (
            schedules.WarmUp(schedules.Exponential(0.5, 0.9), 4),
            lambda t: 0.5 * (t + 1) / 4 if t < 4 else 0.5 * 0.9 ** (t - 4),
        ),
    ):
        close([schedule(t) for t in range(12)], [want(t) for t in range(12)], schedule)
    cycle = [schedules.OneCycle(0.5, 20)(t) for t in range(20)]
    close([cycle[0], cycle[5], cycle[19]], [0.02, 0.5, 2e-6], "OneCycle")
    assert (np.diff(cycle[:6]) > 0).all()
    assert (np.diff(cycle[5:]) < 0).all()


# ---- random numbers ----------------------------------------------------------------------------


def check_masks(xp):
    key, p = 0xF123456789ABCDEF, 0.3
    for dtype in (np.float64, np.float32):
        out, work = xp.empty((9, 1111), dtype), xp.zeros((2, 4096), np.uint64)
        keys = [xp.asarray(np.array([k], np.uint64)) for k in (key, 5)]
        xp.dropout_mask(*keys, out=out, keep=1 - p, work=work)
        mask = np.array(xp.asnumpy(out)).ravel()
        xp.dropout_mask(*keys, out=out, keep=1 - p, work=work, first=3333)
        close(np.array(xp.asnumpy(out)).ravel()[:6666], mask[3333:], "a piece of a mask", 0)
        for j in (*range(9), 4095, *range(4096, 4105), 8191, *range(8192, 8201), 9998):
            kept = _mask_bits(key, 5, j) < int(0.7 * 2**53)
            close(mask[j], kept / (1 - p), f"mask at {j}", 1e-6)
        assert abs((mask == 0).mean() - p) < 4 * sqrt(p * (1 - p) / mask.size)
        assert len(np.unique(mask)) == 2
    net = network(xpnet.Dropout(0.25))
    X = xp.asarray(np.ones((50, 80)))
    masks = [np.array(xp.asnumpy(net.forward(X))) for _ in range(2)]
    assert (masks[0] != masks[1]).mean() > 0.2
    for mask in masks:
        assert abs(mask.mean() - 1) < 0.05
        close(np.unique(mask), [0, 1 / 0.75], "values of a mask")
    with net.evaluating():
        close(xp.asnumpy(net.forward(X)), np.ones((50, 80)), "Dropout at rest", 0)


def _mask_bits(key, counter, j):
    """The generator in Python's whole numbers."""

    def mix(z):
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    return mix((mix((key + mix(counter)) % 2**64) + j * 0x9E3779B97F4A7C15) % 2**64) >> 11


def check_initial_weights(xp):
    for name, variance, limit in (
        ("glorot_uniform", 2 / 500, sqrt(6 / 500)),
        ("glorot_normal", 2 / 500, None),
        ("he_uniform", 2 / 200, sqrt(6 / 200)),
        ("he_normal", 2 / 200, None),
        ("lecun_normal", 1 / 200, None),
    ):
        W = find_initializer(name)(Random(3), (200, 300))
        assert abs(W.mean()) < 0.02 * sqrt(variance), name
        assert abs(W.var() / variance - 1) < 0.02, name
        top = np.abs(W).max()
        assert top > 3.5 * sqrt(variance) if limit is None else 0.999 * limit < top <= limit, name
    Q = find_initializer("orthogonal")(Random(3), (6, 4))
    close(Q.T @ Q, np.eye(4), "orthogonal")
    order = Random(3).permutation(100)
    assert sorted(order) == list(range(100))
    assert (order != np.arange(100)).sum() > 80
    net, other = (xpnet.Sequential(L(3, 3), L(3, 3), seed=seed) for seed in (4, 5))
    assert net.sha256() != other.sha256()
    assert (xp.asnumpy(net[0].W) != xp.asnumpy(net[1].W)).all()
    assert not xp.asnumpy(net[0].b).any()


# ---- networks ----------------------------------------------------------------------------------


def check_far_out(xp):
    """GELU is 1 and 0 there, without an infinity times 0."""
    for layer in (xpnet.GELU(), xpnet.GELU("none")):
        net, X = network(layer), xp.asarray(np.array([[1e200, -1e200, 45.0, -45.0]]))
        net.input_gradient = True
        close(xp.asnumpy(net.forward(X)) / [1e200, 1, 45, 1], [[1, 0, 1, 0]], layer)
        close(xp.asnumpy(net.backward(xp.asarray(np.ones((1, 4))))), [[1, 0, 1, 0]], layer)


def check_average(xp):
    """momentum=None weights all batches alike, and a batch of one has no variance."""
    layer = xpnet.BatchNorm1d(3, momentum=None)
    net, batches = network(layer), [numbers(4, 3, seed=k) for k in range(3)]
    for X in batches:
        net.forward(xp.asarray(X))
    mean = np.mean([X.mean(axis=0) for X in batches], axis=0)
    close(xp.asnumpy(layer.state["mean"])[0], mean, "plain average")
    for refused in (
        lambda: net.forward(xp.asarray(batches[0][:1])),
        lambda: xpnet.Trainer(net, "mse").fit(numbers(7, 3), numbers(7, 3), batch_size=3),
    ):
        try:
            refused()
        except xpnet.ShapeError:
            continue
        raise AssertionError("a batch of one sample is taken")


def check_batch_norm(xp):
    layer = xpnet.BatchNorm1d(3, momentum=0.3)
    net, mean, variance = network(layer), np.zeros(3), np.ones(3)
    for step in range(3):
        X = step + 2 * numbers(8, 3, seed=step)
        net.forward(xp.asarray(X))
        mean, variance = 0.7 * mean + 0.3 * X.mean(axis=0), 0.7 * variance + 0.3 * X.var(axis=0)
    close(xp.asnumpy(layer.state["mean"])[0], mean, "running mean")
    close(xp.asnumpy(layer.state["variance"])[0], variance, "running variance")
    gamma, beta = xp.asnumpy(net.params).reshape(2, 3)
    want = gamma * (X - mean) / np.sqrt(variance + 1e-5) + beta
    for _ in range(2):
        close(net.predict(X), want, "BatchNorm1d at rest")
    assert net.training
    assert layer.training


def check_network(xp):
    net = network(L(2, 3), xpnet.Tanh(), L(3, 1))
    X = numbers(2500, 2)
    Y = np.tanh(X @ xp.asnumpy(net[0].W) + xp.asnumpy(net[0].b)) @ xp.asnumpy(net[2].W)
    close(net.predict(X), Y + xp.asnumpy(net[2].b), "prediction")
    twin, before = net.copy(), np.array(xp.asnumpy(net.params))
    xp.copyto(twin.params, 0.0)
    assert not twin.predict(X).any()
    close(xp.asnumpy(net.params), before, "parameters of the first", 0)
    pixels = np.array([[0, 255], [51, 102]], np.uint8)
    close(net.predict(pixels), net.predict(np.array([[0, 1], [0.2, 0.4]])), "pixels")
    close(net.to(dtype="float32").predict(X), Y + before[-1], "in float32", 1e-6)
    assert net.params.dtype == np.float32


def check_changes(xp):
    """What a user assigns, changes, and does between two passes."""
    X, dY = numbers(6, 4), numbers(6, 2)
    net = network(L(4, 3), xpnet.Tanh(), L(3, 2)).to(xp)
    net[0].W = numbers(4, 3)
    close(xp.asnumpy(net.params)[:12], numbers(4, 3).ravel(), "what is assigned")
    net.forward(xp.asarray(X))
    net.backward(xp.asarray(dY))
    grads = np.array(xp.asnumpy(net.grads))
    net.forward(xp.asarray(X))
    net.predict(X[::-1])
    net.backward(xp.asarray(dY))
    close(xp.asnumpy(net.grads), grads, "the gradient after a prediction in between")
    net.predict(X[::-1])
    assert all(layer.training for layer in net), "the mode after a prediction"
    assert _refuses(lambda: net.backward(xp.asarray(dY))), "the buffers are those of a prediction"
    Y, optimizer = net.predict(X), xpnet.SGD(net)
    net.layers.append(xpnet.Softmax())
    close(net.predict(X), softmax(np.asarray(Y)), "the outputs of a changed network")
    assert _refuses(lambda: net.layers.pop(0)), f"{optimizer} has moments"
    assert _refuses(lambda: S(net[0])), "a layer of two networks"
    assert _refuses(lambda: setattr(net[0], "W", numbers(3, 4))), "another shape"


def _refuses(use):
    try:
        use()
    except xpnet.XpnetError:
        return True
    return False


def check_metrics(xp):
    """Labels of which several hold, the direction of a metric, and the loss of an epoch."""
    t = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 1.0]])
    close(xpnet.training.metrics.accuracy(t, t, independent=True), 1, "labels")
    script, early = iter([1.0, 3, 2]), xpnet.EarlyStopping("val_x")
    metric = xpnet.training.metrics.Metric(lambda t, Y: next(script), "max", "x")
    net = network(L(3, 1)).to(xp)
    trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, 1e-9), metrics=[metric])
    X, y = numbers(3, 3), numbers(3, 1)
    right = np.mean((np.asarray(net.predict(X)) - y) ** 2)
    data = {"validation_data": (X, y), "callbacks": [early]}
    history = trainer.fit(X, y, epochs=3, batch_size=2, **data)
    assert early.best == 3, "the best of a score"
    assert abs(history["loss"][0] / right - 1) < 1e-6, "the loss of an epoch"


def check_batches(xp):
    rows, pixels = np.arange(23.0).reshape(-1, 1), np.arange(46, dtype=np.uint8).reshape(23, 2)
    seen = []
    for shuffle in (False, True):
        columns = [xp.asarray(rows), xp.asarray(pixels)]
        batches = Batches(xp, columns, [np.float64, np.float64], 5, shuffle, seed=1)
        for epoch in (0, 1):
            batches.start(epoch)
            pieces = [[np.array(xp.asnumpy(a)) for a in batches.gather(n)] for n in batches.sizes()]
            x, k = (np.concatenate(column) for column in zip(*pieces, strict=True))
            assert sorted(x[:, 0]) == list(range(23)), "an epoch is not every sample once"
            close(k * 255, np.concatenate([2 * x, 2 * x + 1], axis=1), "pixels beside their row")
            assert (x[:, 0] != np.arange(23)).any() == shuffle
            seen.append(tuple(x[:, 0]))
    assert len(set(seen)) == 3, "two epochs, one order"


class Column:
    """A series of any library, whose values may be missing."""

    def __init__(self, values, missing=()):
        self.values, self.dtype, self.missing = np.array(values), np.dtype("f8"), missing

    def __array__(self, dtype=None, copy=None):
        return self.values

    def isna(self):
        return np.isin(np.arange(len(self.values)), self.missing)


def refused_data(look, *words):
    said = "nothing"
    try:
        look()
    except xpnet.DataError as error:
        said = str(error)
    assert all(word in said for word in words), f"{said} instead of {words}"


def check_data(xp):
    """The rule of docs/data.md: pixels, tables, objects, and what is missing."""
    net = S(L(2, 1, init="ones"), dtype="float64")
    pixels = np.array([[51, 204], [0, 102]], np.uint8)
    close(net.predict(pixels), [[1.0], [0.4]], "pixels")
    close(on_host(Column(pixels[0]), "t"), [51, 204], "a column")
    assert on_host(Column(pixels[0]), "t").dtype != np.uint8, "a column of pixels"
    close(net.predict(pixels.astype(object)), [[255.0], [102.0]], "objects")
    X = np.zeros((5000, 2))
    for row, value in ((4500, np.nan), (2, np.inf)):
        X[row, 1] = value
        refused_data(lambda: net.predict(X), f"X[{row}, 1] is {value}")
        refused_data(lambda: xpnet.Trainer(net, "mse").evaluate(X, X[:, 0]), f"X[{row}, 1]")
    single = S(L(2, 1), dtype="float32")
    refused_data(lambda: single.predict(np.array([[0, 1e39]])), "X[0, 1] is 1e+39")
    masked = np.ma.masked_array(np.zeros((3, 2)), np.eye(3, 2))
    refused_data(lambda: net.predict(masked), "at [0, 0] and at 1 more")
    refused_data(lambda: on_host([masked[0]], "X"), "X[0] is a masked array")
    refused_data(lambda: on_host(np.array([1, None]), "t"), "t has no value at [1]")
    refused_data(lambda: on_host(Column([1.0, 2.0], [1]), "t"), "no value in row 1")


def check_image_files(xp):
    """What the four files of a data set hold; gzip of many members."""
    images, labels = np.zeros((3, 2, 4), np.uint8), np.array([2, 0, 1])
    for form in (labels, labels[:, None], np.eye(3)[labels]):
        made = image_set([images, form, images, labels], [Path(f"file{k}") for k in range(4)])
        close(made.t_train, labels, "labels")
    packed = gzip.compress(b"abc") + bytes(3) + gzip.compress(b"def")
    assert Gunzip(BytesIO(packed)).read(9) == b"abcdef"


def check_labels(xp):
    labels, out = xp.asarray(np.array([2, 0, 3])), xp.empty((3, 4), np.float32)
    close(xp.asnumpy(xp.one_hot(labels, out=out)), np.eye(4)[[2, 0, 3]], "one_hot")
    t, Y = np.array([0, 1, 1]), np.array([[0.2], [0.4], [0.9]])
    assert xpnet.training.metrics.accuracy(t, Y) == 2 / 3
    assert xpnet.training.metrics.accuracy(t, Y, 0.3) == 1
    scores = np.array([[2, 1.0, 0], [0, 1, 3], [0, 5, 1]])
    assert xpnet.training.metrics.accuracy(np.array([0, 1, 1]), scores) == 2 / 3
    close(xpnet.training.metrics.rmse(np.array([1.0, 2]), np.array([[2.0], [5]])), sqrt(5), "rmse")
    close(xpnet.training.metrics.r2(np.array([1.0, 3]), np.array([[1.0], [2]])), 0.5, "r2")


# ---- training ----------------------------------------------------------------------------------


def check_training(xp):
    """Epochs of the trainer against steps by hand, in plain NumPy: Y = X W + b, mean square."""
    X, t, w = numbers(11, 2), numbers(11, 1, seed=1), np.arange(1, 12.0)
    for size, weight, first in ((4, None, 0), (4, w, 0), (None, w, 0), (4, w, 1)):
        net = xpnet.Sequential(L(2, 1), dtype="float64")
        W, b = net.state_dict()["0.W"], np.zeros(1)
        trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, 0.05, momentum=0.5))
        used = np.full(11, True)
        if first:  # a sample of weight 0 is not there
            weight = np.where(np.arange(11) < first, 0, w)
            used = weight > 0
        net.train(False)
        fit = {"epochs": 3, "batch_size": size, "shuffle": False, "sample_weight": weight}
        history = trainer.fit(X, t, **fit)
        assert net.training
        v, losses = [0, 0], []
        for _ in range(3):
            total = 0
            places = np.flatnonzero(used)
            for rows in np.split(places, range(size or 11, len(places), size or 11)):
                share = np.ones(len(rows)) if weight is None else weight[rows]
                every = 1 if weight is None else weight[used].mean()
                share = (share / (len(rows) * every))[:, None]
                e = X[rows] @ W + b - t[rows]
                total += (share * e**2).sum() * len(rows) / len(places)
                v = [0.5 * v[0] + X[rows].T @ (2 * share * e), 0.5 * v[1] + (2 * share * e).sum(0)]
                W, b = W - 0.05 * v[0], b - 0.05 * v[1]
            losses.append(total)
        close(xp.asnumpy(net[0].W), W, "W after training")
        close(xp.asnumpy(net[0].b), b, "b after training")
        close(history["loss"], losses, "the history of the loss")
    found = trainer.evaluate(X, t)
    close(found["loss"], ((X @ W + b - t) ** 2).mean(), "evaluation")


def check_shuffled_training(xp):
    """A network learns where the samples go with their targets; each epoch has its own order."""
    X, t = xpnet.data.logic.xor_gate()
    layers = L(2, 8), xpnet.Tanh(), xpnet.Dropout(0.1), L(8, 1)
    net = xpnet.Sequential(*layers, dtype="float64")
    trainer = xpnet.Trainer(net, "bce_logits", xpnet.Adam(net, 0.1), metrics="accuracy")
    orders = []
    gather = xp.gather

    def watched(data, order, position, **options):
        orders.append(tuple(xp.asnumpy(order)))
        return gather(data, order, position, **options)

    xp.gather = watched
    try:
        history = trainer.fit(X, t, epochs=100, batch_size=3, validation_data=(X, t))
    finally:
        del xp.gather
    assert len(orders) == 100 * 2 * 2
    assert len(set(orders)) > 10
    assert history["loss"][-1] < 0.2 * history["loss"][0]
    assert history["val_accuracy"][-1] == 1


class Stops(xpnet.Callback):
    """Breaks a training off in its sixth step."""

    def on_train_batch_begin(self, batch, logs):
        if self.trainer.optimizer.t == 5:
            raise InterruptedError


def check_resuming(xp):
    """A training goes on to the same bits; what differs, or is unknown in the file, is refused."""
    if xp is not BACKENDS[0]:
        return
    X, t = numbers(12, 2), numbers(12, 1, seed=1)

    def fit(*more, lr=0.1, X=X, seed=0, **options):
        net = S(L(2, 3), xpnet.Dropout(0.2), L(3, 1), dtype="float64")
        trainer = xpnet.Trainer(net, "mse", xpnet.Adam(net, lr=lr), seed=seed)
        stopping = xpnet.EarlyStopping("loss")
        trainer.fit(X, t, epochs=3, batch_size=4, callbacks=[stopping, *more], **options)
        return net.params, trainer.history["loss"], stopping.best

    def refuses(path, **options):
        try:
            fit(resume=path, **options)
        except xpnet.XpnetError as error:
            return isinstance(error, xpnet.CheckpointError)

    with TemporaryDirectory() as name:
        path = Path(name, "a.npz")
        folder = Path(name, "saved")
        with suppress(InterruptedError):
            fit(xpnet.Checkpoint(folder, every_steps=1), Stops())
        saved = sorted(folder.glob("*.npz"))[-1]
        for got, want in zip(fit(resume=saved), fit(), strict=True):
            close(got, want, "what a resumed training ends with", 0)
        for other in ({"lr": 0.2}, {"X": X + 1}, {"seed": 1}):
            assert refuses(saved, **other), other
            fit(resume=saved, override=["data" if k == "X" else k for k in other], **other)
        arrays, about = read_archive(saved)
        for wrong in (
            {"more": 1},
            {"changed": {"beta1": 2.0}},
            {"progress": about["progress"] | {"more": 1}},
            {"progress": about["progress"] | {"first_epoch": 2}},
            {"callbacks": {"EarlyStopping0": {"best": 1.0, "best_epoch": 1}}},
        ):
            write_archive(path, arrays, about | wrong)
            assert refuses(path), wrong
        for word, value in (("optimizer.q", X), ("more", X), ("optimizer.m", np.full(13, np.nan))):
            write_archive(path, arrays | {word: value}, about)
            assert refuses(path), word


# ---- several processes -------------------------------------------------------------------------


def check_processes(xp):
    """Three, some of them without a sample at times, do what one does; in any order of the sums."""
    if xp is not BACKENDS[0]:
        return
    t, w = np.arange(10) % 3, np.arange(10) + 0.5
    X = numbers(10, 3)
    kinds = L(3, 5), xpnet.BatchNorm1d(5), xpnet.Tanh(), xpnet.Dropout(0.25), L(5, 3)
    for size, weight, reproducible in ((4, None, False), (2, w, False), (None, None, True)):
        mode = xpnet.backend.find_backend("numpy", reproducible)
        dtype, exact = ("float32", 0) if reproducible else ("float64", 1e-12)

        def train(comm, size=size, weight=weight, mode=mode, dtype=dtype):
            layers = [type(k)(**k.config()) for k in kinds]
            net = S(*layers, dtype=dtype, backend=mode)
            sgd = xpnet.SGD(net, lr=0.5, clip_norm=1.0)
            trainer = xpnet.Trainer(net, "softmax_cross_entropy", sgd, comm=comm)
            rows = trainer.fit(
                *(X, t), epochs=2, batch_size=size, sample_weight=weight, validation_data=(X, t)
            )
            return np.array(net.params), np.array(net[1].state["mean"]), list(rows.values())

        alone = train(ALONE)
        for found in team(3, train, order=lambda values: values[::-1]):
            for got, want in zip(found, alone, strict=True):
                close(got, want, "several processes", exact)


def check_contract(xp):
    """Layers that hold the contract of a gradient are right; those that break it are refused."""
    if xp is not BACKENDS[0]:
        return
    X, t = numbers(8, contract_layers.WIDTH), np.arange(8) % 3
    for kind in contract_layers.KEEP_THE_CONTRACT:
        net = network(kind(), L(6, 3))
        assert xpnet.gradcheck(net, "mse", X, np.eye(3)[t], max_entries=5).ok, kind

    def gradient(comm, kind, n):
        net = S(kind(), L(6, 3), backend=xpnet.backend.find_backend("numpy", True))
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, lr=0.5), comm=comm)
        trainer.fit(X[:n], t[:n], epochs=1, batch_size=None)
        return np.array(net.grads)

    for kind in contract_layers.KEEP_THE_CONTRACT:
        alone = gradient(ALONE, kind, 5)
        for found in team(2, lambda comm, kind=kind: gradient(comm, kind, 5)):
            close(found, alone, kind, 0)
    refused = {**contract_layers.BREAK_THE_CONTRACT, contract_layers.TwelveRows: "rows per sample"}
    for kind, why in refused.items():
        n = {"FromASumOfItsOwn": 8, "TwelveRows": 7}.get(kind.__name__, 6)
        said = "nothing"
        try:
            team(2, lambda comm, kind=kind, n=n: gradient(comm, kind, n))
        except xpnet.ParallelError as error:
            said = str(error)
        assert why in said, f"{kind}: {said}"


def check_common_grid(xp):
    """Where large numbers cancel, the rest of the sum shows on which grid it was exact."""
    if xp is not BACKENDS[0]:
        return
    mode = xpnet.backend.find_backend("numpy", True)
    A = np.array([[2.0**30], [-(2.0**30)], [0.7 * 2.0**-18]], np.float32)

    def mean(comm):
        both, share = shared(mode, comm), comm.share(3)
        with both.over(share):
            return both.mean(A[share.first :][: share.rows], 0, out=np.empty(1, np.float32))

    alone = mode.mean(A, 0, out=np.empty(1, np.float32))
    assert 0 < alone[0] != A[2, 0] / 3
    for size in (2, 3):
        for found in team(size, mean):
            close(found, alone, "a sum of several processes", 0)


CHECKS = (
    check_layers,
    check_every_layer,
    check_losses,
    check_optimizers,
    check_gradients,
    check_overwriting,
    check_batch_norm,
    check_average,
    check_far_out,
    check_network,
    check_changes,
    check_batches,
    check_options,
    check_metrics,
    check_data,
    check_image_files,
    check_labels,
    check_training,
    check_resuming,
    check_masks,
    check_schedules,
    check_initial_weights,
    check_shuffled_training,
    check_processes,
    check_contract,
    check_common_grid,
)


def run() -> None:
    """Raise at the first mistake that is found."""
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        for check in CHECKS:
            for backend in BACKENDS:
                with xpnet.use_backend(backend) as xp:
                    check(xp)


if __name__ == "__main__":
    run()
    print("no mistake was found")
