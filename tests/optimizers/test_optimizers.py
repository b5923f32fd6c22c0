"""The optimizers: against PyTorch, over the table of rates, on the move, and in a warm step."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from strictxp import no_alloc, no_sync

import xpnet
from xpnet import schedules
from xpnet.backend import find_backend
from xpnet.optimizers import OPTIMIZERS, Optimizer, find_optimizer
from xpnet.optimizers.rates import RATES_AHEAD


def network(dtype="float64", seed=1, **options):
    layers = xpnet.Linear(3, 4), xpnet.Tanh(), xpnet.Linear(4, 2)
    return xpnet.Sequential(*layers, dtype=dtype, seed=seed, **options)


def gradients(n, size, seed=0):
    """n gradients of very different lengths, some values exactly 0."""
    rng = np.random.default_rng(seed)
    G = rng.standard_normal((n, size)) * 10.0 ** rng.uniform(-3, 1, (n, 1))
    return np.where(rng.uniform(size=G.shape) < 0.1, 0.0, G)


def walk(optimizer, gradients):
    """Take a step with each gradient; return the parameters after each."""
    net, path = optimizer.net, []
    for g in gradients:
        net.xp.copyto(net.grads, net.xp.asarray(g, net.dtype))
        optimizer.step()
        path.append(np.array(net.xp.asnumpy(net.params)))
    return np.array(path)


# --- The formulas ------------------------------------------------------------------------------

TORCH = {  # ours, PyTorch's name, and PyTorch's options
    "sgd": (lambda net, **o: xpnet.SGD(net, 0.05, **o), "SGD", {"lr": 0.05}),
    "momentum": (
        lambda net, **o: xpnet.SGD(net, 0.05, momentum=0.8, **o),
        "SGD",
        {"lr": 0.05, "momentum": 0.8},
    ),
    "nesterov": (
        lambda net, **o: xpnet.SGD(net, 0.05, momentum=0.8, nesterov=True, **o),
        "SGD",
        {"lr": 0.05, "momentum": 0.8, "nesterov": True},
    ),
    "rmsprop": (
        lambda net, **o: xpnet.RMSprop(net, 0.01, rho=0.95, eps=1e-4, **o),
        "RMSprop",
        {"lr": 0.01, "alpha": 0.95, "eps": 1e-4},
    ),
    "adam": (
        lambda net, **o: xpnet.Adam(net, 0.01, beta1=0.8, beta2=0.99, eps=1e-4, **o),
        "Adam",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-4},
    ),
    "adamw": (
        lambda net, **o: xpnet.AdamW(net, 0.01, beta1=0.8, beta2=0.99, eps=1e-4, **o),
        "AdamW",
        {"lr": 0.01, "betas": (0.8, 0.99), "eps": 1e-4},
    ),
}
DEFAULTS = {  # with nothing but the learning rate
    "sgd": (lambda net, **o: xpnet.SGD(net, 0.1, **o), "SGD", {"lr": 0.1}),
    "rmsprop": (lambda net, **o: xpnet.RMSprop(net, 1e-3, **o), "RMSprop", {"lr": 1e-3}),
    "adam": (lambda net, **o: xpnet.Adam(net, 1e-3, **o), "Adam", {"lr": 1e-3}),
    "adamw": (lambda net, **o: xpnet.AdamW(net, 1e-3, **o), "AdamW", {"lr": 1e-3}),
}
every_optimizer = pytest.mark.parametrize("name", TORCH)


@functools.cache
def torch_walk(name, decay, clip, defaults=False):
    """PyTorch's parameters after each of 50 steps."""
    torch = pytest.importorskip("torch", reason="PyTorch, the reference, is not installed")
    torch.set_num_threads(1)
    _, kind, options = (DEFAULTS if defaults else TORCH)[name]
    start = network(backend="numpy").params
    p = torch.nn.Parameter(torch.from_numpy(start.copy()))
    options = options | ({} if decay is None else {"weight_decay": decay})
    theirs, path = getattr(torch.optim, kind)([p], **options), []
    for g in gradients(50, p.numel()):
        p.grad = torch.from_numpy(g)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_([p], clip)
        theirs.step()
        path.append(p.detach().numpy().copy())
    return np.array(path)


