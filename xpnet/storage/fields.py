"""The fields in the description of a training: which there are, and what each must be.

A field of another kind is a damaged file; one that is not known may come from a newer version.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from math import inf
from typing import Any

from xpnet.support.archive import Arrays
from xpnet.support.checks import is_whole
from xpnet.support.errors import CheckpointError

Fits = Callable[[Any], bool]
OLD = {"constant lr", "samples"}  # settings that only the first release has written


def require_description(what: str, about: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a field of a description is not as it must be; it names the field.

    Parameters
    ----------
    what : str
        How the error begins: the file, and what is wrong with it.
    about : dict
        The description.
    """
    for problem in _problems(about):
        raise CheckpointError(f"{what}: {problem}")


def require_known_arrays(what: str, arrays: Arrays, about: Mapping[str, Any]) -> None:
    """Raise CheckpointError if an array belongs to nothing that the description knows."""
    owners = {f"history.{k}" for k in range(len(about["history"]))} | {"losses"}
    starts = ("optimizer.", *(f"{name}." for name in about["callbacks"]))
    for name in arrays:
        if not (name[0].isdigit() or name in owners or name.startswith(starts)):
            raise CheckpointError(f"{what}: it has {unknown_field('array', name)}")


def unknown_field(kind: str, name: object) -> str:
    """Return the words about a part of a file that this version does not know."""
    return f"an unknown {kind} {name!r:.60}; was it written by a newer xpnet?"


def _problems(about: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a description, the outer fields first."""
    yield from _misfits("", about, FIELDS, FIELDS)
    yield from _unknown("", about, {"format", "xpnet", *FIELDS, *LATER_FIELDS})
    progress, settings = about["progress"], about["settings"]
    yield from _misfits("progress.", progress, PROGRESS_FIELDS, PROGRESS_FIELDS)
    yield from _unknown("progress.", progress, PROGRESS_FIELDS)
    if progress["first_epoch"] > progress["epoch"]:
        yield f"its progress.epoch is {progress['epoch']}, before the first of the fit"
    first = settings.keys() >= OLD
    yield from _misfits("", about, LATER_FIELDS, () if first else LATER_FIELDS)
    kinds, needed = (FIRST_SETTINGS, ()) if first else (SETTINGS, ("lr",))
    yield from _misfits("settings.", settings, kinds, needed)
    yield from _unknown("settings.", {"network"} & settings.keys(), ())


def _unknown(start: str, names: Iterable[str], known: Collection[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            yield f"it has {unknown_field('field', start + name)}"


def _misfits(
    start: str, values: Mapping[str, Any], kinds: Mapping[str, Fits], needed: Collection[str] = ()
) -> Iterator[str]:
    """Yield a line for each value that is missing or of another kind."""
    for name, fits in kinds.items():
        if name in values and not fits(values[name]):
            yield f"its {start}{name} is {values[name]!r:.150}"
        if name not in values and name in needed:
            yield f"its {start}{name} is missing"


# ---- what fields hold --------------------------------------------------------------------------


def _is_count(value: Any) -> bool:
    return is_whole(value, below=2**53)


def _is_number(value: Any) -> bool:
    """Return True for what a user may set on an optimizer."""
    plain = value is None or isinstance(value, bool | float)
    return plain or (isinstance(value, int) and abs(value) < 2**53)


def _is_lr(value: Any) -> bool:
    return type(value) is float and 0 < value < inf


def _is_rate(value: Any) -> bool:
    """Return True for a constant learning rate, or for the description of a schedule."""
    if not isinstance(value, dict):
        return _is_lr(value)
    if value.keys() != {"schedule", "steps", "rates"} or not isinstance(value["schedule"], str):
        return False
    steps, rates = value["steps"], value["rates"]
    if not isinstance(steps, list) or not isinstance(rates, list) or len(steps) != len(rates):
        return False
    return all(map(_is_count, steps)) and all(r is None or isinstance(r, float) for r in rates)


def _are_prints(*names: str) -> Fits:
    """Return what sees whether a value has the fingerprints of data."""

    def fits(value: Any) -> bool:
        known = isinstance(value, dict) and {*value} - {"weights"} == {"samples", "X", "t"}
        return known and {*value} <= {"samples", *names} and all(map(_is_count, value.values()))

    return fits


def _or_none(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_dict_of_dicts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_dict, value.values()))


def _are_names(value: Any) -> bool:
    """Return True for a list of words of which none is there twice."""
    words = isinstance(value, list) and all(isinstance(word, str) for word in value)
    return words and len(set(value)) == len(value)


FIELDS: Mapping[str, Fits] = {  # of every checkpoint
    "network": lambda value: isinstance(value, dict) and isinstance(value.get("layers"), list),
    "settings": _is_dict,
    "progress": _is_dict,
    "t": _is_count,
    "lr": _or_none(_is_lr),
    "history": _are_names,
    "callbacks": _is_dict_of_dicts,
    "machine": _is_dict,
}
PROGRESS_FIELDS: Mapping[str, Fits] = {
    "epoch": _is_count,
    "batch": _is_count,
    "first_epoch": _is_count,
    "epochs": partial(is_whole, below=2**64),  # sys.maxsize: a training without end
    "stop": lambda value: isinstance(value, bool),
}
LATER_FIELDS: Mapping[str, Fits] = {  # those that the first release has not written
    "schedule": _or_none(_is_rate),
    "changed": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
}
# Settings are compared with those of the script. These are read, too.
SETTINGS: Mapping[str, Fits] = {
    "lr": _is_rate,
    "data": _are_prints("X", "t"),
    "sample_weight": _or_none(_is_count),
    "validation_data": _or_none(_are_prints("X", "t", "weights")),
    "callbacks": _is_dict_of_dicts,
}
FIRST_SETTINGS: Mapping[str, Fits] = {
    "constant lr": lambda value: isinstance(value, bool),
    "samples": _is_count,
}
