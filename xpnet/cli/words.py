"""What the command line says about words that it does not know or has twice, in one line."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from xpnet.cli.exit_codes import USAGE


class Parser(argparse.ArgumentParser):
    """The parser of a command: an unknown option is named before its value is taken for another."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Check the names of commands and options first."""
        words = list(sys.argv[1:] if args is None else args)
        commands, first = self._commands(), words[0] if words else "-"
        if first in commands:  # its own parser reads the options
            return super().parse_known_args(words, namespace)
        if commands and not first.startswith("-"):
            self.error(f"unknown command {first!r}{nearest(first, commands)}")
        self._check_options(words)
        return super().parse_known_args(words, namespace)

    def _check_options(self, words: Sequence[str]) -> None:
        """Name an option that does not exist, and one that has two values."""
        known, texts = self._option_string_actions, dict[str, str]()
        for name, text in _options(words):
            meant = [name] if name in known else [long for long in known if long.startswith(name)]
            if not meant:
                self.error(f"unknown option {name}{nearest(name, known)}")
            action = known[meant[0]]
            if len(meant) > 1 or action.nargs == 0 or isinstance(action, argparse._AppendAction):
                continue
            if action.dest in texts:
                self.error(f"{meant[0]} is given twice: {texts[action.dest]} and {text}")
            texts[action.dest] = text

    def _commands(self) -> list[str]:
        return [
            name
            for action in self._actions
            if isinstance(action, argparse._SubParsersAction)
            for name in action.choices
        ]

    def error(self, message: str) -> NoReturn:
        """Print one line, and exit with 2."""
        self.exit(USAGE, f"{self.prog}: error: {message}; {self.prog} --help lists what there is\n")


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the question whether the nearest word was meant; empty if none is near."""
    near = get_close_matches(word.lower(), list(words), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Give the names of the options, each with its text, if it takes one."""
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == "--":
            return
        if re.match(r"--|-[^\W\d]", word):  # -1 is a number
            name, equals, text = word.partition("=")
            yield name, text if equals else following


def spoken(sentence: str, command: str) -> str:
    """Return a sentence of the library with the options of a command: not backend='numpy'."""
    option = "--backends" if command == "check" else "--backend"
    return re.sub(r"\bbackend='([^']*)'", rf"{option} \1", sentence)
