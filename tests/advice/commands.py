"""Advice of the command line."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from types import SimpleNamespace

from advice import advice, elsewhere, without

QUICK = ("--epochs", 1, "--plots", "none", "--quiet")
RESUME = ("train", "--resume", "here", "--epochs", 2, *QUICK[2:])


def train(run, *options):
    """Run `xpnet train` quickly and return what it has printed, and its exit code."""
    return run("train", "and", *QUICK, *options)


def helps(done):
    """Check that a command has succeeded."""
    assert done.code == 0, done.err


def says(done, *words):
    """Check that a command has failed with these words."""
    assert done.code in (1, 2)
    for word in words:
        assert word in done.err, done.err


@advice("--html and --json are for the check of a single process; leave them out")
def _(run, monkeypatch):
    two = SimpleNamespace(size=2, rank=0, local_rank=0, finish=lambda: None)
    monkeypatch.setattr("xpnet.cli.check.communicator_of", lambda options: two)
    monkeypatch.setattr("xpnet.cli.check.check_processes", lambda *given, **how: True)
    command = "check", "--backends", "numpy", "--steps", 1
    for option in (["--html", "page.html"], ["--json"]):
        says(run(*command, *option), "are for the check of a single process; leave them out")
    helps(run(*command))


@advice("--html: cannot write {} ({}); choose another file")
def _(run, tmp_path):
    (tmp_path / "file").write_text("")
    command = "check", "--problems", "xor", "--backends", "numpy", "--steps", 1, "--html"
    says(run(*command, "file/page.html"), "choose another file")
    helps(run(*command, "page.html"))
    assert Path("page.html").exists()


@advice("there is no such file; give the path of a Python file of yours")
def _(run):
    says(train(run, "--extend", "own.py"), "give the path of a Python file of yours")
    Path("mine.py").write_text("import xpnet\n", encoding="utf-8")
    helps(train(run, "--extend", "mine.py"))


elsewhere(
    "tests/training/test_register.py::test_a_learning_rate_that_the_command_line_has_to_give",
    "is a schedule, which the folder of a training cannot hold; give a number with --lr",
)
elsewhere(
    "tests/parallel/test_parallel_cli.py::test_several_processes_leave_what_one_leaves",
    "each of which would train on its own; add --parallel",
)


@advice("--resume: the training goes on as it began; leave out")
def _(run):
    helps(train(run, "--out", "here"))
    said = run(*RESUME, "--lr", 9, "--out", "x")
    says(said, "the training goes on as it began; leave out\n  --lr 9", "\n  --out x")
    helps(run(*RESUME))


@advice("use --backend numpy to go on without it; one of your own is known with --extend FILE")
def _(run):
    helps(train(run, "--out", "here"))
    config = json.loads(Path("here/config.json").read_text(encoding="utf-8"))
    Path("here/config.json").write_text(json.dumps(config | {"backend": "mine"}), encoding="utf-8")
    says(run(*RESUME), "use --backend numpy to go on without it")
    helps(run(*RESUME, "--backend", "numpy"))


@advice("make room for it, or make the report of a copy elsewhere")
def _(run, monkeypatch):
    helps(train(run, "--out", "here"))

    def full(folder, data_dir):
        if folder == Path("here"):
            raise OSError(28, os.strerror(28), str(folder / "report.html"))
        return write(folder, data_dir)

    import shutil

    from xpnet.cli.report import write_report as write

    monkeypatch.setattr("xpnet.cli.report.write_report", full)
    monkeypatch.setattr("xpnet.cli.report.write_pictures", lambda *given: [])
    says(run("report", "here"), "make room for it, or make the report of a copy elsewhere")
    shutil.copytree("here", "there")
    helps(run("report", "there"))
    monkeypatch.setattr("xpnet.cli.report.write_report", write)  # now there is room
    helps(run("report", "here"))


@advice(", or leave them out with --plots none")
def _(run):
    with without("matplotlib", "matplotlib.font_manager"):
        says(run("train", "and", "--epochs", 1), ", or leave them out with --plots none")
        helps(run("train", "and", "--epochs", 1, "--plots", "none"))


@advice("choose another one with --out DIR", "choose another folder with --out DIR")
def _(run):
    Path("file").write_text("")
    says(train(run, "--out", "file"), "choose another one with --out DIR")
    helps(train(run, "--out", "here"))
    says(train(run, "--out", "here"), "or choose another folder with --out DIR")
    helps(train(run, "--out", "there"))


@advice("cannot read {} ({}); make it a folder that can be read, {}")
def _(run):
    helps(train(run, "--out", "here"))
    Path("here/checkpoints").rename("elsewhere")
    Path("here/checkpoints").symlink_to(Path("elsewhere").resolve())
    says(train(run, "--out", "here"), "make it a folder that can be read, or choose another")
    helps(train(run, "--out", "there"))
    says(run(*RESUME), "make it a folder that can be read, then resume the training")
    Path("here/checkpoints").unlink()
    Path("elsewhere").rename("here/checkpoints")
    helps(run(*RESUME))


@advice("the hidden layers {} make {} parameters, which no memory can hold; give smaller ones")
def _(run):
    says(train(run, "--hidden", "9999999999,9999999999"), "give smaller ones with --hidden")
    helps(train(run, "--hidden", "9,9"))


@advice("the loss {} does not fit {}{}; choose from {}")
def _(run):
    said = train(run, "--loss", "cross_entropy")
    says(said, "; choose from ")
    for loss in said.err.strip().partition("choose from ")[2].split(", "):
        helps(train(run, "--loss", loss))


@advice("{} is damaged: {}; bring back a copy of it, or train again")
def _(run):
    helps(train(run, "--out", "here"))
    config = Path("here/config.json")
    copy = config.read_bytes()
    config.write_text("{")
    says(run(*RESUME), "bring back a copy of it, or train again")
    helps(train(run, "--out", "there"))
    config.write_bytes(copy)
    helps(run(*RESUME))


@advice("cannot read {} ({}); make it a file that can be read")
def _(run):
    helps(train(run, "--out", "here"))
    config = Path("here/config.json")
    config.rename("kept")
    config.mkdir()
    says(run(*RESUME), "make it a file that can be read")
    config.rmdir()
    Path("kept").rename(config)
    helps(run(*RESUME))


@advice("{}: unknown {} {}; if it is your own, add --extend FILE")
def _(run):
    Path("own.py").write_text(
        "import xpnet\n@xpnet.register\nclass AdviceOwn(xpnet.SGD):\n    pass\n", encoding="utf-8"
    )
    helps(train(run, "--extend", "own.py", "--optimizer", "adviceown", "--out", "here"))
    import xpnet

    del xpnet.optimizers.OPTIMIZERS["adviceown"]
    says(run(*RESUME), "if it is your own, add --extend FILE, the Python file that registers it")
    helps(run(*RESUME, "--extend", "own.py"))
    del xpnet.optimizers.OPTIMIZERS["adviceown"]


@advice("was broken off; go on with `{}`")
def _(run):
    helps(train(run, "--out", "here"))
    said = train(run, "--out", "here")
    says(said, "go on with `xpnet train --resume here --epochs N`")
    helps(run(*shlex.split(said.err.split("`")[1].replace(" N", " 2"))[1:], *QUICK[2:]))
    Path("here/results.json").unlink()
    said = train(run, "--out", "here")
    says(said, "was broken off; go on with `xpnet train --resume here`")
    helps(run(*shlex.split(said.err.split("`")[1])[1:], *QUICK[2:]))


@advice("unknown: threadpoolctl is not installed; run pip install threadpoolctl")
def _(run):
    with without("threadpoolctl"):
        assert "unknown: threadpoolctl is not installed" in run("info").out
    assert "threadpoolctl is not installed" not in run("info").out


@advice("see to it, then resume the training")
def _(run):
    helps(train(run, "--out", "here"))
    Path("here/.lock").mkdir()
    says(run(*RESUME), "cannot write to the folder here", "see to it, then resume the training")
    Path("here/.lock").rmdir()
    helps(run(*RESUME))


@advice("bring back a copy of {}, which is damaged")
def _(run):
    helps(train(run, "--out", "here"))
    path = Path("here/config.json")
    copy = path.read_text(encoding="utf-8")
    path.write_text(json.dumps(json.loads(copy) | {"samples": [4, 5]}), encoding="utf-8")
    says(run(*RESUME), "; bring back a copy of config.json, which is damaged")
    path.write_text(copy, encoding="utf-8")
    helps(run(*RESUME))


@advice("--data-dir {}: no files are read for {}; leave it out")
def _(run):
    says(train(run, "--data-dir", "."), "no files are read for and; leave it out")
    helps(train(run))


@advice("and --hidden 0 makes none; leave one of the two out")
def _(run):
    says(train(run, "--hidden", 0, "--activation", "tanh"), "leave one of the two out")
    helps(train(run, "--hidden", 0))
    helps(train(run, "--activation", "tanh"))


elsewhere(
    "tests/storage/test_targets.py::test_what_is_no_path_of_a_file_is_refused",
    "{} must be a file, and {} is a folder; add its name",
)
