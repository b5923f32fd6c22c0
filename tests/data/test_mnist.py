"""MNIST: where it is looked for, what is refused, and downloads from a server in this process."""

import contextlib
import gzip
import hashlib
import http.server
import os
import socket
import struct
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

from xpnet.backend import say_once
from xpnet.data import mnist
from xpnet.data.idx import read_idx, write_idx
from xpnet.data.mnist import find_mnist, load_images, load_mnist
from xpnet.runs.problems import PROBLEMS
from xpnet.support.errors import DataError

REAL = os.environ.get("XPNET_DATA")
MIRRORS, CACHE_FOLDER = mnist._MIRRORS, mnist._cache_folder
NO_POOCH = "pooch is not installed, which downloads MNIST: pip install pooch"
NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, no XPNET_DATA, and mirrors that nobody reaches by accident."""
    monkeypatch.delenv("XPNET_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "cache" / "xpnet" / "mnist"
    monkeypatch.setattr(mnist, "_cache_folder", lambda: folder)
    monkeypatch.setattr(mnist, "_MIRRORS", ())
    return folder


def data_set(n_train=6, n_test=4, shape=(5, 3), seed=0):
    """The four arrays of a small data set."""
    rng = np.random.default_rng(seed)
    arrays = []
    for n in (n_train, n_test):
        arrays.append(rng.integers(0, 256, (n, *shape), dtype=np.uint8))
        arrays.append(rng.integers(0, 10, n, dtype=np.uint8))
    return arrays


def write_set(folder, arrays, names=NAMES):
    for name, array in zip(names, arrays, strict=True):
        write_idx(folder / name, array)


def assert_loaded(loaded, arrays):
    for got, expected in zip(loaded, arrays, strict=True):
        np.testing.assert_array_equal(got, expected.reshape(len(expected), -1).squeeze())
    assert [a.dtype for a in loaded] == [np.uint8, np.int64] * 2


def files_below(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# Formats and names


@pytest.mark.parametrize("shape", [(5, 3), (28, 28), (7,)])
def test_images_are_flattened_rows(tmp_path, shape):
    arrays = data_set(shape=shape)
    write_set(tmp_path, arrays)
    X_train, t_train, X_test, t_test = load_mnist(tmp_path)
    n_in = int(np.prod(shape))
    assert (X_train.shape, t_train.shape) == ((6, n_in), (6,))
    assert (X_test.shape, t_test.shape) == ((4, n_in), (4,))
    assert_loaded((X_train, t_train, X_test, t_test), arrays)
    assert all(a.flags.c_contiguous and a.flags.writeable for a in (X_train, t_train))


@pytest.mark.parametrize("subfolder", ["", "mnist"])
@pytest.mark.parametrize(
    "spell",
    [
        lambda name: name,
        lambda name: name + ".gz",
        lambda name: name.replace("-idx", ".idx"),
        lambda name: name.replace("-idx", ".idx") + ".gz",
        lambda name: name + ".gz" if "train" in name else name,
    ],
    ids=["plain", "gz", "dot", "dot-gz", "mixed"],
)
def test_spellings(tmp_path, spell, subfolder):
    arrays = data_set()
    write_set(tmp_path / subfolder, arrays, [spell(name) for name in NAMES])
    assert find_mnist(tmp_path) == tmp_path / subfolder
    assert_loaded(load_mnist(str(tmp_path)), arrays)


def test_a_folder_is_not_a_file(tmp_path):
    write_set(tmp_path, data_set(), [f"{name}.gz" for name in NAMES])
    (tmp_path / NAMES[0]).mkdir()  # as some programs unpack
    assert_loaded(load_mnist(tmp_path), data_set())


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32])
def test_labels_of_other_integers(tmp_path, dtype):
    arrays = data_set()
    arrays[1], arrays[3] = arrays[1].astype(dtype), arrays[3].astype(dtype)
    write_set(tmp_path, arrays)
    assert_loaded(load_mnist(tmp_path), arrays)


# Where it is looked for


@pytest.fixture
def places(tmp_path, cache, monkeypatch):
    """Three data sets: in a folder, in XPNET_DATA and, pinned, in the cache."""
    folders = SimpleNamespace(given=tmp_path / "given", env=tmp_path / "env", cache=cache)
    sets = SimpleNamespace(given=data_set(seed=1), env=data_set(seed=2), cache=data_set(seed=3))
    for place in ("given", "env", "cache"):
        write_set(getattr(folders, place), getattr(sets, place))
    pin(monkeypatch, sets.cache)
    monkeypatch.setenv("XPNET_DATA", str(folders.env))
    return SimpleNamespace(folders=folders, sets=sets)


def pin(monkeypatch, arrays):
    """Make these the MNIST that the cache and the mirrors must hold."""
    monkeypatch.setattr(mnist, "_SHA256", {n: sha256(b) for n, b in plain_files(arrays).items()})


def plain_files(arrays):
    """The four files, written without the library."""
    return {
        name: struct.pack(f">HBB{a.ndim}I", 0, 8, a.ndim, *a.shape) + a.tobytes()
        for name, a in zip(NAMES, arrays, strict=True)
    }


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def test_the_argument_comes_first(places):
    assert find_mnist(places.folders.given) == places.folders.given
    assert_loaded(load_mnist(places.folders.given), places.sets.given)


def test_the_environment_comes_second(places):
    assert find_mnist() == places.folders.env
    assert_loaded(load_mnist(), places.sets.env)


@pytest.mark.parametrize("incomplete", [True, False])
def test_the_cache_comes_third(places, incomplete):
    for path in list(places.folders.env.iterdir())[: 1 if incomplete else 4]:
        path.unlink()
    assert find_mnist() == places.folders.cache
    assert_loaded(load_mnist(), places.sets.cache)


def test_an_empty_variable_is_not_the_current_folder(places, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", "")
    monkeypatch.chdir(places.folders.given)
    assert find_mnist() == places.folders.cache


@pytest.mark.skipif(os.name != "posix", reason="elsewhere HOME is not the home folder")
def test_tilde_is_the_home_folder(places, monkeypatch):
    monkeypatch.setenv("HOME", str(places.folders.given.parent))
    assert find_mnist("~/given") == places.folders.given
    monkeypatch.setenv("XPNET_DATA", "~/given")
    assert find_mnist() == places.folders.given


def test_an_argument_without_the_files_is_an_error(places, tmp_path):
    (places.folders.given / NAMES[1]).unlink()
    (places.folders.given / NAMES[2]).unlink()
    assert find_mnist(places.folders.given) is None
    with pytest.raises(DataError) as caught:
        load_mnist(places.folders.given)
    given = places.folders.given
    expected = f"{given} lacks {NAMES[1]}, {NAMES[2]} (looked in {given}, {given / 'mnist'}): "
    assert str(caught.value).startswith(expected)
    assert "--data-dir" in str(caught.value)
    assert "XPNET_DATA" in str(caught.value)


def test_the_fullest_folder_is_the_one_that_lacks(tmp_path):
    write_set(tmp_path / "mnist", data_set())
    (tmp_path / "mnist" / NAMES[3]).unlink()
    with pytest.raises(DataError, match=r"mnist lacks t10k-labels-idx1-ubyte \("):
        load_mnist(tmp_path)


def test_no_folder_at_all(tmp_path):
    with pytest.raises(DataError, match=", ".join(NAMES)):
        load_mnist(tmp_path / "absent")
    with pytest.raises(DataError, match="train-images"):
        load_mnist(f"{tmp_path}\0")


IMPORTS = """
import sys
import xpnet.data.mnist as m
from xpnet.cli.info import report

