"""What an inference returns: draws, statistics of the sampler, and reports."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mirth.core.snapshots import Snapshot
from mirth.core.stored import StoredArray
from mirth.core.trees import full_precision
from mirth.core.types import Params
from mirth.core.weights import check_weights
from mirth.inference.reports import (
    TuningReport,
    ValidationScores,
    WarmStartReport,
    joined_scores,
    with_equal_curves,
)
from mirth.model import Model


class Continuation(NamedTuple):
    """End of a run, for a longer one.

    Parameters
    ----------
    settings : dict
        What the run was.
    snapshot : Snapshot
        State of its chains; it shares the memory of the draws.
    """

    settings: dict[str, Any]
    snapshot: Snapshot


@dataclasses.dataclass(frozen=True)
class Posterior:
    """Draws from the posterior and how they came about.

    Parameters
    ----------
    model : Model
        What was sampled.
    draws : pytree of NumPy arrays
        Parameters with leading axes (chains, draws). With a run directory they stay there
        (:class:`~mirth.core.stored.StoredArray`) and are read where they are indexed.
    sample_stats : dict of arrays of shape (chains, draws)
        ``logdensity``, ``energy_change``, ``diverging`` (reverted steps since the draw before),
        ``step_size``; empty for a deep ensemble. The energy error is that of the last step that
        computed one, with mini-batches every ``probe_every``-th. Chains on mini-batches have
        ``batch_logdensity`` in place of ``logdensity``: by the batch that the kernel looked at
        last, at the place where it did, scaled to all rows. Its noise is of the size of all rows
        over the root of the batch's, so it tells nothing of how good a draw is. ``SGLD`` gives
        either where its last step began.
    start : pytree of NumPy arrays
        The ensemble that the chains started from, leading axis (chains,).
    warm_start : WarmStartReport
        Epochs, validation loss and loss curves of each member.
    tuning : TuningReport or None
        None for a deep ensemble.
    lppd_start, lppd_chain : array of shape (chains,)
        Log pointwise predictive density of the validation rows (scaled targets, nats per row)
        by each chain's start, and by its draws; by 2000 of them where a stochastic method has more.
        Where the chains were fitted to these rows, too, by 256 of them, each left out.
    lppd_se : array of shape (chains,)
        Standard error of their difference over the rows.
    num_sampling_steps : int
        Steps of the sampler after the warm-up, per chain.
    num_gradients : int
        Gradients that each chain has taken, warm-up included: of the whole data set, or of a batch
        where the method is stochastic.
    seconds : dict
        Time by part: ``warm_start``, ``tuning``, ``sampling``.
    members : array of shape (chains,)
        Number of each chain in the ensemble, from 0; some are missing if chains were dropped.
    notes : tuple of str
        Sentences about what happened on the way: unhealthy chains, an early end.
    scores : ValidationScores, optional
        The same row by row, and which rows these are; None for a deep ensemble.
    continuation : Continuation, optional
        Where another run can go on (``Run(go_on_from=...)``); None for parts of a posterior, and
        for a run directory, which keeps it.
    chain_weights : array of shape (chains,), optional
        Weights of the chains with the sum 1, such as those of :func:`mirth.results.stack`; None
        means equal ones. What predicts by a posterior
        (:func:`mirth.results.predict_dist`) takes them; a predictive distribution that is made
        from the draws is given them (``chain_weights=posterior.chain_weights``).

    Raises
    ------
    ValueError
        If ``chain_weights`` are none of these chains.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> data = mirth.Dataset(x, x[:, 0])
    >>> posterior = mirth.infer(model, data, "deep_ensemble", num_chains=2)
    >>> posterior.num_chains, posterior.num_draws, posterior.positions().shape
    (2, 1, (2, 1, 18))
    """

    model: Model
    draws: Params
    sample_stats: dict[str, np.ndarray]
    start: Params
    warm_start: WarmStartReport
    tuning: TuningReport | None
    lppd_start: np.ndarray
    lppd_chain: np.ndarray
    lppd_se: np.ndarray
    num_sampling_steps: int
    num_gradients: int
    seconds: dict[str, float]
    members: np.ndarray
    notes: tuple[str, ...] = ()
    scores: ValidationScores | None = None
    continuation: Continuation | None = dataclasses.field(default=None, repr=False)
    chain_weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the weights."""
        if self.chain_weights is not None:
            checked = check_weights(self.chain_weights, self.num_chains)
            object.__setattr__(self, "chain_weights", checked)

    @property
    def num_chains(self) -> int:
        """Number of chains K."""
        return jax.tree.leaves(self.draws)[0].shape[0]

    @property
    def num_draws(self) -> int:
        """Number of draws T kept per chain."""
        return jax.tree.leaves(self.draws)[0].shape[1]

    def positions(self) -> np.ndarray:
        """Give all parameters as one array of shape (chains, draws, params)."""
        leaves = [full_precision(leaf) for leaf in jax.tree.leaves(self.draws)]
        return np.concatenate([np.reshape(d, (*d.shape[:2], -1)) for d in leaves], axis=2)

    def take_chains(self, chains: Sequence[int] | np.ndarray) -> Posterior:
        """Give the posterior of some chains only; their weights keep their ratios.

        Parameters
        ----------
        chains : sequence of int
            Which ones, counted from 0 among those that are here.

        Raises
        ------
        IndexError
            If there are not as many chains.
        ValueError
            If all of them have weight 0.
        """
        which = np.arange(self.num_chains)[np.asarray(chains, dtype=int)]

        def take(leaf: Any) -> Any:
            return leaf.take_chains(which) if isinstance(leaf, StoredArray) else leaf[which]

        return dataclasses.replace(
            self,
            draws=jax.tree.map(take, self.draws),
            sample_stats={name: take(values) for name, values in self.sample_stats.items()},
            start=jax.tree.map(take, self.start),
            warm_start=_take_fields(self.warm_start, which),
            tuning=None if self.tuning is None else _take_fields(self.tuning, which),
            lppd_start=self.lppd_start[which],
            lppd_chain=self.lppd_chain[which],
            lppd_se=self.lppd_se[which],
            members=self.members[which],
            scores=None if self.scores is None else self.scores.take_chains(which),
            continuation=None,
            chain_weights=_renewed(self.chain_weights, which),
        )

    def take_draws(self, draws: np.ndarray) -> Posterior:
        """Give the posterior of some draws only; the reports stay those of the whole chains.

        Parameters
        ----------
        draws : int array of shape (chains, kept)
            Which ones of each chain, rising.
        """
        chains = np.arange(self.num_chains)[:, None]

        def take(leaf: Any) -> np.ndarray:
            return np.asarray(leaf)[chains, draws]

        stats = {name: take(values) for name, values in self.sample_stats.items()}
        if "diverging" in stats:  # a count since the draw before, so none of it may be lost
            counts = np.asarray(self.sample_stats["diverging"])
            first = np.insert(draws[:, :-1] + 1, 0, 0, axis=1)
            stats["diverging"] = np.stack(
                [np.add.reduceat(row, at) for row, at in zip(counts, first, strict=True)]
            )
        return dataclasses.replace(
            self, draws=jax.tree.map(take, self.draws), sample_stats=stats, continuation=None
        )

    def start_as_posterior(self) -> Posterior:
        """Give the deep ensemble that the chains started from, as one draw per chain.

        Its members have equal weights: those of the chains were found from the chains' draws.
        """
        return dataclasses.replace(
            self,
            draws=jax.tree.map(lambda leaf: leaf[:, None], self.start),
            sample_stats={},
            tuning=None,
            lppd_chain=self.lppd_start,
            lppd_se=np.zeros_like(self.lppd_se),
            scores=None,
            num_sampling_steps=0,
            num_gradients=0,
            seconds={"warm_start": self.seconds["warm_start"]},
            continuation=None,
            chain_weights=None,
        )


