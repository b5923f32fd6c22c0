"""A trainer and its network are in one `fit` at a time; the history knows its epochs."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest

import xpnet
from xpnet.support.errors import XpnetError
from xpnet.training.callbacks import Callback

X = np.random.default_rng(0).normal(size=(40, 2))
T = (X[:, 0] > 0).astype(int)


def make(net=None):
    net = net or xpnet.Sequential(xpnet.Linear(2, 2), backend="numpy")
    return xpnet.Trainer(net, "softmax_cross_entropy", "sgd")


class Does(Callback):
    """Does something once at an event, and keeps the error."""

    def __init__(self, event, do):
        self.do, self.error = do, None
        setattr(self, event, self._once)

    def _once(self, *arguments):
        do, self.do = self.do, None
        try:
            if do:
                do()
        except XpnetError as error:
            self.error = str(error)


@pytest.mark.parametrize("event", ["on_train_begin", "on_train_batch_end", "on_epoch_end"])
@pytest.mark.parametrize("other", ["the same trainer", "another trainer"])
def test_a_fit_in_a_fit_is_refused_and_the_first_goes_on_unharmed(event, other):
    alone, made = make(), make()
    second = made if other == "the same trainer" else make(made.net)
    does = Does(event, lambda: second.fit(X, T, epochs=2))
    made.fit(X, T, epochs=5, callbacks=[does])
    alone.fit(X, T, epochs=5)
    what = "trainer" if second is made else "network"
    assert f"this {what} is in the middle of a fit" in does.error
    assert made.net.sha256() == alone.net.sha256()
    assert len(made.history["loss"]) == 5
    second.fit(X, T, epochs=1)  # afterwards nobody has it


def test_a_copy_may_be_trained_meanwhile_as_the_error_says():
    made, found = make(), []
    does = Does("on_epoch_end", lambda: found.append(make(made.net.copy()).fit(X, T, epochs=2)))
    made.fit(X, T, epochs=2, callbacks=[does])
    assert does.error is None
    assert len(found[0]["loss"]) == 2


def test_two_threads(backend):
    made, reached, go = make(), threading.Event(), threading.Event()
    waits = Does("on_train_batch_end", lambda: (reached.set(), go.wait(30)))
    thread = threading.Thread(target=lambda: made.fit(X, T, epochs=3, callbacks=[waits]))
    thread.start()
    assert reached.wait(30)
    with pytest.raises(XpnetError, match="in the middle of a fit"):
        made.fit(X, T, epochs=3)
    with pytest.raises(XpnetError, match=r"net\.to\(\.\.\.\) is not possible while fit trains"):
        made.net.to(dtype="float64")
    go.set()
    thread.join()
    assert made.epoch == 3


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_forked_while_a_thread_trains_does_not_hang():
    made, reached, go = make(), threading.Event(), threading.Event()
    waits = Does("on_train_batch_end", lambda: (reached.set(), go.wait(30)))
    thread = threading.Thread(target=lambda: made.fit(X, T, epochs=2, callbacks=[waits]))
    thread.start()
    assert reached.wait(30)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            make(made.net).fit(X, T, epochs=1)
        except XpnetError:
            make(made.net.copy()).fit(X, T, epochs=1)
            code = 7
        finally:
            os._exit(code)
    go.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_after_an_error_nothing_is_taken():
    made = make()
    with pytest.raises(xpnet.DataError):
        made.fit(X + np.nan, T)
    made.fit(X, T, epochs=1)
    made.net.to(dtype="float64")


def test_each_number_knows_its_epoch():
    made = make()
    made.fit(X, T, epochs=3)
    made.fit(X, T, epochs=2, validation_data=(X, T))
    history = made.fit(X, T, epochs=1)
    assert {len(column) for column in history.values()} == {6}
    assert np.isnan(history["val_loss"]).tolist() == [True] * 3 + [False] * 2 + [True]
    assert not np.isnan(history["loss"]).any()


def test_the_history_is_a_table():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    made = make()
    made.fit(X, T, epochs=3)
    table = pandas.DataFrame(made.fit(X, T, epochs=2, validation_data=(X, T)))
    assert table["val_loss"].isna().tolist() == [True] * 3 + [False] * 2


def test_curves_are_drawn_at_the_epochs_of_their_numbers():
    import xpnet.plots as plots

    made = make()
    made.fit(X, T, epochs=3)
    made.fit(X, T, epochs=2, validation_data=(X, T))
    training, validation = plots.loss_curve(made.history)
    assert training.get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert validation.get_xdata().tolist() == [4, 5]
    assert validation.get_ydata().tolist() == made.history["val_loss"][3:]


def test_a_history_with_a_gap_comes_back(tmp_path):
    first, again = make(), make()
    first.fit(X, T, epochs=2)
    first.fit(X, T, epochs=2, validation_data=(X, T), callbacks=[xpnet.Checkpoint(tmp_path)])
    again.fit(X, T, epochs=2, validation_data=(X, T), resume=tmp_path)
    np.testing.assert_equal(dict(again.history), dict(first.history))


CALLBACKS = {
    "one": (lambda: xpnet.EarlyStopping("loss"), r"callbacks=\[EarlyStopping\(\.\.\.\)\]"),
    "a class": (lambda: [xpnet.EarlyStopping], "EarlyStopping is a class"),
    "twice": (lambda: [xpnet.EarlyStopping("loss")] * 2, "is twice among the callbacks"),
    "none": (lambda: None, "callbacks is a list of callbacks; got None"),
    "word": (lambda: "early", "callbacks is a list"),
    "number": (lambda: [3], "no callback: 3"),
}


@pytest.mark.parametrize("case", CALLBACKS)
def test_callbacks_are_a_list_of_callbacks(case):
    given, words = CALLBACKS[case]
    made = make()
    with pytest.raises(xpnet.OptionError, match=words):
        made.fit(X, T, callbacks=given())
    assert made.optimizer.t == 0


def test_what_is_assigned_to_a_trainer_between_two_fits_takes_effect():
    """It is as if a trainer had been made so, with the same network."""
    made = make()
    made.fit(X, T, epochs=1, validation_data=(X, T))
    made.loss, made.optimizer, made.seed = "mse", xpnet.Adam(made.net, 0.01), np.int64(3)
    made.fit(X, np.eye(2)[T], epochs=1, validation_data=(X, np.eye(2)[T]))
    other = make()
    other.fit(X, T, epochs=1)
    again = xpnet.Trainer(other.net, "mse", xpnet.Adam(other.net, 0.01), seed=3)
    again.epoch = 1
    again.fit(X, np.eye(2)[T], epochs=1, validation_data=(X, np.eye(2)[T]))
    assert made.net.sha256() == other.net.sha256()
    assert made.history["val_loss"][-1] == again.history["val_loss"][-1]
    assert made.evaluate(X, np.eye(2)[T]) == again.evaluate(X, np.eye(2)[T])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("net", xpnet.Sequential(xpnet.Linear(2, 2)), "net of .* cannot be changed"),
        ("optimizer", make().optimizer, "was made for another network"),
        ("optimizer", "adm", "unknown optimizer 'adm'"),
        ("loss", "softmax", "unknown loss 'softmax'"),
        ("seed", -1, "seed must be a whole number"),
        ("launch", 0, "launch must be a whole number"),
        ("stop", "no", "stop must be True or False; got 'no'"),
        ("stop", None, "stop must be True or False"),
    ],
)
def test_what_cannot_be_assigned_to_a_trainer_is_refused_by_name(name, value, words):
    made = make()
    before = getattr(made, name)
    with pytest.raises(xpnet.OptionError, match=words):
        setattr(made, name, value)
    assert getattr(made, name) is before
    made.fit(X, T, epochs=1)
