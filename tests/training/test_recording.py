"""Recorder: which moments it keeps and what of them; FrameFile and read_frames."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import numpy as np
import pytest
from test_training import At, interrupt

import xpnet
from xpnet import DataError, OptionError, Recorder, Trainer
from xpnet.training import recording
from xpnet.training.recording import FrameFile, read_frames

rng = np.random.default_rng(0)
X = rng.standard_normal((20, 2))
T = X[:, :1] * X[:, 1:]


def network(*, rich=True, dtype="float32"):
    """A network whose prediction needs a running mean, and that has a state of whole numbers."""
    inner = [xpnet.Sequential(xpnet.BatchNorm1d(4), xpnet.Tanh()), xpnet.Dropout(0.25)]
    layers = xpnet.Linear(2, 4), *(inner if rich else [xpnet.Tanh()]), xpnet.Linear(4, 1)
    return xpnet.Sequential(*layers, dtype=dtype, seed=1)


def trainer(**options):
    net = network(**options)
    return Trainer(net, "mse", xpnet.Adam(net, 0.01))


class Diary(xpnet.Callback):
    """Keeps everything after every step, which is what no recorder would do."""

    def __init__(self):
        self.states = {}

    def on_train_begin(self, logs):
        self.states.setdefault(float(self.trainer.epoch), self.trainer.net.state_dict())

    def on_train_batch_end(self, batch, logs):
        now = self.trainer.epoch + (batch + 1) / self.trainer.steps_per_epoch
        self.states[now] = self.trainer.net.state_dict()


def fitted(frames=100, *more, epochs=3, batch_size=5, net=None):
    """A trainer with its recorder and its diary after some epochs of 4 steps."""
    made, recorder, diary = trainer(**(net or {})), Recorder(frames), Diary()
    callbacks = [diary, recorder, *more]
    made.fit(X, T, epochs=epochs, batch_size=batch_size, callbacks=callbacks)
    return made, recorder, diary


def equal(a, b):
    """Two state dicts with the same bits."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype
        np.testing.assert_array_equal(value, b[name], name)


def trained(state):
    """The part of a state that training or BatchNorm1d changes: not the counter of the masks."""
    return {name: value for name, value in state.items() if value.dtype.kind == "f"}


def faithful(recorder, diary):
    """Every moment is there once, in order, with what the network was at that moment."""
    assert recorder.epochs == sorted(set(recorder.epochs))
    assert len(recorder.values) == len(recorder.epochs) > 0
    for k, epoch in enumerate(recorder.epochs):
        equal(trained(recorder.network(k).state_dict()), trained(diary.states[epoch]))


# ---- the moments ------------------------------------------------------------------------------


def due(frames, epochs, steps):
    """The first step at or after each moment (k/n)^1.5 of the training, in epochs; exactly."""
    whole, n = epochs * steps, frames - 1
    after = {
        next(step for step in range(whole + 1) if step**2 * n**3 >= whole**2 * k**3)
        for k in range(frames)
    }
    return [step / steps for step in sorted(after)]


@pytest.mark.parametrize(
    ("frames", "epochs", "batch_size", "expected"),
    [
        (5, 64, None, [0, 8, 23, 42, 64]),  # 64 (1/4)^1.5 = 8, 64 (1/2)^1.5 = 22.6, ...
        (2, 3, 5, [0, 3]),
        (100, 2, 7, [0, 1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2]),  # fewer steps than frames
        (3, 1, None, [0, 1]),
        (7, 5, 5, due(7, 5, 4)),
        (20, 30, 5, due(20, 30, 4)),
    ],
)
def test_the_moments_are_denser_at_the_beginning(frames, epochs, batch_size, expected):
    _, recorder, diary = fitted(frames, epochs=epochs, batch_size=batch_size)
    assert recorder.epochs == pytest.approx(expected, abs=1e-12)
    faithful(recorder, diary)


def test_each_moment_has_the_values_of_the_network_then(backend):
    made, recorder, diary = fitted(8)
    assert recorder.epochs[0] == 0
    assert recorder.epochs[-1] == 3
    assert 2 < len(recorder.epochs) <= 8
    faithful(recorder, diary)
    equal(trained(recorder.network(-1).state_dict()), trained(made.net.state_dict()))
    assert recorder.network(-1).xp is made.net.xp


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_the_parameters_and_behind_them_the_running_means(dtype):
    made, recorder, _ = fitted(net={"dtype": dtype})
    state = made.net.state_dict()
    last = recorder.values[-1]
    assert last.dtype == dtype
    np.testing.assert_array_equal(last[: made.net.size], made.net.params)
    rest = [state["1.0.mean"].ravel(), state["1.0.variance"].ravel()]
    np.testing.assert_array_equal(last[made.net.size :], np.concatenate(rest))
    assert (recorder.values[0] != last).sum() > made.net.size  # not the same array again and again


