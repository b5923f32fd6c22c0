"""Training on several processes: ``python bench/parallel.py [--only PART] [--quick] [--out FILE]``.

PART is one of

allreduce
    xpnet's all-reduce beside that of mpi4py, in the same processes in turn, for vectors of several
    lengths; and what one adds to some work before it, from which the cost model knows α and β.
steps
    Steps of `Trainer.fit` on 1 to 4 processes with one thread each: MNIST, its bytes as they are
    (``XPNET_DATA``), float32, the backend numpy. One process also plays one of several whose
    others are not there, from which the cost model knows what the samples take, and what each
    process has to do for itself.
kills
    ``xpnet train digits --processes 3``, of which one process is killed (``kill -9``) at a random
    step: how long the others take to end, whether they say which one it was, and whether
    ``--resume`` ends with the weights of a training that never stopped. On Linux.

The numbers of processes take turns, a round is a new job of ``mpiexec``, and what counts is the
median of the rounds, or of their ratios. A round during which other programs had more than a
twentieth of the cores is measured again (on Linux, some times). A part that is measured replaces
what the JSON has of it; then the tables of docs/parallel.md and the picture are made anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cost_model as model
import numpy as np
from gpu_common import network, say

import xpnet
from xpnet.data import load_mnist
from xpnet.parallel import Communicator
from xpnet.parallel.launch import THREADS, start

ROOT = Path(__file__).parents[1]
OUT = ROOT / "bench" / "results" / "parallel.json"
PAGE = ROOT / "docs" / "parallel.md"
PARTS = ("allreduce", "steps", "kills")
ROUNDS, QUICK_ROUNDS, KILLS, QUICK_KILLS = 5, 1, 20, 2
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
QUIET, TRIES = 0.05, 3  # of the cores, for other programs; how often a round is measured for it

LENGTHS = (1, 1_000, 10_000, 50_000, 200_000, 1_000_000, 2_000_000, 4_000_000)
TURNS = 10  # of each
CALLS = 1_000_000  # numbers, at least, that the all-reduces of a turn add up
WORKS = 20  # calls of a turn with something to do between
FACTORS = np.ones((64, 784), np.float32), np.ones((784, 256), np.float32)
PRODUCT = np.empty((64, 256), np.float32)

NETWORKS = {  # hidden layers, batch, steps of a round
    "784-64-32-10": ((64, 32), 128, 300),
    "784-256-10": ((256,), 512, 60),
    "784-1024-1024-10": ((1024, 1024), 512, 10),
}
LARGEST = "784-1024-1024-10"
OPTIMIZERS = {"SGD": xpnet.SGD, "Adam": xpnet.Adam}
PROCESSES = (1, 2, 3, 4)
WARM_UP = 3  # steps

KILLED = ("digits", "--epochs", "10", "--checkpoint-every", "10")
STEPS_KILLED = 400  # of the 450 that it takes
OF_KILLED = 3  # processes


# ---- the jobs: what each process does -----------------------------------------------------------


def job_allreduce() -> dict:
    """Return microseconds: of xpnet's all-reduce, of mpi4py's, and of work without and with one."""
    from mpi4py import MPI

    ours, plain, found = xpnet.parallel.communicator("mpi"), MPI.COMM_WORLD, {}
    for n in LENGTHS:
        a, number = np.ones(n, np.float32), min(100, -(-CALLS // n))
        calls = {
            "xpnet": (lambda a=a: ours.allreduce(a), number),
            "mpi4py": (lambda a=a: plain.Allreduce(MPI.IN_PLACE, a), number),
            "work": (lambda a=a: work(a), WORKS),
            "work and xpnet": (lambda a=a: ours.allreduce(work(a)), WORKS),
        }
        times = {what: [] for what in calls}
        for turn in range(-1, TURNS):  # the first one warms up
            for what, (call, repeats) in calls.items():
                a[:] = 1
                plain.Barrier()
                begin = time.perf_counter()
                for _ in range(repeats):
                    call()
                if turn >= 0:
                    times[what].append((time.perf_counter() - begin) / repeats * 1e6)
        found[str(n)] = {what: float(np.median(us)) for what, us in times.items()}
    return found


def work(a):
    """Do something between two all-reduces, as the step of a small network, and write a vector."""
    np.matmul(*FACTORS, out=PRODUCT)
    a[:] = 1
    return a


class Played(Communicator):
    """The first of some processes, of which the others are not there: nothing goes between."""

    def __init__(self, size: int) -> None:
        self.size = size

    def allgather(self, value):
        return [value] * self.size


class Clock(xpnet.Callback):
    """Notes when each step ends."""

    def on_train_begin(self, logs) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, batch, logs) -> None:
        self.ends.append(time.perf_counter())


def job_steps() -> dict:
    """Return the milliseconds of a step by network and optimizer.

    A single process also plays one of several.
    """
    real, data = xpnet.parallel.communicator("auto"), load_mnist(os.environ.get("XPNET_DATA"))
    comms = [real] if real.size > 1 else [real, *map(Played, PROCESSES[1:])]
    return {
        name: {
            rule: {str(comm.size): step_ms(name, rule, comm, *data[:2]) for comm in comms}
            for rule in OPTIMIZERS
        }
        for name in NETWORKS
    }


def step_ms(name, optimizer, comm, X, t) -> float:
    """Return the mean of the steps of an epoch but for the first ones."""
    hidden, batch, steps = NETWORKS[name]
    net, clock, n = network((784, *hidden, 10), "numpy"), Clock(), batch * (steps + WARM_UP)
    rule = OPTIMIZERS[optimizer](net, 1e-3)
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", rule, comm=comm)
    trainer.fit(X[:n], t[:n], epochs=1, batch_size=batch, callbacks=[clock])
    return (clock.ends[-1] - clock.ends[WARM_UP - 1]) / steps * 1e3


JOBS = {"allreduce": job_allreduce, "steps": job_steps}


# ---- the measurement ----------------------------------------------------------------------------


def measure_allreduce(rounds: int) -> dict:
    """Return for each number of processes the microseconds by length, and the ratio."""
    turns = in_turn("allreduce", PROCESSES, rounds)
    found: dict = {"others": others_of(turns)}
    for n, jobs in turns.items():
        found[n] = {
            length: {what: median(job[length][what] for job, _ in jobs) for what in us}
            | {"ratio": median(job[length]["xpnet"] / job[length]["mpi4py"] for job, _ in jobs)}
            for length, us in jobs[0][0].items()
        }
    return found


def measure_steps(rounds: int) -> dict:
    """Return for each network and optimizer the milliseconds of a step, and how much faster."""
    turns = in_turn("steps", PROCESSES, rounds)
    found: dict = {"others": others_of(turns)}
    for name, (hidden, batch, _) in NETWORKS.items():
        size = network((784, *hidden, 10), "numpy").size
        found[name] = {"parameters": size, "batch": batch}
        for rule in OPTIMIZERS:
            alone = [job[name][rule] for job, _ in turns["1"]]
            real = {n: [job[name][rule][n] for job, _ in jobs] for n, jobs in turns.items()}
            pairs = {n: zip(real["1"], ms, strict=True) for n, ms in real.items()}
            found[name][rule] = {
                "ms": {n: median(ms) for n, ms in real.items()},
                "speedup": {n: median(one / ms for one, ms in both) for n, both in pairs.items()},
                "alone_ms": {n: median(row[n] for row in alone) for n in alone[0]},
                "rounds_ms": real,
            }
    return found


def in_turn(job: str, processes, rounds: int) -> dict[str, list[tuple[dict, float]]]:
    """Return for each number of processes what the jobs found, with the share of the others."""
    turns: dict = {str(n): [] for n in processes}
    for k in range(rounds):
        for n in processes:
            print(f"\r{job}: round {k + 1} of {rounds}, {n} processes ", end="", flush=True)
            turns[str(n)].append(undisturbed(job, n))
    print()
    return turns


def undisturbed(job: str, processes: int) -> tuple[dict, float]:
    """Return what a job found, and the share of the cores that other programs had meanwhile."""
    tried = []
    while len(tried) < TRIES:
        begin, busy, own = time.perf_counter(), busy_s(), own_s()
        command = [*start(processes), __file__, "--job", job]
        done = subprocess.run(command, env=one_thread(), stdout=subprocess.PIPE, check=True)
        others = (busy_s() - busy) - (own_s() - own)
        share = max(0.0, others / (time.perf_counter() - begin) / CORES)
        tried.append((json.loads(done.stdout), share))
        if share <= QUIET:
            break
    return min(tried, key=lambda one: one[1])


def busy_s() -> float:
    """Return the seconds that the cores have worked: 0 where no /proc says it."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, soft, *_ = map(int, stat.read_text().split("\n")[0].split()[1:])
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def own_s() -> float:
    """Return the seconds of this process and of those that it has waited for."""
    return sum(os.times()[:4])


