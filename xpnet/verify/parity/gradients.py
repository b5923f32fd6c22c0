"""The checks of all gradients: in float64, in float32, and bit by bit.

References
----------
Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 3.1: the bound of the
rounding in a sum of products. Higham and Mary, "A new approach to probabilistic rounding error
analysis", 2019: why the roundings of m terms add up to √m. Parker, "Monte Carlo arithmetic", 1997:
measuring roundings by random displacements.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from math import inf, sqrt
from typing import Any

import numpy as np

from xpnet.backend import Backend, find_backend, parse_name
from xpnet.layers import BatchNorm1d, LayerNorm, Linear
from xpnet.layers.base import Layer
from xpnet.losses import Loss, find_loss
from xpnet.network import Sequential
from xpnet.support.errors import BackendError, OptionError, XpnetError
from xpnet.verify.gradcheck import STEP, TOLERANCE, gradcheck
from xpnet.verify.parity.passes import Pass, located
from xpnet.verify.parity.point import DRAWS, LIMIT, SAFETY, U64, Point
from xpnet.verify.parity.pytorch import autograd, without_twin
from xpnet.verify.parity.report import Bits, Check, ParityReport, Row
from xpnet.verify.parity.rounding_noise import OF_A_FUNCTION, TINY, U
from xpnet.verify.parity.values import LOSS, Host, Key, Values, largest, norm, worst

SLOPES = 100  # entries of each gradient that are held against central differences


def parity(
    net: Sequential,
    loss: Loss | str,
    X: Any,
    t: Any,
    *,
    sample_weight: Any = None,
    backends: Iterable[str | Backend] = ("numpy", "cupy"),
) -> ParityReport:
    """Show for one network and one batch that all backends compute the same gradients.

    The network does not change: every run has its own copy, in the same mode (training or
    prediction) and with the same dropout masks.

    Parameters
    ----------
    net : Sequential
    loss : Loss or str
    X, t, sample_weight : array or list
        A batch, as the loss takes it; a few dozen samples are enough.
    backends : iterable of str or Backend
        The backends to compare with NumPy in float64. ``report.not_run`` names those that cannot
        be used on this machine, with the reason.

    Returns
    -------
    ParityReport
        Errors and limits for each parameter, hashes, and the first layer that differs.

    Raises
    ------
    BackendError
        If a name is not the name of a backend.
    OptionError
        If the loss is unknown, or two backends have one name.
    DataError, ShapeError
        If the batch does not fit the network or the loss, or the loss is not finite.

    Examples
    --------
    >>> import numpy as np, xpnet
    >>> from xpnet.verify.parity import parity
    >>> net = xpnet.Sequential(xpnet.Linear(2, 3), xpnet.Tanh(), xpnet.Linear(3, 1))
    >>> X, t = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), [0, 1, 1, 0]
    >>> parity(net, "mse", X, t, backends=["numpy"]).ok
    True
    """
    point = Point(net, find_loss(loss), X, t, sample_weight)
    report = ParityReport(repr(net), repr(point.loss), len(point.X))
    found, report.not_run = _found(backends)
    report.checks = _in_ordinary_mode(point, found, report.not_run)
    passes = _in_reproducible_mode(point, found, report.not_run)
    report.checks += [_against_float64(point, name, done) for name, done in passes.items()]
    report.bits = _in_bits(point, passes)
    return report


def _in_ordinary_mode(
    point: Point, found: dict[str, Backend], not_run: dict[str, str]
) -> list[Check]:
    """Return the checks of all backends in float64, then in float32."""
    checks = [_against_slopes(point), *_against_torch(point, not_run)]
    for name, xp in found.items():
        if xp.ordinary is not point.numpy:
            checks += _in_float64(point, name, xp.ordinary)
    for name, xp in found.items():
        checks += _in_float32(point, name, xp.ordinary, not_run)
    return checks


def _against_float64(point: Point, name: str, done: Pass) -> Check:
    """Compare a pass in reproducible mode with float64."""
    check = Check("float32", f"{name}, reproducible", MODE, [])
    check.rows += _by_norm(point, done.values, point.moves)
    _locate_in([check], done, point, point.moves)
    return check


def _found(backends: Iterable[str | Backend]) -> tuple[dict[str, Backend], dict[str, str]]:
    """Return the usable backends by name, and for each other backend the reason."""
    found: dict[str, Backend] = {}
    missing: dict[str, str] = {}
    for backend in backends:
        name = backend.name if isinstance(backend, Backend) else str(backend)
        if name in found or name in missing:
            raise OptionError(f"the backend {name!r} is there twice")
        if not isinstance(backend, Backend):
            parse_name(backend)  # a name that does not exist is a mistake, not a missing GPU
        try:
            found[name] = find_backend(backend)
        except BackendError as error:
            missing[name] = str(error)
    return found, missing


# ---- the checks ----------------------------------------------------------------------------------


def _keys(point: Point) -> list[Key]:
    """Return the loss and all gradients of parameters, in the order of the network."""
    layers = point.reference.layers.items()
    keys = [("backward", path, name) for path, layer in layers for name in layer.parameters]
    return [LOSS, *(key for key in keys if key in point.reference.values)]


def _name(key: Key) -> str:
    return "loss" if key == LOSS else f"{key[1]}.{key[2]}"


def _row(key: Key, a: Host, b: Host, error: float, limit: float) -> Row:
    entry = worst(a, b)
    return Row(_name(key), error, limit, entry, float(a[entry]), float(b[entry]))


def _by_norm(point: Point, values: Values, limits: dict[Key, float]) -> list[Row]:
    """Return ‖a - b‖ / ‖b‖ of the loss and of every gradient."""
    rows = []
    for key in _keys(point):
        a, b, scale = values[key], point.reference.values[key], point.scales[key]
        rows.append(_row(key, a, b, norm(a - b) / scale, limits[key] / scale))
    return rows


def _by_largest(point: Point, values: Values) -> list[Row]:
    """Return max |a - b| / max |b| of the loss and of every gradient."""
    rows = []
    for key in _keys(point):
        a, b = values[key], point.reference.values[key]
        scale = max(largest(b), point.scales[key] / sqrt(b.size))
        limit = point.limits[key] / point.scales[key]
        rows.append(_row(key, a, b, largest(a - b) / scale, limit))
    return rows


def _against_slopes(point: Point) -> Check:
    """Compare NumPy's gradients with central differences."""
    found = gradcheck(
        point.net, point.loss, point.X, point.t, sample_weight=point.weight, max_entries=SLOPES
    )
    noise = point.moves[LOSS] * (U64 / U) / STEP[found.method]
    rows = []
    for e in found.entries:
        if e.name != "input":
            scale = abs(e.analytic - e.numerical) / e.error if e.error else inf
            limit = found.tolerance + noise / scale
            rows.append(Row(e.name, e.error, limit, e.worst, e.analytic, e.numerical))
    return Check("float64", "numpy, slopes", SLOPE, rows)


