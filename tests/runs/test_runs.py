"""Run folders: what is in them, how they are read again, and what they survive."""

from __future__ import annotations

import base64
import json
import os
import random
import shutil
import signal
import time
import tracemalloc
import zipfile
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from command import exit_code
from matplotlib import image
from matplotlib.figure import Figure
from test_cli import FILES as IDX_FILES
from test_cli import FILES_WITHOUT_PLOTS, says, started

import xpnet
from xpnet import plots
from xpnet.backend import why_no_cupy
from xpnet.data import write_idx
from xpnet.plots import layer_numbers
from xpnet.runs import folder as runs
from xpnet.runs import reading
from xpnet.runs.layout import OF_THE_END, PICTURES
from xpnet.runs.problems import PROBLEMS, build
from xpnet.runs.report import contents, page, pictures, write_report
from xpnet.runs.report.contents import packed
from xpnet.runs.saved import read_run
from xpnet.support import archive, files
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.errors import DataError, XpnetError
from xpnet.training import recording
from xpnet.training.recording import FrameFile, Recorder

ALWAYS = {"loss", "network", "gradients", "activations"}
DRAWN = {  # the pictures that fit each training
    "and": ALWAYS | {"accuracy", "boundary"},
    "xor": ALWAYS | {"accuracy", "boundary"},
    "spiral": ALWAYS | {"accuracy", "boundary"},
    "curve": ALWAYS | {"rmse", "curve"},
    "surface": ALWAYS | {"rmse", "surface"},
    "digits": ALWAYS | {"accuracy", "confusion", "mistakes", "weights"},
    "squares": ALWAYS | {"accuracy", "confusion", "mistakes", "weights"},
    "oblongs": ALWAYS | {"accuracy", "confusion", "mistakes", "weights"},
}
IMAGES = {"squares": (5, 5), "oblongs": (5, 4)}  # data sets of one's own, for the problem mnist
EPOCHS = {"spiral": 2, "curve": 12, "surface": 12, "digits": 1}  # of the others 3
ENDLESS = "-m", "xpnet", "train", "spiral", "--epochs", "100000", "--out", "here"


def write_images(where, height, width, n=60):
    """Write images of three classes, with noise: the class is the row that is brighter."""
    rng = np.random.default_rng(0)
    for name, k in zip(IDX_FILES, (n, n, 24, 24), strict=True):
        t = np.arange(k) % 3
        X = rng.integers(0, 200, (k, height, width))
        X[np.arange(k), t] += 50
        write_idx(where / name, (X if "images" in name else t).astype(np.uint8))


def train(where, name):
    """Train in ``where / name``."""
    arguments = [name, "--epochs", EPOCHS.get(name, 3), "--out", where / name]
    if name in IMAGES:
        write_images(where / f"idx-{name}", *IMAGES[name])
        arguments[0] = "mnist"
        arguments += ["--data-dir", where / f"idx-{name}", "--batch-size", 8]
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XPNET_REPRODUCIBLE", raising=False)
        assert exit_code("train", *arguments, "--backend", "numpy", "--quiet") == 0
    return where / name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One folder for each training, with all but the pictures; the tests get copies."""
    where = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnet.cli.train.write_pictures", no_pictures_of)
        for name in DRAWN:
            train(where, name)
    return where


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Return the folder of a training, with its pictures."""
    return cache(lambda name: train(tmp_path_factory.mktemp("drawn"), name))


@pytest.fixture
def copy(made, tmp_path):
    """Return a copy of a folder, without some of its files."""

    def copy(name, *without, to="here"):
        folder = tmp_path / to
        shutil.copytree(made / name, folder)
        for file in without:
            (folder / file).unlink()
        return Path(to)

    return copy


pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")


def no_pictures_of(folder, data_dir=None):
    """Leave out the pictures, which take most of the time, but not the report."""
    return []


@pytest.fixture
def no_pictures(monkeypatch):
    """Leave them out in a test."""
    monkeypatch.setattr("xpnet.cli.train.write_pictures", no_pictures_of)


