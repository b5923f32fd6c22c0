"""Does CuPy compute here? If not, one sentence says why, and what to do."""

from __future__ import annotations

from collections.abc import Callable

import cupy
import numpy as np

from xpnet.backend.cuda import CACHE_ELSEWHERE
from xpnet.backend.on_cupy import CuPyBackend
from xpnet.support.messages import cannot_write, if_known, what_went_wrong


def probe(device: int = 0) -> str:
    """Return "" if CuPy computes on that GPU, else one sentence with the reason and the way out."""
    try:
        reason = _no_gpu(device)
    except Exception as error:  # a CuPy that is damaged, or a driver that does not answer
        return (
            f"CuPy is installed but cannot look for a GPU ({what_went_wrong(error)}); "
            "run nvidia-smi, reinstall CuPy, or use backend='numpy'"
        )
    if reason:
        return reason
    try:
        with cupy.cuda.Device(device):
            _smoke_test(CuPyBackend(device))
    except Exception as error:  # whatever it is, the user needs a sentence
        return _why(error)
    return ""


def _no_gpu(device: int) -> str:
    """Return the sentence for a GPU that is not there, "" if it is there."""
    if not cupy.is_available():
        return (
            f"no usable NVIDIA GPU: {_driver()}, and CuPy {cupy.__version__} was built for CUDA "
            f"{_built_for()}; {_other_cupy() or 'run nvidia-smi'}, or use backend='numpy'"
        )
    count = cupy.cuda.runtime.getDeviceCount()
    if device < count:
        return ""
    return (
        f"there is no GPU number {device}: nvidia-smi lists {count}, and they are counted "
        "from 0; use backend='cuda:0'"
    )


def _smoke_test(xp: CuPyBackend) -> None:
    """Multiply two matrices and run a kernel: that needs the driver, cuBLAS and NVRTC."""
    A, Y = xp.asarray(np.array([[1, -2], [3, -4]], np.float32)), xp.empty((2, 2), np.float32)
    product = xp.asnumpy(xp.matmul(A, A, out=Y)).tolist()
    rectified = xp.asnumpy(xp.relu(A, out=Y)).tolist()
    if product != [[-5, 6], [-9, 10]] or rectified != [[1, 0], [3, 0]]:
        raise ArithmeticError(f"wrong values, {product} and {rectified}")


def _why(error: Exception) -> str:
    """Return the sentence for an error of the smoke test."""
    said, way_out = what_went_wrong(error), "run nvidia-smi"
    if cannot_write(error):
        way_out = CACHE_ELSEWHERE
    elif isinstance(error, ImportError | OSError) or " find" in said or "finding" in said:
        way_out = f"CUDA's libraries come with pip install '{_package()}'"
    return (
        f"CuPy finds the GPU but cannot compute on it ({said}); {way_out}, or use backend='numpy'"
    )


def _package() -> str:
    """Return the name of the package of CuPy that brings CUDA's libraries along."""
    try:
        major = _built_for().partition(".")[0]
    except Exception:  # one of the libraries that are missing
        major = "13"
    return f"cupy-cuda{major}x[ctk]"


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"


def _built_for() -> str:
    return _version(cupy.cuda.runtime.runtimeGetVersion())


def _driver() -> str:
    number = cupy.cuda.runtime.driverGetVersion()
    return f"the driver supports CUDA {_version(number)}" if number else "there is no NVIDIA driver"


def _other_cupy() -> str:
    """Return how to get the CuPy for an older driver, "" if the driver is not the reason."""
    driver, built = (
        number() // 1000
        for number in (cupy.cuda.runtime.driverGetVersion, cupy.cuda.runtime.runtimeGetVersion)
    )
    if not 0 < driver < built:
        return ""
    return (
        f"update the driver, or change CuPy with pip uninstall cupy-cuda{built}x and "
        f"pip install 'cupy-cuda{driver}x[ctk]'"
    )


def describe(device: int = 0) -> dict[str, str]:
    """Return what ``xpnet info`` prints about CuPy; "unknown" where something cannot be asked."""
    gib = 2**30

    def gpu() -> str:
        return str(cupy.cuda.runtime.getDeviceProperties(device)["name"].decode())

    def memory() -> str:
        with cupy.cuda.Device(device):
            free, total = cupy.cuda.runtime.memGetInfo()
        return f"{total / gib:.1f} GiB, {free / gib:.1f} GiB free"

    def pool() -> str:
        with cupy.cuda.Device(device):
            pool = cupy.get_default_memory_pool()
            limit = pool.get_limit()
        most = f"{limit / gib:.1f} GiB at most" if limit else "no limit"
        return f"{pool.total_bytes() / 2**20:.1f} MiB at the peak, {most}"

    questions: dict[str, Callable[[], str]] = {
        "CuPy": lambda: str(cupy.__version__),
        "CUDA runtime": _built_for,
        "driver": lambda: _driver().removeprefix("the driver "),
        "GPU": gpu,
        "GPU memory": memory,
        "CuPy's memory pool": pool,
    }
    return {name: if_known(question) for name, question in questions.items()}
