"""Methods by name, as the papers call them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from mirth.core.validation import find_name
from mirth.inference.methods.auto import Auto
from mirth.inference.methods.mile import MILE
from mirth.inference.methods.sgmcmc import SGMCMC
from mirth.inference.methods.smile import SMILE
from mirth.inference.start.deep_ensemble import DeepEnsemble

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
