"""What the contestants of ``bench/peers.py`` share: the data, the start, the clock, the report.

Each contestant is a process of its own that prints one JSON object, so that none warms, slows or
breaks another; those of ``bench/compare.py`` share some of it. All of them train the same net from
the same weights on the same rows, of which the last that do not fill a batch are left out; each
shuffles by itself, with its own generator.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from gpu_running import die_with_parent

import xpnet
from xpnet import data
from xpnet.support.files import write_atomically

SIZES, BATCH, LR = (784, 64, 32, 10), 128, 1e-3
WARM_UP, ROUNDS = 2, 7  # epochs after the first, cold one
QUICK_WARM_UP, QUICK_ROUNDS, QUICK_BATCHES = 1, 2, 4
LARGE, LARGE_BATCH, LARGE_STEPS = (784, 4096, 4096, 10), 4096, 16
SPIN, SPIN_SIZE = 1.0, 2048  # seconds of products, of matrices of this size
REHEARSAL = os.environ.get("XPNET_REHEARSAL") == "1"  # something slow stands in for CuPy
if REHEARSAL:
    SIZES, BATCH, QUICK_BATCHES = (784, 8, 8, 10), 8, 2
REASON_LINES = 6
BEGIN = "XPNET_BENCH_BEGIN"  # when this process was started, by the clock that all share


def arguments(doc: str, modes: Sequence[str]) -> argparse.Namespace:
    """Read what every contestant's script takes: MODE [--device cpu] [--quick]."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="few rows and rounds: does it run?")
    return parser.parse_args()


def mnist(quick: bool = False, batch: int = BATCH) -> tuple[np.ndarray, ...]:
    """Return MNIST: as many training rows as fill whole batches, and the test set."""
    X, t, X_test, t_test = data.load_mnist(os.environ.get("XPNET_DATA"))
    n = QUICK_BATCHES * batch if quick else len(X) // batch * batch
    tests = 500 if quick else len(X_test)
    return X[:n], t[:n], X_test[:tests], t_test[:tests]


def network(sizes: Sequence[int], backend=None, seed: int = 0) -> xpnet.Sequential:
    """Return linear layers with ReLU between them."""
    layers = []
    for n_in, n_out in pairwise(sizes):
        layers += [xpnet.Linear(n_in, n_out, init="he_uniform"), xpnet.ReLU()]
    return xpnet.Sequential(*layers[:-1], backend=backend, seed=seed)


