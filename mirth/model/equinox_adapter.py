"""Networks written with Equinox."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from mirth.core.types import Key, Params
from mirth.model.frozen import STATISTICS_ADVICE, FrozenState


@dataclasses.dataclass(frozen=True, eq=False)
class EquinoxNetwork:
    """A network made by a function that returns an Equinox module.

    The module works on one row, as is the custom of Equinox; rows are vectorised here. It runs in
    inference mode, so dropout is off. Parameters are its arrays of inexact type, by the name of
    their place (``"layers/0/weight"``). Everything else - integer arrays, functions, flags - is
    frozen: it is that of the module made with ``jax.random.key(0)``.

    Two objects are equal only if they are one: make the network once, and programs compile once.

    Parameters
    ----------
    make : callable
        ``make(key) -> module`` with ``module(row) -> outputs`` of shape (outputs,). For a network
        with state, ``equinox.nn.make_with_state(Network)``, which returns (module, state);
        then ``module(row, state) -> (outputs, new state)``, and the new state is dropped.
    state : equinox.nn.State, optional
        State of such a network, for example the running statistics of a trained one. One copy
        serves all chains and never changes.

    Raises
    ------
    TypeError
        If ``make`` is no function. A module has one set of weights, and the members of an ensemble
        need different ones; ``lambda key: module`` starts all from the same nevertheless.
    ValueError
        From ``init``, if the network has state and ``state`` is missing.

    Examples
    --------
    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> network = EquinoxNetwork(lambda key: eqx.nn.MLP(3, 2, 16, 2, key=key))
    >>> x = jnp.ones((5, 3))
    >>> params = jax.jit(network.init)(jax.random.key(0), x)
    >>> sorted(params)[:2]
    ['layers/0/bias', 'layers/0/weight']
    >>> network.apply(params, x).shape
    (5, 2)
    """

    make: Callable[[Key], Any]
    state: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.make, eqx.Module) and not isinstance(self.make, jax.tree_util.Partial):
            raise TypeError(
                f"make is a module ({type(self.make).__name__}); pass a function that makes one, "
                "such as lambda key: Network(key=key), so that every member starts from weights "
                "of its own."
            )
        if not callable(self.make):
            raise TypeError(f"make={self.make!r} must be a function: make(key) -> module.")
        if self.state is not None and not isinstance(self.state, FrozenState):
            object.__setattr__(self, "state", FrozenState(self.state))

    def init(self, key: Key, x: Float[Array, "data ..."]) -> Params:
        """Draw first parameters, a dict from names to arrays; ``x`` is not looked at."""
        module, has_state = self._module(key)
        if has_state and self.state is None:
            raise ValueError(
                "make returns (module, state), so the network needs state=...: the state of a "
                f"trained network. {STATISTICS_ADVICE}"
            )
        return _by_name(eqx.filter(module, _is_sampled))

    def apply(self, params: Params, x: Float[Array, "data ..."]) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        names, structure, frozen = self._template
        sampled = jax.tree.unflatten(structure, [params[name] for name in names])
        module = eqx.combine(sampled, frozen)
        if self.state is None:
            return jax.vmap(lambda row: module(row))(x)
        state = jax.tree.map(jnp.asarray, self.state.tree)
        return jax.vmap(lambda row: module(row, state)[0])(x)

    def _module(self, key: Key) -> tuple[Any, bool]:
        """Make a module in inference mode, and say whether it came with a state."""
        made = self.make(key)
        has_state = isinstance(made, tuple)
        return eqx.nn.inference_mode(made[0] if has_state else made), has_state

    @functools.cached_property
    def _template(self) -> tuple[list[str], Any, Any]:
        """Names and structure of the parameters, and all the rest of the module."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        shapes = eqx.filter_eval_shape(self._module, key)[0]
        params = eqx.filter(shapes, _is_sampled)
        # Now, though a program may just be traced; compiled, so that no weight is computed.
        with jax.ensure_compile_time_eval():
            frozen = eqx.filter_jit(
                lambda key: eqx.filter(self._module(key)[0], _is_sampled, inverse=True)
            )(jax.random.key(0))
        return list(_by_name(params)), jax.tree.structure(params), FrozenState(frozen).tree


def _is_sampled(leaf: Any) -> bool:
    """Tell whether a leaf is an array, or the shape of one, with numbers that are not whole."""
    is_array = isinstance(leaf, jax.Array | np.ndarray | jax.ShapeDtypeStruct)
    return is_array and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _by_name(tree: Any) -> dict[str, Any]:
    """Give the leaves of a tree by their place, in order."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
