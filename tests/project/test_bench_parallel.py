"""``bench/parallel.py`` reads right what it measures, and the documentation has its numbers."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from math import log2
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "bench"))  # as when a script of that folder runs
model, parallel = map(import_module, ("cost_model", "parallel"))

LINK, COST = model.Link(2e-6, 1e-10), model.Compute(1e-3, 1e-4)
ALL = pytest.mark.parametrize("how", [model.ring, model.tree, model.halving])


# ---- the cost model -----------------------------------------------------------------------------


@ALL
def test_one_process_has_nobody_to_wait_for(how):
    assert how(1, 1e6, LINK) == 0
    assert model.step(1, 512, 1e6, COST, LINK, how) == 1e-3 + 512 * 1e-4
    assert model.efficiency(1, 128, 1e6, COST, LINK, how) == 1


def messages(P: int, m: float) -> tuple[float, float]:
    """Return the steps of a ring and the bytes that a process sends, counted one by one."""
    sent = [m / P for _ in ("sum", "pass on") for _ in range(P - 1)]
    return len(sent), sum(sent)


def distances(P: int) -> list[int]:
    """Return the distances over which recursive doubling reaches all of P processes."""
    found = [1]
    while 2 * found[-1] < P:
        found.append(2 * found[-1])
    return found if P > 1 else []


@pytest.mark.parametrize("P", [2, 3, 4, 8, 13, 1024])
def test_the_sums_are_those_of_the_algorithms(P):
    m, (alpha, beta) = 1e6, LINK
    number, sent = messages(P, m)
    assert model.ring(P, m, LINK) == pytest.approx(number * alpha + sent * beta, rel=1e-12)
    rounds = len(distances(P))
    assert model.tree(P, m, LINK) == pytest.approx(rounds * (alpha + m * beta), rel=1e-12)
    both_ways = 2 * rounds * alpha + sent * beta
    assert model.halving(P, m, LINK) == pytest.approx(both_ways, rel=1e-12)


def test_short_vectors_want_a_tree_and_long_ones_a_ring():
    for P in (8, 64, 1024):
        assert model.tree(P, 8, LINK) < model.halving(P, 8, LINK) <= model.ring(P, 8, LINK)
        assert model.ring(P, 1e12, LINK) == pytest.approx(2 * (1 - 1 / P) * 1e12 * 1e-10, rel=1e-3)
        ratio = model.tree(P, 1e12, LINK) / model.ring(P, 1e12, LINK)
        assert ratio == pytest.approx(log2(P) / (2 * (1 - 1 / P)), rel=1e-3)


def test_samples_are_shared_and_the_rest_is_not():
    alone = 1e-3 + 128e-4
    assert model.compute(4, 512, COST) == model.compute(4, 512, COST, 4) == alone
    slice_of_two = 2 * model.SLICE  # 1.4 ms
    assert model.compute(4, 512, COST, 2) == pytest.approx(2 * alone + slice_of_two, rel=1e-12)
    assert model.compute(3, 384, COST, 2) == pytest.approx(2 * alone + slice_of_two, rel=1e-12)
    assert model.compute(3, 384, COST, 1) == pytest.approx(3 * alone + model.SLICE, rel=1e-12)
    short = model.Compute(1e-4, 0)
    assert model.compute(4, 512, short, 2) == pytest.approx(3e-4, rel=1e-12)
    none = model.Link(0, 0)
    for how in (model.ring, model.tree):
        assert model.efficiency(1024, 128, 1e9, COST, none, how) == 1
        slower = [model.efficiency(P, 128, 1e6, COST, LINK, how) for P in (2, 8, 64, 1024)]
        assert slower == sorted(slower, reverse=True)
        assert 0 < slower[-1] < slower[0] < 1


def test_a_step_has_the_gradients_and_one_number_more():
    step = model.step(4, 512, 1e6, COST, LINK, model.ring, 2)
    between = model.ring(4, 1e6, LINK) + model.ring(4, 8, LINK)
    assert step == pytest.approx(model.compute(4, 512, COST, 2) + between, rel=1e-12)


@ALL
@pytest.mark.parametrize("P", [2, 3, 4])
def test_what_was_put_in_is_found(P, how):
    times = [(m, how(P, m, LINK)) for m in (4, 4e3, 4e5, 4e6)]
    assert model.fit_link(P, times, how) == pytest.approx(LINK, rel=1e-9)
    found = model.fit_compute([(n, 1e-3 + 1e-4 * n) for n in (128, 170, 256, 512)])
    assert found == pytest.approx(COST, rel=1e-9)


def test_nothing_takes_less_than_no_time():
    assert model.fit_compute([(1, 1.0), (100, 0.9)]).b == 0
    assert model.fit_compute([(1, 0.1), (100, 11.0)]).a == 0


# ---- the measurement ----------------------------------------------------------------------------


@pytest.fixture
def results():
    return json.loads(parallel.OUT.read_text(encoding="utf-8"))


def test_the_documentation_has_the_present_numbers(results):
    page = parallel.PAGE.read_text(encoding="utf-8")
    for table in parallel.tables(results):
        assert page.count(f"{table}\n\n") == 1


def test_a_page_that_is_out_of_date_is_brought_up_to_date(results, monkeypatch, tmp_path):
    monkeypatch.setattr(parallel, "PAGE", tmp_path / "page.md")
    heads = [table.partition("\n")[0] for table in parallel.tables(results)]
    old = "\n\ntext\n\n".join(f"{head}\n|---|\n| old |" for head in heads)
    parallel.PAGE.write_text(f"before\n\n{old}\n\nafter\n", encoding="utf-8")
    parallel.into_the_page(results)
    new = "\n\ntext\n\n".join(parallel.tables(results))
    assert parallel.PAGE.read_text(encoding="utf-8") == f"before\n\n{new}\n\nafter\n"
    parallel.PAGE.write_text("no table", encoding="utf-8")
    with pytest.raises(SystemExit, match="must have one table"):
        parallel.into_the_page(results)


def test_the_model_is_fitted_to_what_one_process_and_the_all_reduce_take(results):
    """A measurement that the model describes is predicted to the last digit."""
    link, cost = model.Link(3e-6, 2e-10), model.Compute(1e-3, 1e-4)
    for P in (1, 2, 3, 4):
        for length, us in results["allreduce"][str(P)].items():
            added = 1e6 * model.halving(P, 4 * int(length), link)
            at_once = -(-P // results["cores"])
            us |= {"xpnet": 0.5 * added, "work": 200, "work and xpnet": 200 * at_once + added}
    for name in parallel.NETWORKS:
        one = results["steps"][name]
        m, batch = 4 * (one["parameters"] + 2), one["batch"]
        for rule in parallel.OPTIMIZERS:
            for P in parallel.PROCESSES:
                one[rule]["alone_ms"][str(P)] = 1e3 * model.compute(P, batch, cost)
                step = model.step(P, batch, m, cost, link, model.halving, results["cores"])
                one[rule]["ms"][str(P)] = 1.01 * 1e3 * step
    found = parallel.points(results)
    assert len(found) == 3 * 2 * 4
    assert [point["error"] for point in found] == pytest.approx([1 / 1.01 - 1] * len(found))
    assert parallel.rows(results)[-1][-1] == "at most 1% off"


def test_an_all_reduce_adds_at_least_what_it_takes_without_work(results):
    for us in results["allreduce"]["2"].values():
        us |= {"xpnet": 5.0, "work and xpnet": 0.0}
    assert {seconds for _, seconds in parallel.between_work(results, 2)} == {5e-6}


def test_the_prediction_for_many_is_that_of_the_model(results):
    found = parallel.predictions(results)
    assert len(found) == 2 * 4 * 2
    large = results["steps"][parallel.LARGEST]
    a, b = parallel.compute_of(large["Adam"], large["batch"])
    scale = 350e6 / large["parameters"]
    cost = model.Compute(a * scale, b * scale)
    expected = model.efficiency(1024, 128, 4 * 350e6, cost, parallel.CLUSTER, model.tree)
    assert found[-1]["efficiency"][-1] == pytest.approx(expected, rel=1e-12)
    assert (found[-1]["link"], found[-1]["algorithm"]) == ("cluster", "tree")


def test_the_ranks_of_a_job_are_found_in_its_descendants(tmp_path):
    """By what mpiexec tells each of them, whatever stands between it and them."""
    if not Path("/proc/self/environ").exists():
        pytest.skip("no /proc, in which they are looked for")
    import os
    import subprocess

    inner = "import time; print(flush=True); time.sleep(60)"
    outer = (
        "import subprocess, sys, os\n"
        f"jobs = [subprocess.Popen([sys.executable, '-c', {inner!r}], stdout=subprocess.PIPE, "
        "env=os.environ | {'PMI_RANK': str(k)}) for k in (0, 1)]\n"
        "[job.stdout.readline() for job in jobs]\n"
        "print(*(job.pid for job in jobs), flush=True)\n"
        "sys.stdin.read()\n"
        "[(job.kill(), job.wait()) for job in jobs]\n"
    )
    environment = {k: v for k, v in os.environ.items() if "RANK" not in k}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", outer], env=environment, **pipes) as process:
        pids = list(map(int, process.stdout.readline().split()))
        assert parallel.ranks_of(process.pid) == dict(enumerate(pids))
        process.stdin.close()
