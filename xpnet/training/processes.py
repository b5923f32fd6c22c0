"""The processes of a training begin with the same settings and numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.parallel.agreement import begin_equal, fingerprint
from xpnet.support.checks import on_host
from xpnet.training.training import Training


def begin_fit(
    training: Training, settings: Mapping[str, Any], X: Any, t: Any, weights: Any, validation: Any
) -> None:
    """Check that all processes are to do the same, and give them the values of rank 0.

    Raises
    ------
    ParallelError
        On all processes; it names what differs.
    """
    net, optimizer = training.net, training.optimizer

    def compared() -> dict[str, Any]:
        progress = [optimizer.t, training.epoch, training.batch, training.epochs]
        return {
            "the network": [repr(net), net.dtype.name, repr(net.xp)],
            **{f"the {name}": value for name, value in settings.items()},
            "the learning rate": optimizer.lr,
            "the number of steps done": progress,
            "the first sample": fingerprint(on_host(X[:1], "X")),
            "the fingerprint of the targets": fingerprint(on_host(t, "t")),
            "the fingerprint of sample_weight": (
                None if weights is None else fingerprint(on_host(weights, "sample_weight"))
            ),
            "the fingerprint of the validation targets": (
                None if validation is None else fingerprint(validation[1])
            ),
        }

    def given() -> list[Any]:
        states = [a for _, layer in net.walk("") for a in layer.state.values()]
        return [net.params, *states, *optimizer.state_vectors().values()]

    begin_equal(training.comm, net.xp, compared, given)
