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

import numpy as np

import xpnet
from xpnet import data

SIZES, BATCH, LR = (784, 64, 32, 10), 128, 1e-3
WARM_UP, ROUNDS = 2, 7  # epochs after the first, cold one
QUICK_WARM_UP, QUICK_ROUNDS = 1, 2
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
    n = 4 * batch if quick else len(X) // batch * batch
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


def race(epoch: Callable[[], float], wait: Callable[[], None], steps: int, quick: bool) -> dict:
    """Run the epochs of a contestant; each returns its mean loss."""
    runs = [timed(epoch, wait) for _ in range(epochs(quick))]
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
