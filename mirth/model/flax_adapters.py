"""Networks written with Flax: Linen and NNX. The only module that imports Flax."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from mirth.core.types import Key, Params
from mirth.model.frozen import STATISTICS_ADVICE, FrozenState

# What modules commonly call the switch between learning and use, with its value for use.
_IN_USE = {
    "deterministic": True,
    "train": False,
    "training": False,
    "is_training": False,
    "use_running_average": True,
}


def _import_flax(user: str) -> None:
    try:
        import flax  # noqa: F401
    except ImportError as error:
        raise ImportError(f"{user} needs Flax: pip install mirth[flax]") from error


@dataclasses.dataclass(frozen=True, eq=False)
class FlaxLinenNetwork:
    """A network made of a Flax Linen module.

    Parameters are the collection ``"params"``, as nested dicts. Other collections, such as
    ``"batch_stats"``, are not sampled: they are taken from ``state``, one copy for all chains, and
    never change. Random numbers are not given to the module, so dropout must be off.

    Two objects are equal only if they are one: make the network once, and programs compile once.

    Parameters
    ----------
    module : flax.linen.Module
        Module that maps ``x`` of shape (data, ...) to outputs of shape (data, outputs).
    state : mapping, optional
        Other collections than ``"params"``, for example ``{"batch_stats": ...}`` of a trained
        network; ``"params"`` in it are left out.
    arguments : mapping, optional
        Keyword arguments of the module's ``__call__``. Those called ``deterministic``, ``train``,
        ``training``, ``is_training`` or ``use_running_average`` are set for use, not for learning,
        unless they are given here.

    Raises
    ------
    ImportError
        If Flax is not installed.
    TypeError
        If ``module`` is no Linen module.
    ValueError
        From ``init``, if ``state`` lacks a collection that the module has.

    Examples
    --------
    >>> import flax.linen as nn, jax, jax.numpy as jnp
    >>> network = FlaxLinenNetwork(nn.Sequential([nn.Dense(16), nn.relu, nn.Dense(2)]))
    >>> x = jnp.ones((5, 3))
    >>> params = network.init(jax.random.key(0), x)
    >>> sorted(params)
    ['layers_0', 'layers_2']
    >>> network.apply(params, x).shape
    (5, 2)
    """

    module: Any
    state: Any = None
    arguments: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        _import_flax("FlaxLinenNetwork")
        from flax import linen

        if not isinstance(self.module, linen.Module):
            raise TypeError(f"module={self.module!r} must be a flax.linen.Module object.")
        if self.state is not None and not isinstance(self.state, FrozenState):
            others = {name: tree for name, tree in self.state.items() if name != "params"}
            object.__setattr__(self, "state", FrozenState(others))
        accepted = inspect.signature(self.module.__call__).parameters
        known = {name: value for name, value in _IN_USE.items() if name in accepted}
        object.__setattr__(self, "arguments", known | dict(self.arguments or {}))

    def init(self, key: Key, x: Float[Array, "data ..."]) -> Params:
        """Draw first parameters: the module's collection ``"params"``."""
        from flax import linen

        variables = linen.meta.unbox(self.module.init(key, x, **self._arguments))
        given = {} if self.state is None else self.state.tree
        missing = sorted(variables.keys() - given.keys() - {"params"})
        if missing:
            raise ValueError(
                f"The module has the collection(s) {', '.join(missing)}, which are not sampled; "
                f"pass those of a trained network: state={{{missing[0]!r}: ...}}. "
                f"{STATISTICS_ADVICE}"
            )
        return variables.get("params", {})

    def apply(self, params: Params, x: Float[Array, "data ..."]) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        from flax import errors

        state = {} if self.state is None else jax.tree.map(jnp.asarray, self.state.tree)
        try:
            return self.module.apply({**state, "params": params}, x, **self._arguments)
        except (errors.InvalidRngError, errors.ModifyScopeVariableError) as error:
            raise ValueError(
                "The module draws random numbers or changes its state; name the argument of its "
                "__call__ that switches this off, such as "
                f"FlaxLinenNetwork(module, arguments={{'deterministic': True}}). Flax says: {error}"
            ) from error

    @property
    def _arguments(self) -> dict[str, Any]:
        return dict(self.arguments or {})


