"""The predictive distribution of a real target: an exact mixture over draws."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

from mirth.core.types import Params
from mirth.core.validation import check_int, check_real
from mirth.model import Model
from mirth.prediction import crps, mixture
from mirth.prediction.blocks import DEFAULT_BUFFER_BYTES, apply_likelihood, prepare_blocks
from mirth.prediction.roots import mixture_quantile

Rows = Float[np.ndarray, " data"]


class Predictive:
    r"""Predictive distribution of a real target for each row of new inputs.

    .. math:: p(y | x) = \frac1S \sum_{s=1}^S p(y | x, \theta_s), \quad
              y = \text{shift} + \text{scale} \cdot y_\text{scaled}

    an exact mixture over all S = chains * draws parameters :math:`\theta_s`, not samples of it.
    Nothing is computed before the first method is called. Work goes row block by row block, so that
    no buffer exceeds ``max_buffer_bytes``; the results do not depend on the blocks. All methods
    return NumPy arrays of float64 in the original units of the target, accurate to about float32.

    Parameters
    ----------
    model : Model
        The model that was sampled, with a likelihood of a real target.
    draws : pytree of arrays of shape (chains, draws, ...)
        Parameters of all draws.
    x : array of shape (rows, features) or (rows, ...)
        New inputs, scaled as in the fit.
    shift : float, default=0.0
        Value of the target, in original units, at 0 in scaled units.
    scale : float, default=1.0
        One scaled unit in original units.
    max_buffer_bytes : int, default=64 MiB
        Largest buffer while computing. It holds at least one row of all draws; results that are as
        large by themselves, such as those of :meth:`component_means`, do not count.
    seed : int, default=0
        Seed of :meth:`sample`.

    Raises
    ------
    ValueError
        If the leading axes of ``draws`` differ, ``draws`` or ``x`` has numbers that are not finite,
        ``x`` does not fit the network, ``scale`` is not positive, or the likelihood is discrete.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from mirth.model import MLP, Model, Normal
    >>> model = Model(MLP((4,), num_outputs=2), Normal())
    >>> x = np.linspace(-1, 1, 5)[:, None]
    >>> keys = jax.random.split(jax.random.key(0), (2, 3))  # 2 chains, 3 draws
    >>> draws = jax.vmap(jax.vmap(lambda key: model.init(key, x)))(keys)
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
        shift: float = 0.0,
        scale: float = 1.0,
        max_buffer_bytes: int = DEFAULT_BUFFER_BYTES,
        seed: int = 0,
    ) -> None:
        if model.likelihood.is_discrete:
            raise ValueError(
                f"model has the discrete likelihood {model.likelihood!r}; use "
                "CategoricalPredictive, or make_predictive to choose by the likelihood."
            )
        self._shift = check_real("shift", shift)
        self._scale = check_real("scale", scale, low=0.0, low_open=True)
        self._seed = check_int("seed", seed, minimum=0)
        self._blocks, self._shape = prepare_blocks(model, draws, x, max_buffer_bytes)

    def mean(self) -> Rows:
        """Mean of the mixture, shape (rows,)."""
        return self._shift + self._scale * self._moments[0]

    def variance(self) -> Rows:
        """Variance of the mixture, shape (rows,): :meth:`epistemic` + :meth:`aleatoric`."""
        return self.epistemic() + self.aleatoric()

    def std(self) -> Rows:
        """Standard deviation of the mixture, shape (rows,)."""
        return np.sqrt(self.variance())

    def epistemic(self) -> Rows:
        r"""Variance over draws of the components' means, shape (rows,).

        .. math:: \frac1S \sum_s (\mu_s - \bar\mu)^2

        More data would reduce it.
        """
        return self._scale**2 * self._moments[1]

    def aleatoric(self) -> Rows:
        r"""Mean over draws of the components' variances, shape (rows,).

        .. math:: \frac1S \sum_s \sigma_s^2

        The noise of the target, that more data would not reduce.
        """
        return self._scale**2 * self._moments[2]

    def component_means(self) -> Float[np.ndarray, "chains draws data"]:
        """Mean of each component, shape (chains, draws, rows), as for convergence diagnostics."""
        result = np.empty((self._blocks.num_draws, self._blocks.num_rows))
        for rows, means in self._blocks.components("mean"):
            result[:, rows] = self._shift + self._scale * means.astype(np.float64)
        return result.reshape(*self._shape, -1)

    def cdf(self, y: Any) -> np.ndarray:
        """Probability of a target of at most ``y``.

        Parameters
        ----------
        y : float, or array of shape (rows,) or (rows, values)
            Targets in original units; a single one is meant for every row.

        Returns
        -------
        array of shape (rows,), or (rows, values) for two axes
            Probabilities.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN.
        """
        values = np.asarray(y, np.float64)
        num_rows = self._blocks.num_rows
        if values.ndim > 2 or (values.ndim and len(values) != num_rows):
            raise ValueError(
                f"y has shape {values.shape}, but x has {num_rows} rows; pass one number, "
                f"({num_rows},) or ({num_rows}, values)."
            )
        columns = values if values.ndim == 2 else np.broadcast_to(values, num_rows)[:, None]
        result = np.empty(columns.shape)
        scaled = self._to_scaled(columns)
        for rows, outputs in self._blocks:
            for k in range(columns.shape[1]):
                padded = self._blocks.pad(scaled[:, k], rows)
                shares = apply_likelihood(self._blocks.likelihood, "cdf", outputs, rows, padded)
                result[rows, k] = np.mean(shares, axis=0, dtype=np.float64)
        return result if values.ndim == 2 else result[:, 0]

    def quantile(self, levels: float | Sequence[float] | np.ndarray) -> np.ndarray:
        r"""Solve :math:`F(q) = p` for each level p.

        Parameters
        ----------
        levels : float or sequence of float
            Levels in (0, 1).

        Returns
        -------
        array of shape (rows,), or (rows, levels) for a sequence
            Quantiles in original units.

        Raises
        ------
        ValueError
            If a level is outside (0, 1).
        """
        values = _check_levels("levels", levels)
        result = np.empty((self._blocks.num_rows, values.size))
        for rows, outputs in self._blocks:
            for k, level in enumerate(values.flat):
                scaled = mixture_quantile(self._blocks.likelihood, outputs, float(level))
                result[rows, k] = np.asarray(scaled)[: rows.stop - rows.start]
        result = self._shift + self._scale * result
        return result if values.ndim else result[:, 0]

    def interval(self, confidence_level: float | Sequence[float] | np.ndarray = 0.9) -> np.ndarray:
        """Central interval: the quantiles at (1 - c) / 2 and (1 + c) / 2.

        Parameters
        ----------
        confidence_level : float or sequence of float, default=0.9
            Share c of the mixture inside the interval, in (0, 1).

        Returns
        -------
        array of shape (rows, 2), or (rows, 2, levels) for a sequence
            Lower and upper ends in original units.

        Raises
        ------
        ValueError
            If a level is outside (0, 1).
        """
        values = _check_levels("confidence_level", confidence_level)
        ends = np.stack([(1 - values) / 2, (1 + values) / 2])
        return self.quantile(ends.ravel()).reshape(-1, *ends.shape)

    def log_prob(self, y: Any) -> Rows:
        r"""Log density of the mixture, shape (rows,): :math:`\log \frac1S \sum_s p(y | \theta_s)`.

        Parameters
        ----------
        y : array of shape (rows,)
            Targets in original units; the density is one per original unit.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN.
        """
        return mixture.log_prob(self._blocks, self._check_target(y)) - np.log(self._scale)

    def log_prob_per_draw(self, y: Any) -> Float[np.ndarray, "chains draws data"]:
        """Log density of each component, shape (chains, draws, rows).

        Parameters
        ----------
        y : array of shape (rows,)
            Targets in original units; the density is one per original unit.

        Raises
        ------
        ValueError
            If ``y`` has another shape or is NaN.
        """
        values = mixture.log_prob_per_draw(self._blocks, self._check_target(y))
        values -= np.log(self._scale)
        return values.reshape(*self._shape, -1)

    def sample(self, n: int, *, seed: int | None = None) -> Float[np.ndarray, "samples data"]:
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
        return self._shift + self._scale * values

    def sample_per_draw(self, *, seed: int | None = None) -> Float[np.ndarray, "chains draws data"]:
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
        values = mixture.sample_per_draw(self._blocks, seed)
        return (self._shift + self._scale * values).reshape(*self._shape, -1)

    def crps(self, y: Any, *, max_components: int = 2000) -> Rows:
        r"""Continuous ranked probability score, shape (rows,), in original units; less is better.

        .. math:: \mathbb E|X - y| - \tfrac12 \mathbb E|X - X'|

        with X and X' independent from the mixture of Normals, in closed form [1]_.

        Parameters
        ----------
        y : array of shape (rows,)
            Targets in original units.
        max_components : int, default=2000
            Most components S for which the second term is the sum over all S^2 pairs. Above, it
            is an integral by adaptive quadrature, to a relative error of about 1e-5 (1e-4 for
            components much narrower than their distances).

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
        result = np.empty(self._blocks.num_rows)
        for rows, outputs in self._blocks:
            padded = self._blocks.pad(scaled, rows)
            values = crps.mixture_crps(self._blocks.likelihood, outputs, padded, by_pairs=by_pairs)
            result[rows] = values[: rows.stop - rows.start]
        return self._scale * result

    @cached_property
    def _moments(self) -> tuple[Rows, Rows, Rows]:
        """Mean, variance of the means and mean of the variances, in units of the network."""
        mean, epistemic, aleatoric = np.empty((3, self._blocks.num_rows))
        for rows, outputs in self._blocks:
            means, variances = (
                apply_likelihood(self._blocks.likelihood, method, outputs, rows)
                for method in ("mean", "variance")
            )
            mean[rows] = np.mean(means, axis=0, dtype=np.float64)
            # NumPy subtracts the mean before it squares, so nothing cancels.
            epistemic[rows] = np.var(means, axis=0, dtype=np.float64)
            aleatoric[rows] = np.mean(variances, axis=0, dtype=np.float64)
        return mean, epistemic, aleatoric

    def _to_scaled(self, y: np.ndarray) -> np.ndarray:
        """Check for NaN and bring targets to the units of the network."""
        if np.isnan(y).any():
            raise ValueError("y has NaN; drop these rows, or fill them, before scoring.")
        return (y - self._shift) / self._scale

    def _check_target(self, y: Any) -> Rows:
        """Check targets of shape (rows,) and bring them to the units of the network."""
        values = np.asarray(y, np.float64)
        if values.shape != (self._blocks.num_rows,):
            raise ValueError(
                f"y has shape {values.shape}, but x has {self._blocks.num_rows} rows; pass one "
                f"number per row, shape ({self._blocks.num_rows},)."
            )
        return self._to_scaled(values)


def _check_levels(argument: str, levels: Any) -> np.ndarray:
    """Check one level or a sequence of levels."""
    values = np.asarray(levels, np.float64)
    if values.ndim > 1 or not np.all((values > 0) & (values < 1)):
        raise ValueError(
            f"{argument}={levels!r} must be a number, or a sequence of numbers, in (0, 1)."
        )
    return values
