"""Deep ensemble: K networks optimised independently."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import numpy as np

from mirth.core.config import Configurable
from mirth.core.snapshots import Snapshot, tree_to_arrays
from mirth.core.types import Key, Params
from mirth.core.validation import COUNT, NON_NEGATIVE, POSITIVE, Range, check_ranges
from mirth.inference.memory import announce
from mirth.inference.posterior import Posterior
from mirth.inference.reports import WarmStartReport
from mirth.inference.start.epochs import Optimisation
from mirth.inference.start.memory import estimate_ensemble_memory
from mirth.inference.start.warm_start import warm_start

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


@dataclasses.dataclass(kw_only=True)
class DeepEnsemble(Configurable):
    r"""K networks, each optimised from its own start until its validation loss stops falling.

    AdamW on the mean negative log likelihood, with mini-batches that use every row in every
    epoch. Each member stops by itself and keeps its best weights.

    Parameters
    ----------
    learning_rate : float, default=1e-2
        Step size of AdamW.
    weight_decay : float, default=5e-3
        Decoupled weight decay of the network's weights.
    batch_size : int, default=64
        Rows of a mini-batch.
    max_epochs : int, default=500
        Most epochs of a member.
    patience : int, default=20
        Epochs without a lower validation loss after which a member stops.
    transform : callable, optional
        Random change of the inputs of each batch, ``transform(key, x) -> x`` with a JAX key and the
        inputs of a batch, such as flips and crops of images. Only the optimisation sees changed
        inputs: chains that start from it sample the posterior of the data as they are.

    Raises
    ------
    ValueError
        If a number is outside its range.

    References
    ----------
    .. [1] Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using
       deep ensembles", arXiv 1612.01474.

    Examples
    --------
    >>> DeepEnsemble(learning_rate=1e-3).get_params()["learning_rate"]
    0.001
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "learning_rate": POSITIVE,
        "weight_decay": NON_NEGATIVE,
        "batch_size": COUNT,
        "max_epochs": COUNT,
        "patience": COUNT,
    }

    learning_rate: float = 1e-2
    weight_decay: float = 5e-3
    batch_size: int = 64
    max_epochs: int = 500
    patience: int = 20
    transform: Callable[[Key, Any], Any] | None = None

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        if self.transform is not None and not callable(self.transform):
            raise TypeError(
                f"transform={self.transform!r} must be a function (key, x) -> x, or None."
            )

    def optimise(self, problem: Problem, time_share: float = 1.0) -> tuple[Params, WarmStartReport]:
        """Optimise all members of a problem, in at most a share of the time that is allowed."""
        return warm_start(problem, self.settings(problem), time_share)

    def settings(self, problem: Problem) -> Optimisation:
        """Give the numbers of the optimiser for a problem."""
        return Optimisation(
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=min(self.batch_size, problem.num_train),
            max_epochs=self.max_epochs,
            patience=self.patience,
            transform=self.transform,
        )

    def run(self, problem: Problem) -> Posterior:
        """Fit the ensemble; each member is one chain with one draw."""
        announce(estimate_ensemble_memory(self.settings(problem), problem), problem, stacklevel=3)
        params, report = self.optimise(problem)
        start = jax.tree.map(np.asarray, params)
        record = {"stage": "ensemble", "warm_start": report.to_record()}
        snapshot = Snapshot(record, tree_to_arrays(start, "start") | report.to_arrays())
        problem.recorder.offer(lambda: snapshot, is_due=True)
        lppd = -report.validation_loss
        problem.monitor.on_end(lppd)
        return Posterior(
            model=problem.model,
            draws=_kept(start, problem),
            sample_stats={},
            start=start,
            warm_start=report,
            tuning=None,
            lppd_start=lppd,
            lppd_chain=lppd,
            lppd_se=np.zeros_like(lppd),
            num_sampling_steps=0,
            num_gradients=0,
            seconds={"warm_start": report.seconds},
            members=problem.first_chain + np.arange(problem.num_chains),
        )


def _kept(members: Any, problem: Problem) -> Any:
    """Give the members as draws, of what is kept and in the type that it is kept in."""
    kept = members if problem.keep is None else jax.jit(jax.vmap(problem.keep))(members)
    dtype = np.dtype(problem.draws_dtype)
    return jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype)[:, None], kept)
