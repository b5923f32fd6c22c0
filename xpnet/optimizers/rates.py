"""The learning rates of the next steps, on the device."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.schedules import Constant, Schedule

RATES_AHEAD = 1024  # learning rates are computed on the host this many steps at a time


class RateTable:
    """A table of learning rates on the device, from which each step takes the next one.

    A schedule is a Python function, and a step that a GPU repeats cannot call it. So the host
    computes the learning rates of many steps in advance.

    Parameters
    ----------
    xp : Backend
        Where the table is.

    Attributes
    ----------
    rate : array, shape (1,)
        The learning rate of the present step, float64.
    end : int
        The first step for which the table has no learning rate.
    """

    def __init__(self, xp: Backend) -> None:
        self.xp, self.end = xp, 0
        self.rate: Array = xp.zeros(1, np.float64)
        self.rates = xp.zeros(RATES_AHEAD, np.float64)
        self.position = xp.zeros(1, np.int64)

    def fill(self, schedule: Schedule, t: int) -> None:
        """Put the learning rates from step t on into the table; a constant one into ``rate``."""
        if isinstance(schedule, Constant):
            self.xp.copyto(self.rate, schedule.lr)
            return
        rates = [schedule(t + i) for i in range(RATES_AHEAD)]
        self.xp.copyto(self.rates, self.xp.asarray(np.array(rates)))
        self.xp.copyto(self.position, 0)
        self.end = t + RATES_AHEAD

    def advance(self) -> None:
        """Take the learning rate of the next step, on the device."""
        self.xp.take(self.rates, self.position, out=self.rate)
        self.xp.add(self.position, 1, out=self.position)
