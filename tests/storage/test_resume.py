"""``xpnet train --resume``: what is broken off goes on to the same end, and nothing is lost."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from command import exit_code
from conftest import STRICT
from test_cli import (
    FILES_WITHOUT_PLOTS,
    no_gpu,  # noqa: F401
    says,
    started,
)
from test_runs import (
    DRAWN,
    ENDLESS,
    IDX_FILES,
    change,
    in_both,
    log_of,
    names,
    results_of,
    shown,
    until_lines,
    write_images,
)

import xpnet
import xpnet.cli.train as cli
from xpnet.backend import find_backend
from xpnet.cli import prepare
from xpnet.cli.going_on import AS_IT_BEGAN
from xpnet.runs.folder import RunFolder
from xpnet.support import archive, locks
from xpnet.support.archive import read_archive, write_archive
from xpnet.training.checkpoint import Checkpoint, find_checkpoints
from xpnet.training.trainer import Trainer

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder", "_quickly")
posix = pytest.mark.skipif(os.name == "nt", reason="Windows has neither SIGTERM nor RLIMIT_FSIZE")

HERE, SAVED = Path("here"), Path("here/checkpoints")
RUNS = {  # with the steps of each
    "xor": (300, "xor --epochs 300"),
    "spiral": (42, "spiral --epochs 6"),
    "digits": (90, "digits --epochs 2"),
    "mode": (42, "spiral --epochs 6 --reproducible"),
    "curve": (50, "curve --epochs 50 --dtype float64 --seed 3"),
}
EXACT = "config.json", "log.jsonl", "weights.npz", "frames.bin"


@pytest.fixture(scope="module")
def _quickly():
    """Leave out what takes most of the time: report, pictures, and waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "write_pictures", lambda folder, data_dir=None: [])
        patch.setattr(cli, "write_report", lambda folder, data_dir=None: folder / "report.html")
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def _reports(monkeypatch):
    """Write the report after all."""
    monkeypatch.setattr(cli, "write_report", xpnet.runs.report.write_report)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Return the folder of a training that was never broken off."""
    folders = {}

    def whole(name, plots="none"):
        key = f"{name}-{plots}"
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp(key) / "whole"
            assert begin(name, "--plots", plots, out=folders[key]) == 0
        return folders[key]

    return whole


def begin(name, *more, out=HERE):
    """Train; returns the exit code."""
    words = RUNS[name][1].split()
    if "--epochs" in more:  # an option may be given once
        words = words[:1] + words[3:]
    return exit_code("train", *words, *more, "--quiet", "--out", out)


def resume(*more):
    return exit_code("train", "--resume", HERE, "--quiet", *more)


def is_the_same(folder, other):
    """Check that a training has left what another one has, but for the time that it took."""
    assert names(folder) == names(other)
    for file in names(folder).intersection(EXACT):
        assert (folder / file).read_bytes() == (other / file).read_bytes(), file
    ends = [results_of(where) for where in (folder, other)]
    assert all(0 < end.pop("seconds") < 100 for end in ends)
    assert ends[0] == ends[1]
    last, wanted = (find_checkpoints(where / "checkpoints")[-1] for where in (folder, other))
    assert last.name == wanted.name
    (arrays, about), (wanted_arrays, wanted_about) = read_archive(last), read_archive(wanted)
    for description in (about, wanted_about):
        del description["callbacks"]["RunFolder0"]["seconds"], description["machine"]
    assert about == wanted_about
    assert arrays.keys() == wanted_arrays.keys()
    for name, a in arrays.items():
        assert a.tobytes() == wanted_arrays[name].tobytes(), name


def bytes_in(folder):
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != locks.NAME]
    return {path: path.read_bytes() for path in files}


class KilledError(BaseException):
    """What nobody catches."""


@contextmanager
def killed(owner, method, nth=1):
    """As by kill -9 when a method is called for the nth time: nobody writes anything any more."""
    calls, right = count(1), getattr(owner, method)

    def die(*args, **kwargs):
        if next(calls) != nth:
            return right(*args, **kwargs)
        patch.setattr(Trainer, "_call", lambda *args, **kwargs: None)
        for lock in list(locks._HELD):  # the system lets go of them, and their files stay
            lock._close_in_child()
        raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, method, die)
        with pytest.raises(KilledError):
            yield


def before_step(n):
    return killed(Trainer, "_launch", n)


def broken_off(*more, name="spiral", before=33):
    """Begin a training that is killed, with checkpoints after 20, 25 and 30 steps."""
    with before_step(before):
        begin(name, "--checkpoint-every", 5, *more)


@contextmanager
def in_step(n, do):
    """Do something to the trainer in its nth step."""
    calls, right = count(1), Trainer._launch

    def watched(self):
        if next(calls) == n:
            do(self)
        right(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_launch", watched)
        yield


def press_ctrl_c(trainer):
    signal.raise_signal(signal.SIGINT)


def go_too_far(trainer):
    trainer.optimizer.lr = 1e30


# ---- to the same end --------------------------------------------------------------------------


@pytest.mark.thorough(but=["spiral-1", "mode-0"])
@pytest.mark.parametrize("case", range(6))
@pytest.mark.parametrize("name", RUNS)
def test_broken_off_anywhere_it_ends_as_if_it_had_not_been(whole, name, case):
    """Once to three times, from checkpoints at some distance, at times before the first one."""
    wanted = random.Random(f"{name} {case}")
    steps, plots = RUNS[name][0], ("all", "none")[case % 2]
    often = "--checkpoint-every", wanted.choice([3, 7, 11, 30, "5m"]), "--plots", plots
    with before_step(wanted.randint(1, steps)):
        begin(name, *often)
    for _ in range(wanted.randint(0, 2)):
        done = read_archive(find_checkpoints(SAVED)[-1])[1]["t"] if names(SAVED) else 0
        with before_step(wanted.randint(1, steps - done)):
            resume(*often)
    assert resume(*often) == 0
    is_the_same(HERE, whole(name, plots))


PLACES = {
    "before the first step": (Trainer, "_launch", 1),
    "between a step and its checkpoint": (Checkpoint, "on_train_batch_end", 21),
    "between steps": (Checkpoint, "on_train_batch_end", 22),
    "between an epoch and its row": (RunFolder, "on_epoch_end", 3),
    "between a row and its checkpoint": (Checkpoint, "on_epoch_end", 3),
    "at the end of an epoch": (Trainer, "_launch", 22),
    "in the last evaluation": (xpnet.training.trainer, "evaluate", 6),
    "between the last row and its checkpoint": (Checkpoint, "on_epoch_end", 6),
    "before the results": (cli, "results_of", 1),
    "between the results and the weights": (RunFolder, "write_weights", 1),
    "in the report": (cli, "write_report", 1),
}


@pytest.mark.thorough(but=["*-7"])
@pytest.mark.parametrize("every", [7, "5m"])
@pytest.mark.parametrize("place", PLACES)
def test_broken_off_at_a_certain_place(whole, place, every):
    options = "--checkpoint-every", every, "--plots", "all"
    with killed(*PLACES[place]):
        begin("spiral", *options)
    assert resume(*options) == 0
    is_the_same(HERE, whole("spiral", "all"))


@pytest.mark.thorough(but=["spiral-1", "spiral-20"])
@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize(
    ("name", "step"),
    [*(("spiral", k) for k in (1, 20, 21, 22, 42)), *(("xor", k) for k in range(250, 256))],
)
def test_ctrl_c_leaves_an_end_that_is_none(whole, name, step):
    """Its results, its weights and its last moment go when the training goes on."""
    with in_step(step, press_ctrl_c):
        assert begin(name) == 130
    if name == "spiral":  # an epoch of 7 steps ends after the last of them
        assert results_of(HERE)["epochs"] == (step - 1) // 7
    assert names(SAVED) == {f"step-{step:09d}.npz"}
    assert xpnet.load(HERE / "weights.npz").sha256() == results_of(HERE)["weights_sha256"]
    with killed(Trainer, "_run_epoch"):
        resume()
    assert names(HERE) == FILES_WITHOUT_PLOTS - {"results.json", "weights.npz"} | {"frames.bin"}
    assert resume() == 0
    is_the_same(HERE, whole(name, "all"))


@pytest.mark.thorough
@pytest.mark.usefixtures("_ctrl_c", "_reports")
def test_the_report_is_that_of_the_whole_training(monkeypatch):
    there = Path("there")
    assert begin("spiral", out=there) == 0
    with in_step(17, press_ctrl_c):
        assert begin("spiral") == 130
    found, wanted = shown(HERE), shown(there)
    assert found["status"] == "stopped by Ctrl-C after 2 of 6 epochs"
    assert found["frames"] == wanted["frames"][:18]
    monkeypatch.setattr(cli, "write_pictures", xpnet.runs.report.write_pictures)
    assert resume() == 0
    found = shown(HERE)
    del found["results"]["seconds"], wanted["results"]["seconds"]
    assert found == wanted
    assert in_both(DRAWN["spiral"]) <= names(HERE)


@pytest.mark.thorough
@pytest.mark.usefixtures("_reports")
def test_a_report_of_what_is_not_finished(run):
    broken_off(before=18)
    assert run("report", HERE).code == 0
    assert shown(HERE)["status"] == "broken off after 2 of 6 epochs"
    assert shown(HERE)["notes"] == []


@pytest.mark.parametrize("plots", [("all", "none"), ("none", "all")])
def test_moments_that_were_not_asked_for_at_first_or_at_last(whole, plots):
    broken_off("--plots", plots[0], before=18)
    assert resume("--plots", plots[1]) == 0
    assert results_of(HERE)["weights_sha256"] == results_of(whole("spiral"))["weights_sha256"]
    found = xpnet.runs.saved.read_run(HERE)
    epochs = found.recorder(found.load()).epochs
    assert epochs[-1] == (17 / 7 if plots[0] == "all" else 6)
    assert epochs[0] == (0 if plots[0] == "all" else 15 / 7)


def test_a_log_that_a_power_cut_has_shortened(whole):
    """The checkpoint is on the disk for sure, the rows of the log need not be."""
    broken_off()
    (HERE / ".config.json.0123456789abcdef.tmp").write_text("left by a writer that was cut off")
    text = (HERE / "log.jsonl").read_text()
    (HERE / "log.jsonl").write_text(text[: len(text) // 2])
    assert resume() == 0
    is_the_same(HERE, whole("spiral", "all"))


def test_the_seconds_of_all_parts_count():
    broken_off()
    (path,) = find_checkpoints(SAVED)[-1:]
    arrays, about = read_archive(path)
    state = about["callbacks"]["RunFolder0"]
    assert 0 < state["seconds"] < 100
    for wrong in (-1, "x", None):
        state["seconds"] = wrong
        write_archive(path, arrays, about)
        assert resume() == 1
    state["seconds"] = 1000
    write_archive(path, arrays, about)
    assert resume("--plots", "none") == 0
    assert 1000 < results_of(HERE)["seconds"] < 1100


# ---- real signals -----------------------------------------------------------------------------

# What happens to the process that trains, and in which step; it is nobody else who does it.
DRIVER = """
import os, resource, signal, sys
from xpnet.cli import main
from xpnet.support import files
from xpnet.training.trainer import Trainer