m.load_mnist(sys.argv[1])
m.load_mnist()
m.find_mnist()
m.find_mnist(sys.argv[1] + "/none")
report()
assert not {"pooch", "requests"} & set(sys.modules)
"""


def test_pooch_is_imported_only_to_download(tmp_path):
    """The data are in a folder that is named, by XPNET_DATA or as an argument."""
    write_set(tmp_path, data_set())
    names = {"XPNET_DATA": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run(
        [sys.executable, "-c", IMPORTS, tmp_path], check=True, env={**os.environ, **names}
    )


def test_the_cache_is_where_pooch_has_it(monkeypatch):
    """Found without pooch; what earlier versions have downloaded is found, too."""
    pooch = pytest.importorskip("pooch", reason="pooch is not installed, which names the folder")
    monkeypatch.setattr(mnist, "_cache_folder", CACHE_FOLDER)
    for home in (None, "", "/some/where"):
        if home is None:
            monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        else:
            monkeypatch.setenv("XDG_CACHE_HOME", home)
        assert mnist._cache_folder() == pooch.os_cache("xpnet") / "mnist"


# What does not fit together


@pytest.mark.parametrize(
    ("which", "change", "found"),
    [
        (0, lambda X: X[:5], "5 images but"),
        (2, lambda X: X[:3], "3 images but"),
        (3, lambda t: t[:2], "2 labels"),
        (1, lambda t: t.astype(np.float32) + 0.5, "float32 such as"),
        (3, lambda t: t * np.nan, "float64 such as nan: labels must be whole numbers"),
        (1, lambda t: t.astype(np.int8) - np.int8(11), "the label -"),
        (3, lambda t: np.stack([t, t], axis=1), "uint8 of shape (4, 2)"),
        (3, lambda t: np.stack([t] * 8, axis=1), "uint8 of shape (4, 8)"),
        (1, lambda t: t + np.inf, "float64 such as inf: labels must be whole numbers"),
        (3, lambda t: t + 1e300, "float64 such as 1e+300: labels must be whole numbers"),
        (1, lambda t: t[:, None, None], "uint8 of shape (6, 1, 1)"),
        (0, lambda X: X.astype(np.float32), "images of float32 of shape (5, 3) but"),
        (0, lambda X: X.astype(np.int8), "images of int8"),
        (2, lambda X: X[..., None], "of shape (5, 3, 1)"),
        (0, lambda X: X[:, 0, 0], "of shape (6,)"),
        (0, lambda X: X[:0], "of shape (0, 5, 3)"),
        (2, lambda X: X[:, :, :0], "of shape (4, 5, 0)"),
        (2, lambda X: X[:, :, :2], "(5, 2)"),
        (2, lambda X: X.transpose(0, 2, 1), "(3, 5)"),  # as many pixels, but another picture
    ],
)
def test_inconsistent_sets(tmp_path, which, change, found):
    arrays = data_set()
    arrays[which] = change(arrays[which])
    write_set(tmp_path, arrays)
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path)
    text = str(caught.value)
    assert found in text
    assert str(tmp_path / NAMES[which]) in text
    assert "\n" not in text


# Other types, other names


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.float32, np.float64])
def test_images_of_other_types_stay_as_they_are(tmp_path, dtype):
    arrays = data_set()
    arrays[0], arrays[2] = ((X / 3).astype(dtype) for X in arrays[::2])
    write_set(tmp_path, arrays)
    X_train, _, X_test, _ = load_mnist(tmp_path)
    assert X_train.dtype == X_test.dtype == dtype
    assert np.array_equal(X_train, arrays[0].reshape(6, -1))
    assert np.array_equal(X_test, arrays[2].reshape(4, -1))


@pytest.mark.parametrize("shape", [(5, 3), (7,), (5, 3, 2), (1, 5, 3), (5, 3, 1)])
def test_load_images_keeps_the_shape(tmp_path, shape):
    arrays = data_set(shape=shape)
    write_set(tmp_path, arrays)
    X_train, _, X_test, _ = load_images(tmp_path)
    assert np.array_equal(X_train, arrays[0])
    assert np.array_equal(X_test, arrays[2])


def one_hot(t):
    return np.eye(10)[t]


@pytest.mark.parametrize(
    "form",
    [
        lambda t: t[:, None],
        lambda t: t.astype(np.float32),
        lambda t: t.astype(np.float64)[:, None],
        lambda t: one_hot(t).astype(np.uint8),
        lambda t: one_hot(t).astype(np.float32),
        lambda t: one_hot(t).astype(np.int8),
    ],
)
def test_labels_in_other_forms(tmp_path, form):
    arrays = data_set()
    write_set(tmp_path, [arrays[0], form(arrays[1]), arrays[2], form(arrays[3])])
    assert_loaded(load_mnist(tmp_path), arrays)


def test_labels_of_qmnist_are_in_the_first_of_eight_columns(tmp_path):
    arrays = data_set()
    rest = np.random.default_rng(1).integers(0, 3000, (6, 7))
    for k in (1, 3):
        labels = np.concatenate([arrays[k][:, None], rest[: len(arrays[k])]], axis=1)
        name = f"qmnist-{'train' if k == 1 else 'test'}-labels-idx2-int.gz"
        write_idx(tmp_path / name, labels.astype(np.int32))
        write_idx(tmp_path / name.replace("labels-idx2-int", "images-idx3-ubyte"), arrays[k - 1])
    assert_loaded(load_mnist(tmp_path), arrays)


def named(form, t10k="t10k"):
    """The four names, each put into a form."""
    return [form.format(name.replace("t10k", t10k)) for name in NAMES]


LAYOUTS = {
    "EMNIST": (named("emnist-letters-{}.gz", "test"), "emnist-letters"),
    "EMNIST by torchvision": (named("EMNIST/raw/emnist-digits-{}", "test"), "EMNIST/raw"),
    "Fashion-MNIST by torchvision": (named("FashionMNIST/raw/{}"), "FashionMNIST/raw"),
    "raw": (named("raw/{}.gz"), "raw"),
    "a folder for each file": (named("{0}/{0}"), ""),
    "upper case": ([name.upper() for name in NAMES], ""),
    "upper case, gzip": ([f"{name.upper()}.GZ" for name in NAMES], ""),
    "dots": ([name.replace("-idx", ".idx").replace("train-", "Train_") for name in NAMES], ""),
    "other numbers": (["train-images-idx4-float", "train-labels-idx2-int",
                       "test-images-idx4-float", "test-labels-idx2-int"], ""),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_of_other_data_sets(tmp_path, layout, monkeypatch):
    names, place = LAYOUTS[layout]
    write_set(tmp_path, data_set(), names)
    assert_loaded(load_mnist(tmp_path), data_set())
    found = find_mnist(tmp_path)
    assert_loaded(load_mnist(found), data_set())  # as a run that goes on will do
    assert str(found).startswith(str(tmp_path / place))
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    if layout != "raw":
        assert find_mnist() is None  # without a word of the user's MNIST alone


def test_gzip_stands_back_behind_the_plain_file(tmp_path):
    write_set(tmp_path, data_set(), named("emnist-{}", "test"))
    write_set(tmp_path, data_set(seed=5), named("emnist-{}.gz", "test"))
    assert_loaded(load_mnist(tmp_path), data_set())


def test_several_data_sets_in_a_folder_are_chosen_by_name(tmp_path):
    write_set(tmp_path, data_set(seed=1), named("emnist-letters-{}", "test"))
    write_set(tmp_path, data_set(seed=2), named("emnist-digits-{}", "test"))
    assert find_mnist(tmp_path) is None
    with pytest.raises(DataError) as caught:
        load_mnist(tmp_path)
    assert "has several data sets" in str(caught.value)
    assert str(caught.value).endswith(f"such as {tmp_path / 'emnist-digits'}")
    assert_loaded(load_mnist(tmp_path / "emnist-digits"), data_set(seed=2))
    assert_loaded(load_mnist(f"{tmp_path}/EMNIST-letters-"), data_set(seed=1))
    assert find_mnist(tmp_path / "emnist-letters") == tmp_path / "emnist-letters"
    with pytest.raises(DataError, match="lacks"):
        load_mnist(tmp_path / "emnist")


def test_two_roots_of_torchvision_are_chosen_by_name(tmp_path):
    write_set(tmp_path, data_set(seed=1), named("FashionMNIST/raw/{}"))
    write_set(tmp_path, data_set(seed=2), named("KMNIST/raw/{}"))
    with pytest.raises(DataError, match=r"has several data sets: .*FashionMNIST.*KMNIST"):
        load_mnist(tmp_path)
    assert_loaded(load_mnist(tmp_path / "KMNIST"), data_set(seed=2))


def test_parts_of_a_test_set_stand_back_behind_the_whole(tmp_path):
    write_set(tmp_path, data_set(), named("qmnist-{}", "test"))
    for name, array in zip(named("qmnist-{}", "test50k")[2:], data_set(seed=3)[2:], strict=True):
        write_idx(tmp_path / name, array)
    assert_loaded(load_mnist(tmp_path), data_set())


@pytest.mark.parametrize("k", range(4))
def test_three_files_of_another_set_are_not_enough(tmp_path, k):
    names = named("emnist-{}", "test")
    write_set(tmp_path, data_set(), names)
    (tmp_path / names[k]).unlink()
    (tmp_path / names[k].replace("idx", "of")).mkdir()
    with pytest.raises(DataError, match="lacks"):
        load_mnist(tmp_path)


# What the command line says of labels


def problem_of(tmp_path, t, t_test=None, shape=(4, 16)):
    arrays = data_set(shape=shape)
    arrays[1] = np.array(t, np.int32)
    arrays[3] = np.array(t[:4] if t_test is None else t_test, np.int32)
    write_set(tmp_path, arrays)
    return PROBLEMS["mnist"].load(0, tmp_path)


@pytest.mark.parametrize(
    ("t", "t_test", "classes", "words"),
    [
        ([0, 1, 2, 0, 1, 2], None, 3, None),
        ([1, 2, 3, 3, 2, 1], None, 4, "0 ... 3, but no training sample has the label 0; do"),
        ([0, 1, 2, 47, 1, 2], None, 48, "label 3, 4, 5, 6, 7, 8, 9, 10 ...; do the labels count"),
        ([0, 1, 2, 0, 1, 2], [0, 1, 3, 3], 4, "no training sample has the label 3;"),
    ],
)
def test_labels_without_a_sample_are_named(tmp_path, caplog, t, t_test, classes, words):
    say_once.cache_clear()
    data = problem_of(tmp_path, t, t_test)
    assert data.classes == classes
    assert (caplog.text == "") if words is None else (words in caplog.text)


def test_labels_too_large_for_a_training_are_refused(tmp_path):
    words = r"go up to 50000, with 4 different ones, but a training here has at most 4000 classes"
    with pytest.raises(DataError, match=words):
        problem_of(tmp_path, [0, 1, 2, 50_000, 1, 2])
    assert problem_of(tmp_path, [0, 1, 2, 3999, 1, 2]).classes == 4000


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((4, 16), (4, 16)), ((16, 4), (16, 4)), ((1, 4, 16), (4, 16)), ((4, 16, 1), (4, 16)),
     ((4, 16, 3), None), ((16,), (4, 4)), ((15,), None), ((1, 7), None), ((1, 1), (1, 1))],
)  # fmt: skip
def test_a_problem_knows_the_shape_of_its_images(tmp_path, shape, expected):
    data = problem_of(tmp_path, [0, 1, 2, 0, 1, 2], shape=shape)
    assert data.image_shape == expected
    assert data.train[0].shape == (6, int(np.prod(shape)))
    assert data.test[0].shape == (4, int(np.prod(shape)))


def test_a_damaged_file_of_the_user_is_named(tmp_path):
    write_set(tmp_path, data_set(), [f"{name}.gz" for name in NAMES])
    path = tmp_path / f"{NAMES[2]}.gz"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz"):
        load_mnist(tmp_path)


# Downloads


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        respond = self.server.mirrors[self.path.split("/")[1]]
        respond(self, self.server.files[self.path.split("/")[2]])

    def send(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """Two mirrors, /first and /second, of a small set that is pinned; both are good at first."""
    pytest.importorskip("pooch", reason=NO_POOCH)
    arrays = data_set()
    files = {f"{name}.gz": gzip.compress(body) for name, body in plain_files(arrays).items()}
    pin(monkeypatch, arrays)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.arrays, server.files, server.asked = arrays, files, []
        server.mirrors = {"first": Handler.send, "second": Handler.send}
        server.urls = tuple(f"http://127.0.0.1:{server.server_port}/{m}/" for m in server.mirrors)
        monkeypatch.setattr(mnist, "_MIRRORS", server.urls)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


OTHER = plain_files(data_set(seed=9))[NAMES[0]]
BAD = {
    "html": lambda request, body: request.send(b"<html>please log in</html>"),
    "missing": lambda request, body: request.send(b"", status=404),
    "broken": lambda request, body: request.send(body, status=500),
    "empty": lambda request, body: request.send(b""),
    "truncated": lambda request, body: request.send(body[:-9]),
    "cut off": lambda request, body: request.send(body[:-9], length=len(body)),
    "wrong": lambda request, body: request.send(gzip.compress(OTHER)),
    "endless": lambda request, body: request.send(body + bytes(5000)),
    "bad length": lambda request, body: request.send(body, length="many"),
    "bad encoding": lambda request, body: request.send(body[5:], Content_Encoding="gzip"),
    "to nowhere": lambda request, body: request.send(b"", 302, Location="http://127.0.0.1:1/"),
}


def test_download_fills_the_cache_once(server, cache):
    assert find_mnist() is None
    assert_loaded(load_mnist(), server.arrays)
    assert server.asked == [f"/first/{name}.gz" for name in NAMES]
    assert files_below(cache.parent.parent) == sorted(NAMES)
    assert find_mnist() == cache
    assert_loaded(load_mnist(), server.arrays)
    assert len(server.asked) == 4


def test_downloaded_files_have_the_pinned_bytes(server, cache):
    load_mnist()
    for name, body in plain_files(server.arrays).items():
        assert (cache / name).read_bytes() == body


def test_server_that_unpacks_on_the_way(server, cache):
    server.mirrors["first"] = lambda r, body: r.send(body, Content_Encoding="gzip")
    assert_loaded(load_mnist(), server.arrays)
    assert len(server.asked) == 4


@pytest.mark.parametrize("fault", BAD)
def test_the_second_mirror_stands_in(server, cache, monkeypatch, fault):
    monkeypatch.setattr(mnist, "_MAX_BYTES", 5000)
    server.mirrors["first"] = BAD[fault]
    assert_loaded(load_mnist(), server.arrays)
    assert server.asked == [f"/{m}/{name}.gz" for name in NAMES for m in ("first", "second")]
    assert files_below(cache.parent.parent) == sorted(NAMES)


@pytest.mark.parametrize("fault", BAD)
def test_nothing_is_kept_when_all_mirrors_are_bad(server, cache, monkeypatch, fault):
    monkeypatch.setattr(mnist, "_MAX_BYTES", 5000)
    server.mirrors["first"] = server.mirrors["second"] = BAD[fault]
    with pytest.raises(DataError) as caught:
        load_mnist()
    assert files_below(cache.parent.parent) == []
    text = str(caught.value)
    assert all(f"{url}{NAMES[0]}.gz" in text for url in server.urls)
    assert "\n" not in text


def test_offline(cache, monkeypatch):
    pytest.importorskip("pooch", reason=NO_POOCH)
    url = f"http://127.0.0.1:{free_port()}/"
    monkeypatch.setattr(mnist, "_MIRRORS", (url, url))
    with pytest.raises(DataError) as caught:
        load_mnist()
    text = str(caught.value)
    assert f"{url}{NAMES[0]}.gz gave ConnectionError" in text
    assert all(word in text for word in (*NAMES, "--data-dir", "XPNET_DATA"))
    assert "\n" not in text
    assert files_below(cache.parent.parent) == []


def test_silent_server(cache, monkeypatch):
    pytest.importorskip("pooch", reason=NO_POOCH)
    monkeypatch.setattr(mnist, "_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(mnist, "_MIRRORS", (f"http://127.0.0.1:{silent.getsockname()[1]}/",))
        with pytest.raises(DataError, match="gave ReadTimeout"):
            load_mnist()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
def test_a_server_that_sends_a_byte_now_and_then(cache, monkeypatch, start):
    """No wait between two bytes is too long, and the file never ends: within header or body."""
    pytest.importorskip("pooch", reason=NO_POOCH)
    monkeypatch.setattr(mnist, "_DEADLINE", 0.3)
    ended = threading.Event()

    def dribble(listening):
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(2**16)
            connection.sendall(start)
            while not ended.wait(0.02):
                connection.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        monkeypatch.setattr(mnist, "_MIRRORS", (url,))
        thread = threading.Thread(target=dribble, args=(listening,))
        thread.start()
        with pytest.raises(DataError, match=r"has not sent the file in 0.3 seconds"):
            load_mnist()
        ended.set()
        thread.join()
    assert files_below(cache.parent) == []


def test_no_download_unless_allowed(server, cache):
    with pytest.raises(DataError, match="lacks"):
        load_mnist(download=False)
    with pytest.raises(DataError, match="lacks"):
        load_mnist(cache)
    assert server.asked == []


def test_only_the_missing_file_is_downloaded(server, cache):
    load_mnist()
    (cache / NAMES[2]).unlink()
    server.asked.clear()
    assert_loaded(load_mnist(), server.arrays)
    assert server.asked == [f"/first/{NAMES[2]}.gz"]


DAMAGE = {
    "flipped": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "truncated": lambda data: data[:-1],
    "empty": lambda data: b"",
    "reshaped": lambda data: data[:8] + struct.pack(">2I", 3, 5) + data[16:],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_repaired(server, cache, damage):
    load_mnist()
    path = cache / NAMES[0]
    sound = path.read_bytes()
    path.write_bytes(DAMAGE[damage](sound))
    server.asked.clear()
    assert_loaded(load_mnist(), server.arrays)
    assert server.asked == [f"/first/{NAMES[0]}.gz"]
    assert path.read_bytes() == sound


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_cache_is_never_believed(server, cache, damage):
    load_mnist()
    path = cache / NAMES[0]
    path.write_bytes(DAMAGE[damage](path.read_bytes()))
    server.mirrors["first"] = server.mirrors["second"] = BAD["html"]
    with pytest.raises(DataError, match="cannot download train-images"):
        load_mnist()
    with pytest.raises(DataError) as caught:
        load_mnist(download=False)
    assert str(path) in str(caught.value)
    assert files_below(cache) == sorted(NAMES)


def test_gzip_files_in_the_cache_are_verified_too(server, cache):
    write_set(cache, server.arrays, [f"{name}.gz" for name in NAMES])
    assert_loaded(load_mnist(), server.arrays)
    assert server.asked == []
    write_idx(cache / f"{NAMES[1]}.gz", server.arrays[1] + np.uint8(1))
    assert_loaded(load_mnist(), server.arrays)
    assert server.asked == [f"/first/{NAMES[1]}.gz"]
    assert_loaded(load_mnist(download=False), server.arrays)


def test_other_data_in_the_cache_folder_by_name(server, cache):
    arrays = data_set(seed=5)
    write_set(cache, arrays)
    assert_loaded(load_mnist(cache), arrays)
    assert server.asked == []


def test_a_cache_that_cannot_be_made(server, cache):
    """Nothing is downloaded, and what the message advises helps."""
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_bytes(b"a file where a folder must be")
    with pytest.raises(DataError, match="cannot be kept in") as caught:
        load_mnist()
    text = str(caught.value)
    assert all(word in text for word in (str(cache), *NAMES, "--data-dir", "XPNET_DATA"))
    assert server.asked == []


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="there is no XDG_CACHE_HOME here")
def test_another_cache_by_its_variable(server, tmp_path, monkeypatch):
    """A home that cannot be written, and the way out of the message."""
    monkeypatch.setattr(mnist, "_cache_folder", CACHE_FOLDER)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", f"{os.devnull}/home")
    assert find_mnist() is None
    with pytest.raises(DataError, match=r"/home/\.cache/xpnet/mnist \(Not a d.*XDG_CACHE_HOME$"):
        load_mnist()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    assert_loaded(load_mnist(), server.arrays)
    assert files_below(tmp_path / "other" / "xpnet") == sorted(NAMES)
    assert find_mnist() == tmp_path / "other" / "xpnet" / "mnist"


def test_a_cache_that_cannot_be_written(server, cache, monkeypatch):
    """Root may write everywhere: the system is asked by way of a stand-in."""
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (cache, os.W_OK))
    with pytest.raises(DataError, match=r"mnist \(it cannot be written\): put"):
        load_mnist()
    assert server.asked == []


def test_a_download_without_pooch(cache, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    assert find_mnist() is None
    with pytest.raises(DataError) as caught:
        load_mnist()
    looked_in = (
        f"MNIST is not here (looked in {tmp_path}, {tmp_path / 'mnist'}, {cache}), and pooch"
    )
    start = f"{looked_in}, which downloads MNIST, is not installed: run pip install pooch, or put "
    assert str(caught.value).startswith(f"{start}{NAMES[0]}, ")
    assert not cache.exists()


def test_a_cache_is_read_without_pooch(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.delenv("XPNET_DATA")
    assert_loaded(load_mnist(), places.sets.cache)


def test_a_download_without_tqdm_has_no_bar(server, cache, monkeypatch):
    """Pooch refuses to draw a bar without tqdm."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("pooch.downloaders.tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert_loaded(load_mnist(), server.arrays)


