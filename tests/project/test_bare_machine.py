"""The commands on a bare machine: optional packages missing, a broken CuPy, no home to write to."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.data.idx import write_idx
from xpnet.parallel.launch import THREADS, start

MISSING = ("pooch", "tqdm", "threadpoolctl", "polars", "numba", "mpi4py")
ROOT = Path(xpnet.__file__).parent.parent
BENCH = Path(__file__).parents[2] / "bench"
NO_SKLEARN = "the pictures that scikit-learn draws are left out"  # it needs threadpoolctl
HOMES = "XDG_CACHE_HOME XDG_CONFIG_HOME MPLCONFIGDIR XPNET_BACKEND XPNET_REPRODUCIBLE XPNET_DATA"


@pytest.fixture
def bare(tmp_path):
    """Return a function that runs a command with packages missing and a home that is none."""
    first = tmp_path / "first on the path"
    first.mkdir()

    def bare(*command, missing=MISSING, cupy=None, python=(sys.executable,), **environment):
        """Run Python; ``cupy`` is the source of a package of that name."""
        block = f"import sys\nsys.modules |= dict.fromkeys({list(missing)!r})\n"
        (first / "sitecustomize.py").write_text(block)
        if cupy is not None:
            (first / "cupy").mkdir(exist_ok=True)
            (first / "cupy" / "__init__.py").write_text(cupy)
        known = {
            name: value
            for name, value in os.environ.items()
            if name not in (*HOMES.split(), *THREADS)
        }
        paths = [str(first), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        known |= {
            "HOME": f"{os.devnull}/home",
            "PYTHONWARNINGS": "error",
            "PYTHONPATH": os.pathsep.join(paths),
        }
        return subprocess.run(
            [*python, *map(str, command)],
            env=known | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return bare


def passed(done):
    """Return the output of a command that has succeeded, and has said nothing unexpected."""
    expected = ("no GPU in use, computing with NumPy; xpnet info says why", NO_SKLEARN)
    said = [line for line in done.stderr.splitlines() if not line.startswith(expected)]
    assert (done.returncode, said) == (0, []), done.stderr
    return done.stdout


@pytest.fixture
def images(tmp_path):
    """Return a folder with a data set in the files of MNIST."""
    rng, folder = np.random.default_rng(0), tmp_path / "data"
    for part, n in (("train", 40), ("t10k", 20)):
        write_idx(folder / f"{part}-images-idx3-ubyte", rng.integers(0, 255, (n, 28, 28), np.uint8))
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 10)
    return folder


# ---- packages that are missing ------------------------------------------------------------------


def test_info_without_them(bare):
    out = passed(bare("-m", "xpnet", "info"))
    assert re.search(r"^BLAS +unknown: threadpoolctl is not installed; run pip install", out, re.M)
    assert re.search(r"^MNIST +not here yet", out, re.M)
    assert re.search(r"^backend +numpy$", out, re.M)


PICTURES = {
    "xor": {"loss", "accuracy", "gradients", "activations", "network"},
    "mnist": {"loss", "accuracy", "gradients", "activations", "network", "mistakes", "weights"},
}


@pytest.mark.thorough
@pytest.mark.parametrize("problem", ["xor", "mnist"])
def test_training_without_them(bare, images, tmp_path, problem):
    """With the pictures that can be drawn, and a checkpoint, which records the machine."""
    train, data = ("-m", "xpnet", "train"), {"XPNET_DATA": str(images)}
    first = bare(*train, problem, "--epochs", 2, "--out", "run", **data)
    assert first.stderr.count(NO_SKLEARN) == 1
    out = passed(first)
    assert [line[:9] for line in out.splitlines() if "epoch" in line] == ["epoch 1/2", "epoch 2/2"]
    found = {path.name for path in (tmp_path / "run").iterdir()}
    assert {path.stem for path in (tmp_path / "run").glob("*.png")} == PICTURES[problem]
    assert {path.stem for path in (tmp_path / "run").glob("*.svg")} == PICTURES[problem]
    assert {"report.html", "results.json", "weights.npz", "environment.json"} <= found
    environment = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert environment["BLAS"].startswith("unknown: threadpoolctl is not installed")
    assert "results in run" in passed(bare(*train, "--resume", "run", **data))


@pytest.mark.thorough
def test_the_check_without_them(bare, images):
    """MNIST is a data set of the check that is there, but the golden hashes are of another one."""
    arguments = ("--problems", "xor", "--backends", "numpy", "--steps", 5)
    assert "all that ran agrees" in passed(bare("-m", "xpnet", "check", *arguments))


def test_mnist_that_is_not_here(bare):
    done = bare("-m", "xpnet", "train", "mnist")
    assert (done.returncode, done.stdout) == (1, "")
    sentence = (
        r"^xpnet: error: MNIST is not here .*, and pooch, .* is not installed: run pip install"
    )
    assert re.search(rf"{sentence} pooch, or put .* XPNET_DATA$", done.stderr, re.M)


GOALS = """
import sys
sys.path.insert(0, sys.argv[1])
import goals
assert goals.xor_notebook()[-1]
assert goals.train("xor", 0)[1]["accuracy"] == 1
"""


@pytest.mark.thorough
def test_bench_goals_without_them(bare):
    passed(bare("-c", GOALS, BENCH))


@pytest.mark.thorough(but=["digits*"])
@pytest.mark.parametrize(
    ("problem", "missing", "sentence"),
    [
        ("digits", "sklearn", "scikit-learn, which brings the digits, cannot be imported"),
        ("xor", "matplotlib", "matplotlib, which draws the pictures, cannot be imported"),
    ],
)
def test_what_cannot_be_done_without(bare, tmp_path, problem, missing, sentence):
    """The error comes before the training, and leaves no folder."""
    done = bare("-m", "xpnet", "train", problem, "--epochs", 1, missing=[missing])
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = [line for line in done.stderr.splitlines() if "no GPU in use" not in line]
    assert line.startswith(f"xpnet: error: {sentence}")
    assert "; run pip install " in line
    assert not (tmp_path / "runs").exists()
    if missing == "matplotlib":
        passed(
            bare("-m", "xpnet", "train", "xor", "--epochs", 1, "--plots", "none", missing=[missing])
        )


@pytest.mark.usefixtures("mpi")
def test_processes_without_threadpoolctl(bare):
    """What cannot be done for the user is said once, with the way out."""
    code = "import xpnet; print(xpnet.parallel.communicator().size)"
    done = bare("-c", code, missing=["threadpoolctl"], python=start(2))
    said = "".join(done.stdout.split())  # two processes may write into one line
    assert (done.returncode, said) == (0, "22"), done.stderr
    assert done.stderr.count("threadpoolctl is not installed, and the BLAS of each process") == 1
    assert re.search(r"pip install threadpoolctl, or set OPENBLAS_NUM_THREADS=\d+ b", done.stderr)


# ---- a CuPy that is broken ----------------------------------------------------------------------

NO_ANSWER = """
from types import SimpleNamespace
__version__ = "14.2.0"
class ndarray: pass
def fail(*args):
    raise RuntimeError("cudaErrorUnknown:\\n  unknown error")
