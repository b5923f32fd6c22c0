"""Gradient check: is the gradient that ``backward`` gives the slope of the loss?

Central differences, (L(p + h) - L(p - h)) / 2h with h = 10⁻⁵, are right to about 10⁻⁹ for any
network. The complex step, Im L(p + ih) / h with h = 10⁻²⁰, subtracts nothing and is right to the
last digits, where every primitive is an analytic function (Squire and Trapp, 1998). Both are
computed in float64, whatever the network's type: in float32 a small mistake looks like rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.random import Random
from xpnet.losses import Loss, find_loss
from xpnet.network import Sequential
from xpnet.network.checks import read_batch
from xpnet.support.checks import on_host
from xpnet.support.errors import DataError
from xpnet.support.messages import look_up

TOLERANCE = {"central": 1e-7, "complex": 1e-13}
STEP = {"central": 1e-5, "complex": 1e-20}
BESIDE = 1e-3  # how far a second point is from one at which a gradient seems to be wrong
POWER = 2.0**20  # a gradient that is linear in dY becomes larger by it, to the last bit
Given = tuple[Sequential, Loss, Any, Any, Any]  # the last ones: X, t, sample_weight
FLOOR = {"central": 1e-2, "complex": 1.0}  # a sum that cancels is right to u times its terms


@dataclass
class Entry:
    """One gradient and its check.

    Attributes
    ----------
    name : str
        The parameter, such as ``"0.W"``, or ``"input"``.
    error : float
        The largest difference between the analytic and the numerical gradient, divided by the
        largest numerical value. The divisor is at least a hundredth of the largest value in the
        whole network; for the complex step, which sees the rounding of sums that cancel, at least
        that largest value.
    worst : tuple of int
        The index of the largest difference.
    analytic, numerical : float
        Both values at that index.
    ok : bool
        The error is within the tolerance.
    kinks : int
        How many entries are at a kink such as that of ReLU, where the slopes on the two sides
        differ; these entries do not count in the error. A gradient that is wrong at the point and
        right at a point beside it is at a kink, too.
    guess : str
        The likely mistake; empty if the gradient is right.
    certain : bool
        The mistake was seen in what backward does, not in the numbers.
    """

    name: str
    shape: tuple[int, ...]
    error: float
    worst: tuple[int, ...]
    analytic: float
    numerical: float
    ok: bool
    kinks: int = 0
    guess: str = ""
    certain: bool = False

    def excuse(self, beside: Entry) -> None:
        """Call the gradient right if it is right at a point beside, where there is no kink."""
        excused = not self.ok and isfinite(self.error) and not self.certain and beside.ok
        if excused:
            self.ok, self.kinks, self.guess = True, max(self.kinks, 1), ""

    def __str__(self) -> str:
        line = f"{self.name:<12} {self.shape!s:<14} {self.error:9.1e}  "
        if self.ok:
            return line + "ok" + (f"  ({self.kinks} at a kink)" if self.kinks else "")
        place = "".join(f"[{i}]" for i in self.worst)
        line += (
            f"WRONG  worst at {place}: analytic {self.analytic:.8g}, numerical {self.numerical:.8g}"
        )
        return line + (f"; {self.guess}" if self.guess else "")


@dataclass
class GradientReport:
    """The outcome of `gradcheck`; ``print`` it, or test ``report.ok``."""

    method: str
    tolerance: float
    entries: list[Entry] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if every gradient is right."""
        return all(entry.ok for entry in self.entries)

    @property
    def error(self) -> float:
        """The largest error of all."""
        return max((entry.error for entry in self.entries), default=0.0)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, name: str) -> Entry:
        return look_up("gradient", name, {entry.name: entry for entry in self.entries})

    def __str__(self) -> str:
        head = f"gradient check, {self.method} differences, tolerance {self.tolerance:g}"
        if self.method == "complex":
            head = f"gradient check, complex step, tolerance {self.tolerance:g}"
        return "\n".join([head, *map(str, self.entries), "all right" if self.ok else "NOT right"])


