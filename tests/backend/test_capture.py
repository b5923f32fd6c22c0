"""A captured step does what the step does: the same bits, whatever order the device takes.

The CuPy backend runs on the strict stand-in, with its kernels compiled for the host; see
`strict_cupy`. On a GPU the same trainings run on the real thing.
"""

from __future__ import annotations

import gc
import logging
import math
import warnings

import numpy as np
import pytest
import strictxp
from sklearn.exceptions import ConvergenceWarning
from test_reproducible_kernels import ReproducibleCuPy

import xpnet
from xpnet import schedules
from xpnet.backend import find_backend
from xpnet.backend.reproducible import Reproducible
from xpnet.estimators import MLPClassifier
from xpnet.training.step import TrainingStep

STEPS = 200
N, WIDTH, CLASSES, BATCH = 83, 7, 3, 20  # four whole batches and a smaller one in an epoch
STEPS_PER_EPOCH = math.ceil(N / BATCH)
ORDERS = ["written", "aside last", "aside first", "random"]


# ---- the trainings -------------------------------------------------------------------------------


class Doubled(xpnet.Layer):
    """A layer of a user's, in array code that makes new arrays."""

    def forward(self, X):
        self.X = X
        return X + X

    def backward(self, dY):
        return dY + dY


def linear(*between):
    return lambda: [xpnet.Linear(WIDTH, 6), *(b() for b in between), xpnet.Linear(6, CLASSES)]


def sgd(**options):
    return lambda net: xpnet.SGD(net, 0.1, **options)


def adam(lr=1e-2, kind=xpnet.Adam, **options):
    return lambda net: kind(net, lr, **options)


COSINE = schedules.WarmUp(schedules.Cosine(0.02, 150), 20)
REAL, SOFTMAX = {"real": True}, "softmax_cross_entropy"
TRAININGS = {
    "adam": (linear(xpnet.ReLU), SOFTMAX, adam(), {}),
    "pixels": (linear(xpnet.ReLU, xpnet.Identity), SOFTMAX, adam(), {"pixels": True}),
    "float64": (linear(xpnet.Sigmoid), SOFTMAX, adam(), {"dtype": "float64"}),
    "momentum": (linear(xpnet.Tanh), SOFTMAX, sgd(momentum=0.9), {}),
    "nesterov": (linear(xpnet.GELU), "mse", sgd(momentum=0.9, nesterov=True), REAL),
    "rmsprop": (linear(xpnet.LeakyReLU), "huber", adam(kind=xpnet.RMSprop), REAL),
    "adamw": (linear(xpnet.ReLU, xpnet.Dropout), SOFTMAX, adam(COSINE, xpnet.AdamW), {}),
    "clip": (linear(xpnet.Tanh), SOFTMAX, adam(clip_norm=0.1, weight_decay=0.01), {}),
    "weights": (linear(xpnet.ReLU), SOFTMAX, sgd(), {"weights": True}),
    "weighted mse": (linear(xpnet.Sigmoid), "mse", sgd(), {"weights": True, **REAL}),
    "normalised": (
        lambda: [
            *(xpnet.Linear(WIDTH, 6, bias=False), xpnet.BatchNorm1d(6), xpnet.ReLU()),
            *(xpnet.BatchNorm1d(6, None, affine=False), xpnet.GELU("none")),
            *(xpnet.LayerNorm(6), xpnet.Linear(6, CLASSES), xpnet.Softmax()),
        ],
        *("cross_entropy", adam(COSINE), {}),
    ),
    "bce": (lambda: [*linear(xpnet.Tanh)(), xpnet.Sigmoid()], "bce", sgd(), REAL),
    "bce_logits": (linear(xpnet.Tanh), "bce_logits", sgd(), REAL),
    "nested": (
        lambda: [
            xpnet.Sequential(xpnet.Linear(WIDTH, 6), xpnet.ReLU(), xpnet.Dropout(0.2)),
            xpnet.Sequential(xpnet.Linear(6, 6), xpnet.Sigmoid()),
            xpnet.Linear(6, CLASSES),
        ],
        *(SOFTMAX, adam(), {}),
    ),
    "full batch": (linear(xpnet.ReLU), SOFTMAX, sgd(), {"batch_size": None}),
    "user's layer": (linear(Doubled), SOFTMAX, sgd(), {}),
    "two layers that make arrays": (
        lambda: [
            *(xpnet.Linear(WIDTH, 6), Doubled(), xpnet.Linear(6, 6), Doubled()),
            xpnet.Linear(6, CLASSES),
        ],
        *(SOFTMAX, sgd(), {}),
    ),
}


