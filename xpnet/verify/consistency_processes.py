"""The consistency check on several processes: together they have the golden hashes, too."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

from xpnet.backend import Backend
from xpnet.parallel.communicator import Communicator
from xpnet.verify.golden import RECIPES, STEPS, Recipe, golden_trace, trace

PHASES = ("backward", "update")  # of the outputs, each process has its own samples only


def check_processes(
    comm: Communicator,
    problems: Iterable[str],
    backends: Iterable[Backend],
    steps: int = STEPS,
    *,
    data_dir: str | None = None,
    on_line: Callable[[str], None] = print,
) -> bool:
    """Check that processes which share each batch have the golden hashes of a single one.

    Parameters
    ----------
    comm : Communicator
        The processes, all of which call this.
    problems : iterable of str
        Of ``"xor"``, ``"spiral"``, ``"digits"`` and ``"mnist"``.
    backends : iterable of Backend
        In reproducible mode.
    steps : int
        Of each training.
    data_dir : str, optional
        Where the files of MNIST are.
    on_line : function
        Called with the outcome of each training, a line of text.

    Returns
    -------
    bool
        True if all gradients and parameters of each step had the hashes on all processes.
    """
    wanted, outcomes = set(problems), list[str]()
    recipes = [recipe for recipe in RECIPES if recipe.problem in wanted]
    for xp, recipe in product(backends, recipes):
        own = _differs(recipe, xp, comm, steps, data_dir)
        differs = "; ".join(filter(None, comm.allgather(own)))
        outcomes.append(differs)
        verdict = f"NOT GOLDEN ({differs})" if differs else "golden"
        on_line(f"{xp.name}, {comm.size} processes: {verdict:<10}  {recipe.name}")
    return bool(outcomes) and not any(outcomes)


def _differs(
    recipe: Recipe, xp: Backend, comm: Communicator, steps: int, data_dir: str | None
) -> str:
    """Return where this process first has another hash, empty if nowhere."""
    found, golden = trace(recipe, xp, steps, data_dir, comm), golden_trace(recipe)
    first = found.first_difference(golden, PHASES)
    if first:
        return f"rank {comm.rank} in step {first[0] + 1}, in the {first[1]} phase"
    if steps == STEPS and any(found.sha256[phase] != golden.sha256[phase] for phase in PHASES):
        return f"rank {comm.rank} in the hash of the whole training"
    return ""
