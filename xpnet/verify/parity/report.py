"""The report of `parity`: what was compared, how large the errors are, and where they begin."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from math import inf, isfinite, isnan
from typing import Any

WIDTH = 100  # columns of text


@dataclass(frozen=True)
class Difference:
    """The first layer whose result differs between two networks for the same input.

    Attributes
    ----------
    phase : str
        ``"forward"``, ``"loss"`` or ``"backward"``.
    path, layer : str
        The place of the layer such as ``"2.0"``, and how it prints; the loss has no place.
    parameter : str
        The parameter whose gradient differs, such as ``"W"``; empty if the output or dX differs.
    entry : tuple of int
        The index of the largest difference.
    a, b : float
        Both values at that index.
    """

    phase: str
    path: str
    layer: str
    parameter: str
    entry: tuple[int, ...]
    a: float
    b: float

    def __str__(self) -> str:
        layer = f"layer {self.path}, {self.layer}" if self.path else self.layer
        wrong = {
            "forward": "its output",
            "loss": "its gradient dY" if self.parameter else "its value",
            "backward": f"the gradient of {self.parameter}" if self.parameter else "its dX",
        }[self.phase]
        place = "".join(f"[{i}]" for i in self.entry)
        at = f"; at {place} they are" if place else ":"
        return (
            f"{layer} gives something else for the same input in the {self.phase} pass: "
            f"{wrong}{at} {self.a!r} and {self.b!r}"
        )


@dataclass(frozen=True)
class Row:
    """One gradient, or the loss, in one check; ``entry`` is the index of the largest error."""

    name: str
    error: float
    limit: float
    entry: tuple[int, ...]
    value: float
    reference: float

    @property
    def ok(self) -> bool:
        """True if the error is a number within the limit."""
        return self.error <= self.limit

    def __str__(self) -> str:
        place = "".join(f"[{i}]" for i in self.entry)
        return f"{self.name}{place} is {self.value!r}, not {self.reference!r}"


@dataclass
class Check:
    """One comparison of all gradients.

    Attributes
    ----------
    dtype, what : str
        Such as ``"float64"`` and ``"cupy, norm"``.
    reason : str
        What is measured, and the reason for the limit.
    rows : list of Row
    difference : Difference, optional
        The first layer that differs, if it could be found.
    """

    dtype: str
    what: str
    reason: str
    rows: list[Row]
    difference: Difference | None = None

    @property
    def ok(self) -> bool:
        """True if every row is within its limit."""
        return all(row.ok for row in self.rows)

    def failure(self) -> str:
        """Return one sentence about the worst row and the first layer that differs."""
        worst = max((row for row in self.rows if not row.ok), key=lambda row: _big(row.error))
        found = f"; {self.difference}" if self.difference else ""
        return f"{self.dtype}, {self.what}: {worst}{found}"


@dataclass
class Bits:
    """SHA-256 of the results of one backend in reproducible mode, as little-endian float32."""

    gradients: str
    loss: str
    outputs: str
    difference: Difference | None = None

    @property
    def hashes(self) -> tuple[str, str, str]:
        """The three hashes, to compare them."""
        return self.gradients, self.loss, self.outputs


@dataclass
class ParityReport:
    """The outcome of `parity`; ``print`` it, or test ``report.ok``.

    Attributes
    ----------
    network, loss : str
    samples : int
    checks : list of Check
        In float64 and in float32.
    bits : dict of str to Bits
        By backend, in reproducible mode.
    not_run : dict of str to str
        What could not be checked, and the reason.
    """

    network: str
    loss: str
    samples: int
    checks: list[Check] = field(default_factory=list)
    bits: dict[str, Bits] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)

    @property
    def same_bits(self) -> bool:
        """True if all backends that have a reproducible mode gave the same bits."""
        return len({bits.hashes for bits in self.bits.values()}) <= 1

    @property
    def ok(self) -> bool:
        """True if everything that ran agreed."""
        return self.same_bits and all(check.ok for check in self.checks)

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """Return everything in dicts, lists, texts, numbers and bools, for a file of JSON."""
        found = {"ok": self.ok, "same_bits": self.same_bits} | asdict(self)
        return {key: _plain(value) for key, value in found.items()}

    def tables(self) -> str:
        """Return errors and limits, one table in float64 and one in float32."""
        return "\n\n".join(_table(dtype, self.checks) for dtype in ("float64", "float32"))

    def failures(self) -> list[str]:
        """Return a sentence for each failure: what is wrong, and the first layer that differs."""
        first = next(iter(self.bits), "")
        return [
            *(check.failure() for check in self.checks if not check.ok),
            *(
                f"reproducible, {name}: {bits.difference or f'other bits than {first}'}"
                for name, bits in self.bits.items()
                if bits.hashes != self.bits[first].hashes
            ),
        ]

    def __str__(self) -> str:
        head = f"parity of {self.network} with {self.loss}, {self.samples} samples"
        reasons = {check.what.split(", ")[-1]: check.reason for check in self.checks}
        told = [f"{what}: {why}" for what, why in reasons.items()]
        missing = [f"not run: {what}: {why}" for what, why in self.not_run.items()]
        wrong = [f"WRONG: {failure}" for failure in self.failures()]
        end = "all that ran agrees" if self.ok else "NOT the same"
        lines = [*map(wrapped, told), *_bit_lines(self), *map(wrapped, [*missing, *wrong]), end]
        return "\n".join([wrapped(head), "", self.tables(), "", *lines])


def wrapped(text: str, indent: int = 2) -> str:
    """Return a text in lines of at most 100 columns, all but the first indented."""
    return textwrap.fill(
        text, WIDTH, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )


def _plain(value: Any) -> Any:
    """Return a value for JSON: NaN and the infinities, which JSON does not have, become text."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _table(dtype: str, checks: Sequence[Check]) -> str:
    """Return the checks in one type as columns, the gradients as rows, folded at `WIDTH`."""
    columns = [check for check in checks if check.dtype == dtype]
    names = list(dict.fromkeys(row.name for check in columns for row in check.rows))
    first = _padded([f"{dtype}, error / limit", *names])
    blocks = _folded(first, [_column(check, names) for check in columns])
    return "\n\n".join("\n".join(line.rstrip() for line in block) for block in blocks)


