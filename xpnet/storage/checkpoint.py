"""Checkpoints: networks and whole trainings in files, so that nothing that was learnt is lost.

A checkpoint is the file of a network and, beside it, all that decides how its training goes on:
the optimizer's memory, the place in the epoch, the losses so far, the history, and what the
callbacks remember. Shuffles and dropout masks follow from a seed and from counters, so the numbers
of a generator need not be kept.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Backend
from xpnet.initializers import Constant
from xpnet.layers import LAYERS, Layer
from xpnet.network import DTYPES, Sequential
from xpnet.schedules import Constant as ConstantRate
from xpnet.storage.archive import Arrays, read_archive, write_archive
from xpnet.support.checks import count, positive
from xpnet.support.errors import CheckpointError, DataError, OptionError, ShapeError, XpnetError
from xpnet.support.files import sweep, writing
from xpnet.support.messages import unknown
from xpnet.training.callbacks import Callback

if TYPE_CHECKING:
    from xpnet.training.trainer import Trainer

NAME = "step-{:09d}.npz"
LOGGER = logging.getLogger("xpnet")


# ---- networks -----------------------------------------------------------------------------------


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
        Layers of your own that the network has.

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
    path = Path(path)
    arrays, about = read_archive(path)
    values = _of_the_network(arrays)
    known = {**LAYERS, **{layer.__name__: layer for layer in layers}}
    try:
        dtype, seed, made = _read_config(about.get("network"), known)
        _check_shapes(made, values)
    except (XpnetError, TypeError, ValueError, RecursionError) as error:
        raise _no_network(path, error) from None
    try:
        net = Sequential(*made, dtype=dtype, seed=seed, backend=backend)
        net.load_state_dict(values)
    except (DataError, ShapeError) as error:
        raise _no_network(path, error) from None
    return net


def _of_the_network(arrays: Arrays) -> Arrays:
    """Return the values of the network: their names begin with the number of a layer."""
    return {name: a for name, a in arrays.items() if name[0].isdigit()}


def _no_network(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path} holds no network that can be made ({error}); use another copy of it, and give "
        "layers of your own as load(path, layers=[...])"
    )


def _read_config(config: Any, known: Mapping[str, type[Layer]]) -> tuple[str, int, list[Layer]]:
    """Return dtype, seed and new layers, from a description in a file."""
    if not isinstance(config, dict) or config.get("dtype") not in DTYPES:
        raise ValueError("it has no description of a network")
    seed = config.get("seed")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"its seed is {seed!r:.40}")
    layers = _layers(config.get("layers"), known)
    if not layers:
        raise ValueError("it has no layers")
    return config["dtype"], seed, layers


def _check_shapes(layers: list[Layer], values: Arrays) -> None:
    """See that the file has a value for each parameter, before memory is taken for any."""
    walked = [pair for i, layer in enumerate(layers) for pair in layer.walk(str(i))]
    for path, layer in walked:
        for name, parameter in layer.parameters.items():
            found = values.get(f"{path}.{name}")
            if found is None or found.shape != parameter.shape:
                raise ValueError(f"it has no {path}.{name} of the shape {parameter.shape}")
            parameter.init = Constant()  # the values come from the file


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
        return Sequential(*_layers(arguments.get("layers"), known), backend="numpy")
    if name not in known:
        raise ValueError(unknown("layer", name[:60], known))
    return known[name](**arguments)


# ---- trainings ----------------------------------------------------------------------------------


class Checkpoint(Callback):
    """Saves the whole training, so that ``trainer.fit(..., resume=folder)`` can go on with it.

    It saves after so many steps or minutes, or, if neither is given, after each epoch; and always
    at the end, and when Ctrl-C or SIGTERM ends the training. What is saved has been looked at: a
    training whose parameters are no longer finite does not overwrite a good checkpoint.

    Parameters
    ----------
    folder : str or os.PathLike
        Where ``step-000000700.npz`` and the like are; it is made if it is missing.
    every_steps : int, optional
        Save when so many steps have been taken since the last time. On a GPU, where steps are
        started 16 at once, it may be up to 15 later.
    every_minutes : float, optional
        Save when so many minutes have passed.
    keep : int
        How many of the latest are kept. With two or more, a damaged one does no harm.

    Raises
    ------
    OptionError
        If a number is out of range; by `fit`, if the folder has checkpoints of another training.
    XpnetError
        By `fit`, if the folder cannot be written or the disk is full. The checkpoints before stay,
        and the trainer is as it was: ``trainer.save`` can save it elsewhere.

    Examples
    --------
    >>> import xpnet
    >>> from xpnet.data import xor_gate
    >>> net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    >>> trainer, keeper = xpnet.Trainer(net, "bce_logits"), xpnet.Checkpoint("saved")
    >>> _ = trainer.fit(*xor_gate(), epochs=5, callbacks=[keeper], resume="saved")
    >>> [path.name for path in keeper.paths]
    ['step-000000003.npz', 'step-000000004.npz', 'step-000000005.npz']
    """

    every_step = False
    after_others = True
    once = True

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 3,
    ) -> None:
        self.folder, self.keep = Path(folder), count("Checkpoint: keep", keep)
        self.every_steps, self.every_minutes = every_steps, every_minutes
        if every_steps is not None:
            count("Checkpoint: every_steps", every_steps)
        if every_minutes is not None:
            positive("Checkpoint: every_minutes", every_minutes)
        self._of: Trainer | None = None

    @property
    def paths(self) -> list[Path]:
        """The checkpoints in the folder, the oldest first."""
        return find_checkpoints(self.folder)

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Make the folder ready; what belongs to another training is not touched."""
        with writing(self.folder, "choose another folder"):
            self.folder.mkdir(parents=True, exist_ok=True)
            sweep(self.folder)
            self._set_aside()
        self._of = self.trainer
        self._saved()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float]) -> None:
        """Save if it is time."""
        steps, minutes = self.every_steps, self.every_minutes
        if (steps and self.trainer.optimizer.t - self._t >= steps) or (
            minutes and time.monotonic() - self._time >= 60 * minutes
        ):
            self.save()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Save at the end, and if no other time has been asked for."""
        trainer = self.trainer
        at_the_end = trainer.stop or trainer.epoch == trainer.epochs
        if at_the_end or not (self.every_steps or self.every_minutes):
            self.save()

    def on_interrupt(self) -> None:
        """Save before the training ends."""
        self.save()

    def save(self) -> None:
        """Write a checkpoint, and remove those that are too old."""
        with writing(self.folder, "make room for it; the checkpoints before it are intact"):
            self.trainer.save(self.folder / NAME.format(self.trainer.optimizer.t))
            for path in self.paths[: -self.keep]:
                path.unlink(missing_ok=True)
        self._saved()

    def _saved(self) -> None:
        self._t, self._time = self.trainer.optimizer.t, time.monotonic()

    def _set_aside(self) -> None:
        """Rename checkpoints of later steps: damaged ones, or those of a way that was left.

        A training that begins anew must not do that: they belong to another one.
        """
        trainer = self.trainer
        if self.paths and not trainer.resumed and self._of is not trainer:
            raise OptionError(
                f"the folder {self.folder} has checkpoints of a training; go on with it by "
                f"fit(..., resume={str(self.folder)!r}), or choose another folder"
            )
        for path in self.paths:
            if path.name > NAME.format(trainer.optimizer.t):
                path.replace(path.with_name(f"{path.name}.aside"))


def save_training(path: Path, trainer: Trainer, values: Arrays) -> None:
    """Write the file of a training: of the network and its values, the trainer, its callbacks."""
    net, optimizer, batch = trainer.net, trainer.optimizer, trainer.batch
    memory = optimizer.host_state()
    arrays = values | {
        "losses": np.array(net.xp.asnumpy(trainer.losses))[:batch],
        **{f"optimizer.{k}": memory[k] for k in optimizer.state_vectors()},
        **{f"history.{k}": np.array(row) for k, row in enumerate(trainer.history.values())},
    }
    states: dict[str, dict[str, Any]] = {}
    for name, callback in _named(trainer.callbacks).items():
        state = callback.state_dict()
        arrays |= {f"{name}.{k}": v for k, v in state.items() if isinstance(v, np.ndarray)}
        states[name] = {k: v for k, v in state.items() if not isinstance(v, np.ndarray)}
    about = {
        "network": net.config(),
        "settings": settings_of(trainer),
        "progress": {name: getattr(trainer, name) for name in PROGRESS},
        "t": optimizer.t,
        "lr": optimizer.lr if isinstance(optimizer.schedule, ConstantRate) else None,
        "history": list(trainer.history),
        "callbacks": states,
        "machine": _machine(net.xp, trainer.comm.size),
    }
    write_archive(path, arrays, about)


PROGRESS = ("epoch", "batch", "first_epoch", "epochs", "stop")


def settings_of(trainer: Trainer) -> dict[str, Any]:
    """Return what must be as it was, for a training to go on."""
    optimizer, batches = trainer.optimizer, trainer.batches
    return {
        "loss": repr(trainer.loss),
        "optimizer": type(optimizer).__name__,
        "constant lr": isinstance(optimizer.schedule, ConstantRate),
        "seed": trainer.seed,
        "samples": batches.n,
        "batch_size": batches.batch_size,
        "shuffle": batches.shuffle,
    }


def find_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, the oldest first."""
    return sorted(folder.glob("step-*[0-9].npz")) if folder.is_dir() else []


