"""The predictive distribution of one number or several: an exact mixture over draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from mirth.core.types import Params
from mirth.core.validation import check_int
from mirth.evaluation import randomised_pit
from mirth.model import Model, NumericLikelihood, SeveralTargets
from mirth.prediction import crps, mixture
from mirth.prediction.blocks import DEFAULT_BUFFER_BYTES, prepare_blocks
from mirth.prediction.checks import check_levels, check_target, check_units, check_values
from mirth.prediction.units import original_values

Rows = Float[np.ndarray, " data"]
PerTarget = Float[np.ndarray, "data *targets"]  # (rows,), or (rows, targets)


class Predictive:
    r"""Predictive distribution of numbers for each row of new inputs.

    .. math:: p(y | x) = \frac1S \sum_{s=1}^S p(y | x, \theta_s), \quad
              y = \text{shift} + \text{scale} \cdot y_\text{scaled}

    an exact mixture over all S = chains * draws parameters :math:`\theta_s`, not samples of it.
    With ``chain_weights`` w, here and below, a draw of chain k counts w_k / draws instead of 1 / S.
    Nothing is computed before the first method is called. Work goes row block by row block, so that
    no buffer exceeds ``max_buffer_bytes``; the results do not depend on the blocks. All methods
    return NumPy arrays of float64 in the original units of the target, accurate to about float32.

    Where the likelihood has T targets, results have a last axis of length T and tell of each target
    alone; only :meth:`log_prob`, :meth:`log_prob_per_draw` and :meth:`sample` are joint. Quantiles
    of counts and rounded values are such values: the smallest ones that reach the level.

    Parameters
    ----------
    model : Model
        The model that was sampled, with a likelihood of numbers.
    draws : pytree of arrays of shape (chains, draws, ...)
        Parameters of all draws.
    x : array of shape (rows, features) or (rows, ...)
        New inputs, scaled as in the fit.
    shift : float or array of shape (targets,), default=0.0
        Value of the target, in original units, at 0 in scaled units.
    scale : float or array of shape (targets,), default=1.0
        One scaled unit in original units.
    max_buffer_bytes : int, default=64 MiB
        Largest buffer while computing. It holds at least one row of all draws; results that are as
        large by themselves, such as those of :meth:`component_means`, do not count.
    seed : int, default=0
        Seed of :meth:`sample` and :meth:`pit`.
    chain_weights : array of shape (chains,), optional
        Weights of the chains with the sum 1; None means equal ones.

    Raises
    ------
    ValueError
        If the leading axes of ``draws`` differ, ``draws`` or ``x`` has numbers that are not finite,
        ``x`` does not fit the network, ``scale`` is not positive, the likelihood is none of numbers
        or does not allow this change of units, or ``chain_weights`` are none of these chains.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from mirth.model import MLP, Model, Normal
    >>> model = Model(MLP((4,), num_outputs=2), Normal())
    >>> x = np.linspace(-1, 1, 5)[:, None]
    >>> keys = jax.random.split(jax.random.key(0), (2, 3))  # 2 chains, 3 draws
    >>> draws = jax.jit(jax.vmap(jax.vmap(lambda key: model.init(key, x))))(keys)
    >>> predictive = Predictive(model, draws, x, shift=10.0, scale=2.0)
    >>> predictive.mean().shape, predictive.interval(0.9).shape
    ((5,), (5, 2))
    >>> parts = predictive.epistemic() + predictive.aleatoric()
    >>> bool(np.allclose(predictive.variance(), parts))
    True
    """

    def __init__(
        self,
        model: Model,
        draws: Params,
        x: Any,
        *,
        shift: Any = 0.0,
        scale: Any = 1.0,
        max_buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        seed: int = 0,
        chain_weights: Any = None,
    ) -> None:
        likelihood = model.likelihood
        if likelihood.has_classes:
            raise ValueError(
                f"model has the likelihood {likelihood!r} of classes; use "
                "CategoricalPredictive, or make_predictive to choose by the likelihood."
            )
        if not isinstance(likelihood, NumericLikelihood | SeveralTargets):
            raise ValueError(
                f"model has the likelihood {likelihood!r}, which has no distribution function; "
                "derive it from mirth.model.NumericLikelihood."
            )
        self._targets = likelihood.target_shape
        self._shift, self._scale = check_units(likelihood, shift, scale)
        self._seed = check_int("seed", seed, minimum=0)
        self._blocks, self._shape = prepare_blocks(model, draws, x, max_buffer_bytes, chain_weights)
        self._weights = self._blocks.weights

    def mean(self) -> PerTarget:
        """Mean of the mixture, shape (rows,)."""
        return self._shift + self._scale * self._moments[0]

    def variance(self) -> PerTarget:
        """Variance of the mixture, shape (rows,): :meth:`epistemic` + :meth:`aleatoric`."""
        return self.epistemic() + self.aleatoric()

    def std(self) -> PerTarget:
        """Standard deviation of the mixture, shape (rows,)."""
        return np.sqrt(self.variance())

    def epistemic(self) -> PerTarget:
        r"""Variance over draws of the means, :math:`\frac1S \sum_s (\mu_s - \bar\mu)^2`.

        More data would reduce it. Shape (rows,).
        """
        return self._scale**2 * self._moments[1]

    def aleatoric(self) -> PerTarget:
        r"""Mean over draws of the variances, :math:`\frac1S \sum_s \sigma_s^2`.

        The noise of the target, that more data would not reduce. Shape (rows,).
        """
        return self._scale**2 * self._moments[2]

    def component_means(self) -> Float[np.ndarray, "chains draws data *targets"]:
        """Mean of each component, shape (chains, draws, rows), as for convergence diagnostics."""
        result = np.empty((self._blocks.num_draws, self._blocks.num_rows, *self._targets))
        for rows, means in self._blocks.components("mean"):
            result[:, rows] = self._shift + self._scale * means.astype(np.float64)
        return result.reshape(*self._shape, *result.shape[1:])

    def cdf(self, y: Any) -> np.ndarray:
        """Probability of a target of at most ``y``.

        Parameters
        ----------
        y : float, or array of shape (rows,) or (rows, values)
            Targets in original units; a single one is meant for every row. With several targets
            arrays have a last axis for them.

        Returns
        -------
        array of shape (rows,), or (rows, values) for one axis more
            Probabilities, of each target alone.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN.
        """
        columns, has_values = check_values(y, self._blocks.num_rows, self._targets)
        scaled = (columns - self._shift) / self._scale
        result = np.empty(columns.shape)
        for rows, target, likelihood, outputs in self._marginals():
            for k in range(columns.shape[1]):
                part = (rows, likelihood, outputs, scaled[(slice(None), k, *target)])
                result[(rows, k, *target)] = mixture.probability(self._blocks, "cdf", *part)
        return result if has_values else result[:, 0]

    @property
    def has_atoms(self) -> bool:
        """Whether single values may have a probability of their own, as counts do."""
        return self._blocks.likelihood.has_atoms

    def pit(self, y: Any, *, seed: int | None = None) -> PerTarget:
        """Probability integral transform of the targets: uniform on (0, 1) if calibrated.

        Of a continuous target it is :meth:`cdf`; of a count, or another value that has a
        probability of its own, a random number between the probabilities of less and of at most
        it, as :func:`mirth.evaluation.randomised_pit` draws it.

        Parameters
        ----------
        y : array of shape (rows,) or (rows, targets)
            Targets in original units.
        seed : int, optional
            Another seed than that of the constructor; without effect on continuous targets.

        Returns
        -------
        array of shape (rows,) or (rows, targets)
            Numbers from 0 to 1, of each target alone, for the checks of ``mirth.evaluation``.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN, or ``seed`` is negative.
        """
        scaled = self._check_target(y)
        at_most, itself = np.empty(scaled.shape), np.zeros(scaled.shape)
        for rows, target, likelihood, outputs in self._marginals():
            part = (rows, likelihood, outputs, scaled[(slice(None), *target)])
            at_most[(rows, *target)] = mixture.probability(self._blocks, "cdf", *part)
            if likelihood.has_atoms:
                itself[(rows, *target)] = mixture.probability(self._blocks, "point_mass", *part)
        return randomised_pit(at_most, itself, self._seed if seed is None else seed)

    def quantile(self, levels: float | Sequence[float] | np.ndarray) -> np.ndarray:
        r"""Solve :math:`F(q) = p` for each level p.

        Parameters
        ----------
        levels : float or sequence of float
            Levels in (0, 1).

        Returns
        -------
        array of shape (rows,), or (rows, levels) for a sequence
            Quantiles in original units, of each target alone.

        Raises
        ------
        ValueError
            If a level is outside (0, 1).
        """
        values = check_levels("levels", levels)
        result = np.empty((self._blocks.num_rows, values.size, *self._targets))
        for rows, target, likelihood, outputs in self._marginals():
            for k, level in enumerate(values.flat):
                scaled = mixture.mixture_quantile(likelihood, outputs, float(level), self._weights)
                result[(rows, k, *target)] = np.asarray(scaled)[: rows.stop - rows.start]
        return self._values(result if values.ndim else result[:, 0])

    def interval(self, confidence_level: float | Sequence[float] | np.ndarray = 0.9) -> np.ndarray:
        """Central interval: the quantiles at (1 - c) / 2 and (1 + c) / 2.

        Parameters
        ----------
        confidence_level : float or sequence of float, default=0.9
            Share c of the mixture inside the interval, in (0, 1).

        Returns
        -------
        array of shape (rows, 2), or (rows, 2, levels) for a sequence
            Lower and upper ends in original units, of each target alone.

        Raises
        ------
        ValueError
            If a level is outside (0, 1).
        """
        values = check_levels("confidence_level", confidence_level)
        ends = np.stack([(1 - values) / 2, (1 + values) / 2])
        return self.quantile(ends.ravel()).reshape(-1, *ends.shape, *self._targets)

    def log_prob(self, y: Any) -> Rows:
        r"""Log density of the mixture, shape (rows,): :math:`\log \frac1S \sum_s p(y | \theta_s)`.

        Of counts it is the log probability, of several targets the log of their joint density.

        Parameters
        ----------
        y : array of shape (rows,) or (rows, targets)
            Targets in original units; the density is one per original unit.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN.
        """
        return mixture.log_prob(self._blocks, self._check_target(y)) - self._log_unit

    def log_prob_per_draw(self, y: Any) -> Float[np.ndarray, "chains draws data"]:
        """Log density of each component, shape (chains, draws, rows).

        Parameters
        ----------
        y : array of shape (rows,) or (rows, targets)
            Targets in original units; the density is one per original unit.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN.
        """
        values = mixture.log_prob_per_draw(self._blocks, self._check_target(y)) - self._log_unit
        return values.reshape(*self._shape, -1)

    def sample(
        self, n: int, *, seed: int | None = None
    ) -> Float[np.ndarray, "samples data *targets"]:
        """Sample the mixture, shape (n, rows).

        Each sample belongs to one draw of the parameters, the same for all rows, so that samples
        are correlated between rows as the posterior says. Draws come in random order, each again
        only after all others.

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
        values = mixture.sample(self._blocks, check_int("n", n, minimum=1), seed)
        return self._values(values)

    def sample_per_draw(
        self, *, seed: int | None = None
    ) -> Float[np.ndarray, "chains draws data *targets"]:
        """Sample one target from each draw, shape (chains, draws, rows).

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
        values = self._values(mixture.sample_per_draw(self._blocks, seed))
        return values.reshape(*self._shape, *values.shape[1:])

    def crps(self, y: Any, *, max_components: int = 2000) -> PerTarget:
        r"""Continuous ranked probability score, shape (rows,), in original units; less is better.

        .. math:: \int (F(z) - 1\{z \ge y\})^2 dz
                  = \mathbb E|X - y| - \tfrac12 \mathbb E|X - X'|

        with X and X' independent from the mixture: of Normals in closed form [1]_, else adaptive
        quadrature, of counts and rounded values a sum (over more than 512 by every k-th term), with
        some 200 to 500 evaluations of the distribution function for each draw and row.

        Parameters
        ----------
        y : array of shape (rows,) or (rows, targets)
            Targets in original units.
        max_components : int, default=2000
            Most Normal components S for which the second term is the sum over all S^2 pairs. Above,
            it is an integral by adaptive quadrature, to a relative error of about 1e-5 (1e-4 for
            components much narrower than their distances). Without effect on other likelihoods.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN, or ``max_components`` is negative.

        References
        ----------
        .. [1] Grimit, Gneiting, Berrocal, Johnson, "The continuous ranked probability score for
           circular variables and its application to mesoscale forecast ensemble verification",
           Q. J. R. Meteorol. Soc. 132 (2006), eq. (5).
        """
        scaled = self._check_target(y)
        by_pairs = self._blocks.num_draws <= check_int("max_components", max_components, minimum=0)
        result = np.empty(scaled.shape)
        for rows, target, likelihood, outputs in self._marginals():
            padded = self._blocks.pad(scaled[(slice(None), *target)], rows)
            values = crps.mixture_crps(
                likelihood, outputs, padded, self._weights, by_pairs=by_pairs
            )
            result[(rows, *target)] = values[: rows.stop - rows.start]
        return self._scale * result

    def _marginals(self) -> Iterator[tuple[Any, Any, NumericLikelihood, Any]]:
        """Yield rows, index of the target, its likelihood and outputs, block by block."""
        for rows, outputs in self._blocks:
            marginals = self._blocks.likelihood.marginals(outputs)
            for target, marginal in zip(np.ndindex(self._targets), marginals, strict=True):
                yield rows, target, *marginal

    def _values(self, scaled: np.ndarray) -> np.ndarray:
        return original_values(scaled, self._blocks.likelihood, self._shift, self._scale)

    @cached_property
    def _moments(self) -> Float[np.ndarray, "3 data *targets"]:
        """Mean, variance of the means and mean of the variances, in units of the network."""
        return mixture.moments(self._blocks, self._targets)

    @property
    def _log_unit(self) -> float:
        """Log of one scaled unit (of the volume, with several targets) in original units."""
        return float(np.sum(np.log(self._scale)))

    def _check_target(self, y: Any) -> PerTarget:
        """Check targets of all rows and bring them to the units of the network."""
        return (check_target(y, self._blocks.num_rows, self._targets) - self._shift) / self._scale
