"""Which backend a network gets that shares its batches with other processes."""

from __future__ import annotations

from xpnet.backend import Backend
from xpnet.backend.reproducible import Reproducible
from xpnet.parallel.agreement import require_same
from xpnet.parallel.base import Communicator
from xpnet.parallel.shared_backend import SharedBackend
from xpnet.parallel.shared_reproducible import SharedReproducible


def shared(xp: Backend, comm: Communicator) -> SharedBackend:
    """Return the backend of a network that shares its batches with other processes."""
    if isinstance(xp, SharedBackend):
        if xp.comm is comm:
            return xp
        xp = xp.whole
    require_same(comm, {"the backend": xp.name})
    kind = SharedReproducible if isinstance(xp, Reproducible) else SharedBackend
    return kind(xp, comm)  # type: ignore[arg-type]
