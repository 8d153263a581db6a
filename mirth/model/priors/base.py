"""What a prior is to the rest of the library."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from mirth.core.config import Configurable
from mirth.core.trees import leaf_name
from mirth.core.types import Key, Params


class Prior(Configurable, abc.ABC):
    r"""A prior of the network's parameters (its weights and biases, "weights" for short).

    Most priors have a density of the weights themselves; such a prior defines :meth:`log_prob` and
    :meth:`sample`, and nothing else. A prior with hyper-parameters :math:`h` that are sampled, too,
    is written in the non-centred form

    .. math:: w = f(z, h), \quad \log p(z, h) = \log p(z) + \log p(h),

    in which :math:`z`, standing in the place of the weights, does not depend on :math:`h` a priori.
    Everything that is sampled is unconstrained, and the densities are those of the unconstrained
    numbers: the logarithm of the Jacobian is part of them.
    """

    @abc.abstractmethod
    def log_prob(self, params: Params) -> Float[Array, ""]:
        """Log density of what is sampled in the place of the weights, all together."""

    @abc.abstractmethod
    def sample(self, key: Key, like: Params) -> Params:
        """Draw weights with the shapes and types of ``like``."""

    def init_hyper(self, weights: Params) -> dict[str, Params]:
        """Give first hyper-parameters that fit some weights: role to tree; empty if there are none.

        The trees are those of the weights, with other leaves (None where there is nothing).
        """
        return {}

    def hyper_log_prob(self, hyper: dict[str, Params]) -> Float[Array, ""] | float:
        """Log density of the unconstrained hyper-parameters."""
        return 0.0

    def weights(self, params: Params, hyper: dict[str, Params]) -> Params:
        """Give the weights that stand for what is sampled."""
        return params

    def standardised(self, weights: Params, hyper: dict[str, Params]) -> Params:
        """Undo :meth:`weights`."""
        return weights

    def check(self, weights: Params) -> None:
        """Refuse weights that the prior does not fit.

        Raises
        ------
        ValueError
            If so; the text names the parameter and what to do.
        """

    def prior_of(self, name: str) -> Prior:
        """Give the prior of a parameter, given its name such as ``"0.weight"``."""
        return self

    def table(self, weights: Params) -> str:
        """Tabulate the parameters: name, shape, prior.

        Parameters
        ----------
        weights : pytree of arrays, or of their shapes
            Parameters of the network.

        Returns
        -------
        str
            One line for each array.

        Examples
        --------
        >>> import numpy as np
        >>> from mirth.model import NormalPrior
        >>> print(NormalPrior().table({"bias": np.zeros(2), "weight": np.zeros((2, 3))}))
        parameter  shape   prior
        bias       (2,)    NormalPrior(scale=1.0)
        weight     (2, 3)  NormalPrior(scale=1.0)
        """
        rows = [("parameter", "shape", "prior")]
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights):
            name = leaf_name(path)
            rows.append((name, str(leaf.shape), repr(self.prior_of(name))))
        first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
        return "\n".join(f"{a:{first}}  {b:{second}}  {c}" for a, b, c in rows)


def draw_like(draw: Callable[[Key, Any, Any], Array], key: Key, like: Params) -> Params:
    """Fill a tree with random numbers from ``draw(key, shape, dtype)``, a key for each leaf."""
    leaves, treedef = jax.tree.flatten(like)
    draws = [
        draw(jax.random.fold_in(key, i), leaf.shape, leaf.dtype) for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(treedef, draws)
