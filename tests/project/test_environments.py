"""Environments that xpnet does not choose: outputs, settings of Matplotlib, signals, homes.

Each command is a process of its own. Nothing may be lost, and none may end in a traceback.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import xpnet
from xpnet.cli.train import how_to_resume
from xpnet.training.checkpoint import find_checkpoints

ROOT = Path(xpnet.__file__).parent.parent
posix = pytest.mark.skipif(os.name == "nt", reason="a shell of POSIX, and its signals")
TRAIN = "train and --epochs 2 --out run --plots none"
ENDLESS = "train spiral --epochs 1000000 --out run --plots none"
LONG = ENDLESS.replace("1000000", "20000")


@pytest.fixture
def environment(tmp_path):
    """Return the environment of the commands: this xpnet, and a cache that is not the user's."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "MPLCONFIGDIR": str(tmp_path / "mpl"),
        "XPNET_BACKEND": "numpy",
    }


@pytest.fixture
def shell(environment, tmp_path):
    """Return a function that runs xpnet in bash, where redirections can follow the arguments."""

    def shell(words, python="-m xpnet", **more):
        return subprocess.run(
            ["bash", "-c", f"'{sys.executable}' {python} {words}"],
            env=environment | more,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return shell


@pytest.fixture
def begun(environment, tmp_path):
    """Return a function that starts an endless training, and waits for its first epoch."""
    processes = []

    def begun(*before, preexec_fn=None):
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "xpnet", *ENDLESS.split()],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=preexec_fn,
        )
        processes.append(process)
        log, deadline = tmp_path / "run" / "log.jsonl", time.monotonic() + 60
        while not (log.exists() and log.read_text().count("\n")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return process

    yield begun
    for process in processes:
        process.kill()
        process.communicate()


def whole(run, epochs=2):
    """Check that a training has left its results."""
    assert json.loads((run / "results.json").read_text())["epochs"] == epochs
    xpnet.load(run / "weights.npz")
    assert len((run / "log.jsonl").read_text().splitlines()) == epochs


# ---- output --------------------------------------------------------------------------------------


@posix
@pytest.mark.thorough
@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&- <&-", "2>/dev/full", "<&-"])
def test_a_closed_output_costs_nothing(shell, tmp_path, redirection):
    done = shell(f"{TRAIN} {redirection}")
    assert (done.returncode, done.stderr) == (0, "")
    whole(tmp_path / "run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_output_is_an_error_at_the_end(shell, tmp_path):
    done = shell(f"{TRAIN} >/dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "xpnet: error: cannot write to standard output (No space left on device); "
        "all files are written\n"
    )
    whole(tmp_path / "run")


@posix
@pytest.mark.thorough
def test_an_output_that_nobody_reads_any_more_saves_and_ends(shell, tmp_path):
    done = shell(f"{LONG} | head -n 1; echo ${{PIPESTATUS[0]}}", PYTHONUNBUFFERED="1")
    *_, code = done.stdout.split()
    assert (code, "Traceback" in done.stderr) == ("141", False), done.stderr
    assert "xpnet train --resume run goes on with it" in done.stderr
    (saved,) = find_checkpoints(tmp_path / "run" / "checkpoints")
    rows = len((tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert int(saved.stem.removeprefix("step-")) == 7 * rows  # steps of an epoch


@pytest.mark.thorough
@posix
def test_an_output_that_nobody_reads_after_the_end(shell, tmp_path):
    """The reader goes at once; the training is short, and all of it is kept or said to go on."""
    done = shell(f"{TRAIN} | true; echo ${{PIPESTATUS[0]}}")
    assert "Traceback" not in done.stderr
    assert done.stdout.split() == ["141"]


@pytest.mark.thorough
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "ascii:strict", "utf-16"])
def test_an_output_in_another_encoding(shell, tmp_path, encoding):
    """A name of a folder has characters that the encoding may lack."""
    done = subprocess.run(
        [sys.executable, "-m", "xpnet", *TRAIN.replace("run", "ε²×│run").split()],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False), done.stderr
    whole(tmp_path / "ε²×│run")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "settings",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"COLUMNS": "0", "TERM": "dumb", "NO_COLOR": "1"},
        {"COLUMNS": "-7", "TERM": ""},
        {"COLUMNS": "wide", "LANG": "nonsense"},
        {"HOME": "", "XDG_CACHE_HOME": ""},
        {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
    ],
    ids=lambda settings: " ".join(f"{k}={v}" for k, v in settings.items()),
)
def test_settings_of_a_terminal_and_a_home(shell, tmp_path, settings):
    done = shell(TRAIN, **settings)
    assert (done.returncode, done.stderr) == (0, "")
    whole(tmp_path / "run")
    assert shell("info", **settings).returncode == 0


NO_STREAMS = """
import sys
sys.stdout = sys.stderr = None
import numpy as np, xpnet
net = xpnet.Sequential(xpnet.Linear(2, 1))
trainer = xpnet.Trainer(net, "mse", xpnet.SGD(net, lr=0.1))
trainer.fit(np.zeros((4, 2)), np.ones((4, 1)), epochs=2, callbacks=[xpnet.ProgressBar()])
"""


