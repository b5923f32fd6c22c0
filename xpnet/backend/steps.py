"""Whole steps: CuPy can record a step as one CUDA graph, other backends just run the step."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any


class WholeSteps:
    """The part of `xpnet.backend.base.Backend` that is about steps and devices, not about numbers.

    Here each method does nothing, which is right wherever an operation has ended when it returns.
    """

    def capture(
        self, step: Callable[..., None], version: Callable[[], Any] | None = None
    ) -> Callable[..., None]:
        """Return a function that does ``step``: on CuPy as one CUDA graph, else ``step`` itself.

        On CuPy the first call with some arguments runs ``step``, which compiles kernels; the second
        records it as a graph, and starts the graph, as do all later ones. Each call is one real
        step. So ``step`` must write into arrays that exist already, must not read from the device,
        and what changes between steps must be in arrays: Python numbers stay what they were. A
        layer that breaks this makes the step run as before, with one warning.

        Parameters
        ----------
        step : function
            Its arguments must be hashable, such as the size of a batch; each combination has its
            own graph.
        version : function, optional
            Its value names the arrays and the settings that ``step`` uses. When the value changes,
            the step is recorded anew. By default that happens whenever a network, loss or optimizer
            on this backend makes new arrays; see `renew`.
        """
        return step

    def off_path(self) -> AbstractContextManager[None]:
        """Mark work whose results nobody needs before the next `join`; see `capture`.

        Between here and there, nothing else may write what it reads, or read what it writes.
        """
        return _NOTHING

    def join(self) -> None:
        """From here on the results of all work `off_path` may be needed."""

    def aside(self) -> AbstractContextManager[None]:
        """Return `off_path`: its name in release 1."""
        return self.off_path()

    def renew(self) -> int:
        """Note that arrays have been replaced by new ones; return the number of such changes.

        A layer that replaces an array keeps the number, ``self.version = self.xp.renew()``:
        `Trainer` records its steps anew when a number changes that is an attribute of a layer.
        """
        return 0

    def batch_total(self, n: int) -> int:
        """Return the size of the batch of which this process has n samples."""
        return n

    def here(self) -> AbstractContextManager[None]:
        """Return a ``with`` block in which this backend's device is this thread's current one.

        Primitives do not need the block. Operations of `module` itself do, where there are several
        GPUs.
        """
        return _NOTHING

    def peak_memory(self) -> int:
        """Return the most memory in bytes that arrays on the device have had so far, 0 for none."""
        return 0


_NOTHING = nullcontext()  # entered again and again
