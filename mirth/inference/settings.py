"""How a run runs, and what is kept of it: arguments of ``infer`` that belong together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from mirth.core.deprecation import warn_renamed
from mirth.core.types import Params
from mirth.core.validation import (
    COUNT_OR_NONE,
    NATURAL,
    NON_NEGATIVE,
    Range,
    check_duration,
    check_name,
    check_ranges,
    nearest_name,
)
from mirth.inference.engine.placement import Placement
from mirth.inference.posterior import Posterior
from mirth.inference.store.draws import store_location

DRAW_TYPES = ("float32", "float16", "bfloat16")
"""Types in which draws can be kept."""


@dataclasses.dataclass(frozen=True)
class Run:
    """Where and how a run runs; the posterior that is sampled does not depend on it.

    Parameters
    ----------
    directory : str or path, optional
        Run directory: the draws go to disk while the chains run, the state is kept from time to
        time, and the same call goes on from there after a crash, an interrupt or the end (with a
        larger ``n_samples``). None keeps everything in memory.
    checkpoint_seconds : float, default=30
        Least time between two checkpoints in the run directory.
    draws_store : str or path, optional
        Where the draws of the run directory go: another folder, or a URL such as
        ``"s3://bucket/run.zarr"`` (with ``mirth[remote]`` and the protocol's own package, here
        s3fs). A later call must name the same place. None means ``draws.zarr`` in the run
        directory.
    max_time : float or str, optional
        Limit of the time in seconds, or as ``"10min"``; of all processes that work on a run
        directory together. The phases are cut in proportion as soon as the speed is known, so
        the draws depend on the machine. The result is valid, and late by one chunk at most.
    first_chain : int, default=0
        Number of the first chain. The draws of a chain depend on its number, not on the others, so
        several machines can run some each (:func:`~mirth.join_chains`).
    go_on_from : Posterior, optional
        Result of the same call with a smaller ``n_samples``: the chains go on where they stand, to
        the draws that a longer run would have had. For a run without directory.
    placement : Placement, optional
        Devices; None chooses by platform.
    chunk_steps : int, optional
        Steps of a compiled chunk; None finds a number that takes about a second.
    data_block_size : int, optional
        Most rows that a gradient takes at a time: the memory for activations does not grow with
        the rows. It changes results only to rounding. None chooses by
        :meth:`~mirth.inference.problem.Problem.choose_block_size`.

    Raises
    ------
    ValueError, TypeError
        If a value is wrong, or some exclude each other.

    Examples
    --------
    >>> Run("runs/houses", max_time="10min").max_time
    '10min'
    >>> Run(first_chain=-1)
    Traceback (most recent call last):
    ...
    ValueError: first_chain=-1 must be at least 0.
    """

    RANGES: ClassVar[Mapping[str, Range]] = {
        "checkpoint_seconds": NON_NEGATIVE,
        "first_chain": NATURAL,
        "chunk_steps": COUNT_OR_NONE,
        "data_block_size": COUNT_OR_NONE,
    }

    directory: str | Path | None = None
    checkpoint_seconds: float = 30.0
    draws_store: str | Path | None = None
    max_time: float | str | None = None
    first_chain: int = 0
    go_on_from: Posterior | None = None
    placement: Placement | None = None
    chunk_steps: int | None = None
    data_block_size: int | None = None

    def __post_init__(self) -> None:
        check_ranges(self, self.RANGES)
        if self.directory is not None and not isinstance(self.directory, str | Path):
            raise TypeError(f"directory={self.directory!r} must be a folder (str or path).")
        if self.placement is not None and not isinstance(self.placement, Placement):
            raise TypeError(f"placement={self.placement!r} must be a mirth.Placement.")
        if self.go_on_from is not None and not isinstance(self.go_on_from, Posterior):
            raise TypeError(
                f"go_on_from must be the Posterior of a run, not a {type(self.go_on_from).__name__}"
                "; a run directory goes on by the same call."
            )
        if self.max_time is not None:
            check_duration("max_time", self.max_time)
        if self.draws_store is not None and self.directory is None:
            raise ValueError(
                f"draws_store={str(self.draws_store)!r} needs a run directory, which keeps the "
                "state of the run: mirth.Run(FOLDER, draws_store=...) of infer, "
                "run_directory=FOLDER of an estimator."
            )
        if self.go_on_from is not None and self.directory is not None:
            raise ValueError(
                f"go_on_from and directory={str(self.directory)!r} exclude each other: a run "
                "directory knows where its chains stand."
            )

    @property
    def seconds(self) -> float | None:
        """Limit of the time in seconds."""
        return None if self.max_time is None else check_duration("max_time", self.max_time)

    @property
    def location(self) -> str | None:
        """Where the draws go, if not into the run directory."""
        return None if self.draws_store is None else store_location(self.draws_store)


@dataclasses.dataclass(frozen=True)
class Keep:
    """What is kept of a draw.

    Parameters
    ----------
    function : callable, optional
        From the parameters of a draw to what is kept of it, such as
        ``lambda params: params["network"]["dense_2"]``, or the outputs for some inputs: draws of a
        large network need not be held. ``Posterior.draws`` has what it gives. None keeps all.
    dtype : {"float32", "float16", "bfloat16"}, default="float32"
        Type in which draws are kept; predictions compute in float32 all the same. ``"bfloat16"``
        has three digits less and no limit at 65504.

    Raises
    ------
    ValueError, TypeError
        If the type is unknown, or the function is none.

    Examples
    --------
    >>> Keep(dtype="float16")
    Keep(function=None, dtype='float16')
    """

    function: Callable[[Params], Any] | None = None
    dtype: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", check_name("dtype", self.dtype, DRAW_TYPES))
        if self.function is not None and not callable(self.function):
            raise TypeError(
                f"keep={self.function!r} must be a function of the parameters, or a "
                "mirth.Keep(function, dtype)."
            )


_OLD = {
    "out": ("run", "directory"),
    **{field.name: ("run", field.name) for field in dataclasses.fields(Run)[1:]},
    "draws_dtype": ("keep", "dtype"),
    "validation_fraction": ("validation", None),
}
"""Arguments of ``infer`` that stood alone before, where they stand now, and under which name."""


_NAMES = "model dataset method num_chains seed validation verbose monitors run keep".split()
"""Arguments of ``infer``, for suggestions."""


def grouped(run: Any, keep: Any, validation: Any, old: Mapping[str, Any]) -> tuple[Run, Keep, Any]:
    """Put the arguments of ``infer`` into groups.

    Parameters
    ----------
    run : Run, str, path or None
        A path is the run directory.
    keep : Keep, callable or None
        A function is what is kept.
    validation : Dataset or float
        As :func:`infer` takes it.
    old : mapping
        Arguments that stood alone before; each is warned of.

    Returns
    -------
    tuple of Run, Keep, and Dataset or float

    Raises
    ------
    TypeError
        If an argument is unknown.
    """
    fields: dict[str, dict[str, Any]] = {"run": {}, "keep": {}}
    for name, value in old.items():
        if name not in _OLD:
            near = nearest_name(name, [*_NAMES, *_OLD])
            raise TypeError(
                f"infer has no argument {name!r}{f'; did you mean {near!r}?' if near else '.'}"
            )
        group, field = _OLD[name]
        if field is None:
            warn_renamed(f"infer({name}=...)", f"infer({group}=...)", stacklevel=4)
            if validation is None or isinstance(validation, int | float):  # given rows go first
                validation = value
            continue
        warn_renamed(
            f"infer({name}=...)", f"infer({group}=mirth.{group.title()}({field}=...))", stacklevel=4
        )
        fields[group][field] = value
    if not isinstance(run, Run):
        run = Run(run)
    if not isinstance(keep, Keep):
        keep = Keep(keep)
    run, keep = (
        dataclasses.replace(thing, **fields[name]) if fields[name] else thing
        for name, thing in (("run", run), ("keep", keep))
    )
    return run, keep, validation
