"""What comes into a network: batches of numbers, or of pixels k that stand for k/255."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.network.checks import check_batch
from xpnet.network.fusions import arranged
from xpnet.network.predicting import Predicting
from xpnet.support.checks import must_be_read, on_host, yes_or_no
from xpnet.support.errors import DataError


class Receiving(Predicting):
    """The part of a network that takes a batch, and makes the buffers ready for it."""

    _input_gradient: bool
    _first_with_gradient: int

    @property
    def input_gradient(self) -> bool:
        """Whether `backward` returns the gradient of the input; off at first, as it costs time."""
        return self._input_gradient

    @input_gradient.setter
    def input_gradient(self, wanted: bool) -> None:
        self._input_gradient, self.capacity = yes_or_no("input_gradient", wanted), 0
        self._forget("; input_gradient was set since")  # the next forward makes the buffers

    def _arrange(self) -> None:
        """Fuse two layers where that saves a pass; find the first that needs a gradient."""
        arrangement = arranged(self.layers)
        self._arranged = [runs for runs, _ in arrangement]
        sizes = [size for _, size in arrangement]
        first = next((i for i, size in enumerate(sizes) if size), len(sizes))
        self._first_with_gradient = 0 if self._input_gradient else first
        self._last.seen.clear()

    def _received(self, X: Array) -> Array:
        """Return X in the network's dtype, with the buffers ready for it."""
        if must_be_read(X):
            X = self.xp.asarray(on_host(X, "X"))
        self.xp.require(X, "the network", "X")
        if X.ndim == 0 or X.shape[1:] != self.sample_shape or len(X) > self.capacity:
            self._prepare(X)
        return X if X.dtype == self.input_dtype(X.dtype) else self._converted(X)

    def input_dtype(self, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the type in which samples of some type come to the first layer."""
        stays = dtype == np.uint8 and self.pixels == "takes" and self.xp.takes_pixels
        return dtype if stays else self.dtype

    def _prepare(self, X: Array) -> None:
        """Build for a new kind of batch: a larger one, or samples of another shape."""
        self._bound()
        check_batch(X)
        sample_shape = tuple(X.shape[1:])
        self.output_shape(sample_shape)
        same = sample_shape == self.sample_shape
        self.build(max(len(X), self.capacity if same else 1), sample_shape, self.input_gradient)

    def _converted(self, X: Array) -> Array:
        """Return X in the network's dtype; uint8 means pixels k that stand for k/255."""
        converted = self._cast(X, "X")
        return self.xp.divide(converted, 255, out=converted) if X.dtype == np.uint8 else converted

    def _cast(self, A: Array, name: str) -> Array:
        """Return numbers in the network's dtype."""
        if A.dtype.kind not in "fiub":
            raise DataError(f"the network takes numbers; {name} has the dtype {A.dtype}")
        return self.xp.copyto(self.xp.empty(A.shape, self.dtype), A)
