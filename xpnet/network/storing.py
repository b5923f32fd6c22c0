"""The values of a network as a whole: moved, copied, named, saved."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Self
from weakref import WeakSet, ref

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.mode import in_mode_of
from xpnet.backend.random import Random
from xpnet.layers.base import Layer, Shape
from xpnet.network.checks import check_fits, check_shapes, check_state, checked_dtype, names_of
from xpnet.network.description import arguments
from xpnet.network.habits import Habits
from xpnet.network.layer_list import LayerList
from xpnet.network.watching import LastBatch
from xpnet.support.archive import write_archive
from xpnet.support.assigned import write
from xpnet.support.attributes import Managed, require_known_in
from xpnet.support.checks import count, file_of, on_host
from xpnet.support.errors import DataError, OptionError
from xpnet.support.messages import look_up
from xpnet.support.turns import require_free

Layout = Callable[[Layer], dict[str, Array]]
# The names and the shapes of the values of a layer; `xpnet.exchange` adds "torch".
LAYOUTS: dict[str, Layout] = {"xpnet": lambda layer: layer.xpnet_values()}
MAY_LACK: dict[str, str] = {}  # for a layout, a name of values that may be absent: they stay


class Storing(Layer, Habits):
    """The part of a network that looks after its values."""

    xp: Backend = Managed("net.to(backend) moves a network")  # type: ignore[assignment]
    dtype: Any = Managed("net.to(dtype=...) changes the type")
    _layers: LayerList
    _seed: int
    sample_shape: Shape | None
    optimizers: WeakSet[Any]
    _last: LastBatch
    _changes = 0  # of the list of layers
    _number_of_names = 0  # that attributes of network and layers have, when they were looked at
    _params: Array | None
    _grads: Array | None

    # ---- what makes the network ----------------------------------------------------------------

    @property
    def layers(self) -> LayerList:
        """The layers, a list: what is done with it takes effect, or is refused."""
        return self._layers

    @layers.setter
    def layers(self, layers: Any) -> None:
        if layers is not self._layers:  # as after ``net.layers += [...]``
            if not isinstance(layers, Iterable):
                raise OptionError(f"layers must be a list of layers; got {layers!r:.60}")
            self._layers.become(list(layers))

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, index: Any) -> Any:
        return self.layers[index]

    def __setitem__(self, index: Any, layer: Any) -> None:
        self.layers[index] = layer

    def __delitem__(self, index: Any) -> None:
        del self.layers[index]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    @property
    def seed(self) -> int:
        """The seed of the first values; it is fixed when there are some."""
        return self._seed

    @seed.setter
    def seed(self, seed: int) -> None:
        if self._params is not None and seed != self._seed:
            raise OptionError(
                f"seed of {self!r:.60} cannot be changed: the first values have been made of it; "
                f"make a new network with seed={seed!r}"
            )
        self._seed = count("seed", seed, least=0)

    # ---- the flat vectors ----------------------------------------------------------------------

    @property
    def params(self) -> Array:
        """All parameters, one flat vector."""
        self._bound()
        return self._params

    @params.setter
    def params(self, values: Any) -> None:
        write(self.xp, f"params of {self!r:.60}", self.params, values)

    @property
    def grads(self) -> Array:
        """All gradients, one flat vector; every `backward` overwrites it."""
        self._bound()
        return self._grads

    @grads.setter
    def grads(self, values: Any) -> None:
        write(self.xp, f"grads of {self!r:.60}", self.grads, values)

    def _bound(self) -> None:
        """Give the parameters their first values; later calls do nothing."""
        if self._params is None:
            with self.in_use:
                if self._params is None:  # still: no other thread has been faster
                    self._begin()

    def _begin(self, *change: int) -> None:
        """Place the first values; those of layers that have some stay."""
        values = self.initial_values(Random(self.seed, "weights", *change))
        flat = np.concatenate([np.ravel(v) for v in values]) if values else np.zeros(0)
        self._set_all(flat, np.zeros_like(flat), self._first_states(*change))

    def _first_states(self, *change: int) -> list[dict[str, np.ndarray[Any, Any]]]:
        """Return the first state of each layer; layers that have one keep it."""
        random = Random(self.seed, "state", *change)
        fresh = [layer.initial_state(random) for _, layer in self.walk("")]
        for (_, layer), new in zip(self.walk(""), fresh, strict=True):
            check_state(layer, new)
        return [new | old for new, old in zip(fresh, self.host_states(), strict=True)]

    def values_of_new_layers(self, same: bool) -> None:
        """Give values to layers that have none yet, other ones than the first values.

        ``same`` says that the parameters are the same as before: then the vectors stay, too.
        """
        if self._params is None:
            return
        self._changes += 1
        if same:
            self._set_all(self._params, self._grads, self._first_states(self._changes))
        else:
            self._begin(self._changes)

    def _set_all(
        self, params: Any, grads: Any, states: list[dict[str, np.ndarray[Any, Any]]]
    ) -> None:
        """Put values from the host on the backend, floating ones in the network's dtype."""

        def placed(a: np.ndarray[Any, Any]) -> Array:
            return self.xp.asarray(a, self.dtype if a.dtype.kind in "fc" else a.dtype)

        for (_, layer), state in zip(self.walk(""), states, strict=True):
            layer._state = {name: placed(value) for name, value in state.items()}
        self.bind(self.xp, placed(params), placed(grads))

    # ---- moving and copying --------------------------------------------------------------------

    def to(self, backend: str | Backend | None = None, dtype: Any = None) -> Self:
        """Move parameters, gradients, layer state and optimizer state, in place.

        Parameters
        ----------
        backend : str or Backend, optional
            See `xpnet.set_backend`; with a name, the mode stays what it is.
        dtype : str or dtype, optional
            ``"float32"`` or ``"float64"``.

        Returns
        -------
        Sequential
            The network itself.
        """
        require_free(self, "net.to(...)")
        xp = self.xp if backend is None else in_mode_of(self.xp, backend)
        checked = checked_dtype(self.dtype if dtype is None else dtype, xp)
        params, grads = (
            np.array(self.xp.asnumpy(self.params)),
            np.array(self.xp.asnumpy(self.grads)),
        )
        states = self.host_states()
        optimizers = [(o, o.host_state()) for o in self.optimizers]
        vars(self).update(xp=xp, dtype=checked)
        self._set_all(params, grads, states)
        for optimizer, state in optimizers:
            optimizer.restore(state)
        return self

    def host_states(self) -> list[dict[str, np.ndarray[Any, Any]]]:
        """Return a copy of the state of each layer on the host."""
        return [
            {name: np.array(_host(layer, value)) for name, value in layer.state.items()}
            for _, layer in self.walk("")
        ]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy or a pickle needs; optimizers stay with the original."""
        state = super().__getstate__()
        del state["optimizers"], state["in_use"], state["_last"]
        return state | {"_layers": list(self.layers)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        older = {"layers": "_layers", "seed": "_seed"}  # in release 1
        super().__setstate__({older.get(name, name): value for name, value in state.items()})
        self.optimizers, self.in_use, self._last = WeakSet(), threading.RLock(), LastBatch()
        self._layers = LayerList(self, self._layers)
        for layer in self.layers:
            layer.owner = ref(self)
        if self._params is not None:  # the copied layers hold views of nothing yet
            self.bind(self.xp, self._params, self._grads)

    # ---- values by name ------------------------------------------------------------------------

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
            If a name is missing or unknown, or a value is no number or one that the type of the
            parameter cannot hold.
        ShapeError
            If a value has another shape; nothing is changed then.
        OptionError
            If there is no such layout.
        """
        arrays = demanded(self._named_arrays(layout), names_of(values), layout)
        self._check_layout(values, arrays, layout)
        new = {name: on_host(a, f"the parameter {name!r}") for name, a in values.items()}
        check_shapes({name: a.shape for name, a in new.items()}, arrays)
        for name, a in arrays.items():
            check_fits(new[name], a.dtype, f"the parameter {name!r}")
        for name, a in arrays.items():
            self.xp.copyto(a, self.xp.asarray(new[name], a.dtype))

    def _check_layout(self, given: Mapping[str, Any], wanted: dict[str, Any], layout: str) -> None:
        """Raise DataError if the names are those of another layout."""
        if given.keys() <= wanted.keys():
            return
        for other in LAYOUTS:
            if given.keys() <= self._named_arrays(other).keys():
                raise DataError(
                    f"the names, such as {next(iter(given))!r}, are those of the layout {other!r}, "
                    f"not {layout!r}; use load_state_dict(values, layout={other!r})"
                )

    def _named_arrays(self, layout: str = "xpnet") -> dict[str, Array]:
        """Return all values by name, each as a view through which it can be set."""
        views = look_up("layout", layout, LAYOUTS)
        self._bound()
        return {
            f"{path}.{name}": a for path, layer in self.walk("") for name, a in views(layer).items()
        }

    def config(self) -> dict[str, Any]:
        """Return what makes such a network again: the type and the arguments of each layer."""
        layers = [[type(layer).__name__, arguments(layer)] for layer in self.layers]
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
        require_known_in(self)
        write_archive(file_of("path", path), self.state_dict(), {"network": self.config()})

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


def demanded(arrays: dict[str, Array], given: Collection[str], layout: str) -> dict[str, Array]:
    """Return the values that must be given, and those that are given though they may lack."""
    optional = MAY_LACK.get(layout)
    return {k: a for k, a in arrays.items() if k in given or k.rpartition(".")[2] != optional}


def _host(layer: Layer, value: Any) -> Any:
    """Return a value of a layer's state on the host; a layer that is new has no backend yet."""
    return layer.xp.asnumpy(value) if hasattr(layer, "xp") else value
