"""The report of the consistency check: what agreed, and a sentence for all that did not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from xpnet.verify.golden import STEPS
from xpnet.verify.parity import ParityReport, wrapped

TITLE = "reproducible mode, SHA-256 of all gradients of all steps, and of the last weights"


@dataclass
class GoldenTraining:
    """A golden training on one backend, in reproducible mode.

    Attributes
    ----------
    gradients, weights : str
        SHA-256 of all gradients of all steps, and of the last parameters.
    golden : bool
        All outputs, losses, states, gradients and parameters of every step, as far as the golden
        hashes reach, have these.
    first : str
        Where they first differ from those, empty if nowhere.
    milliseconds : float
        The time of a step, with its hashes.
    steps : int
        That were taken.
    """

    gradients: str
    weights: str
    golden: bool
    first: str
    milliseconds: float
    steps: int

    @property
    def verdict(self) -> str:
        """``"golden"``, with the last step that was compared, if there are more, or not."""
        beyond = f" to {STEPS}" if self.steps > STEPS else ""
        return f"golden{beyond}" if self.golden else "NOT GOLDEN"


@dataclass
class RecipeReport:
    """All that was checked about one golden training.

    Attributes
    ----------
    name : str
        That of the recipe.
    inputs : bool
        The data are those of the golden hashes.
    gradients : ParityReport
        One batch in float64, float32 and reproducible mode.
    trainings : dict of str to GoldenTraining
        By backend.
    differences : list of str
        Where two backends part, a sentence each: step, layer, parameter, entry, and both values.
    """

    name: str
    inputs: bool
    gradients: ParityReport
    trainings: dict[str, GoldenTraining]
    differences: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Everything that ran agreed."""
        golden = all(training.golden for training in self.trainings.values())
        return self.inputs and self.gradients.ok and golden and not self.differences

    def failures(self) -> list[str]:
        """Return a sentence for all that did not agree."""
        wrong = [] if self.inputs else ["the data are not those of the golden hashes"]
        wrong += self.gradients.failures()
        wrong += [
            f"{name} does not have the golden hashes: {training.first}"
            for name, training in self.trainings.items()
            if not training.golden
        ]
        return wrong + self.differences

    def __str__(self) -> str:
        lines = ["", f"-- {self.name} ".ljust(100, "-"), self.gradients.tables(), "", TITLE]
        width = max(map(len, self.trainings), default=0)
        for name, training in self.trainings.items():
            lines += [
                f"{name:<{width}}  gradients  {training.gradients}",
                f"{'':<{width}}  weights    {training.weights}  {training.verdict}",
            ]
        lines += [wrapped(f"WRONG: {text}") for text in self.failures()]
        return "\n".join([*lines, "all agrees" if self.ok else "NOT all agrees"])


@dataclass
class CheckReport:
    """The outcome of `check`; ``print`` it, or test ``report.ok``.

    Attributes
    ----------
    steps : int
        Of each training.
    machine : dict of str to str
        What computed.
    recipes : list of RecipeReport
    not_run : dict of str to str
        Backends and problems that could not be checked, and why.
    required : tuple of str
        Backends that had to run.
    """

    steps: int
    machine: dict[str, str]
    recipes: list[RecipeReport] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Everything that ran agreed, something ran, and so did all that was required."""
        agreed = all(recipe.ok for recipe in self.recipes)
        return bool(self.recipes) and agreed and not self.missing

    @property
    def missing(self) -> list[str]:
        """The backends that were required and did not run."""
        return [name for name in self.required if name in self.not_run]

    @property
    def verdict(self) -> str:
        """The outcome in a few words."""
        if not self.recipes:
            return "nothing was checked"
        agreed = all(recipe.ok for recipe in self.recipes)
        missing = [f"{name} was required and not run" for name in self.missing]
        return "; ".join(["all that ran agrees" if agreed else "NOT all agrees", *missing])

    @property
    def left_out(self) -> dict[str, str]:
        """All that was not run, also within a training, and why."""
        inner = [recipe.gradients.not_run for recipe in self.recipes]
        return {what: why for found in [self.not_run, *inner] for what, why in found.items()}

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON has it."""
        recipes = [
            asdict(r) | {"ok": r.ok, "failures": r.failures(), "gradients": r.gradients.to_dict()}
            for r in self.recipes
        ]
        return {"ok": self.ok, **asdict(self), "recipes": recipes, "verified": verified()}

    @property
    def legend(self) -> dict[str, str]:
        """What each column of the gradients' tables is, and why its limit is what it is."""
        checks = [check for recipe in self.recipes for check in recipe.gradients.checks]
        return {check.what.split(", ")[-1]: check.reason for check in checks}

    @property
    def last_verified(self) -> str:
        """The last GPU on which everything agreed."""
        entries = verified()
        return ", ".join(f"{k} {v}" for k, v in entries[-1].items()) if entries else "no GPU yet"

    def summary(self) -> str:
        """Return what the columns mean, one line for each training, and what was not run."""
        legend = [wrapped(f"{what}: {why}") for what, why in self.legend.items()]
        missing = [wrapped(f"{what}: not run: {why}") for what, why in self.left_out.items()]
        end = [wrapped(f"last verified on: {self.last_verified}"), self.verdict]
        table = [*self._table(), ""] if self.recipes else []
        return "\n".join(["", *legend, *([""] if legend else []), *table, *missing, *end])

    def _table(self) -> list[str]:
        """Return the verdicts of each training, its name last because it may be long."""
        names = self.recipes[0].trainings
        rows = [("gradients", *names, f"training, {self.steps} steps bit by bit")]
        for recipe in self.recipes:
            verdicts = [training.verdict for training in recipe.trainings.values()]
            rows.append(("agree" if recipe.gradients.ok else "DIFFER", *verdicts, recipe.name))
        widths = [max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[:-1]]
        heads = ["".join(map(str.ljust, row, widths)) for row in rows]
        return [wrapped(f"{h}{row[-1]}", sum(widths)) for h, row in zip(heads, rows, strict=True)]

    def __str__(self) -> str:
        return "\n".join([*map(str, self.recipes), self.summary()])


def verified() -> list[dict[str, str]]:
    """Return the GPUs on which the whole check has passed, the last one last."""
    text = Path(__file__).with_name("verified.json").read_text(encoding="utf-8")
    entries: list[dict[str, str]] = json.loads(text)
    return entries
