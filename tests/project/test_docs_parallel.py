"""What the page on several processes gives to copy: scripts that run, and commands that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from team import team

import xpnet
from xpnet.backend import find_backend
from xpnet.cli.parser import make_parser

FOLDER = Path(__file__).resolve().parents[2] / "docs"
PAGE = (FOLDER / "parallel.md").read_text(encoding="utf-8")
SLURM = (FOLDER / "parallel" / "slurm.sh").read_text(encoding="utf-8")
KUBERNETES = (FOLDER / "parallel" / "mpijob.yaml").read_text(encoding="utf-8")
BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(BASH is None, reason="there is no bash, which runs the scripts")


def options(command):
    """Return what the command line makes of ``... xpnet train ...``, which must be right."""
    words = shlex.split(command, comments=True)
    place = words.index("xpnet")
    return make_parser().parse_args(words[place + 1 :])


def run(script, folder, code=0, **environment):
    """Run a script whose programs note how they were called; return the notes by program."""
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    for name in ("srun", "mpiexec", "scontrol"):
        program = programs / name
        program.write_text(f'#!{BASH}\necho "$0" "$@" >> {folder}/notes\nexit {code}\n')
        program.chmod(0o755)
    (folder / "notes").unlink(missing_ok=True)
    done = subprocess.run(
        [BASH, "-u", "-c", script],
        cwd=folder,
        env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert not done.stderr
    notes = [line.split() for line in (folder / "notes").read_text().splitlines()]
    return done.returncode, {Path(name).name: words for name, *words in notes}


# ---- the page -----------------------------------------------------------------------------------


def test_the_commands_of_the_page_are_ones_that_exist():
    commands = re.findall(r"^\$ (.*\bxpnet train .*)$", PAGE, re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        found = options(command)
        assert bool(found.processes) != found.parallel
        assert ("-m mpi4py" in command) == ("mpiexec" in command) == found.parallel


def test_a_reproducible_step_needs_as_many_messages_as_the_page_says():
    """... but for the first one, in which the processes agree on what they sum."""
    X, t = np.zeros((128, 784), np.uint8), np.arange(128) % 10

    def work(comm, backend):
        class Steps(xpnet.Callback):
            def on_train_batch_end(self, batch, logs):
                self.calls = len(comm.table.calls) - self.before

            def on_train_batch_begin(self, batch, logs):
                self.before = len(comm.table.calls)

        layers = [xpnet.Linear(784, 64), xpnet.ReLU(), xpnet.Linear(64, 32), xpnet.ReLU()]
        net = xpnet.Sequential(*layers, xpnet.Linear(32, 10), backend=backend)
        trainer, steps = xpnet.Trainer(net, "softmax_cross_entropy", comm=comm), Steps()
        trainer.fit(X, t, epochs=2, batch_size=128, callbacks=[steps])
        return steps.calls

    backends = [find_backend("numpy", reproducible) for reproducible in (True, False)]
    found = [team(2, partial(work, backend=backend))[0] for backend in backends]
    said = re.search(r"needs (\d+) all-reduces\s+for a step\s+instead of one", PAGE)
    assert found == [int(said[1]), 1]


# ---- SLURM --------------------------------------------------------------------------------------


def slurm(folder, code=0):
    """Run the SLURM script, and return its exit code and what it has called."""
    (folder / "venv" / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "venv" / "bin" / "activate").touch()
    return run(SLURM, folder, code, SLURM_JOB_ID="7", SLURM_CPUS_PER_TASK="8")


@needs_bash
def test_the_slurm_script_begins_a_training_and_goes_on_with_it(tmp_path):
    _, called = slurm(tmp_path)
    assert "-m mpi4py -m xpnet" in " ".join(called["srun"])
    begun = options(shlex.join(called["srun"]))
    assert (begun.problem, begun.parallel, begun.resume) == ("mnist", True, None)
    folder = tmp_path / begun.out
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    again = options(shlex.join(slurm(tmp_path)[1]["srun"]))
    assert (again.problem, again.parallel, again.resume) == (None, True, begun.out)


@needs_bash
@pytest.mark.parametrize("code", [0, 1, 143])
def test_only_a_training_that_sigterm_has_ended_is_put_into_the_queue_again(code, tmp_path):
    found, called = slurm(tmp_path, code)
    assert found == code
    assert called.get("scontrol") == (["requeue", "7"] if code == 143 else None)


def test_the_options_of_the_slurm_script_come_first():
    """Behind the first command SLURM reads none."""
    head, _, rest = SLURM.partition("\n\n")
    lines = head.splitlines()
    assert lines[0] == "#!/bin/bash"
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=\S+)?", line) for line in lines[1:])
    assert "#SBATCH" not in rest


# ---- Kubernetes ---------------------------------------------------------------------------------


@pytest.fixture
def job():
    """Return the file for Kubernetes."""
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install '.[docs]'")
    return yaml.safe_load(KUBERNETES)


def replica(job, name):
    """Return the number of pods of a kind, and their container."""
    kind = job["spec"]["mpiReplicaSpecs"][name]
    (container,) = kind["template"]["spec"]["containers"]
    return kind["replicas"], container


@needs_bash
def test_the_kubernetes_file_begins_a_training_and_goes_on_with_it(job, tmp_path):
    assert (job["apiVersion"], job["kind"]) == ("kubeflow.org/v2beta1", "MPIJob")
    shell, c, script = replica(job, "Launcher")[1]["args"]
    assert (shell, c) == ("bash", "-c")
    mpiexec = run(script, tmp_path)[1]["mpiexec"]
    assert "python -m mpi4py -m xpnet" in " ".join(mpiexec)
    assert mpiexec[:2] == ["-n", str(replica(job, "Worker")[0] * job["spec"]["slotsPerWorker"])]
    begun = options(shlex.join(mpiexec))
    assert (begun.problem, begun.parallel, begun.resume) == ("mnist", True, None)
    (tmp_path / begun.out).mkdir()
    (tmp_path / begun.out / "config.json").touch()
    again = options(shlex.join(run(script, tmp_path)[1]["mpiexec"]))
    assert (again.problem, again.parallel, again.resume) == (None, True, begun.out)


def test_the_pods_share_what_they_must(job):
    containers = [replica(job, name)[1] for name in ("Launcher", "Worker")]
    assert len({container["image"] for container in containers}) == 1
    threads = {one["name"]: one["value"] for one in containers[0]["env"]}["OMP_NUM_THREADS"]
    cores = int(containers[1]["resources"]["limits"]["cpu"])
    assert int(threads) * job["spec"]["slotsPerWorker"] == cores
    for name, container in zip(("Launcher", "Worker"), containers, strict=True):
        pod = job["spec"]["mpiReplicaSpecs"][name]["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert volumes[mounts["/runs"]]["persistentVolumeClaim"] == {"claimName": "runs"}
    assert containers[0]["workingDir"] == "/runs"
