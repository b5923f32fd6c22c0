"""Sequential: layers in a row, with all their parameters in one flat vector.

One vector of parameters and one of gradients, of which the layers hold views: an optimizer step is
one operation over one vector, and so is a copy, a hash or a sum over many machines.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from inspect import Parameter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, ref

import numpy as np

from xpnet.backend import Array, Backend, find_backend, get_backend
from xpnet.backend.random import Random
from xpnet.layers.base import Layer, Shape
from xpnet.storage.archive import write_archive
from xpnet.support.checks import count, on_host
from xpnet.support.errors import CheckpointError, DataError, OptionError, ShapeError, XpnetError
from xpnet.support.messages import look_up, unknown

if TYPE_CHECKING:
    from xpnet.layers.graph import Graph
    from xpnet.optimizers import Optimizer

DTYPES = ("float32", "float64")
LAYOUTS: dict[str, Callable[[Layer], dict[str, Array]]] = {
    "xpnet": lambda layer: layer.xpnet_values(),
    "torch": lambda layer: layer.torch_values(),
}
PREDICTION_BATCH = 1024  # rows per pass during prediction: activations stay in the cache


class Sequential(Layer):
    """Layers in a row: Y = fₖ(... f₂(f₁(X))), and dX = f₁'(... fₖ'(dY)).

    Parameters
    ----------
    *layers : Layer
        At least one; another `Sequential` counts as a layer.
    dtype : str or dtype
        ``"float32"`` or ``"float64"``, of parameters, activations and gradients.
    seed : int
        Of the initial weights and the dropout masks; the same numbers on every backend.
    backend : str or Backend, optional
        See `xpnet.set_backend`; the default backend if left out.

    Attributes
    ----------
    params, grads : array, shape (n,)
        All parameters and all gradients; each layer's ``W`` and ``dW`` are views.
    xp : Backend
        The backend that computes.
    layers : list of Layer

    Raises
    ------
    ShapeError
        If a layer cannot take what the one before gives.

    Examples
    --------
    >>> import numpy as np, xpnet
    >>> net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    >>> net.forward(np.zeros((4, 2), np.float32)).shape
    (4, 1)
    """

    def __init__(
        self,
        *layers: Layer,
        dtype: Any = "float32",
        seed: int = 0,
        backend: str | Backend | None = None,
    ) -> None:
        super().__init__()
        self.layers = _checked_layers(layers)
        self.seed = count("seed", seed, least=0)
        self.xp = get_backend() if backend is None else find_backend(backend)
        self.dtype = _checked_dtype(dtype, self.xp)
        self.version = 0  # another number whenever there are new arrays; see `Backend.renew`
        self.capacity = 0  # the batch size that the buffers were built for
        self.sample_shape: Shape | None = None  # ... and the shape of one sample
        self._input_gradient = False
        self._steps: list[Any] = []  # the layers, two in one where that saves a pass
        self._first_with_gradient, self._output_shape = 0, ()
        self.optimizers: WeakSet[Optimizer] = WeakSet()  # they move along in `to`
        self._params: Array | None = None
        self._grads: Array | None = None
        self.in_use = threading.RLock()  # by the thread that predicts with it, or trains it
        found = [layer.pixels for layer in self.layers]
        self.pixels = next((pixels for pixels in found if pixels != "passes"), "passes")
        self.output_shape(None)
        for layer in self.layers:
            layer.owner = ref(self)

    def __repr__(self) -> str:
        return f"Sequential({', '.join(map(repr, self.layers))})"

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: int) -> Layer:
        return self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    # ---- the two loops ------------------------------------------------------------------------

    def forward(self, X: Array) -> Array:
        """Return the output of the last layer, an array that the next call overwrites.

        Parameters
        ----------
        X : array, shape (n, *sample shape)
            On the network's backend. uint8 means pixels k that stand for k/255.

        Raises
        ------
        MixedArraysError
            If X is an array of another backend.
        ShapeError
            If a sample has another shape than the first layer takes.
        """
        X = self._received(X)
        for step in self._steps:
            X = step.forward(X)
        self._output_shape = X.shape
        return X

    def backward(self, dY: Array) -> Array | None:
        """Write the gradient of every parameter, given that of the output of the last `forward`.

        Returns the gradient of the input, or None where it is not needed (see `input_gradient`).
        """
        if not self.capacity:
            raise XpnetError("backward needs the forward pass of the batch first: net.forward(X)")
        self.xp.require(dY, "the network", "dY")
        if dY.shape != self._output_shape:
            raise ShapeError(
                f"dY must have the shape of the last output, {self._output_shape}; got {dY.shape}"
            )
        dY = dY if dY.dtype == self.dtype else self._cast(dY, "dY")
        for step in reversed(self._steps[self._first_with_gradient :]):
            dY = step.backward(dY)
        self.xp.join()
        return dY if self._input_gradient else None

    def predict(self, X: Any) -> Array:
        """Return the outputs for any number of samples, with Dropout and BatchNorm1d at rest.

        Any number of threads may predict with one network, also while another one trains it by
        `Trainer.fit`: they change nothing there, but may see parameters in the middle of a step.
        All else that a network does (`forward`, `backward`, `to` ...) is for one thread at a time.

        Parameters
        ----------
        X : array or list, shape (n, *sample shape)
            NumPy or CuPy, whatever the network's backend.

        Returns
        -------
        array, shape (n, *output shape)
            Of the kind that X was: NumPy for NumPy and lists. What is not finite stays so, without
            a warning.
        """
        from_device = not isinstance(X, np.ndarray) and self.xp.owns(X)
        X = X if from_device else on_host(X, "X")
        if X.ndim == 0 or len(X) == 0:
            raise DataError(f"predict needs at least one sample; got an array of shape {X.shape}")
        self._bound()
        if not self.in_use.acquire(blocking=False):
            return self.twin()._outputs(X, from_device)
        try:
            return self._outputs(X, from_device)
        finally:
            self.in_use.release()

    def _outputs(self, X: Array, from_device: bool) -> Array:
        """`predict` of checked samples, where no other thread uses the network."""
        xp, pieces = self.xp, []
        with xp.here(), self.evaluating(), np.errstate(all="ignore"):
            for start in range(0, len(X), PREDICTION_BATCH):
                Y = self.forward(xp.asarray(X[start : start + PREDICTION_BATCH]))
                pieces.append(Y.copy() if from_device else np.array(xp.asnumpy(Y)))
            return xp.module.concatenate(pieces) if from_device else np.concatenate(pieces)

    def twin(self) -> Sequential:
        """Return a network with the same parameters and states, and buffers of its own."""
        twin = super().twin()
        twin.layers, twin.capacity, twin._steps = [x.twin() for x in self.layers], 0, []
        return twin

    # ---- training or prediction ---------------------------------------------------------------

    def train(self, training: bool = True) -> None:
        """Let every layer behave as in training (the default) or as in prediction."""
        for _, layer in self.walk(""):
            layer.training = training
        self.training = training

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Behave as in prediction inside a ``with`` block."""
        layers = [self, *(layer for _, layer in self.walk(""))]
        before = [layer.training for layer in layers]
        self.train(False)
        try:
            yield
        finally:
            for layer, training in zip(layers, before, strict=True):
                layer.training = training

    # ---- shapes and memory --------------------------------------------------------------------

    def output_shape(self, shape: Shape | None) -> Shape | None:
        """Return the shape of one output; raises ShapeError naming the layer that does not fit."""
        for i, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(shape)
            except ShapeError as error:
                before = f", after {self.layers[i - 1]!r}," if i else ""
                raise ShapeError(f"layer {i}{before} does not fit: {error}") from None
        return shape

    def build(self, batch_size: int, input_shape: Shape, input_gradient: bool) -> None:
        """Make every layer's buffers for batches of up to ``batch_size`` samples."""
        self.version = self.xp.renew()
        self.capacity, self._input_gradient = 0, input_gradient  # until all have been made
        shape: Shape | None = input_shape
        for layer in self.layers:
            assert shape is not None
            layer.build(batch_size, shape, input_gradient)
            shape = layer.output_shape(shape)
            input_gradient = input_gradient or layer.size > 0
        self._arrange()
        self.capacity, self.sample_shape = batch_size, input_shape

    def _arrange(self) -> None:
        """Put two layers in one where that saves a pass; find the first that needs a gradient."""
        self._steps, layers = [], list(self.layers)
        wanted = self._input_gradient
        self._first_with_gradient = 0
        while layers:
            layer = layers.pop(0)
            both = layer.followed_by(layers[0]) if layers else None
            if both is not None:
                layers.pop(0)
            wanted = wanted or layer.size > 0
            self._first_with_gradient += not wanted
            self._steps.append(both or layer)

    @property
    def input_gradient(self) -> bool:
        """Whether `backward` returns the gradient of the input; off at first, as it costs time."""
        return self._input_gradient

    @input_gradient.setter
    def input_gradient(self, wanted: bool) -> None:
        self._input_gradient, self.capacity = wanted, 0  # the next forward makes the buffers

    def _received(self, X: Array) -> Array:
        """Return X in the network's dtype, with the buffers ready for it."""
        if isinstance(X, list | tuple):
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
        if X.ndim < 2:
            raise ShapeError(
                f"a batch has the shape (samples, features); got {X.shape}"
                + (", a single sample? use X[None, :]" if X.ndim == 1 else "")
            )
        sample_shape = tuple(X.shape[1:])
        if 0 in sample_shape:
            raise ShapeError(f"a sample needs at least one value; got a batch of shape {X.shape}")
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

    # ---- parameters ---------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """The number of trainable values."""
        return sum(layer.size for layer in self.layers)

    @property
    def params(self) -> Array:
        """All parameters, one flat vector."""
        self._bound()
        return self._params

    @property
    def grads(self) -> Array:
        """All gradients, one flat vector; every `backward` overwrites it."""
        self._bound()
        return self._grads

    def walk(self, path: str) -> list[tuple[str, Layer]]:
        """Return all layers, those of nested networks too, with their paths such as ``"2.0"``."""
        prefix = f"{path}." if path else ""
        return [pair for i, layer in enumerate(self.layers) for pair in layer.walk(f"{prefix}{i}")]

    def initial_values(self, random: Random) -> list[np.ndarray[Any, Any]]:
        """Return the starting values of all layers; those that already have some keep them."""
        return [value for layer in self.layers for value in layer.initial_values(random)]

    def bind(self, xp: Backend, params: Array, grads: Array) -> None:
        """Take the pieces of the flat vectors and hand them on to the layers."""
        self.version = xp.renew()
        self.xp, self.dtype, self.capacity, self.sample_shape = xp, params.dtype, 0, None
        self._steps = []
        start = 0
        for layer in self.layers:
            piece = slice(start, start + layer.size)
            layer.bind(xp, params[piece], grads[piece])
            start += layer.size
        self._params, self._grads = params, grads  # last: other threads see that all is there

    def _bound(self) -> None:
        """Give the parameters their first values; later calls do nothing."""
        if self._params is None:
            with self.in_use:
                if self._params is None:  # still: no other thread has been faster
                    self._begin()

    def _begin(self) -> None:
        """Place the first values."""
        values = self.initial_values(Random(self.seed, "weights"))
        flat = np.concatenate([np.ravel(v) for v in values]) if values else np.zeros(0)
        random = Random(self.seed, "state")
        fresh = [layer.initial_state(random) for _, layer in self.walk("")]
        states = [new | old for new, old in zip(fresh, self.host_states(), strict=True)]
        self._place(flat, np.zeros_like(flat), states)

    def host_states(self) -> list[dict[str, np.ndarray[Any, Any]]]:
        """Return a copy of the state of each layer on the host."""
        return [
            {name: np.array(layer.xp.asnumpy(value)) for name, value in layer.state.items()}
            for _, layer in self.walk("")
        ]

    def _place(
        self, params: Any, grads: Any, states: list[dict[str, np.ndarray[Any, Any]]]
    ) -> None:
        """Put values from the host on the backend, floating ones in the network's dtype."""

        def placed(a: np.ndarray[Any, Any]) -> Array:
            return self.xp.asarray(a, self.dtype if a.dtype.kind in "fc" else a.dtype)

        for (_, layer), state in zip(self.walk(""), states, strict=True):
            layer.state = {name: placed(value) for name, value in state.items()}
        self.bind(self.xp, placed(params), placed(grads))

    def to(self, backend: str | Backend | None = None, dtype: Any = None) -> Sequential:
        """Move parameters, gradients, layer state and optimizer state, in place.

        Parameters
        ----------
        backend : str or Backend, optional
            See `xpnet.set_backend`; a name keeps the mode, reproducible or not.
        dtype : str or dtype, optional
            ``"float32"`` or ``"float64"``.

        Returns
        -------
        Sequential
            The network itself.
        """
        xp = self.xp if backend is None else self._backend(backend)
        checked = _checked_dtype(self.dtype if dtype is None else dtype, xp)
        params, grads = (
            np.array(self.xp.asnumpy(self.params)),
            np.array(self.xp.asnumpy(self.grads)),
        )
        states = self.host_states()
        optimizers = [(o, o.host_state()) for o in self.optimizers]
        self.xp, self.dtype = xp, checked
        self._place(params, grads, states)
        for optimizer, state in optimizers:
            optimizer.restore(state)
        return self

    def _backend(self, name: str | Backend) -> Backend:
        """Return a backend; one that is named has the mode, reproducible or not, of the present."""
        given = isinstance(name, Backend)
        return find_backend(name, None if given else self.xp.reproducible)

    def copy(self) -> Sequential:
        """Return an independent copy: same values, no optimizer attached."""
        return deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle needs; optimizers stay with the original."""
        state = super().__getstate__()
        del state["optimizers"], state["in_use"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self.optimizers, self.in_use = WeakSet(), threading.RLock()
        for layer in self.layers:
            layer.owner = ref(self)
        if self._params is not None:  # the copied layers hold views of nothing yet
            self.bind(self.xp, self._params, self._grads)

    def state_dict(self, layout: str = "xpnet") -> dict[str, np.ndarray[Any, Any]]:
        """Return a copy of every parameter and state value by name, on the host.

        Parameters
        ----------
        layout : str
            ``"xpnet"``: all of them, by names such as ``"0.W"``. ``"torch"``: those that a
            ``torch.nn.Sequential`` of the same layers has, by its names, such as ``"0.weight"``,
            and in its shapes, such as (n_out, n_in).

        Raises
        ------
        OptionError
            If there is no such layout.
        """
        arrays = self._named_arrays(layout)
        return {name: np.array(self.xp.asnumpy(a), order="C") for name, a in arrays.items()}

    def load_state_dict(self, values: Mapping[str, Any], layout: str = "xpnet") -> None:
        """Set every value that `state_dict` of that layout gives.

        Parameters
        ----------
        values : mapping of str to array
            NumPy or CuPy arrays, lists, tensors of PyTorch in the host's memory.
        layout : str
            ``"xpnet"`` or ``"torch"``, see `state_dict`.

        Raises
        ------
        DataError
            If a name is missing or unknown, or a value is no number.
        ShapeError
            If a value has another shape; nothing is changed then.
        OptionError
            If there is no such layout.
        """
        arrays = self._named_arrays(layout)
        new = {name: on_host(a, f"the parameter {name!r}") for name, a in values.items()}
        check_shapes({name: a.shape for name, a in new.items()}, arrays)
        for name, a in arrays.items():
            self.xp.copyto(a, self.xp.asarray(new[name], a.dtype))

    def _named_arrays(self, layout: str = "xpnet") -> dict[str, Array]:
        """Return all values by name, each as a view through which it can be set."""
        views = look_up("layout", layout, LAYOUTS)
        self._bound()
        return {
            f"{path}.{name}": a for path, layer in self.walk("") for name, a in views(layer).items()
        }

    def to_onnx(self, graph: Graph, X: str) -> str:
        """Add the nodes of all layers; see `xpnet.exchange.to_onnx`."""
        for i, layer in enumerate(self.layers):
            X = graph.layer(str(i), layer, X)
        return X

    def config(self) -> dict[str, Any]:
        """Return what makes such a network again: the type and the arguments of each layer."""
        layers = [[type(layer).__name__, _arguments(layer)] for layer in self.layers]
        return {"layers": layers, "dtype": self.dtype.name, "seed": self.seed}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write architecture and values to a file, which appears whole or not at all.

        Parameters
        ----------
        path : str or os.PathLike
            An ``.npz``: `xpnet.load` makes the network again, and ``numpy.load`` reads the arrays.

        Raises
        ------
        CheckpointError
            If an argument of a layer cannot be stored; see `Layer.config`.
        OSError
            If the file cannot be written; an old one stays as it was.
        """
        write_archive(Path(path), self.state_dict(), {"network": self.config()})

    def sha256(self) -> str:
        """Return the SHA-256 of all parameters, in order, as little-endian bytes."""
        host = self.xp.asnumpy(self.params)
        return hashlib.sha256(host.astype(host.dtype.newbyteorder("<")).tobytes()).hexdigest()

    def summary(self) -> str:
        """Return a table of the layers, their output shapes and their parameters."""
        rows = [("layer", "", "output", "parameters")]
        shape = self.sample_shape
        for i, layer in enumerate(self.layers):
            shape = layer.output_shape(shape)
            shown = "?" if shape is None else " x ".join(map(str, shape))
            rows.append((str(i), repr(layer), shown, f"{layer.size:,}"))
        rows.append(("", "in all", "", f"{self.size:,}"))
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        return "\n".join(
            f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}"
            for a, b, c, d in rows
        )


