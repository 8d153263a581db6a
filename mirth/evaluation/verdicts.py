"""From numbers about chains to verdicts, and from verdicts to one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mirth.core.outcomes import ChainVerdict

FROZEN_BELOW = 1e-6
"""Relative distance below which a chain is frozen: a few roundings of float32, no movement."""

DIVERGING_ABOVE = 0.05
"""Rate of reverted steps above which a chain is diverging."""

TOLERANCE = 0.05
"""Loss in nats per row against its start that is accepted of a chain."""

STANDARD_ERRORS = 2.0
"""The loss must also exceed this many standard errors."""

_PHRASES = {
    ChainVerdict.FROZEN: ("did not move", "did not move"),
    ChainVerdict.DIVERGING: ("kept diverging", "kept diverging"),
    ChainVerdict.AT_CAP: (
        "is held at the cap of its step size",
        "are held at the cap of their step size",
    ),
    ChainVerdict.WORSE_THAN_START: (
        "predicts worse than its start",
        "predict worse than their start",
    ),
}


def first_verdict(is_so: dict[ChainVerdict, np.ndarray]) -> list[ChainVerdict]:
    """Give each chain the first verdict that applies to it, MOVED if there is none.

    Parameters
    ----------
    is_so : dict of bool arrays of shape (chains,)
        Which chains a verdict applies to, the worst verdict first.

    Returns
    -------
    list of ChainVerdict
        One per chain.

    Examples
    --------
    >>> [v.name for v in first_verdict({ChainVerdict.FROZEN: np.array([True, False])})]
    ['FROZEN', 'MOVED']
    """
    num_chains = len(next(iter(is_so.values())))
    return [
        next((verdict for verdict, found in is_so.items() if found[k]), ChainVerdict.MOVED)
        for k in range(num_chains)
    ]


def summarize_health(verdicts: Sequence[ChainVerdict], numbers: Sequence[int] | None = None) -> str:
    """Say in one sentence which chains are unhealthy.

    Parameters
    ----------
    verdicts : sequence of ChainVerdict
        One per chain, from ``judge_chains``.
    numbers : sequence of int, optional
        Number of each chain, if they are not 0, 1, 2, ...

    Returns
    -------
    str
        A sentence that names chains by their numbers, from 0.

    Raises
    ------
    ValueError
        If there are no verdicts.

    Examples
    --------
    >>> good, bad = ChainVerdict.MOVED, ChainVerdict.FROZEN
    >>> summarize_health([good, good, good, bad, good, good, good, bad])
    'Of 8 chains (numbered from 0), chains 3 and 7 did not move.'
    >>> summarize_health([good, good])
    'All chains (2) moved and predict no worse than their start.'
    """
    if not verdicts:
        raise ValueError("verdicts is empty; there is no chain to speak of.")
    numbers = range(len(verdicts)) if numbers is None else numbers
    clauses = []
    for verdict, (singular, plural) in _PHRASES.items():
        chains = [str(k) for k, other in zip(numbers, verdicts, strict=True) if other is verdict]
        if len(chains) == 1:
            clauses.append(f"chain {chains[0]} {singular}")
        elif chains:
            clauses.append(f"chains {', '.join(chains[:-1])} and {chains[-1]} {plural}")
    if not clauses:
        return f"All chains ({len(verdicts)}) moved and predict no worse than their start."
    return f"Of {len(verdicts)} chains (numbered from 0), {'; '.join(clauses)}."