def gradcheck(
    net: Sequential,
    loss: Loss | str,
    X: Any,
    t: Any,
    *,
    sample_weight: Any = None,
    method: str = "central",
    tolerance: float | None = None,
    max_entries: int = 500,
) -> GradientReport:
    """Compare every gradient of a network with the slope of its loss.

    The check runs on a float64 copy of the network on its backend, in its mode (training or
    prediction), with the same dropout masks in each evaluation. A loss that is not finite there
    raises `DataError`, an unknown method `OptionError`.

    Parameters
    ----------
    net : Sequential
    loss : Loss or str
    X, t, sample_weight : array or list
        A batch, as the loss takes it; a few samples are enough.
    method : str
        ``"central"`` for any network, ``"complex"`` (computed with NumPy) for smooth ones.
    tolerance : float, optional
        The largest error that is right: 1e-7 for central differences, 1e-13 for the complex step.
    max_entries : int
        How many entries of a larger gradient are checked: always the same random choice.

    Returns
    -------
    GradientReport
        An entry for each parameter and one for the input.
    """
    usual = look_up("method", method, TOLERANCE)
    limit = usual if tolerance is None else tolerance
    return _checked((net, find_loss(loss), X, t, sample_weight), method, max_entries, limit)


def _checked(given: Given, method: str, most: int, limit: float) -> GradientReport:
    """Return the report; what seems wrong is looked at beside the point, too."""
    report = _report(*_measured(given, method, most), method, limit)
    if not report.ok:
        beside = _report(*_measured(given, method, most, BESIDE), method, limit)
        for entry in report.entries:
            entry.excuse(beside[entry.name])
    return report


def _measured(
    given: Given, method: str, most: int, beside: float = 0.0
) -> tuple[_Point, dict[str, _Slopes]]:
    """Return the point with its gradients, and the numerical slopes of each gradient."""
    xp = given[0].xp
    point = _Point(*given, xp.ordinary, "float64", beside)
    moved = point
    if method == "complex":
        moved = _Point(*given, ComplexStep(), "complex128", beside)
    with xp.here(), np.errstate(all="ignore"):  # what is not finite is reported by name
        value = point.value().real
        if not np.isfinite(value):
            raise DataError(f"the loss is {value} at the point of the check: it has no slope there")
        point.differentiate()
        return point, {
            name: _slopes(moved, name, g, method, value, most)
            for name, g in point.gradients.items()
        }


def _report(point: _Point, slopes: dict[str, _Slopes], method: str, limit: float) -> GradientReport:
    """Compare all gradients with their slopes."""
    largest = max(float(np.abs(s.central).max(initial=0.0)) for s in slopes.values())
    floor = FLOOR[method] * largest
    entries = [
        _compare(name, g, slopes[name], limit, floor, len(point.X))
        for name, g in point.gradients.items()
    ]
    for entry in entries:
        mistake = point.mistakes.get(entry.name, "")
        if mistake == NOT_LINEAR and not entry.ok:
            mistake = ""  # the numbers say more
        elif mistake:
            entry.ok, entry.certain = False, True
        elif not entry.ok and point.changed:
            mistake = (
                f"backward changed {point.changed}: update a parameter only after all gradients "
                "have been passed down"
            )
        entry.guess = mistake or entry.guess
    return GradientReport(method, limit, entries)


@dataclass
class _Slopes:
    """Numerical slopes of chosen entries of one gradient; left and right are one-sided."""

    chosen: np.ndarray[Any, Any]
    central: np.ndarray[Any, Any]
    left: np.ndarray[Any, Any]
    right: np.ndarray[Any, Any]


