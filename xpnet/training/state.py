"""The state of a training as plain data: arrays, and a description that JSON can hold.

Beside the parameters it has all that decides how the training goes on: the optimizer's memory, the
place in the epoch, the losses so far, the history, and what the callbacks remember. Shuffles and
dropout masks follow from a seed and from counters, so the numbers of a generator need not be kept.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend
from xpnet.backend.mode import gives_the_same_bits, settings
from xpnet.data.batches import Batches
from xpnet.schedules import Constant
from xpnet.support.errors import CheckpointError, XpnetError
from xpnet.training.callbacks import Callback
from xpnet.training.step import TrainingStep
from xpnet.training.training import Training

Arrays = dict[str, NDArray[Any]]
PROGRESS = ("epoch", "batch", "first_epoch", "epochs", "stop")


@dataclass(frozen=True)
class TrainingState:
    """What `Trainer.state` returns, and `Trainer.restore` takes.

    Attributes
    ----------
    arrays : dict of str to array
        ``"0.W"`` and the like: the network. ``"optimizer..."``: its memory. ``"losses"``: those of
        the present epoch. ``"history.0"``...: each list of the history. And those of callbacks.
    about : dict
        The description: of the network, the settings, the progress, the callbacks ...
    source : str
        What errors call it: the path, if it comes from a file.
    """

    arrays: Arrays
    about: dict[str, Any]
    source: str = "the state"

    @property
    def network(self) -> Arrays:
        """The values of the network: their names begin with the number of a layer."""
        return {name: a for name, a in self.arrays.items() if name[0].isdigit()}

    @property
    def history(self) -> dict[str, list[float]]:
        """The history until then."""
        names = enumerate(self.about["history"])
        return {name: self.arrays[f"history.{k}"].tolist() for k, name in names}

    def require_fits(self, training: Training, batches: Batches) -> None:
        """Check that it is the state of this training, and that no array is missing.

        Raises
        ------
        CheckpointError
            If a setting differs, or an array is missing or has another shape.
        """
        memory = training.optimizer.state_vectors()
        now = {"network": training.net.config(), **settings_of(training, batches)}
        then = {"network": self.about["network"], **self.about["settings"]}
        shapes = {f"optimizer.{k}": v.shape for k, v in memory.items()}
        shapes["losses"] = (min(self.about["progress"]["batch"], len(batches)),)
        for name, value in json.loads(json.dumps(now)).items():
            if name not in then or then[name] != value:
                was = f"was {then.get(name)!r:.150}, and is {value!r:.150}"
                raise CheckpointError(f"{self.source} is of another training: the {name} {was}")
        for name, shape in shapes.items():
            if name not in self.arrays or self.arrays[name].shape != shape:
                raise self.damaged(f"it has no {name} of shape {shape}")
        for k, name in enumerate(self.about["history"]):
            if getattr(self.arrays.get(f"history.{k}"), "ndim", None) != 1:
                raise self.damaged(f"the history has no {name}")

    def damaged(self, why: object) -> CheckpointError:
        """Return the error for a state that cannot be restored."""
        return CheckpointError(f"{self.source} is damaged: {why}")

    def restore_callbacks(self, callbacks: Sequence[Callback]) -> list[str]:
        """Give callbacks back what they remembered; return the names that no callback has now.

        Raises
        ------
        CheckpointError
            If a callback does not take it.
        """
        named, states = _named(callbacks), self.about["callbacks"]
        for name in filter(named.__contains__, states):
            start = f"{name}."
            own = {k.removeprefix(start): a for k, a in self.arrays.items() if k.startswith(start)}
            try:
                named[name].load_state_dict(states[name] | own)
            except (XpnetError, KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"{self.source}: {name} does not take it ({error})") from None
        return [name for name in states if name not in named]

    def other_bits(self, xp: Backend, processes: int) -> str:
        """Return in what the present `machine` differs, if the last bits may therefore differ."""
        now, then = machine(xp, processes), {"processes": 1} | self.about["machine"]
        if gives_the_same_bits(xp, then):
            return ""
        return "; ".join(
            f"{k} was {then.get(k)}, is {v}" for k, v in now.items() if then.get(k) != v
        )


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
