"""Programs that are found again, so that equal fits of one process trace and compile once.

JAX knows a compiled program by the function that it was traced from, and each fit would make new
functions of its model and its settings. Here they are known by what they follow from: by the values
of what is known to be values, and by identity for all else.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import hashlib
import threading
import types
from collections.abc import Callable, Hashable, Iterator
from typing import Any, NamedTuple, TypeVar

import equinox as eqx
import jax
import numpy as np

Program = TypeVar("Program")

_PLAIN = (type(None), bool, int, float, complex, str, bytes)


class Same:
    """Stands for an object in a key: equal to itself alone, and keeps it alive.

    Parameters
    ----------
    value : any
        The object.

    Examples
    --------
    >>> one, other = [], []
    >>> Same(one) == Same(one), Same(one) == Same(other)
    (True, False)
    """

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class Shapes(NamedTuple):
    """Shapes and types of the arrays of a tree.

    Parameters
    ----------
    structure : PyTreeDef
        Structure of the tree.
    leaves : tuple
        Shape, type and weakness of the type of each array.
    """

    structure: Any
    leaves: tuple[tuple[tuple[int, ...], np.dtype, bool], ...]

    @classmethod
    def of(cls, tree: Any) -> Shapes:
        """Look at a tree of arrays, or of shapes.

        Examples
        --------
        >>> Shapes.of({"a": np.zeros(3)}) == Shapes.of({"a": np.ones(3)})
        True
        """
        leaves, structure = jax.tree.flatten(tree)
        kinds = ((leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in leaves)
        return cls(structure, tuple(kinds))

    def tree(self) -> Any:
        """Give the tree with the shapes in the places of the arrays."""
        leaves = [jax.ShapeDtypeStruct(s, d, weak_type=weak) for s, d, weak in self.leaves]
        return jax.tree.unflatten(self.structure, leaves)


def static_key(value: Any) -> Hashable:
    """Give a key that two objects share only if a program cannot tell them apart.

    By value: numbers, texts, arrays, tuples, lists and dicts of such, and objects that are nothing
    but their attributes: frozen dataclasses that compare by value, and Equinox modules. Attributes
    that are no fields count, too, and ``__eq__`` is not asked: it may leave something out. All else
    is known by identity, and by the present values of its attributes, so that a change of one is
    noticed; what lies deeper in it, such as what a function refers to, must not change.

    Parameters
    ----------
    value : any
        What a program follows from.

    Examples
    --------
    >>> from mirth.model import MLP
    >>> static_key(MLP((4,))) == static_key(MLP((4,))), static_key(1) == static_key(1.0)
    (True, False)
    """
    plain = _plain_key(value)
    if plain is not None:
        return plain
    if isinstance(value, tuple | list):
        return type(value), tuple(map(static_key, value))
    if isinstance(value, dict):
        return type(value), tuple((static_key(k), static_key(v)) for k, v in value.items())
    if isinstance(value, types.MethodType):  # made anew at each access
        return Same(value.__func__), static_key(value.__self__)
    if _is_value(value):
        return type(value), tuple((name, static_key(item)) for name, item in _attributes(value))
    if isinstance(value, type | types.FunctionType | types.ModuleType):
        return Same(value)
    return Same(value), tuple((name, _shallow_key(item)) for name, item in _attributes(value))


def _plain_key(value: Any) -> Hashable | None:
    """Key of what has no parts; None for all else."""
    kind = type(value)
    if kind in _PLAIN:
        return kind, repr(value)  # tells 0.0 from -0.0, and NaN is equal to itself
    if isinstance(value, np.dtype | jax.tree_util.PyTreeDef):
        return kind, value
    is_array = isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject
    if is_array or (isinstance(value, jax.Array) and _is_numeric(value)):
        array, weak = np.asarray(value), bool(getattr(value, "weak_type", False))
        return kind, array.shape, array.dtype, weak, hashlib.sha256(array.tobytes()).digest()
    return None


def _is_numeric(array: jax.Array) -> bool:
    return array.is_fully_addressable and not jax.dtypes.issubdtype(
        array.dtype, jax.dtypes.extended
    )


def _is_value(value: Any) -> bool:
    """Tell whether an object is nothing but its attributes, and they do not change."""
    kind = type(value)
    if any(getattr(base, "__slots__", ()) for base in kind.__mro__):
        return False  # what is in a slot is not in the list of attributes
    if isinstance(value, eqx.Module):
        return True
    settings = getattr(kind, "__dataclass_params__", None)
    return settings is not None and settings.frozen and settings.eq


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """List the attributes of an object, but those that it has computed of the others."""
    for name, item in sorted(getattr(value, "__dict__", {}).items()):
        if not isinstance(getattr(type(value), name, None), functools.cached_property):
            yield name, item


def _shallow_key(value: Any) -> Hashable:
    """Key of an attribute of what is known by identity: a value, or the very object."""
    plain = _plain_key(value)
    if plain is None and isinstance(value, tuple | list | dict):
        items = value.items() if isinstance(value, dict) else value
        return type(value), tuple(map(_shallow_key, items))
    return Same(value) if plain is None else plain


@dataclasses.dataclass(frozen=True)
class _Entry:
    """Programs and what they follow from."""

    statics: tuple[Any, ...]
    programs: Any


class ProgramCache:
    """Programs by what they follow from; those that were used last are kept.

    It holds functions that JAX has compiled and the objects that they follow from. Data must be
    arguments of the functions, so that it holds none. Safe for several threads.

    Parameters
    ----------
    max_kept : int
        Most entries.
    context : callable, optional
        Gives what all programs follow from as well: switches of the process.

    Examples
    --------
    >>> cache = ProgramCache(max_kept=2)
    >>> double = cache.find(lambda factor: jax.jit(lambda x: factor * x), 2.0)
    >>> float(double(3.0)), len(cache)
    (6.0, 1)
    """

    def __init__(self, max_kept: int, context: Callable[[], Hashable] = lambda: None):
        self.max_kept, self._context = max_kept, context
        self._entries: collections.OrderedDict[Hashable, _Entry] = collections.OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, make: Callable[..., Program], *statics: Any) -> Program:
        """Give ``make(*statics)``, or what it has given for equal arguments before.

        Parameters
        ----------
        make : callable
            Makes the programs; traces and compiles nothing that takes long, since others wait.
        *statics : any
            All that the programs follow from, beside their arguments and the settings of JAX.
        """
        key = (Same(make), static_key(statics), self._context())
        with self._lock:
            entry = self._entries.pop(key, None)
            # An object that has changed since would be seen by whatever is traced from now on.
            if entry is None or static_key(entry.statics) != key[1]:
                entry = _Entry(statics, make(*statics))
            self._entries[key] = entry
            while len(self._entries) > self.max_kept:
                self._entries.popitem(last=False)
        return entry.programs

    def clear(self) -> None:
        """Forget all programs."""
        with self._lock:
            self._entries.clear()