def _arguments(layer: Layer) -> dict[str, Any]:
    """Return what makes the layer again, after checking that a file can hold it."""
    given, wanted = layer.config(), inspect.signature(type(layer).__init__).parameters
    kinds = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    needed = [p.name for p in list(wanted.values())[1:] if p.default is p.empty]
    needed = [name for name in needed if wanted[name].kind not in kinds]
    missing = [f"{name} is not kept" for name in needed if name not in given]
    try:
        json.dumps(given, allow_nan=False)
    except (TypeError, ValueError) as error:
        missing.append(str(error))
    if missing:
        raise CheckpointError(
            f"{layer!r} cannot be saved: {missing[0]}; keep each argument of its __init__ under "
            "its own name, or define config()"
        )
    return given


def _checked_layers(layers: tuple[Any, ...]) -> list[Layer]:
    """Return the layers as a list, after checking that each is a layer and stands there once."""
    if not layers:
        raise OptionError("Sequential needs at least one layer")
    for i, layer in enumerate(layers):
        if not isinstance(layer, Layer):
            hint = f"; write {layer.__name__}()" if isinstance(layer, type) else ""
            raise OptionError(f"layer {i} of Sequential is no layer: {layer!r}{hint}")
        if not hasattr(layer, "parameters"):
            name = type(layer).__name__
            raise OptionError(f"layer {i}: call super().__init__() in {name}.__init__ first")
    inner = [leaf for i, layer in enumerate(layers) for _, leaf in layer.walk(str(i))]
    seen: set[int] = set()
    for layer in inner:
        if id(layer) in seen:
            raise OptionError(
                f"{layer!r} stands in the network twice; its second gradient would overwrite the "
                "first, so make one object for each place"
            )
        seen.add(id(layer))
    for i, layer in enumerate(layers):
        owner = layer.owner()
        if owner is not None and any(layer is own for own in owner.layers):
            raise OptionError(
                f"layer {i}, {layer!r}, belongs to another network; make a new layer, or a copy of "
                "the network with net.copy()"
            )
    return list(layers)


