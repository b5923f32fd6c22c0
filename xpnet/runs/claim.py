"""The folder of a training: a new one, or an old one in which nothing can be lost.

Only a training that was broken off before its first checkpoint, or that diverged before it, is
replaced by another training. All else in a folder stays: files of a finished training, and files
of somebody else that have names which xpnet uses, end the command before anything is written.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from xpnet.runs.layout import (
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    FRAMES,
    LOG,
    OF_THE_END,
    REPORT,
    RESULTS,
)
from xpnet.runs.saved import SavedRun, read_run
from xpnet.support.errors import OptionError, XpnetError
from xpnet.support.files import sweep, writing
from xpnet.support.locks import FolderLock

# What a training leaves that was broken off before its first checkpoint, in the order in which
# another training removes it: the configuration last, so that a folder is never without it.
OF_THE_BEGINNING = (ENVIRONMENT, LOG, FRAMES, REPORT, CONFIG)
NAMES = {*OF_THE_BEGINNING, *OF_THE_END}
CHOOSE = "choose another folder with --out DIR"
OTHER, AGAIN = "choose another one with --out DIR", "see to it, then resume the training"


@contextmanager
def claimed(out: str | None, problem: str, resume: str | None = None) -> Iterator[Path]:
    """Give the folder of a training, into which no other training can write until the end.

    Parameters
    ----------
    out : str, optional
        The folder; by default a new one, ``runs/PROBLEM-DATE-TIME``.
    problem : str
        The name of the problem.
    resume : str, optional
        The folder of the training that goes on, instead of ``out``.

    Raises
    ------
    OptionError
        If another training is writing there, or something in the folder would be lost.
    XpnetError
        If the folder cannot be made, read or written. This is found before any training.
    """
    folder = Path("runs" if out is None else out) if resume is None else Path(resume)
    way_out = OTHER if resume is None else AGAIN
    with writing(folder, way_out):
        if out is None and resume is None:
            folder = make_new_folder(problem)
        folder.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(folder, CHOOSE if resume is None else "wait for its end")
        lock.acquire()  # here, where an error of the disk is one of the folder
    with lock:
        _make_ready(folder, way_out, new=resume is None)
        yield folder


def _make_ready(folder: Path, way_out: str, new: bool) -> None:
    """Check that nothing will be lost, and remove what nobody will miss."""
    if new:
        check_nothing_is_lost(folder)
    else:
        has_steps(folder, "then resume the training")  # raises if nobody can know that
    with writing(folder, way_out):
        for path in (folder, folder / CHECKPOINTS):
            if path.is_dir():
                sweep(path)
        for name in OF_THE_BEGINNING if new else ():
            (folder / name).unlink(missing_ok=True)


def make_new_folder(problem: str) -> Path:
    """Make ``runs/PROBLEM-DATE-TIME``, or -2, -3 ... of it: no other training has it."""
    first = Path("runs") / f"{problem}-{time.strftime('%Y%m%d-%H%M%S')}"
    first.parent.mkdir(parents=True, exist_ok=True)
    for k in count(1):
        folder = first if k == 1 else first.with_name(f"{first.name}-{k}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise AssertionError  # there is always another number


def check_nothing_is_lost(folder: Path) -> None:
    """Check that a new training in a folder replaces nothing that somebody may want to keep.

    Raises
    ------
    OptionError
        If the folder has a finished training, one that can go on, or files of somebody else with
        names that a training uses.
    XpnetError
        If the folder cannot be read.
    """
    there = NAMES.intersection(_names_in(folder))
    if has_steps(folder):
        there.add(CHECKPOINTS)
    if CONFIG in there:
        try:
            run = read_run(folder)
        except XpnetError as error:
            raise OptionError(f"{error}; or {CHOOSE}") from None
        if there.intersection((CHECKPOINTS, RESULTS)):
            raise OptionError(f"{folder} has a training that {_how_it_goes_on(run)}, or {CHOOSE}")
        there.difference_update(OF_THE_BEGINNING)
    if there:
        raise OptionError(
            f"{folder} has {', '.join(sorted(there))}, which the training would replace; {CHOOSE}"
        )


def _how_it_goes_on(run: SavedRun) -> str:
    """Return the words about a training that must not be replaced."""
    resume, epochs = ["xpnet", "train", "--resume", str(run.folder)], run.config["epochs"]
    done = run.results.get("epochs")
    if isinstance(done, int) and done >= epochs:
        more = f"`{shlex.join(resume)} --epochs N`"
        return f"is finished; for more than its {epochs} epochs go on with {more}"
    return f"was broken off; go on with `{shlex.join(resume)}`"


def has_steps(folder: Path, way_out: str = f"or {CHOOSE}") -> bool:
    """Return True if a run folder has checkpoints of a training.

    ``way_out`` is what a user can do about a folder that cannot be read.

    Raises
    ------
    XpnetError
        If the folder of the checkpoints cannot be read, or is a link or a file: whoever writes
        there would write elsewhere.
    """
    path = folder / CHECKPOINTS
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(path, error.strerror, way_out) from None
    if not stat.S_ISDIR(mode):
        raise _unreadable(path, "a link" if stat.S_ISLNK(mode) else "not a folder", way_out)
    names = _names_in(path, way_out)
    return any(name.startswith("step-") and name.endswith(".npz") for name in names)


def _names_in(folder: Path, way_out: str = f"or {CHOOSE}") -> list[str]:
    try:
        return os.listdir(folder)
    except OSError as error:
        raise _unreadable(folder, error.strerror, way_out) from None


def _unreadable(path: Path, why: str | None, way_out: str) -> XpnetError:
    return XpnetError(f"cannot read {path} ({why}); make it a folder that can be read, {way_out}")
