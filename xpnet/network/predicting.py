"""Prediction: any number of samples, any number of threads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from xpnet.backend import Array
from xpnet.layers.base import Layer
from xpnet.network.checks import check_batch, check_values
from xpnet.network.layer_list import LayerList
from xpnet.network.storing import Storing
from xpnet.network.watching import LastBatch, depends_on_training
from xpnet.support.attributes import Fixed, require_known_in
from xpnet.support.checks import on_host, yes_or_no

PREDICTION_BATCH = 1024  # rows per pass during prediction: activations stay in the cache


class Predicting(Storing):
    """The part of a network that predicts.

    Attributes
    ----------
    in_use : lock
        A thread holds the lock while it predicts with the network, or trains it.
    """

    capacity: int
    _last: LastBatch
    in_use: Any = Fixed()  # an RLock
    _arranged: list[Any]
    _training = True

    def predict(self, X: Any) -> Array:
        """Return the outputs for any number of samples, with Dropout and BatchNorm1d at rest.

        Any number of threads may predict with one network, also while another one trains it by
        `Trainer.fit`: they change nothing there, but may see parameters in the middle of a step.
        All else that a network does (`forward`, `backward`, `to` ...) is for one thread at a time.

        Parameters
        ----------
        X : array or list, shape (n, *sample shape)
            NumPy or CuPy, whatever the network's backend; also frames, tensors and others, see
            docs/data.md. uint8 in arrays means pixels k that stand for k/255.

        Returns
        -------
        array, shape (n, *output shape)
            Of the kind that X was: NumPy for NumPy and lists. Outputs that are not finite stay so,
            without a warning.

        Raises
        ------
        DataError, ShapeError
            If X does not hold finite numbers of the right shape; the first wrong value is named.
        """
        from_device = not isinstance(X, np.ndarray) and self.xp.owns(X)
        X = X if from_device else on_host(X, "X")
        check_batch(X)
        self._bound()
        require_known_in(self)
        if not self.in_use.acquire(blocking=False):
            return self.twin()._outputs(X, from_device)
        try:
            if self._last.awaited:  # backward needs what the buffers hold
                return self.twin()._outputs(X, from_device)
            return self._outputs(X, from_device)
        finally:
            self.in_use.release()

    def _outputs(self, X: Array, from_device: bool) -> Array:
        """`predict` of checked samples, where no other thread uses the network."""
        try:
            return self._forward_all(X, from_device)
        finally:
            self._forget(" again; predict has used the buffers since")

    def _forget(self, why: str) -> None:
        """Note that `backward` has nothing to go on, and why."""
        last = self._last
        last.shape, last.awaited, last.lost = None, False, why
        for layer in self.layers:
            if isinstance(layer, Predicting):
                layer._forget(why)

    def _forward_all(self, X: Array, from_device: bool) -> Array:
        """Return the outputs for any number of samples, some at a time."""
        xp, pieces = self.xp, []
        with xp.here(), self.evaluating(), np.errstate(all="ignore"):
            step = self.prediction_batch(len(X))
            for start in range(0, len(X), step):
                piece = X[start : start + step]
                check_values(piece, self.dtype, first=start, xp=xp if from_device else None)
                Y = self.forward(xp.asarray(piece))
                pieces.append(Y.copy() if from_device else np.array(xp.asnumpy(Y)))
            return xp.module.concatenate(pieces) if from_device else np.concatenate(pieces)

    def prediction_batch(self, n: int) -> int:
        """Return how many of n samples one pass takes: all, where a layer needs them together."""
        if n <= PREDICTION_BATCH:
            return PREDICTION_BATCH
        return PREDICTION_BATCH if all(layer.splits for layer in self._all_layers()) else n

    def twin(self) -> Self:
        """Return a network with the same parameters and states, and buffers of its own."""
        twin = super().twin()
        twin._layers = LayerList(twin, [x.twin() for x in self.layers])
        twin.capacity, twin._arranged, twin._last = 0, [], LastBatch()
        return twin

    # ---- training or prediction ---------------------------------------------------------------

    @property
    def training(self) -> bool:
        """False during prediction; setting it is `train`."""
        return self._training

    @training.setter
    def training(self, training: bool) -> None:
        self.train(training)

    def train(self, training: bool = True) -> None:
        """Let every layer behave as in training (the default) or as in prediction."""
        training, layers = yes_or_no("training", training), self._all_layers()
        self._set_modes(layers, training, [training] * len(layers))

    def _all_layers(self) -> list[Layer]:
        """Return the layers, those of nested networks too."""
        return [layer for _, layer in self.walk("")]

    def _set_modes(self, layers: list[Layer], own: bool, modes: list[bool]) -> None:
        """Set the mode of the network and of each layer."""
        self._training = own
        for layer, training in zip(layers, modes, strict=True):
            if layer.training != training:
                layer.training = training
                kind: Any = type(layer)
                if self._last.shape is not None and depends_on_training(kind):
                    self._forget(f" again; {layer!r} was set to training={training} since")

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Behave as in prediction inside a ``with`` block."""
        layers = self._all_layers()
        own, before = self._training, [layer.training for layer in layers]
        self._set_modes(layers, False, [False] * len(layers))
        try:
            yield
        finally:
            self._set_modes(layers, own, before)
