"""``--extend FILE``: run a Python file of the user's, which registers classes of the user's own.

Only a file that the user names on the command line is run, never one that a saved file names.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from runpy import run_path

from xpnet.support.errors import OptionError, XpnetError
from xpnet.support.messages import what_went_wrong

OPTION = "--extend"
TRACEBACK = "XPNET_TRACEBACK"  # a variable of the environment: errors of a user's come as they are


def run_extensions(arguments: Sequence[str]) -> None:
    """Run the files that ``--extend`` names, before the other arguments are read.

    So ``--optimizer lion`` is known wherever it stands, and ``--help`` lists it.

    Raises
    ------
    OptionError
        If a file cannot be read, has a syntax error, or raises an error.
    """
    for path in files_to_run(arguments):
        _run(path)


def files_to_run(arguments: Sequence[str]) -> list[str]:
    """Return what stands behind each ``--extend``, also where the option is shortened."""
    found, given = list[str](), iter(arguments)
    for argument in given:
        name, equals, value = argument.partition("=")
        if argument == "--":
            break
        if name.startswith("--ex") and OPTION.startswith(name):
            found += [value] if equals else [*islice(given, 1)]  # the parser reports that none is
    return found


def _run(path: str) -> None:
    """Run one file, which may import what lies beside it.

    Its module has a name that no other module can have.
    """
    try:
        if not Path(path).is_file():
            raise OptionError("there is no such file; give the path of a Python file of yours")
        sys.path.insert(0, str(Path(path).resolve().parent))
        run_path(path, run_name=f"<{path}>")
    except (Exception, SystemExit) as error:
        own = isinstance(error, OptionError)  # of `register`, or the one above
        words = str(error) if own else what_went_wrong(error)
        raise OptionError(f"{OPTION} {path or repr(path)}{_line(path, error)}: {words}") from None


def _line(path: str, error: BaseException) -> str:
    """Return the last line of the file that was running, empty if none was."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f", line {lines[-1]}" if lines else ""


@contextmanager
def naming_errors_of_extensions(arguments: Sequence[str]) -> Iterator[None]:
    """Turn an error in the user's own code into one line that names file, line and class.

    Raises
    ------
    XpnetError
        If an error that is not of this library comes by way of a file beside those that
        ``--extend`` names, unless the environment asks for the traceback.
    """
    try:
        yield
    except XpnetError:
        raise
    except Exception as error:
        place = _place(error, files_to_run(arguments))
        if not place or os.environ.get(TRACEBACK):
            raise
        more = f"{TRACEBACK}=1 in the environment shows the whole traceback"
        raise XpnetError(f"{place}: {what_went_wrong(error)}; {more}") from None


def _place(error: Exception, paths: Sequence[str]) -> str:
    """Return the last place of an error in a file beside one of the paths, empty if none is."""
    folders = {Path(path).resolve().parent for path in paths}
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        path = Path(frame.f_code.co_filename)
        if path.resolve().parent in folders and path.is_file():  # "<string>" is none
            owner = frame.f_locals.get("self")
            start = "" if owner is None else f"{type(owner).__name__}."
            place = f"{path.name}, line {line}, in {start}{frame.f_code.co_name}"
    return place
