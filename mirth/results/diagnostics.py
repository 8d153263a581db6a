"""Health of a posterior's chains, in one object that prints as a table."""

from __future__ import annotations

import dataclasses
import textwrap
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from mirth.core.outcomes import ChainVerdict, MirthWarning
from mirth.core.trees import full_precision
from mirth.core.types import is_tree
from mirth.evaluation import (
    distance_between,
    function_space_diagnostics,
    judge_chains,
    parameter_space_diagnostics,
    summarize_health,
)
from mirth.inference import Posterior
from mirth.results._checks import check_posterior, check_rows

_LEGEND = """\
start, LPPD: nats per row, by the network that the chain began with and by its draws
ESS, Rhat: effective draws and split R-hat of the chain alone; f of its outputs, w of its weights
step, L: step size and decoherence length of the sampler"""
_WIDTH = 100  # of the lines that are printed
_HELP = "Look at diagnostics_; a longer warm-up or another random_state often helps."
_TOLERANCE = 0.05  # nats per row that are lost without a word, as for a single chain
_STANDARD_ERRORS = 3.0  # and by chance: a judgement of a few dozen rows must not cry wolf
_CLEAR = 2.0  # standard errors from which a gain is called one
_MANY_GUESSES = 0.1  # share of densities that is worth a word
_MIN_DRAWS = 16  # four parts of four draws each for the chain-wise split R-hat


@dataclasses.dataclass(frozen=True)
class Diagnostics:
    """Health of every chain.

    Function space means the outputs of the network at up to 200 rows, parameter space up to 500
    weights. Chains of one ensemble sit in different modes of the weights, so only the chain-wise
    R-hat is meaningful there.

    Parameters
    ----------
    verdicts : list of ChainVerdict
        One per chain.
    ess_function, ess_parameters : array of shape (chains,)
        Effective sample size, median over rows and outputs, or over weights; NaN if there are
        fewer than 16 draws.
    rhat_function, rhat_parameters : array of shape (chains,)
        Split R-hat of each chain alone, median likewise.
    lppd_start, lppd_chain : array of shape (chains,)
        LPPD of the validation rows by the start and by the chain, nats per row, scaled targets.
        The sentence ``judged_by`` says which rows they are.
    judged_by : str
        Which rows the LPPDs are of, and what all chains together have gained on them over the
        ensemble that they started from; empty for a deep ensemble.
    divergence_rate : array of shape (chains,)
        Share of the sampling steps that were reverted.
    step_size, L : array of shape (chains,)
        Settings of the sampler; NaN for a deep ensemble.
    members : array of shape (chains,)
        Number of each chain in the ensemble; some are missing if chains were dropped.
    notes : tuple of str
        Sentences about what happened on the way.
    chain_weights : array of shape (chains,), optional
        Weights of the chains, where they are not equal.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> data = mirth.Dataset(x, x[:, 0])
    >>> posterior = mirth.infer(model, data, "deep_ensemble", num_chains=2)
    >>> print(diagnose(posterior, x).summary)
    All chains (2) moved and predict no worse than their start.
    """

    verdicts: list[ChainVerdict]
    ess_function: np.ndarray
    rhat_function: np.ndarray
    ess_parameters: np.ndarray
    rhat_parameters: np.ndarray
    lppd_start: np.ndarray
    lppd_chain: np.ndarray
    divergence_rate: np.ndarray
    step_size: np.ndarray
    L: np.ndarray
    members: np.ndarray
    notes: tuple[str, ...] = ()
    judged_by: str = ""
    chain_weights: np.ndarray | None = None

    @property
    def summary(self) -> str:
        """Sentences about all chains, their predictions, and what happened on the way."""
        health = summarize_health(self.verdicts, self.members.tolist())
        return " ".join(filter(None, [health, self.judged_by, *self.notes]))

    def __str__(self) -> str:
        """Tabulate the chains."""
        columns = {
            "start": self.lppd_start,
            "LPPD": self.lppd_chain,
            "ESS f": self.ess_function,
            "Rhat f": self.rhat_function,
            "ESS w": self.ess_parameters,
            "Rhat w": self.rhat_parameters,
            "step": self.step_size,
            "L": self.L,
        }
        if self.chain_weights is not None:
            columns["weight"] = self.chain_weights
        lines = ["chain  verdict           " + "".join(f"{name:>9}" for name in columns)]
        for k, verdict in enumerate(self.verdicts):
            cells = "".join(f"{values[k]:9.3g}" for values in columns.values())
            lines.append(
                f"{self.members[k]:5d}  {verdict.name.lower().replace('_', ' '):18s}{cells}"
            )
        return "\n".join([*lines, _LEGEND, *textwrap.wrap(self.summary, _WIDTH)])


def divergence_rate(posterior: Posterior) -> np.ndarray:
    """Share of the sampling steps of each chain that were reverted."""
    if "diverging" not in posterior.sample_stats:
        return np.zeros(posterior.num_chains)
    reverted = posterior.sample_stats["diverging"].sum(axis=1)
    return reverted / max(1, posterior.num_sampling_steps)


def judge(posterior: Posterior, stacklevel: int = 4, advice: str = "") -> list[ChainVerdict]:
    """Judge every chain, and warn of those that are not healthy and of a loss of all together.

    Parameters
    ----------
    posterior : Posterior
        What was sampled.
    stacklevel : int, default=4
        How many callers up the warning points.
    advice : str, default=""
        What to do if all chains together predict worse than their ensemble.

    Returns
    -------
    list of ChainVerdict
        One per chain.
    """
    if posterior.tuning is None:
        return [ChainVerdict.MOVED] * posterior.num_chains
    verdicts = judge_chains(
        _distance(posterior),
        divergence_rate(posterior),
        posterior.lppd_chain,
        posterior.lppd_start,
        lppd_standard_error=posterior.lppd_se,
    )
    said = []
    if any(verdict is not ChainVerdict.MOVED for verdict in verdicts):
        said += [summarize_health(verdicts, posterior.members.tolist()), _HELP]
    if loses_to_start(posterior):
        said += [judged_by(posterior), advice]
    if said:
        warnings.warn(" ".join(filter(None, said)), MirthWarning, stacklevel=stacklevel)
    return verdicts