def kill_in_writing(descriptor):
    os.kill(os.getpid(), signal.SIGKILL)

def do():
    if what == "disk":
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    elif what == "writing":
        os.fsync = kill_in_writing
    else:
        for name in what.split():
            os.kill(os.getpid(), getattr(signal, name))

def step(self):
    run(self)
    if self.optimizer.t == at:
        do()

what, at, run = sys.argv[1], int(sys.argv[2]), Trainer._launch
Trainer._launch = step
sys.exit(main(["train", *sys.argv[3:]]))
"""


def driven(what, step, *options):
    """Train in a process to which something happens in a step; returns it with what it said."""
    arguments = *RUNS["spiral"][1].split(), "--out", "here", "--plots", "none", *options
    process = started("-c", DRIVER, what, str(step), *map(str, arguments))
    out, err = process.communicate(timeout=60)
    return SimpleNamespace(code=process.returncode, out=out, err=err)


@pytest.mark.thorough(but=["SIGTERM-42-143"])
@posix
@pytest.mark.parametrize(
    ("name", "step", "code"), [("SIGINT", 17, 130), ("SIGTERM", 26, 143), ("SIGTERM", 42, 143)]
)
def test_a_signal_saves_and_says_how_to_go_on(whole, name, step, code):
    done = driven(name, step)
    assert done.code == code
    assert [path.name for path in find_checkpoints(SAVED)] == [f"step-{step:09d}.npz"]
    said = done.out if name == "SIGINT" else done.err
    assert said.splitlines()[-1].endswith("xpnet train --resume here goes on with it")
    assert done.err == (
        "" if name == "SIGINT" else f"xpnet: terminated; {cli.how_to_resume(HERE)}\n"
    )
    assert resume("--plots", "none") == 0
    is_the_same(HERE, whole("spiral"))


@pytest.mark.thorough(but=["SIGINT SIGINT-130"])
@posix
@pytest.mark.parametrize(
    ("names", "code"),
    [("SIGTERM SIGTERM", -15), ("SIGINT SIGTERM", -15), ("SIGINT SIGINT", 130)],
)
def test_a_second_signal_leaves_at_once(whole, names, code):
    """It does not wait for the checkpoint of this step."""
    done = driven(names, 26, "--checkpoint-every", 10, "--quiet")
    assert (done.code, done.out, done.err) == (code, "", "")
    assert [path.name for path in find_checkpoints(SAVED)][-1] == "step-000000020.npz"
    assert resume("--plots", "none") == 0
    is_the_same(HERE, whole("spiral"))


@pytest.mark.thorough
@posix
def test_kill_in_the_middle_of_a_checkpoint(whole):
    done = driven("writing", 26, "--checkpoint-every", 10)
    assert (done.code, done.err) == (-9, "")
    (left,) = (path for path in SAVED.iterdir() if path.name.endswith(".tmp"))
    assert [path.name for path in find_checkpoints(SAVED)] == [
        "step-000000010.npz",
        "step-000000020.npz",
    ]
    assert resume("--plots", "none") == 0
    assert not left.exists()
    is_the_same(HERE, whole("spiral"))


@posix
def test_a_disk_that_is_full_at_a_checkpoint(run, whole):
    done = driven("disk", 26, "--checkpoint-every", 10, "--quiet")
    says(done, 1, f"cannot write to the folder {SAVED} (File too large", "make room")
    assert names(SAVED) == {"step-000000010.npz", "step-000000020.npz"}
    assert resume("--plots", "none") == 0
    is_the_same(HERE, whole("spiral"))


@pytest.mark.thorough(but=["SIGTERM-143"])
@posix
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_signals_from_outside(run, name, code):
    process = started(*ENDLESS, "--plots", "none")
    until_lines(process, 1)
    process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=60)
    assert (process.returncode, "Traceback" in err) == (code, False), err
    (path,) = find_checkpoints(SAVED)
    about = read_archive(path)[1]
    assert about["t"] == 7 * about["progress"]["epoch"] + about["progress"]["batch"]
    assert len(log_of(HERE)) == about["progress"]["epoch"]
    with before_step(5):
        run("train", "--resume", HERE, "--checkpoint-every", 2)
    assert find_checkpoints(SAVED)[-1].name == f"step-{about['t'] + 4:09d}.npz"


# ---- what cannot go on ------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "junk.txt"])
def test_a_folder_that_is_none(run, what):
    Path("file").write_text("a file")
    Path("empty").mkdir()
    says(run("train", "--resume", what), 1, f"{what} is no run folder", "config.json")
    assert sorted(os.listdir(".")) == ["empty", "file"]


@pytest.mark.parametrize(
    ("given", "lines"),
    [
        ("--epochs 5", ["--epochs 5: it began with 6, and can have more"]),
        ("digits", ["the problem digits: it began with spiral"]),
        ("--seed 1 --lr 0.05", ["--lr 0.05: it began with 0.01", "--seed 1: it began with 0"]),
        (
            "--hidden 0 --batch-size full --out x",
            [
                "--hidden 0: it began with 64,64",
                "--batch-size full: it began with 64",
                "--out x: it stays in its folder, here",
            ],
        ),
        ("--reproducible", ["--reproducible: it began without"]),
        ("--loss mse --dtype float32", ["--loss mse: it began with bce_logits"]),
    ],
)
def test_options_of_a_new_run(run, given, lines):
    """Each that differs is named, in a line of its own; --dtype float32 does not differ."""
    broken_off()
    before = bytes_in(HERE)
    done = run("train", "--resume", HERE, *given.split())
    assert done.code == 2
    _, first, rest = done.err.partition("--resume: the training goes on as it began; leave out\n")
    assert first
    assert rest.splitlines() == [f"  {line}" for line in lines]
    assert bytes_in(HERE) == before


def test_the_options_with_which_it_began_may_be_given_again(run, whole):
    broken_off("--plots", "none")
    options = "spiral --hidden 64,64 --lr 0.01 --batch-size 64 --epochs 6 --seed 0 --plots none"
    assert resume(*options.split()) == 0
    is_the_same(HERE, whole("spiral"))


@pytest.mark.parametrize("finished", [True, False])
def test_a_training_may_have_more_epochs(run, whole, tmp_path, finished):
    """Where the learning rate is constant it ends as one that had them from the beginning."""
    assert begin("spiral", "--epochs", 8, "--plots", "none", out=tmp_path / "long") == 0
    if finished:
        assert begin("spiral", "--plots", "none") == 0
    else:
        broken_off("--plots", "none")
    assert resume("--epochs", 8, "--plots", "none") == 0
    is_the_same(HERE, tmp_path / "long")


def test_more_epochs_are_written_down_when_the_first_step_is_certain(run, whole, monkeypatch):
    shutil.copytree(whole("spiral"), HERE)
    before = bytes_in(HERE)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "restore", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            resume("--epochs", 8)
    assert bytes_in(HERE) == before
    with before_step(3):
        resume("--epochs", 8)
    assert json.loads((HERE / "config.json").read_text())["epochs"] == 8
    assert not (HERE / "results.json").exists()  # it is not finished any more
    assert resume() == 0
    assert results_of(HERE)["epochs"] == 8


def test_more_epochs_of_one_cycle_are_said(run):
    assert begin("curve", "--plots", "none") == 0
    done = run("train", "--resume", HERE, "--epochs", 60, "--plots", "none")
    assert done.code == 0
    assert "\nfrom here on the one cycle is that of 60 epochs\n" in done.out
    assert results_of(HERE)["epochs"] == 60


def test_one_cycle_of_more_epochs_that_was_killed_at_once_needs_no_second_advice(run, tmp_path):
    assert begin("curve", "--epochs", 12, "--plots", "none") == 0
    shutil.copytree(HERE, tmp_path / "long")
    more = "--epochs", 14, "--plots", "none", "--quiet"
    assert exit_code("train", "--resume", tmp_path / "long", *more) == 0
    with before_step(1):
        resume("--epochs", 14, "--plots", "none")
    assert json.loads((HERE / "config.json").read_text())["epochs"] == 14
    assert read_archive(find_checkpoints(SAVED)[-1])[1]["progress"]["epochs"] == 12
    assert resume("--plots", "none") == 0
    is_the_same(HERE, tmp_path / "long")
    change_config(lr=0.5)  # the epochs are the same now, so the cycle must be
    assert "\n  lr: was OneCycle(" in run("train", "--resume", HERE).err


def change_config(**fields):
    path = HERE / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"lr": 0.5}, r"lr: was [0-9.]+, is 0\.5"),
        ({"seed": 7}, "data: was .*, is "),
        ({"hidden": [7]}, "network: had 5 layers, has 3"),
    ],
)
def test_what_differs_is_said_in_words_of_the_command_line(run, fields, line):
    broken_off("--plots", "none")
    change_config(**fields)
    done = run("train", "--resume", HERE)
    assert done.code == 1
    assert re.search(f"\n  {line}", done.err)
    assert done.err.endswith(f"\n{AS_IT_BEGAN}\n")
    assert "fit(" not in done.err


def test_a_finished_training_stays_as_it_is(run, whole):
    shutil.copytree(whole("spiral", "all"), HERE)
    before, results = bytes_in(HERE), results_of(HERE)
    with killed(cli, "results_of"):
        resume()
    assert bytes_in(HERE) == before
    done = run("train", "--resume", HERE)
    assert (done.code, done.err) == (0, "")
    assert "\ngoing on after 42 of 42 steps, 6 of 6 epochs\n" in done.out
    assert "epoch 6/6" not in done.out
    after = bytes_in(HERE)
    del before[HERE / "results.json"], after[HERE / "results.json"]
    assert after == before
    seconds = results_of(HERE)["seconds"]
    assert seconds < results["seconds"] + 5
    assert results_of(HERE) == results | {"seconds": seconds}


def test_ctrl_c_before_it_goes_on_leaves_the_folder_as_it_is(run, whole, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    shutil.copytree(whole("spiral", "all"), HERE)
    before = bytes_in(HERE)
    monkeypatch.setattr(Trainer, "_load", interrupted)
    done = run("train", "--resume", HERE, "--quiet")
    assert (done.code, done.out, done.err) == (130, "", "xpnet: interrupted\n")
    assert bytes_in(HERE) == before


def damage(path, how):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"bit": data, "cut": data[:-100], "empty": b""}[how])


@pytest.mark.parametrize("how", ["bit", "cut", "empty"])
def test_a_damaged_checkpoint_is_passed_over(run, whole, how, caplog):
    broken_off()
    damage(SAVED / "step-000000030.npz", how)
    bad = (SAVED / "step-000000030.npz").read_bytes()
    done = run("train", "--resume", HERE)
    assert done.code == 0
    assert "going on after 25 of 42 steps, 3 of 6 epochs" in done.out
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{SAVED / 'step-000000030.npz'} is damaged" in record.message
    assert f"going on from the one before, {SAVED / 'step-000000025.npz'}" in record.message
    assert (SAVED / "step-000000030.npz.aside").read_bytes() == bad
    is_the_same(HERE, whole("spiral", "all"))


def test_only_damaged_checkpoints(run):
    broken_off()
    assert names(SAVED) == {f"step-0000000{k}.npz" for k in (20, 25, 30)}
    for path, how in zip(find_checkpoints(SAVED), ("bit", "cut", "empty"), strict=True):
        damage(path, how)
    before = bytes_in(HERE)
    says(run("train", "--resume", HERE, "--quiet"), 1, *map(str, find_checkpoints(SAVED)))
    assert bytes_in(HERE) == before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "config.json is damaged"),
        ("{}", "it lacks problem"),
        ('{"problem": "spiral"}', "config.json is damaged: it lacks"),
    ],
)
def test_a_damaged_configuration(run, text, why):
    broken_off()
    (HERE / "config.json").write_text(text)
    before = bytes_in(HERE)
    says(run("train", "--resume", HERE), 1, why)
    assert bytes_in(HERE) == before


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"hidden": [32, 64]}, "  network: layer 0 was "),
        ({"dtype": "float64"}, "  network: the dtype was 'float32', is 'float64'"),
        ({"optimizer": "sgd"}, "  optimizer: was 'Adam', is 'SGD'"),
        ({"loss": "bce"}, "  loss: was "),
        ({"batch_size": 32}, "  batch_size: was 64, is 32"),
        ({"one_cycle": True}, "  lr: was 0.01, is OneCycle("),
        ({"samples": [400, 399]}, "the data are not those of the training: [400, 400] samples"),
    ],
)
def test_the_configuration_of_another_training(run, changed, why):
    broken_off()
    change(HERE, **changed)
    before = bytes_in(HERE)
    done = run("train", "--resume", HERE, "--quiet")
    assert done.code == 1
    assert why in done.err
    assert done.err.startswith("xpnet: error: ")
    assert bytes_in(HERE) == before


def images_broken_off(run):
    write_images(Path("idx"), 5, 5)
    options = "--data-dir", "idx", "--epochs", 3, "--batch-size", 8, "--checkpoint-every", 5
    with before_step(12):
        run("train", "mnist", *options, "--quiet", "--out", HERE)


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ((5, 5, 57), "the data are not those of the training: [57, 24] samples, not [60, 24]"),
        ((6, 6), "  network: layer 0 was "),
    ],
)
def test_other_data_in_their_place(run, size, why):
    Path("idx").mkdir()
    images_broken_off(run)
    write_images(Path("idx"), *size)
    before = bytes_in(HERE)
    done = run("train", "--resume", HERE, "--quiet")
    assert done.code == 1
    assert why in done.err
    assert bytes_in(HERE) == before


@pytest.mark.usefixtures("_reports")
def test_data_that_have_moved(run):
    Path("idx").mkdir()
    images_broken_off(run)
    Path("idx").rename("moved")
    says(run("train", "--resume", HERE), 1, str(Path("idx").resolve()), "lacks", IDX_FILES[0])
    assert run("train", "--resume", HERE, "--data-dir", "moved").code == 0
    assert shown(HERE)["notes"] == []
    assert results_of(HERE)["epochs"] == 3


# ---- other backends ---------------------------------------------------------------------------


@pytest.mark.usefixtures("no_gpu")
def test_a_training_of_a_gpu_where_there_is_none(run, whole):
    broken_off("--plots", "none")
    change(HERE, backend="cupy")
    before = bytes_in(HERE)
    done = run("train", "--resume", HERE)
    says(done, 1, "'cupy' cannot be used: the reason", "use --backend numpy to go on without it")
    assert bytes_in(HERE) == before
    done = run("train", "--resume", HERE, "--backend", "cupy")
    says(done, 1, "'cupy' cannot be used: the reason; the way out")
    assert "goes on" not in done.err
    assert resume("--plots", "none", "--backend", "numpy") == 0
    change(HERE, backend="numpy")
    assert results_of(HERE)["weights_sha256"] == results_of(whole("spiral"))["weights_sha256"]


@pytest.mark.numba
def test_on_another_backend(run, whole, caplog):
    broken_off("--plots", "none")
    assert run("train", "--resume", HERE, "--backend", "numba", "--plots", "none").code == 0
    (record,) = caplog.records
    assert "the last bits may be others than without a stop: backend was numpy, is numba" in (
        record.message
    )
    found, wanted = results_of(HERE), results_of(whole("spiral"))
    assert (found["backend"], found["epochs"]) == ("numba", 6)
    assert found["test_loss"] == pytest.approx(wanted["test_loss"], rel=1e-3)


def test_in_reproducible_mode_any_backend_goes_on_with_the_same_bits(
    run, whole, monkeypatch, caplog
):
    """Begun with NumPy, gone on with on the stand-in for a GPU, and ended with NumPy."""
    broken_off("--plots", "none", name="mode", before=18)
    with monkeypatch.context() as patch, before_step(12):
        patch.setattr(prepare, "find_backend", lambda name, mode: find_backend(STRICT, mode))
        run("train", "--resume", HERE, "--plots", "none", "--checkpoint-every", 3)
    last = read_archive(find_checkpoints(SAVED)[-1])[1]
    assert last["machine"]["backend"] != "numpy"
    assert run("train", "--resume", HERE, "--plots", "none").code == 0
    is_the_same(HERE, whole("mode"))
    assert caplog.records == []


@pytest.mark.parametrize("name", ["XPNET_BACKEND", "XPNET_REPRODUCIBLE"])
def test_the_environment_does_not_change_a_training(whole, monkeypatch, name):
    broken_off("--plots", "none")
    monkeypatch.setenv(name, "nonsense" if name == "XPNET_BACKEND" else "1")
    assert resume("--plots", "none") == 0
    is_the_same(HERE, whole("spiral"))


# ---- new trainings in old folders --------------------------------------------------------------


def test_a_new_training_leaves_one_that_was_broken_off_alone(run):
    broken_off()
    before = bytes_in(HERE)
    done = run("train", "digits", "--epochs", 1, "--out", HERE)
    says(done, 2, "here has a training that was broken off; go on with `xpnet train --resume here`")
    assert "or choose another folder with --out DIR" in done.err
    assert bytes_in(HERE) == before


@pytest.mark.parametrize("spoilt", ["results.json", "config.json"])
def test_nobody_knows_whether_it_was_finished(run, whole, spoilt):
    shutil.copytree(whole("spiral"), HERE)
    (HERE / spoilt).write_text("{")
    before = bytes_in(HERE)
    done = run("train", "digits", "--epochs", 1, "--out", HERE)
    says(done, 2, f"here/{spoilt} is damaged", "bring back a copy of it", "--out DIR")
    assert bytes_in(HERE) == before


def test_before_the_first_checkpoint_there_is_nothing_to_lose(run, whole):
    with before_step(30):
        begin("digits")
    assert begin("spiral") == 0
    is_the_same(HERE, whole("spiral", "all"))


def test_a_new_training_leaves_one_that_is_finished_alone(run, whole):
    shutil.copytree(whole("digits", "all"), HERE)
    before = bytes_in(HERE)
    done = run("train", "spiral", "--epochs", 1, "--out", HERE)
    says(
        done,
        2,
        "here has a training that is finished; for more than its 2 epochs go on with "
        "`xpnet train --resume here --epochs N`, or choose another folder with --out DIR",
    )
    assert bytes_in(HERE) == before


# ---- when it is saved -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps"),
    [("5", [35, 40, 42]), ("40", [40, 42]), ("1", [40, 41, 42]), ("1000", [42]), ("60m", [42])],
)
def test_when_it_is_saved(every, steps):
    assert begin("spiral", "--checkpoint-every", every) == 0
    assert names(SAVED) == {f"step-{n:09d}.npz" for n in steps}


@pytest.mark.parametrize(
    ("options", "steps"), [(["--checkpoint-every", "0.01m"], [36, 39, 42]), ([], [42])]
)
def test_minutes(monkeypatch, options, steps):
    """By a clock on which a step takes a quarter of a second: 3 of them are 0.01 minutes."""
    clock = count()
    fake = SimpleNamespace(monotonic=lambda: 0.25 * next(clock))
    monkeypatch.setattr("xpnet.training.checkpoint.time", fake)
    assert begin("spiral", *options) == 0
    assert names(SAVED) == {f"step-{n:09d}.npz" for n in steps}


def test_by_default_it_is_saved_after_five_minutes(monkeypatch):
    clock = count()
    fake = SimpleNamespace(monotonic=lambda: 29.0 * next(clock))
    monkeypatch.setattr("xpnet.training.checkpoint.time", fake)
    with before_step(12):
        begin("spiral")
    assert names(SAVED) == {"step-000000011.npz"}


@pytest.mark.parametrize("wrong", ["0", "m", "-1m", "x", "1.5", "0m", "nanm", "infm", "", "5 s"])
def test_wrong_times(run, wrong):
    done = run("train", "spiral", f"--checkpoint-every={wrong}")
    way_out = f"must be steps, as 500, or minutes, as 5m; got {wrong!r}"
    says(done, 2, "--checkpoint-every", way_out)
    assert os.listdir(".") == []


# ---- what cannot be written, and numbers that are none ------------------------------------------


@pytest.mark.parametrize(
    ("number", "words"),
    [(28, "No space left on device"), (30, "Read-only file system"), (13, "Permission denied")],
)
@pytest.mark.parametrize("plots", ["all", "none"])
def test_a_checkpoint_that_cannot_be_written(run, whole, monkeypatch, number, words, plots):
    right, calls = archive.replacing, count(1)

    def broken(path):
        if next(calls) == 3:
            raise OSError(number, words, str(path))
        return right(path)

    with monkeypatch.context() as patch:
        patch.setattr(archive, "replacing", broken)
        done = run(*SPIRAL, "--checkpoint-every", 10, "--plots", plots)
    says(done, 1, f"cannot write to the folder {SAVED} ({words}: step-000000030.npz); make room")
    assert names(SAVED) == {"step-000000010.npz", "step-000000020.npz"}
    assert resume("--plots", plots) == 0
    is_the_same(HERE, whole("spiral", plots))


SPIRAL = "train", "spiral", "--epochs", 6, "--out", HERE, "--quiet"


@pytest.mark.thorough
@pytest.mark.usefixtures("_reports")
def test_a_divergence_keeps_the_last_good_checkpoint(run, whole):
    """It names the step, the one after the step that went too far, and the layer."""
    with in_step(17, go_too_far):
        done = run(*SPIRAL, "--checkpoint-every", 5)
    said = "the loss became nan in step 4 of epoch 3: ", "layer 2, Linear(64, 64); "
    says(done, 1, *said, f"; the training until then is in {HERE / 'report.html'}")
    assert names(SAVED) == {f"step-{n:09d}.npz" for n in (5, 10, 15)}
    done = run("report", HERE)
    assert (done.code, done.err) == (0, "")
    assert shown(HERE)["status"] == "broken off after 2 of 6 epochs"
    assert resume("--plots", "none") == 0
    assert results_of(HERE)["weights_sha256"] == results_of(whole("spiral"))["weights_sha256"]


def test_what_is_no_number_is_not_saved(run, whole, monkeypatch):
    """No loss has shown it yet: the checkpoint does."""

    def spoil(self):
        calls.append(self)
        if len(calls) == 3:
            self.trainer.net[2].b[5] = np.nan
        save(self)

    calls, save = [], Checkpoint.save
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", spoil)
        done = run(*SPIRAL, "--checkpoint-every", 6, "--plots", "none")
    says(done, 1, "2.b[5] of layer Linear(64, 64) is nan after step 4 of epoch 3; lower the")
    assert names(SAVED) == {"step-000000006.npz", "step-000000012.npz"}
    assert resume("--plots", "none") == 0
    is_the_same(HERE, whole("spiral"))


@pytest.mark.thorough
@pytest.mark.usefixtures("_reports")
def test_a_rate_that_is_far_too_high(run):
    """All that is saved is finite, and the report is there."""
    done = run(*SPIRAL, "--lr", "1e30", "--checkpoint-every", 1)
    says(done, 1, "in step ", "layer ", f"; the training until then is in {HERE / 'report.html'}")
    assert run("report", HERE).code == 0
    for path in find_checkpoints(SAVED):
        assert np.isfinite(xpnet.load(path).params).all()


# ---- what is said -----------------------------------------------------------------------------


def test_it_says_where_it_goes_on_and_the_rest_as_before(run, whole):
    """The rows of the epochs that are left, and the same results."""
    done = run("train", "spiral", "--epochs", 6, "--plots", "none", "--out", "there")
    broken_off("--plots", "none", before=18)
    again = run("train", "--resume", HERE, "--plots", "none")
    assert (again.code, again.err) == (0, "")
    lines, wanted = again.out.splitlines(), done.out.splitlines()
    assert lines[:3] == wanted[:3]
    assert lines[3] == "going on after 15 of 42 steps, 2 of 6 epochs"
    assert lines[4:-2] == wanted[5:-2]
    assert wanted[5].startswith("epoch 3/6 ")
    assert lines[-1] == "results in here"


def test_it_says_that_it_begins_anew(run):
    with before_step(18):
        begin("spiral")
    done = run("train", "--resume", HERE, "--plots", "none")
    assert done.out.splitlines()[3] == "no checkpoint in here: from the beginning"
    assert "epoch 1/6" in done.out


def test_the_bar_goes_on_where_it_was(run, monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, initial, **options):
            self.total, self.n, self.seen = total, initial, []
            bars.append(self)

        def update(self, n):
            self.n += n
            self.seen.append(self.n)

        def write(self, *args, **options):
            pass

        def close(self):
            pass

    broken_off(before=18)
    monkeypatch.setattr("tqdm.tqdm", Bar)
    assert run("train", "--resume", HERE).code == 0
    (bar,) = bars
    assert (bar.total, bar.seen) == (42, [*range(16, 43)])


def test_json_alone(run, whole):
    broken_off("--plots", "none")
    done = run("train", "--resume", HERE, "--json", "--quiet", "--plots", "none")
    assert (done.code, done.err) == (0, "")
    (line,) = done.out.splitlines()
    assert json.loads(line) == results_of(HERE)
    is_the_same(HERE, whole("spiral"))
