"""Trainings that are killed at random and go on: ``python tests/helpers/survive.py kills 200``.

Each case is a process that is forked, trains with checkpoints, and is killed in a step or in the
middle of writing a file; a second one goes on to the end. What it ends with must be, bit by bit,
what an uninterrupted training ends with. ``signals`` does the same by SIGINT and SIGTERM.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import xpnet
from xpnet.support import archive

STEPS = 66  # 6 epochs of 11


class KillAtStep(xpnet.Callback):
    """Kills the process after so many steps."""

    def __init__(self, step):
        self.left = step

    def on_train_batch_end(self, batch, logs):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Ready(xpnet.Callback):
    """Tells the parent that the training has begun, and takes its time."""

    def __init__(self, pipe):
        self.pipe = pipe

    def on_train_batch_end(self, batch, logs):
        os.write(self.pipe, b".")
        time.sleep(0.001)


class DyingFile:
    """A file that kills the process in the middle of a certain write."""

    writes_left = 0

    def __init__(self, file):
        self.file = file

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        DyingFile.writes_left -= 1
        if DyingFile.writes_left == 0:
            self.file.write(bytes(data)[: len(data) // 2])
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.file.write(data)


def kill_while_writing(draw):
    """Let the process die in a write, or between what `replacing` does besides."""
    call = draw.choice(["write", "fsync", "replace", "unlink"])
    if call == "write":
        DyingFile.writes_left = draw.randrange(1, 600)
        replacing = archive.replacing

        @contextmanager
        def dying(path):
            with replacing(path) as file:
                yield DyingFile(file)

        archive.replacing = dying
        return
    owner = Path if call == "unlink" else os
    original, left = getattr(owner, call), [draw.randrange(1, 12)]

    def dying_call(*args, **options):
        left[0] -= 1
        if left[0] == 0 and draw.random() < 0.5:
            os.kill(os.getpid(), signal.SIGKILL)
        done = original(*args, **options)
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    setattr(owner, call, dying_call)


def train(folder, callbacks=()):
    """Train to the end, from a checkpoint where there is one; return a hash of everything."""
    net = xpnet.Sequential(
        *(xpnet.Linear(8, 24), xpnet.BatchNorm1d(24), xpnet.ReLU(), xpnet.Dropout(0.2)),
        xpnet.Linear(24, 3),
    )
    rate = xpnet.schedules.Cosine(0.01, STEPS)
    trainer = xpnet.Trainer(
        net, "softmax_cross_entropy", xpnet.Adam(net, lr=rate), metrics=["accuracy"], seed=1
    )
    draw = np.random.default_rng(0)
    X, t = draw.normal(size=(350, 8)).astype(np.float32), draw.integers(0, 3, 350)
    trainer.fit(
        *(X, t),
        epochs=6,
        batch_size=32,
        validation_data=(X[:50], t[:50]),
        callbacks=[
            xpnet.Checkpoint(folder, every_steps=7),
            xpnet.EarlyStopping(patience=50),
            *callbacks,
        ],
        resume=folder,
    )
    assert trainer.optimizer.t == STEPS
    everything = hashlib.sha256(repr(dict(trainer.history)).encode())
    for name, a in {**net.state_dict(), **trainer.optimizer.state_vectors()}.items():
        everything.update(name.encode() + a.tobytes())
    return everything.hexdigest()


def forked(work):
    """Do some work in a child, in which it may die; return the process and what it writes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    code = 1
    try:
        os.close(reader)
        work(writer)
        code = 0
    except BaseException as error:
        code = 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "code", 1)
        if code == 1:
            traceback.print_exc()
    finally:
        os._exit(code)


def finished(child, reader):
    """Wait; return how the child has ended (negative: by which signal), and what it has written."""
    text = b""
    while piece := os.read(reader, 65536):
        text += piece
    os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text.decode()


def outcome(folder):
    """Return the hash that a training in the folder ends with."""
    code, text = finished(*forked(lambda pipe: os.write(pipe, train(folder).encode())))
    return text if code == 0 else f"exit {code}"


def survive_a_kill(draw, folder):
    """Return whether a training was killed, and the hash of the one that went on."""
    step = KillAtStep(draw.randrange(1, STEPS)) if draw.random() < 0.5 else None

    def work(pipe):
        if step is None:
            kill_while_writing(draw)
        train(folder, [step] if step else [])

    code, _ = finished(*forked(work))
    assert code in (0, -signal.SIGKILL), code  # 0: it was over before
    return code != 0, outcome(folder)


def survive_a_signal(draw, folder):
    """Return whether a signal ended it as it should, with all saved, and the hash at the end."""
    number = draw.choice([signal.SIGINT, signal.SIGTERM])
    steps = draw.randrange(1, STEPS // 2)
    child, reader = forked(lambda pipe: train(folder, [Ready(pipe)]))
    os.read(reader, 1)
    time.sleep(0.0012 * steps * draw.random())
    os.kill(child, number)
    code, text = finished(child, reader)
    taken = 1 + len(text)
    saved = int(
        xpnet.training.checkpoint.find_checkpoints(Path(folder))[-1].stem.removeprefix("step-")
    )
    return (code, saved) == (128 + number, taken), outcome(folder)


def survive(case, n, seed=0):
    """Return how many cases were broken off as they should, and how many ended as one that ran."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with tempfile.TemporaryDirectory() as place:
        expected, ended, same = outcome(f"{place}/whole"), 0, 0
        for k in range(n):
            folder = f"{place}/{k}"
            done, found = CASES[case](random.Random(1000 * seed + k), folder)
            ended, same = ended + done, same + (found == expected)
            shutil.rmtree(folder)
    return {"cases": n, "broken off": ended, "identical": same}


CASES = {"kills": survive_a_kill, "signals": survive_a_signal}

if __name__ == "__main__":
    print(json.dumps(survive(sys.argv[1], int(sys.argv[2]), *map(int, sys.argv[3:]))))