def data(pixels=False, real=False, weights=False, **_):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(N, WIDTH)).astype(np.float32)
    if pixels:
        X = rng.integers(0, 256, X.shape).astype(np.uint8)
    t = rng.uniform(size=(N, CLASSES)) if real else rng.integers(0, CLASSES, N)
    return X, t, rng.uniform(size=N) * rng.integers(0, 4, N) if weights else None


def trainer_of(name, xp):
    layers, loss, optimizer, options = TRAININGS[name]
    net = xpnet.Sequential(*layers(), seed=1, backend=xp, dtype=options.get("dtype", "float32"))
    return xpnet.Trainer(net, loss, optimizer(net))


def fit(trainer, name="adam", **options):
    settings = TRAININGS[name][3]
    X, t, weights = data(**settings)
    size = settings.get("batch_size", BATCH)
    epochs = STEPS if size is None else STEPS // STEPS_PER_EPOCH
    options = {"epochs": epochs, "batch_size": size, "sample_weight": weights, **options}
    return trainer.fit(X, t, **options)


def bits(trainer):
    """All that a training has made: losses, parameters, states, the optimizer's memory."""
    state, kept = trainer.net.state_dict(), trainer.optimizer.host_state()
    found = {**trainer.history, **state, **{f"optimizer {k}": v for k, v in kept.items()}}
    found["gradients"] = trainer.net.xp.asnumpy(trainer.net.grads)
    found["rate"] = trainer.net.xp.asnumpy(trainer.optimizer.rate)
    return {k: np.asarray(v).tobytes() for k, v in found.items()}


def eager(make, name, **options):
    xp = make()
    xp.captures = False
    trainer = trainer_of(name, xp)
    fit(trainer, name, **options)
    assert not xp.played.graphs
    return bits(trainer)


# ---- replay is the step --------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("name", TRAININGS)
def test_200_steps_as_graphs_have_the_bits_of_200_steps(make, name):
    wanted = eager(make, name)
    for order in ORDERS[1:]:  # the first one is that of the eager steps
        xp = make(order)
        trainer = trainer_of(name, xp)
        trainer.launch = 3
        fit(trainer, name)
        assert xp.played.graphs
        assert bits(trainer) == wanted, order


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "launch"),
    [("adam", 1), ("adam", 2), ("adam", 4), ("adam", 16), ("adamw", 5), ("normalised", 5)],
)
def test_the_number_of_steps_in_a_graph_does_not_matter(make, name, launch):
    trainer = trainer_of(name, make("aside last"))
    trainer.launch = launch
    fit(trainer, name)
    assert bits(trainer) == eager(make, name)


@pytest.mark.thorough
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_the_steps_of_an_estimator_are_captured(make, solver, weighted):
    """With the penalty, which depends on the weights of the batch."""
    X, t, weights = data(weights=weighted)
    found = set()
    for order in (*ORDERS, None):
        xp = make(order or "written")
        xp.captures = order is not None
        model = MLPClassifier(
            *((6,), "tanh"), solver=solver, alpha=0.5, dropout=0.1, batch_size=3, max_iter=8,
            backend=xp, random_state=0, tol=0, n_iter_no_change=7,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(X, t, weights)
        assert bool(xp.played.graphs) == xp.captures
        arrays = [*model.coefs_, *model.intercepts_, np.array(model.loss_curve_)]
        found.add(b"".join(a.tobytes() for a in arrays))
    assert len(found) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("reproducible", [False, True])
def test_200_steps_as_graphs_have_the_bits_of_200_steps_on_a_gpu(name, reproducible, monkeypatch):
    if reproducible and TRAININGS[name][3].get("dtype"):
        pytest.skip("reproducible mode takes float32")
    xp = find_backend("cupy", reproducible)
    found = []
    for captures, forks in ((True, True), (True, False), (False, True)):
        monkeypatch.setattr(xp.ordinary, "captures", captures)
        monkeypatch.setattr(xp.ordinary, "forks", forks)
        trainer = trainer_of(name, xp)
        trainer.launch = 3
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a capture that fails warns
            fit(trainer, name)
        graphs = getattr(trainer._steps.captured, "graphs", {})
        assert bool(graphs) == captures
        found.append(bits(trainer))
    assert found[0] == found[1] == found[2]


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["pixels", "adamw", "normalised", "weighted mse"])
def test_reproducible_mode_is_captured_too(make, mode_kernels, name):
    """Fused and as it is written, with the bits of NumPy."""
    trainer = trainer_of(name, Reproducible(find_backend("numpy")))
    fit(trainer, name, epochs=8)
    wanted = bits(trainer)
    for captures in (True, False):
        for fused in (True, False):
            xp = make("random")
            xp.captures = captures
            mode = ReproducibleCuPy(xp, xp.launcher(mode_kernels)) if fused else Reproducible(xp)
            mode.line_block = 64
            trainer = trainer_of(name, mode)
            fit(trainer, name, epochs=8)
            assert bool(xp.played.graphs) == captures
            assert bits(trainer) == wanted, (captures, fused)