def check_shapes(found: Mapping[str, Shape], wanted: Mapping[str, Array]) -> None:
    """Check that values have the names and the shapes of some others.

    Raises
    ------
    DataError
        If a name is missing or unknown.
    ShapeError
        If a shape is another.
    """
    for name in found:
        if name not in wanted:
            raise DataError(unknown("parameter", str(name)[:80], wanted))
    for name, a in wanted.items():
        if name not in found:
            raise DataError(f"no value for the parameter {name!r}, shape {a.shape}")
        if found[name] != a.shape:
            raise ShapeError(f"the parameter {name!r} has the shape {a.shape}; got {found[name]}")


def _checked_dtype(dtype: Any, xp: Backend) -> np.dtype[Any]:
    """Return the dtype, if a network on that backend can have it."""
    try:
        checked: np.dtype[Any] = np.dtype("none" if dtype is None else dtype).newbyteorder("=")
    except TypeError:
        raise OptionError(unknown("dtype", dtype, DTYPES)) from None
    if checked.name not in (*DTYPES, "complex128"):  # complex: for the gradient check
        raise OptionError(unknown("dtype", checked.name, DTYPES))
    if checked.name not in xp.dtypes:
        who, way_out = f"the backend {xp.name!r}", "use the backend 'numpy'"
        if xp.reproducible:
            who = "reproducible mode"
            way_out = "leave the mode with reproducible=False, or with net.to(net.xp.ordinary)"
        raise OptionError(
            f"{who} takes networks of {' or '.join(xp.dtypes)}; got {checked.name}; {way_out}"
        )
    return checked
