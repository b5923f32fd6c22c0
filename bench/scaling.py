"""How time and memory grow: ``python bench/scaling.py [--quick] [--out FILE] [--chart FILE]``.

The time of a training step and the peak memory of its process, against the size of a batch, the
width and the depth of the network, and the number of samples; and both for a file that is mapped
into memory (a `numpy.memmap`) beside a data set that is in memory. The data are bytes, 784 to a
sample, the optimizer is Adam, and the steps are those of `Trainer.fit`.

Each point is a process of its own, which waits in the middle of its training between rounds: those
of a sweep, and those that are compared, take turns. Where the number of samples grows, a round is
made of whole epochs. Times are medians over the rounds after one to warm up; a ratio is the median
of the ratios of each turn. Memory is what the process had at most by the kernel's count (VmHWM; on
other systems than Linux, the greatest resident set), files that it has mapped included. The file is
written for the occasion and deleted at the end; the kernel keeps of it what it has room for, and
the table says how much came from the disk all the same, over all rounds but the first.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from gpu_common import network, say

import xpnet

FEATURES, CLASSES, BATCH, SAMPLES = 784, 10, 128, 60_000
SMALL, MEDIUM = (64, 32), (256, 128)
ROUNDS, ROUND_S, QUICK_ROUND_S = 7, 0.2, 0.05
PAUSE_S = 0.15  # before a round: the threads of a BLAS look for work for a while after the last
FILE_STEPS, QUICK_FILE_STEPS = 500, 100  # of a round
BLOCK = 50_000  # rows that are written at once, and again and again
COLOURS = {"numpy": "#0072B2", "numba": "#D55E00"}  # told apart by the colour-blind too
MARKERS = {"numpy": "o", "numba": "s"}


def sweeps(quick: bool) -> dict[str, dict]:
    """Return the jobs of each sweep by the number that grows."""
    step = 2 if quick else 1
    batches = [2**k for k in range(4, 13)][::step]
    widths, depths = [2**k for k in range(4, 11)][::step], [1, 2, 4, 8, 16][::step]
    samples = [1000, 2000, 5000, 10_000, 20_000, 60_000][::-step][::-1]
    return {
        "batch size": {n: {"batch": n} for n in batches},
        "width": {n: {"hidden": (n, n)} for n in widths},
        "depth": {n: {"hidden": (64,) * n} for n in depths},
        "samples": {n: {"samples": n, "epochs": True} for n in samples},
    }


# ---- a process that trains ----------------------------------------------------------------------


def train(job: dict) -> None:
    """Train, one round for each line that comes, until none comes any more."""

    class Rounds(xpnet.Callback):
        """Stops the clock after each round, and then waits."""

        def on_train_begin(self, logs) -> None:
            self.steps, self.left, self.begin = 0, 20, time.perf_counter()

        def on_train_batch_end(self, batch, logs) -> None:
            self.left -= 1
            if self.left == 0 and self.steps == 0:
                self.steps = self.chosen((time.perf_counter() - self.begin) / 20)
                self.left = self.steps
            elif self.left == 0:
                seconds = time.perf_counter() - self.begin
                say({"step_us": seconds / self.steps * 1e6, "disk_mb": from_disk() - self.disk})
                self.wait()

        def on_epoch_begin(self, epoch, logs) -> None:
            if epoch == 0:
                self.disk = from_disk()

        def chosen(self, step_s: float) -> int:
            if job.get("steps"):
                return job["steps"]
            epoch, steps = self.trainer.steps_per_epoch, max(5, round(job["seconds"] / step_s))
            return -(-steps // epoch) * epoch if job.get("epochs") else steps

        def wait(self) -> None:
            if not sys.stdin.readline():
                raise EOFError
            self.left, self.disk, self.begin = self.steps, from_disk(), time.perf_counter()

    n = job["samples"]
    if job.get("file"):
        X = np.memmap(job["file"], np.uint8, "r", shape=(n, FEATURES))
    else:
        X = np.random.default_rng(0).integers(0, 256, (n, FEATURES), dtype=np.uint8)
    t = np.resize(np.arange(CLASSES, dtype=np.uint8), n)
    net = network((FEATURES, *job["hidden"], CLASSES), job["backend"])
    trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.Adam(net, 1e-4))
    try:
        trainer.fit(X, t, epochs=10**9, batch_size=job["batch"], callbacks=[Rounds()])
    except (EOFError, KeyboardInterrupt):
        say({"peak_mb": peak_memory()})


def peak_memory() -> float:
    """Return the most memory in MB that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (s for s in status.read_text().splitlines() if s.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def from_disk() -> float:
    """Return the MB that this process has had read from a disk."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_inblock * 512 / 1e6


# ---- the measurement ----------------------------------------------------------------------------


def measure(jobs: list[dict]) -> list[dict]:
    """Let all jobs take turns, and return for each the rounds, their medians, and the memory."""
    with ExitStack() as stack:
        running = []
        for job in jobs:
            command = [sys.executable, __file__, "--job", json.dumps(job)]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
            process = stack.enter_context(subprocess.Popen(command, **pipes))
            stack.callback(process.kill)
            running.append(process)
            answer(process)  # the round to warm up
        turns = [[ask(process) for process in running] for _ in range(ROUNDS)]
        found = []
        for job, process, rounds in zip(jobs, running, zip(*turns, strict=True), strict=True):
            process.stdin.close()
            us = [one["step_us"] for one in rounds]
            found.append(
                {k: job[k] for k in ("hidden", "batch", "samples")}
                | {"step_us": float(np.median(us)), "us_per_sample": float(np.median(us))}
                | {"rounds_us": us, "disk_mb": sum(one["disk_mb"] for one in rounds)}
                | answer(process)
            )
            found[-1]["us_per_sample"] /= min(job["batch"], job["samples"])
        return found


def ask(process) -> dict:
    """Let a process do one round."""
    time.sleep(PAUSE_S)
    process.stdin.write("\n")
    process.stdin.flush()
    return answer(process)


def answer(process) -> dict:
    line = process.stdout.readline()
    if not line:
        raise SystemExit("a process of the measurement has failed; its message stands above")
    return json.loads(line)


def sweep(name: str, jobs: dict, backend: str, quick: bool) -> list[dict]:
    """Return the points of a sweep."""
    common = {"hidden": SMALL, "batch": BATCH, "samples": SAMPLES, "backend": backend}
    common |= {"seconds": QUICK_ROUND_S if quick else ROUND_S}
    found = measure([common | job for job in jobs.values()])
    points = [{"x": x} | point for x, point in zip(jobs, found, strict=True)]
    print(f"\n{name}, backend {backend}")
    print(f"{name:>12} {'us a step':>11} {'us a sample':>12} {'ratio':>7} {'peak MB':>9}")
    for point in points:
        point["ratio"] = float(
            np.median(np.array(point["rounds_us"]) / np.array(points[0]["rounds_us"]))
        )
        print(
            f"{point['x']:>12,} {point['step_us']:>11,.0f} {point['us_per_sample']:>12.2f} "
            f"{point['ratio']:>7.2f} {point['peak_mb']:>9,.0f}",
            flush=True,
        )
    return points


def from_file(backends: list[str], folder: Path, gigabytes: float, quick: bool) -> list[dict]:
    """Return the comparison of a mapped file with a data set in memory, for two networks."""
    n, found = int(gigabytes * 1e9) // FEATURES, []
    free = shutil.disk_usage(folder).free
    if free < n * FEATURES * 1.05:
        raise SystemExit(
            f"{folder} has {free / 1e9:.1f} GB left, and a file of {gigabytes:g} GB is needed; "
            "name another folder with --folder, or write less with --gigabytes"
        )
    with tempfile.TemporaryDirectory(prefix="xpnet-scaling-", dir=folder) as inside:
        file = Path(inside) / "rows.u8"
        print(f"\nwriting {gigabytes:g} GB into {folder}, to be deleted at the end", flush=True)
        write_rows(file, n)
        print(
            f"{'network':<16} {'backend':<8} {'memory, steps/s':>16} {'file, steps/s':>14} "
            f"{'file/memory':>12} {'memory, MB':>11} {'file, MB':>9} {'from disk, MB':>14}"
        )
        for backend in backends:
            for hidden in (SMALL, MEDIUM):
                common = {"hidden": hidden, "batch": BATCH, "backend": backend}
                common |= {"steps": QUICK_FILE_STEPS if quick else FILE_STEPS}
                memory, mapped = measure(
                    [
                        common | {"samples": min(n, SAMPLES)},
                        common | {"samples": n, "file": str(file)},
                    ]
                )
                times = np.array(mapped["rounds_us"]) / np.array(memory["rounds_us"])
                point = {"backend": backend, "gigabytes": gigabytes, "memory": memory}
                point |= {"file": mapped, "time_ratio": float(np.median(times))}
                found.append(point)
                title = "-".join(map(str, (FEATURES, *hidden, CLASSES)))
                print(
                    f"{title:<16} {backend:<8} {1e6 / memory['step_us']:>16,.0f} "
                    f"{1e6 / mapped['step_us']:>14,.0f} {1 / point['time_ratio']:>12.2f} "
                    f"{memory['peak_mb']:>11,.0f} {mapped['peak_mb']:>9,.0f} "
                    f"{mapped['disk_mb']:>14,.0f}",
                    flush=True,
                )
    return found


def write_rows(file: Path, n: int) -> None:
    block = np.random.default_rng(0).integers(0, 256, (BLOCK, FEATURES), dtype=np.uint8)
    with file.open("wb") as out:
        for start in range(0, n, BLOCK):
            out.write(block[: n - start].data)
        os.fsync(out.fileno())  # nothing is left to be written while the clock runs


# ---- the picture --------------------------------------------------------------------------------

LABELS = {
    "batch size": "batch size (samples)",
    "width": "width of 2 hidden layers (units)",
    "depth": "hidden layers of 64 units",
    "samples": "samples in the data set",
}


def chart(found: dict, path: Path) -> None:
    """Draw time and memory against what grows, one line for each backend."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    def plain(value, _) -> str:
        return f"{value / 1000:g}k" if value % 1000 == 0 and value else f"{value:g}"

    figure, axes = plt.subplots(2, len(LABELS), figsize=(15, 7), sharex="col", layout="constrained")
    for column, (name, label) in zip(axes.T, LABELS.items(), strict=True):
        per_sample = name in ("batch size", "samples")
        quantities = ("us_per_sample" if per_sample else "step_us"), "peak_mb"
        titles = f"time per {'sample' if per_sample else 'step'} (µs)", "peak memory (MB)"
        for ax, quantity, title in zip(column, quantities, titles, strict=True):
            for backend, points in found["sweeps"].items():
                ax.loglog(
                    [p["x"] for p in points[name]],
                    [p[quantity] for p in points[name]],
                    marker=MARKERS[backend],
                    color=COLOURS[backend],
                    label=backend,
                )
            low, high = ax.get_ylim()
            middle = (low * high) ** 0.5  # at least a factor of 10, or noise looks like a slope
            ax.set_ylim(min(low, middle / 10**0.5), max(high, middle * 10**0.5))
            ax.set_ylabel(title)
            ax.grid(which="major", alpha=0.3)
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_minor_formatter(NullFormatter())
            ax.yaxis.set_major_formatter(FuncFormatter(plain))
        xs = [p["x"] for p in next(iter(found["sweeps"].values()))[name]]
        xs = xs[:: 2 if len(xs) > 7 else 1]  # or the labels overlap
        column[1].set_xticks(xs, [plain(x, None) for x in xs])
        column[1].sharey(axes[1, 0])
        column[1].minorticks_off()
        column[1].set_xlabel(label)
    sweeps = [sweep for points in found["sweeps"].values() for sweep in points.values()]
    peaks = [p["peak_mb"] for sweep in sweeps for p in sweep]
    axes[1, 0].set_ylim(min(peaks) / 1.3, max(peaks) * 1.3)  # of all four
    axes[0, 0].legend(title="backend")
    figure.suptitle(
        f"A training step of xpnet, {FEATURES}-{'-'.join(map(str, SMALL))}-{CLASSES} and batches "
        f"of {BATCH} where nothing else is said; threads: {found['threads']}"
    )
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backend", choices=list(COLOURS), nargs="+", default=["numpy"])
    parser.add_argument("--quick", action="store_true", help="fewer points, less time for each")
    parser.add_argument("--only", choices=["sweeps", "file"], help="one half of the measurement")
    parser.add_argument("--gigabytes", type=float, help="of the file: 8, with --quick 0.25")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--out", type=Path, help="for the numbers, as JSON")
    parser.add_argument("--chart", type=Path, help="for the picture, as PNG")
    parser.add_argument("--job", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        train(options.job)
        return
    if options.chart and options.only == "file":
        parser.error("--chart shows the sweeps, which --only file leaves out")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the file is deleted then too
    found = {
        "processor": platform.processor() or platform.machine(),
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count()),
        "numpy": np.__version__,
        "sweeps": {},
        "file": [],
    }
    if options.only != "file":
        for backend in options.backend:
            found["sweeps"][backend] = {
                name: sweep(name, jobs, backend, options.quick)
                for name, jobs in sweeps(options.quick).items()
            }
    if options.only != "sweeps":
        gigabytes = options.gigabytes or (0.25 if options.quick else 8)
        found["file"] = from_file(options.backend, options.folder, gigabytes, options.quick)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.chart:
        chart(found, options.chart)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
