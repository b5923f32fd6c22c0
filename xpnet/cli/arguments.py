"""Converters for argparse: each takes the text of an argument and returns its value."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Collection
from typing import Any

from xpnet.backend import parse_name
from xpnet.support.errors import BackendError
from xpnet.support.messages import unknown


def one_of(what: str, names: Collection[str], hint: str = "") -> Callable[[str], str]:
    """Return a converter that takes one of the names, and suggests the nearest for any other."""

    def convert(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(unknown(what, text, names) + hint)
        return text

    return convert


def list_of(convert: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """Return a converter of several values with commas between them, none of them twice."""

    def convert_all(text: str) -> tuple[str, ...]:
        values = tuple(convert(part.strip()) for part in text.split(","))
        for value in values:
            if values.count(value) > 1:
                raise argparse.ArgumentTypeError(f"{value} is there twice; got {text!r}")
        return values

    return convert_all


def backend_name(text: str) -> str:
    """Return the name of a backend, such as numpy or cuda:1."""
    try:
        parse_name(text)
    except BackendError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def path(text: str) -> str:
    """Return a path; a ~ at its beginning is the home, also in --out=~/runs, as shells leave it."""
    if not text:
        raise argparse.ArgumentTypeError("must be a path; got ''")
    return os.path.expanduser(text)


def number_from(least: int) -> Callable[[str], int]:
    """Return a converter of whole numbers that are ``least`` or more."""

    def convert(text: str) -> int:
        try:
            n = int(text)
        except ValueError:
            n = least - 1
        if n < least:
            rule = f"must be a whole number, {least} or more"
            raise argparse.ArgumentTypeError(f"{rule}; got {text!r}")
        return n

    return convert


count = number_from(1)
seed = number_from(0)


def positive_number(text: str) -> float:
    """Return a finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a positive number; got {text!r}")
    return number


def batch_size(text: str) -> int | str:
    """Return the number of samples in a batch, or "full"."""
    return "full" if text == "full" else count(text)


def layer_sizes(text: str) -> tuple[int, ...]:
    """Return the sizes of the hidden layers: 64,32 are two, 0 are none."""
    return () if text == "0" else tuple(map(count, text.split(",")))


def checkpoint_interval(text: str) -> dict[str, Any]:
    """Return the argument of `Checkpoint`: 500 are steps, 5m are minutes."""
    try:
        if text.endswith("m"):
            return {"every_minutes": positive_number(text.removesuffix("m"))}
        return {"every_steps": count(text)}
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(
            f"must be steps, as 500, or minutes, as 5m; got {text!r}"
        ) from None
