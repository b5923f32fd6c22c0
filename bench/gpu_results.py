"""The folder that ``bench/gpu.sh`` leaves: a few flat files, each of them whole at every moment.

``results.json`` says of each stage how it ended and what it found. Beside it are ``log.txt`` with
all output, ``check.json`` and ``check.html``, and ``tests.xml`` and ``parallel.xml``.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from math import isfinite
from pathlib import Path

import gpu_junit

FILES = ("results.json", "log.txt", "check.json", "check.html", "tests.xml", "parallel.xml")
TEMPORARY = ".gpu-sh.tmp"  # one name, so that what a kill leaves behind is overwritten
LOG_CHARACTERS = 200_000  # of the output of a stage
SAME = ("device", "commit", "rehearsal")  # results with the same of these belong together


class FolderError(Exception):
    """The folder cannot be written; the sentence says why."""


class Folder:
    """A folder for the results; those of the same device and commit that it has are kept."""

    def __init__(self, path: Path, header: dict) -> None:
        self.path = path
        refuse_a_file(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error, "the results") from None
        self._lock()
        earlier = self._earlier(header)
        self.results = earlier or header | {"stages": {}}
        if not earlier:
            self._clear()
        self.write("results.json", as_json(self.results))

    def _earlier(self, header: dict) -> dict | None:
        """Return the results of the other call; None if the folder has none, or a rehearsal's.

        Raises
        ------
        FolderError
            If a file is there that was not written here, or that cost time on a GPU.
        """
        there = [name for name in FILES if os.path.lexists(self.path / name)]
        if not there:
            return None
        found = self._found()
        if found is None:
            raise FolderError(
                f"{self.path} has a file {there[0]} that is damaged or not from bench/gpu.sh; name "
                "another folder"
            )
        if all(identity(found)[key] == identity(header)[key] for key in SAME):
            return found
        if found["rehearsal"]:
            return None
        raise FolderError(
            f"{self.path} has the results of another run ({found['device'].get('GPU')}, commit "
            f"{found['commit']}), which would be lost; name another folder"
        )

    def _found(self) -> dict | None:
        """Return what is in results.json; None if it was not written here."""
        with suppress(ValueError):
            found = json.loads(self.read("results.json"))
            if isinstance(found, dict) and {*SAME, "stages"} <= found.keys():
                mappings = [found["device"], found["stages"]]
                return found if all(isinstance(one, dict) for one in mappings) else None
        return None

    def _lock(self) -> None:
        """Refuse a folder that another run writes to; the lock ends with this process."""
        import fcntl  # Windows has none

        try:
            fcntl.flock(os.open(self.path, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderError(
                f"another bench/gpu.sh writes to {self.path}; wait until it ends, or name another "
                "folder"
            ) from None
        except OSError:  # a file system without locks
            return

    def _clear(self) -> None:
        """Remove the files of a rehearsal but results.json, which is overwritten."""
        for name in (*FILES[1:], TEMPORARY):
            try:
                (self.path / name).unlink(missing_ok=True)
            except OSError as error:
                raise self._error(error, name) from None

    def _error(self, error: OSError, name: str) -> FolderError:
        return FolderError(
            f"cannot write {name} in {self.path} ({error.strerror}); the files that are there are "
            "whole; make room, or name another folder"
        )

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all."""
        temporary = self.path / TEMPORARY
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path / name)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise self._error(error, name) from None

    def read(self, name: str) -> bytes:
        """Return a file, empty if there is none."""
        try:
            return (self.path / name).read_bytes()
        except OSError:
            return b""

    def begins(self, name: str) -> None:
        """Note that a stage begins, in case that nothing can be noted about its end."""
        self.results["running"] = name
        self.write("results.json", as_json(self.results))

    def ends(self, name: str, record: dict, log: str) -> None:
        """Note how a stage ended; results.json comes last, so that it never says too much."""
        self.write("log.txt", self.read("log.txt") + log.encode())
        self.results["stages"][name] = record
        self.results.pop("running", None)
        self.write("results.json", as_json(self.results))

    def add_check(self, name: str, report: dict | None, page: bytes) -> None:
        """Keep the whole report of a check, and its page if there is one."""
        try:
            kept = json.loads(self.read("check.json"))
        except ValueError:
            kept = {}
        if report is not None:
            self.write("check.json", as_json(kept | {name: report}))
        if page:
            self.write("check.html", page)

    def add_tests(self, name: str, file: str, xml: bytes) -> None:
        """Keep what pytest said about each test, stage by stage."""
        self.write(file, gpu_junit.merged(self.read(file), xml, name))


def refuse_a_file(path: Path) -> None:
    """Raise an error if what is there is not a folder."""
    if path.exists() and not path.is_dir():
        raise FolderError(f"{path} is a file; name a folder for the results")


def identity(results: dict) -> dict:
    return results | {"device": results["device"].get("GPU")}


def as_json(results: dict) -> bytes:
    return (json.dumps(finite(results), indent=1, allow_nan=False) + "\n").encode()


def finite(value):
    """Return a value in which words stand for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def log_of(name: str, stdout: str, stderr: str, leave_out: bool) -> str:
    """Return the part of log.txt about a stage; a check's output is in check.json."""
    parts = [] if leave_out else [stdout]
    text = "".join(part if part.endswith("\n") else f"{part}\n" for part in [*parts, stderr])
    text = re.sub(r"\n{2,}", "\n", text)[-LOG_CHARACTERS:]
    return f"== {name}\n{text}"