def weights(sizes: Sequence[int], seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return W, of shape (n_in, n_out), and b of each layer: where every contestant starts."""
    return weights_of(network(sizes, "numpy", seed))


def weights_of(net: xpnet.Sequential) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return W and b of each linear layer of a network."""
    state = net.state_dict()
    layers = sorted({int(name.partition(".")[0]) for name in state})
    return [(state[f"{i}.W"], state[f"{i}.b"]) for i in layers]


def timed(run: Callable[[], float], wait: Callable[[], None]) -> tuple[float, float]:
    """Return the seconds that ``run`` takes until the device has done all of it, and its value."""
    wait()
    start = time.perf_counter()
    value = run()
    wait()
    return time.perf_counter() - start, value


def spin(product: Callable[[], object], wait: Callable[[], None]) -> None:
    """Keep a GPU busy for a second: an idle one has a low clock, and takes a while to raise it."""
    if REHEARSAL:
        return
    end = time.perf_counter() + SPIN
    while time.perf_counter() < end:
        for _ in range(8):
            product()
        wait()


def spin_xp(xp) -> None:
    """Keep the device of a backend busy for a second, if it is a GPU."""
    if not xp.on_host:
        A, out = (xp.zeros((SPIN_SIZE, SPIN_SIZE), np.float32) for _ in range(2))
        spin(lambda: xp.matmul(A, A, out=out), waiter(xp))


def waiter(xp) -> Callable[[], None]:
    """Return the function that waits until the device has done everything."""
    return (lambda: None) if xp.on_host else xp.module.cuda.Device().synchronize


def bytes_needed() -> int:
    """Return the memory of a GPU that the largest contestant needs, with a reserve.

    The rows of MNIST, and those of the large net; its parameters and gradients and what Adam keeps;
    for each layer Y and dY, and once more what the products alone are timed with. CUDA itself, its
    libraries and the gaps between arrays take the reserve.
    """
    layers, rows = list(pairwise(LARGE)), LARGE_BATCH
    parameters = sum((n_in + 1) * n_out for n_in, n_out in layers)
    of_layers = sum(2 * rows * n_out for _, n_out in layers)
    alone = sum(2 * (rows * (n_in + n_out) + n_in * n_out) for n_in, n_out in layers)
    images = (70_000 + LARGE_STEPS * rows) * LARGE[0]
    return 4 * (4 * parameters + of_layers + alone) + images + 2 * 2**30


def race(
    epoch: Callable[[], float],
    wait: Callable[[], None],
    steps: int,
    quick: bool,
    spin: Callable[[], None] = lambda: None,
) -> dict:
    """Run the epochs of a contestant, each of which returns its mean loss; spin after the first."""
    runs = [timed(epoch, wait)]
    spin()
    runs += [timed(epoch, wait) for _ in range(epochs(quick) - 1)]
    return figures([seconds for seconds, _ in runs], steps) | {"loss": runs[-1][1]}


def epochs(quick: bool) -> int:
    """Return the epochs of a contestant: the cold one, those to warm up, those that count."""
    return 1 + (QUICK_WARM_UP + QUICK_ROUNDS if quick else WARM_UP + ROUNDS)


def counted(rounds: Sequence[float]) -> Sequence[float]:
    """Return those of so many rounds that count."""
    return rounds[-(QUICK_ROUNDS if len(rounds) == epochs(quick=True) else ROUNDS) :]


def figures(seconds: Sequence[float], steps: int, cold: float | None = None) -> dict:
    """Return the figures of epochs: the first is cold, the last that count are warm."""
    warm = summary(counted(seconds))
    return {
        "cold_s": seconds[0] if cold is None else cold,
        "warm_s": warm,
        "step_us": warm["median"] / steps * 1e6,
        "steps": steps,
    }


def summary(values: Sequence[float]) -> dict:
    """Return the median of some rounds and their spread."""
    low, high = float(min(values)), float(max(values))
    return {"median": float(np.median(values)), "min": low, "max": high, "rounds": len(values)}


def accuracy(Y: np.ndarray, t: np.ndarray) -> float:
    """Return the share of rows whose largest output is that of the label."""
    return float(np.mean(Y.argmax(axis=1) == t))


def keep(path: Path, results: dict) -> None:
    """Write results as JSON, whole or not at all: there may be no time for those that follow."""
    write_atomically(path, (json.dumps(results, indent=1) + "\n").encode())


def say(result: dict) -> None:
    """Print what was measured; `apart` reads the last line."""
    print(json.dumps(result), flush=True)


def apart(command: Sequence[str], limit: float, **environment: str) -> dict:
    """Run a script as its own process; return its last line as JSON, or why there is none."""
    start = time.perf_counter()
    environment[BEGIN] = str(start)
    process = subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        start_new_session=True,  # with the processes that it starts, such as compilers
        preexec_fn=die_with_parent,
    )
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # `timeout` sends it
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        kill(process)
        out, err = process.communicate()
        return {"failed": f"not done after {limit:.0f} s; {reason(err)}".rstrip("; ")}
    except BaseException:
        kill(process)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if process.returncode:
        return {"failed": reason(err) or f"exit code {process.returncode}"}
    try:
        return json.loads(out.strip().splitlines()[-1]) | {"all_s": time.perf_counter() - start}
    except (IndexError, ValueError):
        return {"failed": f"printed no result; {reason(err)}".rstrip("; ")}


def kill(process: subprocess.Popen) -> None:
    """End a process with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def since_begin() -> float:
    """Return the seconds since this process was started."""
    now = time.perf_counter()
    return now - float(os.environ.get(BEGIN, now))


def reason(text: str) -> str:
    """Return the last lines of an error output."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-REASON_LINES:])