@pytest.mark.thorough(but=["numpy-*"])
@every_optimizer
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_50_steps_are_those_of_pytorch(backend, name, decay):
    expected, net = torch_walk(name, decay, None), network()
    path = walk(TORCH[name][0](net, weight_decay=decay), gradients(50, net.size))
    np.testing.assert_allclose(path, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_those_of_pytorch(backend, name):
    expected, net = torch_walk(name, None, None, defaults=True), network()
    path = walk(DEFAULTS[name][0](net), gradients(50, net.size))
    np.testing.assert_allclose(path, expected, rtol=0, atol=1e-12)


@every_optimizer
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_50_clipped_steps_are_those_of_pytorch(backend, name, decay):
    """PyTorch shortens to clip·norm/(norm + 1e-6), so it agrees to about 1e-6."""
    expected, net = torch_walk(name, decay, 1.5), network()
    assert (abs(expected - torch_walk(name, decay, None)) > 1e-3).any()
    path = walk(TORCH[name][0](net, weight_decay=decay, clip_norm=1.5), gradients(50, net.size))
    np.testing.assert_allclose(path, expected, rtol=0, atol=2e-6)


@every_optimizer
def test_float32_stays_float32_and_follows_float64(backend, name):
    net = network("float32")
    optimizer = TORCH[name][0](net, weight_decay=0.1, clip_norm=1.5)
    path = walk(optimizer, gradients(50, net.size))
    double = walk(TORCH[name][0](network(), weight_decay=0.1, clip_norm=1.5),
                  gradients(50, net.size))  # fmt: skip
    assert path.dtype == np.float32
    kept = {k: v.dtype for k, v in optimizer.state_vectors().items() if k != "powers"}
    assert set(kept.values()) <= {np.dtype(np.float32)}
    np.testing.assert_allclose(path, double, rtol=0, atol=5e-5)


@pytest.mark.parametrize("length", [10.0, 2.0001, 2.0, 1.9999, 0.0])
def test_a_gradient_longer_than_clip_norm_is_shortened_to_it(backend, length):
    net = network()
    g = np.ones(net.size) / np.sqrt(net.size) * length
    before = np.array(backend.asnumpy(net.params))
    (after,) = walk(xpnet.SGD(net, 1.0, clip_norm=2.0), [g])
    assert np.linalg.norm(before - after) == pytest.approx(min(length, 2.0), rel=1e-14)
    if length < 2:
        np.testing.assert_array_equal(after, before - g)


def test_the_penalty_is_added_to_the_gradient_after_it_is_clipped(backend):
    net = network()
    before = np.array(backend.asnumpy(net.params))
    g = np.full(net.size, 7.0)
    (after,) = walk(xpnet.SGD(net, 0.5, weight_decay=3.0, clip_norm=2.0), [g])
    expected = before - 0.5 * (g * 2 / np.linalg.norm(g) + 3 * before)
    np.testing.assert_allclose(after, expected, rtol=1e-14, atol=1e-15)


@every_optimizer
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1, "clip_norm": 0.5}], ids=str)
def test_a_step_leaves_the_gradients_as_they_are(backend, name, options):
    net = network()
    optimizer, G = TORCH[name][0](net, **options), gradients(3, net.size)
    for g in G:
        walk(optimizer, [g])
        np.testing.assert_array_equal(backend.asnumpy(net.grads), g)


# --- The learning rate -------------------------------------------------------------------------


def rates(optimizer, steps):
    """The rate of each step, seen from outside: of p = 0 and g = 1 SGD makes -η."""
    net, taken = optimizer.net, []
    net.xp.copyto(net.grads, 1.0)
    for _ in range(steps):
        net.xp.copyto(net.params, 0.0)
        optimizer.step()
        taken.append(-float(net.params[0]))
    return taken


def schedule(t):
    """A different rate for each step."""
    return 1 / (t + 3)


def test_every_step_has_its_own_rate_beyond_the_table(backend):
    net = network()
    optimizer = xpnet.SGD(net, schedule)
    assert RATES_AHEAD == 1024
    taken = rates(optimizer, 2060)
    for t in (0, 1, *range(1020, 1031), *range(2044, 2060)):
        assert taken[t] == schedule(t), t
    assert taken == [schedule(t) for t in range(2060)]
    assert optimizer.t == 2060
    assert optimizer.lr == schedule(2060)


def test_a_schedule_set_on_the_way_goes_on_from_the_present_step(backend):
    optimizer = xpnet.SGD(network(), 0.25)
    assert rates(optimizer, 5) == [0.25] * 5
    optimizer.lr = schedule
    assert optimizer.lr == schedule(5)
    assert rates(optimizer, 1030) == [schedule(t) for t in range(5, 1035)]
    optimizer.lr = 0.5
    assert rates(optimizer, 2) == [0.5] * 2
    optimizer.lr = schedules.Constant(0.125)
    assert rates(optimizer, 2) == [0.125] * 2
    optimizer.lr = schedule
    assert rates(optimizer, 2) == [schedule(1039), schedule(1040)]


