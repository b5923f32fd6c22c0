"""Between GPUs: NCCL, or by way of the host's memory where NCCL cannot be had.

NCCL is started through MPI: process 0 makes an identity, and the others get it. It queues its work
on CuPy's current stream, so that a captured step holds it. Two processes on one GPU, which NCCL
refuses, and machines without it go through the host: an MPI is never given an address on a device.
"""

from __future__ import annotations

import ctypes
import os
import socket
import warnings
from typing import Any

import numpy as np

from xpnet.backend import Array, kind_with_devices, parse_name, say_once
from xpnet.parallel.base import Communicator


class DeviceCommunicator(Communicator):
    """Processes whose arrays are on devices; objects go through the communicator of the host."""

    def __init__(self, host: Communicator) -> None:
        self.host, self.rank, self.size = host, host.rank, host.size
        self.local_rank, self.local_size = host.local_rank, host.local_size
        self.bcast_array, self.barrier = host.bcast_array, host.barrier  # type: ignore[method-assign]
        self.bcast, self.allgather = host.bcast, host.allgather  # type: ignore[method-assign]
        self.greatest = host.greatest  # type: ignore[method-assign]


class ByHost(DeviceCommunicator):
    """Each array is copied to pinned memory of the host, where MPI works, and back."""

    captures = False

    def __init__(self, host: Communicator) -> None:
        super().__init__(host)
        self._buffers: dict[Any, Array] = {}

    def allreduce(self, a: Array, op: str = "sum") -> Array:
        """a = Σ a over all processes, or the greatest"""
        buffer = self._buffer(a)
        a.get(out=buffer)  # waits for the device, and so for what was set before
        a.set(self.host.allreduce(buffer, op))
        return a

    def _buffer(self, a: Array) -> Array:
        """Return memory of the host from which, and to which, a device copies without a detour."""
        import cupyx

        flat = self._buffers.get(a.dtype)
        if flat is None or flat.size < a.size:
            flat = self._buffers[a.dtype] = cupyx.empty_pinned(a.size, a.dtype)
        return flat[: a.size].reshape(a.shape)


class NCCL(DeviceCommunicator):
    """One GPU for each process: CuPy's current device.

    It is never destroyed, as that waits for all other processes and for every graph that holds a
    part of it. So it lives as long as the process, and there is only one for the same GPUs.

    Parameters
    ----------
    host : Communicator
        Starts it.
    nccl : module
        ``cupy.cuda.nccl``.
    """

    def __init__(self, host: Communicator, nccl: Any) -> None:
        super().__init__(host)
        identity = host.bcast(nccl.get_unique_id() if host.rank == 0 else None)
        self._nccl = nccl.NcclCommunicator(host.size, identity, host.rank)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._nccl))  # not even when Python ends
        self._op = {"sum": nccl.NCCL_SUM, "max": nccl.NCCL_MAX}
        self._type = {
            np.dtype("int32"): nccl.NCCL_INT32,
            np.dtype("int64"): nccl.NCCL_INT64,
            np.dtype("float32"): nccl.NCCL_FLOAT32,
            np.dtype("float64"): nccl.NCCL_FLOAT64,
        }

    def allreduce(self, a: Array, op: str = "sum") -> Array:
        """a = Σ a over all processes, or the greatest, queued on the current stream"""
        address, kind = a.data.ptr, self._type[a.dtype]
        self._nccl.allReduce(address, address, a.size, kind, self._op[op], self._stream())
        return a

    @staticmethod
    def _stream() -> int:
        import cupy

        return int(cupy.cuda.get_current_stream().ptr)


_made: dict[tuple[Communicator, tuple[str, ...]], Communicator] = {}


def between_devices(host: Communicator) -> Communicator:
    """Return what is possible between CuPy's current devices of the processes."""
    places = tuple(host.allgather(_this_device()))
    if (host, places) not in _made:
        _made[host, places] = _make(host, places)
    return _made[host, places]


def _make(host: Communicator, places: tuple[str, ...]) -> Communicator:
    """Start NCCL, or say why it cannot be."""
    nccl = _nccl()
    found = host.allgather(nccl is not None)
    shared = [place for place in places if places.count(place) > 1]
    if all(found) and not shared:
        return NCCL(host, nccl)
    why = (
        f"{shared[0]} is used by two processes"
        if shared
        else f"rank {found.index(False)} has no NCCL, which pip install {_wheel()} brings"
    )
    if host.rank == 0:
        say_once(f"the processes exchange gradients by way of the host, which is slower: {why}")
    return ByHost(host)


def _this_device() -> str:
    """Return which device this process computes on, as NCCL tells them apart.

    Parts of a GPU have one address, too, and NCCL takes only one of them.
    """
    import cupy

    return f"GPU {cupy.cuda.Device().pci_bus_id} of {socket.gethostname()}"


def _nccl() -> Any:
    """Return CuPy's module of NCCL, if the library is there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CuPy's, that there is none
        try:
            from cupy.cuda import nccl
        except ImportError:
            return None
    return nccl if nccl.available else None


def _wheel() -> str:
    """Return the name of the package with the NCCL for this CuPy."""
    import cupy

    return f"nvidia-nccl-cu{cupy.cuda.runtime.runtimeGetVersion() // 1000}"


def device_name(name: str, comm: Communicator) -> str:
    """Return the name of the backend for this process: of the GPUs of a machine each gets its own.

    Parameters
    ----------
    name : str
        Such as ``"cupy"``; a name with a number, such as ``"cuda:1"``, stays as it is.
    comm : Communicator
        Processes on the same machine get its GPUs in turn.

    Returns
    -------
    str
        Such as ``"cupy:1"``, for `xpnet.set_backend`; the name of a CPU's backend as it came.

    Raises
    ------
    BackendError
        If there is no such backend.

    Examples
    --------
    >>> import xpnet
    >>> xpnet.parallel.device_name("numpy", xpnet.parallel.communicator())
    'numpy'
    """
    kind = kind_with_devices(name)
    if comm.size == 1 or ":" in name or kind is None or kind.devices is None:
        return name
    device = comm.local_rank % kind.devices()
    if parse_name(name)[0] != kind.name and kind.why_not(device):  # "auto", which may be NumPy
        return name
    return kind.label(device)


def device_of_environment(comm: Communicator) -> str:
    """Return the name that ``$XPNET_BACKEND`` gives the processes, or "auto"; "" for one process.

    One process asks `xpnet.backend.from_environment`, whose errors name the variable.
    """
    if comm.size == 1:
        return ""
    return os.environ.get("XPNET_BACKEND", "").strip() or "auto"