@pytest.mark.thorough
def test_a_progress_bar_without_streams(shell, tmp_path):
    """As under pythonw."""
    (tmp_path / "script.py").write_text(NO_STREAMS)
    done = shell("", python="script.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---- Matplotlib ----------------------------------------------------------------------------------

PICTURES = "train and --epochs 1 --out run"


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["nonsense", "module://matplotlib_inline.none", "tkagg", ""])
def test_a_backend_of_matplotlib_that_cannot_be_used(shell, tmp_path, backend):
    done = shell(PICTURES, MPLBACKEND=backend)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert {"report.html", "loss.png", "loss.svg"} <= {p.name for p in (tmp_path / "run").iterdir()}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "text",
    [b"text.usetex: True\nfont.family: Nowhere\nnonsense\naxes.grid: maybe\n", b"\xff\xfe\0bad"],
    ids=["usetex", "damaged"],
)
def test_settings_of_matplotlib_that_cannot_be_used(shell, tmp_path, text):
    """They do not reach the report: the same run makes the same picture."""
    (tmp_path / "settings").mkdir()
    file = tmp_path / "settings" / "matplotlibrc"
    file.write_bytes(text)
    done = shell(PICTURES, MATPLOTLIBRC=str(file))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    first = (tmp_path / "run" / "loss.svg").read_bytes()
    file.unlink()
    (tmp_path / "run" / "loss.svg").unlink()
    assert shell("report run").returncode == 0
    assert (tmp_path / "run" / "loss.svg").read_bytes() == first


FIGURE = """
import os, xpnet
from xpnet import plots
plots.loss_curve({"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]})
assert os.environ["MPLBACKEND"] == {backend!r}
import matplotlib.pyplot
assert not matplotlib.rcParams["axes.grid"]  # the style of the report is not that of the user
plots.loss_curve({"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]})
"""


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["nonsense", "module://nonsense.none"])
def test_a_figure_needs_no_backend(shell, tmp_path, backend):
    (tmp_path / "script.py").write_text(FIGURE.replace("{backend!r}", repr(backend)))
    done = shell("", python="script.py", MPLBACKEND=backend)
    assert (done.returncode, done.stderr) == (0, "")


# ---- packages that are damaged -------------------------------------------------------------------

OPTIONAL = "tqdm", "threadpoolctl", "numba", "mpi4py", "cupy", "pandas", "polars"


@pytest.mark.thorough
@pytest.mark.parametrize("error", ["SystemExit", "ImportError", "OSError", "RuntimeError"])
def test_packages_that_raise_when_they_are_imported(shell, tmp_path, environment, error):
    """What a training can do without costs it nothing, and `xpnet info` prints its report."""
    for name in OPTIONAL:
        (tmp_path / "damaged" / name).mkdir(parents=True)
        (tmp_path / "damaged" / name / "__init__.py").write_text(f"raise {error}('damaged')\n")
    first = os.pathsep.join([str(tmp_path / "damaged"), environment["PYTHONPATH"]])
    done = shell(TRAIN, PYTHONPATH=first, XPNET_BACKEND="auto")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "no GPU in use, computing with NumPy; xpnet info says why\n"
    whole(tmp_path / "run")
    done = shell("info", PYTHONPATH=first)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert f"CuPy is installed but does not import ({error}: damaged)" in done.stdout


# ---- signals -------------------------------------------------------------------------------------


@posix
def test_a_terminal_that_closes_saves(begun, tmp_path):
    """As SIGTERM does, and the output of a closed terminal cannot be written."""
    process = begun()
    process.stdout.close()
    process.stderr.close()
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 128 + signal.SIGHUP
    (saved,) = find_checkpoints(tmp_path / "run" / "checkpoints")
    xpnet.load(saved)


@pytest.mark.thorough
@posix
def test_nohup_is_respected(begun):
    process = begun(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143


# ---- words of the command line -------------------------------------------------------------------


def test_a_variable_that_nobody_reads_is_said(shell):
    done = shell("info", XPNET_BACKND="cupy", xpnet_data="x")
    assert done.returncode == 0
    said = [line for line in done.stderr.splitlines() if "environment variable" in line]
    assert said == [
        "the environment variable XPNET_BACKND has no effect; did you mean XPNET_BACKEND?",
        "the environment variable xpnet_data has no effect; did you mean XPNET_DATA?",
    ]


@pytest.mark.thorough
@posix
@pytest.mark.parametrize("out", ["~/x", "./~", "./-x", "a b'c", "ü"])
def test_the_command_to_go_on_can_be_copied(shell, tmp_path, out):
    """It names the folder, whatever its characters are; only ~ at the beginning is the home."""
    word = "--out=" + (out if out == "~/x" else "'" + out.replace("'", "'\\''") + "'")
    first = shell(f"{TRAIN.replace('--out run', word)}", HOME=str(tmp_path / "home"))
    assert (first.returncode, first.stderr) == (0, "")
    folder = tmp_path / ("home/x" if out == "~/x" else out)
    whole(folder)
    said = how_to_resume(folder if out == "~/x" else Path(out))
    command = said.removeprefix("xpnet ").removesuffix(" goes on with it")
    done = shell(f"{command} --plots none", HOME=str(tmp_path / "home"))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
