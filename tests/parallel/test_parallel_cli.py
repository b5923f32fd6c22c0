"""``xpnet train --processes 3`` and ``mpiexec``: as one process, also where something fails."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from command import exit_code
from test_parallel import begun, ended, worker

import xpnet.cli as cli
from xpnet.cli.processes import arguments_of_each_process
from xpnet.parallel import launch
from xpnet.parallel.launch import THREADS, environment, find_mpiexec, start
from xpnet.support.errors import ParallelError
from xpnet.training.checkpoint import find_checkpoints

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")
several = pytest.mark.usefixtures("mpi")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of dead processes")

HERE, SAVED = Path("here"), Path("here/checkpoints")
SPIRAL = ["spiral", "--epochs", "6", "--reproducible", "--plots", "none"]
SOON = 10  # seconds, in which a job must end


def command(*arguments):
    """Return the command that runs xpnet in a fresh process."""
    return [sys.executable, "-m", "xpnet", *map(str, arguments)]


def on_several(processes, *arguments):
    """Run xpnet as ``mpiexec -n processes`` would."""
    return ended(begun([*start(processes), "-m", "xpnet", *map(str, arguments)]))


def results(folder=HERE):
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def said(text):
    """Return the lines, but for what differs between two runs: the time and the folder."""
    lines = [re.sub(r"\d+\.\d s|in (here|single)$", "", line) for line in text.splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def single(capsys):
    """Return what one process says, and what it leaves in a folder."""

    def single(*arguments):
        assert exit_code("train", *arguments, "--out", "single") == 0
        return capsys.readouterr(), results(Path("single"))

    return single


# ---- it gives what one process gives ------------------------------------------------------------


@pytest.mark.thorough(but=["--processes"])
@several
@pytest.mark.parametrize("how", ["--processes", "--parallel"])
def test_several_processes_leave_what_one_leaves(single, how):
    """The same bits, one folder, and each line once."""
    (out, _), wanted = single(*SPIRAL)
    if how == "--processes":
        done = ended(begun(command("train", *SPIRAL, "--processes", 2, "--out", HERE)))
    else:
        done = on_several(3, "train", *SPIRAL, "--parallel", "--out", HERE)
    assert (done.code, done.err) == (0, "")
    assert sorted(path.name for path in Path().iterdir()) == ["here", "single"]
    found, size = results(), {"--processes": 2, "--parallel": 3}[how]
    assert found.pop("processes") == size
    for entry in (found, wanted):
        del entry["seconds"]
    assert found == wanted
    for name in ("log.jsonl", "weights.npz"):
        assert (HERE / name).read_bytes() == (Path("single") / name).read_bytes()
    assert {path.name for path in HERE.iterdir()} == {p.name for p in Path("single").iterdir()}
    lines, (headline, *rest) = said(done.out), said(out)
    assert lines == [f"{headline}, {size} processes", *rest]


@pytest.mark.thorough
@several
def test_usage_errors_are_printed_once():
    """The launcher finds what it can; what each process finds, rank 0 alone says."""
    for arguments in (["--lr", "-1"], ["--hidden", "0", "--loss", "cross_entropy"]):
        done = ended(begun(command("train", "xor", "--processes", 2, *arguments)))
        assert (done.code, done.out) == (2, "")
        assert done.err.count("error") == 1, done.err


@several
def test_without_parallel_each_would_train_on_its_own():
    done = on_several(3, "train", "xor")
    assert done.code == 2
    own = [line for line in done.err.splitlines() if line.startswith("xpnet:")]
    assert own == [
        "xpnet: error: 3 processes have been started, each of which would train on its own; "
        "add --parallel"
    ]
    assert not list(Path().iterdir())


@pytest.mark.thorough
@several
def test_a_training_that_diverges_has_one_error_and_one_report():
    """Also one that rank 0 alone finds, when it saves."""
    wild = ["spiral", "--optimizer", "sgd", "--epochs", "2", "--out", HERE]
    for more in (["--lr", "1e6", "--plots", "none"], ["--lr", "1e39", "--checkpoint-every", "1"]):
        done = ended(begun(command("train", *wild, *more, "--processes", 2)))
        assert done.code == 1, done.err
        assert done.err.count("error") == 1, done.err
        found = "0.W[0, 0] of layer Linear(2, 64) is inf" if "1e39" in more else "the loss became"
        assert f"xpnet: error: {found}" in done.err
        assert (
            ("report.html" in done.err) == (HERE / "report.html").exists() == ("none" not in more)
        )
        shutil.rmtree(HERE)


# ---- it is broken off ---------------------------------------------------------------------------

OFTEN = ["--checkpoint-every", "5", "--out", HERE]
LONG = ["spiral", "--epochs", "60", "--reproducible", "--plots", "none", *OFTEN]


def broken_off(number, mark):
    """Train on three processes until a checkpoint is there, and send a signal to one process."""
    process = begun(command("train", *LONG, "--processes", 3), XPNET_TEST=mark)
    deadline = time.monotonic() + 60
    while not find_checkpoints(SAVED):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid if number != signal.SIGKILL else rank(1, mark), number)
    return ended(process, SOON)


def rank(wanted, mark):
    """Return the number of the process that has a rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "environ").read_text().split("\0")
        except OSError:
            continue
        if {f"XPNET_TEST={mark}", f"PMI_RANK={wanted}"} <= set(words):
            return int(folder.name)
    raise AssertionError(f"no rank {wanted}")


