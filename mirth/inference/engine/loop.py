"""The one loop over steps: compiled chunks, driven by the host.

Inside a chunk an outer loop runs over kept draws and an inner one over thinned steps, so memory
holds kept draws only. Between chunks the host takes the kept draws and shows the progress. The
result does not depend on the chunk size: the key of a step is a function of chain and step.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mirth.core.random import fold_in
from mirth.core.types import Key
from mirth.inference.engine.feed import Feed
from mirth.inference.engine.placement import Placement

_FIRST_CHUNK_STEPS = 50
_MAX_BUFFER_BYTES = 64 * 2**20
_MAX_KEPT_PER_CHUNK = 64


class ChunkStats(NamedTuple):
    """What one chain reports about a chunk of steps; on the host there is an axis of chains.

    Parameters
    ----------
    squared_energy_change : scalar
        Mean of Delta E^2 over the chunk.
    num_divergent : scalar
        Reverted steps of the chunk.
    step_size : scalar
        Step size of the last step.
    logdensity : scalar
        Log density at the end of the chunk.
    """

    squared_energy_change: Float[Array | np.ndarray, "*chains"]
    num_divergent: Int[Array | np.ndarray, "*chains"]
    step_size: Float[Array | np.ndarray, "*chains"]
    logdensity: Float[Array | np.ndarray, "*chains"]


@dataclasses.dataclass(frozen=True)
class ChunkReport:
    """What the host knows after a chunk; handed to the progress display.

    Parameters
    ----------
    phase : str
        Name of the phase.
    step, num_steps : int
        Steps done and steps to do in this phase.
    first_step : int
        Steps that were done before this process took the phase up.
    seconds : float
        Time since it did.
    stats : ChunkStats
        Per chain, arrays of shape (chains,).
    carry : pytree
        State of all chains after the chunk (leading axis chains, padded).
    """

    phase: str
    step: int
    num_steps: int
    first_step: int
    seconds: float
    stats: ChunkStats
    carry: Any


StepFn = Callable[[Key, Any, Array, Any], tuple[Any, Any]]
KeepFn = Callable[[Any, Any, Any], tuple[Any, Any]]


class ChunkProgram:
    """A compiled program of steps of all chains; its length is an argument, so it compiles once.

    Parameters
    ----------
    step_fn : callable
        ``step_fn(key, carry, step, shared) -> (carry, info)`` of one chain, where ``info`` has
        ``energy_change``, ``is_divergent``, ``step_size`` and ``logdensity``.
    keep_fn : callable or None
        ``keep_fn(carry, info, shared) -> (carry, draw)``, called at every kept step; None keeps
        nothing.
    placement : Placement
        Devices.
    """

    def __init__(self, step_fn: StepFn, keep_fn: KeepFn | None, placement: Placement):
        # Traced once, though the shapes of what they give are asked for as well.
        self.step_fn = jax.jit(step_fn, inline=True)
        self.keep_fn = None if keep_fn is None else jax.jit(keep_fn, inline=True)
        self.placement = placement
        self._compiled: tuple[Callable[..., Any], int] | None = None

    def compiled(self, carry: Any, keys: Key, shared: Any) -> tuple[Callable[..., Any], int]:
        """Give the program, and the number of draws that a chunk may keep.

        Parameters
        ----------
        carry, keys, shared : pytree
            What the program will see, or its shapes; every call must have the same ones.
        """
        if self._compiled is None:
            capacity = self._find_capacity(carry, keys, shared)
            compiled = self.placement.compile(self.chunk_of_one_chain(capacity))
            self._compiled = compiled, capacity
        return self._compiled

    def chunk_of_one_chain(self, capacity: int) -> Callable[[Any, Key, Any], Any]:
        """Build the program of one chunk of one chain, with room for some draws."""
        step_fn, keep_fn = self.step_fn, self.keep_fn

        def chunk(carry: Any, key: Key, span_and_shared: Any) -> tuple[Any, Any, ChunkStats]:
            (first, count, thin, keeps), shared = span_and_shared

            def one_step(i: Array, loop: Any) -> Any:
                carry, _, energy, divergent = loop
                carry, info = step_fn(fold_in(key, i), carry, i, shared)
                return carry, info, energy + info.energy_change**2, divergent + info.is_divergent

            def one_draw(n: Array, loop: Any) -> Any:
                inner, kept = loop
                start = first + n * thin
                inner = jax.lax.fori_loop(start, start + thin, one_step, inner)
                if keep_fn is not None:
                    carry, draw = jax.lax.cond(
                        keeps,
                        lambda: keep_fn(inner[0], inner[1], shared),
                        lambda: (inner[0], _zeros(draw_shapes)),
                    )
                    inner = (carry, *inner[1:])
                    kept = jax.tree.map(lambda k, d: k.at[n].set(d), kept, draw)
                return inner, kept

            info = _zeros(jax.eval_shape(step_fn, key, carry, first, shared)[1])
            kept = None
            if keep_fn is not None:
                draw_shapes = jax.eval_shape(keep_fn, carry, info, shared)[1]
                kept = jax.tree.map(lambda s: jnp.zeros((capacity, *s.shape), s.dtype), draw_shapes)
            start = (carry, info, jnp.zeros(()), jnp.zeros((), jnp.int32))
            (carry, info, energy, divergent), kept = jax.lax.fori_loop(
                0, count, one_draw, (start, kept)
            )
            energy = energy / (count * thin)
            return carry, kept, ChunkStats(energy, divergent, info.step_size, info.logdensity)

        return chunk

    def _find_capacity(self, carry: Any, keys: Key, shared: Any) -> int:
        """Give the number of draws that a chunk may keep, from the size of a draw of all chains."""
        if self.keep_fn is None:
            return 0
        one = jax.eval_shape(lambda tree: jax.tree.map(lambda leaf: leaf[0], tree), carry)
        key = jax.eval_shape(lambda k: k[0], keys)
        step = jax.ShapeDtypeStruct((), jnp.int32)
        info = jax.eval_shape(self.step_fn, key, one, step, shared)[1]
        draw = jax.eval_shape(self.keep_fn, one, info, shared)[1]
        num_bytes = sum(s.size * s.dtype.itemsize for s in jax.tree.leaves(draw))
        return kept_per_chunk(num_bytes * jax.tree.leaves(carry)[0].shape[0])


class Stretch(NamedTuple):
    """Steps of a phase that the loop runs at once: all of them, or those up to the next review.

    Parameters
    ----------
    name : str
        Name of the phase, for the progress display.
    num_steps : int
        Steps of the phase at the end of the stretch; only whole multiples of ``thin`` are run.
    total_steps : int, optional
        Steps to speak of in the reports, if the phase goes on in another stretch.
    first_step : int, default=0
        Number of the phase's first step; steps are numbered through all phases that share keys.
    thin : int, default=1
        Keep every ``thin``-th state.
    done : int, default=0
        Kept states (steps / ``thin``) of the phase that the chains already have behind them.
    keep : bool, default=True
        Whether draws are kept; a phase that keeps none shares the program of one that does.
    """

    name: str
    num_steps: int
    total_steps: int | None = None
    first_step: int = 0
    thin: int = 1
    done: int = 0
    keep: bool = True


class ChainLoop:
    """Runs a program of steps in chunks, for any number of phases.

    Parameters
    ----------
    program : ChunkProgram
        The program.
    num_chains : int
        Chains without the padding; kept draws are cut to it.
    chunk_steps : int, optional
        Steps of a chunk; None finds the number that takes about ``chunk_seconds``.
    chunk_seconds : float, default=1.0
        Time between two reports.
    """

    def __init__(
        self,
        program: ChunkProgram,
        num_chains: int,
        *,
        chunk_steps: int | None = None,
        chunk_seconds: float = 1.0,
    ):
        self.program, self.num_chains = program, num_chains
        self.chunk_steps, self.chunk_seconds = chunk_steps, chunk_seconds
        self._size = _FIRST_CHUNK_STEPS

    def run(
        self,
        stretch: Stretch,
        carry: Any,
        keys: Key,
        shared: Any,
        *,
        sink: Callable[[Any], None] | None = None,
        on_chunk: Callable[[ChunkReport], bool | None] | None = None,
        feed: Feed | None = None,
    ) -> tuple[Any, Any]:
        """Run a stretch of all chains.

        Parameters
        ----------
        stretch : Stretch
            Which steps.
        carry : pytree
            State of all chains, leading axis (chains,) padded and placed.
        keys : array of keys, shape (chains,)
            One key per chain, padded and placed likewise.
        shared : pytree
            What all chains see (the data), placed on every device.
        sink : callable, optional
            Takes each piece of kept draws, axes (chains, draws, ...); None gathers them.
        on_chunk : callable, optional
            Called with a :class:`ChunkReport` after each chunk, on the host; the run ends there if
            it returns True.
        feed : Feed, optional
            Gives ``shared.stored`` for each stack of steps.

        Returns
        -------
        carry : pytree
            State of all chains.
        kept : pytree of NumPy arrays, or None
            Axes (chains, draws, ...); None if nothing is kept or a sink has taken them.
        """
        thin, done, first = stretch.thin, stretch.done, stretch.first_step
        total = stretch.num_steps // thin
        chunk, capacity = self.program.compiled(carry, keys, shared)
        keep = stretch.keep and self.program.keep_fn is not None
        limit = capacity if keep else total
        pieces: list[Any] = []
        take = sink or pieces.append
        begin, begun = time.perf_counter(), done
        size = max(1, (self.chunk_steps or self._size) // thin)
        is_over = False
        while done < total and not is_over:
            count = min(size, total - done, limit)
            started = time.perf_counter()
            steps = None if feed is None else feed.steps
            spans = cut_spans(first + done * thin, count, thin, keep=keep, stack_steps=steps)
            parts = []
            for span in spans:
                if feed is not None:
                    shared = shared._replace(stored=feed.stack(span.first // feed.steps))
                placed = self.program.placement.put_shared(jnp.array(span))
                carry, kept, stats = jax.block_until_ready(chunk(carry, keys, (placed, shared)))
                parts.append(jax.tree.map(self._cut, stats))
                if span.keeps:
                    # A copy, because a view would keep the whole buffer alive until the end.
                    take(jax.tree.map(lambda k, c=span.intervals: self._cut(k)[:, :c].copy(), kept))
            rate = count / (time.perf_counter() - started)
            done += count
            if on_chunk is not None:
                seconds = time.perf_counter() - begin
                place = (done * thin, stretch.total_steps or total * thin, begun * thin)
                stats = _joined(parts, [span.intervals * span.thin for span in spans])
                is_over = on_chunk(ChunkReport(stretch.name, *place, seconds, stats, carry)) is True
            if self.chunk_steps is None:
                # The first chunk includes compilation, so its rate is an underestimate: grow at
                # most tenfold at a time.
                size = int(np.clip(rate * self.chunk_seconds, 1, 10 * size))
                self._size = size * thin
        if not pieces:
            return carry, None
        return carry, jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *pieces)

    def _cut(self, leaf: jax.Array) -> np.ndarray:
        """Fetch a leaf without the padding chains."""
        return np.asarray(leaf)[: self.num_chains]


def kept_per_chunk(draw_bytes: int) -> int:
    """Give the number of draws that a chunk may keep, from the bytes of a draw of all chains."""
    # A phase that keeps fewer draws than another still shares its program.
    return int(np.clip(_MAX_BUFFER_BYTES // max(1, draw_bytes), 1, _MAX_KEPT_PER_CHUNK))


class Span(NamedTuple):
    """Steps of one call of a compiled chunk.

    Parameters
    ----------
    first : int
        Number of the first step.
    intervals, thin : int
        Intervals, and steps of each.
    keeps : bool
        Whether a draw is kept at the end of an interval.
    """

    first: int
    intervals: int
    thin: int
    keeps: bool


def cut_spans(
    first: int, count: int, thin: int, *, keep: bool, stack_steps: int | None
) -> list[Span]:
    """Cut intervals of steps so that no call crosses the border of two stacks.

    Parameters
    ----------
    first : int
        Number of the first step.
    count, thin : int
        Intervals, and steps of each.
    keep : bool
        Whether draws are kept; without them all is one long interval.
    stack_steps : int, optional
        Steps of a stack; stacks begin at its multiples. None means one stack for all steps.

    Examples
    --------
    >>> [tuple(span) for span in cut_spans(0, 3, 4, keep=True, stack_steps=6)]
    [(0, 1, 4, True), (4, 1, 2, False), (6, 1, 2, True), (8, 1, 4, True)]
    """
    if not keep:
        count, thin = 1, count * thin
    if stack_steps is None:
        return [Span(first, count, thin, keep)]
    spans, step, end = [], first, first + count * thin
    while step < end:
        border = (step // stack_steps + 1) * stack_steps
        left = thin - (step - first) % thin
        whole = min(border, end) - step
        if left == thin and whole >= thin:
            spans.append(Span(step, whole // thin, thin, keep))
        else:
            spans.append(Span(step, 1, min(left, whole), keep and left <= whole))
        step += spans[-1].intervals * spans[-1].thin
    return spans


def _joined(parts: list[ChunkStats], steps: list[int]) -> ChunkStats:
    """Put together what the calls of a chunk report."""
    energy = np.average([part.squared_energy_change for part in parts], axis=0, weights=steps)
    divergent = np.sum([part.num_divergent for part in parts], axis=0)
    last = parts[-1]
    return ChunkStats(energy, divergent, last.step_size, last.logdensity)


def _zeros(shapes: Any) -> Any:
    """Make zeros of given shapes."""
    return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
