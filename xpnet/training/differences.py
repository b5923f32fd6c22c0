"""The differences between the training of a checkpoint and the one that is to go on from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from xpnet.storage.fields import OLD
from xpnet.storage.training_state import TrainingState
from xpnet.support.errors import CheckpointError, OptionError
from xpnet.support.messages import unknown

# Names that `override` may have whatever the optimizer is.
ALWAYS = {
    *("network", "loss", "optimizer", "lr", "momentum", "nesterov", "beta1", "beta2", "rho", "eps"),
    *("weight_decay", "clip_norm", "seed", "batch_size", "shuffle", "data", "sample_weight"),
    *("validation_data", "metrics", "penalty", "callbacks", "epochs"),
}
WAY_OUT = "make each as it was"
ORDER = {"seed", "batch_size", "shuffle", "data", "sample_weight"}  # decide what an epoch does


def checked_override(override: str | Iterable[str], others: Iterable[str] = ()) -> frozenset[str]:
    """Return the names of settings that may differ.

    Raises
    ------
    OptionError
        If there is no such setting.
    """
    if not isinstance(override, Iterable) or getattr(override, "ndim", 1) == 0:
        raise OptionError(f"override names settings, such as ('lr', 'data'); got {override!r:.60}")
    names = [override] if isinstance(override, str) else list(override)
    known = ALWAYS.union(others)
    for name in names:
        if name not in known:
            raise OptionError(f"override: {unknown('setting', name, known)}")
    return frozenset(names)


def settings_then(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a checkpoint has written, also one of the first release."""
    then = {"network": about["network"], **about["settings"]}
    if set(then) >= OLD:
        samples, constant = then.pop("samples"), then.pop("constant lr")
        then["data"] = {"samples": samples}
        if then.get("batch_size") == samples:
            then["batch_size"] = "all"
        if constant:
            then["lr"] = about["lr"]
    return then


def find_differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """Return a line for each setting that both have and that differs, but for learning rates."""
    now = json.loads(json.dumps(now))
    both = [name for name in now if name in then and name != "lr"]
    lines = {
        name: _line(name, then[name], now[name])
        for name in both
        if not _same(then[name], now[name])
    }
    if "optimizer" in lines:  # its numbers are others, too
        return lines
    gone = [name for name in then if name not in now]
    return lines | {name: f"{name}: was {then[name]!r:.60}, is not there" for name in gone}


def _line(name: str, was: Any, now: Any) -> str:
    """Return the line about a setting that differs."""
    if name == "network":
        return f"{name}: {_difference_of_networks(was, now)}"
    return f"{name}: was {_shown(name, was)}, is {_shown(name, now)}"


def _same(was: Any, value: Any) -> bool:
    """Return True if two settings are equal; of data what both have is compared."""
    if isinstance(was, dict) and isinstance(value, dict) and "samples" in was:
        return all(was[k] == value[k] for k in was if k in value)
    return bool(was == value)


def _difference_of_networks(was: Any, now: Any) -> str:
    """Return where two descriptions of networks differ first."""
    layers, others = was["layers"], now["layers"]
    if len(layers) != len(others):
        return f"had {len(layers)} layers, has {len(others)}"
    for k, (layer, other) in enumerate(zip(layers, others, strict=True)):
        if layer != other:
            return f"layer {k} was {layer!r:.150}, is {other!r:.150}"
    differ = [k for k in now | was if was.get(k) != now.get(k)]
    return ", ".join(f"the {k} was {was.get(k)!r:.60}, is {now.get(k)!r}" for k in differ)


def _shown(name: str, value: Any) -> str:
    if isinstance(value, dict) and "samples" in value:
        prints = "".join(f", {k} {v:08x}" for k, v in value.items() if k != "samples")
        return f"{value['samples']} samples{prints}"
    if name == "sample_weight" and value is not None:
        return f"{value:08x}"
    return f"{value!r:.300}"


def require_same(
    state: TrainingState,
    lines: Mapping[str, str],
    override: Collection[str],
    fixed: Collection[str],
) -> None:
    """Raise CheckpointError if a setting differs that may not.

    Parameters
    ----------
    state : TrainingState
    lines : dict of str to str
        See `find_differences`.
    override : collection of str
        The settings that may differ.
    fixed : collection of str
        Those that cannot be overridden, because the values would not fit.
    """
    refused = {name: line for name, line in lines.items() if name not in override or name in fixed}
    if not refused:
        return
    names = tuple(sorted({*override, *refused}.difference(fixed)))
    way_out = WAY_OUT
    if not set(refused) & set(fixed):
        way_out += f", or let it change by fit(..., resume=..., override={names!r})"
    raise CheckpointError(
        "\n  ".join([f"{state.source} is of another training:", *refused.values()]) + f"\n{way_out}"
    )
