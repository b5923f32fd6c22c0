"""``xpnet check``: compare the gradients and the trainings of all backends."""

from __future__ import annotations

import argparse
import errno
import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xpnet.backend import Backend, find_backend
from xpnet.cli.effects import check_data_dir
from xpnet.cli.exit_codes import FAILED
from xpnet.cli.processes import communicator_of
from xpnet.cli.words import spoken
from xpnet.parallel.communicator import Communicator
from xpnet.parallel.devices import device_name
from xpnet.support.errors import BackendError, OptionError
from xpnet.support.files import write_atomically
from xpnet.verify import consistency
from xpnet.verify.consistency_html import page
from xpnet.verify.consistency_processes import check_processes


def check(options: argparse.Namespace) -> int:
    """Compare all backends, print each result as it comes, and write a report if asked for."""
    check_data_dir(options.data_dir, options.problems)
    comm = communicator_of(options)
    return _check_backends(options) if comm.size == 1 else _check_processes(options, comm)


def _check_backends(options: argparse.Namespace) -> int:
    """Compare the backends on this process."""
    text = sys.stderr if options.json else sys.stdout
    if options.html:
        _check_writable(Path(options.html))
    report = consistency.check(
        options.problems,
        options.backends,
        options.steps,
        data_dir=options.data_dir,
        required=options.require,
        on_recipe=lambda recipe: print(recipe, file=text, flush=True),
    )
    report.not_run = {what: spoken(why, "check") for what, why in report.not_run.items()}
    print(report.summary(), file=text)
    if options.html:
        write_atomically(Path(options.html), page(report).encode())
    if options.json:
        print(json.dumps(report.to_dict()))
    return 0 if report.ok else FAILED


def _check_processes(options: argparse.Namespace, comm: Communicator) -> int:
    """Check that processes which share each batch have the golden hashes, too."""
    if options.html or options.json:
        raise OptionError("--html and --json are for the check of a single process; leave them out")
    say: Callable[..., None] = (lambda *words: None) if comm.rank else partial(print, flush=True)
    backends = _backends_that_run(options, comm, say)
    say(f"{options.steps} steps in reproducible mode: all gradients, and all parameters")
    ok = check_processes(
        comm, options.problems, backends, options.steps, data_dir=options.data_dir, on_line=say
    )
    say("all that ran agrees" if ok else "NOT all agrees")
    comm.finish()
    return 0 if ok else FAILED


def _backends_that_run(
    options: argparse.Namespace, comm: Communicator, say: Callable[..., None]
) -> list[Backend]:
    """Return the backends that can be used here; each of the required ones must be one."""
    found = []
    for name in dict.fromkeys((*options.backends, *options.require)):
        try:
            found.append(find_backend(device_name(name, comm), reproducible=True))
        except BackendError as error:
            if name in options.require:
                raise
            say(f"{name}: not run: {spoken(str(error), 'check')}")
    return found


def _check_writable(path: Path) -> None:
    """Raise OptionError before any work if a file cannot be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=path.resolve().parent).close()
    except OSError as error:
        raise OptionError(
            f"--html: cannot write {path} ({error.strerror}); choose another file"
        ) from None