# ---- when the captured steps are recorded anew ---------------------------------------------------


def sizes(xp):
    return [len(graph.nodes) for graph in xp.played.graphs]


@pytest.mark.thorough
def test_each_size_of_batch_and_each_number_of_steps_has_a_graph(make):
    xp = make()
    trainer = trainer_of("adam", xp)
    trainer.launch = 3
    fit(trainer)
    assert set(trainer._steps.captured.graphs) == {(20, 3), (20, 1), (3, 1)}
    graphs = trainer._steps.captured.graphs.values()
    three, one, last = (len(graph._graph.nodes) for graph in graphs)
    assert (three, last) == (3 * one, one)
    fit(trainer, batch_size=40)
    assert set(trainer._steps.captured.graphs) == {(40, 1), (3, 1)}


def test_a_step_of_the_mnist_network_is_few_kernels(make):
    """The longest chain of kernels is what a step takes; see ``bench/gpu.sh`` for microseconds."""
    xp = make()
    net = xpnet.Sequential(
        *(xpnet.Linear(784, 64), xpnet.ReLU(), xpnet.Linear(64, 32), xpnet.ReLU()),
        *(xpnet.Linear(32, 10),),
        backend=xp,
    )
    X = np.random.default_rng(0).integers(0, 256, (4, 784)).astype(np.uint8)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", "adam")
    trainer.fit(X, np.arange(4), epochs=2, batch_size=2)
    graph = xp.played.graphs[0]
    assert len(graph.nodes) <= 24
    assert graph.depth <= 14


class Bigger(xpnet.Callback):
    """In the middle of an epoch something runs that needs larger buffers."""

    def on_train_batch_end(self, batch, logs):
        if self.trainer.epoch == 2 and batch == 1:
            self.trainer.evaluate(*data()[:2])


class Rates(xpnet.Callback):
    """Sets what an optimizer looks at: a number, a schedule, and settings that are no arrays."""

    def on_epoch_begin(self, epoch, logs):
        optimizer = self.trainer.optimizer
        if epoch == 4:
            optimizer.lr = 0.003
        if epoch == 7:
            optimizer.lr = schedules.Exponential(0.01, 0.99)
        if epoch == 10:
            optimizer.beta1 = 0.5


class Weights(xpnet.Callback):
    def on_epoch_end(self, epoch, logs):
        if epoch == 5:
            net = self.trainer.net
            net.load_state_dict({k: 0.5 * v for k, v in net.state_dict().items()})


@pytest.mark.thorough
@pytest.mark.parametrize("callback", [Bigger, Rates, Weights])
def test_what_callbacks_do_takes_effect(make, callback):
    wanted = eager(make, "adam", callbacks=[callback()])
    trainer = trainer_of("adam", make("aside last"))
    fit(trainer, callbacks=[callback()])
    assert bits(trainer) == wanted
    assert wanted != eager(make, "adam") or callback is Bigger


@pytest.mark.thorough
def test_validation_with_larger_batches_than_those_of_the_training(make):
    validation = data()[:2]
    wanted = eager(make, "nested", validation_data=validation)
    xp = make("random")
    trainer = trainer_of("nested", xp)
    fit(trainer, "nested", validation_data=validation)
    assert bits(trainer) == wanted