@pytest.fixture(scope="module")
def whole(mpi, tmp_path_factory):
    """Return what the training gives that is not broken off, on one process."""
    folder = tmp_path_factory.mktemp("whole") / "here"
    assert exit_code("train", *LONG[:-1], folder, "--quiet", "--backend", "numpy") == 0
    return results(folder)


def goes_on(whole, *more):
    """Check that the training goes on to the same end."""
    done = ended(begun(command("train", "--resume", HERE, "--plots", "none", *more)))
    assert done.code == 0, done.err
    found = results()
    assert re.search(r"going on after \d+ of 420 steps", done.out)
    for name in ("weights_sha256", "test_loss", "epochs"):
        assert found[name] == whole[name]
    assert found.get("processes", 1) == (int(more[-1]) if more else 1)


@pytest.mark.thorough
@linux
def test_a_process_that_dies_ends_the_job_and_it_goes_on(whole, tmp_path):
    done = broken_off(signal.SIGKILL, str(tmp_path))
    assert done.code not in (0, 2)
    assert "xpnet: rank 1 (process " in done.err
    assert "has died without a word" in done.err
    assert done.err.count("has died") == 1
    goes_on(whole, "--processes", 2)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("number", "code", "text"),
    [(signal.SIGTERM, 143, "xpnet: terminated; "), (signal.SIGINT, 130, "stopped by Ctrl-C")],
)
def test_a_signal_for_the_launcher_saves_the_training(whole, tmp_path, number, code, text):
    done = broken_off(number, str(tmp_path))
    assert done.code == code, done.err
    assert (done.out + done.err).count(text) == 1
    assert "xpnet train --resume here goes on with it" in done.out + done.err
    assert exit_code("train", "--resume", HERE, "--plots", "none", "--quiet") == 0
    assert results()["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.thorough(but=["0"])
@several
@pytest.mark.parametrize("k", range(3))
def test_a_mistake_on_one_process_ends_all(tmp_path, k):
    """It is printed with its rank, while the others wait for that process."""
    done = ended(worker(3, tmp_path, k))
    assert done.code not in (0, 2)
    assert f"rank {k} of 3:" in done.err
    assert f"ZeroDivisionError: a mistake on rank {k}" in done.err
    assert "in on_train_batch_end" in done.err
    assert done.err.count("Traceback") == 1
    found = re.search(r"failed at ([0-9.]+)", done.out)
    assert time.time() - float(found[1]) < SOON


# ---- how they are started -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        ("train xor --processes 3 --lr 1", "train --parallel xor --lr 1"),
        ("train --processes=3 xor", "train --parallel xor"),
        ("train --proc 3 --problem xor", "train --parallel --problem xor"),
        ("train --pr=3 --plots none", "train --parallel --plots none"),
    ],
)
def test_what_each_process_is_told(given, passed_on):
    assert arguments_of_each_process(given.split()) == passed_on.split()