@dataclasses.dataclass(frozen=True, eq=False)
class FlaxNnxNetwork:
    """A network made by a function that returns a Flax NNX module.

    The module is in evaluation mode (``module.eval()``), so dropout is off. Parameters are its
    variables of type ``nnx.Param``, by the name of their place (``"layers/0/kernel"``). Other
    variables, such as ``nnx.BatchStat``, are not sampled: they are taken from ``state``, one copy
    for all chains, and never change. The state of random generators is that of ``nnx.Rngs(0)``.

    Two objects are equal only if they are one: make the network once, and programs compile once.

    Parameters
    ----------
    make : callable
        ``make(rngs) -> module`` with ``rngs`` of type ``nnx.Rngs``; the module maps ``x`` of shape
        (data, ...) to outputs of shape (data, outputs).
    state : nnx.State, optional
        The variables that are not sampled, for example ``nnx.state(trained, nnx.BatchStat)``.

    Raises
    ------
    ImportError
        If Flax is not installed.
    TypeError
        If ``make`` is no function that makes modules.
    ValueError
        From ``init``, if ``state`` lacks a variable that the module has.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from flax import nnx
    >>> network = FlaxNnxNetwork(lambda rngs: nnx.Linear(3, 2, rngs=rngs))
    >>> x = jnp.ones((5, 3))
    >>> params = network.init(jax.random.key(0), x)
    >>> sorted(params)
    ['bias', 'kernel']
    >>> network.apply(params, x).shape
    (5, 2)
    """

    make: Callable[[Any], Any]
    state: Any = None

    def __post_init__(self) -> None:
        _import_flax("FlaxNnxNetwork")
        from flax import nnx

        if isinstance(self.make, nnx.Module) or not callable(self.make):
            raise TypeError(
                f"make is of type {type(self.make).__name__}; pass a function that makes a module, "
                "such as lambda rngs: Network(rngs=rngs), so that every member starts from weights "
                "of its own."
            )
        if self.state is not None and not isinstance(self.state, FrozenState):
            object.__setattr__(self, "state", FrozenState(_by_name(self.state)))

    def init(self, key: Key, x: Float[Array, "data ..."]) -> Params:
        """Draw first parameters, a dict from names to arrays; ``x`` is not looked at."""
        _, params, _, others = self._split(key)
        given = {} if self.state is None else self.state.tree
        missing = sorted(_by_name(others).keys() - given.keys())
        if missing:
            raise ValueError(
                f"The module has the variable(s) {', '.join(missing)}, which are not sampled; pass "
                "those of a trained network, such as state=nnx.state(trained, nnx.BatchStat). "
                f"{STATISTICS_ADVICE}"
            )
        return _by_name(params)

    def apply(self, params: Params, x: Float[Array, "data ..."]) -> Float[Array, "data outputs"]:
        """Compute the outputs, axes (data, outputs)."""
        from flax import nnx

        graph, like, generators, others = self._template
        frozen = {} if self.state is None else jax.tree.map(jnp.asarray, self.state.tree)
        generators = jax.tree.map(jnp.asarray, generators)
        return nnx.merge(graph, _fill(like, params), generators, _fill(others, frozen))(x)

    def _split(self, key: Key) -> tuple[Any, Any, Any, Any]:
        """Make a module; give its graph, parameters, random generators and other variables."""
        from flax import nnx

        module = self.make(nnx.Rngs(key))
        if not isinstance(module, nnx.Module):
            raise TypeError(f"make returned a {type(module).__name__}, not a flax.nnx.Module.")
        module.eval()
        parts: Any = nnx.split(module, nnx.Param, nnx.RngState, ...)
        graph, params, generators, others = parts
        return graph, params, generators, others

    @functools.cached_property
    def _template(self) -> tuple[Any, Any, Any, Any]:
        """Graph of the module, shapes of its parameters and other variables, and generators."""
        key = jax.eval_shape(lambda: jax.random.key(0))
        graph, params, _, others = jax.eval_shape(self._split, key)
        # Now, though a program may just be traced; compiled, so that no weight is computed.
        with jax.ensure_compile_time_eval():
            generators = jax.jit(lambda key: self._split(key)[2])(jax.random.key(0))
        return graph, params, FrozenState(generators).tree, others


def _by_name(state: Any) -> dict[str, Any]:
    """Give the arrays of an NNX state by the place of their variables, in order."""
    named = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        place = path[:-1] if isinstance(path[-1], jax.tree_util.GetAttrKey) else path
        named[jax.tree_util.keystr(place, simple=True, separator="/")] = leaf
    return named


def _fill(like: Any, named: Mapping[str, Array]) -> Any:
    """Put arrays into an NNX state by name."""
    return jax.tree.unflatten(jax.tree.structure(like), [named[name] for name in _by_name(like)])
