"""Run one batch through a copy of a network, record all results, and compare two copies."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import deepcopy
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.layers.base import Layer
from xpnet.losses import Loss, find_loss
from xpnet.network import Sequential
from xpnet.support.checks import on_host
from xpnet.verify.parity.report import Difference
from xpnet.verify.parity.rounding_noise import RoundingNoise
from xpnet.verify.parity.values import LOSS, LOSS_GRADIENT, Host, Key, Values, worst

Same = Callable[[Key, Host, Host], bool]


class Pass:
    """The record of one batch that went forward and backward through a copy of a network.

    ``inputs`` and ``values`` are the inputs and the results of each layer, on the host. `forward`
    and `backward` of every layer are wrapped, also of layers inside a user's own container, which
    runs unchanged.
    """

    def __init__(self, net: Sequential, loss: Loss, X: Any, t: Any, weight: Any) -> None:
        self.net, self.loss = net.copy(), deepcopy(loss)
        self.xp = self.net.xp
        self.loss.use(self.xp)
        self.layers = dict(self.net.walk(""))
        self.xp.copyto(self.net.grads, np.nan)  # each is overwritten
        self.states = dict(zip(self.layers, self.net.host_states(), strict=True))
        self.inputs: dict[tuple[str, str], Host] = {}
        self.values: Values = {}
        self.t = self.xp.asarray(on_host(t, f"{loss!r}: t"))
        self.weight = None
        if weight is not None:
            self.weight = self.xp.asarray(on_host(weight, "sample_weight"))
        for path, layer in self.layers.items():
            self._record(path, layer)
        self._run(self.xp.asarray(np.array(on_host(X, "X"))))
        for layer in self.layers.values():
            del vars(layer)["forward"], vars(layer)["backward"]

    def _record(self, path: str, layer: Layer) -> None:
        """Wrap forward and backward of a layer: they record their inputs and results."""
        forward, backward = layer.forward, layer.backward
        settle = self.xp.of_a_layer if isinstance(self.xp, RoundingNoise) else _as_it_is

        def recorded_forward(X: Array) -> Array:
            self.inputs["forward", path] = self.host(X)
            Y = settle(layer, forward(X))
            self.values["forward", path, ""] = self.host(Y)
            return Y

        def recorded_backward(dY: Array) -> Array | None:
            self.inputs["backward", path] = self.host(dY)
            dX = settle(layer, backward(dY))
            for name in layer.parameters:
                settle(layer, getattr(layer, "d" + name))
            self.values |= self._gradients(path, dX)
            return dX

        vars(layer).update(forward=recorded_forward, backward=recorded_backward)

    def _run(self, X: Array) -> None:
        """Go forward and backward once."""
        self.output = self.host(self.net.forward(X))
        self.values |= self.loss_of(self.output)
        self.net.backward(self.xp.asarray(self.values[LOSS_GRADIENT]))

    def host(self, a: Array) -> Host:
        """Return a copy on the host; the next step overwrites the array itself."""
        return np.array(self.xp.asnumpy(a))

    def _gradients(self, path: str, dX: Array | None) -> Values:
        """Return dX and the gradients of the parameters of a layer after backward."""
        layer = self.layers[path]
        found = {("backward", path, p): getattr(layer, "d" + p) for p in layer.parameters}
        found |= {} if dX is None else {("backward", path, ""): dX}
        return {key: self.host(a) for key, a in found.items()}

    # Each of the following methods runs one layer, or the loss, with the input of another pass.

    def forward_of(self, path: str, X: Host) -> Values:
        """Return the output of one layer, computed from its state before the pass."""
        layer = self.layers[path]
        for name, value in self.states[path].items():
            self.xp.copyto(layer.state[name], self.xp.asarray(value))
        pixels = X.dtype == np.uint8
        Y = layer.forward(self.xp.asarray(X, None if pixels else self.net.dtype))
        return {("forward", path, ""): self.host(Y)}

    def backward_of(self, path: str, dY: Host) -> Values:
        """Return dX of one layer, and the gradients of its parameters."""
        return self._gradients(
            path, self.layers[path].backward(self.xp.asarray(dY, self.net.dtype))
        )

    def loss_of(self, Y: Host) -> Values:
        """Return the loss and its gradient for outputs of the network."""
        Y = self.xp.asarray(Y, self.net.dtype)
        value = self.host(self.loss.forward(Y, self.t, self.weight))
        return {LOSS: value, LOSS_GRADIENT: self.host(self.loss.backward())}


def _as_it_is(layer: Layer, a: Array | None) -> Array | None:
    return a


def locate(
    net_a: Sequential,
    net_b: Sequential,
    loss: Loss | str,
    X: Any,
    t: Any,
    sample_weight: Any = None,
    *,
    same: Callable[[Host, Host], bool],
) -> Difference | None:
    """Find the first layer that gives different results on two networks for the same input.

    Each layer of ``net_b`` gets the input of the same layer of ``net_a``, so a difference belongs
    to this layer alone. The outputs are compared in forward order, then the loss and its gradient,
    then the gradients in backward order. Neither network changes; both run on copies.

    Parameters
    ----------
    net_a, net_b : Sequential
        With equal layers, parameters and states, on two backends or in two types.
    loss : Loss or str
    X, t, sample_weight : array or list
        One batch on the host.
    same : function of two NumPy arrays
        Return True if the results of a and b for the same input count as equal.

    Returns
    -------
    Difference or None
        None if all layers agree.

    Raises
    ------
    DataError, ShapeError
        If the batch does not fit the network or the loss.
    """
    judge = find_loss(loss)
    a, b = (Pass(net, judge, X, t, sample_weight) for net in (net_a, net_b))
    return located(a, b, lambda key, x, y: same(x, y))


def located(a: Pass, b: Pass, same: Same) -> Difference | None:
    """Return the first difference between the values of two passes for the same inputs."""
    for key, theirs in _results(a, b):
        ours = a.values[key]
        if not same(key, ours, theirs):
            phase, path, parameter = key
            layer = repr(a.layers[path]) if path else repr(a.loss)
            entry = worst(ours, theirs)
            x, y = float(ours[entry]), float(theirs[entry])
            return Difference(phase, path, layer, parameter, entry, x, y)
    return None


def _results(a: Pass, b: Pass) -> Iterable[tuple[Key, Host]]:
    """Yield the results of each layer of ``b``, and of its loss, for the inputs of ``a``."""
    steps = list(a.inputs)  # in the order in which they ran
    for phase, path in steps:
        if phase == "forward":
            yield from b.forward_of(path, a.inputs[phase, path]).items()
    yield from b.loss_of(a.output).items()
    for phase, path in steps:
        if phase == "backward":
            yield from b.backward_of(path, a.inputs[phase, path]).items()