class _Point:
    """The point of the check: a copy of network, loss and batch in another type.

    Attributes
    ----------
    gradients : dict of str to ndarray
        After `differentiate`: what backward gives for each parameter and for the input.
    changed : str
        After `differentiate`: the names of the parameters that backward changed, which is wrong.
    mistakes : dict of str to str
        After `differentiate`: what backward does wrong with a gradient, whatever its value.
    """

    def __init__(
        self, net: Sequential, loss: Loss, X: Any, t: Any, weight: Any, xp: Backend, dtype: str,
        beside: float = 0.0,
    ) -> None:  # fmt: skip
        self.net, self.loss = net.copy().to(xp, dtype), deepcopy(loss)
        self.net.input_gradient = True
        self.loss.use(xp)
        self.X = _converted(xp, X, dtype)
        self.t = xp.asarray(on_host(t, f"{loss!r}: t"))
        self.weight = None if weight is None else xp.asarray(on_host(weight, "sample_weight"))
        self.states = self.net.host_states()
        self.gradients: dict[str, np.ndarray[Any, Any]] = {}
        self.changed, self.mistakes = "", dict[str, str]()
        if beside:
            self._move(beside)

    def _move(self, distance: float) -> None:
        """Go to another point, the same one in both types."""
        xp, random = self.net.xp, Random(0, "beside")
        for a in (self.net.params, self.X):
            xp.copyto(a, a + xp.asarray(random.uniform(a.shape, -distance, distance), a.dtype))

    def forward(self) -> Array:
        """Return the loss on the device."""
        return self.loss.forward(self.outputs(), self.t, self.weight)

    def outputs(self) -> Array:
        """Return the outputs; layer state is put back first, so masks are the same."""
        for (_, layer), state in zip(self.net.walk(""), self.states, strict=True):
            for name, value in state.items():
                layer.xp.copyto(layer.state[name], layer.xp.asarray(value))
        return self.net.forward(self.X)

    def value(self) -> complex:
        """Return the loss on the host."""
        return complex(self.net.xp.asnumpy(self.forward()))

    def differentiate(self) -> None:
        """Copy all gradients that backward gives to the host, and find out what it changed."""
        host = self.net.xp.asnumpy
        self.forward()
        before = self.net.state_dict()
        self.net.xp.copyto(self.net.grads, np.nan)  # each is overwritten
        views = self._present_gradients()
        dY = self.loss.backward()
        sent = np.array(host(dY))
        dX = self.net.backward(dY)
        now = self._present_gradients()
        self.mistakes |= {name: _replaced(name) for name in views if now[name] is not views[name]}
        after = self.net.state_dict()
        names = [n for n in before if not np.array_equal(before[n], after[n])]
        self.changed = " and ".join(names)
        self.net.load_state_dict(before)
        self.gradients = {name: np.array(host(g)) for name, g in views.items()}
        if dX is not None:
            self.gradients["input"] = np.array(host(dX))
        if not self.changed:
            self._find_what_is_not_linear(views, sent)

    def _find_what_is_not_linear(self, views: dict[str, Array], dY: np.ndarray[Any, Any]) -> None:
        """Send another multiple of dY back: each gradient must become that multiple."""
        xp = self.net.xp
        for power in (POWER, 1 / POWER):
            self.outputs()
            dX = self.net.backward(xp.asarray(power * dY))
            for name, g in views.items() if dX is None else {**views, "input": dX}.items():
                once, many = self.gradients[name], np.array(xp.asnumpy(g)) / power
                near = 1e-9 * np.abs(once).max(initial=0.0)
                if np.isfinite(once).all() and not np.allclose(once, many, rtol=0, atol=near):
                    self.mistakes.setdefault(name, NOT_LINEAR)

    def _present_gradients(self) -> dict[str, Array]:
        """Return what the layers have as the gradients of their parameters."""
        return {
            f"{path}.{name}": getattr(layer, "d" + name)
            for path, layer in self.net.walk("")
            for name in layer.parameters
        }

    def where(self, name: str) -> Array:
        """Return the array that holds the values of a parameter, or the input."""
        if name == "input":
            return self.X
        path, _, parameter = name.rpartition(".")
        return getattr(dict(self.net.walk(""))[path], parameter)


def _slopes(
    point: _Point, name: str, g: np.ndarray[Any, Any], method: str, value: float, most: int
) -> _Slopes:
    """Return the numerical slopes along some entries of one gradient."""
    chosen = np.arange(g.size)
    if g.size > most:
        chosen = np.sort(Random(0, "gradcheck", name).permutation(g.size)[:most])
    array, h = point.where(name), STEP[method]
    places = [_index(int(i), g.shape) for i in chosen]
    if method == "complex":
        slope = np.array([_at(point.value, array, p, 1j * h).imag / h for p in places])
        return _Slopes(chosen, slope, slope, slope)
    up = np.array([_at(point.value, array, p, h).real for p in places])
    down = np.array([_at(point.value, array, p, -h).real for p in places])
    return _Slopes(chosen, (up - down) / (2 * h), (value - down) / h, (up - value) / h)


def _at(f: Callable[[], complex], array: Array, place: tuple[int, ...], step: complex) -> complex:
    """Return f with one entry of an array moved by a step, and put the entry back."""
    before = array[place].copy()
    array[place] = before + step
    try:
        return f()
    finally:
        array[place] = before