def test_a_device_that_takes_many_steps_at_once_is_recorded_after_them():
    """As with CUDA graphs: the batch that a callback hears of is the last of some."""
    net = network(rich=False)
    recorder = Recorder(frames=50)
    recorder.trainer = SimpleNamespace(
        net=net, epoch=0, batch=0, first_epoch=0, epochs=1, steps_per_epoch=100, resumed=False
    )
    recorder.on_train_begin({})
    heard = [15, 16, 17, 40, 99]
    for batch in heard:
        recorder.on_train_batch_end(batch, {})
    recorder.trainer.epoch = 1
    recorder.on_train_end({})
    # After 0.16 the next moments are (15/49)^1.5 = 0.169 and 0.187, which step 18 does not reach.
    assert recorder.epochs == [0, 0.16, 0.17, 0.41, 1]


def test_a_recorder_lets_a_device_take_many_steps_at_once():
    made, _, _ = fitted()
    assert made._between_steps  # the diary
    made.fit(X, T, epochs=1, callbacks=[Recorder()])
    assert not made._between_steps


@pytest.mark.parametrize(("dtype", "n"), [("float32", 6), ("float64", 3)])
def test_large_networks_have_fewer_moments(monkeypatch, dtype, n):
    size = network().size + 8  # with the means and variances
    monkeypatch.setattr(recording, "LIMIT", 6 * 4 * size + 3)
    _, recorder, _ = fitted(epochs=10, net={"dtype": dtype})
    assert len(recorder.epochs) == n
    assert sum(values.nbytes for values in recorder.values) <= recording.LIMIT
    monkeypatch.setattr(recording, "LIMIT", 1)
    _, recorder, diary = fitted(epochs=10)
    assert recorder.epochs == [0, 10]
    faithful(recorder, diary)


def test_the_limit_is_64_mb_and_the_default_100_moments():
    assert recording.LIMIT == 64e6
    assert Recorder().frames == 100


def test_a_network_without_parameters_has_moments_too():
    made, recorder = Trainer(xpnet.Sequential(xpnet.Tanh()), "mse", "sgd"), Recorder()
    made.fit(X, X, epochs=2, batch_size=None, callbacks=[recorder])
    assert recorder.epochs == [0, 1, 2]
    np.testing.assert_array_equal(recorder.network(1).predict(X), made.net.predict(X))


@pytest.mark.parametrize("frames", [1, 0, -3, 2.5, True, "many", None])
def test_a_bad_number_of_frames_is_refused(frames):
    with pytest.raises(OptionError, match="Recorder: frames must be a whole number, 2 or more"):
        Recorder(frames)


# ---- more than one fit, and ends of all kinds ----------------------------------------------------


def test_a_second_fit_goes_on_and_does_not_repeat_the_moment_between(backend):
    made, recorder, diary = fitted(4)
    first = list(recorder.epochs)
    made.fit(X, T, epochs=2, batch_size=5, callbacks=[diary, recorder])
    assert recorder.epochs[: len(first)] == first
    assert recorder.epochs[len(first) :] == [3 + e for e in due(4, 2, 4)[1:]]
    faithful(recorder, diary)


def test_what_another_trainer_did_is_forgotten():
    _, recorder, _ = fitted(epochs=2)
    before, other, diary = recorder.values, trainer(rich=False), Diary()
    other.fit(X, T, epochs=1, batch_size=5, callbacks=[diary, recorder])
    assert recorder.epochs == [0, 0.25, 0.5, 0.75, 1]
    faithful(recorder, diary)
    assert len(before) == 9  # who has kept the list has it still


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("frames", [2, 5, 100])
def test_ctrl_c_in_the_middle_of_an_epoch(backend, frames):
    made, recorder, diary = trainer(), Recorder(frames), Diary()
    callbacks = [diary, recorder, At("train_batch_begin", interrupt, 7)]
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, T, epochs=3, batch_size=5, callbacks=callbacks)
    assert recorder.epochs[0] == 0
    assert recorder.epochs[-1] == 1.75
    equal(trained(recorder.network(-1).state_dict()), trained(made.net.state_dict()))
    faithful(recorder, diary)
    first = list(recorder.epochs)
    # Epoch 1 is taken once more: what lies before 1.75 has its moments already.
    made.fit(X, T, epochs=2, batch_size=5, callbacks=[recorder])
    assert recorder.epochs[: len(first)] == first
    assert recorder.epochs == sorted(set(recorder.epochs))
    assert recorder.epochs[-1] == 3
    equal(trained(recorder.network(-1).state_dict()), trained(made.net.state_dict()))


