"""How a training becomes a `TrainingState`, and goes on from one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.backend.mode import gives_the_same_bits, settings
from xpnet.data.batches import Batches
from xpnet.schedules import Constant
from xpnet.storage.training_state import PROGRESS, TrainingState
from xpnet.support.archive import Arrays
from xpnet.support.errors import CheckpointError, DataError, ShapeError, XpnetError
from xpnet.training.callbacks import Callback
from xpnet.training.step import TrainingStep
from xpnet.training.training import Training


def describe(
    training: Training, step: TrainingStep, callbacks: Sequence[Callback]
) -> TrainingState:
    """Return the state of a training between two steps."""
    net, optimizer, memory = training.net, training.optimizer, training.optimizer.host_state()
    remembered, states = _callback_states(callbacks)
    arrays = net.state_dict() | {
        "losses": np.array(net.xp.asnumpy(step.losses))[: training.batch],
        **{f"optimizer.{k}": memory[k] for k in optimizer.state_vectors()},
        **{f"history.{k}": np.array(row) for k, row in enumerate(training.history.values())},
    }
    about = {
        "network": net.config(),
        "settings": settings_of(training, step.batches),
        "progress": {name: getattr(training, name) for name in PROGRESS},
        "t": optimizer.t,
        "lr": optimizer.lr if isinstance(optimizer.schedule, Constant) else None,
        "history": list(training.history),
        "callbacks": states,
        "machine": machine(net.xp, training.comm.size),
    }
    return TrainingState(arrays | remembered, about)


def restore_values(state: TrainingState, training: Training, step: TrainingStep) -> None:
    """Give network, optimizer, losses and history the values of a state.

    Raises
    ------
    CheckpointError
        If it is the state of another training, or is damaged; nothing is changed then.
    """
    net, optimizer, about, arrays = training.net, training.optimizer, state.about, state.arrays
    vectors = optimizer.state_vectors()
    shapes = {f"optimizer.{k}": v.shape for k, v in vectors.items()}
    shapes["losses"] = (min(about["progress"]["batch"], len(step.batches)),)
    settings = settings_of(training, step.batches)
    state.require_same({"network": net.config(), **settings}, shapes)
    history = state.history
    memory = {k: arrays[f"optimizer.{k}"] for k in vectors}
    losses = net.xp.asarray(arrays["losses"], net.dtype)
    try:
        net.load_state_dict(state.network)
    except (DataError, ShapeError) as error:
        raise state.damaged(error) from None
    if about["lr"] is not None:
        optimizer.schedule = Constant(about["lr"])
    optimizer.restore({"t": about["t"], **memory})
    net.xp.copyto(step.losses[: len(losses)], losses)
    training.history.clear()
    training.history.update(history)


def restore_callbacks(state: TrainingState, callbacks: Sequence[Callback]) -> list[str]:
    """Give callbacks back what they remembered; return the names that no callback has now.

    Raises
    ------
    CheckpointError
        If a callback does not take it.
    """
    named, states = _named(callbacks), state.about["callbacks"]
    for name in filter(named.__contains__, states):
        start = f"{name}."
        own = {k.removeprefix(start): a for k, a in state.arrays.items() if k.startswith(start)}
        try:
            named[name].load_state_dict(states[name] | own)
        except (XpnetError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{state.source}: {name} does not take it ({error})") from None
    return [name for name in states if name not in named]


def other_bits(state: TrainingState, xp: Backend, processes: int) -> str:
    """Return in what the present `machine` differs, if the last bits may therefore differ."""
    now, then = machine(xp, processes), {"processes": 1} | state.about["machine"]
    if gives_the_same_bits(xp, then):
        return ""
    return "; ".join(f"{k} was {then.get(k)}, is {v}" for k, v in now.items() if then.get(k) != v)


def settings_of(training: Training, batches: Batches) -> dict[str, Any]:
    """Return what must be the same, for a training to go on."""
    return {
        "loss": repr(training.loss),
        "optimizer": type(training.optimizer).__name__,
        "constant lr": isinstance(training.optimizer.schedule, Constant),
        "seed": training.seed,
        "samples": batches.n,
        "batch_size": batches.batch_size,
        "shuffle": batches.shuffle,
    }


def _callback_states(callbacks: Sequence[Callback]) -> tuple[Arrays, dict[str, dict[str, Any]]]:
    """Return what the callbacks remember: the arrays, and for each callback the rest."""
    arrays: Arrays = {}
    states: dict[str, dict[str, Any]] = {}
    for name, callback in _named(callbacks).items():
        state = callback.state_dict()
        arrays |= {f"{name}.{k}": v for k, v in state.items() if isinstance(v, np.ndarray)}
        states[name] = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    return arrays, states


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Return the callbacks that remember something, as EarlyStopping0, EarlyStopping1 ..."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        kind = type(callback)
        if kind.state_dict is not Callback.state_dict:
            k = sum(type(other) is kind for other in named.values())
            named[f"{kind.__name__}{k}"] = callback
    return named


def machine(xp: Backend, processes: int) -> dict[str, Any]:
    """Return what the bits of a training may depend on."""
    found = settings(xp) | {"processes": processes, "numpy": np.__version__, "blas": _blas()}
    return {name: found[name] for name in ("backend", "processes", *found)}


def _blas() -> list[str]:
    """Return what NumPy multiplies matrices with; "unknown" without threadpoolctl."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return ["unknown"]
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    place = str(Path(np.__file__).parent)  # other libraries may have brought a BLAS of their own
    own = [pool for pool in pools if pool["filepath"].startswith(place)] or pools
    words = ("internal_api", "version", "architecture", "num_threads")
    blas = [", ".join(f"{word} {pool.get(word)}" for word in words) for pool in own]
    return sorted(blas)
