"""The list of layers of a network: whatever is done with it takes effect, or is refused at once."""

from __future__ import annotations

from functools import wraps
from typing import Any
from weakref import ref

from xpnet.layers.base import Layer
from xpnet.network.checks import checked_layers
from xpnet.network.pixels import pixels_of
from xpnet.support.errors import OptionError, XpnetError


class LayerList(list[Layer]):
    """``net.layers``. Each method of a list that changes it changes the network, too."""

    def __init__(self, net: Any, layers: list[Layer]) -> None:
        super().__init__(layers)
        self._net = ref(net)

    def become(self, layers: list[Layer]) -> None:
        """Have other layers: those that stay keep their values.

        Raises
        ------
        OptionError
            If something is not a layer or belongs to another network, or if an optimizer has
            moments of parameters that would come, go or change places.
        ShapeError
            If a layer cannot take what the one before gives; nothing is changed then.
        """
        net = self._net()
        if net is not None:
            change_layers(net, checked_layers(layers, net))
        else:
            super().__setitem__(slice(None), layers)

    def __reduce__(self) -> Any:
        return list, (list(self),)


def _changing(name: str) -> Any:
    """Return a method of a list that changes a copy, which the network then takes."""
    method = getattr(list, name)

    @wraps(method)
    def change(self: LayerList, *args: Any, **kwargs: Any) -> Any:
        layers = list(self)
        result = getattr(layers, name)(*args, **kwargs)
        self.become(layers)
        return self if result is layers else result

    return change


for _name in ("append", "extend", "insert", "pop", "remove", "clear", "reverse", "sort"):
    setattr(LayerList, _name, _changing(_name))
for _name in ("__setitem__", "__delitem__", "__iadd__", "__imul__"):
    setattr(LayerList, _name, _changing(_name))


def change_layers(net: Any, layers: list[Layer]) -> None:
    """Give a network other layers; see `LayerList.become`."""
    top, before = net.network() or net, list(net.layers)
    if not top.in_use.acquire(blocking=False):
        raise XpnetError(
            "another thread uses the network; its layers can be changed afterwards, or those of "
            "a copy, net.copy()"
        )
    try:
        same = _with_parameters(before) == _with_parameters(layers)
        optimizer = next(iter(top.optimizers), None)
        if optimizer is not None and not same:
            raise OptionError(
                f"the layers cannot be changed so while {optimizer!r} has moments of the "
                "parameters; change those of a copy, net = net.copy(), and make a new optimizer"
            )
        _put(net, layers)
        try:
            top.output_shape(None)
        except XpnetError:
            _put(net, before)
            raise
        for layer in before:
            if not any(layer is other for other in layers):
                vars(layer).pop("owner", None)  # it is free
        top.values_of_new_layers(same)
    finally:
        top.in_use.release()


def _put(net: Any, layers: list[Layer]) -> None:
    """Put layers into the list, without a look at their values."""
    list.__setitem__(net.layers, slice(None), layers)
    for layer in layers:
        layer.owner = ref(net)
    while net is not None:
        net.pixels, net = pixels_of(net.layers), net.owner()


def _with_parameters(layers: list[Layer]) -> list[int]:
    """Return which layers have parameters, those in nested networks too, in order."""
    leaves = [leaf for layer in layers for _, leaf in layer.walk("")]
    return [id(leaf) for leaf in leaves if leaf.size]
