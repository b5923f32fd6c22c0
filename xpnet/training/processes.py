"""The processes of a training begin with the same settings and numbers."""

from __future__ import annotations

from typing import Any

from xpnet.parallel.agreement import begin_equal
from xpnet.training.settings import Settings, describe_rate
from xpnet.training.training import Training


def begin_fit(training: Training, settings: Settings) -> None:
    """Check that all processes are to do the same, and give them the values of rank 0.

    Raises
    ------
    ParallelError
        On all processes; it names what differs.
    """
    net, optimizer = training.net, training.optimizer

    def compared() -> dict[str, Any]:
        progress = [optimizer.t, training.epoch, training.batch, training.epochs]
        found = {k: v for k, v in settings.cheap.items() if k != "callbacks"}
        data, validation = settings.data["data"], settings.data["validation_data"] or {}
        return {
            "the network": [repr(net), net.dtype.name, repr(net.xp)],
            "the number of samples": data["samples"],
            **{f"the {name}": value for name, value in found.items()},
            "the learning rate": describe_rate(optimizer.schedule),
            "the number of steps done": progress,
            "the fingerprint of the inputs": data["X"],
            "the fingerprint of the targets": data["t"],
            "the fingerprint of sample_weight": settings.data["sample_weight"],
            "the fingerprint of the validation targets": validation.get("t"),
            "the fingerprint of the validation data": validation,
        }

    def given() -> list[Any]:
        states = [a for _, layer in net.walk("") for a in layer.state.values()]
        return [net.params, *states, *optimizer.state_vectors().values()]

    begin_equal(training.comm, net.xp, compared, given)
