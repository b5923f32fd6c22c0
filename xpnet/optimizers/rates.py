"""The learning rates of the next steps, on the device."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.schedules import Constant, Schedule
from xpnet.support.errors import OptionError
from xpnet.support.messages import what_went_wrong

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

    def fill(self, schedule: Schedule, t: int, needed: int = 0) -> None:
        """Put the learning rates from step t on into the table; a constant one into ``rate``.

        The table ends where the schedule does: that is an error when the step is ``needed``.
        """
        if isinstance(schedule, Constant):
            self.xp.copyto(self.rate, schedule.lr)
            return
        rates = np.zeros(RATES_AHEAD)
        for i in range(RATES_AHEAD):
            try:
                rates[i] = rate_of(schedule, t + i)
            except OptionError:
                if i < needed:
                    raise
                break
            self.end = t + i + 1
        self.xp.copyto(self.rates, self.xp.asarray(rates))
        self.xp.copyto(self.position, 0)

    def advance(self) -> None:
        """Take the learning rate of the next step, on the device."""
        self.xp.take(self.rates, self.position, out=self.rate)
        self.xp.add(self.position, 1, out=self.position)


def rate_of(schedule: Schedule, step: int) -> float:
    """Return the learning rate that a schedule gives for a step.

    Raises
    ------
    OptionError
        If it fails, or gives anything but a finite number of 0 or more.
    """
    try:
        given: object = schedule(step)
    except Exception as error:  # a function of the user's
        raise OptionError(
            f"the learning rate {schedule!r} fails for step {step}: {what_went_wrong(error)}; "
            "train for fewer steps, or let it return a number for each"
        ) from error
    try:
        rate = -1.0 if isinstance(given, str | None) else float(given)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        rate = -1.0
    if not 0 <= rate < np.inf:
        raise OptionError(
            f"the learning rate {schedule!r} gives {given!r:.60} for step {step}; it must be a "
            "finite number, 0 or more"
        )
    return rate
