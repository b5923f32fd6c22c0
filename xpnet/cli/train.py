"""``xpnet train``: train a problem, and leave the results in a folder."""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TextIO

from xpnet.cli.exit_codes import INTERRUPTED
from xpnet.cli.extend import OPTION
from xpnet.cli.going_on import beginning, in_words_of_the_command_line
from xpnet.cli.info import environment
from xpnet.cli.prepare import PreparedTraining, new_training, resumed_training
from xpnet.cli.processes import communicator_of
from xpnet.cli.streams import stop_if_unread
from xpnet.cli.summary import closing_table, config_of, headline, progress_of, results_of
from xpnet.runs.claim import claimed
from xpnet.runs.folder import Frames, RunFolder
from xpnet.runs.layout import CHECKPOINTS, CONFIG, RESULTS
from xpnet.runs.reading import read_json
from xpnet.runs.report import require_matplotlib, write_pictures, write_report
from xpnet.support.errors import CheckpointError, DivergenceError
from xpnet.training.callbacks import Callback, ProgressBar
from xpnet.training.checkpoint import Checkpoint, find_checkpoints


def train(options: argparse.Namespace) -> int:
    """Train on this process, or take part in a training that rank 0 leads."""
    comm = communicator_of(options)
    logging.getLogger("xpnet").disabled |= options.quiet or comm.rank > 0
    prepare = new_training if options.resume is None else resumed_training
    training = prepare(options, comm)
    return _take_part(options, training) if comm.rank else _lead(options, training)


def _take_part(options: argparse.Namespace, training: PreparedTraining) -> int:
    """Train as one of several processes: rank 0 prints, and writes the folder."""
    trainer = training.trainer
    try:
        interrupted = _fit(options, training, [], Path())
    except DivergenceError:
        trainer.comm.barrier()  # rank 0 prints the error; its end ends all processes
        raise
    except SystemExit:
        trainer.comm.finish()
        raise
    results_of(training, 0.0)  # rank 0 waits for this share of the evaluation
    trainer.comm.finish()
    return INTERRUPTED if interrupted else 0


def _lead(options: argparse.Namespace, training: PreparedTraining) -> int:
    """Train, print how it goes, and leave the results in a folder."""
    if options.plots == "all":
        require_matplotlib(", or leave them out with --plots none")  # before the training
    text = sys.stderr if options.json else sys.stdout
    say: Callable[..., None] = partial(print, file=text, flush=True)
    if options.quiet:
        say = _say_nothing
    with claimed(options.out, training.problem.name, options.resume) as folder:
        run = _described(folder, options, training)
        _say_what_begins(options, training, run, say)
        callbacks = _callbacks(options, run, text)
        run.start()
        interrupted = _fit_and_report_failures(options, training, callbacks, run)
        if interrupted and run.resumes and not training.trainer.callbacks:
            raise KeyboardInterrupt  # it has not gone on yet: what is in the folder stays
        _leave_results(options, training, run, interrupted, say)
    return INTERRUPTED if interrupted else 0


def _leave_results(
    options: argparse.Namespace,
    training: PreparedTraining,
    run: RunFolder,
    interrupted: bool,
    say: Callable[..., None],
) -> None:
    """Write the results, the network, the report and the pictures, and print the results."""
    results = results_of(training, run.seconds)
    training.trainer.comm.finish()
    run.write_json(RESULTS, results)
    run.write_weights(training.trainer)
    say(closing_table(results, progress_of(training.trainer) if interrupted else ""))
    if options.plots == "all":
        say(f"report in {_write_report_and_pictures(run, options.data_dir)}")
    say(f"results in {run.folder}")
    if interrupted:
        say(how_to_resume(run.folder, options.extend))
    if options.json:
        print(json.dumps(results))


def _say_nothing(*words: str) -> None:
    """Print nothing."""


# ---- before -----------------------------------------------------------------------------------


