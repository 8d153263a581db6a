"""Where chains begin: at an ensemble, at draws of the prior, where others ended, or anywhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from jaxtyping import Array

from mirth.core.fingerprints import data_hash
from mirth.core.keys import Purpose
from mirth.core.outcomes import Outcome, SamplingError
from mirth.core.programs import Shapes
from mirth.core.trees import full_precision, leaf_name
from mirth.core.types import Batch, Key, Params
from mirth.inference.engine.programs import PROGRAMS
from mirth.inference.posterior import Posterior
from mirth.inference.reports import WarmStartReport
from mirth.inference.start.deep_ensemble import DeepEnsemble
from mirth.model import Model

if TYPE_CHECKING:
    from mirth.inference.problem import Problem

START_SHARE = 0.5
"""Share of the allowed time that the optimisation has at most where chains follow it."""

PRIOR = "prior"


class GivenStart:
    """Parameters to begin with, as ``start=`` of a method keeps them.

    Parameters
    ----------
    params : pytree of arrays
        Parameters of the model, with a leading axis (chains,), or without one: then all chains
        begin at the same point.

    Examples
    --------
    >>> GivenStart({"network": np.zeros((2, 3))}) == GivenStart({"network": np.zeros((2, 3))})
    True
    """

    def __init__(self, params: Params):
        self.params = jax.tree.map(full_precision, params)

    @classmethod
    def of(cls, posterior: Posterior) -> GivenStart:
        """Begin where the chains of a posterior ended."""
        return cls(jax.tree.map(lambda leaf: np.asarray(leaf[:, -1]), posterior.draws))

    def __repr__(self) -> str:
        return f"GivenStart({data_hash(*jax.tree.leaves(self.params))})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GivenStart) and repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))

    def points(self, like: Params, num_chains: int) -> Params:
        """Give a point for each chain, if the parameters are those of a model.

        Parameters
        ----------
        like : pytree of shapes
            Parameters of the model.
        num_chains : int
            Number of chains.

        Raises
        ------
        ValueError
            If the trees or shapes differ, or there are fewer points than chains.
        """
        wanted, tree = jax.tree_util.tree_flatten_with_path(like)
        found, own = jax.tree_util.tree_flatten_with_path(self.params)
        names, others = ({leaf_name(path) for path, _ in leaves} for leaves in (wanted, found))
        if names != others or str(tree) != str(own):
            odd = sorted(names ^ others) or [str(own)]
            raise ValueError(
                f"start= has not the parameters of the model; they differ in {', '.join(odd[:5])}. "
                f"The model's are {', '.join(sorted(names)[:8])}, ... as model.init gives them."
            )
        points = []
        for (path, shape), (_, leaf) in zip(wanted, found, strict=True):
            if leaf.shape == shape.shape:
                leaf = np.broadcast_to(leaf, (num_chains, *leaf.shape))
            elif leaf.shape[1:] != shape.shape or len(leaf) < num_chains:
                raise ValueError(
                    f"start= has {leaf_name(path)} of shape {leaf.shape}; for {num_chains} chains "
                    f"it needs {(num_chains, *shape.shape)}, or {shape.shape} for all alike."
                )
            points.append(np.array(leaf[:num_chains], shape.dtype))
        return jax.tree.unflatten(tree, points)


Start = DeepEnsemble | GivenStart | str


def resolve_start(start: Any) -> Start:
    """Give what chains start from in the form that methods keep; None means an ensemble.

    Raises
    ------
    ValueError, TypeError
        If it is something else.

    Examples
    --------
    >>> resolve_start(None)
    DeepEnsemble(learning_rate=0.01, ...)
    """
    if start is None:
        return DeepEnsemble()
    if isinstance(start, DeepEnsemble | GivenStart):
        return start
    if isinstance(start, str) and start == PRIOR:
        return start
    if isinstance(start, Posterior):
        return GivenStart.of(start)
    if isinstance(start, dict):
        return GivenStart(start)
    raise TypeError(
        f"start={start!r} must be mirth.DeepEnsemble(...), 'prior', a posterior of mirth.infer, "
        "parameters as model.init gives them (with or without an axis of chains), or None."
    )


def starting_points(
    start: Any, problem: Problem, time_share: float = START_SHARE
) -> tuple[Params, WarmStartReport]:
    """Give the points where chains begin.

    Parameters
    ----------
    start : DeepEnsemble, GivenStart or "prior"
        As :func:`resolve_start` gives it.
    problem : Problem
        Model, rows, seed, devices, monitor.
    time_share : float, default=0.5
        Share of the allowed time that an optimisation may take.

    Returns
    -------
    params : pytree
        Points, leading axis (chains,).
    report : WarmStartReport
        Of an optimisation; of others the validation losses, after no epoch.

    Raises
    ------
    SamplingError
        If no point has a finite validation loss.
    ValueError
        If given parameters do not fit the model or the number of chains.
    """
    if isinstance(start, DeepEnsemble):
        return start.optimise(problem, time_share=time_share)
    began = time.perf_counter()
    model, keys = problem.model, problem.keys(Purpose.NETWORK_INIT)
    rows = Shapes.of((problem.train, problem.validation))
    draw, loss = PROGRAMS.find(_point_programs, model, rows, problem.num_chains)
    if isinstance(start, GivenStart):
        params = start.points(problem.params, problem.num_chains)
    else:
        params = draw(keys, problem.train.x)
    losses = np.asarray(loss(params, problem.validation), dtype=np.float64)
    if not np.isfinite(losses).any():
        first = jax.tree.map(lambda leaf: leaf[0], params)
        reason = model.explain_non_finite(first, problem.validation)
        raise SamplingError(
            Outcome.NON_FINITE_TARGET, reason or "No starting point predicts the validation rows."
        )
    zeros = np.zeros(problem.num_chains, np.int32)
    return params, WarmStartReport(zeros, zeros, losses, time.perf_counter() - began)


def _point_programs(
    model: Model, rows: Shapes, num_chains: int
) -> tuple[Callable[[Key, Any], Params], Callable[[Params, Batch], Array]]:
    """Give draws of the prior and validation losses of all chains, for rows of some shapes."""

    def draw(key: Key, x: Any) -> Params:
        weights = model.init_weights(key, x)
        network = model.prior.sample(jax.random.fold_in(key, 1), weights["network"])
        return model.from_weights(weights | {"network": network})

    def loss(params: Params, validation: Batch) -> Array:
        return -model.log_prob(params, validation).mean()

    return jax.jit(jax.vmap(draw, (0, None))), jax.jit(jax.vmap(loss, (0, None)))