def _compare(
    name: str, g: np.ndarray[Any, Any], s: _Slopes, limit: float, floor: float, n: int
) -> Entry:
    """Return the entry of one gradient."""
    analytic, numerical = g.flat[s.chosen], s.central
    scale = max(np.abs(numerical).max(initial=0.0), floor, 1e-30)
    error = np.abs(analytic - numerical) / scale
    kink = (error > limit) & (np.abs(s.right - s.left) > 1e-3 * scale)
    error[kink] = 0.0  # the slopes on the two sides differ: there is no slope to compare with
    worst = int(np.argmax(error))
    entry = Entry(
        name=name,
        shape=g.shape,
        error=float(error[worst]),
        worst=_index(int(s.chosen[worst]), g.shape),
        analytic=float(analytic[worst]),
        numerical=float(numerical[worst]),
        ok=bool((error <= limit).all()),
        kinks=int(kink.sum()),
    )
    if not np.isfinite(g).all():  # anywhere, also where no slope was taken
        _not_finite(entry, g, s)
    if not entry.ok:
        entry.guess = _guess(g, s, n)
    return entry


def _not_finite(entry: Entry, g: np.ndarray[Any, Any], s: _Slopes) -> None:
    """Write the first value that is not finite into the entry, with its slope if it was taken."""
    bad = int(np.argmin(np.isfinite(g)))
    entry.ok, entry.worst, entry.analytic = False, _index(bad, g.shape), float(g.flat[bad])
    entry.error = entry.numerical = float("nan")
    if bad in s.chosen:
        entry.numerical = float(s.central[list(s.chosen).index(bad)])


def _index(i: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the index of the i-th value of an array of a shape."""
    return tuple(int(k) for k in np.unravel_index(i, shape))


def _guess(g: np.ndarray[Any, Any], s: _Slopes, n: int) -> str:
    """Return the likely mistake, from how the gradient differs from the slope."""
    a, b = g.flat[s.chosen], s.central
    if np.isnan(g).all():
        return "it is NaN everywhere: was it never written, or added to what was there?"
    if not np.isfinite(g).all():
        return "it is not finite"
    if not a.any():
        return "it is zero everywhere: is the way to it cut?"
    factor = float(a @ b / (b @ b)) if b.any() else 0.0
    if np.abs(a - factor * b).max() <= 1e-5 * np.abs(a).max():
        return _name_factor(factor, n)
    square = g.ndim == 2 and g.shape[0] == g.shape[1] and len(s.chosen) == g.size
    if square and np.abs(g.T.ravel() - b).max() <= 1e-5 * np.abs(b).max():
        return "it is the transpose of the right one"
    return "not a multiple of the right one: look at the formula, or at the layers after it"


def _name_factor(factor: float, n: int) -> str:
    """Return the likely cause of a constant factor between gradient and slope."""
    names = {
        -1.0: "the sign is reversed",
        float(n): f"too large by n = {n}: a sum over the samples where the loss is their mean",
        1.0 / n: f"too small by n = {n}: divided by the number of samples twice",
    }
    for value, name in names.items():
        if abs(factor - value) < 1e-5 * abs(value):
            return name
    return f"{factor:.6g} times the right one: a constant factor is lost or there twice"


NOT_LINEAR = (
    "it is not linear in dY: a larger dY gives another multiple of it; leave limits and penalties "
    "to the optimizer (clip_norm, weight_decay)"
)


def _replaced(name: str) -> str:
    """Return the mistake of a gradient that is in an array of its own."""
    gradient = "self.d" + name.rpartition(".")[2]
    return (
        f"backward puts another array in the place of {gradient}, past the layer: the optimizer "
        f"does not see it; write {gradient} = ... or {gradient}[...] = ..."
    )


class ComplexStep(Backend):
    """The primitives on complex numbers, each continued analytically from the real numbers.

    Comparisons look at the real parts first, as NumPy's do. So max and where choose the same branch
    as without the imaginary step.
    """

    name = "numpy"
    module = np
    on_host = True

    def asnumpy(self, a: Array) -> np.ndarray[Any, Any]:
        """Return the array itself."""
        return np.asarray(a)

    def softplus(self, X: Array, out: Array) -> Array:
        """Y = log(1 + exp X), as max(X, 0) + log(1 + exp(-|X|)) with |X| = ±X by the real part"""
        magnitude = np.where(X.real < 0, -X, X)
        return self.copyto(out, np.maximum(X, 0) + np.log(1 + np.exp(-magnitude)))


def _converted(xp: Backend, X: Any, dtype: str) -> Array:
    """Return the batch in a type; uint8 values are pixels, which are divided by 255."""
    X = xp.asarray(read_batch(X, np.dtype(dtype)))
    converted = xp.empty(X.shape, dtype)
    xp.copyto(converted, X)
    return xp.divide(converted, 255.0, out=converted) if X.dtype == np.uint8 else converted
