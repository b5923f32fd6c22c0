"""``bench/gpu.sh``: what it leaves is whole and complete, whenever and however it ends.

A script stands in for Python: it gives the real one to the orchestrator, and plays every stage. It
writes each stage that begins to a list; so all stages before the last one of the list have ended.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
import zipfile
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from xpnet.data.idx import write_idx

ROOT = Path(__file__).parents[2]
BENCH, HELPERS = ROOT / "bench", ROOT / "tests/helpers"
sys.path.insert(0, str(BENCH))  # as when a script of that folder runs
NAMES = ("gpu_common", "gpu_found", "gpu_first", "gpu_junit", "gpu_results", "gpu_running")
common, gpu_found, gpu_first, gpu_junit, gpu_results, gpu_running = map(import_module, NAMES)
gpu_table, gpu_sample = map(import_module, ("gpu_table", "gpu_sample"))

pytestmark = pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="there is no bash here"
)
STAGES = [stage.name for stage in gpu_table.STAGES]
KILLS = 20

FAKE = """#!/usr/bin/env bash
case $1 in */gpu_stages.py) exec {python} -S {before} "$@" ;; esac # it needs no other module
[[ $2 == zipfile ]] && exec {python} "$@"
echo "$XPNET_STAGE" >> {folder}/begun
echo "$XPNET_REHEARSAL $PYTHONPATH $*" >> {folder}/commands
env > {folder}/environment
for word; do
    case $word in
    --junitxml=*) cp {folder}/tests.xml "${{word#*=}}" ;;
    */contestants.json | */accuracy.json) cp {folder}/"${{word##*/}}" "$word" ;;
    */check.html) echo "<html>" > "$word" ;;
    esac