@pytest.mark.thorough(but=["1-*", "5-*"])
@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize("frames", [2, 5, 9, 100])
@pytest.mark.parametrize("step", range(1, 9))
def test_a_training_that_goes_on_has_the_moments_of_one_that_did_not_stop(tmp_path, frames, step):
    """Not that of Ctrl-C, and nothing that came after the checkpoint: the last or an older one."""
    whole, path = fitted(frames, epochs=2)[1], tmp_path / "frames.bin"
    made, recorder, file = trainer(), Recorder(frames), FrameFile(path, frames)
    saved = xpnet.Checkpoint(tmp_path, every_steps=3)
    fit = {"epochs": 2, "batch_size": 5}
    with pytest.raises(KeyboardInterrupt):
        made.fit(
            X, T, **fit,
            callbacks=[saved, recorder, file, At("train_batch_begin", interrupt, step)],
        )  # fmt: skip
    assert recorder.epochs[-1] == step / 4
    data = path.read_bytes()
    for checkpoint in reversed(saved.paths):
        path.write_bytes(data + b"cut off")
        fresh, again = trainer(), FrameFile(path, frames)
        fresh.fit(X, T, **fit, callbacks=[again], resume=checkpoint)
        made.fit(X, T, **fit, callbacks=[recorder], resume=checkpoint)
        found = read_frames(path, fresh)
        assert again.epochs == found.epochs == recorder.epochs == whole.epochs
        np.testing.assert_array_equal(found.values, whole.values)
        np.testing.assert_array_equal(recorder.values, whole.values)


def test_who_begins_to_record_in_the_middle_has_the_rest(tmp_path):
    whole, made, saved = fitted(9)[1], trainer(), xpnet.Checkpoint(tmp_path, every_steps=5)
    made.fit(X, T, epochs=3, batch_size=5, callbacks=[saved])
    path = tmp_path / "frames.bin"
    for step in (10, 5):  # the second time from an older one, which no moment has come before
        fresh, file = trainer(), FrameFile(path, 9)
        checkpoint = tmp_path / f"step-{step:09d}.npz"
        fresh.fit(X, T, epochs=3, batch_size=5, callbacks=[file], resume=checkpoint)
        rest = [epoch for epoch in whole.epochs if epoch > step / 4]
        assert read_frames(path, fresh).epochs == file.epochs == [step / 4, *rest]


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_before_the_first_step_leaves_one_moment(tmp_path):
    def twice(made):
        interrupt(made)
        interrupt(made)

    made, recorder = trainer(), Recorder()
    with pytest.raises(KeyboardInterrupt):
        made.fit(X, T, callbacks=[recorder, At("epoch_begin", twice)])
    assert recorder.epochs == [0]


def test_early_stopping_ends_it_at_the_last_step(backend):
    stopping = xpnet.EarlyStopping("loss", patience=2, min_delta=1e9)
    made, recorder, diary = fitted(5, stopping, epochs=30)
    assert made.epoch == 3
    assert recorder.epochs[-1] == 3
    faithful(recorder, diary)
    # EarlyStopping, called later, has brought back other weights.
    assert (recorder.values[-1][: made.net.size] != made.net.xp.asnumpy(made.net.params)).any()


@pytest.mark.parametrize("frames", [4, 100])
def test_before_a_divergence_all_is_finite_and_in_order(backend, frames):
    net = network(rich=False)
    made, recorder, diary = Trainer(net, "mse", xpnet.SGD(net, 0.01)), Recorder(frames), Diary()
    hot = At("train_batch_begin", lambda made: setattr(made.optimizer, "lr", 1e30), 7)
    with pytest.raises(xpnet.DivergenceError):
        made.fit(X, T, epochs=5, batch_size=5, callbacks=[diary, recorder, hot])
    assert all(np.isfinite(values).all() for values in recorder.values)
    faithful(recorder, diary)
    if frames == 100:  # every step was a moment
        finite = [
            epoch
            for epoch, state in diary.states.items()
            if all(np.isfinite(a).all() for a in state.values())
        ]
        assert recorder.epochs == finite