SLOPE = (
    f"xpnet.gradcheck, central differences on up to {SLOPES} entries of each, without those at a "
    f"kink; its tolerance {TOLERANCE['central']:g}, and the rounding of the loss over the step "
    f"{STEP['central']:g}, which a tiny gradient feels"
)


def _against_torch(point: Point, not_run: dict[str, str]) -> list[Check]:
    """Compare NumPy's gradients with autograd, if PyTorch is installed and has every layer."""
    strange = without_twin(point.net, point.loss)
    if strange:
        not_run["PyTorch"] = f"no twin there of {', '.join(strange)}"
        return []
    done = point.reference
    try:
        theirs = autograd(done.layers, done.loss, point.X, point.t, point.weight)
    except ImportError:
        not_run["PyTorch"] = "not installed"
        return []
    reason = f"relative to PyTorch's autograd in float64; {LIMIT:g} as between the backends"
    rows = []
    for key in _keys(point):
        a, b, scale = done.values[key], theirs[key], point.scales[key]
        rows.append(_row(key, a, b, norm(a - b) / scale, point.limits[key] / scale))
    return [Check("float64", "numpy, PyTorch", reason, rows)]


def _in_float64(point: Point, name: str, xp: Backend) -> list[Check]:
    """Compare a backend's gradients with NumPy's."""
    found = point.run(xp, "float64")
    reason = (
        f"{{}} with NumPy's b; {LIMIT:g} is 10,000 roundings of float64, and a wrong formula is "
        "off by far more; what float32 cannot tell from 0 is relative to its limit there instead, "
        "and the rounding of a sum that cancels is allowed for"
    )
    checks = [
        Check("float64", f"{name}, norm", reason.format("norm(a-b) / norm(b)"), []),
        Check("float64", f"{name}, largest", reason.format("max |a-b| / max |b|"), []),
    ]
    checks[0].rows += _by_norm(point, found.values, point.limits)
    checks[1].rows += _by_largest(point, found.values)
    _locate_in(checks, found, point, point.limits)
    return checks


def _locate_in(checks: list[Check], a: Pass, point: Point, limits: dict[Key, float]) -> None:
    """Write the first layer that differs into the checks that failed."""
    failed = [check for check in checks if not check.ok]
    if failed:
        where = located(a, point.reference, lambda key, x, y: norm(x - y) <= limits[key])
        for check in failed:
            check.difference = where


def _in_float32(point: Point, name: str, xp: Backend, not_run: dict[str, str]) -> list[Check]:
    """Compare each layer by itself with the bound of its rounding, and the whole network."""
    found = point.run(xp, "float32")
    checks = [
        Check("float32", f"{name}, by layer", BY_LAYER, _by_layer(point, found, not_run)),
        Check("float32", f"{name}, whole", WHOLE, _by_norm(point, found.values, point.moves)),
    ]
    _locate_in(checks, found, point, point.moves)
    return checks


