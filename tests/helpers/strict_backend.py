"""The backend on the strict stand-in: base.py's own text under CuPy's rules, on the CPU."""

from __future__ import annotations

import functools
import inspect

import strictxp

from xpnet.backend.base import Backend

ARRAYS = {"empty", "zeros", "asarray", "asnumpy", "owns", "require"}
ARRAYS |= {"capture", "aside", "off_path", "join", "renew", "here", "peak_memory", "batch_total"}
VOCABULARY = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "sqrt", "log", "tanh",
    "copyto", "matmul", "sum", "mean", "take",
}  # fmt: skip


def _as_a_kernel(method):
    """Let the plain array code of a fused primitive make temporaries: its kernel makes none."""

    @functools.wraps(method)
    def run(self, *args, **kwargs):
        with strictxp.allow_alloc():
            return method(self, *args, **kwargs)

    return run


class StrictBackend(Backend):
    """What layers see on a GPU: anything CuPy would refuse, or wait for, is an error."""

    name = "strict"
    module = strictxp

    def asnumpy(self, a):
        return strictxp.asnumpy(a)

    def matmul(self, A, B, out):
        """out = A B, also into columns of a matrix, as cuBLAS does it on a GPU."""
        if out.flags.c_contiguous:
            return super().matmul(A, B, out)
        with strictxp.allow_alloc():
            return self.copyto(out, strictxp.matmul(A, B))


for name, method in inspect.getmembers(Backend, inspect.isfunction):
    if not name.startswith("_") and name not in ARRAYS | VOCABULARY:
        setattr(StrictBackend, name, _as_a_kernel(method))