def test_threads_at_once(server, cache):
    cache.mkdir(parents=True)
    (cache / NAMES[1]).write_bytes(b"damaged")
    start, loaded = threading.Barrier(8), []

    def load():
        start.wait()
        loaded.append(load_mnist())

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loaded) == 8
    for one in loaded:
        assert_loaded(one, server.arrays)
    assert files_below(cache.parent.parent) == sorted(NAMES)


PROCESS = """
import hashlib, sys
from pathlib import Path
import pooch, requests
from xpnet.backend import say_once
from xpnet.data import mnist

mnist._MIRRORS, mnist._SHA256 = (sys.argv[2],), dict(zip(mnist._SHA256, sys.argv[3:]))
mnist._cache_folder = lambda: Path(sys.argv[1], "xpnet", "mnist")
print("ready", flush=True)
sys.stdin.readline()
for _ in range(5):
    print(hashlib.sha256(b"".join(array.tobytes() for array in mnist.load_mnist())).hexdigest())
    for name in list(mnist._SHA256)[:2]:
        (mnist._cache_folder() / name).write_bytes(b"damaged")
mnist.load_mnist()
"""


@pytest.mark.thorough
def test_processes_at_once(server, cache):
    """Four processes load, and damage what the others are loading."""
    command = [sys.executable, "-c", PROCESS, cache.parent.parent, server.urls[0]]
    command += [sha256(body) for body in plain_files(server.arrays).values()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    assert [process.stdout.readline() for process in processes] == ["ready\n"] * 4
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    printed = [process.communicate()[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    X_train, t_train, X_test, t_test = server.arrays
    whole = [X_train, t_train.astype(np.int64), X_test, t_test.astype(np.int64)]
    assert printed == [[sha256(b"".join(a.tobytes() for a in whole))] * 5] * 4
    assert files_below(cache.parent.parent) == sorted(NAMES)
    assert_loaded(load_mnist(download=False), server.arrays)


# The real thing


@pytest.fixture
def real():
    folder = find_mnist(REAL) if REAL else None
    if folder is None:
        pytest.skip("XPNET_DATA does not name a folder with the files of MNIST")
    return folder


def test_real_mnist(real):
    X_train, t_train, X_test, t_test = load_mnist(real)
    assert (X_train.shape, X_test.shape) == ((60000, 784), (10000, 784))
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(t_train).tolist() == train
    assert np.bincount(t_test).tolist() == test
    assert X_train.mean() == pytest.approx(33.3184, abs=1e-4)
    assert X_train.reshape(-1, 28, 28)[:, 0].max() < X_train.max()  # rows are rows: margins are dim


def test_real_mnist_is_the_pinned_one(real, cache):
    """The hashes and the bound of a download admit the real files."""
    for name in NAMES:
        write_idx(cache / name, read_idx(mnist._locate(real, name)))
        assert (cache / name).stat().st_size < mnist._MAX_BYTES
    assert [a.shape for a in load_mnist(download=False)] == [
        (60000, 784),
        (60000,),
        (10000, 784),
        (10000,),
    ]


def test_mirrors_are_folders_behind_https():
    assert len(MIRRORS) == 2
    assert all(mirror.startswith("https://") and mirror.endswith("/") for mirror in MIRRORS)