done
[[ -e {folder}/play.$XPNET_STAGE ]] && . {folder}/play.$XPNET_STAGE
case $XPNET_STAGE in
look) cat {folder}/device.json ;;
golden | check*) cat {folder}/check.json ;;
*) echo '{{"said": "words"}}' ;;
esac
"""
TESTS = """<testsuites><testsuite name="pytest">
<testcase classname="tests.test_a" name="a" file="tests/test_a.py" time="0.5"/>
<testcase classname="tests.test_a" name="b" file="tests/test_a.py" time="0.25"/>
<testcase classname="tests.test_b" name="c" time="0.1"><skipped message="not here"/></testcase>
</testsuite></testsuites>"""
WARM = {"median": 0.012, "min": 0.01, "max": 0.02, "rounds": 7}
FAST = {"step_us": 25.0, "warm_s": WARM, "cold_s": 3.0, "loss": 0.1, "accuracy": 0.97}
TRAINED = {"warm_s": WARM, "cold_s": 1.0, "accuracies": [0.981], "reached": 1}
TRAINING = {"golden": True, "first": "", "gradients": "a", "weights": "b", "milliseconds": 1.0}
RECIPE = {
    "name": "xor: a net", "gradients": {"ok": True}, "differences": [],
    "trainings": {"cupy": TRAINING},
}  # fmt: skip
FILES = {
    "device.json": {"GPU": "Some GPU", "CuPy": "14.2.0", "driver": "580"},
    "check.json": {"ok": True, "steps": 200, "not_run": {}, "recipes": [RECIPE]},
    "contestants.json": {"xpnet": FAST, "PyTorch eager": FAST},
    "accuracy.json": {"xpnet": TRAINED},
}


class Fake:
    """A folder with the stand-in for Python, and what its stages leave."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out, self.python = folder, folder / "out", folder / "python"
        for name, value in FILES.items():
            (folder / name).write_text(json.dumps(value))
        (folder / "tests.xml").write_text(TESTS)
        (folder / "begun").touch()
        self.make()

    def make(self, before: str = "") -> None:
        """Write the stand-in; the real Python is given ``before`` as well."""
        names = {"folder": self.folder, "python": sys.executable, "before": before}
        self.python.write_text(FAKE.format(**names))
        self.python.chmod(0o755)

    def play(self, stage: str, lines: str) -> None:
        """Let a stage do this."""
        (self.folder / f"play.{stage}").write_text(lines + "\n")

    def start(self, *words: str, **options) -> subprocess.Popen:
        env = os.environ | {"PYTHON": str(self.python), "GPU_PACK": str(self.folder / "pack")}
        env |= {"OUT": str(self.out), "TMPDIR": str(self.folder), "PYTHONPATH": ""}
        return subprocess.Popen(
            ["bash", str(BENCH / "gpu.sh"), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, env=env, start_new_session=True, **options,
        )  # fmt: skip

    def run(self, *words: str, **options) -> subprocess.CompletedProcess:
        process = self.start(*words, **options)
        out, err = process.communicate()
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    @property
    def begun(self) -> list[str]:
        """The stages that have begun."""
        return [name for name in (self.folder / "begun").read_text().split() if name in STAGES]

    @property
    def results(self) -> dict:
        return json.loads((self.out / "results.json").read_text())


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def check_files(out: Path) -> set[str]:
    """Every file that is there is whole; return their names."""
    names = {path.name for path in out.iterdir()} if out.exists() else set()
    for name in names - {gpu_results.TEMPORARY}:
        data = (out / name).read_bytes()
        if name.endswith(".json"):
            json.loads(data)
        elif name.endswith(".xml"):
            ET.fromstring(data)
    assert len(names) <= 8
    return names


# ---- a normal run --------------------------------------------------------------------------------


def test_both_calls_leave_all_stages_and_few_files(fake):
    done = fake.run()
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert fake.begun == STAGES
    assert check_files(fake.out) == set(gpu_results.FILES)
    results = fake.results
    assert list(results["stages"]) == STAGES
    assert {record["status"] for record in results["stages"].values()} == {"passed"}
    assert results["device"]["GPU"] == "Some GPU"
    assert not results["rehearsal"]
    assert "running" not in results
    kinds = results["stages"]["tests"]["tests"]["kinds"]
    assert kinds["test_a.py"] == {"passed": 2, "failed": 0, "skipped": 0, "seconds": 0.75}
    assert kinds["test_b"]["skipped"] == 1
    suites = gpu_junit.suites((fake.out / "tests.xml").read_bytes())
    assert [suite.get("name") for suite in suites] == ["captured", "tests", "reductions"]
    assert json.loads((fake.out / "check.json").read_text()).keys() == {
        "golden", "check", "check-plain",
    }  # fmt: skip
    assert not list(fake.folder.glob("gpu-sh.*")), "the temporary folder is left"


def test_what_is_printed(fake):
    out = fake.run().stdout
    before, _, after = out.partition("== device")
    for stage in gpu_table.STAGES:
        assert f"\n{stage.name} " in before
    assert "call 1: about" in before
    last = after[after.index("\nstage ") :].strip().splitlines()
    assert len(last) <= 60
    text = "\n".join(last)
    assert " 8x                    NO       1.00x (25 µs, 97.0%; 25 µs, 97.0%)" in text
    assert "not yet run" in text
    assert max(map(len, last)) == 200
    assert last[-1].startswith("the same gradients, and the tests on the GPU ")
    assert last[-1].endswith("…")


def test_the_second_call_goes_on_with_the_results_of_the_first(fake):
    assert fake.run("--call", "1").returncode == 0
    first = fake.results["stages"]
    assert list(first) == [stage.name for stage in gpu_table.STAGES if stage.call == 1]
    assert fake.run("--call", "2").returncode == 0
    assert list(fake.results["stages"]) == STAGES
    assert fake.results["stages"]["golden"] == first["golden"]


def test_a_run_takes_the_place_of_a_rehearsal(fake):
    assert fake.run("--rehearse", "--call", "1").returncode == 0
    assert fake.run("--stage", "check").returncode == 0
    assert list(fake.results["stages"]) == ["check"]
    assert check_files(fake.out) == {"results.json", "log.txt", "check.json", "check.html"}


def test_one_stage_and_a_folder(fake):
    fake.out = fake.folder / "a" / "b"
    assert fake.run("--stage", "accuracy", str(fake.out)).returncode == 0
    assert fake.begun == ["accuracy"]
    assert fake.results["stages"]["accuracy"]["accuracy"]["xpnet"]["reached"] == 1


def test_a_stage_that_fails_stops_nothing(fake):
    fake.play("golden", "echo no luck >&2; exit 3")
    fake.play("speed", "kill -9 $$")
    fake.play("sanitizer", "echo compute-sanitizer is not installed >&2; exit 77")
    fake.play("peers", "rm $5")
    done = fake.run()
    assert done.returncode == 1
    assert fake.begun == STAGES
    stages = fake.results["stages"]
    assert stages["golden"]["status"] == "failed"
    assert stages["golden"]["reason"] == "exit code 3"
    assert stages["golden"]["last_lines"] == "no luck"
    assert stages["speed"]["reason"] == "killed by signal 9"
    assert stages["sanitizer"]["status"] == "skipped"
    assert stages["sanitizer"]["reason"] == "compute-sanitizer is not installed"
    assert stages["peers"]["reason"] == "it left no results"
    assert "no luck" in (fake.out / "log.txt").read_text()
    assert "no luck" in done.stdout


# ---- the pack ------------------------------------------------------------------------------------


def test_the_pack_brings_what_the_machine_lacks(fake, monkeypatch):
    pack = make(fake.folder / "pack")
    with zipfile.ZipFile(pack / "thing-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("thing.py", "")
    with zipfile.ZipFile(pack / "mpich.zip", "w") as mpich:
        mpich.writestr("bin/mpiexec", "")
        mpich.writestr("lib/libmpi.so.12", "")
    monkeypatch.delenv("XPNET_DATA", raising=False)
    there = "-f $GPU_SCRATCH/site/thing.py && -x $GPU_SCRATCH/mpich/bin/mpiexec"
    fake.play("device", f"[[ {there} ]] || exit 1")
    done = fake.run("--stage", "device")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (fake.folder / "environment").read_text().splitlines()
    found = dict(line.partition("=")[::2] for line in lines)
    scratch = found["GPU_SCRATCH"]
    assert found["XPNET_DATA"] == str(pack / "mnist")
    assert found["PATH"].startswith(f"{scratch}/mpich/bin:")
    assert found["LD_LIBRARY_PATH"].startswith(f"{scratch}/mpich/lib")
    assert f"{scratch}/site" in found["PYTHONPATH"].split(":")
    assert all(os.path.isabs(path) for path in found["PYTHONPATH"].split(":"))


def test_a_pack_that_is_damaged_stops_nothing(fake):
    make(fake.folder / "pack")
    done = fake.run("--stage", "device")
    assert done.returncode == 0
    assert f"gpu.sh: a part of {fake.folder / 'pack'} cannot be used (" in done.stderr


def test_one_damaged_wheel_does_not_cost_the_mpi(fake):
    pack = make(fake.folder / "pack")
    (pack / "thing-1.0-py3-none-any.whl").write_text("half")
    with zipfile.ZipFile(pack / "mpich.zip", "w") as mpich:
        mpich.writestr("bin/mpiexec", "")
    fake.play("device", "[[ -x $GPU_SCRATCH/mpich/bin/mpiexec ]] || exit 1")
    assert fake.run("--stage", "device").returncode == 0


def test_what_is_packed_of_mpich(tmp_path):
    kept = ["bin/mpiexec", "bin/hydra_pmi_proxy", "lib/libmpi.so.12", "lib/mpich/libuct.so.0"]
    more = ["bin/mpiexec.hydra", "include/mpi.h", "lib/libmpi_abi.so.1", "lib/mpich/ucx/a.so"]
    wheel, archive = tmp_path / "mpich.whl", tmp_path / "mpich.zip"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in kept + more:
            file.writestr(f"mpich-5.0.data/data/{name}", name)
        file.writestr("mpich-5.0.dist-info/METADATA", "")
    import_module("gpu_pack_mpich").small(wheel, archive)
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == kept
        assert file.read(kept[0]) == kept[0].encode()


def test_a_pack_needs_mnist(tmp_path):
    env = os.environ | {"XPNET_DATA": str(tmp_path)}
    command = ["bash", str(BENCH / "gpu_pack.sh"), str(tmp_path / "pack")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert done.stderr == f"gpu_pack.sh: no MNIST in '{tmp_path}'; set XPNET_DATA to its folder\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["thesis.txt", "mnist/mine"])
def test_a_pack_does_not_take_the_place_of_other_files(tmp_path, name):
    data, other = make(tmp_path / "data"), tmp_path / "pack" / name
    (data / "train-images-idx3-ubyte").touch()
    other.parent.mkdir(parents=True)
    other.touch()
    env = os.environ | {"XPNET_DATA": str(data), "PYTHON": "false"}
    command = ["bash", str(BENCH / "gpu_pack.sh"), str(tmp_path / "pack")]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert "has other files than an earlier pack" in done.stderr
    assert other.exists()


# ---- it is killed --------------------------------------------------------------------------------


@pytest.mark.thorough
def test_killed_at_any_moment_it_leaves_all_stages_that_had_ended(tmp_path):
    moments = random.Random(0)
    whole = Fake(make(tmp_path / "whole"))
    start = time.monotonic()
    assert whole.run().returncode == 0
    seconds = time.monotonic() - start
    for i in range(KILLS):
        fake = Fake(make(tmp_path / str(i)))
        process = fake.start()
        time.sleep(seconds * (i + moments.random()) / KILLS)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        names = check_files(fake.out)
        ended = fake.begun[:-1]
        if ended:
            assert list(fake.results["stages"])[: len(ended)] == ended
            assert names >= {"results.json", "log.txt"}
        else:
            assert names <= {"results.json", "log.txt", gpu_results.TEMPORARY}


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


def ended(pid: int) -> bool:
    """Return True if a process has ended, even if nobody has asked how."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_no_stage_runs_on_when_the_script_alone_is_killed(fake):
    """It would go on without a limit, and take time from whoever measures next."""
    name = fake.folder / "pid"
    lines = f"echo $$ > {name}.new; mv {name}.new {name}; sleep 5; touch {fake.folder}/survived"
    fake.play("device", lines)
    process = fake.start()
    while not name.exists():
        time.sleep(0.01)
    process.kill()
    process.communicate()
    while not ended(int(name.read_text())):
        time.sleep(0.01)
    assert not (fake.folder / "survived").exists()


def test_a_loss_that_is_no_number_is_a_word_in_the_results(fake):
    lost = json.dumps({"xpnet": FAST | {"loss": float("nan")}, "PyTorch eager": FAST})
    (fake.folder / "contestants.json").write_text(lost)
    fake.run("--stage", "speed")
    text = (fake.out / "results.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail)
    assert fake.results["stages"]["speed"]["contestants"]["xpnet"]["loss"] == "nan"


def test_a_signal_before_the_first_stage(fake):
    """It is not the fault of that Python."""
    fake.play("look", f"touch {fake.folder}/looks; sleep 60")
    process = fake.start()
    while not (fake.folder / "looks").exists():
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGINT
    assert err == "gpu.sh: broken off before the first stage\n"
    assert not fake.out.exists()
    assert not list(fake.folder.glob("gpu-sh.*")), "the temporary folder is left"


def test_a_signal_while_the_pack_is_unpacked(fake):
    """Bash has made the temporary folder by then."""
    (make(fake.folder / "pack") / "thing-1.0-py3-none-any.whl").touch()
    fake.python.write_text(f"#!/bin/bash\n: > {fake.folder}/unpacks; exec sleep 60\n")
    process = fake.start()
    while not (fake.folder / "unpacks").exists():
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate()
    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert not list(fake.folder.glob("gpu-sh.*"))


@pytest.mark.thorough(but=["15-tests", "2-device"])
@pytest.mark.parametrize("stage", ["device", "tests", "sanitizer"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_breaks_off_the_stage_that_runs(fake, stage, number):
    fake.play(stage, f"sleep 60 & echo $! > {fake.folder}/child; wait")
    process, child = fake.start(), fake.folder / "child"
    while not (child.exists() and child.read_text().strip()):
        assert process.poll() is None
        time.sleep(0.002)
    os.killpg(process.pid, number)
    out, _ = process.communicate()
    assert process.returncode == 128 + number
    assert list(fake.results["stages"]) == fake.begun
    assert fake.results["stages"][stage]["status"] == "broken off"
    assert "broken off" in out
    check_files(fake.out)
    assert gone(int(child.read_text()))


def gone(pid: int) -> bool:
    """Return True if a process has ended, or is about to."""
    for _ in range(2000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state in "ZX":
            return True
        time.sleep(0.005)
    return False


# ---- time ----------------------------------------------------------------------------------------


@pytest.fixture
def runner():
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield gpu_running.Runner()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_stage_that_takes_too_long_ends_with_all_that_it_started(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_running, "GRACE", 0.2)
    script = "trap '' TERM; sleep 60 & echo $!; echo said >&2; wait; sleep 60"
    words = ["bash", "-c", script]
    ended = runner.run(words, 0.3, tmp_path / "out", dict(os.environ), signal.SIGTERM)
    assert ended.late == 0.3
    assert ended.reason == "not done after 0 s"
    assert ended.last_lines == "said"
    assert gone(int(ended.text("stdout")))


def test_what_does_not_fit_is_skipped(runner, tmp_path, monkeypatch):
    gpu_stages = import_module("gpu_stages")
    header = {"device": {"GPU": "a"}, "commit": "b", "date": "c", "rehearsal": False}
    folder = gpu_results.Folder(tmp_path / "out", header)
    began = time.time() - gpu_table.BUDGETS[1] + 30
    call = gpu_stages.Call(1, began, runner, folder, tmp_path, False)
    monkeypatch.setattr(gpu_running, "PYTHON", "true")
    for stage in gpu_table.STAGES[:1] + gpu_table.STAGES[3:4]:
        call.run(stage)
    device, speed = folder.results["stages"].values()
    assert device["limit"] <= 30
    assert speed["status"] == "skipped"
    assert speed["reason"].startswith("it takes 55 s, and call 1 has ")
    folder.results["stages"]["speed"] = {"status": "passed", "seconds": 1}
    call.run(gpu_table.STAGES[3])
    assert folder.results["stages"]["speed"]["status"] == "passed", "an earlier result is lost"


def test_the_estimates_fit_into_the_calls():
    sums = dict.fromkeys(gpu_table.BUDGETS, 0)
    for stage in gpu_table.STAGES:
        assert stage.estimate < stage.limit
        sums[stage.call] += stage.estimate
    assert sums[1] < 340
    assert sums[2] < 230
    assert [stage.call for stage in gpu_table.STAGES] == sorted(s.call for s in gpu_table.STAGES)
    for contestant in gpu_table.CONTESTANTS.values():
        assert contestant.stage in STAGES
        assert (BENCH / contestant.script).exists()


# ---- what is refused -----------------------------------------------------------------------------


def refused(done: subprocess.CompletedProcess, sentence: str) -> None:
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("gpu.sh: ")
    assert sentence in done.stderr


def test_bad_arguments_are_refused(fake):
    refused(fake.run("--stage", "nonsense"), "there is no stage 'nonsense'; the stages: device, ")
    both = fake.run("--stage", "golden", "--call", "1")
    refused(both, "--stage names one stage of either call; leave out --call")
    refused(fake.run("--call", "3"), "--call: invalid choice: 3")
    refused(fake.run("--stage", "check", str(fake.python)), "is a file; name a folder")
    refused(fake.run("--stage", "check", str(fake.python / "a")), "(Not a directory)")
    assert not fake.out.exists()
    assert fake.begun == []


def test_what_is_in_the_folder_is_not_lost(fake):
    """Another run's results have cost time on a GPU; and a log.txt can be anybody's."""
    assert fake.run("--stage", "device").returncode == 0
    before = fake.results
    refused(fake.run("--rehearse"), "has the results of another run (Some GPU, commit ")
    (fake.folder / "device.json").write_text(json.dumps({"GPU": "Another GPU"}))
    refused(fake.run("--call", "2"), ", which would be lost; name another folder")
    assert fake.results == before
    for name, text in (("log.txt", "mine"), ("results.json", "{}"), ("results.json", "half")):
        fake.out = make(fake.folder / f"{name}.{text}")
        (fake.out / name).write_text(text)
        refused(fake.run(), f"has a file {name} that is damaged or not from bench/gpu.sh; name ")
        assert (fake.out / name).read_text() == text
        assert len(list(fake.out.iterdir())) == 1


def test_a_folder_that_cannot_be_cleared(fake):
    assert fake.run("--rehearse", "--stage", "device").returncode == 0
    (fake.out / "tests.xml").mkdir()
    refused(fake.run("--stage", "device"), "cannot write tests.xml in ")


def test_two_runs_at_once_into_one_folder(fake):
    fake.play("device", f"touch {fake.folder}/runs; while [[ ! -e {fake.folder}/go ]]; do :; done")
    process = fake.start("--stage", "device")
    while not (fake.folder / "runs").exists():
        time.sleep(0.002)
    refused(fake.run("--stage", "golden"), f"another bench/gpu.sh writes to {fake.out}; wait ")
    (fake.folder / "go").touch()
    process.communicate()
    assert process.returncode == 0
    assert list(fake.results["stages"]) == ["device"]


def test_an_empty_folder_name_is_the_default(fake):
    """As of a variable that is not set."""
    assert fake.run("--stage", "device", "").returncode == 0
    assert check_files(fake.out) == {"results.json", "log.txt"}


def test_a_relative_tmpdir(fake):
    env = {"PYTHON": str(fake.python), "GPU_PACK": "/nowhere", "OUT": "out", "TMPDIR": "."}
    done = subprocess.run(
        ["bash", str(BENCH / "gpu.sh"), "--stage", "captured"], cwd=fake.folder,
        env=os.environ | env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_temporary_folder_without_room(monkeypatch, tmp_path):
    """Else the stages fail, each in a way of its own."""
    stages = import_module("gpu_stages")
    monkeypatch.setattr(stages.shutil, "disk_usage", lambda path: SimpleNamespace(free=10**6))
    with pytest.raises(stages.RefusedError, match=f"{tmp_path} has 1 MB free; set TMPDIR to a "):
        stages.run(stages.arguments([str(tmp_path / "out")]), None, tmp_path / "scratch")
    assert list(tmp_path.iterdir()) == []


def test_a_python_that_is_not_there(fake):
    fake.python = Path("/nowhere/python")
    refused(fake.run(), "there is no /nowhere/python; set PYTHON")


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("echo 'the backend cannot be used: no driver' >&2; exit 2", "gpu.sh: the backend cannot"),
        ("echo 'ImportError: no numpy' >&2; exit 1", "cannot run xpnet (ImportError: no numpy)"),
        ("kill -11 $$", "cannot run xpnet (killed by signal 11)"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_refused(fake, script, sentence):
    fake.play("look", script)
    refused(fake.run(), sentence)
    assert not fake.out.exists()


def test_a_machine_without_a_gpu_is_refused(tmp_path):
    env = {"PYTHON": sys.executable, "CUDA_VISIBLE_DEVICES": "", "GPU_PACK": "/nowhere"}
    command = ["bash", str(BENCH / "gpu.sh"), str(tmp_path / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | env, check=False
    )
    refused(done, "gpu.sh: the backend 'cupy' cannot be used")
    assert not (tmp_path / "out").exists()


def test_a_gpu_that_is_too_small_is_refused():
    needed = common.bytes_needed()
    assert 2**31 < needed < 2**33
    assert gpu_first.unsuitable({"GPU": "Some GPU"}, needed) == ""
    said = gpu_first.unsuitable({"GPU": "Some GPU"}, 2**30)
    assert said.startswith("Some GPU has 1.0 GiB free, but MNIST and a 784-4096-4096-10 net with ")
    assert said.endswith("; end what else uses the GPU, or take a larger one")


def test_a_machine_without_mnist_is_refused(monkeypatch, tmp_path):
    """Half of the stages would fail, late."""
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    said = gpu_first.without_mnist()
    assert said.startswith(f"XPNET_DATA ({tmp_path}) names no folder with MNIST; set it, or bring ")
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        is_images = "images" in name
        array = np.zeros((3, 28, 28) if is_images else 3, np.uint8)
        write_idx(tmp_path / f"{name}-ubyte", array)
    assert gpu_first.without_mnist() == ""
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(b"half")
    assert "t10k-labels-idx1-ubyte" in gpu_first.without_mnist()


# A full disk: the write number N of the orchestrator fails, as one does where there is no room.
FULL = """
import errno, os, runpy, sys
real, left = os.fsync, [{n}]
def fsync(file):
    left[0] -= 1
    if left[0] < 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(file)
os.fsync = fsync
sys.argv = sys.argv[1:]
sys.path.insert(0, {bench!r})
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.thorough(but=["0"])
@pytest.mark.parametrize("n", [0, 1, 4, 6, 30])
def test_a_full_disk_is_said_in_a_sentence(fake, n):
    (fake.folder / "full.py").write_text(FULL.format(n=n, bench=str(BENCH)))
    fake.make(str(fake.folder / "full.py"))
    done = fake.run()
    refused(done, f"in {fake.out} ({os.strerror(errno.ENOSPC)})")
    names = check_files(fake.out)
    assert gpu_results.TEMPORARY not in names
    assert names == set() if n == 0 else "results.json" in names
    assert n == 0 or list(fake.results["stages"])[: len(fake.begun) - 1] == fake.begun[:-1]


# ---- the rehearsal -------------------------------------------------------------------------------


def test_a_rehearsal_puts_the_stand_in_first(fake):
    done = fake.run("--rehearse")
    assert done.returncode == 0, done.stdout
    assert fake.results["rehearsal"]
    assert done.stdout.count("REHEARSAL") == 2
    look, *commands = (fake.folder / "commands").read_text().splitlines()
    assert "--look" in look
    assert len(commands) == len(STAGES)
    for stage, line in zip(gpu_table.STAGES, commands, strict=True):
        path = ":".join(map(str, (HELPERS / "standin", HELPERS, ROOT, BENCH)))
        assert line.startswith(f"1 {path}")
        assert line.endswith(" ".join(stage.quick))


@pytest.mark.parametrize(
    ("stage", "script", "reason"),
    [
        ("peers", """echo '{"JAX scan": {"not_installed": "jax"}}' > $5""", "jax: not installed"),
        ("golden", "exit 1", "exit code 1"),
    ],
)
def test_a_rehearsal_fails_where_a_gpu_would_not_help(fake, stage, script, reason):
    fake.play(stage, script)
    assert fake.run("--rehearse", "--stage", stage).returncode == 1
    record = fake.results["stages"][stage]
    assert record["status"] == "failed"
    assert record["reason"] == reason


ALL_SKIPPED = """
for word; do case $word in --junitxml=*)
    echo '<testsuite><testcase classname="a" name="b"><skipped/></testcase></testsuite>' > \
        "${word#*=}" ;;
esac; done
"""


@pytest.mark.parametrize("stage", ["captured", "parallel"])
def test_a_rehearsal_that_skips_all_tests_of_a_stage_fails(fake, stage):
    """The two processes on one GPU need an MPI, which bench/gpu_pack has, and no real GPU."""
    fake.play(stage, ALL_SKIPPED)
    assert fake.run("--rehearse", "--stage", stage).returncode == 1
    record = fake.results["stages"][stage]
    assert record["status"] == "skipped"
    assert record["reason"] == "all 1 tests were skipped"


def test_a_rehearsal_may_skip_what_needs_a_gpu(fake):
    fake.play("sanitizer", "echo not installed >&2; exit 77")
    assert fake.run("--rehearse", "--stage", "sanitizer").returncode == 0
    assert fake.results["stages"]["sanitizer"]["only_a_gpu"] is True


def test_a_sample_has_the_first_cases_of_all_functions_if_there_are_few():
    def sample(cases: int, functions: int) -> list[str]:
        items = [SimpleNamespace(originalname=f"{i // cases}", case=i % cases)
                 for i in range(cases * functions)]  # fmt: skip
        return [f"{item.originalname}[{item.case}]" for item in gpu_sample.sample(items)]

    assert sample(2, 2) == ["0[0]", "1[0]", "0[1]", "1[1]"]
    assert sample(9, 1) == [f"0[{i}]" for i in range(8)]
    assert sample(1, 11) == [f"{i}[0]" for i in range(8)]
    assert sample(1, 0) == []


def test_what_the_sample_leaves_out_is_there():
    text = "".join((ROOT / name).read_text("utf-8") for name in gpu_table.gpu_files())
    for name in gpu_sample.LEFT_OUT:
        assert f"def {name}(" in text


# ---- compute-sanitizer ---------------------------------------------------------------------------


def test_what_compute_sanitizer_says(tmp_path, monkeypatch, capsys):
    steps = import_module("gpu_small_steps")
    monkeypatch.setattr(steps, "PLACES", ())
    monkeypatch.setattr(sys, "argv", ["gpu_small_steps.py"])
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert shutil.which("compute-sanitizer") or steps.main() == steps.SKIPPED
    tool = tmp_path / "compute-sanitizer"
    lines = 'echo "===== Error: Race reported"; echo "===== RACECHECK SUMMARY: 1 hazard"; exit 9'
    first = '[[ $2 == memcheck ]] && echo "ERROR SUMMARY: 0" && exit'
    tool.write_text(f"#!/bin/bash\n{first}\n{lines}\n")
    tool.chmod(0o755)
    assert steps.main() == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["memcheck"] == {"ok": True, "said": ["ERROR SUMMARY: 0"]}
    assert found["racecheck"]["ok"] is False
    assert len(found["racecheck"]["said"]) == 2


# ---- the tests for a GPU -------------------------------------------------------------------------


def test_the_stages_name_all_files_with_tests_for_a_gpu(request):
    """As far as this run of pytest has collected; the whole suite collects all."""
    found = {
        marker: {path.relative_to(ROOT).as_posix() for path in paths}
        for marker, paths in request.config.xpnet_markers.items()
    }
    assert found["gpu"] <= set(gpu_table.gpu_files())
    assert found["cupy_reductions"] <= set(gpu_table.REDUCTIONS)
    apart = set(gpu_table.CAPTURED + gpu_table.PARALLEL)
    assert set(gpu_table.gpu_files()) == apart | set(gpu_table.other_files())
    assert set(gpu_table.REDUCTIONS) <= set(gpu_table.other_files())


def test_failures_have_a_message():
    xml = TESTS.replace("<skipped", "<failure").encode()
    found = gpu_junit.summary(xml)
    assert found["failures"] == [{"test": "c", "message": "not here"}]
    assert gpu_junit.totals(found["kinds"]) == {
        "passed": 2, "failed": 1, "skipped": 0, "seconds": 0.8,
    }  # fmt: skip
    assert gpu_junit.summary(b"<half")["kinds"] == {}