WHOLE = (
    f"norm(a-b) / norm(b) against float64; the limit is {SAFETY:g} times how far float64 moves "
    f"(largest of {DRAWS} draws) when each result is off by one rounding of float32, up or down, "
    f"exp and tanh by {OF_A_FUNCTION:g}, sums of m terms by sqrt(m); a limit of 1: float32 cannot "
    "tell it from 0"
)
MODE = (
    "as whole, in reproducible mode: it rounds less often than float32 may, but relative to the "
    "largest number of each row and column; features of very different sizes exceed the limit"
)
BY_LAYER = (
    "error of one layer fed with float64's numbers, in units of u sum |x| |dy| (u = 6e-8); the "
    "limit is the number of roundings in such a sum: n + 2 for n samples; for gamma |xhat| + e "
    "stands for |x|, e = (1 + 2 max |x| / sigma) (1 + |xhat|) being what one rounding of mu or "
    "sigma does to xhat"
)


def _by_layer(point: Point, found: Pass, not_run: dict[str, str]) -> list[Row]:
    """Return the error of each gradient in units of its rounding, each layer by itself."""
    rows, exact = [], point.reference
    for path, layer in exact.layers.items():
        if not layer.parameters or ("backward", path) not in exact.inputs:
            continue
        if type(layer) not in BOUNDS:
            not_run[f"float32, by layer, {path}"] = f"no bound is known for {layer!r}"
            continue
        X, dY = (exact.inputs[phase, path].astype(np.float32) for phase in ("forward", "backward"))
        for part in (found, exact):
            part.forward_of(path, X)
        got, want = (part.backward_of(path, dY) for part in (found, exact))
        for name, (unit, limit) in BOUNDS[type(layer)](layer, abs(X), abs(dY)).items():
            a, b = (values["backward", path, name] for values in (got, want))
            off = abs(a - b) / (U * unit + TINY)
            rows.append(_row(("backward", path, name), a, b, largest(off), limit))
    return rows


def _linear_bounds(layer: Any, X: Host, dY: Host) -> dict[str, tuple[Host, float]]:
    """|dW - exact| ≤ (n + 2) u |X|ᵀ|dY| and |db - exact| ≤ (n + 2) u Σᵢ |dYᵢ|"""
    limit = len(X) + 2.0
    bounds = {"W": (X.T.astype(np.float64) @ dY, limit)}
    return bounds | ({"b": (dY.sum(axis=0), limit)} if layer.bias else {})


def _normalization_bounds(layer: Any, X: Host, dY: Host) -> dict[str, tuple[Host, float]]:
    """|dγ - exact| ≤ (max(n, m) + 4) u Σᵢ |dYᵢ| (|X̂ᵢ| + Eᵢ), where a sum of m terms gives μ and σ

    E = (1 + 2 max |X| / σ)(1 + |X̂|): each of the m + 4 roundings in μ and σ moves X̂ by u E at most;
    during prediction both are given, and only the roundings of X - μ and of / σ remain.
    """
    n, sigma = len(X), layer.sigma[: len(X)]
    given = layer.axis == 0 and bool(layer.state) and not layer.training
    Xhat = abs(layer.Xhat[:n])
    size = 0.0 if given else 2 * X.max(layer.axis, keepdims=True) / sigma
    unit = (dY * (Xhat + (1 + size) * (1 + Xhat))).sum(axis=0)
    bounds = {
        "gamma": (unit, max(n, X.shape[layer.axis]) + 4.0),
        "beta": (dY.sum(axis=0), n + 2.0),
    }
    return {name: bounds[name] for name in layer.parameters}


BOUNDS: dict[type[Layer], Callable[[Any, Host, Host], dict[str, tuple[Host, float]]]] = {
    Linear: _linear_bounds,
    BatchNorm1d: _normalization_bounds,
    LayerNorm: _normalization_bounds,
}


# ---- bit by bit ----------------------------------------------------------------------------------


def _in_reproducible_mode(
    point: Point, found: dict[str, Backend], not_run: dict[str, str]
) -> dict[str, Pass]:
    """Return what each backend computes in reproducible mode."""
    passes = {}
    for name, xp in found.items():
        try:
            passes[name] = point.run(find_backend(xp, reproducible=True), "float32")
        except XpnetError as error:
            not_run[f"reproducible mode, {name}"] = str(error)
    return passes


def _in_bits(point: Point, passes: dict[str, Pass]) -> dict[str, Bits]:
    """Hash the results of each backend in reproducible mode, and locate differences."""
    bits = {name: _bits(point, done.values) for name, done in passes.items()}
    first, *others = passes or [""]
    for name in others:
        if bits[name] != bits[first]:
            bits[name].difference = located(passes[name], passes[first], _same_bits)
    return bits


def _bits(point: Point, values: Values) -> Bits:
    keys = _keys(point)
    outputs = [key for key in values if key[0] == "forward"]
    return Bits(_sha256(values, keys[1:]), _sha256(values, keys[:1]), _sha256(values, outputs))


def _sha256(values: Values, keys: list[Key]) -> str:
    data = b"".join(values[key].astype("<f4").tobytes() for key in keys)
    return hashlib.sha256(data).hexdigest()


def _same_bits(key: Key, a: Host, b: Host) -> bool:
    return a.tobytes() == b.tobytes()
