"""Reading the files of a run folder with care: a file may be cut off, damaged, or not ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from xpnet.backend import mode
from xpnet.layers import ACTIVATIONS
from xpnet.losses import LOSSES
from xpnet.network import DTYPES
from xpnet.optimizers import OPTIMIZERS
from xpnet.runs.problems import PROBLEMS
from xpnet.support.checks import is_finite, is_whole
from xpnet.support.errors import XpnetError
from xpnet.support.files import read_bytes

# The settings that name something which a user may have registered.
OF_A_USER: Mapping[str, Collection[str]] = {
    "activation": ACTIVATIONS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
}


MEGABYTE = 2**20
JSON_LIMIT, LOG_LIMIT = MEGABYTE, 256 * MEGABYTE  # bytes; a log of a million epochs has 150 MB
DEEPEST = 8  # lists and objects inside one another; those that xpnet writes have 2
MOST_LAYERS = 1000
LONGEST_NAME = 100  # characters of a name in the log


# ---- files ------------------------------------------------------------------------------------


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, an empty one if there is no file.

    Raises
    ------
    XpnetError
        If the file cannot be read, or does not hold an object.
    """
    data = _bytes(path, JSON_LIMIT)
    try:
        text = data.decode("utf-8-sig")  # an editor of Windows may have put a mark before it
        value = json.loads(text or "{}", object_pairs_hook=_without_repeated_names)
        _check_depth(value)
        # What a page cannot hold: NaN, infinity, halves of characters.
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(value, dict):
        raise _damaged(path, "it holds no object")
    return value


def _without_repeated_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these names and values."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in found if names.count(name) > 1)
        raise ValueError(f"{twice[:60]!r} stands there twice")
    return found


def _check_depth(value: Any, depth: int = 0) -> None:
    """Check that lists and objects do not lie too deep inside one another."""
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} lists or objects lie inside one another")
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            _check_depth(part, depth + 1)


def read_log(path: Path) -> list[dict[str, float]]:
    """Return the rows of a log, without those that are damaged."""
    lines = _bytes(path, LOG_LIMIT).decode("utf-8-sig", errors="replace").splitlines()
    return [row for row in map(_row, lines) if row]


def _row(line: str) -> dict[str, float] | None:
    """Return a row of the log; None for a line that was cut off."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    good = isinstance(row, dict) and all(map(is_finite, row.values())) and all(map(_is_name, row))
    return row if good and "epoch" in row and "loss" in row else None


def _is_name(text: str) -> bool:
    """Return True if the text may name a column: half a character cannot be written in a page."""
    return text.isprintable() and len(text) <= LONGEST_NAME


def _bytes(path: Path, limit: int) -> bytes:
    """Return what is in a file, nothing if there is no file."""
    try:
        return read_bytes(path, limit, follow=False)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise XpnetError(
            f"cannot read {path} ({error.strerror}); make it a file that can be read"
        ) from None


def _damaged(path: Path, why: object) -> XpnetError:
    return XpnetError(f"{path} is damaged: {why}; bring back a copy of it, or train again")


# ---- the configuration and the results ----------------------------------------------------------


def _is_size(value: Any) -> bool:
    return is_whole(value, least=1, below=2**63)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_size, value))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_in(names: Collection[str], value: Any) -> bool:
    return isinstance(value, str) and value in names


# What the configuration must hold, and a function that returns True for a right value.
FITS: Mapping[str, Callable[[Any], bool]] = {
    "problem": partial(_is_in, PROBLEMS),
    "hidden": lambda value: _are_sizes(value) and len(value) <= MOST_LAYERS,
    "activation": partial(_is_in, ACTIVATIONS),
    "loss": partial(_is_in, LOSSES),
    "optimizer": partial(_is_in, OPTIMIZERS),
    "lr": lambda value: is_finite(value) and value > 0,
    "epochs": _is_size,
    "batch_size": lambda value: value == "full" or _is_size(value),
    "one_cycle": _is_flag,
    "dtype": partial(_is_in, DTYPES),
    "seed": is_whole,
    "samples": lambda value: _are_sizes(value) and len(value) == 2,
    "data_dir": lambda value: value is None or isinstance(value, str),
    "parameters": partial(is_whole, below=2**63),
    **mode.FITS,
}


def check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Check that a configuration holds all that `FITS` names.

    Raises
    ------
    XpnetError
        If something is missing or wrong, or is the name of something that is not registered.
    """
    for name, names in OF_A_USER.items():
        value = config.get(name)
        if isinstance(value, str) and value not in names:
            raise XpnetError(
                f"{path}: unknown {name} {value!r:.60}; if it is your own, add --extend FILE, the "
                "Python file that registers it; else the file is damaged: bring back a copy of it, "
                "or train again"
            )
    _check_values(path, config, FITS)


def check_results(path: Path, results: Mapping[str, Any]) -> None:
    """Check that results hold a finite number for each metric, and the seconds.

    Raises
    ------
    XpnetError
        If a number is missing or is not finite.
    """
    metrics = ("accuracy",) if "test_accuracy" in results else ("rmse", "r2")
    numbers = [f"{part}_{m}" for m in ("loss", *metrics) for part in ("test", "train")]
    _check_values(path, results, dict.fromkeys(["seconds", *numbers], is_finite))


def _check_values(
    path: Path, found: Mapping[str, Any], fits: Mapping[str, Callable[[Any], bool]]
) -> None:
    for name, fit in fits.items():
        if name not in found:
            raise _damaged(path, f"it lacks {name}")
        if not fit(found[name]):
            raise _damaged(path, f"{name} is {found[name]!r:.60}")
