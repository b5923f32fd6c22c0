"""Networks in files: what ``net.save`` and a checkpoint have written becomes a network again."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xpnet.backend import Backend
from xpnet.initializers import Constant
from xpnet.layers import LAYERS, Layer
from xpnet.network import DTYPES, Sequential
from xpnet.storage.fields import FIELDS, LATER_FIELDS, unknown_field
from xpnet.support.archive import Arrays, read_archive
from xpnet.support.checks import is_whole, path_of
from xpnet.support.errors import CheckpointError, DataError, ShapeError, XpnetError
from xpnet.support.messages import unknown

LOGGER = logging.getLogger("xpnet")
NETWORK = ("layers", "dtype", "seed")  # the fields of its description


def load(
    path: str | os.PathLike[str],
    *,
    backend: str | Backend | None = None,
    layers: Sequence[type[Layer]] = (),
) -> Sequential:
    """Return the network that ``net.save`` or a checkpoint has put in a file.

    Nothing in the file is run: it names layers of this library, and gives numbers.

    Parameters
    ----------
    path : str or os.PathLike
        The file.
    backend : str or Backend, optional
        See `xpnet.set_backend`; the default backend if left out, wherever it has been saved.
    layers : sequence of type, optional
        Layers of your own that the network has; those that are registered need not be given.

    Returns
    -------
    Sequential
        With the values, the dtype and the seed that it had.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is damaged, or holds no network.

    Examples
    --------
    >>> import numpy as np, xpnet
    >>> net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    >>> net.save("net.npz")
    >>> xpnet.load("net.npz")
    Sequential(Linear(2, 3), Tanh(), Linear(3, 1))
    """
    known = {**LAYERS, **{layer.__name__: layer for layer in layers}}
    return _network_of(path_of("path", path), known, backend)


def _network_of(
    path: Path, known: Mapping[str, type[Layer]], backend: str | Backend | None
) -> Sequential:
    """Return the network of a file that may have the known layers."""
    arrays, about = read_archive(path)
    values = {name: a for name, a in arrays.items() if name[0].isdigit()}  # 0.W ...
    try:
        dtype, seed, made = _read_config(about.get("network"), known)
        _require_known(arrays, about)
        _check_shapes(made, values)
    except (XpnetError, TypeError, ValueError, RecursionError) as error:
        raise _no_network(path, error) from None
    try:
        net = Sequential(*made, dtype=dtype, seed=seed, backend=backend)
        net.load_state_dict(values)
    except (DataError, ShapeError) as error:
        raise _no_network(path, error) from None
    lacking = _lacking_in(about["network"]["layers"], net.layers)
    if lacking:
        LOGGER.warning("%s does not say %s; the defaults are taken", path, ", ".join(lacking))
    return net


def _require_known(arrays: Arrays, about: Mapping[str, Any]) -> None:
    """Refuse what neither a network nor a training has in a file."""
    _require_names(about, {"format", "xpnet", "network", *FIELDS, *LATER_FIELDS})
    if about.keys() <= {"format", "xpnet", "network"}:
        for name in arrays:
            if not name[0].isdigit():
                raise ValueError(f"it has {unknown_field('array', name)}")


def _require_names(found: Mapping[str, Any], known: Collection[str]) -> None:
    for name in found:
        if name not in known:
            raise ValueError(f"it has {unknown_field('field', name)}")


def _lacking_in(config: list[Any], layers: Sequence[Layer], start: str = "") -> list[str]:
    """Return the arguments that a description does not give, as "0.bias of Linear"."""
    lacking = []
    for k, ((name, given), layer) in enumerate(zip(config, layers, strict=True)):
        lacking += [f"{start}{k}.{word} of {name}" for word in layer.config() if word not in given]
        if isinstance(layer, Sequential):
            lacking += _lacking_in(given["layers"], layer.layers, f"{start}{k}.")
    return lacking


def _no_network(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} holds no network that can be made ({error}); use another copy of it, and give "
        "layers of your own as load(path, layers=[...]), or register them by xpnet.register"
    )


def _read_config(config: Any, known: Mapping[str, type[Layer]]) -> tuple[str, int, list[Layer]]:
    """Return dtype, seed and new layers, from a description in a file."""
    if not isinstance(config, dict) or config.get("dtype") not in DTYPES:
        raise ValueError("it has no description of a network")
    _require_names(config, NETWORK)
    layers = _layers(config.get("layers"), known)
    if not layers:
        raise ValueError("it has no layers")
    return config["dtype"], _seed(config.get("seed")), layers


def _seed(seed: Any) -> int:
    if not is_whole(seed):
        raise ValueError(f"its seed is {seed!r:.40}")
    return int(seed)


def _check_shapes(layers: list[Layer], values: Arrays) -> None:
    """See that the file has a value for each parameter, before memory is taken for any."""
    walked = [pair for i, layer in enumerate(layers) for pair in layer.walk(str(i))]
    for path, layer in walked:
        for name, parameter in layer.parameters.items():
            found = values.get(f"{path}.{name}")
            if found is None or found.shape != parameter.shape:
                raise ValueError(f"it has no {path}.{name} of the shape {parameter.shape}")
            layer.parameters[name] = replace(parameter, init=Constant())  # the file has the values


def _layers(config: Any, known: Mapping[str, type[Layer]]) -> list[Layer]:
    """Return new layers, from the names and arguments in a file."""
    return [_layer(*_pair(entry), known) for entry in config]


def _pair(entry: Any) -> tuple[str, dict[str, Any]]:
    name, arguments = entry
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise ValueError(f"a layer is {entry!r:.60}")
    return name, arguments


def _layer(name: str, arguments: dict[str, Any], known: Mapping[str, type[Layer]]) -> Layer:
    if name == "Sequential":
        _require_names(arguments, NETWORK)
        layers, seed = _layers(arguments.get("layers"), known), _seed(arguments.get("seed", 0))
        dtype = arguments.get("dtype", "float32")  # that of the outermost network counts
        if dtype not in DTYPES:
            raise ValueError(f"the dtype of an inner network is {dtype!r:.40}")
        return Sequential(*layers, seed=seed, backend="numpy")
    if name not in known:
        raise ValueError(unknown("layer", name[:60], known))
    return known[name](**arguments)
