"""xpnet beside its peers at training on the CPU: ``python bench/compare.py [--quick]``.

The same data, initial weights, batches and optimizer for all; each peer as somebody who knows it
well would write it, see ``cpu_*.py``. Every contestant is a process of its own with as many threads
as the others, which prepares and compiles everything and does one round off the record, all side by
side; then they take turns, one round each, so that what else the machine does meets all alike. A
round is a whole training from the start, or one prediction; a ratio is formed in each round, and
its median is given with the least and the greatest. A contestant whose accuracy is worse than the
best one's by a point is said to be wrong.

``OPENBLAS_CORETYPE`` and the like are passed on, and kept in the JSON; where OpenBLAS does not use
all that the processor can do, see `xpnet info`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import cpu_common as common
import numpy as np

# Name: the module that it needs, its script, its mode.
CONTESTANTS = {
    "xpnet": ("numpy", "cpu_xpnet.py", "numpy"),
    "xpnet numba": ("numba", "cpu_xpnet.py", "numba"),
    "products alone": ("numpy", "cpu_xpnet.py", "floor"),
    "PyTorch eager": ("torch", "cpu_torch.py", "eager"),
    "torch.compile": ("torch", "cpu_torch.py", "compile"),
    "JAX jit": ("jax", "cpu_jax.py", "jit"),
    "JAX scan": ("jax", "cpu_jax.py", "scan"),
    "scikit-learn": ("sklearn", "cpu_sklearn.py", "ordered"),
    "sklearn shuffles": ("sklearn", "cpu_sklearn.py", "shuffling"),
    "Thinc": ("thinc", "cpu_thinc.py", "thinc"),
}
OURS, FLOOR = ("xpnet", "xpnet numba"), "products alone"
# There is nothing to scan, and nothing to shuffle.
SKIPPED = {("predict", "JAX scan"), *((s, "sklearn shuffles") for s in ("predict", "spiral"))}
QUICK = ("small-adam", "spiral", "predict")
ROUNDS, PAUSE_S, TOLERANCE = 7, 0.15, 0.01
LIMIT_S = 300.0  # to prepare, and for a round
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
# Okabe and Ito's colours, which all can tell apart, and markers for those who print in grey.
LOOKS = {
    "PyTorch eager": ("#D55E00", "o"),
    "torch.compile": ("#E69F00", "s"),
    "JAX jit": ("#0072B2", "^"),
    "JAX scan": ("#56B4E9", "v"),
    "scikit-learn": ("#009E73", "D"),
    "sklearn shuffles": ("#F0E442", "d"),
    "Thinc": ("#CC79A7", "P"),
}
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 20, 50, 100)


class Process:
    """A contestant at work on one setting."""

    def __init__(self, name: str, setting: str, options: argparse.Namespace) -> None:
        _, script, mode = CONTESTANTS[name]
        command = [str(Path(__file__).parent / script), mode, setting]
        # A pipe that nobody reads would fill up.
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, *command, *["--quick"] * options.quick],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ
            | dict.fromkeys(THREADS, str(options.threads))
            | {"JAX_PLATFORMS": "cpu"},
        )
        if hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))[: options.threads]
            with suppress(ProcessLookupError):
                os.sched_setaffinity(self.process.pid, cores)
        self.ready: dict = {}
        self.rounds: list[dict] = []

    def wait(self) -> None:
        self.ready = self._answer()

    def go(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.write("go\n")
            self.process.stdin.flush()
        self.rounds.append(self._answer())

    def _answer(self) -> dict:
        limit, begin = threading.Timer(LIMIT_S, self.process.kill), time.perf_counter()
        limit.start()
        line = self.process.stdout.readline()
        limit.cancel()
        if line.startswith("{"):
            return json.loads(line)
        if time.perf_counter() - begin >= LIMIT_S:
            raise RuntimeError(f"no answer in {LIMIT_S:g} s")
        if line:
            raise RuntimeError(f"printed {line.strip()!r}")
        code = self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines()[-4:]
        raise RuntimeError("\n".join(said) or f"exit code {code}")

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def compete(setting: str, options: argparse.Namespace) -> dict:
    """Let all contestants do their rounds in turn; return what is known about each."""
    found: dict[str, dict] = {}
    processes: dict[str, Process] = {}
    try:
        for name, (module, *_) in CONTESTANTS.items():
            if options.only and not any(part in name for part in (*options.only, *OURS, FLOOR)):
                continue
            if (setting, name) in SKIPPED:
                continue
            if importlib.util.find_spec(module) is None:
                found[name] = {"not_installed": module}
                continue
            processes[name] = Process(name, setting, options)
        for name in list(processes):
            attempt(found, processes, name, Process.wait)
        for _ in range(options.rounds):
            for name in list(processes):
                time.sleep(PAUSE_S)  # threads that spin after their work come to rest
                attempt(found, processes, name, Process.go)
    finally:
        for process in processes.values():
            process.end()
    for name, process in processes.items():
        found[name] = {
            "version": process.ready["version"],
            "steps": process.ready["steps"],
            "seconds": [r["seconds"] for r in process.rounds],
            "accuracy": process.rounds[-1]["accuracy"],
        }
    return {name: found[name] for name in CONTESTANTS if name in found}


def attempt(found: dict, processes: dict, name: str, do) -> None:
    """Do it; a contestant that fails is out, and its last words are kept."""
    try:
        do(processes[name])
    except RuntimeError as error:
        processes.pop(name).end()
        found[name] = {"failed": str(error)}


def ratios(peer: dict, ours: dict) -> dict:
    """Return how many times longer a peer takes: median, least and greatest over the rounds."""
    values = np.array(peer["seconds"]) / np.array(ours["seconds"])
    low, high = float(values.min()), float(values.max())
    return {"median": float(np.median(values)), "min": low, "max": high}


def wrong(name: str, found: dict) -> bool:
    """Tell whether a contestant is fast because it does not learn."""
    best = max(r["accuracy"] for n, r in found.items() if "accuracy" in r and n != FLOOR)
    return name != FLOOR and found[name]["accuracy"] < best - TOLERANCE


def table(title: str, found: dict) -> str:
    """Return the lines of a setting."""
    timed = {name: result for name, result in found.items() if "seconds" in result}
    beside = [ours for ours in OURS if ours in timed]
    unit = "us/step" if all(result["steps"] for result in timed.values()) else "us/call"
    lines = [
        f"\n{title}",
        f"{'':<16}{unit:>10}  {'spread':<18}"
        + "".join(f"{'x ' + ours:>22}" for ours in beside)
        + f"{'accuracy':>10}",
    ]
    for name, result in found.items():
        if name not in timed:
            reason = result.get("failed") or f"{result['not_installed']} is not installed"
            lines.append(f"{name:<16} {reason}")
            continue
        times = np.array(result["seconds"]) / max(1, result["steps"]) * 1e6
        spread = f"{times.min():.0f} to {times.max():.0f}"
        line = f"{name:<16}{np.median(times):>10.1f}  {spread:<18}"
        for ours in beside:
            r = ratios(result, found[ours])
            line += f"{r['median']:.2f} ({r['min']:.2f}-{r['max']:.2f})".rjust(22)
        shown = "" if name == FLOOR else f"{result['accuracy']:.2%}"
        lines.append(f"{line}{shown:>10}{'  WRONG' if wrong(name, found) else ''}")
    return "\n".join(lines)


def chart(results: dict, path: Path) -> None:
    """Draw how many times longer each peer takes: settings are bands, backends panels.

    What did not run is left out, and so is what is wrong. Without any time of xpnet's nothing is
    drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    points = {
        (ours, row, name): ratios(found[name], found[ours])
        for row, found in enumerate(results.values())
        for ours in OURS
        for name in LOOKS
        if "seconds" in found.get(ours, {}) and "seconds" in found.get(name, {})
        if not wrong(name, found)
    }
    backends = [ours for ours in OURS if any(ours == key[0] for key in points)]
    peers = [name for name in LOOKS if any(name == key[2] for key in points)]
    if not points:
        return
    figure, axes = plt.subplots(
        1,
        len(backends),
        figsize=(3.8 * len(backends) + 2.2, 1.7 + 0.75 * len(results)),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    low = min(1, *(r["min"] for r in points.values())) / 1.15
    high = max(1, *(r["max"] for r in points.values())) * 1.15
    ticks = [t for t in TICKS if low <= t <= high]
    for axis, backend in zip(axes[0], backends, strict=True):
        for row in range(0, len(results), 2):
            axis.axhspan(row - 0.5, row + 0.5, color="0.95", lw=0, zorder=0)
        axis.axvline(1, color="black", lw=1)
        for (ours, row, name), r in points.items():
            if ours == backend:  # each peer at a height of its own
                y = row + 0.72 * ((peers.index(name) + 0.5) / len(peers) - 0.5)
                colour, marker = LOOKS[name]
                axis.plot([r["min"], r["max"]], [y, y], color=colour, lw=1.5)
                axis.plot(r["median"], y, marker, color=colour, ms=6, mec="black", mew=0.5)
        axis.set_xscale("log")
        axis.set_xlim(low, high)
        axis.set_xticks(ticks, [f"{t:g}x" for t in ticks])
        axis.minorticks_off()
        axis.grid(axis="x", color="0.85")
        axis.set_axisbelow(True)
        axis.set_yticks(
            range(len(results)),
            [common.SETTINGS[name].title.replace(", ", "\n", 1) for name in results],
        )
        axis.tick_params(axis="y", length=0)
        axis.set_ylim(len(results) - 0.5, -0.5)
        axis.set_title(
            f"xpnet with {'NumPy alone' if backend == 'xpnet' else 'Numba'}", fontsize=10
        )
    figure.supxlabel("time, as a multiple of xpnet's (right of 1x: xpnet is faster)", fontsize=10)
    handles = [
        Line2D([], [], color=LOOKS[n][0], marker=LOOKS[n][1], lw=1.5, mec="black", mew=0.5, label=n)
        for n in peers
    ]
    columns = min(len(peers), 3 * len(backends))
    figure.legend(handles=handles, loc="outside upper center", ncols=columns, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def machine() -> dict:
    """Return what the numbers depend on."""
    names = [*THREADS, "OPENBLAS_CORETYPE", "XLA_FLAGS", "MKL_ENABLE_INSTRUCTIONS"]
    model = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "environment": {name: os.environ[name] for name in names if name in os.environ},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="three settings, short rounds")
    parser.add_argument("--settings", nargs="*", choices=list(common.SETTINGS), metavar="NAME")
    parser.add_argument("--only", nargs="*", metavar="PART", help="parts of the peers' names")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, help="JSON")
    parser.add_argument("--chart", type=Path, help="PNG")
    options = parser.parse_args()
    settings = options.settings or (QUICK if options.quick else list(common.SETTINGS))
    print(f"{machine()['processor']}, {options.threads} threads, {options.rounds} rounds in turn")
    results: dict[str, dict] = {}
    for setting in settings:
        results[setting] = compete(setting, options)
        print(table(common.SETTINGS[setting].title, results[setting]), flush=True)
        if options.out:
            report = {"machine": machine(), "threads": options.threads, "quick": options.quick}
            report["settings"] = {s: asdict(common.SETTINGS[s]) for s in results}
            report["results"] = results
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.chart:
        chart(results, options.chart)
    failed = [f"{s}: {n}" for s, f in results.items() for n, r in f.items() if "failed" in r]
    failed += [
        f"{s}: {n}" for s, f in results.items() for n in f if "accuracy" in f[n] and wrong(n, f)
    ]
    if failed:
        print(f"failed or wrong: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
