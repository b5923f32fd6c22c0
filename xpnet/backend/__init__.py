"""Which array library computes, and with which primitives.

- `base` says what each primitive means, with `fused`, `steps` and `options`.
- `on_numpy`, `on_numba` and `on_cupy` compute them faster; `reproducible` with the same bits on
  every machine.
- `registry` is the table of the backends by name, `default` the one that is used if none is named.
"""

from xpnet.backend.base import Array, Backend
from xpnet.backend.cuda import CACHE_ELSEWHERE
from xpnet.backend.default import (
    backend_of,
    from_environment,
    get_backend,
    set_backend,
    use_backend,
)
from xpnet.backend.kind import Kind
from xpnet.backend.kinds import why_no_cupy, why_no_numba
from xpnet.backend.on_numpy import NumPyBackend
from xpnet.backend.registry import (
    available_backends,
    describe,
    find_backend,
    get_array_module,
    kind_with_devices,
    parse_name,
    register_backend,
    say_once,
)
from xpnet.backend.reproducible import Reproducible

__all__ = [
    "CACHE_ELSEWHERE",
    "Array",
    "Backend",
    "Kind",
    "NumPyBackend",
    "Reproducible",
    "available_backends",
    "backend_of",
    "describe",
    "find_backend",
    "from_environment",
    "get_array_module",
    "get_backend",
    "kind_with_devices",
    "parse_name",
    "register_backend",
    "say_once",
    "set_backend",
    "use_backend",
    "why_no_cupy",
    "why_no_numba",
]
