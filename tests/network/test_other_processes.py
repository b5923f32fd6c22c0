"""Networks and trainers in other processes and at the end of the interpreter."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import numpy as np
import pytest

import xpnet

pytestmark = pytest.mark.thorough

X = np.linspace(-1, 1, 24).reshape(8, 3)
T = np.arange(8) % 2


def trained():
    """Return a trainer after two epochs."""
    net = xpnet.Sequential(xpnet.Linear(3, 4), xpnet.Dropout(0.5), xpnet.Linear(4, 2))
    trainer = xpnet.Trainer(net, "softmax_cross_entropy")
    trainer.fit(X, T, epochs=2)
    return trainer


def went_on(trainer):
    """Train two epochs more, and return the fingerprint of the weights."""
    trainer.fit(X, T, epochs=2)
    return trainer.net.sha256()


@pytest.mark.parametrize("start", ["spawn", "forkserver", "fork"])
def test_a_trainer_goes_on_in_another_process(start):
    here = trained()
    context = multiprocessing.get_context(start)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        there = pool.submit(went_on, here).result(timeout=60)
    assert there == went_on(here)


def test_joblib_predicts_in_processes_and_threads():
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    net = trained().net
    for prefer in ("processes", "threads"):
        found = joblib.Parallel(2, prefer=prefer)(joblib.delayed(net.predict)(X) for _ in range(4))
        assert all(np.array_equal(Y, net.predict(X)) for Y in found)


def test_threads_of_a_pool_train_copies():
    nets = [trained() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(went_on, nets))) == 1


PROGRAM = """
import threading, numpy as np, xpnet
net = xpnet.Sequential(xpnet.Linear(3, 2))
begun = threading.Event()
class Tell(xpnet.Callback):
    def on_epoch_end(self, epoch, logs):
        begun.set()
def train():
    how = {"epochs": 10**7, "callbacks": [Tell()]}
    xpnet.Trainer(net, "mse").fit(np.ones((4, 3)), np.ones((4, 2)), **how)
threading.Thread(target=train, daemon=True).start()
assert begun.wait(60)
print("the end")
"""


def test_a_daemon_thread_that_trains_does_not_hold_up_the_end():
    command = [sys.executable, "-W", "error", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


def test_ctrl_c_in_a_callback_keeps_the_history():
    class Stop(xpnet.Callback):
        def on_epoch_end(self, epoch, logs):
            raise KeyboardInterrupt

    trainer = trained()
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(X, T, epochs=5, callbacks=[Stop()])
    assert len(trainer.history["loss"]) == trainer.epoch == 3
    trainer.fit(X, T, epochs=1)
    assert trainer.epoch == 4
