"""The first look at a GPU: ``python bench/gpu_first.py [--look] [--quick]``.

``--look`` only says which device and versions these are; if the GPU cannot be used, a sentence says
why, and the exit code is 2. Else: the smallest training, as a graph and without one; which cuBLAS
is used; and the time of the nodes of a graph, one after another and on two branches.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import gpu_common as common
import numpy as np

import xpnet
from xpnet.backend import find_backend
from xpnet.data.mnist import find_mnist, load_mnist

VERSIONS = ("numpy", "torch", "jax", "jaxlib", "mpi4py", "nvidia-nccl-cu13", "nvidia-nccl-cu12")
NODES, REPLAYS = 14, 2000  # the nodes in a row of a step of 784-64-32-10


# ---- the device and the versions -----------------------------------------------------------------


def describe() -> dict:
    from xpnet.backend import cupy_probe

    return {
        **cupy_probe.describe(),
        "xpnet": xpnet.__version__,
        "python": platform.python_version(),
        **{name: installed(name) for name in VERSIONS},
        "processors": os.cpu_count(),
        "nvidia-smi": clocks(),
    }


def clocks() -> str:
    """Return what else may explain a time, if it can be asked."""
    fields = "clocks.sm,clocks.max.sm,clocks.mem,power.limit,mig.mode.current,utilization.gpu"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip().partition("\n")[0]


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def unsuitable(device: dict, free: int) -> str:
    """Return why a GPU with so many free bytes is too small; empty if it is large enough."""
    gib, needed = 2**30, common.bytes_needed()
    if free >= needed:
        return ""
    sizes = "-".join(map(str, common.LARGE))
    return (
        f"{device['GPU']} has {free / gib:.1f} GiB free, but MNIST and a {sizes} net with "
        f"{common.LARGE_BATCH} rows need {needed / gib:.1f} GiB; end what else uses the GPU, "
        "or take a larger one"
    )


def without_mnist() -> str:
    """Return what is wrong with XPNET_DATA; empty if MNIST is there and whole."""
    data = os.environ.get("XPNET_DATA")
    if find_mnist(data) is None:
        return (
            f"XPNET_DATA ({data or 'not set'}) names no folder with MNIST; set it, or bring "
            "bench/gpu_pack, which bench/gpu_pack.sh makes"
        )
    try:
        load_mnist(data, download=False)
    except xpnet.DataError as error:
        return str(error)
    return ""


def look() -> None:
    try:
        xp = find_backend("cupy", reproducible=False)
    except xpnet.BackendError as error:
        refuse(str(error))
    device = describe()
    free, _ = xp.module.cuda.runtime.memGetInfo()
    if not common.REHEARSAL and (why := unsuitable(device, free)):
        refuse(why)
    if why := without_mnist():
        refuse(why)
    common.say(device)


def refuse(sentence: str) -> None:
    print(" ".join(sentence.split()), file=sys.stderr)
    raise SystemExit(2)


# ---- what it does --------------------------------------------------------------------------------


def smoke() -> dict:
    """Train the smallest net for a few steps, as a graph and without one."""
    rng = np.random.default_rng(0)
    X, t = rng.standard_normal((64, 8)).astype(np.float32), rng.integers(0, 3, 64)
    losses = {}
    for captured in (True, False):
        xp = find_backend("cupy", reproducible=False)
        xp.captures = captured
        net = common.network((8, 16, 3), xp)
        trainer = xpnet.Trainer(net, "softmax_cross_entropy", xpnet.SGD(net, lr=0.1))
        losses[captured] = trainer.fit(X, t, epochs=4, batch_size=16)["loss"]
        xp.captures = True
    return {"losses": losses[True], "same_bits": losses[True] == losses[False]}


def cublas() -> str:
    """Return the file of the cuBLAS that computes the products."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return load_nvidia_dynamic_lib("cublas").abs_path
    except Exception as error:  # it is only a name
        return f"unknown ({type(error).__name__}: {error})"


def chain(xp, nodes: int, forked: bool) -> Callable[[], None]:
    """Return a step of so many small kernels, every second one on the other branch if forked."""
    a, b = (xp.zeros(128 * 64, np.float32) for _ in range(2))

    def step() -> None:
        for i in range(nodes):
            if forked and i % 2:
                with xp.off_path():
                    xp.relu(b, out=b)
            else:
                xp.relu(a, out=a)
        xp.join()

    return xp.capture(step)


def launch_us(xp, step: Callable[[], None], replays: int) -> float:
    """Return the time of a launch in microseconds, the best of five rounds."""
    wait = xp.module.cuda.Device().synchronize

    def replay() -> None:
        for _ in range(replays):
            step()

    replay()
    return min(common.timed(replay, wait)[0] for _ in range(5)) / replays * 1e6


def graphs(quick: bool) -> dict:
    """Time graphs of small kernels: in a row, four times as many, and on two branches."""
    xp, replays = find_backend("cupy", reproducible=False), 10 if quick else REPLAYS
    common.spin_xp(xp)
    straight, long, forked = (
        launch_us(xp, chain(xp, nodes, fork), replays)
        for nodes, fork in ((NODES, False), (4 * NODES, False), (NODES, True))
    )
    return {
        "nodes": NODES,
        "straight_us": straight,
        "forked_us": forked,
        "us_per_node_in_a_row": (long - straight) / (3 * NODES),
        "us_per_launch": straight - (long - straight) / 3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--look", action="store_true")
    parser.add_argument("--quick", action="store_true", help="few launches: does it run?")
    options = parser.parse_args()
    if options.look:
        return look()
    found = {
        "smoke": smoke(),
        "cublas": cublas(),
        "graphs": graphs(options.quick),
        "clocks": clocks(),
    }
    common.say(found)
    if not found["smoke"]["same_bits"]:
        raise SystemExit("a captured training has other bits than one without capture")


if __name__ == "__main__":
    main()