class Page(HTMLParser):
    """A page, as a browser takes it apart: ``tags``, and ``texts`` with their elements' ids."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], {}
        self._last = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._last = dict(attrs).get("id", tag)

    def handle_data(self, data):
        self.texts.setdefault(self._last, []).append(data)


def shown(folder):
    """Return what the report of a folder shows, from its page."""
    parsed = Page((folder / "report.html").read_text(encoding="utf-8"))
    return json.loads("".join(parsed.texts["data"]), parse_constant=pytest.fail)


def names(folder):
    """Return the names of all files but the lock, which a killed training leaves."""
    return {path.name for path in folder.iterdir()} - {".lock"}


def in_both(drawn):
    return {f"{name}.{kind}" for name in drawn for kind in ("png", "svg")}


def log_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def results_of(folder):
    return json.loads((folder / "results.json").read_text())


def change(folder, file="config.json", **values):
    """Change some values of a JSON file; None takes one away."""
    path = folder / file
    found = json.loads(path.read_text()) | values
    path.write_text(json.dumps(found))


# ---- what a training leaves -------------------------------------------------------------------


@pytest.mark.thorough(but=["and", "squares"])
@pytest.mark.parametrize("name", DRAWN)
def test_the_folder_has_what_belongs_there(drawn, name):
    folder, pictures = drawn(name), DRAWN[name]
    expected = FILES_WITHOUT_PLOTS | {"frames.bin", "report.html"} | in_both(pictures)
    assert names(folder) == expected
    assert pictures <= set(PICTURES)
    for picture in pictures:
        height, width, _ = image.imread(folder / f"{picture}.png").shape
        assert min(height, width) > 600
        text = (folder / f"{picture}.svg").read_bytes()
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert len(text) < 1_000_000
        assert b"<dc:date>" not in text


def test_every_picture_has_its_place():
    """What a second run removes is what a first one may write."""
    assert set().union(*DRAWN.values()) == set(PICTURES)
    assert DRAWN.keys() - IMAGES.keys() == PROBLEMS.keys() - {"mnist"}


@pytest.mark.parametrize("name", DRAWN)
def test_the_report_is_one_file(made, name):
    text = (made / name / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 5_000_000
    for outside in ("http:", "https:", "url(", "src=", "@import", "<link", "href=", "fetch("):
        assert outside not in text, outside
    assert set(Page(text).tags).isdisjoint({"img", "iframe", "link", "object", "a"})
    assert "default-src 'none'" in text


@pytest.mark.parametrize("name", DRAWN)
def test_the_report_has_the_numbers_of_the_log(made, name):
    folder, found = made / name, shown(made / name)
    rows = log_of(folder)
    assert found["log"] == {key: [row[key] for row in rows] for key in rows[0]}
    assert found["results"] == results_of(folder)
    assert found["status"] == f"finished, {len(rows)} of {len(rows)} epochs"
    for file in ("config", "environment"):
        assert found[file] == json.loads((folder / f"{file}.json").read_text())
    assert found["notes"] == []
    kinds = {"curve": "curve", "surface": "surface"} | dict.fromkeys(
        ("and", "xor", "spiral"), "plane"
    )
    assert (found["view"] or {}).get("kind") == kinds.get(name)
    for part in ("mistakes", "weights", "confusion"):
        assert (part in found) is (part in DRAWN[name])
    assert ("parameters" in found) is (name in ("and", "xor"))
    recorder = recorder_of(folder)
    assert found["frames"] == recorder.epochs
    assert {len(row) for of in ("gradients", "activations") for row in found["norms"][of]} == {
        len(recorder.epochs)
    }


@pytest.mark.parametrize(("name", "shape"), IMAGES.items())
def test_images_have_the_shape_of_the_header(made, name, shape):
    found = shown(made / name)
    assert tuple(found["weights"]["shape"][2:]) == shape
    assert tuple(found["mistakes"]["images"]["shape"][1:]) == shape


def test_what_is_no_image_is_not_drawn_as_one(made):
    notes, data = [], read_run(made / "squares").load()
    found = contents._images(recorder_of(made / "squares"), replace(data, image_shape=None), notes)
    assert found.keys() == {"confusion"}
    assert [note[:10] for note in notes] == ["No images:"]


def recorder_of(folder):
    found = read_run(folder)
    return found.recorder(found.load())


@pytest.fixture
def trainers(monkeypatch):
    """The trainers that the command makes."""
    kept = []

    def kept_build(*args, **kwargs):
        kept.append(build(*args, **kwargs))
        return kept[-1]

    monkeypatch.setattr("xpnet.cli.prepare.build", kept_build)
    return kept


def test_the_log_is_the_history(run, trainers, no_pictures):
    assert run("train", "curve", "--epochs", 7, "--out", "here").code == 0
    (trainer,), rows = trainers, log_of(Path("here"))
    assert [row.pop("epoch") for row in rows] == [*range(1, 8)]
    assert list(rows[0]) == ["loss", "val_loss", "val_rmse", "val_r2"]
    assert {name: [row[name] for row in rows] for name in rows[0]} == trainer.history
    assert read_run(Path("here")).log == log_of(Path("here"))


def test_the_results_are_numbers_of_the_trained_network(run, trainers, no_pictures):
    assert run("train", "spiral", "--epochs", 2, "--out", "here").code == 0
    (trainer,), results, split = trainers, results_of(Path("here")), PROBLEMS["spiral"].load(0, "")
    seconds = results.pop("seconds")
    assert 0 < seconds < 60
    assert results == {
        "problem": "spiral",
        "backend": "numpy",
        "epochs": 2,
        "parameters": trainer.net.size,
        "weights_sha256": trainer.net.sha256(),
        **{f"train_{k}": v for k, v in trainer.evaluate(*split.train).items()},
        **{f"test_{k}": v for k, v in trainer.evaluate(*split.test).items()},
    }


@pytest.mark.parametrize(
    ("problem", "options", "changed"),
    [
        ("and", "--epochs 5", {"epochs": 5}),
        ("xor", "--epochs 4 --batch-size 3 --seed 5", {"epochs": 4, "batch_size": 3}),
        (
            "spiral",
            "--epochs 3 --hidden 5,4 --activation tanh --loss bce --optimizer momentum --lr 0.125 "
            "--batch-size full --seed 9 --dtype float64",
            {
                "epochs": 3, "hidden": (5, 4), "activation": "tanh", "loss": "bce",
                "optimizer": "momentum", "lr": 0.125, "batch_size": None,
            },
        ),
        ("spiral", "--epochs 1 --hidden 0", {"epochs": 1, "hidden": ()}),
        ("curve", "--epochs 12", {"epochs": 12}),
        ("curve", "--epochs 3", {"epochs": 3, "one_cycle": False}),  # too short for a cycle
        (
            "surface",
            "--epochs 12 --optimizer sgd --loss huber --dtype float64",
            {"epochs": 12, "optimizer": "sgd", "loss": "huber", "lr": 0.1, "one_cycle": False},
        ),
        ("digits", "--epochs 1 --hidden 3 --reproducible", {"epochs": 1, "hidden": (3,)}),
    ],
)  # fmt: skip
def test_the_folder_is_enough_to_go_on(run, no_pictures, problem, options, changed):
    """The recipe as it was used, and the network at each moment, whatever the options."""
    assert run("train", problem, *options.split(), "--out", "here", "--quiet").code == 0
    found = read_run(Path("here"))
    assert found.problem == replace(PROBLEMS[problem], **changed)
    split = found.load()
    recorder = found.recorder(split)
    assert recorder.epochs[0] == 0
    assert recorder.epochs[-1] == changed["epochs"]
    assert (np.diff(recorder.epochs) > 0).all()
    fresh = build(found.problem, split, dtype=found.config["dtype"], seed=found.config["seed"])
    assert recorder.network(0).sha256() == fresh.net.sha256()
    assert recorder.network(-1).sha256() == found.results["weights_sha256"]
    (Path("here") / "frames.bin").unlink()
    end = found.recorder(split)
    assert end.epochs == [changed["epochs"]]
    assert end.network(0).sha256() == found.results["weights_sha256"]


def test_the_data_are_those_of_the_seed(run, no_pictures):
    assert run("train", "spiral", "--epochs", 1, "--seed", 7, "--out", "here").code == 0
    split = read_run(Path("here")).load()
    assert np.array_equal(split.train[0], xpnet.data.spiral(400, seed=7)[0])


def test_large_networks_have_fewer_moments(run, no_pictures, monkeypatch):
    """All frames together stay below the limit, in memory and in the file."""
    monkeypatch.setattr(recording, "LIMIT", 10 * 4 * 13 + 51)
    assert run("train", "and", "--epochs", 500, "--out", "here").code == 0
    assert len(shown(Path("here"))["frames"]) == 10
    assert (Path("here") / "frames.bin").stat().st_size == 10 * (8 + 4 * 13)


def test_the_limit_is_64_mb():
    """A network of 784-1024-1024-10 has 4 times 1.9 million bytes of parameters."""
    assert recording.LIMIT == 64_000_000
    recorder = Recorder()
    net = xpnet.Sequential(
        xpnet.Linear(784, 1024), xpnet.Linear(1024, 1024), xpnet.Linear(1024, 10)
    )
    recorder.trainer = SimpleNamespace(
        net=net, epoch=0, batch=0, first_epoch=0, epochs=1000, steps_per_epoch=1, resumed=False
    )
    recorder.on_train_begin({})
    assert 2 + len(list(recorder._due)) == 64_000_000 // (4 * net.size) == 8


def test_a_moment_is_on_disk_at_once(tmp_path):
    net = xpnet.Sequential(xpnet.Linear(2, 1))
    frames = FrameFile(tmp_path / "frames.bin")
    frames.trainer = xpnet.Trainer(net, "mse")
    for k in range(3):
        frames.add(k)
        assert (tmp_path / "frames.bin").stat().st_size == (k + 1) * (8 + 4 * 3)


def test_without_plots(run):
    done = run("train", "and", "--epochs", 2, "--plots", "none", "--out", "here")
    assert (done.code, done.err) == (0, "")
    assert names(Path("here")) == FILES_WITHOUT_PLOTS
    assert "report" not in done.out


def broken_off_before_a_checkpoint(folder):
    """Remove what a training leaves at its end, and its checkpoints."""
    for file in os.listdir(folder):
        if file in OF_THE_END and file != "report.html":
            (folder / file).unlink()
    shutil.rmtree(folder / "checkpoints")


@pytest.mark.thorough
def test_a_second_run_leaves_nothing_of_the_first(run, copy):
    """Of what is ours; what is not ours stays."""
    folder = copy("digits")
    broken_off_before_a_checkpoint(folder)
    for name in ("notes.txt", "my.png", "loss.pdf"):
        (folder / name).write_text(name)
    assert run("train", "curve", "--epochs", 2, "--out", folder).code == 0
    ours = FILES_WITHOUT_PLOTS | {"frames.bin", "report.html"} | in_both(DRAWN["curve"])
    assert names(folder) == ours | {"notes.txt", "my.png", "loss.pdf"}
    assert (folder / "my.png").read_text() == "my.png"
    assert shown(folder)["config"]["problem"] == "curve"
    assert recorder_of(folder).epochs == [0.0, 1.0, 2.0]
    broken_off_before_a_checkpoint(folder)
    assert run("train", "and", "--epochs", 2, "--plots", "none", "--out", folder).code == 0
    assert names(folder) == FILES_WITHOUT_PLOTS | {"notes.txt", "my.png", "loss.pdf"}
    assert len(log_of(folder)) == 2


def test_a_run_that_ends_before_its_configuration_leaves_no_run_folder(run, copy, monkeypatch):
    """Not the configuration of the one run with the log of the other."""
    folder = copy("and")
    broken_off_before_a_checkpoint(folder)
    monkeypatch.setattr(runs, "write_atomically", full_disk)
    says(run("train", "curve", "--epochs", 1, "--out", folder), 1, "No space left on device")
    says(run("report", folder), 1, f"{folder} is no run folder")


# ---- xpnet report -----------------------------------------------------------------------------


@pytest.mark.thorough(but=["and", "xor", "spiral"])
@pytest.mark.parametrize("name", DRAWN)
def test_the_same_report_again(made, copy, monkeypatch, name):
    """Byte for byte, whatever backend and mode the environment asks for."""
    folder = copy(name, "report.html")
    monkeypatch.setenv("XPNET_BACKEND", "nonsense")
    monkeypatch.setenv("XPNET_REPRODUCIBLE", "1")
    assert write_report(folder) == folder / "report.html"
    assert (folder / "report.html").read_bytes() == (made / name / "report.html").read_bytes()


@pytest.mark.thorough(but=["and"])
@pytest.mark.parametrize("name", ["and", "surface", "squares"])
def test_the_same_pictures_again(run, drawn, name):
    pictures, first, folder = in_both(DRAWN[name]), drawn(name), Path("here")
    shutil.copytree(first, folder, ignore=lambda _, found: {"report.html", *pictures} & {*found})
    done = run("report", folder)
    assert (done.code, done.err) == (0, "")
    listed = done.out.splitlines()
    assert listed[0] == str(folder / "report.html")
    assert sorted(listed[1:]) == sorted(str(folder / picture) for picture in pictures)
    for path in filter(Path.is_file, first.iterdir()):
        assert (folder / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.thorough
def test_without_frames_the_end_is_shown(run, copy):
    folder = copy("spiral", "frames.bin", "report.html")
    assert run("report", folder).code == 0
    found = shown(folder)
    assert (found["frames"], found["notes"]) == ([2.0], [])
    assert found["view"]["scores"]["shape"] == [1, 81, 81]
    assert in_both(DRAWN["spiral"]) <= names(folder)


def only_curves(run, folder, *why, options=()):
    """Check that the report has the curves, and says why it has no more."""
    for path in folder.glob("*.[ps][nv]g"):
        path.unlink()
    done = run("report", folder, *options)
    assert (done.code, done.err) == (0, "")
    found = shown(folder)
    (note,) = found["notes"]
    assert note.startswith("Only the curves can be shown: ")
    assert [part for part in why if str(part) not in note] == [], note
    assert found["frames"] == []
    rows = read_run(folder).log
    assert len(found["log"].get("loss", [])) == len(rows)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert '<p class="note">Only the curves can be shown: ' in text
    drawn = {path.stem for path in folder.glob("*.png")}
    curves = {"loss", "rmse" if "val_rmse" in found["log"] else "accuracy"}
    assert drawn == (curves if rows else set())
    return found


def test_without_any_weights(run, copy):
    folder = copy("and", "frames.bin", "weights.npz")
    only_curves(run, folder, "neither frames.bin nor weights.npz in", folder)


def test_without_a_log(run, copy):
    folder = copy("and", "log.jsonl", "frames.bin", "weights.npz", "results.json")
    found = only_curves(run, folder)
    assert found["log"] == {}
    assert found["status"] == "broken off after 0 of 3 epochs"


@pytest.mark.thorough
def test_without_the_data_and_where_they_are_now(run, made, copy):
    """Nothing is downloaded instead, and other data are not taken for them."""
    write_images(Path("idx"), 5, 5)
    folder = copy("squares")
    change(folder, data_dir=str(Path("gone").resolve()))
    only_curves(run, folder, Path("gone").resolve(), "lacks", IDX_FILES[0])
    assert run("report", folder, "--data-dir", "idx").code == 0
    again, first = shown(folder), shown(made / "squares")
    assert again["config"].pop("data_dir") != first["config"].pop("data_dir")
    assert again == first
    assert in_both(DRAWN["squares"]) <= names(folder)


@pytest.mark.parametrize(
    ("size", "why"),
    [
        ((5, 5, 57), "the data are not those of the training: [57, 24] samples, not [60, 24]"),
        ((6, 6), "frames.bin is damaged, or belongs to another network"),
    ],
)
def test_other_data_in_their_place(run, copy, size, why):
    write_images(Path("idx"), *size)
    only_curves(run, copy("squares"), why, options=["--data-dir", "idx"])


@pytest.mark.thorough
def test_the_data_folder_is_kept_as_a_whole_path(run, made, no_pictures, monkeypatch):
    """So that the report can be made from anywhere, also where the environment has named it."""
    monkeypatch.setenv("XPNET_DATA", os.path.relpath(made / "idx-squares"))
    options = "--epochs", 1, "--batch-size", 20, "--out", "here"
    assert run("train", "mnist", *options).code == 0
    folder = Path("here").resolve()
    monkeypatch.delenv("XPNET_DATA")
    monkeypatch.chdir("/")
    assert run("report", folder).code == 0
    assert shown(folder)["notes"] == []
    assert shown(folder)["config"]["data_dir"] == str((made / "idx-squares").resolve())


@pytest.mark.parametrize("n", [0, 1, 5999, 6000, 6001, 6002, 12000, 12001, 12002, 12345])
def test_of_a_long_log_some_rows_are_shown(copy, n):
    folder = copy("and", "frames.bin", "weights.npz")
    rows = [{"epoch": k + 1, "loss": 1 / (k + 1), "val_loss": 0.1 * k} for k in range(n)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(folder)
    found = shown(folder)["log"]
    if n <= 6000:
        assert found == ({key: [row[key] for row in rows] for key in rows[0]} if rows else {})
        return
    columns = [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]
    assert 3000 <= len(columns) <= 6001
    assert (columns[0], columns[-1]) == (rows[0], rows[-1])
    assert columns == [rows[row["epoch"] - 1] for row in columns]
    steps = np.diff(found["epoch"])
    assert (steps[:-1] == -(-n // 6000)).all()
    assert 0 < steps[-1] <= steps[0]


def test_of_rows_with_several_numbers_those_of_all_are_shown(run, copy):
    folder = copy("and", "frames.bin", "weights.npz")
    rows = log_of(folder)
    for k in range(3):
        lines = [{**row} for row in rows]
        del lines[k]["val_accuracy"]
        (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        assert run("report", folder).code == 0
        assert list(shown(folder)["log"]) == ["epoch", "loss", "val_loss"]


@pytest.mark.parametrize(
    ("kind", "ends", "tolerance"),
    [("u8", (-1.0, 1.0), 1.001 / 255), ("u16", None, 1.001 / 65535), ("f32", None, 1e-7)],
)
def test_packed_numbers_come_back(kind, ends, tolerance):
    a = np.random.default_rng(0).uniform(-1, 1, (3, 4, 5))
    found = packed(a, kind, ends)
    assert (found["type"], found["shape"]) == (kind, (3, 4, 5))
    assert (found["low"], found["high"]) == (ends or (a.min(), a.max()))
    assert np.abs(unpacked(found) - a).max() <= tolerance
    assert packed(np.zeros((2, 0)), kind)["data"] == ""
    assert (packed(np.full(2, 7.0), kind)["low"], packed(np.full(2, 7.0), kind)["high"]) == (7, 7)


def test_large_images_and_many_classes_have_fewer_moments(copy, monkeypatch):
    """And at last fewer units; the first and the last moment are always there."""
    folder, size = copy("squares"), 25
    n = len(recorder_of(folder).epochs)
    for most, units, moments, matrices in (
        (10**6, 64, n, min(n, 25)),
        (64 * size * 5, 64, 5, min(n, 25)),
        (2 * size * 10 + 49, 10, 2, 15),
        (10, 1, 2, 2),
    ):
        monkeypatch.setattr(contents, "IMAGE_BYTES", most)
        write_report(folder)
        found = shown(folder)
        assert found["weights"]["shape"] == [moments, units, 5, 5]
        assert found["confusion"]["shape"] == [matrices, 3, 3]
        for part in ("weights", "confusion"):
            at = found[part]["at"]
            assert (at[0], at[-1], len(at)) == (0, n - 1, found[part]["shape"][0])


def test_nothing_in_the_page_is_taken_for_html(copy):
    folder = copy("and")
    evil = "</script><b>&\"'"
    change(folder, data_dir=evil, backend=evil, **{evil: evil})
    change(folder, "environment.json", **{evil: [evil]})
    change(folder, "results.json", **{evil: evil})
    write_report(folder)
    text = (folder / "report.html").read_text(encoding="utf-8")
    parsed, found = Page(text), shown(folder)
    assert "b" not in parsed.tags
    assert parsed.tags.count("script") == 2
    assert text.count("&lt;/script&gt;&lt;b&gt;&amp;&quot;&#x27;") == 7
    assert found["config"]["data_dir"] == found["config"][evil] == evil
    assert found["environment"][evil] == [evil]
    assert found["results"][evil] == evil


def test_notes_are_no_html_either(copy):
    folder = copy("squares")
    change(folder, data_dir="<b>nowhere</b>")
    write_report(folder)
    assert "b" not in Page((folder / "report.html").read_text(encoding="utf-8")).tags
    assert "<b>nowhere</b>" in shown(folder)["notes"][0]


# ---- the numbers of the report ----------------------------------------------------------------


def unpacked(found):
    """Return packed numbers as an array, as the page does."""
    dtype, steps = {"u8": ("<u1", 255), "u16": ("<u2", 65535), "f32": ("<f4", 0)}[found["type"]]
    raw = np.frombuffer(base64.b64decode(found["data"]), dtype).astype(float)
    if steps:
        raw = found["low"] + raw / steps * (found["high"] - found["low"])
    return raw.reshape(found["shape"])


def all_of(folder):
    """Return what the report shows, the moments and the data."""
    read = read_run(folder)
    split = read.load()
    return shown(folder), read.recorder(split), split


@pytest.mark.parametrize("name", ["and", "spiral"])
def test_the_plane_has_the_log_odds(made, name):
    """Row i of the grid is at x2[i], column j at x1[j]; the ends are the same for all moments."""
    found, recorder, split = all_of(made / name)
    view, (X, t) = found["view"], split.train
    low, high = X.min(axis=0), X.max(axis=0)
    margin = 0.12 * (high - low)
    assert view["x1"] == pytest.approx([low[0] - margin[0], high[0] + margin[0]], abs=1e-6)
    assert view["x2"] == pytest.approx([low[1] - margin[1], high[1] + margin[1]], abs=1e-6)
    np.testing.assert_allclose(view["points"], X, rtol=1e-5)
    assert view["labels"] == t.astype(int).ravel().tolist()
    scores = unpacked(view["scores"])
    assert scores.shape == (len(recorder.epochs), 81, 81)
    for k in (0, -1):
        for i, j in ((0, 0), (0, 80), (80, 0), (33, 57)):
            at = [[np.linspace(*view["x1"], 81)[j], np.linspace(*view["x2"], 81)[i]]]
            ((y,),) = recorder.network(k).predict(np.array(at)).tolist()
            odds = y if name == "spiral" else np.log(y / (1 - y))
            assert scores[k, i, j] == pytest.approx(np.clip(odds, -8, 8), abs=2e-4)


def test_probabilities_of_0_and_1_have_an_end(copy):
    """Where log(p / (1 - p)) is infinite."""
    folder = copy("and")
    (folder / "frames.bin").write_bytes(of_frames(0, 1, value=1e4) + of_frames(2, value=-1e4))
    write_report(folder)
    scores = unpacked(shown(folder)["view"]["scores"])
    assert (scores.max(), scores.min()) == (8, -8)


def test_the_curve_is_that_of_the_network(made):
    found, recorder, split = all_of(made / "curve")
    view, (X, t), (x, y) = found["view"], split.train, split.test
    fit, at = unpacked(view["fit"]), np.array(view["x"]).reshape(-1, 1)
    assert fit.shape == (len(recorder.epochs), 241)
    for k in (0, 5, -1):
        np.testing.assert_allclose(fit[k], recorder.network(k).predict(at).ravel(), rtol=1e-5)
    np.testing.assert_allclose(view["points"], np.hstack([X, t]), rtol=1e-5)
    np.testing.assert_allclose(view["truth"], np.hstack([x, y]), rtol=1e-5, atol=1e-12)
    assert at[0] < X.min() < X.max() < at[-1]


def test_the_surface_is_that_of_the_network(made):
    found, recorder, split = all_of(made / "surface")
    view, (X, t) = found["view"], split.test
    fit = unpacked(view["fit"])
    assert fit.shape == (len(recorder.epochs), 50, 50)
    for k in (0, -1):
        wanted = recorder.network(k).predict(X).reshape(50, 50)
        np.testing.assert_allclose(fit[k], wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(unpacked(view["truth"])[0], t.reshape(50, 50), atol=1e-6)
    assert [view["x1"], view["x2"]] == [[-1, 1], [-1, 1]]


@pytest.mark.parametrize("name", ["digits", "squares"])
def test_the_images_and_the_matrix_are_those_of_the_network(made, name):
    found, recorder, split = all_of(made / name)
    X, t = split.test
    for k in (0, -1):
        wrong = recorder.network(k).predict(X).argmax(axis=1)
        matrix = np.zeros((split.classes, split.classes))
        np.add.at(matrix, (t, wrong), 1)
        assert np.array_equal(unpacked(found["confusion"])[k], matrix)
    mistakes = found["mistakes"]
    assert (mistakes["number"], mistakes["of"]) == ((wrong != t).sum(), len(t))
    assert len(mistakes["list"]) == min(24, mistakes["number"])
    samples = [mistake["sample"] for mistake in mistakes["list"]]
    assert [(m["true"], m["predicted"]) for m in mistakes["list"]] == [
        (t[i], wrong[i]) for i in samples
    ]
    sure = [mistake["confidence"] for mistake in mistakes["list"]]
    assert sure == sorted(sure, reverse=True)
    side = int(np.sqrt(X.shape[1]))
    images = X[samples].reshape(-1, side, side)
    high = 255 if X.dtype == np.uint8 else X.max()
    np.testing.assert_allclose(unpacked(mistakes["images"]), images, atol=high / 500)
    weights = unpacked(found["weights"])
    units = [recorder.network(k)[0].W.T[:64].copy() for k in found["weights"]["at"]]
    largest = np.abs(units).max(axis=(0, 2))[:, None]  # one scale for a unit at all moments
    for shown_, W in zip(weights, units, strict=True):
        np.testing.assert_allclose(shown_.reshape(W.shape), W / largest, atol=1 / 200)


@pytest.mark.parametrize("name", ["spiral", "surface", "squares"])
def test_metrics_and_norms_are_those_of_the_training_data(made, name):
    found, recorder, split = all_of(made / name)
    training, results = found["training"], found["results"]
    metric = "rmse" if name == "surface" else "accuracy"
    assert training["samples"] == len(split.train[0])
    assert (training["at"][0], training["at"][-1]) == (0, len(recorder.epochs) - 1)
    assert training[metric][-1] == pytest.approx(results[f"train_{metric}"], rel=1e-6)
    wanted = layer_numbers.norms_of_layers(recorder, *split.train)
    assert found["norms"]["names"] == wanted.names
    for of in ("gradients", "activations"):
        np.testing.assert_allclose(found["norms"][of], getattr(wanted, of).T, rtol=6e-6)


@pytest.mark.parametrize("name", ["and", "squares"])
def test_few_parameters_are_shown_one_by_one(made, name):
    found, recorder, _ = all_of(made / name)
    if name == "and":
        assert np.array_equal(unpacked(found["parameters"]), recorder.values)
    size = recorder.trainer.net.size
    assert (size <= 64) is ("parameters" in found) is (name == "and")
    assert len(found["network"]) == 1 + len(found["norms"]["names"])


@pytest.mark.thorough
def test_the_pictures_show_the_end(copy, monkeypatch):
    """The network is that of the last moment, also after the norms have used it for all."""
    kept = []
    for name in ("network", "curve"):
        monkeypatch.setattr(plots, name, lambda net, *args, **kw: kept.append(net.sha256()))
    pictures.write_pictures(copy("curve"))
    assert kept == [results_of(Path("here"))["weights_sha256"]] * 2


def test_the_difference_of_the_surfaces(made, monkeypatch):
    _, recorder, split = all_of(made / "surface")
    kept, right = [], plots.surface

    def surface(f, ax, resolution):
        kept.append(np.ravel(f(None)))
        return right(f, ax, resolution=resolution)

    monkeypatch.setattr(plots, "surface", surface)
    figure = pictures._surfaces(recorder.network(-1), *split.test)
    network, truth, difference = kept
    assert [ax.get_title() for ax in figure.axes] == ["network", "truth", "network - truth"]
    assert np.array_equal(network, recorder.network(-1).predict(split.test[0]).ravel())
    assert np.array_equal(truth, split.test[1].ravel())
    assert np.array_equal(difference, network - truth)


# ---- trainings that are cut off ---------------------------------------------------------------


def until_lines(process, n):
    """Wait until the log has so many lines."""
    file, deadline = Path("here/log.jsonl"), time.monotonic() + 60
    while not (file.exists() and file.read_text().count("\n") >= n):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.thorough
@pytest.mark.parametrize("k", range(6))
def test_kill_at_any_moment(run, no_pictures, k):
    wait = random.Random(k)
    process = started(*ENDLESS)
    until_lines(process, wait.randint(1, 20))
    time.sleep(wait.uniform(0, 0.3))
    process.kill()
    process.communicate(timeout=60)
    text = Path("here/log.jsonl").read_text()
    whole = text[: text.rindex("\n") + 1].splitlines()
    assert [json.loads(line)["epoch"] for line in whole] == [*range(1, len(whole) + 1)]
    done = run("report", "here")
    assert (done.code, done.err) == (0, "")
    status = f"broken off after {len(whole):,} of 100,000 epochs"
    assert f"Training {status}." in Path("here/report.html").read_text(encoding="utf-8")
    found = shown(Path("here"))
    assert (found["status"], found["notes"], found["results"]) == (status, [], {})
    assert found["log"]["epoch"] == [*range(1, len(whole) + 1)]
    assert found["frames"][0] == 0
    assert (np.diff(found["frames"]) > 0).all()
    assert found["frames"][-1] <= len(whole) + 1


def test_a_log_that_is_cut_anywhere(copy):
    folder = copy("and")
    data = (folder / "log.jsonl").read_bytes()
    rows, start = log_of(folder), data[:-1].rindex(b"\n") + 1
    for cut in range(len(data) + 1):
        (folder / "log.jsonl").write_bytes(data[:cut])
        whole = data[:cut].count(b"\n") + (cut == len(data) - 1)
        if cut >= start:
            assert read_run(folder).log == rows[:whole]
            assert contents.status(read_run(folder)).startswith(
                "finished" if whole == 3 else "stopped by Ctrl-C after 2 of 3"
            )


def test_frames_that_are_cut_anywhere(copy):
    folder = copy("and")
    data, found = (folder / "frames.bin").read_bytes(), read_run(folder)
    split, size = found.load(), 8 + 4 * 13
    whole = found.recorder(split)
    assert len(data) == size * len(whole.epochs) == 4 * size
    for cut in range(2 * size, 4 * size):
        (folder / "frames.bin").write_bytes(data[:cut])
        left = found.recorder(split)
        assert left.epochs == whole.epochs[: cut // size]
        assert np.array_equal(left.values, whole.values[: cut // size])
    for cut in (0, 1, 8, size - 1):
        (folder / "frames.bin").write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"frames\.bin (is too short|holds no moment)"):
            found.recorder(split)


@pytest.mark.thorough
@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one process")
def test_ctrl_c(run):
    process = started(*ENDLESS)
    until_lines(process, 5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")
    folder, results = Path("here"), results_of(Path("here"))
    assert len(log_of(folder)) == results["epochs"] >= 5
    found = shown(folder)
    assert found["status"] == f"stopped by Ctrl-C after {results['epochs']:,} of 100,000 epochs"
    assert results["epochs"] <= found["frames"][-1] <= results["epochs"] + 1
    assert recorder_of(folder).network(-1).sha256() == results["weights_sha256"]
    assert in_both(DRAWN["spiral"]) <= names(folder)
    assert out.splitlines()[-3:] == [
        f"report in {folder / 'report.html'}",
        "results in here",
        "xpnet train --resume here goes on with it",
    ]


@pytest.mark.thorough(but=["xpnet.cli.train.write_pictures"])
@pytest.mark.parametrize(
    "where", ["xpnet.cli.train.write_pictures", "xpnet.runs.report.page.write_atomically"]
)
def test_ctrl_c_while_the_report_is_written(run, monkeypatch, no_pictures, where):
    def interrupt(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, interrupt)
        done = run("train", "and", "--epochs", 2, "--out", "here")
    assert done.code == 130
    assert done.err == "xpnet: interrupted\n"
    assert names(Path("here")) == FILES_WITHOUT_PLOTS | {"frames.bin"}
    assert run("report", "here").code == 0
    assert shown(Path("here"))["status"] == "finished, 2 of 2 epochs"


DIVERGING = "train", "curve", "--optimizer", "sgd", "--activation", "relu", "--out", "here"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("epochs", "options", "done"),
    [
        (9, "--lr 1e30", 0),
        (200, "--lr 4", 1),
        (9, "--lr 1e30 --batch-size 50", 0),
        (9, "--lr 1e250 --dtype float64", 0),
        (9, "--lr 1e40 --dtype float64", 1),
    ],
)
def test_divergence_is_shown(run, epochs, options, done):
    """Warnings are errors here: numbers beyond all bounds are drawn without any."""
    ended = run(*DIVERGING, *options.split(), "--epochs", epochs)
    says(ended, 1, "became", f"; the training until then is in {Path('here/report.html')}")
    assert "results" not in ended.out
    rows, found = log_of(Path("here")), shown(Path("here"))
    assert (len(rows) > 0) is bool(done)
    assert found["status"] == f"broken off after {len(rows)} of {epochs} epochs"
    assert (found["frames"][0], found["notes"]) == (0, [])
    again = run("report", "here")
    assert (again.code, again.err) == (0, "")
    assert in_both({"network", "gradients", "activations", "curve"}) <= names(Path("here"))
    assert ("loss.png" in names(Path("here"))) is bool(rows)


def test_divergence_without_plots(run):
    done = run(*DIVERGING, "--lr", "1e30", "--epochs", 9, "--plots", "none")
    says(done, 1, "became")
    assert "report" not in done.err
    assert names(Path("here")) == FILES_WITHOUT_PLOTS - {"results.json", "weights.npz"}


@pytest.mark.thorough(but=["1e60-and"])
@pytest.mark.parametrize("problem", ["and", "surface", "digits"])
@pytest.mark.parametrize("lr", ["1e6", "1e18", "1e60"])
def test_numbers_beyond_all_bounds(run, problem, lr, no_pictures):
    """Whatever comes of it, there is a report, and nobody warns."""
    options = "--lr", lr, "--optimizer", "sgd", "--activation", "relu", "--dtype", "float64"
    done = run("train", problem, *options, "--epochs", 2, "--hidden", 4, "--out", "here", "--quiet")
    assert done.code in (0, 1)
    assert len(done.err.splitlines()) == done.code
    assert run("report", "here").code == 0
    assert shown(Path("here"))["notes"] == []


# ---- hostile folders --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["nothing", "file", "empty", "junk.txt"])
def test_no_run_folder(run, what):
    Path("file").write_text("a file")
    Path("empty").mkdir()
    done = run("report", what)
    says(done, 1, f"{what} is no run folder", "config.json", "`xpnet train PROBLEM --out DIR`")
    assert done.out == ""
    assert sorted(os.listdir(".")) == ["empty", "file"]
    assert os.listdir("empty") == []


def test_a_path_that_no_system_takes(run):
    says(run("report", "x" * 5000), 1, "cannot read xxx", "too long")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="whoever may do all can read all"
)
def test_a_folder_that_cannot_be_read(run, copy):
    folder = copy("and")
    folder.chmod(0)
    done = run("report", folder)
    folder.chmod(0o700)
    says(done, 1, "cannot read", "config.json", "Permission denied")


@pytest.mark.parametrize("file", ["config.json", "environment.json", "results.json", "log.jsonl"])
def test_files_that_cannot_be_read(run, copy, file):
    folder = copy("and", file)
    (folder / file).mkdir()
    done = run("report", folder)
    says(done, 1, f"cannot read {folder / file} (a folder or a device", "a file that can be read")


@pytest.mark.parametrize("file", ["config.json", "environment.json", "results.json"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[1, 2]", "it holds no object"),
        ('"config"', "it holds no object"),
        ("null", "it holds no object"),
        ('{"problem": "an', "Unterminated string"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "recursion"),
        ('{"a": NaN}', "not JSON compliant"),
        ('{"a": [-Infinity]}', "not JSON compliant"),
        ('{"a": 1e999}', "not JSON compliant"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"a": ' + "9" * 5000 + "}", "4300 digits"),
        ("\x00\x01\xff\xfe", "can't decode byte 0xff"),
        ("\x00\x01", "Expecting value"),
    ],
    ids=lambda value: value[:12],
)
def test_json_files_that_hold_no_such_thing(run, copy, file, text, why):
    folder = copy("and")
    (folder / file).write_bytes(text.encode("latin-1"))
    done = run("report", folder)
    says(done, 1, f"{folder / file} is damaged: ", why, "bring back a copy of it, or train again")
    assert done.out == ""


@pytest.mark.parametrize("name", sorted(reading.FITS))
def test_a_configuration_that_lacks_something(run, copy, name):
    folder = copy("and")
    config = json.loads((folder / "config.json").read_text())
    del config[name]
    (folder / "config.json").write_text(json.dumps(config))
    says(run("report", folder), 1, f"{folder / 'config.json'} is damaged: it lacks {name}; ")


WRONG = {
    "problem": ["andd", "</script><b>", 3, None, ["and"], {}],
    "hidden": ["abc", 3, None, [1.5], ["3"], [0], [-3], [True], [None], [[3]], [2**63], {}],
    "activation": ["rulu", 1, None, ["relu"]],
    "loss": ["mes", 1, None, []],
    "optimizer": ["adm", 1, None, {}],
    "lr": ["0.1", 0, -1, None, True, [0.1], 10**400],
    "epochs": ["x", 0, -1, 1.5, None, True, [3], 10**400, 2**63],
    "batch_size": ["all", 0, -1, 1.5, None, True, [3]],
    "one_cycle": [0, 1, "no", None],
    "dtype": ["float16", "object", 4, None, ["float32"]],
    "seed": ["0", None, -1, 0.5, True, [0]],
    "samples": [4, None, "4", [4], [4, 4, 4], [4, "4"], [4, 0], {"0": 4}],
    "data_dir": [0, True, ["x"], {}],
    "parameters": ["13", None, 1.5, -1, True],
    "backend": [0, None, ["numpy"]],
    "reproducible": [0, 1, "no", None],
}


@pytest.mark.parametrize("name", WRONG)
def test_a_configuration_with_something_wrong(copy, name):
    folder = copy("and")
    config = json.loads((folder / "config.json").read_text())
    assert read_run(folder).config == config
    for value in WRONG[name]:
        (folder / "config.json").write_text(json.dumps(config | {name: value}))
        with pytest.raises(XpnetError) as caught:
            read_run(folder)
        message = str(caught.value)
        starts = " is damaged: {0} is ", ": unknown {0} "  # the user may have made what is unknown
        starts = tuple(f"{folder / 'config.json'}{start}".format(name) for start in starts)
        assert message.startswith(starts), value
        assert len(message) < 250
    assert WRONG.keys() == reading.FITS.keys()


def test_something_wrong_is_one_line_of_error(run, copy):
    folder = copy("and")
    change(folder, hidden="abc")
    says(run("report", folder), 1, "config.json is damaged: hidden is 'abc'; bring back a copy")


@pytest.mark.thorough(but=["{'hidden': [4]}*", "{'dtype'*"])
@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"samples": [4, 5]}, "the data are not those of the training: [4, 4] samples, not [4, 5]"),
        ({"samples": [1, 4]}, "the data are not those of the training"),
        ({"loss": "softmax_cross_entropy"}, "the loss 'softmax_cross_entropy' does not fit"),
        ({"hidden": [4]}, "damaged, or belongs to another network"),
        ({"dtype": "float64"}, "damaged, or belongs to another network"),
        ({"hidden": [3 * 10**6]}, "frames.bin is too short for the network of config.json"),
        ({"hidden": [2**62, 2**62]}, "frames.bin is too short for the network of config.json"),
        ({"hidden": [240, 1]}, "frames.bin is too short for the network of config.json"),
    ],
    ids=str,
)
def test_a_configuration_of_another_training(run, copy, changed, why):
    """Only the curves are shown; a network that could not be in the file is not even made."""
    folder = copy("and")
    change(folder, **changed)
    tracemalloc.start()
    with pytest.raises(XpnetError) as caught:
        recorder_of(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert why in str(caught.value)
    assert peak < 10_000_000
    only_curves(run, folder, why)


@pytest.mark.parametrize("epochs", [1, 2**62])
def test_a_configuration_of_other_epochs(copy, epochs):
    folder = copy("curve")
    change(folder, epochs=epochs, seed=10**30, one_cycle=True, lr=1e308)
    write_report(folder)
    ended = "finished, 12 of 1" if epochs == 1 else "stopped by Ctrl-C after 12 of 4,611,686"
    assert shown(folder)["status"].startswith(ended)


@pytest.mark.parametrize("value", [None, "0.5", [0.5], True, {}, 10**400])
@pytest.mark.parametrize("name", ["seconds", "test_loss", "train_loss", "train_accuracy"])
def test_results_with_something_wrong(run, copy, name, value):
    folder = copy("and")
    change(folder, "results.json", **{name: value})
    says(
        run("report", folder), 1, f"{folder / 'results.json'} is damaged: {name} is ", "copy of it"
    )


@pytest.mark.parametrize(
    ("problem", "numbers"),
    [
        ("and", ["seconds", "test_loss", "train_loss", "train_accuracy"]),
        ("curve", ["seconds", "test_loss", "train_loss", "test_rmse", "train_rmse", "test_r2"]),
    ],
)
def test_results_that_lack_something(copy, problem, numbers):
    folder = copy(problem)
    results = results_of(folder)
    for name in numbers:
        lacking = {k: v for k, v in results.items() if k != name}
        (folder / "results.json").write_text(json.dumps(lacking))
        with pytest.raises(XpnetError, match=rf"results\.json is damaged: it lacks {name};"):
            read_run(folder)


GOOD = '{"epoch": 1, "loss": 0.5, "val_loss": 0.5, "val_accuracy": 0.5}'


@pytest.mark.parametrize(
    "line",
    [
        b'{"epoch": 2, "loss": NaN}',
        b'{"epoch": 2, "loss": -Infinity}',
        b'{"epoch": 2, "loss": 1e999}',
        b'{"epoch": 2, "loss": "low"}',
        b'{"epoch": 2, "loss": null}',
        b'{"epoch": 2, "loss": true}',
        b'{"epoch": 2, "loss": [1]}',
        b'{"epoch": 2, "loss": 1' + b"0" * 400 + b"}",
        b'{"epoch": 2, "loss": ' + b"9" * 5000 + b"}",
        b'{"epoch": 2}',
        b'{"loss": 0.5}',
        b"[1, 2]",
        b"3",
        b"null",
        b"",
        b"\x00\xff\xfe\x80 binary",
        b"[" * 100_000,
        b'{"epoch": 2, "loss": ' + b" " * 10_000_000,
        b"x" * 10_000_000,
    ],
    ids=lambda line: repr(line[:30]),
)
def test_lines_of_the_log_that_are_none(copy, line):
    folder = copy("and")
    good = GOOD.encode()
    (folder / "log.jsonl").write_bytes(good + b"\n" + line + b"\n" + good.replace(b"1", b"3", 1))
    assert [row["epoch"] for row in read_run(folder).log] == [1, 3]
    write_report(folder)
    assert shown(folder)["log"]["loss"] == [0.5, 0.5]


def test_a_log_of_very_large_numbers_is_drawn(run, copy):
    folder = copy("and", "frames.bin", "weights.npz")
    rows = [GOOD.replace("0.5", number) for number in ("1e308", "-1e308", "0", "1e-320")]
    (folder / "log.jsonl").write_text("\n".join(rows))
    only_curves(run, folder)


def of_frames(*epochs, value=0.5):
    rows = [np.append(np.frombuffer(np.float64(e).tobytes(), "<f4"), [value] * 13) for e in epochs]
    return np.concatenate(rows).astype("<f4").tobytes()


@pytest.mark.thorough(but=["garbage", "twice"])
@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 240,
        of_frames(0, 2, 1),
        of_frames(0, 1, 1),
        of_frames(0, float("nan")),
        of_frames(0, float("inf")),
        of_frames(0, 1, value=float("nan")),
        of_frames(0, 1, value=float("-inf")),
    ],
    ids=["garbage", "descending", "twice", "NaN", "infinite", "NaN weights", "infinite weights"],
)
def test_frames_that_are_none(run, copy, data):
    folder = copy("and")
    (folder / "frames.bin").write_bytes(data)
    path = folder / "frames.bin"
    only_curves(run, folder, f"{path} is damaged, or belongs to another network")


def test_a_folder_in_the_place_of_the_frames(run, copy):
    folder = copy("and", "frames.bin")
    (folder / "frames.bin").mkdir()
    only_curves(run, folder, folder / "frames.bin")


def test_frames_by_hand_are_read(copy):
    """What the test above breaks is otherwise right."""
    folder = copy("and")
    (folder / "frames.bin").write_bytes(of_frames(0, 1, 2))
    assert recorder_of(folder).epochs == [0, 1, 2]


class Evil:
    def __reduce__(self):
        return os.mkdir, ("opened",)


def write_pickle(path):
    import pickle

    path.write_bytes(pickle.dumps(Evil()))


def write_pickled_array(path):
    np.savez(path, **{"0.W": np.array([Evil()], object)})


def write_other_weights(path):
    write_archive(path, {"0.W": np.zeros((2, 3), "f4")}, {})


def write_other_shapes(path):
    shapes = {"0.W": (9, 9), "0.b": (3,), "2.W": (3, 1), "2.b": (1,)}
    write_archive(path, {name: np.zeros(shape, "f4") for name, shape in shapes.items()}, {})


def write_single_array(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(100))


def write_zip(path):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("0.W.npy", b"no array " * 20)


def write_cut_zip(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def write_changed_zip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 255
    path.write_bytes(data)


@pytest.mark.thorough(but=["write_pickle", "write_cut_zip"])
@pytest.mark.parametrize(
    "spoil",
    [
        write_pickle, write_pickled_array, write_other_weights, write_other_shapes, write_zip,
        write_cut_zip, write_changed_zip,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"x" * 1000),
        lambda path: path.write_bytes(b"PK\x03\x04" + b"x" * 1000),
        write_single_array,
        lambda path: (path.unlink(), path.mkdir()),
    ],
)  # fmt: skip
def test_weights_that_are_none(run, copy, spoil):
    folder = copy("and", "frames.bin")
    spoil(folder / "weights.npz")
    only_curves(run, folder, folder / "weights.npz")
    assert not Path("opened").exists()


def test_weights_that_are_not_finite(run, copy):
    folder = copy("and", "frames.bin")
    arrays, about = read_archive(folder / "weights.npz")
    nan = {name: a * np.float32(np.nan) for name, a in arrays.items()}
    write_archive(folder / "weights.npz", nan, about)
    only_curves(run, folder, "weights.npz holds no moment of the training")


# ---- what cannot be written -------------------------------------------------------------------


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("file", ["report.html", "loss.png"])
def test_a_folder_in_the_place_of_a_file(run, copy, file):
    folder = copy("and", "report.html")
    (folder / file).mkdir()
    (folder / file / "notes.txt").write_text("mine")
    done = run("report", folder)
    says(
        done, 1, f"cannot write to the folder {folder} (Is a directory: {file})", "a copy elsewhere"
    )
    assert (folder / file / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "broken", [(page, "write_atomically"), (Figure, "savefig")], ids=["report", "pictures"]
)
def test_a_full_disk_at_the_report(run, copy, monkeypatch, broken):
    folder = copy("and")
    if broken[0] is page:
        for command in ("report", "train"):
            name = f"xpnet.cli.{command}.write_pictures"
            monkeypatch.setattr(name, lambda folder, data_dir=None: [])
    before = (folder / "report.html").read_bytes()
    monkeypatch.setattr(*broken, full_disk)
    done = run("report", folder)
    says(done, 1, f"cannot write to the folder {folder} (No space left on device); make room")
    assert done.out == ""
    assert (folder / "report.html").read_bytes() == before
    done = run("train", "and", "--epochs", 1, "--out", "there", "--quiet")
    says(done, 1, "cannot write to the folder there (No space left on device)", "--out DIR")
    assert names(Path("there")) >= FILES_WITHOUT_PLOTS  # what took the time is safe


@pytest.mark.parametrize("file", ["config.json", "environment.json", "results.json", "weights.npz"])
def test_a_full_disk_at_the_training(run, monkeypatch, file):
    right = files.replacing

    def full(path):
        return full_disk() if path.name == file else right(path)

    monkeypatch.setattr(files, "replacing", full)
    monkeypatch.setattr(archive, "replacing", full)
    done = run("train", "and", "--epochs", 1, "--out", "here", "--quiet")
    says(done, 1, "cannot write to the folder here (No space left on device); choose another one")
    assert file not in names(Path("here"))


def test_a_full_disk_at_the_frames(run, monkeypatch):
    monkeypatch.setattr(FrameFile, "keep", full_disk)
    done = run("train", "and", "--epochs", 1, "--out", "here", "--quiet")
    says(done, 1, "cannot write to the folder here (No space left on device); choose another one")


def test_a_folder_that_vanishes(run, monkeypatch):
    right = runs.RunFolder.on_epoch_end

    def vanish(self, epoch, logs):
        if epoch == 2:
            shutil.rmtree(self.folder)
        right(self, epoch, logs)

    monkeypatch.setattr(runs.RunFolder, "on_epoch_end", vanish)
    done = run("train", "and", "--epochs", 9, "--out", "here", "--quiet", "--plots", "none")
    says(done, 1, "cannot write to the folder here (No such file or directory: log.jsonl)")


# ---- --quiet ----------------------------------------------------------------------------------


@pytest.mark.thorough
def test_quiet_says_nothing(run):
    done = run("train", "and", "--epochs", 1, "--quiet", "--out", "here")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert "report.html" in names(Path("here"))


def test_quiet_and_json(run):
    done = run(
        "train", "and", "--epochs", 1, "--quiet", "--json", "--out", "here", "--plots", "none"
    )
    assert (done.code, done.err) == (0, "")
    (line,) = done.out.splitlines()
    assert json.loads(line) == results_of(Path("here"))


@pytest.mark.thorough
def test_quiet_where_there_is_no_gpu():
    """In a process of its own: how the warning gets out is up to Python."""
    command = "-m", "xpnet", "train", "and", "--epochs", "1", "--plots", "none", "--out"
    environment = {"XPNET_BACKEND": "auto", "CUDA_VISIBLE_DEVICES": ""}
    loud, quiet = (started(*command, *more, **environment) for more in (["a"], ["b", "--quiet"]))
    out, err = loud.communicate(timeout=60)
    assert out
    assert ("no GPU in use" in err) is bool(why_no_cupy()) or "CUDA" in err
    assert (quiet.communicate(timeout=60), quiet.returncode) == (("", ""), 0)


def test_quiet_is_for_one_command(run):
    import logging

    assert run("train", "and", "--epochs", 1, "--quiet", "--plots", "none").code == 0
    assert logging.getLogger("xpnet").disabled is False


def test_quiet_still_says_errors(run):
    done = run(*DIVERGING, "--lr", "1e30", "--epochs", 9, "--quiet")
    says(done, 1, "became", "report.html")
    assert done.out == ""


# ---- pictures ---------------------------------------------------------------------------------


@pytest.mark.thorough
def test_pictures_leave_nothing_behind(copy):
    """Neither settings nor open figures."""
    import matplotlib
    from matplotlib import pyplot

    figures = pyplot.get_fignums()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        before = dict(matplotlib.rcParams)
        pictures.write_pictures(copy("and"))
        assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == figures