def _renewed(weights: np.ndarray | None, chains: np.ndarray) -> np.ndarray | None:
    """Give the weights of some chains with the sum 1."""
    if weights is None:
        return None
    total = weights[chains].sum()
    if total == 0:
        raise ValueError(
            f"chains {chains.tolist()} all have weight 0; take others too, or set chain_weights."
        )
    return weights[chains] / total


def _take_fields(report: Any, chains: np.ndarray) -> Any:
    """Take some entries of the fields that have one for each chain."""
    fields = {f.name: getattr(report, f.name) for f in dataclasses.fields(report)}
    arrays = {name: v[chains] for name, v in fields.items() if isinstance(v, np.ndarray)}
    return dataclasses.replace(report, **arrays)


def join_chains(posteriors: Sequence[Posterior]) -> Posterior:
    """Put together the chains of runs of one model, made in parts or on several machines.

    Parameters
    ----------
    posteriors : sequence of Posterior
        Of the same model and method, with equally many draws and different chains
        (``Run(first_chain=...)``). Their order is kept. Draws on disk are read.

    Returns
    -------
    Posterior
        All chains; times are summed up. If some posterior has weights, each counts by its number of
        chains, and a chain by its weight in it; :func:`mirth.results.stack` finds new ones.

    Raises
    ------
    ValueError
        If there are none, or they do not belong together.

    Examples
    --------
    >>> import numpy as np, mirth
    >>> x = np.linspace(-1, 1, 40)[:, None]
    >>> model = mirth.Model(mirth.MLP((4,), num_outputs=2), mirth.Normal())
    >>> data = mirth.Dataset(x, x[:, 0])
    >>> parts = [
    ...     mirth.infer(model, data, "deep_ensemble", num_chains=2, run=run)
    ...     for run in (mirth.Run(first_chain=0), mirth.Run(first_chain=2))
    ... ]
    >>> mirth.join_chains(parts).members.tolist()
    [0, 1, 2, 3]
    """
    if not posteriors:
        raise ValueError("posteriors is empty; pass at least one.")
    first = posteriors[0]
    members = np.concatenate([p.members for p in posteriors])
    if len(set(members.tolist())) < len(members):
        raise ValueError(
            f"posteriors have chains {members.tolist()}, some of them twice; number them by "
            "infer(run=mirth.Run(first_chain=...))."
        )
    for name in ("num_draws", "num_gradients", "num_sampling_steps", "model"):
        values = [getattr(p, name) for p in posteriors]
        if any(value != values[0] for value in values):
            raise ValueError(f"posteriors differ in {name}: {values}; they are of different runs.")

    def joined(*leaves: Any) -> np.ndarray:
        return np.concatenate([np.asarray(leaf) for leaf in leaves])

    def tree(name: str) -> Any:
        return jax.tree.map(joined, *(getattr(p, name) for p in posteriors))

    names = ("lppd_start", "lppd_chain", "lppd_se", "members")
    return dataclasses.replace(
        first,
        **{name: tree(name) for name in ("draws", "sample_stats", "start", *names)},
        warm_start=_joined_report(with_equal_curves([p.warm_start for p in posteriors])),
        tuning=_joined_report([p.tuning for p in posteriors]),
        seconds={part: sum(p.seconds[part] for p in posteriors) for part in first.seconds},
        notes=tuple(note for p in posteriors for note in p.notes),
        scores=joined_scores([p.scores for p in posteriors]),
        continuation=None,
        chain_weights=_joined_weights(posteriors),
    )


def _joined_weights(posteriors: Sequence[Posterior]) -> np.ndarray | None:
    """Let each posterior count by its number of chains; None if all chains are alike."""
    if all(p.chain_weights is None for p in posteriors):
        return None
    total = sum(p.num_chains for p in posteriors)
    return np.concatenate(
        [
            np.full(p.num_chains, 1 / total)
            if p.chain_weights is None
            else p.chain_weights * (p.num_chains / total)
            for p in posteriors
        ]
    )


def _joined_report(reports: Sequence[Any]) -> Any:
    """Join the fields that have an entry for each chain, and add up the time."""
    first = reports[0]
    if first is None:
        return None
    fields = {f.name: getattr(first, f.name) for f in dataclasses.fields(first)}
    arrays = {
        name: np.concatenate([getattr(report, name) for report in reports])
        for name, value in fields.items()
        if isinstance(value, np.ndarray)
    }
    return dataclasses.replace(first, **arrays, seconds=sum(r.seconds for r in reports))