def one_thread() -> dict[str, str]:
    return os.environ | dict.fromkeys(THREADS, "1")


def others_of(turns: dict) -> float:
    return max(share for jobs in turns.values() for _, share in jobs)


def median(numbers) -> float:
    return float(np.median(list(numbers)))


# ---- processes that are killed ------------------------------------------------------------------


def measure_kills(number: int) -> dict:
    """Kill so many trainings, half of them in reproducible mode, and let them go on."""
    draw, cases = random.Random(0), []
    with tempfile.TemporaryDirectory() as folder:
        modes = {"ordinary": (), "reproducible": ("--reproducible",)}
        expected = {
            mode: weights(finished(begun(Path(folder, mode), *flag)))
            for mode, flag in modes.items()
        }
        for k in range(number):
            mode = list(modes)[k % 2]
            print(f"\rkills: {k + 1} of {number} ", end="", flush=True)
            run, rank = Path(folder, str(k)), draw.randrange(OF_KILLED)
            case = killed(begun(run, *modes[mode]), run, rank, draw.randrange(STEPS_KILLED), draw)
            resumed = finished(xpnet_train("--resume", str(run)))
            cases.append({"mode": mode, **case, "identical": weights(resumed) == expected[mode]})
    print()
    return {"cases": cases}


def begun(run: Path, *flags: str) -> subprocess.Popen:
    return xpnet_train(*KILLED, *flags, "--out", str(run))


