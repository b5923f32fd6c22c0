"""Where the time of a training step goes: ``python bench/step.py [--setting small-adam]``.

Each primitive that a step calls is timed as it runs in `Trainer.fit`, a product by its sizes; what
is left is Python between them, with the share of a step in what `fit` does once or once an epoch.
The floor are the same products alone, in the same run, in turn with the training, on arrays that
are there already. The timers cost some time themselves: the step without them stands in the first
line, and what they add, found with a primitive that does nothing, is taken off in the table.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path

import cpu_common as common
import cpu_xpnet
import numpy as np

from xpnet.backend import find_backend

ROUNDS = 7
KINDS = {
    "gather": "gather", "record": "loss", "softmax_cross_entropy": "loss", "one_hot": "loss",
    "matmul": "products", "sgd": "optimizer", "adam": "optimizer", "take": "optimizer",
}  # fmt: skip


class Timers:
    """Wraps the primitives of a backend, each with its own time, without that of those inside."""

    def __init__(self, xp) -> None:
        self.xp, self.seconds, self.calls = xp, defaultdict(float), defaultdict(int)
        self.inside = [0.0]  # the time of the primitives that the present one has called
        self.names = [
            name
            for name in dir(type(xp))
            if not name.startswith("_")
            and name not in ("capture", "owns", "require")
            and callable(getattr(type(xp), name))
        ]

    def __enter__(self) -> Timers:
        for name in self.names:
            setattr(self.xp, name, self.timed(name, getattr(self.xp, name)))
        return self

    def __exit__(self, *_) -> None:
        for name in self.names:
            delattr(self.xp, name)

    def timed(self, name, function):
        def call(*args, **kwargs):
            key, self.inside = self.key(name, args), [*self.inside, 0.0]
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                took = time.perf_counter() - start
                self.seconds[key] += took - self.inside.pop()
                self.inside[-1] += took
                self.calls[key] += 1

        return call

    @staticmethod
    def key(name: str, args) -> tuple[str, str]:
        if name == "matmul":
            (n, k), m = args[0].shape, args[1].shape[1]
            return name, f"{n} x {k} x {m}"
        return name, ""


def measure(task: common.Task, backend: str) -> dict:
    """Return microseconds of a step: whole, by primitive, and of its products alone."""
    ours = cpu_xpnet.Contestant(backend, task)
    floor = cpu_xpnet.Floor("floor", task)
    steps, per_step = task.steps, 1e6 / task.steps
    common.one_round(ours)
    whole, alone, with_timers, rounds = [], [], [], []
    for _ in range(ROUNDS):
        whole.append(common.one_round(ours)["seconds"] * per_step)
        alone.append(common.one_round(floor)["seconds"] * per_step)
        ours.restart()
        with Timers(find_backend(backend)) as timers:
            begin = time.perf_counter()
            ours.train()
            with_timers.append((time.perf_counter() - begin) * per_step)
        rounds.append(timers)
    calls = {key: n / steps for key, n in timers.calls.items() if n >= steps}
    cost = timer_cost()
    parts = [
        {
            "primitive": name,
            "sizes": sizes,
            "calls": round(calls[name, sizes], 2),
            "us": float(np.median([t.seconds[name, sizes] for t in rounds])) * per_step
            - cost["inside"] * calls[name, sizes],
            "kind": KINDS.get(name, "elements"),
        }
        for name, sizes in calls
    ]
    timed = sum(part["us"] for part in parts)
    total = float(np.median(with_timers)) - sum(cost.values()) * sum(calls.values())
    parts.append(
        {"primitive": "Python between", "sizes": "", "calls": 1, "us": total - timed,
         "kind": "Python"}
    )  # fmt: skip
    return {
        "step_us": float(np.median(whole)),
        "floor_us": float(np.median(alone)),
        "ratio": float(np.median(np.array(whole) / np.array(alone))),
        "parts": sorted(parts, key=lambda part: -part["us"]),
    }


def timer_cost(calls: int = 20_000) -> dict[str, float]:
    """Return the microseconds that a timer adds to what it measures, and around it."""

    class Nothing:
        def nothing(self) -> None:
            pass

    timers, bare = Timers(Nothing()), Nothing()
    with timers:
        start = time.perf_counter()
        for _ in range(calls):
            timers.xp.nothing()
        both = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(calls):
        bare.nothing()
    call = time.perf_counter() - start
    inside = timers.seconds["nothing", ""] - call
    return {"inside": inside / calls * 1e6, "outside": (both - call - inside) / calls * 1e6}


def table(found: dict) -> str:
    lines = [
        f"{found['setting']}, backend {found['backend']}, {found['threads']} threads: "
        f"{found['step_us']:.0f} us a step, its products alone {found['floor_us']:.0f} us, "
        f"ratio {found['ratio']:.2f}",
        "",
        f"{'kind':<10} {'primitive':<24} {'sizes':<18} {'calls':>6} {'us':>9} {'share':>7}",
    ]
    total = sum(part["us"] for part in found["parts"])
    lines += [
        f"{part['kind']:<10} {part['primitive']:<24} {part['sizes']:<18} {part['calls']:>6.1f} "
        f"{part['us']:>9.1f} {part['us'] / total:>7.1%}"
        for part in found["parts"]
    ]
    sums: dict[str, float] = defaultdict(float)
    for part in found["parts"]:
        sums[part["kind"]] += part["us"]
    lines += ["", "  ".join(f"{kind} {us:.0f} us" for kind, us in sums.items())]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    trained = [name for name, s in common.SETTINGS.items() if not s.predicts]
    parser.add_argument("--setting", choices=trained, default="small-adam")
    parser.add_argument("--backend", choices=["numpy", "numba"], default="numpy")
    parser.add_argument("--quick", action="store_true", help="fewer steps to a round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {
        "setting": common.SETTINGS[options.setting].title,
        "backend": options.backend,
        "threads": os.environ.get("OPENBLAS_NUM_THREADS", os.cpu_count()),
    } | measure(common.task(options.setting, options.quick), options.backend)
    print(table(found))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
