"""The predictive distribution of a class: an exact mixture over draws."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.special import entr

from mirth.core.types import Params
from mirth.core.validation import check_int
from mirth.model import Model
from mirth.prediction import mixture
from mirth.prediction.blocks import DEFAULT_BUFFER_BYTES, prepare_blocks

Rows = Float[np.ndarray, " data"]


class CategoricalPredictive:
    r"""Predictive distribution of a class for each row of new inputs.

    .. math:: p(c | x) = \frac1S \sum_{s=1}^S p(c | x, \theta_s)

    an exact mixture over all S = chains * draws parameters :math:`\theta_s`. Nothing is computed
    before the first method is called; memory, accuracy and what weights do are as for
    :class:`Predictive`. Entropies are in nats.

    Parameters
    ----------
    model : Model
        The model that was sampled, with a likelihood of classes.
    draws : pytree of arrays of shape (chains, draws, ...)
        Parameters of all draws.
    x : array of shape (rows, features) or (rows, ...)
        New inputs, scaled as in the fit.
    max_buffer_bytes : int, default=64 MiB
        Largest buffer while computing. It holds at least one row of all draws.
    seed : int, default=0
        Seed of :meth:`sample`.
    chain_weights : array of shape (chains,), optional
        Weights of the chains with the sum 1; None means equal ones.

    Raises
    ------
    ValueError
        If the leading axes of ``draws`` differ, ``draws`` or ``x`` has numbers that are not finite,
        ``x`` does not fit the network, the likelihood is none of classes, or ``chain_weights`` are
        no weights of these chains.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from mirth.model import MLP, Categorical, Model
    >>> model = Model(MLP((4,), num_outputs=3), Categorical(num_classes=3))
    >>> x = np.linspace(-1, 1, 5)[:, None]
    >>> keys = jax.random.split(jax.random.key(0), (2, 3))  # 2 chains, 3 draws
    >>> draws = jax.jit(jax.vmap(jax.vmap(lambda key: model.init(key, x))))(keys)
    >>> predictive = CategoricalPredictive(model, draws, x)
    >>> predictive.probabilities().sum(axis=1)
    array([1., 1., 1., 1., 1.])
    >>> bool((predictive.epistemic() <= predictive.entropy()).all())
    True
    """

    def __init__(
        self,
        model: Model,
        draws: Params,
        x: Any,
        *,
        max_buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        seed: int = 0,
        chain_weights: Any = None,
    ) -> None:
        if not model.likelihood.has_classes:
            raise ValueError(
                f"model has the likelihood {model.likelihood!r} of numbers; use Predictive, "
                "or make_predictive to choose by the likelihood."
            )
        self._num_classes = model.likelihood.num_classes  # type: ignore[attr-defined]
        self._seed = check_int("seed", seed, minimum=0)
        self._blocks, self._shape = prepare_blocks(model, draws, x, max_buffer_bytes, chain_weights)

    def probabilities(self) -> Float[np.ndarray, "data classes"]:
        """Mean over draws of the class probabilities, shape (rows, classes); rows sum to 1."""
        return self._moments[0].copy()

    def mode(self) -> Int[np.ndarray, " data"]:
        """Index of the most probable class, shape (rows,)."""
        return np.argmax(self._moments[0], axis=1)

    def entropy(self) -> Rows:
        r"""Entropy of the mixture in nats, shape (rows,): :math:`H[\frac1S \sum_s p_s]`."""
        return np.sum(entr(self._moments[0]), axis=1)

    def aleatoric(self) -> Rows:
        r"""Mean over draws of the entropy in nats, shape (rows,): :math:`\frac1S \sum_s H[p_s]`."""
        return self._moments[1].copy()

    def epistemic(self) -> Rows:
        r"""Mutual information of class and parameters in nats, shape (rows,).

        .. math:: H\Big[\frac1S \sum_s p_s\Big] - \frac1S \sum_s H[p_s] \ge 0

        :meth:`entropy` - :meth:`aleatoric`, where rounding below 0 is cut.
        """
        return np.maximum(self.entropy() - self._moments[1], 0.0)

    def log_prob(self, y: Any) -> Rows:
        r"""Log probability of classes, shape (rows,): :math:`\log \frac1S \sum_s p(y | \theta_s)`.

        Parameters
        ----------
        y : int array of shape (rows,)
            Class indices.

        Raises
        ------
        ValueError
            If ``y`` has another shape, is no array of integers, or has an unknown class.
        """
        return mixture.log_prob(self._blocks, self._check_target(y))

    def log_prob_per_draw(self, y: Any) -> Float[np.ndarray, "chains draws data"]:
        """Log probability of classes under each draw, shape (chains, draws, rows).

        Parameters
        ----------
        y : int array of shape (rows,)
            Class indices.

        Raises
        ------
        ValueError
            If ``y`` has another shape, is no array of integers, or has an unknown class.
        """
        values = mixture.log_prob_per_draw(self._blocks, self._check_target(y))
        return values.reshape(*self._shape, -1)

    def sample(self, n: int, *, seed: int | None = None) -> Int[np.ndarray, "samples data"]:
        """Sample class indices from the mixture, shape (n, rows).

        Each sample belongs to one draw of the parameters, the same for all rows. Draws come in
        random order, each again only after all others.

        Parameters
        ----------
        n : int
            Number of samples. The first samples are the same for every ``n``.
        seed : int, optional
            Another seed than that of the constructor.

        Raises
        ------
        ValueError
            If ``n`` is less than 1 or ``seed`` negative.
        """
        seed = self._seed if seed is None else check_int("seed", seed, minimum=0)
        return mixture.sample(self._blocks, check_int("n", n, minimum=1), seed)

    def sample_per_draw(self, *, seed: int | None = None) -> Int[np.ndarray, "chains draws data"]:
        """Sample one class index from each draw, shape (chains, draws, rows).

        Parameters
        ----------
        seed : int, optional
            Another seed than that of the constructor.

        Raises
        ------
        ValueError
            If ``seed`` is negative.
        """
        seed = self._seed if seed is None else check_int("seed", seed, minimum=0)
        values = mixture.sample_per_draw(self._blocks, seed)
        return values.reshape(*self._shape, -1)

    def component_means(self) -> Float[np.ndarray, "chains draws data classes"]:
        """Class probabilities of each draw, shape (chains, draws, rows, classes)."""
        shape = (self._blocks.num_draws, self._blocks.num_rows, self._num_classes)
        result = np.empty(shape)
        for rows, values in self._blocks.components("probabilities"):
            result[:, rows] = values
        return result.reshape(*self._shape, *shape[1:])

    @cached_property
    def _moments(self) -> tuple[Float[np.ndarray, "data classes"], Rows]:
        """Mean probabilities and mean entropy."""
        probabilities = np.empty((self._blocks.num_rows, self._num_classes))
        aleatoric, weights = np.empty(self._blocks.num_rows), self._blocks.weights
        for rows, values in self._blocks.components("probabilities"):
            probabilities[rows] = mixture.mean_of_draws(values, weights)
            entropies = np.asarray(_component_entropies(values))
            aleatoric[rows] = mixture.mean_of_draws(entropies, weights)
        # The sums are 1 to float32 rounding; score functions expect float64 rounding.
        return probabilities / probabilities.sum(axis=1, keepdims=True), aleatoric

    def _check_target(self, y: Any) -> Int[np.ndarray, " data"]:
        """Check class indices of shape (rows,)."""
        values = np.asarray(y)
        if values.shape != (self._blocks.num_rows,):
            raise ValueError(
                f"y has shape {values.shape}, but x has {self._blocks.num_rows} rows; pass one "
                f"class index per row, shape ({self._blocks.num_rows},)."
            )
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(
                f"y has the type {values.dtype}; pass class indices, integers from 0 to "
                f"{self._num_classes - 1}."
            )
        if values.min() < 0 or values.max() >= self._num_classes:
            raise ValueError(
                f"y has classes from {values.min()} to {values.max()}, but the model knows 0 to "
                f"{self._num_classes - 1}; drop rows of unknown classes."
            )
        return values


@jax.jit
def _component_entropies(probabilities: Float[Array, "draws data classes"]) -> Array:
    """Entropy of each draw and row."""
    return jnp.sum(jax.scipy.special.entr(probabilities), axis=-1)