@pytest.mark.thorough
def test_a_second_fit_on_other_data_a_larger_batch_and_in_another_type(make):
    found = []
    for captures in (True, False):
        xp = make("aside last")
        xp.captures = captures
        trainer = trainer_of("adam", xp)
        fit(trainer, epochs=6)
        X, t, _ = data()
        fit(trainer, epochs=6, batch_size=60)
        trainer.fit(X[::-1], t[::-1], epochs=6, batch_size=20)
        trainer.net.to(dtype="float64")
        fit(trainer, epochs=6)
        found.append(bits(trainer))
    assert found[0] == found[1]


@pytest.mark.thorough
@pytest.mark.parametrize("launch", [1, 3])
def test_the_table_of_rates_is_filled_again(make, monkeypatch, launch):
    wanted = eager(make, "adamw")
    monkeypatch.setattr(xpnet.optimizers.rates, "RATES_AHEAD", 7)
    trainer = trainer_of("adamw", make("aside last"))
    trainer.launch = launch
    fit(trainer, "adamw")
    assert bits(trainer) == wanted


def test_callbacks_between_steps_have_their_turn_after_each(make):
    seen = []

    class Watch(xpnet.Callback):
        def on_train_batch_end(self, batch, logs):
            seen.append((batch, float(self.trainer.net.xp.asnumpy(self.trainer.loss.value))))

    trainer = trainer_of("adam", make())
    fit(trainer, epochs=3, callbacks=[Watch()])
    assert [batch for batch, _ in seen] == [*range(STEPS_PER_EPOCH)] * 3
    shares = [20 / N] * 4 + [3 / N]
    mean = sum(loss * share for (_, loss), share in zip(seen[-5:], shares, strict=True))
    assert trainer.history["loss"][-1] == pytest.approx(mean, rel=1e-6)


def test_an_epoch_reads_from_the_device_once(make):
    xp = make()
    trainer = trainer_of("adamw", xp)
    reads = []

    class Count(xpnet.Callback):
        def on_epoch_end(self, epoch, logs):
            reads.append(xp.reads)

    fit(trainer, "adamw", callbacks=[Count()])
    assert set(np.diff(reads)) == {1}


@pytest.mark.parametrize("name", ["adam", "pixels", "normalised", "adamw", "weights", "full batch"])
def test_a_warm_step_allocates_nothing_and_waits_for_nothing(make, name, monkeypatch):
    """Neither as it is written nor while it is recorded."""
    xp = make()
    trainer, take = trainer_of(name, xp), TrainingStep.take
    warm = []

    def strict_take(self, size, number=1):
        if size not in warm:
            warm.append(size)
            return take(self, size, number)
        with strictxp.no_sync(), strictxp.no_alloc():
            return take(self, size, number)

    monkeypatch.setattr(TrainingStep, "take", strict_take)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(trainer, name, epochs=4)
        assert xp.played.graphs
        xp.captures = False
        fit(trainer, name, epochs=4)


# ---- what goes wrong -----------------------------------------------------------------------------


class Reader(xpnet.Layer):
    """A layer of a user's that looks at a value."""

    def forward(self, X):
        self.sign = 1.0 if float(self.xp.module.sum(X)) > 0 else -1.0
        return self.xp.multiply(X, self.sign, out=self.Y[: len(X)])

    def backward(self, dY):
        return self.xp.multiply(dY, self.sign, out=self.dX[: len(dY)])


def test_a_step_that_reads_from_the_device_runs_as_written_and_says_so_once(make, monkeypatch):
    layers = linear(Reader, xpnet.Dropout)
    monkeypatch.setitem(TRAININGS, "reader", (layers, "mse", adam(), {"real": True}))
    wanted, xp = eager(make, "reader"), make("aside last")
    trainer = trainer_of("reader", xp)
    with pytest.warns(RuntimeWarning, match=r"not be captured.*slower \(Synchronized: ") as caught:
        fit(trainer, "reader")
    assert len(caught) == 1
    assert caught[0].filename == xpnet.training.trainer.__file__
    assert bits(trainer) == wanted
    assert not xp.played.graphs


def test_the_memory_of_a_graph_goes_back_to_the_device_with_it(make):
    xp = make()
    a = xp.zeros(2, np.float32)
    step = xp.capture(lambda: xp.add(a, 1.0, out=a))
    step()
    step()
    assert xp.played.pools_freed == 0
    xp.renew()
    step()
    assert xp.played.pools_freed == 1


def test_nothing_is_collected_during_the_recording(make):
    """The end of a handle of cuBLAS waits for the device, which would break it."""
    xp, seen = make(), []
    step = xp.capture(lambda: seen.append(gc.isenabled()))
    for _ in range(3):
        step()
    assert seen == [True, False]
    assert gc.isenabled()


