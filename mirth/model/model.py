"""A model: network, likelihood and prior, together a log density."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from mirth.core.types import Batch, Key, Params
from mirth.model.likelihoods import Likelihood
from mirth.model.network import Network, SumsLogLikelihood
from mirth.model.priors import NormalPrior, Prior
from mirth.model.terms import ROWS_PER_TERM, group_sums


@dataclasses.dataclass(frozen=True)
class Model:
    r"""A Bayesian neural network: what is sampled.

    .. math:: \log p(\theta \mid D) = \log p(\theta)
              + \frac{N}{B} \sum_{i \in \text{batch}} w_i \log p(y_i \mid x_i, \theta) + c

    on the sum scale, at temperature 1, with the exact ratio of ``data_size`` N to the number of
    rows in the batch B.

    The parameters are ``{"network": ...}``, with ``"shared"`` where the likelihood has shared
    scalars and ``"hyper"`` where the prior has hyper-parameters. With ``"hyper"``, ``"network"``
    holds standardised numbers, and :meth:`to_weights` gives the weights that they stand for;
    without it, the weights.

    Parameters
    ----------
    network : Network
        Object with ``init(key, x) -> params`` and ``apply(params, x) -> outputs``.
    likelihood : Likelihood
        Distribution of a target given the outputs.
    prior : Prior, default=NormalPrior()
        Prior of the network's parameters.

    Raises
    ------
    TypeError
        If ``network`` lacks ``init`` or ``apply``.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from mirth.model import MLP, Normal
    >>> model = Model(MLP((4,), num_outputs=2), Normal())
    >>> batch = Batch(jnp.ones((3, 2)), jnp.zeros(3))
    >>> params = jax.jit(model.init)(jax.random.key(0), batch.x)
    >>> jax.jit(model.log_density)(params, batch).shape
    ()
    """

    network: Network
    likelihood: Likelihood
    prior: Prior = NormalPrior()

    def __post_init__(self) -> None:
        if not isinstance(self.network, Network):
            raise TypeError(
                f"network={self.network!r} must have the methods init(key, x) and "
                "apply(params, x); wrap two plain functions in mirth.networks.FunctionalNetwork."
            )

    def init(self, key: Key, x: PyTree[Array]) -> Params:
        """Draw first parameters; the weights are those of :meth:`init_weights`."""
        return self.from_weights(self.init_weights(key, x))

    def init_weights(self, key: Key, x: PyTree[Array]) -> Params:
        """Draw first weights and check that the network fits the likelihood and the prior.

        Parameters
        ----------
        key : Key
            Random key.
        x : array of shape (data, features) or (data, ...), or pytree of arrays
            Inputs, scaled; only their shape matters.

        Returns
        -------
        dict
            ``{"network": ...}``, and ``"shared"`` if the likelihood has shared scalars.

        Raises
        ------
        TypeError
            If a parameter does not hold real floating point numbers.
        ValueError
            If the network does not return (data, ``likelihood.num_outputs``), or the prior does not
            fit its parameters.
        """
        params = {"network": self.network.init(key, x)}
        _check_floating(params["network"])
        self.prior.check(params["network"])
        outputs = jax.eval_shape(self.network.apply, params["network"], x)
        shapes = jax.tree.map(jnp.shape, x)
        num_rows = jax.tree.leaves(x)[0].shape[0]
        expected = (num_rows, self.likelihood.num_outputs)
        if outputs.shape != expected:
            raise ValueError(
                f"The network returns outputs of shape {outputs.shape} for inputs of shape "
                f"{shapes}, but {type(self.likelihood).__name__} needs {expected}: "
                f"(data, outputs) with {self.likelihood.num_outputs} output(s) per row."
            )
        if self.likelihood.num_shared:
            params["shared"] = self.likelihood.init_shared()
        return params

    def from_weights(self, weights: Params) -> Params:
        """Give the parameters that stand for some weights, with hyper-parameters that fit them.

        Parameters
        ----------
        weights : dict
            As from :meth:`init_weights`, or found by optimisation.

        Returns
        -------
        dict
            Parameters; ``weights`` themselves if the prior has no hyper-parameters.

        Examples
        --------
        >>> import jax, jax.numpy as jnp
        >>> from mirth.model import MLP, HierarchicalNormalPrior, Normal
        >>> model = Model(MLP((4,), num_outputs=2), Normal(), HierarchicalNormalPrior())
        >>> weights = model.init_weights(jax.random.key(0), jnp.ones((3, 2)))
        >>> params = model.from_weights(weights)
        >>> sorted(params), list(params["hyper"])
        (['hyper', 'network'], ['log_scale'])
        >>> back = model.to_weights(params)["network"][0]["weight"]
        >>> bool(jnp.allclose(back, weights["network"][0]["weight"]))
        True
        """
        hyper = self.prior.init_hyper(weights["network"])
        if not jax.tree.leaves(hyper):
            return weights
        network = self.prior.standardised(weights["network"], hyper)
        return weights | {"network": network, "hyper": hyper}

    def to_weights(self, params: Params) -> Params:
        """Undo :meth:`from_weights`: ``{"network": weights}``, and ``"shared"`` as it is."""
        others = {name: value for name, value in params.items() if name != "hyper"}
        return others | {"network": self._weights(params)}

    def _weights(self, params: Params) -> Params:
        """Weights of the network."""
        if "hyper" not in params:
            return params["network"]
        return self.prior.weights(params["network"], params["hyper"])

    def outputs(self, params: Params, x: PyTree[Array]) -> Float[Array, "data outputs"]:
        """Outputs of the network followed by the shared scalars, as a likelihood sees them."""
        outputs = self.network.apply(self._weights(params), x)
        if not self.likelihood.num_shared:
            return outputs
        tiled = jnp.broadcast_to(params["shared"], (outputs.shape[0], self.likelihood.num_shared))
        return jnp.concatenate([outputs, tiled], axis=1)

    def log_prob(self, params: Params, batch: Batch) -> Float[Array, " data"]:
        """Log likelihood of each row, unweighted."""
        return self.likelihood.log_prob(self.outputs(params, batch.x), batch.y)

    def log_prior(self, params: Params) -> Float[Array, ""]:
        """Log prior density of all parameters, hyper-parameters included."""
        log_prior = self.prior.log_prob(params["network"])
        log_prior = log_prior + self.prior.hyper_log_prob(params.get("hyper", {}))
        if self.likelihood.num_shared:
            log_prior = log_prior + self.likelihood.shared_log_prior(params["shared"])
        return log_prior

    def log_likelihood(self, params: Params, batch: Batch) -> Float[Array, ""]:
        """Sum over rows of the weighted log likelihood."""
        return self.split_log_likelihood(params, batch)[0]

    def split_log_likelihood(
        self, params: Params, batch: Batch, rows_per_term: int = ROWS_PER_TERM
    ) -> tuple[Float[Array, ""], Float[Array, " terms"]]:
        """Sum over rows of the weighted log likelihood, and over groups of rows.

        Differences of the groups' sums keep the digits that one large sum has lost. The sum is what
        is to be differentiated; through the groups of an :class:`MLP` no derivative passes.

        Parameters
        ----------
        params : dict
            Parameters, as from :meth:`init`.
        batch : Batch
            Rows.
        rows_per_term : int, default=4096
            Rows of a group; the last one may have fewer.

        Returns
        -------
        sum : scalar array
            As :meth:`log_likelihood`.
        terms : array of shape (ceil(rows / rows_per_term),)
            Sums of the groups.
        """
        if isinstance(self.network, SumsLogLikelihood):
            return self.network.sum_log_likelihood(
                self.likelihood,
                self._weights(params),
                params.get("shared", jnp.zeros(0)),
                batch.x,
                batch.y,
                batch.weights,
                rows_per_term,
            )
        log_prob = self.log_prob(params, batch)
        weighted = log_prob if batch.weights is None else batch.weights * log_prob
        return jnp.sum(weighted), group_sums(weighted, rows_per_term)

    def log_density(
        self, params: Params, batch: Batch, data_size: int | None = None
    ) -> Float[Array, ""]:
        """Log posterior density up to a constant.

        Parameters
        ----------
        params : dict
            Parameters, as from :meth:`init`.
        batch : Batch
            Rows; ``batch.num_rows`` of them (all if None) are real, the others have weight 0.
        data_size : int, optional
            Rows N of the whole data set; None means that the batch is the data set.

        Returns
        -------
        scalar array
            Log prior + (N / rows in the batch) * summed log likelihood.
        """
        log_likelihood = self.log_likelihood(params, batch)
        if data_size is not None:
            num_rows = batch.y.shape[0] if batch.num_rows is None else batch.num_rows
            log_likelihood = (data_size / num_rows) * log_likelihood
        return self.log_prior(params) + log_likelihood

    def explain_non_finite(self, params: Params, batch: Batch) -> str | None:
        """Say which term of the log density is not finite; None if all are finite.

        Parameters
        ----------
        params : dict
            Parameters, as from :meth:`init`.
        batch : Batch
            Rows.

        Returns
        -------
        str or None
            A sentence that names the prior, the network or the likelihood, and the first rows.
        """
        if not np.isfinite(self.log_prior(params)):
            return "The log prior is not finite; check the prior and the first parameters."
        for term, values in (
            ("output of the network", self.outputs(params, batch.x)),
            ("log likelihood", self.log_prob(params, batch)),
        ):
            finite = np.isfinite(np.asarray(values))
            bad = np.flatnonzero(~finite.reshape(len(finite), -1).all(axis=1))
            if bad.size:
                rows = ", ".join(map(str, bad[:5])) + (", ..." if bad.size > 5 else "")
                return (
                    f"The {term} is not finite in {bad.size} of {len(finite)} rows ({rows}); "
                    "check these rows of X and y."
                )
        return None


def _check_floating(params: Any) -> None:
    """Refuse parameters that have no density on the real numbers, by name."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise TypeError("The network has no parameters; there is nothing to sample.")
    for path, leaf in leaves:
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"The parameter {jax.tree_util.keystr(path)} of the network is of type {dtype}; "
                "only real floating point arrays can be sampled. Keep constants outside the "
                "parameters, and store a complex array as its real and imaginary part."
            )