runtime = SimpleNamespace(getDeviceCount=fail, driverGetVersion=fail, runtimeGetVersion=fail)
"""
BROKEN = {
    "ImportError": "raise ImportError('\\n====\\nCuPy is not correctly installed.\\n\\n====\\n')",
    "a missing part": "import cupy_backends_that_is_missing",
    "a missing name": "from cupy import core",
    "OSError": "raise OSError('libcuda.so.1: cannot open shared object file')",
    "RuntimeError": "raise RuntimeError('module compiled against ABI version 0x1000009')",
    "AttributeError": "import numpy; numpy.no_such_name",
    "a warning": "import warnings; warnings.warn('CuPy may not function correctly')",
    "nothing in it": "",
    "no runtime": "from types import SimpleNamespace\ncuda = SimpleNamespace()\n"
    "__version__ = '14.2.0'\ndef is_available(): return True",
    "is_available raises": NO_ANSWER
    + "is_available, cuda = fail, SimpleNamespace(runtime=runtime)",
    "getDeviceCount raises": NO_ANSWER
    + "def is_available(): return True\ncuda = SimpleNamespace(runtime=runtime)",
}

AUTO = """
import sys, xpnet
assert xpnet.set_backend("auto").name == "numpy"
assert "cupy" not in xpnet.available_backends()
net = xpnet.Sequential(xpnet.Linear(2, 1))
assert net.predict([[1.0, 2.0]]).shape == (1, 1)
try:
    xpnet.set_backend("cupy")
except xpnet.BackendError as error:
    print(error)
"""


@pytest.mark.thorough(but=["ImportError"])
@pytest.mark.parametrize("source", BROKEN.values(), ids=BROKEN)
def test_a_broken_cupy_is_not_used(bare, source):
    """`auto` computes with NumPy, `cupy` is an error of one line, and `info` prints its report."""
    done = bare("-c", AUTO, cupy=source)
    assert done.returncode == 0, done.stderr
    reason = done.stdout.removeprefix("the backend 'cupy' cannot be used: ")
    assert done.stdout != reason
    assert reason.startswith("CuPy is installed but ")
    assert reason.count("\n") == 1
    assert "or use backend='numpy'" in reason
    assert done.stderr == "no GPU in use, computing with NumPy; xpnet info says why\n"
    out = passed(bare("-m", "xpnet", "info", cupy=source))
    assert reason in out
    assert re.search(r"^backend +numpy$", out, re.M)
    assert re.search(r"^MNIST +not here yet", out, re.M)


@pytest.mark.thorough
def test_training_with_pictures_and_no_home(bare, tmp_path):
    """All pictures are there, and matplotlib is silent about its cache."""
    done = bare("-m", "xpnet", "train", "xor", "--epochs", 1, "--out", "run", missing=[])
    assert NO_SKLEARN not in done.stderr
    passed(done)
    assert {path.stem for path in (tmp_path / "run").glob("*.png")} == {
        *PICTURES["xor"],
        "boundary",
    }


@pytest.mark.thorough
def test_a_cupy_that_cannot_write_its_cache(bare, tmp_path):
    """What the message advises helps: CuPy then imports."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    code = "from xpnet.backend import why_no_cupy; print(why_no_cupy())"
    refused = bare("-c", code).stdout
    assert refused.startswith("CuPy is installed but does not import (NotADirectoryError")
    assert "); name a folder that can be written with CUPY_CACHE_DIR, or use" in refused
    helped = bare("-c", code, CUPY_CACHE_DIR=str(tmp_path / "cache")).stdout
    assert "import" not in helped
