"""What files and trainings survive: kills, signals, damage, hostile files.

    python bench/reliability.py [--kills 200] [--signals 100] [--flips 3000]

Prints a table, and writes ``bench/results/reliability.json``. The cases are those of the tests, in
larger numbers, and the time is measured, which tests do not do.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

import xpnet
from xpnet.support.archive import decode_archive
from xpnet.support.errors import XpnetError

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests" / folder) for folder in ("helpers", "storage")]
import survive  # noqa: E402
import test_archive  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--signals", type=int, default=100)
    parser.add_argument("--flips", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        survive.train(folder)
        data = xpnet.Checkpoint(folder).paths[-1].read_bytes()
    results = {
        "kills": survive.survive("kills", options.kills),
        "signals": survive.survive("signals", options.signals),
        "truncations": count(data[:n] for n in range(len(data))),
        "flips": count(flipped(data, options.flips)),
        "hostile": hostile(),
    }
    results["flips"]["identical"] = same(data, flipped(data, options.flips))
    print("| what | how many | outcome |\n|---|---|---|")
    for row in rows(results):
        print("|", " | ".join(row), "|")
    path = ROOT / "bench" / "results" / "reliability.json"
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def rows(results):
    kills, signals, cut, flips, refused = results.values()
    return [
        (
            "`kill -9` in a step or in the middle of a file, then resumed",
            f"{kills['cases']}, {kills['broken off']} of them in time",
            f"{kills['identical']} bit-identical to the uninterrupted training",
        ),
        (
            "SIGINT, SIGTERM",
            f"{signals['cases']}",
            f"{signals['broken off']} saved, with exit code 130 or 143; "
            f"{signals['identical']} bit-identical after going on",
        ),
        ("a checkpoint cut off at each length", f"{cut['cases']}", f"{cut['refused']} refused"),
        (
            "a bit of a checkpoint flipped",
            f"{flips['cases']}",
            f"{flips['refused']} refused, {flips['identical']} with identical contents, "
            f"{flips['cases'] - flips['refused'] - flips['identical']} wrong",
        ),
        (
            "hostile archives",
            f"{refused['cases']}",
            f"{refused['refused']} refused, in {refused['ms']:.0f} ms and "
            f"{refused['MB']:.1f} MB at most",
        ),
    ]


def flipped(data, n):
    draw = random.Random(0)
    for _ in range(n):
        spoilt = bytearray(data)
        spoilt[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        yield bytes(spoilt)


def refused(data):
    """Return whether an archive is refused, by an error of the library."""
    try:
        decode_archive(io.BytesIO(data), "it")
    except XpnetError:
        return True
    return False


def count(files):
    outcomes = [refused(data) for data in files]
    return {"cases": len(outcomes), "refused": sum(outcomes)}


def same(data, files):
    """Return how many files that are not refused have the contents of the first."""
    (expected, _), n = decode_archive(io.BytesIO(data), "it"), 0
    for file in files:
        if not refused(file):
            arrays, _ = decode_archive(io.BytesIO(file), "it")
            n += arrays.keys() == expected.keys() and all(
                np.array_equal(arrays[name], a, equal_nan=True) for name, a in expected.items()
            )
    return n


def hostile():
    """Return how many hostile files are refused, and the worst time and memory of it."""
    times, peaks, outcomes = [], [], []
    for data, _ in test_archive.HOSTILE.values():
        rounds = []
        for _ in range(5):
            start = time.perf_counter()
            outcomes.append(refused(data))
            rounds.append(time.perf_counter() - start)
        times.append(np.median(rounds))
        tracemalloc.start()
        refused(data)
        peaks.append(tracemalloc.get_traced_memory()[1] - len(data))
        tracemalloc.stop()
    n = len(test_archive.HOSTILE)
    return {
        "cases": n,
        "refused": sum(outcomes) // 5,
        "ms": max(times) * 1e3,
        "MB": max(peaks) / 1e6,
    }


if __name__ == "__main__":
    main()