def test_no_handle_of_cublas_stays_on_a_stream_that_has_ended(make):
    xp = make()
    xp._gemm.stream = lambda: 1 if xp.played.stack else 0
    fit(trainer_of("adam", xp), epochs=2)
    assert xp.played.graphs
    assert set(xp._gemm._library.streams.values()) == {0}


def test_ctrl_c_during_the_recording_leaves_everything_usable(make, monkeypatch):
    xp = make()
    trainer = trainer_of("adam", xp)
    join, times = type(xp).join, []

    def interrupt(self):
        times.append(1)
        if len(times) == 8:
            raise KeyboardInterrupt
        join(self)

    with monkeypatch.context() as patch:
        patch.setattr(type(xp), "join", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fit(trainer)
    assert not xp.played.stack
    assert xp._now.recording is None
    fit(trainer)
    assert xp.played.graphs


@pytest.mark.thorough
def test_work_that_is_not_waited_for_would_be_seen(make, monkeypatch):
    """Without the place where the optimizer waits for dW the order matters."""
    wanted = eager(make, "adam")
    found = []
    for order in ("written", "aside last"):
        xp = make(order)
        monkeypatch.setattr(xp, "join", lambda: None)
        trainer = trainer_of("adam", xp)
        fit(trainer)
        found.append(bits(trainer))
    assert found[0] == wanted
    assert found[1] != wanted


def test_products_that_run_at_the_same_time_have_workspaces_of_their_own(make):
    xp, users = make(), {}
    cublas = xp._gemm._library
    multiply = cublas.cublasGemmEx

    def watched(handle, *arguments):
        if xp.played.stack:
            stream = xp.played.stack[-1]
            users.setdefault((handle.value, stream.capture), set()).add(stream)
        return multiply(handle, *arguments)

    cublas.cublasGemmEx = watched
    trainer = trainer_of("adam", xp)
    fit(trainer, epochs=2, batch_size=BATCH + 1)
    assert xp.played.graphs
    assert len(users) == 2 * len(xp.played.graphs)
    assert {len(streams) for streams in users.values()} == {1}


@pytest.mark.thorough
def test_long_sums_that_run_at_the_same_time_have_scratch_of_their_own(make):
    """A sum of more than 1024 numbers is made of parts, which are kept somewhere in between."""
    found = []
    for order in ORDERS:
        xp = make(order)
        A, B = (xp.asarray(np.random.default_rng(k).normal(size=5000)) for k in (1, 2))
        a, b = xp.zeros((), np.float64), xp.zeros((), np.float64)

        def step(xp=xp, A=A, B=B, a=a, b=b):
            with xp.off_path():
                xp.sum(A, out=a)
            xp.sum(B, out=b)
            xp.join()

        captured = xp.capture(step)
        for _ in range(4):
            captured()
        assert xp.played.graphs
        found.append([float(xp.asnumpy(x)) for x in (a, b)])
    assert all(values == found[0] for values in found)
    assert found[0] == pytest.approx([A._host.sum(), B._host.sum()], rel=1e-12)


def test_a_python_number_stays_what_it_was(make):
    """Which is why rates, counters and places are arrays."""
    xp = make()
    total, numbers = xp.zeros(1, np.float32), iter(range(1, 9))
    step = xp.capture(lambda: xp.add(total, next(numbers), out=total))
    for _ in range(4):
        step()
    assert xp.asnumpy(total).tolist() == [1 + 2 + 2 + 2]


def test_what_is_done_aside_outside_a_recording_is_done_at_once(make):
    xp = make()
    a = xp.zeros(2, np.float32)
    with xp.off_path():
        xp.add(a, 1.0, out=a)
    xp.join()
    assert xp.asnumpy(a).tolist() == [1, 1]


def test_on_numpy_a_captured_step_is_the_step():
    xp = find_backend("numpy")

    def step():
        pass

    assert xp.capture(step) is step
    assert not xp.captures
    with xp.off_path():
        xp.join()
    xp.renew()


def test_the_first_capture_is_said_once(make, caplog):
    xp = make()
    with caplog.at_level(logging.INFO, logger="xpnet"):
        fit(trainer_of("adam", xp))
        fit(trainer_of("adam", xp))
    (record,) = caplog.records
    assert "captured the step in" in record.message
    assert record.levelno == logging.INFO
