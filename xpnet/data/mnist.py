"""MNIST, or any data set in the same four files, from a folder or downloaded."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import threading
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data.idx import decode_idx, encode_idx, read_idx, write_idx
from xpnet.data.image_files import find_image_files
from xpnet.data.image_sets import ImageSet, image_set
from xpnet.support.errors import DataError

# SHA-256 of the files before compression: how gzip packs them differs between mirrors.
_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_TIMEOUT = (5, 30)  # seconds: to connect, and between two pieces
_DEADLINE = 600  # seconds for one file, however the pieces come
_MAX_BYTES = 2**26  # the largest file has 47 MB
_ADVICE = (
    f"put {', '.join(_SHA256)} (each plain or with .gz) into one folder"
    " and name it with data_dir, --data-dir or XPNET_DATA"
)
_OTHER_CACHE = ", or name another folder for downloads with XDG_CACHE_HOME"

_Images = NDArray[Any]
_Labels = NDArray[np.int64]


def load_mnist(
    data_dir: str | os.PathLike[str] | None = None, *, download: bool = True
) -> tuple[_Images, _Labels, _Images, _Labels]:
    """Load MNIST, or another data set in the same four IDX files.

    The files `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
    `t10k-labels-idx1-ubyte`, plain or with `.gz`, are in `data_dir`. Without `data_dir` they are
    in the folder that the environment variable `XPNET_DATA` names, or else in the cache folder,
    which gets what is downloaded: MNIST alone, verified. Each folder may have them in `mnist`.

    In a `data_dir` the names of EMNIST, QMNIST and others are found, too, in upper case, in folders
    of their own, and where torchvision puts them. Of several data sets in one folder choose one by
    the beginning of its names: ``data_dir="raw/emnist-letters"``.

    Parameters
    ----------
    data_dir : str or os.PathLike, optional
        The folder of the four files.
    download : bool
        True if files may be downloaded.

    Returns
    -------
    X_train : ndarray, shape (n_train, values of an image)
        Of the type that the file has: uint8 means pixels, see docs/data.md.
    t_train : ndarray of int64, shape (n_train,)
        One-hot rows, a column, and whole numbers of a floating type have become labels.
    X_test : ndarray, shape (n_test, values of an image)
    t_test : ndarray of int64, shape (n_test,)

    Raises
    ------
    DataError
        If files are missing or damaged and cannot be downloaded, do not fit together, or belong to
        several data sets.
    """
    X_train, t_train, X_test, t_test = load_images(data_dir, download=download)
    return _flatten(X_train), t_train, _flatten(X_test), t_test


def load_images(
    data_dir: str | os.PathLike[str] | None = None, *, download: bool = True
) -> ImageSet:
    """Load what `load_mnist` loads, with images of the shape that the files have."""
    cache, paths = _cache_folder(), _find(data_dir)
    if paths is not None:
        return image_set([read_idx(path) for path in paths], paths)
    if data_dir is not None or not (download or _complete([cache])):
        raise DataError(_describe_absence(data_dir))
    paths = [cache / name for name in _SHA256]
    return image_set([_read_cached(cache, name, download) for name in _SHA256], paths)


def find_mnist(data_dir: str | os.PathLike[str] | None = None) -> Path | None:
    """Return the folder that `load_mnist` would read, or None if no folder has all four files.

    Of several data sets in one folder it is the folder with the beginning of the names.
    """
    folder = _complete(_folders(data_dir))
    if folder is not None or data_dir is None:
        return folder
    sets = find_image_files(Path(os.path.expanduser(data_dir)))
    return sets[0].place if len(sets) == 1 else None


def _find(data_dir: str | os.PathLike[str] | None) -> list[Path] | None:
    """Return the four files in the folders that the user has named, None if they are not there."""
    folder = _complete(_named_folders(data_dir))
    if folder is not None:
        return [_locate(folder, name) for name in _SHA256]
    sets = [] if data_dir is None else find_image_files(Path(os.path.expanduser(data_dir)))
    if len(sets) > 1:
        places = [str(files.place) for files in sets]
        raise DataError(
            f"{data_dir} has several data sets: {', '.join(places[:8])}; name one of them, such as "
            f"{places[0]}"
        )
    return sets[0].paths if sets else None


def _complete(folders: Iterable[Path]) -> Path | None:
    """Return the first folder that has all four files, or None."""
    return next((folder for folder in folders if not _missing(folder)), None)


def _folders(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders to search, in order."""
    return _named_folders(data_dir) + [_cache_folder()] * (data_dir is None)


def _named_folders(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Return the folders that the user has named, with their subfolders."""
    home = os.environ.get("XPNET_DATA") if data_dir is None else data_dir
    if not home:
        return []
    folder = Path(os.path.expanduser(home))
    return [folder, folder / "mnist"]


def _cache_folder() -> Path:
    """Return the folder for downloads: that of `pooch.os_cache`, without importing pooch."""
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")
        return Path(local, "xpnet", "xpnet", "Cache", "mnist")
    if sys.platform == "darwin":
        return Path(os.path.expanduser("~/Library/Caches"), "xpnet", "mnist")
    home = os.environ.get("XDG_CACHE_HOME", "").strip() or os.path.expanduser("~/.cache")
    return Path(home, "xpnet", "mnist")


def _locate(folder: Path, name: str) -> Path:
    """Return the file in the first spelling that exists, else in that of a download."""
    names = [stem + end for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
    return next((folder / n for n in names if os.path.isfile(folder / n)), folder / name)


def _missing(folder: Path) -> list[str]:
    return [name for name in _SHA256 if not os.path.isfile(_locate(folder, name))]


def _describe_absence(data_dir: str | os.PathLike[str] | None) -> str:
    folders = _folders(data_dir)
    nearest = min(folders, key=lambda folder: len(_missing(folder)))
    return (
        f"{nearest} lacks {', '.join(_missing(nearest))} (looked in"
        f" {', '.join(map(str, folders))}): {_ADVICE}"
    )


def _flatten(X: _Images) -> _Images:
    return X.reshape(len(X), -1)


def _read_cached(folder: Path, name: str, download: bool) -> NDArray[Any]:
    """Return the array of a file in the cache; a damaged file is downloaded again."""
    path = _locate(folder, name)
    try:
        return _verify(read_idx(path), name, str(path))
    except DataError:
        if not download:
            raise
    return _download(folder, name)


def _verify(array: NDArray[Any], name: str, source: str) -> NDArray[Any]:
    """Return the array if the plain IDX file of the array has the known SHA-256."""
    digest = hashlib.sha256(encode_idx(array)).hexdigest()
    if digest != _SHA256[name]:
        raise DataError(
            f"{source} is not the file of MNIST (SHA-256 {digest}, not {_SHA256[name]}):"
            " get it again"
        )
    return array


def _download(folder: Path, name: str) -> NDArray[Any]:
    """Return the file from the first mirror with the right copy; no other copy is written."""
    _check_pooch()
    _check_cache(folder)
    failures = []
    for url in [f"{mirror}{name}.gz" for mirror in _MIRRORS]:
        try:
            array = _verify(decode_idx(_fetch(url), url, max_bytes=_MAX_BYTES), name, url)
        except DataError as error:
            failures.append(str(error))
        except (OSError, ValueError) as error:  # requests' errors are OSErrors, with long texts
            failures.append(f"{url} gave {type(error).__name__}")
        else:
            write_idx(folder / name, array)
            return array
    raise DataError(f"cannot download {name} ({'; '.join(failures)}): {_ADVICE}")


def _check_pooch() -> None:
    """Check that pooch, which nothing but a download needs, is installed."""
    try:
        import pooch  # noqa: F401
    except ImportError:
        raise DataError(
            f"MNIST is not here (looked in {', '.join(map(str, _folders(None)))}), and pooch,"
            f" which downloads MNIST, is not installed: run pip install pooch, or {_ADVICE}"
        ) from None


def _check_cache(folder: Path) -> None:
    """Make the cache folder before the download begins."""
    reason = "it cannot be written"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return
    except OSError as error:
        reason = error.strerror or str(error)
    other = "" if sys.platform in ("win32", "darwin") else _OTHER_CACHE
    raise DataError(f"MNIST cannot be kept in {folder} ({reason}): {_ADVICE}{other}")


def _fetch(url: str) -> io.BytesIO:
    """Return what a server sends, which must end before the deadline.

    A thread waits for the server, as nothing else ends a wait for a byte per second.
    """
    import pooch

    body, bar = _Body(url), sys.stderr.isatty() and find_spec("tqdm") is not None
    download = pooch.HTTPDownloader(bar, chunk_size=2**16, timeout=_TIMEOUT)
    errors: list[Exception] = []

    def receive() -> None:
        try:
            download(url, body, None)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    thread.join(_DEADLINE)
    if thread.is_alive():
        body.too_late = True
        raise DataError(f"{url} has not sent the file in {_DEADLINE} seconds")
    if errors:
        raise errors.pop()  # the traceback must not keep the sockets
    return body


class _Body(io.BytesIO):
    """The bytes that `url` sends; more than a limit is an error, and so is what comes too late."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.too_late = url, False

    def write(self, piece: Any, /) -> int:
        if self.too_late or self.tell() + len(piece) > _MAX_BYTES:
            raise DataError(f"{self.url} sends more than {_MAX_BYTES} bytes, or too late")
        return super().write(piece)
