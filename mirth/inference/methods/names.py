"""Methods by name, as the papers call them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mirth.core.validation import find_name
from mirth.inference.chains.chains import Recipe
from mirth.inference.methods.auto import Auto
from mirth.inference.methods.mile import MILE
from mirth.inference.methods.sampling import Sampling
from mirth.inference.methods.sgmcmc import SGMCMC
from mirth.inference.methods.smile import SMILE
from mirth.inference.start.deep_ensemble import DeepEnsemble

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

_NAIVE: dict[str, Any] = {"step_size_rule": "fixed", "guarded": False, "refreshed": False}
METHODS: dict[str, Callable[..., Any]] = {
    "auto": Auto,
    "mile": MILE,
    "deep_ensemble": DeepEnsemble,
    "psmile": SMILE,
    "smile": functools.partial(SMILE, preconditioned=False),
    "psmile-naive": functools.partial(SMILE, **_NAIVE),
    "smile-naive": functools.partial(SMILE, preconditioned=False, **_NAIVE),
    "sgld": functools.partial(SGMCMC, kernel="sgld"),
    "psgld": functools.partial(SGMCMC, kernel="psgld"),
    "csgld": functools.partial(SGMCMC, kernel="sgld", schedule="cyclical", n_warmup=0),
    "sghmc": functools.partial(SGMCMC, kernel="sghmc"),
    "adaptive-sghmc": functools.partial(SGMCMC, kernel="adaptive-sghmc"),
}
"""Methods by name, as the papers call them."""


def resolve_method(method: Any) -> Any:
    """Turn a name into a method with its defaults; pass a method object through.

    Raises
    ------
    ValueError
        If the name is unknown.
    TypeError
        If the object is no method.
    """
    if isinstance(method, str):
        return METHODS[find_name("method", method, METHODS)]()
    if isinstance(method, type) or not callable(getattr(method, "run", None)):
        raise TypeError(
            f"method={method!r} must be a name ({', '.join(METHODS)}) or a method object such as "
            "mirth.MILE(n_warmup=5000) or mirth.Sampling(kernel=...)."
        )
    return method


def recipe_of(method: Any, problem: Problem, notes: Sequence[str] = ()) -> Recipe:
    """Give what a method has asked of the chains of a run.

    Parameters
    ----------
    method : method object
        The method.
    problem : Problem
        The run.
    notes : sequence of str
        Its notes, where ``Auto`` says what it has chosen.

    Raises
    ------
    ValueError
        If the method has no chains.
    """
    if isinstance(method, Auto):
        names = {note.partition(":")[0] for note in notes}
        method = next(each for name, each in method.candidates().items() if name in names)
    if isinstance(method, MILE | SMILE | SGMCMC | Sampling):
        return method.recipe(problem)
    raise ValueError(f"{type(method).__name__} has no chains of mirth with a step size.")
