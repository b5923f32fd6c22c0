"""Image files: where the four IDX files of a data set are, by the names that are in use."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

# MNIST, Fashion-MNIST, KMNIST: train-images-idx3-ubyte, t10k-labels.idx1-ubyte.gz; EMNIST:
# emnist-letters-test-images-idx3-ubyte; QMNIST: qmnist-train-labels-idx2-int.
_NAME = re.compile(
    r"(?P<set>.*?)(?P<split>train|t10k|test(?:\d+k)?)[-_.]?(?P<what>images|labels)"
    r"[-_.](?:idx\d*|u?byte)(?:[-_.]\w+?)?(?P<gz>\.gz)?",
    re.IGNORECASE,
)
_BETWEEN = "-_. "  # the name of a set and the rest
_TESTS = ("t10k", "test")  # they go before parts of a test set, such as test10k


class ImageFiles(NamedTuple):
    """The files of a data set.

    Attributes
    ----------
    place : Path
        The folder; with the beginning of the names, if the folder has several data sets.
    paths : list of Path
        Images and labels of the training, images and labels of the test.
    """

    place: Path
    paths: list[Path]


def find_image_files(place: Path) -> list[ImageFiles]:
    """Return all complete data sets in a folder, or in a folder for files as they come unpacked.

    A file may have a folder of its own, and a data set the folder ``raw`` or ``NAME/raw`` where
    torchvision puts it. If ``place`` is not a folder, its name is how the names of the files begin,
    such as ``raw/emnist-letters``.
    """
    if os.path.isdir(place):
        folders = [place, place / "raw", *(Path(p, "raw") for p in _folders(place))]
        return [files for folder in folders for files in _sets_of(folder)]
    name = place.name.lower().strip(_BETWEEN)
    return [files for files in _sets_of(place.parent) if files.place.name == name]


def _sets_of(folder: Path) -> list[ImageFiles]:
    """Return the complete data sets of a folder."""
    found: defaultdict[str, defaultdict[str, list[Path]]]
    found = defaultdict(lambda: defaultdict(list))
    for path, words in _named(folder):
        part = f"{words['split']} {words['what']}".lower()
        found[words["set"].lower().strip(_BETWEEN)][part].append(path)
    return [
        ImageFiles(folder / name if name else folder, paths)
        for name, parts in found.items()
        for paths in _complete_sets(parts)
    ]


def _complete_sets(parts: dict[str, list[Path]]) -> list[list[Path]]:
    """Return the four files for each test set that is complete together with the training set."""
    tests = {part.split()[0] for part in parts} - {"train"}
    wanted = [
        [f"{split} {what}" for split in ("train", test) for what in ("images", "labels")]
        for test in sorted(tests.intersection(_TESTS) or tests)
    ]
    return [
        [min(parts[part], key=_spelling) for part in four]
        for four in wanted
        if parts.keys() >= set(four)
    ]


def _spelling(path: Path) -> tuple[bool, str]:
    """Return what goes first of several spellings of a name: plain before gzip."""
    return path.name.lower().endswith(".gz"), path.name


def _named(folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    """Yield the files whose names say what they are, those in folders of such a name, too."""
    with suppress(OSError, ValueError):  # not a folder, not readable, a zero byte in the name
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            name = _NAME.fullmatch(entry.name)
            if name and entry.is_file():
                yield Path(entry.path), name
            elif name and folder.name != entry.name and entry.is_dir():
                yield from _named(Path(entry.path))


def _folders(folder: Path) -> list[str]:
    with suppress(OSError):
        return sorted(entry.path for entry in os.scandir(folder) if entry.is_dir())
    return []