@pytest.mark.parametrize(("value", "what"), [(np.nan, "mean"), (np.inf, "W"), (-np.inf, "b")])
def test_values_that_are_not_finite_are_never_kept(value, what):
    """They come after the sixth step, and are gone before the seventh."""

    def spoil(made):
        place = made.net[1][0].state["mean"][0] if what == "mean" else getattr(made.net[3], what)
        kept.append(made.net.state_dict())
        place[0] = value

    kept = []
    recorder, diary, made = Recorder(), Diary(), trainer()
    callbacks = [diary, At("train_batch_end", spoil, 6), recorder]
    back = At("train_batch_end", lambda made: made.net.load_state_dict(kept[0]), 6)
    made.fit(X, T, epochs=3, batch_size=5, callbacks=[*callbacks, back])
    assert recorder.epochs == [k / 4 for k in range(13) if k != 6]
    faithful(recorder, diary)


def test_a_training_that_is_recorded_has_the_same_bits(backend, tmp_path):
    plain = trainer()
    plain.fit(X, T, epochs=3, batch_size=5)
    for recorder in (Recorder(7), FrameFile(tmp_path / "frames.bin", 7)):
        made = trainer()
        made.fit(X, T, epochs=3, batch_size=5, callbacks=[recorder])
        equal(made.net.state_dict(), plain.net.state_dict())
        assert made.history == plain.history


# ---- the networks -----------------------------------------------------------------------------


def test_a_network_of_a_moment_predicts_as_the_network_did(backend):
    made, recorder = trainer(), Recorder(5)
    seen = []

    class Looks(xpnet.Callback):
        def on_train_batch_end(self, batch, logs):
            if batch == 3:
                seen.append(made.net.predict(X))

    made.fit(X, T, epochs=3, batch_size=5, callbacks=[Recorder(), Looks(), recorder])
    before, params, training = made.net.state_dict(), made.net.params, made.net.training
    k = recorder.epochs.index(3)
    np.testing.assert_array_equal(recorder.network(k).predict(X), seen[2])
    assert (recorder.network(0).predict(X) != seen[2]).any()
    assert recorder.network(0) is not made.net
    equal(made.net.state_dict(), before)
    assert made.net.params is params
    assert made.net.training is training
    made.fit(X, T, epochs=1)  # and trains on
    assert (made.net.state_dict()["0.W"] != before["0.W"]).any()


def test_networks_are_all_moments_in_order_in_one_object():
    made, recorder, diary = fitted(5)
    for epoch, net in zip(recorder.epochs, recorder.networks(), strict=True):
        equal(trained(net.state_dict()), trained(diary.states[epoch]))
        assert net is recorder.network(0)
    assert net is not made.net


def test_a_network_that_has_been_moved_is_copied_anew():
    made, recorder, _ = fitted()
    assert recorder.network(0).dtype == "float32"
    made.net.to(dtype="float64")
    made.fit(X, T, epochs=1, batch_size=5, callbacks=[recorder])
    assert recorder.network(-1).dtype == "float64"
    np.testing.assert_array_equal(recorder.network(-1).params, made.net.params)
    np.testing.assert_array_equal(recorder.network(0).params, recorder.values[0][: made.net.size])


# ---- files ------------------------------------------------------------------------------------


