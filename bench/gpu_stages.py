"""Everything that only a GPU can tell about xpnet, stage by stage: what ``bench/gpu.sh`` starts.

Two calls, each of which ends within its time, and each of whose stages leaves what it found before
the next one begins. A stage that fails or takes too long leaves its reason, and the next one runs.
The exit code is 0 if all stages passed, 1 if not, and 2, with a sentence, if nothing can be run.
``--rehearse`` runs the same without a GPU, on a stand-in for CuPy and on small sizes; its exit code
is 1 also where a stage is skipped for a reason that a GPU would not remove.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import date
from pathlib import Path

import gpu_printing as printing
from gpu_found import found, judged, last_json
from gpu_results import Folder, FolderError, log_of, refuse_a_file
from gpu_running import GRACE, PYTHON, Ended, Runner, command, environment
from gpu_table import BUDGETS, ROOT, STAGES, Stage

LOOK_LIMIT = 60  # seconds until CuPy has been imported and the GPU has answered
ROOM = 200 * 10**6  # bytes for the pack, and for what the stages and PyTorch's compiler write
SUITABLE = ("bench/gpu_first.py", "--look")


class RefusedError(Exception):
    """Nothing can be run; the sentence says why."""


class Parser(argparse.ArgumentParser):
    def error(self, message: str):
        raise RefusedError(message)


def arguments(words: list[str]) -> argparse.Namespace:
    parser = Parser("bench/gpu.sh", description=__doc__.splitlines()[0])
    names = [stage.name for stage in STAGES]
    parser.add_argument("--call", type=int, choices=BUDGETS, help="this call; both without it")
    parser.add_argument("--stage", metavar="NAME", help=f"this stage alone: {', '.join(names)}")
    parser.add_argument("--rehearse", action="store_true", help="without a GPU, on small sizes")
    text = "for the results; default $OUT, else bench/results/gpu-run"
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help=text)
    options = parser.parse_args(words)
    default = os.environ.get("OUT") or ROOT / "bench/results/gpu-run"
    options.folder = Path(options.folder or default)
    if options.stage and options.call:
        raise RefusedError("--stage names one stage of either call; leave out --call")
    if options.stage and options.stage not in names:
        raise RefusedError(f"there is no stage {options.stage!r}; the stages: {', '.join(names)}")
    return options


def chosen(options: argparse.Namespace) -> list[Stage]:
    if options.stage:
        return [stage for stage in STAGES if stage.name == options.stage]
    return [stage for stage in STAGES if options.call in (None, stage.call)]


# ---- what is the same for all stages -------------------------------------------------------------


def look(runner: Runner, scratch: Path, rehearsal: bool) -> dict:
    """Return the device and the versions.

    Raises
    ------
    RefusedError
        If the GPU cannot be used.
    """
    env = environment("look", rehearsal)
    ended = runner.run([PYTHON, *SUITABLE], LOOK_LIMIT, scratch / "look", env, signal.SIGTERM)
    if ended.broken_off:
        raise RefusedError("broken off before the first stage")
    if ended.code or ended.late:
        said = ended.last_lines.rpartition("\n")[2]
        if ended.code == 2 and said:  # a sentence about the GPU
            raise RefusedError(said)
        raise RefusedError(
            f"{PYTHON} cannot run xpnet ({said or ended.reason}); set PYTHON to a Python with CuPy "
            "and the dependencies of xpnet"
        )
    return json.loads(ended.text("stdout").splitlines()[-1])


def commit() -> str:
    """Return the commit that runs, as far as that is known."""
    with suppress(OSError):
        here = ["git", "-C", str(ROOT), "--git-dir", ".git"]  # not a repository around this folder
        asked = [*here, "describe", "--always", "--dirty", "--abbrev=40"]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
    with suppress(OSError):
        pack = Path(os.environ.get("GPU_PACK") or ROOT / "bench/gpu_pack")
        if packed := (pack / "commit.txt").read_text("utf-8").strip():
            return f"{packed}, when it was packed"
    return "unknown"


# ---- one stage -----------------------------------------------------------------------------------


class Call:
    """One call of the script: its stages share its seconds."""

    def __init__(
        self, number: int, began: float, runner: Runner, folder: Folder, scratch: Path,
        rehearsal: bool,
    ) -> None:  # fmt: skip
        self.number, self.began, self.runner, self.folder = number, began, runner, folder
        self.scratch, self.rehearsal = scratch, rehearsal

    @property
    def seconds(self) -> float:
        return time.time() - self.began

    def run(self, stage: Stage) -> None:
        """Run a stage if there is time for it, and write down how it ended."""
        left = BUDGETS[self.number] - self.seconds
        if stage.estimate > left:
            record = self._skipped(stage, left)
            if stage.name not in self.folder.results["stages"]:  # an earlier result is worth more
                self.folder.ends(stage.name, record, f"== {stage.name}: skipped\n")
        else:
            self.folder.begins(stage.name)
            record, log = self._ended(stage, min(stage.limit, left - GRACE))
            self.folder.ends(stage.name, record, log)
        print(printing.ended(stage, record, self.seconds), flush=True)

    def _skipped(self, stage: Stage, left: float) -> dict:
        why = f"it takes {stage.estimate} s, and call {self.number} has {max(left, 0):.0f} s left"
        return {"call": stage.call, "status": "skipped", "seconds": 0, "reason": why}

    def _ended(self, stage: Stage, limit: float) -> tuple[dict, str]:
        out = self.scratch / stage.name
        env = environment(stage.name, self.rehearsal, stage.environment)
        tested = stage.leaves in ("tests", "parallel")  # pytest writes what it has found at SIGINT
        polite = signal.SIGINT if tested else signal.SIGTERM
        ended = self.runner.run(command(stage, out, self.rehearsal), limit, out, env, polite)
        data = found(stage, ended)
        self._keep(stage, ended)
        times = {"call": stage.call, "seconds": round(ended.seconds, 1), "limit": round(limit)}
        record = times | judged(stage, ended, data, self.rehearsal) | data
        quiet = stage.leaves == "check"
        return record, log_of(stage.name, ended.text("stdout"), ended.text("stderr"), quiet)

    def _keep(self, stage: Stage, ended: Ended) -> None:
        """Keep what a stage leaves for a reader beside the results."""
        if stage.leaves == "check":
            report = last_json(ended.text("stdout"))
            self.folder.add_check(stage.name, report, ended.file("check.html"))
        elif stage.leaves in ("tests", "parallel"):
            self.folder.add_tests(stage.name, f"{stage.leaves}.xml", ended.file("tests.xml"))


# ---- all of them ---------------------------------------------------------------------------------


def run(options: argparse.Namespace, runner: Runner, scratch: Path) -> int:
    """Run the stages that are asked for; return the exit code."""
    refuse_a_file(options.folder)
    free = shutil.disk_usage(scratch).free
    if free < ROOM:
        raise RefusedError(
            f"{scratch.parent} has {free // 10**6} MB free; set TMPDIR to a folder with 1 GB of "
            "room"
        )
    began = float(os.environ.get("GPU_SH_BEGAN") or time.time())
    device = look(runner, scratch, options.rehearse)
    header = {
        "device": device,
        "commit": commit(),
        "date": date.today().isoformat(),
        "rehearsal": options.rehearse,
    }
    stages = chosen(options)
    print(printing.estimates(stages, header), flush=True)
    folder = Folder(options.folder, header)
    for number in sorted({stage.call for stage in stages}):
        call = Call(number, began, runner, folder, scratch, options.rehearse)
        for stage in (stage for stage in stages if stage.call == number):
            if not runner.signal:
                call.run(stage)
        began = time.time()
    print(printing.outcome(stages, folder.results), flush=True)
    if runner.signal:
        return 128 + runner.signal
    records = [folder.results["stages"].get(stage.name, {}) for stage in stages]
    return 0 if all(fine(record) for record in records) else 1


def fine(record: dict) -> bool:
    """Return True if a stage passed, or was skipped in a rehearsal because only a GPU can do it."""
    return record.get("status") == "passed" or record.get("only_a_gpu", False)


def main(words: list[str]) -> int:
    scratch = Path(os.environ.get("GPU_SCRATCH") or tempfile.mkdtemp(prefix="gpu-sh."))
    runner = Runner()
    try:
        return run(arguments(words), runner, scratch)
    except (RefusedError, FolderError) as error:
        print(f"gpu.sh: {error}", file=sys.stderr)
    except OSError as error:
        print(f"gpu.sh: cannot write to {scratch} ({error.strerror}); set TMPDIR", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return 128 + runner.signal if runner.signal else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
