"""The backends that xpnet brings: NumPy, Numba and CuPy, and why one cannot be used here.

The files of a backend that needs another library are imported when the backend is asked for.
"""

from __future__ import annotations

from functools import cache

from xpnet.backend.base import Backend
from xpnet.backend.cuda import CACHE_ELSEWHERE
from xpnet.backend.kind import Kind
from xpnet.backend.on_numpy import NumPyBackend
from xpnet.backend.reproducible import Reproducible
from xpnet.support.messages import cannot_write, what_went_wrong

# ---- NumPy --------------------------------------------------------------------------------------


def _numpy(device: int, tf32: bool) -> Backend:
    return NumPyBackend()


# ---- Numba --------------------------------------------------------------------------------------


@cache
def why_no_numba(device: int = 0) -> str:
    """Return the reason why Numba cannot be used here, one sentence; empty if it can."""
    try:
        import numba  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name == "numba":
            return (
                "Numba is not installed; run pip install numba, or pip install '.[fast]' in the "
                "folder of xpnet"
            )
        reason: BaseException = error
    except (Exception, SystemExit) as error:  # whatever a NumPy that is too new for it leads to
        reason = error
    else:
        return ""
    return f"Numba is installed but does not import ({reason}); run pip install --upgrade numba"


def _numba(device: int, tf32: bool) -> Backend:
    from xpnet.backend.on_numba import NumbaBackend

    return NumbaBackend()


# ---- CuPy ---------------------------------------------------------------------------------------


@cache
def why_no_cupy(device: int = 0) -> str:
    """Return the reason why CuPy cannot be used here, one sentence; empty if it can."""
    try:
        from xpnet.backend.cupy_probe import probe
    except (Exception, SystemExit) as error:  # whatever a CuPy that does not fit leads to
        if not isinstance(error, ModuleNotFoundError) or error.name != "cupy":
            return _why_no_import(error)
        return (
            "CuPy is not installed; on a machine with an NVIDIA GPU run "
            "pip install 'cupy-cuda13x[ctk]' (driver 580 or newer) or 'cupy-cuda12x[ctk]'"
        )
    return probe(device)


def _why_no_import(error: BaseException) -> str:
    """Return the sentence for a CuPy that is installed and does not import."""
    way_out = "reinstall CuPy"
    if cannot_write(error):  # as CuPy makes the folder for its compiled kernels
        way_out = CACHE_ELSEWHERE
    return (
        f"CuPy is installed but does not import ({what_went_wrong(error)}); {way_out}, "
        "or use backend='numpy'"
    )


def _cupy(device: int, tf32: bool) -> Backend:
    from xpnet.backend.on_cupy import CuPyBackend

    return CuPyBackend(device, tf32)


def _gpus() -> int:
    """Return how many GPUs this process sees; one if nobody can say."""
    try:
        import cupy

        return max(1, int(cupy.cuda.runtime.getDeviceCount()))
    except Exception:  # `why_no_cupy` says what is wrong
        return 1


def _reproducible_cupy(ordinary: Backend) -> Backend:
    from xpnet.backend.cupy_device import CuPyDevice, compute_there
    from xpnet.backend.reproducible_cupy import ReproducibleCuPy

    assert isinstance(ordinary, CuPyDevice)
    mode = ReproducibleCuPy(ordinary)
    compute_there(mode, ordinary)
    return mode


def _describe_cupy() -> dict[str, str]:
    from xpnet.backend.cupy_probe import describe

    return describe()


# ---- the entries --------------------------------------------------------------------------------

NUMPY = Kind("numpy", _numpy, aliases=("cpu",), reproducible=Reproducible)
NUMBA = Kind("numba", _numba, why_not=why_no_numba, reproducible=Reproducible)
CUPY = Kind(
    "cupy",
    _cupy,
    aliases=("gpu", "cuda"),
    why_not=why_no_cupy,
    library="CuPy",
    arrays="cupy",
    devices=_gpus,
    has_tf32=True,
    reproducible=_reproducible_cupy,
    describe=_describe_cupy,
    moving="cupy.asarray(a) or a.get()",
)