def _described(folder: Path, options: argparse.Namespace, training: PreparedTraining) -> RunFolder:
    """Return the folder with the configuration of the training and its environment."""
    run = RunFolder(folder, options.resume is not None)
    config = config_of(training, options.data_dir)
    if run.resumes:
        config = read_json(folder / CONFIG) | {"epochs": config["epochs"]}
    run.describe(config, partial(environment, not training.trainer.net.xp.on_host))
    return run


def _say_what_begins(
    options: argparse.Namespace,
    training: PreparedTraining,
    run: RunFolder,
    say: Callable[..., None],
) -> None:
    say(headline(training))
    if training.trainer.comm.size > 1:
        say(f"in {run.folder}")
    if options.resume is not None and not find_checkpoints(run.folder / CHECKPOINTS):
        say(f"no checkpoint in {run.folder}: from the beginning")
    elif run.resumes and options.epochs is not None and training.problem.one_cycle:
        say(f"from here on the one cycle is that of {options.epochs} epochs")


class EndIfUnread(Callback):
    """Ends the training, saved, after an epoch whose row nobody could read, as under ``| head``."""

    every_step = False
    once = True

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Look whether standard output is read."""
        stop_if_unread()


def _callbacks(options: argparse.Namespace, run: RunFolder, text: TextIO) -> list[Callback]:
    """Return the callbacks that write the folder, and print the epochs."""
    checkpoint = Checkpoint(run.folder / CHECKPOINTS, **options.checkpoint_every)
    callbacks: list[Callback] = [run, checkpoint]
    if not options.quiet:
        callbacks += [ProgressBar(text), EndIfUnread()]
    if options.plots == "all":
        callbacks.append(Frames(run))
    return callbacks


# ---- the training -----------------------------------------------------------------------------


def _fit_and_report_failures(
    options: argparse.Namespace,
    training: PreparedTraining,
    callbacks: list[Callback],
    run: RunFolder,
) -> bool:
    """Train, and return True if Ctrl-C has ended it; say what a failure leaves in the folder."""
    try:
        return _fit(options, training, callbacks, run.folder / CHECKPOINTS)
    except DivergenceError as error:
        if options.plots == "none":
            raise
        with run.writing():
            path = write_report(run.folder, options.data_dir)
        raise DivergenceError(f"{error}; the training until then is in {path}") from None
    except SystemExit:
        words = how_to_resume(run.folder, options.extend)
        print(f"xpnet: terminated; {words}", file=sys.stderr, flush=True)
        training.trainer.comm.finish()
        raise


def _fit(
    options: argparse.Namespace,
    training: PreparedTraining,
    callbacks: list[Callback],
    checkpoints: Path,
) -> bool:
    """Train, and return True if Ctrl-C has ended it."""
    problem, data, trainer = training
    try:
        place, override = trainer.comm.from_rank_0(lambda: beginning(options, problem, checkpoints))
        trainer.fit(
            *data.train,
            epochs=problem.epochs,
            batch_size=problem.batch_size,
            validation_data=data.test,
            callbacks=callbacks,
            resume=place,
            override=override,
        )
    except KeyboardInterrupt:
        return True
    except CheckpointError as error:
        raise in_words_of_the_command_line(error) from None
    return False


# ---- after ------------------------------------------------------------------------------------


def _write_report_and_pictures(run: RunFolder, data_dir: str | None) -> Path:
    """Write them, and return the path of the report."""
    with run.writing():
        write_pictures(run.folder, data_dir)
        return write_report(run.folder, data_dir)


def how_to_resume(folder: Path, extensions: Sequence[str] | None = None) -> str:
    """Return the words that say how a training goes on."""
    more = [word for path in extensions or () for word in (OPTION, path)]
    return f"{shlex.join(['xpnet', 'train', '--resume', _as_word(folder), *more])} goes on with it"


def _as_word(folder: Path) -> str:
    """Return a path that the command line takes neither for an option nor for a home."""
    return f"./{folder}" if str(folder).startswith(("-", "~")) else str(folder)