def _column(check: Check, names: Sequence[str]) -> list[str]:
    """Return the heading of a check and its cell for each name."""
    cells = {row.name: _cell(row) for row in check.rows}
    return _padded([check.what, *(cells.get(name, "-") for name in names)])


def _folded(first: list[str], columns: Sequence[list[str]]) -> list[list[str]]:
    """Return blocks of columns of at most `WIDTH`, each with the first column in front."""
    blocks = [first]
    for column in columns:
        wider = _beside(blocks[-1], column)
        if len(wider[0]) <= WIDTH or blocks[-1] is first:
            blocks[-1] = wider
        else:
            blocks.append(_beside(first, column))
    return blocks


def _padded(column: list[str]) -> list[str]:
    width = max(map(len, column))
    return [cell.ljust(width) for cell in column]


def _beside(left: list[str], right: list[str]) -> list[str]:
    return [f"{a}  {b}" for a, b in zip(left, right, strict=True)]


def _cell(row: Row) -> str:
    return f"{row.error:.1e} / {row.limit:.1e}{'' if row.ok else ' WRONG'}"


def _bit_lines(report: ParityReport) -> list[str]:
    """Return the hashes as a table."""
    if not report.bits:
        return [""]
    verdict = "the same bits" if report.same_bits else "DIFFERENT bits"
    width = max(map(len, report.bits))
    head = f"float32 in reproducible mode, SHA-256: {verdict} on {', '.join(report.bits)}"
    lines = [
        f"{name:<{width}}  {what:<9}  {getattr(bits, what)}"
        for name, bits in report.bits.items()
        for what in ("gradients", "loss", "outputs")
    ]
    return ["", head, *lines, ""]


def _big(error: float) -> float:
    """Return an error for sorting: NaN, which compares with nothing, as the largest."""
    return inf if isnan(error) else error
