"""A prior of its own for each parameter, chosen by its name."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mirth.core.trees import leaf_name
from mirth.core.types import Key, Params
from mirth.core.validation import MAX_LISTED, nearest_name
from mirth.model.priors.base import Prior


@dataclasses.dataclass(frozen=True)
class PriorMap(Prior):
    """Priors by the names of the parameters; the first pattern that matches decides.

    The name of a parameter is its place in the tree of the network, joined by dots: the built-in
    MLP has ``"0.weight"``, ``"0.bias"``, ``"1.weight"`` and so on. :meth:`table` lists them. A
    pattern may have the wildcards of the shell: ``*`` for any text, ``?`` for any character,
    ``[01]`` for one of some.

    Parameters
    ----------
    priors : mapping of str to Prior, or tuple of such pairs
        Pattern to prior, in the order in which they are tried. ``"*"`` as the last takes the rest.

    Raises
    ------
    TypeError
        If ``priors`` is no mapping, a pattern is no text or a value is no prior.
    ValueError
        If ``priors`` is empty; when a network is made, if a parameter has no prior or a pattern
        has no parameter (the nearest is suggested).

    Examples
    --------
    >>> import jax
    >>> from mirth.model import MLP, LaplacePrior, NormalPrior
    >>> prior = PriorMap({"*.weight": LaplacePrior(scale=0.5), "*.bias": NormalPrior()})
    >>> network = MLP((4,), num_outputs=2)
    >>> x = jax.ShapeDtypeStruct((10, 3), "float32")
    >>> print(prior.table(jax.eval_shape(network.init, jax.random.key(0), x)))
    parameter  shape   prior
    0.bias     (4,)    NormalPrior(scale=1.0)
    0.weight   (4, 3)  LaplacePrior(scale=0.5)
    1.bias     (2,)    NormalPrior(scale=1.0)
    1.weight   (2, 4)  LaplacePrior(scale=0.5)
    """

    priors: Mapping[str, Prior] | tuple[tuple[str, Prior], ...]

    def __post_init__(self) -> None:
        given = self.priors
        if not isinstance(given, Mapping | tuple):
            raise TypeError(
                f"priors={given!r} must map patterns to priors, such as "
                "{'*.weight': mirth.priors.LaplacePrior(), '*': mirth.priors.NormalPrior()}."
            )
        # Pairs, because their order matters where two maps are compared, and because a model
        # must be hashable.
        pairs = tuple(given.items()) if isinstance(given, Mapping) else given
        object.__setattr__(self, "priors", pairs)
        if not pairs:
            raise ValueError("priors={} must have a pattern; {'*': prior} matches every parameter.")
        for pattern, prior in pairs:
            if not isinstance(pattern, str) or not isinstance(prior, Prior):
                raise TypeError(
                    f"priors[{pattern!r}]={prior!r} must be a prior object such as "
                    "mirth.priors.NormalPrior(scale=0.5), by a pattern in quotes."
                )

    def log_prob(self, params: Params) -> Float[Array, ""]:
        terms = [prior.log_prob(self._part(i, params)) for i, prior in self._numbered()]
        return jnp.sum(jnp.stack(terms))

    def sample(self, key: Key, like: Params) -> Params:
        return eqx.combine(
            *(
                prior.sample(jax.random.fold_in(key, i), self._part(i, like))
                for i, prior in self._numbered()
            )
        )

    def init_hyper(self, weights: Params) -> dict[str, Params]:
        hyper: dict[str, Params] = {}
        for i, prior in self._numbered():
            for role, tree in prior.init_hyper(self._part(i, weights)).items():
                hyper[role] = eqx.combine(hyper[role], tree) if role in hyper else tree
        return hyper

    def hyper_log_prob(self, hyper: dict[str, Params]) -> Float[Array, ""] | float:
        return sum(prior.hyper_log_prob(self._roles(i, hyper)) for i, prior in self._numbered())

    def weights(self, params: Params, hyper: dict[str, Params]) -> Params:
        return eqx.combine(
            *(
                prior.weights(self._part(i, params), self._roles(i, hyper))
                for i, prior in self._numbered()
            )
        )

    def standardised(self, weights: Params, hyper: dict[str, Params]) -> Params:
        return eqx.combine(
            *(
                prior.standardised(self._part(i, weights), self._roles(i, hyper))
                for i, prior in self._numbered()
            )
        )

    def check(self, weights: Params) -> None:
        names = [leaf_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(weights)]
        chosen = {name: self._find(name) for name in names}
        patterns = [pattern for pattern, _ in self._pairs]
        if unused := [p for i, p in enumerate(patterns) if i not in chosen.values()]:
            raise ValueError(_unused(unused[0], names))
        if orphans := [name for name, i in chosen.items() if i is None]:
            raise ValueError(
                f"priors has no pattern for the parameter {orphans[0]!r} "
                f"({len(orphans)} of {len(names)} have none). Patterns: {', '.join(patterns)}; "
                "add '*' as the last one for all the rest."
            )
        for i, prior in self._numbered():
            prior.check(self._part(i, weights))

    def prior_of(self, name: str) -> Prior:
        i = self._find(name)
        if i is None:
            raise ValueError(f"priors has no pattern for the parameter {name!r}.")
        return self._pairs[i][1].prior_of(name)

    @property
    def _pairs(self) -> tuple[tuple[str, Prior], ...]:
        assert isinstance(self.priors, tuple)  # since __post_init__
        return self.priors

    def _numbered(self) -> Iterator[tuple[int, Prior]]:
        return ((i, prior) for i, (_, prior) in enumerate(self._pairs))

    def _find(self, name: str) -> int | None:
        """Find the first pattern that matches a name."""
        matching = (i for i, (p, _) in enumerate(self._pairs) if fnmatchcase(name, p))
        return next(matching, None)

    def _part(self, number: int, tree: Params) -> Params:
        """Keep the leaves that a pattern has, and put None in the place of the others."""
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf if self._find(leaf_name(path)) == number else None, tree
        )

    def _roles(self, number: int, hyper: dict[str, Params]) -> dict[str, Params]:
        """Keep the hyper-parameters of the leaves that a pattern has."""
        return {role: self._part(number, tree) for role, tree in hyper.items()}


def _unused(pattern: str, names: list[Any]) -> str:
    """Say that a pattern has no parameter, and what may be meant."""
    if taken := [name for name in names if fnmatchcase(name, pattern)]:
        return (
            f"priors[{pattern!r}] has no parameter left: {taken[0]!r} is matched by an earlier "
            "pattern. Put the narrower pattern first, or drop this one."
        )
    ends = {re.sub(r"^.*(?=[./])", "*", name) for name in names}
    near = nearest_name(pattern, [*names, *sorted(ends)])
    hint = "" if near is None else f"; did you mean {near!r}?"
    listed = ", ".join(names[:MAX_LISTED]) + (", ..." if len(names) > MAX_LISTED else "")
    return f"priors[{pattern!r}] matches no parameter{hint or '.'} Parameters: {listed}."