def xpnet_train(*arguments: str) -> subprocess.Popen:
    """Start a training on some processes."""
    command = [sys.executable, "-m", "xpnet", "train", *arguments, "--processes", str(OF_KILLED)]
    command += ["--plots", "none", "--quiet", "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=one_thread(), **pipes)


def finished(process: subprocess.Popen) -> str:
    """Return what a training prints that ends well."""
    out, errors = process.communicate(timeout=120)
    if process.returncode:
        raise SystemExit(f"a training has failed:\n{errors}")
    return out


def weights(printed: str) -> str:
    return json.loads(printed)["weights_sha256"]


def killed(process: subprocess.Popen, run: Path, rank: int, step: int, draw) -> dict:
    """Kill a process at a random moment after a step, and return how the others have ended."""
    while steps_saved(run) < step and process.poll() is None:
        time.sleep(0.001)
    time.sleep(0.03 * draw.random())
    ranks = ranks_of(process.pid)
    if rank not in ranks:
        raise SystemExit(f"a training has ended before it was killed:\n{process.communicate()[1]}")
    os.kill(ranks[rank], signal.SIGKILL)
    begin = time.perf_counter()
    _, errors = process.communicate(timeout=120)
    while any(Path("/proc", str(number)).exists() for number in ranks.values()):
        time.sleep(0.001)
    seconds, named = time.perf_counter() - begin, f"rank {rank} " in errors
    if not named:
        print(f"\nrank {rank} was killed, and was not named:\n{errors}")
    return {"seconds": seconds, "named": named}


def steps_saved(run: Path) -> int:
    """Return the step of the last checkpoint: 0 where the training has just begun, before it -1."""
    paths = (run / "checkpoints").glob("step-*.npz")
    steps = [int(path.stem.removeprefix("step-")) for path in paths]
    return max(steps, default=0 if (run / "log.jsonl").exists() else -1)


def ranks_of(parent: int) -> dict[int, int]:
    """Return the numbers of the processes that descend from this one, by their rank."""
    found, left = {}, [parent]
    while left:
        number = left.pop()
        try:
            children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
            own = Path(f"/proc/{number}/environ").read_bytes()
        except OSError:
            continue
        rank = re.search(rb"(?:^|\0)(?:PMI_RANK|OMPI_COMM_WORLD_RANK)=(\d+)", own)
        if rank:  # what it has started itself, the guard, has its environment, too
            found[int(rank[1])] = number
        else:
            left += map(int, children)
    return found


# ---- the cost model -----------------------------------------------------------------------------

CLUSTER = model.Link(2e-6, 8 / 100e9)  # assumed: 2 µs, 100 Gbit/s
SIZES = {"50 k": 50e3, "2 M": 2e6, "25 M": 25e6, "350 M": 350e6}  # parameters
MANY = (8, 16, 32, 64, 128, 256, 512, 1024)
SAMPLES = 128  # of a process
COLOURS = dict(zip(SIZES, ("#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
ALGORITHMS = {"ring": model.ring, "tree": model.tree}


def links(results: dict) -> dict[int, model.Link]:
    """Return α and β by the number of processes, of an all-reduce between two pieces of work."""
    return {n: model.fit_link(n, between_work(results, n), model.halving) for n in PROCESSES[1:]}


def between_work(results: dict, n: int) -> list[tuple[int, float]]:
    """Return the bytes of an all-reduce, and the seconds that it adds to the work around it."""
    found, at_once, times = results["allreduce"], -(-n // results["cores"]), []
    for length, us in found[str(n)].items():
        added = us["work and xpnet"] - at_once * found["1"][length]["work"]
        times.append((4 * int(length), max(added, us["xpnet"]) / 1e6))
    return times


def compute_of(one: dict, batch: int) -> model.Compute:
    """Return a and b of a network with an optimizer."""
    return model.fit_compute([(batch / int(n), ms / 1e3) for n, ms in one["alone_ms"].items()])


def points(results: dict) -> list[dict]:
    """Return measured and predicted milliseconds of each network and optimizer by processes."""
    between = {1: model.Link(0, 0)} | links(results)
    cores, found = results["cores"], []
    for name in NETWORKS:
        network_of, m = results["steps"][name], 4 * (results["steps"][name]["parameters"] + 2)
        for rule in OPTIMIZERS:
            cost = compute_of(network_of[rule], network_of["batch"])
            for n in PROCESSES:
                of_model = n, network_of["batch"], m, cost, between[n], model.halving, cores
                predicted, measured = model.step(*of_model) * 1e3, network_of[rule]["ms"][str(n)]
                found.append(
                    {"network": name, "optimizer": rule, "processes": n}
                    | {"measured": measured, "predicted": predicted}
                    | {"error": predicted / measured - 1}
                )
    return found


def predictions(results: dict) -> list[dict]:
    """Return the efficiency for each kind of link, number of parameters and algorithm."""
    largest = results["steps"][LARGEST]
    cost, own = compute_of(largest["Adam"], largest["batch"]), largest["parameters"]
    kinds = {"shared memory": links(results)[2], "cluster": CLUSTER}
    return [
        {"link": kind, "parameters": size, "algorithm": how}
        | {
            "efficiency": [
                model.efficiency(
                    n, SAMPLES, 4 * p, model.Compute(*(x * p / own for x in cost)), link, algorithm
                )
                for n in MANY
            ]
        }
        for kind, link in kinds.items()
        for size, p in SIZES.items()
        for how, algorithm in ALGORITHMS.items()
    ]


# ---- the tables ---------------------------------------------------------------------------------


def rows(results: dict) -> list[tuple[str, str, str]]:
    """Return what is measured, what is asked for, and what came out."""
    million, largest = results["allreduce"]["2"]["1000000"], results["steps"][LARGEST]
    steps = ", ".join(
        f"{rule} {largest[rule]['speedup']['2']:.2f}x ({largest[rule]['ms']['1']:.1f} ms, "
        f"{largest[rule]['ms']['2']:.1f} ms)"
        for rule in OPTIMIZERS
    )
    cases = results["kills"]["cases"]
    n, exact = len(cases), [case for case in cases if case["mode"] == "reproducible"]
    slowest = max(case["seconds"] for case in cases)
    worst = max(abs(point["error"]) for point in points(results))
    return [
        (
            "all-reduce of 1 M float32, 2 processes, beside plain mpi4py",
            "at most 1.3x",
            f"{million['ratio']:.2f}x ({million['xpnet']:.0f} µs)",
        ),
        (
            f"step of {LARGEST}, B=512, 2 processes on 2 cores beside 1, a thread each",
            "1.7x",
            steps,
        ),
        (
            "`kill -9` of one of 3 processes: until all have ended",
            "under 10 s",
            f"at most {slowest:.1f} s; {sum(case['named'] for case in cases)} of {n} name the rank",
        ),
        (
            "... then `--resume`: the weights of a training that never stopped",
            f"{n} of {n}",
            f"{sum(case['identical'] for case in cases)} of {n}, "
            f"{sum(case['identical'] for case in exact)} of them in reproducible mode",
        ),
        (
            "the cost model beside what was measured, 1 to 4 processes",
            "within 15 %",
            f"at most {worst:.0%} off",
        ),
    ]


def tables(results: dict) -> list[str]:
    """Return the tables of docs/parallel.md."""
    found = points(results)
    by_network = [found[k : k + len(PROCESSES)] for k in range(0, len(found), len(PROCESSES))]
    heads = " | ".join(("1 process", *(f"{n} processes" for n in PROCESSES[1:])))
    steps = [
        f"| {some[0]['network']} | {some[0]['optimizer']} | "
        + " | ".join(f"{p['measured']:.2f} / {p['predicted']:.2f}" for p in some)
        + " |"
        for some in by_network
    ]
    alphas = [
        f"| {n} | {1e6 * link.alpha:.1f} µs | {1e9 * link.beta:.2f} ns | {1e-9 / link.beta:.1f} |"
        for n, link in links(results).items()
    ]
    many = [
        f"| {p['link']} | {p['parameters']} | {p['algorithm']} | "
        + " | ".join(f"{e:.0%}" for e in p["efficiency"])
        + " |"
        for p in predictions(results)
    ]
    dashes = "|---" * (2 + len(PROCESSES)), "|---" * (3 + len(MANY))
    return [
        "\n".join(lines)
        for lines in (
            [
                "| what | asked for | measured |",
                "|---|---|---|",
                *(f"| {' | '.join(row)} |" for row in rows(results)),
            ],
            ["| processes | α | β, of a byte | GB/s |", "|---|---|---|---|", *alphas],
            [f"| step, ms | optimizer | {heads} |", f"{dashes[0]}|", *steps],
            [
                f"| between them | parameters | all-reduce | {' | '.join(map(str, MANY))} |",
                f"{dashes[1]}|",
                *many,
            ],
        )
    ]


def into_the_page(results: dict) -> None:
    """Bring the tables of docs/parallel.md up to date: each is known by its first line."""
    text = PAGE.read_text(encoding="utf-8")
    for table in tables(results):
        head = re.escape(table.partition("\n")[0])
        text, n = re.subn(rf"{head}(\n\|.*)*", lambda _, table=table: table, text)
        if n != 1:
            raise SystemExit(f"{PAGE} must have one table that begins with {table.splitlines()[0]}")
    PAGE.write_text(text, encoding="utf-8")


def chart(results: dict, path: Path) -> None:
    """Draw the predicted efficiency over the number of processes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import PercentFormatter

    kinds = {"shared memory": "as between two processes here", "cluster": "2 µs, 100 Gbit/s"}
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for ax, (kind, about) in zip(axes, kinds.items(), strict=True):
        for p in predictions(results):
            if p["link"] == kind:
                ax.plot(
                    MANY,
                    p["efficiency"],
                    COLOURS[p["parameters"]],
                    linestyle="-" if p["algorithm"] == "ring" else "--",
                    label=f"{p['parameters']}, {p['algorithm']}",
                )
        ax.set_xscale("log", base=2)
        ax.set_xticks(MANY, list(map(str, MANY)))
        ax.minorticks_off()
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_formatter(PercentFormatter(1))
        ax.set_title(f"{kind}: {about}", fontsize="medium")
        ax.set_xlabel("processes")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("predicted efficiency")
    axes[1].legend(title="parameters, all-reduce", loc="lower left", ncols=2, fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=PARTS, help="one part of the measurement")
    parser.add_argument("--quick", action="store_true", help="one round: does it run?")
    parser.add_argument("--out", type=Path, help="another JSON; the page stays as it is")
    parser.add_argument("--job", choices=list(JOBS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        found = JOBS[options.job]()
        if xpnet.parallel.communicator("auto").rank == 0:
            say(found)
        return
    out = options.out or OUT
    results = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    results |= {
        "processor": platform.processor() or platform.machine(),
        "cores": CORES,
        "numpy": np.__version__,
        "mpi": mpi_version(),
    }
    rounds, kills = (QUICK_ROUNDS, QUICK_KILLS) if options.quick else (ROUNDS, KILLS)
    for part in [options.only] if options.only else PARTS:
        measure = {"allreduce": measure_allreduce, "steps": measure_steps, "kills": measure_kills}
        results[part] = measure[part](kills if part == "kills" else rounds)
    out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if set(PARTS) <= results.keys():
        print("\n\n".join(tables(results)))
        if not options.out:
            into_the_page(results)
            chart(results, OUT.with_suffix(".png"))


def mpi_version() -> str:
    """Return the first line of what the MPI says of itself."""
    command = [sys.executable, "-m", "mpi4py", "--mpi-lib-version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return " ".join(said.splitlines()[0].split())


if __name__ == "__main__":
    main()