def test_lr_is_the_rate_of_the_next_step(backend):
    optimizer = xpnet.SGD(network(), schedules.Step(1.0, every=2, factor=0.5))
    assert repr(optimizer) == "SGD(lr=1)"
    for rate in (1.0, 1.0, 0.5, 0.5, 0.25):
        assert optimizer.lr == rate
        assert rates(optimizer, 1) == [rate]


@pytest.mark.parametrize("bad", [0, -0.1, float("nan"), float("inf"), "fast", None, [0.1]])
def test_a_bad_learning_rate_is_refused_and_the_old_one_stays(backend, bad):
    optimizer = xpnet.Adam(network(), 0.25)
    with pytest.raises(xpnet.OptionError, match="lr must be"):
        optimizer.lr = bad
    assert optimizer.lr == 0.25
    for made in OPTIMIZERS.values():
        with pytest.raises(xpnet.OptionError, match="lr must be"):
            made(optimizer.net, bad)


# --- Options and names -------------------------------------------------------------------------

AT_LEAST_0, FRACTION, POSITIVE = [-0.1, np.nan, np.inf, "x"], [-0.1, 1.0, np.nan, None], [0, -1]
BAD = {
    "momentum": ([xpnet.SGD], FRACTION),
    "rho": ([xpnet.RMSprop], FRACTION),
    "beta1": ([xpnet.Adam, xpnet.AdamW], FRACTION),
    "beta2": ([xpnet.Adam, xpnet.AdamW], FRACTION),
    "eps": ([xpnet.RMSprop, xpnet.Adam, xpnet.AdamW], [*POSITIVE, np.nan, "x"]),
    "weight_decay": ([xpnet.SGD, xpnet.RMSprop, xpnet.Adam, xpnet.AdamW], AT_LEAST_0),
    "clip_norm": ([xpnet.SGD, xpnet.RMSprop, xpnet.Adam, xpnet.AdamW], [*POSITIVE, np.inf, "x"]),
}


@pytest.mark.parametrize("option", BAD)
def test_bad_options_are_refused_by_name(option):
    net = network()
    for kind, value in itertools.product(*BAD[option]):
        with pytest.raises(xpnet.OptionError) as raised:
            kind(net, **{option: value})
        assert str(raised.value).startswith(f"{option} must be ")
        assert repr(value) in str(raised.value)
    assert not net.optimizers


def test_nesterov_needs_a_momentum():
    with pytest.raises(xpnet.OptionError, match=r"nesterov=True needs a momentum.*momentum=0\.9"):
        xpnet.SGD(network(), nesterov=True)


def test_optimizers_have_names(backend):
    G = gradients(5, network().size)
    same = {
        "sgd": xpnet.SGD,
        "momentum": lambda net, lr: xpnet.SGD(net, lr, momentum=0.9),
        "nesterov": lambda net, lr: xpnet.SGD(net, lr, momentum=0.9, nesterov=True),
        "rmsprop": xpnet.RMSprop,
        "adam": xpnet.Adam,
        "adamw": xpnet.AdamW,
    }
    assert same.keys() == OPTIMIZERS.keys()
    for name, kind in same.items():
        made = find_optimizer(name, network(), lr=0.02)
        np.testing.assert_array_equal(walk(made, G), walk(kind(network(), 0.02), G))
        assert find_optimizer(made, made.net) is made
    defaults = {name: find_optimizer(name, network()).lr for name in same}
    assert defaults == {
        **{"sgd": 0.1, "momentum": 0.1, "nesterov": 0.1},
        **{"rmsprop": 1e-3, "adam": 1e-3, "adamw": 1e-3},
    }


def test_what_is_no_optimizer_of_this_network_is_refused():
    net, other = network(), network()
    with pytest.raises(xpnet.OptionError, match="unknown optimizer 'adma'; did you mean 'adam'"):
        find_optimizer("adma", net)
    with pytest.raises(xpnet.OptionError, match=r"no optimizer: .*xpnet\.Adam\(net, lr=1e-3\)"):
        find_optimizer(xpnet.Adam, net)
    with pytest.raises(xpnet.OptionError, match=r"Adam\(lr=0\.001\) was made for another network"):
        xpnet.Trainer(net, "mse", xpnet.Adam(other))