def recorded(path, frames=100, **net):
    """A training with a recorder in memory beside the one that writes."""
    made, recorder = trainer(**net), Recorder(frames)
    made.fit(X, T, epochs=3, batch_size=5, callbacks=[recorder, FrameFile(path, frames)])
    return made, recorder


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_file_has_the_moments_bit_for_bit(backend, tmp_path, dtype):
    path = tmp_path / "frames.bin"
    made, recorder = recorded(path, 6, dtype=dtype)
    fresh = trainer(dtype=dtype)
    state = fresh.net.state_dict()
    found = read_frames(path, fresh)
    assert found.epochs == recorder.epochs
    assert all(type(epoch) is float for epoch in found.epochs)
    for a, b in zip(found.values, recorder.values, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_array_equal(a, b)
    equal(trained(found.network(-1).state_dict()), trained(made.net.state_dict()))
    equal(fresh.net.state_dict(), state)
    assert found.trainer is fresh


@pytest.mark.parametrize(("dtype", "letter"), [("float32", "f"), ("float64", "d")])
def test_a_file_is_little_endian(tmp_path, dtype, letter):
    path = tmp_path / "frames.bin"
    _, recorder = recorded(path, 3, dtype=dtype)
    form = f"<d{len(recorder.values[0])}{letter}"
    frames = [*struct.iter_unpack(form, path.read_bytes())]
    assert [epoch for epoch, *_ in frames] == recorder.epochs
    assert [values for _, *values in frames] == [list(values) for values in recorder.values]


def test_each_moment_is_in_the_file_at_once(tmp_path):
    path = tmp_path / "frames.bin"
    made, file = trainer(), FrameFile(path)
    moments = []

    class Looks(xpnet.Callback):
        def on_train_batch_end(self, batch, logs):
            moments.append(read_frames(path, made).epochs)

    def fail(made):
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        made.fit(X, T, batch_size=5, callbacks=[file, Looks(), At("train_batch_end", fail, 6)])
    assert moments == [[k / 4 for k in range(n + 1)] for n in range(1, 7)]
    assert file.values == []  # they are in the file, not in memory
    assert file.epochs == read_frames(path, made).epochs


def test_a_second_fit_goes_on_in_the_file(tmp_path):
    made, file, recorder = trainer(), FrameFile(tmp_path / "frames.bin"), Recorder()
    for _ in range(2):
        made.fit(X, T, epochs=2, batch_size=5, callbacks=[file, recorder])
    assert read_frames(file.path, made).epochs == recorder.epochs == [k / 4 for k in range(17)]


def test_a_last_frame_that_is_cut_off_is_left_out_wherever_it_is_cut(tmp_path):
    path, cut = tmp_path / "frames.bin", tmp_path / "cut.bin"
    made, recorder = recorded(path, 3, rich=False)
    data, size = path.read_bytes(), 8 + recorder.values[0].nbytes
    assert len(data) == 3 * size
    for missing in range(1, size + 1):
        cut.write_bytes(data[:-missing])
        found = read_frames(cut, made)
        assert found.epochs == recorder.epochs[:2]
        np.testing.assert_array_equal(found.values, recorder.values[:2])
    for kept in (0, 1, size - 1):
        cut.write_bytes(data[:kept])
        found = read_frames(cut, made)
        assert (found.epochs, found.values) == ([], [])


def frame(epoch, *values):
    return struct.pack(f"<d{len(values)}f", epoch, *values)


GOOD = [frame(0, 1, 2, 3), frame(1, 1, 2, 3), frame(2, 4, 5, 6)]
DAMAGED = {
    "noise": np.random.default_rng(1).bytes(2000),
    "text": b"epoch,loss\n" * 50,
    "a time twice": GOOD[0] + GOOD[1] + GOOD[1],
    "times that fall": GOOD[0] + GOOD[2] + GOOD[1],
    "a time that is no number": GOOD[0] + frame(np.nan, 1, 2, 3) + GOOD[2],
    "no number in the only time": frame(np.nan, 1, 2, 3),
    "an endless time": GOOD[0] + frame(np.inf, 1, 2, 3),
    "a value that is no number": GOOD[0] + frame(1, 1, np.nan, 3) + GOOD[2],
    "an endless value": GOOD[0] + frame(1, 1, 2, -np.inf),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_no_such_file_is_refused_by_name(tmp_path, case):
    path = tmp_path / "frames.bin"
    made = Trainer(xpnet.Sequential(xpnet.Linear(2, 1)), "mse")
    path.write_bytes(b"".join(GOOD))
    assert read_frames(path, made).epochs == [0, 1, 2]
    path.write_bytes(DAMAGED[case])
    with pytest.raises(DataError, match=r"frames\.bin is damaged, or belongs to another network"):
        read_frames(path, made)


@pytest.mark.parametrize("other", [{"rich": False}, {"dtype": "float64"}])
def test_the_file_of_another_network_is_refused(tmp_path, other):
    path = tmp_path / "frames.bin"
    recorded(path)
    with pytest.raises(DataError, match=r"frames\.bin"):
        read_frames(path, trainer(**other))