def loses_to_start(posterior: Posterior) -> bool:
    """Whether all chains together predict worse than their ensemble, beyond chance.

    The loss must be above 0.05 nats per row and three standard errors.
    """
    if posterior.scores is None:
        return False
    gain, error = posterior.scores.gain(posterior.chain_weights)
    return bool(gain < -max(_TOLERANCE, _STANDARD_ERRORS * np.nan_to_num(error)))


def judged_by(posterior: Posterior) -> str:
    """Say what all chains together have gained over their ensemble, and by which rows."""
    scores = posterior.scores
    if scores is None:
        return ""
    gain, error = scores.gain(posterior.chain_weights)
    if loses_to_start(posterior):
        how = f"worse than the ensemble that they started from, by {-gain:.3f} ± {error:.3f}"
    elif gain > _CLEAR * error:
        how = f"better than the ensemble that they started from, by {gain:.3f} ± {error:.3f}"
    else:
        how = f"about as well as the ensemble that they started from ({gain:+.3f} ± {error:.3f})"
    guess = (
        f" {scores.unreliable:.0%} of these densities are a guess, rather too high (Pareto k above "
        "0.7)."
        if scores.unreliable > _MANY_GUESSES
        else ""
    )
    return f"Together they predict {how}, in nats per row of {scores.rows}.{guess}"


def _settled(rhat: np.ndarray, num_effective: np.ndarray) -> list[ChainVerdict]:
    """Judge chains by how well they mix alone."""
    healthy = np.ones(len(rhat))
    return judge_chains(healthy, 0 * healthy, rhat=rhat, num_effective=num_effective)


def _distance(posterior: Posterior) -> np.ndarray:
    """How far each chain went from its start to its last draw."""
    start = [np.reshape(leaf, (leaf.shape[0], -1)) for leaf in jax.tree.leaves(posterior.start)]
    return distance_between(np.concatenate(start, axis=1), posterior.positions()[:, -1])


def diagnose(posterior: Posterior, x: Any) -> Diagnostics:
    """Compute the health of all chains.

    Parameters
    ----------
    posterior : Posterior
        What was sampled.
    x : array of shape (rows, features) or (rows, ...), or pytree of arrays
        Inputs at which the outputs are looked at, scaled as in the fit; those of the fit will do.
        Of more than 200 rows as many are used, equally spaced.

    Returns
    -------
    Diagnostics
        Verdicts, effective sample sizes, R-hat; prints as a table.

    Raises
    ------
    TypeError
        If ``posterior`` is none.
    ValueError
        If ``x`` is not finite, has no rows, or does not fit the network.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> method = mirth.MILE(n_warmup=100, n_samples=5)
    >>> posterior = mirth.infer(model, mirth.Dataset(x, x[:, 0]), method, num_chains=2)
    >>> health = diagnose(posterior, x)
    >>> health.ess_function.shape, len(health.verdicts)
    ((2,), 2)
    """
    x = check_rows(check_posterior(posterior), some_rows(x))
    num_chains = posterior.num_chains
    nothing = np.full(num_chains, np.nan)
    ess_f, rhat_f, ess_w, rhat_w = (nothing,) * 4
    if posterior.num_draws >= _MIN_DRAWS:
        function = function_space_diagnostics(_outputs(posterior, x))
        parameters = parameter_space_diagnostics(posterior.positions())
        ess_f, rhat_f = function.ess, function.rhat
        ess_w, rhat_w = parameters.ess, parameters.rhat
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MirthWarning)
        verdicts = judge(posterior)
    verdicts = [
        unsettled if verdict is ChainVerdict.MOVED else verdict
        for verdict, unsettled in zip(verdicts, _settled(rhat_f, ess_f), strict=True)
    ]
    return Diagnostics(
        verdicts=verdicts,
        ess_function=ess_f,
        rhat_function=rhat_f,
        ess_parameters=ess_w,
        rhat_parameters=rhat_w,
        lppd_start=posterior.lppd_start,
        lppd_chain=posterior.lppd_chain,
        divergence_rate=divergence_rate(posterior),
        step_size=nothing if posterior.tuning is None else posterior.tuning.step_size,
        L=nothing if posterior.tuning is None else posterior.tuning.L,
        members=posterior.members,
        notes=posterior.notes,
        judged_by=judged_by(posterior),
        chain_weights=posterior.chain_weights,
    )


def some_rows(x: Any, limit: int = 200) -> Any:
    """Give at most so many rows of inputs, equally spaced.

    Examples
    --------
    >>> some_rows(np.arange(7), limit=3).tolist()
    [0, 2, 4]
    """
    if not is_tree(x):
        x = np.asarray(x)
    step = max(1, len(jax.tree.leaves(x)[0]) // limit)
    return jax.tree.map(lambda leaf: leaf[::step][:limit], x)


def _outputs(posterior: Posterior, x: PyTree[np.ndarray]) -> np.ndarray:
    """Outputs of the network, (chains, draws, rows, outputs)."""
    rows = jax.tree.map(jnp.asarray, x)
    outputs = jax.jit(
        lambda draws: jax.lax.map(
            lambda chain: jax.lax.map(lambda p: posterior.model.outputs(p, rows), chain), draws
        )
    )
    return np.asarray(outputs(jax.tree.map(full_precision, posterior.draws)))