class SignSGD(Optimizer):
    """p = p - η sign(g): an optimizer as a user writes it, with a state of its own."""

    def make_state(self):
        self.count = self.like(self.net.params)

    def state_vectors(self):
        return {"count": self.count}

    def update(self, p, g):
        self.xp.add(self.count, 1.0, out=self.count)
        self.xp.module.sign(g, out=self.work)
        self.xp.multiply(self.work, self.rate, out=self.work)
        self.xp.subtract(p, self.work, out=p)


def test_an_optimizer_of_ones_own(backend):
    net = network()
    assert SignSGD(net).lr == 0.01
    before = np.array(backend.asnumpy(net.params))
    optimizer = SignSGD(net, 0.5)
    (after,) = walk(optimizer, [np.arange(net.size) - 3.0])
    np.testing.assert_array_equal(after, before - 0.5 * np.sign(np.arange(net.size) - 3.0))
    assert float(net.to(dtype="float32").optimizers.pop().count[0]) == 1


# --- On the move -------------------------------------------------------------------------------

MOVERS = {name: functools.partial(case[0], weight_decay=0.1) for name, case in TORCH.items()}
MOVERS["schedule"] = lambda net: xpnet.Adam(net, schedules.Cosine(0.1, 20), clip_norm=1.0)
MOVERS["own"] = lambda net: SignSGD(net, schedules.Exponential(0.1, 0.9))
every_mover = pytest.mark.parametrize("name", MOVERS)


def moved(name, G, move, dtype="float64"):
    """The path of 10 steps, a move and 10 more steps."""
    net = network(dtype)
    optimizer = MOVERS[name](net)
    first = walk(optimizer, G[:10])
    move(net)
    assert optimizer.t == 10
    assert optimizer.xp is net.xp
    return np.concatenate([first, walk(optimizer, G[10:])])


@every_mover
def test_a_move_to_another_backend_and_back_changes_nothing(strict, name):
    G = gradients(20, network().size)
    numpy = find_backend("numpy")
    for here, there in [(strict, numpy), (numpy, strict)]:
        with xpnet.use_backend(here):
            path = moved(name, G, lambda net, a=there, b=here: net.to(a).to(b))
            np.testing.assert_array_equal(path, moved(name, G, lambda net: None))


@every_mover
def test_the_path_goes_on_on_the_other_backend(strict, name):
    """The backends round differently, so that the paths agree almost."""
    G = gradients(20, network().size)
    path = moved(name, G, lambda net: net.to("numpy"))
    np.testing.assert_allclose(path, moved(name, G, lambda net: None), rtol=0, atol=1e-12)


@every_mover
def test_a_change_of_type_keeps_what_the_optimizer_remembers(backend, name):
    G = gradients(20, network().size)
    stay = moved(name, G, lambda net: None)
    np.testing.assert_array_equal(moved(name, G, lambda net: net.to(dtype="float64")), stay)
    narrow = moved(name, G, lambda net: net.to(dtype="float32").to(dtype="float64"))
    np.testing.assert_allclose(narrow, stay, rtol=0, atol=1e-5)
    assert narrow.dtype == np.float64
    np.testing.assert_array_equal(narrow[:10], stay[:10])


def test_a_copy_of_a_network_has_no_optimizer(backend):
    net = network()
    optimizer = xpnet.SGD(net, 1.0)
    twin = net.copy()
    before = np.array(backend.asnumpy(twin.params))
    walk(optimizer, gradients(1, net.size))
    np.testing.assert_array_equal(backend.asnumpy(twin.params), before)
    assert not twin.optimizers


# --- A warm step -------------------------------------------------------------------------------


@every_mover
@pytest.mark.parametrize("lr", [0.1, schedules.Cosine(0.1, 1000)], ids=["constant", "schedule"])
def test_a_warm_step_makes_no_array_and_does_not_wait(strict, name, lr):
    optimizer = MOVERS[name](network())
    optimizer.lr = lr
    optimizer.step()
    before = np.array(strict.asnumpy(optimizer.net.params))
    strict.copyto(optimizer.net.grads, 1.0)
    with no_sync(), no_alloc():
        optimizer.step()
        optimizer.step()
    assert (strict.asnumpy(optimizer.net.params) != before).all()


def test_only_the_end_of_the_table_waits(strict):
    optimizer = xpnet.SGD(network(), schedule)
    with no_sync(), no_alloc():
        for _ in range(RATES_AHEAD):
            optimizer.step()
    optimizer.step()
    with no_sync(), no_alloc():
        optimizer.step()
