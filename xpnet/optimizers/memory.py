"""The arrays of an optimizer: made on the network's backend, and kept when the network moves."""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.optimizers.gradient import set_limit
from xpnet.optimizers.rates import RateTable
from xpnet.optimizers.settings import LearningRate, Setting, positive_or_none
from xpnet.schedules import Constant
from xpnet.support.attributes import Fixed
from xpnet.support.checks import at_least_0
from xpnet.support.errors import OptionError


class OptimizerMemory:
    """The part of `xpnet.optimizers.base.Optimizer` that makes and restores arrays."""

    net: Any = Fixed()
    xp: Backend
    t: int
    schedule: Any = LearningRate()
    weight_decay: Any = Setting(at_least_0)
    clip_norm: Any = Setting(positive_or_none)
    changes = 0  # of the numbers in ``options``, see `xpnet.optimizers.settings.number`

    def __setstate__(self, state: dict[str, Any]) -> None:
        older = {"betas": "_betas"}  # in release 1, of Adam
        vars(self).update({older.get(name, name): value for name, value in state.items()})
        self.net.optimizers.add(self)  # a copy moves along with its network, too

    def __copy__(self) -> Self:
        raise OptionError(
            f"a shallow copy of {self!r} would share its moments; copy both, "
            "copy.deepcopy((net, optimizer)), or make a new optimizer"
        )

    def state_vectors(self) -> dict[str, Array]:
        """Return the arrays that the optimizer remembers between steps, by name."""
        return {}

    def make_state(self) -> None:
        """Make those arrays; ``rate`` exists already."""

    def host_state(self) -> dict[str, Any]:
        """Return all that must survive a move to another backend, on the host."""
        arrays = {k: np.array(self.xp.asnumpy(v)) for k, v in self.state_vectors().items()}
        return {"t": self.t, **arrays}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back `host_state` on the network's present backend."""
        self.t = state["t"]
        self._make_arrays()
        for name, a in self.state_vectors().items():
            self.xp.copyto(a, self.xp.asarray(state[name], a.dtype))

    def begin_anew(self) -> None:
        """Forget what the optimizer remembers between steps."""
        self._make_arrays()

    def _make_arrays(self) -> None:
        """Make every array on the network's backend."""
        self.xp, p = self.net.xp, self.net.params
        self.version = self.xp.renew()  # its arrays are new
        self.work = self.like(p)
        self.table = RateTable(self.xp)
        self.rate = self.table.rate
        self.norm, self.scale, self.limit = (self.xp.zeros((), p.dtype) for _ in range(3))
        vars(self).pop("own_gradient", None)
        self.make_state()
        self.make_missing()
        self._fill_table()

    def make_missing(self) -> None:
        """Make what a number needs that has been set after the arrays were made."""
        if "version" not in vars(self):
            return
        if self.clip_norm is not None:
            set_limit(self)
        wanted = self.clip_norm is not None or self.weight_decay
        if wanted and "own_gradient" not in vars(self):
            self.own_gradient = self.like(self.net.params)

    def like(self, p: Array) -> Array:
        """Return zeros of the shape and type of p."""
        return self.xp.zeros(p.shape, p.dtype)

    def _fill_table(self, needed: int = 0) -> None:
        """Put the next learning rates on the device; so many of them are needed now."""
        self.scheduled = not isinstance(self.schedule, Constant)
        self.table.fill(self.schedule, self.t, needed)
