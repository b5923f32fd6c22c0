"""Put one mistake at a time into xpnet: the checks in `kill` must notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from mutations import MUTATIONS, WITHOUT, file_of, package, source_of

HELPERS = Path(__file__).parents[1] / "helpers"
WORKERS = min(4, os.cpu_count() or 1)
AS_IT_IS = -1  # the number of no mutation


@pytest.fixture(scope="module")
def outcomes():
    """What became of each mutation, and at the end of each worker of xpnet as it is."""
    numbers = [[*range(k, len(MUTATIONS), WORKERS), AS_IT_IS] for k in range(WORKERS)]
    workers = [_python("mutations.py", *chunk) for chunk in numbers]
    try:
        outputs = [worker.communicate(timeout=600)[0] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0] * WORKERS
    return [json.loads(line) for output in outputs for line in output.splitlines()]


def _python(script, *arguments):
    """Start a script of tests/helpers, with the same xpnet, on one core."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return subprocess.Popen(
        [sys.executable, "-W", "error", HELPERS / script, *map(str, arguments)],
        env=os.environ | one | {"PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_checks_find_nothing_wrong_with_xpnet_as_it_is():
    worker = _python("kill.py")
    assert worker.communicate(timeout=300)[0] == "no mistake was found\n"
    assert worker.returncode == 0


def test_every_mutation_still_fits_the_source():
    """If one does not, then the source has changed: write the mutation anew."""
    for mutation in MUTATIONS:
        source = source_of(mutation)
        mutated = mutation.apply(source)
        assert mutated != source, mutation
        compile(mutated, mutation.module, "exec")


def test_there_are_mutations_of_everything_that_computes():
    assert len(MUTATIONS) == len({str(mutation) for mutation in MUTATIONS}) >= 200
    names = {f"layers/{path.name}" for path in (package() / "layers").glob("[!_]*.py")}
    names |= {"data/batches.py", "schedules.py", "initializers.py"}
    names |= {"backend/base.py", "backend/on_numpy.py"}
    files = {file_of(mutation).relative_to(package()).as_posix() for mutation in MUTATIONS}
    without = {f"layers/{name}" for name in WITHOUT}
    assert names - files == without
    rooms = {name.partition("/")[0] for name in files}
    assert {"losses", "network", "optimizers", "parallel", "training"} <= rooms


@pytest.mark.thorough
def test_the_checks_kill_the_mutations(outcomes, capsys):
    tried = [outcome for outcome in outcomes if outcome["number"] != AS_IT_IS]
    assert sorted(outcome["number"] for outcome in tried) == list(range(len(MUTATIONS)))
    count = Counter(outcome["outcome"] for outcome in tried)
    alive = [outcome["what"] for outcome in tried if outcome["outcome"] == "survived"]
    if alive:
        with capsys.disabled():
            print(f"\n{len(alive)} of {len(tried)} mutations survive:", *alive, sep="\n  ")
    broken = [outcome for outcome in tried if outcome["outcome"] == "broken"]
    assert not broken, "these do not fit or do not run, which tests nothing"
    assert count["killed"] >= 0.95 * len(tried), alive


@pytest.mark.thorough
def test_xpnet_as_it_is_survives_after_the_mutations(outcomes):
    """So it is the mutation that is killed, and none is left over from the one before."""
    plain = [outcome for outcome in outcomes if outcome["number"] == AS_IT_IS]
    assert len(plain) == WORKERS
    assert {outcome["outcome"] for outcome in plain} == {"survived"}, plain
