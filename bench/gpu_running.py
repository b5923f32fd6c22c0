"""Running a command of a stage: a process group with a time limit, which ends as a whole."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gpu_table import ROOT, Stage, other_files

GRACE = 4  # seconds between the signal that asks a stage to end and the one that ends it
WORKERS = 8
PR_SET_PDEATHSIG = 1  # of prctl
PYTHON = os.environ.get("PYTHON", sys.executable)
STAND_IN = ("tests/helpers/standin", "tests/helpers")  # a package named CuPy, and its modules
LAST_LINES, LAST_CHARACTERS = 6, 2000


def parallel() -> list[str]:
    """Return the options that run the tests in several processes, if pytest-xdist is installed."""
    if importlib.util.find_spec("xdist") is None:
        return []
    return ["-n", str(min(WORKERS, os.cpu_count() or 1)), "--dist", "worksteal"]


def timeout() -> list[str]:
    return ["--timeout", "60"] if importlib.util.find_spec("pytest_timeout") else []


WORDS: dict[str, Callable[[], list[str]]] = {
    "{parallel}": parallel,
    "{timeout}": timeout,
    "{the other files}": other_files,
}


def command(stage: Stage, out: Path, rehearsal: bool) -> list[str]:
    """Return the command of a stage in full."""
    words = [*stage.command, *(stage.quick if rehearsal else ())]
    full = [WORDS[word]() if word in WORDS else [word.replace("{out}", str(out))] for word in words]
    return [PYTHON, *(word for part in full for word in part)]


def environment(stage_name: str, rehearsal: bool, more: Sequence[tuple[str, str]] = ()) -> dict:
    """Return the environment of a stage: xpnet is found here, and the stand-in in a rehearsal."""
    path = [str(ROOT / folder) for folder in (*(STAND_IN if rehearsal else ()), "", "bench")]
    path += filter(None, [os.environ.get("PYTHONPATH")])
    data = os.environ.get("XPNET_DATA")  # as it is from the folder of the user
    found = os.environ | ({"XPNET_DATA": os.path.abspath(data)} if data else {})
    found |= {
        "CUPY_CACHE_DIR": found.get("CUPY_CACHE_DIR", str(ROOT / "bench/gpu_cache")),
        "PYTHONPATH": os.pathsep.join(path),
        "PYTHONUNBUFFERED": "1",
        "XPNET_REQUIRE_GPU": "1",
        "XPNET_STAGE": stage_name,
    }
    if rehearsal:  # the peers of xpnet are small there, and many threads take them longer
        found |= {"XPNET_REHEARSAL": "1", "OMP_NUM_THREADS": "1"}
    return found | dict(more)


def _die_with_parent() -> None:
    """Make this process end when its parent has ended, even by SIGKILL."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


die_with_parent = _die_with_parent if sys.platform == "linux" else None  # as a preexec_fn


class BrokenOffError(Exception):
    """A signal has ended the script."""


class Runner:
    """Runs commands, one after another, until a signal asks for the end.

    Attributes
    ----------
    signal : int
        That signal, or 0.
    """

    def __init__(self) -> None:
        self.signal, self._waiting = 0, False
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._ask)

    def _ask(self, number: int, frame: object) -> None:
        self.signal = number
        if self._waiting:
            raise BrokenOffError

    def run(self, words: Sequence[str], limit: float, out: Path, env: dict, polite: int) -> Ended:
        """Run a command; ``polite`` is the signal after which it still writes what it has found."""
        out.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        with (out / "stdout").open("wb") as stdout, (out / "stderr").open("wb") as stderr:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, cwd=ROOT, env=env,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
            late = self._wait(process, limit, polite)
        seconds = time.monotonic() - begin
        return Ended(process.returncode, seconds, limit if late else None, bool(self.signal), out)

    def _wait(self, process: subprocess.Popen, limit: float, polite: int) -> bool:
        """Wait for a process and end all that it has started; return True if it took too long."""
        late = False
        try:
            self._waiting = True
            if self.signal:
                raise BrokenOffError
            process.wait(limit)
        except (subprocess.TimeoutExpired, BrokenOffError) as error:
            self._waiting = False
            late = isinstance(error, subprocess.TimeoutExpired)
            process.send_signal(polite if late else signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE if late else 1)
        finally:
            self._waiting = False
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return late


@dataclass
class Ended:
    """How a command ended.

    Attributes
    ----------
    late : float, optional
        The time limit, if that ended it.
    broken_off : bool
        A signal to the script ended it.
    """

    code: int
    seconds: float
    late: float | None
    broken_off: bool
    out: Path

    def text(self, name: str) -> str:
        """Return what was written to "stdout" or "stderr"."""
        return (self.out / name).read_text(encoding="utf-8", errors="replace")

    def file(self, name: str) -> bytes:
        """Return a file that was left, empty if there is none."""
        path = self.out / name
        return path.read_bytes() if path.exists() else b""

    @property
    def last_lines(self) -> str:
        """The last lines of the error output, or of the output (where pytest says what failed)."""
        return last_lines(self.text("stderr")) or last_lines(self.text("stdout"))

    @property
    def reason(self) -> str:
        """Why this is not a success, in a few words."""
        if self.broken_off:
            return "broken off"
        if self.late is not None:
            return f"not done after {self.late:.0f} s"
        return f"killed by signal {-self.code}" if self.code < 0 else f"exit code {self.code}"


def last_lines(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()][-LAST_LINES:]
    return "\n".join(lines)[-LAST_CHARACTERS:]
