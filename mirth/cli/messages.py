"""What the commands say: tables and sentences, and errors and warnings as lines of their own."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

from mirth.core.config import ConfigError
from mirth.core.outcomes import SamplingError

if TYPE_CHECKING:
    from mirth.report import Table

EXPECTED = (ValueError, TypeError, OSError, SamplingError)
"""Errors that a user can do something about; all others are bugs and keep their traceback."""


@contextmanager
def clean_messages() -> Iterator[None]:
    """Show errors and warnings that are meant for the user as one line each."""
    with warnings.catch_warnings():
        default = warnings.showwarning

        def warn(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
            if issubclass(category, UserWarning):
                print(f"warning: {_one_line(message)}", file=sys.stderr)
            else:
                default(message, category, *place, **options)

        warnings.simplefilter("default", UserWarning)
        warnings.showwarning = warn
        try:
            yield
        except EXPECTED as error:
            problems = error.problems if isinstance(error, ConfigError) else [error]
            for problem in problems:
                print(f"error: {_one_line(problem)}", file=sys.stderr)
            raise typer.Exit(2) from None


def _one_line(message: object) -> str:
    return " ".join(str(message).split())


def show(what: Table | str) -> None:
    """Print a table or a sentence."""
    from rich.console import Console

    console = Console(highlight=False)
    if isinstance(what, str):
        console.print(what, markup=False, soft_wrap=True)  # a path can be copied
    else:
        console.print(what.to_rich())