def test_one_process_needs_no_launcher(monkeypatch, run):
    monkeypatch.setattr(cli, "launch", None)
    assert run("train", "xor", "--epochs", "1", "--processes", "1", "--plots", "none").code == 0


def test_several_processes_are_launched_with_the_same_arguments(monkeypatch, run):
    calls = []
    monkeypatch.setattr(cli, "launch", lambda *call: calls.append(call) or 7)
    assert run("train", "xor", "--processes", "3", "--seed", "4").code == 7
    assert calls == [(3, ["train", "--parallel", "xor", "--seed", "4"])]


def test_without_mpi4py_or_mpiexec(monkeypatch, tmp_path, run):
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    done = run("train", "xor", "--processes", "2")
    assert done.code == 1
    assert "error: several processes need mpi4py; run pip install mpi4py mpich" in done.err
    monkeypatch.undo()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ParallelError, match="there is no mpiexec, which starts several processes"):
        start(2)


def test_the_mpiexec_beside_python_comes_first(monkeypatch, tmp_path):
    for folder in ("beside", "elsewhere"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mpiexec").write_text("#!/bin/sh\necho Open MPI\n")
        (tmp_path / folder / "mpiexec").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside/python"))
    monkeypatch.setenv("PATH", str(tmp_path / "elsewhere"), prepend=os.pathsep)
    assert find_mpiexec() == str(tmp_path / "beside/mpiexec")
    python = [sys.executable, "-m", "mpi4py"]
    assert start(3) == [str(tmp_path / "beside/mpiexec"), "-n", "3", *python]
    (tmp_path / "beside/mpiexec").write_text("#!/bin/sh\necho HYDRA build details:\n")
    assert start(3)[1:] == ["-n", "3", sys.executable, "-m", "mpi4py"]
    (tmp_path / "beside/mpiexec").unlink()
    assert find_mpiexec() == str(tmp_path / "elsewhere/mpiexec")


def test_each_process_has_its_share_of_the_cores(monkeypatch):
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(8))
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for processes, threads in ((1, "8"), (2, "4"), (3, "2"), (9, "1")):
        found = environment(processes)
        assert {found[name] for name in THREADS} == {threads}
        assert found["PATH"] == os.environ["PATH"]
    monkeypatch.setenv("MKL_NUM_THREADS", "5")
    found = environment(2)
    assert [found.get(name) for name in THREADS] == [None, None, "5", None]


@pytest.mark.thorough
@linux
@several
@pytest.mark.parametrize("name", ["SIGKILL", "SIGHUP"])
def test_processes_do_not_outlive_their_launcher(name):
    """They save, as by SIGTERM, and end within seconds."""
    job = begun(command("train", "spiral", "--epochs", 10**6, "--plots", "none", "--out", HERE,
                        "--processes", 2))  # fmt: skip
    log, deadline = HERE / "log.jsonl", time.monotonic() + 60
    while not (log.exists() and log.read_text().count("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    job.send_signal(getattr(signal, name))
    code = job.wait(60)
    assert code == (-9 if name == "SIGKILL" else 129)
    deadline = time.monotonic() + SOON
    while not find_checkpoints(SAVED) or _processes_of(HERE.resolve()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    job.communicate()


def _processes_of(folder):
    """Return the numbers of the processes that run xpnet in the working folder of this test."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            at_home = (entry / "cwd").resolve() == folder.parent
            if at_home and b"mpi4py" in (entry / "cmdline").read_bytes():
                found.append(entry.name)
        except OSError:
            continue
    return found