def find_training(path: Path) -> SavedTraining | None:
    """Return a checkpoint, or the latest one of a folder that is not damaged; None without any.

    Raises
    ------
    CheckpointError
        If it is damaged, or all in the folder are.
    """
    if path.suffix == ".npz":
        return SavedTraining(path)
    problems: list[str] = []
    for candidate in reversed(find_checkpoints(path)):
        try:
            found = SavedTraining(candidate)
        except CheckpointError as error:
            problems.append(str(error))
            continue
        for problem in problems:
            LOGGER.warning("%s; going on from the one before, %s", problem, candidate)
        return found
    if problems:
        raise CheckpointError("; ".join(problems))
    return None


class SavedTraining:
    """The checkpoint of a training, read and checked.

    Raises
    ------
    CheckpointError
        If it cannot be read, is damaged, or holds no training.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.arrays, self.about = read_archive(path)
        for name, fits in FITS.items():
            if name not in self.about or not fits(self.about[name]):
                what = "is damaged" if name in self.about else "is no checkpoint of a training"
                raise CheckpointError(f"{path} {what}: its {name} is {self.about.get(name)!r:.60}")

    def restore(self, trainer: Trainer) -> None:
        """Bring network, optimizer and trainer to where they were; nothing changes on an error.

        Raises
        ------
        CheckpointError
            If it is the checkpoint of another training.
        """
        arrays, about, progress = self.arrays, self.about, self.about["progress"]
        net, optimizer, batch = trainer.net, trainer.optimizer, progress["batch"]
        self._compare(trainer)
        memory = {k: arrays[f"optimizer.{k}"] for k in optimizer.state_vectors()}
        history = {name: arrays[f"history.{k}"] for k, name in enumerate(about["history"])}
        try:
            net.load_state_dict(_of_the_network(arrays))
        except (DataError, ShapeError) as error:
            raise CheckpointError(f"{self.path} is damaged: {error}") from None
        if about["lr"] is not None:
            optimizer.schedule = ConstantRate(about["lr"])
        optimizer.restore({"t": about["t"], **memory})
        net.xp.copyto(trainer.losses[:batch], net.xp.asarray(arrays["losses"], net.dtype))
        trainer.history.clear()
        trainer.history.update({name: row.tolist() for name, row in history.items()})
        for name in PROGRESS:
            setattr(trainer, name, progress[name])
        if trainer.comm.rank == 0:
            self._warn_of_other_bits(net.xp, trainer.comm.size)

    def _compare(self, trainer: Trainer) -> None:
        """See that the training is the same, and that each array is there."""
        about, optimizer = self.about, trainer.optimizer
        now = {"network": trainer.net.config(), **settings_of(trainer)}
        then = {"network": about["network"], **about["settings"]}
        shapes = {f"optimizer.{k}": v.shape for k, v in optimizer.state_vectors().items()}
        shapes["losses"] = (min(about["progress"]["batch"], len(trainer.batches)),)
        for name, value in json.loads(json.dumps(now)).items():
            if name not in then or then[name] != value:
                was = f"was {then.get(name)!r:.150}, and is {value!r:.150}"
                raise CheckpointError(f"{self.path} is of another training: the {name} {was}")
        for name, shape in shapes.items():
            if name not in self.arrays or self.arrays[name].shape != shape:
                raise CheckpointError(f"{self.path} is damaged: it has no {name} of shape {shape}")
        for k, name in enumerate(about["history"]):
            if getattr(self.arrays.get(f"history.{k}"), "ndim", None) != 1:
                raise CheckpointError(f"{self.path} is damaged: the history has no {name}")

    def restore_callbacks(self, trainer: Trainer) -> None:
        """Give the callbacks of the same names back what they remembered."""
        named = _named(trainer.callbacks)
        for name, state in self.about["callbacks"].items():
            if name not in named and trainer.comm.rank:
                continue  # it is on rank 0
            if name not in named:
                LOGGER.warning("%s: what %s remembered has no use now", self.path, name)
                continue
            start = f"{name}."
            own = {k.removeprefix(start): a for k, a in self.arrays.items() if k.startswith(start)}
            try:
                named[name].load_state_dict(state | own)
            except (XpnetError, KeyError, TypeError, ValueError) as error:
                raise CheckpointError(f"{self.path}: {name} does not take it ({error})") from None

    def _warn_of_other_bits(self, xp: Backend, processes: int) -> None:
        """Say what is different here, if the numbers may therefore differ in their last bits."""
        now, then = _machine(xp, processes), {"processes": 1} | self.about["machine"]
        different = [f"{k} was {then.get(k)}, is {v}" for k, v in now.items() if then.get(k) != v]
        if different and not (xp.reproducible and then.get("reproducible") is True):
            text = "; ".join(different)
            LOGGER.warning(
                "%s: the last bits may be others than without a stop: %s", self.path, text
            )


def _named(callbacks: Sequence[Callback]) -> dict[str, Callback]:
    """Return the callbacks that remember something, as EarlyStopping0, EarlyStopping1 ..."""
    named: dict[str, Callback] = {}
    for callback in callbacks:
        kind = type(callback)
        if kind.state_dict is not Callback.state_dict:
            k = sum(type(other) is kind for other in named.values())
            named[f"{kind.__name__}{k}"] = callback
    return named


def _machine(xp: Backend, processes: int) -> dict[str, Any]:
    """Return what the bits of a training depend on outside reproducible mode."""
    return {
        "backend": xp.name,
        "processes": processes,
        "reproducible": xp.reproducible,
        "numpy": np.__version__,
        "blas": _blas(),
    }


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


def _whole(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53


def _progress(value: Any) -> bool:
    """Tell whether that is how far a training can be."""
    if not isinstance(value, dict) or not isinstance(value.get("stop"), bool):
        return False
    wholes = [value.get(name) for name in PROGRESS if name != "stop"]
    return all(map(_whole, wholes)) and value["first_epoch"] <= value["epoch"]


# What the description of a training must hold, and how to see that it is that.
FITS: Mapping[str, Callable[[Any], bool]] = {
    "network": lambda value: isinstance(value, dict),
    "settings": lambda value: isinstance(value, dict),
    "progress": _progress,
    "t": _whole,
    "lr": lambda value: value is None or (type(value) is float and 0 < value < np.inf),
    "history": lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value),
    "callbacks": lambda value: (
        isinstance(value, dict) and all(isinstance(state, dict) for state in value.values())
    ),
    "machine": lambda value: isinstance(value, dict),
}
