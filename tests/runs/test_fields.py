"""The fields of the files in a run folder: each is read, or refused by its name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import exit_code
from test_cli import says

from xpnet.runs import reading
from xpnet.runs.reading import read_log
from xpnet.runs.saved import read_run
from xpnet.support.archive import read_archive, write_archive
from xpnet.support.errors import XpnetError, printable
from xpnet.training.checkpoint import find_checkpoints

pytestmark = pytest.mark.usefixtures("_in_an_empty_folder")
HERE = Path("here")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields") / "whole"
    options = "--epochs 4 --plots none --quiet --checkpoint-every 2 --backend numpy --out"
    assert exit_code("train", "and", *options.split(), folder) == 0
    return folder


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("xpnet.cli.report.write_pictures", lambda folder, data_dir=None: [])
    monkeypatch.setattr("xpnet.cli.train.write_pictures", lambda folder, data_dir=None: [])


@pytest.fixture
def here(whole):
    shutil.copytree(whole, HERE)
    return HERE


def with_field(here, file, name, value):
    path = here / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))


WRONG = {
    "wrong type": {"a": 1},
    "text": "many",
    "nothing": None,
    "a flag": True,
    "huge": 10**400,
    "negative": -1,
    "a fraction": 0.5,
    "a list": [[]],
}
FITTING = {  # what is right for a field after all
    ("seed", "huge"), ("lr", "a fraction"), ("data_dir", "text"), ("data_dir", "nothing"),
    ("backend", "text"), ("one_cycle", "a flag"), ("reproducible", "a flag"),
}  # fmt: skip


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", reading.FITS)
def test_fields_of_the_configuration(here, name, value):
    with_field(here, "config.json", name, WRONG[value])
    if (name, value) in FITTING:
        read_run(here)
        return
    with pytest.raises(XpnetError, match=rf"config.json.* {name} (is )?"):
        read_run(here)


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("name", ["seconds", "test_loss", "train_loss", "test_accuracy"])
def test_fields_of_the_results(here, name, value):
    with_field(here, "results.json", name, WRONG[value])
    if value in ("negative", "a fraction"):
        read_run(here)
        return
    with pytest.raises(XpnetError, match=f"results.json is damaged: {name} is "):
        read_run(here)


def nested(depth):
    return "[" * depth + "]" * depth


FILES = ["config.json", "results.json", "environment.json"]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("command", ["report", "train --resume"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text[:-1] + ', "a": 1, "a": 2}', "'a' stands there twice"),
        (lambda text: text.encode("utf-16"), "can't decode"),
        (lambda text: text[:-1].encode() + b', "a": "\xe9"}', "can't decode"),  # Latin-1
        (lambda text: text[:-1] + f', "a": {nested(990)}}}', "is damaged: "),
        (lambda text: text[:-1] + f', "a": {nested(9)}}}', "inside one another"),
        (lambda text: text[:-1] + ', "a": NaN}', "not JSON compliant"),
        (lambda text: text + " " * 2**20, "larger than 1,048,576 bytes"),
    ],
    ids=["twice", "UTF-16", "Latin-1", "990 deep", "9 deep", "NaN", "large"],
)
def test_texts_that_are_refused(run, here, file, command, change, why):
    path = here / file
    changed = change(path.read_text().strip())
    path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
    says(run(*command.split(), here), 1, str(path), why)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,  # as an editor of Windows writes it
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text[:-2] + ', "unknown": [1, {"of": "a newer release"}]}',
        lambda text: text[:-2] + f', "unknown": {nested(8)}}}',
    ],
    ids=["mark", "CRLF", "unknown", "8 deep"],
)
def test_texts_that_are_read(run, here, file, change):
    path = here / file
    path.write_bytes(change(path.read_text()).encode())
    assert run("report", here).code == 0
    assert "Only the curves" not in (here / "report.html").read_text().partition("<script")[0]


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ('{"epoch": 5, "loss": 0.5}', True),
        ('\ufeff{"epoch": 5, "loss": 0.5}', False),  # a mark in the middle is none
        ('{"epoch": 5, "loss": 0.5, "\\ud800": 1}', False),
        ('{"epoch": 5, "loss": 0.5, "\\u001b[2J": 1}', False),
        ('{"epoch": 5, "loss": 0.5, "%s": 1}' % ("x" * 101), False),
        ('{"epoch": 5, "loss": "0.5"}', False),
        ('{"epoch": 5, "loss": true}', False),
        ('{"epoch": 5, "loss": NaN}', False),
        ('{"epoch": 5}', False),
        ("[" * 2000, False),
    ],
)
def test_lines_of_the_log(run, here, line, kept):
    rows = read_log(here / "log.jsonl")
    with (here / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\r\n")
    assert len(read_log(here / "log.jsonl")) == len(rows) + kept
    assert run("report", here).code == 0


def test_a_mark_before_the_log(here):
    path = here / "log.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert [row["epoch"] for row in read_log(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("more", [1, -1])
def test_a_history_of_unequal_columns(run, here, more):
    """What an epoch lacks is left out of its row, which is JSON as others read it."""
    (latest,) = find_checkpoints(here / "checkpoints")[-1:]
    arrays, about = read_archive(latest)
    arrays["history.1"] = np.resize(arrays["history.1"], 4 + more)
    write_archive(latest, arrays, {k: v for k, v in about.items() if k not in ("format", "xpnet")})
    done = run("train", "--resume", here)
    assert "Traceback" not in done.err
    lines = (here / "log.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    names = ("loss", about["history"][1])
    assert [[name in row for name in names] for row in rows].count([True, True]) == 4 - (more < 0)
    assert len(rows) == 4 + (more > 0)


def test_what_a_kill_has_left_out_is_written(here):
    (here / "environment.json").unlink()
    assert exit_code("train", "--resume", here, "--quiet", "--plots", "none") == 0
    assert "Python" in json.loads((here / "environment.json").read_text())


def test_too_many_hidden_layers(here):
    with_field(here, "config.json", "hidden", [1] * 1001)
    with pytest.raises(XpnetError, match=r"config\.json is damaged: hidden is "):
        read_run(here)


# ---- what a terminal would obey ------------------------------------------------------------------

EVIL = "\x1b[2J\x07\x9b31m\u202e\r\u2028"


def test_text_of_files_is_printable():
    assert printable(EVIL) == "\\x1b[2J\\x07\\x9b31m\\u202e\\r\\u2028"
    assert printable("é 漢 ½ '\"\\\n x") == "é 漢 ½ '\"\\\n x"
    assert str(XpnetError(f"a{EVIL}")) == f"a{printable(EVIL)}"


@pytest.mark.parametrize("name", ["problem", "activation", "loss", "optimizer", "dtype", "backend"])
@pytest.mark.parametrize("command", ["report", "train --resume"])
def test_a_configuration_commands_no_terminal(run, here, name, command):
    with_field(here, "config.json", name, EVIL)
    done = run(*command.split(), here)
    assert "Traceback" not in done.err
    assert not set(EVIL).difference("[2J31m").intersection(done.out + done.err)


@pytest.mark.parametrize("command", ["report", "train --resume"])
def test_a_data_folder_commands_no_terminal(run, here, command, monkeypatch):
    with_field(here, "config.json", "problem", "mnist")
    with_field(here, "config.json", "data_dir", EVIL)
    done = run(*command.split(), here)
    assert not set(EVIL).difference("[2J31m").intersection(done.out + done.err)


def test_a_machine_and_callbacks_command_no_terminal(run, here, caplog, capsys):
    (latest,) = find_checkpoints(here / "checkpoints")[-1:]
    arrays, about = read_archive(latest)
    about = {k: v for k, v in about.items() if k not in ("format", "xpnet")}
    about["machine"] |= {"numpy": EVIL, EVIL: 1}
    about["callbacks"][EVIL] = {}
    write_archive(latest, arrays, about)
    done = run("train", "--resume", here, "--plots", "none")
    assert done.code == 0
    said = done.out + done.err + "".join(record.getMessage() for record in caplog.records)
    assert "has no use now" in said
    assert not set(EVIL).difference("[2J31m").intersection(said)


def test_a_folder_that_claims_mnist_begins_no_download(run, here, monkeypatch, tmp_path):
    monkeypatch.setattr("xpnet.data.mnist._download", lambda *_: pytest.fail("a download"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("XPNET_DATA", raising=False)
    with_field(here, "config.json", "problem", "mnist")
    assert run("report", here).code == 0
    assert "Only the curves can be shown: " in (here / "report.html").read_text()
