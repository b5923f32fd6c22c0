"""How a training becomes a `TrainingState`, and goes on from one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.backend.mode import gives_the_same_bits, settings
from xpnet.network.checks import check_values_of
from xpnet.optimizers.settings import numbers_of
from xpnet.schedules import Constant
from xpnet.storage.fields import unknown_field
from xpnet.storage.plain import joined_state, split_state
from xpnet.storage.training_state import PROGRESS, TrainingState
from xpnet.support.archive import Arrays
from xpnet.support.errors import CheckpointError, DataError, OptionError, ShapeError, XpnetError
from xpnet.training.callbacks import Callback
from xpnet.training.differences import (
    ORDER,
    checked_override,
    find_differences,
    require_same,
    settings_then,
)
from xpnet.training.settings import Settings, name_callbacks, rate_line, same_rate_of
from xpnet.training.step import TrainingStep
from xpnet.training.training import Training


def describe(
    training: Training, step: TrainingStep, callbacks: Sequence[Callback], settings: Settings
) -> TrainingState:
    """Return the state of a training between two steps."""
    net, optimizer, memory = training.net, training.optimizer, training.optimizer.host_state()
    remembered, states = _callback_states(callbacks)
    arrays = net.state_dict() | {
        "losses": np.array(net.xp.asnumpy(step.losses))[: training.batch],
        **{f"optimizer.{k}": memory[k] for k in optimizer.state_vectors()},
        **{f"history.{k}": np.array(row) for k, row in enumerate(training.history.values())},
    }
    progress = {name: int(getattr(training, name)) for name in PROGRESS}
    about = {
        "network": net.config(),
        "settings": settings.all,
        "progress": progress | {"stop": bool(training.stop)},
        "t": optimizer.t,
        **settings.since(optimizer),
        "history": list(training.history),
        "callbacks": states,
        "machine": machine(net.xp, training.comm.size),
    }
    return TrainingState(arrays | remembered, about)


def restore_values(
    state: TrainingState,
    training: Training,
    step: TrainingStep,
    settings: Settings,
    override: str | Iterable[str] = (),
    epochs: int | None = None,
) -> None:
    """Give a training the values of a state, except for what is overridden.

    If that changes the batches of an epoch, an epoch that was broken off begins again.

    Raises
    ------
    CheckpointError
        If it is the state of another training, or is damaged.
    OptionError
        If ``override`` names a setting that does not exist.
    """
    net, progress = training.net, dict(state.about["progress"])
    allowed = checked_override(override, settings.all)
    lines = _differences(state, training, settings, allowed, epochs)
    losses = state.arrays.get("losses", np.zeros(()))
    if not ORDER.isdisjoint(lines):
        progress["batch"], losses = 0, np.zeros(0)
    shape = (min(progress["batch"], len(step.batches)),)
    if losses.shape != shape:
        raise state.damaged(f"it has no losses of shape {shape}")
    history = state.history
    try:
        check_values_of(net, state.network)
        net.load_state_dict(state.network)
        _restore_optimizer(state, training, lines, allowed)
    except (DataError, OptionError, ShapeError) as error:
        raise state.damaged(error) from None
    net.xp.copyto(step.losses[: len(losses)], net.xp.asarray(losses, net.dtype))
    training.history.clear()
    training.history.update(history)
    for name in PROGRESS:
        setattr(training, name, progress[name])


def _differences(
    state: TrainingState,
    training: Training,
    settings: Settings,
    override: Collection[str],
    epochs: int | None,
) -> dict[str, str]:
    """Return a line for each setting that differs and may; raise CheckpointError if one may not."""
    about, net, progress = state.about, training.net, state.about["progress"]
    now, then = {"network": net.config(), **settings.all}, settings_then(about)
    lines = find_differences(then, now)
    if not same_rate_of(about, then, training.optimizer.schedule):
        lines["lr"] = rate_line(about, then, now["lr"])
    done = progress["epoch"] - progress["first_epoch"]
    if epochs is not None and epochs < done:
        lines["epochs"] = f"epochs: {done} have been trained, is {epochs}"
    fits = _shapes(net.state_dict()) == _shapes(state.network)
    require_same(state, lines, override, () if fits else {"network"} & set(lines))
    lacking = [name for name in settings.all if name not in then and name not in lines]
    if lacking:
        words = "%s was written by an earlier xpnet: %s could not be compared"
        training.comm.warn(words, state.source, ", ".join(lacking))
    return lines


def _shapes(arrays: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: a.shape for name, a in arrays.items()}


def _restore_optimizer(
    state: TrainingState, training: Training, lines: Collection[str], override: Collection[str]
) -> None:
    """Give an optimizer its memory, and the numbers that were set during the training."""
    optimizer = training.optimizer
    _say_what_is_gone(state, training, lines)
    numbers = numbers_of(optimizer)
    for name, value in state.about.get("changed", {}).items():
        if name in numbers and name not in override:
            setattr(optimizer, name, value)
    if "lr" not in override and state.about["lr"] is not None:
        optimizer.schedule = Constant(state.about["lr"])
    may_differ = not numbers.keys().isdisjoint(lines)
    memory = {} if "optimizer" in lines else _memory(state, optimizer.state_vectors(), may_differ)
    optimizer.begin_anew()
    optimizer.restore(optimizer.host_state() | {"t": state.about["t"]} | memory)


def _say_what_is_gone(state: TrainingState, training: Training, lines: Collection[str]) -> None:
    """Warn of numbers that were set on the optimizer, where the present one has no such number."""
    gone = state.about.get("changed", {}).keys() - numbers_of(training.optimizer).keys()
    if gone and "optimizer" not in lines:
        words = "%s: what was set on the optimizer does not come back: %s"
        training.comm.warn(words, state.source, ", ".join(sorted(gone)))


def _memory(state: TrainingState, vectors: Arrays, may_differ: bool) -> Arrays:
    """Return what an optimizer remembers; that of overridden numbers may lack, or have no use."""
    start = "optimizer."
    found = {k.removeprefix(start): a for k, a in state.arrays.items() if k.startswith(start)}
    if may_differ:
        found = {name: a for name, a in found.items() if name in vectors}
    for name in found if may_differ else vectors | found:
        _check_vector(state, f"{start}{name}", found.get(name), vectors.get(name))
    return found


def _check_vector(state: TrainingState, name: str, found: Any, vector: Any) -> None:
    """Check one array that an optimizer remembers against the one that it has."""
    if vector is None:
        raise state.damaged(f"it has {unknown_field('array', name)}")
    if found is None or found.shape != vector.shape:
        raise state.damaged(f"it has no {name} of shape {vector.shape}")
    if np.isnan(found).any():
        raise state.damaged(f"{name} has numbers that are not finite")


@contextmanager
def all_or_nothing(training: Training) -> Iterator[None]:
    """Put network, optimizer, history and progress back as they were if something fails."""
    net, optimizer, history = training.net, training.optimizer, dict(training.history)
    values, memory, schedule = net.state_dict(), optimizer.host_state(), optimizer.schedule
    numbers = numbers_of(optimizer)
    progress = {name: getattr(training, name) for name in (*PROGRESS, "resumed")}
    try:
        yield
    except BaseException:
        for name, value in numbers.items():
            setattr(optimizer, name, value)
        net.load_state_dict(values)
        optimizer.schedule = schedule
        optimizer.restore(memory)
        training.history.clear()
        training.history.update(history)
        for name, value in progress.items():
            setattr(training, name, value)
        raise


def restore_callbacks(state: TrainingState, callbacks: Sequence[Callback]) -> list[str]:
    """Give callbacks back what they remembered; return a sentence on what has no owner, or none.

    Raises
    ------
    CheckpointError
        If a callback does not take it.
    """
    named, states = name_callbacks(callbacks), state.about["callbacks"]
    for name in filter(named.__contains__, states):
        start = f"{name}."
        own = {k.removeprefix(start): a for k, a in state.arrays.items() if k.startswith(start)}
        try:
            named[name].load_state_dict(joined_state(states[name]) | own)
        except (XpnetError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise CheckpointError(f"{state.source}: {name} does not take it ({error})") from None
    words = [f"what {name} remembered has no use now" for name in states if name not in named]
    anew = [name for name in state.about["settings"].get("callbacks", {}) if name not in states]
    return words + [f"there is nothing that {name} remembered: it begins anew" for name in anew]


def other_bits(state: TrainingState, xp: Backend, processes: int) -> str:
    """Return in what the present `machine` differs, if the last bits may therefore differ."""
    now, then = machine(xp, processes), {"processes": 1} | state.about["machine"]
    if gives_the_same_bits(xp, then):
        return ""
    return "; ".join(f"{k} was {then.get(k)}, is {v}" for k, v in now.items() if then.get(k) != v)


def _callback_states(callbacks: Sequence[Callback]) -> tuple[Arrays, dict[str, dict[str, Any]]]:
    """Return what the callbacks remember: the arrays, and for each callback the rest."""
    arrays: Arrays = {}
    states: dict[str, dict[str, Any]] = {}
    for name, callback in name_callbacks(callbacks).items():
        own, states[name] = split_state(name, callback.state_dict())
        arrays |= {f"{name}.{k}": v for k, v in own.items()}
    return arrays, states


def machine(xp: Backend, processes: int) -> dict[str, Any]:
    """Return what the bits of a training may depend on."""
    found = settings(xp) | {"processes": processes, "numpy": np.__version__, "blas": _blas()}
    return {name: found[name] for name in ("backend", "processes", *found)}


def _blas() -> list[str]:
    """Return what NumPy multiplies matrices with; "unknown" without threadpoolctl."""
    try:
        from threadpoolctl import threadpool_info
    except (Exception, SystemExit):  # it is not installed, or is damaged
        return ["unknown"]
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    place = str(Path(np.__file__).parent)  # other libraries may have brought a BLAS of their own
    own = [pool for pool in pools if pool["filepath"].startswith(place)] or pools
    words = ("internal_api", "version", "architecture", "num_threads")
    blas = [", ".join(f"{word} {pool.get(word)}" for word in words) for pool in own]
    return sorted(blas)
