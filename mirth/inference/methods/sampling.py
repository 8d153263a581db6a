"""Any sampler that follows the contract, as a method of :func:`mirth.infer`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jax
import jax.numpy as jnp

from mirth.core.config import Configurable
from mirth.core.validation import (
    COUNT,
    COUNT_OR_NONE,
    NATURAL,
    Range,
    check_flag,
    check_name,
    check_ranges,
)
from mirth.inference.chains.chains import Recipe
from mirth.inference.posterior import Posterior
from mirth.inference.run.health import POLICIES
from mirth.inference.run.recipes import run_recipe
from mirth.inference.start.deep_ensemble import DeepEnsemble
from mirth.inference.start.starts import resolve_start
from mirth.samplers import Adaptation

if TYPE_CHECKING:
    from mirth.inference.problem import Problem


@dataclasses.dataclass(kw_only=True)
class Sampling(Configurable):
    r"""Run any sampler: one of :mod:`mirth`, or one of your own.

    The chains have all that those of :class:`MILE` have: devices, run directories, health,
    displays. A sampler is an object with two functions,

    ``init(position, logdensity_fn, key) -> state``
        where ``position`` is one vector, ``state`` a pytree of arrays with a field ``position``;
    ``step(key, state, logdensity_fn) -> (state, info)``
        where ``info`` has ``logdensity``, the log density at the new position, and may have
        ``energy_change``, ``step_size`` and ``is_divergent``.

    It may also have ``step_size`` and ``L``, which are shown, and ``gradients_per_step``, which is
    counted.

    Parameters
    ----------
    kernel : object
        The sampler, such as ``mirth.samplers.MCLMC(step_size=0.1, L=3.0)``.
    adaptation : callable, optional
        What is learnt in the warm-up: ``adaptation(kernel, n_warmup)`` gives a
        :class:`~mirth.samplers.Adaptation`, as a class derived from it does. None learns nothing.
    n_warmup : int, default=1000
        Steps before any draw.
    n_samples : int, default=200
        Draws kept per chain.
    n_thinning : int, default=10
        Steps between two kept draws.
    batch_size : int, optional
        Most rows that a step sees, scaled to all rows; None means all rows.
    use_validation_rows : bool, optional
        Condition the chains on the validation rows as well. None means True for data in memory and
        False for a stream, which cannot be joined with them.
    unhealthy_chains : {"keep", "stop", "drop", "restart"}, default="keep"
        What happens when a chain is frozen, diverging or worse than its start; as for
        :class:`MILE`.
    start : DeepEnsemble, "prior", Posterior or dict, optional
        Settings of the optimisation that the chains start from; None means ``DeepEnsemble()``.
        Other starts are draws of the prior, the last draws of a posterior, and parameters as
        ``model.init`` gives them, with an axis of chains or without.

    Raises
    ------
    TypeError
        If the kernel or the adaptation does not follow the contract; the sentence says where.
    ValueError
        If a number is outside its range or a name is unknown.

    Examples
    --------
    >>> import mirth
    >>> Sampling(kernel=mirth.samplers.SGLD(step_size=1e-5), n_warmup=500).n_samples
    200
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "n_warmup": NATURAL,
        "n_samples": COUNT,
        "n_thinning": COUNT,
        "batch_size": COUNT_OR_NONE,
    }

    kernel: Any
    adaptation: Callable[[Any, int], Adaptation] | None = None
    n_warmup: int = 1000
    n_samples: int = 200
    n_thinning: int = 10
    batch_size: int | None = None
    use_validation_rows: bool | None = None
    unhealthy_chains: str = "keep"
    start: DeepEnsemble | Any = None

    def __post_init__(self) -> None:
        self.start = resolve_start(self.start)
        check_flag("use_validation_rows", self.use_validation_rows, or_none=True)
        check_ranges(self, self.RANGES)
        check_name("unhealthy_chains", self.unhealthy_chains, POLICIES)
        check_kernel(self.kernel)
        if self.adaptation is not None and not callable(self.adaptation):
            raise TypeError(
                f"adaptation={self.adaptation!r} must be a function of the kernel and n_warmup "
                "that gives an Adaptation, or None."
            )

    def recipe(self, problem: Problem) -> Recipe:
        """Put together what is asked of the chains."""
        build = self.adaptation or Adaptation
        adaptation = build(self.kernel, self.n_warmup)
        if not isinstance(adaptation, Adaptation):
            raise TypeError(
                f"adaptation(kernel, n_warmup) gave {adaptation!r}; it must be an object of a "
                "class that is derived from mirth.samplers.Adaptation."
            )
        if self.batch_size is None:
            problem.refuse_stream("mirth.Sampling(batch_size=None)")
        return Recipe(
            adaptation=adaptation,
            n_samples=self.n_samples,
            n_thinning=self.n_thinning,
            batch_size=self.batch_size,
            use_validation_rows=problem.joins_validation(self.use_validation_rows),
            unhealthy_chains=self.unhealthy_chains,
        )

    def run(self, problem: Problem) -> Posterior:
        """Find the starts, warm up, sample."""
        return run_recipe(self.recipe(problem), self.start, problem)


def check_kernel(kernel: Any) -> None:
    """Check that a sampler follows the contract, by tracing a step of it.

    Raises
    ------
    TypeError
        If it does not.

    Examples
    --------
    >>> from mirth.samplers import SGLD
    >>> check_kernel(SGLD(1e-3))
    """
    if isinstance(kernel, type):
        raise TypeError(f"kernel={kernel.__name__} is a class; make an object of it first.")
    for name, arguments in (
        ("init", "position, logdensity_fn, key"),
        ("step", "key, state, logdensity_fn"),
    ):
        if not callable(getattr(kernel, name, None)):
            raise TypeError(f"kernel={kernel!r} has no method {name}({arguments}).")
    position = jax.ShapeDtypeStruct((4,), float)
    key = jax.eval_shape(lambda: jax.random.key(0))

    def logdensity(x: Any) -> Any:
        return -0.5 * jnp.sum(x**2)

    state = jax.eval_shape(lambda x, k: kernel.init(x, logdensity, k), position, key)
    if getattr(getattr(state, "position", None), "shape", None) != (4,):
        raise TypeError(
            "kernel.init(position, logdensity_fn, key) must give a state with a field position, of "
            f"the shape of the position; it gave {state!r}."
        )
    result = jax.eval_shape(lambda k, s: kernel.step(k, s, logdensity), key, state)
    if type(result) is not tuple or len(result) != 2:  # a named tuple is a state alone
        raise TypeError(
            "kernel.step(key, state, logdensity_fn) must give a pair (state, info); it gave "
            f"{result!r}."
        )
    if _types(result[0]) != _types(state):
        raise TypeError(
            "kernel.step must give a state of the structure, shapes and types of that of "
            f"kernel.init, {state!r}; it gave {result[0]!r}."
        )
    if not hasattr(result[1], "logdensity"):
        raise TypeError(
            "kernel.step must give an info with a field logdensity, the log density at the new "
            f"position; it gave {result[1]!r}."
        )


def _types(tree: Any) -> Any:
    """Structure, shapes and types of a tree."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]
