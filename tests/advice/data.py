"""Advice about data: what is missing, has another type, or does not fit."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

import xpnet
from advice import advice, cannot, refused
from xpnet.data import read_idx, write_idx
from xpnet.data.idx import encode_idx

X = np.linspace(-1, 1, 24).reshape(8, 3)
T = np.arange(8) % 2


def fit(X=X, t=T, loss="softmax_cross_entropy", outputs=2, **how):
    """Train a network of one layer."""
    net = xpnet.Sequential(xpnet.Linear(np.shape(X)[1], outputs), backend="numpy")
    return xpnet.Trainer(net, loss).fit(X, t, epochs=1, **how)


@advice("{} has no value at {} ({}); fill it in, or drop the row")
def _():
    lacking = X.astype(object)
    lacking[2, 1] = None
    with refused(xpnet.DataError, "X has no value at [2, 1] (None); fill it in, or drop the row"):
        fit(lacking)
    fit(np.where(lacking == None, 0.0, lacking))  # noqa: E711
    keep = np.arange(8) != 2
    fit(lacking[keep], T[keep])


@advice("fill it in, or drop the row", "must be finite; row {row} is {value}; replace it, or drop")
def _():
    lacking = X.copy()
    lacking[2, 1] = np.nan
    with refused(xpnet.DataError, "fill it in, or drop the row"):
        fit(lacking)
    fit(np.nan_to_num(lacking))
    fit(lacking[np.arange(8) != 2], T[np.arange(8) != 2])


@advice("has no value in row {row}; fill it in, or drop the row")
def _():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(X, columns=list("abc")).astype("Float64")
    frame.loc[2, "b"] = pandas.NA
    with refused(xpnet.DataError, "the column 'b' has no value in row 2; fill it in, or drop"):
        fit(frame)
    fit(frame.fillna(0.0))
    whole = frame.notna().all(axis=1).to_numpy()
    fit(frame[whole], T[whole])


@advice("{} is a masked array without a value{}{}; fill them, {}.filled(value), or leave out")
def _():
    masked = np.ma.masked_array(X, mask=X > 0.9)
    with refused(xpnet.DataError, "fill them, X.filled(value), or leave out their rows"):
        fit(masked)
    fit(masked.filled(0.0))
    mask = masked.mask.any(axis=1)
    fit(masked[~mask], T[~mask])


@advice("turn words and categories into numbers, such as labels by")
def _():
    words = np.array(["cat", "dog"])[T]
    with refused(xpnet.DataError, "numpy.unique(t, return_inverse=True)[1]"):
        fit(t=words)
    fit(t=np.unique(words, return_inverse=True)[1])


@advice("Complex data not supported: use {a}.real, or real and imaginary part as two features")
def _():
    waves = X + 1j
    with refused(xpnet.DataError, "use X.real, or real and imaginary part as two features"):
        fit(waves)
    fit(waves.real)
    fit(np.hstack([waves.real, waves.imag]))


@advice("turn dates into numbers, such as the days since the first date")
def _():
    dates = np.datetime64("2020-01-01") + np.arange(8).reshape(8, 1)
    with refused(xpnet.DataError, "such as the days since the first date"):
        fit(dates)
    fit((dates - dates.min()).astype("timedelta64[D]").astype(float))


@advice("turn times into numbers, {a} / numpy.timedelta64(1, 's')")
def _():
    times = np.arange(8).reshape(8, 1).astype("timedelta64[s]")
    with refused(xpnet.DataError, "turn times into numbers, X / numpy.timedelta64(1, 's')"):
        fit(times)
    fit(times / np.timedelta64(1, "s"))


@advice("use {a}.astype('float32'), or for named fields")
def _():
    named = np.zeros((8,), [("a", "f4"), ("b", "f4")]).reshape(8, 1)
    with refused(xpnet.DataError, "structured_to_unstructured(X), which is imported from numpy"):
        fit(named)
    from numpy.lib.recfunctions import structured_to_unstructured

    fit(structured_to_unstructured(named.reshape(8)))


@advice("give an array, a list or a data frame")
def _():
    with refused(xpnet.DataError, "give an array, a list or a data frame"):
        xpnet.Sequential(xpnet.Linear(3, 2)).predict(object())
    fit(X.tolist())


@advice("collect its samples in one array first, such as numpy.array(list({}))")
def _():
    samples = X.tolist()
    with refused(xpnet.DataError, "such as numpy.array(list(X))"):
        xpnet.Sequential(xpnet.Linear(3, 2)).predict(iter(samples))
    xpnet.Sequential(xpnet.Linear(3, 2)).predict(np.array(list(iter(samples))))


@advice("; use {}.{}()")
def _():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    half = torch.tensor(X, dtype=torch.bfloat16)
    with refused(xpnet.DataError, "; use X.float()"):
        fit(half)
    fit(half.float())


@advice("use {}.collect()")
def _():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    lazy = polars.DataFrame(X, schema=["a", "b", "c"]).lazy()
    with refused(xpnet.DataError, "use X.collect()"):
        xpnet.Sequential(xpnet.Linear(3, 2)).predict(lazy)
    xpnet.Sequential(xpnet.Linear(3, 2)).predict(lazy.collect())


@advice("{} must hold one number in each row; got arrays of shape {}: make a column of each number")
def _():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.DataFrame({"a": np.arange(8.0), "pairs": np.ones((8, 2))})
    with refused(xpnet.DataError, "the column 'pairs' must hold one number in each row"):
        fit(frame)
    fit(polars.DataFrame({"a": np.arange(8.0), "first": np.ones(8), "second": np.ones(8)}))


@advice("{} has a whole number above {}; scale the values")
def _():
    large = np.array([[10**400 * k] for k in range(1, 9)], dtype=object)
    with refused(xpnet.DataError, "X has a whole number above 1.8e+308; scale the values"):
        fit(large)
    fit(large // 10**400)


@advice("{} has several data sets: {}; name one of them, such as {}")
def _(run):
    for name in ("qmnist", "kmnist"):
        for part, n in (("train", 8), ("t10k", 4)):
            write_idx(f"{name}-{part}-images-idx3-ubyte", np.ones((n, 28, 28), np.uint8))
            write_idx(f"{name}-{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8))
    with refused(xpnet.DataError, "name one of them, such as ") as info:
        xpnet.data.load_mnist(".")
    place = str(info.value).rpartition("such as ")[2]
    assert len(xpnet.data.load_mnist(place)[0]) == 8


@advice("scale the values, as the network computes with {}")
def _():
    with refused(xpnet.DataError, "scale the values, as the network computes with float32"):
        fit(X * 1e40)
    fit(X * 1e40 / 1e40)


@advice("class labels must be whole numbers; got the dtype")
def _():
    with refused(xpnet.DataError, "convert them with t.astype(int)"):
        fit(t=T + 0.5)
    fit(t=(T + 0.5).astype(int))


@advice("the network gives outputs of shape {}, but {} takes vectors; end the network with Flatten")
def _():
    images = X.reshape(4, 2, 3)

    def train(*layers):
        net = xpnet.Sequential(*layers, backend="numpy")
        return xpnet.Trainer(net, "mse").fit(images, np.zeros((4, 6)), epochs=1)

    with refused(xpnet.ShapeError, "end the network with Flatten() or Linear(...)"):
        train(xpnet.Tanh())
    train(xpnet.Tanh(), xpnet.Flatten())


@advice("the data set needs {} MB, more than the {} backend has left; train with fewer samples")
def _(monkeypatch):
    import xpnet.training.data as place

    def put(self, column, dtype):
        if len(column) > 4:
            raise MemoryError
        return was(self, column, dtype)

    was = place.DataReader.put
    monkeypatch.setattr(place.DataReader, "put", put)
    with refused(xpnet.OutOfMemoryError, "train with fewer samples"):
        fit()
    fit(X[:4], T[:4])


@advice("{} cannot be read ({}): check the path")
def _():
    write_idx("images.idx", np.zeros((2, 3), np.uint8))
    with refused(xpnet.DataError, "check the path"):
        read_idx("image.idx")
    read_idx("images.idx")


@advice("{} is shorter than {}: it is truncated, get it again", "it is damaged, get it again")
@advice(
    "ends inside its header: it is truncated, get it again", "cannot be read ({}): get it again"
)
def _(tmp_path):
    write_idx("server.idx.gz", np.ones((20, 30), np.uint8))
    write_idx("server.idx", np.ones((20, 30), np.uint8))
    for name, size in (("server.idx", 6), ("server.idx", -1), ("server.idx.gz", -1)):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / "got").write_bytes(whole[:size])
        with refused(xpnet.DataError, "get it again"):
            read_idx("got")
        (tmp_path / "got").write_bytes(whole)
        assert read_idx("got").sum() == 600
    (tmp_path / "server.idx").write_bytes((tmp_path / "server.idx").read_bytes() + b"0")
    with refused(xpnet.DataError, "it is damaged, get it again"):
        read_idx("server.idx")


@advice("is not the file of MNIST (SHA-256 {}, not {}): get it again")
def _(monkeypatch):
    from xpnet.data import mnist

    mistaken, right = np.ones((2, 3), np.uint8), np.zeros((2, 3), np.uint8)
    digest = hashlib.sha256(encode_idx(right)).hexdigest()
    monkeypatch.setitem(mnist._SHA256, "t10k-labels-idx1-ubyte", digest)
    with refused(xpnet.DataError, ": get it again"):
        mnist._verify(mistaken, "t10k-labels-idx1-ubyte", "file")
    mnist._verify(right, "t10k-labels-idx1-ubyte", "file")


def write_mnist(folder, labels, n=4):
    """Write the four files of a small data set."""
    for part in ("train", "t10k"):
        write_idx(f"{folder}/{part}-images-idx3-ubyte", np.ones((n, 28, 28), np.uint8))
        write_idx(f"{folder}/{part}-labels-idx1-ubyte", labels)


MNIST = ("train", "mnist", "--epochs", 1, "--hidden", 4, "--plots", "none", "--quiet")


@advice("with {} different ones, but a training here has at most {} classes, counted from 0; write")
def _(run):
    labels = np.array([0, 9, 9, 70000], np.int32)
    write_mnist("wide", labels)
    done = run(*MNIST, "--data-dir", "wide")
    assert "write the files again with the labels 0 ... 2" in done.err
    write_mnist("narrow", np.unique(labels, return_inverse=True)[1].astype(np.int32))
    assert run(*MNIST, "--data-dir", "narrow").code == 0


@advice("name the folder of those with --data-dir")
def _(run):
    write_mnist("a", np.arange(4, dtype=np.int32))
    write_mnist("b", np.arange(5, dtype=np.int32), n=5)
    assert run(*MNIST, "--data-dir", "a", "--out", "run").code == 0
    resume = "train", "--resume", "run", "--epochs", 2, *MNIST[6:]
    done = run(*resume, "--data-dir", "b")
    assert (done.code, "; name the folder of those with --data-dir" in done.err) == (1, True)
    assert run(*resume, "--data-dir", "a").code == 0


@advice("put config.json, the data and extensions back as they were, or begin another training")
def _(run):
    labels = np.arange(4, dtype=np.int32)
    write_mnist("a", labels)
    assert run(*MNIST, "--data-dir", "a", "--out", "run").code == 0
    resume = "train", "--resume", "run", "--epochs", 2, *MNIST[6:], "--data-dir", "a"
    write_mnist("a", labels[::-1].copy())
    assert "put config.json, the data and extensions back as they were" in run(*resume).err
    assert run(*MNIST, "--data-dir", "a", "--out", "other").code == 0  # without --resume
    write_mnist("a", labels)
    assert run(*resume).code == 0


@advice("{} cannot be written ({}): write elsewhere")
def _(tmp_path):
    (tmp_path / "file").write_text("")
    with refused(xpnet.DataError, "write elsewhere"):
        write_idx("file/images.idx", np.zeros((2, 3), np.uint8))
    write_idx("elsewhere/images.idx", np.zeros((2, 3), np.uint8))


@advice("IDX has no place for a {} array of shape {}: convert it to uint8, int8, int16, int32")
def _():
    with refused(xpnet.DataError, "convert it to uint8, int8, int16, int32, float32 or float64"):
        write_idx("a.idx", np.zeros(3, np.int64))
    write_idx("a.idx", np.zeros(3, np.int64).astype(np.int32))


@advice("into one folder and name it with data_dir, --data-dir or XPNET_DATA")
def _(tmp_path, monkeypatch, run):
    monkeypatch.delenv("XPNET_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with refused(xpnet.DataError, "name it with data_dir, --data-dir or XPNET_DATA"):
        xpnet.data.load_mnist(download=False)
    names = (
        "train-images-idx3-ubyte",
        "train-labels-idx1-ubyte",
        "t10k-images-idx3-ubyte",
        "t10k-labels-idx1-ubyte",
    )
    for name in names:
        images = "images" in name
        write_idx(tmp_path / "mine" / name, np.zeros((3, 4, 4) if images else 3, np.uint8))
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "mine"))
    assert xpnet.data.load_mnist()[0].shape[0] == 3
    monkeypatch.delenv("XPNET_DATA")
    assert xpnet.data.load_mnist(data_dir=tmp_path / "mine")[0].shape[0] == 3
    assert run(*MNIST, "--data-dir", tmp_path / "mine").code == 0


@advice("MNIST is not here (looked in {}), and pooch, which downloads MNIST, is not installed")
def _():
    # the other half, the folder, is followed above; to install a package needs a network
    import tomllib
    from pathlib import Path

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert any(name.startswith("pooch") for name in project["project"]["dependencies"])


cannot("a folder for downloads matters where there is a network", ", or name another folder for")
